//! The local cache of a state in a bucket, and the record of what it contains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use batchplan_store::hex::hex;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::capture::{MissingFilePolicy, capture};
use super::error::RemoteError;
use super::lock::LeaseToken;
use super::snapshot::{SnapshotChunk, SnapshotFiles, StateSnapshot};
use crate::files::{read_regular, with_path, write_atomic};
use crate::job::JobId;
use crate::journal::{JOURNAL_NAME, Journal};

/// The file that says what the folder is a copy of.
const RECORD_NAME: &str = "remote.json";

/// The version of its format. A file of another version is ignored, and everything is pulled again.
const FORMAT_VERSION: u32 = 1;

/// Returns the folder, below a state folder, that caches the state at this location.
#[must_use]
pub fn cache_folder(folder: &Path, place: &str) -> PathBuf {
    let name = hex(&Sha256::digest(place)[..8]);
    folder.join("remote").join(name)
}

/// Identifies a local cache, so that a copy of it, or of the machine's disk, is recognized as a different one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CacheIdentity {
    folder: PathBuf,
    /// The device and the inode of the folder. `boot` is the random id that the machine drew when it started.
    inode: (u64, u64),
    boot: String,
}

impl CacheIdentity {
    fn of(folder: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(folder)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { folder: std::path::absolute(folder)?, inode: inode(&metadata), boot: boot.trim().to_owned() })
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}

/// What a local cache contains.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CacheRecord {
    version: u32,
    /// The location of the state, for display.
    place: String,
    /// The snapshot that was last pulled or pushed.
    pub(super) head: Option<StateSnapshot>,
    /// The id of a snapshot that may have been pushed, and the jobs of it whose files are here. The outcome of that
    /// push is unknown.
    pub(super) pending: Option<(String, BTreeSet<JobId>)>,
    /// The lock that was held last, unless it was released, and the cache that held it.
    pub(super) claim: Option<(LeaseToken, CacheIdentity)>,
    /// Whether there may be changes here that were not pushed.
    pub(super) open: bool,
    /// Whether a pull is in progress.
    #[serde(default)]
    pub(super) pulling: bool,
    /// The jobs of that snapshot whose files are here.
    pub(super) here: BTreeSet<JobId>,
}

/// The local cache of a state.
#[derive(Clone, Debug)]
pub(super) struct LocalCache {
    pub(super) folder: PathBuf,
    pub(super) record: CacheRecord,
}

impl LocalCache {
    /// Opens the cache in this folder, and creates it if there is none.
    pub(super) fn open(folder: &Path, place: &str) -> Result<Self, RemoteError> {
        fs::create_dir_all(folder).map_err(with_path(folder))?;
        let path = folder.join(RECORD_NAME);
        let none = CacheRecord {
            version: FORMAT_VERSION,
            place: place.to_owned(),
            head: None,
            pending: None,
            claim: None,
            open: false,
            pulling: false,
            here: BTreeSet::new(),
        };
        let record = match read_regular(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).ok().filter(|record: &CacheRecord| record.version == FORMAT_VERSION)
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(with_path(&path)(cause).into()),
        };
        Ok(Self { folder: folder.to_owned(), record: record.unwrap_or(none) })
    }

    /// Reads the record again.
    pub(super) fn reload(&mut self) -> Result<(), RemoteError> {
        *self = Self::open(&self.folder, &self.record.place)?;
        Ok(())
    }

    /// Returns the lease token that this very folder held last. Returns `None` if the system does not tell one boot
    /// from another.
    pub(super) fn token(&self) -> Option<&LeaseToken> {
        let (claim, place) = self.record.claim.as_ref()?;
        let here = CacheIdentity::of(&self.folder).ok().filter(|here| !here.boot.is_empty())?;
        (here == *place).then_some(claim)
    }

    /// Records the lease token, or removes it.
    pub(super) fn remember_token(&mut self, claim: Option<LeaseToken>) -> Result<(), RemoteError> {
        let place = CacheIdentity::of(&self.folder).map_err(with_path(&self.folder))?;
        self.record.claim = claim.map(|claim| (claim, place));
        self.save()
    }

    /// Returns whether the cache equals the snapshot in the bucket, or is newer.
    pub(super) fn is_based_on(&self, there: Option<&StateSnapshot>) -> bool {
        match (&self.record.head, there) {
            (Some(here), Some(there)) => {
                let pushed = self.may_have_pushed(there);
                (here.id == there.id || pushed) && here.lineage == there.lineage
            }
            (None, Some(there)) => self.may_have_pushed(there),
            (None, None) => true,
            (Some(_), None) => false,
        }
    }

    fn may_have_pushed(&self, head: &StateSnapshot) -> bool {
        self.record.pending.as_ref().is_some_and(|(id, _)| *id == head.id)
    }

    /// Returns the files of the jobs that are known to this cache but not stored in it, if they are still in the
    /// bucket.
    pub(super) fn remote_only_files(
        &self,
        there: Option<&StateSnapshot>,
    ) -> Result<BTreeMap<JobId, SnapshotFiles>, RemoteError> {
        let Some(here) = &self.record.head else { return Ok(BTreeMap::new()) };
        let kept = there.map(StateSnapshot::chunk_names).unwrap_or_default();
        let mut jobs = BTreeMap::new();
        for (job, files) in here.jobs.iter().filter(|(job, _)| !self.record.here.contains(*job)) {
            let gone = |piece: &SnapshotChunk| !kept.contains(piece.name.as_str());
            if files.values().flat_map(|file| &file.pieces).any(gone) {
                let what = format!("the files of job {job} are neither in {} nor in the bucket", self.folder.display());
                return Err(RemoteError::Diverged(what));
            }
            jobs.insert(job.clone(), files.clone());
        }
        Ok(jobs)
    }

    /// Returns whether the snapshot in the bucket is older than what this cache has seen.
    pub(super) fn is_ahead_of(&self, there: &StateSnapshot) -> bool {
        self.record
            .head
            .as_ref()
            .is_some_and(|here| here.lineage == there.lineage && here.position() > there.position())
    }

    /// Returns whether the folder contains something that is not a copy of this state.
    pub(super) fn has_foreign_files(&self, there: &StateSnapshot) -> bool {
        let known = match (&self.record.head, self.record.pulling) {
            (Some(here), _) => here.lineage == there.lineage,
            // Leftovers of a pull that was not completed.
            (None, pulling) => pulling,
        };
        let ours = |name: &std::ffi::OsStr| {
            name == RECORD_NAME || name == "lease" || Path::new(name).extension() == Some("draft".as_ref())
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter(|entry| !ours(&entry.file_name())).count() > 0 && !known
    }

    /// Returns whether the journal differs from that of the last snapshot, which means that something was done here
    /// since.
    pub(super) async fn has_changed(&self) -> Result<bool, RemoteError> {
        let Some(head) = &self.record.head else { return Ok(false) };
        let Some(journal) = Journal::open_existing(&self.folder)? else { return Ok(false) };
        Ok(self.record.open
            || capture(&journal, MissingFilePolicy::Skip, |_| false).await?.journal_sha256 != head.journal_sha256)
    }

    /// Moves the contents aside if some of them may not have been pushed. Returns the new location.
    pub(super) fn set_aside(&self) -> Result<Option<PathBuf>, RemoteError> {
        if !self.record.open || !self.folder.join(JOURNAL_NAME).exists() {
            return Ok(None);
        }
        let aside = self.folder.join(format!("aside-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ")));
        fs::create_dir_all(&aside).map_err(with_path(&aside))?;
        let behind = ["-wal", "-shm"].map(|end| format!("{JOURNAL_NAME}{end}"));
        for name in [JOURNAL_NAME.to_owned(), "jobs".to_owned()].into_iter().chain(behind) {
            match fs::rename(self.folder.join(&name), aside.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(with_path(&aside)(error).into()),
                _ => {}
            }
        }
        Ok(Some(aside))
    }

    /// Describes how the cache is not based on the snapshot in the bucket.
    pub(super) fn describe_divergence(&self, there: Option<&StateSnapshot>) -> String {
        let folder = self.folder.display();
        let shown = |head: &StateSnapshot| {
            let (at, by) = (head.at.strftime("%Y-%m-%dT%H:%M:%SZ"), super::lock::printable_name(&head.by));
            format!("push {} of generation {} at {at} by {by}", head.push, head.generation)
        };
        match (&self.record.head, there) {
            (Some(here), Some(there)) if here.lineage == there.lineage => format!(
                "{folder} is based on {}, but the state is at {}: newer changes would be lost",
                shown(here),
                shown(there)
            ),
            (_, Some(there)) => {
                format!("{folder} is not a copy of this state, which is at {} and would be lost", shown(there))
            }
            (_, None) => format!("{folder} is a copy of a state that no longer exists in its bucket"),
        }
    }

    /// Writes the record.
    pub(super) fn save(&self) -> Result<(), RemoteError> {
        let text = serde_json::to_vec(&self.record).map_err(io::Error::from)?;
        write_atomic(&self.folder, RECORD_NAME, &text).map_err(with_path(&self.folder.join(RECORD_NAME)))?;
        Ok(())
    }

    /// Returns whether the files of a job are here. Jobs that the last snapshot does not contain count as present.
    pub(super) fn has_job_files(&self, job: &JobId) -> bool {
        let known = self.record.head.as_ref().is_some_and(|head| head.jobs.contains_key(job));
        !known || self.record.here.contains(job)
    }
}
