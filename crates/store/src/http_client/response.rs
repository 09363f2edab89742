//! Responses: read with limits, and classified once.
//!
//! An error response is described by its document, if it has one, and by its headers and its status.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use memchr::memmem;
use tokio::time::timeout;
use tracing::debug;

use super::connection::ResponseBody;
use super::credential_cache::SigningCredentials;
use super::dialect::{StoreDialect, shows_restore};
use crate::endpoint::EndpointUrl;
use crate::error::{
    ErrorResponse, FaultClass, NOTHING_SENT, StoreError, WEB_PAGE, is_about_signature, is_redirect, truncate,
};
use crate::object_request::{ContentIdentity, ObjectHeader, ObjectHeaderSet};
use crate::printable::affects_terminal;
use crate::provider::{is_first_party, service_start};
use crate::timeouts::scaled;
use crate::web::root_cause;
use crate::xml;

/// The maximum number of bytes of an error response that are read. The relevant part is in the first kilobyte.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The time limit for reading the rest of an error response.
const ERROR_READ_TIMEOUT: Duration = Duration::from_secs(10);

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
    head: Parts,
    body: ResponseBody,
    /// Whether the request only reads.
    is_read_only: bool,
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

/// The error of a response that rejects the request or cannot be read, and what the response says about the clock.
pub(super) struct FailedResponse {
    /// The error to return.
    pub(super) error: StoreError,
    /// The server's time.
    pub(super) server_time: Option<Timestamp>,
    /// Whether the code says more than the status: the server sent it, or the client set it because the response cannot
    /// be read. `false` if the code is derived from the status, as for every response to HEAD.
    pub(super) has_code: bool,
}

impl StreamedResponse {
    /// Creates the response to a request, which may only read.
    pub(super) fn new(head: Parts, body: ResponseBody, is_read_only: bool) -> Self {
        Self { head, body, is_read_only }
    }

    /// Sets the method and URL of the request, for messages about long waits.
    pub(super) fn with_request_line(self, request_line: String) -> Self {
        Self { body: self.body.with_request_line(request_line), ..self }
    }

    /// Reads a successful response completely. Every other response becomes an error.
    pub(super) async fn read_whole(
        mut self,
        dialect: StoreDialect,
        limit: ResponseLimit,
        credentials: &Arc<SigningCredentials>,
        request_line: &impl Fn() -> String,
    ) -> Result<StoreResponse, FailedResponse> {
        let status = self.head.status.as_u16();
        if !self.head.status.is_success() {
            return Err(self.into_failure(dialect, credentials, request_line).await);
        }
        let body = match read_body(&mut self.body, limit.bytes()).await {
            BodyReadOutcome::Complete(body) => body,
            BodyReadOutcome::TooLong(_) => {
                let new_error = if self.is_read_only { unexpected_document } else { unreadable_response };
                let error = new_error(status, "it is longer than allowed", request_line());
                let headers = object_headers(&self.head.headers);
                return Err(FailedResponse::from_error(StoreError { headers, ..error }));
            }
            BodyReadOutcome::Broken(why) => {
                return Err(FailedResponse::from_error(unreadable_response(status, &why, request_line())));
            }
            BodyReadOutcome::Stalled(why) => {
                let error = StoreError::unusable_response(
                    FaultClass::Ambiguous,
                    status,
                    "RequestTimeout",
                    &truncate(&why),
                    request_line(),
                );
                return Err(FailedResponse::from_error(error));
            }
        };
        // No store answers a write with a web page. A read is rejected because it is not the requested document.
        if !self.is_read_only && is_web_page(&body) {
            let why = describe_web_page(&body, credentials);
            return Err(FailedResponse::from_error(unreadable_response(status, &why, request_line())));
        }
        // Some servers must start the response before they know whether the request succeeds.
        if is_error_document(&body) {
            let document = ErrorDocument::parse(&body, credentials);
            return Err(document.into_failure(status, &self.head.headers, dialect, credentials, request_line()));
        }
        Ok(StoreResponse {
            status,
            headers: self.head.headers,
            body,
            is_read_only: self.is_read_only,
            credentials: Arc::clone(credentials),
        })
    }

    /// Returns a successful response with its body as a stream. Every other response becomes an error.
    pub(super) async fn into_stream(
        self,
        dialect: StoreDialect,
        credentials: &Arc<SigningCredentials>,
        request_line: &impl Fn() -> String,
    ) -> Result<(Parts, ResponseBody), FailedResponse> {
        if self.head.status.is_success() {
            return Ok((self.head, self.body));
        }
        Err(self.into_failure(dialect, credentials, request_line).await)
    }

    async fn into_failure(
        mut self,
        dialect: StoreDialect,
        credentials: &Arc<SigningCredentials>,
        request_line: &impl Fn() -> String,
    ) -> FailedResponse {
        // If the body cannot be read completely, the status alone describes the error.
        let body = match timeout(scaled(ERROR_READ_TIMEOUT), read_body(&mut self.body, MAX_ERROR_BYTES)).await {
            Ok(BodyReadOutcome::Complete(body) | BodyReadOutcome::TooLong(body)) => body,
            Ok(BodyReadOutcome::Broken(_) | BodyReadOutcome::Stalled(_)) | Err(_) => Bytes::new(),
        };
        let (status, request_line) = (self.head.status.as_u16(), request_line());
        let mut document = ErrorDocument::parse(&body, credentials);
        if document.code.is_empty() && PLAIN_HTTP_REFUSALS.iter().any(|text| memmem::find(&body, text).is_some()) {
            let origin = origin_of(&request_line);
            document.message = format!("{origin}: the server speaks TLS on this port: use https://");
        }
        document.into_failure(status, &self.head.headers, dialect, credentials, request_line)
    }
}

/// Logs a request that failed. The texts of the server have no secrets any more. The query is left out.
pub(super) fn log_failure(error: &StoreError) {
    debug!(
        request = error.request_line.split('?').next(),
        class = ?error.class,
        status = error.status,
        code = error.code,
        request_id = error.request_id,
        error = error.message,
        "request failed"
    );
}

/// What servers written in Go, such as `MinIO`, and nginx answer to plain HTTP on a port for TLS.
const PLAIN_HTTP_REFUSALS: [&[u8]; 2] =
    [b"HTTP request to an HTTPS server", b"plain HTTP request was sent to HTTPS port"];

/// Returns scheme, host and port of a request line, such as `GET http://host:9000/bucket`.
fn origin_of(request_line: &str) -> &str {
    let url = request_line.split_once(' ').map_or(request_line, |(_, url)| url);
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    &url[..end]
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
    let mut received = Bytes::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return BodyReadOutcome::Stalled(error.to_string());
            }
            Err(error) => return BodyReadOutcome::Broken(root_cause(&error)),
        };
        if received.is_empty() {
            received = data;
        } else {
            // Most responses arrive in one piece. The pieces of a longer one are joined.
            let mut joined = received.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            joined.extend_from_slice(&data);
            received = joined.freeze();
        }
        if received.len() > limit {
            return BodyReadOutcome::TooLong(received.slice(..limit));
        }
    }
    BodyReadOutcome::Complete(received)
}

impl FailedResponse {
    fn from_error(error: StoreError) -> Self {
        Self { error, server_time: None, has_code: true }
    }
}

impl StoreResponse {
    /// Returns the `ETag` and length from a HEAD response. They are compared, and may be shown, so secrets that the
    /// server repeats in them are hidden.
    pub(super) fn content_identity(&self) -> ContentIdentity {
        let text = |name| self.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let etag = text(ETAG).map(|etag| truncate(&self.credentials.redact_value(etag)).into());
        ContentIdentity { etag, size: text(CONTENT_LENGTH).and_then(|size| size.parse().ok()) }
    }

    /// Returns the error for a success whose document is not the requested one. Reading it again would give the same
    /// result, unless the end of the body was not marked and the body may have been truncated.
    pub(crate) fn unreadable_error(&self, why: &str, request_line: String) -> StoreError {
        let marked = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|header| self.headers.contains_key(header));
        let new_error = if marked && self.is_read_only { unexpected_document } else { unreadable_response };
        let page = is_web_page(&self.body).then(|| describe_web_page(&self.body, &self.credentials));
        let why = if is_compressed(&self.headers) {
            "the server or a proxy compressed it, which was not requested"
        } else {
            page.as_deref().unwrap_or(why)
        };
        StoreError { headers: self.object_headers(), ..new_error(self.status, why, request_line) }
    }

    /// Returns whether the body is a web page, so that not the store has answered.
    pub(super) fn is_web_page(&self) -> bool {
        is_web_page(&self.body)
    }

    /// Returns the object headers in the response.
    pub(super) fn object_headers(&self) -> ObjectHeaderSet {
        object_headers(&self.headers)
    }
}

/// Returns whether the body is encoded, as with gzip.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Returns the object headers among these headers.
fn object_headers(headers: &HeaderMap) -> ObjectHeaderSet {
    let mut found = ObjectHeaderSet::default();
    let names = [
        ("etag", ObjectHeader::ETag),
        ("last-modified", ObjectHeader::LastModified),
        ("accept-ranges", ObjectHeader::AcceptRanges),
    ];
    for (name, header) in names {
        if headers.contains_key(name) {
            found = found.with(header);
        }
    }
    let restores = ["x-amz-restore", "x-oss-restore"].into_iter().filter_map(|name| headers.get(name)?.to_str().ok());
    if restores.into_iter().any(shows_restore) {
        found = found.with(ObjectHeader::Restore);
    }
    let marked = |name: &str| headers.get(name).is_some_and(|value| value.as_bytes() == b"true");
    if marked("x-amz-delete-marker") || marked("x-oss-delete-marker") {
        found = found.with(ObjectHeader::DeleteMarker);
    }
    found
}

/// Builds the error for a success that was received completely but is not the requested document.
fn unexpected_document(status: u16, why: &str, request_line: String) -> StoreError {
    let message = truncate(&format!("cannot read the response: {why}"));
    StoreError::unusable_response(FaultClass::Rejected, status, "UnexpectedDocument", &message, request_line)
}

/// Builds the error for a success that cannot be read. The request may have been executed: check the state before
/// repeating it.
fn unreadable_response(status: u16, why: &str, request_line: String) -> StoreError {
    let message = truncate(&format!("cannot read the response: {why}"));
    // Reports contain this code, so it stays as it is.
    StoreError::unusable_response(FaultClass::Ambiguous, status, "UnreadableAnswer", &message, request_line)
}

/// Removes the secrets that the server received from its text, and truncates the text.
pub(super) fn redacted(text: &str, credentials: &SigningCredentials) -> String {
    truncate(&credentials.redact(text))
}

/// The elements of an error document that are used.
#[derive(Default)]
struct ErrorDocument {
    code: String,
    message: String,
    request_id: String,
    ec: String,
    endpoint: String,
    region: String,
    server_time: Option<Timestamp>,
}

impl ErrorDocument {
    /// Reads as much as possible from a body that may be truncated or not a document at all.
    fn parse(body: &[u8], credentials: &SigningCredentials) -> Self {
        let mut document = Self::default();
        // Everything before a parse error is kept.
        let _ = xml::read(body, |path, text| {
            // It is parsed, and not shown.
            if path == "Error/ServerTime" && document.server_time.is_none() {
                document.server_time = text.trim().parse().ok();
            }
            let to = match path {
                "Error/Code" => &mut document.code,
                "Error/Message" => &mut document.message,
                "Error/RequestId" => &mut document.request_id,
                "Error/EC" => &mut document.ec,
                "Error/Endpoint" => &mut document.endpoint,
                "Error/Region" => &mut document.region,
                _ => return,
            };
            // The first value is kept, so that a value repeated in one document is scanned for secrets only once.
            if to.is_empty() {
                let is_read = matches!(path, "Error/Code" | "Error/Region");
                *to = if is_read { truncate(&credentials.redact_value(text)) } else { redacted(text, credentials) };
            }
        });
        if document.message.is_empty() && is_web_page(body) {
            document.message = describe_web_page(body, credentials);
        }
        document
    }

    /// Builds the error from the document, the status and the headers.
    fn into_failure(
        mut self,
        status: u16,
        headers: &HeaderMap,
        dialect: StoreDialect,
        credentials: &SigningCredentials,
        request_line: String,
    ) -> FailedResponse {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for (value, header) in [(&mut self.request_id, dialect.request_id_header()), (&mut self.ec, "x-oss-ec")] {
            if value.is_empty() {
                *value = redacted(text(header), credentials);
            }
        }
        if self.region.is_empty() {
            self.region = truncate(&credentials.redact_value(text("x-amz-bucket-region")));
        }
        if self.message.is_empty() {
            status_explanation(status, object_headers(headers)).clone_into(&mut self.message);
        }
        if is_redirect(status) && self.endpoint.is_empty() {
            self.endpoint = redacted(text("location"), credentials);
        }
        let response = ErrorResponse {
            status,
            code: Some(&self.code),
            message: Some(&self.message),
            request_id: &self.request_id,
            ec: &self.ec,
            retry_after: headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()),
        };
        let message = self.message_with_location(status, response.class(), dialect);
        let response = ErrorResponse { message: Some(&message), ..response };
        let error = StoreError { headers: object_headers(headers), ..response.into_error(request_line) };
        let date = rfc2822::parse(text("date")).ok().map(|date| date.timestamp());
        // A response that rejects the time contains the server's time, even without a `Date` header.
        let server_time = date.or(self.server_time);
        FailedResponse { error, server_time, has_code: !self.code.is_empty() }
    }

    /// Returns the message, with the location of the bucket if the server reports that it is elsewhere.
    fn message_with_location(&self, status: u16, class: FaultClass, dialect: StoreDialect) -> String {
        let region = Some(self.region.as_str()).filter(|region| !region.is_empty());
        if let Some(region) = region.filter(|_| class == FaultClass::Credentials && is_about_signature(&self.code)) {
            let advice =
                if is_region(region) { format!(": set `region = \"{region}\"` in [store]") } else { String::new() };
            let said = format!("{} (the server expects the region {region}{advice})", self.message);
            return said.trim_start().to_owned();
        }
        // A response to HEAD has no document: S3 sends 400 with the region of the bucket if another one was signed for.
        let to_head = status == 400 && self.code.is_empty() && region.is_some();
        if !is_redirect(status) && self.endpoint.is_empty() && !to_head {
            return self.message.clone();
        }
        let mut message = match self.message.trim_end_matches('.') {
            "" => "the bucket is at another endpoint".to_owned(),
            message => message.to_owned(),
        };
        let endpoint = Some(self.endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());
        for (what, place) in [("endpoint", endpoint), ("region", region)] {
            if let Some(place) = place {
                message = format!("{message}; {what} {place}");
            }
        }
        format!("{message}; {NOTHING_SENT}{}", location_advice(endpoint, region, dialect))
    }
}

/// Returns what is known of a response without a message; empty if nothing is.
fn status_explanation(status: u16, headers: ObjectHeaderSet) -> &'static str {
    match status {
        304 => "the request had no condition: a cache may have answered instead of the store",
        404 if headers.contains(ObjectHeader::DeleteMarker) => "the current version is a delete marker",
        405 if headers.contains(ObjectHeader::DeleteMarker) => "this version is a delete marker",
        _ => "",
    }
}

/// Returns what to write in `[store]` for a bucket that is elsewhere. What the server says is quoted only if it can be
/// an endpoint or a region.
fn location_advice(endpoint: Option<&str>, region: Option<&str>, dialect: StoreDialect) -> String {
    let endpoint = endpoint.and_then(service_endpoint);
    let region_of_endpoint = endpoint.as_deref().filter(|_| dialect == StoreDialect::Oss).and_then(oss_region);
    let region = region.filter(|region| is_region(region)).or(region_of_endpoint);
    match (endpoint.as_deref(), region) {
        (Some(endpoint), Some(region)) if dialect == StoreDialect::S3 => {
            format!("set `region = \"{region}\"` in [store], and change `endpoint`, if it is set, to \"{endpoint}\"")
        }
        (Some(endpoint), Some(region)) => {
            format!("set `endpoint = \"{endpoint}\"` and `region = \"{region}\"` in [store]")
        }
        (Some(endpoint), None) => format!("set `endpoint = \"{endpoint}\"` and its region in [store]"),
        (None, Some(region)) => {
            format!(
                "set `region = \"{region}\"` in [store], and change `endpoint`, if it is set, to that of the region"
            )
        }
        (None, None) => {
            "ask who runs the store where the bucket is, and set `endpoint` and `region` in [store]".to_owned()
        }
    }
}

/// Returns the URL of the endpoint that a server names, by its host or by the URL of an object there, if it is one of
/// AWS or Alibaba Cloud. The services put the bucket before their own host name.
///
/// No request should be signed for another host only because a server says so. The services' own hosts are all reached
/// with TLS, whatever the server says.
fn service_endpoint(named: &str) -> Option<String> {
    let (scheme, rest) = named.split_once("://").unwrap_or(("https", named));
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let start = service_start(host.split(':').next().unwrap_or_default().trim_end_matches('.'))?;
    let named = &host[start..];
    if !(named.starts_with("s3.") || named.starts_with("s3-") || named.starts_with("oss-")) {
        return None;
    }
    let url = EndpointUrl::parse(&format!("https://{named}")).ok()?;
    is_first_party(url.url()).then(|| url.url().to_owned())
}

/// Returns the region of an endpoint of OSS, such as `cn-shanghai` for `https://oss-cn-shanghai-internal.aliyuncs.com`.
fn oss_region(endpoint: &str) -> Option<&str> {
    let host = endpoint.strip_prefix("https://oss-").or_else(|| endpoint.strip_prefix("http://oss-"))?;
    let name = host.strip_suffix(".aliyuncs.com")?;
    let name = name.strip_suffix("-internal").unwrap_or(name);
    Some(name).filter(|name| is_region(name) && *name != "accelerate" && *name != "accelerate-overseas")
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Returns whether a body is an error document, by its root element.
fn is_error_document(body: &[u8]) -> bool {
    let root = skip_declaration(body).strip_prefix(b"<Error").and_then(<[u8]>::first);
    root.is_some_and(|next| *next == b'>' || next.is_ascii_whitespace())
}

/// Returns a document without its XML declaration.
fn skip_declaration(body: &[u8]) -> &[u8] {
    let rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if !rest.starts_with(b"<?xml") {
        return rest;
    }
    let end = rest.windows(2).position(|window| window == b"?>").map_or(rest.len(), |start| start + 2);
    rest[end..].trim_ascii_start()
}

/// The maximum length of the title of a web page in messages, in characters.
const MAX_TITLE_CHARS: usize = 80;

/// Returns whether a body is a web page, by its beginning. Proxies and login pages of networks send such responses in
/// place of the store, some of them as a success.
fn is_web_page(body: &[u8]) -> bool {
    let start = skip_declaration(body);
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|page| start.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page)))
}

/// Describes a web page for a message, with its title if it has one.
fn describe_web_page(body: &[u8], credentials: &SigningCredentials) -> String {
    // A secret is recognized only as a whole, so it is hidden before the title is cut.
    let title = web_page_title(&String::from_utf8_lossy(body)).map(|title| credentials.redact(&title));
    let title = title.map(|title| title.chars().take(MAX_TITLE_CHARS).collect::<String>());
    let titled = title.map_or_else(String::new, |title| format!(" with the title {title:?}"));
    format!("{WEB_PAGE}{titled}, perhaps from a proxy or a login page")
}

/// Returns the title of a web page, without control characters.
fn web_page_title(page: &str) -> Option<String> {
    // Has the same length, so positions in it are positions in the page.
    let lower = page.to_ascii_lowercase();
    let element = lower.find("<title")?;
    let start = element + lower[element..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let words: Vec<_> = page[start..end].split_whitespace().collect();
    let title: String = words.join(" ").chars().filter(|character| !affects_terminal(*character)).collect();
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;
    use crate::error::names_another_location;
    use crate::http_client::SigningCredentials;

    fn error_of(status: u16, headers: &[(&'static str, &str)], document: &str) -> StoreError {
        error_in_dialect(StoreDialect::Oss, status, headers, document)
    }

    fn error_in_dialect(
        dialect: StoreDialect,
        status: u16,
        headers: &[(&'static str, &str)],
        document: &str,
    ) -> StoreError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let read = ErrorDocument::parse(document.as_bytes(), &credentials());
        read.into_failure(status, &map, dialect, &credentials(), "GET x".to_owned()).error
    }

    fn credentials() -> SigningCredentials {
        SigningCredentials::new(Credentials::new("key", "hush", Some("T".repeat(2000)), None, "test"))
    }

    #[test]
    fn a_short_secret_changes_no_value_that_is_compared_or_parsed() {
        let short = |secret: &str| SigningCredentials::new(Credentials::new("key", secret, None, None, "test"));
        let failure = |secret: &str, document: &str| {
            let read = ErrorDocument::parse(document.as_bytes(), &short(secret));
            read.into_failure(400, &HeaderMap::new(), StoreDialect::S3, &short(secret), "GET x".to_owned())
        };
        let time = "<Error><Code>RequestTimeTooSkewed</Code><Message>at 2026</Message>\
                    <ServerTime>2026-01-02T03:04:05Z</ServerTime></Error>";
        let failed = failure("2026", time);
        assert_eq!(failed.server_time, "2026-01-02T03:04:05Z".parse().ok());
        assert_eq!((failed.error.code.as_str(), failed.error.class), ("RequestTimeTooSkewed", FaultClass::Credentials));
        assert_eq!(failed.error.message, "at [hidden]");
        let elsewhere = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message>\
                         <Region>eu-west-1</Region></Error>";
        for secret in ["eu", "west", "Header"] {
            let error = failure(secret, elsewhere).error;
            assert_eq!((error.code.as_str(), error.class), ("AuthorizationHeaderMalformed", FaultClass::Credentials));
            assert!(error.message.contains("set `region = \"eu-west-1\"` in [store]"), "{}", error.message);
        }
        let region = failure("eu-west-1", elsewhere).error.message;
        assert!(region.contains("the region [hidden])") && !region.contains("eu-west-1"), "{region}");
        let etag = "\"20260123456789abcdef0123456789ab-10\"";
        for (secret, shown) in [("2026", etag), ("10", etag), (etag.trim_matches('"'), "\"[hidden]\"")] {
            let headers = HeaderMap::from_iter([(ETAG, etag.parse().expect("a value"))]);
            let (status, body, credentials) = (200, Bytes::new(), Arc::new(short(secret)));
            let response = StoreResponse { status, headers, body, is_read_only: true, credentials };
            assert_eq!(response.content_identity().etag.as_deref(), Some(shown), "{secret}");
        }
        assert_eq!(short("p4ss").redact_value("no p4ss"), "no [hidden]");
    }

    #[test]
    fn secrets_that_a_server_repeats_are_hidden_before_texts_are_truncated() {
        let token = "T".repeat(2000);
        let document = format!(
            "<Error><Code>hush</Code><Message>{}{token}</Message><RequestId>{token}</RequestId><EC>hush!</EC></Error>",
            "m".repeat(1000)
        );
        let error = error_of(403, &[], &document);
        assert_eq!(error.message, format!("{}[hidden]", "m".repeat(1000)));
        assert_eq!(
            (error.code.as_str(), error.request_id.as_str(), error.ec.as_str()),
            ("[hidden]", "[hidden]", "[hidden]!")
        );
        let (encoded, referred) = ("%54".repeat(1000), "&amp;#x54;".repeat(1000));
        let document = format!("<Error><Code>X</Code><Message>{encoded} {referred}</Message></Error>");
        assert_eq!(error_of(403, &[], &document).message, "[hidden]");
        let header = error_of(403, &[("x-oss-request-id", &token), ("x-oss-ec", "hush")], "");
        assert_eq!((header.request_id.as_str(), header.ec.as_str()), ("[hidden]", "[hidden]"));
    }

    #[test]
    fn an_error_document_is_recognized_by_its_root() {
        for error in ["<Error><Code/></Error>", " <?xml version=\"1.0\"?>\n<Error xmlns=\"x\">", "<Error\n>"] {
            assert!(is_error_document(error.as_bytes()), "{error}");
        }
        for other in ["", "<Errors/>", "<Tagging><Error>x</Error></Tagging>", "<?xml", "Error", "<Error"] {
            assert!(!is_error_document(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_servers_code_and_message_are_kept() {
        let document = "<Error><Code>AccessDenied</Code><Message>No right.</Message><RequestId>R1</RequestId>\
                        <HostId>h</HostId><EC>0003-00000001</EC></Error>";
        let error = error_of(403, &[("x-oss-request-id", "R2")], document);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("AccessDenied", "No right."));
        assert_eq!((error.request_id.as_str(), error.ec.as_str()), ("R1", "0003-00000001"));
        let bare = error_of(403, &[("x-oss-request-id", "R2"), ("x-oss-ec", "0003-1"), ("retry-after", "3")], "");
        assert_eq!((bare.code.as_str(), bare.request_id.as_str(), bare.ec.as_str()), ("AccessDenied", "R2", "0003-1"));
        assert_eq!(bare.retry_after.map(std::num::NonZeroU16::get), Some(3));
    }

    #[test]
    fn a_truncated_or_hostile_document_is_read_up_to_its_first_fault() {
        let cut = error_of(400, &[], "<Error><Code>InvalidArgument</Code><Mess");
        assert_eq!((cut.code.as_str(), cut.message.as_str()), ("InvalidArgument", "the server gave no message"));
        let bomb = error_of(400, &[], "<!DOCTYPE x [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>");
        assert_eq!(bomb.code, "BadRequest");
    }

    #[test]
    fn the_error_for_a_wrong_region_is_about_the_credentials_and_names_the_right_one() {
        let document = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is wrong.</Message>\
                        <Region>eu-west-1</Region></Error>";
        let error = error_of(400, &[], document);
        assert_eq!(error.class, FaultClass::Credentials);
        assert_eq!(
            error.message,
            "The region is wrong. (the server expects the region eu-west-1: set `region = \"eu-west-1\"` in [store])"
        );
        // The same code can be about the document.
        let document = "<Error><Code>InvalidArgument</Code><Message>The tag is invalid.</Message></Error>";
        let error = error_of(400, &[("x-amz-bucket-region", "eu-west-1")], document);
        assert_eq!((error.class, error.message.as_str()), (FaultClass::Rejected, "The tag is invalid."));
    }

    #[test]
    fn the_servers_time_is_in_the_header_or_in_the_document() {
        let date = |headers: &[(&'static str, &str)], time: &str| {
            let document = format!("<Error><Code>RequestTimeTooSkewed</Code><ServerTime>{time}</ServerTime></Error>");
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            let read = ErrorDocument::parse(document.as_bytes(), &credentials());
            let date = read.into_failure(403, &map, StoreDialect::Oss, &credentials(), String::new()).server_time;
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
    fn a_redirect_names_the_endpoint_of_the_bucket() {
        let document = "<Error><Code>PermanentRedirect</Code><Message>Use the endpoint.</Message>\
                        <Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>";
        let error = error_in_dialect(StoreDialect::S3, 301, &[("x-amz-bucket-region", "eu-west-1")], document);
        assert_eq!(error.class, FaultClass::Rejected);
        assert_eq!(
            error.message,
            "Use the endpoint; endpoint b.s3.eu-west-1.amazonaws.com; region eu-west-1; nothing was sent there: set \
             `region = \"eu-west-1\"` in [store], and change `endpoint`, if it is set, to \
             \"https://s3.eu-west-1.amazonaws.com\""
        );
        let bare = error_of(302, &[("location", "http://evil.example/")], "");
        assert!(bare.message.contains("endpoint http://evil.example/; nothing was sent there"), "{}", bare.message);
        let hostile = error_of(302, &[("location", "http://a\"b.example/"), ("x-amz-bucket-region", "x\"")], "");
        let ask = "nothing was sent there: ask who runs the store where the bucket is, and set `endpoint` and `region` in [store]";
        assert!(hostile.message.ends_with(ask) && bare.message.ends_with(ask), "{} {}", hostile.message, bare.message);
        let cached = error_of(304, &[("etag", "\"e\"")], "");
        assert_eq!((cached.code.as_str(), cached.class), ("NotModified", FaultClass::Rejected));
        assert!(cached.message.contains("a cache may have answered"), "{}", cached.message);
    }

    #[test]
    fn a_delete_marker_is_named() {
        let marker = ("x-amz-delete-marker", "true");
        assert_eq!(error_of(405, &[marker], "").message, "this version is a delete marker");
        assert_eq!(error_of(404, &[marker], "").message, "the current version is a delete marker");
        assert_eq!(error_of(405, &[], "").message, "the server gave no message");
    }

    #[test]
    fn a_web_page_is_named_by_its_title_without_secrets_and_control_characters() {
        let says = |body: &str| error_of(403, &[], body).message;
        let page = "<!DOCTYPE HTML><HTML><head><Title lang=en>\n Sign \u{1b}[31min,\thush </TITLE></head></HTML>";
        let expected = "the response is a web page with the title \"Sign [31min, [hidden]\", perhaps from a proxy or \
                        a login page";
        assert_eq!(says(page), expected);
        let bare = says("<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"x\"><html><body>502</body></html>");
        assert!(bare.starts_with("the response is a web page, perhaps"), "{bare}");
        let cut = says(&format!("<html><title>{}hush</title>", "x".repeat(MAX_TITLE_CHARS - 2)));
        assert!(cut.contains("xx[h\"") && !cut.contains("hu"), "{cut}");
        let long = says(&format!("<html><title>{}</title>", "ä".repeat(200)));
        assert!(long.contains(&format!("{:?}", "ä".repeat(80))), "{long}");
        for other in ["<htm", "<Error><Code>X</Code></Error>", "", "html", "<title>x</title>"] {
            assert_eq!(says(other), "the server gave no message", "{other}");
        }
    }

    #[test]
    fn a_head_of_a_bucket_in_another_region_is_told_from_other_mistakes() {
        let region = [("x-amz-bucket-region", "eu-west-1")];
        let error = error_in_dialect(StoreDialect::S3, 400, &region, "");
        assert_eq!(
            error.message,
            "the bucket is at another endpoint; region eu-west-1; nothing was sent there: set `region = \
             \"eu-west-1\"` in [store], and change `endpoint`, if it is set, to that of the region"
        );
        let known = "<Error><Code>InvalidTag</Code><Message>No.</Message></Error>";
        assert_eq!(error_in_dialect(StoreDialect::S3, 400, &region, known).message, "No.");
        assert_eq!(error_in_dialect(StoreDialect::S3, 404, &region, "").message, "the server gave no message");
    }

    #[test]
    fn a_bucket_in_another_region_of_oss_is_not_a_missing_permission() {
        let document = "<Error><Code>AccessDenied</Code><Message>The bucket you are attempting to access must be addressed \
                        using the specified endpoint. Please send all future requests to this endpoint.</Message>\
                        <Endpoint>oss-cn-shanghai.aliyuncs.com</Endpoint></Error>";
        let error = error_of(403, &[], document);
        assert!(names_another_location(&error));
        assert!(
            error.message.ends_with(
                "; endpoint oss-cn-shanghai.aliyuncs.com; nothing was sent there: set `endpoint = \
                 \"https://oss-cn-shanghai.aliyuncs.com\"` and `region = \"cn-shanghai\"` in [store]"
            ),
            "{}",
            error.message
        );
        assert!(!names_another_location(&error_of(403, &[], "<Error><Code>AccessDenied</Code></Error>")));
    }

    #[test]
    fn the_endpoint_of_a_service_is_named_without_the_bucket() {
        for (named, endpoint) in [
            ("b.s3.eu-west-1.amazonaws.com", Some("https://s3.eu-west-1.amazonaws.com")),
            ("s3.b.s3-eu-west-1.amazonaws.com", Some("https://s3-eu-west-1.amazonaws.com")),
            ("b.c.s3-us-west-2.amazonaws.com", Some("https://s3-us-west-2.amazonaws.com")),
            ("https://b.s3.cn-north-1.amazonaws.com.cn/key?tagging", Some("https://s3.cn-north-1.amazonaws.com.cn")),
            ("b.oss-cn-beijing-internal.aliyuncs.com", Some("https://oss-cn-beijing-internal.aliyuncs.com")),
            ("http://B.S3.dualstack.eu-west-1.AMAZONAWS.com/", Some("https://s3.dualstack.eu-west-1.amazonaws.com")),
            // The hosts of others are not advised.
            ("http://127.0.0.1:9000/bkt/k", None),
            ("b.minio.example", None),
            ("s3.evil.amazonaws.example.org", None),
            ("s3.amazonaws.com.evil.example", None),
            ("oss-cn-beijing.aliyuncs.com.evil.example", None),
            ("s3.amazonaws.com@evil.example", None),
            ("s3-evil.eu-west-1.elb.amazonaws.com", None),
            ("ec2-192-0-2-1.eu-west-1.compute.amazonaws.com", None),
            ("s3-evil.eu-west-1.es.amazonaws.com", None),
            ("oss-evil.cn-hangzhou.log.aliyuncs.com", None),
            ("b.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", None),
            ("ftp://s3.eu-west-1.amazonaws.com", None),
            ("a b", None),
            ("user@host", None),
            ("", None),
        ] {
            assert_eq!(service_endpoint(named).as_deref(), endpoint, "{named}");
        }
        assert_eq!(oss_region("https://oss-cn-beijing-internal.aliyuncs.com"), Some("cn-beijing"));
        assert_eq!(oss_region("https://oss-accelerate.aliyuncs.com"), None);
    }
}
