//! What can be done with a state besides running jobs: inspect it, copy it, replace it, and take its lock from the
//! holder.

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

/// How often a state is read again if it is pushed meanwhile.
const LOOKS: u32 = 5;

/// A summary of a state.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The last push; `None` if nothing was ever pushed.
    pub pushed: Option<Pushed>,
    /// The newest lock; `None` if there is none.
    pub lock: Option<Held>,
}

/// The content of a lock.
#[derive(Clone, Debug)]
pub enum Held {
    /// The lock was read.
    By {
        /// The generation of the lock.
        generation: u64,
        /// The process that holds the lock, or held it last.
        holder: Holder,
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
pub struct Pushed {
    /// The generation of the lock under which it was pushed.
    pub generation: u64,
    /// The number of the push under that lock, from 1.
    pub push: u64,
    /// When it was pushed, by the clock of the process that pushed.
    pub at: Timestamp,
    /// The name that this process gave itself.
    pub by: String,
    /// The jobs, and the number of bytes stored for each.
    pub jobs: BTreeMap<JobId, u64>,
}

async fn door(opening: &Opening) -> Result<(Door, Connection), RemoteError> {
    let connection = connect(&opening.store).await?;
    let door = Door::new(Arc::clone(connection.cabinet()), opening.bucket.clone(), opening.prefix.clone());
    Ok((door, connection))
}

/// Returns a summary of the state.
///
/// # Errors
/// Returns an error if the state cannot be reached or read.
pub async fn overview(opening: &Opening) -> Result<Overview, RemoteError> {
    let (door, _connection) = door(opening).await?;
    // A lock that cannot be read still exists.
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

/// Updates the local cache for reading, without holding the state. Fetches the files of the jobs that `job` selects. If
/// another process of this machine uses the cache, it is already up to date. Returns the holder on another machine, if
/// any.
///
/// # Errors
/// Returns an error if there is no state, or if it cannot be reached or read.
pub async fn look(opening: &Opening, job: impl Fn(&JobId) -> bool) -> Result<Option<Holder>, RemoteError> {
    let _lease = match hold(&opening.folder_made()?) {
        Err(RemoteError::HeldHere(_)) => return Ok(None),
        lease => lease?,
    };
    let (door, _connection) = door(opening).await?;
    bring_up_to_date(opening, &door, &job, false).await?;
    // A lock that cannot be read matters only to a process that needs the lock.
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
            // The holder of the state has pushed, and removed what it no longer needs.
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

/// Pulls a state with the files of all jobs into the folder. Without `replace`, only if nothing is lost.
///
/// # Errors
/// As for [`look`]. Also returns an error if the folder contains something that is not a copy of this state.
pub async fn take_out(opening: &Opening, replace: bool) -> Result<(), RemoteError> {
    let (door, _connection) = door(opening).await?;
    let head = Head::newest(&door).await?.ok_or(RemoteError::Absent)?;
    let occupied = || Err(RemoteError::Occupied(opening.folder.clone()));
    let strange = || Ok::<_, RemoteError>(!replace && Mirror::open(&opening.folder, &opening.place)?.is_strange(&head));
    // Check before anything is written there.
    if opening.folder.exists() && strange()? {
        return occupied();
    }
    let _lease = hold(&opening.folder_made()?)?;
    // Check again: another process of this machine may have written to the folder meanwhile.
    let mirror = Mirror::open(&opening.folder, &opening.place)?;
    if strange()? || (!replace && !mirror.goes_on_from(Some(&head)) && mirror.has_changed().await?) {
        return occupied();
    }
    bring_up_to_date(opening, &door, &|_: &JobId| true, replace).await
}

/// Pushes the folder if it is based on the state in the bucket, or if there is none; with `replace`, in any case.
/// Returns whether anything was new.
///
/// # Errors
/// Returns an error if another process holds the state, or if the state in the bucket is newer.
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
/// Returns an error if the store cannot be reached, or if another lock is the newest by now.
pub async fn unlock(opening: &Opening, generation: u64) -> Result<u64, RemoteError> {
    let (door, _connection) = door(opening).await?;
    lock::force(&door, &opening.who, generation).await
}
