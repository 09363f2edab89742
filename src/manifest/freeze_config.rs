//! The limits and buffer sizes of a freeze.

use super::part::PartLimits;
use super::prefix::ListingConcurrency;
use super::sort::SortBudget;

/// The limits and buffer sizes of a freeze; smaller in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FreezeConfig {
    pub(super) part_limits: PartLimits,
    pub(super) checkpoint_policy: FreezeCheckpointPolicy,
    pub(super) listing: ListingConcurrency,
    /// The maximum size of the parts on disk, in bytes.
    pub(super) max_disk: Option<u64>,
    /// The memory and the number of runs that a sort may use.
    pub(super) sort_budget: SortBudget,
    /// The maximum number of objects in the manifest.
    pub(super) max_objects: Option<u64>,
}

/// The distance between two checkpoints: whichever limit is reached first.
///
/// Counted and not timed, so that a run can be reproduced. A checkpoint costs a few disk flushes, some tens of
/// milliseconds at worst; 64 pages of a listing take seconds, which is the time that a crash may cost. It ends the
/// current block, which would be full after as many rows anyway, so the parts do not become larger. It does not end the
/// part: the checkpoint records the length of the part, and ten billion rows need some 2,400 parts instead of 150,000.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreezeCheckpointPolicy {
    /// Pages of a listing, or data files of an inventory.
    pub(super) steps: u32,
    /// Rows read, whether included or not.
    pub(super) rows: u64,
}

impl Default for FreezeCheckpointPolicy {
    fn default() -> Self {
        Self { steps: 64, rows: 65_536 }
    }
}
