//! The CA certificates that servers are verified with.
//!
//! The first of these that is set has all certificates, for every server:
//!
//! 1. `AWS_CA_BUNDLE`, or else the `ca_bundle` of an AWS profile. The AWS CLI and boto3 use it in place of all others.
//! 2. `SSL_CERT_FILE` and `SSL_CERT_DIR` together, as in OpenSSL.
//! 3. The system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths, load_native_certs};
use tracing::{debug, info};

use super::connect_error::ConnectionSetupError;
use super::connect_error::ConnectionSetupError::{InvalidCaBundle, NoCertificates};

/// The bundle of the AWS CLI and the AWS SDKs.
const AWS_CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// OpenSSL's variables: a file, and a list of folders.
const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
const SSL_CERT_DIR: &str = "SSL_CERT_DIR";

/// Where the CA certificates are.
#[derive(Clone, Debug, Default)]
pub(super) struct CaSettings {
    /// The files, each with the setting that names it.
    files: Vec<(String, PathBuf)>,
    folders: Vec<PathBuf>,
    /// The first variable that is set and empty.
    empty: Option<&'static str>,
}

impl CaSettings {
    /// Reads the variables. An empty one counts as not set, if another one is set.
    pub(super) fn from_variables(variable: &impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| Some((name.to_owned(), PathBuf::from(path(name)?)));
        if let Some(bundle) = file(AWS_CA_BUNDLE) {
            return Self { files: vec![bundle], ..Self::default() };
        }
        let folders = path(SSL_CERT_DIR).map(|folders| std::env::split_paths(&folders).collect::<Vec<_>>());
        let is_empty = |name: &&str| variable(name).is_some_and(|value| value.is_empty());
        Self {
            empty: [SSL_CERT_FILE, SSL_CERT_DIR].into_iter().find(is_empty),
            files: file(SSL_CERT_FILE).into_iter().collect(),
            folders: folders.into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()).collect(),
        }
    }

    /// Replaces the certificates by the bundle of an AWS profile, unless `AWS_CA_BUNDLE`, which takes precedence, is set.
    pub(super) fn with_profile_bundle(self, setting: String, path: PathBuf) -> Self {
        if self.files.iter().any(|(name, _)| name == AWS_CA_BUNDLE) {
            return self;
        }
        Self { files: vec![(setting, path)], ..Self::default() }
    }

    /// Loads the certificates and returns the TLS configuration that verifies servers with them.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or contains no certificate, or if there is none at all.
    pub(super) fn tls_config(&self) -> Result<Arc<ClientConfig>, ConnectionSetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NoCertificates(error.to_string()))?;
        Ok(Arc::new(config.with_root_certificates(self.roots()?).with_no_client_auth()))
    }

    /// Returns the file with all certificates and the setting that names it, if there is one.
    pub(super) fn bundle(&self) -> Option<String> {
        match (&self.files[..], &self.folders[..]) {
            ([(setting, path)], []) => Some(format!("{} ({setting})", path.display())),
            _ => None,
        }
    }

    fn roots(&self) -> Result<RootCertStore, ConnectionSetupError> {
        let mut roots = RootCertStore::empty();
        if self.files.is_empty() && self.folders.is_empty() {
            // The search for the system's certificates would take the empty text for a path.
            if let Some(setting) = self.empty {
                let why = "it is empty: unset it to use the system's certificates".to_owned();
                return Err(InvalidCaBundle { setting: setting.to_owned(), path: PathBuf::new(), why });
            }
            let found = load_native_certs();
            let why = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            // The system may have some that are not valid.
            roots.add_parsable_certificates(found.certs);
            debug!(certificates = roots.len(), "servers are verified with the system's CA certificates");
            return if roots.is_empty() { Err(NoCertificates(why)) } else { Ok(roots) };
        }
        for (setting, path) in &self.files {
            add_file(&mut roots, load_certs_from_paths(Some(path), None)).map_err(|why| InvalidCaBundle {
                setting: setting.clone(),
                path: path.clone(),
                why,
            })?;
            info!(setting, path = %path.display(), "servers are verified with the CA certificates of a file");
        }
        for folder in &self.folders {
            // A folder that is missing counts only if nothing else is found, as in OpenSSL.
            let found = load_certs_from_paths(None, Some(folder));
            info!(folder = %folder.display(), certificates = found.certs.len(), "CA certificates of a folder are used");
            roots.add_parsable_certificates(found.certs);
        }
        if roots.is_empty() {
            let path = self.folders.first().cloned().unwrap_or_default();
            let why = folder_problem(&path);
            return Err(InvalidCaBundle { setting: SSL_CERT_DIR.to_owned(), path, why });
        }
        Ok(roots)
    }
}

/// Adds the certificates of a file, or returns why it is not a CA bundle.
fn add_file(roots: &mut RootCertStore, found: CertificateResult) -> Result<(), String> {
    if let Some(error) = found.errors.first() {
        return Err(match &error.kind {
            ErrorKind::Io { inner, .. } => inner.to_string(),
            ErrorKind::Pem(error) => format!("it is not a valid PEM file: {error}"),
            error => format!("{error:?}"),
        });
    }
    let count = found.certs.len();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match (count, added) {
        (0, _) => Err("it contains no certificate in PEM format".to_owned()),
        (_, 0) => Err("none of its certificates is valid".to_owned()),
        _ => Ok(()),
    }
}

fn folder_problem(folder: &Path) -> String {
    match std::fs::read_dir(folder) {
        Ok(_) => "no file in it contains a certificate in PEM format".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tls/ca.pem");

    /// A certificate of another issuer's.
    const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tls/server.pem");

    fn roots(variables: &[(&str, &str)]) -> Result<usize, String> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        CaSettings::from_variables(&found).roots().map(|roots| roots.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_variable_names_certificates() {
        assert_eq!(roots(&[("AWS_CA_BUNDLE", CA)]), Ok(1));
        assert_eq!(roots(&[("SSL_CERT_FILE", CA), ("AWS_CA_BUNDLE", "")]), Ok(1));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(CA, folder.path().join("ca.pem")).expect("copied");
        std::fs::write(folder.path().join("README"), "not a certificate").expect("written");
        let text = folder.path().to_str().expect("UTF-8");
        assert_eq!(roots(&[("SSL_CERT_DIR", text)]), Ok(1));
        let two = std::env::join_paths(["/nowhere", text]).expect("no separator");
        assert_eq!(roots(&[("SSL_CERT_DIR", two.to_str().expect("UTF-8"))]), Ok(1));
        assert_eq!(roots(&[("SSL_CERT_FILE", CA), ("SSL_CERT_DIR", "/nowhere")]), Ok(1));
    }

    #[test]
    fn a_bundle_without_certificates_is_named_with_its_variable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path.to_str().expect("UTF-8").to_owned()
        };
        let empty = path("empty", "");
        let key = path("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let broken = path("broken", "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n");
        let garbage = path("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (file, why) in [
            ("/nowhere", "No such file"),
            (&empty, "contains no certificate"),
            (&key, "contains no certificate"),
            (&broken, "not a valid PEM file"),
            (&garbage, "none of its certificates is valid"),
        ] {
            for (variable, other) in [(AWS_CA_BUNDLE, SSL_CERT_FILE), (SSL_CERT_FILE, "OTHER")] {
                // The other one does not make up for it.
                let said = roots(&[(variable, file), (other, CA)]).expect_err(file);
                assert!(said.contains(variable) && said.contains(file) && said.contains(why), "{said}");
            }
        }
        let said = roots(&[("SSL_CERT_FILE", "")]).expect_err("empty");
        assert!(said.starts_with("cannot load the CA certificates of SSL_CERT_FILE: it is empty: unset it"), "{said}");
        let said = roots(&[("SSL_CERT_DIR", "/nowhere")]).expect_err("none");
        assert!(said.contains("SSL_CERT_DIR") && said.contains("/nowhere: No such file"), "{said}");
    }

    #[test]
    fn the_bundle_of_aws_replaces_all_other_certificates() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().to_str().expect("UTF-8");
        std::fs::copy(SERVER, folder.path().join("other.pem")).expect("copied");
        let others = [("SSL_CERT_FILE", SERVER), ("SSL_CERT_DIR", text)];
        assert_eq!(roots(&[("AWS_CA_BUNDLE", CA), others[0], others[1]]), Ok(1));
        let broken = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
        assert_eq!(roots(&[("AWS_CA_BUNDLE", CA), broken[0], broken[1]]), Ok(1));
        let set = |name: &str| others.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let profile = CaSettings::from_variables(&set).with_profile_bundle("ca_bundle".to_owned(), CA.into());
        assert_eq!(profile.roots().map(|roots| roots.len()), Ok(1));
    }

    #[test]
    fn the_bundle_of_a_profile_gives_way_to_the_variable() {
        let set = |name: &str| (name == AWS_CA_BUNDLE).then(|| CA.into());
        for (settings, path) in
            [(CaSettings::from_variables(&set), CA), (CaSettings::from_variables(&|_| None), "/nowhere")]
        {
            let settings = settings.with_profile_bundle("ca_bundle".to_owned(), "/nowhere".into());
            assert_eq!(settings.files.iter().map(|(_, path)| path.as_path()).collect::<Vec<_>>(), [Path::new(path)]);
        }
    }
}
