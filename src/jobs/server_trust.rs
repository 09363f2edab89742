//! Applies what a job has learned about its server before the job is resumed.

use super::error::JobError;
use super::hints::untrusted_pause_hint;
use super::runner::JobRunner;
use crate::job::JobStatus::{Active, Paused, Pausing, Ready};
use crate::journal::{PauseCause, ServerTrust, StatusReason};

impl JobRunner<'_> {
    /// Refuses to resume a job if a write has shown that its server cannot be trusted. Another attempt could damage one
    /// more object.
    pub(super) fn check_server_trust(&mut self) -> Result<(), JobError> {
        if !self.plan.needs_server_check() {
            return Ok(());
        }
        let verdicts = self.journal.server_verdicts(self.job.number)?;
        let refused = verdicts.into_iter().find_map(|verdict| match verdict.trust {
            ServerTrust::Refused(why) => Some(why),
            ServerTrust::Proven | ServerTrust::Unconfirmed(_) => None,
        });
        let Some(why) = refused else { return Ok(()) };
        if matches!(self.job.status, Active | Pausing) {
            self.pause_running(PauseCause::Server, why.clone())?;
        } else if self.job.status == Ready {
            self.advance(Paused, StatusReason::paused(PauseCause::Server, why.clone()))?;
        }
        // The reason of the pause says more, such as which other objects may be damaged.
        let paused = self.job.status == Paused && self.job.pause_cause == Some(PauseCause::Server);
        let why = self.job.reason.clone().filter(|_| paused).unwrap_or(why);
        let id = &self.job.id;
        let help = untrusted_pause_hint(id, true, &why);
        Err(JobError::Untrusted { job: Some(id.clone()), why, help })
    }
}
