//! Conditional writes, and deletes.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject> (`x-oss-forbid-overwrite`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderName, HeaderValue};
use md5::{Digest as _, Md5};

use super::{Ask, Dialect, Limit, Payload, Wire};
use crate::object::{Bucket, Key};
use crate::store::Created;
use crate::task::Fault;

impl Wire {
    /// Creates an object, unless its key already exists.
    ///
    /// # Errors
    /// Returns a classified error for every response other than success and a failed condition.
    pub(in crate::store) async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault> {
        let condition = match self.dialect {
            Dialect::S3 => (IF_NONE_MATCH, HeaderValue::from_static("*")),
            Dialect::Oss => (HeaderName::from_static("x-oss-forbid-overwrite"), HeaderValue::from_static("true")),
        };
        let md5 = STANDARD.encode(Md5::digest(&content));
        let payload = Payload::content(content, &md5, self.dialect);
        let ask = Ask { method: "PUT", bucket, key: Some(key), query: "", headers: vec![condition], payload };
        match self.patiently(ask, Limit::Small).await {
            Ok(_) => Ok(Created::New),
            Err(fault) => refused_as(&fault).ok_or(fault),
        }
    }

    /// Deletes an object. Succeeds if the object does not exist.
    ///
    /// # Errors
    /// Returns a classified error for every other response.
    pub(in crate::store) async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        let payload = Payload::none();
        let ask = Ask { method: "DELETE", bucket, key: Some(key), query: "", headers: Vec::new(), payload };
        match self.patiently(ask, Limit::Small).await {
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
fn refused_as(fault: &Fault) -> Option<Created> {
    match (fault.status, fault.code.as_str()) {
        (Some(412), _) | (Some(409), "FileAlreadyExists") => Some(Created::Taken),
        (Some(409), "ConditionalRequestConflict") => Some(Created::Conflict),
        _ => None,
    }
}
