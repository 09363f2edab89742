//! The rows of one lane: of a source that is read in one go, all of them; of a listing, those of one of its ranges.

use std::path::{Path, PathBuf};

use super::begin::Sizes;
use super::census::{Census, Counter};
use super::draft::Kept;
use super::error::ManifestError;
use super::filter::Row;
use super::frozen::PartInfo;
use super::part::{Lane, Limits, PartsWriter, Tally, Written};
use super::reach::{Reach, Tracker};
use super::sink::{Cadence, Prepared};

/// Rows of a block in all lanes but the first: sixteen of them then take no more memory than five full blocks, and
/// deflate, which looks back 32 KiB, loses next to nothing.
const BLOCK_ROWS: usize = 8192;

/// What one lane has so far.
pub(super) struct Stretch {
    lane: Lane,
    pub(super) prepared: Prepared,
    pub(super) tracker: Tracker,
    pub(super) counter: Counter,
    rows: Rows,
    /// What of it survives a crash.
    kept: Kept,
    /// Steps since that was kept.
    steps: u32,
}

enum Rows {
    /// More are to come.
    Open(Box<PartsWriter>),
    /// These are all.
    Sealed(Vec<PartInfo>),
}

impl Stretch {
    /// An empty one.
    pub(super) fn new(home: &Path, lane: Lane, sizes: Sizes) -> Self {
        let writer = PartsWriter::in_lane(home, lane, limits(lane, sizes.limits)).within(sizes.max_disk);
        let nothing = Prepared::default();
        let reach = Reach::Known(Vec::new());
        Self {
            lane,
            prepared: nothing,
            tracker: Tracker::new(),
            counter: Counter::default(),
            rows: Rows::Open(Box::new(writer)),
            kept: Kept { prepared: nothing, written: Written::default(), reach, census: Census::default() },
            steps: 0,
        }
    }

    /// Goes on behind what was kept; `None` where it is not all there.
    pub(super) fn going_on(home: &Path, lane: Lane, sizes: Sizes, kept: &Kept) -> Result<Option<Self>, ManifestError> {
        let Some(writer) = PartsWriter::going_on(home, lane, limits(lane, sizes.limits), kept.written.clone())? else {
            return Ok(None);
        };
        let rows = Rows::Open(Box::new(writer.within(sizes.max_disk)));
        Ok(Some(Self { rows, ..Self::settled(lane, kept) }))
    }

    /// One that has all its rows, wherever its files are by now.
    pub(super) fn settled(lane: Lane, kept: &Kept) -> Self {
        Self {
            lane,
            prepared: kept.prepared,
            tracker: Tracker::going_on(kept.reach.clone()),
            counter: Counter::going_on(&kept.census),
            rows: Rows::Sealed(kept.written.sealed.clone()),
            kept: kept.clone(),
            steps: 0,
        }
    }

    /// The lane.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Its files.
    pub(super) fn files(&self, home: &Path) -> Vec<PathBuf> {
        match &self.rows {
            Rows::Open(writer) => writer.files().collect(),
            Rows::Sealed(parts) => (0_u32..).zip(parts).map(|(number, _)| self.lane.path(home, number)).collect(),
        }
    }

    /// What its parts come to.
    pub(super) fn tally(&self) -> Tally {
        match &self.rows {
            Rows::Open(writer) => writer.tally(),
            Rows::Sealed(parts) => parts.iter().fold(Tally::default(), |sum, part| Tally {
                rows: sum.rows + u64::from(part.rows),
                bytes: sum.bytes + part.bytes,
            }),
        }
    }

    /// Says what the other lanes come to.
    pub(super) fn beside(&mut self, others: Tally) {
        if let Rows::Open(writer) = &mut self.rows {
            writer.beside(others);
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<(), ManifestError> {
        let Row { bucket, key, version, facts } = row;
        self.prepared.taken += 1;
        self.tracker.note(bucket, key);
        self.counter.note(facts, version.is_some());
        match &mut self.rows {
            Rows::Open(writer) => writer.push(bucket, key, *version),
            Rows::Sealed(_) => Ok(()),
        }
    }

    /// Counts a page or a data file, and says whether what is there is to be kept.
    pub(super) fn step(&mut self, cadence: Cadence) -> bool {
        self.steps += 1;
        self.steps >= cadence.steps || self.prepared.read - self.kept.prepared.read >= cadence.rows
    }

    /// Whether there was a step since something was kept.
    pub(super) fn is_ahead(&self) -> bool {
        self.steps > 0
    }

    /// Brings what is there to the disk, and takes it for what is kept.
    pub(super) fn keep(&mut self) -> Result<(), ManifestError> {
        let written = match &mut self.rows {
            Rows::Open(writer) => writer.checkpoint()?,
            Rows::Sealed(parts) => Written { sealed: parts.clone(), open: None },
        };
        let (reach, census) = (self.tracker.reach(), self.counter.census());
        self.kept = Kept { prepared: self.prepared, written, reach, census };
        self.steps = 0;
        Ok(())
    }

    /// What of it survives a crash.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Ends its parts; they are on disk when this returns.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        if let Rows::Open(writer) = &mut self.rows {
            self.rows = Rows::Sealed(writer.seal()?);
        }
        Ok(())
    }

    /// Its parts, once it is sealed.
    pub(super) fn parts(&self) -> &[PartInfo] {
        match &self.rows {
            Rows::Open(_) => &[],
            Rows::Sealed(parts) => parts,
        }
    }
}

fn limits(lane: Lane, limits: Limits) -> Limits {
    if lane == Lane(0) { limits } else { Limits { block_rows: limits.block_rows.min(BLOCK_ROWS), ..limits } }
}
