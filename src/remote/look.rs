//! What can be done with a state besides working with it: looking, taking a copy, putting one in its place, and taking the
//! lock from whoever has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::door::Door;
use super::enter::{Base, Entered, give_back, hold, refuse_older, set_aside};
use super::error::RemoteError;
use super::head::Head;
use super::keeper::Opening;
use super::lock::{self, Holder};
use super::mirror::Mirror;
use super::pull::{fetch, pull};
use super::push::sizes;
use super::tenure::Lost;
use crate::job::JobId;
use crate::store::{Connection, connect};

/// How often a state is read anew that is pushed meanwhile.
const LOOKS: u32 = 5;

/// What there is to say of a state.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Its generation, and which push of that it was; `None` where nothing was ever pushed.
    pub pushed: Option<Pushed>,
    /// The lock; `None` where nobody ever held it.
    pub lock: Option<Held>,
}

/// What a lock says.
#[derive(Clone, Debug)]
pub enum Held {
    /// Whoever has it or had it last, in which generation, and whether it was given back.
    By {
        /// The generation.
        generation: u64,
        /// Who.
        holder: Holder,
        /// Whether nobody has it now.
        released: bool,
    },
    /// Nothing that can be read.
    Unreadable {
        /// The generation, as its name says.
        generation: u64,
        /// The object, below the prefix.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

/// What was pushed last.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The lock that it was pushed under.
    pub generation: u64,
    /// Which push under that lock, from 1.
    pub push: u64,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
    /// Who, in its own words.
    pub by: String,
    /// The jobs, and how many bytes are kept of each.
    pub jobs: BTreeMap<JobId, u64>,
}

async fn door(opening: &Opening) -> Result<(Door, Connection), RemoteError> {
    let connection = connect(&opening.store).await?;
    let door = Door::new(Arc::clone(connection.cabinet()), opening.bucket.clone(), opening.prefix.clone());
    Ok((door, connection))
}

/// Says what there is.
///
/// # Errors
/// When it cannot be reached or read.
pub async fn overview(opening: &Opening) -> Result<Overview, RemoteError> {
    let (door, _connection) = door(opening).await?;
    // What cannot be read is there all the same.
    let lock = match lock::look(&door).await {
        Err(RemoteError::Damaged { name, what }) => match lock::generation_of(&name) {
            Some(generation) => Some(Held::Unreadable { generation, name, what }),
            None => return Err(RemoteError::Damaged { name, what }),
        },
        lock => lock?.map(|(generation, holder, released)| Held::By { generation, holder, released }),
    };
    let pushed = Head::newest(&door).await?.map(|head| Pushed {
        generation: head.generation,
        push: head.push,
        at: head.at,
        by: lock::harmless(&head.by),
        jobs: sizes(&head),
    });
    Ok(Overview { pushed, lock })
}

/// Brings the mirror up to date without holding the state, so that it can be looked at; `job`'s files come along. Where
/// another process of this machine works with it, the mirror is as it should be. Gives back who holds it elsewhere.
///
/// # Errors
/// When there is no state, or it cannot be reached or read.
pub async fn look(opening: &Opening, job: impl Fn(&JobId) -> bool) -> Result<Option<Holder>, RemoteError> {
    let _lease = match hold(&opening.folder_made()?) {
        Err(RemoteError::HeldHere(_)) => return Ok(None),
        lease => lease?,
    };
    let (door, _connection) = door(opening).await?;
    bring_up_to_date(opening, &door, &job, false).await?;
    // A lock that cannot be read is for whoever wants it.
    let held = lock::look(&door).await.ok().flatten();
    Ok(held.filter(|(_, _, released)| !released).map(|(_, holder, _)| holder))
}

async fn bring_up_to_date(
    opening: &Opening,
    door: &Door,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let mut mirror = Mirror::open(&opening.folder, &opening.place)?;
    let mut last = None;
    for _ in 0..LOOKS {
        let head = Head::newest(door).await?.ok_or(RemoteError::Absent)?;
        match bring(opening, door, &mut mirror, head, job, replace).await {
            // Whoever holds the state has pushed, and removed what it does not need any more.
            Err(error @ RemoteError::Damaged { .. }) => last = Some(error),
            brought => return brought,
        }
    }
    Err(last.unwrap_or(RemoteError::Restless))
}

async fn bring(
    opening: &Opening,
    door: &Door,
    mirror: &mut Mirror,
    head: Head,
    job: &impl Fn(&JobId) -> bool,
    replace: bool,
) -> Result<(), RemoteError> {
    let jobs: Vec<JobId> = head.jobs.keys().filter(|id| job(id)).cloned().collect();
    if replace {
        mirror.record.here.clear();
        pull(door, mirror, head).await?;
    } else if !mirror.goes_on_from(Some(&head)) {
        refuse_older(mirror, &head)?;
        set_aside(mirror, opening)?;
        pull(door, mirror, head).await?;
    }
    for job in jobs {
        fetch(door, mirror, &job).await?;
    }
    Ok(())
}

/// Pulls a state with the files of all jobs into the folder. Without `replace` only where nothing is lost by that.
///
/// # Errors
/// As for [`look`]; or there is something in the folder that is not a copy of this state.
pub async fn take_out(opening: &Opening, replace: bool) -> Result<(), RemoteError> {
    let (door, _connection) = door(opening).await?;
    let head = Head::newest(&door).await?.ok_or(RemoteError::Absent)?;
    let occupied = || Err(RemoteError::Occupied(opening.folder.clone()));
    let strange = || Ok::<_, RemoteError>(!replace && Mirror::open(&opening.folder, &opening.place)?.is_strange(&head));
    // Before anything is written there.
    if opening.folder.exists() && strange()? {
        return occupied();
    }
    let _lease = hold(&opening.folder_made()?)?;
    // Once more: until now, another process of this machine may have put something there.
    let mirror = Mirror::open(&opening.folder, &opening.place)?;
    if strange()? || (!replace && !mirror.goes_on_from(Some(&head)) && mirror.has_changed().await?) {
        return occupied();
    }
    bring_up_to_date(opening, &door, &|_: &JobId| true, replace).await
}

/// Pushes the folder, where it goes on from what is there, or nothing is; with `replace` in any case. Whether anything
/// was new.
///
/// # Errors
/// When somebody holds the state, or it has moved on.
pub async fn move_in(opening: &Opening, replace: bool) -> Result<bool, RemoteError> {
    let base = if replace { Base::Replace } else { Base::Refuse };
    let lost = Lost::default();
    let Entered { mut pusher, tenure, lease: _lease, connection: _connection } =
        Entered::enter(opening, base, &lost).await?;
    let pushed = pusher.push().await;
    if let Some(tenure) = &tenure {
        tenure.verify(opening.tempo.lease / 3).await;
    }
    pusher.mirror.record.open = pushed.is_err() || lost.is_of_lock();
    give_back(&mut pusher.mirror, tenure, opening.tempo.lease / 3).await?;
    lost.why().map_or(pushed, Err)
}

/// Takes the lock of this generation from its holder.
///
/// # Errors
/// When it cannot be reached, or another lock is the newest by now.
pub async fn unlock(opening: &Opening, generation: u64) -> Result<u64, RemoteError> {
    let (door, _connection) = door(opening).await?;
    lock::force(&door, &opening.who, generation).await
}
