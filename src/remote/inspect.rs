//! What can be done with a state besides running jobs: inspect it, copy it, replace it, and take its lock from the
//! holder.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::config::RemoteStateConfig;
use super::error::{LockHolder, RemoteError};
use super::local_cache::{LocalCache, lease_cache, update_from_bucket};
use super::lock;
use super::push::journal_digest;
use super::snapshot::{ChunkedFile, SnapshotFiles, StateSnapshot};
use crate::job::JobId;
use crate::journal::Journal;

/// A summary of a state.
#[derive(Clone, Debug)]
pub struct StateOverview {
    /// The last push; `None` if nothing was ever pushed.
    pub pushed: Option<LastPush>,
    /// The newest lock; `None` if there is none.
    pub lock: Option<LockStatus>,
}

/// The content of a lock.
#[derive(Clone, Debug)]
pub enum LockStatus {
    /// The lock was read.
    Readable {
        /// The generation of the lock.
        generation: u64,
        /// The process that holds the lock, or held it last.
        holder: LockHolder,
        /// Whether the lock was released.
        released: bool,
    },
    /// The lock cannot be read.
    Unreadable {
        /// The generation that the lock's name gives.
        generation: u64,
        /// The name of the object, below the prefix.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

/// The last push to a state.
#[derive(Clone, Debug)]
pub struct LastPush {
    /// The generation of the lock under which it was pushed.
    pub generation: u64,
    /// The number of the push under that lock, from 1.
    pub push: u64,
    /// When it was pushed, by the clock of the process that pushed.
    pub pushed_at: Timestamp,
    /// The name that this process gave itself.
    pub pushed_by: String,
    /// The jobs, and the number of bytes stored for each.
    pub jobs: BTreeMap<JobId, u64>,
}

/// Returns a summary of the state.
///
/// # Errors
/// Returns an error if the state cannot be reached or read.
pub async fn overview(opening: &RemoteStateConfig) -> Result<StateOverview, RemoteError> {
    let (door, _connection) = opening.connect().await?;
    // A lock that cannot be read still exists.
    let lock = match lock::read_newest_holder(&door).await {
        Err(RemoteError::Damaged { name, what }) => match lock::parse_generation(&name) {
            Some(generation) => Some(LockStatus::Unreadable { generation, name, what }),
            None => return Err(RemoteError::Damaged { name, what }),
        },
        lock => lock?.map(|(generation, holder, released)| LockStatus::Readable { generation, holder, released }),
    };
    let pushed = StateSnapshot::read_newest(&door).await?.map(|head| LastPush {
        generation: head.generation,
        push: head.push,
        pushed_at: head.at,
        pushed_by: lock::printable_name(&head.by),
        jobs: job_sizes(&head),
    });
    Ok(StateOverview { pushed, lock })
}

/// Updates the local cache for reading, without holding the state. Fetches the files of the jobs that `job` selects. If
/// another process of this machine uses the cache, it is already up to date. Returns the holder on another machine, if
/// any.
///
/// # Errors
/// Returns an error if there is no state, or if it cannot be reached or read.
pub async fn update_cache(
    opening: &RemoteStateConfig,
    job: impl Fn(&JobId) -> bool,
) -> Result<Option<LockHolder>, RemoteError> {
    let _lease = match lease_cache(&opening.create_folder()?) {
        Err(RemoteError::CacheInUse(_)) => return Ok(None),
        lease => lease?,
    };
    let (door, _connection) = opening.connect().await?;
    update_from_bucket(opening, &door, &job, false).await?;
    // A lock that cannot be read matters only to a process that needs the lock.
    let held = lock::read_newest_holder(&door).await.ok().flatten();
    Ok(held.filter(|(_, _, released)| !released).map(|(_, holder, _)| holder))
}

/// Pulls a state with the files of all jobs into the folder. Without `replace`, only if nothing is lost.
///
/// # Errors
/// As for [`overview`]. Also returns an error if the folder contains something that is not a copy of this state.
pub async fn pull_to_folder(opening: &RemoteStateConfig, replace: bool) -> Result<(), RemoteError> {
    let (door, _connection) = opening.connect().await?;
    let head = StateSnapshot::read_newest(&door).await?.ok_or(RemoteError::NoState)?;
    let occupied = || Err(RemoteError::FolderNotEmpty(opening.folder.clone()));
    let strange = || {
        Ok::<_, RemoteError>(!replace && LocalCache::open(&opening.folder, &opening.location)?.has_foreign_files(&head))
    };
    // Check before anything is written there.
    if opening.folder.exists() && strange()? {
        return occupied();
    }
    let _lease = lease_cache(&opening.create_folder()?)?;
    // Check again: another process of this machine may have written to the folder meanwhile.
    let mirror = LocalCache::open(&opening.folder, &opening.location)?;
    if strange()? || (!replace && !mirror.is_based_on(Some(&head)) && has_changed(&mirror).await?) {
        return occupied();
    }
    update_from_bucket(opening, &door, &|_: &JobId| true, replace).await
}

/// Takes the lock of this generation from its holder.
///
/// # Errors
/// Returns an error if the store cannot be reached, or if another lock is the newest by now.
pub async fn unlock(opening: &RemoteStateConfig, generation: u64) -> Result<u64, RemoteError> {
    let (door, _connection) = opening.connect().await?;
    lock::take_by_force(&door, &opening.process_name, generation).await
}

/// Returns whether the journal differs from that of the last snapshot, which means that something was done here
/// since.
async fn has_changed(mirror: &LocalCache) -> Result<bool, RemoteError> {
    let Some(head) = mirror.snapshot() else { return Ok(false) };
    let Some(journal) = Journal::open_existing(&mirror.folder)? else { return Ok(false) };
    Ok(mirror.may_have_unpushed_changes() || journal_digest(&journal).await? != head.journal_sha256)
}

/// Returns the jobs of a snapshot, and the size of their files in bytes.
fn job_sizes(head: &StateSnapshot) -> BTreeMap<JobId, u64> {
    let bytes = |files: &SnapshotFiles| files.values().map(ChunkedFile::bytes).sum();
    head.jobs.iter().map(|(job, files)| (job.clone(), bytes(files))).collect()
}
