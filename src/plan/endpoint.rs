//! Endpoints: scheme and host, and nothing else. Unencrypted HTTP to another machine must be allowed by the plan.

use std::net::IpAddr;

use batchplan_store::web::{self, host_of};

use crate::toml_reader::quote_for_message;

/// A parsed endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EndpointUrl {
    /// The URL without a trailing slash.
    pub(super) url: String,
    https: bool,
    /// The host, without brackets.
    host: String,
}

/// Why a text is not a valid endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EndpointError {
    /// The text holds a user name or a password, and must not be echoed.
    Credentials,
    /// Any other mistake.
    Malformed {
        label: &'static str,
        /// How to fix it.
        help: String,
    },
}

impl EndpointUrl {
    pub(super) fn parse(text: &str) -> Result<Self, EndpointError> {
        let malformed = |label, help: &str| EndpointError::Malformed { label, help: help.to_owned() };
        // A valid endpoint never has an @, so one always means credentials, however malformed the rest is.
        if text.contains('@') {
            return Err(EndpointError::Credentials);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| EndpointError::Malformed {
            label: "has no scheme",
            help: format!("write `https://{}`", quote_for_message(text)),
        })?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(malformed("uses neither https nor http", "start it with https://")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            let help = "use only scheme, host and port; set bucket and prefix in [manifest]";
            return Err(malformed("has a path or a query", help));
        }
        let url = format!("{}://{}", if https { "https" } else { "http" }, authority);
        let host = host_of(authority).ok_or_else(|| {
            malformed("has no usable host or port", "for example https://s3.example.org or http://127.0.0.1:9000")
        })?;
        Ok(Self { url, https, host: host.to_owned() })
    }

    /// Returns whether the host is an IP address.
    pub(super) fn has_ip_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Returns whether requests leave this machine unencrypted.
    pub(super) fn is_exposed(&self) -> bool {
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
            assert_eq!((endpoint.url.as_str(), endpoint.is_loopback()), (url, loopback), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
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
            let refused = matches!(EndpointUrl::parse(text), Err(EndpointError::Malformed { .. }));
            assert!(refused || text == "http://0x7f.1/", "{text}");
        }
        assert_eq!(EndpointUrl::parse("https://me:pw@host"), Err(EndpointError::Credentials));
        assert_eq!(EndpointUrl::parse("me@host"), Err(EndpointError::Credentials));
    }
}
