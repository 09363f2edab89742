//! Taking hold of a state: its lock, its mirror, and which of the two knows more.

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

/// How often a state is read anew that changes meanwhile.
const LOOKS: u32 = 5;

/// What is done with a folder that does not go on from what is in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// It becomes what is there.
    Pull,
    /// It is refused.
    Refuse,
    /// It takes the place of what is there.
    Replace,
}

/// A state that is held.
pub(super) struct Entered {
    pub(super) pusher: Pusher,
    /// Nothing where the state does without a lock.
    pub(super) tenure: Option<Tenure>,
    /// Nobody else of this machine has the mirror.
    pub(super) lease: Lease,
    pub(super) connection: Connection,
}

impl Entered {
    /// Takes hold of a state. It is renewed from the moment that it is held.
    pub(super) async fn enter(opening: &Opening, base: Base, lost: &Lost) -> Result<Self, RemoteError> {
        let mut mirror = Mirror::open(&opening.folder, &opening.place)?;
        let lease = hold(&opening.folder)?;
        // Whoever had it until now may have come further.
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
                    // The next number is beyond what was pushed meanwhile.
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

/// The right to push, by a lock or without one.
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

/// Gives the lock back. One that could not be is remembered: this folder need not wait for it.
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

/// Acquires the lock, where there is to be one.
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

/// Keeps others of this machine from a mirror, and from the jobs in it.
pub(super) fn hold(folder: &Path) -> Result<Lease, RemoteError> {
    let taken = Lease::take(folder);
    // The folder may be one that is worked on without a bucket: then it is shared, and its jobs are held one by one.
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

/// Makes the folder what is in the bucket, unless it is newer than that: then it is what is to be pushed. Gives back the
/// folder's journal. What is in the bucket must be of an earlier generation than what is to be pushed.
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
            // Whoever held the state before may have pushed once more, and removed what that does not need.
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
        // What it compares with comes along.
        for job in [Some(&job.id), job.portion.as_ref().and_then(Portion::base)].into_iter().flatten() {
            fetch(door, mirror, job).await?;
        }
    }
    Ok(journal)
}

/// Refuses a bucket in which there is something older than this machine has seen there.
pub(super) fn refuse_older(mirror: &Mirror, there: &Head) -> Result<(), RemoteError> {
    if mirror.is_ahead_of(there) {
        return Err(RemoteError::Behind(format!("the bucket has gone back: {}", mirror.behind(Some(there)))));
    }
    Ok(())
}

/// Keeps what may not be pushed, and now is not.
pub(super) fn set_aside(mirror: &Mirror, opening: &Opening) -> Result<(), RemoteError> {
    if let Some(aside) = mirror.set_aside()? {
        (opening.tell)(&format!(
            "warning: the state has moved on since this machine worked with it; what was not pushed then is kept in {}",
            aside.display()
        ));
    }
    Ok(())
}
