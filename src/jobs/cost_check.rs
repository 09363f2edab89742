//! Estimates what a job with a frozen manifest would do, and checks its cost before the first object is changed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::{ReadOnlyStore, Store};
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use super::hints::{describe_untrusted_server, untrusted_server_hint};
use super::preview::{Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer};
use crate::diff::Prediction;
use crate::engine::ServerCheckFailure;
use crate::estimate::{check_cost_limit, estimate, select_prices};
use crate::manifest::{FreezeProgress, FrozenManifest, ManifestError};
use crate::plan::Plan;

/// The number of objects to sample, with seed 0. `plan` reads the same sample, so both estimates are equal.
pub const SAMPLE_SIZE: u32 = 200;

/// Reads a sample of a job's objects. Nothing is changed.
///
/// # Errors
/// Returns an error if the objects cannot be read.
pub async fn preview_sample(
    plan: &Plan,
    frozen: &FrozenManifest,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<Preview, JobError> {
    let store = Arc::new(ReadOnlyStore::new(Arc::clone(store)));
    let closeness = PreviewOptions { sample: SAMPLE_SIZE, seed: 0, full: false, digest_key: None };
    let previewer = Previewer { plan, store, folder: Path::new(""), options: closeness, stop };
    previewer.preview_frozen(frozen, &mut SilentPreviewObserver).await.map_err(|error| match error {
        PreviewError::Manifest(error) => JobError::Manifest(error),
        PreviewError::Stopped => JobError::Manifest(ManifestError::Stopped),
        PreviewError::CredentialsRejected(fault) => JobError::CredentialsRejected(fault),
        PreviewError::Io(error) => JobError::Io(error),
    })
}

/// Refuses a job that would cost more than its plan allows, estimated from a sample of its objects. Returns `false` if
/// the check was stopped.
///
/// # Errors
/// Returns an error if the cost exceeds the limit or is unknown, if the prices or the objects cannot be read, or if the
/// server is not trusted.
pub(super) async fn check_cost(
    plan: &Plan,
    frozen: &FrozenManifest,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<bool, JobError> {
    let Some(max) = plan.limits.max_cost else { return Ok(true) };
    let rates = select_prices(plan, None)?;
    let preview = match preview_sample(plan, frozen, store, stop).await {
        Err(JobError::Manifest(ManifestError::Stopped)) => return Ok(false),
        preview => preview?,
    };
    if let Some(refusal) = &preview.refusal {
        return Err(untrusted_error(plan, refusal));
    }
    match check_cost_limit(&estimate(&preview.workload, &rates), &max).error() {
        Some(refusal) => Err(JobError::TooExpensive(Box::new(refusal.clone()))),
        None => Ok(true),
    }
}

/// Converts a preview's finding that the server is not trusted to the error that ends a command.
#[must_use]
pub fn untrusted_error(plan: &Plan, refusal: &ServerCheckFailure) -> JobError {
    JobError::Untrusted {
        job: None,
        why: describe_untrusted_server(plan, refusal),
        help: untrusted_server_hint(refusal),
    }
}

/// An observer that ignores progress, because reading a sample takes only a moment.
struct SilentPreviewObserver;

impl PreviewObserver for SilentPreviewObserver {
    fn on_rows_read(&self, _: FreezeProgress) {}

    fn on_object_read(&mut self, _: &Prediction, _: u64) -> io::Result<()> {
        Ok(())
    }
}
