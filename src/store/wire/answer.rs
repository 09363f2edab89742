//! What comes back: read within bounds, and judged once.

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

/// The most of a refusal that is read: what tells what is wrong stands in its first kilobyte.
const MAX_REFUSAL: usize = 64 << 10;

/// How long the rest of a refusal is waited for.
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// A difference between clocks that servers refuse: a little less than the fifteen minutes of AWS and OSS.
const SKEW: SignedDuration = SignedDuration::from_mins(14);

/// The most that an answer may have.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Limit {
    /// Ten tags, one ACL, or nothing: 64 KiB.
    Small,
    /// A page of a listing, of up to a thousand keys of a kilobyte that are escaped: 16 MiB.
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

/// An answer whose body is still on its way.
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Arriving,
    /// Whether it answers a request that only reads.
    pub(super) reads: bool,
}

/// Whose signature a request has, and of what time.
#[derive(Debug)]
pub(in crate::store) struct Signed {
    pub(super) identity: Arc<Identity>,
    pub(super) at: Timestamp,
}

impl Signed {
    /// A server's words, without the secrets that it was sent, and no longer than can be kept.
    pub(in crate::store) fn told(&self, words: &str) -> String {
        shortened(&self.identity.hidden_from(words))
    }
}

/// An answer that is there whole.
#[derive(Debug)]
pub(in crate::store) struct Whole {
    /// The HTTP status, any 2xx.
    pub(in crate::store) status: u16,
    /// The headers.
    pub(in crate::store) headers: HeaderMap,
    /// The body.
    pub(in crate::store) body: Bytes,
    /// Whether it answers a request that only reads.
    reads: bool,
    /// Whose signature the request had: the server may repeat it.
    identity: Arc<Identity>,
}

/// A refusal, and what else it says of the clock.
pub(in crate::store) struct Refused {
    /// What is told of it.
    pub(in crate::store) fault: Fault,
    /// The server's time.
    pub(in crate::store) date: Option<Timestamp>,
    /// Whether the server gave a code.
    pub(in crate::store) has_code: bool,
}

impl Answer {
    /// Reads a success whole.
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
        // Some servers must begin to answer before they know whether they can carry the request out.
        if is_error(&body) {
            let document = ErrorDocument::read(&body, signed);
            return Err(document.refused(status, &self.head.headers, dialect, signed, in_words()));
        }
        let identity = Arc::clone(&signed.identity);
        Ok(Whole { status, headers: self.head.headers, body, reads: self.reads, identity })
    }

    /// Hands on a success whose body is still on its way.
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
        // A refusal that does not come whole is told by its status.
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
    /// Longer than the limit; the connection is given up with the rest.
    Cut(Bytes),
    Broken(String),
    /// The server has fallen silent, or as good as.
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
            // Most answers are one piece; one that is not is put together.
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
    /// `ETag` and length of an answer to HEAD. They may be told, so that secrets which a server repeats there are hidden.
    pub(super) fn content_mark(&self) -> ContentMark {
        let text = |name| self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let etag = text(ETAG).map(|etag| shortened(&self.identity.hidden_from(etag)).into());
        ContentMark { etag, size: text(CONTENT_LENGTH).and_then(|size| size.parse().ok()) }
    }

    /// The fault of a success whose document is not the one that was asked for. To read again would bring the same, unless the
    /// end of the body was not marked, so that it may have been cut off.
    pub(in crate::store) fn unreadable(&self, why: &str, in_words: String) -> Fault {
        let marked = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| self.headers.contains_key(header));
        let make = if marked && self.reads { another } else { unreadable };
        Fault { headers: self.object_headers(), ..make(self.status, why, in_words) }
    }

    /// Which headers of an object itself it has.
    pub(super) fn object_headers(&self) -> ObjectHeaders {
        object_headers(&self.headers)
    }
}

/// Which headers of an object itself an answer has.
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

/// A success that came whole, and is not what was asked for.
fn another(status: u16, why: &str, in_words: String) -> Fault {
    let message = format!("the answer could not be read: {why}");
    let mut fault = Fault::unanswered(FaultClass::Rejected, "UnexpectedDocument", &shortened(&message), in_words);
    fault.status = Some(status);
    fault
}

/// A success that cannot be read may be one: look before doing it again.
fn unreadable(status: u16, why: &str, in_words: String) -> Fault {
    let message = format!("the answer could not be read: {why}");
    let mut fault = Fault::unanswered(FaultClass::Ambiguous, "UnreadableAnswer", &shortened(&message), in_words);
    fault.status = Some(status);
    fault
}

impl Wire {
    /// The fault of a refusal: clock and credentials are put right first, where they are what was refused.
    ///
    /// Of several requests that were under way with the same wrong time, or the same credentials, the first puts it right;
    /// all of them are worth sending again.
    pub(in crate::store) async fn judged(&self, refused: Refused, signed: &Signed) -> Fault {
        let Refused { mut fault, date, has_code } = refused;
        if let Some(date) = date {
            let off = date.duration_since(signed.at).abs();
            // An answer to HEAD has no code, so that only the server's clock tells.
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
        // An answer to HEAD has no code either: there the credentials are what is wrong where they are known to be spent.
        let codeless = !has_code && matches!(fault.status, Some(400 | 401 | 403));
        if may_be_renewed(&fault.code) || (codeless && self.identities.is_spent(&signed.identity)) {
            let renewed = self.identities.renew(&signed.identity, &fault.code).await;
            fault.class = if renewed { FaultClass::Transient } else { FaultClass::Credentials };
        }
        fault
    }
}

/// Whether a refusal of credentials with this code is about how the request was signed with them, and for what region.
pub(super) fn is_about_signing(code: &str) -> bool {
    let codes =
        ["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidArgument", "InvalidRequest"];
    codes.contains(&code)
}

/// Whether other credentials may be taken where these were not.
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
