//! The endpoint of a store: the host of each bucket, the path of each key, and descriptions of requests for reports
//! and messages.

use crate::object::{BucketName, ObjectKey};

/// Where the bucket name is placed in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the host: `https://bucket.endpoint/key`.
    Virtual,
    /// In the path: `https://endpoint/bucket/key`.
    Path,
}

/// A store's endpoint and its addressing style.
#[derive(Clone, Debug)]
pub(crate) struct StoreEndpoint {
    https: bool,
    host: String,
    addressing: AddressingStyle,
}

/// The host and base path for the requests to one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketLocation {
    /// Host and port, as in the `Host` header.
    pub(crate) authority: String,
    /// The part of the path before the key: `/` or `/bucket/`.
    pub(crate) path: String,
}

impl StoreEndpoint {
    /// Creates the endpoint for a URL, which consists of scheme and host.
    pub(crate) fn new(endpoint: &str, addressing: AddressingStyle) -> Self {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        Self { https: scheme != "http", host: host.trim_end_matches('/').to_owned(), addressing }
    }

    /// Returns AWS's endpoint for a region.
    /// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
    pub(crate) fn for_aws_region(region: &str, addressing: AddressingStyle) -> Self {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self::new(&format!("https://s3.{region}.{suffix}"), addressing)
    }

    /// Returns the URL of the endpoint.
    #[cfg(test)]
    fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.host)
    }

    /// Returns whether connections use TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Returns where requests to a bucket are sent.
    pub(crate) fn bucket_location(&self, bucket: &BucketName) -> BucketLocation {
        if self.addressing == AddressingStyle::Virtual && self.is_valid_in_host(bucket) {
            BucketLocation { authority: format!("{bucket}.{}", self.host), path: "/".to_owned() }
        } else {
            BucketLocation { authority: self.host.clone(), path: format!("/{bucket}/") }
        }
    }

    /// Returns the method and the URL of a request, such as `PUT https://bucket.host/key?tagging`.
    pub(crate) fn request_line(&self, method: &str, bucket: &BucketName, key: &ObjectKey, query: &str) -> String {
        let BucketLocation { authority, path } = self.bucket_location(bucket);
        let (scheme, key) = (self.scheme(), key.encoded_keeping_slashes());
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{method} {scheme}://{authority}{path}{key}{mark}{query}")
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Returns whether a bucket name can be part of the host name. A name that is not valid in DNS stays in the path,
    /// and with TLS also a name with a dot, which no wildcard certificate covers.
    fn is_valid_in_host(&self, bucket: &BucketName) -> bool {
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
        let (bucket, key) = (BucketName::new("b"), ObjectKey::from("a b/c"));
        let virt = StoreEndpoint::new("https://s3.example.com/", AddressingStyle::Virtual);
        assert_eq!(virt.request_line("PUT", &bucket, &key, "tagging"), "PUT https://b.s3.example.com/a%20b/c?tagging");
        let path = StoreEndpoint::new("http://127.0.0.1:9000", AddressingStyle::Path);
        assert_eq!(path.request_line("GET", &bucket, &key, ""), "GET http://127.0.0.1:9000/b/a%20b/c");
    }

    #[test]
    fn a_bucket_that_cannot_be_a_host_stays_in_the_path() {
        let site = StoreEndpoint::new("https://s3.example.com", AddressingStyle::Virtual);
        for name in ["a.b", "A", "a_b", "-a", ".."] {
            assert_eq!(site.bucket_location(&BucketName::new(name)).authority, "s3.example.com", "{name}");
        }
        let plain = StoreEndpoint::new("http://localhost:1", AddressingStyle::Virtual);
        assert_eq!(plain.bucket_location(&BucketName::new("a.b")).authority, "a.b.localhost:1");
    }

    #[test]
    fn aws_has_a_site_of_its_own_in_china() {
        assert_eq!(
            StoreEndpoint::for_aws_region("eu-west-1", AddressingStyle::Virtual).url(),
            "https://s3.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            StoreEndpoint::for_aws_region("cn-north-1", AddressingStyle::Virtual).url(),
            "https://s3.cn-north-1.amazonaws.com.cn"
        );
    }
}
