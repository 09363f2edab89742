//! The local cache of a state in a bucket, the record of what it contains, and how it is updated from the bucket. Every
//! chunk is checked against its digest, and no file is put in place before it is complete.
//!
//! A process that only reads, or copies a state to a folder, updates it here without holding the state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use flate2::read::GzDecoder;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::debug;

use super::config::RemoteStateConfig;
use super::error::{LockHolder, RemoteError};
use super::lock::{LeaseToken, read_newest_holder};
use super::prefix_store::PrefixStore;
use super::snapshot::{
    ChunkedFile, JournalDigest, MAX_CHUNK_BYTES, SnapshotChunk, SnapshotFiles, StateSnapshot, job_file_path,
};
use crate::files::{create_replacing, read_regular, sync_folder, with_path, write_atomic};
use crate::job::{JobId, JobStatus};
use crate::journal::{
    DeltaScope, FileLease, JOURNAL_NAME, JobFolder, JobQuery, Journal, JournalCopyJob, LeaseError, list_job_folders,
};
use crate::paths::show_path;

/// The file that says what the folder is a copy of.
const RECORD_NAME: &str = "remote.json";

/// How often a state that changes meanwhile is read again.
const MAX_ATTEMPTS: u32 = 5;

/// The version of its format. A file of another version is ignored, and everything is pulled again.
const FORMAT_VERSION: u32 = 1;

/// Returns the folder, below a state folder, that caches the state at this location.
#[must_use]
pub fn cache_folder(folder: &Path, location: &str) -> PathBuf {
    let name = hex(&Sha256::digest(location)[..8]);
    folder.join("remote").join(name)
}

/// Identifies a local cache, so that a copy of it, or of the machine's disk, is recognized as a different one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CacheIdentity {
    #[serde(with = "crate::paths::text")]
    folder: PathBuf,
    /// The device and the inode of the folder. `boot` is the random id that the machine drew when it started.
    inode: (u64, u64),
    boot: String,
}

impl CacheIdentity {
    fn of(folder: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(folder).map_err(with_path(folder))?;
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
struct CacheRecord {
    version: u32,
    /// The location of the state, for display.
    place: String,
    /// The snapshot that was last pulled or pushed.
    head: Option<StateSnapshot>,
    /// The id of a snapshot that may have been pushed, and the jobs of it whose files are here. The outcome of that
    /// push is unknown.
    pending: Option<(String, BTreeSet<JobId>)>,
    /// The lock that was held last, unless it was released, and the cache that held it.
    claim: Option<(LeaseToken, CacheIdentity)>,
    /// Whether there may be changes here that were not pushed.
    open: bool,
    /// Whether a pull is in progress.
    #[serde(default)]
    pulling: bool,
    /// The jobs of that snapshot whose files are here.
    here: BTreeSet<JobId>,
}

/// The local cache of a state.
#[derive(Clone, Debug)]
pub(super) struct LocalCache {
    folder: PathBuf,
    record: CacheRecord,
}

impl LocalCache {
    /// Opens the cache in this folder, and creates it if there is none.
    pub(super) fn open(folder: &Path, location: &str) -> Result<Self, RemoteError> {
        fs::create_dir_all(folder).map_err(with_path(folder))?;
        let path = folder.join(RECORD_NAME);
        let none = CacheRecord {
            version: FORMAT_VERSION,
            place: location.to_owned(),
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

    /// Opens the cache, and keeps other processes of this machine out of it.
    pub(super) fn open_exclusive(folder: &Path, location: &str) -> Result<(Self, FileLease), RemoteError> {
        // Creates the folder.
        Self::open(folder, location)?;
        let lease = lease_cache(folder)?;
        // The previous owner of the cache may have changed it.
        Ok((Self::open(folder, location)?, lease))
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
    fn is_based_on(&self, there: Option<&StateSnapshot>) -> bool {
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

    fn may_have_pushed(&self, snapshot: &StateSnapshot) -> bool {
        self.record.pending.as_ref().is_some_and(|(id, _)| *id == snapshot.id)
    }

    /// Returns the files of the jobs that are known to this cache but not stored in it, if they are still in the
    /// bucket.
    fn remote_only_files(&self, there: Option<&StateSnapshot>) -> Result<BTreeMap<JobId, SnapshotFiles>, RemoteError> {
        let Some(here) = &self.record.head else { return Ok(BTreeMap::new()) };
        let in_bucket = there.map(StateSnapshot::chunk_names).unwrap_or_default();
        let mut jobs = BTreeMap::new();
        for (job, files) in here.jobs.iter().filter(|(job, _)| !self.record.here.contains(*job)) {
            let is_gone = |piece: &SnapshotChunk| !in_bucket.contains(piece.name.as_str());
            if files.values().flat_map(|file| &file.pieces).any(is_gone) {
                let what =
                    format!("the files of job {job} are neither in {} nor in the bucket", show_path(&self.folder));
                return Err(RemoteError::Diverged(what));
            }
            jobs.insert(job.clone(), files.clone());
        }
        Ok(jobs)
    }

    /// Returns whether the snapshot in the bucket is older than what this cache has seen.
    fn is_ahead_of(&self, there: &StateSnapshot) -> bool {
        self.record
            .head
            .as_ref()
            .is_some_and(|here| here.lineage == there.lineage && here.position() > there.position())
    }

    /// Returns whether the folder contains something that is not a copy of this state.
    fn has_foreign_files(&self, there: &StateSnapshot) -> bool {
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

    /// Moves the contents aside if some of them may not have been pushed. Returns the new location.
    fn set_aside(&self) -> Result<Option<PathBuf>, RemoteError> {
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
    fn describe_divergence(&self, there: Option<&StateSnapshot>) -> String {
        let folder = show_path(&self.folder);
        match (&self.record.head, there) {
            (Some(here), Some(there)) if here.lineage == there.lineage => format!(
                "{folder} is based on {}, but the state is at {}: newer changes would be lost",
                here.describe(),
                there.describe()
            ),
            (_, Some(there)) => {
                format!("{folder} is not a copy of this state, which is at {} and would be lost", there.describe())
            }
            (_, None) => format!("{folder} is a copy of a state that no longer exists in its bucket"),
        }
    }

    /// Returns the snapshot that was last pulled or pushed.
    pub(super) fn snapshot(&self) -> Option<&StateSnapshot> {
        self.record.head.as_ref()
    }

    /// Returns whether there may be changes here that were not pushed.
    fn may_have_unpushed_changes(&self) -> bool {
        self.record.open
    }

    /// Notes whether there may be changes here that were not pushed. The next [`save`](Self::save) records it.
    pub(super) fn set_unpushed_changes(&mut self, open: bool) {
        self.record.open = open;
    }

    /// Records that this snapshot is about to be pushed, with the files of these jobs.
    pub(super) fn record_pending_push(
        &mut self,
        snapshot: &StateSnapshot,
        here: BTreeSet<JobId>,
    ) -> Result<(), RemoteError> {
        self.record.pending = Some((snapshot.id.clone(), here));
        self.save()
    }

    /// Records that this snapshot was pushed, with the files of these jobs.
    pub(super) fn record_push(&mut self, snapshot: StateSnapshot, here: BTreeSet<JobId>) -> Result<(), RemoteError> {
        self.record.here = here;
        self.record.head = Some(snapshot);
        self.record.pending = None;
        self.save()
    }

    /// Writes the record.
    pub(super) fn save(&self) -> Result<(), RemoteError> {
        let text = serde_json::to_vec(&self.record).map_err(io::Error::from)?;
        write_atomic(&self.folder, RECORD_NAME, &text).map_err(with_path(&self.folder.join(RECORD_NAME)))?;
        Ok(())
    }

    /// Returns whether the files of a job are here. Jobs that the last snapshot does not contain count as present.
    pub(super) fn has_job_files(&self, job: &JobId) -> bool {
        let known = self.record.head.as_ref().is_some_and(|snapshot| snapshot.jobs.contains_key(job));
        !known || self.record.here.contains(job)
    }
}

/// What to do with a local cache that is not based on the state in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DivergencePolicy {
    /// Replace the cache with the state in the bucket.
    Pull,
    /// Return an error.
    Fail,
    /// Replace the state in the bucket with the cache.
    Overwrite,
}

/// Keeps other processes of this machine out of a local cache and its jobs.
pub(super) fn lease_cache(folder: &Path) -> Result<FileLease, RemoteError> {
    let taken = FileLease::acquire(folder);
    // The folder may also be used without a bucket. It is then shared, and its jobs are leased one by one.
    for job in list_job_folders(folder)? {
        if let Some(holder) = FileLease::holder(JobFolder::of(folder, &job).path())? {
            return Err(RemoteError::CacheInUse(format!("{holder}, job {job}")));
        }
    }
    taken.map_err(|error| match error {
        LeaseError::Io(error) => RemoteError::Io(error),
        LeaseError::Held(holder) => RemoteError::CacheInUse(holder),
    })
}

/// Makes the local cache match the bucket, unless the cache is newer and must be pushed. Returns the journal of the
/// cache. The state in the bucket must belong to an earlier generation than the next push.
pub(super) async fn sync_cache(
    store: &PrefixStore,
    cache: &mut LocalCache,
    config: &RemoteStateConfig,
    base: DivergencePolicy,
    generation: u64,
) -> Result<Journal, RemoteError> {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        match sync_cache_once(store, cache, config, base).await {
            // The previous holder may have pushed once more, and removed what that push no longer needs.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            Err(error) => return Err(error),
            Ok(journal) => {
                if cache.record.head.as_ref().is_some_and(|snapshot| snapshot.generation >= generation) {
                    return Err(RemoteError::ConcurrentPush);
                }
                cache.record.open = true;
                cache.save()?;
                return Ok(journal);
            }
        }
    }
    Err(last.unwrap_or(RemoteError::FilesKeepChanging))
}

async fn sync_cache_once(
    store: &PrefixStore,
    cache: &mut LocalCache,
    config: &RemoteStateConfig,
    base: DivergencePolicy,
) -> Result<Journal, RemoteError> {
    let snapshot = StateSnapshot::read_newest(store).await?;
    match (cache.is_based_on(snapshot.as_ref()), snapshot, base) {
        (true, snapshot, _) => {
            if let Some((_, here)) =
                cache.record.pending.take().filter(|(id, _)| snapshot.as_ref().is_some_and(|it| it.id == *id))
            {
                cache.record.here = here;
            }
            cache.record.head = snapshot;
        }
        (false, Some(snapshot), DivergencePolicy::Pull) => {
            check_not_older(cache, &snapshot)?;
            set_aside_changes(cache, config)?;
            pull(store, cache, snapshot).await?;
        }
        (false, None, DivergencePolicy::Pull) => {
            let what = "the state no longer exists in its bucket, but this machine has a copy of it";
            return Err(RemoteError::Diverged(what.to_owned()));
        }
        (false, snapshot, DivergencePolicy::Fail) => {
            return Err(RemoteError::Diverged(cache.describe_divergence(snapshot.as_ref())));
        }
        (false, snapshot, DivergencePolicy::Overwrite) => {
            let remote_only = cache.remote_only_files(snapshot.as_ref())?;
            cache.record.head = snapshot.map(|snapshot| snapshot.with_jobs(remote_only));
            cache.record.here.clear();
        }
    }
    cache.record.pending = None;
    let journal = Journal::open(&config.folder)?;
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over()).collect();
    let unfinished = JobQuery { statuses, created_from: None, created_until: None, older_than: None, limit: u32::MAX };
    let unfinished = journal.list(unfinished)?;
    // The jobs that they are compared with are fetched too.
    let bases = unfinished.iter().filter_map(|job| job.delta_scope.as_ref().and_then(DeltaScope::base_job));
    fetch_jobs(store, cache, unfinished.iter().map(|job| &job.id).chain(bases)).await?;
    Ok(journal)
}

/// Refuses a bucket whose state is older than what this machine has already seen there.
fn check_not_older(cache: &LocalCache, there: &StateSnapshot) -> Result<(), RemoteError> {
    if cache.is_ahead_of(there) {
        return Err(RemoteError::Diverged(format!(
            "the state in the bucket is older than before: {}",
            cache.describe_divergence(Some(there))
        )));
    }
    Ok(())
}

/// Sets aside local changes that may not have been pushed, and will not be.
fn set_aside_changes(cache: &LocalCache, config: &RemoteStateConfig) -> Result<(), RemoteError> {
    if let Some(aside) = cache.set_aside()? {
        (config.notify)(&format!(
            "warning: the state has changed since this machine last used it; changes that were not pushed are kept in \
             {}",
            show_path(aside)
        ));
    }
    Ok(())
}

/// Updates the local cache for reading, without holding the state. Fetches the files of the jobs that `job` selects. If
/// another process of this machine uses the cache, it is already up to date.
///
/// # Errors
/// Returns an error if there is no state, or if it cannot be reached or read.
pub async fn update_cache(
    config: &RemoteStateConfig,
    job: impl Fn(&JobId) -> bool,
) -> Result<CacheUpdate, RemoteError> {
    let _lease = match lease_cache(&config.create_folder()?) {
        Err(RemoteError::CacheInUse(_)) => return Ok(CacheUpdate::default()),
        lease => lease?,
    };
    let (store, _connection) = config.connect().await?;
    update_from_bucket(config, &store, &job, false).await?;
    // A lock that cannot be read matters only to a process that needs the lock.
    let held = read_newest_holder(&store).await.ok().flatten();
    let pushed = LocalCache::open(&config.folder, &config.location)?.snapshot().map(StateSnapshot::pushed_at);
    Ok(CacheUpdate {
        holder: held.filter(|(_, _, released)| !released).map(|(_, holder, _)| holder),
        pushed_at: pushed,
    })
}

/// What is known of the state in a bucket after its local copy was updated. Nothing, if a process of this machine works
/// on the copy, which then has the latest.
#[derive(Clone, Debug, Default)]
pub struct CacheUpdate {
    /// The process that holds the state.
    pub holder: Option<LockHolder>,
    /// When the state was last pushed.
    pub pushed_at: Option<Timestamp>,
}

/// Pulls a state with the files of all jobs into the folder. Without `replace`, only if nothing is lost.
///
/// # Errors
/// Returns an error if there is no state, if it cannot be reached or read, or if the folder contains something that is
/// not a copy of this state.
pub async fn pull_to_folder(config: &RemoteStateConfig, replace: bool) -> Result<(), RemoteError> {
    let (store, _connection) = config.connect().await?;
    let snapshot = StateSnapshot::read_newest(&store).await?.ok_or(RemoteError::NoState)?;
    let not_empty = || Err(RemoteError::FolderNotEmpty(config.folder.clone()));
    let is_foreign = || {
        Ok::<_, RemoteError>(
            !replace && LocalCache::open(&config.folder, &config.location)?.has_foreign_files(&snapshot),
        )
    };
    // Check before anything is written there.
    if config.folder.exists() && is_foreign()? {
        return not_empty();
    }
    let _lease = lease_cache(&config.create_folder()?)?;
    // Check again: another process of this machine may have written to the folder meanwhile.
    let cache = LocalCache::open(&config.folder, &config.location)?;
    if is_foreign()? || (!replace && !cache.is_based_on(Some(&snapshot)) && has_changed(&cache).await?) {
        return not_empty();
    }
    update_from_bucket(config, &store, &|_: &JobId| true, replace).await
}

/// Returns whether the journal differs from that of the last snapshot, which means that something was done here
/// since.
async fn has_changed(cache: &LocalCache) -> Result<bool, RemoteError> {
    let Some(snapshot) = cache.snapshot() else { return Ok(false) };
    let Some(journal) = Journal::open_existing(&cache.folder)? else { return Ok(false) };
    Ok(cache.may_have_unpushed_changes() || journal_digest(&journal).await? != snapshot.journal_sha256)
}

/// Returns the digest of a journal, as a snapshot of it would record it.
async fn journal_digest(journal: &Journal) -> Result<String, RemoteError> {
    let (mut content, _) = copy_journal(journal).await?;
    run_blocking(move || {
        let mut digest = JournalDigest::default();
        digest.update(&mut content);
        Ok(digest.hex())
    })
    .await
}

/// Returns the content of the journal at one moment, and the jobs in it.
pub(super) async fn copy_journal(journal: &Journal) -> Result<(Vec<u8>, Vec<JournalCopyJob>), RemoteError> {
    let copy = journal.state_folder().join(format!("journal.{:016x}.draft", fastrand::u64(..)));
    let jobs = journal.copy_to(&copy).await;
    run_blocking(move || {
        let copied =
            jobs.map_err(RemoteError::from).and_then(|jobs| Ok((fs::read(&copy).map_err(with_path(&copy))?, jobs)));
        // The copy may not exist.
        let _ = fs::remove_file(&copy);
        copied
    })
    .await
}

/// Makes the local cache match the bucket, with the files of the jobs that `job` selects. With `replace`, whatever the
/// cache contains.
async fn update_from_bucket(
    config: &RemoteStateConfig,
    store: &PrefixStore,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let mut cache = LocalCache::open(&config.folder, &config.location)?;
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        let snapshot = StateSnapshot::read_newest(store).await?.ok_or(RemoteError::NoState)?;
        match apply_snapshot(config, store, &mut cache, snapshot, job, replace).await {
            // The holder of the state has pushed, and removed what it no longer needs.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            updated => return updated,
        }
    }
    Err(last.unwrap_or(RemoteError::FilesKeepChanging))
}

async fn apply_snapshot(
    config: &RemoteStateConfig,
    store: &PrefixStore,
    cache: &mut LocalCache,
    snapshot: StateSnapshot,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let jobs: Vec<JobId> = snapshot.jobs.keys().filter(|id| job(id)).cloned().collect();
    if replace {
        cache.record.here.clear();
        pull(store, cache, snapshot).await?;
    } else if !cache.is_based_on(Some(&snapshot)) {
        check_not_older(cache, &snapshot)?;
        set_aside_changes(cache, config)?;
        pull(store, cache, snapshot).await?;
    }
    fetch_jobs(store, cache, &jobs).await
}

/// Runs a blocking operation on a thread of its own.
pub(super) async fn run_blocking<T: Send + 'static>(
    command: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(command).await.map_err(io::Error::other)?
}

/// The maximum size of the uncompressed journal, in bytes. Our journals stay below 64 MiB.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// The number of chunks of a file to download at once.
const CONCURRENT_DOWNLOADS: usize = 4;

/// The size of all chunks that are downloaded or wait to be written, in KiB: four of the largest ([`MAX_CHUNK_BYTES`]).
const DOWNLOAD_BUDGET_KIB: u32 = 32 << 10;

/// The number of jobs whose files are downloaded at once. Most have a few small files, which take a round trip and a
/// sync each.
const CONCURRENT_JOBS: usize = 8;

/// The number of jobs after which the record of the cache is saved. It lists the files of all jobs, so saving it after
/// each of many jobs takes longer than the downloads.
const JOBS_PER_SAVE: usize = 256;

/// The folder below a cache in which downloads of jobs are completed.
const DRAFTS_NAME: &str = "jobs.draft";

/// Puts the journal of a snapshot into the local cache, in place of what is there. The files of its jobs are fetched
/// later, when they are needed.
pub(super) async fn pull(
    store: &PrefixStore,
    cache: &mut LocalCache,
    snapshot: StateSnapshot,
) -> Result<(), RemoteError> {
    let same = unchanged_jobs(cache, &snapshot);
    // An incomplete pull must not be mistaken for a complete one.
    cache.record.head = None;
    cache.record.here.clear();
    cache.record.pulling = true;
    cache.save()?;
    let folder = cache.folder.clone();
    let packed = folder.join("journal.packed.draft");
    download_file(store, &DownloadBudget::default(), &snapshot.journal, packed.clone()).await?;
    let (at, expected, keep) = (folder.clone(), snapshot.journal_sha256.clone(), same.clone());
    run_blocking(move || {
        let unpacked = unpack(&packed, &at.join("journal.draft"), &expected);
        let _ = fs::remove_file(&packed);
        unpacked?;
        replace_journal(&at, &keep)
    })
    .await?;
    debug!(push = snapshot.push, jobs = snapshot.jobs.len(), "state pulled");
    cache.record.head = Some(snapshot);
    cache.record.here = same;
    (cache.record.open, cache.record.pulling) = (false, false);
    cache.save()
}

/// Returns the jobs whose files are here, and are the same in a newer snapshot.
fn unchanged_jobs(cache: &LocalCache, newer: &StateSnapshot) -> BTreeSet<JobId> {
    let Some(here) =
        cache.record.head.as_ref().filter(|snapshot| snapshot.lineage == newer.lineage && !cache.record.open)
    else {
        return BTreeSet::new();
    };
    let same = |job: &&JobId| here.jobs.get(*job).is_some_and(|files| newer.jobs.get(*job) == Some(files));
    cache.record.here.iter().filter(same).cloned().collect()
}

/// Fetches the files of these jobs, unless they are here.
pub(super) async fn fetch_jobs(
    store: &PrefixStore,
    cache: &mut LocalCache,
    jobs: impl IntoIterator<Item = &JobId>,
) -> Result<(), RemoteError> {
    let Some(snapshot) = &cache.record.head else { return Ok(()) };
    let missing: BTreeMap<JobId, SnapshotFiles> = jobs
        .into_iter()
        .filter(|job| !cache.record.here.contains(*job))
        .filter_map(|job| Some((job.clone(), snapshot.jobs.get(job)?.clone())))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let folder = cache.folder.clone();
    remove_all(&folder.join(DRAFTS_NAME))?;
    let budget = DownloadBudget::default();
    let mut downloads = stream::iter(missing)
        .map(|(job, files)| download_job(store, &budget, &folder, job, files))
        .buffer_unordered(CONCURRENT_JOBS);
    let mut unsaved = 0;
    let mut outcome = Ok(());
    while let Some(downloaded) = downloads.next().await {
        match downloaded {
            Ok(job) => cache.record.here.insert(job),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        unsaved += 1;
        if unsaved == JOBS_PER_SAVE {
            cache.save()?;
            unsaved = 0;
        }
    }
    drop(downloads);
    cache.save()?;
    remove_all(&folder.join(DRAFTS_NAME))?;
    outcome
}

/// Downloads the files of a job, and puts them in place of what its folder has.
async fn download_job(
    store: &PrefixStore,
    budget: &DownloadBudget,
    folder: &Path,
    job: JobId,
    files: SnapshotFiles,
) -> Result<JobId, RemoteError> {
    let job_folder = JobFolder::of(folder, &job).path().to_owned();
    let draft = folder.join(DRAFTS_NAME).join(job_folder.file_name().unwrap_or_default());
    fs::create_dir_all(&draft).map_err(with_path(&draft))?;
    for (name, filed) in &files {
        let path = job_file_path(&draft, name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(with_path(parent))?;
        }
        download_file(store, budget, filed, path).await?;
    }
    remove_all(&job_folder)?;
    if let Some(parent) = job_folder.parent() {
        fs::create_dir_all(parent).map_err(with_path(parent))?;
    }
    fs::rename(&draft, &job_folder).map_err(with_path(&job_folder))?;
    debug!(%job, files = files.len(), "files of the job pulled");
    Ok(job)
}

/// Writes a file from its chunks.
async fn download_file(
    store: &PrefixStore,
    budget: &DownloadBudget,
    filed: &ChunkedFile,
    path: PathBuf,
) -> Result<(), RemoteError> {
    let mut file = create_replacing(&path).map_err(with_path(&path))?;
    let mut pieces = stream::iter(&filed.pieces)
        .map(async |piece| {
            // A file's chunks take their shares in the order in which they are written, so the next one never waits for
            // those behind it.
            let share = budget.reserve(piece.bytes).await;
            read_chunk(store, piece).await.map(|content| (content, share))
        })
        .buffered(CONCURRENT_DOWNLOADS);
    while let Some(piece) = pieces.next().await {
        let (content, _share) = piece?;
        file.write_all(&content).map_err(with_path(&path))?;
    }
    run_blocking(move || Ok(file.sync_all().map_err(with_path(&path))?)).await
}

/// Bounds the memory of all downloads together.
struct DownloadBudget(Semaphore);

impl Default for DownloadBudget {
    fn default() -> Self {
        Self(Semaphore::new(DOWNLOAD_BUDGET_KIB as usize))
    }
}

impl DownloadBudget {
    /// Waits until a chunk of this size fits. It counts until the result is dropped.
    async fn reserve(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).clamp(1, DOWNLOAD_BUDGET_KIB);
        // It is never closed.
        self.0.acquire_many(kib).await.ok()
    }
}

async fn read_chunk(store: &PrefixStore, piece: &SnapshotChunk) -> Result<Vec<u8>, RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: piece.name.clone(), what: what.to_owned() };
    let content = store.get(&piece.name, MAX_CHUNK_BYTES).await?.ok_or_else(|| damaged("it does not exist"))?;
    if content.len() as u64 != piece.bytes || hex(&Sha256::digest(&content)) != piece.sha256 {
        return Err(damaged("it does not match its checksum"));
    }
    Ok(content)
}

fn unpack(packed: &Path, to: &Path, expected: &str) -> Result<(), RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: "the journal".to_owned(), what: what.to_owned() };
    let mut unpacked = GzDecoder::new(File::open(packed).map_err(with_path(packed))?).take(MAX_JOURNAL_BYTES + 1);
    let mut file = create_replacing(to).map_err(with_path(to))?;
    let (mut digest, mut bytes) = (JournalDigest::default(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match unpacked.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(&error.to_string())),
        };
        bytes += read as u64;
        file.write_all(&buffer[..read]).map_err(with_path(to))?;
        digest.update(&mut buffer[..read]);
    }
    if bytes > MAX_JOURNAL_BYTES {
        return Err(damaged("it is too large"));
    }
    if digest.hex() != expected {
        return Err(damaged("it does not match its checksum"));
    }
    Ok(file.sync_all().map_err(with_path(to))?)
}

/// Puts the unpacked journal in place of the previous one, and removes everything that belonged to that.
fn replace_journal(folder: &Path, keep: &BTreeSet<JobId>) -> Result<(), RemoteError> {
    for job in list_job_folders(folder)?.iter().filter(|job| !keep.contains(*job)) {
        remove_all(JobFolder::of(folder, job).path())?;
    }
    for behind in ["-wal", "-shm"] {
        let path = folder.join(format!("{JOURNAL_NAME}{behind}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(with_path(&path)(error).into()),
            _ => {}
        }
    }
    let journal = folder.join(JOURNAL_NAME);
    fs::rename(folder.join("journal.draft"), &journal).map_err(with_path(&journal))?;
    sync_folder(folder).map_err(with_path(folder))?;
    Ok(())
}

fn remove_all(path: &Path) -> Result<(), RemoteError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(with_path(path)(error).into()),
        _ => Ok(()),
    }
}
