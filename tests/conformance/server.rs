//! The servers under test: a store to check, and a client beside it that prepares what is checked.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    StorageClass, Tag, VersioningConfiguration,
};
use batchplan_sandbox::{ACCESS_KEY, REGION, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::{AddressingStyle, HttpStore, Store, StoreConfig, StoreProvider};

use crate::sdk_http::sdk_http_client;

/// A server, and buckets of this run's own on it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    /// The same server with a wrong secret.
    pub(crate) impostor: Arc<dyn Store>,
    pub(crate) client: Client,
    pub(crate) plain: BucketName,
    pub(crate) versioned: BucketName,
}

struct Access {
    endpoint: String,
    key: String,
    secret: String,
    region: String,
}

/// The server with this name, where the environment says it is up.
pub(crate) async fn named(name: &str) -> Option<Fixture> {
    let of = |what: &str| std::env::var(format!("BATCHPLAN_TEST_{name}_{what}")).ok();
    let region = of("REGION").unwrap_or_else(|| "us-east-1".to_owned());
    let access = Access { endpoint: of("ENDPOINT")?, key: of("ACCESS_KEY")?, secret: of("SECRET_KEY")?, region };
    Some(fixture(&access).await)
}

/// The sandbox, in this process, for as long as the server lives, spoken to in OSS's native API.
pub(crate) async fn sandbox_in_oss() -> (Fixture, SandboxServer) {
    let (fixture, server) = sandbox().await;
    let store = |secret: &str| -> Arc<dyn Store> {
        let credentials = credentials(ACCESS_KEY, secret);
        Arc::new(
            HttpStore::oss(&server.endpoint(), AddressingStyle::Path, "cn-hangzhou", credentials).expect("a store"),
        )
    };
    let (store, impostor) = (store(SECRET_KEY), store("not-the-secret"));
    (Fixture { store, impostor, ..fixture }, server)
}

/// The sandbox, in this process, for as long as the server lives.
pub(crate) async fn sandbox() -> (Fixture, SandboxServer) {
    serve(Sandbox::in_memory(None, SandboxOptions::default()).expect("a sandbox")).await
}

/// As [`sandbox`], with what a table says.
pub(crate) async fn sandbox_of(table: &str) -> (Fixture, SandboxServer) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), table).expect("written");
    serve(Sandbox::in_memory(Some(file.path()), SandboxOptions::default()).expect("a sandbox")).await
}

async fn serve(sandbox: Sandbox) -> (Fixture, SandboxServer) {
    let server = SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server");
    let access = Access {
        endpoint: server.endpoint(),
        key: ACCESS_KEY.to_owned(),
        secret: SECRET_KEY.to_owned(),
        region: REGION.to_owned(),
    };
    (fixture(&access).await, server)
}

impl Fixture {
    pub(crate) fn object(&self, key: impl Into<ObjectKey>) -> ObjectId {
        ObjectId { bucket: self.plain.clone(), key: key.into(), version: None }
    }

    /// Puts an object of this class; its version id.
    pub(crate) async fn put(&self, bucket: &BucketName, key: &str, class: &str) -> Option<VersionId> {
        let request = self.client.put_object().bucket(bucket.as_str()).key(key).body(ByteStream::from_static(b"body"));
        let request = if class == "STANDARD" { request } else { request.storage_class(StorageClass::from(class)) };
        let output = request.send().await.unwrap_or_else(|error| panic!("put {key:?}: {error:?}"));
        output.version_id().map(VersionId::new)
    }

    pub(crate) async fn suspend_versions(&self, bucket: &BucketName) {
        let off = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
        let request = self.client.put_bucket_versioning().bucket(bucket.as_str()).versioning_configuration(off);
        request.send().await.expect("versioning");
    }

    /// Two rules that look at tags, one that is off, and one that looks at a prefix alone.
    pub(crate) async fn set_lifecycle(&self, bucket: &BucketName) {
        let tag = |key: &str| Tag::builder().key(key).value("v").build().expect("a tag");
        let rule = |id: &str, status: ExpirationStatus, filter: LifecycleRuleFilter| {
            let expires = LifecycleExpiration::builder().days(30).build();
            LifecycleRule::builder().id(id).status(status).filter(filter).expiration(expires).build().expect("a rule")
        };
        let both = LifecycleRuleAndOperator::builder().prefix("logs/").tags(tag("b")).tags(tag("c")).build();
        let one = || LifecycleRuleFilter::builder().tag(tag("a")).build();
        let configuration = BucketLifecycleConfiguration::builder()
            .rules(rule("one", ExpirationStatus::Enabled, one()))
            .rules(rule("two", ExpirationStatus::Enabled, LifecycleRuleFilter::builder().and(both).build()))
            .rules(rule("off", ExpirationStatus::Disabled, one()))
            .rules(rule("all", ExpirationStatus::Enabled, LifecycleRuleFilter::builder().prefix("tmp/").build()))
            .build()
            .expect("a lifecycle");
        let request = self.client.put_bucket_lifecycle_configuration().bucket(bucket.as_str());
        request.lifecycle_configuration(configuration).send().await.expect("a lifecycle");
    }

    /// Gives all objects to the bucket's owner. Whether the server has that at all.
    pub(crate) async fn enforce_ownership(&self, bucket: &BucketName) -> bool {
        let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced).build();
        let controls = OwnershipControls::builder().rules(rule.expect("a rule")).build().expect("controls");
        let request = self.client.put_bucket_ownership_controls().bucket(bucket.as_str());
        request.ownership_controls(controls).send().await.is_ok()
    }

    pub(crate) async fn forget_ownership(&self, bucket: &BucketName) {
        // A server that has none has nothing to forget.
        let _ = self.client.delete_bucket_ownership_controls().bucket(bucket.as_str()).send().await;
    }
}

fn store(access: &Access, secret: &str) -> Arc<dyn Store> {
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(access.endpoint.clone()),
        region: Some(access.region.clone()),
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    Arc::new(HttpStore::s3(&config, &access.region, credentials(&access.key, secret)).expect("a store"))
}

fn credentials(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "tests"))
}

async fn fixture(access: &Access) -> Fixture {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(sdk_http_client())
        .credentials_provider(credentials(&access.key, &access.secret))
        .region(Region::new(access.region.clone()))
        .endpoint_url(&access.endpoint)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .force_path_style(true)
        .build();
    let client = Client::from_conf(config);
    let run = uuid::Uuid::new_v4().simple().to_string();
    let plain = BucketName::new(&format!("plain-{run}"));
    let versioned = BucketName::new(&format!("versioned-{run}"));
    for bucket in [&plain, &versioned] {
        let request = client.create_bucket().bucket(bucket.as_str());
        request.object_ownership(ObjectOwnership::ObjectWriter).send().await.expect("a bucket");
        // New buckets block public ACLs where the server knows of it; where it does not, there is nothing to lift.
        let _ = client.delete_public_access_block().bucket(bucket.as_str()).send().await;
    }
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let request = client.put_bucket_versioning().bucket(versioned.as_str()).versioning_configuration(on);
    request.send().await.expect("versioning");
    Fixture {
        store: store(access, &access.secret),
        impostor: store(access, "not-the-secret"),
        client,
        plain,
        versioned,
    }
}
