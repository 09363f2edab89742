//! Reading and writing whole objects: manifests come this way, reports go.

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;

use super::S3Store;
use crate::object::{Bucket, Key};
use crate::store::{Content, Opened};
use crate::task::{Fault, FaultClass};
use crate::web::CONNECT_TIMEOUT;

impl S3Store {
    pub(super) async fn open(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        let endpoint = self.site.request("GET", bucket, key, "");
        let signed = self.wire.identity(&|| endpoint.clone()).await?;
        let request = self
            .client
            .get_object()
            .bucket(bucket.as_str())
            .key(self.blank.disguise(key))
            .set_if_match(if_match.map(|etag| format!("\"{etag}\"")));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) => return Err(self.fault(error, endpoint, &signed).await),
        };
        Ok(Opened {
            etag: output.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            size: output.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            body: Box::new(output.body.into_async_read()),
        })
    }

    pub(super) async fn put(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        let endpoint = self.site.request("PUT", bucket, key, "");
        let body = match content {
            Content::Bytes(bytes) => ByteStream::from(bytes),
            Content::File(path) => ByteStream::from_path(&path).await.map_err(|error| {
                let message = format!("{}: {error}", path.display());
                Fault::unanswered(FaultClass::Rejected, "FileNotReadable", &message, endpoint.clone())
            })?,
        };
        // The time an upload takes grows with its size; the SDK's watch over stalled streams bounds it instead.
        let patient = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().build();
        let signed = self.wire.identity(&|| endpoint.clone()).await?;
        let request = self
            .client
            .put_object()
            .bucket(bucket.as_str())
            .key(self.blank.disguise(key))
            .content_md5(md5)
            .body(body)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(patient));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fault(error, endpoint, &signed).await),
        }
    }
}
