//! What has changed since a plan was last applied: its file, and the objects that its manifest names.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::CommandError;
use crate::cli::state_location::{JournalAccess, StateLocationArgs};
use crate::cli::terminal::Terminal;
use crate::diff::unified_diff;
use crate::job::{JobId, JobStatus};
use crate::journal::{JobFolder, JobRecord};
use crate::manifest::{FrozenManifest, ManifestDifference, ManifestError, compare_manifests};
use crate::plan::Plan;

/// The plan's last job, compared with the plan as it is now.
pub(super) struct PreviousJobDiff {
    pub(super) job: JobId,
    pub(super) status: JobStatus,
    /// When the job was created.
    pub(super) created: Timestamp,
    /// A unified diff of the plan files, empty if they are equal.
    pub(super) plan_diff: String,
    pub(super) objects: ObjectListDiff,
}

/// How the objects that the two manifests name differ.
pub(super) enum ObjectListDiff {
    Known(ManifestDifference),
    /// The earlier manifest no longer exists or cannot be read. Contains the reason.
    Unknown(String),
}

/// The last job of a plan, and the job's folder.
pub(super) struct PreviousJob {
    job: JobRecord,
    folder: PathBuf,
}

/// Finds the last job of a plan.
pub(super) fn find(
    plan: &Plan,
    state: &StateLocationArgs,
    terminal: Terminal,
) -> Result<Option<PreviousJob>, CommandError> {
    let Some(journal) = state.open_existing(Some(plan), JournalAccess::ReadHistory, terminal)? else { return Ok(None) };
    let Some(job) = journal.latest_with_identity(&plan.identity())? else { return Ok(None) };
    drop(journal);
    // Open the journal again to fetch the job's files. It was closed because a newer copy may take its place.
    let Some(journal) =
        state.open_existing_with_job(Some(plan), JournalAccess::ReadHistory, Some(&job.id), terminal)?
    else {
        return Ok(None);
    };
    Ok(Some(PreviousJob { folder: JobFolder::of(journal.state_folder(), &job.id).path().to_owned(), job }))
}

impl PreviousJob {
    /// Compares the job with the current plan and its objects. Returns `None` if the comparison was stopped.
    pub(super) async fn compare_with(
        self,
        text: &[u8],
        frozen: &FrozenManifest,
        scratch: &Path,
        stop: &CancellationToken,
    ) -> Option<PreviousJobDiff> {
        let Self { job, folder } = self;
        let (new, scratch, stop) = (frozen.clone(), scratch.to_owned(), stop.clone());
        let compared = tokio::task::spawn_blocking(move || match FrozenManifest::open(&folder)? {
            Some(old) => compare_manifests(&old, &new, &scratch, &stop).map(Some),
            None => Ok(None),
        });
        let names = match compared.await.ok()? {
            Ok(Some(difference)) => ObjectListDiff::Known(difference),
            Ok(None) => ObjectListDiff::Unknown("the manifest of that job was not resolved, or was deleted".to_owned()),
            Err(ManifestError::Stopped) => return None,
            Err(error) => ObjectListDiff::Unknown(error.to_string()),
        };
        let plan_diff = unified_diff(&String::from_utf8_lossy(&job.plan_text), &String::from_utf8_lossy(text));
        Some(PreviousJobDiff { job: job.id, status: job.status, created: job.created, plan_diff, objects: names })
    }
}
