//! One source into one frozen manifest.

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

/// What freezing may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes on disk for the frozen names, and beside them for the data file of an inventory that cannot be read
    /// as it comes; `None` is no limit.
    pub max_disk: Option<u64>,
    /// The most objects; `None` is no limit.
    pub max_objects: Option<u64>,
    /// The most listing requests at once; `None`, and more than that, are 16.
    pub concurrency: Option<u32>,
}

/// Reads a manifest's source to its end and freezes what the filter takes into `manifest/` of the job's folder.
///
/// Needs a tokio runtime with its clock enabled; a `current_thread` one is enough. `observer` is told of progress now
/// and then, on the caller's thread.
///
/// What an unfinished attempt at the same source and filter left in the folder is gone on with, whatever ended it: the
/// stop token, a dropped future, a killed process. A listing goes on at most 64 pages back in each of its ranges, and an
/// inventory behind its last data files; should the inventory have changed, everything is read anew. A CSV file is always
/// read from its beginning: it is one pinned file. Two attempts must not run in one folder at a time, and a dropped
/// future may have a thread at work until its runtime is gone.
///
/// A finished manifest that is there is removed: [`Frozen::open`] it first, if it may be wanted.
///
/// A filter that takes nothing gives a frozen manifest without rows; a source without rows is an error,
/// unless it is what an earlier job left.
///
/// # Errors
/// The source cannot be read, is not what the plan pins, or has rows that name no object: all of them are in the one
/// error. There are more objects, or their names would take more, than the bounds allow, or the disk is full. After an
/// error that another attempt may not meet, what was frozen is left for that attempt; after any other, nothing is.
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

/// As [`freeze`], and looks at the objects on the way. What an earlier attempt left is not gone on with.
///
/// # Errors
/// As [`freeze`].
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

/// As [`freeze`], with blocks and parts of any size.
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
    // What a survey has seen of a first attempt is not kept with it.
    let fingerprint = draft::fingerprint(manifest).filter(|_| wish.is_none());
    let place = home.clone();
    let (begun, survey) = blocking(move || {
        let begun = Begun::new(place, fingerprint, sizes)?;
        let survey = wish.map(|wish| Survey::new(wish, &begun.home)).transpose()?;
        Ok((begun, survey))
    })
    .await?;
    let (progress, mut seen) = watch::channel(Prepared::default());
    // A listing stops between its pages, so that what was taken is kept to the last whole one.
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
            // What cannot be removed has no index and is nobody's manifest, so the first error stands.
            let left = home.clone();
            blocking(move || {
                let _ = begin::leave(&left, &error);
                Err(error)
            })
            .await
        }
    }
}

/// Draws all rows out of a source, and writes the index behind them.
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
        // The manifest is whole: a draft that stays is looked at by nobody.
        let _ = draft::remove(&frozen.folder);
        Ok((frozen, surveyed))
    })
    .await
}

/// Draws all rows out of a source.
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

/// Whether a source of so many rows is taken for a mistake. Nothing left to do is good news of an earlier job.
pub(super) fn is_empty(source: &Source, read: u64) -> bool {
    read == 0 && !matches!(source, Source::Report { .. } | Source::Retry { .. })
}

/// How messages name a source.
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
