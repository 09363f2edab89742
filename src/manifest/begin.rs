//! How an attempt at freezing begins: with nothing, or behind what an earlier one left.

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

/// The sizes that freezing works in; smaller in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) limits: Limits,
    pub(super) cadence: Cadence,
    pub(super) spread: Spread,
    /// The most bytes that the parts may take.
    pub(super) max_disk: Option<u64>,
    /// What a sort may use.
    pub(super) room: Room,
    /// The most objects that may be taken.
    pub(super) max_objects: Option<u64>,
}

/// What an attempt has to begin with.
pub(super) struct Begun {
    pub(super) home: PathBuf,
    /// `None` where the source is always read from its beginning.
    pub(super) keeper: Option<Keeper>,
    /// The lanes, with what each has already; none where there is no draft.
    pub(super) lanes: Vec<Stretch>,
    /// What was gone on with.
    pub(super) draft: Option<Draft>,
    pub(super) sizes: Sizes,
}

impl Begun {
    /// Takes up the draft in this folder, or else empties the folder.
    pub(super) fn new(home: PathBuf, fingerprint: Option<String>, sizes: Sizes) -> Result<Self, ManifestError> {
        let keeper = fingerprint.map(|fingerprint| Keeper::new(&home, fingerprint));
        if let Some((draft, lanes)) = left(&home, keeper.as_ref(), sizes)? {
            return Ok(Self { home, keeper, lanes, draft: Some(draft), sizes });
        }
        frozen::clear(&home)?;
        Ok(Self { home, keeper, lanes: Vec::new(), draft: None, sizes })
    }
}

/// What an earlier attempt left, where all of it is there. A finished manifest is not gone on with: whoever freezes
/// although there is one wants it anew.
fn left(home: &Path, keeper: Option<&Keeper>, sizes: Sizes) -> Result<Option<(Draft, Vec<Stretch>)>, ManifestError> {
    let Some(keeper) = keeper.filter(|_| !index::is_there(home)) else { return Ok(None) };
    let Some(draft) = keeper.load()? else { return Ok(None) };
    let numbered = || (0_u32..).map(Lane).zip(&draft.lanes);
    if let Some(order) = listed(&draft) {
        // Some of the parts may have their places already.
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

/// Whether parts that have their places are what was written.
fn are_whole(home: &Path, lanes: &[(Lane, Vec<PartInfo>)]) -> Result<bool, ManifestError> {
    for (place, part) in (0_u32..).zip(lanes.iter().flat_map(|(_, parts)| parts)) {
        if !is_whole(&frozen::part_path(home, place), place, *part, true)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lanes in the order of their rows, if all of them have all of theirs.
fn listed(draft: &Draft) -> Option<Vec<Lane>> {
    let Mark::Listing(ranges) = &draft.mark else { return None };
    ranges.iter().map(|range| (range.next == Next::Done).then_some(range.lane)).collect()
}

/// The parts of these lanes, in this order.
pub(super) fn in_order(lanes: &[Stretch], order: &[Lane]) -> Vec<(Lane, Vec<PartInfo>)> {
    let find = |lane: &Lane| lanes.iter().find(|it| it.lane() == *lane);
    order.iter().filter_map(find).map(|it| (it.lane(), it.parts().to_vec())).collect()
}

/// Leaves what the next attempt can go on with after this error, and nothing else.
pub(super) fn leave(home: &Path, error: &ManifestError) -> Result<(), ManifestError> {
    if error.may_pass() && draft::is_there(home) { Ok(()) } else { frozen::clear(home) }
}
