//! Opens a state: acquires its lock, takes its local cache, and decides whether the bucket or the cache is newer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::door::Door;
use super::error::RemoteError;
use super::head::Head;
use super::keeper::Opening;
use super::lock::{Holder, Lock, Seeking};
use super::lockless::Lockless;
use super::mirror::Mirror;
use super::pull::{fetch, pull};
use super::push::Pusher;
use super::tenure::{Lost, Tenure};
use crate::job::JobStatus;
use crate::journal::{JobFolder, Journal, Lease, LeaseError, Portion, Query, folders};
use crate::store::{Connection, connect};

/// How often a state that changes meanwhile is read again.
const LOOKS: u32 = 5;

/// What to do with a local cache that is not based on the state in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Replace the cache with the state in the bucket.
    Pull,
    /// Return an error.
    Refuse,
    /// Replace the state in the bucket with the cache.
    Replace,
}

/// A state that this process holds.
pub(super) struct Entered {
    pub(super) pusher: Pusher,
    /// `None` if the state uses no lock.
    pub(super) tenure: Option<Tenure>,
    /// Keeps other processes of this machine out of the local cache.
    pub(super) lease: Lease,
    pub(super) connection: Connection,
}

impl Entered {
    /// Opens a state. Its lock is renewed as soon as it is acquired.
    pub(super) async fn enter(opening: &Opening, base: Base, lost: &Lost) -> Result<Self, RemoteError> {
        let mut mirror = Mirror::open(&opening.folder, &opening.place)?;
        let lease = hold(&opening.folder)?;
        // The previous owner of the cache may have changed it.
        mirror.reread()?;
        let connection = connect(&opening.store).await?;
        let door = Door::new(Arc::clone(connection.cabinet()), opening.bucket.clone(), opening.prefix.clone());
        let mut looks = 0;
        let (right, journal) = loop {
            let right = begin(&door, opening, &mut mirror, lost).await?;
            looks += 1;
            match settle(&door, &mut mirror, opening, base, right.generation()).await {
                Ok(journal) => break (right, journal),
                Err(error) => {
                    give_back(&mut mirror, right.parts().1, opening.tempo.lease / 3).await?;
                    // The next number is after everything that was pushed meanwhile.
                    if looks == LOOKS || !matches!(error, RemoteError::Outrun) {
                        return Err(error);
                    }
                }
            }
        };
        let (generation, who) = (right.generation(), opening.who.clone());
        let (lockless, tenure) = right.parts();
        let (seen, needless) = (HashMap::new(), Vec::new());
        let put_since = std::sync::Mutex::default();
        let pusher = Pusher { door, mirror, journal, who, generation, lockless, pushes: 0, seen, put_since, needless };
        match lost.why() {
            None => Ok(Self { pusher, tenure, lease, connection }),
            Some(why) => Err(why),
        }
    }
}

/// The right to push, with or without a lock.
enum PushRight {
    Locked(Tenure),
    Lockless(Lockless),
}

impl PushRight {
    fn generation(&self) -> u64 {
        match self {
            Self::Locked(tenure) => tenure.generation,
            Self::Lockless(lockless) => lockless.generation,
        }
    }

    fn parts(self) -> (Option<Lockless>, Option<Tenure>) {
        match self {
            Self::Locked(tenure) => (None, Some(tenure)),
            Self::Lockless(lockless) => (Some(lockless), None),
        }
    }
}

/// Releases the lock. If that fails, the local cache remembers the lock, so that its next process need not wait for it.
pub(super) async fn give_back(
    mirror: &mut Mirror,
    tenure: Option<Tenure>,
    within: Duration,
) -> Result<(), RemoteError> {
    let given_back = match tenure {
        Some(tenure) => tenure.end(within).await,
        None => true,
    };
    if given_back { mirror.hold(None) } else { mirror.save() }
}

/// Acquires the lock, if the state uses one.
async fn begin(door: &Door, opening: &Opening, mirror: &mut Mirror, lost: &Lost) -> Result<PushRight, RemoteError> {
    if !opening.locked {
        return Ok(PushRight::Lockless(Lockless::begin(door).await?));
    }
    let waits = |holder: &Holder, lease: Duration| {
        let seconds = lease.as_secs().max(1);
        (opening.tell)(&format!(
            "the state is held by {holder}; looking whether it is still there: its lock runs out {seconds} s after it was last \
             renewed"
        ));
    };
    let seeking = Seeking {
        who: &opening.who,
        lease: opening.tempo.lease,
        patience: opening.patience,
        mine: mirror.claim(),
        waits: &waits,
    };
    let lock = Lock::seek(door, &seeking).await?;
    mirror.hold(Some(lock.as_claim()))?;
    let leave = Arc::clone(&opening.leave);
    Ok(PushRight::Locked(Tenure::begin(door.clone(), lock, opening.tempo.lease, leave, lost.clone())?))
}

/// Keeps other processes of this machine out of a local cache and its jobs.
pub(super) fn hold(folder: &Path) -> Result<Lease, RemoteError> {
    let taken = Lease::take(folder);
    // The folder may also be used without a bucket. It is then shared, and its jobs are leased one by one.
    for job in folders(folder)? {
        if let Some(holder) = Lease::holder(JobFolder::of(folder, &job).path())? {
            return Err(RemoteError::HeldHere(LeaseError::Held(format!("{holder}, job {job}"))));
        }
    }
    taken.map_err(|error| match error {
        LeaseError::Io(error) => RemoteError::Io(error),
        held @ LeaseError::Held(_) => RemoteError::HeldHere(held),
    })
}

/// Makes the local cache match the bucket, unless the cache is newer and must be pushed. Returns the journal of the
/// cache. The state in the bucket must belong to an earlier generation than the next push.
async fn settle(
    door: &Door,
    mirror: &mut Mirror,
    opening: &Opening,
    base: Base,
    generation: u64,
) -> Result<Journal, RemoteError> {
    let mut last = None;
    for _ in 0..LOOKS {
        match settle_once(door, mirror, opening, base).await {
            // The previous holder may have pushed once more, and removed what that push no longer needs.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            Err(error) => return Err(error),
            Ok(journal) => {
                if mirror.record.head.as_ref().is_some_and(|head| head.generation >= generation) {
                    return Err(RemoteError::Outrun);
                }
                mirror.record.open = true;
                mirror.save()?;
                return Ok(journal);
            }
        }
    }
    Err(last.unwrap_or(RemoteError::Restless))
}

async fn settle_once(door: &Door, mirror: &mut Mirror, opening: &Opening, base: Base) -> Result<Journal, RemoteError> {
    let head = Head::newest(door).await?;
    match (mirror.goes_on_from(head.as_ref()), head, base) {
        (true, head, _) => {
            if let Some((_, here)) =
                mirror.record.pending.take().filter(|(id, _)| head.as_ref().is_some_and(|it| it.id == *id))
            {
                mirror.record.here = here;
            }
            mirror.record.head = head;
        }
        (false, Some(head), Base::Pull) => {
            refuse_older(mirror, &head)?;
            set_aside(mirror, opening)?;
            pull(door, mirror, head).await?;
        }
        (false, None, Base::Pull) => {
            let what = "the state is gone from its bucket, and this machine has a copy of it";
            return Err(RemoteError::Behind(what.to_owned()));
        }
        (false, head, Base::Refuse) => return Err(RemoteError::Behind(mirror.behind(head.as_ref()))),
        (false, head, Base::Replace) => {
            let kept = mirror.elsewhere(head.as_ref())?;
            mirror.record.head = head.map(|head| head.replaced(kept));
            mirror.record.here.clear();
        }
    }
    mirror.record.pending = None;
    let journal = Journal::open(&opening.folder)?;
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over()).collect();
    let unfinished = Query { statuses, from: None, until: None, after: None, limit: u32::MAX };
    for job in journal.list(unfinished)? {
        // The job that this one is compared with is fetched too.
        for job in [Some(&job.id), job.portion.as_ref().and_then(Portion::base)].into_iter().flatten() {
            fetch(door, mirror, job).await?;
        }
    }
    Ok(journal)
}

/// Refuses a bucket whose state is older than what this machine has already seen there.
pub(super) fn refuse_older(mirror: &Mirror, there: &Head) -> Result<(), RemoteError> {
    if mirror.is_ahead_of(there) {
        return Err(RemoteError::Behind(format!("the bucket has gone back: {}", mirror.behind(Some(there)))));
    }
    Ok(())
}

/// Sets aside local changes that may not have been pushed, and will not be.
pub(super) fn set_aside(mirror: &Mirror, opening: &Opening) -> Result<(), RemoteError> {
    if let Some(aside) = mirror.set_aside()? {
        (opening.tell)(&format!(
            "warning: the state has moved on since this machine worked with it; what was not pushed then is kept in {}",
            aside.display()
        ));
    }
    Ok(())
}
