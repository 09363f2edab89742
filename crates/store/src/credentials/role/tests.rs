use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error as _;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tokio::net::TcpListener;

use super::*;
use crate::StoreProvider;

const OSS_ROLE: &str = "acs:ram::1234567890123456:role/BatchRole";

/// A request that the server received.
struct Asked {
    target: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// A server that returns these responses in order and records the requests.
struct Sts {
    endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Sts {
    async fn answering(answers: impl IntoIterator<Item = Response<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, answers) = (Arc::<Mutex<Vec<Asked>>>::default(), answers.into_iter().collect::<VecDeque<_>>());
        let (kept, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answers) = (Arc::clone(&kept), Arc::clone(&answers));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (kept, answers) = (Arc::clone(&kept), Arc::clone(&answers));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let target = format!("{} {}", head.method, head.uri);
                        kept.lock().expect("whole").push(Asked { target, headers: head.headers, body });
                        let answer = answers.lock().expect("whole").pop_front().expect("no more requests than answers");
                        Ok::<_, Infallible>(answer.map(|body| Full::new(Bytes::from(body))))
                    }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().expect("whole"))
    }
}

fn answer(status: u16, body: &str) -> Response<String> {
    Response::builder().status(status).body(body.to_owned()).expect("an answer")
}

/// A response from a server whose clock is ahead by this much.
fn dated(mut answer: Response<String>, ahead: SignedDuration) -> Response<String> {
    let date =
        rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&(Timestamp::now() + ahead)).expect("a date");
    answer.headers_mut().insert("date", date.parse().expect("a value"));
    answer
}

fn granted(until: Timestamp) -> Response<String> {
    let keys = format!(
        r#""AccessKeyId": "STS.x", "AccessKeySecret": "granted", "SecurityToken": "token/+=", "Expiration": "{until}""#
    );
    answer(200, &format!(r#"{{"RequestId": "R", "AssumedRoleUser": {{}}, "Credentials": {{{keys}}}}}"#))
}

fn in_an_hour() -> Timestamp {
    let second = Timestamp::now().as_second() + 3600;
    Timestamp::from_second(second).expect("a time")
}

fn caller(token: Option<&str>) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("LTAIcaller", "hushhush", token.map(str::to_owned), None, "test"))
}

fn config(provider: StoreProvider, endpoint: Option<&str>, role: &str) -> StoreConfig {
    StoreConfig { role_arn: Some(role.to_owned()), ..StoreConfig::new(provider, endpoint) }
}

async fn oss(sts: &Sts, token: Option<&str>) -> Result<Credentials, String> {
    let role = OssRoleProvider::new(OSS_ROLE, &sts.endpoint, caller(token)).expect("a client");
    role.provide_credentials().await.map_err(|error| root_cause(&error))
}

/// Computes the signature that Alibaba Cloud's rules require for a received request.
fn signature(asked: &Asked) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let authorization = asked.header("authorization");
    let names = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next()).expect("names");
    let headers: Vec<_> = names.split(';').map(|name| format!("{name}:{}\n", asked.header(name))).collect();
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let digest = hex(&Sha256::digest(&asked.body));
    let canonical = format!("POST\n/\n{query}\n{}\n{names}\n{digest}", headers.concat());
    let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical)));
    let mac = Hmac::<Sha256>::new_from_slice(b"hushhush").expect("any key").chain_update(text);
    format!(
        "ACS3-HMAC-SHA256 Credential=LTAIcaller,SignedHeaders={names},Signature={}",
        hex(&mac.finalize().into_bytes())
    )
}

#[tokio::test]
async fn a_role_of_oss_is_asked_for_with_a_signature_that_holds() {
    for token in [None, Some("caller/token+=")] {
        let until = in_an_hour();
        let sts = Sts::answering([granted(until)]).await;
        let credentials = oss(&sts, token).await.expect("a role");
        let given = (credentials.access_key_id(), credentials.secret_access_key(), credentials.session_token());
        assert_eq!(given, ("STS.x", "granted", Some("token/+=")));
        let expiry = Timestamp::try_from(credentials.expiry().expect("an end")).expect("a time");
        assert!(expiry.duration_since(until).abs() < SignedDuration::from_secs(30), "{expiry} {until}");

        let asked = sts.asked().pop().expect("a request");
        assert_eq!(
            asked.target,
            "POST /?DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2FBatchRole\
             &RoleSessionName=batchplan"
        );
        assert_eq!((asked.header("x-acs-action"), asked.header("x-acs-version")), ("AssumeRole", "2015-04-01"));
        assert_eq!(asked.header("authorization"), signature(&asked));
        assert_eq!(asked.header("x-acs-security-token"), token.unwrap_or_default());
        let names = ["host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"];
        assert!(names.iter().all(|name| asked.header("authorization").contains(name)), "{:?}", asked.headers);
    }
}

#[tokio::test]
async fn a_clock_that_the_sts_calls_wrong_is_put_right() {
    let ahead = SignedDuration::from_hours(5);
    let wrong = answer(400, r#"{"Code": "InvalidTimeStamp.Expired", "Message": "expired"}"#);
    let granted = granted(in_an_hour() + ahead);
    let sts = Sts::answering([dated(wrong, ahead), dated(granted, ahead)]).await;
    let credentials = oss(&sts, None).await.expect("a role");
    let expiry = Timestamp::try_from(credentials.expiry().expect("an end")).expect("a time");
    assert!(
        expiry.duration_since(in_an_hour()).abs() < SignedDuration::from_secs(30),
        "by this machine's clock: {expiry}"
    );
    let asked = sts.asked();
    let dates = asked.iter().map(|asked| asked.header("x-acs-date").parse::<Timestamp>().expect("a time"));
    let dates: Vec<_> = dates.collect();
    assert!((dates[1].duration_since(dates[0]) - ahead).abs() < SignedDuration::from_secs(30), "{dates:?}");
    assert_ne!(asked[0].header("x-acs-signature-nonce"), asked[1].header("x-acs-signature-nonce"));
}

#[tokio::test]
async fn a_busy_sts_is_asked_again_and_a_refusal_is_not() {
    let busy = || answer(503, r#"{"Code": "ServiceUnavailable", "Message": "later"}"#);
    let throttled = answer(400, r#"{"Code": "Throttling.User", "Message": "later"}"#);
    let sts = Sts::answering([busy(), throttled, granted(in_an_hour())]).await;
    assert!(oss(&sts, None).await.is_ok());
    let sts = Sts::answering([busy(), busy(), busy()]).await;
    let said = oss(&sts, None).await.expect_err("busy");
    assert_eq!(said, "cannot assume the role: ServiceUnavailable: later");

    let no = answer(403, r#"{"Code": "NoPermission", "Message": "You are not authorized.", "RequestId": "R"}"#);
    let said = oss(&Sts::answering([no]).await, None).await.expect_err("refused");
    assert_eq!(said, "cannot assume the role: NoPermission: You are not authorized.");
}

#[tokio::test]
async fn an_sts_that_repeats_what_was_signed_gives_no_secret_away() {
    let message = r"server string to sign is:\nx-acs-security-token:caller-token\n\u001b]0;hushhush";
    let wrong = answer(400, &format!(r#"{{"Code": "SignatureDoesNotMatch", "Message": "{message}"}}"#));
    let said = oss(&Sts::answering([wrong]).await, Some("caller-token")).await.expect_err("refused");
    assert_eq!(
        said,
        "cannot assume the role: SignatureDoesNotMatch: server string to sign is: x-acs-security-token:[hidden]  \
         ]0;[hidden]"
    );
}

#[tokio::test]
async fn rejects_invalid_sts_responses() {
    let other = Sts::answering([granted(in_an_hour())]).await;
    let mut elsewhere = answer(307, "");
    elsewhere.headers_mut().insert("location", format!("{}/", other.endpoint).parse().expect("a value"));
    let long = || answer(200, &"x".repeat(100_000));
    let lacks = answer(200, r#"{"Credentials": {"AccessKeyId": "a", "AccessKeySecret": "hushhush"}}"#);
    let breaks = in_an_hour();
    let breaks = answer(
        200,
        &format!(
            r#"{{"Credentials": {{"AccessKeyId": "a\n", "AccessKeySecret": "b", "SecurityToken": "c",
            "Expiration": "{breaks}"}}}}"#
        ),
    );
    for (answers, why) in [
        (vec![elsewhere], "HTTP 307: the server gave no message"),
        (vec![long(), long(), long()], "(200) is longer than 65536 bytes"),
        (vec![answer(200, "<html>")], "the response contains no valid credentials"),
        (vec![lacks], "the response contains no valid credentials"),
        (vec![breaks], "the response contains no valid credentials"),
        (vec![answer(418, "hushhush")], "HTTP 418: the server gave no message"),
    ] {
        let said = oss(&Sts::answering(answers).await, None).await.expect_err(why);
        assert!(said.starts_with("cannot assume the role: ") && said.ends_with(why), "{said}");
    }
    assert!(other.asked().is_empty(), "no redirect is followed");
}

#[test]
fn the_sts_follows_from_endpoint_and_region() {
    for (endpoint, sts) in [
        ("https://oss-cn-hangzhou.aliyuncs.com", "https://sts.cn-hangzhou.aliyuncs.com"),
        ("https://OSS-cn-hangzhou.Aliyuncs.com:443", "https://sts.cn-hangzhou.aliyuncs.com"),
        ("http://oss-cn-hangzhou-internal.aliyuncs.com", "https://sts-vpc.cn-hangzhou.aliyuncs.com"),
        ("https://oss-accelerate.aliyuncs.com", "https://sts.cn-hangzhou.aliyuncs.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("https://aliyuncs.com.evil.example", "https://aliyuncs.com.evil.example"),
        ("https://evilaliyuncs.com", "https://evilaliyuncs.com"),
    ] {
        assert_eq!(sts_endpoint(endpoint, "cn-hangzhou"), sts, "{endpoint}");
    }
}

#[tokio::test]
async fn uses_the_callers_credentials_without_a_role() {
    let config = StoreConfig { role_arn: None, ..config(StoreProvider::Oss, None, "") };
    let provider = assume_oss_role(&config, "cn-hangzhou", caller(None)).await.expect("credentials");
    assert_eq!(provider.provide_credentials().await.expect("credentials").access_key_id(), "LTAIcaller");
}

/// Responds like AWS's STS, and records the URLs and the contents of the requests.
#[derive(Clone, Debug)]
struct Aws {
    status: u16,
    body: &'static str,
    asked: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl HttpConnector for Aws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let authorization = request.headers().get("authorization").unwrap_or_default().to_owned();
        self.asked.lock().expect("whole").push((request.uri().to_owned(), authorization, body));
        let status = self.status.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.body))))
    }
}

impl Aws {
    fn answering(status: u16, body: &'static str) -> Self {
        Self { status, body, asked: Arc::default() }
    }

    async fn role(&self, config: &StoreConfig, region: &str) -> Result<SharedCredentialsProvider, CredentialsError> {
        let connector = SharedHttpConnector::new(self.clone());
        assume_aws_role(config, region, caller(Some("token")), &http_client_fn(move |_, _| connector.clone())).await
    }
}

const GRANTED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
     <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>granted</SecretAccessKey><SessionToken>token</SessionToken>\
     <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[tokio::test]
async fn a_role_of_aws_is_asked_for_in_its_region_and_one_of_another_server_at_its_endpoint() {
    let (arn, here) = ("arn:aws:iam::123456789012:role/Batch", "http://127.0.0.1:9000");
    for (provider, endpoint, region, url) in [
        (StoreProvider::Aws, None, "eu-central-1", "https://sts.eu-central-1.amazonaws.com/"),
        (StoreProvider::Aws, Some(here), "us-east-1", "https://sts.us-east-1.amazonaws.com/"),
        (StoreProvider::Aws, None, "cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn/"),
        (StoreProvider::S3, Some(here), "us-east-1", "http://127.0.0.1:9000/"),
    ] {
        let aws = Aws::answering(200, GRANTED);
        let provider = aws.role(&config(provider, endpoint, arn), region).await.expect("a role");
        let credentials = provider.provide_credentials().await.expect("credentials");
        assert_eq!((credentials.access_key_id(), credentials.session_token()), ("ASIA", Some("token")));
        assert_eq!(credentials.expiry(), Some("2099-01-01T00:00:00Z".parse::<Timestamp>().expect("a time").into()));
        let asked = aws.asked.lock().expect("whole").len();
        assert_eq!(asked, 1, "what was given before work serves first");
        let _ = provider.provide_credentials().await.expect("credentials");
        let asked = std::mem::take(&mut *aws.asked.lock().expect("whole"));
        assert_eq!(asked.len(), 2, "and again whenever it is to be renewed");
        for (uri, authorization, body) in asked {
            assert_eq!(uri, url);
            assert!(
                authorization.contains("Credential=LTAIcaller/") && authorization.contains("/sts/"),
                "{authorization}"
            );
            let role = "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FBatch&RoleSessionName=batchplan";
            assert!(body.contains("Action=AssumeRole&Version=2011-06-15") && body.contains(role), "{body}");
        }
    }
}

#[tokio::test]
async fn the_sts_is_that_of_the_partition_or_the_one_that_the_environment_names() {
    let arn = "arn:aws:iam::123456789012:role/Batch";
    let asked = async |config: &StoreConfig, region: &str| {
        let aws = Aws::answering(200, GRANTED);
        aws.role(config, region).await.expect("a role");
        let (url, ..) = aws.asked.lock().expect("whole").remove(0);
        url
    };
    for (region, domain) in [
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-northwest-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
        ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ("us-isof-south-1", "csp.hci.ic.gov"),
    ] {
        let url = asked(&config(StoreProvider::Aws, None, arn), region).await;
        assert_eq!(url, format!("https://sts.{region}.{domain}/"));
    }
    let with = |provider, change: fn(&mut crate::AwsEndpointSettings)| {
        let mut config = config(provider, Some("http://127.0.0.1:9000"), arn);
        change(&mut config.aws_endpoints);
        config
    };
    let named = |settings: &mut crate::AwsEndpointSettings| {
        let (url, setting) = ("http://127.0.0.1:4566".to_owned(), "AWS_ENDPOINT_URL_STS".to_owned());
        settings.sts = Some(crate::ConfiguredEndpoint { url, setting });
    };
    assert_eq!(asked(&with(StoreProvider::Aws, named), "eu-west-1").await, "http://127.0.0.1:4566/");
    assert_eq!(asked(&with(StoreProvider::S3, named), "eu-west-1").await, "http://127.0.0.1:9000/");
    let fips = |settings: &mut crate::AwsEndpointSettings| settings.fips = Some("AWS_USE_FIPS_ENDPOINT".to_owned());
    assert_eq!(asked(&with(StoreProvider::Aws, fips), "us-east-1").await, "https://sts-fips.us-east-1.amazonaws.com/");
    let dual = |settings: &mut crate::AwsEndpointSettings| settings.dual_stack = Some("x".to_owned());
    assert_eq!(asked(&with(StoreProvider::Aws, dual), "us-east-1").await, "https://sts.us-east-1.api.aws/");
}

#[tokio::test]
async fn a_role_that_aws_does_not_give_is_said_in_its_words() {
    // The second is S3's error format, which S3-compatible servers may use. The third is moto's.
    for body in [
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized: hushhush</Message></Error></ErrorResponse>",
        "<Error><Code>AccessDenied</Code><Message>not authorized: hushhush</Message></Error>",
        "<ErrorResponse><Errors><Error><Code>AccessDenied</Code><Message>not authorized: hushhush</Message></Error></Errors>\
         </ErrorResponse>",
    ] {
        let aws = Aws::answering(403, body);
        let error = aws.role(&config(StoreProvider::Aws, None, "arn"), "us-east-1").await.expect_err("refused");
        assert_eq!(root_cause(&error), "cannot assume the role: AccessDenied: not authorized: [hidden]");
        assert!(error.source().is_some() && !format!("{error:?}").contains("hushhush"));
        assert_eq!(aws.asked.lock().expect("whole").len(), 1, "it is asked for once");
    }
    let error = Aws::answering(403, "no").role(&config(StoreProvider::Aws, None, "arn"), "us-east-1").await;
    let said = root_cause(&error.expect_err("refused"));
    assert_eq!(said, "cannot assume the role: HTTP 403: the server gave no message");
}

/// The requests and signatures of Alibaba Cloud's Python SDK (`alibabacloud_sts20150401` 1.2.0 on
/// `alibabacloud-tea-openapi` 0.4.6), at a fixed time with a fixed nonce.
#[test]
fn the_official_sdks_signatures() {
    let query = "DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2FBatchRole\
                 &RoleSessionName=batchplan";
    let plain = [
        ("accept", "application/json"),
        ("host", "sts.cn-hangzhou.aliyuncs.com"),
        ("user-agent", "batchplan/0.1.0"),
        ("x-acs-action", "AssumeRole"),
        ("x-acs-content-sha256", EMPTY_SHA256),
        ("x-acs-credentials-provider", "static_ak"),
        ("x-acs-date", "2026-03-01T12:34:56Z"),
        ("x-acs-signature-nonce", "00112233445566778899aabbccddeeff"),
        ("x-acs-version", "2015-04-01"),
    ];
    let mut with_token = plain.to_vec();
    with_token[5].1 = "static_sts";
    with_token.insert(3, ("x-acs-accesskey-id", "LTAIexample"));
    with_token.insert(8, ("x-acs-security-token", "sts-token/+="));
    for (headers, signature) in [
        (plain.to_vec(), "e36b2497ff8ecd0bb635a060b94e2bd8d93e9474cd948fdae51cd738a23d4b9c"),
        (with_token, "e154563635f43d66f26f55e7863d79f0f82341802585acef9823a51dd399d211"),
    ] {
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let request = Acs3Request { method: "POST", query, headers: &headers, body_sha256: EMPTY_SHA256 };
        assert_eq!(
            request.authorization("LTAIexample", "examplesecret"),
            format!("ACS3-HMAC-SHA256 Credential=LTAIexample,SignedHeaders={names},Signature={signature}")
        );
    }
}
