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

use super::super::acs3::Unsigned;
use super::super::usable::check_credentials;
use super::{PATIENCE, RoleError, SESSION};
use crate::backoff::{Backoff, RetryPolicy};
use crate::store::wire::{Clock, Errand};
use crate::timeouts::{self, scaled};

/// The session duration in seconds. Every role allows this one.
const DURATION: u32 = 3600;

/// The SHA-256 of an empty body: all parameters are in the query.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986: everything except letters, digits and these four characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Three attempts within a few seconds, because a request may be waiting for the credentials.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(300), cap: Duration::from_secs(3), attempts: 3 };

/// Provides the credentials of an Alibaba Cloud role.
#[derive(Debug)]
pub(super) struct OssRole {
    sts: Errand,
    query: String,
    caller: SharedCredentialsProvider,
    clock: Clock,
}

/// Why an attempt failed, and whether a retry may succeed.
struct Failure {
    why: RoleError,
    may_pass: bool,
}

/// The fields of the response that are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Granted {
    credentials: Keys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    code: String,
    message: String,
}

/// Returns the STS for an OSS endpoint: the STS of the region, at its address inside Alibaba Cloud's network if the
/// endpoint is internal. A server that does not belong to Alibaba Cloud is its own STS.
pub(super) fn sts_of(endpoint: &str, region: &str) -> String {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host).to_ascii_lowercase();
    let host = host.split_once(':').map_or(host.as_str(), |(name, _)| name);
    match host.strip_suffix(".aliyuncs.com") {
        Some(name) if name.ends_with("-internal") => format!("https://sts-vpc.{region}.aliyuncs.com"),
        Some(_) => format!("https://sts.{region}.aliyuncs.com"),
        None => endpoint.to_owned(),
    }
}

impl OssRole {
    /// Creates a provider for the role with this ARN, at the STS with this URL.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify the STS with.
    pub(super) fn new(arn: &str, sts: &str, caller: SharedCredentialsProvider) -> io::Result<Self> {
        let arn = utf8_percent_encode(arn, ENCODED);
        let query = format!("DurationSeconds={DURATION}&RoleArn={arn}&RoleSessionName={SESSION}");
        Ok(Self { sts: Errand::new(sts)?, query, caller, clock: Clock::default() })
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.caller.provide_credentials().await?;
        let asking = async {
            let mut backoff = Backoff::new(POLICY);
            loop {
                let Failure { why, may_pass } = match self.ask(&caller).await {
                    Ok(granted) => return Ok(granted),
                    Err(failure) => failure,
                };
                match backoff.after_failure().filter(|_| may_pass) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(why),
                }
            }
        };
        let host = self.sts.authority();
        let asked = timeouts::within(scaled(PATIENCE), host, || "no answer to AssumeRole".to_owned(), asking).await;
        Ok(asked.unwrap_or_else(|late| Err(RoleError::Unanswered(format!("{host}: {late}"))))?)
    }

    async fn ask(&self, caller: &Credentials) -> Result<Credentials, Failure> {
        let unbuilt = |error: http::Error| Failure { why: RoleError::Unanswered(error.to_string()), may_pass: false };
        let request = self.request(caller).map_err(unbuilt)?;
        let (head, body) = self.sts.run(request).await.map_err(|error| {
            let why = format!("{}: {error}", self.sts.authority());
            Failure { why: RoleError::Unanswered(super::harmless(&why, caller)), may_pass: true }
        })?;
        let date = date(&head);
        if !head.status.is_success() {
            return Err(self.refused(&head, &body, date, caller));
        }
        granted(&body, date).ok_or_else(|| {
            let why = RoleError::Unanswered(format!("{}: the answer holds no credentials", self.sts.authority()));
            Failure { why, may_pass: false }
        })
    }

    fn request(&self, caller: &Credentials) -> http::Result<Request<Bytes>> {
        let key = caller.access_key_id();
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("host", self.sts.authority().to_owned()),
            ("x-acs-action", "AssumeRole".to_owned()),
            ("x-acs-content-sha256", NO_BODY.to_owned()),
            ("x-acs-date", self.clock.now().to_string()),
            ("x-acs-signature-nonce", uuid::Uuid::new_v4().simple().to_string()),
            ("x-acs-version", "2015-04-01".to_owned()),
        ];
        if let Some(token) = caller.session_token() {
            headers.push(("x-acs-accesskey-id", key.to_owned()));
            headers.push(("x-acs-security-token", token.to_owned()));
        }
        headers.sort_unstable_by_key(|(name, _)| *name);
        let unsigned = Unsigned { method: "POST", query: &self.query, headers: &headers, body_sha256: NO_BODY };
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
    fn refused(&self, head: &Parts, body: &[u8], date: Option<Timestamp>, caller: &Credentials) -> Failure {
        let Refusal { code, message } = serde_json::from_slice(body).unwrap_or_default();
        let put_right = code.starts_with("InvalidTimeStamp") && date.is_some_and(|date| self.clock.put_right(date));
        let busy = head.status.is_server_error() || head.status.as_u16() == 429 || code.starts_with("Throttling");
        let code = if code.is_empty() { format!("HTTP {}", head.status.as_u16()) } else { code };
        Failure { why: RoleError::refused(&code, &message, caller), may_pass: put_right || busy }
    }
}

/// Returns the server's time, from the `Date` header.
fn date(head: &Parts) -> Option<Timestamp> {
    let date = head.headers.get(http::header::DATE)?.to_str().ok()?;
    rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// Parses the credentials in a response. Their expiry is converted from the server's clock to this machine's, if the
/// server's time is known.
fn granted(body: &[u8], date: Option<Timestamp>) -> Option<Credentials> {
    let Granted { credentials: keys } = serde_json::from_slice(body).ok()?;
    let left = keys.expiration.duration_since(date.unwrap_or_else(Timestamp::now));
    let until = SystemTime::now() + Duration::try_from(left).unwrap_or_default();
    let granted =
        Credentials::new(keys.access_key_id, keys.access_key_secret, Some(keys.security_token), Some(until), "role");
    check_credentials(&granted).ok()?;
    Some(granted)
}

impl ProvideCredentials for OssRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
