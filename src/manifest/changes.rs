//! The source of a recurring job: the objects that are new or changed in an inventory since an earlier one, and the
//! objects that an earlier job did not finish.
//!
//! Inventories are not sorted. The rows of both inventories and the unfinished rows are sorted together on disk, so
//! that all rows of an object are adjacent, and one pass decides whether the object has changed. The pass needs no more
//! memory than the sort, whatever the size of the inventories. An object is unchanged if a row of the new inventory
//! matches a row of the earlier one; facts that only one of the inventories reports are not compared. If neither the
//! `ETag` nor the last-modified date can be compared, no object counts as unchanged.
//!
//! Anything that cannot be compared makes the set larger, never smaller: if the earlier inventory or the unfinished
//! rows cannot be read, all objects of the new inventory are included, with a warning that gives the reason.

use std::mem;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use tokio_util::sync::CancellationToken;

use super::comparison_rows::{
    ComparedState, ComparisonFacts, ComparisonRecord, ComparisonSide, ComparisonSorter, SideFacts, SortedComparison,
    decode_object, decode_record, split_name,
};
use super::error::{ManifestError, counted, object_path};
use super::filter::Filter;
use super::pins::SourcePin;
use super::retrying_store::RetryingStore;
use super::row_visitor::{RowFlow, RowIntake, RowVisitor};
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
    patient: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let new = (&changes.key, changes.etag.as_str());
    match collect_earlier(bucket, changes, dialect, patient, &visitor).await? {
        Ok(rows) => finish_comparison(bucket, new, dialect, patient, (rows, visitor)).await,
        Err(why) => {
            let (mut visitor, pin) = read_distinct(bucket, new, dialect, patient, visitor).await?;
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
    patient: &RetryingStore,
    visitor: V,
) -> Result<(V, SourcePin), ManifestError> {
    let rows = new_comparison(&visitor, visitor.intake().filter().clone());
    finish_comparison(bucket, inventory, dialect, patient, (rows, visitor)).await
}

fn new_comparison(visitor: &dyn RowVisitor, filter: Filter) -> ComparisonSorter {
    ComparisonSorter::new(visitor.intake().with_filter(filter), visitor.scratch())
}

/// Adds the rows of the new inventory to the sort, then passes the changed objects to the visitor.
async fn finish_comparison<V: RowVisitor>(
    bucket: &BucketName,
    (key, etag): (&ObjectKey, &str),
    dialect: InventoryDialect,
    patient: &RetryingStore,
    (mut rows, visitor): (ComparisonSorter, V),
) -> Result<(V, SourcePin), ManifestError> {
    let before = rows.intake().rows_read();
    rows.set_side(ComparisonSide::Current, visitor.intake().filter().clone());
    let (rows, pin) = inventory::read_inventory(bucket, &exact_inventory(key, etag), dialect, patient, rows).await?;
    failpoint::hit("changes-piled");
    let (read, stop) = (rows.intake().rows_read() - before, patient.stop_token().clone());
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
    patient: &RetryingStore,
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
    let mut rows = match inventory::read_inventory(bucket, &since, dialect, patient, rows).await {
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
    match retry::read(failed, rest.as_ref(), patient, rows).await {
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
    let SortedComparison { records: mut sorted, facts, home, warnings } = comparison;
    visitor.intake_mut().add_warnings(warnings);
    let judge = StateComparison::new(facts);
    let damaged = || ManifestError::corrupt(&home, "its sort data cannot be read back");
    let mut group = ObjectRows::default();
    let (mut groups, mut gone) = (0_u64, 0_u64);
    loop {
        let more = sorted.advance()?;
        let split = if more { Some(split_name(sorted.record()).ok_or_else(damaged)?) } else { None };
        if split.is_none_or(|(name, _)| name != group.name) {
            groups += 1;
            if groups.is_multiple_of(STOP_CHECK_INTERVAL) && stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            match group.outcome(&judge) {
                ChangeOutcome::Changed(told, object) => {
                    if visitor.include(&told.row(&object))? == RowFlow::Stop {
                        return Err(ManifestError::Stopped);
                    }
                }
                ChangeOutcome::Removed => gone += 1,
                ChangeOutcome::Unchanged => {}
            }
        }
        let Some((name, rest)) = split else { break };
        group.start(name);
        group.add(decode_record(rest).ok_or_else(damaged)?);
    }
    visitor.set_rows_read(read);
    judge.add_warnings(visitor.intake_mut());
    if gone > 0 {
        let objects = counted(gone, "object");
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

    fn add(&mut self, told: ComparisonRecord) {
        match told.side {
            ComparisonSide::Earlier if self.earlier.len() < MAX_STATES => self.earlier.push(told.state),
            ComparisonSide::Current if self.current.is_none() => self.current = Some(told),
            ComparisonSide::Current if self.other_current.len() < MAX_STATES => self.other_current.push(told.state),
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
    fn new(ComparisonFacts { earlier: before, current: now }: ComparisonFacts) -> Self {
        let both = |fact: fn(&SideFacts) -> bool| fact(&before) && fact(&now);
        let shared_facts = SideFacts {
            rows: now.rows,
            etag: both(|tells| tells.etag),
            size: both(|tells| tells.size),
            modified: both(|tells| tells.modified),
        };
        Self { shared_facts, both_have_rows: before.rows > 0 && now.rows > 0 }
    }

    /// Returns whether an object is unchanged. The size alone proves nothing: an overwritten object may have the same
    /// size.
    fn is_unchanged(&self, before: &ComparedState, now: &ComparedState) -> bool {
        let SideFacts { etag, size, modified, .. } = self.shared_facts;
        let etags = before.etag.as_ref().zip(now.etag.as_ref()).filter(|_| etag);
        let moments = before.modified.zip(now.modified).filter(|_| modified);
        let seen = etags.is_some() || moments.is_some();
        let same_etag = match (&before.etag, &now.etag) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        seen && (!etag || same_etag)
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

#[cfg(test)]
mod tests;
