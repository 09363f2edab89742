//! OSS Signature Version 4, `OSS4-HMAC-SHA256`.
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>

use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::super::clock::SigningTimestamp;
use super::super::credential_cache::SigningCredentials;
use super::signing_key::SigningKeyCache;
use super::{HeaderPair, SignatureScheme, UnsignedRequest, header_value, push_hex};

/// OSS does not sign the body. It signs the MD5 of the body, if the request has one.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-oss-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-oss-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-oss-security-token");

/// Signs with OSS Signature Version 4.
#[derive(Debug)]
pub struct OssV4Signer {
    keys: SigningKeyCache,
    /// Headers that are signed in addition to those that the scheme requires. Sorted by name.
    additional: &'static [&'static str],
}

impl OssV4Signer {
    /// Creates a signer for OSS in a region (`cn-hangzhou`, without `oss-`).
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self::with_additional(region, &[])
    }

    pub(super) fn with_additional(region: &str, additional: &'static [&'static str]) -> Self {
        Self { keys: SigningKeyCache::new("aliyun_v4", region, "oss", "aliyun_v4_request"), additional }
    }

    fn push_scope(&self, stamp: &SigningTimestamp, to: &mut Vec<u8>) {
        to.extend_from_slice(stamp.date().as_bytes());
        for part in self.keys.scope_parts() {
            to.push(b'/');
            to.extend_from_slice(part.as_bytes());
        }
    }

    fn is_signed_header(&self, name: &str) -> bool {
        name.starts_with("x-oss-") || matches!(name, "content-type" | "content-md5") || self.additional.contains(&name)
    }

    fn push_additional(&self, to: &mut Vec<u8>) {
        for (n, name) in self.additional.iter().enumerate() {
            if n > 0 {
                to.push(b';');
            }
            to.extend_from_slice(name.as_bytes());
        }
    }
}

impl SignatureScheme for OssV4Signer {
    fn sign(
        &self,
        request: &UnsignedRequest<'_>,
        identity: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    ) {
        headers.push((HOST, request.host.clone()));
        headers.push((CONTENT_SHA256, HeaderValue::from_static(UNSIGNED_PAYLOAD)));
        headers.push((DATE, stamp.header_value().clone()));
        if let Some(token) = identity.token() {
            headers.push((SECURITY_TOKEN, token.clone()));
        }
        headers.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

        let mut text = Vec::with_capacity(512);
        text.extend_from_slice(request.method.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(request.resource.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(request.query.as_bytes());
        text.push(b'\n');
        for (name, value) in headers.iter().filter(|(name, _)| self.is_signed_header(name.as_str())) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes().trim_ascii());
            text.push(b'\n');
        }
        text.push(b'\n');
        self.push_additional(&mut text);
        text.push(b'\n');
        text.extend_from_slice(UNSIGNED_PAYLOAD.as_bytes());
        let digest = Sha256::digest(&text);

        text.clear();
        text.extend_from_slice(b"OSS4-HMAC-SHA256\n");
        text.extend_from_slice(stamp.as_str().as_bytes());
        text.push(b'\n');
        self.push_scope(stamp, &mut text);
        text.push(b'\n');
        push_hex(&digest, &mut text);
        let signature = self.keys.sign(identity, stamp.date(), &text);

        text.clear();
        text.extend_from_slice(b"OSS4-HMAC-SHA256 Credential=");
        text.extend_from_slice(identity.access_key().as_bytes());
        text.push(b'/');
        self.push_scope(stamp, &mut text);
        if !self.additional.is_empty() {
            text.extend_from_slice(b",AdditionalHeaders=");
            self.push_additional(&mut text);
        }
        text.extend_from_slice(b",Signature=");
        push_hex(&signature, &mut text);
        headers.push((AUTHORIZATION, header_value(text)));
    }
}

#[cfg(test)]
#[path = "oss_tests.rs"]
mod tests;
