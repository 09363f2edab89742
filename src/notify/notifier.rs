//! Hears what the journal has recorded, and decides who is told.

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

/// What a notifier leaves to whoever runs it.
pub trait Says: Send + Sync {
    /// The webhooks of the plan that a job has; none where its plan is not accepted any more.
    fn hooks(&self, job: &JobRecord) -> Vec<Hook>;

    /// What the environment has under this name.
    fn variable(&self, name: &str) -> Option<String>;

    /// That webhooks of a job cannot be told anything, and why.
    fn not_ready(&self, job: &JobRecord, why: &NotReady);

    /// That somebody was not told.
    fn undelivered(&self, what: &Undelivered);
}

/// Tells the webhooks of plans what becomes of their jobs.
pub struct Notifier {
    says: Arc<dyn Says>,
    context: Context,
    outbox: Outbox,
    jobs: Mutex<HashMap<i64, Watched>>,
    /// Jobs that are Suspended only until they are confirmed, by this process and at once.
    passing: Mutex<HashMap<JobId, JobRecord>>,
    confirms: AtomicBool,
}

/// A job that something was heard of.
struct Watched {
    receivers: Arc<[Arc<Receiver>]>,
    /// By receiver: whether it has heard of the failures, and of the time.
    told: Vec<[bool; 2]>,
}

impl Notifier {
    /// A notifier that has told nobody anything.
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

    /// From here on, this process confirms what is Suspended without asking: that is told only of jobs that stay so.
    pub fn confirms(&self) {
        self.confirms.store(true, Ordering::Relaxed);
    }

    /// Nothing more is to come: what was held back is told now, and the last status of each job first.
    pub fn finish(&self) {
        let passing: Vec<_> = self.passing().drain().map(|(_, job)| job).collect();
        for job in passing {
            self.status(&job, Event::Suspended, Vec::new);
        }
        self.outbox.end();
    }

    /// Messages that are not delivered yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.outbox.left()
    }

    /// Waits until every message is delivered or given up.
    pub async fn emptied(&self) {
        self.outbox.emptied().await;
    }

    /// Gives up what is left.
    pub fn close(&self) -> Undone {
        self.outbox.close()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<i64, Watched>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passing(&self) -> MutexGuard<'_, HashMap<JobId, JobRecord>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receivers of a job. Its plan is read once.
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

/// Why objects of a job failed; nothing where the journal cannot be read: whoever works on the job meets the same trouble.
fn failures(journal: &Journal, job: &JobRecord) -> Failures {
    let tally = journal.recorded(job.number).map(|recorded| recorded.tally).unwrap_or_default();
    tally.reasons().map(|(code, reason)| (code.clone(), reason.count)).collect()
}

/// Whether a receiver wants to hear of the failures by now, and of the time.
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
            // What was passed before it is resumed was told then.
            *told = receivers.iter().map(|receiver| passed(receiver, job.progress, job.active)).collect();
        }
    }

    fn counted(&self, journal: &Journal, number: i64, progress: Progress, active: Duration) {
        // One that was Active when its process was killed was not heard of here yet.
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
