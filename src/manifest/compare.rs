//! What differs between two frozen manifests.

use std::cmp::Ordering;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::frozen::Frozen;
use super::names::Names;
use super::sort::Room;
use crate::object::ObjectId;

/// How many objects of each kind are named.
const EXAMPLES: usize = 5;

/// What one manifest names and another does not. An object that a manifest names twice counts once; another version of
/// an object is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// How many objects only the new one names.
    pub added: u64,
    /// How many objects only the old one names.
    pub gone: u64,
    /// The first five that were added, by bucket, key and version.
    pub added_examples: Vec<ObjectId>,
    /// The first five that are gone, likewise.
    pub gone_examples: Vec<ObjectId>,
}

/// Compares two manifests of any size within some tens of megabytes of memory. A manifest that is not in the order of
/// its names is sorted with files in the folder `scratch`, up to about twice as large as its names; they are gone when
/// this returns.
///
/// It reads files and inflates: call it on a thread that may block.
///
/// # Errors
/// A part of a manifest is missing or damaged, the folder cannot be written to, or the stop token was cancelled.
pub fn compare(
    old: &Frozen,
    new: &Frozen,
    scratch: &Path,
    stop: &CancellationToken,
) -> Result<Difference, ManifestError> {
    compare_within(Room::default(), old, new, scratch, stop)
}

fn compare_within(
    room: Room,
    old: &Frozen,
    new: &Frozen,
    scratch: &Path,
    stop: &CancellationToken,
) -> Result<Difference, ManifestError> {
    let mut old = Names::new(old, scratch, room, stop)?;
    let mut new = Names::new(new, scratch, room, stop)?;
    let mut found = Difference::default();
    let (mut in_old, mut in_new) = (old.advance()?, new.advance()?);
    while in_old || in_new {
        let order = match (in_old, in_new) {
            (true, true) => old.name().cmp(new.name()),
            (true, false) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Less => note(&old, &mut found.gone, &mut found.gone_examples),
            Ordering::Greater => note(&new, &mut found.added, &mut found.added_examples),
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

fn note(names: &Names, count: &mut u64, examples: &mut Vec<ObjectId>) {
    *count += 1;
    if examples.len() < EXAMPLES {
        examples.push(names.object());
    }
}

#[cfg(test)]
mod tests;
