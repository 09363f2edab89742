//! Making an object that must be new, and removing one.
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
    /// Makes an object, unless there is one of its name.
    ///
    /// # Errors
    /// Whatever is neither, classified.
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

    /// Removes an object.
    ///
    /// # Errors
    /// Whatever is not that, classified.
    pub(in crate::store) async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        let payload = Payload::none();
        let ask = Ask { method: "DELETE", bucket, key: Some(key), query: "", headers: Vec::new(), payload };
        match self.patiently(ask, Limit::Small).await {
            Err(fault) if fault.status != Some(404) || fault.code == "NoSuchBucket" => Err(fault),
            _ => Ok(()),
        }
    }
}

/// What a refusal says of the object, where it says that.
///
/// A 409 `ConditionalRequestConflict` says that another request about this name, to create or to delete, was under way at the
/// same time. Nothing was written; AWS and others say to try again.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html#conditional-error-response>
fn refused_as(fault: &Fault) -> Option<Created> {
    match (fault.status, fault.code.as_str()) {
        (Some(412), _) | (Some(409), "FileAlreadyExists") => Some(Created::Taken),
        (Some(409), "ConditionalRequestConflict") => Some(Created::Conflict),
        _ => None,
    }
}
