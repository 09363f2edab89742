//! Reads and writes whole objects: manifests are read, and reports and job state are written.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, `API_PutObject.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/getobject>

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, RANGE};

use super::{RequestPayload, ResponseLimit, StoreDialect, StoreHttpClient, StoreRequest};
use crate::object::{BucketName, ObjectKey};
use crate::task::{FaultClass, StoreError};
use crate::{ObjectContent, OpenedObject};

impl StoreHttpClient {
    /// Opens an object for reading, optionally only if it still has the given `ETag`.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(crate) async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        let (head, body) = self
            .open_stream(get_request(bucket, key, if_match.and_then(if_match_header).into_iter().collect()))
            .await?;
        Ok(OpenedObject {
            etag: header_text(&head.headers, ETAG).trim_matches('"').to_owned(),
            size: header_text(&head.headers, CONTENT_LENGTH).parse().unwrap_or(0),
            body: Box::new(body.into_reader()),
        })
    }

    /// Resumes reading an object at byte `from`, if it still has this `ETag`.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not the requested part of that object.
    pub(crate) async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        let mut headers: Vec<_> = if_match_header(etag).into_iter().collect();
        headers.extend(HeaderValue::from_str(&format!("bytes={from}-")).ok().map(|range| (RANGE, range)));
        let (head, body) = self.open_stream(get_request(bucket, key, headers)).await?;
        let found = header_text(&head.headers, ETAG).trim_matches('"');
        let starts = header_text(&head.headers, CONTENT_RANGE).starts_with(&format!("bytes {from}-"));
        if head.status.as_u16() != 206 || !starts || found != etag {
            let why = "the server did not send the requested rest of the object";
            let in_words = self.endpoint.request_line("GET", bucket, key, "");
            return Err(StoreError::without_response(FaultClass::Rejected, "UnreadableAnswer", why, in_words));
        }
        let size = header_text(&head.headers, CONTENT_LENGTH).parse().unwrap_or(0);
        Ok(OpenedObject { etag: etag.to_owned(), size, body: Box::new(body.into_reader()) })
    }

    /// Writes an object with one request, whatever its size.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(crate) async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        let payload = match content {
            ObjectContent::Bytes(bytes) => RequestPayload::from_bytes(bytes, md5, StoreDialect::S3),
            ObjectContent::File(path) => RequestPayload::from_file(&path, md5).await.map_err(|error| {
                let in_words = self.endpoint.request_line("PUT", bucket, key, "");
                StoreError::without_response(FaultClass::Rejected, "FileNotReadable", &error.to_string(), in_words)
            })?,
        };
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        let ask = StoreRequest { method: "PUT", bucket, key: Some(key), query: "", headers, payload };
        self.execute_with_timeout(ask, ResponseLimit::Small).await.map(drop)
    }
}

fn get_request<'a>(
    bucket: &'a BucketName,
    key: &'a ObjectKey,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> StoreRequest<'a> {
    StoreRequest { method: "GET", bucket, key: Some(key), query: "", headers, payload: RequestPayload::empty() }
}

fn if_match_header(etag: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(&format!("\"{etag}\"")).ok().map(|etag| (IF_MATCH, etag))
}

fn header_text(headers: &http::HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
