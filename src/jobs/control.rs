//! Requests to a running job from other processes: to pause it, to cancel it, or to change its priority.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::request_budget::BudgetShare;
use crate::job::{JobId, JobStatus};
use crate::journal::{ControlRequest, JobRecord, Journal, PauseCause, StatusReason};

/// The interval between two reads of the journal.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The reasons of a pause or a cancellation that give no other.
pub(super) const PAUSE_REQUESTED: &str = "requested by `batchplan pause`";
pub(super) const CANCEL_REQUESTED: &str = "requested by `batchplan cancel`";

/// The reason of a pause by a signal.
pub(super) const SIGNALLED: &str = "stopped by Ctrl-C or a signal";

/// Watches the journal for requests to one job, in the process that runs the job.
pub(super) struct RunControl<'a> {
    pub(super) journal: &'a Journal,
    pub(super) job: &'a JobId,
    /// Cancelled when the process is asked to stop.
    pub(super) signal: &'a CancellationToken,
    /// Cancelled here to stop the job.
    pub(super) stop: &'a CancellationToken,
    pub(super) share: Option<&'a BudgetShare>,
}

impl RunControl<'_> {
    /// Watches until the future is dropped. If the journal cannot be read, it is read again later: the run meets the
    /// same error, and ends.
    pub(super) async fn watch(&self) {
        let mut answered = None;
        let mut signalled = false;
        loop {
            tokio::select! {
                () = self.signal.cancelled(), if !signalled => {
                    signalled = true;
                    self.pause(PauseCause::Signal, SIGNALLED);
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            let Ok(job) = self.journal.get(self.job).await else { continue };
            if let Some(seat) = self.share {
                seat.set_priority(job.priority);
            }
            let asked = job.request.as_ref().map(|(request, _)| *request);
            if asked != answered {
                answered = asked;
                self.handle_request(&job);
            }
        }
    }

    /// Watches a job whose manifest is being resolved, and records how many objects were found so far. Such a job can
    /// only be cancelled.
    pub(super) async fn watch_preparing(&self, found: &AtomicU64) {
        let mut noted = 0;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = found.load(Ordering::Relaxed);
            // This count is only for observers. If it cannot be recorded, a later write to the journal reports the
            // error.
            if now != noted && self.journal.set_total(self.job, now).is_ok() {
                noted = now;
            }
            if let Ok(job) = self.journal.get(self.job).await
                && matches!(job.request, Some((ControlRequest::Cancel, _)))
            {
                self.stop.cancel();
            }
        }
    }

    fn handle_request(&self, job: &JobRecord) {
        match &job.request {
            Some((ControlRequest::Pause, why)) => {
                self.pause(PauseCause::Person, why.as_deref().unwrap_or(PAUSE_REQUESTED));
            }
            Some((ControlRequest::Cancel, why)) => {
                let why = StatusReason::because(why.as_deref().unwrap_or(CANCEL_REQUESTED));
                self.try_advance(JobStatus::Cancelling, why);
                self.stop.cancel();
            }
            None => {}
        }
    }

    fn pause(&self, cause: PauseCause, why: &str) {
        self.try_advance(JobStatus::Pausing, StatusReason::paused(cause, why));
        self.stop.cancel();
    }

    /// Moves the job to `to`. A refused move is ignored, because the job is then already on its way to an end.
    fn try_advance(&self, to: JobStatus, why: StatusReason) {
        let _ = self.journal.advance(self.job, to, why, Timestamp::now());
    }
}
