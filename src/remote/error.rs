//! Errors of keeping a state in a bucket.

use std::path::PathBuf;
use std::{fmt, io};

use batchplan_store::printable::affects_terminal;
use batchplan_store::task::StoreError;
use jiff::Timestamp;

use crate::connect::ConnectError;
use crate::files::{OTHER_FILE_SYSTEM_HELP, are_locks_unsupported, disk_help};
use crate::hint::{Hint, command, hint};
use crate::journal::JournalError;
use crate::paths::show_path;

/// An error of working with a state in a bucket.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Connecting to the store failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request to the store failed.
    #[error("{doing}: {fault}")]
    Store {
        /// What was attempted, as in `cannot read the state`.
        doing: String,
        /// The error of the store.
        fault: Box<StoreError>,
    },
    /// Another process holds the state.
    #[error("the state is held by {0}")]
    HeldBy(LockHolder),
    /// Another process of this machine uses the local cache.
    #[error("the state is in use on this machine: {0}")]
    CacheInUse(String),
    /// The store cannot create an object only if it does not exist.
    #[error("the store cannot lock the state: {0}")]
    ConditionIgnored(String),
    /// Another process has taken over the state.
    #[error("the state was taken over by {0}")]
    TakenOver(String),
    /// The lock to take by force is no longer the newest one.
    #[error("the lock has a new holder since it was shown; nothing was changed")]
    LockChanged,
    /// A process without a lock keeps pushing.
    #[error("another process keeps pushing to the state without holding its lock")]
    ConcurrentPush,
    /// The lock could not be renewed in time.
    #[error("the state's lock was not renewed in time: {0}")]
    NotRenewed(String),
    /// An object in the bucket is not what was written.
    #[error("cannot read the state: {name}: {what}")]
    Damaged {
        /// The name of the object, below the prefix.
        name: String,
        /// What is wrong with the object.
        what: String,
    },
    /// A listing of the state's objects cannot be trusted.
    #[error("cannot list the state's objects below {below}: {what}")]
    Listing {
        /// The names that were listed, below the prefix.
        below: String,
        /// What is wrong with the listing.
        what: String,
    },
    /// A newer version of the program wrote the state. The value is its format version.
    #[error("the state was written by a newer batchplan (format {0})")]
    NewerVersion(u32),
    /// What is to be pushed is not based on the state in the bucket.
    #[error("{0}")]
    Diverged(String),
    /// A folder contains something that a copy of the state would replace.
    #[error("{} contains other files, or changes that were not pushed", show_path(.0))]
    FolderNotEmpty(PathBuf),
    /// Files changed faster than they could be read.
    #[error("the files of the jobs kept changing while they were read")]
    FilesKeepChanging,
    /// There is no state in the bucket.
    #[error("there is no state yet")]
    NoState,
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file of the local cache cannot be used; the error names it.
    #[error("cannot use the local copy of the state: {0}")]
    Io(#[from] io::Error),
    /// There was no time left to push the last changes. The value is the folder that contains them.
    #[error("there was no time to push the last changes; they are in {}", show_path(.0))]
    PushTimedOut(PathBuf),
}

impl RemoteError {
    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<Hint> {
        match self {
            Self::HeldBy(_) => Some(hint!(
                "wait for it to end (for example with --lock-timeout 10m), or cancel it where it runs; if it is \
                 certainly gone: {}",
                command!("state unlock")
            )),
            Self::LockChanged => Some(hint!(
                "see the new holder with {}, then run {} again",
                command!("state show"),
                command!("state unlock")
            )),
            Self::ConcurrentPush => Some(hint!(
                "stop the process that has lock=false in its state's URL, or remove lock=false there; {} shows who \
                 pushed last",
                command!("state show")
            )),
            Self::Damaged { name, .. } if name.starts_with("lock/") => {
                Some(hint!("if the process that wrote it is certainly gone: {}", command!("state unlock")))
            }
            Self::Diverged(_) => Some(hint!(
                "{} shows the state in the bucket; {} replaces it with this machine's copy",
                command!("state show"),
                command!("state push", "--force")
            )),
            Self::PushTimedOut(_) => {
                Some(hint!("{} pushes them; so does the next command on this machine", command!("state push")))
            }
            Self::Journal(error) => error.help(),
            Self::Io(error) if are_locks_unsupported(error) => Some(OTHER_FILE_SYSTEM_HELP.into()),
            Self::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(
                    "make the folder writable, or run the command in a folder that is: a state in a bucket has a copy \
                     in the folder .batchplan/remote"
                        .into(),
                ),
                _ => disk_help(error).map(Hint::from),
            },
            Self::Store { .. } => Some(hint!(
                "check the bucket, the connection and the credentials: {} prints the permissions that a plan with \
                 [state] needs, and {} tests them",
                command!("policy"),
                command!("state show")
            )),
            _ => self.help_without_commands().map(Hint::from),
        }
    }

    /// Returns the help that names no command.
    fn help_without_commands(&self) -> Option<&'static str> {
        Some(match self {
            Self::CacheInUse(_) => "wait for it to end; pause, cancel, show and list work meanwhile",
            Self::ConditionIgnored(_) => {
                "use a store that supports If-None-Match (AWS, MinIO, recent Ceph; OSS with oss://, in a bucket \
                 without versioning), or make sure that only one process works at a time (for example with a \
                 concurrency group) and add lock=false to the state's URL"
            }
            Self::TakenOver(_) => "the new holder repeats what was done since the last push",
            Self::NotRenewed(_) => "check the connection to the state's store, and run the command again",
            Self::Damaged { .. } => {
                "restore the object from a backup or an earlier version, or keep jobs under another prefix"
            }
            Self::Listing { .. } => {
                "nothing was changed; the server's listing is not valid: keep the state in another store, or check \
                 whether a proxy or cache in front of this one alters listings"
            }
            Self::NewerVersion(_) => "use that version, or a later one",
            Self::FolderNotEmpty(_) => "name an empty or new folder, or use --force to replace its contents",
            Self::NoState => "the first apply or run with this state creates it",
            Self::FilesKeepChanging => "check what else writes to the folder of the jobs, and run the command again",
            _ => return None,
        })
    }
}

/// The holder of a state, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// The name that the holder gave itself, such as `user@host (process 7)`.
    pub name: String,
    /// When it acquired the lock, by its own clock.
    pub since: Timestamp,
    /// When it last renewed the lock, by its own clock.
    pub renewed: Timestamp,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(f, "{} since {} (last renewed at {})", self.name, second(self.since), second(self.renewed))
    }
}

/// Returns the name that a process gave itself, made safe to display.
pub(crate) fn printable_name(who: &str) -> String {
    who.chars().filter(|c| !affects_terminal(*c)).take(256).collect()
}
