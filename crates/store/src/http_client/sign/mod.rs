//! Request signatures: two schemes with one trait.
//!
//! Both schemes work the same way. The request is converted to a canonical form. Its digest, the time and the scope
//! are signed with a key that is derived from the secret once a day. Most requests of a job differ only in their key,
//! so everything else is cached from one request to the next: the day's key as two precomputed HMAC states, the time
//! stamp of the second, and the digest of the body.

mod aws;
mod oss;
mod signing_key;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::clock::SigningTimestamp;
use super::credential_cache::SigningCredentials;
use crate::hex::hex_digits;

pub use aws::AwsV4Signer;
pub use oss::OssV4Signer;

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
        identity: &Arc<SigningCredentials>,
        stamp: &SigningTimestamp,
        headers: &mut Vec<HeaderPair>,
    );
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
