//! The rows of a comparison: collects the rows of both inventories and sorts them on disk.
//!
//! A row becomes a sort record: its name, its side and its facts. The name is self-delimiting, so that in byte order the
//! records of one name are adjacent; records of one name are ordered by side. A flag byte and the fields that it
//! announces follow. A record keeps only the facts that tell two states of an object apart, and the facts that freezing
//! the row needs.

use std::path::PathBuf;

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectAcl, ObjectId, ObjectKey, VersionId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::error::{ManifestError, ManifestWarning};
use super::filter::{Filter, ManifestRow, RowMetadata};
use super::row_visitor::{ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::sort::{ExternalSorter, SortBudget, SortedRecords, TERMINATOR, VERSION_MARK, put_text, take_text};

/// The number of rows between two checks of the disk limit.
const LIMIT_CHECK_INTERVAL: u64 = 4096;

/// The origin of a row. The declaration order is the order of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ComparisonSide {
    /// The inventory that the earlier job processed.
    Earlier,
    /// The new inventory.
    Current,
    /// The objects that failed in the earlier job or were never attempted.
    Unfinished,
}

/// Collects rows, one side after the other.
pub(super) struct ComparisonSorter {
    intake: RowIntake,
    sorter: ExternalSorter,
    home: PathBuf,
    side: ComparisonSide,
    facts: ComparisonFacts,
    record: Vec<u8>,
    sort_budget: SortBudget,
    max_disk: Option<u64>,
    /// The number of rows in the sort.
    rows: u64,
}

/// The collected rows, sorted.
pub(super) struct SortedComparison {
    pub(super) records: SortedRecords,
    pub(super) facts: ComparisonFacts,
    /// The folder of the sort, for messages.
    pub(super) home: PathBuf,
    pub(super) warnings: Vec<ManifestWarning>,
}

/// The facts that each inventory reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ComparisonFacts {
    pub(super) earlier: SideFacts,
    pub(super) current: SideFacts,
}

/// The facts that an inventory reports for at least one object, and the number of its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SideFacts {
    pub(super) rows: u64,
    pub(super) etag: bool,
    pub(super) size: bool,
    pub(super) modified: bool,
}

impl SideFacts {
    fn record(&mut self, facts: &RowMetadata<'_>) {
        self.rows += 1;
        self.etag |= facts.etag.is_some();
        self.size |= facts.size.is_some();
        self.modified |= facts.modified.is_some();
    }
}

impl ComparisonSorter {
    /// Creates an empty collection that starts with rows of [`ComparisonSide::Earlier`]. Its temporary files are
    /// unnamed and vanish when they are closed.
    pub(super) fn new(intake: RowIntake, scratch: ScratchSpace) -> Self {
        let ScratchSpace { folder, sort_budget, max_disk } = scratch;
        let home = folder.unwrap_or_else(tempfile::env::temp_dir);
        Self {
            sorter: ExternalSorter::new(&home, sort_budget, intake.stop_token()),
            intake,
            home,
            side: ComparisonSide::Earlier,
            facts: ComparisonFacts::default(),
            record: Vec::new(),
            sort_budget,
            max_disk,
            rows: 0,
        }
    }

    /// Sets the side that the next rows belong to, and their filter.
    pub(super) fn set_side(&mut self, side: ComparisonSide, filter: Filter) {
        self.side = side;
        self.intake.set_filter(filter);
    }

    fn check_limit(&self) -> Result<(), ManifestError> {
        let used = self.sorter.bytes_on_disk();
        match self.max_disk.filter(|limit| used > *limit) {
            Some(limit) => Err(ManifestError::ComparisonTooLarge { used, limit, rows: self.rows }),
            None => Ok(()),
        }
    }

    /// Returns all records in order, the facts that each inventory reports, and the warnings.
    pub(super) fn finish(self) -> Result<SortedComparison, ManifestError> {
        self.check_limit()?;
        Ok(SortedComparison {
            records: self.sorter.finish()?,
            facts: self.facts,
            home: self.home,
            warnings: self.intake.into_warnings(),
        })
    }
}

impl RowVisitor for ComparisonSorter {
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
        match self.side {
            ComparisonSide::Earlier => self.facts.earlier.record(&row.metadata),
            ComparisonSide::Current => self.facts.current.record(&row.metadata),
            ComparisonSide::Unfinished => {}
        }
        encode(row, self.side, &mut self.record);
        self.sorter.push(&self.record)?;
        self.rows += 1;
        if self.rows.is_multiple_of(LIMIT_CHECK_INTERVAL) {
            self.check_limit()?;
        }
        Ok(RowFlow::Continue)
    }

    fn needs_all_metadata(&self) -> bool {
        true
    }

    fn scratch(&self) -> ScratchSpace {
        ScratchSpace { folder: Some(self.home.clone()), sort_budget: self.sort_budget, max_disk: self.max_disk }
    }

    fn reserve_temporary(&mut self, place: &str, bytes: u64) -> Result<(), ManifestError> {
        match self.max_disk.filter(|limit| bytes > *limit) {
            Some(limit) => {
                Err(ManifestError::NoRoomForDataFile { place: place.to_owned(), size: bytes, used: 0, limit })
            }
            None => Ok(()),
        }
    }
}

impl ResumableReading for ComparisonSorter {}

const SIDES: [ComparisonSide; 3] = [ComparisonSide::Earlier, ComparisonSide::Current, ComparisonSide::Unfinished];

/// Follows a key that has no version.
const NO_VERSION: u8 = 0;

const ETAG: u8 = 1;
const SIZE: u8 = 1 << 1;
const MODIFIED: u8 = 1 << 2;
const CLASS: u8 = 1 << 3;
/// The ACL takes three bits: its index in `ACLS` plus 1; 0 if it is not reported.
const ACL_SHIFT: u32 = 4;

/// An `ETag` of 32 hexadecimal digits is stored as 16 bytes. The first byte gives the case of the digits.
const LOWER: u8 = 0;
const UPPER: u8 = 1;
const TEXT: u8 = 2;

/// The maximum length of an `ETag` that is stored as text, in bytes; a longer one is replaced by its digest.
const MAX_ETAG_BYTES: usize = 128;

/// The maximum length of a class name, in bytes; a longer one is dropped.
const MAX_CLASS_BYTES: usize = 64;

const ACLS: [ObjectAcl; 5] =
    [ObjectAcl::Private, ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Default, ObjectAcl::Custom];

/// Encodes a row. Rows that are not of the new inventory keep only the facts that are compared.
fn encode(row: &ManifestRow<'_>, side: ComparisonSide, out: &mut Vec<u8>) {
    out.clear();
    put_text(out, row.bucket.as_bytes());
    put_text(out, row.key);
    match row.version {
        None => out.push(NO_VERSION),
        Some(version) => {
            out.push(VERSION_MARK);
            put_text(out, version.as_bytes());
        }
    }
    out.push(side as u8);
    let RowMetadata { size, modified, class, etag, acl } = row.metadata;
    if side == ComparisonSide::Unfinished {
        return;
    }
    let class = class.filter(|class| side == ComparisonSide::Current && class.len() <= MAX_CLASS_BYTES);
    let acl = acl.filter(|_| side == ComparisonSide::Current).and_then(|acl| ACLS.iter().position(|it| *it == acl));
    let flag = |there: bool, flag: u8| if there { flag } else { 0 };
    let acl = u8::try_from(acl.map_or(0, |place| place + 1)).unwrap_or(0) << ACL_SHIFT;
    out.push(
        flag(etag.is_some(), ETAG)
            | flag(size.is_some(), SIZE)
            | flag(modified.is_some(), MODIFIED)
            | flag(class.is_some(), CLASS)
            | acl,
    );
    if let Some(etag) = etag {
        put_etag(etag, out);
    }
    if let Some(size) = size {
        out.extend_from_slice(&size.to_be_bytes());
    }
    if let Some(modified) = modified {
        out.extend_from_slice(&modified.as_second().to_be_bytes());
        out.extend_from_slice(&modified.subsec_nanosecond().to_be_bytes());
    }
    if let Some(class) = class {
        put_text(out, class.as_bytes());
    }
}

fn put_etag(etag: &str, out: &mut Vec<u8>) {
    let bytes = etag.as_bytes();
    let case = match bytes {
        _ if bytes.len() != 32 => TEXT,
        _ if bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => LOWER,
        _ if bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) => UPPER,
        _ => TEXT,
    };
    out.push(case);
    match case {
        TEXT if bytes.len() > MAX_ETAG_BYTES => put_text(out, hex(&Sha256::digest(bytes)).as_bytes()),
        TEXT => put_text(out, bytes),
        _ => out.extend(bytes.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]))),
    }
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20).wrapping_sub(b'a').wrapping_add(10) & 0xf,
    }
}

/// The facts that tell two states of an object apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ComparedState {
    pub(super) etag: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Timestamp>,
}

/// A decoded record.
pub(super) struct ComparisonRecord {
    pub(super) side: ComparisonSide,
    pub(super) state: ComparedState,
    class: Option<String>,
    acl: Option<ObjectAcl>,
}

/// Splits a record into its name and the rest. Returns `None` if it is not a valid record.
pub(super) fn split_name(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    for _ in 0..2 {
        at += text_end(record.get(at..)?)?;
    }
    at += match *record.get(at)? {
        VERSION_MARK => 1 + text_end(record.get(at + 1..)?)?,
        _ => 1,
    };
    record.split_at_checked(at)
}

pub(super) fn decode_object(mut name: &[u8]) -> ObjectId {
    let (bucket, key) = (take_text(&mut name), take_text(&mut name));
    let version = name.strip_prefix(&[VERSION_MARK]).map(|mut rest| take_text(&mut rest));
    ObjectId {
        bucket: BucketName::new(&String::from_utf8_lossy(&bucket)),
        key: ObjectKey::new(key),
        version: version.map(|id| VersionId::new(&String::from_utf8_lossy(&id))),
    }
}

/// Returns the end of a text written by [`put_text`], terminator included.
fn text_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(0, bytes.get(at..)?)? + TERMINATOR.len();
        if bytes.get(at - TERMINATOR.len()..at)? == TERMINATOR {
            return Some(at);
        }
    }
}

/// Decodes the part after the name. Returns `None` if [`encode`] did not write it.
pub(super) fn decode_record(rest: &[u8]) -> Option<ComparisonRecord> {
    let (side, rest) = rest.split_first()?;
    let side = *SIDES.get(usize::from(*side))?;
    let mut told = ComparisonRecord { side, state: ComparedState::default(), class: None, acl: None };
    if side == ComparisonSide::Unfinished {
        return Some(told);
    }
    let (flags, mut rest) = rest.split_first()?;
    if flags & ETAG != 0 {
        told.state.etag = Some(take_etag(&mut rest)?);
    }
    if flags & SIZE != 0 {
        told.state.size = Some(u64::from_be_bytes(take_array(&mut rest)?));
    }
    if flags & MODIFIED != 0 {
        let (second, nanosecond) =
            (i64::from_be_bytes(take_array(&mut rest)?), i32::from_be_bytes(take_array(&mut rest)?));
        told.state.modified = Some(Timestamp::new(second, nanosecond).ok()?);
    }
    if flags & CLASS != 0 {
        told.class = Some(String::from_utf8(take_text(&mut rest)).ok()?);
    }
    told.acl = usize::from(flags >> ACL_SHIFT & 7).checked_sub(1).and_then(|place| ACLS.get(place)).copied();
    Some(told)
}

fn take_etag(rest: &mut &[u8]) -> Option<String> {
    let (case, behind) = rest.split_first()?;
    *rest = behind;
    if *case == TEXT {
        return String::from_utf8(take_text(rest)).ok();
    }
    let digits = hex(&take_array::<16>(rest)?);
    Some(if *case == UPPER { digits.to_ascii_uppercase() } else { digits })
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*bytes)
}

impl ComparisonRecord {
    pub(super) fn row<'a>(&'a self, object: &'a ObjectId) -> ManifestRow<'a> {
        let ComparedState { etag, size, modified } = &self.state;
        ManifestRow {
            bucket: object.bucket.as_str(),
            key: object.key.as_bytes(),
            version: object.version.as_ref().map(VersionId::as_str),
            metadata: RowMetadata {
                size: *size,
                modified: *modified,
                class: self.class.as_deref(),
                etag: etag.as_deref(),
                acl: self.acl,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts<'a>(
        etag: Option<&'a str>,
        class: Option<&'a str>,
        numbers: (Option<u64>, Option<i64>),
    ) -> RowMetadata<'a> {
        let modified = numbers.1.map(|second| Timestamp::new(second, 5).unwrap());
        RowMetadata {
            size: numbers.0,
            modified,
            class,
            etag,
            acl: numbers.0.and_then(|size| ACLS.get((size % 7) as usize)).copied(),
        }
    }

    proptest! {
        #[test]
        fn rows_round_trip(
            key in proptest::collection::vec(any::<u8>(), 1..9),
            version in proptest::option::of("[a\0\u{1}é]{0,4}"),
            etag in proptest::option::of("[0-9a-f]{32}|[0-9A-F]{32}|[0-9a-zA-Z-]{0,40}"),
            class in proptest::option::of("[A-Z]{1,9}"),
            numbers in (any::<Option<u64>>(), proptest::option::of(-1_000_000_000_i64..4_000_000_000)),
        ) {
            let version = version.as_deref();
            let facts = facts(etag.as_deref(), class.as_deref(), numbers);
            let row = ManifestRow { bucket: "b", key: &key, version, metadata: facts };
            let mut record = Vec::new();
            encode(&row, ComparisonSide::Current, &mut record);
            let (name, rest) = split_name(&record).unwrap();
            let (name, told) = (name.to_vec(), decode_record(rest).unwrap());
            let object = decode_object(&name);
            let back = told.row(&object);
            prop_assert_eq!((back.bucket, back.key, back.version), ("b", key.as_slice(), version));
            prop_assert_eq!(back.metadata.etag, facts.etag);
            prop_assert_eq!(back.metadata.size, facts.size);
            prop_assert_eq!(back.metadata.modified, facts.modified);
            prop_assert_eq!(back.metadata.class, facts.class);
            prop_assert_eq!(back.metadata.acl, facts.acl);
            encode(&row, ComparisonSide::Unfinished, &mut record);
            prop_assert_eq!(split_name(&record).unwrap(), (name.as_slice(), &[ComparisonSide::Unfinished as u8][..]));
        }

        #[test]
        fn different_names_encode_differently(
            names in proptest::collection::vec(("[a\0\u{1}]{1,3}", proptest::option::of("[a\0\u{1}]{0,3}")), 2..6),
        ) {
            let mut records: Vec<_> = names.iter().flat_map(|(key, version)| {
                SIDES.map(|side| {
                    let facts = facts(Some("\u{1}"), Some("\0"), (None, None));
                    let mut record = Vec::new();
                    encode(&ManifestRow { bucket: "b", key: key.as_bytes(), version: version.as_deref(), metadata: facts }, side, &mut record);
                    record
                })
            }).collect();
            records.sort();
            records.dedup();
            let mut seen: Vec<_> = records.iter().map(|record| split_name(record).unwrap().0.to_vec()).collect();
            seen.dedup();
            let distinct: std::collections::BTreeSet<_> = names.into_iter().collect();
            prop_assert_eq!(seen.len(), distinct.len(), "records of one name stand together");
        }

        #[test]
        fn junk_is_no_record_and_no_panic(junk: Vec<u8>) {
            if let Some((_, rest)) = split_name(&junk) {
                let _ = decode_record(rest);
            }
        }
    }

    #[test]
    fn etags_that_are_too_long_are_still_told_apart() {
        let long = |end: char| format!("{}{end}", "x".repeat(70_000));
        let state = |etag: &str| {
            let mut record = Vec::new();
            encode(
                &ManifestRow { bucket: "b", key: b"k", version: None, metadata: facts(Some(etag), None, (None, None)) },
                ComparisonSide::Current,
                &mut record,
            );
            assert!(record.len() < 200);
            decode_record(split_name(&record).unwrap().1).unwrap().state
        };
        assert_eq!(state(&long('a')), state(&long('a')));
        assert_ne!(state(&long('a')), state(&long('b')));
    }
}
