//! A look at a manifest's first objects, without reading the rest: whether it can be read at all, and what it is about.
//!
//! The sources read as they do when they are frozen, into a sink that stops them.

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

/// Rows that are read to find those that the filter takes: five pages of a listing.
const MOST_ROWS: u64 = 5000;

/// Pages of a listing that are read for them: most may be empty where delete markers lie before the first object.
const MOST_PAGES: u32 = 100;

/// What a glance at a manifest showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glanced {
    /// The first objects that the filter takes.
    pub objects: Vec<ObjectId>,
    /// Rows that were read for them.
    pub read: u64,
    /// Whether these are all that there are.
    pub whole: bool,
}

/// Where a sink leaves what it found.
#[derive(Clone)]
pub(super) struct Glance {
    /// As many objects are enough.
    most: usize,
    found: Arc<Mutex<Glanced>>,
    pages: Arc<AtomicU32>,
}

impl Glance {
    /// Whether so many rows are enough.
    pub(super) fn has_seen(&self, rows: u64) -> bool {
        let enough = rows >= MOST_ROWS;
        if enough {
            self.locked().read = rows;
        }
        enough
    }

    /// A page of a listing was read. Whether there were enough.
    pub(super) fn has_read_page(&self, rows: u64) -> bool {
        let enough = self.pages.fetch_add(1, Ordering::Relaxed) >= MOST_PAGES;
        if enough {
            self.locked().read = rows;
        }
        enough
    }

    /// The filter takes this row. Whether that is enough.
    pub(super) fn found(&self, row: &Row<'_>, read: u64) -> bool {
        let version = row.version.map(VersionId::new);
        let mut glanced = self.locked();
        glanced.objects.push(ObjectId { bucket: Bucket::new(row.bucket), key: Key::new(row.key), version });
        glanced.read = read;
        glanced.objects.len() >= self.most
    }

    fn locked(&self) -> MutexGuard<'_, Glanced> {
        // What is kept is whole at every moment, so that a poisoned lock is as good.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manifest {
    /// Reads it up to as many objects that its filter takes, and no further than some thousand rows. Nothing is written
    /// anywhere, but for a file without a name that an inventory's data is fetched into where it is Parquet or ORC.
    ///
    /// # Errors
    /// As [`freeze`](super::freeze()) would meet them that far.
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
    /// How messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self)
    }
}

#[cfg(test)]
mod tests;
