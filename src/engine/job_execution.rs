//! Runs one job, from its frozen manifest to the end of its work: opens its report, lets the dispatcher process the
//! rows, and records the outcomes in the report files and the checkpoints in the journal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::ObjectId;
use batchplan_store::task::{TaskId, TaskOutcome};
use batchplan_store::timeouts::micros;
use batchplan_store::{Mutex, Store};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info};

use super::dispatcher::{
    CheckpointError, CheckpointPolicy, DispatchLimits, DispatchOutcome, DispatchStart, Dispatcher, GracefulStop,
    OutcomeSink, PendingCheckpoint, ProgressSnapshot, TaskBatches,
};
use super::run_progress::RunProgress;
use super::server_check::ServerCheck;
use super::throttle::Throttle;
use super::undone_changes::UndoneChanges;
use super::worker::Worker;
use crate::captures::{CaptureError, CaptureWriter};
use crate::failpoint;
use crate::frontier::{PartWatermark, RowFrontier};
use crate::job::{JobId, Progress};
use crate::journal::{
    Checkpoint, FailureCode, FailureGroup, FailureTally, JobFolder, Journal, JournalError, RecordedProgress,
    ReportFileRecord,
};
use crate::manifest::FrozenManifest;
use crate::plan::Plan;
use crate::report::{
    FinishedReport, InvalidMd5Error, Md5Digest, OpenReportFile, ROTATE_AT, RecordedReport, ReportDestination,
    ReportResumeError, ReportSegment, ReportWriter, UnsyncedReportPosition, remove_local_file, send_segment,
};
use crate::report_format::{OperationNaming, ReportScope};

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
    /// The captures that the job restores, if it is an undo.
    pub undo: Option<Arc<UndoneChanges>>,
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
    /// Whether captures of earlier runs may be missing: they were lost with their machine, or were not made.
    pub captures_may_be_missing: bool,
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
    #[error("cannot write the report: {0}")]
    Io(#[from] io::Error),
    /// The captures cannot be opened.
    #[error(transparent)]
    Captures(#[from] CaptureError),
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
        observe: &mut (dyn FnMut(RunProgress) + Send),
    ) -> Result<ExecutionOutcome, ReportError> {
        // Do what may fail first: a run that sends nothing leaves nothing in doubt and pushes no damaged file.
        let writer = self.open_report(&before.recorded.files).await?;
        check_consistency(&before.recorded.frontier, before.progress, &before.recorded.files, self.plan.report.scope)?;
        let worker = self.build_worker(&limits, &stop)?.checking_restores_since(before.outcomes_lost_since);
        let (worker, captures) = self.with_capture(worker, before.captures_may_be_missing).await?;
        self.record_start(frozen.rows(), &before, limits.checkpoint_policy).await?;
        // Push the state now: another machine that resumes the job must not see it as never started.
        tokio::select! {
            biased;
            pushed = self.journal.push_backup() => pushed?,
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
            captures_may_be_missing: _,
            recorded,
        } = before;
        let RecordedProgress { frontier, files, tally, .. } = recorded;
        let known_sealed = files.iter().filter(|file| file.md5.is_some()).count();
        let recorded_in = (self.journal.clone(), self.number);
        let (mut recorder, sealed, sent) =
            JobRecorder::new(writer, tally, recorded_in, active_time, known_sealed, observe);
        info!(rows = frozen.rows(), finished = progress.finished(), in_doubt, "run started");
        let batches = read_batches(frozen, &frontier);
        let start = DispatchStart { progress, frontier, next_row, in_doubt, maybe_started };
        let dispatcher = Dispatcher::new(worker, limits, frozen.rows(), start, stop, &mut recorder);
        let mut ended = tokio::select! {
            biased;
            ended = dispatcher.run(batches) => ended,
            () = self.upload_sealed(sealed, sent) => unreachable!("the recorder keeps the channel open"),
        };
        if let Some(captures) = captures {
            // The dispatcher has dropped the workers, so nothing more is captured.
            captures.await.map_err(io::Error::other)?;
        }
        let Progress { succeeded, failed, .. } = ended.progress;
        info!(succeeded, failed, in_doubt = ended.in_doubt, reason = ended.stop_reason.as_str(), "run ended");
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
        )
        .undoing(self.undo.clone());
        if !self.plan.needs_server_check() {
            return Ok(worker);
        }
        Ok(worker.with_server_check(Arc::new(ServerCheck::load(self.journal, self.number)?)))
    }

    /// Makes the worker capture objects, if the plan wants that. Also returns the task that writes the captures.
    async fn with_capture(
        &self,
        worker: Worker,
        may_be_missing: bool,
    ) -> Result<(Worker, Option<JoinHandle<()>>), ReportError> {
        if self.plan.operations().captured_aspects().next().is_none() {
            return Ok((worker, None));
        }
        let folder = self.folder.captures_folder();
        // Reads the last log, which can be 32 MiB.
        let writer =
            tokio::task::spawn_blocking(move || CaptureWriter::open(&folder)).await.map_err(io::Error::other)??;
        let (worker, task) = worker.with_capture(writer, may_be_missing);
        Ok((worker, Some(task)))
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
            sent.lock().push(segment.number);
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
    let expected_rows = match scope {
        ReportScope::AllTasks => progress.finished(),
        ReportScope::FailedTasksOnly => progress.failed,
    };
    let (rows, settled) = (files.iter().map(|file| file.rows).sum::<u64>(), frontier.settled_count());
    if rows == expected_rows && settled == progress.finished() {
        return Ok(());
    }
    let why = format!(
        "the journal counts {} outcomes and {settled} finished rows, and the report has {rows} rows instead of \
         {expected_rows}",
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

/// Sealed report files, which are full and closed, that may wait for upload while the job runs. Files beyond that are
/// uploaded at the end of the job.
const MAX_WAITING_FILES: usize = 64;

/// Changes that no checkpoint has recorded.
#[derive(Debug, Default)]
pub struct UnrecordedChanges {
    /// The parts of the [`RowFrontier`], which knows the finished rows, that changed since the last recorded
    /// checkpoint.
    pub parts: Vec<PartWatermark>,
    /// The failure codes whose counts changed since the last recorded checkpoint.
    pub failures: Vec<(FailureCode, FailureGroup)>,
}

/// Records outcomes and checkpoints of one job.
struct JobRecorder<'a> {
    writer: ReportWriter,
    tally: FailureTally,
    journal: Journal,
    job_number: i64,
    active_timer: ActiveTimer,
    /// The number of sealed files that the journal has recorded.
    known_sealed: Arc<AtomicUsize>,
    uncommitted: Option<PendingCheckpointChanges>,
    sealed_files: mpsc::Sender<ReportSegment>,
    published: PublishedNumbers,
    observe: &'a mut (dyn FnMut(RunProgress) + Send),
}

/// Measures how long a job has been active: the time of earlier runs plus the time since this run started.
#[derive(Clone, Copy, Debug)]
struct ActiveTimer {
    earlier_runs: Duration,
    started_at: Instant,
}

impl ActiveTimer {
    /// Starts the timer, with the time of earlier runs.
    fn starting_from(earlier_runs: Duration) -> Self {
        Self { earlier_runs, started_at: Instant::now() }
    }

    /// Returns the active time of all runs. It uses a monotonic clock, because the system clock may be set back.
    fn total(&self) -> Duration {
        self.earlier_runs.saturating_add(self.started_at.elapsed())
    }
}

/// Numbers of files that were uploaded but that the writer does not know about yet.
type PublishedNumbers = Arc<Mutex<Vec<u32>>>;

/// The changes that a checkpoint took from frontier and tally. They are put back if it is not recorded.
struct PendingCheckpointChanges {
    parts: Vec<u32>,
    codes: Vec<FailureCode>,
    committed: Arc<AtomicBool>,
}

impl<'a> JobRecorder<'a> {
    /// Creates a recorder that resumes this report and these failures. Returns it with the receiver of sealed files and
    /// the list that the uploader adds file numbers to. A file is sent to the receiver once it is sealed and
    /// recorded.
    fn new(
        writer: ReportWriter,
        tally: FailureTally,
        (journal, job_number): (Journal, i64),
        earlier_runs: Duration,
        known_sealed: usize,
        observe: &'a mut (dyn FnMut(RunProgress) + Send),
    ) -> (Self, mpsc::Receiver<ReportSegment>, PublishedNumbers) {
        let (sealed_files, receiver) = mpsc::channel(MAX_WAITING_FILES);
        let published = PublishedNumbers::default();
        let known_sealed = Arc::new(AtomicUsize::new(known_sealed));
        (
            Self {
                writer,
                tally,
                journal,
                job_number,
                active_timer: ActiveTimer::starting_from(earlier_runs),
                known_sealed,
                uncommitted: None,
                sealed_files,
                published: Arc::clone(&published),
                observe,
            },
            receiver,
            published,
        )
    }

    /// Returns the report, to be finished or left open, and all changes that no checkpoint recorded.
    fn close(mut self, frontier: &mut RowFrontier) -> (ReportWriter, UnrecordedChanges) {
        self.apply_published();
        self.restore_uncommitted(frontier);
        let unrecorded = UnrecordedChanges { parts: frontier.take_changes(), failures: self.tally.take_changes() };
        (self.writer, unrecorded)
    }

    fn apply_published(&mut self) {
        let sent = std::mem::take(&mut *self.published.lock());
        for number in sent {
            self.writer.mark_published(number);
        }
    }

    fn restore_uncommitted(&mut self, frontier: &mut RowFrontier) {
        if let Some(taken) = self.uncommitted.take().filter(|taken| !taken.committed.load(Ordering::Acquire)) {
            frontier.mark_changed(taken.parts);
            self.tally.mark_changed(taken.codes);
        }
    }

    fn start_checkpoint(
        &mut self,
        flushed: UnsyncedReportPosition,
        snapshot: ProgressSnapshot,
        frontier: &mut RowFrontier,
    ) -> PendingCheckpoint {
        let (parts, failures) = (frontier.take_changes(), self.tally.take_changes());
        let committed = Arc::new(AtomicBool::new(false));
        self.uncommitted = Some(PendingCheckpointChanges {
            parts: parts.iter().map(|mark| mark.part).collect(),
            codes: failures.iter().map(|(code, _)| code.clone()).collect(),
            committed: Arc::clone(&committed),
        });
        let checkpoint = Checkpoint {
            progress: snapshot.progress,
            in_doubt: snapshot.in_doubt,
            maybe_started: snapshot.maybe_started,
            active_time: self.active_timer.total(),
            next_row: snapshot.next_row,
            parts,
            files: Vec::new(),
            failures,
        };
        let (journal, job_number) = (self.journal.clone(), self.job_number);
        let (rows, started_at) = (snapshot.progress.finished(), Instant::now());
        let (known_sealed, sealed) = (Arc::clone(&self.known_sealed), self.sealed_files.clone());
        Box::pin(async move {
            failpoint::hit("report-flushed");
            let synced = tokio::task::spawn_blocking(move || flushed.sync()).await.map_err(io::Error::other)?;
            let position = synced?;
            failpoint::hit("report-synced");
            let files = position
                .open
                .iter()
                .map(ReportFileRecord::from)
                .chain(position.sealed.iter().map(ReportFileRecord::from))
                .collect();
            journal.record_checkpoint(job_number, Checkpoint { files, ..checkpoint }).await?;
            committed.store(true, Ordering::Release);
            known_sealed.store(position.total_sealed, Ordering::Release);
            let bytes: u64 = position.open.iter().map(|file| file.bytes).sum();
            debug!(
                rows,
                bytes,
                sealed = position.sealed.len(),
                us = micros(started_at.elapsed()),
                "checkpoint recorded"
            );
            for segment in position.sealed {
                // If the channel is full, the file is uploaded at the end of the job.
                let _ = sealed.try_send(segment);
            }
            Ok(())
        })
    }
}

impl OutcomeSink for JobRecorder<'_> {
    fn record(&mut self, object: &ObjectId, outcome: &TaskOutcome) -> io::Result<()> {
        self.writer.record(object, outcome)?;
        if let TaskOutcome::Failed(failure) = outcome {
            self.tally.add(object, failure);
        }
        Ok(())
    }

    fn checkpoint(&mut self, snapshot: ProgressSnapshot, frontier: &mut RowFrontier) -> PendingCheckpoint {
        self.apply_published();
        self.restore_uncommitted(frontier);
        match self.writer.flush(self.known_sealed.load(Ordering::Acquire)) {
            Ok(flushed) => self.start_checkpoint(flushed, snapshot, frontier),
            Err(error) => Box::pin(std::future::ready(Err(CheckpointError::Report(error)))),
        }
    }

    fn observe(&mut self, progress: RunProgress) {
        (self.observe)(progress);
    }
}

impl From<&OpenReportFile> for ReportFileRecord {
    fn from(file: &OpenReportFile) -> Self {
        Self {
            number: file.number,
            status: file.status,
            name: file.name.clone(),
            bytes: file.bytes,
            rows: file.rows,
            md5: None,
            open_md5: file.md5.as_ref().map(Md5Digest::hex),
            published: false,
        }
    }
}

impl From<&ReportSegment> for ReportFileRecord {
    fn from(segment: &ReportSegment) -> Self {
        Self {
            number: segment.number,
            status: segment.status,
            name: segment.name.clone(),
            bytes: segment.bytes,
            rows: segment.rows,
            md5: Some(segment.md5.hex()),
            open_md5: None,
            published: segment.published,
        }
    }
}

#[cfg(test)]
#[path = "job_execution_tests.rs"]
mod tests;
