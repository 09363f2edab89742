//! Estimates what a job with a frozen manifest would do, and checks its cost before the first object is changed.

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

/// The number of objects to sample, with seed 0. `plan` reads the same sample, so both estimates are equal.
pub const SAMPLE: u32 = 200;

/// Reads a sample of a job's objects. Nothing is changed.
///
/// # Errors
/// Returns an error if the objects cannot be read.
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

/// Refuses a job that would cost more than its plan allows, estimated from a sample of its objects. Returns `false` if
/// the check was stopped.
///
/// # Errors
/// Returns an error if the cost exceeds the limit or is unknown, if the prices or the objects cannot be read, or if the
/// server is not trusted.
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

/// Converts a preview's finding that the server is not trusted to the error that ends a command.
#[must_use]
pub fn distrusted(plan: &Plan, refusal: &ServerRefusal) -> JobError {
    JobError::Untrusted { job: None, why: why_untrusted(plan, refusal), help: distrust_help(refusal) }
}

/// An observer that ignores progress, because reading a sample takes only a moment.
struct Nobody;

impl Onlooker for Nobody {
    fn prepares(&self, _: Prepared) {}

    fn looked(&mut self, _: &Prospect, _: u64) -> io::Result<()> {
        Ok(())
    }
}
