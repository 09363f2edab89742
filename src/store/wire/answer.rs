//! What comes back: read within bounds, and judged once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http_body_util::BodyExt as _;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::Wire;
use super::clock::TOLERATED;
use super::dialect::Dialect;
use super::identity::Identity;
use super::lane::Arriving;
use crate::call::{ObjectHeader, ObjectHeaders};
use crate::store::fault::{Refusal, shortened};
use crate::store::xml;
use crate::task::{Fault, FaultClass};
use crate::timeouts::scaled;
use crate::web::innermost;

/// The most of a refusal that is read: what tells what is wrong stands in its first kilobyte.
const MAX_REFUSAL: usize = 64 << 10;

/// How long the rest of a refusal is waited for.
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// A difference between clocks that servers refuse: fifteen minutes, at AWS and OSS alike.
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

/// What an error document says.
#[derive(Default)]
struct Document {
    code: String,
    message: String,
    request_id: String,
    ec: String,
    endpoint: String,
    region: String,
    server_time: String,
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
            let document = Document::read(&body, signed);
            return Err(document.refused(status, &self.head.headers, dialect, signed, in_words()));
        }
        Ok(Whole { status, headers: self.head.headers, body, reads: self.reads })
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
        Document::read(&body, signed).refused(status, &self.head.headers, dialect, signed, in_words())
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

impl Document {
    /// Takes what it can from a document that may be cut or no document at all.
    fn read(body: &[u8], signed: &Signed) -> Self {
        let mut document = Self::default();
        // What came before the fault stands.
        let _ = xml::read(body, |path, text| {
            let to = match path {
                "Error/Code" => &mut document.code,
                "Error/Message" => &mut document.message,
                "Error/RequestId" => &mut document.request_id,
                "Error/EC" => &mut document.ec,
                "Error/Endpoint" => &mut document.endpoint,
                "Error/Region" => &mut document.region,
                "Error/ServerTime" => &mut document.server_time,
                _ => return,
            };
            *to = signed.told(text);
        });
        document
    }

    fn refused(
        mut self,
        status: u16,
        headers: &HeaderMap,
        dialect: Dialect,
        signed: &Signed,
        in_words: String,
    ) -> Refused {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for (said, header) in [
            (&mut self.request_id, dialect.names().request_id),
            (&mut self.ec, "x-oss-ec"),
            (&mut self.region, "x-amz-bucket-region"),
        ] {
            if said.is_empty() {
                *said = signed.told(text(header));
            }
        }
        if (300..400).contains(&status) && self.endpoint.is_empty() {
            self.endpoint = signed.told(text("location"));
        }
        let message = self.with_place(status);
        let refusal = Refusal {
            status,
            code: Some(&self.code),
            message: Some(&message),
            request_id: &self.request_id,
            ec: &self.ec,
            retry_after: headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()),
        };
        let date = rfc2822::parse(text("date")).ok().map(|date| date.timestamp());
        // A refusal of the time says what time it is, where no header does.
        let date = date.or_else(|| self.server_time.trim().parse().ok());
        let fault = Fault { headers: object_headers(headers), ..refusal.fault(in_words) };
        Refused { fault, date, has_code: !self.code.is_empty() }
    }

    /// The message, and where the bucket is, if the server says that it is elsewhere.
    fn with_place(&self, status: u16) -> String {
        if is_about_signing(&self.code) && !self.region.is_empty() {
            let said = format!("{} (the server expects the region {})", self.message, self.region);
            return said.trim_start().to_owned();
        }
        let elsewhere = (300..400).contains(&status) || !self.endpoint.is_empty();
        if !elsewhere {
            return self.message.clone();
        }
        let mut message = match self.message.trim_end_matches('.') {
            "" => "the bucket is elsewhere".to_owned(),
            said => said.to_owned(),
        };
        for (what, place) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if !place.is_empty() {
                message = format!("{message}; {what} {place}");
            }
        }
        format!("{message}; nothing was sent there: set `endpoint` and `region` in [store]")
    }
}

impl Refused {
    fn alone(fault: Fault) -> Self {
        Self { fault, date: None, has_code: true }
    }
}

impl Whole {
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
fn object_headers(headers: &HeaderMap) -> ObjectHeaders {
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

/// Whether a body is an error document, by its root.
fn is_error(body: &[u8]) -> bool {
    let mut rest = body.trim_ascii_start();
    if rest.starts_with(b"<?xml") {
        let end = rest.windows(2).position(|window| window == b"?>").map_or(rest.len(), |start| start + 2);
        rest = rest[end..].trim_ascii_start();
    }
    let root = rest.strip_prefix(b"<Error").and_then(<[u8]>::first);
    root.is_some_and(|next| *next == b'>' || next.is_ascii_whitespace())
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
fn is_about_signing(code: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;

    fn refused(status: u16, headers: &[(&'static str, &str)], document: &str) -> Fault {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let read = Document::read(document.as_bytes(), &signed());
        read.refused(status, &map, Dialect::Oss, &signed(), "GET x".to_owned()).fault
    }

    fn signed() -> Signed {
        let token = Some("T".repeat(2000));
        let credentials = Credentials::new("key", "hush", token, None, "test");
        Signed { identity: Arc::new(Identity::new(credentials)), at: Timestamp::now() }
    }

    #[test]
    fn secrets_are_hidden_wherever_a_server_repeats_them_and_before_anything_is_cut() {
        let token = "T".repeat(2000);
        let document = format!(
            "<Error><Code>hush</Code><Message>{}{token}</Message><RequestId>{token}</RequestId><EC>hush!</EC></Error>",
            "m".repeat(1000)
        );
        let fault = refused(403, &[], &document);
        assert_eq!(fault.message, format!("{}[hidden]", "m".repeat(1000)));
        assert_eq!(
            (fault.code.as_str(), fault.request_id.as_str(), fault.ec.as_str()),
            ("[hidden]", "[hidden]", "[hidden]!")
        );
        let (encoded, referred) = ("%54".repeat(2000), "&amp;#x54;".repeat(2000));
        let document = format!("<Error><Code>X</Code><Message>{encoded} {referred}</Message></Error>");
        assert_eq!(refused(403, &[], &document).message, "[hidden] [hidden]");
        let header = refused(403, &[("x-oss-request-id", &token), ("x-oss-ec", "hush")], "");
        assert_eq!((header.request_id.as_str(), header.ec.as_str()), ("[hidden]", "[hidden]"));
    }

    #[test]
    fn an_error_is_told_from_an_answer_by_its_root() {
        for error in ["<Error><Code/></Error>", " <?xml version=\"1.0\"?>\n<Error xmlns=\"x\">", "<Error\n>"] {
            assert!(is_error(error.as_bytes()), "{error}");
        }
        for answer in ["", "<Errors/>", "<Tagging><Error>x</Error></Tagging>", "<?xml", "Error", "<Error"] {
            assert!(!is_error(answer.as_bytes()), "{answer}");
        }
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        let document = "<Error><Code>AccessDenied</Code><Message>No right.</Message><RequestId>R1</RequestId>\
                        <HostId>h</HostId><EC>0003-00000001</EC></Error>";
        let fault = refused(403, &[("x-oss-request-id", "R2")], document);
        assert_eq!((fault.code.as_str(), fault.message.as_str()), ("AccessDenied", "No right."));
        assert_eq!((fault.request_id.as_str(), fault.ec.as_str()), ("R1", "0003-00000001"));
        let bare = refused(403, &[("x-oss-request-id", "R2"), ("x-oss-ec", "0003-1"), ("retry-after", "3")], "");
        assert_eq!((bare.code.as_str(), bare.request_id.as_str(), bare.ec.as_str()), ("AccessDenied", "R2", "0003-1"));
        assert_eq!(bare.retry_after.map(std::num::NonZeroU16::get), Some(3));
    }

    #[test]
    fn a_cut_or_hostile_document_gives_what_came_before_the_fault() {
        let cut = refused(400, &[], "<Error><Code>InvalidArgument</Code><Mess");
        assert_eq!((cut.code.as_str(), cut.message.as_str()), ("InvalidArgument", "the server gave no message"));
        let bomb = refused(400, &[], "<!DOCTYPE x [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>");
        assert_eq!(bomb.code, "BadRequest");
    }

    #[test]
    fn a_region_that_is_wrong_is_no_fault_of_the_object_and_the_right_one_is_told() {
        let document = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is wrong.</Message>\
                        <Region>eu-west-1</Region></Error>";
        let fault = refused(400, &[], document);
        assert_eq!(fault.class, FaultClass::Credentials);
        assert_eq!(fault.message, "The region is wrong. (the server expects the region eu-west-1)");
    }

    #[test]
    fn the_servers_time_is_in_the_header_or_in_the_document() {
        let date = |headers: &[(&'static str, &str)], time: &str| {
            let document = format!("<Error><Code>RequestTimeTooSkewed</Code><ServerTime>{time}</ServerTime></Error>");
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            let read = Document::read(document.as_bytes(), &signed());
            let date = read.refused(403, &map, Dialect::Oss, &signed(), String::new()).date;
            date.map(|date| date.to_string())
        };
        let header = ("date", "Fri, 21 Dec 2012 00:00:00 GMT");
        assert_eq!(date(&[header], "2024-01-01T00:00:00.000Z").as_deref(), Some("2012-12-21T00:00:00Z"));
        assert_eq!(date(&[], "2024-01-01T00:00:00.000Z").as_deref(), Some("2024-01-01T00:00:00Z"));
        for none in ["", "soon", "9999999-01-01T00:00:00Z", "-1"] {
            assert_eq!(date(&[], none), None, "{none}");
        }
    }

    #[test]
    fn a_redirect_says_where_the_bucket_is_and_that_nothing_went_there() {
        let document = "<Error><Code>PermanentRedirect</Code><Message>Use the endpoint.</Message>\
                        <Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>";
        let fault = refused(301, &[("x-amz-bucket-region", "eu-west-1")], document);
        assert_eq!(fault.class, FaultClass::Rejected);
        assert_eq!(
            fault.message,
            "Use the endpoint; endpoint b.s3.eu-west-1.amazonaws.com; region eu-west-1; nothing was sent there: set \
             `endpoint` and `region` in [store]"
        );
        let bare = refused(302, &[("location", "http://evil.example/")], "");
        assert!(bare.message.contains("endpoint http://evil.example/; nothing was sent there"), "{}", bare.message);
    }
}
