//! The JSON body of a message.

use std::time::Duration;

use batchplan_store::printable::affects_terminal;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::job::Progress;
use crate::journal::{FailureCode, JobRecord, ReportDelivery};
use crate::plan::WebhookEvent;

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
pub(super) struct WebhookPayload<'a> {
    pub(super) event: WebhookEvent,
    pub(super) at: Timestamp,
    pub(super) job: &'a JobRecord,
    pub(super) progress: Progress,
    pub(super) active: Duration,
    /// The number of failed objects for each error code.
    pub(super) failures: Vec<(FailureCode, u64)>,
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
    pub(super) fn new(news: &WebhookPayload<'_>, context: &MessageOrigin) -> Self {
        let id = message_id(news.event, news.job).to_string();
        let body = Bytes::from(news.body(&id, context).to_string());
        Self { id, event: news.event, job: news.job.id.to_string(), body }
    }
}

/// Returns the ID of a message. A job ends once and crosses a threshold once, so the IDs of these events are derived
/// from the job: they stay the same if a process sends the message again after a crash.
fn message_id(event: WebhookEvent, job: &JobRecord) -> uuid::Uuid {
    match event {
        WebhookEvent::Active | WebhookEvent::Suspended | WebhookEvent::Paused => uuid::Uuid::new_v4(),
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
    fn body(&self, id: &str, context: &MessageOrigin) -> Json {
        let Self { event, at, job, progress, active, failures } = self;
        let Progress { total, succeeded, failed } = *progress;
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
                "failure_rate": failure_rate(*progress),
            },
            "active_seconds": active.as_secs_f64(),
            "failures": failures.collect::<Vec<_>>(),
            "report": self.report(),
            "plan_file": job.plan_file.file_name().map(|name| to_single_line(&name.to_string_lossy(), MAX_TEXT)),
            "run_url": context.run_url,
        })
    }

    /// Returns the location of the report, unless it is only on this machine.
    fn report(&self) -> Option<Json> {
        let place = self
            .job
            .report_location
            .as_ref()
            .filter(|place| place.starts_with("s3://") || place.starts_with("oss://"))?;
        Some(json!({ "place": place, "published": self.job.report_delivery == ReportDelivery::Done }))
    }

    /// Returns the event as one line of text for people.
    fn text(&self) -> String {
        let Self { event, job, progress, .. } = self;
        let what = match event {
            WebhookEvent::Active => "is running".to_owned(),
            WebhookEvent::Suspended => "is waiting for confirmation".to_owned(),
            WebhookEvent::Paused => "is paused".to_owned(),
            WebhookEvent::Complete if progress.failed > 0 => "is complete, with failed objects".to_owned(),
            WebhookEvent::Complete => "is complete".to_owned(),
            WebhookEvent::Failed => "has failed".to_owned(),
            WebhookEvent::Cancelled => "was cancelled".to_owned(),
            WebhookEvent::FailureRate => "has exceeded `failure_rate`".to_owned(),
            WebhookEvent::RunTime => format!("has been running for {} s", self.active.as_secs()),
        };
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let Progress { total, succeeded, failed } = progress;
        let short: String = job.id.as_str().chars().take(8).collect();
        let counts = format!("{succeeded} of {total} succeeded, {failed} failed");
        // The counts come first, so that a long reason cannot cut them off.
        defuse_mentions(&to_single_line(
            &format!("batchplan: {} {what} ({counts}, job {short}){reason}", job.name),
            MAX_TEXT,
        ))
    }
}

/// Returns the share of failed objects among the attempted ones, or `None` if none was attempted.
#[expect(clippy::cast_precision_loss, reason = "a share for people needs no more digits than this has")]
fn failure_rate(progress: Progress) -> Option<f64> {
    (progress.finished() > 0).then(|| progress.failed as f64 / progress.finished() as f64)
}

/// Replaces characters that affect a terminal by spaces, so that the text is one line, and truncates it to `most`
/// characters.
fn to_single_line(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == most {
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
    let look = |c| match c {
        '<' => '‹',
        '>' => '›',
        '@' => '＠',
        c => c,
    };
    text.chars().map(look).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::job::{JobId, JobStatus};
    use crate::journal::{JobSource, WorkSpan};

    fn job(name: &str, reason: Option<&str>) -> JobRecord {
        JobRecord {
            number: 1,
            id: "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse::<JobId>().expect("an id"),
            identity: "identity".to_owned(),
            token: Some("token".to_owned()),
            name: name.to_owned(),
            store_identity: None,
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
            progress: Progress { total: 10, succeeded: 6, failed: 2 },
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
        }
    }

    fn body(job: &JobRecord, failures: Vec<(FailureCode, u64)>, context: &MessageOrigin) -> Json {
        let (progress, active) = (job.progress, job.active_time);
        let news =
            WebhookPayload { event: WebhookEvent::Failed, at: Timestamp::UNIX_EPOCH, job, progress, active, failures };
        let letter = WebhookMessage::new(&news, context);
        let body: Json = serde_json::from_slice(&letter.body).expect("JSON");
        assert_eq!(body["id"], letter.id.as_str());
        body
    }

    #[test]
    fn body_matches_the_readme() {
        let code = |code: &str, http| FailureCode { code: code.to_owned(), http };
        let failures = (1..9).map(|n| (code(&format!("E{n}"), 400), n)).chain([(code("ConnectionError", 0), 20)]);
        let context = MessageOrigin { run_url: Some("https://github.com/o/r/actions/runs/1".to_owned()) };
        let mut body = body(&job("tag-docs", Some("2 of 10 objects failed")), failures.collect(), &context);
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
            "report": { "place": "oss://reports/r/manifest.json", "published": true },
            "plan_file": "plan.toml",
            "run_url": "https://github.com/o/r/actions/runs/1",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn body_omits_local_paths() {
        let mut local = job("x", None);
        local.report_location = Some("/home/me/.batchplan/jobs/1/report/manifest.json".to_owned());
        let body = body(&local, Vec::new(), &MessageOrigin::default());
        assert_eq!((&body["report"], &body["run_url"]), (&Json::Null, &Json::Null));
        assert!(!body.to_string().contains("/home/me"), "{body}");
    }

    #[test]
    fn text_contains_no_mentions() {
        let hostile = job("<!channel> @all", Some("a\nb\u{1b}[2J\u{202e} <https://evil.example|click>"));
        let body = body(&hostile, Vec::new(), &MessageOrigin::default());
        let text = body["text"].as_str().expect("a text");
        assert!(!text.contains(['<', '>', '@', '\n', '\u{1b}', '\u{202e}']), "{text}");
        assert_eq!(body["job"]["reason"], "a b [2J  <https://evil.example|click>");
    }

    proptest! {
        #[test]
        fn text_and_reason_are_bounded(name in "\\PC{0,200}|.{0,600}", reason in "(?s).{0,3000}") {
            let body = body(&job(&name, Some(&reason)), Vec::new(), &MessageOrigin::default());
            let text = body["text"].as_str().expect("a text");
            prop_assert!(text.chars().count() <= MAX_TEXT + 1 && !text.chars().any(affects_terminal));
            prop_assert!(body["job"]["reason"].as_str().expect("a reason").chars().count() <= MAX_REASON + 1);
        }
    }
}
