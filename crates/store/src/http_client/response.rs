//! Responses: read with limits, and classified once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::StoreHttpClient;
use super::clock::TOLERATED_SKEW;
use super::connection::ResponseBody;
use super::credential_cache::SigningCredentials;
use super::dialect::StoreDialect;
use super::error_document::{ErrorDocument, is_error_document};
use crate::fault::truncate;
use crate::object_request::{ContentIdentity, ObjectHeader, ObjectHeaderSet};
use crate::task::{FaultClass, StoreError};
use crate::timeouts::scaled;
use crate::web::root_cause;

/// The maximum number of bytes of an error response that are read. The relevant part is in the first kilobyte.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The time limit for reading the rest of an error response.
const ERROR_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The clock difference that servers reject: slightly less than the 15 minutes of AWS and OSS.
const REJECTED_SKEW: SignedDuration = SignedDuration::from_mins(14);

/// The maximum size of a response body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponseLimit {
    /// 64 KiB: ten tags, one ACL, or no body.
    Small,
    /// 16 MiB: a page of a listing, with up to 1,000 escaped keys of one kilobyte.
    Page,
}

impl ResponseLimit {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 64 << 10,
            Self::Page => 16 << 20,
        }
    }
}

/// A response whose body is not read yet.
pub(super) struct StreamedResponse {
    pub(super) head: Parts,
    pub(super) body: ResponseBody,
    /// Whether the request only reads.
    pub(super) is_read_only: bool,
}

/// The credentials and the time that a request was signed with.
#[derive(Debug)]
pub(crate) struct SigningContext {
    pub(super) credentials: Arc<SigningCredentials>,
    pub(super) signed_at: Timestamp,
}

impl SigningContext {
    /// Removes the secrets that the server received from its text, and truncates the text.
    pub(crate) fn redact(&self, words: &str) -> String {
        truncate(&self.credentials.redact(words))
    }
}

/// A completely read response.
#[derive(Debug)]
pub(crate) struct StoreResponse {
    /// The HTTP status, always 2xx.
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the request only reads.
    is_read_only: bool,
    /// The credentials that the request was signed with. The server may repeat them in the response.
    credentials: Arc<SigningCredentials>,
}

/// A rejected request, and what the response says about the clock.
pub(crate) struct RejectedResponse {
    /// The error to return.
    pub(crate) error: StoreError,
    /// The server's time.
    pub(crate) server_time: Option<Timestamp>,
    /// Whether the server sent an error code.
    pub(crate) has_code: bool,
}

impl StreamedResponse {
    /// Reads a successful response completely. Every other response becomes an error.
    pub(super) async fn read_whole(
        mut self,
        dialect: StoreDialect,
        limit: ResponseLimit,
        signed: &SigningContext,
        in_words: &impl Fn() -> String,
    ) -> Result<StoreResponse, RejectedResponse> {
        let status = self.head.status.as_u16();
        if !self.head.status.is_success() {
            return Err(self.into_rejection(dialect, signed, in_words).await);
        }
        let read = read_body(&mut self.body, limit.bytes()).await;
        let body = match read {
            BodyReadOutcome::Complete(body) => body,
            BodyReadOutcome::TooLong(_) => {
                let make = if self.is_read_only { unexpected_document } else { unreadable_response };
                let fault = make(status, "it is longer than allowed", in_words());
                return Err(RejectedResponse::from_error(StoreError {
                    headers: object_headers(&self.head.headers),
                    ..fault
                }));
            }
            BodyReadOutcome::Broken(why) => {
                return Err(RejectedResponse::from_error(unreadable_response(status, &why, in_words())));
            }
            BodyReadOutcome::Stalled(why) => {
                let mut fault =
                    StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &truncate(&why), in_words());
                fault.status = Some(status);
                return Err(RejectedResponse::from_error(fault));
            }
        };
        // Some servers must start the response before they know whether the request succeeds.
        if is_error_document(&body) {
            let document = ErrorDocument::parse(&body, signed);
            return Err(document.into_rejection(status, &self.head.headers, dialect, signed, in_words()));
        }
        let identity = Arc::clone(&signed.credentials);
        Ok(StoreResponse {
            status,
            headers: self.head.headers,
            body,
            is_read_only: self.is_read_only,
            credentials: identity,
        })
    }

    /// Returns a successful response with its body as a stream. Every other response becomes an error.
    pub(super) async fn into_stream(
        self,
        dialect: StoreDialect,
        signed: &SigningContext,
        in_words: &impl Fn() -> String,
    ) -> Result<(Parts, ResponseBody), RejectedResponse> {
        if self.head.status.is_success() {
            return Ok((self.head, self.body));
        }
        Err(self.into_rejection(dialect, signed, in_words).await)
    }

    async fn into_rejection(
        mut self,
        dialect: StoreDialect,
        signed: &SigningContext,
        in_words: &impl Fn() -> String,
    ) -> RejectedResponse {
        // If the body cannot be read completely, the status alone describes the error.
        let body = match timeout(scaled(ERROR_READ_TIMEOUT), read_body(&mut self.body, MAX_ERROR_BYTES)).await {
            Ok(BodyReadOutcome::Complete(body) | BodyReadOutcome::TooLong(body)) => body,
            Ok(BodyReadOutcome::Broken(_) | BodyReadOutcome::Stalled(_)) | Err(_) => Bytes::new(),
        };
        let status = self.head.status.as_u16();
        ErrorDocument::parse(&body, signed).into_rejection(status, &self.head.headers, dialect, signed, in_words())
    }
}

enum BodyReadOutcome {
    Complete(Bytes),
    /// Longer than the limit. The connection is closed with the rest unread.
    TooLong(Bytes),
    Broken(String),
    /// The server sends nothing, or almost nothing.
    Stalled(String),
}

async fn read_body(body: &mut ResponseBody, limit: usize) -> BodyReadOutcome {
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return BodyReadOutcome::Stalled(error.to_string());
            }
            Err(error) => return BodyReadOutcome::Broken(root_cause(&error)),
        };
        if whole.is_empty() {
            whole = data;
        } else {
            // Most responses arrive in one piece. The pieces of a longer one are joined.
            let mut joined = whole.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            joined.extend_from_slice(&data);
            whole = joined.freeze();
        }
        if whole.len() > limit {
            return BodyReadOutcome::TooLong(whole.slice(..limit));
        }
    }
    BodyReadOutcome::Complete(whole)
}

impl RejectedResponse {
    fn from_error(error: StoreError) -> Self {
        Self { error, server_time: None, has_code: true }
    }
}

impl StoreResponse {
    /// Returns the `ETag` and length from a HEAD response. They may be shown, so secrets that the server repeats in
    /// them are hidden.
    pub(super) fn content_identity(&self) -> ContentIdentity {
        let text = |name| self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let etag = text(ETAG).map(|etag| truncate(&self.credentials.redact(etag)).into());
        ContentIdentity { etag, size: text(CONTENT_LENGTH).and_then(|size| size.parse().ok()) }
    }

    /// Returns the error for a success whose document is not the requested one. Reading it again would give the same
    /// result, unless the end of the body was not marked and the body may have been truncated.
    pub(crate) fn unreadable_error(&self, why: &str, in_words: String) -> StoreError {
        let marked = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| self.headers.contains_key(header));
        let make = if marked && self.is_read_only { unexpected_document } else { unreadable_response };
        StoreError { headers: self.object_headers(), ..make(self.status, why, in_words) }
    }

    /// Returns the object headers in the response.
    pub(super) fn object_headers(&self) -> ObjectHeaderSet {
        object_headers(&self.headers)
    }
}

/// Returns the object headers among these headers.
pub(super) fn object_headers(headers: &HeaderMap) -> ObjectHeaderSet {
    let mut found = ObjectHeaderSet::default();
    let names = [
        ("etag", ObjectHeader::ETag),
        ("last-modified", ObjectHeader::LastModified),
        ("accept-ranges", ObjectHeader::AcceptRanges),
        ("x-amz-restore", ObjectHeader::Restore),
        ("x-oss-restore", ObjectHeader::Restore),
    ];
    for (name, header) in names {
        if headers.contains_key(name) {
            found = found.with(header);
        }
    }
    let marked = |name: &str| headers.get(name).is_some_and(|value| value.as_bytes() == b"true");
    if marked("x-amz-delete-marker") || marked("x-oss-delete-marker") {
        found = found.with(ObjectHeader::DeleteMarker);
    }
    found
}

/// Builds the error for a success that was received completely but is not the requested document.
fn unexpected_document(status: u16, why: &str, in_words: String) -> StoreError {
    let message = format!("the response could not be read: {why}");
    let mut fault =
        StoreError::without_response(FaultClass::Rejected, "UnexpectedDocument", &truncate(&message), in_words);
    fault.status = Some(status);
    fault
}

/// Builds the error for a success that cannot be read. The request may have been executed: check the state before
/// repeating it.
fn unreadable_response(status: u16, why: &str, in_words: String) -> StoreError {
    let message = format!("the response could not be read: {why}");
    let mut fault =
        StoreError::without_response(FaultClass::Ambiguous, "UnreadableAnswer", &truncate(&message), in_words);
    fault.status = Some(status);
    fault
}

impl StoreHttpClient {
    /// Returns the error of a rejected request. Corrects the clock or renews the credentials first, if they were the
    /// reason.
    ///
    /// If several requests in flight were signed with the same wrong time or the same credentials, the first one
    /// corrects it, and all of them can be retried.
    pub(crate) async fn handle_rejection(&self, refused: RejectedResponse, signed: &SigningContext) -> StoreError {
        let RejectedResponse { error: mut fault, server_time: date, has_code } = refused;
        if let Some(date) = date {
            let off = date.duration_since(signed.signed_at).abs();
            // A response to HEAD has no error code, so only the server's clock shows the reason.
            let skewed =
                fault.code == "RequestTimeTooSkewed" || (fault.status == Some(403) && !has_code && off > REJECTED_SKEW);
            if skewed {
                self.clock.sync_to(date);
                if off > TOLERATED_SKEW {
                    fault.class = FaultClass::Transient;
                }
            }
        }
        if fault.class == FaultClass::Credentials && is_signing_code(&fault.code) {
            let region = &self.region;
            fault.message = truncate(&format!("{}; requests are signed for the region {region}", fault.message));
        }
        // A response to HEAD has no error code here either. The credentials are the reason if they are known to be
        // expired or rejected.
        let codeless = !has_code && matches!(fault.status, Some(400 | 401 | 403));
        if is_renewable_code(&fault.code) || (codeless && self.credentials.is_unusable(&signed.credentials)) {
            let renewed = self.credentials.renew(&signed.credentials, &fault.code).await;
            fault.class = if renewed { FaultClass::Transient } else { FaultClass::Credentials };
        }
        fault
    }
}

/// Returns whether this error code for rejected credentials refers to the signature or its region.
pub(super) fn is_signing_code(code: &str) -> bool {
    let codes =
        ["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidArgument", "InvalidRequest"];
    codes.contains(&code)
}

/// Returns whether other credentials may be accepted after this error code.
fn is_renewable_code(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidAccessKeyId"
            | "SecurityTokenExpired"
            | "InvalidSecurityToken"
    )
}
