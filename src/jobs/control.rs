//! Requests to a running job from other processes: to pause it, to cancel it, or to change its priority.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::budget::Seat;
use crate::job::{JobId, JobStatus};
use crate::journal::{JobRecord, Journal, PauseCause, Request, Why};

/// The interval between two reads of the journal.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches the journal for requests to one job, in the process that runs the job.
pub(super) struct Control<'a> {
    pub(super) journal: &'a Journal,
    pub(super) job: &'a JobId,
    /// Cancelled when the process is asked to stop.
    pub(super) signal: &'a CancellationToken,
    /// Cancelled here to stop the job.
    pub(super) stop: &'a CancellationToken,
    pub(super) seat: Option<&'a Seat>,
}

impl Control<'_> {
    /// Watches until the future is dropped. If the journal cannot be read, it is read again later: the run meets the
    /// same error, and ends.
    pub(super) async fn watch(&self) {
        let mut answered = None;
        let mut signalled = false;
        loop {
            tokio::select! {
                () = self.signal.cancelled(), if !signalled => {
                    signalled = true;
                    self.pause(PauseCause::Signal, "its process was asked to end");
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let Ok(job) = self.journal.look(self.job).await else { continue };
            if let Some(seat) = self.seat {
                seat.set_priority(job.priority);
            }
            let asked = job.request.as_ref().map(|(request, _)| *request);
            if asked != answered {
                answered = asked;
                self.answer(&job);
            }
        }
    }

    /// Watches a job whose manifest is being resolved, and records how many objects were found so far. Such a job can
    /// only be cancelled.
    pub(super) async fn watch_preparing(&self, found: &AtomicU64) {
        let mut noted = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = found.load(Ordering::Relaxed);
            // This count is only for observers. If it cannot be recorded, a later write to the journal reports the
            // error.
            if now != noted && self.journal.set_total(self.job, now).is_ok() {
                noted = now;
            }
            if let Ok(job) = self.journal.look(self.job).await
                && matches!(job.request, Some((Request::Cancel, _)))
            {
                self.stop.cancel();
            }
        }
    }

    fn answer(&self, job: &JobRecord) {
        match &job.request {
            Some((Request::Pause, why)) => {
                self.pause(PauseCause::Person, why.as_deref().unwrap_or("on request"));
            }
            Some((Request::Cancel, why)) => {
                let why = Why::because(why.as_deref().unwrap_or("on request"));
                self.turn(JobStatus::Cancelling, why);
                self.stop.cancel();
            }
            None => {}
        }
    }

    fn pause(&self, cause: PauseCause, why: &str) {
        self.turn(JobStatus::Pausing, Why::paused(cause, why));
        self.stop.cancel();
    }

    /// Moves the job to `to`. A refused move is ignored, because the job is then already on its way to an end.
    fn turn(&self, to: JobStatus, why: Why) {
        let _ = self.journal.advance(self.job, to, why, Timestamp::now());
    }
}
