//! The next command to suggest to the user, by the status of a job.

use super::shell;
use crate::engine::{INCONCLUSIVE, reason_says};
use crate::job::JobStatus;
use crate::jobs::JobPresence;
use crate::journal::{JobFolder, JobRecord, PauseCause, ReportDelivery};
use crate::report::MANIFEST_NAME;

/// Returns the next command for a job, or `None` if nothing is left to do. `flag` is the ` --state` flag it
/// needs, or empty.
pub(super) fn next_command(job: &JobRecord, presence: &JobPresence, folder: &JobFolder, flag: &str) -> Option<String> {
    use JobStatus::{
        Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
        Ready, Suspended,
    };
    let command = |name: &str| Some(format!("batchplan {name} {}{flag}", job.id));
    let held = matches!(presence, JobPresence::HeldBy(_));
    match job.status {
        Complete | Cancelled | Failed if job.report_delivery == ReportDelivery::Due => command("publish"),
        Complete if job.progress.failed > 0 => command("retry"),
        Cancelled | Failed if job.progress.failed + job.progress.remaining() > 0 => command("retry"),
        Complete | Cancelled | Failed => {
            let listing = folder.report_folder().join(MANIFEST_NAME);
            listing.exists().then(|| format!("cat {}", shell::quote_path(&listing)))
        }
        Suspended => command("confirm"),
        Ready if !held => Some(format!("batchplan run{flag}")),
        New | Preparing | Ready | Active | Pausing | Cancelling | Failing if held => {
            command("show").map(|command| format!("{command} --watch"))
        }
        // Resuming would be refused, or would find the server unchanged, unless the check was inconclusive.
        Paused if job.pause_cause == Some(PauseCause::Server) => {
            let unclear = job.reason.as_ref().is_some_and(|why| reason_says(why, INCONCLUSIVE));
            command(if unclear { "resume" } else { "cancel" })
        }
        New | Preparing | Ready | Active | Pausing | Paused | Cancelling | Failing => command("resume"),
        Cleaning | Cleaned => None,
    }
}
