//! Records a running job: outcomes go to the report files, checkpoints to the journal.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskOutcome;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dispatcher::{CheckpointError, OutcomeSink, PendingCheckpoint, ProgressSnapshot};
use crate::failpoint;
use crate::frontier::{PartWatermark, RowFrontier};
use crate::journal::{Checkpoint, FailureCode, FailureGroup, FailureTally, Journal, ReportFileRecord};
use crate::report::{Md5Digest, OpenReportFile, ReportSegment, ReportWriter, UnsyncedReportPosition};

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
pub(super) struct JobRecorder<'a> {
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
    observe: &'a mut (dyn FnMut(ProgressSnapshot) + Send),
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
    pub(super) fn new(
        writer: ReportWriter,
        tally: FailureTally,
        (journal, job_number): (Journal, i64),
        earlier_runs: Duration,
        known_sealed: usize,
        observe: &'a mut (dyn FnMut(ProgressSnapshot) + Send),
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
    pub(super) fn close(mut self, frontier: &mut RowFrontier) -> (ReportWriter, UnrecordedChanges) {
        self.apply_published();
        self.restore_uncommitted(frontier);
        let unrecorded = UnrecordedChanges { parts: frontier.take_changes(), failures: self.tally.take_changes() };
        (self.writer, unrecorded)
    }

    fn apply_published(&mut self) {
        let sent = std::mem::take(&mut *self.published.lock().unwrap_or_else(PoisonError::into_inner));
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

    fn observe(&mut self, snapshot: ProgressSnapshot) {
        (self.observe)(snapshot);
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
#[path = "job_recorder_tests.rs"]
mod tests;
