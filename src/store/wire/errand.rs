//! Requests to a host that is not a store, such as an STS: few, small, and limited in size.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};

use super::MAX_LANES;
use super::host::Host;
use super::lane::{Arriving, Lost};
use super::outgoing::Outgoing;
use crate::timeouts::TimedOut;
use crate::web::{Connector, innermost};

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// A client for occasional requests to one host. Does not follow redirects.
pub(in crate::store) struct Errand {
    host: Arc<Host>,
    authority: String,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum NoAnswer {
    /// The connection could not be established. Nothing was sent.
    #[error("{0}")]
    Unconnected(String),
    /// The server may have received the request.
    #[error("no answer could be read: {0}")]
    Unread(String),
}

impl Errand {
    /// Creates a client for the host of this URL, which has no path and no query.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the host with, or if the URL is invalid.
    pub(in crate::store) fn new(endpoint: &str) -> io::Result<Self> {
        let url: Uri = endpoint.parse().map_err(io::Error::other)?;
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let connector = Connector::new(url.scheme_str() != Some("http"))?;
        Ok(Self { host: Arc::new(Host::new(connector, url)), authority })
    }

    /// Returns host and port, as in the `Host` header.
    pub(in crate::store) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends a request and reads the whole response, with any status. The caller bounds the time.
    ///
    /// # Errors
    /// Returns an error if there is no response, or if its body exceeds 64 KiB.
    pub(in crate::store) async fn run(&self, request: Request<Bytes>) -> Result<(Parts, Bytes), NoAnswer> {
        let mut request = request.map(Outgoing::from);
        for _ in 0..MAX_LANES {
            let connected = self.host.lane().await;
            let mut lane = connected.map_err(|why| NoAnswer::Unconnected(why.to_string()))?;
            match lane.send(request, &|_, _| {}).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(Arriving::new(lane, body, Arc::clone(&self.host)), MAX_ANSWER);
                    let whole = body.collect().await.map_err(|error| NoAnswer::Unread(innermost(&*error)))?;
                    return Ok((head, whole.to_bytes()));
                }
                Err(Lost::Unsent(again)) => request = *again,
                Err(Lost::Sent(error)) => return Err(NoAnswer::Unread(innermost(&error))),
                Err(Lost::Unanswered(time)) => return Err(NoAnswer::Unread(TimedOut(time).to_string())),
                Err(Lost::Stalled(stalled)) => return Err(NoAnswer::Unread(format!("it has taken {stalled}"))),
            }
        }
        Err(NoAnswer::Unconnected("the server closes every connection".to_owned()))
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("authority", &self.authority).finish_non_exhaustive()
    }
}
