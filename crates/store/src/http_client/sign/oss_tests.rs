//! The test vectors are those of Alibaba Cloud's Go SDK (`oss/signer/v4_test.go`).

use aws_credential_types::Credentials;
use jiff::Timestamp;

use super::*;

const RESOURCE: &str = "/bucket/1234%2B-/123/1.txt";
const QUERY: &str = "%2Bparam1=value3&%2Bparam2&%7Cparam1=value4&%7Cparam2&param1=value1&param2";

fn authorization(signer: &OssV4Signer, token: Option<&str>, at: i64, mut headers: Vec<HeaderPair>) -> String {
    let identity =
        Arc::new(SigningCredentials::new(Credentials::new("ak", "sk", token.map(str::to_owned), None, "test")));
    let request = UnsignedRequest {
        method: "PUT",
        host: &HeaderValue::from_static("bucket.oss-cn-hangzhou.aliyuncs.com"),
        path: "/1234%2B-/123/1.txt",
        resource: RESOURCE,
        query: QUERY,
        body_sha256: &HeaderValue::from_static(""),
    };
    let stamp = SigningTimestamp::of(Timestamp::from_second(at).expect("a time"));
    signer.sign(&request, &identity, &stamp, &mut headers);
    let found = headers.iter().find(|(name, _)| name == "authorization").expect("signed");
    found.1.to_str().expect("text").to_owned()
}

fn headers() -> Vec<HeaderPair> {
    [("x-oss-head1", "value"), ("abc", "value"), ("zabc", "value"), ("xyz", "value"), ("content-type", "text/plain")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .to_vec()
}

#[test]
fn published_vectors_without_and_with_a_token() {
    let signer = OssV4Signer::new("cn-hangzhou");
    assert_eq!(
        authorization(&signer, None, 1_702_743_657, headers()),
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
         Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
    );
    assert_eq!(
        authorization(&signer, Some("token"), 1_702_784_856, headers()),
        "OSS4-HMAC-SHA256 Credential=ak/20231217/cn-hangzhou/oss/aliyun_v4_request,\
         Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"
    );
}

#[test]
fn a_cached_key_is_not_used_for_another_day_or_secret() {
    let signer = OssV4Signer::new("cn-hangzhou");
    let first = authorization(&signer, None, 1_702_743_657, headers());
    let next_day = authorization(&signer, None, 1_702_843_657, headers());
    assert_ne!(first, next_day);
    assert_eq!(first, authorization(&signer, None, 1_702_743_657, headers()));
}
