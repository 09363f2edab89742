//! A sandbox that is served, a client of it, and the few calls that every test makes.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, EncodingType, GlacierJobParameters, ObjectOwnership, OwnershipControls,
    OwnershipControlsRule, RestoreRequest, StorageClass, Tag, Tagging, Tier, VersioningConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use batchplan_sandbox::{ACCESS_KEY, REGION, SECRET_KEY, Sandbox, SandboxKey, SandboxOptions, SandboxServer};
use jiff::Timestamp;

use crate::sdk_http::sdk_http_client;

pub(crate) const BUCKET: &str = "test-bucket";

/// The access key and the secret key of a second owner.
pub(crate) const OTHER_KEYS: (&str, &str) = ("other", "othersecret");

pub(crate) struct Fixture {
    pub(crate) server: SandboxServer,
    pub(crate) client: Client,
    /// Milliseconds since 1970.
    clock: Arc<AtomicI64>,
}

/// A client of a server; without keys it signs nothing.
pub(crate) fn client(server: &SandboxServer, keys: Option<(&str, &str)>) -> Client {
    client_of(&server.endpoint(), keys)
}

pub(crate) fn client_of(endpoint: &str, keys: Option<(&str, &str)>) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(sdk_http_client());
    let config = match keys {
        Some((access, secret)) => config.credentials_provider(Credentials::new(access, secret, None, None, "test")),
        None => config.allow_no_auth(),
    };
    Client::from_conf(config.build())
}

pub(crate) fn noon() -> i64 {
    "2026-03-04T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond()
}

/// A sandbox in memory at noon of 4 March 2026, where time stands still unless the test moves it.
pub(crate) fn fixture(keys: Vec<SandboxKey>) -> Fixture {
    let clock = Arc::new(AtomicI64::new(noon()));
    let hand = Arc::clone(&clock);
    let options = SandboxOptions {
        clock: Arc::new(move || Timestamp::from_millisecond(hand.load(Ordering::Relaxed)).unwrap()),
        time_scale: 1.try_into().unwrap(),
        keys,
        ..SandboxOptions::default()
    };
    let server = serve(Sandbox::in_memory(None, options).unwrap());
    let client = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
    Fixture { server, client, clock }
}

pub(crate) fn serve(sandbox: Sandbox) -> SandboxServer {
    SandboxServer::start(sandbox, "127.0.0.1:0".parse().unwrap(), false).unwrap()
}

/// Runs a test on a fixture, shared so that a test which uses the client alone does not let go of the server.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Arc<Fixture>) -> F) {
    run_with(SandboxOptions::default().keys, test);
}

/// Runs a test on a fixture with two owners.
pub(crate) fn run_with_owners<F: Future<Output = ()>>(test: impl FnOnce(Arc<Fixture>) -> F) {
    run_with(two_owners(), test);
}

pub(crate) fn two_owners() -> Vec<SandboxKey> {
    [(ACCESS_KEY, SECRET_KEY), OTHER_KEYS]
        .map(|(access_key, secret_key)| SandboxKey {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        })
        .into()
}

fn run_with<F: Future<Output = ()>>(keys: Vec<SandboxKey>, test: impl FnOnce(Arc<Fixture>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = Arc::new(fixture(keys));
        fixture.client.create_bucket().bucket(BUCKET).send().await.unwrap();
        test(fixture).await;
    });
}

impl Fixture {
    pub(crate) async fn put(&self, key: &str, body: &'static str) -> Option<String> {
        let put = self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(body.as_bytes()));
        put.send().await.unwrap().version_id
    }

    pub(crate) async fn put_class(&self, key: &str, class: StorageClass) {
        self.client.put_object().bucket(BUCKET).key(key).storage_class(class).send().await.unwrap();
    }

    pub(crate) async fn version(&self, status: BucketVersioningStatus) {
        let configuration = VersioningConfiguration::builder().status(status).build();
        let put = self.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(configuration);
        put.send().await.unwrap();
    }

    pub(crate) async fn own(&self, ownership: ObjectOwnership) {
        let rule = OwnershipControlsRule::builder().object_ownership(ownership).build().unwrap();
        let controls = OwnershipControls::builder().rules(rule).build().unwrap();
        let put = self.client.put_bucket_ownership_controls().bucket(BUCKET).ownership_controls(controls);
        put.send().await.unwrap();
    }

    pub(crate) async fn tags(&self, key: &str, version: Option<&str>) -> Vec<(String, String)> {
        let get = self.client.get_object_tagging().bucket(BUCKET).key(key).set_version_id(version.map(Into::into));
        get.send().await.unwrap().tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()
    }

    pub(crate) fn later(&self, duration: Duration) {
        self.clock.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

pub(crate) fn tagging(tags: &[(&str, &str)]) -> Tagging {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build().unwrap());
    Tagging::builder().set_tag_set(Some(tags.collect())).build().unwrap()
}

pub(crate) fn restore(days: i32, tier: Option<&str>) -> RestoreRequest {
    let parameters = tier.map(|tier| GlacierJobParameters::builder().tier(Tier::from(tier)).build().unwrap());
    RestoreRequest::builder().days(days).set_glacier_job_parameters(parameters).build()
}

/// The code and the status of a refusal. HEAD has no body, so its code is empty.
pub(crate) fn refusal<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E, HttpResponse>>) -> (String, u16) {
    let Err(error) = result else { panic!("it was not refused") };
    let response = error.raw_response().expect("an answer");
    assert!(response.headers().get("x-amz-request-id").is_some());
    (error.code().unwrap_or_default().to_owned(), response.status().as_u16())
}

/// Sends a request over a connection of its own, and returns the whole answer as it came.
pub(crate) fn exchange(endpoint: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

macro_rules! refused {
    ($request:expr, $code:literal, $status:literal) => {
        assert_eq!(refusal($request.send().await), ($code.to_owned(), $status))
    };
}

pub(crate) use refused;

/// AWS encodes as forms are: `+` is a space.
pub(crate) fn decoded(key: &str) -> String {
    percent_encoding::percent_decode_str(&key.replace('+', " ")).decode_utf8().unwrap().into_owned()
}

pub(crate) async fn list_v2(client: &Client, page: i32) -> Vec<String> {
    let list = client.list_objects_v2().bucket(BUCKET).max_keys(page).encoding_type(EncodingType::Url);
    let mut pages = list.into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(page.unwrap().contents.unwrap_or_default().into_iter().map(|object| decoded(&object.key.unwrap())));
    }
    keys
}

pub(crate) async fn list_versions(client: &Client, page: i32) -> Vec<String> {
    let (mut keys, mut key_marker, mut version_marker) = (Vec::new(), None, None);
    loop {
        let list = client.list_object_versions().bucket(BUCKET).max_keys(page).encoding_type(EncodingType::Url);
        let page = list.set_key_marker(key_marker).set_version_id_marker(version_marker).send().await.unwrap();
        keys.extend(page.versions.unwrap_or_default().into_iter().map(|version| decoded(&version.key.unwrap())));
        if page.is_truncated != Some(true) {
            return keys;
        }
        (key_marker, version_marker) = (page.next_key_marker.map(|key| decoded(&key)), page.next_version_id_marker);
    }
}
