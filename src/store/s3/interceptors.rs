//! What the SDK's requests and answers lack.

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// Adds Content-MD5 to small XML bodies: older S3-compatible servers refuse tagging without it, and do not know the
/// checksum headers that the SDK sends in its place (minio/minio issue 20845).
#[derive(Debug)]
pub(super) struct ContentMd5;

impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "ContentMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let xml = request.headers().get("content-type") == Some("application/xml");
        let md5 = request
            .body()
            .bytes()
            .filter(|body| xml && !body.is_empty())
            .map(|body| STANDARD.encode(Md5::digest(body)));
        if let Some(md5) = md5
            && request.headers().get("content-md5").is_none()
        {
            request.headers_mut().insert("content-md5", md5);
        }
        Ok(())
    }
}

/// Sees to it that a listing came whole: the SDK takes what a cut document has for all that there is, and what is not
/// listed is not worked on.
#[derive(Debug)]
pub(super) struct WholeListing;

/// A listing is cut off.
#[derive(Debug, thiserror::Error)]
#[error("the listing has no end")]
struct NoEnd;

impl Intercept for WholeListing {
    fn name(&self) -> &'static str {
        "WholeListing"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let document = response.body().bytes().unwrap_or_default().trim_ascii_end();
        let ends = [&b"</ListBucketResult>"[..], b"</ListVersionsResult>"];
        if response.status().is_success() && !ends.iter().any(|end| document.ends_with(end)) {
            return Err(NoEnd.into());
        }
        Ok(())
    }
}
