//! The endpoint of a store: the host of each bucket, the path of each key, and descriptions of requests for reports
//! and messages.

use super::Addressing;
use crate::object::{Bucket, Key};

/// A store's endpoint and its addressing style.
#[derive(Clone, Debug)]
pub(super) struct Site {
    https: bool,
    host: String,
    addressing: Addressing,
}

/// The host and base path for the requests to one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Host and port, as in the `Host` header.
    pub(super) authority: String,
    /// The part of the path before the key: `/` or `/bucket/`.
    pub(super) path: String,
}

impl Site {
    /// Creates the endpoint for a URL, which consists of scheme and host.
    pub(super) fn new(endpoint: &str, addressing: Addressing) -> Self {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        Self { https: scheme != "http", host: host.trim_end_matches('/').to_owned(), addressing }
    }

    /// Returns AWS's endpoint for a region.
    /// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
    pub(super) fn of_aws(region: &str, addressing: Addressing) -> Self {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self::new(&format!("https://s3.{region}.{suffix}"), addressing)
    }

    /// Returns the URL of the endpoint.
    #[cfg(test)]
    pub(super) fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme(), self.host)
    }

    /// Returns whether connections use TLS.
    pub(super) fn https(&self) -> bool {
        self.https
    }

    /// Returns where requests to a bucket are sent.
    pub(super) fn place(&self, bucket: &Bucket) -> Place {
        if self.addressing == Addressing::Virtual && self.can_be_a_host(bucket) {
            Place { authority: format!("{bucket}.{}", self.host), path: "/".to_owned() }
        } else {
            Place { authority: self.host.clone(), path: format!("/{bucket}/") }
        }
    }

    /// Returns the method and the URL of a request, such as `PUT https://bucket.host/key?tagging`.
    pub(super) fn request(&self, method: &str, bucket: &Bucket, key: &Key, query: &str) -> String {
        let Place { authority, path } = self.place(bucket);
        let (scheme, key) = (self.scheme(), key.encoded_keeping_slashes());
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{method} {scheme}://{authority}{path}{key}{mark}{query}")
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Returns whether a bucket name can be part of the host name. A name that is not valid in DNS stays in the path,
    /// and with TLS also a name with a dot, which no wildcard certificate covers.
    fn can_be_a_host(&self, bucket: &Bucket) -> bool {
        let name = bucket.as_str();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(legal) && !label.starts_with('-') && !label.ends_with('-')
        };
        name.len() <= 63 && name.split('.').all(label) && !(self.https && name.contains('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addressings() {
        let (bucket, key) = (Bucket::new("b"), Key::from("a b/c"));
        let virt = Site::new("https://s3.example.com/", Addressing::Virtual);
        assert_eq!(virt.request("PUT", &bucket, &key, "tagging"), "PUT https://b.s3.example.com/a%20b/c?tagging");
        let path = Site::new("http://127.0.0.1:9000", Addressing::Path);
        assert_eq!(path.request("GET", &bucket, &key, ""), "GET http://127.0.0.1:9000/b/a%20b/c");
    }

    #[test]
    fn a_bucket_that_cannot_be_a_host_stays_in_the_path() {
        let site = Site::new("https://s3.example.com", Addressing::Virtual);
        for name in ["a.b", "A", "a_b", "-a", ".."] {
            assert_eq!(site.place(&Bucket::new(name)).authority, "s3.example.com", "{name}");
        }
        let plain = Site::new("http://localhost:1", Addressing::Virtual);
        assert_eq!(plain.place(&Bucket::new("a.b")).authority, "a.b.localhost:1");
    }

    #[test]
    fn aws_has_a_site_of_its_own_in_china() {
        assert_eq!(Site::of_aws("eu-west-1", Addressing::Virtual).endpoint(), "https://s3.eu-west-1.amazonaws.com");
        assert_eq!(
            Site::of_aws("cn-north-1", Addressing::Virtual).endpoint(),
            "https://s3.cn-north-1.amazonaws.com.cn"
        );
    }
}
