//! A look at a manifest's first object, without reading the rest: whether it can be read at all, and what it is about.
//!
//! The sources read as they do when they are frozen, into a sink that stops them.

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

/// Rows that are read to find one that the filter takes: five pages of a listing.
const MOST_ROWS: u64 = 5000;

/// What a glance at a manifest showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glanced {
    /// The first object that the filter takes, if one was found.
    pub first: Option<ObjectId>,
    /// Rows that were read for it.
    pub read: u64,
    /// Whether these are all that there are.
    pub whole: bool,
}

/// Where a sink leaves what it found.
#[derive(Clone, Default)]
pub(super) struct Glance(Arc<Mutex<Glanced>>);

impl Glance {
    /// Whether so many rows are enough.
    pub(super) fn has_seen(&self, rows: u64) -> bool {
        let enough = rows >= MOST_ROWS;
        if enough {
            self.locked().read = rows;
        }
        enough
    }

    /// This row is the first.
    pub(super) fn found(&self, row: &Row<'_>, read: u64) {
        let version = row.version.map(VersionId::new);
        let first = ObjectId { bucket: Bucket::new(row.bucket), key: Key::new(row.key), version };
        *self.locked() = Glanced { first: Some(first), read, whole: false };
    }

    fn locked(&self) -> MutexGuard<'_, Glanced> {
        // What is kept is whole at every moment, so that a poisoned lock is as good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manifest {
    /// Reads it up to the first object that its filter takes, and no further than some thousand rows. Nothing is written
    /// anywhere, but for a file without a name that an inventory's data is fetched into where it is Parquet or ORC.
    ///
    /// # Errors
    /// As [`freeze`](super::freeze()) would meet them that far.
    pub async fn glance(&self, store: &Arc<dyn Store>, stop: &CancellationToken) -> Result<Glanced, ManifestError> {
        let glance = Glance::default();
        let sink = Sink::glancing(self.filter.clone(), Arc::clone(store), glance.clone());
        let patient = Patient::new(Arc::clone(store), stop.clone());
        match rows(&self.source, &patient, sink).await {
            Ok((sink, _)) if is_empty(&self.source, sink.read()) => {
                Err(ManifestError::Empty { place: name_of(&self.source) })
            }
            Ok((sink, _)) => Ok(Glanced { first: None, read: sink.read(), whole: true }),
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
