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

use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, place};
use super::frozen::Pin;
use super::patient::Patient;
use super::sink::Sink;
use super::spec::{Changes, Dialect, Filter, InventoryObject};
use super::{input, inventory, retry};
use crate::failpoint;
use crate::object::{Bucket, Key, ObjectId};
use pile::{Heap, Tells};
use record::{State, Told};

mod pile;
mod record;

pub(super) use self::pile::Pile;
pub(super) use self::record::Side;

/// The maximum number of different rows of one object in the earlier inventory. No real inventory has more; an object
/// with more counts as changed.
const MOST_STATES: usize = 16;

/// The number of objects between two checks of the stop token.
const STRIDE: u64 = 4096;

/// The help text of the warning that all objects of an inventory are included because it cannot be compared.
const IN_FULL: &str = "nothing needs to be done: what was done before is done again, which is safe and takes longer";

/// Writes the changed objects to the row writer.
pub(super) async fn read(
    bucket: &Bucket,
    changes: &Changes,
    dialect: Dialect,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Pin), ManifestError> {
    let new = (&changes.key, changes.etag.as_str());
    match pile_up(bucket, changes, dialect, patient, &sink).await? {
        Ok(pile) => add_new(bucket, new, dialect, patient, (pile, sink)).await,
        Err(why) => {
            let (mut sink, pin) = read_once(bucket, new, dialect, patient, sink).await?;
            let all = sink.taken();
            sink.warn(format!("{why}: all {all} objects of the new inventory are taken"), IN_FULL);
            Ok((sink, pin))
        }
    }
}

/// Writes each object of an inventory to the row writer, once even if several rows name it.
pub(super) async fn read_once(
    bucket: &Bucket,
    inventory: (&Key, &str),
    dialect: Dialect,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Pin), ManifestError> {
    let pile = sink.piling(sink.filter().clone());
    add_new(bucket, inventory, dialect, patient, (pile, sink)).await
}

/// Adds the rows of the new inventory to the sort, then writes the changed objects to the row writer.
async fn add_new(
    bucket: &Bucket,
    (key, etag): (&Key, &str),
    dialect: Dialect,
    patient: &Patient,
    (pile, sink): (Sink, Sink),
) -> Result<(Sink, Pin), ManifestError> {
    let before = pile.read();
    let pile = pile.onto(Side::Now, sink.filter().clone());
    let (pile, pin) = inventory::read(bucket, &exact(key, etag), dialect, patient, pile).await?;
    failpoint::reach("changes-piled");
    let (read, stop) = (pile.read() - before, patient.stop().clone());
    let sink = input::blocking(move || {
        let (pile, warnings) = pile.into_pile()?;
        let mut sink = sink;
        sink.take_warnings(warnings);
        sort_out(pile, read, sink, &stop)
    })
    .await?;
    Ok((sink, pin))
}

fn exact(key: &Key, etag: &str) -> InventoryObject {
    // A server that sends no ETag leaves nothing to pin the inventory with.
    let etag = Some(etag).filter(|etag| !etag.is_empty()).map(str::to_owned);
    InventoryObject::Exact { key: key.clone(), etag }
}

/// Collects the rows of the earlier inventory and the unfinished rows. The inner error says why they cannot be read.
async fn pile_up(
    bucket: &Bucket,
    changes: &Changes,
    dialect: Dialect,
    patient: &Patient,
    sink: &Sink,
) -> Result<Result<Sink, String>, ManifestError> {
    let Changes { since_key, since_etag, since_filter, failed, rest, lost, .. } = changes;
    if let Some(why) = lost {
        return Ok(Err(why.clone()));
    }
    if since_etag.is_empty() {
        return Ok(Err(format!(
            "the server told no ETag of {}, so that nobody can tell whether it is still what it was",
            place(bucket, since_key)
        )));
    }
    let pile = sink.piling(since_filter.clone());
    let since = exact(since_key, since_etag);
    let pile = match inventory::read(bucket, &since, dialect, patient, pile).await {
        Ok((pile, _)) => pile,
        Err(error) if is_gone(&error) => {
            return Ok(Err(format!("the inventory that was worked on last cannot be compared with ({error})")));
        }
        Err(error) => return Err(error),
    };
    failpoint::reach("changes-before");
    if failed.is_empty() && rest.is_none() {
        return Ok(Ok(pile));
    }
    let pile = pile.onto(Side::Undone, Filter::default());
    match retry::read(failed, rest.as_ref(), patient, pile).await {
        Ok(pile) => Ok(Ok(pile)),
        Err(error) if is_gone(&error) => {
            Ok(Err(format!("the objects that failed last time cannot be found any more ({error})")))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether the error is permanent: the input no longer exists as it was, and a retry cannot help.
fn is_gone(error: &ManifestError) -> bool {
    match error {
        ManifestError::Changed { .. }
        | ManifestError::BadRows { .. }
        | ManifestError::Malformed { .. }
        | ManifestError::Unfiltered { .. }
        | ManifestError::Missing { .. }
        | ManifestError::Corrupt { .. } => true,
        // An archived inventory cannot be read either.
        ManifestError::Store { fault, .. } => fault.status == Some(404) || fault.code == "InvalidObjectState",
        ManifestError::Read { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
        ManifestError::Stopped
        | ManifestError::Disk { .. }
        | ManifestError::TooLarge { .. }
        | ManifestError::TooLargeAhead { .. }
        | ManifestError::NoRoomBeside { .. }
        | ManifestError::NoRoomToCompare { .. }
        | ManifestError::TooMany { .. }
        | ManifestError::Empty { .. }
        | ManifestError::Listing { .. } => false,
    }
}

/// Sorts the rows and writes the changed objects to the row writer. `read` is the number of rows that the row writer
/// reports as read.
fn sort_out(pile: Pile, read: u64, mut sink: Sink, stop: &CancellationToken) -> Result<Sink, ManifestError> {
    let (mut sorted, heap, home) = pile.finish()?;
    let judge = Judge::new(heap);
    let damaged = || ManifestError::corrupt(&home, "what was sorted in it cannot be read back");
    let mut group = Group::default();
    let (mut groups, mut gone) = (0_u64, 0_u64);
    loop {
        let more = sorted.advance()?;
        let split = if more { Some(record::split(sorted.record()).ok_or_else(damaged)?) } else { None };
        if split.is_none_or(|(name, _)| name != group.name) {
            groups += 1;
            if groups.is_multiple_of(STRIDE) && stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            match group.verdict(&judge) {
                Verdict::Taken(told, object) => sink.take_named(&told.row(&object))?,
                Verdict::Gone => gone += 1,
                Verdict::Left => {}
            }
        }
        let Some((name, rest)) = split else { break };
        group.begin(name);
        group.add(record::told(rest).ok_or_else(damaged)?);
    }
    sink.set_read(read);
    judge.warn(&mut sink);
    if gone > 0 {
        sink.warn(
            format!(
                "{gone} of the objects that failed last time are left out: the new inventory does not name them, or the \
                 filter leaves them out now"
            ),
            "nothing needs to be done: an object that is written again is taken then",
        );
    }
    Ok(sink)
}

/// The result of comparing the rows of one object.
enum Verdict {
    /// The object is new, changed or unfinished: it is included.
    Taken(Told, ObjectId),
    /// The object failed last time and is no longer in the new inventory.
    Gone,
    /// The object is unchanged or was deleted: it is left out.
    Left,
}

#[derive(Default)]
struct Group {
    name: Vec<u8>,
    before: Vec<State>,
    /// Whether either inventory has more than [`MOST_STATES`] different rows of the object.
    muddled: bool,
    now: Option<Told>,
    /// Further, different rows of the new inventory.
    others: Vec<State>,
    undone: bool,
}

impl Group {
    /// Starts the group of another object, unless it has this name already.
    fn begin(&mut self, name: &[u8]) {
        if self.name == name {
            return;
        }
        name.clone_into(&mut self.name);
        self.before.clear();
        self.others.clear();
        (self.muddled, self.now, self.undone) = (false, None, false);
    }

    fn add(&mut self, told: Told) {
        match told.side {
            Side::Before if self.before.len() < MOST_STATES => self.before.push(told.state),
            Side::Now if self.now.is_none() => self.now = Some(told),
            Side::Now if self.others.len() < MOST_STATES => self.others.push(told.state),
            Side::Undone => self.undone = true,
            Side::Before | Side::Now => self.muddled = true,
        }
    }

    fn verdict(&mut self, judge: &Judge) -> Verdict {
        let Some(now) = self.now.take() else {
            return if mem::take(&mut self.undone) { Verdict::Gone } else { Verdict::Left };
        };
        let known = |state: &State| self.before.iter().any(|before| judge.are_alike(before, state));
        let unchanged = !self.muddled && known(&now.state) && self.others.iter().all(known);
        if unchanged && !self.undone { Verdict::Left } else { Verdict::Taken(now, record::object(&self.name)) }
    }
}

/// Compares object states by the facts that both inventories report.
struct Judge {
    told: Tells,
    /// Whether both inventories have rows.
    both: bool,
}

impl Judge {
    fn new(Heap { before, now }: Heap) -> Self {
        let both = |fact: fn(&Tells) -> bool| fact(&before) && fact(&now);
        let told = Tells {
            rows: now.rows,
            etag: both(|tells| tells.etag),
            size: both(|tells| tells.size),
            modified: both(|tells| tells.modified),
        };
        Self { told, both: before.rows > 0 && now.rows > 0 }
    }

    /// Returns whether an object is unchanged. The size alone proves nothing: an overwritten object may have the same
    /// size.
    fn are_alike(&self, before: &State, now: &State) -> bool {
        let Tells { etag, size, modified, .. } = self.told;
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

    fn warn(&self, sink: &mut Sink) {
        let Tells { etag, modified, .. } = self.told;
        if !self.both || modified {
            return;
        }
        if etag {
            sink.warn(
                "the inventories do not both tell the last-modified date of their objects: one that was written over with \
                 the same content is taken for unchanged, though it has lost its tags and ACL"
                    .to_owned(),
                "add LastModifiedDate to the inventory's optional fields",
            );
            return;
        }
        let all = sink.taken();
        sink.warn(
            format!(
                "the inventories do not both tell the ETag or the last-modified date of their objects, so that nobody can \
                 tell which have changed: all {all} objects of the new inventory are taken"
            ),
            "add ETag and LastModifiedDate to the inventory's optional fields",
        );
    }
}

#[cfg(test)]
mod tests;
