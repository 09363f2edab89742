//! Waits until a job may start.

use jiff::Timestamp;

use super::control::LOOK_EVERY;
use super::error::JobError;
use super::runner::{Runner, Watch};
use super::schedule::{Candidate, may_go};
use crate::job::JobStatus::{Cancelling, Paused};
use crate::journal::{JobFolder, JobRecord, Lease, PauseCause, Request, Why};

impl Runner<'_> {
    /// Waits until the job may start, and makes it Active. Returns `false` if it was paused, cancelled or stopped
    /// meanwhile.
    pub(super) async fn wait_for_turn(&mut self, watch: &mut dyn Watch) -> Result<bool, JobError> {
        loop {
            let (rules, state) = (self.settings.rules, self.journal.state().to_owned());
            let judge = move |job: &JobRecord, others: &[JobRecord]| {
                let held = |other: &&JobRecord| {
                    // If the lease cannot be read, assume that the job runs.
                    Lease::is_held(JobFolder::of(&state, &other.id).path()).unwrap_or(true)
                };
                let (work, wait): (Vec<_>, Vec<_>) =
                    others.iter().filter(held).partition(|other| other.status.takes_slot());
                let candidates = |jobs: Vec<&JobRecord>| jobs.into_iter().map(Candidate::of).collect::<Vec<_>>();
                may_go(&Candidate::of(job), &candidates(wait), &candidates(work), rules)
            };
            match self.journal.activate(&self.job.id, judge, Timestamp::now()).await? {
                Ok(job) => {
                    self.job = JobRecord { plan: std::mem::take(&mut self.job.plan), ..job };
                    return Ok(true);
                }
                Err(waiting) => watch.waits(&waiting),
            }
            tokio::select! {
                () = self.signal.cancelled() => return Ok(false),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.refresh()?;
            match self.job.request.clone() {
                Some((Request::Pause, reason)) => {
                    self.advance(Paused, Why { reason, cause: Some(PauseCause::Person) })?;
                    return Ok(false);
                }
                Some((Request::Cancel, reason)) => {
                    self.advance(Cancelling, Why { reason, cause: None })?;
                    return Ok(false);
                }
                None => {}
            }
        }
    }
}
