//! URLs of requests, and what the name of a host says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::PathAndQuery;

/// The maximum length of a URL, in bytes. Webhook URLs have a few hundred.
const MAX_URL_BYTES: usize = 2048;

/// The URL of a request.
///
/// The path and the query of a webhook are secret: everyone who knows them can post to it. Therefore `Display` and
/// `Debug` show only the origin.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    https: bool,
    authority: String,
    host: String,
    target: PathAndQuery,
}

/// Why a text is not a valid request URL. The messages never repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// It contains a user name or a password.
    #[error("contains a user name or password")]
    Credentials,
    /// It does not start with `https://` or `http://`.
    #[error("does not begin with https:// or http://")]
    Scheme,
    /// The host or the port is missing, invalid, or written in a form that hides its address. Contains the problem, as
    /// in `has no host`.
    #[error("{0}")]
    Authority(&'static str),
    /// The part after the host cannot be sent.
    #[error("has a path or a query that is not percent-encoded, or a fragment")]
    Target,
    /// It is longer than any webhook URL.
    #[error("is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// Returns an error if a request must not or cannot be sent to this URL.
    pub fn parse(text: &str) -> Result<Self, HttpUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(HttpUrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(HttpUrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(HttpUrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(HttpUrlError::Credentials);
        }
        let (host, port) =
            split_authority(authority).ok_or_else(|| HttpUrlError::Authority(authority_problem(authority)))?;
        let default_port = if https { 443 } else { 80 };
        // The `Host` header, which some servers sign, is without the default port.
        let authority = match authority.rsplit_once(':') {
            Some((host, _)) if port == Some(default_port) => host,
            _ => authority,
        };
        if target.bytes().any(|byte| byte == b'#' || !byte.is_ascii_graphic()) {
            return Err(HttpUrlError::Target);
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let target = target.parse().map_err(|_| HttpUrlError::Target)?;
        Ok(Self { https, authority: authority.to_ascii_lowercase(), host: host.to_ascii_lowercase(), target })
    }

    /// Returns whether the URL uses `https`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.https
    }

    /// Returns whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns scheme, host and port: the part of the URL that is not secret.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// Returns the whole URL, including its secrets.
    #[must_use]
    pub fn full_url(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }

    /// Returns host and port, as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the path and query for the request line.
    pub(super) fn target(&self) -> &PathAndQuery {
        &self.target
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}/...)", self.origin())
    }
}

/// Returns the host of a valid authority without user information: a DNS name, or an IP address without brackets.
#[must_use]
pub fn host_of(authority: &str) -> Option<&str> {
    split_authority(authority).map(|(host, _)| host)
}

/// Returns what is wrong with an authority that is not valid, as in `has no host`.
pub(crate) fn authority_problem(authority: &str) -> &'static str {
    // The colons of an IPv6 address are inside its brackets.
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    match port {
        _ if authority.is_empty() => "has no host",
        Some(("", _)) => "has no host",
        Some((host, "")) if host_of(host).is_some() => "has a colon, but no port",
        Some((host, _)) if host_of(host).is_some() => "has an invalid port (valid: 1 to 65535)",
        _ if authority.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:xX".contains(&byte)) => {
            "has an incomplete or invalid IP address as its host"
        }
        _ => "has an invalid host name",
    }
}

/// Splits a valid authority without user information into its host, without brackets, and its port, if it has one.
pub(super) fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok().filter(|port| *port > 0)?),
        Some(_) => return None,
        None => None,
    };
    (authority.starts_with('[') || is_host_name(host)).then_some((host, port))
}

/// Returns whether the text is a DNS name or an IPv4 address. Underscores are not valid in either, but container
/// networks use them.
fn is_host_name(host: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // A name that ends with a number is an IPv4 address or one of its old forms: short, octal or hexadecimal. Resolvers
    // differ in which of these they know, and the old forms hide the address. There is no such top-level domain.
    // <https://url.spec.whatwg.org/#ends-in-a-number-checker>
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex_digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || hex_digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    host.len() <= 253 && host.split('.').all(label) && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

/// Returns whether a host is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_a_url_and_shows_only_its_host() {
        for (text, full, loopback) in [
            ("https://hooks.example.com", "https://hooks.example.com/", false),
            ("HTTPS://Hooks.Example.com/T0/B0?token=s3cret", "https://hooks.example.com/T0/B0?token=s3cret", false),
            ("https://h?x=y", "https://h/?x=y", false),
            ("http://127.0.0.1:8080/a%20b@c", "http://127.0.0.1:8080/a%20b@c", true),
            ("http://[::1]:9/x", "http://[::1]:9/x", true),
            ("http://localhost.evil.example/", "http://localhost.evil.example/", false),
            ("http://0x7f.example/", "http://0x7f.example/", false),
            ("http://1e100.minio1/", "http://1e100.minio1/", false),
        ] {
            let url = HttpUrl::parse(text).expect(text);
            assert_eq!((url.full_url().as_str(), url.is_loopback()), (full, loopback), "{text}");
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("T0"), "{shown}");
        }
    }

    #[test]
    fn everything_else_is_refused_and_not_repeated() {
        for (text, fault) in [
            ("", HttpUrlError::Scheme),
            ("hooks.example.com/x", HttpUrlError::Scheme),
            ("ftp://h/", HttpUrlError::Scheme),
            ("file:///etc/passwd", HttpUrlError::Scheme),
            ("https://", HttpUrlError::Authority("has no host")),
            ("https:///x", HttpUrlError::Authority("has no host")),
            ("https://h:0/", HttpUrlError::Authority("has an invalid port (valid: 1 to 65535)")),
            ("https://127.1/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://0x7f.1/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://0x7F000001/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://127.0.0.0X1/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://0x/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://0177.0.0.1/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://2130706433/", HttpUrlError::Authority("has an incomplete or invalid IP address as its host")),
            ("https://example.1/", HttpUrlError::Authority("has an invalid host name")),
            ("https://h st/", HttpUrlError::Authority("has an invalid host name")),
            ("https://me:pw@h/", HttpUrlError::Credentials),
            ("https://h/a b", HttpUrlError::Target),
            ("https://h/a\r\nX: y", HttpUrlError::Target),
            ("https://h/ü", HttpUrlError::Target),
            ("https://h/#x", HttpUrlError::Target),
        ] {
            assert_eq!(HttpUrl::parse(text), Err(fault), "{text}");
        }
        assert_eq!(HttpUrl::parse(&format!("https://h/{}", "x".repeat(MAX_URL_BYTES))), Err(HttpUrlError::TooLong));
    }

    proptest! {
        #[test]
        fn accepts_only_urls_that_can_be_sent(text in "(https?://)?\\PC{0,60}") {
            if let Ok(url) = HttpUrl::parse(&text) {
                prop_assert!(http::Uri::try_from(url.full_url()).is_ok());
                prop_assert_eq!(HttpUrl::parse(&url.full_url()), Ok(url));
            }
        }
    }

    #[test]
    fn a_default_port_is_left_out() {
        for (text, origin) in [
            ("https://h:443/x", "https://h"),
            ("http://h:80/x", "http://h"),
            ("http://h:443/x", "http://h:443"),
            ("https://[::1]:443/", "https://[::1]"),
            ("https://[::1]/", "https://[::1]"),
        ] {
            assert_eq!(HttpUrl::parse(text).expect(text).origin(), origin);
        }
    }
}
