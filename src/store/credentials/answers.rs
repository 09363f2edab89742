//! The answers of those who hand out credentials to AWS's SDK: the metadata services and AWS's STS.
//!
//! The SDK takes some of what they say on trust: it panics where a metadata service calls its token valid for longer than
//! time goes, or names a role with a line break behind it, and where it signs with an access key that cannot be part of a
//! header. So each answer is looked at here first.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::Uri;
use http::header::CONTENT_LENGTH;
use serde_json::Value as Json;

use super::usable::{Unusable, check, check_region};
use crate::store::xml;

/// Says how long a token of EC2's metadata service is good for, in seconds.
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The longest time that such a token may be asked for: six hours, which is what the SDK asks for.
const MAX_TOKEN_TTL: u64 = 6 * 60 * 60;

/// Where EC2's metadata service names the role of the machine; what the role has stands below.
const ROLES: &str = "/meta-data/iam/security-credentials/";

/// Where it names the region.
const REGION: &str = "/meta-data/placement/region";

/// What credentials are called in these answers, in any case.
const PARTS: [&str; 4] = ["AccessKeyId", "SecretAccessKey", "Token", "SessionToken"];

/// Why an answer is not handed on. Never says what it holds.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the answer of {0} names no role that could be asked for")]
    NoRole(String),
    #[error("the answer of {0} holds no credentials: {1}")]
    Unusable(String, #[source] Unusable),
}

/// The same client, whose answers are checked.
pub(super) fn checked_answers(http: &SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(CheckedClient(http.clone()))
}

#[derive(Debug)]
struct CheckedClient(SharedHttpClient);

#[derive(Debug)]
struct CheckedConnector(SharedHttpConnector);

impl HttpClient for CheckedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(CheckedConnector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for CheckedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse::<Uri>().unwrap_or_default();
        let answering = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut answer = answering.await?;
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            // It is whole: the client below has read it, within bounds.
            let body = answer.take_body().bytes().map(Bytes::copy_from_slice).unwrap_or_default();
            shorten_ttl(&mut answer);
            if answer.status().is_success() {
                let length = body.len();
                let checked = checked(uri.path(), body, &host).map_err(refused)?;
                if checked.len() != length {
                    // The SDK compares.
                    answer.headers_mut().remove(CONTENT_LENGTH);
                }
                *answer.body_mut() = SdkBody::from(checked);
            } else {
                *answer.body_mut() = SdkBody::from(body);
            }
            Ok(answer)
        })
    }
}

/// An answer that another attempt would not make better.
fn refused(error: AnswerError) -> ConnectorError {
    ConnectorError::user(error.into())
}

/// No token is good for longer than it was asked for.
fn shorten_ttl(answer: &mut HttpResponse) {
    let ttl = answer.headers().get(TOKEN_TTL).and_then(|ttl| ttl.trim().parse::<u64>().ok());
    if ttl.is_some_and(|ttl| ttl > MAX_TOKEN_TTL) {
        answer.headers_mut().insert(TOKEN_TTL, MAX_TOKEN_TTL.to_string());
    }
}

/// The body of a success as the SDK may have it.
fn checked(path: &str, body: Bytes, host: &str) -> Result<Bytes, AnswerError> {
    let unusable = |why| AnswerError::Unusable(host.to_owned(), why);
    if path.ends_with(ROLES) {
        // IAM's own rule, and what stands in ARNs besides.
        let role = body.trim_ascii();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=,.@-/:".contains(byte);
        let is_role = !role.is_empty() && role.iter().all(fits);
        return if is_role { Ok(body.slice_ref(role)) } else { Err(AnswerError::NoRole(host.to_owned())) };
    }
    if path.ends_with(REGION) {
        let region = body.trim_ascii();
        check_region("the region", &String::from_utf8_lossy(region)).map_err(unusable)?;
        return Ok(body.slice_ref(region));
    }
    check_parts(&body).map_err(unusable)?;
    Ok(body)
}

/// Checks the credentials of an answer, in JSON as of a metadata service, or in XML as of STS.
fn check_parts(body: &[u8]) -> Result<(), Unusable> {
    let known = |name: &str| PARTS.into_iter().find(|part| part.eq_ignore_ascii_case(name));
    if let Ok(Json::Object(document)) = serde_json::from_slice(body) {
        let texts = document.iter().filter_map(|(name, value)| Some((known(name)?, value.as_str()?)));
        return texts.into_iter().try_for_each(|(name, text)| check(name, text));
    }
    let mut found = Ok(());
    // What is no such document is the SDK's to complain about.
    let _ = xml::read(body, |path, text| {
        let name = path.rsplit_once('/').and_then(|(_, name)| known(name));
        if let Some(name) = name.filter(|_| found.is_ok()) {
            // White space around a text is how XML is laid out.
            found = check(name, text.trim_ascii());
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, body: &str) -> Result<String, String> {
        let checked = checked(path, Bytes::copy_from_slice(body.as_bytes()), "host:80");
        checked.map(|body| String::from_utf8(body.to_vec()).expect("UTF-8")).map_err(|error| error.to_string())
    }

    #[test]
    fn roles_and_regions_come_without_line_breaks_or_not_at_all() {
        let roles = "/latest/meta-data/iam/security-credentials/";
        assert_eq!(of(roles, "A.role@x\r\n").as_deref(), Ok("A.role@x"));
        for none in ["", "\n", "two\nroles", "a b", "ü", "a?b", "a#b", "<html>", "\u{1b}"] {
            let said = of(roles, none).expect_err("none");
            assert_eq!(said, "the answer of host:80 names no role that could be asked for", "{none:?}");
        }
        let region = "/latest/meta-data/placement/region";
        assert_eq!(of(region, "eu-west-1\n").as_deref(), Ok("eu-west-1"));
        assert!(of(region, "eu\nwest").is_err());
    }

    #[test]
    fn credentials_are_looked_at_in_either_form() {
        for (document, name) in [
            ("{\"AccessKeyId\": \"A\\u001bK\"}", "AccessKeyId"),
            ("{\"accesskeyid\": \"AK\", \"secretaccesskey\": \"hush\\n\"}", "SecretAccessKey"),
            ("{\"Token\": \"t\\u0000\", \"Expiration\": \"9\"}", "Token"),
            ("<A><R><Credentials><AccessKeyId>A&#233;</AccessKeyId></Credentials></R></A>", "AccessKeyId"),
            ("<A><R><Credentials><SessionToken>A&#127;</SessionToken></Credentials></R></A>", "SessionToken"),
        ] {
            let said = of("/role", document).expect_err("refused");
            assert!(said.starts_with(&format!("the answer of host:80 holds no credentials: {name} ")), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
        for whole in [
            "{\"AccessKeyId\": \"AK\", \"SecretAccessKey\": \"s/+=\", \"Token\": \"t==\", \"Code\": \"Success\"}",
            "<A><R><Credentials>\n<AccessKeyId>\n AK\n</AccessKeyId></Credentials></R></A>",
            "404: not found",
            "",
        ] {
            assert_eq!(of("/role", whole).as_deref(), Ok(whole));
        }
    }
}
