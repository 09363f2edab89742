//! The object storage client of batchplan: the [`Store`] trait, and its implementations for S3 and OSS.
//!
//! A store sends exactly one request per call and never retries, so that the caller sees, counts and rate-limits
//! every attempt. Each error is classified once, in this crate, by what the caller must do
//! ([`FaultClass`](task::FaultClass)).
//!
//! | module | contents |
//! |---|---|
//! | `store` | the [`Store`] trait, the values of its methods, a wrapper that refuses writes, and a stand-in |
//! | [`object`] | buckets, keys, versions, tags, ACLs, and what is known about an object |
//! | [`object_request`] | the requests for one object, and their responses |
//! | `listing` | the pages of a listing, and where it continues after each |
//! | [`task`] | one object on its way through a job: its row, and its outcome |
//! | [`backoff`], [`timeouts`] | when a request is sent again, and how long a server may take |
//! | `http_store` | the implementation for S3 and OSS, and connecting to a store |
//! | [`http_client`] | the HTTP client that it sends its requests with |
//! | `credentials` | where credentials come from, and how they are checked |
//! | [`error`] | errors, classified by what the caller must do; what each error code means, and a hint for it |
//! | `unsupported_bucket` | what AWS has in the place of a bucket that the client cannot work on |
//! | `redact` | removes secrets from the texts of servers |
//! | `provider` | what the client knows about each provider, the configuration of a store, and its endpoint |
//! | `endpoint`, `partition` | the URL of an endpoint, and AWS's partitions with the host names of their regions |
//! | [`web`] | connections to all servers, with proxies and CA certificates; requests to STS, webhooks, GitHub |
//! | [`hex`], [`printable`], [`xml`] | encodings, safe text, XML |
//! | `mutex` | the mutex of this crate and of the program |
//!
//! The macro [`enum_with_all!`] defines an enum with a list of all its variants.

pub mod backoff;
mod credentials;
mod endpoint;
pub mod error;
pub mod hex;
pub mod http_client;
mod http_store;
mod listing;
mod mutex;
pub mod object;
pub mod object_request;
mod partition;
pub mod printable;
mod provider;
mod redact;
mod store;
pub mod task;
pub mod timeouts;
mod unsupported_bucket;
pub mod web;
pub mod xml;

pub use credentials::{EndpointSettingError, read_aws_endpoint_settings};
pub use endpoint::{EndpointUrl, EndpointUrlError};
pub use http_store::{HttpStore, StoreConnectError, connect, connect_with_keys, with_aws_endpoint_settings};
pub use listing::{
    InexactName, ListCursor, ListPage, ListPosition, ListRequest, ListedObject, MAX_ETAG_BYTES, MAX_LISTED_KEY_BYTES,
};
pub use mutex::Mutex;
pub use partition::{EndpointVariant, PARTITIONS, Partition, s3_endpoint};
pub use provider::{
    AddressingStyle, AwsEndpointSettings, ConfiguredEndpoint, ConfiguredRegion, EndpointSource, ProviderProfile,
    RegionSource, StoreConfig, StoreProvider,
};
pub use store::{
    BucketSetting, BucketSettingValue, BucketVersioning, ConditionalPutOutcome, ObjectContent, OpenedObject,
    OwnershipSetting, ReadOnlyStore, Store, TagLifecycleRule, UnreachableStore,
};
pub use unsupported_bucket::UnsupportedBucket;

/// Defines an enum without data and its constant `ALL`, which lists every variant in the order of declaration. Both
/// come from one list, so `ALL` is always complete, and `variant as usize` is an index into it.
#[macro_export]
macro_rules! enum_with_all {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All variants, in the order of declaration.
            $vis const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }
    };
}
