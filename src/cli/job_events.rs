//! The events of one job in the output of `--json=lines`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use batchplan_store::Mutex;
use batchplan_store::object::VersionId;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use super::event_stream::{EventWeight, emit};
use crate::engine::RunProgress;
use crate::job::{JobId, Progress};
use crate::jobs::hint;
use crate::journal::{FailureCode, FailureGroup, JobRecord, Journal};

/// The interval between two events about the progress of a job, and between looks at what it has recorded.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// The interval between two events about throttling.
const THROTTLED_INTERVAL: Duration = Duration::from_secs(30);

/// Decides when something is due again.
#[derive(Debug)]
struct EventPacer {
    interval: Duration,
    last: Option<Duration>,
}

impl EventPacer {
    fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// Returns whether the interval has passed since this last returned true, and always the first time. `now` is the
    /// time since some fixed moment.
    fn is_due(&mut self, now: Duration) -> bool {
        let due = self.last.is_none_or(|last| now.saturating_sub(last) >= self.interval);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// What was said of a job's checkpoints and failures.
#[derive(Debug, Default)]
struct ReportedState {
    recorded: Option<Progress>,
    codes: BTreeSet<FailureCode>,
}

/// Emits the events of a job. When it is dropped, because the job has stopped, it emits what was recorded last.
pub(super) struct JobEvents {
    journal: Journal,
    id: JobId,
    begun: Instant,
    preparing: EventPacer,
    progress: EventPacer,
    throttled: EventPacer,
    waits_for: String,
    reported: Arc<Mutex<ReportedState>>,
    watcher: JoinHandle<()>,
}

impl Drop for JobEvents {
    fn drop(&mut self) {
        self.watcher.abort();
        self.report_last_record();
    }
}

impl JobEvents {
    /// Emits that a job starts or is resumed, and observes its checkpoints from now on. Called within a runtime.
    pub(super) fn start(journal: &Journal, job: &JobRecord) -> Self {
        let Progress { total, succeeded, failed, .. } = job.progress;
        let fields = json!({
            "name": job.name,
            "status": job.status,
            "total": total,
            "succeeded": succeeded,
            "failed": failed,
            "resumed": job.next_row.is_some(),
        });
        emit("started", Some(job.id.as_str()), fields, EventWeight::Required);
        let recorded = job.next_row.is_some().then_some(job.progress);
        let reported = Arc::new(Mutex::new(ReportedState { recorded, ..ReportedState::default() }));
        let watcher = tokio::spawn(watch_records(journal.clone(), job.id.clone(), Arc::clone(&reported)));
        Self {
            journal: journal.clone(),
            id: job.id.clone(),
            begun: Instant::now(),
            preparing: EventPacer::new(PROGRESS_INTERVAL),
            progress: EventPacer::new(PROGRESS_INTERVAL),
            throttled: EventPacer::new(THROTTLED_INTERVAL),
            waits_for: String::new(),
            reported,
            watcher,
        }
    }

    fn emit(&self, event: &str, fields: Json) {
        emit(event, Some(self.id.as_str()), fields, EventWeight::Replaceable);
    }

    /// Emits how many objects were found so far, if that is due.
    pub(super) fn on_rows_read(&mut self, found: u64) {
        if self.preparing.is_due(self.begun.elapsed()) {
            self.emit("preparing", json!({ "found": found }));
        }
    }

    /// Emits what the job waits for, if that has changed.
    pub(super) fn on_waiting(&mut self, why: &str) {
        if self.waits_for != why {
            why.clone_into(&mut self.waits_for);
            self.emit("waiting", json!({ "reason": why }));
        }
    }

    pub(super) fn on_note(&self, note: &str) {
        self.emit("note", json!({ "message": note }));
    }

    /// Emits the progress, and that the server throttles, if that is due.
    pub(super) fn on_progress(&mut self, progress: &RunProgress) {
        let now = self.begun.elapsed();
        if self.progress.is_due(now) {
            self.emit("progress", progress_json(progress));
        }
        if progress.throttled_share > 0.0 && self.throttled.is_due(now) {
            self.emit(
                "throttled",
                json!({ "share": progress.throttled_share, "requests": progress.requests.throttled }),
            );
        }
    }

    fn report_last_record(&self) {
        if let Ok(job) = self.journal.find(self.id.as_str()) {
            let mut reported = self.reported.lock();
            report_record(&job, &mut reported);
            if job.progress.failed > 0
                && let Ok(recorded) = self.journal.recorded_progress(job.number)
            {
                report_failures(&self.id, recorded.tally.groups(), &mut reported);
            }
        }
    }
}

/// Observes what a job records, until it is aborted. Errors are left to the run of the job, which meets them as well.
async fn watch_records(journal: Journal, id: JobId, reported: Arc<Mutex<ReportedState>>) {
    loop {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        let Ok(job) = journal.get(&id).await else { continue };
        if !report_record(&job, &mut reported.lock()) || job.progress.failed == 0 {
            continue;
        }
        let (journal, number) = (journal.clone(), job.number);
        let recorded = tokio::task::spawn_blocking(move || journal.recorded_progress(number)).await;
        if let Ok(Ok(recorded)) = recorded {
            report_failures(&id, recorded.tally.groups(), &mut reported.lock());
        }
    }
}

/// Emits the last checkpoint, unless it was reported before. Returns whether it was new.
fn report_record(job: &JobRecord, reported: &mut ReportedState) -> bool {
    if job.next_row.is_none() || reported.recorded == Some(job.progress) {
        return false;
    }
    reported.recorded = Some(job.progress);
    let Progress { total, succeeded, failed, .. } = job.progress;
    let fields = json!({
        "total": total,
        "succeeded": succeeded,
        "failed": failed,
        "in_doubt": job.in_doubt,
        "not_attempted": job.not_attempted(),
    });
    emit("checkpoint", Some(job.id.as_str()), fields, EventWeight::Replaceable);
    true
}

/// Emits the first failure of each error code that was not reported before.
fn report_failures<'a>(
    id: &JobId,
    groups: impl Iterator<Item = (&'a FailureCode, &'a FailureGroup)>,
    reported: &mut ReportedState,
) {
    for (code, group) in groups {
        if !reported.codes.insert(code.clone()) {
            continue;
        }
        let example = group.examples.first().map(|example| {
            json!({
                "bucket": example.object.bucket.as_str(),
                "key": example.object.key.encoded(),
                "version": example.object.version.as_ref().map(VersionId::as_str),
                "message": example.message,
            })
        });
        let fields = json!({
            "code": code.code,
            "http": code.http,
            "count": group.count,
            "advice": hint(&code.code, code.http),
            "example": example,
        });
        // There are at most 65 codes.
        emit("failure", Some(id.as_str()), fields, EventWeight::Required);
    }
}

fn progress_json(progress: &RunProgress) -> Json {
    let Progress { total, succeeded, failed, unchanged } = progress.job;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "total": total,
        "succeeded": succeeded,
        "unchanged": unchanged,
        "failed": failed,
        "finished_before": progress.finished_before,
        "share": progress.share(),
        "objects_per_second": progress.rate,
        "remaining_seconds": seconds(progress.remaining_time),
        "elapsed_seconds": progress.elapsed.as_secs_f64(),
        "requests": progress.requests.total(),
        "retries": progress.requests.retries,
        "throttled_share": progress.throttled_share,
        "in_flight": progress.in_flight,
        "oldest_in_flight_seconds": seconds(progress.oldest_in_flight),
        "stalled_seconds": seconds(progress.stalled_for),
        "stopping": progress.stopping,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_interval() {
        let mut pacer = EventPacer::new(Duration::from_secs(2));
        let due: Vec<_> = [0, 1, 2, 3, 5, 6].map(|second| pacer.is_due(Duration::from_secs(second))).into();
        assert_eq!(due, [true, false, true, false, true, false]);
    }
}
