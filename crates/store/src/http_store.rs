//! The stores that batchplan works on, and connecting to them: AWS S3 and S3-compatible servers, and Alibaba Cloud OSS
//! through its native API.
//!
//! OSS's S3-compatible API has no tagging, no restore and no `default` ACL. The two APIs differ in the names and
//! documents of [`StoreDialect`], and in how an object is written.
//!
//! The plan decides which endpoint is used. For AWS, if the plan names none, the environment may name one, as for AWS's
//! own tools. The caller has put it into the configuration and has shown it: [`connect`] refuses to connect if the
//! environment now names another one.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use bytes::Bytes;

use crate::credentials::{
    self, CredentialSettingError, EndpointSettingError, ProfileError, SessionError, read_aws_endpoint_settings,
};
use crate::error::StoreError;
use crate::http_client::{StoreDialect, StoreHttpClient, object_query};
use crate::listing::{ListPage, ListRequest};
use crate::object::{BucketName, ObjectId, ObjectKey};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse};
use crate::partition::{Partition, is_aws_region, s3_endpoint, similar_aws_region};
use crate::provider::{
    AddressingStyle, AwsEndpointSettings, EndpointSource, ProviderProfile, StoreConfig, StoreEndpoint, StoreProvider,
};
use crate::store::{BucketSetting, BucketSettingValue, ConditionalPutOutcome, ObjectContent, OpenedObject, Store};
use crate::unsupported_bucket::UnsupportedBucket;
use crate::web::{ConnectionSettings, ConnectionSetupError, root_cause};

/// A store with the API of S3 or of OSS.
pub struct HttpStore {
    client: StoreHttpClient,
    /// Whether the service rejects every key that is not UTF-8. Other servers may store any bytes, such as the file
    /// names of a gateway to a file system.
    requires_utf8: bool,
    /// The `unsupported_bucket` of the provider.
    unsupported_bucket: fn(&str) -> Option<UnsupportedBucket>,
    /// The `has_tenants` of the provider.
    has_tenants: bool,
}

impl HttpStore {
    /// Creates a store with the API of S3 at the configured endpoint, or at AWS's endpoint for the region, that signs
    /// with these credentials.
    ///
    /// # Errors
    /// Returns an error if no connection can be opened, because of a proxy variable or the CA certificates.
    pub fn s3(
        config: &StoreConfig,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, ConnectionSetupError> {
        Self::s3_through(ConnectionSettings::of_process(), config, region, credentials)
    }

    /// Like [`Self::s3`], with these proxies and CA certificates.
    fn s3_through(
        connections: Arc<ConnectionSettings>,
        config: &StoreConfig,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, ConnectionSetupError> {
        let own = || s3_endpoint(region, config.aws_endpoints.variant());
        let url = config.effective_endpoint().map_or_else(own, str::to_owned);
        let endpoint = StoreEndpoint::new(&url, config.effective_addressing());
        let client = StoreHttpClient::new(endpoint, StoreDialect::S3, region, credentials, connections)?;
        let &ProviderProfile { unsupported_bucket, has_tenants, .. } = config.provider.profile();
        let has_tenants = has_tenants && !config.is_first_party();
        Ok(Self { client, requires_utf8: config.is_first_party(), unsupported_bucket, has_tenants }
            .requester_pays(config.requester_pays))
    }

    /// Creates a store with the API of OSS at an endpoint: Alibaba Cloud OSS in one region (`cn-hangzhou`), or another
    /// server. It signs with these credentials.
    ///
    /// # Errors
    /// Returns an error if no connection can be opened, because of a proxy variable or the CA certificates.
    pub fn oss(
        endpoint: &str,
        addressing: AddressingStyle,
        region: &str,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, ConnectionSetupError> {
        let (endpoint, connections) = (StoreEndpoint::new(endpoint, addressing), ConnectionSettings::of_process());
        let client = StoreHttpClient::new(endpoint, StoreDialect::Oss, region, credentials, connections)?;
        Ok(Self { client, requires_utf8: true, unsupported_bucket: |_| None, has_tenants: false })
    }

    /// Says in every request that the caller pays for it, if `requester_pays` is set.
    #[must_use]
    pub fn requester_pays(self, requester_pays: bool) -> Self {
        if requester_pays { Self { client: self.client.with_requester_pays(), ..self } } else { self }
    }
}

#[async_trait]
impl Store for HttpStore {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        self.client.send_object_request(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.client.list_page(request).await
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        setting: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.client.bucket_setting(bucket, setting).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.client.read(bucket, key, if_match).await
    }

    async fn resume_read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        etag: &str,
        from: u64,
    ) -> Result<OpenedObject, StoreError> {
        self.client.resume_read(bucket, key, etag, from).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        match self.client.dialect() {
            StoreDialect::S3 => self.client.write(bucket, key, content, md5).await,
            StoreDialect::Oss => self.client.write_in_parts(bucket, key, content, md5).await,
        }
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        let (method, resource) = call.method_and_subresource();
        let query = object_query(resource, object.version.as_ref());
        self.client.endpoint().request_line(method, &object.bucket, &object.key, &query)
    }

    fn body_identity(&self, call: &ObjectRequest) -> ContentIdentity {
        self.client.body_identity(call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.client.dialect().unsupported_key_reason(key, self.requires_utf8)
    }

    fn unsupported_bucket(&self, name: &str) -> Option<UnsupportedBucket> {
        (self.unsupported_bucket)(name)
    }

    fn has_tenants(&self) -> bool {
        self.has_tenants
    }

    fn untiered_class(&self) -> Option<&'static str> {
        self.client.dialect().untiered_class()
    }

    fn names_version_of_acl(&self) -> bool {
        self.client.dialect().names_version_of_acl()
    }

    async fn put_if_absent(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<ConditionalPutOutcome, StoreError> {
        self.client.put_if_absent(bucket, key, content).await
    }

    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), StoreError> {
        self.client.delete(bucket, key).await
    }
}

/// Why the connection to a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreConnectError {
    /// No usable credentials were found.
    #[error("{}", describe_no_credentials(.source))]
    NoCredentials {
        /// The provider that needs the credentials.
        provider: StoreProvider,
        /// The reason.
        source: CredentialsError,
    },
    /// The plan's role could not be assumed: access was denied, or the role does not exist.
    #[error("{}", root_cause(.0))]
    RoleNotAssumed(#[source] CredentialsError),
    /// The plan names no endpoint. Plan validation rejects such plans earlier.
    #[error("no endpoint: the plan's [store] sets none")]
    NoEndpoint,
    /// Neither the plan nor the environment names a region.
    #[error("no region: neither the plan's [store] nor the environment sets one")]
    NoRegion,
    /// The region cannot be one of AWS's.
    #[error("{region:?} is not a region of AWS")]
    NotAnAwsRegion {
        /// The name.
        region: String,
        /// The region that is probably meant.
        similar: Option<String>,
    },
    /// No connection can be opened, because of a proxy variable or the CA certificates.
    #[error(transparent)]
    InvalidSetup(#[from] ConnectionSetupError),
    /// A setting of the environment for AWS's endpoints cannot be obeyed.
    #[error(transparent)]
    EndpointSetting(#[from] EndpointSettingError),
    /// The environment names another endpoint than the one that the work was shown, saved or begun with.
    #[error("the endpoint{service} has changed: it was {before}, and is now {now}")]
    EndpointChanged {
        /// The service, as in ` of STS`. Empty for that of the store.
        service: &'static str,
        /// The endpoint that the work belongs to, with the setting that selected it.
        before: String,
        /// The endpoint that the environment selects now.
        now: String,
    },
    /// AWS has no FIPS endpoints in the partition of the region.
    #[error("{setting} requests a FIPS endpoint, but S3 has none in the region {region}")]
    NoFipsEndpoint {
        /// The setting.
        setting: String,
        /// The region.
        region: String,
    },
}

/// Describes why there are no credentials. An error about a profile or a region is another one: there may be credentials
/// elsewhere.
fn describe_no_credentials(source: &CredentialsError) -> String {
    let why = root_cause(source);
    let is_about_profile = find_cause::<ProfileError>(source).is_some();
    let is_about_region = matches!(find_cause(source), Some(CredentialSettingError::InvalidRegion(_)));
    if is_about_profile || is_about_region { why } else { format!("no credentials: {why}") }
}

/// Returns the first cause of this type.
fn find_cause<T: Error + 'static>(error: &CredentialsError) -> Option<&T> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Returns the configuration with the endpoints that the environment selects. `known` are those that the work was shown,
/// saved or begun with, if it was.
///
/// # Errors
/// Returns an error if the active profile is missing, if a setting cannot be obeyed, or if the environment selects
/// another endpoint of S3 or STS than the known one.
pub async fn with_aws_endpoint_settings(
    config: &StoreConfig,
    known: Option<&AwsEndpointSettings>,
) -> Result<StoreConfig, StoreConnectError> {
    if !config.reads_aws_endpoints() {
        return Ok(config.clone());
    }
    credentials::check_aws_profile().await.map_err(|error| StoreConnectError::NoCredentials {
        provider: config.provider,
        source: CredentialsError::provider_error(error),
    })?;
    let found = read_aws_endpoint_settings(config).await?;
    let with = |settings: &AwsEndpointSettings| StoreConfig { aws_endpoints: settings.clone(), ..config.clone() };
    let found = with(&found);
    if let Some(known) = known {
        if known.region.is_some() && found.has_region_of_environment() && found.aws_endpoints.region.is_none() {
            return Err(StoreConnectError::NoRegion);
        }
        // The work could otherwise continue in another place, or with another identity.
        let both = with(known).environment_choices().into_iter().zip(found.environment_choices());
        for ((service, before), (_, now)) in both {
            if !before.is_same(&now) {
                let (before, now) = (before.to_string(), now.to_string());
                return Err(StoreConnectError::EndpointChanged { service, before, now });
            }
        }
    }
    Ok(found)
}

impl StoreConnectError {
    /// Returns whether credentials were found but are invalid. The message then names the setting to correct.
    #[must_use]
    pub fn has_invalid_credentials(&self) -> bool {
        matches!(self, Self::NoCredentials { source: CredentialsError::InvalidConfiguration(_), .. })
    }

    /// Returns what to do about the setting that is the reason, if one is.
    #[must_use]
    pub fn setting_help(&self) -> Option<String> {
        match self {
            Self::NoCredentials { source, .. } | Self::RoleNotAssumed(source) => {
                find_cause(source).map(CredentialSettingError::help)
            }
            Self::NotAnAwsRegion { similar: Some(similar), .. } => Some(format!("did you mean {similar}?")),
            Self::NotAnAwsRegion { similar: None, .. } => {
                Some("set `region` in [store], or AWS_REGION, to a region such as eu-central-1".to_owned())
            }
            _ => None,
        }
    }

    /// Returns whether the active profile or its session is the reason. The message then says what to do.
    #[must_use]
    pub fn is_about_profile(&self) -> bool {
        let Self::NoCredentials { source, .. } = self else { return false };
        source.source().is_some_and(|source| source.is::<SessionError>() || source.is::<ProfileError>())
    }
}

/// Connects to a plan's store. Does not send a request to the store yet.
///
/// # Errors
/// Returns an error if credentials, region, endpoint, proxy variables or CA certificates are missing or invalid,
/// or if the plan's role cannot be assumed.
pub async fn connect(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    let profile = config.provider.profile();
    if profile.endpoint == EndpointSource::Program {
        // Only the program can serve it, and then it calls `connect_with_keys`.
        return Err(StoreConnectError::NoEndpoint);
    }
    match profile.dialect {
        StoreDialect::S3 => connect_s3(config).await,
        StoreDialect::Oss => connect_oss(config).await,
    }
}

async fn connect_s3(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    let config = &with_aws_endpoint_settings(config, Some(&config.aws_endpoints)).await?;
    let connections = credentials::aws_connection_settings().await;
    // The region may not be known yet. All of AWS's own hosts have the same certificates and proxies.
    let own = || s3_endpoint("us-east-1", config.aws_endpoints.variant());
    let url = config.effective_endpoint().map_or_else(own, str::to_owned);
    StoreEndpoint::new(&url, config.effective_addressing()).check_connections(&connections)?;
    let http = credentials::http_client(&connections);
    let identity = credentials::from_aws_chain(&http)
        .await
        .map_err(|source| StoreConnectError::NoCredentials { provider: config.provider, source })?;
    // The region that was compared with that of the work, before any that the SDK finds.
    let compared = config.aws_endpoints.region.as_ref().map(|region| region.name.clone());
    let region = config.region.clone().or(compared).or(identity.region).ok_or(StoreConnectError::NoRegion)?;
    if config.effective_endpoint().is_none() && !is_aws_region(&region) {
        let similar = similar_aws_region(&region);
        return Err(StoreConnectError::NotAnAwsRegion { region, similar });
    }
    if let (Some(setting), None) = (&config.aws_endpoints.fips, config.effective_endpoint())
        && !Partition::of_region(&region).has_fips()
    {
        return Err(StoreConnectError::NoFipsEndpoint { setting: setting.clone(), region });
    }
    let provider = credentials::assume_aws_role(config, &region, identity.provider, &http).await;
    let provider = provider.map_err(StoreConnectError::RoleNotAssumed)?;
    Ok(Arc::new(HttpStore::s3_through(connections, config, &region, provider)?))
}

async fn connect_oss(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreConnectError> {
    let endpoint = config.endpoint.as_deref().ok_or(StoreConnectError::NoEndpoint)?;
    StoreEndpoint::new(endpoint, config.addressing).check_connections(&ConnectionSettings::of_process())?;
    let credentials = credentials::from_oss_environment()
        .map_err(|source| StoreConnectError::NoCredentials { provider: config.provider, source })?;
    let region = config.region.as_deref().ok_or(StoreConnectError::NoRegion)?;
    let provider = credentials::assume_oss_role(config, region, credentials).await;
    let provider = provider.map_err(StoreConnectError::RoleNotAssumed)?;
    let store = HttpStore::oss(endpoint, config.addressing, region, provider)?;
    Ok(Arc::new(store.requester_pays(config.requester_pays)))
}

/// Connects to an S3 server with a key pair, whatever the environment contains. Does not send a request yet.
///
/// # Errors
/// Returns an error if the configuration has no region, or if a proxy variable or the CA certificates are not valid.
pub fn connect_with_keys(
    config: &StoreConfig,
    access_key: &str,
    secret_key: &str,
) -> Result<Arc<dyn Store>, StoreConnectError> {
    let region = config.region.as_deref().ok_or(StoreConnectError::NoRegion)?;
    let credentials = credentials::from_keys(access_key, secret_key);
    Ok(Arc::new(HttpStore::s3(config, region, credentials)?))
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;
    use crate::provider::ConfiguredEndpoint;

    fn store(provider: StoreProvider, endpoint: Option<&str>) -> HttpStore {
        let keys = SharedCredentialsProvider::new(Credentials::new("A", "S", None, None, "test"));
        HttpStore::s3(&StoreConfig::new(provider, endpoint), "us-east-1", keys).expect("a client")
    }

    #[tokio::test]
    async fn keys_must_be_utf8_only_where_the_service_requires_it() {
        let bytes = ObjectKey::new(&b"caf\xe9"[..]);
        for (provider, endpoint, supported) in [
            (StoreProvider::Aws, None, false),
            (StoreProvider::Aws, Some("https://s3.us-east-1.amazonaws.com"), false),
            (StoreProvider::Aws, Some("https://minio.example.org"), true),
            (StoreProvider::S3, Some("https://minio.example.org"), true),
            (StoreProvider::S3, Some("https://s3.us-east-1.amazonaws.com"), false),
            (StoreProvider::Sandbox, Some("http://127.0.0.1:1"), false),
        ] {
            let reason = store(provider, endpoint).unsupported_key_reason(&bytes);
            assert_eq!(reason.is_none(), supported, "{provider:?} {endpoint:?}");
        }
        let mut config = StoreConfig::new(StoreProvider::Aws, None);
        let url = "http://localhost:4566".to_owned();
        config.aws_endpoints.s3 = Some(ConfiguredEndpoint { url, setting: "AWS_ENDPOINT_URL".to_owned() });
        let keys = SharedCredentialsProvider::new(Credentials::new("A", "S", None, None, "test"));
        let named = HttpStore::s3(&config, "us-east-1", keys).expect("a client");
        assert_eq!(named.unsupported_key_reason(&bytes), None);
    }

    #[tokio::test]
    async fn only_other_servers_have_tenants() {
        let endpoint = Some("https://minio.example.org");
        assert!(store(StoreProvider::S3, endpoint).has_tenants());
        assert!(!store(StoreProvider::S3, Some("https://s3.us-east-1.amazonaws.com")).has_tenants());
        assert!(!store(StoreProvider::Aws, None).has_tenants() && !store(StoreProvider::Aws, endpoint).has_tenants());
    }

    #[tokio::test]
    async fn only_aws_has_its_names_in_the_place_of_buckets() {
        let endpoint = Some("https://minio.example.org");
        assert!(store(StoreProvider::Aws, None).unsupported_bucket("a--use1-az5--x-s3").is_some());
        assert!(store(StoreProvider::Aws, endpoint).unsupported_bucket("a--use1-az5--x-s3").is_some());
        assert_eq!(store(StoreProvider::S3, endpoint).unsupported_bucket("a--use1-az5--x-s3"), None);
    }
}
