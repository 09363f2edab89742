//! Errors as OSS returns them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::{OssResponseBody, empty_response};
use super::document::ResponseDocument;
use crate::state::SandboxRequestError;
use crate::tags::TagSetError;

pub(super) const VERSION_ID: HeaderName = HeaderName::from_static("x-oss-version-id");
pub(super) const DELETE_MARKER: HeaderName = HeaderName::from_static("x-oss-delete-marker");
const EC: HeaderName = HeaderName::from_static("x-oss-ec");
const ERR: HeaderName = HeaderName::from_static("x-oss-err");

/// An error response. `ec` is the detailed code that OSS returns with each error, as documented at
/// <https://www.alibabacloud.com/help/en/oss/support/>. If none is documented, it is a made-up code in the same format.
#[derive(Debug)]
pub(super) struct OssError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) ec: &'static str,
    pub(super) message: Cow<'static, str>,
    /// The version ID of the delete marker that caused the error.
    pub(super) delete_marker: Option<String>,
}

impl OssError {
    pub(super) const fn new(status: StatusCode, code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self { status, code, ec, message: Cow::Borrowed(message), delete_marker: None }
    }

    /// Creates an error with status 400.
    pub(super) const fn bad_request(code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, ec, message)
    }

    /// Creates an error with status 403.
    pub(super) const fn forbidden(code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, ec, message)
    }

    pub(super) const fn access_denied(message: &'static str) -> Self {
        Self::forbidden("AccessDenied", "0003-00000001", message)
    }

    pub(super) const fn invalid_argument(message: &'static str) -> Self {
        Self::bad_request("InvalidArgument", "0017-00000804", message)
    }

    pub(super) const fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::bad_request("MalformedXML", "0016-00000714", message)
    }

    pub(super) const fn not_implemented(message: &'static str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "0002-00000501", message)
    }

    pub(super) const fn precondition_failed() -> Self {
        let message = "At least one of the pre-conditions you specified did not hold.";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "0026-00000021", message)
    }

    /// Converts the error to a response. The response to a HEAD request has no body, so it contains the error in a
    /// header.
    pub(super) fn into_response(self, id: &str, host: &str, has_body: bool) -> Response<OssResponseBody> {
        let document = ResponseDocument::new("Error", |to| {
            to.write_text("Code", self.code);
            to.write_text("Message", &self.message);
            to.write_text("RequestId", id);
            to.write_text("HostId", host);
            to.write_text("EC", self.ec);
        });
        let mut response = if self.status == StatusCode::NOT_MODIFIED {
            empty_response(self.status)
        } else if has_body {
            document.into_response()
        } else {
            let mut response = empty_response(self.status);
            set_header(response.headers_mut(), ERR, &STANDARD.encode(document.into_text()));
            response
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        set_header(headers, EC, self.ec);
        if let Some(marker) = &self.delete_marker {
            headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
            set_header(headers, VERSION_ID, marker);
        }
        response
    }
}

/// Sets a header. A value that a header cannot contain is omitted.
pub(super) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

impl From<TagSetError> for OssError {
    fn from(fault: TagSetError) -> Self {
        let message = fault.message();
        match fault {
            TagSetError::TooMany => Self::bad_request("InvalidTag", "0017-00000810", message),
            TagSetError::InvalidEncoding => Self::bad_request("InvalidArgument", "0017-00000811", message),
            TagSetError::Duplicate | TagSetError::Reserved | TagSetError::InvalidKey | TagSetError::InvalidValue => {
                Self::bad_request("InvalidTag", "0017-00000812", message)
            }
        }
    }
}

const NO_KEY: OssError =
    OssError::new(StatusCode::NOT_FOUND, "NoSuchKey", "0026-00000001", "The specified key does not exist.");

impl From<SandboxRequestError> for OssError {
    fn from(refusal: SandboxRequestError) -> Self {
        let not_found = |code, ec, message| Self::new(StatusCode::NOT_FOUND, code, ec, message);
        let conflict = |code, ec, message| Self::new(StatusCode::CONFLICT, code, ec, message);
        match refusal {
            SandboxRequestError::NoSuchBucket => {
                not_found("NoSuchBucket", "0015-00000101", "The specified bucket does not exist.")
            }
            SandboxRequestError::NoSuchKey => NO_KEY,
            SandboxRequestError::NoSuchVersion => {
                not_found("NoSuchVersion", "0026-00000002", "The specified version does not exist.")
            }
            SandboxRequestError::CurrentIsDeleteMarker { id } | SandboxRequestError::IsDeleteMarker { id, .. } => {
                Self { delete_marker: Some(id), ..NO_KEY }
            }
            SandboxRequestError::BucketExists => conflict(
                "BucketAlreadyExists",
                "0015-00000104",
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system.",
            ),
            SandboxRequestError::BucketNotEmpty => {
                conflict("BucketNotEmpty", "0015-00000301", "The bucket you tried to delete is not empty.")
            }
            SandboxRequestError::Archived => Self::forbidden(
                "InvalidObjectState",
                "0025-00000901",
                "The operation is not valid for the object's state",
            ),
            SandboxRequestError::NotArchived => Self::bad_request(
                "OperationNotSupported",
                "0016-00000702",
                "The operation is not supported for this resource",
            ),
            SandboxRequestError::RestoreOngoing => {
                conflict("RestoreAlreadyInProgress", "0016-00000701", "The restore operation is in progress.")
            }
            SandboxRequestError::NoSuchTier => {
                Self::bad_request("MalformedXML", "0016-00000703", "The storage class does not support this tier.")
            }
            SandboxRequestError::TierNotAllowed => Self::malformed_xml(),
            SandboxRequestError::DaysOutOfRange => {
                Self::bad_request("InvalidArgument", "0016-00000704", "Days is out of range for this storage class.")
            }
            SandboxRequestError::PreconditionFailed => Self::precondition_failed(),
            SandboxRequestError::NoSuchUpload => not_found(
                "NoSuchUpload",
                "0042-00000002",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted \
                 or completed.",
            ),
            SandboxRequestError::InvalidPart => Self::bad_request(
                "InvalidPart",
                "0042-00000007",
                "One or more of the specified parts could not be found or the specified entity tag might not have matched \
                 the part's entity tag.",
            ),
            SandboxRequestError::PartTooSmall => Self::bad_request(
                "EntityTooSmall",
                "0042-00000017",
                "Your proposed upload smaller than the minimum allowed size.",
            ),
            SandboxRequestError::Storage(error) => Self {
                message: format!("The sandbox cannot read or write its files: {error}").into(),
                ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "0000-00000001", "")
            },
        }
    }
}
