//! Connections to all servers, and requests to servers other than stores.
//!
//! Every connection of the program is opened here, so that proxies, CA certificates and time limits apply to all of
//! them alike.
//!
//! | file | contents |
//! |---|---|
//! | `client` | requests to STS, webhooks and GitHub |
//! | `connector` | opening a connection: directly or through a proxy, with or without TLS |
//! | `connect_error` | why there is no connection, and what to do about it |
//! | `http1` | HTTP/1 with the limits of all connections |
//! | `proxy` | the proxy variables, and which hosts are connected to directly |
//! | `ca` | the CA certificates that servers are verified with |
//! | `url` | URLs and hosts |

mod ca;
mod client;
mod connect_error;
mod connector;
mod http1;
mod proxy;
mod url;

pub use client::{WebClient, WebRequest, WebRequestError, WebRequestLimits, WebResponse, WebResponseHead};
pub use connect_error::{ConnectError, ConnectionSetupError};
pub use connector::{CONNECT_TIMEOUT, ConnectionSettings, ConnectionStream, OriginConnector};
pub use http1::root_cause;
pub use proxy::IgnoredBypass;
pub(crate) use url::authority_problem;
pub use url::{HttpUrl, HttpUrlError, host_of, is_loopback};

pub(crate) use connector::proxy_secrets;
pub(crate) use http1::{
    CLOSES_OR_SENDS_EARLY, ResponseHeaderLimit, closes_or_sends_early, describe_response_error, http1_builder,
};
