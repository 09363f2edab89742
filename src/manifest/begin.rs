//! How a freeze starts: empty, or from the checkpoint of an earlier attempt.

use std::path::{Path, PathBuf};

use super::draft::{self, Draft, Keeper, Mark, Next};
use super::error::ManifestError;
use super::frozen::PartInfo;
use super::part::{Lane, Limits, is_whole, settle};
use super::prefix::Spread;
use super::sink::Cadence;
use super::sort::Room;
use super::stretch::Stretch;
use super::{frozen, index};

/// The limits and buffer sizes of a freeze; smaller in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) limits: Limits,
    pub(super) cadence: Cadence,
    pub(super) spread: Spread,
    /// The maximum size of the parts on disk, in bytes.
    pub(super) max_disk: Option<u64>,
    /// The memory and the number of runs that a sort may use.
    pub(super) room: Room,
    /// The maximum number of objects in the manifest.
    pub(super) max_objects: Option<u64>,
}

/// The state that a freeze starts from.
pub(super) struct Begun {
    pub(super) home: PathBuf,
    /// `None` if the source is always read from its beginning.
    pub(super) keeper: Option<Keeper>,
    /// The partitions with the rows they already have; empty without a checkpoint.
    pub(super) lanes: Vec<Stretch>,
    /// The checkpoint that the freeze resumes from.
    pub(super) draft: Option<Draft>,
    pub(super) sizes: Sizes,
}

impl Begun {
    /// Loads the checkpoint in this folder. Empties the folder if there is none that can be used.
    pub(super) fn new(home: PathBuf, fingerprint: Option<String>, sizes: Sizes) -> Result<Self, ManifestError> {
        let keeper = fingerprint.map(|fingerprint| Keeper::new(&home, fingerprint));
        if let Some((draft, lanes)) = left(&home, keeper.as_ref(), sizes)? {
            return Ok(Self { home, keeper, lanes, draft: Some(draft), sizes });
        }
        frozen::clear(&home)?;
        Ok(Self { home, keeper, lanes: Vec::new(), draft: None, sizes })
    }
}

/// Loads the checkpoint and the partitions of an earlier attempt, if all their files are intact. Returns `None` if the
/// manifest is complete: to freeze again is to ask for a new manifest.
fn left(home: &Path, keeper: Option<&Keeper>, sizes: Sizes) -> Result<Option<(Draft, Vec<Stretch>)>, ManifestError> {
    let Some(keeper) = keeper.filter(|_| !index::is_there(home)) else { return Ok(None) };
    let Some(draft) = keeper.load()? else { return Ok(None) };
    let numbered = || (0_u32..).map(Lane).zip(&draft.lanes);
    if let Some(order) = listed(&draft) {
        // A crash may have interrupted `settle`: some parts may already have their final names.
        let lanes: Vec<Stretch> = numbered().map(|(lane, kept)| Stretch::settled(lane, kept)).collect();
        let parts = in_order(&lanes, &order);
        let whole = settle(home, &parts)? && are_whole(home, &parts)?;
        return Ok(whole.then_some((draft, lanes)));
    }
    let mut lanes = Vec::new();
    for (lane, kept) in numbered() {
        let Some(stretch) = Stretch::going_on(home, lane, sizes, kept)? else { return Ok(None) };
        lanes.push(stretch);
    }
    frozen::keep_only(home, &lanes.iter().flat_map(|lane| lane.files(home)).collect())?;
    Ok(Some((draft, lanes)))
}

/// Returns whether parts that have their final names match what was written.
fn are_whole(home: &Path, lanes: &[(Lane, Vec<PartInfo>)]) -> Result<bool, ManifestError> {
    for (place, part) in (0_u32..).zip(lanes.iter().flat_map(|(_, parts)| parts)) {
        if !is_whole(&frozen::part_path(home, place), place, *part, true)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The partitions in the order of their rows, if every range has been listed to its end.
fn listed(draft: &Draft) -> Option<Vec<Lane>> {
    let Mark::Listing(ranges) = &draft.mark else { return None };
    ranges.iter().map(|range| (range.next == Next::Done).then_some(range.lane)).collect()
}

/// Returns the parts of the partitions, in this order.
pub(super) fn in_order(lanes: &[Stretch], order: &[Lane]) -> Vec<(Lane, Vec<PartInfo>)> {
    let find = |lane: &Lane| lanes.iter().find(|it| it.lane() == *lane);
    order.iter().filter_map(find).map(|it| (it.lane(), it.parts().to_vec())).collect()
}

/// Cleans up after an error: keeps the files that the next attempt can resume from, and removes everything else.
pub(super) fn leave(home: &Path, error: &ManifestError) -> Result<(), ManifestError> {
    if error.may_pass() && draft::is_there(home) { Ok(()) } else { frozen::clear(home) }
}
