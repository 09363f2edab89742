//! HTTP/1 with the limits that apply to every server, and what is wrong with a response that exceeds them.

use std::error::Error;
use std::time::Duration;

use hyper::client::conn::http1::Builder;

/// The maximum size of a response head, in bytes. Servers send a few hundred.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How many headers the responses on a connection may have.
///
/// For more than 100, hyper allocates and clears 32 KiB with each response: 3 to 4 % of the cost of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResponseHeaderLimit {
    /// 100, hyper's default.
    Standard,
    /// Enough for an object's own metadata: AWS S3 allows 2 KB of it, and Alibaba Cloud OSS 8 KB.
    WithMetadata,
}

impl ResponseHeaderLimit {
    const fn count(self) -> usize {
        match self {
            Self::Standard => 100,
            Self::WithMetadata => 1000,
        }
    }
}

/// How long a new connection is checked for early data before the first request. Data that arrives in this time
/// cannot be a response.
const EARLY_DATA_WAIT: Duration = Duration::from_millis(1);

/// Why a new connection is not used, if [`closes_or_sends_early`] returns true.
pub(crate) const CLOSES_OR_SENDS_EARLY: &str = "the server closes the connection, or sends data before a request";

/// Returns the settings of a connection.
pub(crate) fn http1_builder(headers: ResponseHeaderLimit) -> Builder {
    let mut builder = Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    if headers != ResponseHeaderLimit::Standard {
        // Even hyper's own default allocates if it is set.
        builder.max_headers(headers.count());
    }
    builder
}

/// Returns whether a new connection is unusable, because the server closed it or sent data before the first request.
/// That data would be taken for the response to the first request. If this returns true, the connection's future must
/// not be polled again.
pub(crate) async fn closes_or_sends_early(connection: impl Future + Unpin) -> bool {
    tokio::time::timeout(EARLY_DATA_WAIT, connection).await.is_ok()
}

/// Describes why there is no response on a connection that was established. `unread` is what the server sent.
pub(crate) fn describe_response_error(error: &hyper::Error, headers: ResponseHeaderLimit, unread: &[u8]) -> String {
    // An alert is the only thing that a TLS server sends in response to plain HTTP (RFC 8446, section 5.1).
    if error.is_parse() && unread.starts_with(&[21, 3]) {
        return "the server speaks TLS on this port: use https://".to_owned();
    }
    if error.is_parse_too_large() {
        let (headers, kib) = (headers.count(), MAX_HEAD_BYTES >> 10);
        return format!("the response has more than {headers} headers, or more than {kib} KiB of them");
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
