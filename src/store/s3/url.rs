//! The URL that a request goes to, for people: reports and messages name it.

use crate::object::{Bucket, Key};
use crate::store::Addressing;

/// Renders request URLs.
pub(super) struct Urls {
    scheme: String,
    host: String,
    addressing: Addressing,
}

impl Urls {
    pub(super) fn new(endpoint: &str, addressing: Addressing) -> Self {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        Self { scheme: scheme.to_owned(), host: host.trim_end_matches('/').to_owned(), addressing }
    }

    /// `PUT https://bucket.host/key?tagging`.
    pub(super) fn request(&self, method: &str, bucket: &Bucket, key: &Key, query: &str) -> String {
        let Self { scheme, host, addressing } = self;
        let key = key.encoded_keeping_slashes();
        let mark = if query.is_empty() { "" } else { "?" };
        match addressing {
            Addressing::Virtual => format!("{method} {scheme}://{bucket}.{host}/{key}{mark}{query}"),
            Addressing::Path => format!("{method} {scheme}://{host}/{bucket}/{key}{mark}{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addressings() {
        let (bucket, key) = (Bucket::new("b"), Key::from("a b/c"));
        let virt = Urls::new("https://s3.example.com/", Addressing::Virtual);
        assert_eq!(virt.request("PUT", &bucket, &key, "tagging"), "PUT https://b.s3.example.com/a%20b/c?tagging");
        let path = Urls::new("http://127.0.0.1:9000", Addressing::Path);
        assert_eq!(path.request("GET", &bucket, &key, ""), "GET http://127.0.0.1:9000/b/a%20b/c");
    }
}
