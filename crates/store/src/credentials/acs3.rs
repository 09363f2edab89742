//! The request signature of Alibaba Cloud's APIs, `ACS3-HMAC-SHA256`.
//! <https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature>

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;

/// A request to sign. Its path is always `/`.
pub(super) struct Acs3Request<'a> {
    /// The HTTP method, in upper case.
    pub(super) method: &'a str,
    /// The query as sent: encoded, and sorted by name.
    pub(super) query: &'a str,
    /// The headers, all of which are signed. Names are in lower case and sorted.
    pub(super) headers: &'a [(&'a str, String)],
    /// The SHA-256 of the body, in hexadecimal.
    pub(super) body_sha256: &'a str,
}

impl Acs3Request<'_> {
    /// Returns the value of the `Authorization` header.
    pub(super) fn authorization(&self, key: &str, secret: &str) -> String {
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut text = format!("{}\n/\n{}\n", self.method, self.query);
        for (name, value) in self.headers {
            text.extend([name, ":", value.trim(), "\n"]);
        }
        text.extend(["\n", &names, "\n", self.body_sha256]);

        let mut to_sign = "ACS3-HMAC-SHA256\n".to_owned();
        to_sign.push_str(&hex(&Sha256::digest(text.as_bytes())));
        // HMAC accepts keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
        let signature = mac.chain_update(to_sign.as_bytes()).finalize().into_bytes();

        let mut authorization = format!("ACS3-HMAC-SHA256 Credential={key},SignedHeaders={names},Signature=");
        authorization.push_str(&hex(&signature));
        authorization
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
            ("x-acs-content-sha256", NOTHING),
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
            let request = Acs3Request { method: "POST", query, headers: &headers, body_sha256: NOTHING };
            assert_eq!(
                request.authorization("LTAIexample", "examplesecret"),
                format!("ACS3-HMAC-SHA256 Credential=LTAIexample,SignedHeaders={names},Signature={signature}")
            );
        }
    }
}
