//! Roles of Alibaba Cloud, assumed with its STS.
//! <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>

use std::io;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::super::acs3::Acs3Request;
use super::super::validation::check_credentials;
use super::{AssumeRoleError, SESSION, STS_TIMEOUT};
use crate::backoff::{Backoff, RetryPolicy};
use crate::http_client::{SigningClock, StsClient};
use crate::timeouts::{self, scaled};

/// The session duration in seconds. Every role allows this one.
const DURATION: u32 = 3600;

/// The SHA-256 of an empty body: all parameters are in the query.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986: everything except letters, digits and these four characters.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Three attempts within a few seconds, because a request may be waiting for the credentials.
const RETRY_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(300), max_delay: Duration::from_secs(3), max_attempts: 3 };

/// Provides the credentials of an Alibaba Cloud role.
#[derive(Debug)]
pub(super) struct OssRoleProvider {
    sts: StsClient,
    query: String,
    caller: SharedCredentialsProvider,
    clock: SigningClock,
}

/// Why an attempt failed, and whether a retry may succeed.
struct AssumeRoleAttemptError {
    why: AssumeRoleError,
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
pub(super) fn sts_endpoint(endpoint: &str, region: &str) -> String {
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
    /// Returns an error if the system has no CA certificates to verify the STS with.
    pub(super) fn new(arn: &str, sts: &str, caller: SharedCredentialsProvider) -> io::Result<Self> {
        let arn = utf8_percent_encode(arn, PERCENT_ENCODED);
        let query = format!("DurationSeconds={DURATION}&RoleArn={arn}&RoleSessionName={SESSION}");
        Ok(Self { sts: StsClient::new(sts)?, query, caller, clock: SigningClock::default() })
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.caller.provide_credentials().await?;
        let asking = async {
            let mut backoff = Backoff::new(RETRY_POLICY);
            loop {
                let AssumeRoleAttemptError { why, is_retryable: may_pass } = match self.send_assume_role(&caller).await
                {
                    Ok(granted) => return Ok(granted),
                    Err(failure) => failure,
                };
                match backoff.next_delay().filter(|_| may_pass) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(why),
                }
            }
        };
        let host = self.sts.authority();
        let asked =
            timeouts::with_time_limit(scaled(STS_TIMEOUT), host, || "no response to AssumeRole".to_owned(), asking)
                .await;
        Ok(asked.unwrap_or_else(|late| Err(AssumeRoleError::NoValidResponse(format!("{host}: {late}"))))?)
    }

    async fn send_assume_role(&self, caller: &Credentials) -> Result<Credentials, AssumeRoleAttemptError> {
        let unbuilt = |error: http::Error| AssumeRoleAttemptError {
            why: AssumeRoleError::NoValidResponse(error.to_string()),
            is_retryable: false,
        };
        let request = self.build_request(caller).map_err(unbuilt)?;
        let (head, body) = self.sts.send(request).await.map_err(|error| {
            let why = format!("{}: {error}", self.sts.authority());
            AssumeRoleAttemptError {
                why: AssumeRoleError::NoValidResponse(super::sanitize(&why, caller)),
                is_retryable: true,
            }
        })?;
        let date = server_time(&head);
        if !head.status.is_success() {
            return Err(self.classify_error(&head, &body, date, caller));
        }
        parse_credentials(&body, date).ok_or_else(|| {
            let why = format!("{}: the response contains no valid credentials", self.sts.authority());
            AssumeRoleAttemptError { why: AssumeRoleError::NoValidResponse(why), is_retryable: false }
        })
    }

    fn build_request(&self, caller: &Credentials) -> http::Result<Request<Bytes>> {
        let key = caller.access_key_id();
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("host", self.sts.authority().to_owned()),
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
        let mut request = Request::post(format!("/?{}", self.query));
        for (name, value) in
            headers.iter().map(|(name, value)| (*name, value)).chain([("authorization", &authorization)])
        {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(matches!(name, "x-acs-security-token" | "authorization"));
            request = request.header(name, value);
        }
        request.header("content-length", 0).body(Bytes::new())
    }

    /// Converts an error response of the STS. If the STS rejected the time, the clock is corrected for the next
    /// attempt.
    fn classify_error(
        &self,
        head: &Parts,
        body: &[u8],
        date: Option<Timestamp>,
        caller: &Credentials,
    ) -> AssumeRoleAttemptError {
        let StsErrorResponse { code, message } = serde_json::from_slice(body).unwrap_or_default();
        let put_right = code.starts_with("InvalidTimeStamp") && date.is_some_and(|date| self.clock.sync_to(date));
        let busy = head.status.is_server_error() || head.status.as_u16() == 429 || code.starts_with("Throttling");
        let code = if code.is_empty() { format!("HTTP {}", head.status.as_u16()) } else { code };
        AssumeRoleAttemptError {
            why: AssumeRoleError::rejected(&code, &message, caller),
            is_retryable: put_right || busy,
        }
    }
}

/// Returns the server's time, from the `Date` header.
fn server_time(head: &Parts) -> Option<Timestamp> {
    let date = head.headers.get(http::header::DATE)?.to_str().ok()?;
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
