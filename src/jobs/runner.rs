//! Runs one job whose lease this process holds, from its current status to its end or until it must wait.
//!
//! The runner prepares the job's manifest, confirms the job, waits for its turn, does its work, and ends it with a
//! complete and published report. On the way, it reacts to requests from other processes to pause or cancel the job or
//! to change its priority. It recovers from files that are damaged or cannot be verified, and from outcomes that could
//! not be recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use batchplan_store::{Mutex, Store};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::error::{
    JobError, describe_denied_capture, describe_rejected_credentials, describe_too_many_failures,
    describe_untrusted_server, untrusted_pause_hint,
};
use super::job_lease::JobLease;
use super::job_source::job_manifest;
use super::preview::check_cost;
use super::report_place::{find_report_place, published_url};
use super::request_budget::{BudgetShare, RequestBudget, ShareLimits};
use super::rule_check::{RuleCheck, lower};
use super::run_settings::RunSettings;
use super::saved_plan::freeze_matching;
use super::start_rules::{JobScope, ScheduleCandidate, WaitReason, check_start};
use super::undo::undone_changes;
use crate::engine::{
    DispatchLimits, DispatchOutcome, ExecutionOutcome, GracefulStop, JobExecution, JobResumeState, ReportError,
    RunProgress, StopReason, UnrecordedChanges,
};
use crate::files::with_path;
use crate::job::JobStatus::{
    self, Active, Cancelled, Cancelling, Complete, Failed, Failing, New, Paused, Pausing, Preparing, Ready, Suspended,
};
use crate::journal::{
    Checkpoint, ControlRequest, FileLease, JobFolder, JobRecord, JobSource, Journal, PauseCause, PinnedInventory,
    ReportDelivery, STILL_ACTIVE, ServerTrust, StatusReason,
};
use crate::manifest::{FreezeLimits, FreezeProgress, FrozenManifest, ManifestError, check_pin, freeze};
use crate::paths::{path_to_text, show_path};
use crate::plan::{FailureThreshold, Plan};
use crate::report::{FinishedReport, ReportPublishError, ReportWriter, publish};
use crate::thousands::{Thousands, counted};
use crate::{failpoint, open_files};

/// The interval between two reads of the journal.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The reason of a pause by a signal.
const SIGNALLED: &str = "stopped by Ctrl-C or a signal";

/// Observes the progress of a job.
pub trait ProgressObserver: Send {
    /// Called after rows of the manifest were read.
    fn on_rows_read(&mut self, prepared: FreezeProgress);
    /// Called about twice a second while the job waits for its turn.
    fn on_waiting(&mut self, waiting: &WaitReason);
    /// Called about twice a second while the job runs.
    fn on_progress(&mut self, progress: RunProgress);
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
    just_frozen: bool,
    /// Whether the place of the report was looked at, and can be used.
    report_place_found: bool,
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
        Self {
            journal,
            job,
            plan,
            store,
            settings,
            budget,
            stop,
            lease,
            just_frozen: false,
            report_place_found: false,
            cost_checked: false,
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
    /// Returns an error if the manifest cannot be resolved. This fails the job, unless the cause can be corrected
    /// without changing the plan, such as a full disk or rejected credentials: then preparing can be resumed. Also returns an error if the frozen manifest cannot be read.
    pub async fn prepare(&mut self, watch: &mut dyn ProgressObserver) -> Result<PrepareOutcome, JobError> {
        let rules = RuleCheck::of(self.settings.plan_rules.as_ref(), &self.job);
        rules.check_plan(self.plan)?;
        self.check_report_place().await?;
        if !matches!(self.job.status, New | Preparing) {
            let frozen = self.open_frozen()?;
            self.check_count(&frozen)?;
            rules.check_manifest(&frozen).await?;
            return Ok(PrepareOutcome::Frozen(Box::new(frozen)));
        }
        if self.job.status == New {
            self.advance(Preparing, StatusReason::default())?;
        } else if self.job.reason.is_some() {
            // Why preparing stopped the last time.
            self.journal.set_reason(&self.job.id, None)?;
        }
        // A complete manifest that was not recorded yet can be used, but its source may have changed since.
        let frozen = match FrozenManifest::open(self.folder().path()) {
            // Only freezing shows whether a manifest matches a saved plan.
            Ok(Some(frozen)) if self.job.manifest_fingerprint.is_none() => Ok(frozen),
            // A newer program can use it, and it would be lost if this one froze the manifest again.
            Err(error @ ManifestError::NewerFormat { .. }) => return Err(error.into()),
            _ => self.freeze(watch).await.inspect(|_| self.just_frozen = true),
        };
        let frozen = frozen.and_then(|frozen| self.check_count(&frozen).map(|()| frozen));
        let frozen = match frozen {
            Ok(frozen) => rules.check_manifest(&frozen).await.map(|()| frozen),
            Err(error) => Err(rules.explain(error, self.plan)),
        };
        match frozen {
            Ok(frozen) => {
                info!(rows_read = frozen.rows_read(), objects = frozen.rows(), "manifest frozen");
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
            Err(error) if error.is_fixable_here() => Err(self.stop_preparing(error)),
            Err(error) => {
                self.advance(Failing, StatusReason::because(error.to_string()))?;
                let reason = self.job.reason.clone();
                self.advance(JobStatus::Failed, StatusReason { message: reason, pause_cause: None })?;
                Err(error)
            }
        }
    }

    /// Refuses to start a job whose report could not be published. A job that has only been created is withdrawn.
    async fn check_report_place(&mut self) -> Result<(), JobError> {
        if self.job.next_row.is_some() || self.report_place_found {
            return Ok(());
        }
        if let Err(place) = find_report_place(self.plan, &**self.store, &self.stop).await {
            if self.job.status == New {
                self.journal.remove_unstarted(&self.job.id)?;
                self.folder().clone().remove()?;
            }
            return Err(place.into());
        }
        self.report_place_found = true;
        Ok(())
    }

    /// Records why preparing stopped, and returns the error to show. The job stays Preparing.
    fn stop_preparing(&self, error: JobError) -> JobError {
        // If the journal cannot be written, the error is still shown.
        let _ = self.journal.set_reason(&self.job.id, Some(error.to_string()));
        match error {
            JobError::Manifest(cause) if cause.is_about_access() => {
                JobError::PreparingStopped { job: self.job.id.clone(), cause }
            }
            error => error,
        }
    }

    async fn freeze(&mut self, watch: &mut dyn ProgressObserver) -> Result<FrozenManifest, JobError> {
        let manifest = job_manifest(self.journal, &self.job, self.plan)?;
        let stop = self.stop.child_token();
        let watch = Mutex::new(watch);
        let found = AtomicU64::new(0);
        let observe = |prepared: FreezeProgress| {
            found.store(prepared.rows_included, Ordering::Relaxed);
            watch.lock().on_rows_read(prepared);
        };
        let limits = &self.plan.limits;
        let freeze_limits = FreezeLimits {
            max_disk: limits.max_disk,
            max_objects: lower(limits.max_objects, self.settings.plan_rules.as_ref().and_then(|it| it.max_objects())),
            // Each listing uses a connection and a file.
            concurrency: Some(open_files::fit_to_available(limits.concurrency, 2)),
        };
        let fingerprint = self.job.manifest_fingerprint.as_ref();
        let freezing = async {
            let (store, folder) = (self.store, self.folder().path());
            match fingerprint {
                None => Ok(freeze(&manifest, store, folder, freeze_limits, &observe, &stop).await?),
                Some(fingerprint) => {
                    freeze_matching(fingerprint, &manifest, store, folder, freeze_limits, &observe, &stop).await
                }
            }
        };
        // Freezing stops by itself soon after it is asked to, unless it reads a file that never responds.
        let timeout = self.settings.timeouts.drain;
        tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = after_stop(&stop, timeout) => Err(ManifestError::Stopped.into()),
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
        let why = StatusReason::because(why.as_deref().unwrap_or(request.default_reason()));
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
    async fn watch_requests(&self, stop: &CancellationToken, share: &BudgetShare) {
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
        let why = why.as_deref().unwrap_or(request.default_reason());
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

/// The state of a job after a run.
#[must_use]
#[derive(Debug)]
pub enum FinishOutcome {
    /// The job is Paused, and can be resumed.
    Paused,
    /// The job is over. The value says what happened to its report.
    Over(PublishOutcome),
}

/// What happened to the report of a job that is over.
#[derive(Debug)]
pub enum PublishOutcome {
    /// The report stays on this machine, as the plan says.
    KeptLocally,
    /// The report was published to its bucket.
    Published,
    /// The report is complete on this machine, but publishing it failed.
    Failed(Box<ReportPublishError>),
    /// The report is complete on this machine, but there was no time to publish it.
    Interrupted,
    /// There is no report, because no object was attempted.
    NoReport,
}

#[must_use]
#[derive(Debug)]
enum WorkOutcome {
    /// The work has ended, and the caller must conclude the job.
    Executed(Box<ExecutionOutcome>),
    /// The job did not start: it is Ready, Paused or Cancelling.
    Skipped,
}

impl JobRunner<'_> {
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

    /// Refuses to resume a job if a write has shown that its server cannot be trusted. Another attempt could damage one
    /// more object.
    fn check_server_trust(&mut self) -> Result<(), JobError> {
        if !self.plan.needs_server_check() {
            return Ok(());
        }
        let verdicts = self.journal.server_verdicts(self.job.number)?;
        let refused = verdicts.into_iter().find_map(|verdict| match verdict.trust {
            ServerTrust::Refused(why) => Some(why),
            ServerTrust::Proven | ServerTrust::Unconfirmed(_) => None,
        });
        let Some(why) = refused else { return Ok(()) };
        if matches!(self.job.status, Active | Pausing) {
            self.pause_running(PauseCause::Server, why.clone())?;
        } else if self.job.status == Ready {
            self.advance(Paused, StatusReason::paused(PauseCause::Server, why.clone()))?;
        }
        // The reason of the pause says more, such as which other objects may be damaged.
        let paused = self.job.status == Paused && self.job.pause_cause == Some(PauseCause::Server);
        let why = self.job.reason.clone().filter(|_| paused).unwrap_or(why);
        let id = &self.job.id;
        let help = untrusted_pause_hint(id, true, &why);
        Err(JobError::Untrusted { job: Some(id.clone()), why, help })
    }

    /// Refuses to resume a job if the source of its manifest has changed, unless the settings allow that.
    async fn check_source(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        if self.settings.frozen_manifest {
            return Ok(());
        }
        let refused = |cause| JobError::SourceChanged { job: self.job.id.clone(), cause: Box::new(cause) };
        check_pin(frozen.pin(), self.store, &self.stop).await.map_err(refused)
    }

    /// Moves an interrupted job to a status from which it can be resumed: Pausing becomes Paused, and Paused becomes
    /// Ready.
    fn make_ready(&mut self) -> Result<(), JobError> {
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
    /// Fails without changing any object if the job would cost more than its plan allows, or if its report cannot be
    /// resumed.
    async fn execute(
        &mut self,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<WorkOutcome, JobError> {
        let unseen = self.job.next_row.is_none() && !self.cost_checked;
        let undo = undone_changes(self.journal, &self.job)?;
        let rules = RuleCheck::of(self.settings.plan_rules.as_ref(), &self.job);
        if unseen && !check_cost(self.plan, &rules, undo.clone(), frozen, self.store, &self.stop).await? {
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
        let wanted = ShareLimits::of(&limits);
        let share = self.budget.add_job(self.plan.store_identity(), self.job.priority, wanted);
        report_descriptor_limit(&share, limits.concurrency, watch);
        let threshold = FailureThreshold::new(limits.failure_threshold);
        let dispatch_limits = DispatchLimits {
            quota: share.quota(),
            failure_threshold: threshold,
            checkpoint_policy: self.settings.checkpoint_policy,
        };
        let stop_requested = CancellationToken::new();
        let stop = GracefulStop { requested: stop_requested.clone(), grace_period: self.settings.timeouts.drain };
        let mut observe = |progress| watch.on_progress(progress);
        let job = JobExecution { undo, ..self.job_execution() };
        let ran = tokio::select! {
            biased;
            ran = job.run(frozen, before, dispatch_limits, stop, &mut observe) => ran,
            () = self.watch_requests(&stop_requested, &share) => unreachable!("it watches for as long as it is awaited"),
        };
        drop(share);
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
    fn job_execution(&self) -> JobExecution<'_> {
        let Self { journal, job, plan, store, .. } = self;
        JobExecution { id: &job.id, number: job.number, plan, store, folder: self.folder(), journal, undo: None }
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
            (StopReason::CaptureDenied(denial), Active | Pausing) => {
                self.pause_running(PauseCause::Capture, describe_denied_capture(self.plan, denial))
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
        let Some((request, why)) = self.job.request.clone() else {
            return self.advance(Pausing, StatusReason::paused(PauseCause::Signal, SIGNALLED));
        };
        let why = why.unwrap_or_else(|| request.default_reason().to_owned());
        match request {
            ControlRequest::Cancel => self.advance(Cancelling, StatusReason::because(why)),
            ControlRequest::Pause => self.advance(Pausing, StatusReason::paused(PauseCause::Person, why)),
        }
    }

    /// Moves a job from its work to Paused.
    fn pause_running(&mut self, cause: PauseCause, why: String) -> Result<(), JobError> {
        if self.job.status == Active {
            self.advance(Pausing, StatusReason::paused(cause, why.clone()))?;
        }
        self.advance(Paused, StatusReason::paused(cause, why))
    }

    /// Waits until the job may start, and makes it Active. Returns `false` if it was paused, cancelled or stopped
    /// meanwhile.
    async fn wait_for_turn(&mut self, watch: &mut dyn ProgressObserver) -> Result<bool, JobError> {
        loop {
            let (rules, state) = (self.settings.rules, self.journal.state_folder().to_owned());
            let may_start = move |job: &JobRecord, others: &[JobRecord]| {
                let held = |other: &&JobRecord| {
                    // If the lease cannot be read, assume that the job runs.
                    FileLease::is_held(JobFolder::of(&state, &other.id).path()).unwrap_or(true)
                };
                let (work, wait): (Vec<_>, Vec<_>) =
                    others.iter().filter(held).partition(|other| other.status.takes_slot());
                let candidates =
                    |jobs: Vec<&JobRecord>| jobs.into_iter().map(ScheduleCandidate::of).collect::<Vec<_>>();
                check_start(&ScheduleCandidate::of(job), &candidates(wait), &candidates(work), rules)
            };
            match self.journal.activate(&self.job.id, may_start, Timestamp::now()).await? {
                Ok(job) => {
                    self.job = JobRecord { plan_text: std::mem::take(&mut self.job.plan_text), ..job };
                    return Ok(true);
                }
                Err(waiting) => {
                    debug!(reason = %waiting, "the job waits for its turn");
                    watch.on_waiting(&waiting);
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            self.refresh()?;
            let Some((request, why)) = self.job.request.clone() else { continue };
            let why = why.unwrap_or_else(|| request.default_reason().to_owned());
            match request {
                ControlRequest::Pause => self.advance(Paused, StatusReason::paused(PauseCause::Person, why))?,
                ControlRequest::Cancel => self.advance(Cancelling, StatusReason::because(why))?,
            }
            return Ok(false);
        }
    }
}

/// Recovery from an incomplete record of the job.
impl JobRunner<'_> {
    /// Returns the job's progress as it was last recorded. Records of an earlier version without checksums are accepted
    /// as they are, and get checksums now.
    fn resume_state(
        &self,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<JobResumeState, JobError> {
        let recorded = self.journal.recorded_progress(self.job.number)?;
        if recorded.unverified || !frozen.has_checksum() {
            watch.on_note(&format!(
                "job {} was started by an earlier version of batchplan, which recorded no checksums: its files on this \
                 disk are used without a check for damage",
                self.job.id
            ));
            self.journal.accept_unverified(self.job.number)?;
            frozen.add_checksum()?;
        }
        let lost_since = Some(self.job.created).filter(|_| self.job.lost_outcomes > 0);
        let JobRecord { progress, next_row, in_doubt, maybe_started, active_time, .. } = self.job;
        Ok(JobResumeState {
            progress,
            next_row,
            in_doubt,
            maybe_started,
            active_time,
            outcomes_lost_since: lost_since,
            captures_may_be_missing: self.captures_may_be_missing(),
            recorded,
        })
    }

    /// Returns whether an earlier run may have changed objects whose captures are not in the job's folder: the folder came
    /// from the bucket of a remote state, or the run did not capture.
    fn captures_may_be_missing(&self) -> bool {
        let policy = self.settings.checkpoint_policy;
        let can_be_lost = policy.max_unrecorded_rows > policy.max_started_rows;
        self.job.next_row.is_some() && (can_be_lost || !self.folder().captures_folder().exists())
    }

    /// Counts objects as in doubt that were done but could not be recorded. They are not in the report, and are done
    /// again.
    fn record_in_doubt(&mut self, dispatched: &DispatchOutcome) -> Result<(), JobError> {
        let unrecorded = dispatched.progress.finished().saturating_sub(self.job.progress.finished());
        if unrecorded > 0 {
            self.job.in_doubt = dispatched.in_doubt.saturating_add(unrecorded).min(self.job.progress.remaining());
            self.journal.set_in_doubt(&self.job.id, self.job.in_doubt)?;
        }
        Ok(())
    }

    /// Works on all objects again if a report file is damaged, because it is unknown which of them the file contained.
    /// Setting tags and ACLs twice has the same result, and an object is read before its restore is requested again.
    ///
    /// # Errors
    /// Returns `error` unchanged if it is not a damaged file. Returns an error if the file cannot be moved aside, or if
    /// the job cannot be run again.
    async fn restart_after_damage(
        &mut self,
        error: ReportError,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<WorkOutcome, JobError> {
        let damage = match error {
            ReportError::Reopen(damage) => damage,
            other => return Err(other.into()),
        };
        let Some(file) = damage.lost_file().map(std::path::Path::to_owned) else {
            return Err(ReportError::Reopen(damage).into());
        };
        let mut aside = file.clone().into_os_string();
        aside.push(".damaged");
        let kept_note = match fs::rename(&file, &aside) {
            Ok(()) => format!(" (kept as {})", show_path(aside)),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(with_path(&file)(cause).into()),
        };
        let settled = Thousands(self.job.progress.finished());
        watch.on_note(&format!(
            "{damage}{kept_note}: the outcomes of job {} are lost, and all its objects are processed again, {settled} of \
             them for the second time",
            self.job.id
        ));
        self.journal.discard_outcomes(self.job.number)?;
        self.refresh()?;
        Box::pin(self.execute(frozen, watch)).await
    }
}

/// The end of a run.
impl JobRunner<'_> {
    /// Records the result of a run: the job becomes Paused, or is over with a complete report. If that
    /// fails, resuming the job repeats this step.
    async fn finish_run(&mut self, ran: ExecutionOutcome) -> Result<FinishOutcome, JobError> {
        let ExecutionOutcome { dispatch: dispatched, writer, unrecorded } = ran;
        if self.job.status == Paused {
            return Ok(FinishOutcome::Paused);
        }
        if self.job.status == Pausing && dispatched.progress.remaining() > 0 {
            let (reason, cause) = (self.job.reason.clone(), self.job.pause_cause);
            self.advance(Paused, StatusReason { message: reason, pause_cause: cause })?;
            return Ok(FinishOutcome::Paused);
        }
        let last = self.final_checkpoint(&dispatched, unrecorded);
        self.finish_report(writer, last).await.map(FinishOutcome::Over)
    }

    /// Ends a job that was about to end when it was interrupted, or that is cancelled while no process works on it.
    ///
    /// # Errors
    /// Returns an error if the report cannot be finished or the journal cannot be written. Resuming the job repeats
    /// this step.
    pub async fn finish_recorded(&mut self) -> Result<FinishOutcome, JobError> {
        let recorded = self.journal.recorded_progress(self.job.number)?;
        if self.job.next_row.is_none() {
            self.record_final_status()?;
            return Ok(FinishOutcome::Over(PublishOutcome::NoReport));
        }
        let writer = self.job_execution().open_report(&recorded.files).await?;
        let last = Checkpoint {
            progress: self.job.progress,
            in_doubt: self.job.in_doubt,
            maybe_started: self.job.maybe_started,
            active_time: self.job.active_time,
            next_row: self.job.next_row,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        self.finish_report(writer, last).await.map(FinishOutcome::Over)
    }

    /// Covers everything in the report, even if the run ended because that could not be recorded.
    fn final_checkpoint(
        &self,
        dispatched: &DispatchOutcome,
        UnrecordedChanges { parts, failures }: UnrecordedChanges,
    ) -> Checkpoint {
        Checkpoint {
            progress: dispatched.progress,
            in_doubt: dispatched.in_doubt,
            maybe_started: dispatched.maybe_started,
            active_time: self.job.active_time,
            next_row: self.job.next_row,
            parts,
            files: Vec::new(),
            failures,
        }
    }

    async fn finish_report(&mut self, writer: ReportWriter, last: Checkpoint) -> Result<PublishOutcome, JobError> {
        let mut report = self.job_execution().finish_report(writer, last).await?;
        let place = published_url(self.plan.store.provider, &report);
        let due = if place.is_some() { ReportDelivery::Due } else { ReportDelivery::Done };
        let shown = place.clone().unwrap_or_else(|| path_to_text(&self.folder().report_folder().join("manifest.json")));
        self.journal.set_report_delivery(&self.job.id, due, Some(shown))?;
        let delivered = self.publish_report(&mut report).await;
        self.record_final_status()?;
        Ok(delivered)
    }

    fn record_final_status(&mut self) -> Result<(), JobError> {
        self.refresh()?;
        let last = match self.job.status {
            Cancelling => Cancelled,
            Failing => Failed,
            Active | Pausing => Complete,
            _ => return Ok(()),
        };
        let reason = self.job.reason.clone().filter(|_| last != Complete);
        self.advance(last, StatusReason { message: reason, pause_cause: None })
    }

    /// Publishes the report where the plan says. After a stop signal, waits no longer than the publish timeout.
    async fn publish_report(&self, report: &mut FinishedReport) -> PublishOutcome {
        if report.manifest_location().is_none() {
            return PublishOutcome::KeptLocally;
        }
        let timeout: Duration = self.settings.timeouts.publish;
        let sent = tokio::select! {
            biased;
            sent = publish_and_record(&**self.store, self, report) => sent,
            () = after_stop(&self.stop, timeout) => return PublishOutcome::Interrupted,
        };
        match sent {
            Ok(()) => {
                info!("report published");
                PublishOutcome::Published
            }
            Err(error) => {
                warn!(%error, "the report could not be published");
                PublishOutcome::Failed(Box::new(error))
            }
        }
    }
}

/// Notifies the observer if the open-file limit allows fewer objects in flight than the plan.
fn report_descriptor_limit(share: &BudgetShare, wanted: u32, watch: &mut dyn ProgressObserver) {
    if let Some((objects, limit)) = share.descriptor_limit(wanted) {
        watch.on_note(&format!(
            "at most {} in flight instead of {wanted}: this process may open only {limit} files and connections \
             (ulimit -n)",
            counted(objects.into(), "object")
        ));
    }
}

async fn publish_and_record(
    store: &dyn Store,
    runner: &JobRunner<'_>,
    report: &mut FinishedReport,
) -> Result<(), ReportPublishError> {
    let folder = runner.folder().report_folder();
    publish(store, &folder, report).await?;
    for segment in report.segments() {
        runner.journal.mark_published(runner.job.number, segment.number).await.map_err(std::io::Error::other)?;
    }
    report.record_published(&folder, runner.plan.report.keep_local)?;
    runner.journal.set_report_delivery(&runner.job.id, ReportDelivery::Done, None).map_err(std::io::Error::other)?;
    Ok(())
}

/// Completes this long after a stop.
async fn after_stop(stop: &CancellationToken, timeout: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(timeout).await;
}
