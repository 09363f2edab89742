//! Records a running job: outcomes go to the report files, checkpoints to the journal.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::book::{Book, CheckpointError, Pending, Snapshot};
use crate::failpoint;
use crate::frontier::{Frontier, PartMark};
use crate::journal::{Checkpoint, ErrorCode, Journal, Reason, ReportFile, Tally};
use crate::object::ObjectId;
use crate::report::{Digest, Flushed, OpenFile, ReportWriter, Segment};
use crate::task::Outcome;

/// Sealed files that may wait for upload while the job runs. Files beyond that are uploaded at the end of the job.
const WAITING_FILES: usize = 64;

/// Changes that the last checkpoint should have recorded but did not.
#[derive(Debug, Default)]
pub struct Unkept {
    /// The parts of the frontier that changed since the last recorded checkpoint.
    pub parts: Vec<PartMark>,
    /// The failure codes whose counts changed since the last recorded checkpoint.
    pub failures: Vec<(ErrorCode, Reason)>,
}

/// Records outcomes and checkpoints of one job.
pub(super) struct Ledger<'a> {
    writer: ReportWriter,
    tally: Tally,
    journal: Journal,
    job: i64,
    clock: Clock,
    /// The number of sealed files that the journal has recorded.
    known_sealed: Arc<AtomicUsize>,
    last: Option<Taken>,
    sealed: mpsc::Sender<Segment>,
    sent: Sent,
    observe: &'a mut (dyn FnMut(Snapshot) + Send),
}

/// Measures how long a job has been active: the time of earlier runs plus the time since this run started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    before: Duration,
    since: Instant,
}

impl Clock {
    /// Starts the timer, with the time of earlier runs.
    pub(super) fn after(before: Duration) -> Self {
        Self { before, since: Instant::now() }
    }

    /// Returns the active time of all runs. It uses a monotonic clock, because the system clock may be set back.
    pub(super) fn active(&self) -> Duration {
        self.before.saturating_add(self.since.elapsed())
    }
}

/// Numbers of files that were uploaded but that the writer does not know about yet.
pub(super) type Sent = Arc<Mutex<Vec<u32>>>;

/// The changes that a checkpoint took from frontier and tally. They are put back if it is not recorded.
struct Taken {
    parts: Vec<u32>,
    codes: Vec<ErrorCode>,
    kept: Arc<AtomicBool>,
}

impl<'a> Ledger<'a> {
    /// Creates a recorder that resumes this report and these failures. Returns it with the receiver of sealed files and
    /// the list that the uploader adds file numbers to. A file is sent to the receiver once it is sealed and
    /// recorded.
    pub(super) fn new(
        writer: ReportWriter,
        tally: Tally,
        (journal, job): (Journal, i64),
        clock: Clock,
        known_sealed: usize,
        observe: &'a mut (dyn FnMut(Snapshot) + Send),
    ) -> (Self, mpsc::Receiver<Segment>, Sent) {
        let (sealed, waiting) = mpsc::channel(WAITING_FILES);
        let sent = Sent::default();
        let known_sealed = Arc::new(AtomicUsize::new(known_sealed));
        let ours = Arc::clone(&sent);
        (
            Self { writer, tally, journal, job, clock, known_sealed, last: None, sealed, sent: ours, observe },
            waiting,
            sent,
        )
    }

    /// Returns the report, to be finished or left open, and all changes that no checkpoint recorded.
    pub(super) fn close(mut self, frontier: &mut Frontier) -> (ReportWriter, Unkept) {
        self.note_sent();
        self.put_back_what_was_not_kept(frontier);
        let unkept = Unkept { parts: frontier.take_changes(), failures: self.tally.take_changes() };
        (self.writer, unkept)
    }

    fn note_sent(&mut self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        for number in sent {
            self.writer.mark_published(number);
        }
    }

    fn put_back_what_was_not_kept(&mut self, frontier: &mut Frontier) {
        if let Some(taken) = self.last.take().filter(|taken| !taken.kept.load(Ordering::Acquire)) {
            frontier.put_back(taken.parts);
            self.tally.put_back(taken.codes);
        }
    }

    fn begin(&mut self, flushed: Flushed, snapshot: Snapshot, frontier: &mut Frontier) -> Pending {
        let (parts, failures) = (frontier.take_changes(), self.tally.take_changes());
        let kept = Arc::new(AtomicBool::new(false));
        self.last = Some(Taken {
            parts: parts.iter().map(|mark| mark.part).collect(),
            codes: failures.iter().map(|(code, _)| code.clone()).collect(),
            kept: Arc::clone(&kept),
        });
        let checkpoint = Checkpoint {
            progress: snapshot.progress,
            in_doubt: snapshot.in_doubt,
            reach: snapshot.reach,
            active: self.clock.active(),
            taken: snapshot.taken,
            parts,
            files: Vec::new(),
            failures,
        };
        let (journal, job) = (self.journal.clone(), self.job);
        let (known_sealed, sealed) = (Arc::clone(&self.known_sealed), self.sealed.clone());
        Box::pin(async move {
            failpoint::reach("report-flushed");
            let synced = tokio::task::spawn_blocking(move || flushed.sync()).await.map_err(io::Error::other)?;
            let position = synced?;
            failpoint::reach("report-synced");
            let files = position.open.iter().map(open).chain(position.sealed.iter().map(closed)).collect();
            journal.checkpoint(job, Checkpoint { files, ..checkpoint }).await?;
            kept.store(true, Ordering::Release);
            known_sealed.store(position.sealed_in_all, Ordering::Release);
            for segment in position.sealed {
                // If the channel is full, the file is uploaded at the end of the job.
                let _ = sealed.try_send(segment);
            }
            Ok(())
        })
    }
}

impl Book for Ledger<'_> {
    fn record(&mut self, object: &ObjectId, outcome: &Outcome) -> io::Result<()> {
        self.writer.record(object, outcome)?;
        if let Outcome::Failed(failure) = outcome {
            self.tally.add(object, failure);
        }
        Ok(())
    }

    fn checkpoint(&mut self, snapshot: Snapshot, frontier: &mut Frontier) -> Pending {
        self.note_sent();
        self.put_back_what_was_not_kept(frontier);
        match self.writer.flush(self.known_sealed.load(Ordering::Acquire)) {
            Ok(flushed) => self.begin(flushed, snapshot, frontier),
            Err(error) => Box::pin(std::future::ready(Err(CheckpointError::Report(error)))),
        }
    }

    fn observe(&mut self, snapshot: Snapshot) {
        (self.observe)(snapshot);
    }
}

/// Converts an open file to the journal's record.
fn open(file: &OpenFile) -> ReportFile {
    ReportFile {
        number: file.number,
        status: file.status,
        name: file.name.clone(),
        bytes: file.bytes,
        rows: file.rows,
        md5: None,
        open_md5: file.md5.as_ref().map(Digest::hex),
        published: false,
    }
}

/// Converts a sealed file to the journal's record.
pub(super) fn closed(segment: &Segment) -> ReportFile {
    ReportFile {
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

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
