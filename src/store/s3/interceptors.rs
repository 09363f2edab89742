//! What the SDK's requests lack.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
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
