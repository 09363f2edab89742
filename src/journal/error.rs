//! Why the journal cannot say or keep something.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use super::checksum::Mismatch;
use crate::descriptors;
use crate::job::{JobId, JobStatus};

/// Why the journal cannot say or keep something. Nothing that was recorded before is lost by any of them.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process keeps it locked for longer than is waited.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// It is not a journal, or not a whole one.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A newer batchplan wrote it.
    #[error("{} is of format {found}, and this batchplan knows formats up to {known}", path.display())]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// The disk has no room for what is to be recorded.
    #[error("{} cannot be written: the disk is full", path.display())]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// It, or its folder, may not be written.
    #[error("{} cannot be written: {what}", path.display())]
    ReadOnly {
        /// The journal.
        path: PathBuf,
        /// In the system's words.
        what: String,
    },
    /// Its file or folder cannot be used.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// In the system's words.
        cause: io::Error,
    },
    /// The database refused something that it should not.
    #[error("{}: {what}", path.display())]
    Database {
        /// The journal.
        path: PathBuf,
        /// In the database's words.
        what: String,
    },
    /// No job's id is or begins so.
    #[error("there is no job {0}")]
    NoSuchJob(String),
    /// The ids of several jobs begin so.
    #[error("{count} jobs begin with {prefix}")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many jobs begin so.
        count: u64,
    },
    /// The job may not go there from where it is.
    #[error("job {job} is {from}, and cannot become {to}")]
    IllegalMove {
        /// The job.
        job: JobId,
        /// Where it is.
        from: JobStatus,
        /// Where it should have gone.
        to: JobStatus,
    },
    /// As many jobs wait as may.
    #[error("{0} jobs are waiting already")]
    QueueFull(u64),
    /// What was recorded cannot be copied to where it outlives this machine.
    #[error("that work begins cannot be pushed to the state: {0}")]
    NotSecured(String),
    /// The thread that writes it is gone.
    #[error("the journal was closed")]
    Closed,
}

impl JournalError {
    /// What to do about it, where the journal knows.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Locked { .. } => {
                "wait for the other batchplan to go on, or look for a program that has the file open; nothing was changed"
                    .to_owned()
            }
            Self::Damaged { path, .. } => {
                let folder = path.parent().unwrap_or(Path::new(""));
                format!(
                    "the jobs' reports and frozen manifests in {} are not touched by that: restore the file from a backup, \
                     or move it away and apply the plan again (tags and ACLs end up the same when they are set twice)",
                    folder.join("jobs").display()
                )
            }
            Self::Newer { .. } => "update batchplan, or use another folder with --state DIR".to_owned(),
            Self::Full { .. } => "make room, then go on with the same command: what was recorded is kept".to_owned(),
            Self::ReadOnly { .. } => {
                "make the folder writable, or keep the jobs in another one with --state DIR".to_owned()
            }
            Self::Io { cause, .. } if descriptors::are_used_up(cause) => descriptors::HELP.to_owned(),
            Self::Io { .. } => "keep the jobs in another folder with --state DIR, if this one cannot be used".to_owned(),
            Self::NoSuchJob(_) => {
                "batchplan list shows the jobs; --state or BATCHPLAN_STATE says which folder keeps them".to_owned()
            }
            Self::Ambiguous { .. } => "give more of the id: batchplan list shows it whole".to_owned(),
            Self::QueueFull(_) => "batchplan run works them off; batchplan cancel JOB takes one away".to_owned(),
            Self::IllegalMove { job, .. } => format!("batchplan show {job}"),
            Self::NotSecured(_) => "no object was touched by this run; give the same command again".to_owned(),
            Self::Database { .. } | Self::Closed => return None,
        })
    }

    /// What `SQLite` said, in our terms.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let what = match error {
            // Which value it was is no matter.
            rusqlite::Error::FromSqlConversionFailure(_, _, cause) if cause.is::<Mismatch>() => cause.to_string(),
            other => other.to_string(),
        };
        if is_no_value_of_ours(error) {
            return Self::Damaged { path, what };
        }
        // There is no room for the file that connections share.
        if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) {
            return Self::Full { path };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, what },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            // `SQLite` does not say why; it opens a file or two beside the journal's own.
            Some(ErrorCode::CannotOpen) if descriptors::left().is_some_and(|left| left < 3) => {
                Self::Io { path, cause: descriptors::used_up() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, what }
            }
            _ => Self::Database { path, what },
        }
    }

    /// What the system said of the journal's file or folder.
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, what: cause.to_string() }
            }
            _ => Self::Io { path, cause },
        }
    }
}

/// Whether something was read that this crate never writes: a value, or a table's form that a right statement does not fit.
fn is_no_value_of_ours(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError, Utf8Error,
    };
    matches!(
        error,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | SqlInputError { .. }
            | Utf8Error(..)
    )
}
