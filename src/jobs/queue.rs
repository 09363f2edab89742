//! Runs the queue: every job that may run, several at once, until none is left.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::control::LOOK_EVERY;
use super::desk::{Held, is_interrupted, stored_plan};
use super::error::JobError;
use super::runner::{Gone, Runner, Watch};
use super::schedule::{Candidate, going};
use super::settings::Settings;
use crate::job::{JobId, JobStatus};
use crate::journal::{JobFolder, JobRecord, Journal, JournalError, Lease, LeaseError, PauseCause, Query};
use crate::store::{Connection, StoreConfig, connect};

/// Observes a queue run.
pub trait Floor {
    /// Called when a job starts. Returns the observer of its progress.
    fn begins(&self, job: &JobRecord) -> Box<dyn Watch>;
    /// Called when a job has stopped, or could not be started. The record contains its current status.
    fn ends(&self, job: &JobRecord, gone: &Result<Gone, JobError>);
}

/// Runs the jobs of a journal in this process.
pub struct Queue<'a> {
    /// The journal that holds the jobs.
    pub journal: &'a Journal,
    /// How to run the jobs.
    pub settings: &'a Settings,
    /// Cancel this token to stop all jobs.
    pub stop: &'a CancellationToken,
}

impl Queue<'_> {
    /// Runs jobs until none is left that may run, or until the queue is stopped.
    ///
    /// These are Ready jobs, interrupted jobs, and Paused jobs that do not wait for a person. Each job is run once: one
    /// that pauses again is left for another queue run.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be used. The outcomes of single jobs go to the observer.
    pub async fn drain(&self, floor: &dyn Floor) -> Result<(), JobError> {
        let budget = Budget::of_process();
        let connections = Connections::default();
        let mut taken = BTreeSet::new();
        // Jobs that another process took first. If that process leaves them, they are considered again.
        let mut lost = Vec::new();
        let mut running = FuturesUnordered::new();
        loop {
            let waiting = if self.stop.is_cancelled() { Vec::new() } else { self.waiting(&taken)? };
            let room = budget.slots(self.settings.rules.slots).saturating_sub(running.len());
            for job in self.next(&waiting)?.into_iter().take(room) {
                taken.insert(job.number);
                running.push(self.work(job, &budget, &connections, floor));
            }
            if running.is_empty() && waiting.is_empty() && (lost.is_empty() || self.stop.is_cancelled()) {
                return Ok(());
            }
            tokio::select! {
                Some(number) = running.next(), if !running.is_empty() => lost.extend(number),
                () = tokio::time::sleep(LOOK_EVERY) => lost.drain(..).for_each(|number| {
                    taken.remove(&number);
                }),
            }
        }
    }

    /// Returns the jobs that can run, and that no process works on.
    fn waiting(&self, taken: &BTreeSet<i64>) -> Result<Vec<JobRecord>, JobError> {
        let unfinished =
            JobStatus::ALL.into_iter().filter(|status| !status.is_over() && *status != JobStatus::Suspended);
        let query = Query { statuses: unfinished.collect(), limit: u32::MAX, ..Query::default() };
        let mut waiting = Vec::new();
        for job in self.journal.list(query)? {
            let due = match job.status {
                JobStatus::Ready | JobStatus::Paused => !self.is_held(&job.id)?,
                _ => is_interrupted(self.journal, &job)?,
            };
            if due && is_work(&job) && !taken.contains(&job.number) {
                waiting.push(job);
            }
        }
        Ok(waiting)
    }

    /// Returns those of the waiting jobs that may start now.
    fn next(&self, waiting: &[JobRecord]) -> Result<Vec<JobRecord>, JobError> {
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let statuses = vec![JobStatus::Active, JobStatus::Pausing];
        let mut work = Vec::new();
        for job in self.journal.list(Query { statuses, limit: u32::MAX, ..Query::default() })? {
            if self.is_held(&job.id)? {
                work.push(Candidate::of(&job));
            }
        }
        let wait: Vec<_> = waiting.iter().map(Candidate::of).collect();
        let turn = going(&wait, &work, self.settings.rules);
        Ok(turn.iter().filter_map(|id| waiting.iter().find(|job| job.id == *id).cloned()).collect())
    }

    fn is_held(&self, id: &JobId) -> Result<bool, JobError> {
        Ok(Lease::is_held(JobFolder::of(self.journal.state(), id).path())?)
    }

    /// Runs a job. If another process took it first, returns its number and does not notify the observer.
    async fn work(&self, job: JobRecord, budget: &Budget, connections: &Connections, floor: &dyn Floor) -> Option<i64> {
        let (job, gone) = match self.take_up(&job).await {
            Ok(None) => return Some(job.number),
            Ok(Some((held, job))) => {
                let mut watch = floor.begins(&job);
                let gone = Box::pin(self.go(held, job.clone(), budget, connections, &mut *watch)).await;
                (job, gone)
            }
            Err(error) => (job, Err(error)),
        };
        let now = self.journal.look(&job.id).await.unwrap_or(job);
        floor.ends(&now, &gone);
        None
    }

    /// Takes the lease on a job, and returns it with the job's current record and plan. Returns `None` if another
    /// process holds the lease, or has ended, paused or deleted the job after it was listed.
    async fn take_up(&self, job: &JobRecord) -> Result<Option<(Held, JobRecord)>, JobError> {
        let held = match Held::take(self.journal, &job.id) {
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => return Ok(None),
            held => held?,
        };
        match self.journal.look(&job.id).await {
            Ok(job) if is_work(&job) => Ok(Some((held, job))),
            Ok(_) => Ok(None),
            Err(JournalError::NoSuchJob(_)) => {
                // Taking the lease has just created the folder again.
                held.folder.clone().remove()?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn go(
        &self,
        held: Held,
        job: JobRecord,
        budget: &Budget,
        connections: &Connections,
        watch: &mut dyn Watch,
    ) -> Result<Gone, JobError> {
        let plan = stored_plan(&job)?;
        let connection = connections.to(&plan.store).await?;
        let (store, signal) = (connection.store(), self.stop.clone());
        Runner::new(self.journal, held, job, &plan, store, (self.settings, budget), signal).go(watch).await
    }
}

/// Returns whether the queue runs a job with this status: it is not over, and does not wait for a person.
fn is_work(job: &JobRecord) -> bool {
    match job.status {
        JobStatus::Suspended => false,
        JobStatus::Paused => !job.cause.is_some_and(PauseCause::waits_for_a_person),
        status => !status.is_over(),
    }
}

/// One connection for each store, which all jobs share.
#[derive(Default)]
struct Connections(RefCell<HashMap<String, Rc<Connection>>>);

impl Connections {
    async fn to(&self, store: &StoreConfig) -> Result<Rc<Connection>, JobError> {
        let name = format!("{store:?}");
        if let Some(connection) = self.0.borrow().get(&name) {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(connect(store).await?);
        // If two connections were opened at once, one is kept. A sandbox allows only one anyway.
        Ok(Rc::clone(self.0.borrow_mut().entry(name).or_insert(connection)))
    }
}
