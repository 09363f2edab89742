//! Runs one job, from its frozen manifest to the end of its work.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::book::Snapshot;
use super::dispatcher::{Bounds, Dispatched, Dispatcher, Rhythm, Start, Stop, TaskBatches};
use super::ledger::{Clock, Ledger, Sent, Unkept, closed};
use super::server_check::ServerCheck;
use super::throttle::Throttle;
use super::worker::Worker;
use crate::backoff::RetryPolicy;
use crate::codec::Naming;
use crate::completion::ReportScope;
use crate::failpoint;
use crate::frontier::Frontier;
use crate::job::{JobId, Progress};
use crate::journal::{Checkpoint, JobFolder, Journal, JournalError, Recorded, ReportFile};
use crate::manifest::Frozen;
use crate::plan::Plan;
use crate::report::{
    Destination, Digest, NotADigest, OpenFile, ROTATE_AT, ReopenError, Report, ReportState, ReportWriter, Segment,
    free, send_segment,
};
use crate::store::Store;
use crate::task::Seq;

/// Rows in one batch.
const BATCH: usize = 256;

/// A job that is ready to run.
pub struct Job<'a> {
    /// The job's id.
    pub id: &'a JobId,
    /// The job's number in the journal.
    pub number: i64,
    /// The plan that the job applies.
    pub plan: &'a Plan,
    /// The store that holds the job's objects.
    pub store: &'a Arc<dyn Store>,
    /// The job's folder, which holds its report files.
    pub folder: &'a JobFolder,
    /// The journal that records the job's progress.
    pub journal: &'a Journal,
}

/// The job's progress according to the journal.
#[derive(Debug, Default)]
pub struct Before {
    /// Row counts as of the last checkpoint.
    pub progress: Progress,
    /// The first row that was not started; `None` if the job has never run.
    pub taken: Option<Seq>,
    /// The number of objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the remaining rows may have been started, including those in doubt.
    pub reach: u64,
    /// How long the job was active in earlier runs.
    pub active: Duration,
    /// When the job was created, if outcomes were lost with a damaged report. Any object may have been changed since
    /// then.
    pub lost_since: Option<Timestamp>,
    /// The frontier, report files and failures that were recorded.
    pub recorded: Recorded,
}

/// The result of running a job.
#[derive(Debug)]
pub struct Ran {
    /// How the run ended.
    pub dispatched: Dispatched,
    /// The report, still open. Finish it if the job is over.
    pub writer: ReportWriter,
    /// Changes that no checkpoint recorded. Record them together with the end of the job.
    pub unkept: Unkept,
}

/// Why a report cannot be resumed or finished. Everything recorded before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The report files do not match what was recorded.
    #[error(transparent)]
    Reopen(#[from] ReopenError),
    /// The journal holds an invalid checksum.
    #[error("the journal's checksum of {file} is none")]
    Checksum {
        /// The report file.
        file: String,
    },
    /// A report file cannot be written.
    #[error("the report cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Job<'_> {
    /// Runs until every row is finished, a stop is requested, or the job cannot continue. The report stays open.
    ///
    /// # Errors
    /// Returns an error if the report cannot be started or resumed. No request was sent in that case.
    pub async fn run(
        &self,
        frozen: &Frozen,
        before: Before,
        bounds: Bounds,
        stop: Stop,
        observe: &mut (dyn FnMut(Snapshot) + Send),
    ) -> Result<Ran, ReportError> {
        // Do what may fail first: a run that sends nothing leaves nothing in doubt and pushes no damaged file.
        let writer = self.report(&before.recorded.files).await?;
        agree(&before.recorded.frontier, before.progress, &before.recorded.files, self.plan.report.scope)?;
        let worker = self.worker(&bounds, &stop)?.looking_first(before.lost_since);
        self.begin(frozen.rows(), &before, bounds.rhythm).await?;
        // Push the state now: another machine that resumes the job must not see it as never started.
        tokio::select! {
            biased;
            secured = self.journal.secure() => secured?,
            // On a stop, no row is started.
            () = stop.asked.cancelled() => {}
        }
        let Before { progress, taken, in_doubt, reach, active, lost_since: _, recorded } = before;
        let Recorded { frontier, files, tally, .. } = recorded;
        let known_sealed = files.iter().filter(|file| file.md5.is_some()).count();
        let place = (self.journal.clone(), self.number);
        let clock = Clock::after(active);
        let (mut ledger, sealed, sent) = Ledger::new(writer, tally, place, clock, known_sealed, observe);
        let batches = batches(frozen, &frontier);
        let start = Start { progress, frontier, taken, in_doubt, reach };
        let dispatcher = Dispatcher::new(worker, bounds, frozen.rows(), start, stop, &mut ledger);
        let mut ended = tokio::select! {
            biased;
            ended = dispatcher.run(batches) => ended,
            () = self.send_sealed(sealed, sent) => unreachable!("the ledger keeps the channel open"),
        };
        let (writer, unkept) = ledger.close(&mut ended.frontier);
        Ok(Ran { dispatched: ended, writer, unkept })
    }

    /// Records the rows that may be started before the first checkpoint. Otherwise a run that dies before it would
    /// look as if it had started nothing.
    async fn begin(&self, total: u64, before: &Before, rhythm: Rhythm) -> Result<(), ReportError> {
        let progress = Progress { total, ..before.progress };
        let reach = before.reach.saturating_add(rhythm.leave).min(progress.left());
        let begun = Checkpoint {
            progress,
            in_doubt: reach,
            reach,
            active: before.active,
            taken: before.taken.or(Some(Seq { part: 0, row: 0 })),
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        Ok(self.journal.checkpoint(self.number, begun).await?)
    }

    /// Opens the report at its recorded position, or starts it if the job has none.
    ///
    /// # Errors
    /// Returns an error if the report files do not match what was recorded or cannot be written.
    pub async fn report(&self, files: &[ReportFile]) -> Result<ReportWriter, ReportError> {
        let (folder, spec, id) = (self.folder.report(), self.plan.report.clone(), self.id.clone());
        let naming = Naming::for_operations(self.plan.operations.len());
        let state = state_of(files)?;
        // Reads each open file to its end, which can be half a gigabyte. Runs on a blocking thread so that other jobs
        // continue.
        let reopen = move || ReportWriter::reopen(&folder, &spec, &id, naming, ROTATE_AT, &state);
        Ok(tokio::task::spawn_blocking(reopen).await.map_err(io::Error::other)??)
    }

    /// Finishes the report of a job that is over and records that.
    ///
    /// # Errors
    /// Returns an error if the report or the journal cannot be written.
    pub async fn finish(&self, writer: ReportWriter, last: Checkpoint) -> Result<Report, ReportError> {
        let segments = tokio::task::spawn_blocking(|| writer.finish()).await.map_err(io::Error::other)??;
        for _ in &segments {
            failpoint::reach("segment-sealed");
        }
        let files = segments.iter().map(closed).collect();
        let report = Report::new(&self.plan.report, self.id, Timestamp::now(), segments);
        report.save(&self.folder.report())?;
        failpoint::reach("report-finished");
        self.journal.checkpoint(self.number, Checkpoint { files, ..last }).await?;
        Ok(report)
    }

    fn worker(&self, bounds: &Bounds, stop: &Stop) -> Result<Worker, ReportError> {
        let worker = Worker::new(
            Arc::clone(self.store),
            self.plan.operations(),
            Throttle::new(bounds.allowance.clone()),
            RetryPolicy::default(),
            stop.asked.clone(),
        );
        if !self.plan.needs_server_check() {
            return Ok(worker);
        }
        Ok(worker.checking(Arc::new(ServerCheck::of_job(self.journal, self.number)?)))
    }

    /// Uploads each report file as soon as it is sealed and recorded. A file that cannot be uploaded now is uploaded
    /// at the end of the job.
    async fn send_sealed(&self, mut sealed: mpsc::Receiver<Segment>, sent: Sent) {
        let destination = Destination::of(&self.plan.report, self.id);
        while let Some(segment) = sealed.recv().await {
            let Some(destination) = &destination else { continue };
            let folder = self.folder.report();
            if send_segment(&**self.store, &folder, destination, &segment).await.is_err() {
                continue;
            }
            failpoint::reach("segment-sent");
            // If this is not recorded, the file is uploaded again. Freeing it before that would lose it.
            if self.journal.published(self.number, segment.number).await.is_err() {
                continue;
            }
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(segment.number);
            if !self.plan.report.keep_local {
                // A file that cannot be removed now is removed at the end of the job.
                let _ = free(&folder, &Segment { published: true, ..segment });
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Checks the job's recorded rows against its recorded report: each finished row is in the report exactly once.
fn agree(frontier: &Frontier, progress: Progress, files: &[ReportFile], scope: ReportScope) -> Result<(), ReportError> {
    let listed = match scope {
        ReportScope::AllTasks => progress.settled(),
        ReportScope::FailedTasksOnly => progress.failed,
    };
    let (rows, settled) = (files.iter().map(|file| file.rows).sum::<u64>(), frontier.settled());
    if rows == listed && settled == progress.settled() {
        return Ok(());
    }
    let why = format!(
        "{} outcomes are counted, {settled} rows of the manifest are settled, and the report has {rows} rows where {listed} \
         belong",
        progress.settled()
    );
    Err(ReopenError::State { why }.into())
}

/// Converts the journal's report files to the report's state.
///
/// # Errors
/// Returns an error if a checksum is invalid.
pub fn state_of(files: &[ReportFile]) -> Result<ReportState, ReportError> {
    let mut state = ReportState::default();
    for file in files.iter().cloned() {
        let ReportFile { number, status, name, bytes, rows, md5, open_md5, published } = file;
        let digest =
            |hex: String| Digest::try_from(hex).map_err(|_: NotADigest| ReportError::Checksum { file: name.clone() });
        let Some(md5) = md5.map(digest).transpose()? else {
            let md5 = open_md5.map(digest).transpose()?;
            state.open.push(OpenFile { number, status, name, bytes, rows, md5 });
            continue;
        };
        state.sealed.push(Segment { number, status, name, bytes, rows, md5, published });
    }
    Ok(state)
}

/// Reads the rows that are not finished on a separate thread, a bounded number ahead.
fn batches(frozen: &Frozen, frontier: &Frontier) -> TaskBatches {
    let (sender, batches) = Dispatcher::batches();
    let rows = frozen.in_turns(frontier, BATCH);
    tokio::task::spawn_blocking(move || {
        for batch in rows {
            if sender.blocking_send(batch).is_err() {
                // The dispatcher receives no more: the job was stopped.
                return;
            }
        }
    });
    batches
}
