//! Requests to a host that is not a store, such as an STS: few, small, and limited in size.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};

use super::connection::{ConnectionPool, ConnectionSendError, MAX_CONNECTIONS_TRIED, RequestBody};
use crate::timeouts::TimeLimitError;
use crate::web::{WebConnector, root_cause};

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// A client for occasional requests to one host. Does not follow redirects.
pub(crate) struct StsClient {
    pool: Arc<ConnectionPool>,
    authority: String,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StsClientError {
    /// The connection could not be established. Nothing was sent.
    #[error("{0}")]
    ConnectFailed(String),
    /// The server may have received the request.
    #[error("the response could not be read: {0}")]
    UnreadableResponse(String),
}

impl StsClient {
    /// Creates a client for the host of this URL, which has no path and no query.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the host with, or if the URL is invalid.
    pub(crate) fn new(endpoint: &str) -> io::Result<Self> {
        let url: Uri = endpoint.parse().map_err(io::Error::other)?;
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let connector = WebConnector::new(url.scheme_str() != Some("http"))?;
        Ok(Self { pool: Arc::new(ConnectionPool::new(connector, url)), authority })
    }

    /// Returns host and port, as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends a request and reads the whole response, with any status. The caller bounds the time.
    ///
    /// # Errors
    /// Returns an error if there is no response, or if its body exceeds 64 KiB.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<(Parts, Bytes), StsClientError> {
        let mut request = request.map(RequestBody::from);
        for _ in 0..MAX_CONNECTIONS_TRIED {
            let connected = self.pool.acquire().await;
            let connection = connected.map_err(|why| StsClientError::ConnectFailed(why.to_string()))?;
            match connection.send(request, &|_, _| {}, &self.pool).await {
                Ok((head, body)) => {
                    let whole = Limited::new(body, MAX_ANSWER)
                        .collect()
                        .await
                        .map_err(|error| StsClientError::UnreadableResponse(root_cause(&*error)))?;
                    return Ok((head, whole.to_bytes()));
                }
                Err(ConnectionSendError::NotSent(again)) => request = *again,
                Err(ConnectionSendError::Interrupted(error)) => {
                    return Err(StsClientError::UnreadableResponse(root_cause(&error)));
                }
                Err(ConnectionSendError::NoResponse(time)) => {
                    return Err(StsClientError::UnreadableResponse(TimeLimitError(time).to_string()));
                }
                Err(ConnectionSendError::UploadStalled(stalled)) => {
                    return Err(StsClientError::UnreadableResponse(format!("the server accepted {stalled}")));
                }
            }
        }
        Err(StsClientError::ConnectFailed("the server closes every connection".to_owned()))
    }
}

impl fmt::Debug for StsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("authority", &self.authority).finish_non_exhaustive()
    }
}
