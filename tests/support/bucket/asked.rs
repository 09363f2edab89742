//! A request, read: what is asked of which object.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    GetTags,
    PutTags,
    DeleteTags,
    GetAcl,
    PutAcl,
    Restore,
    Head,
    List,
    GetObject,
    PutObject,
    DeleteObject,
    /// What jobs never ask.
    Other,
}

impl Kind {
    /// Whether it changes something.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::PutTags | Self::DeleteTags | Self::PutAcl | Self::Restore | Self::PutObject)
    }

    /// Whether it is part of an object's way through a job, not of preparing or reporting.
    pub(crate) fn works(self) -> bool {
        !matches!(self, Self::List | Self::GetObject | Self::PutObject | Self::DeleteObject | Self::Other)
    }

    fn of(method: &Method, has_key: bool, query: &BTreeMap<String, String>) -> Self {
        let mut asked = query.keys().map(String::as_str).filter(|name| *name != "x-id");
        let sub = match (asked.next(), asked.next()) {
            (Some("list-type" | "prefix" | "encoding-type" | "continuation-token"), _) if !has_key => "list",
            (Some(name), None) => name,
            (None, _) => "",
            (Some(_), Some(_)) => return Self::Other,
        };
        match (method.as_str(), sub, has_key) {
            ("GET", "list", false) => Self::List,
            ("GET", "tagging", true) => Self::GetTags,
            ("PUT", "tagging", true) => Self::PutTags,
            ("DELETE", "tagging", true) => Self::DeleteTags,
            ("GET", "acl", true) => Self::GetAcl,
            ("PUT", "acl", true) => Self::PutAcl,
            ("POST", "restore", true) => Self::Restore,
            ("HEAD", "", true) => Self::Head,
            ("GET", "", true) => Self::GetObject,
            ("PUT", "", true) => Self::PutObject,
            ("DELETE", "", true) => Self::DeleteObject,
            _ => Self::Other,
        }
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) bucket: String,
    /// The key's bytes, decoded once and no more.
    pub(super) key: Vec<u8>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Asked {
    pub(super) fn read(parts: Parts, body: Bytes) -> Self {
        let path = parts.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let key: Vec<u8> = percent_decode_str(key).collect();
        let query = query(parts.uri.query().unwrap_or_default());
        let kind = Kind::of(&parts.method, !key.is_empty(), &query);
        Self { kind, bucket: bucket.to_owned(), key, query, headers: parts.headers, body }
    }

    /// A header, where there is one in plain text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The parameters, decoded. A plus is itself: clients write a space as `%20`.
fn query(text: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}
