//! Freezes a source: turns it into a frozen manifest.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::begin::{self, Begun, Sizes};
use super::error::{ManifestError, place};
use super::frozen::{self, Frozen, Pin};
use super::input::blocking;
use super::order::lanes_for;
use super::patient::Patient;
use super::prefix::Spread;
use super::sink::{Drained, Prepared, Sink};
use super::spec::{CsvPlace, InventoryObject, Manifest, Source};
use super::survey::{Survey, Surveyed, Wish};
use super::{changes, csv, draft, index, inventory, prefix, report, retry};
use crate::store::Store;

/// The limits of a freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
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
/// Removes a finished manifest in the folder: call [`Frozen::open`] first to reuse it.
///
/// If the filter excludes all rows, the frozen manifest has no rows. A source without rows is an error, unless the
/// source is a report or a retry.
///
/// # Errors
/// Returns an error if the source cannot be read, is not the one that the plan pins, or has rows that name no valid
/// object (one error reports all of them), if a limit in `bounds` is exceeded, or if the disk is full. If another
/// attempt may succeed, the files are kept for it; otherwise they are removed.
pub async fn freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    bounds: Bounds,
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
) -> Result<Frozen, ManifestError> {
    let spread = Spread::default().within(bounds.concurrency);
    let sizes = Sizes { max_disk: bounds.max_disk, max_objects: bounds.max_objects, spread, ..Sizes::default() };
    freeze_with(manifest, store, folder, observer, stop, sizes).await
}

/// Does the same as [`freeze`], and also collects a sample of the objects. Does not resume an earlier attempt.
///
/// # Errors
/// Returns the errors of [`freeze`].
pub async fn survey(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    (bounds, wish): (Bounds, Wish),
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
) -> Result<(Frozen, Surveyed), ManifestError> {
    let spread = Spread::default().within(if wish.every { Some(1) } else { bounds.concurrency });
    let sizes = Sizes { max_disk: bounds.max_disk, max_objects: bounds.max_objects, spread, ..Sizes::default() };
    freeze_and(manifest, store, folder, observer, stop, (sizes, Some(wish))).await
}

/// Does the same as [`freeze`], with any sizes of blocks and parts.
pub(super) async fn freeze_with(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
    sizes: Sizes,
) -> Result<Frozen, ManifestError> {
    freeze_and(manifest, store, folder, observer, stop, (sizes, None)).await.map(|(frozen, _)| frozen)
}

async fn freeze_and(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
    (sizes, wish): (Sizes, Option<Wish>),
) -> Result<(Frozen, Surveyed), ManifestError> {
    let home = frozen::home(folder);
    // The checkpoint does not include the sample, so a sampling pass cannot resume.
    let fingerprint = draft::fingerprint(manifest).filter(|_| wish.is_none());
    let place = home.clone();
    let (begun, survey) = blocking(move || {
        let begun = Begun::new(place, fingerprint, sizes)?;
        let survey = wish.map(|wish| Survey::new(wish, &begun.home)).transpose()?;
        Ok((begun, survey))
    })
    .await?;
    let (progress, mut seen) = watch::channel(Prepared::default());
    // A listing checks for a stop between pages only, so that the checkpoint ends at a whole page.
    let whole_pages = matches!(manifest.source, Source::Prefix { .. });
    let token = if whole_pages { CancellationToken::new() } else { stop.clone() };
    let sink = Sink::new(manifest.filter.clone(), Arc::clone(store), begun, progress, token, survey);
    let patient = Patient::new(Arc::clone(store), stop.clone());
    let mut work = pin!(draw(&manifest.source, &patient, sink, &home));
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            Ok(()) = seen.changed() => observer(*seen.borrow_and_update()),
        }
    };
    match done {
        Ok((frozen, surveyed)) => {
            observer(Prepared { read: frozen.rows_read(), taken: frozen.rows() });
            Ok((frozen, surveyed))
        }
        Err(error) => {
            let error = if stop.is_cancelled() { ManifestError::Stopped } else { error };
            // Files that cannot be removed have no index, so they are not taken for a manifest. Report the first error.
            let left = home.clone();
            blocking(move || {
                let _ = begin::leave(&left, &error);
                Err(error)
            })
            .await
        }
    }
}

/// Reads all rows of a source, then writes the index.
async fn draw(
    source: &Source,
    patient: &Patient,
    sink: Sink,
    home: &Path,
) -> Result<(Frozen, Surveyed), ManifestError> {
    let (sink, pin) = rows(source, patient, sink).await?;
    let names_some = is_empty(source, 0);
    let (name, home) = (name_of(source), home.to_owned());
    blocking(move || {
        let Drained { parts, read, warnings, reach, census, survey } = sink.finish()?;
        if read == 0 && names_some {
            return Err(ManifestError::Empty { place: name });
        }
        let lanes = lanes_for(parts.iter().map(|part| u64::from(part.rows)).sum());
        let surveyed = survey.map(Survey::finish).transpose()?.unwrap_or_default();
        let census = Some(Box::new(census));
        let frozen = Frozen { folder: home, read, parts, pin, warnings, reach, census, lanes, proven: true };
        index::save(&frozen)?;
        // The manifest is complete: a checkpoint that cannot be removed is ignored.
        let _ = draft::remove(&frozen.folder);
        Ok((frozen, surveyed))
    })
    .await
}

/// Reads all rows of a source.
pub(super) async fn rows(source: &Source, patient: &Patient, sink: Sink) -> Result<(Sink, Pin), ManifestError> {
    Ok(match source {
        Source::Prefix { bucket, prefix, versions } => {
            (prefix::list(bucket, prefix, *versions, patient, sink).await?, Pin::Listing)
        }
        Source::Csv { place, fields, plus_is_space } => csv::read(place, fields, *plus_is_space, patient, sink).await?,
        Source::Inventory { bucket, object: InventoryObject::Changed(changes), dialect } => {
            Box::pin(changes::read(bucket, changes, *dialect, patient, sink)).await?
        }
        Source::Inventory { bucket, object: InventoryObject::Once { key, etag }, dialect } => {
            Box::pin(changes::read_once(bucket, (key, etag), *dialect, patient, sink)).await?
        }
        Source::Inventory { bucket, object, dialect } => {
            inventory::read(bucket, object, *dialect, patient, sink).await?
        }
        Source::Report { place, narrowing } => report::read(place, narrowing, patient, sink).await?,
        Source::Retry { failed, rest } => (retry::read(failed, rest.as_ref(), patient, sink).await?, Pin::Listing),
    })
}

/// Returns whether a source with this number of rows is likely a mistake. Reports and retries may be empty: all is
/// done.
pub(super) fn is_empty(source: &Source, read: u64) -> bool {
    read == 0 && !matches!(source, Source::Report { .. } | Source::Retry { .. })
}

/// Returns the name of a source for messages.
pub(super) fn name_of(source: &Source) -> String {
    match source {
        Source::Prefix { bucket, prefix, .. } => format!("the listing of {}", place(bucket, prefix)),
        Source::Csv { place: file, .. } | Source::Report { place: file, .. } => match file {
            CsvPlace::Local(path) => path.display().to_string(),
            CsvPlace::Object { bucket, key, .. } => place(bucket, key),
        },
        Source::Inventory { bucket, object, .. } => match object {
            InventoryObject::Exact { key, .. } | InventoryObject::Once { key, .. } => place(bucket, key),
            InventoryObject::Changed(changes) => place(bucket, &changes.key),
            InventoryObject::Latest { prefix } => format!("the newest inventory in {}", place(bucket, prefix)),
        },
        Source::Retry { .. } => "what the first job left".to_owned(),
    }
}

#[cfg(test)]
mod tests;
