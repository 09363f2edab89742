//! The loops beside which the tool is measured: 64 requests in flight, one thread, nothing else.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::types::{Tag, Tagging};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::hex::hex;
use batchplan_store::http_client::{AwsV4Signer, SignatureScheme, SigningClock, SigningCredentials, UnsignedRequest};
use batchplan_store::object::ObjectKey;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::task::LocalSet;

use crate::sdk_http::sdk_http_client;

/// Requests in flight.
pub(crate) const IN_FLIGHT: u64 = 64;

/// The document that every client sends.
const DOCUMENT: &str = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>Environment</Key>\
    <Value>Production</Value></Tag><Tag><Key>Team</Key><Value>DataOps</Value></Tag></TagSet></Tagging>";

/// The key of the nth object.
pub(crate) fn key(n: u64) -> String {
    format!("documents/2024/{:02}/customer-{:09}/scan-{n:012}.pdf", n % 12 + 1, n % 977)
}

/// Runs one task for each request in flight; each takes the next number until there are none.
fn work<W: Future<Output = Result<(), Box<dyn Error>>>>(
    objects: u64,
    one: impl Fn(u64) -> W + Clone + 'static,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let next = Rc::new(Cell::new(0));
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let (next, one) = (Rc::clone(&next), one.clone());
                tokio::task::spawn_local(async move {
                    while next.get() < objects {
                        let n = next.replace(next.get() + 1);
                        one(n).await.map_err(|error| error.to_string())?;
                    }
                    Ok::<_, String>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// What a request to set tags needs that is the same for every object.
struct Prepared {
    signer: AwsV4Signer,
    identity: Arc<SigningCredentials>,
    clock: SigningClock,
    host: HeaderValue,
    sha256: HeaderValue,
    md5: HeaderValue,
}

/// hyper-util's pooled client, with the tool's own signer: the requests that the tool sends, and nothing around them.
pub(crate) fn bare(endpoint: &str, objects: u64) -> Result<(), Box<dyn Error>> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let prepared = Rc::new(Prepared {
        signer: AwsV4Signer::new("us-east-1"),
        identity: Arc::new(SigningCredentials::new(Credentials::new("key", "secret", None, None, "bench"))),
        clock: SigningClock::default(),
        host: HeaderValue::from_str(endpoint)?,
        sha256: HeaderValue::from_str(&hex(&Sha256::digest(DOCUMENT)))?,
        md5: HeaderValue::from_str(&STANDARD.encode(Md5::digest(DOCUMENT)))?,
    });
    let endpoint = endpoint.to_owned();
    work(objects, move |n| {
        let (client, prepared, endpoint) = (client.clone(), Rc::clone(&prepared), endpoint.clone());
        async move {
            let path = format!("/bucket/{}", ObjectKey::from(key(n).as_str()).encoded_keeping_slashes());
            let mut headers = vec![
                (HeaderName::from_static("content-md5"), prepared.md5.clone()),
                (http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml")),
            ];
            let unsigned = UnsignedRequest {
                method: "PUT",
                host: &prepared.host,
                path: &path,
                resource: "",
                query: "tagging",
                body_sha256: &prepared.sha256,
            };
            prepared.signer.sign(
                &unsigned,
                &prepared.identity,
                &prepared.clock.stamp(prepared.clock.now()),
                &mut headers,
            );
            let mut request = Request::new(Full::new(Bytes::from_static(DOCUMENT.as_bytes())));
            *request.method_mut() = http::Method::PUT;
            *request.uri_mut() = format!("http://{endpoint}{path}?tagging").parse::<Uri>()?;
            request.headers_mut().extend(headers);
            let answer = client.request(request).await?;
            if !answer.status().is_success() {
                return Err(answer.status().to_string().into());
            }
            answer.into_body().collect().await?;
            Ok(())
        }
    })
}

/// The AWS SDK, without its retries.
pub(crate) fn sdk(endpoint: &str, objects: u64) -> Result<(), Box<dyn Error>> {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(sdk_http_client())
        .credentials_provider(Credentials::new("key", "secret", None, None, "bench"))
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{endpoint}"))
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    work(objects, move |n| {
        let client = client.clone();
        async move {
            let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
            let tags = vec![tag("Environment", "Production")?, tag("Team", "DataOps")?];
            let tagging = Tagging::builder().set_tag_set(Some(tags)).build()?;
            client.put_object_tagging().bucket("bucket").key(key(n)).tagging(tagging).send().await?;
            Ok(())
        }
    })
}
