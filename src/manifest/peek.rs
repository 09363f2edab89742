//! Reads only the first objects of a manifest: checks that it can be read, and shows what it contains.
//!
//! The sources work as in a freeze, but write to a row writer that stops them early.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batchplan_store::Store;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::filter::ManifestRow;
use super::freeze::{is_unexpectedly_empty, read_source, source_name};
use super::retrying_store::RetryingStore;
use super::row_writer::RowWriter;
use super::spec::{Manifest, ManifestSource};

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

/// Collects the first objects that a row writer receives.
#[derive(Clone)]
pub(super) struct PeekCollector {
    /// The number of objects to collect.
    limit: usize,
    collected: Arc<Mutex<FirstObjects>>,
    pages: Arc<AtomicU32>,
}

impl PeekCollector {
    /// Returns whether reading must stop after this number of rows.
    pub(super) fn row_limit_reached(&self, rows: u64) -> bool {
        let enough = rows >= MAX_ROWS;
        if enough {
            self.lock().rows_read = rows;
        }
        enough
    }

    /// Counts a page of a listing. Returns whether reading must stop.
    pub(super) fn count_page(&self, rows: u64) -> bool {
        let enough = self.pages.fetch_add(1, Ordering::Relaxed) >= MAX_PAGES;
        if enough {
            self.lock().rows_read = rows;
        }
        enough
    }

    /// Adds an object that the filter includes. Returns whether there are enough now.
    pub(super) fn add(&self, row: &ManifestRow<'_>, read: u64) -> bool {
        let version = row.version.map(VersionId::new);
        let mut glanced = self.lock();
        glanced.objects.push(ObjectId { bucket: BucketName::new(row.bucket), key: ObjectKey::new(row.key), version });
        glanced.rows_read = read;
        glanced.objects.len() >= self.limit
    }

    fn lock(&self) -> MutexGuard<'_, FirstObjects> {
        // The value is consistent at every moment, so a poisoned lock can be ignored.
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manifest {
    /// Reads the manifest until the filter has included `most` objects, or some thousand rows have been read. Writes
    /// no files, except an unnamed temporary file for the data of a Parquet or ORC inventory.
    ///
    /// # Errors
    /// Returns the errors that [`freeze`](super::freeze()) would return up to that point.
    pub async fn peek(
        &self,
        store: &Arc<dyn Store>,
        most: usize,
        stop: &CancellationToken,
    ) -> Result<FirstObjects, ManifestError> {
        let glance = PeekCollector { limit: most, collected: Arc::default(), pages: Arc::default() };
        let sink = RowWriter::for_peek(self.filter.clone(), Arc::clone(store), glance.clone());
        let patient = RetryingStore::new(Arc::clone(store), stop.clone());
        match read_source(&self.source, &patient, sink).await {
            Ok((sink, _)) if is_unexpectedly_empty(&self.source, sink.rows_read()) => {
                Err(ManifestError::Empty { place: source_name(&self.source) })
            }
            Ok((sink, _)) => Ok(FirstObjects { rows_read: sink.rows_read(), complete: true, ..glance.lock().clone() }),
            Err(ManifestError::Stopped) if !stop.is_cancelled() => Ok(glance.lock().clone()),
            Err(error) => Err(error),
        }
    }
}

impl ManifestSource {
    /// Returns the name of the source for messages.
    #[must_use]
    pub fn name(&self) -> String {
        source_name(self)
    }
}

#[cfg(test)]
mod tests;
