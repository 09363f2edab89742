//! What can be done with a state besides running jobs: inspect it, copy it, replace it, and take its lock from the
//! holder.

use super::config::RemoteStateConfig;
use super::error::{LockHolder, RemoteError};
use super::local_cache::{LocalCache, lease_cache, update_from_bucket};
use super::lock::{self, LockStatus};
use super::push::journal_digest;
use super::snapshot::{LastPush, StateSnapshot};
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

/// Returns a summary of the state.
///
/// # Errors
/// Returns an error if the state cannot be reached or read.
pub async fn overview(config: &RemoteStateConfig) -> Result<StateOverview, RemoteError> {
    let (store, _connection) = config.connect().await?;
    let lock = lock::read_status(&store).await?;
    let pushed = StateSnapshot::read_newest(&store).await?.map(StateSnapshot::into_last_push);
    Ok(StateOverview { pushed, lock })
}

/// Updates the local cache for reading, without holding the state. Fetches the files of the jobs that `job` selects. If
/// another process of this machine uses the cache, it is already up to date. Returns the holder on another machine, if
/// any.
///
/// # Errors
/// Returns an error if there is no state, or if it cannot be reached or read.
pub async fn update_cache(
    config: &RemoteStateConfig,
    job: impl Fn(&JobId) -> bool,
) -> Result<Option<LockHolder>, RemoteError> {
    let _lease = match lease_cache(&config.create_folder()?) {
        Err(RemoteError::CacheInUse(_)) => return Ok(None),
        lease => lease?,
    };
    let (store, _connection) = config.connect().await?;
    update_from_bucket(config, &store, &job, false).await?;
    // A lock that cannot be read matters only to a process that needs the lock.
    let held = lock::read_newest_holder(&store).await.ok().flatten();
    Ok(held.filter(|(_, _, released)| !released).map(|(_, holder, _)| holder))
}

/// Pulls a state with the files of all jobs into the folder. Without `replace`, only if nothing is lost.
///
/// # Errors
/// As for [`overview`]. Also returns an error if the folder contains something that is not a copy of this state.
pub async fn pull_to_folder(config: &RemoteStateConfig, replace: bool) -> Result<(), RemoteError> {
    let (store, _connection) = config.connect().await?;
    let head = StateSnapshot::read_newest(&store).await?.ok_or(RemoteError::NoState)?;
    let occupied = || Err(RemoteError::FolderNotEmpty(config.folder.clone()));
    let strange = || {
        Ok::<_, RemoteError>(!replace && LocalCache::open(&config.folder, &config.location)?.has_foreign_files(&head))
    };
    // Check before anything is written there.
    if config.folder.exists() && strange()? {
        return occupied();
    }
    let _lease = lease_cache(&config.create_folder()?)?;
    // Check again: another process of this machine may have written to the folder meanwhile.
    let cache = LocalCache::open(&config.folder, &config.location)?;
    if strange()? || (!replace && !cache.is_based_on(Some(&head)) && has_changed(&cache).await?) {
        return occupied();
    }
    update_from_bucket(config, &store, &|_: &JobId| true, replace).await
}

/// Takes the lock of this generation from its holder.
///
/// # Errors
/// Returns an error if the store cannot be reached, or if another lock is the newest by now.
pub async fn unlock(config: &RemoteStateConfig, generation: u64) -> Result<u64, RemoteError> {
    let (store, _connection) = config.connect().await?;
    lock::take_by_force(&store, &config.process_name, generation).await
}

/// Returns whether the journal differs from that of the last snapshot, which means that something was done here
/// since.
async fn has_changed(cache: &LocalCache) -> Result<bool, RemoteError> {
    let Some(head) = cache.snapshot() else { return Ok(false) };
    let Some(journal) = Journal::open_existing(&cache.folder)? else { return Ok(false) };
    Ok(cache.may_have_unpushed_changes() || journal_digest(&journal).await? != head.journal_sha256)
}
