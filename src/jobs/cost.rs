//! What is to be expected of a job whose objects are frozen, and whether it may cost what it costs: asked before the first of
//! them is touched.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::advice::{distrust_help, why_untrusted};
use super::error::JobError;
use super::preview::{Closeness, Onlooker, Preview, PreviewError, Previewer};
use crate::diff::Prospect;
use crate::engine::ServerRefusal;
use crate::estimate::{estimate, exceeds, rates_for};
use crate::manifest::{Frozen, ManifestError, Prepared};
use crate::plan::Plan;
use crate::store::{ReadOnly, Store};

/// Objects that are looked at, of seed 0: the same that `plan` looks at, so that both come to the same sum.
pub const SAMPLE: u32 = 200;

/// Looks at a sample of a job's objects. Nothing is changed.
///
/// # Errors
/// When the objects cannot be looked at.
pub async fn foresee(
    plan: &Plan,
    frozen: &Frozen,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<Preview, JobError> {
    let store = Arc::new(ReadOnly::new(Arc::clone(store)));
    let closeness = Closeness { sample: SAMPLE, seed: 0, full: false, digest: None };
    let previewer = Previewer { plan, store, folder: Path::new(""), closeness, stop };
    previewer.preview_of(frozen, &mut Nobody).await.map_err(|error| match error {
        PreviewError::Manifest(error) => JobError::Manifest(error),
        PreviewError::Stopped => JobError::Manifest(ManifestError::Stopped),
        PreviewError::Refused(fault) => JobError::Unseen(fault),
        PreviewError::Io(error) => JobError::Io(error),
    })
}

/// Refuses a job that costs more than its plan allows, as far as a sample of its objects tells. False where it was stopped.
///
/// # Errors
/// When it does, or nobody can tell; or when the prices or the objects cannot be had.
pub(super) async fn check(
    plan: &Plan,
    frozen: &Frozen,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<bool, JobError> {
    let Some(max) = plan.limits.max_cost else { return Ok(true) };
    let rates = rates_for(plan, None)?;
    let preview = match foresee(plan, frozen, store, stop).await {
        Err(JobError::Manifest(ManifestError::Stopped)) => return Ok(false),
        preview => preview?,
    };
    if let Some(refusal) = &preview.refusal {
        return Err(distrusted(plan, refusal));
    }
    match exceeds(&estimate(&preview.work, &rates), &max).refusal() {
        Some(refusal) => Err(JobError::TooDear(Box::new(refusal.clone()))),
        None => Ok(true),
    }
}

/// What a preview has shown of the server ends a command.
#[must_use]
pub fn distrusted(plan: &Plan, refusal: &ServerRefusal) -> JobError {
    JobError::Untrusted { job: None, why: why_untrusted(plan, refusal), help: distrust_help(refusal) }
}

/// Looks on, and says nothing: it is over in a moment.
struct Nobody;

impl Onlooker for Nobody {
    fn prepares(&self, _: Prepared) {}

    fn looked(&mut self, _: &Prospect, _: u64) -> io::Result<()> {
        Ok(())
    }
}
