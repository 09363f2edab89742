//! S3 and everything that speaks it: single objects and listings through the lean client, the contents of objects
//! through the AWS SDK.
//!
//! The SDK's own retries are off, so that every attempt is seen and paced by whoever asked for it, and its endpoint
//! and region come from the plan alone: nothing in the environment can send a plan's requests, or the credentials
//! they are signed with, to another host. Both go by one clock, which the server may put right.

mod blank;
mod fault;
mod transfer;

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;

use super::site::Site;
use super::wire::{Clock, Dialect, Signed, Wire, query};
use super::{
    Addressing, BucketFact, BucketQuestion, Cabinet, Content, Created, ListPage, ListRequest, Opened, Store,
    StoreConfig,
};
use crate::call::{Call, Reply};
use crate::object::{Bucket, Key, MAX_KEY_BYTES, ObjectId};
use crate::task::Fault;
use crate::web::CONNECT_TIMEOUT;
use blank::BlankKeys;

/// How long a server may stay silent over one request, uploads excepted.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// An S3 server.
pub struct S3Store {
    wire: Wire,
    client: Client,
    blank: BlankKeys,
    site: Site,
}

/// The clock, as the SDK wants it.
#[derive(Debug)]
struct SdkClock(Arc<Clock>);

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}

impl S3Store {
    /// A store at the configured endpoint, or at AWS's for the region, signing with these credentials.
    ///
    /// # Errors
    /// When the system has no certificates to check the server by.
    pub fn new(
        config: &StoreConfig,
        region: &str,
        credentials: SharedCredentialsProvider,
        http: SharedHttpClient,
    ) -> io::Result<Self> {
        let site = match &config.endpoint {
            Some(endpoint) => Site::new(endpoint, config.addressing),
            None => Site::of_aws(region, config.addressing),
        };
        let clock = Arc::new(Clock::default());
        let wire = Wire::new(site.clone(), Dialect::S3, region, credentials, Arc::clone(&clock))?;
        let blank = BlankKeys::new();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let sdk = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(wire.credentials())
            .identity_cache(IdentityCache::no_cache())
            .region(Region::new(region.to_owned()))
            .endpoint_url(site.endpoint())
            .time_source(SdkClock(clock))
            .force_path_style(config.addressing == Addressing::Path)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(blank.clone());
        Ok(Self { wire, client: Client::from_conf(sdk.build()), blank, site })
    }
}

#[async_trait]
impl Store for S3Store {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        self.wire.call(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        self.wire.page(request).await
    }

    async fn bucket(&self, bucket: &Bucket, question: BucketQuestion) -> Result<BucketFact, Fault> {
        self.wire.setting(bucket, question).await
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.open(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.put(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        let (method, resource) = call.request();
        self.site.request(method, &object.bucket, &object.key, &query(resource, object.version.as_ref()))
    }

    fn refuses_key(&self, key: &Key) -> Option<&'static str> {
        if key.as_bytes().is_empty() {
            Some("the key is empty")
        } else if key.as_bytes().len() > MAX_KEY_BYTES {
            Some("the key is longer than 1024 bytes")
        } else if key.as_str().is_err() {
            Some("the key is not UTF-8, and S3 carries no other")
        } else {
            None
        }
    }
}

#[async_trait]
impl Cabinet for S3Store {
    async fn create(&self, bucket: &Bucket, key: &Key, content: Bytes) -> Result<Created, Fault> {
        self.wire.create(bucket, key, content).await
    }

    async fn remove(&self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        self.wire.remove(bucket, key).await
    }
}

impl S3Store {
    /// The fault of a request that the SDK sent.
    async fn fault<E>(&self, error: SdkError<E, HttpResponse>, endpoint: String, signed: &Signed) -> Fault
    where
        E: ProvideErrorMetadata + RequestId + StdError + Send + Sync + 'static,
    {
        self.wire.judged(fault::refused(error, endpoint, signed), signed).await
    }
}
