//! HTTP/1 with the limits that apply to every server, and what is wrong with a response that exceeds them.

use std::error::Error;
use std::time::Duration;

use hyper::client::conn::http1::Builder;

/// The maximum size of a response head, in bytes. Servers send a few hundred.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The maximum number of response headers. hyper's default is 100, but an object's own metadata can be more: AWS S3 allows
/// 2 KB of it, and Alibaba Cloud OSS 8 KB. hyper reserves space for this many with each response, so a request costs
/// measurably more with 1,000, but not with 500.
const MAX_HEADERS: usize = 500;

/// How long a new connection is checked for early data before the first request. Data that arrives in this time
/// cannot be a response.
const EARLY_DATA_WAIT: Duration = Duration::from_millis(1);

/// Why a new connection is not used, if [`closes_or_sends_early`] returns true.
pub(crate) const CLOSES_OR_SENDS_EARLY: &str = "the server closes the connection, or sends data before a request";

/// Returns the settings of all connections.
pub(crate) fn http1_builder() -> Builder {
    let mut builder = Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    builder
}

/// Returns whether a new connection is unusable, because the server closed it or sent data before the first request.
/// That data would be taken for the response to the first request. If this returns true, the connection's future must
/// not be polled again.
pub(crate) async fn closes_or_sends_early(connection: impl Future + Unpin) -> bool {
    tokio::time::timeout(EARLY_DATA_WAIT, connection).await.is_ok()
}

/// Describes why there is no response on a connection that was established. `unread` is what the server sent.
pub(crate) fn describe_response_error(error: &hyper::Error, unread: &[u8]) -> String {
    // An alert is the only thing that a TLS server sends in response to plain HTTP (RFC 8446, section 5.1).
    if error.is_parse() && unread.starts_with(&[21, 3]) {
        return "the server speaks TLS on this port: use https://".to_owned();
    }
    if error.is_parse_too_large() {
        let kib = MAX_HEAD_BYTES >> 10;
        return format!("the response has more than {MAX_HEADERS} headers, or more than {kib} KiB of them");
    }
    root_cause(error)
}

/// Returns the message of the innermost source. It is the most specific one: "connection refused" instead of "error
/// trying to connect".
#[must_use]
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
