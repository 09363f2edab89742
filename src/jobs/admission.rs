//! Waits until a job may start.

use jiff::Timestamp;

use super::control::{CANCEL_REQUESTED, PAUSE_REQUESTED, POLL_INTERVAL};
use super::error::JobError;
use super::runner::{JobRunner, ProgressObserver};
use super::schedule::{ScheduleCandidate, check_start};
use crate::job::JobStatus::{Cancelling, Paused};
use crate::journal::{ControlRequest, FileLease, JobFolder, JobRecord, PauseCause, StatusReason};

impl JobRunner<'_> {
    /// Waits until the job may start, and makes it Active. Returns `false` if it was paused, cancelled or stopped
    /// meanwhile.
    pub(super) async fn wait_for_turn(&mut self, watch: &mut dyn ProgressObserver) -> Result<bool, JobError> {
        loop {
            let (rules, state) = (self.settings.rules, self.journal.state_folder().to_owned());
            let judge = move |job: &JobRecord, others: &[JobRecord]| {
                let held = |other: &&JobRecord| {
                    // If the lease cannot be read, assume that the job runs.
                    FileLease::is_held(JobFolder::of(&state, &other.id).path()).unwrap_or(true)
                };
                let (work, wait): (Vec<_>, Vec<_>) =
                    others.iter().filter(held).partition(|other| other.status.takes_slot());
                let candidates =
                    |jobs: Vec<&JobRecord>| jobs.into_iter().map(ScheduleCandidate::of).collect::<Vec<_>>();
                check_start(&ScheduleCandidate::of(job), &candidates(wait), &candidates(work), rules)
            };
            match self.journal.activate(&self.job.id, judge, Timestamp::now()).await? {
                Ok(job) => {
                    self.job = JobRecord { plan_text: std::mem::take(&mut self.job.plan_text), ..job };
                    return Ok(true);
                }
                Err(waiting) => watch.on_waiting(&waiting),
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            self.refresh()?;
            match self.job.request.clone() {
                Some((ControlRequest::Pause, reason)) => {
                    self.advance(
                        Paused,
                        StatusReason::paused(PauseCause::Person, reason.as_deref().unwrap_or(PAUSE_REQUESTED)),
                    )?;
                    return Ok(false);
                }
                Some((ControlRequest::Cancel, reason)) => {
                    self.advance(Cancelling, StatusReason::because(reason.as_deref().unwrap_or(CANCEL_REQUESTED)))?;
                    return Ok(false);
                }
                None => {}
            }
        }
    }
}
