//! AWS Signature Version 4, as S3 takes it.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, HOST};
use sha2::{Digest, Sha256};

use super::super::clock::Stamp;
use super::super::identity::Identity;
use super::day::DayKeys;
use super::{Header, Sign, Unsigned, value};
use crate::hex::push_hex;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// AWS Signature Version 4.
#[derive(Debug)]
pub struct AwsV4 {
    keys: DayKeys,
}

impl AwsV4 {
    /// Signs for S3 in a region.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self::for_service(region, "s3")
    }

    pub(super) fn for_service(region: &str, service: &str) -> Self {
        Self { keys: DayKeys::new("AWS4", region, service, "aws4_request") }
    }

    fn scope(&self, stamp: &Stamp, to: &mut String) {
        to.push_str(stamp.date());
        for part in self.keys.scope() {
            to.push('/');
            to.push_str(part);
        }
    }
}

impl Sign for AwsV4 {
    fn sign(&self, request: &Unsigned<'_>, identity: &Arc<Identity>, stamp: &Stamp, headers: &mut Vec<Header>) {
        headers.push((HOST, request.host.clone()));
        headers.push((CONTENT_SHA256, request.body_sha256.clone()));
        headers.push((DATE, stamp.value().clone()));
        if let Some(token) = identity.token() {
            headers.push((SECURITY_TOKEN, token.clone()));
        }
        headers.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

        let mut signed = String::with_capacity(96);
        let mut text = String::with_capacity(512);
        text.push_str(request.method);
        text.push('\n');
        text.push_str(request.path);
        text.push('\n');
        push_query(request.query, &mut text);
        text.push('\n');
        for (name, value) in headers.iter() {
            if !signed.is_empty() {
                signed.push(';');
            }
            signed.push_str(name.as_str());
            text.push_str(name.as_str());
            text.push(':');
            text.push_str(super::text(value));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&signed);
        text.push('\n');
        text.push_str(super::text(request.body_sha256));
        let digest = Sha256::digest(text.as_bytes());

        text.clear();
        text.push_str("AWS4-HMAC-SHA256\n");
        text.push_str(stamp.time());
        text.push('\n');
        self.scope(stamp, &mut text);
        text.push('\n');
        push_hex(&digest, &mut text);
        let signature = self.keys.sign(identity, stamp.date(), &text);

        text.clear();
        text.push_str("AWS4-HMAC-SHA256 Credential=");
        text.push_str(identity.access_key());
        text.push('/');
        self.scope(stamp, &mut text);
        text.push_str(", SignedHeaders=");
        text.push_str(&signed);
        text.push_str(", Signature=");
        push_hex(&signature, &mut text);
        headers.push((AUTHORIZATION, value(&text)));
    }
}

/// The canonical query: as it is sent, with a `=` behind every name.
fn push_query(query: &str, to: &mut String) {
    for (n, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if n > 0 {
            to.push('&');
        }
        to.push_str(pair);
        if !pair.contains('=') {
            to.push('=');
        }
    }
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
