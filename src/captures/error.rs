//! Why captures cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::{disk_help, with_path};
use crate::paths::show_path;

/// Why captures cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file or folder cannot be read or written. The message names it.
    #[error("cannot keep or read the former state of objects: {0}")]
    Io(#[from] io::Error),
    /// A file is not what was written.
    #[error("{}: the former state of objects is damaged: {what}", show_path(path))]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// How it is damaged.
        what: String,
    },
    /// A state that matches its checksum cannot be parsed.
    #[error("the former state of an object cannot be parsed: {what}")]
    InvalidState {
        /// Why it cannot be parsed.
        what: String,
    },
    /// A file was written by a newer version of the program.
    #[error("{}: its format version is {found}, and this version of batchplan reads only 1", show_path(path))]
    NewerFormat {
        /// The path of the file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
    },
}

impl CaptureError {
    /// The error of a file that is damaged.
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// Returns a function that adds the path to an I/O error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let named = with_path(path);
        move |cause| Self::Io(named(cause))
    }

    /// Returns whether a file does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io(cause) if cause.kind() == io::ErrorKind::NotFound)
    }

    /// Returns what the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Io(cause) => disk_help(cause),
            Self::Damaged { .. } => Some(
                "copy the file back from a backup. If you move it away, the job can be resumed, but the objects in it \
                 cannot be undone",
            ),
            Self::InvalidState { .. } | Self::NewerFormat { .. } => {
                Some("use the version of batchplan that the job was last run with")
            }
        }
    }
}
