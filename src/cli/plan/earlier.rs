//! What has changed since a plan was last applied: its file, and the objects that its manifest names.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::Error;
use crate::cli::state::{Access, State};
use crate::cli::terminal::Terminal;
use crate::diff::unified;
use crate::job::{JobId, JobStatus};
use crate::journal::{JobFolder, JobRecord};
use crate::manifest::{Difference, Frozen, ManifestError, compare};
use crate::plan::Plan;

/// The plan's last job, compared with the plan as it is now.
pub(super) struct Earlier {
    pub(super) job: JobId,
    pub(super) status: JobStatus,
    /// When the job was created.
    pub(super) at: Timestamp,
    /// A unified diff of the plan files, empty if they are equal.
    pub(super) plan_diff: String,
    pub(super) names: Names,
}

/// How the objects that the two manifests name differ.
pub(super) enum Names {
    Known(Difference),
    /// The earlier manifest no longer exists or cannot be read. Contains the reason.
    Unknown(String),
}

/// The last job of a plan, and the job's folder.
pub(super) struct Last {
    job: JobRecord,
    folder: PathBuf,
}

/// Finds the last job of a plan.
pub(super) fn find(plan: &Plan, state: &State, terminal: Terminal) -> Result<Option<Last>, Error> {
    let Some(journal) = state.existing(Some(plan), Access::Glance, terminal)? else { return Ok(None) };
    let Some(job) = journal.latest_of(&plan.identity())? else { return Ok(None) };
    drop(journal);
    // Open the journal again to fetch the job's files. It was closed because a newer copy may take its place.
    let Some(journal) = state.existing_with(Some(plan), Access::Glance, Some(&job.id), terminal)? else {
        return Ok(None);
    };
    Ok(Some(Last { folder: JobFolder::of(journal.state(), &job.id).path().to_owned(), job }))
}

impl Last {
    /// Compares the job with the current plan and its objects. Returns `None` if the comparison was stopped.
    pub(super) async fn against(
        self,
        text: &[u8],
        frozen: &Frozen,
        scratch: &Path,
        stop: &CancellationToken,
    ) -> Option<Earlier> {
        let Self { job, folder } = self;
        let (new, scratch, stop) = (frozen.clone(), scratch.to_owned(), stop.clone());
        let compared = tokio::task::spawn_blocking(move || match Frozen::open(&folder)? {
            Some(old) => compare(&old, &new, &scratch, &stop).map(Some),
            None => Ok(None),
        });
        let names = match compared.await.ok()? {
            Ok(Some(difference)) => Names::Known(difference),
            Ok(None) => Names::Unknown("that job's manifest was not resolved, or is not kept any more".to_owned()),
            Err(ManifestError::Stopped) => return None,
            Err(error) => Names::Unknown(error.to_string()),
        };
        let plan_diff = unified(&String::from_utf8_lossy(&job.plan), &String::from_utf8_lossy(text));
        Some(Earlier { job: job.id, status: job.status, at: job.created, plan_diff, names })
    }
}
