//! What is sent in a request, with the digests that go along.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::dialect::Dialect;
use crate::hex::hex;

/// The SHA-256 of nothing.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A body. Cheap to clone, so that what is the same for every object is made once.
#[derive(Clone, Debug)]
pub(in crate::store) struct Payload {
    pub(super) content: Bytes,
    /// In hexadecimal; empty where the dialect does not sign it.
    pub(super) sha256: HeaderValue,
    pub(super) md5: Option<HeaderValue>,
    pub(super) is_xml: bool,
}

impl Payload {
    /// No body.
    pub(in crate::store) fn none() -> Self {
        let sha256 = HeaderValue::from_static(NOTHING);
        Self { content: Bytes::new(), sha256, md5: None, is_xml: false }
    }

    /// A document.
    pub(in crate::store) fn xml(document: String, dialect: Dialect) -> Self {
        let content = Bytes::from(document);
        let md5 = STANDARD.encode(Md5::digest(&content));
        Self { is_xml: true, ..Self::content(content, &md5, dialect) }
    }

    /// An object's content, and its MD5 in base64.
    pub(in crate::store) fn content(content: Bytes, md5: &str, dialect: Dialect) -> Self {
        let sha256 = match dialect {
            Dialect::S3 => HeaderValue::from_str(&hex(&Sha256::digest(&content))).ok(),
            Dialect::Oss => None,
        };
        let sha256 = sha256.unwrap_or_else(|| HeaderValue::from_static(""));
        Self { content, sha256, md5: HeaderValue::from_str(md5).ok(), is_xml: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_go_along() {
        assert_eq!(hex(&Sha256::digest(b"")), NOTHING);
        let payload = Payload::content(Bytes::from_static(b"hello"), "XUFAKrxLKna5cZ2REBfFkg==", Dialect::S3);
        assert_eq!(payload.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        let document = Payload::xml("hello".to_owned(), Dialect::Oss);
        assert_eq!(document.md5.as_ref().expect("one"), "XUFAKrxLKna5cZ2REBfFkg==");
        assert!(document.sha256.is_empty());
    }
}
