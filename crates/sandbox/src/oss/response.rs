//! Responses: their bodies and XML documents, and errors as OSS returns them.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};

use crate::access::{AccessPolicy, OwnerId};
use crate::blobs::BlobReader;
use crate::model::{ETag, UnixMillis};
use crate::restore::RestoreRejection;
use crate::state::SandboxRequestError;
use crate::tags::{SharedTags, TagSetError};

pub(crate) const CLASS: HeaderName = HeaderName::from_static("x-oss-storage-class");
pub(crate) const VERSION_ID: HeaderName = HeaderName::from_static("x-oss-version-id");
pub(crate) const DELETE_MARKER: HeaderName = HeaderName::from_static("x-oss-delete-marker");
const EC: HeaderName = HeaderName::from_static("x-oss-ec");
const ERR: HeaderName = HeaderName::from_static("x-oss-err");
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The body of a response.
#[derive(Debug)]
pub(crate) enum OssResponseBody {
    /// In memory.
    InMemory(Bytes),
    /// Read from an object.
    FromObject(BlobReader),
}

impl Body for OssResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match &mut *self {
            Self::InMemory(bytes) if bytes.is_empty() => None,
            Self::InMemory(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::FromObject(reader) => reader.next().map(|chunk| chunk.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::InMemory(bytes) => bytes.len() as u64,
            Self::FromObject(reader) => reader.remaining(),
        })
    }
}

/// Creates a response without a body.
pub(crate) fn empty_response(status: StatusCode) -> Response<OssResponseBody> {
    let mut response = Response::new(OssResponseBody::InMemory(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Sets a header. A value that a header cannot contain is omitted.
pub(crate) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Adds the version ID to a response, if there is one.
pub(crate) fn with_version(mut response: Response<OssResponseBody>, id: Option<&str>) -> Response<OssResponseBody> {
    if let Some(id) = id {
        set_header(response.headers_mut(), VERSION_ID, id);
    }
    response
}

/// Formats a time as in `2026-03-04T00:00:00.000Z`.
pub(crate) fn iso_time(at: UnixMillis) -> String {
    at.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Formats an entity tag as OSS does: quoted, in upper case.
pub(crate) fn etag(etag: ETag) -> String {
    format!("\"{}\"", etag.to_string().to_uppercase())
}

/// Returns the type of an object, which says how it was uploaded.
pub(crate) fn object_type(etag: ETag) -> &'static str {
    if etag.parts > 0 { "Multipart" } else { "Normal" }
}

/// Returns the document that describes an owner and an ACL.
pub(crate) fn acl_document(access: &AccessPolicy) -> ResponseDocument {
    ResponseDocument::new("AccessControlPolicy", |to| {
        to.write_owner(access.owner);
        to.write_acl(access);
    })
}

/// A document that is being written.
#[derive(Debug)]
pub(crate) struct ResponseDocument(String);

impl ResponseDocument {
    /// Creates a document whose root element has this name and content.
    pub(crate) fn new(root: &str, content: impl FnOnce(&mut Self)) -> Self {
        let mut document = Self(DECLARATION.to_owned());
        document.write_element(root, content);
        document
    }

    /// Creates a document that consists of one element with a text.
    pub(crate) fn with_text(root: &str, text: &str) -> Self {
        let mut document = Self(DECLARATION.to_owned());
        document.write_text(root, text);
        document
    }

    /// Writes an element that contains other elements.
    pub(crate) fn write_element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.0.extend(["<", name, ">"]);
        content(self);
        self.0.extend(["</", name, ">"]);
    }

    /// Writes an element with a text. Control characters are escaped, because a raw carriage return would be read as a
    /// line feed.
    pub(crate) fn write_text(&mut self, name: &str, text: &str) {
        self.0.extend(["<", name, ">"]);
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                control if control < ' ' => self.write_reference(control),
                other => self.0.push(other),
            }
        }
        self.0.extend(["</", name, ">"]);
    }

    fn write_reference(&mut self, control: char) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "&#x{:X};", u32::from(control));
    }

    /// Writes an element with a text, if there is one.
    pub(crate) fn write_optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.write_text(name, text);
        }
    }

    /// Writes an owner. At OSS, the name of an account is its number.
    pub(crate) fn write_owner(&mut self, owner: OwnerId) {
        let id = owner.oss_id();
        self.write_element("Owner", |to| {
            to.write_text("ID", &id);
            to.write_text("DisplayName", &id);
        });
    }

    /// Writes an ACL. An ACL that OSS does not have gets the name of the nearest one that grants no more.
    pub(crate) fn write_acl(&mut self, access: &AccessPolicy) {
        let name = access.acl.nearest_oss_acl().as_str();
        self.write_element("AccessControlList", |to| to.write_text("Grant", name));
    }

    /// Writes a `Tag` element for each tag.
    pub(crate) fn write_tags(&mut self, tags: &SharedTags) {
        for (key, value) in tags.iter() {
            self.write_element("Tag", |to| {
                to.write_text("Key", key);
                to.write_text("Value", value);
            });
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// Returns a response with this document as its body.
    pub(crate) fn into_response(self) -> Response<OssResponseBody> {
        let mut response = Response::new(OssResponseBody::InMemory(Bytes::from(self.0)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }
}

/// An error response. `ec` is the detailed code that OSS returns with each error, as documented at
/// <https://www.alibabacloud.com/help/en/oss/support/>. If none is documented, it is a made-up code in the same format.
#[derive(Debug)]
pub(crate) struct OssError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) ec: &'static str,
    message: Cow<'static, str>,
    /// The version ID of the delete marker that caused the error.
    delete_marker: Option<String>,
}

impl OssError {
    pub(crate) const fn new(status: StatusCode, code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self::with_message(status, code, ec, Cow::Borrowed(message))
    }

    const fn with_message(
        status: StatusCode,
        code: &'static str,
        ec: &'static str,
        message: Cow<'static, str>,
    ) -> Self {
        Self { status, code, ec, message, delete_marker: None }
    }

    fn storage_failed(error: &std::io::Error) -> Self {
        let message = format!("The sandbox cannot read or write its files: {error}");
        Self::with_message(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "0000-00000001", message.into())
    }

    /// Creates an error with status 400.
    pub(crate) const fn bad_request(code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, ec, message)
    }

    /// Creates an error with status 403.
    pub(crate) const fn forbidden(code: &'static str, ec: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, ec, message)
    }

    pub(crate) const fn access_denied(message: &'static str) -> Self {
        Self::forbidden("AccessDenied", "0003-00000001", message)
    }

    pub(crate) const fn invalid_argument(message: &'static str) -> Self {
        Self::bad_request("InvalidArgument", "0017-00000804", message)
    }

    pub(crate) const fn invalid_bucket_name() -> Self {
        Self::bad_request("InvalidBucketName", "0015-00000001", "The specified bucket is not valid.")
    }

    pub(crate) const fn unknown_acl() -> Self {
        Self::bad_request("InvalidArgument", "0017-00000801", "no such access control option exists")
    }

    pub(crate) const fn no_such_lifecycle() -> Self {
        let message = "No Row found in Lifecycle Table.";
        Self::new(StatusCode::NOT_FOUND, "NoSuchLifecycle", "0055-00000011", message)
    }

    pub(crate) const fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::bad_request("MalformedXML", "0016-00000714", message)
    }

    pub(crate) fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_message(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "0002-00000501", message.into())
    }

    /// Creates the error for a body that does not match its headers, such as one that ends early. OSS waits for the
    /// rest of a body that is shorter than its `Content-Length`, and then responds with `RequestTimeout`:
    /// <https://www.alibabacloud.com/help/en/oss/support/0017-00000704>. The sandbox responds when the body has ended.
    pub(crate) fn incomplete_body(error: &dyn std::fmt::Display) -> Self {
        let message = format!("The body does not match its headers: {error}");
        Self::with_message(StatusCode::BAD_REQUEST, "RequestTimeout", "0002-00000070", message.into())
    }

    pub(crate) const fn method_not_allowed() -> Self {
        let message = "The specified method is not allowed against this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "0016-00000502", message)
    }

    pub(crate) const fn precondition_failed() -> Self {
        let message = "At least one of the pre-conditions you specified did not hold.";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "0026-00000021", message)
    }

    /// Adds the version ID of the delete marker that caused the error.
    pub(crate) fn with_delete_marker(self, id: String) -> Self {
        Self { delete_marker: Some(id), ..self }
    }

    /// Converts the error to a response. The response to a HEAD request has no body, so it contains the error in a
    /// header.
    pub(crate) fn into_response(self, id: &str, host: &str, has_body: bool) -> Response<OssResponseBody> {
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

impl From<TagSetError> for OssError {
    fn from(error: TagSetError) -> Self {
        let message = error.message();
        match error {
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
    fn from(error: SandboxRequestError) -> Self {
        let not_found = |code, ec, message| Self::new(StatusCode::NOT_FOUND, code, ec, message);
        let conflict = |code, ec, message| Self::new(StatusCode::CONFLICT, code, ec, message);
        match error {
            SandboxRequestError::NoSuchBucket => {
                not_found("NoSuchBucket", "0015-00000101", "The specified bucket does not exist.")
            }
            SandboxRequestError::NoSuchKey => NO_KEY,
            SandboxRequestError::NoSuchVersion => {
                not_found("NoSuchVersion", "0026-00000002", "The specified version does not exist.")
            }
            SandboxRequestError::CurrentIsDeleteMarker { id } | SandboxRequestError::IsDeleteMarker { id, .. } => {
                NO_KEY.with_delete_marker(id)
            }
            SandboxRequestError::AccessDenied => {
                Self::access_denied("You have no right to access this object because of bucket acl.")
            }
            SandboxRequestError::BucketExists | SandboxRequestError::BucketNameTaken => conflict(
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
            SandboxRequestError::RestoreRejected(rejection) => rejection.into(),
            SandboxRequestError::PreconditionFailed | SandboxRequestError::ConditionalConflict => {
                Self::precondition_failed()
            }
            SandboxRequestError::NoSuchUpload => not_found(
                "NoSuchUpload",
                "0042-00000002",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted \
                 or completed.",
            ),
            // OSS has no such checksums, and no such header for the size.
            SandboxRequestError::InvalidPart
            | SandboxRequestError::PartChecksumMissing(..)
            | SandboxRequestError::ChecksumMismatch(_)
            | SandboxRequestError::SizeMismatch { .. } => Self::bad_request(
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
            SandboxRequestError::Storage(error) => Self::storage_failed(&error),
        }
    }
}

impl From<RestoreRejection> for OssError {
    fn from(rejection: RestoreRejection) -> Self {
        match rejection {
            // OSS has no such class, so the second one is not returned to its clients.
            RestoreRejection::NotArchived | RestoreRejection::AlreadyActive => Self::bad_request(
                "OperationNotSupported",
                "0016-00000702",
                "The operation is not supported for this resource",
            ),
            RestoreRejection::AlreadyOngoing => Self::new(
                StatusCode::CONFLICT,
                "RestoreAlreadyInProgress",
                "0016-00000701",
                "The restore operation is in progress.",
            ),
            RestoreRejection::NoSuchTier => {
                Self::bad_request("MalformedXML", "0016-00000703", "The storage class does not support this tier.")
            }
            RestoreRejection::TierNotAllowed => Self::malformed_xml(),
            // A request without days gets the default, so this is about days that are out of range.
            RestoreRejection::DaysOutOfRange | RestoreRejection::NoExpiry | RestoreRejection::DaysMissing => {
                Self::bad_request("InvalidArgument", "0016-00000704", "Days is out of range for this storage class.")
            }
        }
    }
}
