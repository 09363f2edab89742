//! The STS of Alibaba Cloud.
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

/// How long a role is taken on for, in seconds: what every role allows.
const DURATION: u32 = 3600;

/// SHA-256 of nothing: all that is asked stands in the query.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986: all but letters, digits and these four.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Three attempts within a few seconds: somebody waits for them.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(300), cap: Duration::from_secs(3), attempts: 3 };

/// A role at Alibaba Cloud.
#[derive(Debug)]
pub(super) struct OssRole {
    sts: Errand,
    query: String,
    caller: SharedCredentialsProvider,
    clock: Clock,
}

/// Why an attempt failed, and whether another one may fare better.
struct Failure {
    why: RoleError,
    may_pass: bool,
}

/// The answer, as far as it is wanted.
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

/// The STS that goes with an endpoint of OSS: the region's, by its address inside Alibaba Cloud's network where the
/// endpoint is one of those. A server that is not Alibaba Cloud's is asked itself.
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
    /// The role of this ARN, at the STS of this URL.
    ///
    /// # Errors
    /// When the system has no certificates to check the STS by.
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

    /// Why the STS said no. A clock that it calls wrong is put right, for the next attempt.
    fn refused(&self, head: &Parts, body: &[u8], date: Option<Timestamp>, caller: &Credentials) -> Failure {
        let Refusal { code, message } = serde_json::from_slice(body).unwrap_or_default();
        let put_right = code.starts_with("InvalidTimeStamp") && date.is_some_and(|date| self.clock.put_right(date));
        let busy = head.status.is_server_error() || head.status.as_u16() == 429 || code.starts_with("Throttling");
        let code = if code.is_empty() { format!("HTTP {}", head.status.as_u16()) } else { code };
        Failure { why: RoleError::refused(&code, &message, caller), may_pass: put_right || busy }
    }
}

/// The server's time.
fn date(head: &Parts) -> Option<Timestamp> {
    let date = head.headers.get(http::header::DATE)?.to_str().ok()?;
    rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// What was granted; it ends when the server says so, by the server's own clock where that is known.
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
