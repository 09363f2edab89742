//! One job, from its frozen manifest to the end of its work.

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

/// Rows that are handed on at once.
const BATCH: usize = 256;

/// A job that is ready to be worked on.
pub struct Job<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// Its number in the journal.
    pub number: i64,
    /// What it does.
    pub plan: &'a Plan,
    /// Where its objects are.
    pub store: &'a Arc<dyn Store>,
    /// Where it keeps its files.
    pub folder: &'a JobFolder,
    /// Where its progress is recorded.
    pub journal: &'a Journal,
}

/// How far a job had come when it was last recorded.
#[derive(Debug, Default)]
pub struct Before {
    /// Its counts.
    pub progress: Progress,
    /// The first row that was not taken up; `None` in a job that was never worked on.
    pub taken: Option<Seq>,
    /// Objects that may have been changed without an outcome.
    pub in_doubt: u64,
    /// How many of the rows that are left may have been taken up: those in doubt are among them.
    pub reach: u64,
    /// How long it was worked on.
    pub active: Duration,
    /// When the job was created, where outcomes were lost with a damaged report: it may have changed any object since.
    pub lost_since: Option<Timestamp>,
    /// Frontier, report files and failures.
    pub recorded: Recorded,
}

/// What came of working on a job.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub dispatched: Dispatched,
    /// Its report, to be finished where the job is over.
    pub writer: ReportWriter,
    /// What could not be recorded of the rest, to be recorded with that.
    pub unkept: Unkept,
}

/// Why a report cannot be gone on with or finished. What was recorded stays true.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// What is recorded of it is not to be believed.
    #[error(transparent)]
    Reopen(#[from] ReopenError),
    /// The journal has a checksum that is none.
    #[error("the journal's checksum of {file} is none")]
    Checksum {
        /// The report file.
        file: String,
    },
    /// A file of it cannot be written.
    #[error("the report cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Job<'_> {
    /// Works until every row is settled, the job is stopped, or it cannot go on. The report is left open.
    ///
    /// # Errors
    /// When the report cannot be begun or gone on with: nothing was sent.
    pub async fn run(
        &self,
        frozen: &Frozen,
        before: Before,
        bounds: Bounds,
        stop: Stop,
        observe: &mut (dyn FnMut(Snapshot) + Send),
    ) -> Result<Ran, ReportError> {
        // First what may refuse: a run that sends nothing leaves nothing in doubt, and pushes no damaged file.
        let writer = self.report(&before.recorded.files).await?;
        agree(&before.recorded.frontier, before.progress, &before.recorded.files, self.plan.report.scope)?;
        let worker = self.worker(&bounds, &stop)?.looking_first(before.lost_since);
        self.begin(frozen.rows(), &before, bounds.rhythm).await?;
        // Whoever finds the job on another machine must not take it for one that was never worked on either.
        tokio::select! {
            biased;
            secured = self.journal.secure() => secured?,
            // Then nothing is taken up.
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

    /// Records what may be taken up before the first checkpoint, before it is: a run that dies until then must not be taken for
    /// none.
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

    /// Opens the report where it was recorded to stand; begins it in a job that has none.
    ///
    /// # Errors
    /// When its files are not what was recorded, or cannot be written.
    pub async fn report(&self, files: &[ReportFile]) -> Result<ReportWriter, ReportError> {
        let (folder, spec, id) = (self.folder.report(), self.plan.report.clone(), self.id.clone());
        let naming = Naming::for_operations(self.plan.operations.len());
        let state = state_of(files)?;
        // What is open is read to its end, up to half a gigabyte of it: other jobs go on meanwhile.
        let reopen = move || ReportWriter::reopen(&folder, &spec, &id, naming, ROTATE_AT, &state);
        Ok(tokio::task::spawn_blocking(reopen).await.map_err(io::Error::other)??)
    }

    /// Finishes the report of a job that is over, and records that.
    ///
    /// # Errors
    /// When it cannot be written or recorded.
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

    /// Sends each report file as soon as it is sealed and recorded. One that cannot be sent now is sent at the end.
    async fn send_sealed(&self, mut sealed: mpsc::Receiver<Segment>, sent: Sent) {
        let destination = Destination::of(&self.plan.report, self.id);
        while let Some(segment) = sealed.recv().await {
            let Some(destination) = &destination else { continue };
            let folder = self.folder.report();
            if send_segment(&**self.store, &folder, destination, &segment).await.is_err() {
                continue;
            }
            failpoint::reach("segment-sent");
            // Not recorded, it is sent again; freed before that, it would be missed.
            if self.journal.published(self.number, segment.number).await.is_err() {
                continue;
            }
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(segment.number);
            if !self.plan.report.keep_local {
                // What stays there is in nobody's way, and goes at the job's end.
                let _ = free(&folder, &Segment { published: true, ..segment });
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Compares what is recorded of a job's rows with what is recorded of its report: each settled row is in the report once.
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

/// The report's files as the report room knows them.
///
/// # Errors
/// When a checksum is none.
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

/// Reads the rows that are not settled on a thread of their own, a bounded number ahead.
fn batches(frozen: &Frozen, frontier: &Frontier) -> TaskBatches {
    let (sender, batches) = Dispatcher::batches();
    let rows = frozen.in_turns(frontier, BATCH);
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
