//! The payload of a request, with its digests, and a cache of the last documents that were sent and received.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::fs::File;

use super::connection::{PIECE_BYTES, RequestBody};
use super::dialect::{StoreDialect, parse_tags};
use super::sign::HeaderPair;
use crate::hex::hex;
use crate::object::TagSet;
use crate::object_request::{ContentIdentity, ObjectRequest};
use crate::xml::XmlReadError;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The SHA-256 of an empty body.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The number of bytes of a file that are hashed at once.
const HASH_BUFFER_BYTES: usize = 64 << 10;

/// A request payload. Cheap to clone, so that a payload that is the same for every object is built once.
#[derive(Clone, Debug)]
pub(crate) struct RequestPayload {
    content: PayloadSource,
    /// The SHA-256 in hexadecimal. Empty if the dialect does not sign the body.
    sha256: HeaderValue,
    md5: Option<HeaderValue>,
    is_xml: bool,
}

#[derive(Clone, Debug)]
enum PayloadSource {
    Bytes(Bytes),
    /// The path of a file and its size in bytes. Streamed.
    File(PathBuf, u64),
}

impl RequestPayload {
    /// Creates an empty payload.
    pub(crate) fn empty() -> Self {
        let sha256 = HeaderValue::from_static(EMPTY_SHA256);
        Self { content: PayloadSource::Bytes(Bytes::new()), sha256, md5: None, is_xml: false }
    }

    /// Returns the `ETag` and size that HEAD would report for an object with this content. Empty if the content is
    /// not in memory.
    pub(super) fn content_identity(&self) -> ContentIdentity {
        match &self.content {
            PayloadSource::Bytes(content) => ContentIdentity {
                etag: Some(format!("\"{}\"", hex(&Md5::digest(content))).into()),
                size: Some(content.len() as u64),
            },
            PayloadSource::File(..) => ContentIdentity::default(),
        }
    }

    /// Creates a payload from an XML document.
    pub(crate) fn from_xml(document: String, dialect: StoreDialect) -> Self {
        let content = Bytes::from(document);
        let md5 = STANDARD.encode(Md5::digest(&content));
        Self { is_xml: true, ..Self::from_bytes(content, &md5, dialect) }
    }

    /// Creates a payload from an object's content in memory. `md5` is in base64.
    pub(crate) fn from_bytes(content: Bytes, md5: &str, dialect: StoreDialect) -> Self {
        let sha256 = match dialect {
            StoreDialect::S3 => hex(&Sha256::digest(&content)),
            StoreDialect::Oss => String::new(),
        };
        Self::new(PayloadSource::Bytes(content), &sha256, md5)
    }

    /// Creates a payload from a file. `md5` is in base64. The file is read once for the signed digest and once while
    /// it is sent. If it changes in between, the server rejects it.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read.
    pub(crate) async fn from_file(path: &Path, md5: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let digested = path.to_owned();
        let digesting = tokio::task::spawn_blocking(move || {
            let (mut digest, mut bytes) = (Sha256::new(), 0);
            let mut file = BufReader::with_capacity(HASH_BUFFER_BYTES, fs::File::open(digested)?);
            loop {
                let piece = file.fill_buf()?;
                if piece.is_empty() {
                    return Ok((bytes, hex(&digest.finalize())));
                }
                digest.update(piece);
                let length = piece.len();
                bytes += length as u64;
                file.consume(length);
            }
        });
        let (bytes, sha256) = digesting.await.map_err(io::Error::other)?.map_err(named)?;
        Ok(Self::new(PayloadSource::File(path.to_owned(), bytes), &sha256, md5))
    }

    fn new(content: PayloadSource, sha256: &str, md5: &str) -> Self {
        let sha256 = HeaderValue::from_str(sha256).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { content, sha256, md5: HeaderValue::from_str(md5).ok(), is_xml: false }
    }

    /// Returns the SHA-256 in hexadecimal, or an empty value if the dialect does not sign the body.
    pub(super) fn sha256(&self) -> &HeaderValue {
        &self.sha256
    }

    /// Appends the headers that describe the payload.
    pub(super) fn push_headers(&self, headers: &mut Vec<HeaderPair>) {
        if let Some(md5) = &self.md5 {
            headers.push((CONTENT_MD5, md5.clone()));
        }
        if self.is_xml {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/xml")));
        }
    }

    /// Returns the size in bytes.
    pub(super) fn len(&self) -> u64 {
        match &self.content {
            PayloadSource::Bytes(bytes) => bytes.len() as u64,
            PayloadSource::File(_, bytes) => *bytes,
        }
    }

    /// Returns whether the payload is sent in several pieces, so that the upload itself is watched for stalls.
    pub(super) fn is_streamed(&self) -> bool {
        match &self.content {
            PayloadSource::Bytes(bytes) => bytes.len() > PIECE_BYTES,
            PayloadSource::File(..) => true,
        }
    }

    /// Returns the body for one request.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be opened.
    pub(super) async fn body(&self) -> io::Result<RequestBody> {
        match &self.content {
            PayloadSource::Bytes(bytes) => Ok(RequestBody::from(bytes.clone())),
            PayloadSource::File(path, bytes) => match File::open(path).await {
                Ok(file) => Ok(RequestBody::from_file(file, *bytes)),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
        }
    }
}

/// Caches the last request document that was sent, and the last tags that were received. Most jobs send the same
/// document for every object, and most objects of a job have the same tags or none.
#[derive(Default)]
pub(super) struct DocumentCache {
    last_sent: Mutex<Option<(ObjectRequest, RequestPayload)>>,
    last_received: Mutex<Option<(Bytes, TagSet)>>,
}

impl DocumentCache {
    /// Returns the payload of a request. Reuses the last one if the request is the same.
    pub(super) fn request_payload(
        &self,
        call: &ObjectRequest,
        make: impl FnOnce() -> RequestPayload,
    ) -> RequestPayload {
        let mut last = lock_ignoring_poison(&self.last_sent);
        match &*last {
            Some((cached, payload)) if cached == call => payload.clone(),
            _ => {
                let payload = make();
                *last = Some((call.clone(), payload.clone()));
                payload
            }
        }
    }

    /// Parses the tags of a response. Reuses the last result if the document is the same.
    pub(super) fn cached_tags(&self, document: &Bytes) -> Result<Option<TagSet>, XmlReadError> {
        let mut last = lock_ignoring_poison(&self.last_received);
        match &*last {
            Some((cached, tags)) if cached == document => Ok(Some(tags.clone())),
            _ => {
                let tags = parse_tags(document)?;
                *last = tags.clone().map(|tags| (document.clone(), tags));
                Ok(tags)
            }
        }
    }
}

/// The cached value is complete at every moment, so a poisoned lock is safe to use.
fn lock_ignoring_poison<T>(cached: &Mutex<T>) -> MutexGuard<'_, T> {
    cached.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_digests() {
        assert_eq!(hex(&Sha256::digest(b"")), EMPTY_SHA256);
        let payload =
            RequestPayload::from_bytes(Bytes::from_static(b"hello"), "XUFAKrxLKna5cZ2REBfFkg==", StoreDialect::S3);
        assert_eq!(payload.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        let document = RequestPayload::from_xml("hello".to_owned(), StoreDialect::Oss);
        assert_eq!(document.md5.as_ref().expect("one"), "XUFAKrxLKna5cZ2REBfFkg==");
        assert!(document.sha256.is_empty());
    }
}
