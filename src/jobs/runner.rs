//! Runs one job from its current status to its end, or until it must wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::advice::{refused, why_untrusted};
use super::budget::{Budget, Wanted};
use super::control::{Control, LOOK_EVERY};
use super::cost;
use super::desk::Held;
use super::ending::Concluded;
use super::error::JobError;
use super::origin::manifest;
use super::pledge::freeze_as;
use super::recurring::note_inventory;
use super::redo::say_bounds;
use super::schedule::Waiting;
use super::scope::Scope;
use super::settings::Settings;
use crate::descriptors;
use crate::engine::{Bounds, Dispatched, End, Job, Ran, Snapshot, Stop};
use crate::failpoint;
use crate::job::JobStatus::{
    Active, Cancelled, Cancelling, Failing, New, Paused, Pausing, Preparing, Ready, Suspended,
};
use crate::job::{JobStatus, Progress};
use crate::journal::{AT_WORK, JobFolder, JobRecord, Journal, PauseCause, Request, Why};
use crate::manifest::{Bounds as DiskBounds, Frozen, ManifestError, Prepared, freeze, unchanged};
use crate::plan::{Plan, Threshold};
use crate::store::Store;

/// Observes the progress of a job.
pub trait Watch: Send {
    /// Called after rows of the manifest were read.
    fn prepares(&mut self, prepared: Prepared);
    /// Called about twice a second while the job waits for its turn.
    fn waits(&mut self, waiting: &Waiting);
    /// Called about twice a second while the job runs.
    fn works(&mut self, snapshot: Snapshot);
    /// Called with a note about the job for the user.
    fn notes(&mut self, note: &str);
}

/// The outcome of preparing a job.
#[must_use]
#[derive(Debug)]
pub enum Prepare {
    /// The manifest is frozen, so the objects are known.
    Known(Box<Frozen>),
    /// The process was asked to stop. The job can be resumed.
    Interrupted,
    /// The job was cancelled.
    Cancelled,
}

/// The outcome of running a job.
#[must_use]
#[derive(Debug)]
pub enum Gone {
    /// The job is Suspended: its objects are known, and it waits for confirmation.
    Suspended(Box<Frozen>),
    /// The process was asked to stop while the manifest was being resolved.
    Interrupted,
    /// The run has ended.
    Concluded(Concluded),
    /// Nothing was done: the job is Ready, Paused or over.
    Left,
}

/// A decision that another process made about a job that waits for confirmation.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The job is confirmed.
    Confirmed,
    /// The job is to be cancelled.
    Cancelled,
}

/// The outcome of working on a job.
#[must_use]
#[derive(Debug)]
pub enum Worked {
    /// The work has ended, and the caller must conclude the job.
    Ran(Box<Ran>),
    /// The job did not start: it is Ready, Paused or Cancelling.
    Left,
}

/// Runs one job.
pub struct Runner<'a> {
    /// The journal that holds the job.
    pub journal: &'a Journal,
    /// The record of the job. The runner keeps it up to date.
    pub job: JobRecord,
    /// The plan to carry out.
    pub plan: &'a Plan,
    /// The store that holds the objects.
    pub store: &'a Arc<dyn Store>,
    /// How to run the job.
    pub settings: &'a Settings,
    /// The request budget, which the jobs of this process share.
    pub budget: &'a Budget,
    /// Cancel this token to stop the job.
    pub signal: CancellationToken,
    held: Held,
    /// Whether this runner has frozen the manifest, so that its source was read just now.
    fresh: bool,
    /// Whether the cost of the job was checked just now, and the plan allows it.
    pub affordable: bool,
}

impl<'a> Runner<'a> {
    /// Creates a runner for a job whose lease this process holds.
    #[must_use]
    pub fn new(
        journal: &'a Journal,
        held: Held,
        job: JobRecord,
        plan: &'a Plan,
        store: &'a Arc<dyn Store>,
        (settings, budget): (&'a Settings, &'a Budget),
        signal: CancellationToken,
    ) -> Self {
        Self { journal, job, plan, store, settings, budget, signal, held, fresh: false, affordable: false }
    }

    /// Runs the job from its current status until it ends or must wait.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved, which fails the job. Also returns an error if the source of
    /// the manifest has changed, or if the report or the journal cannot be used; the job can then be resumed.
    pub async fn go(&mut self, watch: &mut dyn Watch) -> Result<Gone, JobError> {
        if self.job.status.is_over() {
            return Ok(Gone::Left);
        }
        // Resuming a job withdraws an earlier request to pause it.
        self.journal.take_back_pause(&self.job.id)?;
        if matches!(self.job.status, Cancelling | Failing) {
            return self.end_as_recorded().await.map(Gone::Concluded);
        }
        self.check_server_verdict()?;
        let frozen = match self.prepare(watch).await? {
            Prepare::Known(frozen) => frozen,
            Prepare::Interrupted => return Ok(Gone::Interrupted),
            Prepare::Cancelled => return Ok(Gone::Left),
        };
        if self.job.status == Suspended {
            return Ok(Gone::Suspended(frozen));
        }
        if !self.fresh
            && let Err(error) = self.check_pin(&frozen).await
        {
            return if self.signal.is_cancelled() { Ok(Gone::Left) } else { Err(error) };
        }
        // This comes last: a job that cannot be resumed keeps its status.
        self.make_ready()?;
        match self.work(&frozen, watch).await? {
            Worked::Ran(ran) => self.conclude(*ran).await.map(Gone::Concluded),
            Worked::Left if self.job.status == Cancelling => self.end_as_recorded().await.map(Gone::Concluded),
            Worked::Left => Ok(Gone::Left),
        }
    }

    /// Returns the folder with the job's files.
    #[must_use]
    pub fn folder(&self) -> &JobFolder {
        &self.held.folder
    }

    /// Moves the job to another status.
    ///
    /// # Errors
    /// Returns an error if the move is not allowed, or if the journal cannot be written.
    pub fn advance(&mut self, to: JobStatus, why: Why) -> Result<(), JobError> {
        let plan = std::mem::take(&mut self.job.plan);
        self.job = JobRecord { plan, ..self.journal.advance(&self.job.id, to, why, Timestamp::now())? };
        failpoint::reach("status-changed");
        Ok(())
    }

    /// Reads the record of the job from the journal again.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn refresh(&mut self) -> Result<(), JobError> {
        self.job = self.journal.find(self.job.id.as_str())?;
        Ok(())
    }

    /// Returns the frozen manifest of the job, and freezes it first if necessary. The job becomes Suspended or Ready,
    /// unless it was already further.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved. This fails the job, unless the cause lies on this machine,
    /// such as a full disk: then preparing can be resumed. Also returns an error if the frozen manifest cannot be read.
    pub async fn prepare(&mut self, watch: &mut dyn Watch) -> Result<Prepare, JobError> {
        if !matches!(self.job.status, New | Preparing) {
            let frozen = self.frozen()?;
            self.check_count(&frozen)?;
            return Ok(Prepare::Known(Box::new(frozen)));
        }
        if self.job.status == New {
            self.advance(Preparing, Why::default())?;
        }
        // A complete manifest that was not recorded yet can be used, but its source may have changed since.
        let frozen = match Frozen::open(self.folder().path()) {
            // Only freezing shows whether a manifest matches a saved plan.
            Ok(Some(frozen)) if self.job.pledge.is_none() => Ok(frozen),
            _ => self.freeze(watch).await.inspect(|_| self.fresh = true),
        };
        let frozen = frozen.and_then(|frozen| self.check_count(&frozen).map(|()| frozen));
        match frozen {
            Ok(frozen) => {
                self.journal.set_total(&self.job.id, frozen.rows())?;
                let scope = Scope::of(self.plan, &frozen).to_text().map_err(std::io::Error::from)?;
                self.journal.set_scope(&self.job.id, scope)?;
                note_inventory(self.journal, &self.job, &frozen)?;
                // The job may have been confirmed meanwhile.
                self.refresh()?;
                self.advance(if self.job.confirmed { Ready } else { Suspended }, Why::default())?;
                self.job.progress.total = frozen.rows();
                Ok(Prepare::Known(Box::new(frozen)))
            }
            Err(JobError::Manifest(ManifestError::Stopped)) => self.stopped_preparing(),
            Err(error @ JobError::Stale(_)) => {
                self.journal.withdraw(&self.job.id)?;
                self.folder().clone().remove()?;
                Err(error)
            }
            Err(error) if error.is_of_this_machine() => Err(error),
            Err(error) => {
                self.advance(Failing, Why::because(error.to_string()))?;
                let reason = self.job.reason.clone();
                self.advance(JobStatus::Failed, Why { reason, cause: None })?;
                Err(error)
            }
        }
    }

    async fn freeze(&mut self, watch: &mut dyn Watch) -> Result<Frozen, JobError> {
        let manifest = manifest(self.journal, &self.job, self.plan)?;
        let stop = self.signal.child_token();
        let control =
            Control { journal: self.journal, job: &self.job.id, signal: &self.signal, stop: &stop, seat: None };
        let watch = std::sync::Mutex::new(watch);
        let found = AtomicU64::new(0);
        let observe = |prepared: Prepared| {
            found.store(prepared.taken, Ordering::Relaxed);
            if let Ok(mut watch) = watch.lock() {
                watch.prepares(prepared);
            }
        };
        let limits = &self.plan.limits;
        let bounds = DiskBounds {
            max_disk: limits.max_disk,
            max_objects: limits.max_objects,
            // Each listing uses a connection and a file.
            concurrency: Some(descriptors::fitting(limits.concurrency, 2)),
        };
        let pledge = self.job.pledge.as_ref();
        let freezing = async {
            let (store, folder) = (self.store, self.folder().path());
            match pledge {
                None => Ok(freeze(&manifest, store, folder, bounds, &observe, &stop).await?),
                Some(pledge) => freeze_as(pledge, &manifest, store, folder, bounds, &observe, &stop).await,
            }
        };
        // Freezing stops by itself soon after it is asked to, unless it reads a file that never responds.
        let patience = self.settings.patience.drain;
        tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = long_after(&stop, patience) => Err(ManifestError::Stopped.into()),
            () = control.watch_preparing(&found) => Err(ManifestError::Stopped.into()),
        }
    }

    /// Refuses to start with more objects than the plan allows: the limit may have been lowered since they were frozen.
    fn check_count(&self, frozen: &Frozen) -> Result<(), JobError> {
        let found = frozen.rows();
        match self.plan.limits.max_objects.filter(|limit| found > *limit && self.job.taken.is_none()) {
            Some(limit) => Err(ManifestError::TooMany { limit, found: Some(found) }.into()),
            None => Ok(()),
        }
    }

    fn stopped_preparing(&mut self) -> Result<Prepare, JobError> {
        self.refresh()?;
        let Some((Request::Cancel, why)) = self.job.request.clone() else { return Ok(Prepare::Interrupted) };
        let why = Why { reason: why.or_else(|| Some("on request".to_owned())), cause: None };
        if self.job.status != Cancelling {
            self.advance(Cancelling, why.clone())?;
        }
        self.advance(Cancelled, why)?;
        Ok(Prepare::Cancelled)
    }

    /// Returns the frozen manifest of the job.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be read.
    pub fn frozen(&self) -> Result<Frozen, JobError> {
        Frozen::open(self.folder().path())?
            .ok_or_else(|| ManifestError::Missing { file: self.folder().path().join("manifest") }.into())
    }

    /// Refuses to resume a job if the source of its manifest has changed, unless the settings allow that.
    ///
    /// # Errors
    /// Returns an error if the source has changed, is gone, or cannot be read.
    pub async fn check_pin(&self, frozen: &Frozen) -> Result<(), JobError> {
        if self.settings.frozen_manifest {
            return Ok(());
        }
        let refused = |cause| JobError::Pin { job: self.job.id.clone(), cause: Box::new(cause) };
        unchanged(frozen.pin(), self.store, &self.signal).await.map_err(refused)
    }

    /// Confirms the job: moves it from Suspended to Ready.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn confirm(&mut self) -> Result<(), JobError> {
        self.refresh()?;
        if self.job.status == Ready {
            return Ok(());
        }
        self.journal.confirm(&self.job.id)?;
        self.advance(Ready, Why::default())
    }

    /// Waits until another process confirms or cancels a job that waits for confirmation.
    pub async fn decided_elsewhere(&self) -> Decided {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(job) = self.journal.look(&self.job.id).await else { continue };
            match (job.status, job.request) {
                (_, Some((Request::Cancel, _))) => return Decided::Cancelled,
                (Ready, _) => return Decided::Confirmed,
                _ => {}
            }
        }
    }

    /// Cancels a job that was not confirmed. The reason is `why`, unless a request gave another.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn decline(&mut self, why: &str) -> Result<(), JobError> {
        self.refresh()?;
        let asked = self.job.request.clone().and_then(|(_, why)| why);
        let reason = Some(asked.unwrap_or_else(|| why.to_owned()));
        self.advance(Cancelling, Why { reason: reason.clone(), cause: None })?;
        self.advance(Cancelled, Why { reason, cause: None })
    }

    /// Moves an interrupted job to a status from which it can be resumed: Pausing becomes Paused, and Paused becomes
    /// Ready.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn make_ready(&mut self) -> Result<(), JobError> {
        if self.job.status == Pausing {
            let (reason, cause) = (self.job.reason.clone(), self.job.cause);
            self.advance(Paused, Why { reason, cause })?;
        }
        if self.job.status == Paused {
            self.advance(Ready, Why::default())?;
        }
        Ok(())
    }

    /// Works on a job that is Ready, or was Active when it was interrupted, until the work stops.
    ///
    /// # Errors
    /// Returns an error if the job would cost more than its plan allows, if its report cannot be resumed, or if the
    /// journal cannot be used. In the first two cases no object was changed.
    pub async fn work(&mut self, frozen: &Frozen, watch: &mut dyn Watch) -> Result<Worked, JobError> {
        let unseen = self.job.taken.is_none() && !self.affordable;
        if unseen && !cost::check(self.plan, frozen, self.store, &self.signal).await? {
            return Ok(Worked::Left);
        }
        if self.job.status == Ready && !self.wait_for_turn(watch).await? {
            return Ok(Worked::Left);
        }
        if self.job.span.touched != Some(AT_WORK) {
            self.journal.work_resumed(&self.job.id)?;
        }
        let before = self.before(frozen, watch)?;
        let limits = self.plan.limits;
        let wanted = Wanted { concurrency: limits.concurrency, requests_per_second: limits.requests_per_second };
        let seat = self.budget.enter(self.plan.store_identity(), self.job.priority, wanted);
        say_bounds(&seat, limits.concurrency, watch);
        let threshold = Threshold::new(limits.failure_threshold);
        let bounds = Bounds { allowance: seat.allowance(), threshold, rhythm: self.settings.rhythm };
        let asked = CancellationToken::new();
        let stop = Stop { asked: asked.clone(), patience: self.settings.patience.drain };
        let control =
            Control { journal: self.journal, job: &self.job.id, signal: &self.signal, stop: &asked, seat: Some(&seat) };
        let mut observe = |snapshot| watch.works(snapshot);
        let job = self.engine_job();
        let ran = tokio::select! {
            biased;
            ran = job.run(frozen, before, bounds, stop, &mut observe) => ran,
            () = control.watch() => unreachable!("it watches for as long as it is awaited"),
        };
        drop(seat);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return self.redo(error, frozen, watch).await,
        };
        self.refresh()?;
        self.note_unrecorded(&ran.dispatched)?;
        self.settle_status(&ran.dispatched)?;
        Ok(Worked::Ran(Box::new(ran)))
    }

    /// Returns the job in the form that the engine takes.
    pub(super) fn engine_job(&self) -> Job<'_> {
        let Self { journal, job, plan, store, .. } = self;
        Job { id: &job.id, number: job.number, plan, store, folder: self.folder(), journal }
    }

    /// Records how the work ended. The following steps may still fail, and then find the job in a status from which it
    /// can be resumed.
    fn settle_status(&mut self, dispatched: &Dispatched) -> Result<(), JobError> {
        let Progress { total, failed, .. } = dispatched.progress;
        match (&dispatched.end, self.job.status) {
            (End::TooManyFailed, Active | Pausing) => {
                let threshold = self.plan.limits.failure_threshold;
                let why = format!("{failed} of {total} objects failed, and {threshold} may");
                self.advance(Failing, Why::because(why))
            }
            (End::Asked, Active) => self.stops_as_asked(),
            (End::Refused(fault), Active | Pausing) => self.pauses(PauseCause::Credentials, refused(fault)),
            (End::Untrusted(refusal), Active | Pausing) => {
                self.pauses(PauseCause::Server, why_untrusted(self.plan, refusal))
            }
            (End::Broken(error), Active | Pausing) => self.pauses(PauseCause::Machine, error.to_string()),
            // Everything is done, or another request arrived at the last moment of the work.
            _ => Ok(()),
        }
    }

    /// Records the request that stopped the work, if that was not possible when it arrived. A job that a person paused
    /// must not be resumed automatically.
    fn stops_as_asked(&mut self) -> Result<(), JobError> {
        let or = |why: Option<String>, otherwise: &str| why.unwrap_or_else(|| otherwise.to_owned());
        match self.job.request.clone() {
            Some((Request::Cancel, why)) => self.advance(Cancelling, Why::because(or(why, "on request"))),
            Some((Request::Pause, why)) => {
                self.advance(Pausing, Why::paused(PauseCause::Person, or(why, "on request")))
            }
            None => self.advance(Pausing, Why::paused(PauseCause::Signal, "it was asked to stop")),
        }
    }

    /// Moves a job from its work to Paused.
    pub(super) fn pauses(&mut self, cause: PauseCause, why: String) -> Result<(), JobError> {
        if self.job.status == Active {
            self.advance(Pausing, Why::paused(cause, why.clone()))?;
        }
        self.advance(Paused, Why::paused(cause, why))
    }
}

/// Completes this long after a stop.
pub(super) async fn long_after(stop: &CancellationToken, patience: std::time::Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}
