//! Signing: two schemes behind one trait.
//!
//! Both are the same idea. A request is written down in one canonical form; its digest, the time and the scope are signed
//! with a key that is derived from the secret once a day. Most of a job's requests differ in their key only, so that
//! what can be kept from one to the next is kept: the day's key as two half-done HMAC states, the second's time stamp,
//! the digest of a body.

mod aws;
mod day;
mod oss;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::clock::Stamp;
use super::identity::Identity;
use crate::hex::hex_digits;

pub use aws::AwsV4;
pub use oss::OssV4;

/// A header as it is sent.
pub type Header = (HeaderName, HeaderValue);

/// A request as both schemes see it.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// The method, in capitals.
    pub method: &'static str,
    /// The `Host` header.
    pub host: &'a HeaderValue,
    /// The path as it is sent, encoded.
    pub path: &'a str,
    /// `/bucket/key`, encoded, wherever the bucket stands in the URL.
    pub resource: &'a str,
    /// The query as it is sent: encoded, in the order of its names, without `=` where a value is empty.
    pub query: &'a str,
    /// The SHA-256 of the body, in hexadecimal, for a scheme that signs it.
    pub body_sha256: &'a HeaderValue,
}

/// A signature scheme.
pub trait Sign: Send + Sync {
    /// Signs a request: adds the headers that carry time, token and signature. What is in `headers` before is signed
    /// along, as far as the scheme covers it, and left in the order of its names.
    ///
    /// Values of headers that do not fit into one, such as an access key with a line break, are left out, so that the
    /// server refuses the request.
    fn sign(&self, request: &Unsigned<'_>, identity: &Arc<Identity>, stamp: &Stamp, headers: &mut Vec<Header>);
}

/// A value made of what was checked or made here; one that cannot be a header's is left empty.
fn value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Appends two hexadecimal digits a byte.
fn push_hex(bytes: &[u8], to: &mut Vec<u8>) {
    for byte in bytes {
        to.extend_from_slice(&hex_digits(*byte));
    }
}
