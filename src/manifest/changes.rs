//! The source of a recurring job: each object of an inventory once or, with `only_changed`, the objects that are new or
//! changed since an earlier inventory, and those that failed in the earlier job or have no outcome in it. `compare.rs`
//! compares the names of two frozen manifests instead.
//!
//! Inventories are not sorted. The rows of both inventories and the unfinished rows are sorted together on disk, so
//! that all rows of an object are adjacent, and one pass decides whether the object has changed. The pass needs no more
//! memory than the sort, whatever the size of the inventories. An object is unchanged if a row of the new inventory
//! matches a row of the earlier one; facts that only one of the inventories reports are not compared. If neither the
//! `ETag` nor the last-modified date can be compared, no object counts as unchanged.
//!
//! Anything that cannot be compared makes the set larger, never smaller: if the earlier inventory or the unfinished
//! rows cannot be read, all objects of the new inventory are included, with a warning that gives the reason.
//!
//! A row is sorted as a record: its name, its side and its facts. The name is self-delimiting, so that in byte order
//! the records of one name are adjacent; records of one name are ordered by side. A flag byte and the fields that it
//! announces follow. A record keeps only the facts that tell two states of an object apart, and the facts that freezing
//! the row needs.

use std::mem;
use std::path::PathBuf;

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectAcl, ObjectId, ObjectKey, VersionId};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, ManifestWarning, counted, object_path};
use super::filter::{Filter, ManifestRow, RowMetadata};
use super::pins::SourcePin;
use super::retrying_store::RetryingStore;
use super::row_visitor::{ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::sort::{ExternalSorter, SortBudget, SortedRecords, TERMINATOR, VERSION_MARK, put_text, take_text};
use super::spec::{InventoryChanges, InventoryDialect, InventorySelector};
use super::{input, inventory, retry};
use crate::failpoint;

/// The maximum number of different rows of one object in the earlier inventory. No real inventory has more; an object
/// with more counts as changed.
const MAX_STATES: usize = 16;

/// The number of objects between two checks of the stop token.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// The help text of the warning that all objects of an inventory are included because it cannot be compared.
const ALL_INCLUDED_HELP: &str = "no action needed: repeating finished work is safe, but takes longer";

/// Passes the changed objects to the visitor.
pub(super) async fn read<V: RowVisitor>(
    bucket: &BucketName,
    changes: &InventoryChanges,
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let new = (&changes.key, changes.etag.as_str());
    match collect_earlier(bucket, changes, dialect, retrying, &visitor).await? {
        Ok(rows) => finish_comparison(bucket, new, dialect, retrying, (rows, visitor)).await,
        Err(why) => {
            let (mut visitor, pin) = read_distinct(bucket, new, dialect, retrying, visitor).await?;
            let intake = visitor.intake_mut();
            let all = counted(intake.rows_included(), "object");
            intake.warn(format!("{why}: including the complete new inventory ({all})"), ALL_INCLUDED_HELP);
            Ok((visitor, pin))
        }
    }
}

/// Passes each object of an inventory to the visitor, once even if several rows name it.
pub(super) async fn read_distinct<V: RowVisitor>(
    bucket: &BucketName,
    inventory: (&ObjectKey, &str),
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let rows = new_comparison(&visitor, visitor.intake().filter().clone());
    finish_comparison(bucket, inventory, dialect, retrying, (rows, visitor)).await
}

fn new_comparison(visitor: &dyn RowVisitor, filter: Filter) -> ComparisonSorter {
    ComparisonSorter::new(visitor.intake().with_filter(filter), visitor.scratch())
}

/// Adds the rows of the new inventory to the sort, then passes the changed objects to the visitor.
async fn finish_comparison<V: RowVisitor>(
    bucket: &BucketName,
    (key, etag): (&ObjectKey, &str),
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    (mut rows, visitor): (ComparisonSorter, V),
) -> Result<(V, SourcePin), ManifestError> {
    let before = rows.intake().rows_read();
    rows.set_side(ComparisonSide::Current, visitor.intake().filter().clone());
    let (rows, pin) = inventory::read_inventory(bucket, &exact_inventory(key, etag), dialect, retrying, rows).await?;
    failpoint::hit("changes-piled");
    let (read, stop) = (rows.intake().rows_read() - before, retrying.stop_token().clone());
    let visitor = input::run_blocking(move || {
        let mut visitor = visitor;
        visit_changes(rows.finish()?, read, &mut visitor, &stop)?;
        Ok(visitor)
    })
    .await?;
    Ok((visitor, pin))
}

fn exact_inventory(key: &ObjectKey, etag: &str) -> InventorySelector {
    // A server that sends no ETag leaves nothing to pin the inventory with.
    let etag = Some(etag).filter(|etag| !etag.is_empty()).map(str::to_owned);
    InventorySelector::Exact { key: key.clone(), etag }
}

/// Collects the rows of the earlier inventory and the unfinished rows. The inner error says why they cannot be read.
async fn collect_earlier(
    bucket: &BucketName,
    changes: &InventoryChanges,
    dialect: InventoryDialect,
    retrying: &RetryingStore,
    visitor: &impl RowVisitor,
) -> Result<Result<ComparisonSorter, String>, ManifestError> {
    let InventoryChanges { since_key, since_etag, since_filter, failed, unfinished: rest, unavailable: lost, .. } =
        changes;
    if let Some(why) = lost {
        return Ok(Err(why.clone()));
    }
    if since_etag.is_empty() {
        return Ok(Err(format!(
            "the server sent no ETag for {}, so a change to it cannot be detected",
            object_path(bucket, since_key)
        )));
    }
    let rows = new_comparison(visitor, since_filter.clone());
    let since = exact_inventory(since_key, since_etag);
    let mut rows = match inventory::read_inventory(bucket, &since, dialect, retrying, rows).await {
        Ok((rows, _)) => rows,
        Err(error) if is_unavailable(&error) => {
            return Ok(Err(format!("cannot compare with the previous inventory ({error})")));
        }
        Err(error) => return Err(error),
    };
    failpoint::hit("changes-before");
    if failed.is_empty() && rest.is_none() {
        return Ok(Ok(rows));
    }
    rows.set_side(ComparisonSide::Unfinished, Filter::default());
    match retry::read(failed, rest.as_ref(), retrying, rows).await {
        Ok(rows) => Ok(Ok(rows)),
        Err(error) if is_unavailable(&error) => {
            Ok(Err(format!("cannot read which objects failed last time ({error})")))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether the error is permanent: the input no longer exists as it was, and a retry cannot help.
fn is_unavailable(error: &ManifestError) -> bool {
    match error {
        ManifestError::Changed { .. }
        | ManifestError::BadRows { .. }
        | ManifestError::Malformed { .. }
        | ManifestError::MissingFact { .. }
        | ManifestError::Missing { .. }
        | ManifestError::NewerFormat { .. }
        | ManifestError::Corrupt { .. } => true,
        // An archived inventory cannot be read either.
        ManifestError::Store { fault, .. } => fault.status == Some(404) || fault.code == "InvalidObjectState",
        ManifestError::Read { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
        ManifestError::Stopped
        | ManifestError::Disk { .. }
        | ManifestError::TooLarge { .. }
        | ManifestError::ProbablyTooLarge { .. }
        | ManifestError::NoRoomForDataFile { .. }
        | ManifestError::ComparisonTooLarge { .. }
        | ManifestError::TooManyObjects { .. }
        | ManifestError::Empty { .. }
        | ManifestError::UnlistableKeys { .. }
        | ManifestError::InconsistentListing { .. } => false,
    }
}

/// Passes the changed objects to the visitor. `read` is the number of rows that the visitor reports as read.
fn visit_changes(
    comparison: SortedComparison,
    read: u64,
    visitor: &mut dyn RowVisitor,
    stop: &CancellationToken,
) -> Result<(), ManifestError> {
    let SortedComparison { records: mut sorted, facts, manifest_dir, warnings } = comparison;
    visitor.intake_mut().add_warnings(warnings);
    let judge = StateComparison::new(facts);
    let damaged = || ManifestError::corrupt(&manifest_dir, "its sort data cannot be read back");
    let mut group = ObjectRows::default();
    let (mut groups, mut removed_count) = (0_u64, 0_u64);
    loop {
        let more = sorted.advance()?;
        let split = if more { Some(split_name(sorted.record()).ok_or_else(damaged)?) } else { None };
        if split.is_none_or(|(name, _)| name != group.name) {
            groups += 1;
            if groups.is_multiple_of(STOP_CHECK_INTERVAL) && stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            match group.outcome(&judge) {
                ChangeOutcome::Changed(comparison_record, object) => {
                    if visitor.include(&comparison_record.row(&object))? == RowFlow::Stop {
                        return Err(ManifestError::Stopped);
                    }
                }
                ChangeOutcome::Removed => removed_count += 1,
                ChangeOutcome::Unchanged => {}
            }
        }
        let Some((name, rest)) = split else { break };
        group.start(name);
        group.add(decode_record(rest).ok_or_else(damaged)?);
    }
    visitor.set_rows_read(read);
    judge.add_warnings(visitor.intake_mut());
    if removed_count > 0 {
        let objects = counted(removed_count, "object");
        visitor.intake_mut().warn(
            format!("left out {objects} that failed last time: not in the new inventory, or excluded by the filter"),
            "no action needed: an object that is written again is included then",
        );
    }
    Ok(())
}

/// The result of comparing the rows of one object.
enum ChangeOutcome {
    /// The object is new, changed or unfinished: it is included.
    Changed(ComparisonRecord, ObjectId),
    /// The object failed last time and is no longer in the new inventory.
    Removed,
    /// The object is unchanged or was deleted: it is left out.
    Unchanged,
}

#[derive(Default)]
struct ObjectRows {
    name: Vec<u8>,
    earlier: Vec<ComparedState>,
    /// Whether either inventory has more than [`MAX_STATES`] different rows of the object.
    too_many: bool,
    current: Option<ComparisonRecord>,
    /// Further, different rows of the new inventory.
    other_current: Vec<ComparedState>,
    unfinished: bool,
}

impl ObjectRows {
    /// Starts the group of another object, unless it has this name already.
    fn start(&mut self, name: &[u8]) {
        if self.name == name {
            return;
        }
        name.clone_into(&mut self.name);
        self.earlier.clear();
        self.other_current.clear();
        (self.too_many, self.current, self.unfinished) = (false, None, false);
    }

    fn add(&mut self, comparison_record: ComparisonRecord) {
        match comparison_record.side {
            ComparisonSide::Earlier if self.earlier.len() < MAX_STATES => self.earlier.push(comparison_record.state),
            ComparisonSide::Current if self.current.is_none() => self.current = Some(comparison_record),
            ComparisonSide::Current if self.other_current.len() < MAX_STATES => {
                self.other_current.push(comparison_record.state);
            }
            ComparisonSide::Unfinished => self.unfinished = true,
            ComparisonSide::Earlier | ComparisonSide::Current => self.too_many = true,
        }
    }

    fn outcome(&mut self, judge: &StateComparison) -> ChangeOutcome {
        let Some(now) = self.current.take() else {
            return if mem::take(&mut self.unfinished) { ChangeOutcome::Removed } else { ChangeOutcome::Unchanged };
        };
        let known = |state: &ComparedState| self.earlier.iter().any(|before| judge.is_unchanged(before, state));
        let unchanged = !self.too_many && known(&now.state) && self.other_current.iter().all(known);
        if unchanged && !self.unfinished {
            ChangeOutcome::Unchanged
        } else {
            ChangeOutcome::Changed(now, decode_object(&self.name))
        }
    }
}

/// Compares object states by the facts that both inventories report.
struct StateComparison {
    shared_facts: SideFacts,
    /// Whether both inventories have rows.
    both_have_rows: bool,
}

impl StateComparison {
    fn new(ComparisonFacts { earlier, current }: ComparisonFacts) -> Self {
        let both = |fact: fn(&SideFacts) -> bool| fact(&earlier) && fact(&current);
        let shared_facts = SideFacts {
            rows: current.rows,
            etag: both(|facts| facts.etag),
            size: both(|facts| facts.size),
            modified: both(|facts| facts.modified),
        };
        Self { shared_facts, both_have_rows: earlier.rows > 0 && current.rows > 0 }
    }

    /// Returns whether an object is unchanged. The size alone proves nothing: an overwritten object may have the same
    /// size.
    fn is_unchanged(&self, before: &ComparedState, now: &ComparedState) -> bool {
        let SideFacts { etag, size, modified, .. } = self.shared_facts;
        let etags = before.etag.as_ref().zip(now.etag.as_ref()).filter(|_| etag);
        let dates = before.modified.zip(now.modified).filter(|_| modified);
        let comparable = etags.is_some() || dates.is_some();
        let same_etag = match (&before.etag, &now.etag) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        comparable
            && (!etag || same_etag)
            && (!size || before.size == now.size)
            && (!modified || before.modified == now.modified)
    }

    fn add_warnings(&self, intake: &mut RowIntake) {
        let SideFacts { etag, modified, .. } = self.shared_facts;
        if !self.both_have_rows || modified {
            return;
        }
        if etag {
            intake.warn(
                "the inventories do not both have last-modified dates: an object overwritten with the same content \
                 counts as unchanged, although it lost its tags and ACL"
                    .to_owned(),
                "add LastModifiedDate to the inventory's optional fields",
            );
            return;
        }
        let all = counted(intake.rows_included(), "object");
        intake.warn(
            format!(
                "the inventories have neither ETags nor last-modified dates in common, so changes cannot be detected: \
                 including the complete new inventory ({all})"
            ),
            "add ETag and LastModifiedDate to the inventory's optional fields",
        );
    }
}

/// The number of rows between two checks of the disk limit.
const LIMIT_CHECK_INTERVAL: u64 = 4096;

/// The origin of a row. The declaration order is the order of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ComparisonSide {
    /// The inventory that the earlier job processed.
    Earlier,
    /// The new inventory.
    Current,
    /// The objects that failed in the earlier job or were never attempted.
    Unfinished,
}

/// Collects rows, one side after the other.
struct ComparisonSorter {
    intake: RowIntake,
    sorter: ExternalSorter,
    manifest_dir: PathBuf,
    side: ComparisonSide,
    facts: ComparisonFacts,
    record: Vec<u8>,
    sort_budget: SortBudget,
    max_disk: Option<u64>,
    /// The number of rows in the sort.
    rows: u64,
}

/// The collected rows, sorted.
struct SortedComparison {
    records: SortedRecords,
    facts: ComparisonFacts,
    /// The folder of the sort, for messages.
    manifest_dir: PathBuf,
    warnings: Vec<ManifestWarning>,
}

/// The facts that each inventory reports.
#[derive(Clone, Copy, Debug, Default)]
struct ComparisonFacts {
    earlier: SideFacts,
    current: SideFacts,
}

/// The facts that an inventory reports for at least one object, and the number of its rows.
#[derive(Clone, Copy, Debug, Default)]
struct SideFacts {
    rows: u64,
    etag: bool,
    size: bool,
    modified: bool,
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
    fn new(intake: RowIntake, scratch: ScratchSpace) -> Self {
        let ScratchSpace { folder, sort_budget, max_disk } = scratch;
        let manifest_dir = folder.unwrap_or_else(tempfile::env::temp_dir);
        Self {
            sorter: ExternalSorter::new(&manifest_dir, sort_budget, intake.stop_token()),
            intake,
            manifest_dir,
            side: ComparisonSide::Earlier,
            facts: ComparisonFacts::default(),
            record: Vec::new(),
            sort_budget,
            max_disk,
            rows: 0,
        }
    }

    /// Sets the side that the next rows belong to, and their filter.
    fn set_side(&mut self, side: ComparisonSide, filter: Filter) {
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
    fn finish(self) -> Result<SortedComparison, ManifestError> {
        self.check_limit()?;
        Ok(SortedComparison {
            records: self.sorter.finish()?,
            facts: self.facts,
            manifest_dir: self.manifest_dir,
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
        ScratchSpace { folder: Some(self.manifest_dir.clone()), sort_budget: self.sort_budget, max_disk: self.max_disk }
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

const ACLS: [ObjectAcl; 5] = [
    ObjectAcl::Private,
    ObjectAcl::PublicRead,
    ObjectAcl::PublicReadWrite,
    ObjectAcl::Default,
    ObjectAcl::Custom(None),
];

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
    let RowMetadata { size, modified, class, etag, acl, origin: _ } = row.metadata.clone();
    if side == ComparisonSide::Unfinished {
        return;
    }
    let class = class.filter(|class| side == ComparisonSide::Current && class.len() <= MAX_CLASS_BYTES);
    let acl = acl.filter(|_| side == ComparisonSide::Current).and_then(|acl| ACLS.iter().position(|it| *it == acl));
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
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
struct ComparedState {
    etag: Option<String>,
    size: Option<u64>,
    modified: Option<Timestamp>,
}

/// A decoded record.
struct ComparisonRecord {
    side: ComparisonSide,
    state: ComparedState,
    class: Option<String>,
    acl: Option<ObjectAcl>,
}

/// Splits a record into its name and the rest. Returns `None` if it is not a valid record.
fn split_name(record: &[u8]) -> Option<(&[u8], &[u8])> {
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

fn decode_object(mut name: &[u8]) -> ObjectId {
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
fn decode_record(rest: &[u8]) -> Option<ComparisonRecord> {
    let (side, rest) = rest.split_first()?;
    let side = *SIDES.get(usize::from(*side))?;
    let mut comparison_record = ComparisonRecord { side, state: ComparedState::default(), class: None, acl: None };
    if side == ComparisonSide::Unfinished {
        return Some(comparison_record);
    }
    let (flags, mut rest) = rest.split_first()?;
    if flags & ETAG != 0 {
        comparison_record.state.etag = Some(take_etag(&mut rest)?);
    }
    if flags & SIZE != 0 {
        comparison_record.state.size = Some(u64::from_be_bytes(take_array(&mut rest)?));
    }
    if flags & MODIFIED != 0 {
        let (second, nanosecond) =
            (i64::from_be_bytes(take_array(&mut rest)?), i32::from_be_bytes(take_array(&mut rest)?));
        comparison_record.state.modified = Some(Timestamp::new(second, nanosecond).ok()?);
    }
    if flags & CLASS != 0 {
        comparison_record.class = Some(String::from_utf8(take_text(&mut rest)).ok()?);
    }
    comparison_record.acl =
        usize::from(flags >> ACL_SHIFT & 7).checked_sub(1).and_then(|place| ACLS.get(place)).cloned();
    Some(comparison_record)
}

fn take_etag(rest: &mut &[u8]) -> Option<String> {
    let (case, remaining) = rest.split_first()?;
    *rest = remaining;
    if *case == TEXT {
        return String::from_utf8(take_text(rest)).ok();
    }
    let digits = hex(&take_array::<16>(rest)?);
    Some(if *case == UPPER { digits.to_ascii_uppercase() } else { digits })
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, remaining) = rest.split_first_chunk::<N>()?;
    *rest = remaining;
    Some(*bytes)
}

impl ComparisonRecord {
    fn row<'a>(&'a self, object: &'a ObjectId) -> ManifestRow<'a> {
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
                acl: self.acl.clone(),
                origin: None,
            },
        }
    }
}

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;
