//! Errors and warnings of manifests, with messages that tell the user what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::StoreError;
use thiserror::Error;

use super::resuming_body::ResumeReadError;
use crate::descriptors;

/// The maximum number of bad rows that an error shows; all of them are counted.
const MAX_SHOWN_ROWS: usize = 20;

/// A row that names no valid object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The row number, counted in CSV records from 1.
    pub row: u64,
    /// The number of the line that the row starts on, from 1. Differs from `row` after a quoted field with a line
    /// break.
    pub line: u64,
    /// The reason, as shown to the user.
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

/// A problem with a manifest that does not prevent its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestWarning {
    /// What is wrong, and where.
    pub message: String,
    /// What the user can do about it.
    pub help: String,
}

impl fmt::Display for ManifestWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a manifest cannot be frozen or read. No object has been changed when one of these is returned.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The stop token was cancelled.
    #[error("stopped before the manifest was read to its end")]
    Stopped,
    /// The source does not have the `ETag` that the plan pins.
    #[error("{place} has changed: the plan wants ETag {wanted}, {}", found_etag(found.as_deref()))]
    Changed {
        /// The name of the file.
        place: String,
        /// The `ETag` in the plan.
        wanted: String,
        /// The current `ETag`, if the server sent one.
        found: Option<String>,
    },
    /// A request to the store failed. Transient errors have been retried.
    #[error("cannot {doing}: {fault}")]
    Store {
        /// The request, as a verb with its object.
        doing: String,
        /// The error that the store returned.
        fault: Box<StoreError>,
    },
    /// Reading the source failed.
    #[error("cannot read {place}: {cause}")]
    Read {
        /// The name of the file.
        place: String,
        /// The underlying error.
        cause: io::Error,
    },
    /// A file in the job's folder cannot be written or read.
    #[error("{}", disk(doing, path, cause))]
    Disk {
        /// The operation, as a verb.
        doing: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        cause: io::Error,
    },
    /// The frozen manifest would exceed `max_disk`.
    #[error(
        "max_disk is {limit} bytes, and the frozen manifest needs more: {used} bytes hold the names of its first {rows} \
         objects"
    )]
    TooLarge {
        /// The size of the parts so far, in bytes.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The number of objects in those parts.
        rows: u64,
    },
    /// The frozen manifest of an inventory would probably exceed `max_disk`. Returned before any data file is read.
    #[error("max_disk is {limit} bytes, and freezing {place} may take up to the {estimate} bytes of its data files")]
    ProbablyTooLarge {
        /// The name of the inventory's `manifest.json`.
        place: String,
        /// The total size of the data files, in bytes.
        estimate: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is not enough room for a data file that must be on disk while it is read.
    #[error(
        "max_disk is {limit} bytes, and {place} of {size} bytes, which must be on disk while it is read, finds no room beside \
         the {used} bytes of names"
    )]
    NoRoomForDataFile {
        /// The name of the data file.
        place: String,
        /// The size of the data file, in bytes.
        size: u64,
        /// The size of the frozen names so far, in bytes.
        used: u64,
        /// The limit for both together, in bytes.
        limit: u64,
    },
    /// Comparing two inventories would exceed `max_disk`.
    #[error(
        "max_disk is {limit} bytes, and comparing the inventories needs more: {used} bytes hold the first {rows} of their \
         rows"
    )]
    ComparisonTooLarge {
        /// The size of the sort files so far, in bytes.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The number of rows in those files.
        rows: u64,
    },
    /// The manifest has more objects than `max_objects`.
    #[error("max_objects is {limit}, and the manifest names {}", found.map_or_else(|| "more".to_owned(), |n| n.to_string()))]
    TooManyObjects {
        /// The limit.
        limit: u64,
        /// The number of objects in the manifest; `None` if counting stopped at the limit.
        found: Option<u64>,
    },
    /// The source has rows that name no valid object.
    #[error("{}", bad_rows(place, *total, first))]
    BadRows {
        /// The name of the file.
        place: String,
        /// The number of bad rows.
        total: u64,
        /// The first bad rows, at most twenty.
        first: Vec<BadRow>,
    },
    /// The source as a whole has the wrong format.
    #[error("{place}: {what}")]
    Malformed {
        /// The name of the file.
        place: String,
        /// What is wrong, with the row number if there is one.
        what: String,
        /// How to fix it.
        help: String,
    },
    /// The source names no object at all.
    #[error("{place} names no object")]
    Empty {
        /// The name of the file or listing.
        place: String,
    },
    /// The filter needs a fact that the source does not report.
    #[error("{what}")]
    MissingFact {
        /// The condition and the missing fact.
        what: String,
        /// How to get that fact.
        help: String,
    },
    /// The server's listing is inconsistent.
    #[error("the listing of {place} cannot be trusted: {what}")]
    InconsistentListing {
        /// Bucket and prefix.
        place: String,
        /// What is wrong with the listing.
        what: String,
    },
    /// A file of the frozen manifest is missing.
    #[error("{} is missing: the frozen manifest is not whole without it", file.display())]
    Missing {
        /// The path of the file.
        file: PathBuf,
    },
    /// A file of the frozen manifest is damaged.
    #[error("{} is damaged: {what}", file.display())]
    Corrupt {
        /// The path of the file.
        file: PathBuf,
        /// What is wrong with the file.
        what: String,
    },
}

impl ManifestError {
    /// Returns the error of the store, if it caused this error.
    #[must_use]
    pub fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store { fault, .. } => Some(fault),
            Self::Read { cause, .. } => cause.get_ref()?.downcast_ref::<ResumeReadError>().map(|broken| &broken.fault),
            _ => None,
        }
    }

    /// Returns one line that says what to do about the error.
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
            Self::Malformed { help, .. } | Self::MissingFact { help, .. } => help.clone(),
            Self::Empty { .. } => "check the plan's [manifest]: a prefix is case-sensitive, and an empty file is \
                                   taken for a mistake"
                .to_owned(),
            Self::InconsistentListing { .. } => {
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
            Self::ProbablyTooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits]: the names alone mostly take less than the \
                 data files"
                    .to_owned()
            }
            Self::NoRoomForDataFile { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits], and preparing goes on from its last \
                 checkpoint"
                    .to_owned()
            }
            Self::ComparisonTooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits], and give the same command again: the room \
                 is given back before the first object is touched"
                    .to_owned()
            }
            Self::TooManyObjects { .. } => {
                "nothing was changed; raise `max_objects` in the plan's [limits] if it is right, and preparing goes on, or \
                 let the filter take fewer objects"
                    .to_owned()
            }
            Self::Disk { cause, .. } if is_no_room(cause) => {
                "nothing was changed; make room there, and preparing goes on from its last checkpoint".to_owned()
            }
            Self::Disk { cause, .. } if descriptors::is_exhausted(cause) => descriptors::HELP.to_owned(),
            Self::Disk { .. } => "nothing was changed; see to the disk and give the same command again".to_owned(),
            Self::Stopped => return None,
        })
    }

    /// Returns the error of the store if a request was refused, and whether the request was a listing (not a read).
    #[must_use]
    pub fn refused_request(&self) -> Option<(&StoreError, bool)> {
        match self {
            Self::Store { doing, fault } => Some((fault, doing.starts_with("list "))),
            _ => None,
        }
    }

    /// Returns whether another attempt may succeed, so that the files of this attempt are kept.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Store { .. }
            | Self::Read { .. }
            | Self::Disk { .. }
            | Self::TooLarge { .. }
            | Self::NoRoomForDataFile { .. }
            | Self::TooManyObjects { .. } => true,
            Self::Changed { .. }
            | Self::ProbablyTooLarge { .. }
            | Self::ComparisonTooLarge { .. }
            | Self::BadRows { .. }
            | Self::Malformed { .. }
            | Self::Empty { .. }
            | Self::MissingFact { .. }
            | Self::InconsistentListing { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// Creates the error for a part that cannot be opened.
    pub(super) fn unopened_part(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing { file: path.to_owned() },
            _ => Self::disk("open", path, cause),
        }
    }

    pub(super) fn disk(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Disk { doing, path: path.to_owned(), cause }
    }

    pub(super) fn corrupt(file: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), what: what.into() }
    }

    pub(super) fn malformed(place: &str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Malformed { place: place.to_owned(), what: what.into(), help: help.into() }
    }
}

/// Formats the name of an object for messages.
pub(super) fn object_path(bucket: &BucketName, key: &ObjectKey) -> String {
    format!("{bucket}/{key}")
}

/// The number of bad rows after which reading stops: such a file is not a manifest, and a small gzip file may hold
/// billions of bad rows.
const MAX_BAD_ROWS: u64 = 100_000;

/// Collects the bad rows of one file.
pub(super) struct BadRows {
    total: u64,
    first: Vec<BadRow>,
}

impl BadRows {
    pub(super) fn new() -> Self {
        Self { total: 0, first: Vec::new() }
    }

    /// Counts a bad row, and keeps it if it is among the first [`MAX_SHOWN_ROWS`].
    pub(super) fn push(&mut self, row: u64, line: u64, why: String) {
        self.total += 1;
        if self.first.len() < MAX_SHOWN_ROWS {
            self.first.push(BadRow { row, line, why });
        }
    }

    /// Returns the error to report when reading ends early: the bad rows take precedence over a stop, but over nothing
    /// else.
    pub(super) fn or_bad_rows(self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::Stopped => self.into_result(place).err().unwrap_or(ManifestError::Stopped),
            other => other,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Returns whether there are too many bad rows to continue reading.
    pub(super) fn limit_reached(&self) -> bool {
        self.total >= MAX_BAD_ROWS
    }

    /// Returns an error if there are bad rows.
    pub(super) fn into_result(self, place: &str) -> Result<(), ManifestError> {
        if self.total == 0 {
            return Ok(());
        }
        Err(ManifestError::BadRows { place: place.to_owned(), total: self.total, first: self.first })
    }
}

/// Returns whether the disk is full, or a quota or a file size limit is reached.
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
    if total >= MAX_BAD_ROWS {
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
