//! Runs one job from its current status to its end, or until it must wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchplan_store::Store;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::control::{CANCEL_REQUESTED, PAUSE_REQUESTED, POLL_INTERVAL, RunControl, SIGNALLED};
use super::cost_check;
use super::error::JobError;
use super::fingerprint::freeze_matching;
use super::finish::FinishOutcome;
use super::hints::{describe_rejected_credentials, describe_too_many_failures, describe_untrusted_server};
use super::job_request::JobLease;
use super::job_source::job_manifest;
use super::recovery::report_descriptor_limit;
use super::recurring::record_inventory;
use super::request_budget::{RequestBudget, ShareLimits};
use super::schedule::WaitReason;
use super::scope::JobScope;
use super::settings::RunSettings;
use crate::descriptors;
use crate::engine::{
    DispatchLimits, DispatchOutcome, ExecutionOutcome, GracefulStop, JobExecution, ProgressSnapshot, StopReason,
};
use crate::failpoint;
use crate::job::JobStatus;
use crate::job::JobStatus::{
    Active, Cancelled, Cancelling, Failing, New, Paused, Pausing, Preparing, Ready, Suspended,
};
use crate::journal::{ControlRequest, JobFolder, JobRecord, Journal, PauseCause, STILL_ACTIVE, StatusReason};
use crate::manifest::{FreezeLimits as DiskBounds, FreezeProgress, FrozenManifest, ManifestError, check_pin, freeze};
use crate::plan::{FailureThreshold, Plan};

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

/// The outcome of running a job.
#[must_use]
#[derive(Debug)]
pub enum RunOutcome {
    /// The job is Suspended: its objects are known, and it waits for confirmation.
    Suspended(Box<FrozenManifest>),
    /// The process was asked to stop while the manifest was being resolved.
    Interrupted,
    /// The run has ended.
    Finished(FinishOutcome),
    /// Nothing was done: the job is Ready, Paused or over.
    Skipped,
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

/// The outcome of working on a job.
#[must_use]
#[derive(Debug)]
pub enum WorkOutcome {
    /// The work has ended, and the caller must conclude the job.
    Executed(Box<ExecutionOutcome>),
    /// The job did not start: it is Ready, Paused or Cancelling.
    Skipped,
}

/// Runs one job.
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
    just_frozen: bool,
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

    /// Runs the job from its current status until it ends or must wait.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be resolved, which fails the job. Also returns an error if the source of
    /// the manifest has changed, or if the report or the journal cannot be used; the job can then be resumed.
    pub async fn run(&mut self, watch: &mut dyn ProgressObserver) -> Result<RunOutcome, JobError> {
        if self.job.status.is_over() {
            return Ok(RunOutcome::Skipped);
        }
        // Resuming a job withdraws an earlier request to pause it.
        self.journal.withdraw_pause_request(&self.job.id)?;
        if matches!(self.job.status, Cancelling | Failing) {
            return self.finish_recorded().await.map(RunOutcome::Finished);
        }
        self.check_server_trust()?;
        let frozen = match self.prepare(watch).await? {
            PrepareOutcome::Frozen(frozen) => frozen,
            PrepareOutcome::Interrupted => return Ok(RunOutcome::Interrupted),
            PrepareOutcome::Cancelled => return Ok(RunOutcome::Skipped),
        };
        if self.job.status == Suspended {
            return Ok(RunOutcome::Suspended(frozen));
        }
        if !self.just_frozen
            && let Err(error) = self.check_source(&frozen).await
        {
            return if self.stop.is_cancelled() { Ok(RunOutcome::Skipped) } else { Err(error) };
        }
        // This comes last: a job that cannot be resumed keeps its status.
        self.make_ready()?;
        match self.execute(&frozen, watch).await? {
            WorkOutcome::Executed(ran) => self.finish_run(*ran).await.map(RunOutcome::Finished),
            WorkOutcome::Skipped if self.job.status == Cancelling => {
                self.finish_recorded().await.map(RunOutcome::Finished)
            }
            WorkOutcome::Skipped => Ok(RunOutcome::Skipped),
        }
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
                record_inventory(self.journal, &self.job, &frozen)?;
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
        let control =
            RunControl { journal: self.journal, job: &self.job.id, signal: &self.stop, stop: &stop, share: None };
        let watch = std::sync::Mutex::new(watch);
        let found = AtomicU64::new(0);
        let observe = |prepared: FreezeProgress| {
            found.store(prepared.rows_included, Ordering::Relaxed);
            if let Ok(mut watch) = watch.lock() {
                watch.on_rows_read(prepared);
            }
        };
        let limits = &self.plan.limits;
        let bounds = DiskBounds {
            max_disk: limits.max_disk,
            max_objects: limits.max_objects,
            // Each listing uses a connection and a file.
            concurrency: Some(descriptors::fit_to_available(limits.concurrency, 2)),
        };
        let pledge = self.job.manifest_fingerprint.as_ref();
        let freezing = async {
            let (store, folder) = (self.store, self.folder().path());
            match pledge {
                None => Ok(freeze(&manifest, store, folder, bounds, &observe, &stop).await?),
                Some(pledge) => freeze_matching(pledge, &manifest, store, folder, bounds, &observe, &stop).await,
            }
        };
        // Freezing stops by itself soon after it is asked to, unless it reads a file that never responds.
        let patience = self.settings.timeouts.drain;
        tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = after_stop(&stop, patience) => Err(ManifestError::Stopped.into()),
            () = control.watch_preparing(&found) => Err(ManifestError::Stopped.into()),
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

    fn handle_prepare_stop(&mut self) -> Result<PrepareOutcome, JobError> {
        self.refresh()?;
        let Some((ControlRequest::Cancel, why)) = self.job.request.clone() else {
            return Ok(PrepareOutcome::Interrupted);
        };
        let why = StatusReason { message: why.or_else(|| Some(CANCEL_REQUESTED.to_owned())), pause_cause: None };
        if self.job.status != Cancelling {
            self.advance(Cancelling, why.clone())?;
        }
        self.advance(Cancelled, why)?;
        Ok(PrepareOutcome::Cancelled)
    }

    /// Returns the frozen manifest of the job.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be read.
    pub fn open_frozen(&self) -> Result<FrozenManifest, JobError> {
        FrozenManifest::open(self.folder().path())?
            .ok_or_else(|| ManifestError::Missing { file: self.folder().path().join("manifest") }.into())
    }

    /// Refuses to resume a job if the source of its manifest has changed, unless the settings allow that.
    ///
    /// # Errors
    /// Returns an error if the source has changed, is gone, or cannot be read.
    pub async fn check_source(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        if self.settings.frozen_manifest {
            return Ok(());
        }
        let refused = |cause| JobError::SourceChanged { job: self.job.id.clone(), cause: Box::new(cause) };
        check_pin(frozen.pin(), self.store, &self.stop).await.map_err(refused)
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

    /// Moves an interrupted job to a status from which it can be resumed: Pausing becomes Paused, and Paused becomes
    /// Ready.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn make_ready(&mut self) -> Result<(), JobError> {
        if self.job.status == Pausing {
            let (reason, cause) = (self.job.reason.clone(), self.job.pause_cause);
            self.advance(Paused, StatusReason { message: reason, pause_cause: cause })?;
        }
        if self.job.status == Paused {
            self.advance(Ready, StatusReason::default())?;
        }
        Ok(())
    }

    /// Works on a job that is Ready, or was Active when it was interrupted, until the work stops.
    ///
    /// # Errors
    /// Returns an error if the job would cost more than its plan allows, if its report cannot be resumed, or if the
    /// journal cannot be used. In the first two cases no object was changed.
    pub async fn execute(
        &mut self,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<WorkOutcome, JobError> {
        let unseen = self.job.next_row.is_none() && !self.cost_checked;
        if unseen && !cost_check::check_cost(self.plan, frozen, self.store, &self.stop).await? {
            return Ok(WorkOutcome::Skipped);
        }
        if self.job.status == Ready && !self.wait_for_turn(watch).await? {
            return Ok(WorkOutcome::Skipped);
        }
        if self.job.work_span.last_touched != Some(STILL_ACTIVE) {
            self.journal.mark_work_resumed(&self.job.id)?;
        }
        let before = self.resume_state(frozen, watch)?;
        let limits = self.plan.limits;
        let wanted = ShareLimits { concurrency: limits.concurrency, requests_per_second: limits.requests_per_second };
        let seat = self.budget.add_job(self.plan.store_identity(), self.job.priority, wanted);
        report_descriptor_limit(&seat, limits.concurrency, watch);
        let threshold = FailureThreshold::new(limits.failure_threshold);
        let bounds = DispatchLimits {
            quota: seat.allowance(),
            failure_threshold: threshold,
            checkpoint_policy: self.settings.checkpoint_policy,
        };
        let asked = CancellationToken::new();
        let stop = GracefulStop { requested: asked.clone(), grace_period: self.settings.timeouts.drain };
        let control = RunControl {
            journal: self.journal,
            job: &self.job.id,
            signal: &self.stop,
            stop: &asked,
            share: Some(&seat),
        };
        let mut observe = |snapshot| watch.on_progress(snapshot);
        let job = self.job_execution();
        let ran = tokio::select! {
            biased;
            ran = job.run(frozen, before, bounds, stop, &mut observe) => ran,
            () = control.watch() => unreachable!("it watches for as long as it is awaited"),
        };
        drop(seat);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return self.restart_after_damage(error, frozen, watch).await,
        };
        self.refresh()?;
        self.record_in_doubt(&ran.dispatch)?;
        self.record_stop_reason(&ran.dispatch)?;
        Ok(WorkOutcome::Executed(Box::new(ran)))
    }

    /// Returns the job in the form that the engine takes.
    pub(super) fn job_execution(&self) -> JobExecution<'_> {
        let Self { journal, job, plan, store, .. } = self;
        JobExecution { id: &job.id, number: job.number, plan, store, folder: self.folder(), journal }
    }

    /// Records how the work ended. The following steps may still fail, and then find the job in a status from which it
    /// can be resumed.
    fn record_stop_reason(&mut self, dispatched: &DispatchOutcome) -> Result<(), JobError> {
        match (&dispatched.stop_reason, self.job.status) {
            (StopReason::FailureThreshold, Active | Pausing) => {
                let limit = self.plan.limits.failure_threshold;
                let why = describe_too_many_failures(dispatched.progress, dispatched.in_doubt, limit);
                self.advance(Failing, StatusReason::because(why))
            }
            (StopReason::StopRequested, Active) => self.record_stop_request(),
            (StopReason::CredentialsRejected(fault), Active | Pausing) => {
                self.pause_running(PauseCause::Credentials, describe_rejected_credentials(fault))
            }
            (StopReason::ServerUntrusted(refusal), Active | Pausing) => {
                self.pause_running(PauseCause::Server, describe_untrusted_server(self.plan, refusal))
            }
            (StopReason::InternalError(error), Active | Pausing) => {
                self.pause_running(PauseCause::Machine, error.to_string())
            }
            // Everything is done, or another request arrived at the last moment of the work.
            _ => Ok(()),
        }
    }

    /// Records the request that stopped the work, if that was not possible when it arrived. A job that a person paused
    /// must not be resumed automatically.
    fn record_stop_request(&mut self) -> Result<(), JobError> {
        let or = |why: Option<String>, otherwise: &str| why.unwrap_or_else(|| otherwise.to_owned());
        match self.job.request.clone() {
            Some((ControlRequest::Cancel, why)) => {
                self.advance(Cancelling, StatusReason::because(or(why, CANCEL_REQUESTED)))
            }
            Some((ControlRequest::Pause, why)) => {
                self.advance(Pausing, StatusReason::paused(PauseCause::Person, or(why, PAUSE_REQUESTED)))
            }
            None => self.advance(Pausing, StatusReason::paused(PauseCause::Signal, SIGNALLED)),
        }
    }

    /// Moves a job from its work to Paused.
    pub(super) fn pause_running(&mut self, cause: PauseCause, why: String) -> Result<(), JobError> {
        if self.job.status == Active {
            self.advance(Pausing, StatusReason::paused(cause, why.clone()))?;
        }
        self.advance(Paused, StatusReason::paused(cause, why))
    }
}

/// Completes this long after a stop.
pub(super) async fn after_stop(stop: &CancellationToken, patience: std::time::Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}
