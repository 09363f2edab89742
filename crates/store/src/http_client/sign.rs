//! Request signatures: two schemes with one trait, and the clock whose time is signed.
//!
//! Both schemes work the same way. The request is converted to a canonical form. Its digest, the time and the scope are
//! signed with a key that is derived from the secret once a day. Most requests of a job differ only in their key, so
//! everything else is cached from one request to the next: an HMAC state with the day's key applied, the time stamp of
//! the second, and the digest of the body.
//!
//! The clock is this machine's, corrected by the server's time if the difference is too large.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::credential_cache::SigningCredentials;
use crate::hex::hex_digits;
use crate::mutex::Mutex;

/// A header name and its value.
pub type HeaderPair = (HeaderName, HeaderValue);

/// A request, with the parts that the two schemes sign.
#[derive(Debug)]
pub struct UnsignedRequest<'a> {
    /// The HTTP method, in upper case.
    pub method: &'static str,
    /// The `Host` header.
    pub host: &'a HeaderValue,
    /// The path as sent, URL-encoded.
    pub path: &'a str,
    /// `/bucket/key`, URL-encoded, even if the bucket is part of the host name.
    pub resource: &'a str,
    /// The query as sent: encoded, sorted by name, without `=` if a value is empty.
    pub query: &'a str,
    /// The SHA-256 of the body in hexadecimal, for a scheme that signs the body.
    pub body_sha256: &'a HeaderValue,
}

/// A signature scheme.
pub trait SignatureScheme: Send + Sync {
    /// Signs a request: adds the headers with the time, the session token and the signature. Headers that are already
    /// in `headers` are signed as well, as far as the scheme covers them, and sorted by name.
    ///
    /// A computed header value that is not a valid header, for example because the access key contains a line break,
    /// is left empty, so that the server rejects the request.
    fn sign(
        &self,
        request: &UnsignedRequest<'_>,
        credentials: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    );
}

const AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Signs with AWS Signature Version 4, in the variant of S3.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
#[derive(Debug)]
pub struct AwsV4Signer {
    keys: SigningKeyCache,
}

impl AwsV4Signer {
    /// Creates a signer for S3 in a region.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self { keys: SigningKeyCache::new("AWS4", region, "s3", "aws4_request") }
    }
}

impl SignatureScheme for AwsV4Signer {
    fn sign(
        &self,
        request: &UnsignedRequest<'_>,
        credentials: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    ) {
        headers.push((HOST, request.host.clone()));
        headers.push((AMZ_CONTENT_SHA256, request.body_sha256.clone()));
        headers.push((AMZ_DATE, stamp.header_value().clone()));
        if let Some(token) = credentials.token() {
            headers.push((AMZ_SECURITY_TOKEN, token.clone()));
        }
        headers.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

        let mut signed_names = Vec::with_capacity(96);
        let mut canonical_request = Vec::with_capacity(512);
        canonical_request.extend_from_slice(request.method.as_bytes());
        canonical_request.push(b'\n');
        canonical_request.extend_from_slice(request.path.as_bytes());
        canonical_request.push(b'\n');
        push_query(request.query, &mut canonical_request);
        canonical_request.push(b'\n');
        for (name, value) in headers.iter() {
            if !signed_names.is_empty() {
                signed_names.push(b';');
            }
            signed_names.extend_from_slice(name.as_str().as_bytes());
            canonical_request.extend_from_slice(name.as_str().as_bytes());
            canonical_request.push(b':');
            canonical_request.extend_from_slice(value.as_bytes());
            canonical_request.push(b'\n');
        }
        canonical_request.push(b'\n');
        canonical_request.extend_from_slice(&signed_names);
        canonical_request.push(b'\n');
        canonical_request.extend_from_slice(request.body_sha256.as_bytes());
        let digest = Sha256::digest(&canonical_request);

        let string_to_sign = self.keys.string_to_sign(b"AWS4-HMAC-SHA256", stamp, &digest, canonical_request);
        let signature = self.keys.sign(credentials, stamp.date(), &string_to_sign);

        let mut authorization = emptied(string_to_sign);
        authorization.extend_from_slice(b"AWS4-HMAC-SHA256 Credential=");
        authorization.extend_from_slice(credentials.access_key().as_bytes());
        authorization.push(b'/');
        self.keys.push_scope(stamp, &mut authorization);
        authorization.extend_from_slice(b", SignedHeaders=");
        authorization.extend_from_slice(&signed_names);
        authorization.extend_from_slice(b", Signature=");
        push_hex(&signature, &mut authorization);
        headers.push((AUTHORIZATION, header_value(authorization)));
    }
}

/// Empties a buffer for the next text, so that a signature allocates only one buffer for its three texts.
fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
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

/// OSS does not sign the body. It signs the MD5 of the body, if the request has one.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const OSS_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-oss-content-sha256");
const OSS_DATE: HeaderName = HeaderName::from_static("x-oss-date");
const OSS_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-oss-security-token");

/// Signs with OSS Signature Version 4, `OSS4-HMAC-SHA256`.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>
#[derive(Debug)]
pub struct OssV4Signer {
    keys: SigningKeyCache,
}

impl OssV4Signer {
    /// Creates a signer for OSS in a region (`cn-hangzhou`, without `oss-`).
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self { keys: SigningKeyCache::new("aliyun_v4", region, "oss", "aliyun_v4_request") }
    }

    /// Returns whether the scheme signs this header. It can sign others, if the request lists them.
    fn is_signed_header(name: &str) -> bool {
        name.starts_with("x-oss-") || matches!(name, "content-type" | "content-md5")
    }
}

impl SignatureScheme for OssV4Signer {
    fn sign(
        &self,
        request: &UnsignedRequest<'_>,
        credentials: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    ) {
        headers.push((HOST, request.host.clone()));
        headers.push((OSS_CONTENT_SHA256, HeaderValue::from_static(UNSIGNED_PAYLOAD)));
        headers.push((OSS_DATE, stamp.header_value().clone()));
        if let Some(token) = credentials.token() {
            headers.push((OSS_SECURITY_TOKEN, token.clone()));
        }
        headers.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

        let mut canonical_request = Vec::with_capacity(512);
        canonical_request.extend_from_slice(request.method.as_bytes());
        canonical_request.push(b'\n');
        canonical_request.extend_from_slice(request.resource.as_bytes());
        canonical_request.push(b'\n');
        canonical_request.extend_from_slice(request.query.as_bytes());
        canonical_request.push(b'\n');
        for (name, value) in headers.iter().filter(|(name, _)| Self::is_signed_header(name.as_str())) {
            canonical_request.extend_from_slice(name.as_str().as_bytes());
            canonical_request.push(b':');
            canonical_request.extend_from_slice(value.as_bytes().trim_ascii());
            canonical_request.push(b'\n');
        }
        // An empty line in place of the names of additional signed headers.
        canonical_request.extend_from_slice(b"\n\n");
        canonical_request.extend_from_slice(UNSIGNED_PAYLOAD.as_bytes());
        let digest = Sha256::digest(&canonical_request);

        let string_to_sign = self.keys.string_to_sign(b"OSS4-HMAC-SHA256", stamp, &digest, canonical_request);
        let signature = self.keys.sign(credentials, stamp.date(), &string_to_sign);

        let mut authorization = emptied(string_to_sign);
        authorization.extend_from_slice(b"OSS4-HMAC-SHA256 Credential=");
        authorization.extend_from_slice(credentials.access_key().as_bytes());
        authorization.push(b'/');
        self.keys.push_scope(stamp, &mut authorization);
        authorization.extend_from_slice(b",Signature=");
        push_hex(&signature, &mut authorization);
        headers.push((AUTHORIZATION, header_value(authorization)));
    }
}

type HmacSha256 = Hmac<Sha256>;

/// Derives signing keys, and caches the last one. A key is valid for one day, one region and one secret.
#[derive(Debug)]
struct SigningKeyCache {
    /// The prefix of the secret.
    prefix: &'static str,
    /// The parts of the scope after the date.
    scope: [String; 3],
    cached: Mutex<Option<CachedSigningKey>>,
}

#[derive(Debug)]
struct CachedSigningKey {
    credentials: Arc<SigningCredentials>,
    date: String,
    /// An HMAC state with the key applied and no data yet.
    state: HmacSha256,
}

impl SigningKeyCache {
    /// Creates the keys of a scheme with the scope `date/region/service/terminator`.
    fn new(prefix: &'static str, region: &str, service: &str, terminator: &str) -> Self {
        let scope = [region, service, terminator].map(str::to_owned);
        Self { prefix, scope, cached: Mutex::new(None) }
    }

    /// Appends the scope: the date, and the parts after it.
    fn push_scope(&self, stamp: &SigningTimestamp, to: &mut Vec<u8>) {
        to.extend_from_slice(stamp.date().as_bytes());
        for part in &self.scope {
            to.push(b'/');
            to.extend_from_slice(part.as_bytes());
        }
    }

    /// Returns the text to sign, in the buffer of the canonical request, whose digest this is.
    fn string_to_sign(&self, algorithm: &[u8], stamp: &SigningTimestamp, digest: &[u8], buffer: Vec<u8>) -> Vec<u8> {
        let mut text = emptied(buffer);
        text.extend_from_slice(algorithm);
        text.push(b'\n');
        text.extend_from_slice(stamp.as_str().as_bytes());
        text.push(b'\n');
        self.push_scope(stamp, &mut text);
        text.push(b'\n');
        push_hex(digest, &mut text);
        text
    }

    /// Returns the HMAC of a text with the key of the day.
    fn sign(&self, credentials: &Arc<SigningCredentials>, date: &str, text: &[u8]) -> [u8; 32] {
        let mut state = self.hmac_state(credentials, date);
        state.update(text);
        state.finalize().into_bytes().into()
    }

    fn hmac_state(&self, credentials: &Arc<SigningCredentials>, date: &str) -> HmacSha256 {
        let mut cached = self.cached.lock();
        match &*cached {
            Some(key) if key.date == date && Arc::ptr_eq(&key.credentials, credentials) => key.state.clone(),
            _ => {
                let state = self.derive_key(credentials.secret(), date);
                *cached = Some(CachedSigningKey {
                    credentials: Arc::clone(credentials),
                    date: date.to_owned(),
                    state: state.clone(),
                });
                state
            }
        }
    }

    fn derive_key(&self, secret: &str, date: &str) -> HmacSha256 {
        let first = new_hmac(format!("{}{secret}", self.prefix).as_bytes());
        let mut key = first.chain_update(date).finalize().into_bytes();
        for part in &self.scope {
            key = new_hmac(&key).chain_update(part).finalize().into_bytes();
        }
        new_hmac(&key)
    }
}

fn new_hmac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC accepts keys of any length"))
}

/// Creates a header value from validated or computed text. If the text is not a valid header value, the result is
/// empty.
fn header_value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Appends the bytes in hexadecimal.
fn push_hex(bytes: &[u8], to: &mut Vec<u8>) {
    for byte in bytes {
        to.extend_from_slice(&hex_digits(*byte));
    }
}

/// The maximum clock difference that is not taken for the reason of a rejection. AWS and OSS accept up to 15 minutes. A
/// response shows the server's time to the second and may take seconds to arrive, so a small difference means nothing.
const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A clock that can be adjusted to a server's time.
#[derive(Debug)]
pub struct SigningClock {
    /// The number of seconds by which the server's clock is ahead of this machine's.
    offset_seconds: AtomicI64,
    last_stamp: Mutex<(i64, SigningTimestamp)>,
}

/// A time in the format of signatures: `20130524T000000Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningTimestamp(HeaderValue);

impl Default for SigningClock {
    fn default() -> Self {
        let last = (i64::MIN, SigningTimestamp(HeaderValue::from_static("19700101T000000Z")));
        Self { offset_seconds: AtomicI64::new(0), last_stamp: Mutex::new(last) }
    }
}

impl SigningClock {
    /// Returns the current time of the server, with the resolution of this machine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.offset_seconds.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Returns a time in the format of signatures. The result for the last second is cached.
    #[must_use]
    pub fn stamp(&self, now: Timestamp) -> SigningTimestamp {
        let mut last = self.last_stamp.lock();
        if last.0 != now.as_second() {
            *last = (now.as_second(), SigningTimestamp::of(now));
        }
        last.1.clone()
    }

    /// Adjusts the clock to the server's time, after the server rejected a request that was signed at `signed_at`.
    /// Returns whether to send the request again: its time was the reason, because it differed from the server's by
    /// more than the tolerated difference.
    pub fn sync_after_rejection(&self, server: Timestamp, signed_at: Timestamp) -> bool {
        self.sync_to(server);
        server.duration_since(signed_at).abs() > TOLERATED_SKEW
    }

    /// Adjusts the clock to the server's time. Returns whether this changed the clock by more than the tolerated
    /// difference.
    pub fn sync_to(&self, server: Timestamp) -> bool {
        let ahead = server.as_second().saturating_sub(Timestamp::now().as_second());
        let before = self.offset_seconds.swap(ahead, Ordering::Relaxed);
        before.abs_diff(ahead) > TOLERATED_SKEW.as_secs().unsigned_abs()
    }
}

impl SigningTimestamp {
    /// Formats a time in UTC, to the second.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(header_value(at.strftime("%Y%m%dT%H%M%SZ").to_string().into_bytes()))
    }

    /// Returns the time, such as `20130524T000000Z`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the date, such as `20130524`.
    #[must_use]
    pub fn date(&self) -> &str {
        self.as_str().split_at(8).0
    }

    /// Returns the time as a header value.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

#[cfg(test)]
mod aws_tests;
#[cfg(test)]
mod oss_tests;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_the_format_of_signatures() {
        let stamp = SigningTimestamp::of("2013-05-24T01:02:03.9Z".parse().expect("a time"));
        assert_eq!((stamp.as_str(), stamp.date()), ("20130524T010203Z", "20130524"));
    }

    #[test]
    fn a_corrected_clock_keeps_its_resolution() {
        let clock = SigningClock::default();
        clock.sync_to(Timestamp::now() + SignedDuration::from_hours(5));
        let began = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(clock.now() > began);
        assert!((0..3).any(|_| clock.now().subsec_nanosecond() != 0), "whole seconds only");
    }

    #[test]
    fn a_wrong_clock_is_corrected_once() {
        let clock = SigningClock::default();
        let server = Timestamp::now() + jiff::SignedDuration::from_hours(5);
        assert!(clock.sync_to(server));
        assert!((clock.now().as_second() - server.as_second()).abs() <= 2);
        assert!(!clock.sync_to(server), "the same difference again changes nothing");
    }
}
