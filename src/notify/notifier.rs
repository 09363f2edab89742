//! Turns journal events into messages, and chooses the endpoints that receive them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use batchplan_store::Mutex;

use super::delivery::{AbandonedMessages, MessageSender, UndeliveredMessage};
use super::webhook::{DriftSummary, MessageOrigin, WebhookEndpoint, WebhookError, WebhookMessage};
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{FailureCode, JobRecord, Journal, JournalListener};
use crate::plan::{WebhookConfig, WebhookEvent};

/// What a notifier needs from its caller.
pub trait NotifierHost: Send + Sync {
    /// Returns the webhooks of a job's plan. Returns none if the plan is no longer valid.
    fn hooks(&self, job: &JobRecord) -> Vec<WebhookConfig>;

    /// Returns the value of an environment variable.
    fn env_var(&self, name: &str) -> Option<String>;

    /// Reports that a webhook of a job cannot be used, and why.
    fn report_unusable_webhook(&self, job: &JobRecord, why: &WebhookError);

    /// Reports that a message was not delivered.
    fn report_undelivered(&self, message: &UndeliveredMessage);
}

/// Sends messages about jobs to the webhooks of their plans.
pub struct Notifier {
    host: Arc<dyn NotifierHost>,
    origin: MessageOrigin,
    sender: MessageSender,
    jobs: Mutex<HashMap<i64, NotifiedJob>>,
    /// Jobs that are Suspended only until this process confirms them, which it does at once.
    held_back: Mutex<HashMap<JobId, JobRecord>>,
    auto_confirm: AtomicBool,
}

/// A job that had an event in this process.
struct NotifiedJob {
    endpoints: Arc<[Arc<WebhookEndpoint>]>,
    /// For each endpoint: whether it was notified of the failure rate, and of the run time.
    notified: Vec<[bool; 2]>,
}

impl Notifier {
    /// Creates a notifier that has sent no messages.
    #[must_use]
    pub fn new(host: Arc<dyn NotifierHost>, origin: MessageOrigin) -> Self {
        let reporter = Arc::clone(&host);
        let sender = MessageSender::new(Box::new(move |message| reporter.report_undelivered(&message)));
        Self {
            host,
            origin,
            sender,
            jobs: Mutex::default(),
            held_back: Mutex::default(),
            auto_confirm: AtomicBool::new(false),
        }
    }

    /// From now on, this process confirms Suspended jobs without asking. Webhooks are notified only of jobs that stay
    /// Suspended.
    pub fn enable_auto_confirm(&self) {
        self.auto_confirm.store(true, Ordering::Relaxed);
    }

    /// Announces that no more events follow. Sends the messages that were held back, and the last status of each job
    /// first.
    pub fn finish(&self) {
        let still_suspended: Vec<_> = self.held_back().drain().map(|(_, job)| job).collect();
        for job in still_suspended {
            self.notify_status(&job, WebhookEvent::Suspended, Vec::new);
        }
        self.sender.begin_shutdown();
    }

    /// Notifies these endpoints of what a verification found, if they receive such messages.
    pub fn notify_drift(&self, endpoints: impl IntoIterator<Item = WebhookEndpoint>, found: &DriftSummary) {
        let at = jiff::Timestamp::now();
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.receives(WebhookEvent::Drift)) {
            self.sender.enqueue(&Arc::new(endpoint), WebhookMessage::about_drift(at, found, &self.origin));
        }
    }

    /// Returns the number of messages that are not delivered yet.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.sender.pending_count()
    }

    /// Waits until every message is delivered or given up.
    pub async fn wait_until_empty(&self) {
        self.sender.wait_until_empty().await;
    }

    /// Gives up all messages that are not delivered.
    pub fn close(&self) -> AbandonedMessages {
        self.sender.close()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<i64, NotifiedJob>> {
        self.jobs.lock()
    }

    fn held_back(&self) -> MutexGuard<'_, HashMap<JobId, JobRecord>> {
        self.held_back.lock()
    }

    /// Returns the endpoints of a job. Reads its plan only once.
    fn endpoints(&self, job: &JobRecord) -> Arc<[Arc<WebhookEndpoint>]> {
        if let Some(notified) = self.jobs().get(&job.number) {
            return Arc::clone(&notified.endpoints);
        }
        let mut endpoints = Vec::new();
        for hook in self.host.hooks(job) {
            match WebhookEndpoint::new(&hook, |name| self.host.env_var(name)) {
                Ok(endpoint) => endpoints.push(Arc::new(endpoint)),
                Err(why) => self.host.report_unusable_webhook(job, &why),
            }
        }
        let endpoints: Arc<[_]> = endpoints.into();
        let notified = NotifiedJob { endpoints: Arc::clone(&endpoints), notified: vec![[false; 2]; endpoints.len()] };
        self.jobs().insert(job.number, notified);
        endpoints
    }

    fn notify_status(&self, job: &JobRecord, event: WebhookEvent, failures: impl FnOnce() -> FailureCounts) {
        let endpoints = self.endpoints(job);
        let mut receivers = endpoints.iter().filter(|endpoint| endpoint.receives(event)).peekable();
        if receivers.peek().is_none() {
            return;
        }
        let failures = failures();
        for receiver in receivers {
            let message = WebhookMessage::new(event, job.changed, job, &failures, &self.origin);
            self.sender.enqueue(receiver, message);
        }
    }
}

type FailureCounts = Vec<(FailureCode, u64)>;

/// Returns the number of failed objects for each error code. Returns none if the journal cannot be read: the job's own
/// work reports that error.
fn failure_counts(journal: &Journal, job: &JobRecord) -> FailureCounts {
    let tally = journal.recorded_progress(job.number).map(|recorded| recorded.tally).unwrap_or_default();
    tally.groups().map(|(code, reason)| (code.clone(), reason.count)).collect()
}

impl JournalListener for Notifier {
    fn status_changed(&self, journal: &Journal, job: &JobRecord) {
        self.held_back().remove(&job.id);
        let event = match job.status {
            JobStatus::Suspended if self.auto_confirm.load(Ordering::Relaxed) => {
                self.held_back().insert(job.id.clone(), job.clone());
                return;
            }
            JobStatus::Suspended => WebhookEvent::Suspended,
            JobStatus::Active => WebhookEvent::Active,
            JobStatus::Paused => WebhookEvent::Paused,
            JobStatus::Complete => WebhookEvent::Complete,
            JobStatus::Failed => WebhookEvent::Failed,
            JobStatus::Cancelled => WebhookEvent::Cancelled,
            _ => return,
        };
        self.notify_status(job, event, || failure_counts(journal, job));
        let mut jobs = self.jobs();
        if job.status.is_over() {
            jobs.remove(&job.number);
        } else if let Some(NotifiedJob { endpoints, notified }) = jobs.get_mut(&job.number) {
            // Thresholds that were crossed before the job is resumed were notified then.
            let crossed = endpoints.iter().map(|endpoint| endpoint.crossed_thresholds(job.progress, job.active_time));
            *notified = crossed.collect();
        }
    }

    fn checkpoint_recorded(&self, journal: &Journal, number: i64, progress: Progress, active: Duration) {
        // This process has had no event of a job that was Active when its former process was killed.
        if !self.jobs().contains_key(&number)
            && let Ok(job) = journal.job_by_number(number)
        {
            self.endpoints(&job);
        }
        let mut due = Vec::new();
        if let Some(NotifiedJob { endpoints, notified }) = self.jobs().get_mut(&number) {
            for (endpoint, notified) in endpoints.iter().zip(notified) {
                let crossed = endpoint.crossed_thresholds(progress, active);
                for (threshold, event) in [WebhookEvent::FailureRate, WebhookEvent::RunTime].into_iter().enumerate() {
                    if crossed[threshold] && !notified[threshold] {
                        notified[threshold] = true;
                        due.push((Arc::clone(endpoint), event));
                    }
                }
            }
        }
        if due.is_empty() {
            return;
        }
        let Ok(job) = journal.job_by_number(number) else { return };
        let job = JobRecord { progress, active_time: active, ..job };
        let failures = failure_counts(journal, &job);
        for (endpoint, event) in due {
            let message = WebhookMessage::new(event, jiff::Timestamp::now(), &job, &failures, &self.origin);
            self.sender.enqueue(&endpoint, message);
        }
    }
}
