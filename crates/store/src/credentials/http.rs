//! The HTTP client with which AWS's SDK requests credentials from metadata services and AWS STS.
//!
//! Responses with credentials are small. Each is read completely, with a time and size limit, before the SDK gets it.
//! The SDK itself does not limit the size of a response.
//!
//! Nor does the SDK validate all values in a response. It panics if a metadata service reports a token lifetime that
//! exceeds the range of time values, if a role name is followed by a line break, and if an access key cannot be part of
//! a header. Therefore each response is validated here first.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde_json::Value as Json;

use super::session::{RequestTokens, is_complete_response};
use super::validation::{CredentialFormatError, check_credential_text, check_region};
use crate::timeouts::scaled;
use crate::web::{
    CONNECT_TIMEOUT, ConnectionSettings, HttpUrl, WebClient, WebRequest, WebRequestError, WebRequestLimits, WebResponse,
};
use crate::xml;

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The time limit for one request and its response, including the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Creates the client for all sources of credentials.
pub(crate) fn http_client(settings: &Arc<ConnectionSettings>) -> SharedHttpClient {
    SharedHttpClient::new(BoundedHttpClient(Arc::clone(settings)))
}

#[derive(Debug)]
struct BoundedHttpClient(Arc<ConnectionSettings>);

#[derive(Debug)]
struct BoundedHttpConnector {
    connections: Arc<ConnectionSettings>,
    limits: WebRequestLimits,
}

impl HttpClient for BoundedHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let (mut max_time, mut max_connect_time) = (scaled(REQUEST_TIMEOUT), scaled(CONNECT_TIMEOUT));
        // A machine without a metadata service must find that out quickly: the SDK allows one second.
        if let Some(to_connect) = settings.connect_timeout() {
            max_connect_time = max_connect_time.min(to_connect);
        }
        if let Some(to_respond) = settings.read_timeout() {
            max_time = max_time.min(max_connect_time.saturating_add(to_respond));
        }
        let limits = WebRequestLimits { max_time, max_connect_time, max_body_bytes: MAX_ANSWER };
        SharedHttpConnector::new(BoundedHttpConnector { connections: Arc::clone(&self.0), limits })
    }
}

impl HttpConnector for BoundedHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (connections, limits) = (Arc::clone(&self.connections), self.limits);
        HttpConnectorFuture::new(async move {
            let response = send(connections, limits, request).await?;
            Ok(into_sdk_response(response))
        })
    }
}

/// Sends a request of the SDK, which chose the host from the plan, its own endpoints, or checked variables.
async fn send(
    connections: Arc<ConnectionSettings>,
    limits: WebRequestLimits,
    request: HttpRequest,
) -> Result<WebResponse, ConnectorError> {
    let invalid = |why: &dyn std::fmt::Display| ConnectorError::user(format!("the request is not valid: {why}").into());
    let url = HttpUrl::parse(request.uri()).map_err(|why| invalid(&format!("its URL {why}")))?;
    let body = Bytes::copy_from_slice(request.body().bytes().unwrap_or_default());
    let mut headers = Vec::new();
    for (name, value) in request.headers() {
        let name = HeaderName::try_from(name).map_err(|error| invalid(&error))?;
        headers.push((name, HeaderValue::try_from(value).map_err(|error| invalid(&error))?));
    }
    let method = Method::try_from(request.method()).map_err(|error| invalid(&error))?;
    let client = WebClient::with_settings(connections, waiting_for(&body));
    let request = WebRequest { method, url: &url, headers: &headers, body, allow_http: true };
    client.send(request, limits).await.map_err(|error| match error {
        WebRequestError::TimedOut { .. } => ConnectorError::timeout(error.into()),
        // Another attempt would end in the same way.
        WebRequestError::InvalidSetup(_)
        | WebRequestError::InvalidRequest { .. }
        | WebRequestError::ResponseTooLong { .. } => ConnectorError::user(error.into()),
        _ => ConnectorError::io(error.into()),
    })
}

fn into_sdk_response(response: WebResponse) -> HttpResponse {
    let mut sdk_response = HttpResponse::new(response.status.into(), SdkBody::from(response.body));
    for (name, value) in &response.headers {
        // The SDK takes only text, and needs no header that is not.
        if let Ok(value) = value.to_str() {
            sdk_response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    sdk_response
}

/// Returns what a request with this body waits for, as reports of long waits say it: the response to the call of an
/// STS, such as `AssumeRoleWithWebIdentity`, or credentials from a metadata service.
fn waiting_for(body: &[u8]) -> String {
    let call = body.strip_prefix(b"Action=").and_then(|rest| rest.split(|byte| *byte == b'&').next());
    let call = call.filter(|call| !call.is_empty() && call.iter().all(u8::is_ascii_alphanumeric));
    call.map_or_else(
        || "no credentials yet".to_owned(),
        |call| format!("no response to {}", String::from_utf8_lossy(call)),
    )
}

/// The header with the lifetime of a token of EC2's metadata service, in seconds.
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// The maximum lifetime of such a token: six hours, the lifetime that the SDK requests.
const MAX_TOKEN_TTL: u64 = 6 * 60 * 60;

/// The path at which EC2's metadata service returns the name of the machine's role. The credentials are below it.
const ROLE_PATH: &str = "/meta-data/iam/security-credentials/";

/// The path at which it returns the region.
const REGION_PATH: &str = "/meta-data/placement/region";

/// The names of the credentials in these responses. They are compared without regard to case.
const CREDENTIAL_FIELDS: [&str; 5] = ["AccessKeyId", "SecretAccessKey", "Token", "SessionToken", "AccessToken"];

/// Why a response is rejected. The messages never contain its values.
#[derive(Debug, thiserror::Error)]
enum CredentialResponseError {
    #[error("the response from {0} names no valid role")]
    InvalidRoleName(String),
    #[error("the response from {0} contains no valid credentials: {1}")]
    InvalidCredentials(String, #[source] CredentialFormatError),
    #[error("the response from {0} contains no complete token")]
    IncompleteToken(String),
    #[error("cannot send a token to http://{0} unencrypted: use an https URL")]
    UnencryptedToken(String),
}

/// Wraps a client so that its responses are validated.
pub(super) fn validating_http_client(http: &SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(ValidatingHttpClient(http.clone()))
}

#[derive(Debug)]
struct ValidatingHttpClient(SharedHttpClient);

#[derive(Debug)]
struct ValidatingHttpConnector(SharedHttpConnector);

impl HttpClient for ValidatingHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(ValidatingHttpConnector(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for ValidatingHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse::<Uri>().unwrap_or_default();
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let tokens = RequestTokens::of(&request);
        if !tokens.may_be_sent_to(&uri) {
            return HttpConnectorFuture::ready(Err(permanent_error(CredentialResponseError::UnencryptedToken(host))));
        }
        let sending = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut response = sending.await?;
            // The inner client has already read the whole body, within its limits.
            let body = response.take_body().bytes().map(Bytes::copy_from_slice).unwrap_or_default();
            cap_token_ttl(&mut response);
            if response.status().is_success() {
                let length = body.len();
                let checked = validate_body(uri.path(), body, &host).map_err(permanent_error)?;
                if checked.len() != length {
                    // The SDK compares the body with this header.
                    response.headers_mut().remove(CONTENT_LENGTH);
                }
                *response.body_mut() = SdkBody::from(checked);
            } else if tokens.is_empty() {
                *response.body_mut() = SdkBody::from(body);
            } else {
                response.headers_mut().remove(CONTENT_LENGTH);
                *response.body_mut() = SdkBody::from(tokens.hide_in(&body, MAX_ANSWER));
            }
            Ok(response)
        })
    }
}

/// Converts the error into one that the SDK does not retry.
fn permanent_error(error: CredentialResponseError) -> ConnectorError {
    ConnectorError::user(error.into())
}

/// Limits the lifetime of a token to the maximum that can be requested.
fn cap_token_ttl(response: &mut HttpResponse) {
    let ttl = response.headers().get(TOKEN_TTL_HEADER).and_then(|ttl| ttl.trim().parse::<u64>().ok());
    if ttl.is_some_and(|ttl| ttl > MAX_TOKEN_TTL) {
        response.headers_mut().insert(TOKEN_TTL_HEADER, MAX_TOKEN_TTL.to_string());
    }
}

/// Returns the body of a successful response in the form that the SDK accepts.
fn validate_body(path: &str, body: Bytes, host: &str) -> Result<Bytes, CredentialResponseError> {
    let unusable = |why| CredentialResponseError::InvalidCredentials(host.to_owned(), why);
    if path.ends_with(ROLE_PATH) {
        // IAM's own rule for names, and the additional characters of ARNs.
        let role = body.trim_ascii();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=,.@-/:".contains(byte);
        let is_role = !role.is_empty() && role.iter().all(fits);
        return if is_role {
            Ok(body.slice_ref(role))
        } else {
            Err(CredentialResponseError::InvalidRoleName(host.to_owned()))
        };
    }
    if path.ends_with(REGION_PATH) {
        let region = body.trim_ascii();
        check_region("the region", &String::from_utf8_lossy(region)).map_err(unusable)?;
        return Ok(body.slice_ref(region));
    }
    check_credential_fields(&body).map_err(unusable)?;
    if is_complete_response(path, &body) {
        Ok(body)
    } else {
        Err(CredentialResponseError::IncompleteToken(host.to_owned()))
    }
}

/// Validates the credentials in a response: JSON from a metadata service, or XML from STS.
fn check_credential_fields(body: &[u8]) -> Result<(), CredentialFormatError> {
    let known = |name: &str| CREDENTIAL_FIELDS.into_iter().find(|part| part.eq_ignore_ascii_case(name));
    if let Ok(document @ Json::Object(_)) = serde_json::from_slice(body) {
        let mut values = vec![&document];
        while let Some(value) = values.pop() {
            for (name, value) in value.as_object().into_iter().flatten() {
                if let (Some(name), Some(text)) = (known(name), value.as_str()) {
                    check_credential_text(name, text)?;
                }
                values.push(value);
            }
        }
        return Ok(());
    }
    let mut found = Ok(());
    // The SDK reports documents that cannot be parsed.
    let _ = xml::read(body, |path, text| {
        let name = path.rsplit_once('/').and_then(|(_, name)| known(name));
        if let Some(name) = name.filter(|_| found.is_ok()) {
            // XML may contain white space around a text for layout.
            found = check_credential_text(name, text.trim_ascii());
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, body: &str) -> Result<String, String> {
        let checked = validate_body(path, Bytes::copy_from_slice(body.as_bytes()), "host:80");
        checked.map(|body| String::from_utf8(body.to_vec()).expect("UTF-8")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_wait_for_an_sts_names_the_call() {
        let web_identity = b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=hushhush";
        assert_eq!(waiting_for(web_identity), "no response to AssumeRoleWithWebIdentity");
        assert_eq!(waiting_for(b"Action=AssumeRole&Version=2011-06-15"), "no response to AssumeRole");
        for other in [&b""[..], b"Action=", b"Action=&x", b"Action=a%20b&x", b"x&Action=AssumeRole"] {
            assert_eq!(waiting_for(other), "no credentials yet");
        }
    }

    #[test]
    fn roles_and_regions_come_without_line_breaks_or_not_at_all() {
        let roles = "/latest/meta-data/iam/security-credentials/";
        assert_eq!(of(roles, "A.role@x\r\n").as_deref(), Ok("A.role@x"));
        for none in ["", "\n", "two\nroles", "a b", "ü", "a?b", "a#b", "<html>", "\u{1b}"] {
            let said = of(roles, none).expect_err("none");
            assert_eq!(said, "the response from host:80 names no valid role", "{none:?}");
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
            ("{\"roleCredentials\": {\"accessKeyId\": \"A\", \"sessionToken\": \"t\\n\"}}", "SessionToken"),
            ("<A><R><Credentials><AccessKeyId>A&#233;</AccessKeyId></Credentials></R></A>", "AccessKeyId"),
            ("<A><R><Credentials><SessionToken>A&#127;</SessionToken></Credentials></R></A>", "SessionToken"),
        ] {
            let said = of("/role", document).expect_err("refused");
            assert!(
                said.starts_with(&format!("the response from host:80 contains no valid credentials: {name} ")),
                "{said}"
            );
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
