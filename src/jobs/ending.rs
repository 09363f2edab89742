//! Finishes a job: completes and publishes its report, and records its final status.

use std::time::Duration;

use super::error::JobError;
use super::runner::{Runner, long_after};
use crate::engine::{Dispatched, Ran, Unkept};
use crate::job::JobStatus::{Active, Cancelled, Cancelling, Complete, Failed, Failing, Paused, Pausing};
use crate::journal::{Checkpoint, Delivery, Why};
use crate::object::{Bucket, Key};
use crate::plan::Plan;
use crate::report::{PublishError, Report, ReportWriter, publish};
use crate::store::{Provider, Store};

/// The state of a job after a run.
#[must_use]
#[derive(Debug)]
pub enum Concluded {
    /// The job is Paused, and can be resumed.
    Paused,
    /// The job is over. The value says what happened to its report.
    Over(Delivered),
}

/// What happened to the report of a job that is over.
#[derive(Debug)]
pub enum Delivered {
    /// The report stays on this machine, as the plan says.
    Kept,
    /// The report was published to its bucket.
    Published,
    /// The report is complete on this machine, but publishing it failed.
    Refused(Box<PublishError>),
    /// The report is complete on this machine, but there was no time to publish it.
    Interrupted,
    /// There is no report, because no object was attempted.
    Nothing,
}

impl Runner<'_> {
    /// Records the result of a run: the job becomes Paused, or is over with a complete report.
    ///
    /// # Errors
    /// Returns an error if the report cannot be finished or the journal cannot be written. Resuming the job repeats
    /// this step.
    pub async fn conclude(&mut self, ran: Ran) -> Result<Concluded, JobError> {
        let Ran { dispatched, writer, unkept } = ran;
        if self.job.status == Paused {
            return Ok(Concluded::Paused);
        }
        if self.job.status == Pausing && dispatched.progress.left() > 0 {
            let (reason, cause) = (self.job.reason.clone(), self.job.cause);
            self.advance(Paused, Why { reason, cause })?;
            return Ok(Concluded::Paused);
        }
        let last = self.last_checkpoint(&dispatched, unkept);
        self.end(writer, last).await.map(Concluded::Over)
    }

    /// Ends a job that was about to end when it was interrupted, or that is cancelled while no process works on it.
    ///
    /// # Errors
    /// As for [`conclude`](Self::conclude).
    pub async fn end_as_recorded(&mut self) -> Result<Concluded, JobError> {
        let recorded = self.journal.recorded(self.job.number)?;
        if self.job.taken.is_none() {
            self.over()?;
            return Ok(Concluded::Over(Delivered::Nothing));
        }
        let writer = self.engine_job().report(&recorded.files).await?;
        let last = Checkpoint {
            progress: self.job.progress,
            in_doubt: self.job.in_doubt,
            reach: self.job.reach,
            active: self.job.active,
            taken: self.job.taken,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        self.end(writer, last).await.map(Concluded::Over)
    }

    /// Covers everything in the report, even if the run ended because that could not be recorded.
    fn last_checkpoint(&self, dispatched: &Dispatched, Unkept { parts, failures }: Unkept) -> Checkpoint {
        Checkpoint {
            progress: dispatched.progress,
            in_doubt: dispatched.in_doubt,
            reach: dispatched.reach,
            active: self.job.active,
            taken: self.job.taken,
            parts,
            files: Vec::new(),
            failures,
        }
    }

    async fn end(&mut self, writer: ReportWriter, last: Checkpoint) -> Result<Delivered, JobError> {
        let mut report = self.engine_job().finish(writer, last).await?;
        let place = place_of(self.plan, &report);
        let due = if place.is_some() { Delivery::Due } else { Delivery::Done };
        let shown = place.clone().unwrap_or_else(|| self.folder().report().join("manifest.json").display().to_string());
        self.journal.set_delivery(&self.job.id, due, Some(shown))?;
        let delivered = self.deliver(&mut report).await;
        self.over()?;
        Ok(delivered)
    }

    /// Records the final status.
    fn over(&mut self) -> Result<(), JobError> {
        self.refresh()?;
        let last = match self.job.status {
            Cancelling => Cancelled,
            Failing => Failed,
            Active | Pausing => Complete,
            _ => return Ok(()),
        };
        let reason = self.job.reason.clone().filter(|_| last != Complete);
        self.advance(last, Why { reason, cause: None })
    }

    /// Publishes the report where the plan says. After a stop signal, waits no longer than the publish timeout.
    pub async fn deliver(&self, report: &mut Report) -> Delivered {
        if report.address().is_none() {
            return Delivered::Kept;
        }
        let patience: Duration = self.settings.patience.publish;
        let sent = tokio::select! {
            biased;
            sent = publish_and_record(&**self.store, self, report) => sent,
            () = long_after(&self.signal, patience) => return Delivered::Interrupted,
        };
        match sent {
            Ok(()) => Delivered::Published,
            Err(error) => Delivered::Refused(Box::new(error)),
        }
    }
}

async fn publish_and_record(store: &dyn Store, runner: &Runner<'_>, report: &mut Report) -> Result<(), PublishError> {
    let folder = runner.folder().report();
    publish(store, &folder, report).await?;
    for segment in report.segments() {
        runner.journal.published(runner.job.number, segment.number).await.map_err(std::io::Error::other)?;
    }
    report.record_published(&folder, runner.plan.report.keep_local)?;
    runner.journal.set_delivery(&runner.job.id, Delivery::Done, None).map_err(std::io::Error::other)?;
    Ok(())
}

/// Returns where the report is published, as a URL.
fn place_of(plan: &Plan, report: &Report) -> Option<String> {
    let (bucket, key) = report.address()?;
    Some(url(plan.store.provider, &bucket, &key))
}

/// Returns the URL of an object, with the scheme that the service's own tools use.
#[must_use]
pub fn url(provider: Provider, bucket: &Bucket, key: &Key) -> String {
    let scheme = if provider == Provider::Oss { "oss" } else { "s3" };
    format!("{scheme}://{bucket}/{key}")
}
