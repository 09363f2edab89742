//! One job, from its frozen manifest to its finished report.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;

use super::dispatcher::{Dispatched, Dispatcher, Snapshot, Stop, TaskBatches};
use super::pace::Pace;
use super::worker::Worker;
use crate::backoff::RetryPolicy;
use crate::codec::Naming;
use crate::job::JobId;
use crate::journal::JobFolder;
use crate::manifest::Frozen;
use crate::operation::Operations;
use crate::plan::Plan;
use crate::report::{ROTATE_AT, Report, ReportWriter};
use crate::store::Store;
use crate::task::Seq;

/// Rows that are handed on at once.
const BATCH: usize = 256;

/// A job that is ready to run.
pub struct Job<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// What it does.
    pub plan: &'a Plan,
    /// To which objects.
    pub frozen: &'a Frozen,
    /// Where they are.
    pub store: &'a Arc<dyn Store>,
    /// Where it keeps its files.
    pub folder: &'a JobFolder,
}

/// What a job leaves behind.
#[derive(Debug)]
pub struct Ran {
    /// How it ended; where it broke, what was recorded stays in the report.
    pub dispatched: Dispatched,
    /// Its report, complete in the job's folder and not yet published.
    pub report: io::Result<Report>,
}

impl Job<'_> {
    /// Works until every row is settled, the job is stopped, or something breaks, and finishes the report either way.
    ///
    /// # Errors
    /// When the report cannot be begun: nothing was sent.
    pub async fn run(&self, stop: Stop, observe: &mut dyn FnMut(Snapshot<'_>)) -> io::Result<Ran> {
        let spec = &self.plan.report;
        let naming = Naming::for_operations(self.plan.operations.len());
        let mut writer = ReportWriter::create(&self.folder.report(), spec, self.id, naming, ROTATE_AT)?;
        let worker = Worker::new(
            Arc::clone(self.store),
            Operations::new(self.plan.operations.clone()),
            Pace::new(self.plan.limits.requests_per_second),
            RetryPolicy::default(),
            stop.asked.clone(),
        );
        let mut record = |object: &_, outcome: &_| writer.record(object, outcome);
        let concurrency = self.plan.limits.concurrency;
        let dispatched = Dispatcher::new(worker, concurrency, self.frozen.rows(), stop, &mut record, observe)
            .run(self.batches())
            .await;
        Ok(Ran { dispatched, report: self.finished(writer) })
    }

    fn finished(&self, writer: ReportWriter) -> io::Result<Report> {
        let report = Report::new(&self.plan.report, self.id, Timestamp::now(), writer.finish()?);
        report.save(&self.folder.report())?;
        Ok(report)
    }

    /// Reads the frozen rows on a thread of their own, a bounded number ahead.
    fn batches(&self) -> TaskBatches {
        let (sender, batches) = Dispatcher::batches();
        let rows = self.frozen.tasks(Seq { part: 0, row: 0 }, BATCH);
        tokio::task::spawn_blocking(move || {
            for batch in rows {
                if sender.blocking_send(batch).is_err() {
                    // The dispatcher takes no more: the job was stopped.
                    return;
                }
            }
        });
        batches
    }
}
