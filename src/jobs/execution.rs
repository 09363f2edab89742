//! Finishes a job: completes and publishes its report, and records its final status.

use std::time::Duration;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{Store, StoreProvider};

use super::error::JobError;
use super::runner::{JobRunner, after_stop};
use crate::engine::{DispatchOutcome, ExecutionOutcome, UnrecordedChanges};
use crate::job::JobStatus::{Active, Cancelled, Cancelling, Complete, Failed, Failing, Paused, Pausing};
use crate::journal::{Checkpoint, ReportDelivery, StatusReason};
use crate::plan::Plan;
use crate::report::{FinishedReport, ReportPublishError, ReportWriter, publish};

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

impl JobRunner<'_> {
    /// Records the result of a run: the job becomes Paused, or is over with a complete report.
    ///
    /// # Errors
    /// Returns an error if the report cannot be finished or the journal cannot be written. Resuming the job repeats
    /// this step.
    pub async fn finish_run(&mut self, ran: ExecutionOutcome) -> Result<FinishOutcome, JobError> {
        let ExecutionOutcome { dispatch: dispatched, writer, unrecorded: unkept } = ran;
        if self.job.status == Paused {
            return Ok(FinishOutcome::Paused);
        }
        if self.job.status == Pausing && dispatched.progress.remaining() > 0 {
            let (reason, cause) = (self.job.reason.clone(), self.job.pause_cause);
            self.advance(Paused, StatusReason { message: reason, pause_cause: cause })?;
            return Ok(FinishOutcome::Paused);
        }
        let last = self.final_checkpoint(&dispatched, unkept);
        self.finish_report(writer, last).await.map(FinishOutcome::Over)
    }

    /// Ends a job that was about to end when it was interrupted, or that is cancelled while no process works on it.
    ///
    /// # Errors
    /// As for [`finish_run`](Self::finish_run).
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
    pub async fn publish_report(&self, report: &mut FinishedReport) -> PublishOutcome {
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
