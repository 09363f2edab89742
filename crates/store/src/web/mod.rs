//! HTTP requests to servers other than stores: a few small requests, each bounded in time and size.
//!
//! | file | contents |
//! |---|---|
//! | `url` | request URLs, and which part of them may be shown |
//! | `connect` | connections with and without TLS; `store` uses it as well |
//! | `client` | one request, one response |
//!
//! Each request is sent once, over its own connection, directly to the host of its URL. Redirects are not followed
//! and proxies are not used. Server certificates are verified with the system's CA certificates, or with the bundle
//! that `SSL_CERT_FILE` names.

mod client;
mod connect;
mod url;

#[cfg(test)]
mod client_tests;

pub use client::{WebClient, WebRequest, WebRequestError, WebRequestLimits, WebResponse, WebResponseHead};
pub use connect::{CONNECT_TIMEOUT, ConnectionStream, WebConnector, closes_or_sends_early, root_cause};
pub use url::{HttpUrl, HttpUrlError, host_of, is_loopback};
