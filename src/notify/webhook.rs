//! A webhook: its endpoint, with the URL, the events and the signing key from the plan and the environment, and its
//! messages, with their JSON bodies, headers and signatures.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batchplan_store::hex::hex;
use batchplan_store::printable::affects_terminal;
use batchplan_store::web::{HttpUrl, HttpUrlError};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{CONTENT_TYPE, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::job::{JobId, Progress};
use crate::journal::{FailureCode, JobRecord, ReportDelivery};
use crate::plan::{ExactShare, FailureThreshold, WebhookConfig, WebhookEvent, WebhookTarget};
use crate::thousands::Thousands;

/// A webhook: its URL, and the events to send to it.
#[derive(Clone)]
pub struct WebhookEndpoint {
    pub(super) url: HttpUrl,
    signer: Option<WebhookSigner>,
    pub(super) allow_http: bool,
    events: Vec<WebhookEvent>,
    failure_rate: Option<ExactShare>,
    run_time: Option<Duration>,
}

/// Why a webhook cannot be used. No message shows the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// An environment variable that the plan names is not set.
    #[error("environment variable {variable} is not set (`{key}` in [[notify]])")]
    MissingVariable {
        /// The key in the plan that names the variable.
        key: &'static str,
        /// The name of the variable.
        variable: String,
    },
    /// The value of the variable is not a valid URL.
    #[error("{variable} is not a valid webhook URL: it {fault}")]
    InvalidUrl {
        /// The name of the variable.
        variable: String,
        /// What is wrong with the URL.
        fault: HttpUrlError,
    },
    /// The value of the variable cannot be a secret, for example because it ends with a line break.
    #[error(
        "{variable} is not a valid webhook secret: it starts or ends with white space, or contains a control or \
         non-ASCII character"
    )]
    InvalidSecret {
        /// The name of the variable.
        variable: String,
    },
    /// The URL is not encrypted, so that others can read the messages.
    #[error("{variable} uses unencrypted http to another machine")]
    NotEncrypted {
        /// The name of the variable.
        variable: String,
    },
}

impl WebhookError {
    /// Returns a hint that says how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::MissingVariable { variable, .. } => {
                format!("set {variable} where batchplan runs, or remove its [[notify]] from the plan")
            }
            Self::InvalidSecret { .. } => "set it to the bare value, without a line break".to_owned(),
            Self::InvalidUrl { .. } => "use a URL such as https://hooks.example.com/batchplan".to_owned(),
            Self::NotEncrypted { .. } => "use https, or set `allow_http = true` in its [[notify]]".to_owned(),
        }
    }
}

impl WebhookEndpoint {
    /// Creates the endpoint of a plan's webhook. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// Returns an error if an environment variable is missing, or its value cannot be used.
    pub fn new(hook: &WebhookConfig, variable: impl Fn(&str) -> Option<String>) -> Result<Self, WebhookError> {
        let value = |key, name: &String| {
            let set = variable(name).filter(|value| !value.trim().is_empty());
            set.ok_or_else(|| WebhookError::MissingVariable { key, variable: name.clone() })
        };
        let url = match &hook.target {
            WebhookTarget::Url(url) => url.clone(),
            WebhookTarget::Variable(name) => {
                let variable = || name.clone();
                let url = HttpUrl::parse(value("url_env", name)?.trim())
                    .map_err(|fault| WebhookError::InvalidUrl { variable: variable(), fault })?;
                if !url.is_encrypted() && !url.is_loopback() && !hook.allow_http {
                    return Err(WebhookError::NotEncrypted { variable: variable() });
                }
                url
            }
        };
        let secret = |name: &String| {
            let secret = value("secret_env", name)?;
            // The usual mistake is a CI secret that was pasted with its line break.
            let bare = secret.trim() == secret && secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if bare { Ok(secret) } else { Err(WebhookError::InvalidSecret { variable: name.clone() }) }
        };
        let secret = hook.secret_env.as_ref().map(secret).transpose()?;
        Ok(Self {
            url,
            signer: secret.map(|secret| WebhookSigner::new(secret.as_bytes())),
            allow_http: hook.allow_http,
            events: hook.events.clone(),
            failure_rate: hook.failure_rate,
            run_time: hook.run_time,
        })
    }

    /// Returns whether the endpoint receives messages about an event.
    pub(super) fn receives(&self, event: WebhookEvent) -> bool {
        self.events.contains(&event)
    }

    /// Returns whether a job with this progress and run time has crossed the endpoint's thresholds: the failure rate,
    /// and the run time.
    pub(super) fn crossed_thresholds(&self, progress: Progress, active: Duration) -> [bool; 2] {
        let failure_rate = self.failure_rate.is_some_and(|rate| FailureThreshold::new(rate).is_exceeded(progress));
        [failure_rate, self.run_time.is_some_and(|time| active > time)]
    }

    /// Returns the headers of a message that is sent at this time, in seconds since 1970.
    pub(super) fn headers(
        &self,
        message: &WebhookMessage,
        now: i64,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (EVENT, HeaderValue::from_static(message.event.as_str())),
            (DELIVERY, HeaderValue::from_str(&message.id)?),
            (TIMESTAMP, HeaderValue::from(now)),
        ];
        if let Some(signer) = &self.signer {
            headers.push((SIGNATURE, HeaderValue::from_str(&signer.sign(now, &message.body))?));
        }
        Ok(headers)
    }

    /// An endpoint without a secret, for tests.
    #[cfg(test)]
    pub(super) fn unsigned(url: HttpUrl, events: Vec<WebhookEvent>) -> Self {
        Self { url, signer: None, allow_http: false, events, failure_rate: None, run_time: None }
    }
}

/// Shows the origin of the URL, without the parts that may be secret.
impl fmt::Display for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpoint").field("url", &self.url).field("on", &self.events).finish_non_exhaustive()
    }
}

/// A key that signs messages.
#[derive(Clone)]
struct WebhookSigner(Hmac<Sha256>);

impl WebhookSigner {
    fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// Signs a body that is sent at this time, in seconds since 1970. Returns `v1=` and the HMAC-SHA256 in hexadecimal
    /// of the timestamp, a dot, and the body.
    fn sign(&self, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1={}", hex(&mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSigner(...)")
    }
}

const EVENT: HeaderName = HeaderName::from_static("x-batchplan-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-batchplan-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-batchplan-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-batchplan-signature");

/// The version of the body's format. Endpoints can rely on the fields of a version.
const VERSION: u32 = 1;

/// The maximum number of error codes in a message.
const MAX_CODES: usize = 5;

/// The maximum length of a reason, and of a name or a line of text for chats, in characters.
const MAX_REASON: usize = 1000;
const MAX_TEXT: usize = 400;

/// What messages say about the process that sends them.
#[derive(Clone, Debug, Default)]
pub struct MessageOrigin {
    /// The page of the CI run that this process is part of.
    pub run_url: Option<String>,
}

/// An event of a job, with what a message says about it.
struct WebhookPayload<'a> {
    event: WebhookEvent,
    at: Timestamp,
    job: &'a JobRecord,
    /// The number of failed objects for each error code.
    failures: &'a [(FailureCode, u64)],
}

/// One message to one endpoint.
#[derive(Clone, Debug)]
pub(super) struct WebhookMessage {
    /// Identifies the message. It stays the same when the message is sent again.
    pub(super) id: String,
    pub(super) event: WebhookEvent,
    pub(super) job: String,
    pub(super) body: Bytes,
}

impl WebhookMessage {
    /// Creates the message about an event of a job at this time. `failures` is the number of failed objects for each
    /// error code.
    pub(super) fn new(
        event: WebhookEvent,
        at: Timestamp,
        job: &JobRecord,
        failures: &[(FailureCode, u64)],
        origin: &MessageOrigin,
    ) -> Self {
        let id = message_id(event, job).to_string();
        let body = Bytes::from(WebhookPayload { event, at, job, failures }.body(&id, origin).to_string());
        Self { id, event, job: job.id.to_string(), body }
    }

    /// Creates the message about drift that was found at this time.
    pub(super) fn about_drift(at: Timestamp, found: &DriftSummary, origin: &MessageOrigin) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        let body = Bytes::from(found.body(&id, at, origin).to_string());
        let job = found.job.as_ref().map_or_else(|| found.name.clone(), JobId::to_string);
        Self { id, event: WebhookEvent::Drift, job, body }
    }
}

/// What a verification found, for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftSummary {
    /// The job that was verified; `None` for a plan.
    pub job: Option<JobId>,
    /// The name of the plan.
    pub name: String,
    /// The plan file.
    pub plan_file: PathBuf,
    /// The number of objects of the job or the plan.
    pub objects: u64,
    /// The number of objects that were read.
    pub read: u64,
    /// The likely number of objects that are not as they should be, and its bounds. All are equal if every object was
    /// read.
    pub drifted: [u64; 3],
    /// The number of objects that could not be read, of those that were to be read.
    pub unreadable: u64,
}

impl DriftSummary {
    fn body(&self, id: &str, at: Timestamp, origin: &MessageOrigin) -> Json {
        let [low, likely, high] = self.drifted;
        json!({
            "version": VERSION,
            "text": self.text(),
            "event": WebhookEvent::Drift.as_str(),
            "id": id,
            "at": at.to_string(),
            "job": {
                "id": self.job.as_ref().map(JobId::as_str),
                "name": to_single_line(&self.name, MAX_TEXT),
                "status": null,
                "reason": null,
                "priority": null,
            },
            "progress": null,
            "active_seconds": null,
            "failures": [],
            "drift": {
                "objects": self.objects,
                "read": self.read,
                "drifted": { "likely": likely, "low": low, "high": high },
                "unreadable": self.unreadable,
            },
            "report": null,
            "plan_file": plan_file_name(&self.plan_file),
            "run_url": origin.run_url,
        })
    }

    fn text(&self) -> String {
        let [low, likely, high] = self.drifted;
        let about = if low == high { "" } else { "about " };
        let job = self
            .job
            .as_ref()
            .map_or_else(String::new, |id| format!(", job {}", id.as_str().chars().take(8).collect::<String>()));
        let text = format!(
            "batchplan: {} has drifted ({about}{likely} of {} objects are not as they should be{job})",
            self.name, self.objects
        );
        defuse_mentions(&to_single_line(&text, MAX_TEXT))
    }
}

/// Returns the name of a plan file, without its folder.
fn plan_file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| to_single_line(&name.to_string_lossy(), MAX_TEXT))
}

/// Returns the ID of a message. A job ends once and crosses a threshold once, so the IDs of these events are derived
/// from the job: they stay the same if a process sends the message again after a crash.
fn message_id(event: WebhookEvent, job: &JobRecord) -> uuid::Uuid {
    match event {
        WebhookEvent::Active | WebhookEvent::Suspended | WebhookEvent::Paused | WebhookEvent::Drift => {
            uuid::Uuid::new_v4()
        }
        WebhookEvent::Complete
        | WebhookEvent::Failed
        | WebhookEvent::Cancelled
        | WebhookEvent::FailureRate
        | WebhookEvent::RunTime => {
            let digest = Sha256::digest(format!("{}/{}", job.id, event.as_str()));
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        }
    }
}

impl WebhookPayload<'_> {
    fn body(&self, id: &str, origin: &MessageOrigin) -> Json {
        let Self { event, at, job, failures } = self;
        let progress = job.progress;
        let Progress { total, succeeded, failed, .. } = progress;
        let mut failures: Vec<_> = failures.iter().collect();
        failures.sort_by(|(one, many), (other, more)| more.cmp(many).then_with(|| one.cmp(other)));
        let failures = failures.iter().take(MAX_CODES).map(|(error, count)| {
            let http = Some(error.http).filter(|http| *http > 0);
            json!({ "code": to_single_line(&error.code, MAX_TEXT), "http": http, "count": count })
        });
        json!({
            "version": VERSION,
            "text": self.text(),
            "event": event.as_str(),
            "id": id,
            "at": at.to_string(),
            "job": {
                "id": job.id.as_str(),
                "name": to_single_line(&job.name, MAX_TEXT),
                "status": job.status,
                "reason": job.reason.as_ref().map(|reason| to_single_line(reason, MAX_REASON)),
                "priority": job.priority,
            },
            "progress": {
                "total": total,
                "succeeded": succeeded,
                "failed": failed,
                "left": progress.remaining(),
                "failure_rate": failure_rate(progress),
            },
            "active_seconds": job.active_time.as_secs_f64(),
            "failures": failures.collect::<Vec<_>>(),
            "drift": null,
            "report": self.report(),
            "plan_file": plan_file_name(&job.plan_file),
            "run_url": origin.run_url,
        })
    }

    /// Returns the location of the report, unless it is only on this machine.
    fn report(&self) -> Option<Json> {
        let location = self.job.report_location.as_ref()?;
        if !location.starts_with("s3://") && !location.starts_with("oss://") {
            return None;
        }
        Some(json!({ "place": location, "published": self.job.report_delivery == ReportDelivery::Done }))
    }

    /// Returns the event as one line of text for people.
    fn text(&self) -> String {
        let Self { event, job, .. } = self;
        let progress = job.progress;
        let state = match event {
            WebhookEvent::Active => "is running".to_owned(),
            WebhookEvent::Suspended => "is waiting for confirmation".to_owned(),
            WebhookEvent::Paused => "is paused".to_owned(),
            WebhookEvent::Complete if progress.failed > 0 => "is complete, with failed objects".to_owned(),
            WebhookEvent::Complete => "is complete".to_owned(),
            WebhookEvent::Failed => "has failed".to_owned(),
            WebhookEvent::Cancelled => "was cancelled".to_owned(),
            WebhookEvent::FailureRate => "has exceeded `failure_rate`".to_owned(),
            WebhookEvent::RunTime => format!("has been running for {} s", job.active_time.as_secs()),
            WebhookEvent::Drift => "has drifted".to_owned(),
        };
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let Progress { total, succeeded, failed, .. } = progress;
        let short: String = job.id.as_str().chars().take(8).collect();
        let counts = match event {
            WebhookEvent::Complete if total == 0 => "no objects to process".to_owned(),
            _ => format!("{} of {} succeeded, {} failed", Thousands(succeeded), Thousands(total), Thousands(failed)),
        };
        // The counts come first, so that a long reason cannot cut them off.
        defuse_mentions(&to_single_line(
            &format!("batchplan: {} {state} ({counts}, job {short}){reason}", job.name),
            MAX_TEXT,
        ))
    }
}

/// Returns the share of failed objects among the attempted ones, or `None` if none was attempted.
#[expect(clippy::cast_precision_loss, reason = "a share for people needs no more digits than this has")]
fn failure_rate(progress: Progress) -> Option<f64> {
    (progress.finished() > 0).then(|| progress.failed as f64 / progress.finished() as f64)
}

/// Replaces characters that affect a terminal by spaces, so that the text is one line, and truncates it to
/// `max_chars` characters.
fn to_single_line(text: &str, max_chars: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == max_chars {
            out.push('…');
            break;
        }
        out.push(if affects_terminal(c) { ' ' } else { c });
    }
    out
}

/// Replaces `<`, `>`, and `@` by similar characters, so that chats do not take `<!channel>` or `@all` for a mention or
/// a link.
fn defuse_mentions(text: &str) -> String {
    let replacement = |c| match c {
        '<' => '‹',
        '>' => '›',
        '@' => '＠',
        c => c,
    };
    text.chars().map(replacement).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::JobStatus;
    use crate::journal::{JobSource, WorkSpan};

    fn hook(target: WebhookTarget, secret_env: Option<&str>, allow_http: bool) -> WebhookConfig {
        let secret_env = secret_env.map(str::to_owned);
        WebhookConfig {
            target,
            secret_env,
            allow_http,
            events: vec![WebhookEvent::Failed],
            failure_rate: None,
            run_time: None,
        }
    }

    fn environment(name: &str) -> Option<String> {
        match name {
            "URL" => Some("https://hooks.example.com/T0/s3cret\n".to_owned()),
            "PLAIN" => Some("http://hooks.example.com/s3cret".to_owned()),
            "BAD" | "KEY" => Some("s3cret".to_owned()),
            "BLANK" => Some(" ".to_owned()),
            "BROKEN" => Some("s3cret\n".to_owned()),
            "CONTROL" => Some("s3cret\u{1b}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn environment_values_are_required_and_never_shown() {
        let variable = |name: &str| WebhookTarget::Variable(name.to_owned());
        let endpoint = WebhookEndpoint::new(&hook(variable("URL"), Some("KEY"), false), environment).expect("ready");
        assert_eq!(endpoint.url.full_url(), "https://hooks.example.com/T0/s3cret");
        assert!(endpoint.signer.is_some());
        assert!(!format!("{endpoint} {endpoint:?} {:?}", endpoint.signer).contains("s3cret"));
        assert!(WebhookEndpoint::new(&hook(variable("PLAIN"), None, true), environment).is_ok());
        for name in ["BROKEN", "CONTROL"] {
            let error =
                WebhookEndpoint::new(&hook(variable("URL"), Some(name), false), environment).expect_err("refused");
            assert_eq!(error, WebhookError::InvalidSecret { variable: name.to_owned() });
            assert!(error.to_string().starts_with(name) && !error.to_string().contains("s3cret"), "{error}");
        }
        for (target, secret, said) in [
            ("NONE", None, "environment variable NONE is not set (`url_env` in [[notify]])"),
            ("BLANK", None, "environment variable BLANK is not set (`url_env` in [[notify]])"),
            ("URL", Some("BLANK"), "environment variable BLANK is not set (`secret_env` in [[notify]])"),
            ("BAD", None, "BAD is not a valid webhook URL: it does not begin with https:// or http://"),
            ("PLAIN", None, "PLAIN uses unencrypted http to another machine"),
        ] {
            let error = WebhookEndpoint::new(&hook(variable(target), secret, false), environment).expect_err(target);
            assert_eq!(error.to_string(), said);
            assert!(!format!("{error:?} {}", error.help()).contains("s3cret"));
        }
    }

    #[test]
    fn time_and_body_are_signed_together() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        let expected = "v1=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940";
        assert_eq!(WebhookSigner::new(b"s3cret").sign(1_700_000_000, b"{\"a\":1}"), expected);
        assert_ne!(WebhookSigner::new(b"s3cret").sign(1_700_000_001, b"{\"a\":1}"), expected);
        assert_ne!(WebhookSigner::new(b"s3cret").sign(1_700_000_000, b"{\"a\":2}"), expected);
        assert_ne!(WebhookSigner::new(b"other").sign(1_700_000_000, b"{\"a\":1}"), expected);
    }

    fn job(name: &str, reason: Option<&str>) -> JobRecord {
        JobRecord {
            number: 1,
            id: "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse::<JobId>().expect("an id"),
            identity: "identity".to_owned(),
            token: Some("token".to_owned()),
            name: name.to_owned(),
            store_identity: None,
            environment_endpoints: None,
            description: None,
            source: JobSource::Plan,
            plan_file: PathBuf::from("/home/me/plans/plan.toml"),
            plan_hash: "hash".to_owned(),
            plan_text: b"the plan".to_vec(),
            status: JobStatus::Failed,
            reason: reason.map(str::to_owned),
            pause_cause: None,
            confirmed: true,
            priority: 7,
            created: Timestamp::UNIX_EPOCH,
            changed: Timestamp::UNIX_EPOCH,
            ended: None,
            progress: Progress { total: 10, succeeded: 6, failed: 2, ..Progress::default() },
            in_doubt: 0,
            maybe_started: 0,
            lost_outcomes: 0,
            active_time: Duration::from_millis(1500),
            scope: None,
            next_row: None,
            request: None,
            report_delivery: ReportDelivery::Done,
            report_location: Some("oss://reports/r/manifest.json".to_owned()),
            manifest_fingerprint: None,
            inventory: None,
            delta_scope: None,
            work_span: WorkSpan::default(),
            can_capture: true,
        }
    }

    fn body(job: &JobRecord, failures: &[(FailureCode, u64)], origin: &MessageOrigin) -> Json {
        let message = WebhookMessage::new(WebhookEvent::Failed, Timestamp::UNIX_EPOCH, job, failures, origin);
        let body: Json = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!(body["id"], message.id.as_str());
        body
    }

    #[test]
    fn body_matches_the_readme() {
        let code = |code: &str, http| FailureCode { code: code.to_owned(), http };
        let failures = (1..9).map(|n| (code(&format!("E{n}"), 400), n));
        let failures: Vec<_> = failures.chain([(code("ConnectionError", 0), 20)]).collect();
        let origin = MessageOrigin { run_url: Some("https://github.com/o/r/actions/runs/1".to_owned()) };
        let mut body = body(&job("tag-docs", Some("2 of 10 objects failed")), &failures, &origin);
        body["id"] = json!("[ID]");
        let expected = json!({
            "version": 1,
            "text": "batchplan: tag-docs has failed (6 of 10 succeeded, 2 failed, job ODRiZWQ5): 2 of 10 objects failed",
            "event": "failed",
            "id": "[ID]",
            "at": "1970-01-01T00:00:00Z",
            "job": {
                "id": "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=",
                "name": "tag-docs",
                "status": "Failed",
                "reason": "2 of 10 objects failed",
                "priority": 7,
            },
            "progress": { "total": 10, "succeeded": 6, "failed": 2, "left": 2, "failure_rate": 0.25 },
            "active_seconds": 1.5,
            "failures": [
                { "code": "ConnectionError", "http": null, "count": 20 },
                { "code": "E8", "http": 400, "count": 8 },
                { "code": "E7", "http": 400, "count": 7 },
                { "code": "E6", "http": 400, "count": 6 },
                { "code": "E5", "http": 400, "count": 5 },
            ],
            "drift": null,
            "report": { "place": "oss://reports/r/manifest.json", "published": true },
            "plan_file": "plan.toml",
            "run_url": "https://github.com/o/r/actions/runs/1",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn drift_is_described_without_object_names() {
        let mut found = DriftSummary {
            job: None,
            name: "tag-docs".to_owned(),
            plan_file: PathBuf::from("/home/me/plans/plan.toml"),
            objects: 1000,
            read: 200,
            drifted: [3, 10, 30],
            unreadable: 0,
        };
        let origin = MessageOrigin::default();
        let message = WebhookMessage::about_drift(Timestamp::UNIX_EPOCH, &found, &origin);
        let body: Json = serde_json::from_slice(&message.body).expect("JSON");
        let expected = json!({
            "version": 1,
            "text": "batchplan: tag-docs has drifted (about 10 of 1000 objects are not as they should be)",
            "event": "drift",
            "id": message.id,
            "at": "1970-01-01T00:00:00Z",
            "job": { "id": null, "name": "tag-docs", "status": null, "reason": null, "priority": null },
            "progress": null,
            "active_seconds": null,
            "failures": [],
            "drift": {
                "objects": 1000, "read": 200, "drifted": { "likely": 10, "low": 3, "high": 30 }, "unreadable": 0,
            },
            "report": null,
            "plan_file": "plan.toml",
            "run_url": null,
        });
        assert_eq!(body, expected);
        let id = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse::<JobId>().expect("an id");
        (found.job, found.drifted) = (Some(id), [2, 2, 2]);
        let text = "batchplan: tag-docs has drifted (2 of 1000 objects are not as they should be, job ODRiZWQ5)";
        assert_eq!(found.text(), text);
    }

    #[test]
    fn body_omits_local_paths() {
        let mut local = job("x", None);
        local.report_location = Some("/home/me/.batchplan/jobs/1/report/manifest.json".to_owned());
        let body = body(&local, &[], &MessageOrigin::default());
        assert_eq!((&body["report"], &body["run_url"]), (&Json::Null, &Json::Null));
        assert!(!body.to_string().contains("/home/me"), "{body}");
    }

    #[test]
    fn text_contains_no_mentions() {
        let hostile = job("<!channel> @all", Some("a\nb\u{1b}[2J\u{202e} <https://evil.example|click>"));
        let body = body(&hostile, &[], &MessageOrigin::default());
        let text = body["text"].as_str().expect("a text");
        assert!(!text.contains(['<', '>', '@', '\n', '\u{1b}', '\u{202e}']), "{text}");
        assert_eq!(body["job"]["reason"], "a b [2J  <https://evil.example|click>");
    }

    proptest! {
        #[test]
        fn text_and_reason_are_bounded(name in "\\PC{0,200}|.{0,600}", reason in "(?s).{0,3000}") {
            let body = body(&job(&name, Some(&reason)), &[], &MessageOrigin::default());
            let text = body["text"].as_str().expect("a text");
            prop_assert!(text.chars().count() <= MAX_TEXT + 1 && !text.chars().any(affects_terminal));
            prop_assert!(body["job"]["reason"].as_str().expect("a reason").chars().count() <= MAX_REASON + 1);
        }
    }
}
