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
use crate::journal::{JobFolder, JobRecord, Journal, Lease, PauseCause, Query};
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
        let budget = Budget::default();
        let connections = Connections::default();
        let mut taken = BTreeSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            let waiting = if self.stop.is_cancelled() { Vec::new() } else { self.waiting(&taken)? };
            let room = self.settings.rules.slots.saturating_sub(running.len());
            for job in self.next(&waiting)?.into_iter().take(room) {
                taken.insert(job.number);
                running.push(self.work(job, &budget, &connections, floor));
            }
            if running.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(()) = running.next(), if !running.is_empty() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
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
                JobStatus::Ready => !self.is_held(&job.id)?,
                JobStatus::Paused => {
                    !job.cause.is_some_and(PauseCause::waits_for_a_person) && !self.is_held(&job.id)?
                }
                _ => is_interrupted(self.journal, &job)?,
            };
            if due && !taken.contains(&job.number) {
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

    async fn work(&self, job: JobRecord, budget: &Budget, connections: &Connections, floor: &dyn Floor) {
        let mut watch = floor.begins(&job);
        let gone = Box::pin(self.go(&job, budget, connections, &mut *watch)).await;
        drop(watch);
        let now = self.journal.look(&job.id).await.unwrap_or(job);
        floor.ends(&now, &gone);
    }

    async fn go(
        &self,
        job: &JobRecord,
        budget: &Budget,
        connections: &Connections,
        watch: &mut dyn Watch,
    ) -> Result<Gone, JobError> {
        let held = Held::take(self.journal, &job.id)?;
        // As it is now, with its plan.
        let job = self.journal.look(&job.id).await?;
        let plan = stored_plan(&job)?;
        let connection = connections.to(&plan.store).await?;
        let (store, signal) = (connection.store(), self.stop.clone());
        Runner::new(self.journal, held, job, &plan, store, (self.settings, budget), signal).go(watch).await
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
