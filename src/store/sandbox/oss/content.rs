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

use super::error::Fault;
use crate::store::sandbox::bodies::{Arrived, BodyReader};
use crate::store::sandbox::find::Refusal;
use crate::store::sandbox::vault::Sandbox;

/// The maximum size of a request's body: 5 GB. <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject>
const MAX_PUT: u64 = 5 << 30;
/// The maximum length of a document, in bytes. A list of ten thousand parts fits.
const MAX_DOCUMENT: usize = 4 << 20;

/// The body of a response.
#[derive(Debug)]
pub(in crate::store::sandbox) enum Content {
    /// In memory.
    Whole(Bytes),
    /// Read from an object.
    Read(BodyReader),
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::Read(reader) => reader.next().map(|chunk| chunk.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Read(reader) => reader.left(),
        })
    }
}

/// The body of a request.
pub(in crate::store::sandbox) trait Incoming:
    Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin
{
}

impl<B: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin> Incoming for B {}

/// Returns the MD5 in a request's headers.
fn promised_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Fault> {
    let Some(promised) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(promised).ok().and_then(|digest| digest.try_into().ok());
    let invalid = || Fault::bad("InvalidDigest", "0017-00000503", "The Content-MD5 you specified is not valid.");
    digest.map(Some).ok_or_else(invalid)
}

fn mismatch() -> Fault {
    Fault::bad("InvalidDigest", "0017-00000504", "The Content-MD5 you specified did not match what we received.")
}

fn broken_off(error: &dyn std::fmt::Display) -> Fault {
    let message = format!("The body did not arrive as it was announced: {error}");
    Fault { message: message.into(), ..Fault::bad("RequestTimeout", "0002-00000070", "") }
}

/// Receives the content of an object. Also returns its CRC-64, which OSS returns to the client.
pub(super) async fn receive(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    mut body: impl Incoming,
) -> Result<(Arrived, u64), Fault> {
    let promised = promised_md5(headers)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large =
        || Fault::bad("EntityTooLarge", "0017-00000002", "Your proposed upload exceeds the maximum allowed size.");
    if length.is_some_and(|length| length > MAX_PUT) {
        return Err(too_large());
    }
    let mut crc = Digest::new(CrcAlgorithm::Crc64Xz);
    let mut writer = sandbox.body_writer();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| broken_off(&error))?.into_data() else { continue };
        crc.update(&chunk);
        writer.write(&chunk).map_err(Refusal::Storage)?;
        if writer.size() > MAX_PUT {
            return Err(too_large());
        }
    }
    let arrived = writer.finish();
    if promised.is_some_and(|promised| promised != arrived.md5) {
        sandbox.discard(&arrived.body);
        return Err(mismatch());
    }
    Ok((arrived, crc.finalize()))
}

/// Receives a document.
pub(super) async fn document(headers: &HeaderMap, body: impl Incoming) -> Result<Bytes, Fault> {
    let promised = promised_md5(headers)?;
    let collected = Limited::new(body, MAX_DOCUMENT).collect().await;
    let document = collected.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Fault::bad("MaxMessageLengthExceeded", "0017-00000001", "Your request was too big.")
        } else {
            broken_off(&error)
        }
    })?;
    let document = document.to_bytes();
    if promised.is_some_and(|promised| promised != <[u8; 16]>::from(Md5::digest(&document))) {
        return Err(mismatch());
    }
    Ok(document)
}

/// Creates a response without a body.
pub(super) fn empty(status: StatusCode) -> http::Response<Content> {
    let mut response = http::Response::new(Content::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
