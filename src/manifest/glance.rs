//! Reads only the first objects of a manifest: checks that it can be read, and shows what it contains.
//!
//! The sources work as in a freeze, but write to a row writer that stops them early.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::filter::Row;
use super::freeze::{is_empty, name_of, rows};
use super::patient::Patient;
use super::sink::Sink;
use super::spec::{Manifest, Source};
use crate::object::{Bucket, Key, ObjectId, VersionId};
use crate::store::Store;

/// The maximum number of rows to read until the filter includes enough of them: five pages of a listing.
const MOST_ROWS: u64 = 5000;

/// The maximum number of listing pages to read: pages may be empty if delete markers precede the first object.
const MOST_PAGES: u32 = 100;

/// The first objects of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glanced {
    /// The first objects that the filter includes.
    pub objects: Vec<ObjectId>,
    /// The number of rows that were read to find them.
    pub read: u64,
    /// Whether these are all objects of the manifest.
    pub whole: bool,
}

/// Collects the first objects that a row writer receives.
#[derive(Clone)]
pub(super) struct Glance {
    /// The number of objects to collect.
    most: usize,
    found: Arc<Mutex<Glanced>>,
    pages: Arc<AtomicU32>,
}

impl Glance {
    /// Returns whether reading must stop after this number of rows.
    pub(super) fn has_seen(&self, rows: u64) -> bool {
        let enough = rows >= MOST_ROWS;
        if enough {
            self.locked().read = rows;
        }
        enough
    }

    /// Counts a page of a listing. Returns whether reading must stop.
    pub(super) fn has_read_page(&self, rows: u64) -> bool {
        let enough = self.pages.fetch_add(1, Ordering::Relaxed) >= MOST_PAGES;
        if enough {
            self.locked().read = rows;
        }
        enough
    }

    /// Adds an object that the filter includes. Returns whether there are enough now.
    pub(super) fn found(&self, row: &Row<'_>, read: u64) -> bool {
        let version = row.version.map(VersionId::new);
        let mut glanced = self.locked();
        glanced.objects.push(ObjectId { bucket: Bucket::new(row.bucket), key: Key::new(row.key), version });
        glanced.read = read;
        glanced.objects.len() >= self.most
    }

    fn locked(&self) -> MutexGuard<'_, Glanced> {
        // The value is consistent at every moment, so a poisoned lock can be ignored.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manifest {
    /// Reads the manifest until the filter has included `most` objects, or some thousand rows have been read. Writes no
    /// files, except an unnamed temporary file for the data of a Parquet or ORC inventory.
    ///
    /// # Errors
    /// Returns the errors that [`freeze`](super::freeze()) would return up to that point.
    pub async fn glance(
        &self,
        store: &Arc<dyn Store>,
        most: usize,
        stop: &CancellationToken,
    ) -> Result<Glanced, ManifestError> {
        let glance = Glance { most, found: Arc::default(), pages: Arc::default() };
        let sink = Sink::glancing(self.filter.clone(), Arc::clone(store), glance.clone());
        let patient = Patient::new(Arc::clone(store), stop.clone());
        match rows(&self.source, &patient, sink).await {
            Ok((sink, _)) if is_empty(&self.source, sink.read()) => {
                Err(ManifestError::Empty { place: name_of(&self.source) })
            }
            Ok((sink, _)) => Ok(Glanced { read: sink.read(), whole: true, ..glance.locked().clone() }),
            Err(ManifestError::Stopped) if !stop.is_cancelled() => Ok(glance.locked().clone()),
            Err(error) => Err(error),
        }
    }
}

impl Source {
    /// Returns the name of the source for messages.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self)
    }
}

#[cfg(test)]
mod tests;
