//! Conditional writes, and deletes.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject> (`x-oss-forbid-overwrite`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderName, HeaderValue};
use md5::{Digest as _, Md5};

use super::{RequestPayload, ResponseLimit, StoreDialect, StoreHttpClient, StoreRequest};
use crate::ConditionalPutOutcome;
use crate::object::{BucketName, ObjectKey};
use crate::task::StoreError;

impl StoreHttpClient {
    /// Creates an object, unless its key already exists.
    ///
    /// # Errors
    /// Returns a classified error for every response other than success and a failed condition.
    pub(crate) async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        let condition = match self.dialect {
            StoreDialect::S3 => (IF_NONE_MATCH, HeaderValue::from_static("*")),
            StoreDialect::Oss => (HeaderName::from_static("x-oss-forbid-overwrite"), HeaderValue::from_static("true")),
        };
        let md5 = STANDARD.encode(Md5::digest(&content));
        let payload = RequestPayload::from_bytes(content, &md5, self.dialect);
        let ask = StoreRequest { method: "PUT", bucket, key: Some(key), query: "", headers: vec![condition], payload };
        match self.execute_with_timeout(ask, ResponseLimit::Small).await {
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
        let ask = StoreRequest { method: "DELETE", bucket, key: Some(key), query: "", headers: Vec::new(), payload };
        match self.execute_with_timeout(ask, ResponseLimit::Small).await {
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
