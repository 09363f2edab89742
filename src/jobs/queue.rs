//! Working off the queue: every job that may go, several at once, until none is left.

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

/// Whoever looks on while the queue is worked off.
pub trait Floor {
    /// A job is taken up: who watches it.
    fn begins(&self, job: &JobRecord) -> Box<dyn Watch>;
    /// A job was left, or could not be taken up. The record says where it stands now.
    fn ends(&self, job: &JobRecord, gone: &Result<Gone, JobError>);
}

/// The jobs of a journal, to be worked off by this process.
pub struct Queue<'a> {
    /// The journal.
    pub journal: &'a Journal,
    /// How jobs are run.
    pub settings: &'a Settings,
    /// Cancelled to have all of them stop.
    pub stop: &'a CancellationToken,
}

impl Queue<'_> {
    /// Works on jobs until none is left that may be worked on, or it is stopped.
    ///
    /// These are what is Ready, what was interrupted, and what is Paused unless that waits for a person. Each is taken up once: one
    /// that pauses again is left for another time.
    ///
    /// # Errors
    /// When the journal cannot be used. What becomes of single jobs is told to the floor.
    pub async fn drain(&self, floor: &dyn Floor) -> Result<(), JobError> {
        let budget = Budget::of_process();
        let connections = Connections::default();
        let mut taken = BTreeSet::new();
        // Those that another process was faster with: should it leave them, they are looked at again.
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

    /// The jobs that somebody should work on and nobody does.
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

    /// Those of them whose turn it is.
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

    /// Works on a job, and returns its number if another process was faster: nothing of it is told to the floor then.
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

    /// Takes the right to work on a job, which is then as it is now, with its plan. `None` if another process has that right,
    /// or has done with the job since it was listed: ended it, paused it for a person, or deleted it.
    async fn take_up(&self, job: &JobRecord) -> Result<Option<(Held, JobRecord)>, JobError> {
        let held = match Held::take(self.journal, &job.id) {
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => return Ok(None),
            held => held?,
        };
        match self.journal.look(&job.id).await {
            Ok(job) if is_work(&job) => Ok(Some((held, job))),
            Ok(_) => Ok(None),
            Err(JournalError::NoSuchJob(_)) => {
                // The lease has just made it anew.
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

/// Whether a queue works on a job that stands so: it is not over, and does not wait for a person.
fn is_work(job: &JobRecord) -> bool {
    match job.status {
        JobStatus::Suspended => false,
        JobStatus::Paused => !job.cause.is_some_and(PauseCause::waits_for_a_person),
        status => !status.is_over(),
    }
}

/// One connection for each store, whatever the number of jobs.
#[derive(Default)]
struct Connections(RefCell<HashMap<String, Rc<Connection>>>);

impl Connections {
    async fn to(&self, store: &StoreConfig) -> Result<Rc<Connection>, JobError> {
        let name = format!("{store:?}");
        if let Some(connection) = self.0.borrow().get(&name) {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(connect(store).await?);
        // Of two that were made at once one is kept; a sandbox allows only one anyway.
        Ok(Rc::clone(self.0.borrow_mut().entry(name).or_insert(connection)))
    }
}
