//! Requests for one object: its tags, ACL, restore and HEAD; and its whole content, which is read, written (for OSS in
//! parts if it is large), created unless it exists, and deleted. Manifests are read this way, and reports and job state
//! are written.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, `API_PutObject.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/getobject>

use std::borrow::Cow;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::client::{RequestPayload, StoreHttpClient, StoreRequest};
use super::dialect::StoreDialect;
use super::response::{ResponseLimit, StoreResponse};
use crate::backoff::{RetryPolicy, retry};
use crate::error::{FaultClass, StoreError};
use crate::object::{BucketName, ObjectAcl, ObjectId, ObjectKey, TagSet, VersionId};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse, ResponseData};
use crate::store::{ConditionalPutOutcome, ObjectContent, OpenedObject};
use crate::xml::{self, XmlReadError};

/// Everything except the unreserved characters of RFC 3986.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl StoreHttpClient {
    /// Sends a request for one object.
    pub(crate) async fn send_object_request(
        &self,
        object: &ObjectId,
        call: &ObjectRequest,
    ) -> Result<ObjectResponse, StoreError> {
        let (method, resource) = call.method_and_subresource();
        let query = object_query(resource, object.version.as_ref());
        let mut headers = Vec::new();
        if let ObjectRequest::PutAcl(acl) = call
            && !matches!(acl, ObjectAcl::Custom(Some(_)))
        {
            headers.push((self.dialect().acl_header(), HeaderValue::from_static(acl.as_str())));
        }
        let payload = self.payload_for(call);
        let store_request =
            StoreRequest { method, bucket: &object.bucket, key: Some(&object.key), query: &query, headers, payload };
        let response = match self.execute(store_request, ResponseLimit::Small).await {
            Err(fault) if *call == ObjectRequest::GetTags && is_no_tag_set(&fault) => {
                let data = ResponseData::Tags(TagSet::default());
                return Ok(ObjectResponse {
                    headers: fault.headers,
                    no_tag_set: true,
                    ..ObjectResponse::new(200, data)
                });
            }
            // There was nothing to delete.
            Err(fault) if *call == ObjectRequest::DeleteTags && is_no_tag_set(&fault) => {
                return Ok(ObjectResponse { headers: fault.headers, ..ObjectResponse::new(204, ResponseData::Empty) });
            }
            answer => answer?,
        };
        let data = self.response_data(call, &response).map_err(|why| {
            response.unreadable_error(&why, self.endpoint().request_line(method, &object.bucket, &object.key, &query))
        })?;
        let size = response.body.len() as u64;
        Ok(ObjectResponse {
            headers: response.object_headers(),
            body_bytes: size,
            version: (!call.is_write()).then(|| self.dialect().parse_version(&response.headers)).flatten(),
            ..ObjectResponse::new(response.status, data)
        })
    }

    fn payload_for(&self, call: &ObjectRequest) -> RequestPayload {
        match call {
            ObjectRequest::PutTags(tags) => self.request_payload(call, || {
                RequestPayload::from_xml(self.dialect().tagging_document(tags), self.dialect())
            }),
            ObjectRequest::Restore(request) => self.request_payload(call, || {
                RequestPayload::from_xml(self.dialect().restore_document(*request), self.dialect())
            }),
            ObjectRequest::PutAcl(ObjectAcl::Custom(Some(policy))) => self.request_payload(call, || {
                RequestPayload::from_xml(self.dialect().acl_document(policy), self.dialect())
            }),
            ObjectRequest::PutAcl(_)
            | ObjectRequest::GetTags
            | ObjectRequest::DeleteTags
            | ObjectRequest::GetAcl
            | ObjectRequest::Head => RequestPayload::empty(),
        }
    }

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    pub(crate) fn body_identity(&self, call: &ObjectRequest) -> ContentIdentity {
        match call {
            ObjectRequest::PutTags(_) | ObjectRequest::PutAcl(_) | ObjectRequest::Restore(_) => {
                self.payload_for(call).content_identity()
            }
            ObjectRequest::GetTags | ObjectRequest::DeleteTags | ObjectRequest::GetAcl | ObjectRequest::Head => {
                ContentIdentity::default()
            }
        }
    }

    fn response_data(&self, call: &ObjectRequest, response: &StoreResponse) -> Result<ResponseData, String> {
        match call {
            ObjectRequest::GetTags => expect_document(self.cached_tags(&response.body)).map(ResponseData::Tags),
            ObjectRequest::GetAcl => expect_document(self.dialect().parse_acl(&response.body)).map(ResponseData::Acl),
            ObjectRequest::Head => {
                let head = self.dialect().parse_head(&response.headers);
                Ok(ResponseData::Head {
                    class: head.class,
                    restoration: head.restoration,
                    archive_status: head.archive_status,
                    content: response.content_identity(),
                })
            }
            ObjectRequest::PutTags(_)
            | ObjectRequest::DeleteTags
            | ObjectRequest::PutAcl(_)
            | ObjectRequest::Restore(_) => Ok(ResponseData::Empty),
        }
    }
}

/// Returns whether the error only means that the object has no tags. Some servers respond this way: Versity S3 Gateway
/// (<https://github.com/versity/versitygw/issues/1686>), Wasabi
/// (<https://github.com/ansible-collections/amazon.aws/issues/1607>) and Huawei OBS
/// (<https://github.com/huaweicloud/huaweicloud-sdk-java-obs/issues/162>).
fn is_no_tag_set(fault: &StoreError) -> bool {
    fault.status == Some(404) && matches!(fault.code.as_str(), "NoSuchTagSet" | "NoSuchTagSetError")
}

fn expect_document<T>(read: Result<Option<T>, XmlReadError>) -> Result<T, String> {
    match read {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err("it is not the requested document".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Returns the query for a subresource, with the version ID if there is one.
pub(crate) fn object_query(resource: &'static str, version: Option<&VersionId>) -> Cow<'static, str> {
    let Some(version) = version else { return Cow::Borrowed(resource) };
    let separator = if resource.is_empty() { "" } else { "&" };
    // Sorted by name: every subresource comes before `versionId`.
    Cow::Owned(format!("{resource}{separator}versionId={}", utf8_percent_encode(version.as_str(), PERCENT_ENCODED)))
}

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
            let request_line = self.endpoint().request_line("GET", bucket, key, "");
            let (class, status) = (FaultClass::Rejected, head.status.as_u16());
            return Err(StoreError::unusable_response(class, status, "UnexpectedDocument", why, request_line));
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
                let request_line = self.endpoint().request_line("PUT", bucket, key, "");
                StoreError::without_response(FaultClass::Rejected, "FileNotReadable", &error.to_string(), request_line)
            })?,
        };
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        let store_request = StoreRequest { method: "PUT", bucket, key: Some(key), query: "", headers, payload };
        self.execute_with_timeout(store_request, ResponseLimit::Small).await.map(drop)
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

impl StoreHttpClient {
    /// Creates an object, unless its key already exists.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject> (`x-oss-forbid-overwrite`).
    ///
    /// # Errors
    /// Returns a classified error for every response other than success and a failed condition.
    pub(crate) async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        let condition = match self.dialect() {
            StoreDialect::S3 => (IF_NONE_MATCH, HeaderValue::from_static("*")),
            StoreDialect::Oss => (HeaderName::from_static("x-oss-forbid-overwrite"), HeaderValue::from_static("true")),
        };
        let md5 = STANDARD.encode(Md5::digest(&content));
        let payload = RequestPayload::from_bytes(content, &md5, self.dialect());
        let store_request =
            StoreRequest { method: "PUT", bucket, key: Some(key), query: "", headers: vec![condition], payload };
        match self.execute_with_timeout(store_request, ResponseLimit::Small).await {
            Ok(_) => Ok(ConditionalPutOutcome::Created),
            Err(fault) => outcome_of_error(&fault).ok_or(fault),
        }
    }

    /// Deletes an object. Succeeds if the object does not exist.
    ///
    /// # Errors
    /// Returns a classified error for every other response.
    pub(crate) async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError> {
        let payload = RequestPayload::empty();
        let store_request =
            StoreRequest { method: "DELETE", bucket, key: Some(key), query: "", headers: Vec::new(), payload };
        match self.execute_with_timeout(store_request, ResponseLimit::Small).await {
            Err(fault) if fault.status != Some(404) || fault.code == "NoSuchBucket" => Err(fault),
            _ => Ok(()),
        }
    }
}

/// Returns the outcome that an error response stands for, or `None` if it is a real error.
///
/// A 409 `ConditionalRequestConflict` means that another request to create or delete the same key was in progress.
/// Nothing was written. AWS and others recommend a retry.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html#conditional-error-response>
fn outcome_of_error(fault: &StoreError) -> Option<ConditionalPutOutcome> {
    match (fault.status, fault.code.as_str()) {
        (Some(412), _) | (Some(409), "FileAlreadyExists") => Some(ConditionalPutOutcome::AlreadyExists),
        (Some(409), "ConditionalRequestConflict") => Some(ConditionalPutOutcome::Conflict),
        _ => None,
    }
}

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
        let response = self.send_with_retries(&request).await?;
        let mut id = String::new();
        let read = xml::read(&response.body, |path, text| {
            if path == "InitiateMultipartUploadResult/UploadId" {
                text.clone_into(&mut id);
            }
        });
        match read {
            Ok(()) if !id.is_empty() => Ok(ObjectKey::from(id.as_str()).encoded()),
            Ok(()) => Err(response.unreadable_error("it has no upload ID", self.describe(&request))),
            Err(why) => Err(response.unreadable_error(&why.to_string(), self.describe(&request))),
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
        let mut content_md5 = Md5::new();
        let mut list = String::from("<CompleteMultipartUpload>");
        let (mut part, mut number) = (first, 1);
        while !part.is_empty() {
            content_md5.update(&part);
            let digest = STANDARD.encode(Md5::digest(&part));
            let query = format!("partNumber={number}&uploadId={upload}");
            let request =
                upload_request("PUT", target, query, RequestPayload::from_bytes(part, &digest, StoreDialect::Oss));
            let response = self.send_with_retries(&request).await?;
            let Some(etag) = response.headers.get(ETAG).and_then(|etag| etag.to_str().ok()) else {
                return Err(response.unreadable_error("it has no ETag", self.describe(&request)));
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
        if STANDARD.encode(content_md5.finalize()) != md5 {
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
