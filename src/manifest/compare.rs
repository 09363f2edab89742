//! Compares two frozen manifests by the names in them, which are read in order and without duplicates. The changes
//! between two inventories, which also depend on `ETag` and date, are found in `changes.rs`.
//!
//! A listing is sorted already and is read in place. Other manifests are sorted on disk first.

use std::cmp::Ordering;
use std::path::Path;
use std::vec;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::{Task, TaskId};
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::frozen::{FrozenManifest, ManifestTasks};
use super::sort::{ExternalSorter, SortBudget, SortedRecords, VERSION_MARK, put_text, take_text};

/// The number of example objects per kind of difference.
const MAX_EXAMPLES: usize = 5;

/// The objects that only one of two manifests names. An object that a manifest names twice counts once; another version
/// of an object counts as another object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestDifference {
    /// The number of objects that only the new manifest names.
    pub added: u64,
    /// The number of objects that only the old manifest names.
    pub removed: u64,
    /// The first five added objects, in the order of bucket, key and version.
    pub added_examples: Vec<ObjectId>,
    /// The first five objects that are gone, in the same order.
    pub removed_examples: Vec<ObjectId>,
}

/// Compares two manifests of any size with some tens of megabytes of memory. A manifest that is not in name order is
/// sorted first, with temporary files in the folder `scratch` of up to about twice the size of its names. The files are
/// removed before this returns.
///
/// Reads files and decompresses: call it on a thread that may block.
///
/// # Errors
/// Returns an error if a part of a manifest is missing or damaged, if the folder cannot be written to, or if the stop
/// token is cancelled.
pub fn compare_manifests(
    old: &FrozenManifest,
    new: &FrozenManifest,
    scratch: &Path,
    stop: &CancellationToken,
) -> Result<ManifestDifference, ManifestError> {
    compare_with_budget(SortBudget::default(), old, new, scratch, stop)
}

fn compare_with_budget(
    sort_budget: SortBudget,
    old: &FrozenManifest,
    new: &FrozenManifest,
    scratch: &Path,
    stop: &CancellationToken,
) -> Result<ManifestDifference, ManifestError> {
    let mut old = SortedNames::new(old, scratch, sort_budget, stop)?;
    let mut new = SortedNames::new(new, scratch, sort_budget, stop)?;
    let mut found = ManifestDifference::default();
    let (mut in_old, mut in_new) = (old.advance()?, new.advance()?);
    while in_old || in_new {
        let order = match (in_old, in_new) {
            (true, true) => old.name().cmp(new.name()),
            (true, false) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Less => record_difference(&old, &mut found.removed, &mut found.removed_examples),
            Ordering::Greater => record_difference(&new, &mut found.added, &mut found.added_examples),
            Ordering::Equal => {}
        }
        if order.is_le() {
            in_old = old.advance()?;
        }
        if order.is_ge() {
            in_new = new.advance()?;
        }
    }
    Ok(found)
}

fn record_difference(names: &SortedNames, count: &mut u64, examples: &mut Vec<ObjectId>) {
    *count += 1;
    if examples.len() < MAX_EXAMPLES {
        examples.push(names.object());
    }
}

/// The number of rows read at once, and between two checks of the stop token.
const BATCH: usize = 4096;

/// Iterates over names in ascending order. Unusable after an error.
///
/// Reads files and decompresses: use it on a thread that may block.
struct SortedNames(NameSource);

enum NameSource {
    InPlace { rows: Box<FrozenObjects>, name: Vec<u8>, next: Vec<u8> },
    Sorted(SortedRecords),
}

impl SortedNames {
    /// Reads a manifest. If it has to be sorted, puts temporary files in `scratch` until this value is dropped.
    fn new(
        frozen: &FrozenManifest,
        scratch: &Path,
        sort_budget: SortBudget,
        stop: &CancellationToken,
    ) -> Result<Self, ManifestError> {
        if is_sorted(frozen, stop)? {
            return Ok(Self(NameSource::InPlace {
                rows: Box::new(FrozenObjects::new(frozen, stop)),
                name: Vec::new(),
                next: Vec::new(),
            }));
        }
        let mut sorter = ExternalSorter::new(scratch, sort_budget, stop);
        let mut rows = FrozenObjects::new(frozen, stop);
        let mut name = Vec::new();
        while let Some(object) = rows.next()? {
            encode_name(&object, &mut name);
            sorter.push(&name)?;
        }
        Ok(Self(NameSource::Sorted(sorter.finish()?)))
    }

    /// Advances to the next name, initially to the first. Returns `false` at the end.
    fn advance(&mut self) -> Result<bool, ManifestError> {
        match &mut self.0 {
            NameSource::InPlace { rows, name, next } => {
                while let Some(object) = rows.next()? {
                    encode_name(&object, next);
                    if name != next {
                        std::mem::swap(name, next);
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            NameSource::Sorted(sorted) => sorted.advance(),
        }
    }

    /// Returns the current name, encoded so that its bytes sort like names.
    fn name(&self) -> &[u8] {
        match &self.0 {
            NameSource::InPlace { name, .. } => name,
            NameSource::Sorted(sorted) => sorted.record(),
        }
    }

    fn object(&self) -> ObjectId {
        decode_name(self.name())
    }
}

/// Returns whether the rows are sorted by name. Stops reading at the first row that is out of order.
fn is_sorted(frozen: &FrozenManifest, stop: &CancellationToken) -> Result<bool, ManifestError> {
    let mut rows = FrozenObjects::new(frozen, stop);
    let mut last = None;
    while let Some(object) = rows.next()? {
        if last.as_ref().is_some_and(|last| object < *last) {
            return Ok(false);
        }
        last = Some(object);
    }
    Ok(true)
}

/// The objects of a manifest, row by row.
struct FrozenObjects {
    batches: ManifestTasks,
    batch: vec::IntoIter<Task>,
    stop: CancellationToken,
}

impl FrozenObjects {
    fn new(frozen: &FrozenManifest, stop: &CancellationToken) -> Self {
        let batches = frozen.tasks(TaskId { part: 0, row: 0 }, BATCH);
        Self { batches, batch: Vec::new().into_iter(), stop: stop.clone() }
    }

    fn next(&mut self) -> Result<Option<ObjectId>, ManifestError> {
        loop {
            if let Some(task) = self.batch.next() {
                return Ok(Some(task.object));
            }
            if self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
            self.batch = batch.into_iter();
        }
    }
}

/// Encodes a name as bytes that sort like names. The result is never empty.
fn encode_name(object: &ObjectId, out: &mut Vec<u8>) {
    out.clear();
    put_text(out, object.bucket.as_str().as_bytes());
    put_text(out, object.key.as_bytes());
    if let Some(version) = &object.version {
        out.push(VERSION_MARK);
        out.extend_from_slice(version.as_str().as_bytes());
    }
}

fn decode_name(name: &[u8]) -> ObjectId {
    let mut rest = name;
    let (bucket, key) = (take_text(&mut rest), take_text(&mut rest));
    let version = rest.strip_prefix(&[VERSION_MARK]).map(String::from_utf8_lossy);
    ObjectId {
        bucket: BucketName::new(&String::from_utf8_lossy(&bucket)),
        key: ObjectKey::new(key),
        version: version.map(|id| VersionId::new(&id)),
    }
}

#[cfg(test)]
mod name_tests;
#[cfg(test)]
mod tests;
