//! What has changed since a plan was applied last: in its file, and in what its manifest names.

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

/// The last job of the plan's work, against what it would be now.
pub(super) struct Earlier {
    pub(super) job: JobId,
    pub(super) status: JobStatus,
    /// When it was created.
    pub(super) at: Timestamp,
    /// A unified diff of the plan files; empty where they are alike.
    pub(super) plan_diff: String,
    pub(super) names: Names,
}

/// What the manifests name.
pub(super) enum Names {
    /// These differ.
    Known(Difference),
    /// The earlier manifest is not there any more, or cannot be read.
    Unknown(String),
}

/// The last job of a plan's work, and its folder.
pub(super) struct Last {
    job: JobRecord,
    folder: PathBuf,
}

/// The last job of the plan's work, where there is one.
pub(super) fn find(plan: &Plan, state: &State, terminal: Terminal) -> Result<Option<Last>, Error> {
    let Some(journal) = state.existing(Some(plan), Access::Glance, terminal)? else { return Ok(None) };
    let Some(job) = journal.latest_of(&plan.identity())? else { return Ok(None) };
    drop(journal);
    // With its files; nobody has the journal open while a newer one takes its place.
    let Some(journal) = state.existing_with(Some(plan), Access::Glance, Some(&job.id), terminal)? else {
        return Ok(None);
    };
    Ok(Some(Last { folder: JobFolder::of(journal.state(), &job.id).path().to_owned(), job }))
}

impl Last {
    /// Compares it with the plan as it is now, and with the objects that this names; none where it was stopped.
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
