//! The URL of an endpoint, as users write it: in a plan, in a state URL, or in the environment. It is a scheme and a
//! host, and nothing else.

use std::net::IpAddr;

use crate::web::{self, authority_problem, host_of};

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl {
    url: String,
    https: bool,
    /// The host, without brackets.
    host: String,
}

/// Why a text is not a valid endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointUrlError {
    /// The text holds a user name or a password, and must not be echoed.
    Credentials,
    /// There is no `https://` at its start.
    NoScheme,
    /// Any other mistake.
    Malformed {
        /// What is wrong, as in `has a path`.
        label: &'static str,
        /// How to fix it.
        help: &'static str,
    },
}

impl EndpointUrlError {
    /// Returns what is wrong, in words that follow the name of the text.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credentials => "contains a user name or password",
            Self::NoScheme => "has no scheme",
            Self::Malformed { label, .. } => label,
        }
    }
}

impl EndpointUrl {
    /// Parses an endpoint.
    ///
    /// # Errors
    /// Returns an error if the text is anything but a scheme and a host, with an optional port.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        let malformed = |label, help| EndpointUrlError::Malformed { label, help };
        // A valid endpoint never has an @, so one always means credentials, however malformed the rest is.
        if text.contains('@') {
            return Err(EndpointUrlError::Credentials);
        }
        let (scheme, rest) = text.split_once("://").ok_or(EndpointUrlError::NoScheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(malformed("uses neither https nor http", "start it with https://")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = authority.find(['/', '?', '#']) {
            let label = match authority.as_bytes()[at] {
                b'/' => "has a path",
                b'?' => "has a query",
                _ => "has a fragment",
            };
            return Err(malformed(label, "use only scheme, host and port; set bucket and prefix in [manifest]"));
        }
        let url = format!("{}://{}", if https { "https" } else { "http" }, authority);
        let host = host_of(authority).ok_or_else(|| {
            malformed(authority_problem(authority), "use a URL such as https://s3.example.org or http://127.0.0.1:9000")
        })?;
        Ok(Self { url, https, host: host.to_owned() })
    }

    /// Returns the URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns whether the host is an IP address.
    #[must_use]
    pub fn has_ip_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Returns whether requests leave this machine unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.https && !self.is_loopback()
    }

    fn is_loopback(&self) -> bool {
        web::is_loopback(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_and_a_host() {
        for (text, url, loopback) in [
            ("https://oss-cn-hangzhou.aliyuncs.com", "https://oss-cn-hangzhou.aliyuncs.com", false),
            ("HTTPS://s3.example.org:8443/", "https://s3.example.org:8443", false),
            ("http://127.8.9.1:9000", "http://127.8.9.1:9000", true),
            ("http://[::1]:9000", "http://[::1]:9000", true),
            ("http://[2001:db8::1]", "http://[2001:db8::1]", false),
            ("http://localhost", "http://localhost", true),
            ("http://localhost.evil.example", "http://localhost.evil.example", false),
            ("http://minio_1:9000", "http://minio_1:9000", false),
        ] {
            let endpoint = EndpointUrl::parse(text).expect(text);
            assert_eq!((endpoint.url(), endpoint.is_loopback()), (url, loopback), "{text}");
        }
    }

    #[test]
    fn every_other_endpoint_is_refused() {
        for text in [
            "",
            "host",
            "host:80",
            "ftp://host",
            "https://",
            "https:///",
            "https://a..b",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://ho st",
            "https://host/bucket",
            "https://host?x",
            "https://host#x",
            "http://127.1",
            "http://0x7f.1/",
            "http://[::1",
            "http://[::1]x",
            "https://h\\x",
        ] {
            let refused = matches!(EndpointUrl::parse(text), Err(error) if error != EndpointUrlError::Credentials);
            assert!(refused, "{text}");
        }
        assert_eq!(EndpointUrl::parse("https://me:pw@host"), Err(EndpointUrlError::Credentials));
        assert_eq!(EndpointUrl::parse("me@host"), Err(EndpointUrlError::Credentials));
    }

    #[test]
    fn an_endpoint_is_refused_with_its_reason() {
        for (text, reason) in [
            ("https://", "has no host"),
            ("https://:443", "has no host"),
            ("https://host:", "has a colon, but no port"),
            ("https://host:99999", "has an invalid port (valid: 1 to 65535)"),
            ("https://[::1]:x", "has an invalid port (valid: 1 to 65535)"),
            ("http://127.1", "has an incomplete or invalid IP address as its host"),
            ("http://0X7f.1", "has an incomplete or invalid IP address as its host"),
            ("https://[::1", "has an invalid host name"),
            ("https://ho st", "has an invalid host name"),
            ("https://host/bucket", "has a path"),
            ("https://host?x", "has a query"),
            ("https://host#x", "has a fragment"),
        ] {
            let Err(EndpointUrlError::Malformed { label, .. }) = EndpointUrl::parse(text) else { panic!("{text}") };
            assert_eq!(label, reason, "{text}");
        }
    }
}
