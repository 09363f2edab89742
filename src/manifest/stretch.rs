//! A partition: the rows of a source that is read sequentially, or of one range of a listing.

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

/// The number of rows in a block of every partition except the first. With this, sixteen partitions need no more memory
/// than five full blocks. Deflate, with its window of 32 KiB, loses almost nothing.
const BLOCK_ROWS: usize = 8192;

/// The rows of one partition so far.
pub(super) struct Stretch {
    lane: Lane,
    pub(super) prepared: Prepared,
    pub(super) tracker: Tracker,
    pub(super) counter: Counter,
    rows: Rows,
    /// The state at the last checkpoint.
    kept: Kept,
    /// The number of pages or data files since that checkpoint.
    steps: u32,
}

enum Rows {
    /// More rows may follow.
    Open(Box<PartsWriter>),
    /// The partition is complete.
    Sealed(Vec<PartInfo>),
}

impl Stretch {
    /// Creates an empty partition.
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

    /// Resumes from a checkpoint. Returns `None` if the files are not all intact.
    pub(super) fn going_on(home: &Path, lane: Lane, sizes: Sizes, kept: &Kept) -> Result<Option<Self>, ManifestError> {
        let Some(writer) = PartsWriter::going_on(home, lane, limits(lane, sizes.limits), kept.written.clone())? else {
            return Ok(None);
        };
        let rows = Rows::Open(Box::new(writer.within(sizes.max_disk)));
        Ok(Some(Self { rows, ..Self::settled(lane, kept) }))
    }

    /// Restores a complete partition from a checkpoint, wherever its files are now.
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

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Returns the paths of its files.
    pub(super) fn files(&self, home: &Path) -> Vec<PathBuf> {
        match &self.rows {
            Rows::Open(writer) => writer.files().collect(),
            Rows::Sealed(parts) => (0_u32..).zip(parts).map(|(number, _)| self.lane.path(home, number)).collect(),
        }
    }

    /// Returns the total number of rows and bytes of its parts.
    pub(super) fn tally(&self) -> Tally {
        match &self.rows {
            Rows::Open(writer) => writer.tally(),
            Rows::Sealed(parts) => parts.iter().fold(Tally::default(), |sum, part| Tally {
                rows: sum.rows + u64::from(part.rows),
                bytes: sum.bytes + part.bytes,
            }),
        }
    }

    /// Sets the totals of the other partitions.
    pub(super) fn beside(&mut self, others: Tally) {
        if let Rows::Open(writer) = &mut self.rows {
            writer.beside(others);
        }
    }

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

    /// Records the end of a page or data file. Returns whether a checkpoint is due.
    pub(super) fn step(&mut self, cadence: Cadence) -> bool {
        self.steps += 1;
        self.steps >= cadence.steps || self.prepared.read - self.kept.prepared.read >= cadence.rows
    }

    /// Returns whether there are pages or data files since the last checkpoint.
    pub(super) fn is_ahead(&self) -> bool {
        self.steps > 0
    }

    /// Syncs all rows to disk, and records this state as the checkpoint.
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

    /// Returns the state at the last checkpoint.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Ends the last part. The parts are on disk when this returns.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        if let Rows::Open(writer) = &mut self.rows {
            self.rows = Rows::Sealed(writer.seal()?);
        }
        Ok(())
    }

    /// Returns the parts of a sealed partition.
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
