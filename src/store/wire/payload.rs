//! The payload of a request, with its digests.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::fs::File;

use super::dialect::Dialect;
use super::outgoing::{Outgoing, PIECE};
use crate::call::ContentMark;
use crate::hex::hex;

/// The SHA-256 of an empty body.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The number of bytes of a file that are hashed at once.
const BUFFER: usize = 64 << 10;

/// A request payload. Cheap to clone, so that a payload that is the same for every object is built once.
#[derive(Clone, Debug)]
pub(in crate::store) struct Payload {
    content: Content,
    /// The SHA-256 in hexadecimal. Empty if the dialect does not sign the body.
    pub(super) sha256: HeaderValue,
    pub(super) md5: Option<HeaderValue>,
    pub(super) is_xml: bool,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Bytes),
    /// The path of a file and its size in bytes. Streamed.
    File(PathBuf, u64),
}

impl Payload {
    /// Creates an empty payload.
    pub(in crate::store) fn none() -> Self {
        let sha256 = HeaderValue::from_static(NOTHING);
        Self { content: Content::Bytes(Bytes::new()), sha256, md5: None, is_xml: false }
    }

    /// Returns the `ETag` and size that HEAD would report for an object with this content. Empty if the content is
    /// not in memory.
    pub(super) fn mark(&self) -> ContentMark {
        match &self.content {
            Content::Bytes(content) => ContentMark {
                etag: Some(format!("\"{}\"", hex(&Md5::digest(content))).into()),
                size: Some(content.len() as u64),
            },
            Content::File(..) => ContentMark::default(),
        }
    }

    /// Creates a payload from an XML document.
    pub(in crate::store) fn xml(document: String, dialect: Dialect) -> Self {
        let content = Bytes::from(document);
        let md5 = STANDARD.encode(Md5::digest(&content));
        Self { is_xml: true, ..Self::content(content, &md5, dialect) }
    }

    /// Creates a payload from an object's content in memory. `md5` is in base64.
    pub(in crate::store) fn content(content: Bytes, md5: &str, dialect: Dialect) -> Self {
        let sha256 = match dialect {
            Dialect::S3 => hex(&Sha256::digest(&content)),
            Dialect::Oss => String::new(),
        };
        Self::new(Content::Bytes(content), &sha256, md5)
    }

    /// Creates a payload from a file. `md5` is in base64. The file is read once for the signed digest and once while
    /// it is sent. If it changes in between, the server rejects it.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read.
    pub(in crate::store) async fn file(path: &Path, md5: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let digested = path.to_owned();
        let digesting = tokio::task::spawn_blocking(move || {
            let (mut digest, mut bytes) = (Sha256::new(), 0);
            let mut file = BufReader::with_capacity(BUFFER, fs::File::open(digested)?);
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
        Ok(Self::new(Content::File(path.to_owned(), bytes), &sha256, md5))
    }

    fn new(content: Content, sha256: &str, md5: &str) -> Self {
        let sha256 = HeaderValue::from_str(sha256).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { content, sha256, md5: HeaderValue::from_str(md5).ok(), is_xml: false }
    }

    /// Returns the size in bytes.
    pub(super) fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, bytes) => *bytes,
        }
    }

    /// Returns whether the payload is sent in several pieces, so that the upload itself is watched for stalls.
    pub(super) fn is_watched(&self) -> bool {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() > PIECE,
            Content::File(..) => true,
        }
    }

    /// Returns the body for one request.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be opened.
    pub(super) async fn body(&self) -> io::Result<Outgoing> {
        match &self.content {
            Content::Bytes(bytes) => Ok(Outgoing::from(bytes.clone())),
            Content::File(path, bytes) => match File::open(path).await {
                Ok(file) => Ok(Outgoing::file(file, *bytes)),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
        }
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
