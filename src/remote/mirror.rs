//! The folder of this machine that a state in a bucket is worked on in, and what is known of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::RemoteError;
use super::head::Head;
use super::lock::Claim;
use crate::files::{about, write_at_once};
use crate::hex::hex;
use crate::job::JobId;

/// The file that says what the folder is of.
const NAME: &str = "remote.json";

/// The version of its form. One of another is as good as none: everything is pulled again.
const VERSION: u32 = 1;

/// The folder below a state folder that has the mirror of the state at this place.
#[must_use]
pub fn mirror_of(folder: &Path, place: &str) -> PathBuf {
    let name = hex(&Sha256::digest(place)[..8]);
    folder.join("remote").join(name)
}

/// What a mirror is a mirror of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The state's place, for people.
    place: String,
    /// What was pulled or pushed last.
    pub(super) head: Option<Head>,
    /// The lock that was held last, unless it was given back.
    pub(super) claim: Option<Claim>,
    /// The jobs of that head whose files are here.
    pub(super) here: BTreeSet<JobId>,
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) folder: PathBuf,
    pub(super) record: Record,
}

impl Mirror {
    /// The mirror in this folder, which is made where there is none yet.
    pub(super) fn open(folder: &Path, place: &str) -> Result<Self, RemoteError> {
        fs::create_dir_all(folder).map_err(about(folder))?;
        let path = folder.join(NAME);
        let none = Record { version: VERSION, place: place.to_owned(), head: None, claim: None, here: BTreeSet::new() };
        let record = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).ok().filter(|record: &Record| record.version == VERSION),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(about(&path)(cause).into()),
        };
        Ok(Self { folder: folder.to_owned(), record: record.unwrap_or(none) })
    }

    /// Reads again what is known.
    pub(super) fn reread(&mut self) -> Result<(), RemoteError> {
        *self = Self::open(&self.folder, &self.record.place)?;
        Ok(())
    }

    /// Whether what is here is what is there, or newer.
    pub(super) fn goes_on_from(&self, there: Option<&Head>) -> bool {
        match (&self.record.head, there) {
            (Some(here), Some(there)) => here.place() == there.place() && here.lineage == there.lineage,
            (None, None) => true,
            _ => false,
        }
    }

    /// In words, how what is here does not go on from what is there.
    pub(super) fn behind(&self, there: Option<&Head>) -> String {
        let folder = self.folder.display();
        let shown = |head: &Head| {
            let (at, by) = (head.at.strftime("%Y-%m-%dT%H:%M:%SZ"), super::lock::harmless(&head.by));
            format!("push {} of generation {} at {at} by {by}", head.push, head.generation)
        };
        match (&self.record.head, there) {
            (Some(here), Some(there)) if here.lineage == there.lineage => format!(
                "{folder} goes on from {}, and the state is at {}: what is newer would be lost",
                shown(here),
                shown(there)
            ),
            (_, Some(there)) => {
                format!("{folder} does not come from this state, which is at {}: it would be lost", shown(there))
            }
            (_, None) => format!("{folder} comes from a state that is gone from its bucket"),
        }
    }

    /// Keeps what is known.
    pub(super) fn save(&self) -> Result<(), RemoteError> {
        let text = serde_json::to_vec(&self.record).map_err(io::Error::from)?;
        write_at_once(&self.folder, NAME, &text).map_err(about(&self.folder.join(NAME)))?;
        Ok(())
    }

    /// Whether the files of a job of the last head are here.
    pub(super) fn has(&self, job: &JobId) -> bool {
        let known = self.record.head.as_ref().is_some_and(|head| head.jobs.contains_key(job));
        !known || self.record.here.contains(job)
    }
}
