//! Iterates over the names in a frozen manifest, sorted and without duplicates.
//!
//! A listing is sorted already and is read in place. Other manifests are sorted on disk first.

use std::path::Path;
use std::vec;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::{Task, TaskId};
use memchr::memchr;
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::frozen::{FrozenManifest, ManifestTasks};
use super::sort::{ExternalSorter, SortBudget, SortedRecords};

/// The number of rows read at once, and between two checks of the stop token.
const BATCH: usize = 4096;

/// Encodes a zero byte in a name, so that it differs from the terminator.
const ESCAPED_ZERO: [u8; 2] = [0, 1];

/// The terminator of a bucket or key: smaller than any byte sequence that continues it.
pub(super) const TERMINATOR: [u8; 2] = [0, 0];

/// Precedes a version, so that an empty version id differs from no version.
pub(super) const VERSION_MARK: u8 = 1;

/// Iterates over names in ascending order. Unusable after an error.
///
/// Reads files and decompresses: use it on a thread that may block.
pub(super) struct SortedNames(NameSource);

enum NameSource {
    InPlace { rows: Box<FrozenObjects>, name: Vec<u8>, next: Vec<u8> },
    Sorted(SortedRecords),
}

impl SortedNames {
    /// Reads a manifest. If it has to be sorted, puts temporary files in `scratch` until this value is dropped.
    pub(super) fn new(
        frozen: &FrozenManifest,
        scratch: &Path,
        room: SortBudget,
        stop: &CancellationToken,
    ) -> Result<Self, ManifestError> {
        if is_sorted(frozen, stop)? {
            return Ok(Self(NameSource::InPlace {
                rows: Box::new(FrozenObjects::new(frozen, stop)),
                name: Vec::new(),
                next: Vec::new(),
            }));
        }
        let mut sorter = ExternalSorter::new(scratch, room, stop);
        let mut rows = FrozenObjects::new(frozen, stop);
        let mut name = Vec::new();
        while let Some(object) = rows.next()? {
            encode_name(&object, &mut name);
            sorter.push(&name)?;
        }
        Ok(Self(NameSource::Sorted(sorter.finish()?)))
    }

    /// Advances to the next name, initially to the first. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ManifestError> {
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
    pub(super) fn name(&self) -> &[u8] {
        match &self.0 {
            NameSource::InPlace { name, .. } => name,
            NameSource::Sorted(sorted) => sorted.record(),
        }
    }

    pub(super) fn object(&self) -> ObjectId {
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

/// Appends a text and its terminator.
pub(super) fn put_text(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = memchr(0, text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(&ESCAPED_ZERO);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
    out.extend_from_slice(&TERMINATOR);
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

/// Removes a text and its terminator from the front.
pub(super) fn take_text(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(at) = memchr(0, rest) {
        text.extend_from_slice(&rest[..at]);
        let ends = rest[at..].starts_with(&TERMINATOR);
        *rest = rest.get(at + TERMINATOR.len()..).unwrap_or_default();
        if ends {
            break;
        }
        text.push(0);
    }
    text
}

#[cfg(test)]
mod tests;
