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

use super::Wire;
use super::clock::TOLERATED;
use super::dialect::Dialect;
use super::error_document::{ErrorDocument, is_error};
use super::identity::Identity;
use super::lane::Arriving;
use crate::call::{ContentMark, ObjectHeader, ObjectHeaders};
use crate::store::fault::shortened;
use crate::task::{Fault, FaultClass};
use crate::timeouts::scaled;
use crate::web::innermost;

/// The maximum number of bytes of an error response that are read. The relevant part is in the first kilobyte.
const MAX_REFUSAL: usize = 64 << 10;

/// The time limit for reading the rest of an error response.
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// The clock difference that servers reject: slightly less than the 15 minutes of AWS and OSS.
const SKEW: SignedDuration = SignedDuration::from_mins(14);

/// The maximum size of a response body.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Limit {
    /// 64 KiB: ten tags, one ACL, or no body.
    Small,
    /// 16 MiB: a page of a listing, with up to 1,000 escaped keys of one kilobyte.
    Page,
}

impl Limit {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 64 << 10,
            Self::Page => 16 << 20,
        }
    }
}

/// A response whose body is not read yet.
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Arriving,
    /// Whether the request only reads.
    pub(super) reads: bool,
}

/// The credentials and the time that a request was signed with.
#[derive(Debug)]
pub(in crate::store) struct Signed {
    pub(super) identity: Arc<Identity>,
    pub(super) at: Timestamp,
}

impl Signed {
    /// Removes the secrets that the server received from its text, and truncates the text.
    pub(in crate::store) fn told(&self, words: &str) -> String {
        shortened(&self.identity.hidden_from(words))
    }
}

/// A completely read response.
#[derive(Debug)]
pub(in crate::store) struct Whole {
    /// The HTTP status, always 2xx.
    pub(in crate::store) status: u16,
    pub(in crate::store) headers: HeaderMap,
    pub(in crate::store) body: Bytes,
    /// Whether the request only reads.
    reads: bool,
    /// The credentials that the request was signed with. The server may repeat them in the response.
    identity: Arc<Identity>,
}

/// A rejected request, and what the response says about the clock.
pub(in crate::store) struct Refused {
    /// The error to return.
    pub(in crate::store) fault: Fault,
    /// The server's time.
    pub(in crate::store) date: Option<Timestamp>,
    /// Whether the server sent an error code.
    pub(in crate::store) has_code: bool,
}

impl Answer {
    /// Reads a successful response completely. Every other response becomes an error.
    pub(super) async fn whole(
        mut self,
        dialect: Dialect,
        limit: Limit,
        signed: &Signed,
        in_words: &impl Fn() -> String,
    ) -> Result<Whole, Refused> {
        let status = self.head.status.as_u16();
        if !self.head.status.is_success() {
            return Err(self.refused(dialect, signed, in_words).await);
        }
        let read = read(&mut self.body, limit.bytes()).await;
        let body = match read {
            Read::Whole(body) => body,
            Read::Cut(_) => {
                let make = if self.reads { another } else { unreadable };
                let fault = make(status, "the answer is longer than any that was expected", in_words());
                return Err(Refused::alone(Fault { headers: object_headers(&self.head.headers), ..fault }));
            }
            Read::Broken(why) => return Err(Refused::alone(unreadable(status, &why, in_words()))),
            Read::Stalled(why) => {
                let mut fault =
                    Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &shortened(&why), in_words());
                fault.status = Some(status);
                return Err(Refused::alone(fault));
            }
        };
        // Some servers must start the response before they know whether the request succeeds.
        if is_error(&body) {
            let document = ErrorDocument::read(&body, signed);
            return Err(document.refused(status, &self.head.headers, dialect, signed, in_words()));
        }
        let identity = Arc::clone(&signed.identity);
        Ok(Whole { status, headers: self.head.headers, body, reads: self.reads, identity })
    }

    /// Returns a successful response with its body as a stream. Every other response becomes an error.
    pub(super) async fn opened(
        self,
        dialect: Dialect,
        signed: &Signed,
        in_words: &impl Fn() -> String,
    ) -> Result<(Parts, Arriving), Refused> {
        if self.head.status.is_success() {
            return Ok((self.head, self.body));
        }
        Err(self.refused(dialect, signed, in_words).await)
    }

    async fn refused(mut self, dialect: Dialect, signed: &Signed, in_words: &impl Fn() -> String) -> Refused {
        // If the body cannot be read completely, the status alone describes the error.
        let body = match timeout(scaled(REFUSAL_TIME), read(&mut self.body, MAX_REFUSAL)).await {
            Ok(Read::Whole(body) | Read::Cut(body)) => body,
            Ok(Read::Broken(_) | Read::Stalled(_)) | Err(_) => Bytes::new(),
        };
        let status = self.head.status.as_u16();
        ErrorDocument::read(&body, signed).refused(status, &self.head.headers, dialect, signed, in_words())
    }
}

enum Read {
    Whole(Bytes),
    /// Longer than the limit. The connection is closed with the rest unread.
    Cut(Bytes),
    Broken(String),
    /// The server sends nothing, or almost nothing.
    Stalled(String),
}

async fn read(body: &mut Arriving, limit: usize) -> Read {
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Read::Stalled(error.to_string()),
            Err(error) => return Read::Broken(innermost(&error)),
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
            return Read::Cut(whole.slice(..limit));
        }
    }
    Read::Whole(whole)
}

impl Refused {
    fn alone(fault: Fault) -> Self {
        Self { fault, date: None, has_code: true }
    }
}

impl Whole {
    /// Returns the `ETag` and length from a HEAD response. They may be shown, so secrets that the server repeats in
    /// them are hidden.
    pub(super) fn content_mark(&self) -> ContentMark {
        let text = |name| self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let etag = text(ETAG).map(|etag| shortened(&self.identity.hidden_from(etag)).into());
        ContentMark { etag, size: text(CONTENT_LENGTH).and_then(|size| size.parse().ok()) }
    }

    /// Returns the error for a success whose document is not the requested one. Reading it again would give the same
    /// result, unless the end of the body was not marked and the body may have been truncated.
    pub(in crate::store) fn unreadable(&self, why: &str, in_words: String) -> Fault {
        let marked = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| self.headers.contains_key(header));
        let make = if marked && self.reads { another } else { unreadable };
        Fault { headers: self.object_headers(), ..make(self.status, why, in_words) }
    }

    /// Returns the object headers in the response.
    pub(super) fn object_headers(&self) -> ObjectHeaders {
        object_headers(&self.headers)
    }
}

/// Returns the object headers among these headers.
pub(super) fn object_headers(headers: &HeaderMap) -> ObjectHeaders {
    let mut found = ObjectHeaders::default();
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
fn another(status: u16, why: &str, in_words: String) -> Fault {
    let message = format!("the answer could not be read: {why}");
    let mut fault = Fault::unanswered(FaultClass::Rejected, "UnexpectedDocument", &shortened(&message), in_words);
    fault.status = Some(status);
    fault
}

/// Builds the error for a success that cannot be read. The request may have been executed: check the state before
/// repeating it.
fn unreadable(status: u16, why: &str, in_words: String) -> Fault {
    let message = format!("the answer could not be read: {why}");
    let mut fault = Fault::unanswered(FaultClass::Ambiguous, "UnreadableAnswer", &shortened(&message), in_words);
    fault.status = Some(status);
    fault
}

impl Wire {
    /// Returns the error of a rejected request. Corrects the clock or renews the credentials first, if they were the
    /// reason.
    ///
    /// If several requests in flight were signed with the same wrong time or the same credentials, the first one
    /// corrects it, and all of them can be retried.
    pub(in crate::store) async fn judged(&self, refused: Refused, signed: &Signed) -> Fault {
        let Refused { mut fault, date, has_code } = refused;
        if let Some(date) = date {
            let off = date.duration_since(signed.at).abs();
            // A response to HEAD has no error code, so only the server's clock shows the reason.
            let skewed = fault.code == "RequestTimeTooSkewed" || (fault.status == Some(403) && !has_code && off > SKEW);
            if skewed {
                self.clock.put_right(date);
                if off > TOLERATED {
                    fault.class = FaultClass::Transient;
                }
            }
        }
        if fault.class == FaultClass::Credentials && is_about_signing(&fault.code) {
            let region = &self.region;
            fault.message = shortened(&format!("{}; requests are signed for the region {region}", fault.message));
        }
        // A response to HEAD has no error code here either. The credentials are the reason if they are known to be
        // expired or rejected.
        let codeless = !has_code && matches!(fault.status, Some(400 | 401 | 403));
        if may_be_renewed(&fault.code) || (codeless && self.identities.is_spent(&signed.identity)) {
            let renewed = self.identities.renew(&signed.identity, &fault.code).await;
            fault.class = if renewed { FaultClass::Transient } else { FaultClass::Credentials };
        }
        fault
    }
}

/// Returns whether this error code for rejected credentials refers to the signature or its region.
pub(super) fn is_about_signing(code: &str) -> bool {
    let codes =
        ["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidArgument", "InvalidRequest"];
    codes.contains(&code)
}

/// Returns whether other credentials may be accepted after this error code.
fn may_be_renewed(code: &str) -> bool {
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
