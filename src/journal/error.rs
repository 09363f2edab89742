//! Why the journal cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::{
    SQLITE_IOERR_CHECKRESERVEDLOCK, SQLITE_IOERR_LOCK, SQLITE_IOERR_RDLOCK, SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMMAP,
    SQLITE_IOERR_SHMSIZE,
};

use crate::files;
use crate::hint::{Hint, command, hint};
use crate::job::{JobId, JobStatus};
use crate::open_files;
use crate::paths::show_path;

/// Why the journal cannot be read or written. Nothing that was recorded before is lost.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process keeps the journal locked for longer than the timeout.
    #[error("{} is locked by another process", show_path(path))]
    Locked {
        /// The journal's path.
        path: PathBuf,
    },
    /// The file is not a journal, or is damaged.
    #[error("{} is damaged: {what}", show_path(path))]
    Damaged {
        /// The journal's path.
        path: PathBuf,
        /// What is wrong with the file.
        what: String,
    },
    /// A newer batchplan wrote the journal.
    #[error("{} has format {found}; this batchplan supports formats up to {known}", show_path(path))]
    NewerFormat {
        /// The journal's path.
        path: PathBuf,
        /// The journal's format version.
        found: u32,
        /// The newest format version that this program knows.
        known: u32,
    },
    /// The disk is full.
    #[error("cannot write {}: the disk is full", show_path(path))]
    DiskFull {
        /// The journal's path.
        path: PathBuf,
    },
    /// The system returned an error for a read or a write, such as a quota that is used up or a disk that fails.
    #[error("{}: {what}", show_path(path))]
    DiskFailed {
        /// The journal's path.
        path: PathBuf,
        /// The error message of the database, which does not report the system's.
        what: String,
    },
    /// The journal or its folder is not writable.
    #[error("cannot write {}: {what}", show_path(path))]
    ReadOnly {
        /// The journal's path.
        path: PathBuf,
        /// The error message of the system.
        what: String,
    },
    /// The file system lacks what the journal needs.
    #[error("{}: {what}", show_path(path))]
    UnsupportedFileSystem {
        /// The journal's path.
        path: PathBuf,
        /// What it lacks, with the error message of the system or the database.
        what: String,
    },
    /// The state folder is read-only, and the journal cannot be copied elsewhere to be read.
    #[error("{} is in a read-only folder and cannot be copied to a temporary one to be read: {cause}", show_path(path))]
    NotCopied {
        /// The journal's path.
        path: PathBuf,
        /// The error of the system, with the path of the temporary file or folder.
        cause: io::Error,
    },
    /// The journal's file or folder cannot be used.
    #[error("{}: {cause}", show_path(path))]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The database returned an unexpected error.
    #[error("{}: {what}", show_path(path))]
    Database {
        /// The journal's path.
        path: PathBuf,
        /// The error message of the database.
        what: String,
    },
    /// No job has this id or an id with this prefix.
    #[error("there is no job {0}")]
    NoSuchJob(String),
    /// Several jobs have an id with this prefix.
    #[error("{count} job IDs start with {prefix}")]
    AmbiguousId {
        /// The prefix that was given.
        prefix: String,
        /// The number of jobs that match.
        count: u64,
    },
    /// The job may not move from its status to the requested one.
    #[error("job {job} is {from} and cannot become {to}")]
    IllegalStatusMove {
        /// The job that was to move.
        job: JobId,
        /// The job's current status.
        from: JobStatus,
        /// The requested status.
        to: JobStatus,
    },
    /// The maximum number of waiting jobs is reached.
    #[error("{0} jobs are already waiting")]
    QueueFull(u64),
    /// What was recorded cannot be copied to the backup.
    #[error("cannot push the job's start to the state: {0}")]
    BackupFailed(String),
    /// The database thread has ended.
    #[error("the journal was closed")]
    Closed,
}

impl JournalError {
    /// Returns a hint about what to do, if there is one.
    #[must_use]
    pub fn help(&self) -> Option<Hint> {
        Some(match self {
            Self::Locked { .. } => {
                "nothing was changed; wait for the other batchplan, or close the program that has the file open".into()
            }
            Self::Damaged { path, .. } => {
                let folder = path.parent().unwrap_or(Path::new(""));
                format!(
                    "the reports and frozen manifests in {} are not affected: restore the file from a backup, or move \
                     it away and apply the plan again (setting tags and ACLs twice has the same result)",
                    show_path(folder.join("jobs"))
                )
                .into()
            }
            Self::NewerFormat { .. } => "update batchplan, or use another folder with --state DIR".into(),
            Self::DiskFull { .. } => "free some space, then run the command again: recorded progress is kept".into(),
            Self::DiskFailed { .. } => {
                "check the disk for errors, and its free space and quota, then run the command again: recorded progress is \
                 kept"
                    .into()
            }
            Self::ReadOnly { .. } => "make the folder writable, or use another one with --state DIR".into(),
            Self::UnsupportedFileSystem { .. } => files::OTHER_FILE_SYSTEM_HELP.into(),
            Self::NotCopied { .. } => files::TEMPORARY_FOLDER_HELP.into(),
            Self::Io { cause, .. } if open_files::is_exhausted(cause) => open_files::HELP.into(),
            Self::Io { .. } => "use another folder with --state DIR if this one cannot be used".into(),
            Self::NoSuchJob(_) => {
                hint!("list the jobs with {}; to use another state, set --state or BATCHPLAN_STATE", command!("list"))
            }
            Self::AmbiguousId { .. } => hint!("use a longer prefix: {} shows one for each job", command!("list")),
            Self::QueueFull(_) => hint!("{} runs them; {} cancels one", command!("run"), command!("cancel", "JOB")),
            Self::IllegalStatusMove { job, .. } => command!("show", job).into(),
            Self::BackupFailed(_) => "this run changed no objects; run the command again".into(),
            Self::Database { .. } | Self::Closed => return None,
        })
    }

    /// Converts an error of `SQLite`.
    pub(crate) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let what = match error {
            // Do not name the value: the checksum covers the whole row.
            rusqlite::Error::FromSqlConversionFailure(_, _, cause) if cause.is::<ChecksumMismatchError>() => {
                cause.to_string()
            }
            other => other.to_string(),
        };
        if is_invalid_content(error) {
            return Self::Damaged { path, what };
        }
        // There is no room for the shared-memory file of the connections.
        if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) {
            return Self::DiskFull { path };
        }
        if let Some(lack) = error.sqlite_error().and_then(|error| lack_of_file_system(error.extended_code)) {
            return Self::UnsupportedFileSystem { path, what: format!("its file system {lack} ({what})") };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, what },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::SystemIoFailure) => Self::DiskFailed { path, what },
            // `SQLite` does not report the cause. It opens one or two files besides the journal's own.
            Some(ErrorCode::CannotOpen) if open_files::available().is_some_and(|left| left < 3) => {
                Self::Io { path, cause: open_files::exhausted_error() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { what: why_unwritable(&path).unwrap_or(what), path }
            }
            _ => Self::Database { path, what },
        }
    }

    /// Returns the error of a copy of the journal as an error of the journal, unless it is about the place of the copy.
    pub(super) fn of_original(self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Locked { .. } => Self::Locked { path },
            Self::Damaged { what, .. } => Self::Damaged { path, what },
            Self::NewerFormat { found, known, .. } => Self::NewerFormat { path, found, known },
            Self::Database { what, .. } => Self::Database { path, what },
            of_copy => of_copy,
        }
    }

    /// Converts a system error about the journal's file or folder.
    pub(crate) fn from_io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, what: cause.to_string() }
            }
            _ => Self::Io { path, cause },
        }
    }
}

/// Returns what the file system does not do, if it makes `SQLite` fail with this extended code.
fn lack_of_file_system(code: i32) -> Option<&'static str> {
    match code {
        SQLITE_IOERR_LOCK | SQLITE_IOERR_RDLOCK | SQLITE_IOERR_CHECKRESERVEDLOCK | SQLITE_IOERR_SHMLOCK => {
            Some("offers no file locks")
        }
        SQLITE_IOERR_SHMMAP => Some("does not let processes share memory"),
        _ => None,
    }
}

/// Returns why a file, or its folder, cannot be written to, in the words of the system: `SQLite` does not report them.
fn why_unwritable(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::write_refusal(path).or_else(|| files::write_refusal(folder)).map(|error| error.to_string())
}

/// Returns whether a value was read that this program never writes, or a table lacks the columns of a correct
/// statement.
fn is_invalid_content(error: &rusqlite::Error) -> bool {
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

/// A row of the journal does not match its checksum.
#[derive(Debug, thiserror::Error)]
#[error("the record of a job's progress fails its checksum")]
pub(crate) struct ChecksumMismatchError;

/// An error inside a command.
pub(crate) enum DatabaseCommandError {
    Sql(rusqlite::Error),
    Journal(Box<JournalError>),
}

impl From<rusqlite::Error> for DatabaseCommandError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<JournalError> for DatabaseCommandError {
    fn from(error: JournalError) -> Self {
        Self::Journal(Box::new(error))
    }
}
