//! S3 and everything that speaks it, through the AWS SDK.
//!
//! The SDK's own retries are off, so that every attempt is seen and paced by whoever asked for it, and its endpoint
//! and region come from the plan alone: nothing in the environment can send a plan's requests, or the credentials
//! they are signed with, to another host.

mod blank;
mod calls;
mod fault;
mod listing;
mod transfer;
mod url;

use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{Addressing, Content, ListPage, ListRequest, Opened, Store, StoreConfig};
use crate::call::{Call, Reply};
use crate::object::{Bucket, Key, MAX_KEY_BYTES, ObjectId};
use crate::task::Fault;
use blank::BlankKeys;
use url::Urls;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may stay silent over one request, uploads excepted.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// An S3 server.
pub struct S3Store {
    client: Client,
    blank: BlankKeys,
    urls: Urls,
}

impl S3Store {
    /// A store at the configured endpoint, or at AWS's for the region, signing with these credentials.
    #[must_use]
    pub fn new(
        config: &StoreConfig,
        region: &str,
        credentials: SharedCredentialsProvider,
        http: SharedHttpClient,
    ) -> Self {
        let blank = BlankKeys::new();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let mut sdk = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(credentials)
            .region(Region::new(region.to_owned()))
            .force_path_style(config.addressing == Addressing::Path)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(calls::ContentMd5)
            .interceptor(blank.clone());
        if let Some(endpoint) = &config.endpoint {
            sdk = sdk.endpoint_url(endpoint);
        }
        let endpoint = config.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        Self { client: Client::from_conf(sdk.build()), blank, urls: Urls::new(&endpoint, config.addressing) }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        self.send_call(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        if request.all_versions { self.list_versions(request).await } else { self.list_current(request).await }
    }

    async fn read(&self, bucket: &Bucket, key: &Key, if_match: Option<&str>) -> Result<Opened, Fault> {
        self.open(bucket, key, if_match).await
    }

    async fn write(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        self.put(bucket, key, content, md5).await
    }

    fn request_url(&self, object: &ObjectId, call: &Call) -> String {
        let (method, resource) = call.request();
        let mut query = resource.to_owned();
        if let Some(version) = &object.version {
            let joint = if query.is_empty() { "" } else { "&" };
            query = format!("{query}{joint}versionId={}", version.as_str());
        }
        self.urls.request(method, &object.bucket, &object.key, &query)
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

/// A prefix or marker as the SDK wants it. [`Store::refuses_key`] keeps keys that are not UTF-8 away from here.
fn text(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
