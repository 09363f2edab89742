//! Runs one job, from its frozen manifest to the end of its work.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batchplan_store::Store;
use batchplan_store::backoff::RetryPolicy;
use batchplan_store::task::TaskId;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::dispatcher::{
    CheckpointPolicy, DispatchLimits, DispatchOutcome, DispatchStart, Dispatcher, GracefulStop, ProgressSnapshot,
    TaskBatches,
};
use super::job_recorder::{JobRecorder, UnrecordedChanges};
use super::server_check::ServerCheck;
use super::throttle::Throttle;
use super::worker::Worker;
use crate::codec::OperationNaming;
use crate::completion::ReportScope;
use crate::failpoint;
use crate::frontier::RowFrontier;
use crate::job::{JobId, Progress};
use crate::journal::{Checkpoint, JobFolder, Journal, JournalError, RecordedProgress, ReportFileRecord};
use crate::manifest::FrozenManifest;
use crate::plan::Plan;
use crate::report::{
    FinishedReport, InvalidMd5Error, Md5Digest, OpenReportFile, ROTATE_AT, RecordedReport, ReportDestination,
    ReportResumeError, ReportSegment, ReportWriter, remove_local_file, send_segment,
};

/// Rows in one batch.
const BATCH_ROWS: usize = 256;

/// A job that is ready to run.
pub struct JobExecution<'a> {
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
pub struct JobResumeState {
    /// Row counts as of the last checkpoint.
    pub progress: Progress,
    /// The first row that was not started; `None` if the job has never run.
    pub next_row: Option<TaskId>,
    /// The number of objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the remaining rows may have been started, including those in doubt.
    pub maybe_started: u64,
    /// How long the job was active in earlier runs.
    pub active_time: Duration,
    /// When the job was created, if outcomes were lost with a damaged report. Any object may have been changed since
    /// then.
    pub outcomes_lost_since: Option<Timestamp>,
    /// The frontier, report files and failures that were recorded.
    pub recorded: RecordedProgress,
}

/// The result of running a job.
#[derive(Debug)]
pub struct ExecutionOutcome {
    /// How the run ended.
    pub dispatch: DispatchOutcome,
    /// The report, still open. Finish it if the job is over.
    pub writer: ReportWriter,
    /// Changes that no checkpoint recorded. Record them together with the end of the job.
    pub unrecorded: UnrecordedChanges,
}

/// Why a report cannot be resumed or finished. Everything recorded before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The report files do not match what was recorded.
    #[error(transparent)]
    Reopen(#[from] ReportResumeError),
    /// The journal holds an invalid checksum.
    #[error("the journal holds an invalid checksum for {file}")]
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

impl JobExecution<'_> {
    /// Runs until every row is finished, a stop is requested, or the job cannot continue. The report stays open.
    ///
    /// # Errors
    /// Returns an error if the report cannot be started or resumed. No request was sent in that case.
    pub async fn run(
        &self,
        frozen: &FrozenManifest,
        before: JobResumeState,
        limits: DispatchLimits,
        stop: GracefulStop,
        observe: &mut (dyn FnMut(ProgressSnapshot) + Send),
    ) -> Result<ExecutionOutcome, ReportError> {
        // Do what may fail first: a run that sends nothing leaves nothing in doubt and pushes no damaged file.
        let writer = self.open_report(&before.recorded.files).await?;
        check_consistency(&before.recorded.frontier, before.progress, &before.recorded.files, self.plan.report.scope)?;
        let worker = self.build_worker(&limits, &stop)?.checking_restores_since(before.outcomes_lost_since);
        self.record_start(frozen.rows(), &before, limits.checkpoint_policy).await?;
        // Push the state now: another machine that resumes the job must not see it as never started.
        tokio::select! {
            biased;
            secured = self.journal.push_backup() => secured?,
            // On a stop, no row is started.
            () = stop.requested.cancelled() => {}
        }
        let JobResumeState {
            progress,
            next_row,
            in_doubt,
            maybe_started,
            active_time,
            outcomes_lost_since: _,
            recorded,
        } = before;
        let RecordedProgress { frontier, files, tally, .. } = recorded;
        let known_sealed = files.iter().filter(|file| file.md5.is_some()).count();
        let place = (self.journal.clone(), self.number);
        let (mut recorder, sealed, sent) = JobRecorder::new(writer, tally, place, active_time, known_sealed, observe);
        let batches = read_batches(frozen, &frontier);
        let start = DispatchStart { progress, frontier, next_row, in_doubt, maybe_started };
        let dispatcher = Dispatcher::new(worker, limits, frozen.rows(), start, stop, &mut recorder);
        let mut ended = tokio::select! {
            biased;
            ended = dispatcher.run(batches) => ended,
            () = self.upload_sealed(sealed, sent) => unreachable!("the recorder keeps the channel open"),
        };
        let (writer, unrecorded) = recorder.close(&mut ended.frontier);
        Ok(ExecutionOutcome { dispatch: ended, writer, unrecorded })
    }

    /// Records the rows that may be started before the first checkpoint. Otherwise a run that dies before it would
    /// look as if it had started nothing.
    async fn record_start(
        &self,
        total: u64,
        before: &JobResumeState,
        policy: CheckpointPolicy,
    ) -> Result<(), ReportError> {
        let progress = Progress { total, ..before.progress };
        let maybe_started = before.maybe_started.saturating_add(policy.max_unrecorded_rows).min(progress.remaining());
        let checkpoint = Checkpoint {
            progress,
            in_doubt: maybe_started,
            maybe_started,
            active_time: before.active_time,
            next_row: before.next_row.or(Some(TaskId { part: 0, row: 0 })),
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        Ok(self.journal.record_checkpoint(self.number, checkpoint).await?)
    }

    /// Opens the report at its recorded position, or starts it if the job has none.
    ///
    /// # Errors
    /// Returns an error if the report files do not match what was recorded or cannot be written.
    pub async fn open_report(&self, files: &[ReportFileRecord]) -> Result<ReportWriter, ReportError> {
        let (folder, spec, id) = (self.folder.report_folder(), self.plan.report.clone(), self.id.clone());
        let naming = OperationNaming::for_operations(self.plan.operations.len());
        let state = report_state(files)?;
        // Reads each open file to its end, which can be half a gigabyte. Runs on a blocking thread so that other jobs
        // continue.
        let reopen = move || ReportWriter::resume(&folder, &spec, &id, naming, ROTATE_AT, &state);
        Ok(tokio::task::spawn_blocking(reopen).await.map_err(io::Error::other)??)
    }

    /// Finishes the report of a job that is over and records that.
    ///
    /// # Errors
    /// Returns an error if the report or the journal cannot be written.
    pub async fn finish_report(&self, writer: ReportWriter, last: Checkpoint) -> Result<FinishedReport, ReportError> {
        let segments = tokio::task::spawn_blocking(|| writer.finish()).await.map_err(io::Error::other)??;
        for _ in &segments {
            failpoint::hit("segment-sealed");
        }
        let files = segments.iter().map(ReportFileRecord::from).collect();
        let report = FinishedReport::new(&self.plan.report, self.id, Timestamp::now(), segments);
        report.save(&self.folder.report_folder())?;
        failpoint::hit("report-finished");
        self.journal.record_checkpoint(self.number, Checkpoint { files, ..last }).await?;
        Ok(report)
    }

    fn build_worker(&self, limits: &DispatchLimits, stop: &GracefulStop) -> Result<Worker, ReportError> {
        let worker = Worker::new(
            Arc::clone(self.store),
            self.plan.operations(),
            Throttle::new(limits.quota.clone()),
            RetryPolicy::default(),
            stop.requested.clone(),
        );
        if !self.plan.needs_server_check() {
            return Ok(worker);
        }
        Ok(worker.with_server_check(Arc::new(ServerCheck::load(self.journal, self.number)?)))
    }

    /// Uploads each report file as soon as it is sealed and recorded. A file that cannot be uploaded now is uploaded
    /// at the end of the job.
    async fn upload_sealed(&self, mut sealed: mpsc::Receiver<ReportSegment>, sent: Arc<Mutex<Vec<u32>>>) {
        let destination = ReportDestination::of(&self.plan.report, self.id);
        while let Some(segment) = sealed.recv().await {
            let Some(destination) = &destination else { continue };
            let folder = self.folder.report_folder();
            if send_segment(&**self.store, &folder, destination, &segment).await.is_err() {
                continue;
            }
            failpoint::hit("segment-sent");
            // If this is not recorded, the file is uploaded again. Freeing it before that would lose it.
            if self.journal.mark_published(self.number, segment.number).await.is_err() {
                continue;
            }
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(segment.number);
            if !self.plan.report.keep_local {
                // A file that cannot be removed now is removed at the end of the job.
                let _ = remove_local_file(&folder, &ReportSegment { published: true, ..segment });
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Checks the job's recorded rows against its recorded report: each finished row is in the report exactly once.
fn check_consistency(
    frontier: &RowFrontier,
    progress: Progress,
    files: &[ReportFileRecord],
    scope: ReportScope,
) -> Result<(), ReportError> {
    let listed = match scope {
        ReportScope::AllTasks => progress.finished(),
        ReportScope::FailedTasksOnly => progress.failed,
    };
    let (rows, settled) = (files.iter().map(|file| file.rows).sum::<u64>(), frontier.settled_count());
    if rows == listed && settled == progress.finished() {
        return Ok(());
    }
    let why = format!(
        "the journal counts {} outcomes and {settled} finished rows, and the report has {rows} rows instead of \
         {listed}",
        progress.finished()
    );
    Err(ReportResumeError::InvalidState { why }.into())
}

/// Converts the journal's report files to the report's state.
///
/// # Errors
/// Returns an error if a checksum is invalid.
pub fn report_state(files: &[ReportFileRecord]) -> Result<RecordedReport, ReportError> {
    let mut state = RecordedReport::default();
    for file in files.iter().cloned() {
        let ReportFileRecord { number, status, name, bytes, rows, md5, open_md5, published } = file;
        let digest = |hex: String| {
            Md5Digest::try_from(hex).map_err(|_: InvalidMd5Error| ReportError::Checksum { file: name.clone() })
        };
        let Some(md5) = md5.map(digest).transpose()? else {
            let md5 = open_md5.map(digest).transpose()?;
            state.open.push(OpenReportFile { number, status, name, bytes, rows, md5 });
            continue;
        };
        state.sealed.push(ReportSegment { number, status, name, bytes, rows, md5, published });
    }
    Ok(state)
}

/// Reads the rows that are not finished on a separate thread, a bounded number ahead.
fn read_batches(frozen: &FrozenManifest, frontier: &RowFrontier) -> TaskBatches {
    let (sender, batches) = Dispatcher::batch_channel();
    let rows = frozen.interleaved_tasks(frontier, BATCH_ROWS);
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
