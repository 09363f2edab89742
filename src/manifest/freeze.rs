//! Freezes a source: turns it into a frozen manifest.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use batchplan_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{self, FreezeStart};
use super::error::ManifestError;
use super::freeze_config::FreezeConfig;
use super::frozen::{self, FrozenManifest};
use super::input::run_blocking;
use super::manifest_writer::ManifestWriter;
use super::prefix::ListingConcurrency;
use super::retrying_store::RetryingStore;
use super::row_visitor::FreezeProgress;
use super::sampling::{SampleOptions, SampleResult, SamplingPass, SamplingTee};
use super::sources::read_source;
use super::spec::{Manifest, ManifestSource};

/// The limits of a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeLimits {
    /// The maximum size on disk in bytes, for the frozen names and for a temporary copy of an inventory data file that
    /// cannot be read as a stream. `None` means no limit.
    pub max_disk: Option<u64>,
    /// The maximum number of objects; `None` means no limit.
    pub max_objects: Option<u64>,
    /// The maximum number of concurrent listing requests. `None` and larger values mean 16.
    pub concurrency: Option<u32>,
}

/// Reads the source of a manifest to its end and writes the objects that the filter includes into the folder
/// `manifest/` of the job's folder.
///
/// Needs a tokio runtime with timers enabled; a `current_thread` runtime is enough. `observer` is called with the
/// progress from time to time, on the caller's task.
///
/// Resumes an unfinished attempt with the same source and filter in this folder, whether it was ended by the stop
/// token, a dropped future or a killed process. A listing resumes at most 64 pages back in each of its ranges; an
/// inventory resumes after its last checkpointed data file, and starts over if it has changed. A CSV file is always
/// read from its beginning: it is one pinned file. Two attempts must not run in one folder at the same time. After the
/// future is dropped, a thread may still be working until the runtime shuts down.
///
/// Removes a finished manifest in the folder: call [`FrozenManifest::open`] first to reuse it.
///
/// If the filter excludes all rows, the frozen manifest has no rows. A source without rows is an error, unless the
/// source is a report or a retry.
///
/// # Errors
/// Returns an error if the source cannot be read, is not the one that the plan pins, or has rows that name no valid
/// object (one error reports all of them), if one of the `limits` is exceeded, or if the disk is full. If another
/// attempt may succeed, the files are kept for it; otherwise they are removed.
pub async fn freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    limits: FreezeLimits,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<FrozenManifest, ManifestError> {
    let listing = ListingConcurrency::default().limited_to(limits.concurrency);
    let config =
        FreezeConfig { max_disk: limits.max_disk, max_objects: limits.max_objects, listing, ..FreezeConfig::default() };
    freeze_with_config(manifest, store, folder, observer, stop, config).await
}

/// Does the same as [`freeze`], and also collects a sample of the objects. Does not resume an earlier attempt.
///
/// # Errors
/// Returns the errors of [`freeze`].
pub async fn freeze_and_sample(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    (limits, options): (FreezeLimits, SampleOptions),
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let listing =
        ListingConcurrency::default().limited_to(if options.all_metadata { Some(1) } else { limits.concurrency });
    let config =
        FreezeConfig { max_disk: limits.max_disk, max_objects: limits.max_objects, listing, ..FreezeConfig::default() };
    run_freeze(manifest, store, folder, observer, stop, (config, Some(options))).await
}

/// Does the same as [`freeze`], with any sizes of blocks and parts.
pub(super) async fn freeze_with_config(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
    config: FreezeConfig,
) -> Result<FrozenManifest, ManifestError> {
    run_freeze(manifest, store, folder, observer, stop, (config, None)).await.map(|(frozen, _)| frozen)
}

async fn run_freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
    (config, options): (FreezeConfig, Option<SampleOptions>),
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let home = frozen::manifest_folder(folder);
    // The checkpoint does not include the sample, so a sampling pass cannot resume.
    let fingerprint = checkpoint::fingerprint(manifest).filter(|_| options.is_none());
    let place = home.clone();
    let (start, sampling) = run_blocking(move || {
        let start = FreezeStart::load(place, fingerprint, config)?;
        let sampling = options.map(|options| SamplingPass::new(options, Some(start.home.clone()))).transpose()?;
        Ok((start, sampling))
    })
    .await?;
    let (progress, mut seen) = watch::channel(FreezeProgress::default());
    // A listing checks for a stop between pages only, so that the checkpoint ends at a whole page.
    let whole_pages = matches!(manifest.source, ManifestSource::Prefix { .. });
    let token = if whole_pages { CancellationToken::new() } else { stop.clone() };
    let writer = ManifestWriter::new(manifest.filter.clone(), Arc::clone(store), start, progress, token);
    let retrying = RetryingStore::new(Arc::clone(store), stop.clone());
    let mut work = pin!(write_manifest(&manifest.source, &retrying, config.listing, (writer, sampling), &home));
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            Ok(()) = seen.changed() => observer(*seen.borrow_and_update()),
        }
    };
    match done {
        Ok((frozen, sampled)) => {
            observer(FreezeProgress { rows_read: frozen.rows_read(), rows_included: frozen.rows() });
            Ok((frozen, sampled))
        }
        Err(error) => {
            let error = if stop.is_cancelled() { ManifestError::Stopped } else { error };
            // Files that cannot be removed have no index, so they are not taken for a manifest. Report the first error.
            let left = home.clone();
            run_blocking(move || {
                let _ = checkpoint::clean_up_after(&left, &error);
                Err(error)
            })
            .await
        }
    }
}

/// Reads all rows of a source, then writes the index.
async fn write_manifest(
    source: &ManifestSource,
    retrying: &RetryingStore,
    listing: ListingConcurrency,
    (writer, sampling): (ManifestWriter, Option<SamplingPass>),
    home: &Path,
) -> Result<(FrozenManifest, SampleResult), ManifestError> {
    let (writer, sampling, pin) = match sampling {
        None => {
            let (writer, pin) = read_source(source, retrying, listing, writer).await?;
            (writer, None, pin)
        }
        Some(sampling) => {
            let (tee, pin) = read_source(source, retrying, listing, SamplingTee::new(writer, sampling)).await?;
            let (writer, sampling) = tee.into_parts();
            (writer, Some(sampling), pin)
        }
    };
    let (source, home) = (source.clone(), home.to_owned());
    run_blocking(move || {
        let output = writer.finish()?;
        source.reject_empty(output.rows_read)?;
        let sampled = sampling.map(SamplingPass::finish).transpose()?.unwrap_or_default();
        let frozen = FrozenManifest::create(home.clone(), output, pin)?;
        // The manifest is complete: a checkpoint that cannot be removed is ignored.
        let _ = checkpoint::remove(&home);
        Ok((frozen, sampled))
    })
    .await
}

#[cfg(test)]
mod tests;
