//! Web requests that are no store's: a few small messages, each bounded in time and size.
//!
//! | file | what is in it |
//! |---|---|
//! | `url` | where a message goes, and what of it may be shown |
//! | `connect` | connections, for whoever makes them |
//! | `client` | one request, one answer |
//!
//! A request is sent once, over a connection of its own, straight to the host of its URL: no redirect is followed, and no
//! proxy is asked. Servers are checked by the system's certificates, or those of the bundle that `SSL_CERT_FILE` names.

mod client;
mod connect;
mod url;

#[cfg(test)]
mod client_tests;

pub use client::{Answer, Bounds, Client, Head, Message, SendError};
pub use connect::{CONNECT_TIMEOUT, Connector, Io, innermost, speaks_first};
pub use url::{Url, UrlFault, host_of, is_loopback};
