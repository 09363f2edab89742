//! How an attempt at freezing begins: with nothing, or behind what an earlier one left.

use std::path::{Path, PathBuf};

use super::draft::{self, Draft, Keeper};
use super::error::ManifestError;
use super::part::{Limits, PartsWriter};
use super::sink::Cadence;
use super::{frozen, index};

/// The sizes that freezing works in; smaller in tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) limits: Limits,
    pub(super) cadence: Cadence,
    /// The most bytes that the parts may take.
    pub(super) max_disk: Option<u64>,
}

/// What an attempt has to begin with.
pub(super) struct Begun {
    pub(super) home: PathBuf,
    /// `None` where the source is always read from its beginning.
    pub(super) keeper: Option<Keeper>,
    pub(super) writer: PartsWriter,
    /// What the writer has already.
    pub(super) draft: Option<Draft>,
    pub(super) cadence: Cadence,
}

impl Begun {
    /// Takes up the draft in this folder, or else empties the folder.
    pub(super) fn new(home: PathBuf, fingerprint: Option<String>, sizes: Sizes) -> Result<Self, ManifestError> {
        let Sizes { limits, cadence, max_disk } = sizes;
        let keeper = fingerprint.map(|fingerprint| Keeper::new(&home, fingerprint));
        if let Some((draft, writer)) = left(&home, keeper.as_ref(), limits)? {
            return Ok(Self { home, keeper, writer: writer.within(max_disk), draft: Some(draft), cadence });
        }
        frozen::clear(&home)?;
        let writer = PartsWriter::new(&home, limits).within(max_disk);
        Ok(Self { home, keeper, writer, draft: None, cadence })
    }
}

/// What an earlier attempt left, where all of it is there. A finished manifest is not gone on with: whoever freezes
/// although there is one wants it anew.
fn left(home: &Path, keeper: Option<&Keeper>, limits: Limits) -> Result<Option<(Draft, PartsWriter)>, ManifestError> {
    let Some(keeper) = keeper.filter(|_| !index::is_there(home)) else { return Ok(None) };
    let Some(draft) = keeper.load()? else { return Ok(None) };
    let writer = PartsWriter::going_on(home, limits, draft.written.clone())?;
    Ok(writer.map(|writer| (draft, writer)))
}

/// Leaves what the next attempt can go on with after this error, and nothing else.
pub(super) fn leave(home: &Path, error: &ManifestError) -> Result<(), ManifestError> {
    if error.may_pass() && draft::is_there(home) { Ok(()) } else { frozen::clear(home) }
}
