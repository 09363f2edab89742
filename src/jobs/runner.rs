//! One job that this process holds: prepares its manifest, confirms it, and reacts to requests from other processes to
//! pause or cancel it, or to change its priority.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batchplan_store::Store;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use super::job_request::JobLease;
use super::job_source::job_manifest;
use super::request_budget::{BudgetShare, RequestBudget};
use super::saved_plan::freeze_matching;
use super::schedule::{JobScope, ScheduleRules, WaitReason};
use crate::engine::{CheckpointPolicy, ProgressSnapshot};
use crate::failpoint;
use crate::job::JobStatus;
use crate::job::JobStatus::{Cancelled, Cancelling, Failing, New, Preparing, Ready, Suspended};
use crate::journal::{
    ControlRequest, JobFolder, JobRecord, JobSource, Journal, PauseCause, PinnedInventory, StatusReason,
};
use crate::manifest::{FreezeLimits, FreezeProgress, FrozenManifest, ManifestError, freeze};
use crate::open_files;
use crate::plan::Plan;

/// The interval between two reads of the journal.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The reason of a pause by a signal.
pub(super) const SIGNALLED: &str = "stopped by Ctrl-C or a signal";

/// How long unfinished work may take after a stop.
#[derive(Clone, Copy, Debug)]
pub struct StopTimeouts {
    /// For requests in flight.
    pub drain: Duration,
    /// For uploading the report to its bucket.
    pub publish: Duration,
    /// For notifications that are not delivered yet.
    pub notify: Duration,
}

impl StopTimeouts {
    /// For interactive use.
    pub const INTERACTIVE: Self =
        Self { drain: Duration::from_secs(30), publish: Duration::from_secs(30), notify: Duration::from_secs(15) };

    /// For a CI runner, which kills processes about seven seconds after a stop.
    pub const CI: Self =
        Self { drain: Duration::from_secs(5), publish: Duration::from_millis(1500), notify: Duration::from_secs(2) };

    /// For a CI runner where the process must also push its state to a bucket.
    pub const CI_WITH_PUSH: Self =
        Self { drain: Duration::from_secs(3), publish: Duration::from_secs(1), notify: Duration::from_secs(2) };
}

/// The default number of jobs that run at once, as in the managed service.
pub const DEFAULT_SLOTS: usize = 6;

/// How to run jobs.
#[derive(Clone, Copy, Debug)]
pub struct RunSettings {
    /// How long unfinished work may take after a stop.
    pub timeouts: StopTimeouts,
    /// When to write checkpoints.
    pub checkpoint_policy: CheckpointPolicy,
    /// How many jobs run at once, and which of them together.
    pub rules: ScheduleRules,
    /// Whether to resume a job with its frozen objects if the source of the manifest has changed.
    pub frozen_manifest: bool,
}

/// Observes the progress of a job.
pub trait ProgressObserver: Send {
    /// Called after rows of the manifest were read.
    fn on_rows_read(&mut self, prepared: FreezeProgress);
    /// Called about twice a second while the job waits for its turn.
    fn on_waiting(&mut self, waiting: &WaitReason);
    /// Called about twice a second while the job runs.
    fn on_progress(&mut self, snapshot: ProgressSnapshot);
    /// Called with a note about the job for the user.
    fn on_note(&mut self, note: &str);
}

/// The outcome of preparing a job.
#[must_use]
#[derive(Debug)]
pub enum PrepareOutcome {
    /// The manifest is frozen, so the objects are known.
    Frozen(Box<FrozenManifest>),
    /// The process was asked to stop. The job can be resumed.
    Interrupted,
    /// The job was cancelled.
    Cancelled,
}

/// A decision that another process made about a job that waits for confirmation.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmationDecision {
    /// The job is confirmed.
    Confirmed,
    /// The job is to be cancelled.
    Cancelled,
}

/// One job, and everything that is needed to run it.
pub struct JobRunner<'a> {
    /// The journal that holds the job.
    pub journal: &'a Journal,
    /// The record of the job. The runner keeps it up to date.
    pub job: JobRecord,
    /// The plan to carry out.
    pub plan: &'a Plan,
    /// The store that holds the objects.
    pub store: &'a Arc<dyn Store>,
    /// How to run the job.
    pub settings: &'a RunSettings,
    /// The request budget, which the jobs of this process share.
    pub budget: &'a RequestBudget,
    /// Cancel this token to stop the job.
    pub stop: CancellationToken,
    lease: JobLease,
    /// Whether this runner has frozen the manifest, so that its source was read just now.
    pub(super) just_frozen: bool,
    /// Whether the cost of the job was checked just now, and the plan allows it.
    pub cost_checked: bool,
}

impl<'a> JobRunner<'a> {
    /// Creates a runner for a job whose lease this process holds.
    #[must_use]
    pub fn new(
        journal: &'a Journal,
        lease: JobLease,
        job: JobRecord,
        plan: &'a Plan,
        store: &'a Arc<dyn Store>,
        (settings, budget): (&'a RunSettings, &'a RequestBudget),
        stop: CancellationToken,
    ) -> Self {
        Self { journal, job, plan, store, settings, budget, stop, lease, just_frozen: false, cost_checked: false }
    }

    /// Returns the folder with the job's files.
    #[must_use]
    pub fn folder(&self) -> &JobFolder {
        &self.lease.folder
    }

    /// Moves the job to another status.
    ///
    /// # Errors
    /// Returns an error if the move is not allowed, or if the journal cannot be written.
    pub fn advance(&mut self, to: JobStatus, why: StatusReason) -> Result<(), JobError> {
        let plan = std::mem::take(&mut self.job.plan_text);
        self.job = JobRecord { plan_text: plan, ..self.journal.advance(&self.job.id, to, why, Timestamp::now())? };
        failpoint::hit("status-changed");
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
    pub async fn prepare(&mut self, watch: &mut dyn ProgressObserver) -> Result<PrepareOutcome, JobError> {
        if !matches!(self.job.status, New | Preparing) {
            let frozen = self.open_frozen()?;
            self.check_count(&frozen)?;
            return Ok(PrepareOutcome::Frozen(Box::new(frozen)));
        }
        if self.job.status == New {
            self.advance(Preparing, StatusReason::default())?;
        }
        // A complete manifest that was not recorded yet can be used, but its source may have changed since.
        let frozen = match FrozenManifest::open(self.folder().path()) {
            // Only freezing shows whether a manifest matches a saved plan.
            Ok(Some(frozen)) if self.job.manifest_fingerprint.is_none() => Ok(frozen),
            _ => self.freeze(watch).await.inspect(|_| self.just_frozen = true),
        };
        let frozen = frozen.and_then(|frozen| self.check_count(&frozen).map(|()| frozen));
        match frozen {
            Ok(frozen) => {
                self.journal.set_total(&self.job.id, frozen.rows())?;
                let scope = JobScope::of(self.plan, &frozen).to_text().map_err(std::io::Error::from)?;
                self.journal.set_scope(&self.job.id, scope)?;
                self.record_inventory(&frozen)?;
                // The job may have been confirmed meanwhile.
                self.refresh()?;
                self.advance(if self.job.confirmed { Ready } else { Suspended }, StatusReason::default())?;
                self.job.progress.total = frozen.rows();
                Ok(PrepareOutcome::Frozen(Box::new(frozen)))
            }
            Err(JobError::Manifest(ManifestError::Stopped)) => self.handle_prepare_stop(),
            Err(error @ JobError::SavedPlanOutdated(_)) => {
                self.journal.remove_unstarted(&self.job.id)?;
                self.folder().clone().remove()?;
                Err(error)
            }
            Err(error) if error.is_fixable_here() => Err(error),
            Err(error) => {
                self.advance(Failing, StatusReason::because(error.to_string()))?;
                let reason = self.job.reason.clone();
                self.advance(JobStatus::Failed, StatusReason { message: reason, pause_cause: None })?;
                Err(error)
            }
        }
    }

    async fn freeze(&mut self, watch: &mut dyn ProgressObserver) -> Result<FrozenManifest, JobError> {
        let manifest = job_manifest(self.journal, &self.job, self.plan)?;
        let stop = self.stop.child_token();
        let watch = std::sync::Mutex::new(watch);
        let found = AtomicU64::new(0);
        let observe = |prepared: FreezeProgress| {
            found.store(prepared.rows_included, Ordering::Relaxed);
            if let Ok(mut watch) = watch.lock() {
                watch.on_rows_read(prepared);
            }
        };
        let limits = &self.plan.limits;
        let bounds = FreezeLimits {
            max_disk: limits.max_disk,
            max_objects: limits.max_objects,
            // Each listing uses a connection and a file.
            concurrency: Some(open_files::fit_to_available(limits.concurrency, 2)),
        };
        let fingerprint = self.job.manifest_fingerprint.as_ref();
        let freezing = async {
            let (store, folder) = (self.store, self.folder().path());
            match fingerprint {
                None => Ok(freeze(&manifest, store, folder, bounds, &observe, &stop).await?),
                Some(fingerprint) => {
                    freeze_matching(fingerprint, &manifest, store, folder, bounds, &observe, &stop).await
                }
            }
        };
        // Freezing stops by itself soon after it is asked to, unless it reads a file that never responds.
        let patience = self.settings.timeouts.drain;
        tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = after_stop(&stop, patience) => Err(ManifestError::Stopped.into()),
            () = self.watch_preparing(&stop, &found) => Err(ManifestError::Stopped.into()),
        }
    }

    /// Refuses to start with more objects than the plan allows: the limit may have been lowered since they were frozen.
    fn check_count(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        let found = frozen.rows();
        match self.plan.limits.max_objects.filter(|limit| found > *limit && self.job.next_row.is_none()) {
            Some(limit) => Err(ManifestError::TooManyObjects { limit, found: Some(found) }.into()),
            None => Ok(()),
        }
    }

    /// Records which inventory a plan's job was made from, if it was made from one.
    fn record_inventory(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        match PinnedInventory::from_pin(frozen.pin()).filter(|_| self.job.source == JobSource::Plan) {
            Some(inventory) => Ok(self.journal.set_inventory(&self.job.id, &inventory)?),
            None => Ok(()),
        }
    }

    fn handle_prepare_stop(&mut self) -> Result<PrepareOutcome, JobError> {
        self.refresh()?;
        let Some((request @ ControlRequest::Cancel, why)) = &self.job.request else {
            return Ok(PrepareOutcome::Interrupted);
        };
        let why = StatusReason::because(why.as_deref().unwrap_or(default_reason(*request)));
        if self.job.status != Cancelling {
            self.advance(Cancelling, why.clone())?;
        }
        self.advance(Cancelled, why)?;
        Ok(PrepareOutcome::Cancelled)
    }

    fn open_frozen(&self) -> Result<FrozenManifest, JobError> {
        FrozenManifest::open(self.folder().path())?
            .ok_or_else(|| ManifestError::Missing { file: self.folder().path().join("manifest") }.into())
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
        self.advance(Ready, StatusReason::default())
    }

    /// Waits until another process confirms or cancels a job that waits for confirmation.
    pub async fn wait_for_decision(&self) -> ConfirmationDecision {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let Ok(job) = self.journal.get(&self.job.id).await else { continue };
            match (job.status, job.request) {
                (_, Some((ControlRequest::Cancel, _))) => return ConfirmationDecision::Cancelled,
                (Ready, _) => return ConfirmationDecision::Confirmed,
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
        self.advance(Cancelling, StatusReason { message: reason.clone(), pause_cause: None })?;
        self.advance(Cancelled, StatusReason { message: reason, pause_cause: None })
    }

    /// Watches the journal for requests to the running job until the future is dropped, and stops the job with `stop`
    /// if it is to pause or to be cancelled. If the journal cannot be read, it is read again later: the run meets the
    /// same error, and ends.
    pub(super) async fn watch_requests(&self, stop: &CancellationToken, share: &BudgetShare) {
        let mut answered = None;
        let mut signalled = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled(), if !signalled => {
                    signalled = true;
                    self.pause_on_request(stop, PauseCause::Signal, SIGNALLED);
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            let Ok(job) = self.journal.get(&self.job.id).await else { continue };
            share.set_priority(job.priority);
            let asked = job.request.as_ref().map(|(request, _)| *request);
            if asked != answered {
                answered = asked;
                self.handle_request(&job, stop);
            }
        }
    }

    /// Watches a job whose manifest is being resolved, and records how many objects were found so far. Such a job can
    /// only be cancelled.
    async fn watch_preparing(&self, stop: &CancellationToken, found: &AtomicU64) {
        let mut noted = 0;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = found.load(Ordering::Relaxed);
            // This count is only for observers. If it cannot be recorded, a later write to the journal reports the
            // error.
            if now != noted && self.journal.set_total(&self.job.id, now).is_ok() {
                noted = now;
            }
            if let Ok(job) = self.journal.get(&self.job.id).await
                && matches!(job.request, Some((ControlRequest::Cancel, _)))
            {
                stop.cancel();
            }
        }
    }

    fn handle_request(&self, job: &JobRecord, stop: &CancellationToken) {
        let Some((request, why)) = &job.request else { return };
        let why = why.as_deref().unwrap_or(default_reason(*request));
        match request {
            ControlRequest::Pause => self.pause_on_request(stop, PauseCause::Person, why),
            ControlRequest::Cancel => {
                self.try_advance(JobStatus::Cancelling, StatusReason::because(why));
                stop.cancel();
            }
        }
    }

    fn pause_on_request(&self, stop: &CancellationToken, cause: PauseCause, why: &str) {
        self.try_advance(JobStatus::Pausing, StatusReason::paused(cause, why));
        stop.cancel();
    }

    /// Moves the job to `to`. A refused move is ignored, because the job is then already on its way to an end.
    fn try_advance(&self, to: JobStatus, why: StatusReason) {
        let _ = self.journal.advance(&self.job.id, to, why, Timestamp::now());
    }
}

/// Completes this long after a stop.
pub(super) async fn after_stop(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}

/// Returns the reason of a request that gives no other.
pub(super) fn default_reason(request: ControlRequest) -> &'static str {
    match request {
        ControlRequest::Pause => "requested by `batchplan pause`",
        ControlRequest::Cancel => "requested by `batchplan cancel`",
    }
}
