//! The HTTP client that sends all requests of the S3 and OSS stores.
//!
//! A request for one object is tiny, so the client itself is most of its cost. This client does only what is
//! necessary: it signs with a key that is cached for the day, uses kept-alive connections, and reads small responses
//! into small buffers.
//!
//! | file | contents |
//! |---|---|
//! | `client` | the client of one store: builds, signs and sends a request with its payload |
//! | `connection` | connections, and the bodies that they send and receive |
//! | `sign` | the two signature schemes, and the clock whose time is signed |
//! | `credential_cache` | the credentials to sign with, and their renewal |
//! | `date` | the forms of dates that servers write |
//! | `dialect` | the header names and documents of S3 and OSS |
//! | `response` | responses: read with limits, classified once |
//! | `object_requests` | requests for one object: its tags, ACL, restore and HEAD, and its content, also in parts |
//! | `list_page` | the pages of a listing |
//! | `bucket_setting` | bucket settings |

mod bucket_setting;
mod client;
mod connection;
mod credential_cache;
mod date;
mod dialect;
mod list_page;
mod object_requests;
mod response;
mod sign;

pub(crate) use client::StoreHttpClient;
pub(crate) use credential_cache::redact_credentials;
pub use credential_cache::{CredentialCache, NoCredentialsError, SigningCredentials};
pub(crate) use dialect::StoreDialect;
pub(crate) use object_requests::object_query;
pub use sign::{
    AwsV4Signer, HeaderPair, OssV4Signer, SignatureScheme, SigningClock, SigningTimestamp, UnsignedRequest,
};
