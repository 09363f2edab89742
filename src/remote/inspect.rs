//! What can be done with a state besides running jobs: inspect it, copy it, replace it, and take its lock from the
//! holder.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::background::RemoteStateConfig;
use super::error::RemoteError;
use super::lease::StateLoss;
use super::local_cache::LocalCache;
use super::lock::{self, LockHolder};
use super::open::{DivergencePolicy, OpenedState, check_not_older, lease_cache, release_lock, set_aside_changes};
use super::prefix_store::PrefixStore;
use super::pull::{fetch_job, pull};
use super::push::job_sizes;
use super::snapshot::StateSnapshot;
use crate::connect::{StoreConnection, connect};
use crate::job::JobId;

/// How often a state is read again if it is pushed meanwhile.
const MAX_ATTEMPTS: u32 = 5;

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

async fn connect_prefix(opening: &RemoteStateConfig) -> Result<(PrefixStore, StoreConnection), RemoteError> {
    let connection = connect(&opening.store).await?;
    let door = PrefixStore::new(Arc::clone(connection.store()), opening.bucket.clone(), opening.prefix.clone());
    Ok((door, connection))
}

/// Returns a summary of the state.
///
/// # Errors
/// Returns an error if the state cannot be reached or read.
pub async fn overview(opening: &RemoteStateConfig) -> Result<StateOverview, RemoteError> {
    let (door, _connection) = connect_prefix(opening).await?;
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
    let (door, _connection) = connect_prefix(opening).await?;
    update_from_bucket(opening, &door, &job, false).await?;
    // A lock that cannot be read matters only to a process that needs the lock.
    let held = lock::read_newest_holder(&door).await.ok().flatten();
    Ok(held.filter(|(_, _, released)| !released).map(|(_, holder, _)| holder))
}

async fn update_from_bucket(
    opening: &RemoteStateConfig,
    door: &PrefixStore,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let mut mirror = LocalCache::open(&opening.folder, &opening.location)?;
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        let head = StateSnapshot::read_newest(door).await?.ok_or(RemoteError::NoState)?;
        match apply_snapshot(opening, door, &mut mirror, head, job, replace).await {
            // The holder of the state has pushed, and removed what it no longer needs.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            brought => return brought,
        }
    }
    Err(last.unwrap_or(RemoteError::FilesKeepChanging))
}

async fn apply_snapshot(
    opening: &RemoteStateConfig,
    door: &PrefixStore,
    mirror: &mut LocalCache,
    head: StateSnapshot,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let jobs: Vec<JobId> = head.jobs.keys().filter(|id| job(id)).cloned().collect();
    if replace {
        mirror.record.here.clear();
        pull(door, mirror, head).await?;
    } else if !mirror.is_based_on(Some(&head)) {
        check_not_older(mirror, &head)?;
        set_aside_changes(mirror, opening)?;
        pull(door, mirror, head).await?;
    }
    for job in jobs {
        fetch_job(door, mirror, &job).await?;
    }
    Ok(())
}

/// Pulls a state with the files of all jobs into the folder. Without `replace`, only if nothing is lost.
///
/// # Errors
/// As for [`overview`]. Also returns an error if the folder contains something that is not a copy of this state.
pub async fn pull_to_folder(opening: &RemoteStateConfig, replace: bool) -> Result<(), RemoteError> {
    let (door, _connection) = connect_prefix(opening).await?;
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
    if strange()? || (!replace && !mirror.is_based_on(Some(&head)) && mirror.has_changed().await?) {
        return occupied();
    }
    update_from_bucket(opening, &door, &|_: &JobId| true, replace).await
}

/// Pushes the folder if it is based on the state in the bucket, or if there is none; with `replace`, in any case.
/// Returns whether anything was new.
///
/// # Errors
/// Returns an error if another process holds the state, or if the state in the bucket is newer.
pub async fn push_folder(opening: &RemoteStateConfig, replace: bool) -> Result<bool, RemoteError> {
    let base = if replace { DivergencePolicy::Overwrite } else { DivergencePolicy::Fail };
    let lost = StateLoss::default();
    let OpenedState { mut pusher, lease_keeper: tenure, cache_lease: _lease, connection: _connection } =
        OpenedState::open(opening, base, &lost).await?;
    let pushed = pusher.push().await;
    if let Some(tenure) = &tenure {
        tenure.renew(opening.lease_config.lease / 3).await;
    }
    pusher.mirror.record.open = pushed.is_err() || lost.is_lock_lost();
    release_lock(&mut pusher.mirror, tenure, opening.lease_config.lease / 3).await?;
    lost.take_reason().map_or(pushed, Err)
}

/// Takes the lock of this generation from its holder.
///
/// # Errors
/// Returns an error if the store cannot be reached, or if another lock is the newest by now.
pub async fn unlock(opening: &RemoteStateConfig, generation: u64) -> Result<u64, RemoteError> {
    let (door, _connection) = connect_prefix(opening).await?;
    lock::take_by_force(&door, &opening.process_name, generation).await
}
