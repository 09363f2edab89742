//! What others ask of a job while it is being worked on: to pause, to end, or to take another priority.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::budget::Seat;
use crate::job::{JobId, JobStatus};
use crate::journal::{JobRecord, Journal, PauseCause, Request, Why};

/// How often the journal is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches over one job, from its process's side.
pub(super) struct Control<'a> {
    pub(super) journal: &'a Journal,
    pub(super) job: &'a JobId,
    /// Cancelled by a signal.
    pub(super) signal: &'a CancellationToken,
    /// What this cancels.
    pub(super) stop: &'a CancellationToken,
    pub(super) seat: Option<&'a Seat>,
}

impl Control<'_> {
    /// Watches for as long as it is awaited. A journal that cannot be read at the moment is asked again: whoever works on
    /// the job meets the same trouble, and ends.
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

    /// Watches over a job whose manifest is being resolved, and notes how many objects were found so far: that can only
    /// be cancelled.
    pub(super) async fn watch_preparing(&self, found: &AtomicU64) {
        let mut noted = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = found.load(Ordering::Relaxed);
            // Only for whoever looks on: where it cannot be noted, what follows says why.
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

    /// Where the job cannot turn there any more it is on its way to an end, which is as good.
    fn turn(&self, to: JobStatus, why: Why) {
        let _ = self.journal.advance(self.job, to, why, Timestamp::now());
    }
}
