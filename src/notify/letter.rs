//! The JSON body of a message.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::diagnostics::drives_terminal;
use crate::job::Progress;
use crate::journal::{Delivery, ErrorCode, JobRecord};
use crate::plan::Event;

/// The version of the body's format. Endpoints can rely on the fields of a version.
const VERSION: u32 = 1;

/// The maximum number of error codes in a message.
const MAX_CODES: usize = 5;

/// The maximum length of a reason, and of a name or a line of text for chats, in characters.
const MAX_REASON: usize = 1000;
const MAX_TEXT: usize = 400;

/// What messages say about the process that sends them.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The page of the CI run that this process is part of.
    pub run_url: Option<String>,
}

/// An event of a job, with what a message says about it.
pub(super) struct News<'a> {
    pub(super) event: Event,
    pub(super) at: Timestamp,
    pub(super) job: &'a JobRecord,
    pub(super) progress: Progress,
    pub(super) active: Duration,
    /// The number of failed objects for each error code.
    pub(super) failures: Vec<(ErrorCode, u64)>,
}

/// One message to one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Identifies the message. It stays the same when the message is sent again.
    pub(super) id: String,
    pub(super) event: Event,
    pub(super) job: String,
    pub(super) body: Bytes,
}

impl Letter {
    pub(super) fn new(news: &News<'_>, context: &Context) -> Self {
        let id = name_of(news.event, news.job).to_string();
        let body = Bytes::from(news.body(&id, context).to_string());
        Self { id, event: news.event, job: news.job.id.to_string(), body }
    }
}

/// Returns the ID of a message. A job ends once and crosses a threshold once, so the IDs of these events are derived
/// from the job: they stay the same if a process sends the message again after a crash.
fn name_of(event: Event, job: &JobRecord) -> uuid::Uuid {
    match event {
        Event::Active | Event::Suspended | Event::Paused => uuid::Uuid::new_v4(),
        Event::Complete | Event::Failed | Event::Cancelled | Event::FailureRate | Event::RunTime => {
            let digest = Sha256::digest(format!("{}/{}", job.id, event.as_str()));
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        }
    }
}

impl News<'_> {
    fn body(&self, id: &str, context: &Context) -> Json {
        let Self { event, at, job, progress, active, failures } = self;
        let Progress { total, succeeded, failed } = *progress;
        let mut failures: Vec<_> = failures.iter().collect();
        failures.sort_by(|(one, many), (other, more)| more.cmp(many).then_with(|| one.cmp(other)));
        let failures = failures.iter().take(MAX_CODES).map(|(error, count)| {
            let http = Some(error.http).filter(|http| *http > 0);
            json!({ "code": plain(&error.code, MAX_TEXT), "http": http, "count": count })
        });
        json!({
            "version": VERSION,
            "text": self.text(),
            "event": event.as_str(),
            "id": id,
            "at": at.to_string(),
            "job": {
                "id": job.id.as_str(),
                "name": plain(&job.name, MAX_TEXT),
                "status": job.status,
                "reason": job.reason.as_ref().map(|reason| plain(reason, MAX_REASON)),
                "priority": job.priority,
            },
            "progress": {
                "total": total,
                "succeeded": succeeded,
                "failed": failed,
                "left": progress.left(),
                "failure_rate": rate(*progress),
            },
            "active_seconds": active.as_secs_f64(),
            "failures": failures.collect::<Vec<_>>(),
            "report": self.report(),
            "plan_file": job.plan_file.file_name().map(|name| plain(&name.to_string_lossy(), MAX_TEXT)),
            "run_url": context.run_url,
        })
    }

    /// Returns the location of the report, unless it is only on this machine.
    fn report(&self) -> Option<Json> {
        let place =
            self.job.place.as_ref().filter(|place| place.starts_with("s3://") || place.starts_with("oss://"))?;
        Some(json!({ "place": place, "published": self.job.delivery == Delivery::Done }))
    }

    /// Returns the event as one line of text for people.
    fn text(&self) -> String {
        let Self { event, job, progress, .. } = self;
        let what = match event {
            Event::Active => "is being worked on".to_owned(),
            Event::Suspended => "waits to be confirmed".to_owned(),
            Event::Paused => "is paused".to_owned(),
            Event::Complete if progress.failed > 0 => "is complete, with failed objects".to_owned(),
            Event::Complete => "is complete".to_owned(),
            Event::Failed => "has failed".to_owned(),
            Event::Cancelled => "is cancelled".to_owned(),
            Event::FailureRate => "has more failed objects than expected".to_owned(),
            Event::RunTime => format!("has been at work for {} s", self.active.as_secs()),
        };
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let Progress { total, succeeded, failed } = progress;
        let short: String = job.id.as_str().chars().take(8).collect();
        let counts = format!("{succeeded} of {total} succeeded, {failed} failed");
        // The counts come first, so that a long reason cannot cut them off.
        tame(&plain(&format!("batchplan: {} {what} ({counts}, job {short}){reason}", job.name), MAX_TEXT))
    }
}

/// Returns the share of failed objects among the attempted ones, or `None` if none was attempted.
#[expect(clippy::cast_precision_loss, reason = "a share for people needs no more digits than this has")]
fn rate(progress: Progress) -> Option<f64> {
    (progress.settled() > 0).then(|| progress.failed as f64 / progress.settled() as f64)
}

/// Replaces characters that affect a terminal by spaces, so that the text is one line, and truncates it to `most`
/// characters.
fn plain(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        out.push(if drives_terminal(c) { ' ' } else { c });
    }
    out
}

/// Replaces `<`, `>`, and `@` by similar characters, so that chats do not take `<!channel>` or `@all` for a mention or
/// a link.
fn tame(text: &str) -> String {
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
    use crate::journal::{Origin, WorkSpan};

    fn job(name: &str, reason: Option<&str>) -> JobRecord {
        JobRecord {
            number: 1,
            id: "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse::<JobId>().expect("an id"),
            identity: "identity".to_owned(),
            token: Some("token".to_owned()),
            name: name.to_owned(),
            store: None,
            description: None,
            origin: Origin::Plan,
            plan_file: PathBuf::from("/home/me/plans/plan.toml"),
            plan_hash: "hash".to_owned(),
            plan: b"the plan".to_vec(),
            status: JobStatus::Failed,
            reason: reason.map(str::to_owned),
            cause: None,
            confirmed: true,
            priority: 7,
            created: Timestamp::UNIX_EPOCH,
            changed: Timestamp::UNIX_EPOCH,
            ended: None,
            progress: Progress { total: 10, succeeded: 6, failed: 2 },
            in_doubt: 0,
            reach: 0,
            lost: 0,
            active: Duration::from_millis(1500),
            scope: None,
            taken: None,
            request: None,
            delivery: Delivery::Done,
            place: Some("oss://reports/r/manifest.json".to_owned()),
            pledge: None,
            inventory: None,
            portion: None,
            span: WorkSpan::default(),
        }
    }

    fn body(job: &JobRecord, failures: Vec<(ErrorCode, u64)>, context: &Context) -> Json {
        let (progress, active) = (job.progress, job.active);
        let news = News { event: Event::Failed, at: Timestamp::UNIX_EPOCH, job, progress, active, failures };
        let letter = Letter::new(&news, context);
        let body: Json = serde_json::from_slice(&letter.body).expect("JSON");
        assert_eq!(body["id"], letter.id.as_str());
        body
    }

    #[test]
    fn the_body_is_what_the_readme_says() {
        let code = |code: &str, http| ErrorCode { code: code.to_owned(), http };
        let failures = (1..9).map(|n| (code(&format!("E{n}"), 400), n)).chain([(code("ConnectionError", 0), 20)]);
        let context = Context { run_url: Some("https://github.com/o/r/actions/runs/1".to_owned()) };
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
    fn what_is_on_this_machine_alone_is_not_told() {
        let mut local = job("x", None);
        local.place = Some("/home/me/.batchplan/jobs/1/report/manifest.json".to_owned());
        let body = body(&local, Vec::new(), &Context::default());
        assert_eq!((&body["report"], &body["run_url"]), (&Json::Null, &Json::Null));
        assert!(!body.to_string().contains("/home/me"), "{body}");
    }

    #[test]
    fn nobody_is_called_by_a_name_or_a_reason() {
        let hostile = job("<!channel> @all", Some("a\nb\u{1b}[2J\u{202e} <https://evil.example|click>"));
        let body = body(&hostile, Vec::new(), &Context::default());
        let text = body["text"].as_str().expect("a text");
        assert!(!text.contains(['<', '>', '@', '\n', '\u{1b}', '\u{202e}']), "{text}");
        assert_eq!(body["job"]["reason"], "a b [2J  <https://evil.example|click>");
    }

    proptest! {
        #[test]
        fn any_name_and_reason_is_told_in_bounds(name in "\\PC{0,200}|.{0,600}", reason in "(?s).{0,3000}") {
            let body = body(&job(&name, Some(&reason)), Vec::new(), &Context::default());
            let text = body["text"].as_str().expect("a text");
            prop_assert!(text.chars().count() <= MAX_TEXT + 1 && !text.chars().any(drives_terminal));
            prop_assert!(body["job"]["reason"].as_str().expect("a reason").chars().count() <= MAX_REASON + 1);
        }
    }
}
