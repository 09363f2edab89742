//! Opens a state: acquires its lock, takes its local cache, and decides whether the bucket or the cache is newer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::background::RemoteStateConfig;
use super::error::RemoteError;
use super::lease::{LeaseKeeper, StateLoss};
use super::local_cache::LocalCache;
use super::lock::{LockHolder, LockRequest, StateLock};
use super::lockless::LocklessPush;
use super::prefix_store::PrefixStore;
use super::pull::{fetch_job, pull};
use super::push::StatePusher;
use super::snapshot::StateSnapshot;
use crate::connect::{StoreConnection, connect};
use crate::job::JobStatus;
use crate::journal::{DeltaScope, FileLease, JobFolder, JobQuery, Journal, LeaseError, list_job_folders};

/// How often a state that changes meanwhile is read again.
const MAX_ATTEMPTS: u32 = 5;

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

/// A state that this process holds.
pub(super) struct OpenedState {
    pub(super) pusher: StatePusher,
    /// `None` if the state uses no lock.
    pub(super) lease_keeper: Option<LeaseKeeper>,
    /// Keeps other processes of this machine out of the local cache.
    pub(super) cache_lease: FileLease,
    pub(super) connection: StoreConnection,
}

impl OpenedState {
    /// Opens a state. Its lock is renewed as soon as it is acquired.
    pub(super) async fn open(
        opening: &RemoteStateConfig,
        base: DivergencePolicy,
        lost: &StateLoss,
    ) -> Result<Self, RemoteError> {
        let mut mirror = LocalCache::open(&opening.folder, &opening.location)?;
        let lease = lease_cache(&opening.folder)?;
        // The previous owner of the cache may have changed it.
        mirror.reload()?;
        let connection = connect(&opening.store).await?;
        let door = PrefixStore::new(Arc::clone(connection.store()), opening.bucket.clone(), opening.prefix.clone());
        let mut looks = 0;
        let (right, journal) = loop {
            let right = acquire_push_permit(&door, opening, &mut mirror, lost).await?;
            looks += 1;
            match sync_cache(&door, &mut mirror, opening, base, right.generation()).await {
                Ok(journal) => break (right, journal),
                Err(error) => {
                    release_lock(&mut mirror, right.into_parts().1, opening.lease_config.lease / 3).await?;
                    // The next number is after everything that was pushed meanwhile.
                    if looks == MAX_ATTEMPTS || !matches!(error, RemoteError::ConcurrentPush) {
                        return Err(error);
                    }
                }
            }
        };
        let (generation, who) = (right.generation(), opening.process_name.clone());
        let (lockless, tenure) = right.into_parts();
        let (seen, needless) = (HashMap::new(), Vec::new());
        let put_since = std::sync::Mutex::default();
        let pusher = StatePusher {
            door,
            mirror,
            journal,
            process_name: who,
            generation,
            lockless,
            pushes: 0,
            pushed_files: seen,
            uploaded_chunks: put_since,
            unneeded: needless,
        };
        match lost.take_reason() {
            None => Ok(Self { pusher, lease_keeper: tenure, cache_lease: lease, connection }),
            Some(why) => Err(why),
        }
    }
}

/// The right to push, with or without a lock.
enum PushPermit {
    Locked(LeaseKeeper),
    Lockless(LocklessPush),
}

impl PushPermit {
    fn generation(&self) -> u64 {
        match self {
            Self::Locked(tenure) => tenure.generation,
            Self::Lockless(lockless) => lockless.generation,
        }
    }

    fn into_parts(self) -> (Option<LocklessPush>, Option<LeaseKeeper>) {
        match self {
            Self::Locked(tenure) => (None, Some(tenure)),
            Self::Lockless(lockless) => (Some(lockless), None),
        }
    }
}

/// Releases the lock. If that fails, the local cache remembers the lock, so that its next process need not wait for it.
pub(super) async fn release_lock(
    mirror: &mut LocalCache,
    tenure: Option<LeaseKeeper>,
    within: Duration,
) -> Result<(), RemoteError> {
    let given_back = match tenure {
        Some(tenure) => tenure.release(within).await,
        None => true,
    };
    if given_back { mirror.remember_token(None) } else { mirror.save() }
}

/// Acquires the lock, if the state uses one.
async fn acquire_push_permit(
    door: &PrefixStore,
    opening: &RemoteStateConfig,
    mirror: &mut LocalCache,
    lost: &StateLoss,
) -> Result<PushPermit, RemoteError> {
    if !opening.use_lock {
        return Ok(PushPermit::Lockless(LocklessPush::start(door).await?));
    }
    let waits = |holder: &LockHolder, lease: Duration| {
        let seconds = lease.as_secs().max(1);
        (opening.notify)(&format!(
            "the state is held by {holder}; checking whether it is still running: its lock expires {seconds} s after \
             its last renewal"
        ));
    };
    let seeking = LockRequest {
        process_name: &opening.process_name,
        lease: opening.lease_config.lease,
        timeout: opening.lock_timeout,
        token: mirror.token(),
        on_wait: &waits,
    };
    let lock = StateLock::acquire(door, &seeking).await?;
    mirror.remember_token(Some(lock.token()))?;
    let leave = Arc::clone(&opening.exit);
    Ok(PushPermit::Locked(LeaseKeeper::start(door.clone(), lock, opening.lease_config.lease, leave, lost.clone())?))
}

/// Keeps other processes of this machine out of a local cache and its jobs.
pub(super) fn lease_cache(folder: &Path) -> Result<FileLease, RemoteError> {
    let taken = FileLease::acquire(folder);
    // The folder may also be used without a bucket. It is then shared, and its jobs are leased one by one.
    for job in list_job_folders(folder)? {
        if let Some(holder) = FileLease::holder(JobFolder::of(folder, &job).path())? {
            return Err(RemoteError::CacheInUse(LeaseError::Held(format!("{holder}, job {job}"))));
        }
    }
    taken.map_err(|error| match error {
        LeaseError::Io(error) => RemoteError::Io(error),
        held @ LeaseError::Held(_) => RemoteError::CacheInUse(held),
    })
}

/// Makes the local cache match the bucket, unless the cache is newer and must be pushed. Returns the journal of the
/// cache. The state in the bucket must belong to an earlier generation than the next push.
async fn sync_cache(
    door: &PrefixStore,
    mirror: &mut LocalCache,
    opening: &RemoteStateConfig,
    base: DivergencePolicy,
    generation: u64,
) -> Result<Journal, RemoteError> {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        match sync_cache_once(door, mirror, opening, base).await {
            // The previous holder may have pushed once more, and removed what that push no longer needs.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            Err(error) => return Err(error),
            Ok(journal) => {
                if mirror.record.head.as_ref().is_some_and(|head| head.generation >= generation) {
                    return Err(RemoteError::ConcurrentPush);
                }
                mirror.record.open = true;
                mirror.save()?;
                return Ok(journal);
            }
        }
    }
    Err(last.unwrap_or(RemoteError::FilesKeepChanging))
}

async fn sync_cache_once(
    door: &PrefixStore,
    mirror: &mut LocalCache,
    opening: &RemoteStateConfig,
    base: DivergencePolicy,
) -> Result<Journal, RemoteError> {
    let head = StateSnapshot::read_newest(door).await?;
    match (mirror.is_based_on(head.as_ref()), head, base) {
        (true, head, _) => {
            if let Some((_, here)) =
                mirror.record.pending.take().filter(|(id, _)| head.as_ref().is_some_and(|it| it.id == *id))
            {
                mirror.record.here = here;
            }
            mirror.record.head = head;
        }
        (false, Some(head), DivergencePolicy::Pull) => {
            check_not_older(mirror, &head)?;
            set_aside_changes(mirror, opening)?;
            pull(door, mirror, head).await?;
        }
        (false, None, DivergencePolicy::Pull) => {
            let what = "the state no longer exists in its bucket, but this machine has a copy of it";
            return Err(RemoteError::Diverged(what.to_owned()));
        }
        (false, head, DivergencePolicy::Fail) => {
            return Err(RemoteError::Diverged(mirror.describe_divergence(head.as_ref())));
        }
        (false, head, DivergencePolicy::Overwrite) => {
            let kept = mirror.remote_only_files(head.as_ref())?;
            mirror.record.head = head.map(|head| head.with_jobs(kept));
            mirror.record.here.clear();
        }
    }
    mirror.record.pending = None;
    let journal = Journal::open(&opening.folder)?;
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over()).collect();
    let unfinished = JobQuery { statuses, created_from: None, created_until: None, older_than: None, limit: u32::MAX };
    for job in journal.list(unfinished)? {
        // The job that this one is compared with is fetched too.
        for job in [Some(&job.id), job.delta_scope.as_ref().and_then(DeltaScope::base_job)].into_iter().flatten() {
            fetch_job(door, mirror, job).await?;
        }
    }
    Ok(journal)
}

/// Refuses a bucket whose state is older than what this machine has already seen there.
pub(super) fn check_not_older(mirror: &LocalCache, there: &StateSnapshot) -> Result<(), RemoteError> {
    if mirror.is_ahead_of(there) {
        return Err(RemoteError::Diverged(format!(
            "the state in the bucket is older than before: {}",
            mirror.describe_divergence(Some(there))
        )));
    }
    Ok(())
}

/// Sets aside local changes that may not have been pushed, and will not be.
pub(super) fn set_aside_changes(mirror: &LocalCache, opening: &RemoteStateConfig) -> Result<(), RemoteError> {
    if let Some(aside) = mirror.set_aside()? {
        (opening.notify)(&format!(
            "warning: the state has changed since this machine last used it; changes that were not pushed are kept in \
             {}",
            aside.display()
        ));
    }
    Ok(())
}
