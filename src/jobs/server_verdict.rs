//! What a job has found out about its server before it is resumed.

use super::advice::after_distrust;
use super::error::JobError;
use super::runner::Runner;
use crate::job::JobStatus::{Active, Paused, Pausing, Ready};
use crate::journal::{PauseCause, ServerTrust, Why};

impl Runner<'_> {
    /// Refuses to go on with a job whose server has changed an object by a write: another attempt would cost one more.
    pub(super) fn check_server_verdict(&mut self) -> Result<(), JobError> {
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
            self.pauses(PauseCause::Server, why.clone())?;
        } else if self.job.status == Ready {
            self.advance(Paused, Why::paused(PauseCause::Server, why.clone()))?;
        }
        // What the job was paused with says more: which objects may be harmed as well.
        let paused = self.job.status == Paused && self.job.cause == Some(PauseCause::Server);
        let why = self.job.reason.clone().filter(|_| paused).unwrap_or(why);
        let id = &self.job.id;
        let help = after_distrust(id, true, &why);
        Err(JobError::Untrusted { job: Some(id.clone()), why, help })
    }
}
