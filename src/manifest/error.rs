//! Why a manifest cannot be had, in words that say what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::continued::NotReadOn;
use crate::descriptors;
use crate::object::{Bucket, Key};
use crate::task::Fault;

/// How many bad rows an error shows; all of them are counted.
const SHOWN_ROWS: usize = 20;

/// A row that names no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The row, from 1: what the reader of a CSV file counts.
    pub row: u64,
    /// The line that it begins on, from 1; another number than the row's once a quoted field holds a line break.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.row == self.line {
            write!(f, "row {}: {}", self.row, self.why)
        } else {
            write!(f, "row {} (line {}): {}", self.row, self.line, self.why)
        }
    }
}

/// Worth saying of a manifest, but no reason to refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What was seen, and where.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a manifest was not frozen, or cannot be read again. Nothing has been changed when one of these is returned.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The stop token was cancelled.
    #[error("stopped before the manifest was read to its end")]
    Stopped,
    /// The source is not the one that the plan pins.
    #[error("{place} has changed: the plan wants ETag {wanted}, {}", found_etag(found.as_deref()))]
    Changed {
        /// The file.
        place: String,
        /// The `ETag` the plan gives.
        wanted: String,
        /// The `ETag` it has now, where the server told.
        found: Option<String>,
    },
    /// The store did not answer as it should, after the retries that its answer deserved.
    #[error("cannot {doing}: {fault}")]
    Store {
        /// What was asked of it, as a verb and its object.
        doing: String,
        /// What it said.
        fault: Box<Fault>,
    },
    /// The source's bytes stopped coming.
    #[error("cannot read {place}: {cause}")]
    Read {
        /// The file.
        place: String,
        /// Why.
        cause: io::Error,
    },
    /// A file of the job's folder cannot be written or read.
    #[error("{}", disk(doing, path, cause))]
    Disk {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The frozen manifest would take more than it may.
    #[error(
        "max_disk is {limit} bytes, and the frozen manifest needs more: {used} bytes hold the names of its first {rows} \
         objects"
    )]
    TooLarge {
        /// What was written, in bytes.
        used: u64,
        /// What may be, in bytes.
        limit: u64,
        /// The objects that this much is for.
        rows: u64,
    },
    /// The frozen manifest of an inventory would probably take more than it may: nothing of it was read.
    #[error("max_disk is {limit} bytes, and freezing {place} may take up to the {estimate} bytes of its data files")]
    TooLargeAhead {
        /// The inventory's `manifest.json`.
        place: String,
        /// What its data files have, in bytes.
        estimate: u64,
        /// What may be written, in bytes.
        limit: u64,
    },
    /// A data file that must be on disk while it is read finds no room beside the names.
    #[error(
        "max_disk is {limit} bytes, and {place} of {size} bytes, which must be on disk while it is read, finds no room beside \
         the {used} bytes of names"
    )]
    NoRoomBeside {
        /// The data file.
        place: String,
        /// What it has, in bytes.
        size: u64,
        /// What the names take, in bytes.
        used: u64,
        /// What both may take, in bytes.
        limit: u64,
    },
    /// To compare two inventories would take more than it may.
    #[error(
        "max_disk is {limit} bytes, and comparing the inventories needs more: {used} bytes hold the first {rows} of their \
         rows"
    )]
    NoRoomToCompare {
        /// What was written, in bytes.
        used: u64,
        /// What may be, in bytes.
        limit: u64,
        /// The rows that this much is for.
        rows: u64,
    },
    /// There are more objects than there may be.
    #[error("max_objects is {limit}, and the manifest names {}", found.map_or_else(|| "more".to_owned(), |n| n.to_string()))]
    TooMany {
        /// How many there may be.
        limit: u64,
        /// How many there are; `None` where nobody went on counting.
        found: Option<u64>,
    },
    /// Rows that name no object, each with its number.
    #[error("{}", bad_rows(place, *total, first))]
    BadRows {
        /// The file.
        place: String,
        /// How many there are.
        total: u64,
        /// The first of them, at most twenty.
        first: Vec<BadRow>,
    },
    /// The source as a whole has not the form it should have.
    #[error("{place}: {what}")]
    Malformed {
        /// The file.
        place: String,
        /// What is wrong, with its row where it has one.
        what: String,
        /// How to mend it.
        help: String,
    },
    /// The source names no object at all.
    #[error("{place} names no object")]
    Empty {
        /// The file or listing.
        place: String,
    },
    /// The filter asks for a fact that the source does not know.
    #[error("{what}")]
    Unfiltered {
        /// The condition and the missing fact.
        what: String,
        /// How to have it.
        help: String,
    },
    /// A listing that cannot be trusted.
    #[error("the listing of {place} cannot be trusted: {what}")]
    Listing {
        /// Bucket and prefix.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the frozen manifest is gone.
    #[error("{} is missing: the frozen manifest is not whole without it", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file of the frozen manifest is damaged.
    #[error("{} is damaged: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl ManifestError {
    /// What the store answered, where that is what is wrong.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Store { fault, .. } => Some(fault),
            Self::Read { cause, .. } => cause.get_ref()?.downcast_ref::<NotReadOn>().map(|broken| &broken.fault),
            _ => None,
        }
    }

    /// One line that says what to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Changed { .. } => {
                "look at the file again, then put its present ETag into the plan, or take `etag` out".to_owned()
            }
            Self::Store { fault, .. } if fault.status == Some(404) => {
                "check the bucket and the key in the plan's [manifest]".to_owned()
            }
            Self::Store { fault, .. } if fault.status == Some(403) => {
                "the credentials in use must be allowed to list and read there".to_owned()
            }
            Self::Store { .. } | Self::Read { .. } => "nothing was changed; give the same command again once that is mended".to_owned(),
            Self::BadRows { .. } => "nothing was changed; mend these rows and give the same command again".to_owned(),
            Self::Malformed { help, .. } | Self::Unfiltered { help, .. } => help.clone(),
            Self::Empty { .. } => "check the plan's [manifest]: a prefix is case-sensitive, and an empty file is \
                                   taken for a mistake"
                .to_owned(),
            Self::Listing { .. } => {
                "the server's listing has a fault; use [manifest.csv] or [manifest.inventory] instead".to_owned()
            }
            Self::Missing { .. } | Self::Corrupt { .. } => {
                "put the file back from a copy if there is one; otherwise this job cannot go on, and only a new job can \
                 freeze the objects' names again: apply the plan with --new"
                    .to_owned()
            }
            Self::TooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits], and preparing goes on from its last \
                 checkpoint, or let the filter take fewer objects"
                    .to_owned()
            }
            Self::TooLargeAhead { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits]: the names alone mostly take less than the \
                 data files"
                    .to_owned()
            }
            Self::NoRoomBeside { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits], and preparing goes on from its last \
                 checkpoint"
                    .to_owned()
            }
            Self::NoRoomToCompare { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits], and give the same command again: the room \
                 is given back before the first object is touched"
                    .to_owned()
            }
            Self::TooMany { .. } => {
                "nothing was changed; raise `max_objects` in the plan's [limits] if it is right, and preparing goes on, or \
                 let the filter take fewer objects"
                    .to_owned()
            }
            Self::Disk { cause, .. } if is_no_room(cause) => {
                "nothing was changed; make room there, and preparing goes on from its last checkpoint".to_owned()
            }
            Self::Disk { cause, .. } if descriptors::are_used_up(cause) => descriptors::HELP.to_owned(),
            Self::Disk { .. } => "nothing was changed; see to the disk and give the same command again".to_owned(),
            Self::Stopped => return None,
        })
    }

    /// What the store said, where it is the store that refused; and whether a listing was refused, rather than a read.
    #[must_use]
    pub fn refusal(&self) -> Option<(&Fault, bool)> {
        match self {
            Self::Store { doing, fault } => Some((fault, doing.starts_with("list "))),
            _ => None,
        }
    }

    /// Whether freezing again may fare better, so that what was written is worth keeping.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Store { .. }
            | Self::Read { .. }
            | Self::Disk { .. }
            | Self::TooLarge { .. }
            | Self::NoRoomBeside { .. }
            | Self::TooMany { .. } => true,
            Self::Changed { .. }
            | Self::TooLargeAhead { .. }
            | Self::NoRoomToCompare { .. }
            | Self::BadRows { .. }
            | Self::Malformed { .. }
            | Self::Empty { .. }
            | Self::Unfiltered { .. }
            | Self::Listing { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// A part of the frozen manifest cannot be opened.
    pub(super) fn part(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing { file: path.to_owned() },
            _ => Self::disk("open", path, cause),
        }
    }

    /// A file of the job's folder could not be handled.
    pub(super) fn disk(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Disk { doing, path: path.to_owned(), cause }
    }

    /// A file of the frozen manifest is not what was written.
    pub(super) fn corrupt(file: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), what: what.into() }
    }

    /// A source has not the form it should have.
    pub(super) fn malformed(place: &str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Malformed { place: place.to_owned(), what: what.into(), help: help.into() }
    }
}

/// How messages name an object.
pub(super) fn place(bucket: &Bucket, key: &Key) -> String {
    format!("{bucket}/{key}")
}

/// A file with this many bad rows is not read on: it is no manifest, and a small gzip file may hold billions of them.
const HOPELESS: u64 = 100_000;

/// The bad rows of one file, as they are found.
pub(super) struct BadRows {
    total: u64,
    first: Vec<BadRow>,
}

impl BadRows {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { total: 0, first: Vec::new() }
    }

    /// Counts one, and keeps it if it is among the first.
    pub(super) fn push(&mut self, row: u64, line: u64, why: String) {
        self.total += 1;
        if self.first.len() < SHOWN_ROWS {
            self.first.push(BadRow { row, line, why });
        }
    }

    /// The error of reading on, unless it was a stop and there is worse to say.
    pub(super) fn before(self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::Stopped => self.verdict(place).err().unwrap_or(ManifestError::Stopped),
            other => other,
        }
    }

    /// Whether there are none so far.
    pub(super) fn are_none(&self) -> bool {
        self.total == 0
    }

    /// Whether there are so many that reading on would tell nothing more.
    pub(super) fn are_hopeless(&self) -> bool {
        self.total >= HOPELESS
    }

    /// The error that they make together, if there is any.
    pub(super) fn verdict(self, place: &str) -> Result<(), ManifestError> {
        if self.total == 0 {
            return Ok(());
        }
        Err(ManifestError::BadRows { place: place.to_owned(), total: self.total, first: self.first })
    }
}

/// Whether it was the disk, a quota or a limit on files that had no room left.
fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn disk(doing: &str, path: &Path, cause: &io::Error) -> String {
    let full = if is_no_room(cause) { "no room on the disk: " } else { "" };
    format!("{full}cannot {doing} {}: {cause}", path.display())
}

fn found_etag(found: Option<&str>) -> String {
    match found {
        Some(etag) => format!("it is {etag} now"),
        None => "it has another one now".to_owned(),
    }
}

fn bad_rows(place: &str, total: u64, first: &[BadRow]) -> String {
    let mut text = format!("{place} has {total} bad {}", if total == 1 { "row" } else { "rows" });
    for row in first {
        text.push_str("\n  ");
        text.push_str(&row.to_string());
    }
    if total >= HOPELESS {
        text.push_str("\n  and so on; the rest was not read");
        return text;
    }
    let more = total.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
    if more > 0 {
        text.push_str("\n  and ");
        text.push_str(&more.to_string());
        text.push_str(" more");
    }
    text
}
