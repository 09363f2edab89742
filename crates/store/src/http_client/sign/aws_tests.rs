//! The test vectors are AWS's examples for S3 ("Signature Calculations for the Authorization Header"). For requests
//! with a session token or an unusual path, the result is compared with the `aws-sigv4` crate.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::object::ObjectKey;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SITE: &str = "examplebucket.s3.amazonaws.com";

fn signed(
    (method, path, query): (&'static str, &str, &str),
    sha256: &str,
    token: Option<&str>,
    at: &str,
    mut headers: Vec<HeaderPair>,
) -> String {
    let identity =
        Arc::new(SigningCredentials::new(Credentials::new(KEY, SECRET, token.map(str::to_owned), None, "test")));
    let sha256 = HeaderValue::from_str(sha256).expect("a digest");
    let request = UnsignedRequest {
        method,
        host: &HeaderValue::from_static(SITE),
        path,
        resource: "",
        query,
        body_sha256: &sha256,
    };
    let stamp = SigningTimestamp::of(at.parse().expect("a time"));
    AwsV4Signer::new("us-east-1").sign(&request, &identity, &stamp, &mut headers);
    let found = headers.iter().find(|(name, _)| name == "authorization").expect("signed");
    found.1.to_str().expect("text").to_owned()
}

fn signature(authorization: &str) -> &str {
    authorization.rsplit("Signature=").next().expect("a signature")
}

#[test]
fn awss_examples_for_s3() {
    let at = "2013-05-24T00:00:00Z";
    let range = vec![(http::header::RANGE, HeaderValue::from_static("bytes=0-9"))];
    assert_eq!(
        signed(("GET", "/test.txt", ""), NOTHING, None, at, range),
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
         SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
         Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
    let put = vec![
        (http::header::DATE, HeaderValue::from_static("Fri, 24 May 2013 00:00:00 GMT")),
        (HeaderName::from_static("x-amz-storage-class"), HeaderValue::from_static("REDUCED_REDUNDANCY")),
    ];
    let welcome = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let authorization = signed(("PUT", "/test%24file.text", ""), welcome, None, at, put);
    assert_eq!(signature(&authorization), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    let lifecycle = signed(("GET", "/", "lifecycle"), NOTHING, None, at, Vec::new());
    assert_eq!(signature(&lifecycle), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    let list = signed(("GET", "/", "max-keys=2&prefix=J"), NOTHING, None, at, Vec::new());
    assert_eq!(signature(&list), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

/// Signs a request with the crate that AWS's SDK uses.
fn by_the_sdk(method: &str, path: &str, query: &str, token: Option<&str>, at: &str) -> String {
    let credentials = Credentials::new(KEY, SECRET, token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.signature_location = SignatureLocation::Headers;
    let time: SystemTime = at.parse::<jiff::Timestamp>().expect("a time").into();
    let parameters = v4::SigningParams::builder()
        .identity(&credentials)
        .region("us-east-1")
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .expect("parameters")
        .into();
    let mark = if query.is_empty() { "" } else { "?" };
    let url = format!("https://{SITE}{path}{mark}{query}");
    let request = SignableRequest::new(method, url, std::iter::empty(), SignableBody::Bytes(b"")).expect("a request");
    let (instructions, _) = sign(request, &parameters).expect("signed").into_parts();
    let found = instructions.headers().find(|(name, _)| *name == "authorization").expect("signed");
    found.1.to_owned()
}

proptest! {
    #[test]
    fn any_key_is_signed_as_the_sdk_signs_it(
        key in prop::collection::vec(any::<u8>(), 1..40),
        version in "[a-zA-Z0-9._-]{0,20}",
        token in prop::option::of("[a-zA-Z0-9/+=]{1,60}"),
    ) {
        let path = format!("/{}", ObjectKey::new(key).encoded_keeping_slashes());
        let query = if version.is_empty() { "tagging".to_owned() } else { format!("tagging&versionId={version}") };
        let at = "2026-02-28T23:59:59Z";
        let ours = signed(("PUT", &path, &query), NOTHING, token.as_deref(), at, Vec::new());
        prop_assert_eq!(ours, by_the_sdk("PUT", &path, &query, token.as_deref(), at));
    }
}
