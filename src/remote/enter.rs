//! Taking hold of a state: its lock, its mirror, and which of the two knows more.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::door::Door;
use super::error::RemoteError;
use super::head::Head;
use super::keeper::{Opening, give_back};
use super::lock::{Holder, Lock, Seeking};
use super::mirror::Mirror;
use super::pull::{fetch, pull};
use super::push::Pusher;
use crate::job::JobStatus;
use crate::journal::{Journal, Lease, LeaseError, Portion, Query};
use crate::store::{Connection, connect};

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
    pub(super) lock: Option<Lock>,
    /// Nobody else of this machine has the mirror.
    pub(super) lease: Lease,
    pub(super) connection: Connection,
}

impl Entered {
    /// Takes hold of a state.
    pub(super) async fn enter(opening: &Opening, base: Base) -> Result<Self, RemoteError> {
        let mut mirror = Mirror::open(&opening.folder, &opening.place)?;
        let lease = hold(&opening.folder)?;
        // Whoever had it until now may have come further.
        mirror.reread()?;
        let connection = connect(&opening.store).await?;
        let door = Door::new(Arc::clone(connection.cabinet()), opening.bucket.clone(), opening.prefix.clone());
        let lock = if opening.locked { Some(seek(&door, opening, &mirror).await?) } else { None };
        mirror.record.claim = lock.as_ref().map(Lock::as_claim);
        mirror.save()?;
        let settled = settle(&door, &mut mirror, opening, base).await;
        let generation = |last: u64| lock.as_ref().map_or(last + 1, |lock| lock.generation);
        let (last, journal) = match settled {
            Ok(settled) => settled,
            Err(error) => {
                if let Some(lock) = lock {
                    // Where that does not go through either, it runs out.
                    let _ = lock.release(&door).await;
                }
                return Err(error);
            }
        };
        let (who, generation) = (opening.who.clone(), generation(last));
        let pusher = Pusher { door, mirror, journal, who, generation, seen: HashMap::new() };
        Ok(Self { pusher, lock, lease, connection })
    }

    /// Lets it go again.
    pub(super) async fn leave(self) {
        let Self { mut pusher, lock, .. } = self;
        give_back(&mut pusher, lock).await;
    }
}

/// Keeps others of this machine from a mirror.
pub(super) fn hold(folder: &Path) -> Result<Lease, RemoteError> {
    Lease::take(folder).map_err(|error| match error {
        LeaseError::Io(error) => RemoteError::Io(error),
        held @ LeaseError::Held(_) => RemoteError::HeldHere(held),
    })
}

async fn seek(door: &Door, opening: &Opening, mirror: &Mirror) -> Result<Lock, RemoteError> {
    let waits = |holder: &Holder| {
        (opening.tell)(&format!("the state is held by {holder}; looking whether it is still there"));
    };
    let seeking = Seeking {
        who: &opening.who,
        lease: opening.tempo.lease,
        patience: opening.patience,
        mine: mirror.record.claim.as_ref(),
        waits: &waits,
    };
    Lock::seek(door, &seeking).await
}

/// Makes the folder what is in the bucket, unless it is newer than that: then it is what is to be pushed. Gives back the
/// generation of what is there, and the folder's journal.
async fn settle(
    door: &Door,
    mirror: &mut Mirror,
    opening: &Opening,
    base: Base,
) -> Result<(u64, Journal), RemoteError> {
    let head = Head::newest(door).await?;
    let last = head.as_ref().map_or(0, |head| head.generation);
    match (mirror.goes_on_from(head.as_ref()), head, base) {
        (true, _, _) => {}
        (false, Some(head), Base::Pull) => pull(door, mirror, head).await?,
        (false, None, Base::Pull) => {
            let what = "the state is gone from its bucket, and this machine has a copy of it";
            return Err(RemoteError::Behind(what.to_owned()));
        }
        (false, head, Base::Refuse) => return Err(RemoteError::Behind(mirror.behind(head.as_ref()))),
        (false, head, Base::Replace) => {
            mirror.record.head = head.map(Head::emptied);
            mirror.record.here.clear();
        }
    }
    let journal = Journal::open(&opening.folder)?;
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over()).collect();
    let unfinished = Query { statuses, from: None, until: None, after: None, limit: u32::MAX };
    for job in journal.list(unfinished)? {
        // What it compares with comes along.
        for job in [Some(&job.id), job.portion.as_ref().and_then(Portion::base)].into_iter().flatten() {
            fetch(door, mirror, job).await?;
        }
    }
    Ok((last, journal))
}
