//! How a freeze starts: empty, or from the checkpoint of an earlier attempt.

use std::path::{Path, PathBuf};

use super::checkpoint::{self, FreezeCheckpoint, FreezeCheckpointStore, RangePosition, SourceCursor};
use super::error::ManifestError;
use super::frozen::ManifestPart;
use super::part::{PartLimits, PartitionId, assemble_parts, is_intact};
use super::partition::PartitionWriter;
use super::prefix::ListingConcurrency;
use super::row_writer::FreezeCheckpointPolicy;
use super::sort::SortBudget;
use super::{frozen, index};

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

/// The state that a freeze starts from.
pub(super) struct FreezeStart {
    pub(super) home: PathBuf,
    /// `None` if the source is always read from its beginning.
    pub(super) checkpoints: Option<FreezeCheckpointStore>,
    /// The partitions with the rows they already have; empty without a checkpoint.
    pub(super) partitions: Vec<PartitionWriter>,
    /// The checkpoint that the freeze resumes from.
    pub(super) checkpoint: Option<FreezeCheckpoint>,
    pub(super) config: FreezeConfig,
}

impl FreezeStart {
    /// Loads the checkpoint in this folder. Empties the folder if there is none that can be used.
    pub(super) fn load(home: PathBuf, fingerprint: Option<String>, sizes: FreezeConfig) -> Result<Self, ManifestError> {
        let keeper = fingerprint.map(|fingerprint| FreezeCheckpointStore::new(&home, fingerprint));
        if let Some((draft, lanes)) = load_checkpoint(&home, keeper.as_ref(), sizes)? {
            return Ok(Self { home, checkpoints: keeper, partitions: lanes, checkpoint: Some(draft), config: sizes });
        }
        frozen::clear_folder(&home)?;
        Ok(Self { home, checkpoints: keeper, partitions: Vec::new(), checkpoint: None, config: sizes })
    }
}

/// Loads the checkpoint and the partitions of an earlier attempt, if all their files are intact. Returns `None` if the
/// manifest is complete: to freeze again is to ask for a new manifest.
fn load_checkpoint(
    home: &Path,
    keeper: Option<&FreezeCheckpointStore>,
    sizes: FreezeConfig,
) -> Result<Option<(FreezeCheckpoint, Vec<PartitionWriter>)>, ManifestError> {
    let Some(keeper) = keeper.filter(|_| !index::exists(home)) else { return Ok(None) };
    let Some(draft) = keeper.load()? else { return Ok(None) };
    let numbered = || (0_u32..).map(PartitionId).zip(&draft.partitions);
    if let Some(order) = finished_order(&draft) {
        // A crash may have interrupted `assemble_parts`: some parts may already have their final names.
        let lanes: Vec<PartitionWriter> = numbered().map(|(lane, kept)| PartitionWriter::restore(lane, kept)).collect();
        let parts = parts_in_order(&lanes, &order);
        let whole = assemble_parts(home, &parts)? && parts_are_intact(home, &parts)?;
        return Ok(whole.then_some((draft, lanes)));
    }
    let mut lanes = Vec::new();
    for (lane, kept) in numbered() {
        let Some(stretch) = PartitionWriter::resume(home, lane, sizes, kept)? else { return Ok(None) };
        lanes.push(stretch);
    }
    frozen::remove_other_parts(home, &lanes.iter().flat_map(|lane| lane.files(home)).collect())?;
    Ok(Some((draft, lanes)))
}

/// Returns whether parts that have their final names match what was written.
fn parts_are_intact(home: &Path, lanes: &[(PartitionId, Vec<ManifestPart>)]) -> Result<bool, ManifestError> {
    for (place, part) in (0_u32..).zip(lanes.iter().flat_map(|(_, parts)| parts)) {
        if !is_intact(&frozen::part_path(home, place), place, *part, true)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The partitions in the order of their rows, if every range has been listed to its end.
fn finished_order(draft: &FreezeCheckpoint) -> Option<Vec<PartitionId>> {
    let SourceCursor::Listing(ranges) = &draft.cursor else { return None };
    ranges.iter().map(|range| (range.position == RangePosition::Finished).then_some(range.partition)).collect()
}

/// Returns the parts of the partitions, in this order.
pub(super) fn parts_in_order(
    lanes: &[PartitionWriter],
    order: &[PartitionId],
) -> Vec<(PartitionId, Vec<ManifestPart>)> {
    let find = |lane: &PartitionId| lanes.iter().find(|it| it.id() == *lane);
    order.iter().filter_map(find).map(|it| (it.id(), it.parts().to_vec())).collect()
}

/// Cleans up after an error: keeps the files that the next attempt can resume from, and removes everything else.
pub(super) fn clean_up_after(home: &Path, error: &ManifestError) -> Result<(), ManifestError> {
    if error.is_retryable() && checkpoint::exists(home) { Ok(()) } else { frozen::clear_folder(home) }
}
