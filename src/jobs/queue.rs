//! Runs the queue: every job that may run, several at once, until none is left. `start_rules` decides which jobs may
//! start, and in which order.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use batchplan_store::StoreConfig;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::error::JobError;
use super::job_lease::JobLease;
use super::request_budget::RequestBudget;
use super::run_settings::RunSettings;
use super::runner::{JobRunner, POLL_INTERVAL, ProgressObserver, RunOutcome};
use super::start_rules::{ScheduleCandidate, blocking_job, startable};
use super::stored_plan::stored_plan;
use crate::connect::{StoreConnection, connect};
use crate::job::{JobId, JobStatus};
use crate::journal::{FileLease, JobFolder, JobQuery, JobRecord, Journal, JournalError, LeaseError, PauseCause};

/// Observes a queue run.
pub trait QueueObserver {
    /// Called when a job starts. Returns the observer of its progress.
    fn on_job_started(&self, job: &JobRecord) -> Box<dyn ProgressObserver>;
    /// Called when a job has to wait for another job that may change the same objects, at each change.
    fn on_job_blocked(&self, job: &JobRecord, blocked_by: &JobId);
    /// Called when a job has stopped, or could not be started. The record contains its current status.
    fn on_job_stopped(&self, job: &JobRecord, outcome: &Result<RunOutcome, JobError>);
}

/// Runs the jobs of a journal in this process.
pub struct JobQueue<'a> {
    /// The journal that holds the jobs.
    pub journal: &'a Journal,
    /// How to run the jobs.
    pub settings: &'a RunSettings,
    /// Cancel this token to stop all jobs.
    pub stop: &'a CancellationToken,
}

impl JobQueue<'_> {
    /// Runs jobs until none is left that may run, or until the queue is stopped.
    ///
    /// These are Ready jobs, interrupted jobs, and Paused jobs that do not wait for a person. Each job is run once: one
    /// that pauses again is left for another queue run.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used. The outcomes of single jobs go to the observer.
    pub async fn drain(&self, observer: &dyn QueueObserver) -> Result<(), JobError> {
        let budget = RequestBudget::for_process();
        let connections = ConnectionCache::default();
        let mut started = BTreeSet::new();
        let mut blocked = HashMap::new();
        // Jobs that another process took first. If that process leaves them, they are considered again.
        let mut taken_by_others = Vec::new();
        let mut running = FuturesUnordered::new();
        loop {
            let waiting = if self.stop.is_cancelled() { Vec::new() } else { self.runnable_jobs(&started)? };
            let room = budget.max_jobs(self.settings.rules.slots).saturating_sub(running.len());
            let work = self.work_in_progress(&waiting)?;
            self.report_blocked(&waiting, &work, &mut blocked, observer);
            for job in self.startable_jobs(&waiting, &work).into_iter().take(room) {
                started.insert(job.number);
                running.push(self.run_job(job, &budget, &connections, observer));
            }
            if running.is_empty() && waiting.is_empty() && (taken_by_others.is_empty() || self.stop.is_cancelled()) {
                return Ok(());
            }
            tokio::select! {
                Some(number) = running.next(), if !running.is_empty() => taken_by_others.extend(number),
                () = tokio::time::sleep(POLL_INTERVAL) => taken_by_others.drain(..).for_each(|number| {
                    started.remove(&number);
                }),
            }
        }
    }

    /// Returns the jobs that can run, and that no process works on.
    fn runnable_jobs(&self, started: &BTreeSet<i64>) -> Result<Vec<JobRecord>, JobError> {
        let unfinished =
            JobStatus::ALL.into_iter().filter(|status| !status.is_over() && *status != JobStatus::Suspended);
        let query = JobQuery { statuses: unfinished.collect(), limit: u32::MAX, ..JobQuery::default() };
        let mut waiting = Vec::new();
        for job in self.journal.list(query)? {
            let due = match job.status {
                JobStatus::Ready | JobStatus::Paused => !self.is_held(&job.id)?,
                _ => is_interrupted(self.journal, &job)?,
            };
            if due && is_runnable(&job) && !started.contains(&job.number) {
                waiting.push(job);
            }
        }
        Ok(waiting)
    }

    /// Returns the jobs that run now, in this process or in another one, if any job waits.
    fn work_in_progress(&self, waiting: &[JobRecord]) -> Result<Vec<ScheduleCandidate>, JobError> {
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let statuses = vec![JobStatus::Active, JobStatus::Pausing];
        let mut work = Vec::new();
        for job in self.journal.list(JobQuery { statuses, limit: u32::MAX, ..JobQuery::default() })? {
            if self.is_held(&job.id)? {
                work.push(ScheduleCandidate::of(&job));
            }
        }
        Ok(work)
    }

    /// Returns those of the waiting jobs that may start now.
    fn startable_jobs(&self, waiting: &[JobRecord], work: &[ScheduleCandidate]) -> Vec<JobRecord> {
        let wait: Vec<_> = waiting.iter().map(ScheduleCandidate::of).collect();
        let turn = startable(&wait, work, self.settings.rules);
        turn.iter().filter_map(|id| waiting.iter().find(|job| job.id == *id).cloned()).collect()
    }

    /// Tells the observer which jobs wait for which, unless it knows that already. Jobs that only wait for a slot are
    /// left out: there may be a thousand of them.
    fn report_blocked(
        &self,
        waiting: &[JobRecord],
        work: &[ScheduleCandidate],
        blocked: &mut HashMap<i64, JobId>,
        observer: &dyn QueueObserver,
    ) {
        if self.settings.rules.allow_overlap {
            return;
        }
        for job in waiting {
            let Some(by) = blocking_job(&ScheduleCandidate::of(job), work) else { continue };
            if blocked.get(&job.number) != Some(by) {
                observer.on_job_blocked(job, by);
                blocked.insert(job.number, by.clone());
            }
        }
    }

    fn is_held(&self, id: &JobId) -> Result<bool, JobError> {
        Ok(FileLease::is_held(JobFolder::of(self.journal.state_folder(), id).path())?)
    }

    /// Runs a job. If another process took it first, returns its number and does not notify the observer.
    async fn run_job(
        &self,
        job: JobRecord,
        budget: &RequestBudget,
        connections: &ConnectionCache,
        observer: &dyn QueueObserver,
    ) -> Option<i64> {
        let (job, outcome) = match self.lease_job(&job).await {
            Ok(None) => return Some(job.number),
            Ok(Some((lease, job))) => {
                let mut watch = observer.on_job_started(&job);
                let run = Box::pin(self.run_leased(lease, job.clone(), budget, connections, &mut *watch));
                let outcome = run.instrument(job.id.span()).await;
                (job, outcome)
            }
            Err(error) => (job, Err(error)),
        };
        let now = self.journal.get(&job.id).await.unwrap_or(job);
        observer.on_job_stopped(&now, &outcome);
        None
    }

    /// Takes the lease on a job, and returns it with the job's current record and plan. Returns `None` if another
    /// process holds the lease, or has ended, paused or deleted the job after it was listed.
    async fn lease_job(&self, job: &JobRecord) -> Result<Option<(JobLease, JobRecord)>, JobError> {
        let lease = match JobLease::acquire(self.journal, &job.id) {
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => return Ok(None),
            lease => lease?,
        };
        match self.journal.get(&job.id).await {
            Ok(job) if is_runnable(&job) => Ok(Some((lease, job))),
            Ok(_) => Ok(None),
            Err(JournalError::NoSuchJob(_)) => {
                // Taking the lease has just created the folder again.
                lease.folder.clone().remove()?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn run_leased(
        &self,
        lease: JobLease,
        job: JobRecord,
        budget: &RequestBudget,
        connections: &ConnectionCache,
        watch: &mut dyn ProgressObserver,
    ) -> Result<RunOutcome, JobError> {
        let plan = stored_plan(&job)?;
        let connection = connections.connect_to(&plan.store).await?;
        let (store, signal) = (connection.store(), self.stop.clone());
        JobRunner::new(self.journal, lease, job, &plan, store, (self.settings, budget), signal).run(watch).await
    }
}

/// Returns whether the queue runs a job with this status: it is not over, and does not wait for a person.
fn is_runnable(job: &JobRecord) -> bool {
    match job.status {
        JobStatus::Suspended => false,
        JobStatus::Paused => !job.pause_cause.is_some_and(PauseCause::needs_user),
        status => !status.is_over(),
    }
}

/// Returns whether no process works on a job although its status needs one: the process is gone.
fn is_interrupted(journal: &Journal, job: &JobRecord) -> Result<bool, JobError> {
    let waits = matches!(job.status, JobStatus::Suspended | JobStatus::Ready | JobStatus::Paused);
    if waits || job.status.is_over() {
        return Ok(false);
    }
    Ok(!FileLease::is_held(JobFolder::of(journal.state_folder(), &job.id).path())?)
}

/// One connection for each store, which all jobs share.
#[derive(Default)]
struct ConnectionCache(RefCell<HashMap<String, Rc<StoreConnection>>>);

impl ConnectionCache {
    async fn connect_to(&self, store: &StoreConfig) -> Result<Rc<StoreConnection>, JobError> {
        let name = format!("{store:?}");
        if let Some(connection) = self.0.borrow().get(&name) {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(connect(store).await?);
        // If two connections were opened at once, one is kept. A sandbox allows only one anyway.
        Ok(Rc::clone(self.0.borrow_mut().entry(name).or_insert(connection)))
    }
}
