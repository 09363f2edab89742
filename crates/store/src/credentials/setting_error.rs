//! Why there are no credentials, in the words of the settings: which variable or which property of which profile is
//! wrong. The SDK's own errors name its providers instead, or only the error of the system.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use aws_config::profile::{Profile, ProfileSet};
use aws_credential_types::provider::error::CredentialsError;

use super::profile_chain::{ProfileChain, SSO_PROPERTIES, role_in_profile};
use super::profile_files::ProfilePaths;
use crate::error::truncate;
use crate::web::root_cause;

/// The variables with AWS's key pair.
pub(super) const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(super) const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

pub(super) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(super) const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// The variables with the metadata service of a container. The SDK uses the first one that is set.
const CONTAINER_URIS: [&str; 2] = [RELATIVE_URI, FULL_URI];

/// A setting because of which there are no credentials. The messages contain names and paths, never a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialSettingError {
    /// One of the two variables of a key pair is missing.
    #[error("{missing} is not set, although {given} is")]
    HalfKeyPair {
        /// The variable that is missing.
        missing: &'static str,
        /// The variable that is set.
        given: &'static str,
    },
    /// One of the two properties of a key pair is missing.
    #[error("the profile {profile:?} has {given} but no {missing}")]
    HalfProfileKeyPair {
        /// The name of the profile.
        profile: String,
        /// The property that is missing.
        missing: &'static str,
        /// The property that is set.
        given: &'static str,
    },
    /// A profile takes its credentials from one that does not exist.
    #[error("the profile {profile:?} names the source_profile {source_profile:?}, which is not in {paths}")]
    NoSourceProfile {
        /// The name of the profile.
        profile: String,
        /// The name of the profile that is missing.
        source_profile: String,
        /// The files that should contain it.
        paths: ProfilePaths,
    },
    /// Each profile takes its credentials from another one of them.
    #[error("the source_profile settings of the profile {0:?} form a loop")]
    ProfileLoop(String),
    /// The file with the token of a web identity cannot be read.
    #[error("cannot read {} ({setting}): {cause}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The variable or the property that names it.
        setting: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// The metadata service of a container provides none.
    #[error("the credentials service in {variable} provided none: {reason}")]
    Container {
        /// The variable with its URL or path.
        variable: &'static str,
        /// What the SDK says.
        reason: String,
    },
    /// A process provides none.
    #[error("the credential_process of the profile {profile:?} {reason}")]
    Process {
        /// The name of the profile.
        profile: String,
        /// The end of a sentence about the process.
        reason: String,
    },
    /// A variable or a property contains something that cannot be a region. Contains its name.
    #[error("{0} is not a valid region: use only letters, digits, `-` and `_`")]
    InvalidRegion(String),
}

impl CredentialSettingError {
    /// Returns what to do about it.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::HalfKeyPair { missing, given } => format!("set {missing}, or unset {given}"),
            Self::HalfProfileKeyPair { missing, .. } => format!("add {missing} to the profile in ~/.aws/credentials"),
            Self::NoSourceProfile { .. } => "correct source_profile, or add that profile".to_owned(),
            Self::ProfileLoop(_) => "correct source_profile: the last profile must have credentials".to_owned(),
            Self::TokenFile { .. } => "set it to a file that you may read, or unset it".to_owned(),
            Self::Container { variable, .. } => format!("check that the service at that URL runs, or unset {variable}"),
            Self::Process { profile, .. } => format!(
                "run the credential_process of the profile {profile:?} yourself to see why, and correct it in \
                 ~/.aws/config"
            ),
            Self::InvalidRegion(_) => "set it to a region such as eu-central-1".to_owned(),
        }
    }

    /// Finds the setting because of which the SDK's provider chain has failed with this error.
    pub(super) fn explain(
        error: &CredentialsError,
        profiles: Option<&ProfileSet>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<Self> {
        let is_set = |name: &str| variable(name).is_some_and(|text| !text.to_string_lossy().trim().is_empty());
        let profile = profiles.and_then(|profiles| explain_profile(profiles, &variable));
        if profile.is_some() {
            return profile;
        }
        let base = profiles.and_then(ProfileChain::resolve).map(|chain| chain.base);
        if let Some(base) = base.filter(|base| has_credentials(base)) {
            let path = base.get("web_identity_token_file")?;
            return explain_token_file(path.into(), || format!("web_identity_token_file of {:?}", base.name()));
        }
        if is_set("AWS_ROLE_ARN") && is_set(TOKEN_FILE) {
            return explain_token_file(variable(TOKEN_FILE)?.into(), || TOKEN_FILE.to_owned());
        }
        if let Some(container) = CONTAINER_URIS.into_iter().find(|name| is_set(name))
            && !matches!(error, CredentialsError::CredentialsNotLoaded(_))
        {
            return Some(Self::Container { variable: container, reason: truncate(&root_cause(error)) });
        }
        (is_set(SECRET) && !is_set(KEY_ID)).then_some(Self::HalfKeyPair { missing: KEY_ID, given: SECRET })
    }
}

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// The properties with which a profile takes its credentials from elsewhere.
const OTHER_SOURCES: [&str; 4] =
    ["credential_source", "web_identity_token_file", "login_session", "credential_process"];

fn is_given(profile: &Profile, property: &str) -> bool {
    profile.get(property).is_some_and(|text| !text.trim().is_empty())
}

fn has_other_source(profile: &Profile) -> bool {
    OTHER_SOURCES.iter().chain(&SSO_PROPERTIES).any(|property| is_given(profile, property))
}

fn has_credentials(profile: &Profile) -> bool {
    has_other_source(profile) || is_given(profile, "aws_access_key_id")
}

/// Follows the active profile to the one with the credentials, by the rules of [`ProfileChain::resolve`].
fn explain_profile(
    profiles: &ProfileSet,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<CredentialSettingError> {
    let active = profiles.get_profile(profiles.selected_profile())?;
    let (mut base, mut seen) = (active, Vec::new());
    loop {
        if seen.contains(&base.name()) {
            return Some(CredentialSettingError::ProfileLoop(active.name().to_owned()));
        }
        seen.push(base.name());
        let has_key = seen.len() > 1 && is_given(base, "aws_access_key_id");
        let source = base.get("source_profile").filter(|source| !has_key && *source != base.name());
        let Some(source) = source.filter(|_| role_in_profile(base).is_some()) else { break };
        let Some(next) = profiles.get_profile(source) else {
            let (profile, source_profile) = (base.name().to_owned(), source.to_owned());
            let paths = ProfilePaths::of(variable);
            return Some(CredentialSettingError::NoSourceProfile { profile, source_profile, paths });
        };
        base = next;
    }
    let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
    let (given, missing) = match (is_given(base, id), is_given(base, secret)) {
        (true, false) => (id, secret),
        (false, true) => (secret, id),
        _ => return None,
    };
    let profile = base.name().to_owned();
    (!has_other_source(base)).then_some(CredentialSettingError::HalfProfileKeyPair { profile, missing, given })
}

fn explain_token_file(path: PathBuf, setting: impl Fn() -> String) -> Option<CredentialSettingError> {
    let cause = open_file(&path).err()?;
    Some(CredentialSettingError::TokenFile { path, setting: setting(), cause })
}

/// Opens a file to see whether it can be read. The SDK has already opened it, so this does not wait.
fn open_file(path: &Path) -> io::Result<()> {
    if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { File::open(path).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::super::profile_chain::tests::profiles;
    use super::*;

    async fn said(config: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let error = CredentialsError::provider_error("the reason");
        let profiles = profiles(config, "p").await;
        CredentialSettingError::explain(&error, Some(&profiles), variable).map(|error| {
            assert!(!error.help().is_empty());
            error.to_string()
        })
    }

    #[tokio::test]
    async fn the_property_that_is_wrong_is_named() {
        let role = "role_arn = arn:aws:iam::123456789012:role/r\n";
        for (config, expected) in [
            (
                "[profile p]\naws_access_key_id = A",
                Some("the profile \"p\" has aws_access_key_id but no aws_secret_access_key"),
            ),
            (
                "[profile p]\naws_secret_access_key = A",
                Some("the profile \"p\" has aws_secret_access_key but no aws_access_key_id"),
            ),
            (
                &format!("[profile p]\n{role}source_profile = q\n[profile q]\naws_access_key_id = A"),
                Some("the profile \"q\" has aws_access_key_id but no aws_secret_access_key"),
            ),
            (
                &format!("[profile p]\n{role}source_profile = q\n"),
                Some("the profile \"p\" names the source_profile \"q\", which is not in /h/config or /h/credentials"),
            ),
            (
                &format!("[profile p]\n{role}source_profile = q\n[profile q]\n{role}source_profile = p\n"),
                Some("the source_profile settings of the profile \"p\" form a loop"),
            ),
            (
                &format!("[profile p]\n{role}web_identity_token_file = /no/token\n"),
                Some(
                    "cannot read /no/token (web_identity_token_file of \"p\"): No such file or directory (os error 2)",
                ),
            ),
            // What another source provides is not missing.
            ("[profile p]\naws_access_key_id = A\ncredential_process = true", None),
            ("[profile p]\naws_access_key_id = A\naws_secret_access_key = S", None),
            (&format!("[profile p]\n{role}source_profile = p\naws_access_key_id = A\naws_secret_access_key = S"), None),
            ("[profile p]\nregion = eu-west-1", None),
            ("", None),
        ] {
            let files = [("AWS_CONFIG_FILE", "/h/config"), ("AWS_SHARED_CREDENTIALS_FILE", "/h/credentials")];
            assert_eq!(said(config, &files).await.as_deref(), expected, "{config}");
        }
    }

    #[tokio::test]
    async fn the_variable_that_is_wrong_is_named() {
        let token = [(TOKEN_FILE, "/no/token"), ("AWS_ROLE_ARN", "role"), (CONTAINER_URIS[0], "http://h")];
        let region = "[profile p]\nregion = eu-west-1";
        assert_eq!(
            said(region, &token).await.as_deref(),
            Some("cannot read /no/token (AWS_WEB_IDENTITY_TOKEN_FILE): No such file or directory (os error 2)")
        );
        assert_eq!(
            said(region, &token[2..]).await,
            Some(format!("the credentials service in {} provided none: the reason", CONTAINER_URIS[0]))
        );
        let half = [(SECRET, "s")];
        assert_eq!(
            said("", &half).await.as_deref(),
            Some("AWS_ACCESS_KEY_ID is not set, although AWS_SECRET_ACCESS_KEY is")
        );
    }
}
