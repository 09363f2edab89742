//! One source into one frozen manifest.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, place};
use super::frozen::{self, Frozen, Pin};
use super::input::blocking;
use super::part::{Limits, PartsWriter};
use super::patient::Patient;
use super::sink::{Prepared, Sink};
use super::spec::{CsvPlace, InventoryObject, Manifest, Source};
use super::{csv, index, inventory, prefix, report, retry};
use crate::store::Store;

/// Reads a manifest's source to its end and freezes what the filter takes into `manifest/` of the job's folder.
///
/// Needs a tokio runtime with its clock enabled; a `current_thread` one is enough. `observer` is told of progress now
/// and then, on the caller's thread.
///
/// What was frozen there before is removed: [`Frozen::open`] it first, if it may be wanted.
///
/// A filter that takes nothing gives a frozen manifest without rows; a source without rows is an error,
/// unless it is what an earlier job left.
///
/// # Errors
/// The source cannot be read, is not what the plan pins, or has rows that name no object: all of them are in the one
/// error. Nothing is left behind but files without an index, which the next attempt removes.
pub async fn freeze(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
) -> Result<Frozen, ManifestError> {
    freeze_with(manifest, store, folder, observer, stop, Limits::default()).await
}

/// As [`freeze`], with blocks and parts of any size.
pub(super) async fn freeze_with(
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    observer: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
    limits: Limits,
) -> Result<Frozen, ManifestError> {
    let home = frozen::home(folder);
    let place = home.clone();
    blocking(move || frozen::clear(&place)).await?;
    let (progress, mut seen) = watch::channel(Prepared::default());
    let writer = PartsWriter::new(&home, limits);
    let sink = Sink::new(manifest.filter.clone(), Arc::clone(store), writer, progress, stop.clone());
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
        Ok(frozen) => {
            observer(Prepared { read: frozen.rows_read(), taken: frozen.rows() });
            Ok(frozen)
        }
        Err(error) => {
            // Frees the disk; what cannot be removed has no index and is nobody's manifest, so the first error stands.
            let left = home.clone();
            let _ = blocking(move || frozen::clear(&left)).await;
            Err(if stop.is_cancelled() { ManifestError::Stopped } else { error })
        }
    }
}

/// Draws all rows out of a source, and writes the index behind them.
async fn draw(source: &Source, patient: &Patient, sink: Sink, home: &Path) -> Result<Frozen, ManifestError> {
    let (sink, pin) = match source {
        Source::Prefix { bucket, prefix, versions } => {
            (prefix::list(bucket, prefix, *versions, patient, sink).await?, Pin::Listing)
        }
        Source::Csv { place, fields, plus_is_space } => csv::read(place, fields, *plus_is_space, patient, sink).await?,
        Source::Inventory { bucket, object, dialect } => {
            inventory::read(bucket, object, *dialect, patient, sink).await?
        }
        Source::Report { place, narrowing } => report::read(place, narrowing, patient, sink).await?,
        Source::Retry { failed, rest } => (retry::read(failed, rest.as_ref(), patient, sink).await?, Pin::Listing),
    };
    // Nothing left to do is good news of an earlier job, and a likely mistake anywhere else.
    let may_be_empty = matches!(source, Source::Report { .. } | Source::Retry { .. });
    let (name, home) = (name_of(source), home.to_owned());
    blocking(move || {
        let drained = sink.finish()?;
        if drained.read == 0 && !may_be_empty {
            return Err(ManifestError::Empty { place: name });
        }
        let frozen = Frozen { folder: home, read: drained.read, parts: drained.parts, pin, warnings: drained.warnings };
        index::save(&frozen)?;
        Ok(frozen)
    })
    .await
}

/// How messages name a source.
fn name_of(source: &Source) -> String {
    match source {
        Source::Prefix { bucket, prefix, .. } => format!("the listing of {}", place(bucket, prefix)),
        Source::Csv { place: file, .. } | Source::Report { place: file, .. } => match file {
            CsvPlace::Local(path) => path.display().to_string(),
            CsvPlace::Object { bucket, key, .. } => place(bucket, key),
        },
        Source::Inventory { bucket, object, .. } => match object {
            InventoryObject::Exact { key, .. } => place(bucket, key),
            InventoryObject::Latest { prefix } => format!("the newest inventory in {}", place(bucket, prefix)),
        },
        Source::Retry { .. } => "what the first job left".to_owned(),
    }
}
