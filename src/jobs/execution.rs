//! Runs one job from its current status to its end, or until it must wait.
//!
//! A job waits for its turn, does its work, and ends with a complete and published report. On the way, it recovers from
//! files that are damaged or cannot be verified, and from outcomes that could not be recorded.

use std::fs;
use std::io;
use std::time::Duration;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{Store, StoreProvider};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use super::hints::{describe_rejected_credentials, describe_untrusted_server, format_count, untrusted_pause_hint};
use super::preview::check_cost;
use super::request_budget::{BudgetShare, ShareLimits};
use super::runner::{
    JobRunner, POLL_INTERVAL, PrepareOutcome, ProgressObserver, SIGNALLED, after_stop, default_reason,
};
use super::schedule::{ScheduleCandidate, check_start};
use crate::engine::{
    DispatchLimits, DispatchOutcome, ExecutionOutcome, GracefulStop, JobExecution, JobResumeState, ReportError,
    StopReason, UnrecordedChanges,
};
use crate::files::with_path;
use crate::job::JobStatus::{
    Active, Cancelled, Cancelling, Complete, Failed, Failing, Paused, Pausing, Ready, Suspended,
};
use crate::job::Progress;
use crate::journal::{
    Checkpoint, ControlRequest, FileLease, JobFolder, JobRecord, PauseCause, ReportDelivery, STILL_ACTIVE, ServerTrust,
    StatusReason,
};
use crate::manifest::{FrozenManifest, check_pin};
use crate::plan::{ExactShare, FailureThreshold, Plan};
use crate::report::{FinishedReport, ReportPublishError, ReportWriter, publish};

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

/// The outcome of working on a job.
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
        if unseen && !check_cost(self.plan, frozen, self.store, &self.stop).await? {
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
        let share = self.budget.add_job(self.plan.store_identity(), self.job.priority, wanted);
        report_descriptor_limit(&share, limits.concurrency, watch);
        let threshold = FailureThreshold::new(limits.failure_threshold);
        let bounds = DispatchLimits {
            quota: share.allowance(),
            failure_threshold: threshold,
            checkpoint_policy: self.settings.checkpoint_policy,
        };
        let asked = CancellationToken::new();
        let stop = GracefulStop { requested: asked.clone(), grace_period: self.settings.timeouts.drain };
        let mut observe = |snapshot| watch.on_progress(snapshot);
        let job = self.job_execution();
        let ran = tokio::select! {
            biased;
            ran = job.run(frozen, before, bounds, stop, &mut observe) => ran,
            () = self.watch_requests(&asked, &share) => unreachable!("it watches for as long as it is awaited"),
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
        let Some((request, why)) = self.job.request.clone() else {
            return self.advance(Pausing, StatusReason::paused(PauseCause::Signal, SIGNALLED));
        };
        let why = why.unwrap_or_else(|| default_reason(request).to_owned());
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
            let judge = move |job: &JobRecord, others: &[JobRecord]| {
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
            match self.journal.activate(&self.job.id, judge, Timestamp::now()).await? {
                Ok(job) => {
                    self.job = JobRecord { plan_text: std::mem::take(&mut self.job.plan_text), ..job };
                    return Ok(true);
                }
                Err(waiting) => watch.on_waiting(&waiting),
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            self.refresh()?;
            let Some((request, why)) = self.job.request.clone() else { continue };
            let why = why.unwrap_or_else(|| default_reason(request).to_owned());
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
            recorded,
        })
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
        let kept = match fs::rename(&file, &aside) {
            Ok(()) => format!(" (kept as {})", aside.display()),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(with_path(&file)(cause).into()),
        };
        let settled = self.job.progress.finished();
        watch.on_note(&format!(
            "{damage}{kept}: the outcomes of job {} are lost, and all its objects are processed again, {settled} of \
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
        let place = report_url(self.plan, &report);
        let due = if place.is_some() { ReportDelivery::Due } else { ReportDelivery::Done };
        let shown =
            place.clone().unwrap_or_else(|| self.folder().report_folder().join("manifest.json").display().to_string());
        self.journal.set_report_delivery(&self.job.id, due, Some(shown))?;
        let delivered = self.publish_report(&mut report).await;
        self.record_final_status()?;
        Ok(delivered)
    }

    /// Records the final status.
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
        let patience: Duration = self.settings.timeouts.publish;
        let sent = tokio::select! {
            biased;
            sent = publish_and_record(&**self.store, self, report) => sent,
            () = after_stop(&self.stop, patience) => return PublishOutcome::Interrupted,
        };
        match sent {
            Ok(()) => PublishOutcome::Published,
            Err(error) => PublishOutcome::Failed(Box::new(error)),
        }
    }
}

/// Notifies the observer if the open-file limit allows fewer objects in flight than the plan.
fn report_descriptor_limit(share: &BudgetShare, wanted: u32, watch: &mut dyn ProgressObserver) {
    if let Some((objects, limit)) = share.descriptor_limit(wanted) {
        watch.on_note(&format!(
            "at most {} in flight instead of {wanted}: this process may open only {limit} files and connections \
             (ulimit -n)",
            format_count(objects.into(), "object")
        ));
    }
}

/// Describes why a job failed because too many of its objects failed. `in_doubt` objects without an outcome may have
/// been attempted.
fn describe_too_many_failures(progress: Progress, in_doubt: u64, limit: ExactShare) -> String {
    let (attempted, failed) = (progress.finished(), progress.failed);
    let found = if failed == attempted && failed > 1 {
        format!("all {failed} objects")
    } else {
        format!("{failed} of {}", format_count(attempted, "object"))
    };
    let rest = match progress.remaining().saturating_sub(in_doubt) {
        0 => String::new(),
        1 => "; 1 was not attempted".to_owned(),
        rest => format!("; {rest} were not attempted"),
    };
    format!("{found} attempted so far failed (limit {limit}, `failure_threshold`){rest}")
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

/// Returns where the report is published, as a URL.
fn report_url(plan: &Plan, report: &FinishedReport) -> Option<String> {
    let (bucket, key) = report.manifest_location()?;
    Some(object_url(plan.store.provider, &bucket, &key))
}

/// Returns the URL of an object, with the scheme that the service's own tools use.
#[must_use]
pub fn object_url(provider: StoreProvider, bucket: &BucketName, key: &ObjectKey) -> String {
    format!("{}://{bucket}/{key}", provider.profile().url_scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_job_counts_what_was_attempted() {
        let limit = ExactShare::percent(20);
        let reason = |succeeded, failed, total, in_doubt| {
            describe_too_many_failures(Progress { total, succeeded, failed }, in_doubt, limit)
        };
        let tail = "attempted so far failed (limit 20 %, `failure_threshold`)";
        assert_eq!(reason(2, 3, 10, 0), format!("3 of 5 objects {tail}; 5 were not attempted"));
        assert_eq!(reason(0, 1063, 20_000, 3), format!("all 1063 objects {tail}; 18934 were not attempted"));
        assert_eq!(reason(0, 1, 2, 0), format!("1 of 1 object {tail}; 1 was not attempted"));
        assert_eq!(reason(1, 2, 3, 0), format!("2 of 3 objects {tail}"));
    }
}
