//! AWS Signature Version 4, in the variant of S3.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, HOST};
use sha2::{Digest, Sha256};

use super::super::clock::SigningTimestamp;
use super::super::credential_cache::SigningCredentials;
use super::signing_key::SigningKeyCache;
use super::{HeaderPair, SignatureScheme, UnsignedRequest, header_value, push_hex};

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Signs with AWS Signature Version 4.
#[derive(Debug)]
pub struct AwsV4Signer {
    keys: SigningKeyCache,
}

impl AwsV4Signer {
    /// Creates a signer for S3 in a region.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self::for_service(region, "s3")
    }

    pub(super) fn for_service(region: &str, service: &str) -> Self {
        Self { keys: SigningKeyCache::new("AWS4", region, service, "aws4_request") }
    }

    fn push_scope(&self, stamp: &SigningTimestamp, to: &mut Vec<u8>) {
        to.extend_from_slice(stamp.date().as_bytes());
        for part in self.keys.scope_parts() {
            to.push(b'/');
            to.extend_from_slice(part.as_bytes());
        }
    }
}

impl SignatureScheme for AwsV4Signer {
    fn sign(
        &self,
        request: &UnsignedRequest<'_>,
        identity: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    ) {
        headers.push((HOST, request.host.clone()));
        headers.push((CONTENT_SHA256, request.body_sha256.clone()));
        headers.push((DATE, stamp.header_value().clone()));
        if let Some(token) = identity.token() {
            headers.push((SECURITY_TOKEN, token.clone()));
        }
        headers.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

        let mut signed = Vec::with_capacity(96);
        let mut text = Vec::with_capacity(512);
        text.extend_from_slice(request.method.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(request.path.as_bytes());
        text.push(b'\n');
        push_query(request.query, &mut text);
        text.push(b'\n');
        for (name, value) in headers.iter() {
            if !signed.is_empty() {
                signed.push(b';');
            }
            signed.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend_from_slice(&signed);
        text.push(b'\n');
        text.extend_from_slice(request.body_sha256.as_bytes());
        let digest = Sha256::digest(&text);

        text.clear();
        text.extend_from_slice(b"AWS4-HMAC-SHA256\n");
        text.extend_from_slice(stamp.as_str().as_bytes());
        text.push(b'\n');
        self.push_scope(stamp, &mut text);
        text.push(b'\n');
        push_hex(&digest, &mut text);
        let signature = self.keys.sign(identity, stamp.date(), &text);

        text.clear();
        text.extend_from_slice(b"AWS4-HMAC-SHA256 Credential=");
        text.extend_from_slice(identity.access_key().as_bytes());
        text.push(b'/');
        self.push_scope(stamp, &mut text);
        text.extend_from_slice(b", SignedHeaders=");
        text.extend_from_slice(&signed);
        text.extend_from_slice(b", Signature=");
        push_hex(&signature, &mut text);
        headers.push((AUTHORIZATION, header_value(text)));
    }
}

/// Appends the canonical query: the query as sent, with a `=` after every name.
fn push_query(query: &str, to: &mut Vec<u8>) {
    for (n, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if n > 0 {
            to.push(b'&');
        }
        to.extend_from_slice(pair.as_bytes());
        if !pair.contains('=') {
            to.push(b'=');
        }
    }
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
