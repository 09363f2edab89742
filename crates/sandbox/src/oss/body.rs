//! Bodies of requests and responses.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use md5::{Digest as _, Md5};

use super::error::OssError;
use crate::blobs::{BlobReader, WrittenBlob};
use crate::state::SandboxRequestError;
use crate::store::Sandbox;

/// The maximum size of a request's body: 5 GB. <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject>
const MAX_PUT: u64 = 5 << 30;
/// The maximum length of a document, in bytes. A list of ten thousand parts fits.
const MAX_DOCUMENT: usize = 4 << 20;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum OssResponseBody {
    /// In memory.
    InMemory(Bytes),
    /// Read from an object.
    FromObject(BlobReader),
}

impl Body for OssResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match &mut *self {
            Self::InMemory(bytes) if bytes.is_empty() => None,
            Self::InMemory(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::FromObject(reader) => reader.next().map(|chunk| chunk.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::InMemory(bytes) => bytes.len() as u64,
            Self::FromObject(reader) => reader.remaining(),
        })
    }
}

/// The body of a request.
pub(crate) trait OssRequestBody: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin {}

impl<B: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin> OssRequestBody for B {}

/// Returns the MD5 in a request's headers.
fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, OssError> {
    let Some(promised) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(promised).ok().and_then(|digest| digest.try_into().ok());
    let invalid =
        || OssError::bad_request("InvalidDigest", "0017-00000503", "The Content-MD5 you specified is not valid.");
    digest.map(Some).ok_or_else(invalid)
}

fn md5_mismatch() -> OssError {
    OssError::bad_request(
        "InvalidDigest",
        "0017-00000504",
        "The Content-MD5 you specified did not match what we received.",
    )
}

fn incomplete_body(error: &dyn std::fmt::Display) -> OssError {
    let message = format!("The body does not match its headers: {error}");
    OssError { message: message.into(), ..OssError::bad_request("RequestTimeout", "0002-00000070", "") }
}

/// Receives the content of an object. Also returns its CRC-64, which OSS returns to the client.
pub(super) async fn receive_object(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    mut body: impl OssRequestBody,
) -> Result<(WrittenBlob, u64), OssError> {
    let promised = content_md5(headers)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        OssError::bad_request(
            "EntityTooLarge",
            "0017-00000002",
            "Your proposed upload exceeds the maximum allowed size.",
        )
    };
    if length.is_some_and(|length| length > MAX_PUT) {
        return Err(too_large());
    }
    let mut crc = Digest::new(CrcAlgorithm::Crc64Xz);
    let mut writer = sandbox.blob_writer();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| incomplete_body(&error))?.into_data() else { continue };
        crc.update(&chunk);
        writer.write(&chunk).map_err(SandboxRequestError::Storage)?;
        if writer.size() > MAX_PUT {
            return Err(too_large());
        }
    }
    let arrived = writer.finish();
    if promised.is_some_and(|promised| promised != arrived.md5) {
        sandbox.discard_blob(&arrived.body);
        return Err(md5_mismatch());
    }
    Ok((arrived, crc.finalize()))
}

/// Receives a document.
pub(super) async fn receive_document(headers: &HeaderMap, body: impl OssRequestBody) -> Result<Bytes, OssError> {
    let promised = content_md5(headers)?;
    let collected = Limited::new(body, MAX_DOCUMENT).collect().await;
    let document = collected.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            OssError::bad_request("MaxMessageLengthExceeded", "0017-00000001", "Your request was too big.")
        } else {
            incomplete_body(&error)
        }
    })?;
    let document = document.to_bytes();
    if promised.is_some_and(|promised| promised != <[u8; 16]>::from(Md5::digest(&document))) {
        return Err(md5_mismatch());
    }
    Ok(document)
}

/// Creates a response without a body.
pub(super) fn empty_response(status: StatusCode) -> http::Response<OssResponseBody> {
    let mut response = http::Response::new(OssResponseBody::InMemory(Bytes::new()));
    *response.status_mut() = status;
    response
}
