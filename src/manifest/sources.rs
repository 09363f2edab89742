//! Reads the source of a manifest, whichever it is: all of it, or only its first objects, to check that it can be read
//! and to show what it contains.

use std::sync::Arc;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::{Mutex, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, object_path};
use super::filter::ManifestRow;
use super::pins::SourcePin;
use super::prefix::{self, ListingConcurrency};
use super::retrying_store::RetryingStore;
use super::row_visitor::{ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::spec::{FileLocation, InventorySelector, Manifest, ManifestSource};
use super::{changes, csv, inventory, report, retry, succeeded, undo};
use crate::paths::show_path;

/// Passes all rows of a source to the visitor.
pub(super) async fn read_source<V: RowVisitor>(
    source: &ManifestSource,
    retrying: &RetryingStore,
    listing: ListingConcurrency,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    Ok(match source {
        ManifestSource::Prefix { bucket, prefix, versions, on_unlistable } => {
            let rules = (*versions, *on_unlistable);
            (prefix::list(bucket, prefix, rules, retrying, listing, visitor).await?, SourcePin::Listing)
        }
        ManifestSource::Csv { location, fields, plus_is_space } => {
            csv::read(location, fields, *plus_is_space, retrying, visitor).await?
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Changed(changes), dialect } => {
            Box::pin(changes::read(bucket, changes, *dialect, retrying, visitor)).await?
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Distinct { key, etag }, dialect } => {
            Box::pin(changes::read_distinct(bucket, (key, etag), *dialect, retrying, visitor)).await?
        }
        ManifestSource::Inventory { bucket, selector, dialect } => {
            inventory::read_inventory(bucket, selector, *dialect, retrying, visitor).await?
        }
        ManifestSource::Report { location, row_filter } => {
            report::read(location, row_filter, retrying, visitor).await?
        }
        ManifestSource::Retry { failed, unfinished } => {
            (retry::read(failed, unfinished.as_ref(), retrying, visitor).await?, SourcePin::Listing)
        }
        ManifestSource::Succeeded { settled, failed } => {
            (Box::pin(succeeded::read(settled, failed, retrying, visitor)).await?, SourcePin::Listing)
        }
        ManifestSource::Undo(job) => (Box::pin(undo::read(job, retrying, visitor)).await?, SourcePin::Listing),
    })
}

impl ManifestSource {
    /// Returns the name of the source for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Prefix { bucket, prefix, .. } => format!("the listing of {}", object_path(bucket, prefix)),
            Self::Csv { location, .. } | Self::Report { location, .. } => match location {
                FileLocation::Local(path) => show_path(path).to_string(),
                FileLocation::Object { bucket, key, .. } => object_path(bucket, key),
            },
            Self::Inventory { bucket, selector, .. } => match selector {
                InventorySelector::Exact { key, .. } | InventorySelector::Distinct { key, .. } => {
                    object_path(bucket, key)
                }
                InventorySelector::Changed(changes) => object_path(bucket, &changes.key),
                InventorySelector::Latest { prefix } => {
                    format!("the newest inventory in {}", object_path(bucket, prefix))
                }
            },
            Self::Retry { .. } => "the objects that the first job left".to_owned(),
            Self::Succeeded { .. } => "the objects that the job reported as succeeded".to_owned(),
            Self::Undo(_) => "the objects that the job changed".to_owned(),
        }
    }
}

/// The maximum number of rows to read until the filter includes enough of them: five pages of a listing.
const MAX_ROWS: u64 = 5000;

/// The maximum number of listing pages to read: pages may be empty if delete markers precede the first object.
const MAX_PAGES: u32 = 100;

/// The first objects of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstObjects {
    /// The first objects that the filter includes.
    pub objects: Vec<ObjectId>,
    /// The number of rows that were read to find them.
    pub rows_read: u64,
    /// Whether these are all objects of the manifest.
    pub complete: bool,
}

/// Collects the first objects, and writes no files.
struct FirstObjectCollector {
    intake: RowIntake,
    /// The number of objects to collect.
    limit: usize,
    pages: u32,
    /// Shared, because a source that is stopped does not return its visitor.
    collected: Arc<Mutex<FirstObjects>>,
}

impl FirstObjectCollector {
    /// Ends reading, and records how many rows were read.
    fn stop(&self) -> RowFlow {
        self.collected.lock().rows_read = self.intake.rows_read();
        RowFlow::Stop
    }
}

impl RowVisitor for FirstObjectCollector {
    fn intake(&self) -> &RowIntake {
        &self.intake
    }

    fn intake_mut(&mut self) -> &mut RowIntake {
        &mut self.intake
    }

    fn count_row(&mut self) -> Result<RowFlow, ManifestError> {
        if self.intake.rows_read() >= MAX_ROWS {
            return Ok(self.stop());
        }
        self.intake.count_row()?;
        Ok(RowFlow::Continue)
    }

    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        let version = row.version.map(VersionId::new);
        let object = ObjectId { bucket: BucketName::new(row.bucket), key: ObjectKey::new(row.key), version };
        let mut collected = self.collected.lock();
        collected.objects.push(object);
        collected.rows_read = self.intake.rows_read();
        Ok(if collected.objects.len() >= self.limit { RowFlow::Stop } else { RowFlow::Continue })
    }

    /// Such an object cannot be shown or checked.
    fn include_unlistable(&mut self, _: &ManifestRow<'_>, _: &str) -> Result<RowFlow, ManifestError> {
        Ok(RowFlow::Continue)
    }

    fn count_page(&mut self) -> RowFlow {
        self.pages += 1;
        if self.pages > MAX_PAGES { self.stop() } else { RowFlow::Continue }
    }

    fn needs_all_rows(&self) -> bool {
        false
    }

    fn scratch(&self) -> ScratchSpace {
        ScratchSpace::default()
    }
}

impl ResumableReading for FirstObjectCollector {}

impl Manifest {
    /// Reads the manifest until the filter has included `most` objects, or some thousand rows have been read. Writes
    /// no files, except an unnamed temporary file for the data of a Parquet or ORC inventory.
    ///
    /// # Errors
    /// Returns the errors that [`freeze`](super::freeze()) would return up to that point.
    pub async fn peek(
        &self,
        store: &Arc<dyn Store>,
        limit: usize,
        stop: &CancellationToken,
    ) -> Result<FirstObjects, ManifestError> {
        let collected = Arc::<Mutex<FirstObjects>>::default();
        let (filter, progress) = (self.filter.clone(), watch::Sender::default());
        let intake = RowIntake::new(filter, Arc::clone(store), progress, CancellationToken::new());
        let collector = FirstObjectCollector { intake, limit, pages: 0, collected: Arc::clone(&collected) };
        let retrying = RetryingStore::new(Arc::clone(store), stop.clone());
        let listing = ListingConcurrency::default().limited_to(Some(1));
        match read_source(&self.source, &retrying, listing, collector).await {
            Ok((collector, _)) => {
                let rows_read = collector.intake.rows_read();
                self.source.reject_empty(rows_read)?;
                Ok(FirstObjects { rows_read, complete: true, ..collected.lock().clone() })
            }
            Err(ManifestError::Stopped) if !stop.is_cancelled() => Ok(collected.lock().clone()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
