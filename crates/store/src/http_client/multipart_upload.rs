//! Writes whole objects through OSS's API, in parts if they are large. Reports are published this way.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::client::{RequestPayload, StoreHttpClient, StoreRequest};
use super::dialect::StoreDialect;
use super::response::{ResponseLimit, StoreResponse};
use crate::backoff::{RetryPolicy, retry};
use crate::error_code::{FaultClass, StoreError};
use crate::object::{BucketName, ObjectKey};
use crate::store::ObjectContent;
use crate::xml;

/// The part size in bytes. Larger objects are uploaded in parts. OSS allows 10,000 parts, which makes 80 GB.
const PART_SIZE: usize = 8 << 20;

/// The maximum number of attempts for one part.
const MAX_ATTEMPTS: u32 = 5;

/// The object that is written.
#[derive(Clone, Copy)]
struct UploadTarget<'a> {
    bucket: &'a BucketName,
    key: &'a ObjectKey,
}

impl StoreHttpClient {
    /// Writes a whole object, in parts if it is large. `md5` is the MD5 of the content in base64.
    pub(crate) async fn write_in_parts(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        let target = UploadTarget { bucket, key };
        let mut source = match content {
            ObjectContent::Bytes(bytes) => UploadSource::Bytes(bytes),
            ObjectContent::File(path) => self.open_file(target, &path).await?,
        };
        let first = self.next_part(target, &mut source).await?;
        if first.len() < PART_SIZE {
            return self.put_object(target, first, md5).await;
        }
        let upload = self.initiate_multipart(target).await?;
        let sent = self.upload_parts(target, &upload, first, source, md5).await;
        if sent.is_err() {
            // Otherwise the uploaded parts would incur storage costs until they are removed.
            let request = upload_request("DELETE", target, format!("uploadId={upload}"), RequestPayload::empty());
            let _ = self.send_upload_request(&request).await;
        }
        sent
    }

    async fn put_object(&self, target: UploadTarget<'_>, content: Bytes, md5: &str) -> Result<(), StoreError> {
        let request =
            upload_request("PUT", target, String::new(), RequestPayload::from_bytes(content, md5, StoreDialect::Oss));
        self.send_upload_request(&request).await.map(drop)
    }

    /// Starts a multipart upload. Returns the upload ID, URL-encoded for a query.
    async fn initiate_multipart(&self, target: UploadTarget<'_>) -> Result<String, StoreError> {
        let request = upload_request("POST", target, "uploads".to_owned(), RequestPayload::empty());
        let whole = self.send_with_retries(&request).await?;
        let mut id = String::new();
        let read = xml::read(&whole.body, |path, text| {
            if path == "InitiateMultipartUploadResult/UploadId" {
                text.clone_into(&mut id);
            }
        });
        match read {
            Ok(()) if !id.is_empty() => Ok(ObjectKey::from(id.as_str()).encoded()),
            Ok(()) => Err(whole.unreadable_error("it has no upload ID", self.describe(&request))),
            Err(why) => Err(whole.unreadable_error(&why.to_string(), self.describe(&request))),
        }
    }

    async fn upload_parts(
        &self,
        target: UploadTarget<'_>,
        upload: &str,
        first: Bytes,
        mut source: UploadSource,
        md5: &str,
    ) -> Result<(), StoreError> {
        let mut whole = Md5::new();
        let mut list = String::from("<CompleteMultipartUpload>");
        let (mut part, mut number) = (first, 1);
        while !part.is_empty() {
            whole.update(&part);
            let digest = STANDARD.encode(Md5::digest(&part));
            let query = format!("partNumber={number}&uploadId={upload}");
            let request =
                upload_request("PUT", target, query, RequestPayload::from_bytes(part, &digest, StoreDialect::Oss));
            let answer = self.send_with_retries(&request).await?;
            let Some(etag) = answer.headers.get(http::header::ETAG).and_then(|etag| etag.to_str().ok()) else {
                return Err(answer.unreadable_error("it has no ETag", self.describe(&request)));
            };
            let etag = quick_xml::escape::escape(etag);
            list = format!("{list}<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
            part = self.next_part(target, &mut source).await?;
            number += 1;
        }
        list.push_str("</CompleteMultipartUpload>");
        let request = upload_request(
            "POST",
            target,
            format!("uploadId={upload}"),
            RequestPayload::from_xml(list, StoreDialect::Oss),
        );
        if STANDARD.encode(whole.finalize()) != md5 {
            let why = "the content read for the upload is not the expected one: its MD5 differs";
            return Err(StoreError::without_response(FaultClass::Rejected, "BadDigest", why, self.describe(&request)));
        }
        self.send_upload_request(&request).await.map(drop)
    }

    async fn send_upload_request(&self, request: &UploadRequest<'_>) -> Result<StoreResponse, StoreError> {
        let UploadRequest { method, target: UploadTarget { bucket, key }, query, payload } = request;
        let (method, payload) = (*method, payload.clone());
        let store_request = StoreRequest { method, bucket, key: Some(key), query, headers: Vec::new(), payload };
        self.execute_with_timeout(store_request, ResponseLimit::Small).await
    }

    /// Sends a request with retries, so that one failed part does not fail the whole upload. Only for requests that
    /// can be repeated.
    async fn send_with_retries(&self, request: &UploadRequest<'_>) -> Result<StoreResponse, StoreError> {
        let policy = RetryPolicy { max_attempts: MAX_ATTEMPTS, ..RetryPolicy::default() };
        let sent = retry(policy, StoreError::is_retryable, || self.send_upload_request(request)).await;
        sent.map_err(|exhausted| exhausted.error)
    }

    fn describe(&self, request: &UploadRequest<'_>) -> String {
        self.endpoint().request_line(request.method, request.target.bucket, request.target.key, &request.query)
    }

    async fn open_file(&self, target: UploadTarget<'_>, path: &Path) -> Result<UploadSource, StoreError> {
        let opened = File::open(path).await;
        opened.map(UploadSource::File).map_err(|error| self.file_error(target, &format!("{}: {error}", path.display())))
    }

    async fn next_part(&self, target: UploadTarget<'_>, source: &mut UploadSource) -> Result<Bytes, StoreError> {
        source.next_part().await.map_err(|error| self.file_error(target, &error.to_string()))
    }

    fn file_error(&self, target: UploadTarget<'_>, why: &str) -> StoreError {
        let request_line = self.endpoint().request_line("PUT", target.bucket, target.key, "");
        StoreError::without_response(FaultClass::Rejected, "FileNotReadable", why, request_line)
    }
}

/// A request for the object that is written.
struct UploadRequest<'a> {
    method: &'static str,
    target: UploadTarget<'a>,
    query: String,
    payload: RequestPayload,
}

fn upload_request<'a>(
    method: &'static str,
    target: UploadTarget<'a>,
    query: String,
    payload: RequestPayload,
) -> UploadRequest<'a> {
    UploadRequest { method, target, query, payload }
}

/// The content, read one part at a time.
enum UploadSource {
    Bytes(Bytes),
    File(File),
}

impl UploadSource {
    /// Reads the next part. An empty part marks the end.
    async fn next_part(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(rest) => {
                let next = rest.len().min(PART_SIZE);
                Ok(rest.split_to(next))
            }
            Self::File(file) => {
                let mut part = Vec::new();
                file.take(PART_SIZE as u64).read_to_end(&mut part).await?;
                Ok(part.into())
            }
        }
    }
}
