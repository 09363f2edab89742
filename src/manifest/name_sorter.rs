//! Sorts the names of objects from two sources together, on disk and in bounded memory, so that one pass finds the names
//! that both have.

use std::mem;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::TaskId;

use super::error::ManifestError;
use super::filter::{Filter, ManifestRow};
use super::row_visitor::{ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::sort::{ExternalSorter, SortedRecords, VERSION_MARK, put_text, take_text};

/// The number of names between two checks of the stop token.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// Follows a key that has no version.
const NO_VERSION: u8 = 0;

/// The bytes after a name: its source, and the row.
const SUFFIX_BYTES: usize = 9;

/// The source of a name. Of two equal names, that of a report comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A report lists the name.
    Report,
    /// A job has the name in its manifest.
    Job,
}

/// Accepts names. As a visitor, it takes rows of reports.
pub(super) struct NameSorter {
    intake: RowIntake,
    sorter: ExternalSorter,
    scratch: ScratchSpace,
    record: Vec<u8>,
}

impl NameSorter {
    /// Creates an empty sort, with temporary files in the folder of the visitor that will get the rows.
    pub(super) fn new(visitor: &dyn RowVisitor) -> Self {
        let scratch = visitor.scratch();
        let intake = visitor.intake().with_filter(Filter::default());
        let folder = scratch.folder.clone().unwrap_or_else(tempfile::env::temp_dir);
        let sorter = ExternalSorter::new(&folder, scratch.sort_budget, intake.stop_token());
        Self { intake, sorter, scratch, record: Vec::new() }
    }

    /// Adds the name of a row of the job.
    pub(super) fn push(&mut self, object: &ObjectId, row: TaskId) -> Result<(), ManifestError> {
        let ObjectId { bucket, key, version } = object;
        let version = version.as_ref().map(VersionId::as_str);
        self.push_name(bucket.as_str(), key.as_bytes(), version, (NameKind::Job, row))
    }

    fn push_name(
        &mut self,
        bucket: &str,
        key: &[u8],
        version: Option<&str>,
        (source, row): (NameKind, TaskId),
    ) -> Result<(), ManifestError> {
        let mut record = mem::take(&mut self.record);
        encode_name(bucket, key, version, &mut record);
        record.push(u8::from(source == NameKind::Job));
        record.extend_from_slice(&encode_row(row));
        self.sorter.push(&record)?;
        self.record = record;
        Ok(())
    }

    /// Calls `visit` for each name of the job, in order, with its row and whether a report lists it. A name that the job
    /// has several times with the same row is visited once.
    pub(super) fn visit(
        self,
        mut visit: impl FnMut(ObjectId, TaskId, bool) -> Result<RowFlow, ManifestError>,
    ) -> Result<(), ManifestError> {
        let stop = self.intake.stop_token().clone();
        let mut sorted = self.sorter.finish()?;
        let (mut reported, mut count) = (Vec::new(), 0_u64);
        while sorted.advance()? {
            count += 1;
            if count.is_multiple_of(STOP_CHECK_INTERVAL) && stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            let Some((name, suffix)) = sorted.record().split_last_chunk::<SUFFIX_BYTES>() else { continue };
            let [source, row @ ..] = *suffix;
            if source == 0 {
                name.clone_into(&mut reported);
            } else if visit(decode_name(name), decode_row(row), name == reported)? == RowFlow::Stop {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(())
    }
}

impl RowVisitor for NameSorter {
    fn intake(&self) -> &RowIntake {
        &self.intake
    }

    fn intake_mut(&mut self) -> &mut RowIntake {
        &mut self.intake
    }

    fn count_row(&mut self) -> Result<RowFlow, ManifestError> {
        self.intake.count_row()?;
        Ok(RowFlow::Continue)
    }

    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        let none = TaskId { part: 0, row: 0 };
        self.push_name(row.bucket, row.key, row.version, (NameKind::Report, none))?;
        Ok(RowFlow::Continue)
    }

    /// No request can name such an object, so no job has changed it.
    fn include_unlistable(&mut self, _: &ManifestRow<'_>, _: &str) -> Result<RowFlow, ManifestError> {
        Ok(RowFlow::Continue)
    }

    fn scratch(&self) -> ScratchSpace {
        self.scratch.clone()
    }
}

impl ResumableReading for NameSorter {}

/// Sorts rows of a job.
pub(super) struct RowSorter(ExternalSorter);

impl RowSorter {
    /// Creates an empty sort in the folder of the visitor that will get the rows.
    pub(super) fn new(visitor: &dyn RowVisitor) -> Self {
        let ScratchSpace { folder, sort_budget, .. } = visitor.scratch();
        let folder = folder.unwrap_or_else(tempfile::env::temp_dir);
        Self(ExternalSorter::new(&folder, sort_budget, visitor.intake().stop_token()))
    }

    pub(super) fn push(&mut self, row: TaskId) -> Result<(), ManifestError> {
        self.0.push(&encode_row(row))
    }

    /// Returns the rows in ascending order.
    pub(super) fn finish(self) -> Result<SortedRows, ManifestError> {
        Ok(SortedRows(self.0.finish()?))
    }
}

/// Rows of a job in ascending order.
pub(super) struct SortedRows(SortedRecords);

impl SortedRows {
    pub(super) fn next(&mut self) -> Result<Option<TaskId>, ManifestError> {
        Ok(if self.0.advance()? { self.0.record().first_chunk().copied().map(decode_row) } else { None })
    }
}

fn encode_row(TaskId { part, row }: TaskId) -> [u8; 8] {
    (u64::from(part) << 32 | u64::from(row)).to_be_bytes()
}

fn decode_row(bytes: [u8; 8]) -> TaskId {
    let [part @ .., a, b, c, d] = bytes;
    TaskId { part: u32::from_be_bytes(part), row: u32::from_be_bytes([a, b, c, d]) }
}

/// Encodes a name so that no other name continues it, and the records of one name are adjacent.
fn encode_name(bucket: &str, key: &[u8], version: Option<&str>, out: &mut Vec<u8>) {
    out.clear();
    put_text(out, bucket.as_bytes());
    put_text(out, key);
    match version {
        Some(version) => {
            out.push(VERSION_MARK);
            put_text(out, version.as_bytes());
        }
        None => out.push(NO_VERSION),
    }
}

fn decode_name(mut rest: &[u8]) -> ObjectId {
    let (bucket, key) = (take_text(&mut rest), take_text(&mut rest));
    let version = rest.strip_prefix(&[VERSION_MARK]).map(|mut rest| take_text(&mut rest));
    ObjectId {
        bucket: BucketName::new(&String::from_utf8_lossy(&bucket)),
        key: ObjectKey::new(key),
        version: version.map(|id| VersionId::new(&String::from_utf8_lossy(&id))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_survive_the_sort(
            names in prop::collection::btree_set(
                (prop::collection::vec(any::<u8>(), 1..6), prop::option::of("[a-z\\x00]{0,3}")), 1..20,
            ),
        ) {
            let mut records = BTreeSet::new();
            for (key, version) in &names {
                let mut name = Vec::new();
                encode_name("b", key, version.as_deref(), &mut name);
                let object = decode_name(&name);
                prop_assert_eq!(object.key.as_bytes(), &key[..]);
                prop_assert_eq!(object.version.as_ref().map(VersionId::as_str), version.as_deref());
                prop_assert!(records.insert(name));
            }
            let records: Vec<_> = records.into_iter().collect();
            for pair in records.windows(2) {
                prop_assert!(!pair[1].starts_with(&pair[0]), "a name continues another");
            }
        }

        #[test]
        fn rows_sort_as_their_bytes(one in any::<(u32, u32)>(), other in any::<(u32, u32)>()) {
            let [one, other] = [one, other].map(|(part, row)| TaskId { part, row });
            prop_assert_eq!(encode_row(one).cmp(&encode_row(other)), one.cmp(&other));
            prop_assert_eq!(decode_row(encode_row(one)), one);
        }
    }
}
