//! Why there is no connection, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::http1::root_cause;
use crate::printable::affects_terminal;

/// Why no connection can be opened, whatever the server does: a setting is not valid. The messages never contain the
/// value of a proxy variable, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionSetupError {
    /// A proxy variable has an invalid value.
    #[error("{variable} {why}")]
    InvalidProxy {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with the value, as in `has a path`.
        why: &'static str,
    },
    /// A file or a folder of CA certificates cannot be used.
    #[error("cannot load the CA certificates of {setting}: {}{why}", before_reason(.path))]
    InvalidCaBundle {
        /// The environment variable or the setting of a profile that names it.
        setting: String,
        /// The file or the folder.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// Server certificates cannot be verified. Contains the cause.
    #[error("the system has no CA certificates to verify servers with: {0}")]
    NoCertificates(String),
    /// The host cannot be connected to.
    #[error("{0} is not a valid host")]
    InvalidHost(String),
}

impl ConnectionSetupError {
    /// Returns how to correct the setting.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::InvalidProxy { .. } => {
                "set it to a URL such as http://proxy.example.com:3128, with user:password@ before the host if the proxy \
                 requires it, or unset it"
            }
            Self::InvalidCaBundle { .. } => {
                "set it to a PEM file with CA certificates, or unset it to use the system's"
            }
            Self::NoCertificates(_) => {
                "install the system's CA certificates, or set AWS_CA_BUNDLE or SSL_CERT_FILE to a PEM file with them"
            }
            Self::InvalidHost(_) => "correct the host name in the plan's endpoint or URL",
        }
    }
}

/// Why a connection was not established. No request was sent. `Display` names scheme, host and port, and the proxy.
#[derive(Debug)]
pub struct ConnectError {
    /// Scheme, host and port, such as `https://minio:9000`.
    pub(super) origin: String,
    /// Scheme, host and port of the proxy.
    pub(super) proxy: Option<String>,
    /// The cause, and what to do about it.
    pub(super) why: String,
    /// Whether the proxy requires a user name and a password, or other ones.
    pub(super) needs_proxy_password: bool,
    /// The error code, if another attempt fails as well.
    pub(super) lasting_code: Option<&'static str>,
}

impl ConnectError {
    /// Returns the error code.
    pub(crate) fn code(&self) -> &'static str {
        self.lasting_code.unwrap_or("ConnectionError")
    }

    /// Returns whether the proxy requires a user name and a password, or other ones.
    #[must_use]
    pub fn needs_proxy_password(&self) -> bool {
        self.needs_proxy_password
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy {
            Some(proxy) => write!(f, "{} through the proxy {proxy}: {}", self.origin, self.why),
            None => write!(f, "{}: {}", self.origin, self.why),
        }
    }
}

impl Error for ConnectError {}

/// The two servers that a connection can be made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Server,
    Proxy,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "the server",
            Self::Proxy => "the proxy",
        })
    }
}

/// Describes why a host could not be reached.
pub(super) fn describe_dial_error(error: &(dyn Error + 'static), peer: Peer) -> String {
    let cause = plain_cause(error);
    // hyper-util has no other sign of it.
    let cause =
        if error.to_string() == "dns error" { format!("the host name does not resolve: {cause}") } else { cause };
    match peer {
        Peer::Server => cause,
        Peer::Proxy => format!("cannot reach the proxy: {cause}"),
    }
}

/// Returns whether the name of a host does not exist, as far as the system's resolver knows. Another attempt finds the
/// same. A resolver that cannot be reached says something else.
pub(super) fn is_unknown_host(error: &(dyn Error + 'static)) -> bool {
    is_unknown_name(&error.to_string(), &root_cause(error))
}

/// The texts are those of glibc, musl, macOS and Windows for `EAI_NONAME` and `WSAHOST_NOT_FOUND`.
fn is_unknown_name(error: &str, cause: &str) -> bool {
    const TEXTS: [&str; 4] = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname provided",
        "No such host is known",
    ];
    error == "dns error" && TEXTS.iter().any(|text| cause.contains(text))
}

/// Returns the innermost message without the number that the operating system gives the error: `connection refused`.
fn plain_cause(error: &(dyn Error + 'static)) -> String {
    let cause = root_cause(error);
    let cause = cause.split_once(" (os error ").map_or(cause.as_str(), |(text, _)| text);
    let mut letters = cause.chars();
    // An abbreviation stays as it is.
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => cause.to_owned(),
    }
}

/// Returns whether a TLS handshake failed because of the server's certificate. It fails again until the certificate or a
/// setting is changed.
pub(super) fn is_about_certificate(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    matches!(tls, Some(TlsError::InvalidCertificate(_)))
}

/// How the client connects, as far as it matters to the advice about a failed handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct TlsAdvice<'a> {
    /// Whether plain HTTP is an alternative: it would send nothing that is secret over the network.
    pub(super) may_be_plain: bool,
    /// The file with the CA certificates and the setting that names it, unless they are the system's.
    pub(super) ca_bundle: Option<&'a str>,
}

/// Describes why a TLS handshake with this host failed, and what to do about it.
pub(super) fn describe_tls_error(error: &io::Error, peer: Peer, host: &str, advice: TlsAdvice<'_>) -> String {
    let TlsAdvice { may_be_plain, ca_bundle } = advice;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(certificate)) => describe_certificate(certificate, peer, host, ca_bundle),
        Some(TlsError::InvalidMessage(_)) => {
            let advice = match peer {
                _ if !may_be_plain => "check host and port (http:// would send everything unencrypted)",
                Peer::Server => "use http:// if it speaks plain HTTP",
                Peer::Proxy => "use http:// in the proxy's URL",
            };
            format!("{peer} does not speak TLS on this port: {advice}")
        }
        Some(TlsError::AlertReceived(AlertDescription::UnrecognisedName)) => {
            format!("{peer} does not serve {host} on this port")
        }
        Some(TlsError::AlertReceived(alert)) => format!("{peer} ended the TLS handshake: {alert:?}"),
        Some(error) => format!("the TLS handshake with {peer} failed: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("{peer} closed the connection during the TLS handshake: check that it serves https on this port")
        }
        None => format!("the TLS handshake with {peer} failed: {}", plain_cause(error)),
    }
}

/// The maximum number of names of a certificate that are shown.
const MAX_NAMES: usize = 5;

fn describe_certificate(error: &CertificateError, peer: Peer, host: &str, ca_bundle: Option<&str>) -> String {
    let clock = |time: &UnixTime| format!("this machine's clock says {}", DisplayTime(*time));
    match error {
        CertificateError::UnknownIssuer if ca_bundle.is_some() => format!(
            "the certificate of {peer} is signed by an unknown issuer, which is not in {}: add the issuer's \
             certificate to that file",
            ca_bundle.unwrap_or_default()
        ),
        CertificateError::UnknownIssuer => format!(
            "the certificate of {peer} is signed by an unknown issuer: for a private CA, set AWS_CA_BUNDLE or \
             SSL_CERT_FILE to a PEM file with its certificate"
        ),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("the certificate of {peer} names no host: issue one with the subject alternative name {host}")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let mut names = presented.iter().take(MAX_NAMES).map(|name| bare_name(name)).collect::<Vec<_>>().join(", ");
            if presented.len() > MAX_NAMES {
                names = format!("{names} and {} more", presented.len() - MAX_NAMES);
            }
            format!("the certificate of {peer} is for {names}, not for {host}")
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of {peer} expired at {}: renew it, or correct the clock ({})",
            DisplayTime(*not_after),
            clock(time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of {peer} is not valid before {}: correct the clock ({})",
            DisplayTime(*not_before),
            clock(time)
        ),
        // rustls passes this error of webpki on without a variant of its own.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            format!("the certificate of {peer} is a CA certificate: issue a server certificate that this CA signs")
        }
        error => format!("the certificate of {peer} is not valid: {error}"),
    }
}

/// Returns the name in rustls's description of a subject alternative name: `DnsName("host")`, `IpAddress(127.0.0.1)`.
fn bare_name(text: &str) -> String {
    let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text);
    inner.trim_matches('"').chars().filter(|c| !affects_terminal(*c)).collect()
}

/// Displays a time in UTC.
struct DisplayTime(UnixTime);

impl fmt::Display for DisplayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(time) => write!(f, "{time}"),
            None => write!(f, "{seconds} s after 1970"),
        }
    }
}
/// Formats a path before the reason that follows; an empty path is left out.
fn before_reason(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!("{}: ", path.display()) }
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    #[test]
    fn plain_http_is_advised_only_where_nothing_secret_would_cross_the_network() {
        let plain = |peer, may_be_plain| {
            let error = io::Error::other(TlsError::InvalidMessage(InvalidMessage::InvalidContentType));
            describe_tls_error(&error, peer, "h", TlsAdvice { may_be_plain, ca_bundle: None })
        };
        assert!(plain(Peer::Server, true).ends_with("use http:// if it speaks plain HTTP"));
        assert!(plain(Peer::Proxy, true).ends_with("use http:// in the proxy's URL"));
        for peer in [Peer::Server, Peer::Proxy] {
            let said = plain(peer, false);
            assert!(said.ends_with("check host and port (http:// would send everything unencrypted)"), "{said}");
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_not_a_resolver_that_does_not_answer() {
        let lookup = |text: &str| format!("failed to lookup address information: {text}");
        assert!(is_unknown_name("dns error", &lookup("Name or service not known")));
        assert!(is_unknown_name("dns error", "No such host is known. (os error 11001)"));
        assert!(!is_unknown_name("dns error", &lookup("Temporary failure in name resolution")));
        assert!(!is_unknown_name("tcp connect error", "Name or service not known"));
    }

    #[test]
    fn a_name_in_a_certificate_cannot_change_the_direction_of_text() {
        assert_eq!(bare_name("DnsName(\"a\u{202e}b\u{1b}.example\")"), "ab.example");
        assert_eq!(bare_name("IpAddress(127.0.0.1)"), "127.0.0.1");
    }
}
