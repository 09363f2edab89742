//! A frozen manifest: what it was made from, and its rows.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::vec;

use jiff::Timestamp;

use super::census::Census;
use super::error::{ManifestError, Warning};
use super::facts::FactsReader;
use super::order::{Order, seq};
use super::part::PartReader;
use super::reach::Reach;
use super::turns::Turns;
use super::{draft, index};
use crate::files::create_own_folder;
use crate::frontier::Frontier;
use crate::object::{Bucket, Key};
use crate::task::{Seq, Task};

/// The most rows in one batch, whatever is asked for: keys are up to 1 KiB each.
const MAX_BATCH: usize = 65_536;

/// What a manifest was made from, as it was at that moment. A job goes on only with an equal one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A listing, or what an earlier job left: nothing remains of it but the frozen rows.
    Listing,
    /// A CSV file in a bucket.
    Object {
        /// Its bucket.
        bucket: Bucket,
        /// Its key.
        key: Key,
        /// Its `ETag` without quotes.
        etag: String,
        /// SHA-256 of its bytes, in lower-case hex.
        sha256: String,
    },
    /// A CSV file on this machine.
    File {
        /// Where: the absolute path.
        path: String,
        /// SHA-256 of its bytes, in lower-case hex.
        sha256: String,
        /// What the disk said of it, where it said the same before and after the reading: while it still does, its
        /// bytes need not be read again to know them for the same.
        seen: Option<Seen>,
    },
    /// An inventory; its data files are pinned by the MD5 that its `manifest.json` gives of each.
    Inventory {
        /// The bucket of its `manifest.json`.
        bucket: Bucket,
        /// The key of its `manifest.json`: with `latest`, the one that was chosen.
        key: Key,
        /// The `ETag` of its `manifest.json`, without quotes.
        etag: String,
        /// When the inventory was begun, where it says so: objects written later may be missing from it.
        created: Option<Timestamp>,
    },
}

/// What a disk says of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its bytes.
    pub size: u64,
    /// When it was last written, to the nanosecond where the file system knows.
    pub modified: Timestamp,
}

/// One file of a frozen manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its rows, at least one.
    pub rows: u32,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A manifest that was read to its end, checked, filtered and written to the job's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    pub(super) folder: PathBuf,
    pub(super) read: u64,
    pub(super) parts: Vec<PartInfo>,
    pub(super) pin: Pin,
    pub(super) warnings: Vec<Warning>,
    pub(super) reach: Reach,
    /// Earlier builds kept none.
    pub(super) census: Option<Box<Census>>,
    /// Into how many lanes its rows are spread while they are worked on; in one, a [`Seq`] is a file and a row in it.
    pub(super) lanes: u32,
    /// Whether its index has a checksum.
    pub(super) proven: bool,
}

impl Frozen {
    /// Opens the frozen manifest of a job's folder; `None` where there is none, or one that was not finished.
    ///
    /// # Errors
    /// The index cannot be read, is not one, or a part is missing or has another length than the index says.
    pub fn open(folder: &Path) -> Result<Option<Self>, ManifestError> {
        let home = home(folder);
        let Some(frozen) = index::load(&home)? else { return Ok(None) };
        for (number, part) in (0_u32..).zip(&frozen.parts) {
            let path = part_path(&home, number);
            let found = fs::metadata(&path).map_err(|cause| ManifestError::part(&path, cause))?.len();
            if found != part.bytes {
                let what = format!("it has {found} bytes, and the index says {}", part.bytes);
                return Err(ManifestError::corrupt(&path, what));
            }
        }
        Ok(Some(frozen))
    }

    /// How many objects it names, counting each as often as the source did.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.rows)).sum()
    }

    /// How many rows the source had, before the filter and before delete markers were left out.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.read
    }

    /// Its files, in order; the part of a [`Seq`] counts them from 0.
    #[must_use]
    pub fn parts(&self) -> &[PartInfo] {
        &self.parts
    }

    /// Whether its index is known to be what was written: earlier builds wrote no checksum.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Takes an index without a checksum for what was written, and gives it one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn accept(&self) -> Result<(), ManifestError> {
        if self.proven { Ok(()) } else { index::save(self) }
    }

    /// What it was made from.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// What is worth saying of it.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Which keys its rows lie between; for a listing, the prefix itself among them.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// What its objects come to by storage class, as far as its source tells; `None` in one of an earlier build.
    #[must_use]
    pub fn census(&self) -> Option<&Census> {
        self.census.as_deref()
    }

    /// What the source told of each of its objects, where a survey kept that.
    ///
    /// # Errors
    /// When it is not there.
    pub fn facts(&self) -> Result<FactsReader, ManifestError> {
        FactsReader::open(&self.folder)
    }

    /// The rows from one place on, to the end, in batches of at most `batch`; a batch never holds rows of two parts.
    ///
    /// The iterator reads files and inflates: keep it on a thread that may block.
    #[must_use]
    pub fn tasks(&self, from: Seq, batch: usize) -> Tasks {
        self.range(from, u32::MAX, batch)
    }

    /// As [`tasks`](Self::tasks), but only to the end of the part: for a reader that has several parts open.
    #[must_use]
    pub fn part_tasks(&self, from: Seq, batch: usize) -> Tasks {
        self.range(from, from.part, batch)
    }

    /// The rows that are not settled, in the order in which they are worked on: those of a large manifest are taken from
    /// several places in turn. What a job has left, from its beginning or when it goes on.
    ///
    /// The iterator reads files and inflates: keep it on a thread that may block.
    #[must_use]
    pub fn in_turns(
        &self,
        frontier: &Frontier,
        batch: usize,
    ) -> Box<dyn Iterator<Item = Result<Vec<Task>, ManifestError>> + Send> {
        if self.lanes > 1 {
            Box::new(Turns::new(self, frontier, batch.clamp(1, MAX_BATCH)))
        } else {
            Box::new(self.unsettled(frontier, batch))
        }
    }

    /// As [`tasks`](Self::tasks) from the start, but only the rows that are not settled now: what a retried job has left.
    /// Where the rows are in one lane, a file is begun at its low mark, and not opened where nothing is left of it.
    #[must_use]
    pub fn unsettled(&self, frontier: &Frontier, batch: usize) -> Tasks {
        let mut tasks = self.tasks(Seq { part: 0, row: 0 }, batch);
        if self.lanes > 1 {
            tasks.places = Some(self.order());
        } else {
            let open = tasks.spans.filter_map(|span| {
                let from = frontier.low(span.part);
                (from < span.rows).then_some(Span { from, ..span })
            });
            tasks.spans = open.collect::<Vec<_>>().into_iter();
        }
        tasks.settled = frontier.clone();
        tasks
    }

    /// The order in which the rows are worked on.
    pub(super) fn order(&self) -> Order {
        Order::new(self.rows(), self.lanes)
    }

    fn range(&self, from: Seq, last: u32, batch: usize) -> Tasks {
        let parts = (0_u32..).zip(&self.parts).filter(|(part, _)| (from.part..=last).contains(part));
        let spans: Vec<Span> = parts
            .map(|(part, info)| Span {
                path: part_path(&self.folder, part),
                part,
                rows: info.rows,
                from: if part == from.part { from.row } else { 0 },
            })
            .collect();
        let batch = batch.clamp(1, MAX_BATCH);
        Tasks { spans: spans.into_iter(), open: None, batch, settled: Frontier::default(), places: None, passed: 0 }
    }
}

/// Rows of a frozen manifest, in batches. After an error it ends.
pub struct Tasks {
    spans: vec::IntoIter<Span>,
    open: Option<(u32, PartReader)>,
    batch: usize,
    /// Rows to leave out.
    settled: Frontier,
    /// The places by which they are named, where those are not files and rows; and the rows that came so far, from the
    /// first on.
    places: Option<Order>,
    passed: u64,
}

struct Span {
    path: PathBuf,
    part: u32,
    rows: u32,
    from: u32,
}

impl Tasks {
    fn fill(&mut self) -> Result<Vec<Task>, ManifestError> {
        let mut tasks = Vec::new();
        while tasks.is_empty() {
            let Some((part, reader)) = &mut self.open else {
                let Some(span) = self.spans.next() else { break };
                let reader = PartReader::open(span.path, span.part, span.rows, span.from)?;
                self.open = Some((span.part, reader));
                continue;
            };
            tasks.reserve(self.batch);
            while tasks.len() < self.batch {
                let Some((row, object)) = reader.next_row()? else {
                    self.open = None;
                    break;
                };
                let seq = self.places.map_or(Seq { part: *part, row }, |order| seq(order.place_of(self.passed)));
                self.passed += 1;
                if !self.settled.is_settled(seq) {
                    tasks.push(Task { seq, object });
                }
            }
        }
        Ok(tasks)
    }
}

impl Iterator for Tasks {
    type Item = Result<Vec<Task>, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fill() {
            Ok(tasks) if tasks.is_empty() => None,
            Ok(tasks) => Some(Ok(tasks)),
            Err(error) => {
                self.open = None;
                self.spans = Vec::new().into_iter();
                Some(Err(error))
            }
        }
    }
}

/// Where a job's folder keeps its manifest.
pub(super) fn home(folder: &Path) -> PathBuf {
    folder.join("manifest")
}

/// The file of one part.
pub(super) fn part_path(home: &Path, part: u32) -> PathBuf {
    home.join(format!("part-{part:05}.bpm"))
}

/// Makes an empty place for a manifest, without what an earlier attempt left there.
pub(super) fn clear(home: &Path) -> Result<(), ManifestError> {
    create_own_folder(home).map_err(|cause| ManifestError::disk("create", home, cause))?;
    // What vouches for the parts goes first, so that half of them are never taken for all.
    draft::remove(home)?;
    index::remove(home)?;
    keep_only(home, &HashSet::new())
}

/// Removes all parts but these files.
pub(super) fn keep_only(home: &Path, kept: &HashSet<PathBuf>) -> Result<(), ManifestError> {
    let failed = |path: &Path, cause: io::Error| ManifestError::disk("clear", path, cause);
    for entry in fs::read_dir(home).map_err(|cause| failed(home, cause))? {
        let path = entry.map_err(|cause| failed(home, cause))?.path();
        if path.extension().is_some_and(|extension| extension == "bpm") && !kept.contains(&path) {
            fs::remove_file(&path).map_err(|cause| failed(&path, cause))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
