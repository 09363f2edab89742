//! Why a state cannot be kept in its bucket.

use std::io;
use std::path::PathBuf;

use super::lock::Holder;
use crate::journal::{JournalError, LeaseError};
use crate::store::ConnectError;
use crate::task::Fault;

/// Why something cannot be done with a state in a bucket.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its store cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its store refuses.
    #[error("{doing}: {fault}")]
    Store {
        /// What was to be done, as in `the state cannot be read`.
        doing: String,
        /// What the store says.
        fault: Box<Fault>,
    },
    /// Somebody else holds it.
    #[error("the state is held by {0}")]
    Held(Holder),
    /// Another process of this machine holds its mirror.
    #[error("the state is held on this machine: {0}")]
    HeldHere(LeaseError),
    /// Its store makes objects whether or not they are new.
    #[error("the store cannot lock the state: {0}")]
    NoCondition(String),
    /// It was taken over by somebody else.
    #[error("the state was taken over by {0}")]
    TakenOver(String),
    /// The lock that was to be taken by force is not the newest any more.
    #[error("the lock has changed hands since it was shown; nothing was changed")]
    ChangedHands,
    /// A process without a lock pushes again and again.
    #[error("another process keeps pushing to the state without holding its lock")]
    Outrun,
    /// The lock could not be renewed in time.
    #[error("the lock of the state could not be renewed in time: {0}")]
    NotRenewed(String),
    /// What lies in the bucket is not what was put there.
    #[error("the state cannot be read: {name}: {what}")]
    Damaged {
        /// The object, below the prefix.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A listing of its objects that cannot be trusted.
    #[error("the state's objects below {below} cannot be listed: {what}")]
    Listing {
        /// The names, below the prefix.
        below: String,
        /// What is wrong with the listing.
        what: String,
    },
    /// A newer version put it there.
    #[error("the state was written by a newer batchplan (form {0})")]
    Newer(u32),
    /// What was to be pushed does not go on from what is there.
    #[error("{0}")]
    Behind(String),
    /// There is something in a folder that a copy of the state would take the place of.
    #[error("{} holds something that is not, or not only, a copy of this state", .0.display())]
    Occupied(PathBuf),
    /// Files changed faster than they could be looked at.
    #[error("the files of the jobs kept changing while they were read")]
    Restless,
    /// There is nothing there.
    #[error("there is no state yet")]
    Absent,
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file cannot be used; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There was no time left.
    #[error("there was no time to push what was done last; it is in {}", .0.display())]
    NoTime(PathBuf),
}

impl RemoteError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Held(_) => Some(
                "wait for it to end (--lock-timeout 10m does), or cancel it where it runs; if it is certainly gone: batchplan \
                 state unlock"
                    .to_owned(),
            ),
            Self::HeldHere(_) => {
                Some("wait for it to end; pause, cancel, show and list work on its jobs meanwhile".to_owned())
            }
            Self::NoCondition(_) => Some(
                "keep the state in a store that honours If-None-Match (AWS, MinIO, recent Ceph; OSS by oss://, in a bucket \
                 without versioning), or see to it yourself that one works at a time (a concurrency group does) and add lock=false to the state's URL"
                    .to_owned(),
            ),
            Self::TakenOver(_) => Some("what was done since the last push is done again by whoever holds it now".to_owned()),
            Self::ChangedHands => Some("see who holds it now: batchplan state show; then batchplan state unlock asks again".to_owned()),
            Self::Outrun => Some(
                "end the process that has lock=false in its state's URL, or remove lock=false there; batchplan state show says who pushed last"
                    .to_owned(),
            ),
            Self::NotRenewed(_) => Some("check the connection to the state's store, and run the command again".to_owned()),
            Self::Damaged { name, .. } if name.starts_with("lock/") => {
                Some("if whoever made it is certainly gone: batchplan state unlock".to_owned())
            }
            Self::Damaged { .. } => Some(
                "put the object back from a backup or an earlier version, or keep jobs under another prefix".to_owned(),
            ),
            Self::Listing { .. } => Some(
                "nothing was changed: the server's listing has a fault; keep the state in another store, or see what a proxy or \
                 a cache in front of this one does to listings"
                    .to_owned(),
            ),
            Self::Newer(_) => Some("use that version, or a later one".to_owned()),
            Self::Behind(_) => Some(
                "batchplan state show says what is there; batchplan state push --force puts the copy of this machine in its \
                 place"
                    .to_owned(),
            ),
            Self::Occupied(_) => Some("name a folder that is empty, or not there yet; --force takes its place".to_owned()),
            Self::Absent => Some("the first apply or run with this state makes it".to_owned()),
            Self::NoTime(_) => Some("batchplan state push pushes it; so does the next command on this machine".to_owned()),
            Self::Journal(error) => error.help(),
            Self::Store { .. } => Some(
                "see to the bucket, the connection and the credentials: batchplan policy prints what a plan with [state] must be \
                 allowed, and batchplan state show tries it"
                    .to_owned(),
            ),
            Self::Restless => Some("see what else writes to the folder of the jobs, and run the same command again".to_owned()),
            Self::Connect(_) | Self::Io(_) => None,
        }
    }
}
