//! One job, taken from wherever it stands to its end, or to where it must wait.

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

/// Whoever looks on while a job is worked on.
pub trait Watch: Send {
    /// Rows of the manifest were read.
    fn prepares(&mut self, prepared: Prepared);
    /// The job waits for its turn. Told about twice a second.
    fn waits(&mut self, waiting: &Waiting);
    /// The job works. Told about twice a second.
    fn works(&mut self, snapshot: Snapshot);
    /// Something about the job that a person should know.
    fn notes(&mut self, note: &str);
}

/// What became of preparing a job.
#[must_use]
#[derive(Debug)]
pub enum Prepare {
    /// Its objects are known.
    Known(Box<Frozen>),
    /// Its process was asked to end; it can be gone on with.
    Interrupted,
    /// Somebody cancelled it.
    Cancelled,
}

/// Where a job has got to.
#[must_use]
#[derive(Debug)]
pub enum Gone {
    /// It is Suspended: its objects are known, and somebody must confirm it.
    Suspended(Box<Frozen>),
    /// Its process was asked to end while its manifest was being resolved.
    Interrupted,
    /// Its work has ended.
    Concluded(Concluded),
    /// Nothing was done for it now: it is Ready, Paused or over.
    Left,
}

/// What somebody has decided elsewhere of a job that waits to be confirmed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// To confirm it.
    Confirmed,
    /// To cancel it.
    Cancelled,
}

/// What became of working on a job.
#[must_use]
#[derive(Debug)]
pub enum Worked {
    /// It has come to an end of its work: to be concluded.
    Ran(Box<Ran>),
    /// It never got its turn: it is Ready, Paused or Cancelled.
    Left,
}

/// Works on one job.
pub struct Runner<'a> {
    /// The journal that the job is in.
    pub journal: &'a Journal,
    /// The job. Kept up to date.
    pub job: JobRecord,
    /// What it does.
    pub plan: &'a Plan,
    /// Where its objects are.
    pub store: &'a Arc<dyn Store>,
    /// How it is run.
    pub settings: &'a Settings,
    /// What it shares with other jobs of this process.
    pub budget: &'a Budget,
    /// Cancelled to have it stop.
    pub signal: CancellationToken,
    held: Held,
    /// Whether this runner has frozen the manifest: then its source was looked at just now.
    fresh: bool,
    /// Whether what the job costs was looked at just now, and is allowed by the plan.
    pub affordable: bool,
}

impl<'a> Runner<'a> {
    /// A runner of a job that is held: nobody else works on it.
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

    /// Goes on with the job from wherever it stands, until it ends or must wait.
    ///
    /// # Errors
    /// When the manifest cannot be resolved, which fails the job; when its source has changed; or when the report or the
    /// journal cannot be used: the job can be gone on with then.
    pub async fn go(&mut self, watch: &mut dyn Watch) -> Result<Gone, JobError> {
        if self.job.status.is_over() {
            return Ok(Gone::Left);
        }
        // Who goes on with a job does not mean to pause it.
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
        // Last: a job that cannot be gone on with stays what it was.
        self.make_ready()?;
        match self.work(&frozen, watch).await? {
            Worked::Ran(ran) => self.conclude(*ran).await.map(Gone::Concluded),
            Worked::Left if self.job.status == Cancelling => self.end_as_recorded().await.map(Gone::Concluded),
            Worked::Left => Ok(Gone::Left),
        }
    }

    /// The job's files.
    #[must_use]
    pub fn folder(&self) -> &JobFolder {
        &self.held.folder
    }

    /// Moves the job on.
    ///
    /// # Errors
    /// When it may not go there, or the journal cannot be written.
    pub fn advance(&mut self, to: JobStatus, why: Why) -> Result<(), JobError> {
        let plan = std::mem::take(&mut self.job.plan);
        self.job = JobRecord { plan, ..self.journal.advance(&self.job.id, to, why, Timestamp::now())? };
        failpoint::reach("status-changed");
        Ok(())
    }

    /// Looks up what became of the job in the journal.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn refresh(&mut self) -> Result<(), JobError> {
        self.job = self.journal.find(self.job.id.as_str())?;
        Ok(())
    }

    /// The job's objects: those that were frozen, or freezes them now. Leaves the job Suspended or Ready, unless it was
    /// further already.
    ///
    /// # Errors
    /// When the manifest cannot be resolved: the job has Failed then, unless it is for want of something on this machine,
    /// such as room on its disk, and preparing can be gone on with. Or when what was frozen cannot be read.
    pub async fn prepare(&mut self, watch: &mut dyn Watch) -> Result<Prepare, JobError> {
        if !matches!(self.job.status, New | Preparing) {
            let frozen = self.frozen()?;
            self.check_count(&frozen)?;
            return Ok(Prepare::Known(Box::new(frozen)));
        }
        if self.job.status == New {
            self.advance(Preparing, Why::default())?;
        }
        // One that was frozen to its end and not recorded is as good as new, but its source may have changed since.
        let frozen = match Frozen::open(self.folder().path()) {
            // Whether one is what a saved plan pledges is known only while it is frozen.
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
                // Somebody may have confirmed it meanwhile.
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
            // Each listing has a connection and a file.
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
        // Freezing ends by itself soon after a stop, unless it reads a file that never answers.
        let patience = self.settings.patience.drain;
        tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = long_after(&stop, patience) => Err(ManifestError::Stopped.into()),
            () = control.watch_preparing(&found) => Err(ManifestError::Stopped.into()),
        }
    }

    /// Refuses to begin with more objects than there may be: the limit may have been lowered since they were frozen.
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

    /// What was frozen for the job.
    ///
    /// # Errors
    /// When it cannot be read, or is not there.
    pub fn frozen(&self) -> Result<Frozen, JobError> {
        Frozen::open(self.folder().path())?
            .ok_or_else(|| ManifestError::Missing { file: self.folder().path().join("manifest") }.into())
    }

    /// Refuses to go on with a job whose manifest's source is not what it was, unless that was allowed.
    ///
    /// # Errors
    /// When it has changed, is gone, or cannot be looked at.
    pub async fn check_pin(&self, frozen: &Frozen) -> Result<(), JobError> {
        if self.settings.frozen_manifest {
            return Ok(());
        }
        let refused = |cause| JobError::Pin { job: self.job.id.clone(), cause: Box::new(cause) };
        unchanged(frozen.pin(), self.store, &self.signal).await.map_err(refused)
    }

    /// Confirms the job: from Suspended it goes to Ready.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn confirm(&mut self) -> Result<(), JobError> {
        self.refresh()?;
        if self.job.status == Ready {
            return Ok(());
        }
        self.journal.confirm(&self.job.id)?;
        self.advance(Ready, Why::default())
    }

    /// Waits until somebody decides elsewhere what is to become of a job that waits to be confirmed.
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

    /// Gives up a job that was not confirmed, for this reason unless somebody gave another.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn decline(&mut self, why: &str) -> Result<(), JobError> {
        self.refresh()?;
        let asked = self.job.request.clone().and_then(|(_, why)| why);
        let reason = Some(asked.unwrap_or_else(|| why.to_owned()));
        self.advance(Cancelling, Why { reason: reason.clone(), cause: None })?;
        self.advance(Cancelled, Why { reason, cause: None })
    }

    /// Brings a job that was interrupted on its way somewhere to a status that it can be gone on from: what was Pausing is
    /// Paused, and what is Paused is Ready.
    ///
    /// # Errors
    /// When the journal cannot be written.
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

    /// Works on a job that is Ready, or was Active when it was interrupted, until it stops.
    ///
    /// # Errors
    /// When its report cannot be gone on with, or the journal cannot be used: nothing was sent.
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

    /// The job, as the engine wants it.
    pub(super) fn engine_job(&self) -> Job<'_> {
        let Self { journal, job, plan, store, .. } = self;
        Job { id: &job.id, number: job.number, plan, store, folder: self.folder(), journal }
    }

    /// Records how the work ended. What is to follow may still fail, and finds the job where it can be gone on from.
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
            // All is done, or somebody has asked for something else in the last moment of the work.
            _ => Ok(()),
        }
    }

    /// Records what it was asked to stop for, which could not be recorded when it was asked: a job that a person paused is
    /// not to be resumed by anybody else.
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

    /// Brings a job that is worked on to Paused.
    pub(super) fn pauses(&mut self, cause: PauseCause, why: String) -> Result<(), JobError> {
        if self.job.status == Active {
            self.advance(Pausing, Why::paused(cause, why.clone()))?;
        }
        self.advance(Paused, Why::paused(cause, why))
    }
}

/// Ends so long after a stop.
pub(super) async fn long_after(stop: &CancellationToken, patience: std::time::Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}
