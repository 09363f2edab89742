//! Assumes the plan's role with the caller's credentials, before work starts and again before the role's credentials
//! expire.
//!
//! A role's credentials are valid for one hour. The signing client requests new ones in time
//! ([`CredentialCache`](crate::http_client::CredentialCache)). Each request loads the caller's credentials again.
//!
//! The plan and the region decide which STS is used, and for AWS the environment:
//!
//! | provider | STS |
//! |---|---|
//! | `aws` | AWS STS in the region of the store, or the one that the environment names |
//! | `s3` | the plan's endpoint, as with `MinIO` and Ceph |
//! | `oss` | Alibaba Cloud STS in the plan's region, internal if the endpoint is; another server's endpoint itself |

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, IdentityCache, Region};
use aws_sdk_sts::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::sources::prefetch;
use super::validation::check_credentials;
use crate::backoff::{RetryPolicy, retry};
use crate::error::truncate;
use crate::hex::hex;
use crate::http_client::{SigningClock, redact_credentials};
use crate::partition::EndpointVariant;
use crate::printable::affects_terminal;
use crate::provider::StoreConfig;
use crate::timeouts::{TimeLimitError, scaled};
use crate::web::{
    CONNECT_TIMEOUT, ConnectionSetupError, HttpUrl, WebClient, WebRequest, WebRequestError, WebRequestLimits,
    WebResponse, root_cause,
};
use crate::xml;

/// The name of the session in the logs of the STS.
const SESSION: &str = "batchplan";

/// The time limit for an STS, including all attempts. It is shorter than the time that a request waits for
/// credentials.
const STS_TIMEOUT: Duration = Duration::from_secs(25);

/// Why a role could not be assumed.
#[derive(Debug, thiserror::Error)]
enum AssumeRoleError {
    /// The STS rejected the request.
    #[error("cannot assume the role: {code}: {message}")]
    Rejected {
        /// The error code.
        code: String,
        /// The error message, without secrets.
        message: String,
    },
    /// There was no response, or no valid one.
    #[error("cannot assume the role: {0}")]
    NoValidResponse(String),
    /// The STS cannot be contacted, because of a proxy variable or the CA certificates.
    #[error("cannot assume the role: {0}")]
    InvalidSetup(ConnectionSetupError),
}

impl AssumeRoleError {
    /// Builds the error from the STS's error response to this caller.
    fn rejected(code: &str, message: &str, caller: &Credentials) -> Self {
        let message = if message.is_empty() { "the server gave no message" } else { message };
        Self::Rejected { code: sanitize(code, caller), message: sanitize(message, caller) }
    }
}

impl From<AssumeRoleError> for CredentialsError {
    fn from(error: AssumeRoleError) -> Self {
        Self::provider_error(error)
    }
}

/// Removes control characters and the caller's secrets from text that a server sent.
fn sanitize(text: &str, caller: &Credentials) -> String {
    let plain: String = text.chars().map(|c| if affects_terminal(c) { ' ' } else { c }).collect();
    truncate(&redact_credentials(&plain, caller))
}

/// Returns the provider for stores of the S3 dialect: the plan's role, which is assumed once as a check, or the caller
/// itself if the plan names no role.
///
/// # Errors
/// Returns an error if the role cannot be assumed.
pub(crate) async fn assume_aws_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
    http: &SharedHttpClient,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let own = config.endpoint.as_deref().filter(|_| config.provider.profile().assumes_roles_at_endpoint);
    let settings = &config.aws_endpoints;
    let (named, variant) = if config.reads_aws_endpoints() {
        (settings.sts.as_ref().map(|endpoint| endpoint.url.as_str()), settings.variant())
    } else {
        (None, EndpointVariant::default())
    };
    prefetch(AwsRoleProvider::new(arn, region, (own.or(named), variant), caller, http.clone())).await
}

/// Returns the provider for OSS: the plan's role, which is assumed once as a check, or the caller itself if the
/// plan names no role.
///
/// # Errors
/// Returns an error if the role cannot be assumed.
pub(crate) async fn assume_oss_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let sts = sts_endpoint(config.endpoint.as_deref().unwrap_or_default(), region);
    prefetch(OssRoleProvider::new(arn, &sts, caller)?).await
}

/// Provides the credentials of a role at AWS, or at a server with AWS's STS API.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
#[derive(Debug)]
struct AwsRoleProvider {
    sts: Client,
    /// The STS in messages: its host if the plan names one, otherwise AWS's STS and the region.
    sts_name: String,
    arn: String,
    caller: SharedCredentialsProvider,
}

impl AwsRoleProvider {
    /// Creates a provider for the role with this ARN, at the STS at this endpoint, or at AWS's own STS in this
    /// region.
    ///
    /// Only these arguments decide which host is used. The client is not created from the environment, which may name
    /// other hosts.
    fn new(
        arn: &str,
        region: &str,
        (endpoint, variant): (Option<&str>, EndpointVariant),
        caller: SharedCredentialsProvider,
        http: SharedHttpClient,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(scaled(CONNECT_TIMEOUT))
            .operation_timeout(scaled(STS_TIMEOUT))
            .build();
        let mut sdk = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(region.to_owned()))
            // The caller's credentials may change between two requests.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts);
        sdk.set_endpoint_url(endpoint.map(str::to_owned));
        sdk.set_use_fips(Some(variant.fips)).set_use_dual_stack(Some(variant.dual_stack));
        let host = endpoint.and_then(|url| url.split_once("://")).map(|(_, host)| host.to_owned());
        let sts_name = host.unwrap_or_else(|| format!("AWS STS in {region}"));
        Self { sts: Client::from_conf(sdk.build()), sts_name, arn: arn.to_owned(), caller }
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.caller.provide_credentials().await?;
        let signed_by_the_caller = aws_sdk_sts::Config::builder().credentials_provider(caller.clone());
        let request = self.sts.assume_role().role_arn(&self.arn).role_session_name(SESSION);
        let sending = Box::pin(request.customize().config_override(signed_by_the_caller).send());
        let no_response =
            |reason: &dyn Display| AssumeRoleError::NoValidResponse(format!("{}: {reason}", self.sts_name));
        // The HTTP client reports long waits for the STS.
        let response = tokio::time::timeout(scaled(STS_TIMEOUT), sending).await;
        let response = response.map_err(|_| no_response(&TimeLimitError(scaled(STS_TIMEOUT))))?;
        let response = response.map_err(|error| match &error {
            SdkError::ServiceError(refusal) => {
                let (code, message) = code_and_message(refusal.err().meta(), refusal.raw());
                AssumeRoleError::rejected(&code, &message, &caller)
            }
            SdkError::TimeoutError(_) => no_response(&TimeLimitError(scaled(STS_TIMEOUT))),
            _ => AssumeRoleError::NoValidResponse(sanitize(&root_cause(&error), &caller)),
        })?;
        let no_credentials =
            || AssumeRoleError::NoValidResponse("the response contains no valid credentials".to_owned());
        let granted = response.credentials().ok_or_else(no_credentials)?;
        let until = SystemTime::try_from(*granted.expiration()).map_err(|_| no_credentials())?;
        let granted = Credentials::new(
            granted.access_key_id(),
            granted.secret_access_key(),
            Some(granted.session_token().to_owned()),
            Some(until),
            "role",
        );
        // The reason is not shown: the caller cannot fix what the STS returned.
        check_credentials(&granted).map_err(|_| no_credentials())?;
        Ok(granted)
    }
}

/// Returns the code and the message of an error response. Some S3-compatible servers use S3's error format instead of
/// the STS's, or a mixture of both.
fn code_and_message(meta: &ErrorMetadata, response: &HttpResponse) -> (String, String) {
    let (mut code, mut message) = (meta.code().map(str::to_owned), meta.message().unwrap_or_default().to_owned());
    if code.is_none() {
        // A document that cannot be parsed yields the elements before the error, perhaps none.
        let _ = xml::read(response.body().bytes().unwrap_or_default(), |path, text| {
            if path.ends_with("Error/Code") {
                code = Some(text.to_owned());
            } else if path.ends_with("Error/Message") {
                text.clone_into(&mut message);
            }
        });
    }
    (code.unwrap_or_else(|| format!("HTTP {}", response.status().as_u16())), message)
}

impl ProvideCredentials for AwsRoleProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

/// The session duration in seconds. Every role allows this one.
const DURATION: u32 = 3600;

/// The SHA-256 of an empty body: all parameters are in the query.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986: everything except letters, digits and these four characters.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The maximum size of a response of the STS, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Three attempts within a few seconds, because a request may be waiting for the credentials.
const RETRY_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(300), max_delay: Duration::from_secs(3), max_attempts: 3 };

/// Provides the credentials of an Alibaba Cloud role.
/// <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>
#[derive(Debug)]
struct OssRoleProvider {
    client: WebClient,
    url: HttpUrl,
    query: String,
    caller: SharedCredentialsProvider,
    clock: SigningClock,
}

/// Why an attempt failed, and whether a retry may succeed.
struct AssumeRoleAttemptError {
    reason: AssumeRoleError,
    is_retryable: bool,
}

/// The fields of the response that are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResponse {
    credentials: SessionKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SessionKeys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StsErrorResponse {
    code: String,
    message: String,
}

/// Returns the STS for an OSS endpoint: the STS of the region, at its address inside Alibaba Cloud's network if the
/// endpoint is internal. A server that does not belong to Alibaba Cloud is its own STS.
fn sts_endpoint(endpoint: &str, region: &str) -> String {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host).to_ascii_lowercase();
    let host = host.split_once(':').map_or(host.as_str(), |(name, _)| name);
    match host.strip_suffix(".aliyuncs.com") {
        Some(name) if name.ends_with("-internal") => format!("https://sts-vpc.{region}.aliyuncs.com"),
        Some(_) => format!("https://sts.{region}.aliyuncs.com"),
        None => endpoint.to_owned(),
    }
}

impl OssRoleProvider {
    /// Creates a provider for the role with this ARN, at the STS with this URL.
    ///
    /// # Errors
    /// Returns an error if the URL is not valid.
    fn new(arn: &str, sts: &str, caller: SharedCredentialsProvider) -> Result<Self, AssumeRoleError> {
        let arn = utf8_percent_encode(arn, PERCENT_ENCODED);
        let query = format!("DurationSeconds={DURATION}&RoleArn={arn}&RoleSessionName={SESSION}");
        let url = HttpUrl::parse(&format!("{sts}/?{query}"))
            .map_err(|error| AssumeRoleError::NoValidResponse(format!("the URL of the STS {error}")))?;
        Ok(Self { client: WebClient::for_api_call("AssumeRole"), url, query, caller, clock: SigningClock::default() })
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.caller.provide_credentials().await?;
        let sending = retry(
            RETRY_POLICY,
            |failed: &AssumeRoleAttemptError| failed.is_retryable,
            || self.send_assume_role(&caller),
        );
        let granted = tokio::time::timeout(scaled(STS_TIMEOUT), sending).await.map_err(|_| {
            let reason = format!("{}: {}", self.url.origin(), TimeLimitError(scaled(STS_TIMEOUT)));
            AssumeRoleError::NoValidResponse(reason)
        })?;
        Ok(granted.map_err(|exhausted| exhausted.error.reason)?)
    }

    async fn send_assume_role(&self, caller: &Credentials) -> Result<Credentials, AssumeRoleAttemptError> {
        let headers = self.headers(caller).map_err(|error| AssumeRoleAttemptError {
            reason: AssumeRoleError::NoValidResponse(error.to_string()),
            is_retryable: false,
        })?;
        let request = WebRequest {
            method: Method::POST,
            url: &self.url,
            headers: &headers,
            body: Bytes::new(),
            // The STS is chosen by the plan, which has to allow http.
            allow_http: true,
        };
        let limits = WebRequestLimits {
            max_time: scaled(STS_TIMEOUT),
            max_body_bytes: MAX_RESPONSE_BYTES,
            ..WebRequestLimits::default()
        };
        let response = self.client.send(request, limits).await.map_err(|error| match error {
            WebRequestError::InvalidSetup(error) => {
                AssumeRoleAttemptError { reason: AssumeRoleError::InvalidSetup(error), is_retryable: false }
            }
            error => {
                let reason = AssumeRoleError::NoValidResponse(sanitize(&error.to_string(), caller));
                AssumeRoleAttemptError { reason, is_retryable: true }
            }
        })?;
        let date = server_time(&response.headers);
        if !response.status.is_success() {
            return Err(self.classify_error(&response, date, caller));
        }
        parse_credentials(&response.body, date).ok_or_else(|| {
            let reason = format!("{}: the response contains no valid credentials", self.url.origin());
            AssumeRoleAttemptError { reason: AssumeRoleError::NoValidResponse(reason), is_retryable: false }
        })
    }

    /// Returns the headers of a request, including its signature. The error does not contain the value.
    fn headers(&self, caller: &Credentials) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let key = caller.access_key_id();
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("host", self.url.authority().to_owned()),
            ("x-acs-action", "AssumeRole".to_owned()),
            ("x-acs-content-sha256", EMPTY_SHA256.to_owned()),
            ("x-acs-date", self.clock.now().to_string()),
            ("x-acs-signature-nonce", uuid::Uuid::new_v4().simple().to_string()),
            ("x-acs-version", "2015-04-01".to_owned()),
        ];
        if let Some(token) = caller.session_token() {
            headers.push(("x-acs-accesskey-id", key.to_owned()));
            headers.push(("x-acs-security-token", token.to_owned()));
        }
        headers.sort_unstable_by_key(|(name, _)| *name);
        let unsigned = Acs3Request { method: "POST", query: &self.query, headers: &headers, body_sha256: EMPTY_SHA256 };
        let authorization = unsigned.authorization(key, caller.secret_access_key());
        headers.push(("authorization", authorization));
        let header = |(name, value): (&'static str, String)| {
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(matches!(name, "x-acs-security-token" | "authorization"));
            Ok((HeaderName::from_static(name), value))
        };
        headers.into_iter().map(header).collect()
    }

    /// Converts an error response of the STS. If the STS rejected the time, the clock is corrected for the next
    /// attempt.
    fn classify_error(
        &self,
        response: &WebResponse,
        date: Option<Timestamp>,
        caller: &Credentials,
    ) -> AssumeRoleAttemptError {
        let StsErrorResponse { code, message } = serde_json::from_slice(&response.body).unwrap_or_default();
        let clock_corrected = code.starts_with("InvalidTimeStamp") && date.is_some_and(|date| self.clock.sync_to(date));
        let is_busy =
            response.status.is_server_error() || response.status.as_u16() == 429 || code.starts_with("Throttling");
        let code = if code.is_empty() { format!("HTTP {}", response.status.as_u16()) } else { code };
        AssumeRoleAttemptError {
            reason: AssumeRoleError::rejected(&code, &message, caller),
            is_retryable: clock_corrected || is_busy,
        }
    }
}

/// Returns the server's time, from the `Date` header.
fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// Parses the credentials in a response. Their expiry is converted from the server's clock to this machine's, if the
/// server's time is known.
fn parse_credentials(body: &[u8], date: Option<Timestamp>) -> Option<Credentials> {
    let AssumeRoleResponse { credentials: keys } = serde_json::from_slice(body).ok()?;
    let left = keys.expiration.duration_since(date.unwrap_or_else(Timestamp::now));
    let until = SystemTime::now() + Duration::try_from(left).unwrap_or_default();
    let granted =
        Credentials::new(keys.access_key_id, keys.access_key_secret, Some(keys.security_token), Some(until), "role");
    check_credentials(&granted).ok()?;
    Some(granted)
}

impl ProvideCredentials for OssRoleProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

/// A request to sign with the signature of Alibaba Cloud's APIs, `ACS3-HMAC-SHA256`. Its path is always `/`.
/// <https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature>
struct Acs3Request<'a> {
    /// The HTTP method, in upper case.
    method: &'a str,
    /// The query as sent: encoded, and sorted by name.
    query: &'a str,
    /// The headers, all of which are signed. Names are in lower case and sorted.
    headers: &'a [(&'a str, String)],
    /// The SHA-256 of the body, in hexadecimal.
    body_sha256: &'a str,
}

impl Acs3Request<'_> {
    /// Returns the value of the `Authorization` header.
    fn authorization(&self, key: &str, secret: &str) -> String {
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
mod tests;
