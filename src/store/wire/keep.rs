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
            Err(fault) if is_taken(&fault) => Ok(Created::Taken),
            Err(fault) => Err(fault),
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

/// Whether a refusal says that somebody else was, or is about to be, faster.
fn is_taken(fault: &Fault) -> bool {
    match fault.status {
        Some(412) => true,
        Some(409) => matches!(fault.code.as_str(), "ConditionalRequestConflict" | "FileAlreadyExists"),
        _ => false,
    }
}
