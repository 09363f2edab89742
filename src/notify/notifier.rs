//! Turns journal events into messages, and chooses the endpoints that receive them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::letter::{Context, Letter, News};
use super::order::Undone;
use super::outbox::{Outbox, Undelivered};
use super::receiver::{NotReady, Receiver};
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{ErrorCode, JobRecord, Journal, Listener};
use crate::plan::{Event, Hook, Threshold};

/// What a notifier needs from its caller.
pub trait Says: Send + Sync {
    /// Returns the webhooks of a job's plan. Returns none if the plan is no longer valid.
    fn hooks(&self, job: &JobRecord) -> Vec<Hook>;

    /// Returns the value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// Reports that a webhook of a job cannot be used, and why.
    fn not_ready(&self, job: &JobRecord, why: &NotReady);

    /// Reports that a message was not delivered.
    fn undelivered(&self, what: &Undelivered);
}

/// Sends messages about jobs to the webhooks of their plans.
pub struct Notifier {
    says: Arc<dyn Says>,
    context: Context,
    outbox: Outbox,
    jobs: Mutex<HashMap<i64, Watched>>,
    /// Jobs that are Suspended only until this process confirms them, which it does at once.
    passing: Mutex<HashMap<JobId, JobRecord>>,
    confirms: AtomicBool,
}

/// A job that had an event in this process.
struct Watched {
    receivers: Arc<[Arc<Receiver>]>,
    /// For each receiver: whether it was notified of the failure rate, and of the run time.
    told: Vec<[bool; 2]>,
}

impl Notifier {
    /// Creates a notifier that has sent no messages.
    #[must_use]
    pub fn new(says: Arc<dyn Says>, context: Context) -> Self {
        let teller = Arc::clone(&says);
        let outbox = Outbox::new(Box::new(move |what| teller.undelivered(&what)));
        Self {
            says,
            context,
            outbox,
            jobs: Mutex::default(),
            passing: Mutex::default(),
            confirms: AtomicBool::new(false),
        }
    }

    /// From now on, this process confirms Suspended jobs without asking. Webhooks are notified only of jobs that stay
    /// Suspended.
    pub fn confirms(&self) {
        self.confirms.store(true, Ordering::Relaxed);
    }

    /// Announces that no more events follow. Sends the messages that were held back, and the last status of each job
    /// first.
    pub fn finish(&self) {
        let passing: Vec<_> = self.passing().drain().map(|(_, job)| job).collect();
        for job in passing {
            self.status(&job, Event::Suspended, Vec::new);
        }
        self.outbox.end();
    }

    /// Returns the number of messages that are not delivered yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.outbox.left()
    }

    /// Waits until every message is delivered or given up.
    pub async fn emptied(&self) {
        self.outbox.emptied().await;
    }

    /// Gives up all messages that are not delivered.
    pub fn close(&self) -> Undone {
        self.outbox.close()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<i64, Watched>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passing(&self) -> MutexGuard<'_, HashMap<JobId, JobRecord>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the receivers of a job. Reads its plan only once.
    fn receivers(&self, job: &JobRecord) -> Arc<[Arc<Receiver>]> {
        if let Some(watched) = self.jobs().get(&job.number) {
            return Arc::clone(&watched.receivers);
        }
        let mut receivers = Vec::new();
        for hook in self.says.hooks(job) {
            match Receiver::new(&hook, |name| self.says.variable(name)) {
                Ok(receiver) => receivers.push(Arc::new(receiver)),
                Err(why) => self.says.not_ready(job, &why),
            }
        }
        let receivers: Arc<[_]> = receivers.into();
        let watched = Watched { receivers: Arc::clone(&receivers), told: vec![[false; 2]; receivers.len()] };
        self.jobs().insert(job.number, watched);
        receivers
    }

    fn status(&self, job: &JobRecord, event: Event, failures: impl FnOnce() -> Failures) {
        let receivers = self.receivers(job);
        let mut wanted = receivers.iter().filter(|receiver| receiver.on.contains(&event)).peekable();
        if wanted.peek().is_none() {
            return;
        }
        let (progress, active) = (job.progress, job.active);
        let news = News { event, at: job.changed, job, progress, active, failures: failures() };
        wanted.for_each(|receiver| self.outbox.post(receiver, Letter::new(&news, &self.context)));
    }
}

type Failures = Vec<(ErrorCode, u64)>;

/// Returns the number of failed objects for each error code. Returns none if the journal cannot be read: the job's own
/// work reports that error.
fn failures(journal: &Journal, job: &JobRecord) -> Failures {
    let tally = journal.recorded(job.number).map(|recorded| recorded.tally).unwrap_or_default();
    tally.reasons().map(|(code, reason)| (code.clone(), reason.count)).collect()
}

/// Returns whether the job has crossed the receiver's thresholds: the failure rate, and the run time.
fn passed(receiver: &Receiver, progress: Progress, active: Duration) -> [bool; 2] {
    let failures = receiver.failure_rate.is_some_and(|rate| Threshold::new(rate).is_crossed(progress));
    [failures, receiver.run_time.is_some_and(|time| active > time)]
}

impl Listener for Notifier {
    fn moved(&self, journal: &Journal, job: &JobRecord) {
        self.passing().remove(&job.id);
        let event = match job.status {
            JobStatus::Suspended if self.confirms.load(Ordering::Relaxed) => {
                self.passing().insert(job.id.clone(), job.clone());
                return;
            }
            JobStatus::Suspended => Event::Suspended,
            JobStatus::Active => Event::Active,
            JobStatus::Paused => Event::Paused,
            JobStatus::Complete => Event::Complete,
            JobStatus::Failed => Event::Failed,
            JobStatus::Cancelled => Event::Cancelled,
            _ => return,
        };
        self.status(job, event, || failures(journal, job));
        let mut jobs = self.jobs();
        if job.status.is_over() {
            jobs.remove(&job.number);
        } else if let Some(Watched { receivers, told }) = jobs.get_mut(&job.number) {
            // Thresholds that were crossed before the job is resumed were notified then.
            *told = receivers.iter().map(|receiver| passed(receiver, job.progress, job.active)).collect();
        }
    }

    fn counted(&self, journal: &Journal, number: i64, progress: Progress, active: Duration) {
        // This process has had no event of a job that was Active when its former process was killed.
        if !self.jobs().contains_key(&number)
            && let Ok(job) = journal.numbered(number)
        {
            self.receivers(&job);
        }
        let mut due = Vec::new();
        if let Some(Watched { receivers, told }) = self.jobs().get_mut(&number) {
            for (receiver, told) in receivers.iter().zip(told) {
                let passed = passed(receiver, progress, active);
                for (at, event) in [Event::FailureRate, Event::RunTime].into_iter().enumerate() {
                    if passed[at] && !told[at] {
                        told[at] = true;
                        due.push((Arc::clone(receiver), event));
                    }
                }
            }
        }
        if due.is_empty() {
            return;
        }
        let Ok(job) = journal.numbered(number) else { return };
        let failures = failures(journal, &job);
        for (receiver, event) in due {
            let (at, failures) = (jiff::Timestamp::now(), failures.clone());
            let news = News { event, at, job: &job, progress, active, failures };
            self.outbox.post(&receiver, Letter::new(&news, &self.context));
        }
    }
}
