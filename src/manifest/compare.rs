//! Compares two frozen manifests.

use std::cmp::Ordering;
use std::path::Path;

use batchplan_store::object::ObjectId;
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::frozen::FrozenManifest;
use super::sort::SortBudget;
use super::sorted_names::SortedNames;

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
    room: SortBudget,
    old: &FrozenManifest,
    new: &FrozenManifest,
    scratch: &Path,
    stop: &CancellationToken,
) -> Result<ManifestDifference, ManifestError> {
    let mut old = SortedNames::new(old, scratch, room, stop)?;
    let mut new = SortedNames::new(new, scratch, room, stop)?;
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

#[cfg(test)]
mod tests;
