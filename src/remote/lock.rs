//! The lock of a state: a lease for which each holder creates a new object.
//!
//! To hold the state, a process creates `lock/N+1`, on the condition that it does not exist, once `lock/N` was released
//! or its lease has expired; `acquire` decides that. A lease has expired if the store's own clock shows that, for both
//! the last renewal and now, or if a waiting process has seen the lock unchanged for the whole lease, by its own clock.
//! A holder counts its lease from before it sent the renewal, and gives the lock up at half of it, whether or not a
//! response arrives later: it is gone before another process starts. `N+1` is after every lock and every snapshot of
//! the listings that decided, so that a lock that was removed does not let an older generation start again.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::acquire::{
    AcquireOutcome, AcquireStep, Acquisition, LockFacts, Taking, is_superseded, newest_of, outlived_locks,
};
use super::door::Door;
use super::error::RemoteError;
use super::head;
use crate::diagnostics::drives_terminal;
use crate::store::Created;

/// The version of the lock format.
const VERSION: u32 = 1;

/// The maximum size of a lock, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The margin for times in a store's listing, which are whole seconds.
const RESOLUTION: Duration = Duration::from_secs(2);

/// The longest lease that is honoured, whatever a lock says.
const LONGEST_LEASE: Duration = Duration::from_mins(10);

/// How many times another process may be faster, or the store busy with a lock's name, while no newer lock is seen.
pub(super) const MAX_BEATEN: u32 = 20;

/// The mean pause before another attempt, after another process was faster.
const PAUSE: Duration = Duration::from_millis(200);

/// An instant of a monotonic clock. If the system reports its uptime, the time that the machine sleeps counts as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    running: Instant,
    /// The time since the machine started, if the system reports it.
    up: Option<Duration>,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { running: Instant::now(), up: uptime() }
    }

    /// Returns the time since this instant.
    pub(super) fn age(self) -> Duration {
        let up = uptime().zip(self.up).map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
        self.running.elapsed().max(up)
    }

    pub(super) fn is_after(self, other: Self) -> bool {
        self.running > other.running
    }
}

/// Returns the time since the machine started, including sleep, with a resolution of 10 ms. Only Linux reports it;
/// elsewhere the clock of `Instant` is all there is.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().next()?.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
}

/// The holder of a state, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The name that the holder gave itself, such as `user@host (process 7)`.
    pub who: String,
    /// When it acquired the lock, by its own clock.
    pub since: Timestamp,
    /// When it last renewed the lock, by its own clock.
    pub renewed: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(f, "{} since {} (last heard of at {})", self.who, second(self.since), second(self.renewed))
    }
}

/// A lock as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LockShape {
    version: u32,
    id: String,
    holder: String,
    since: Timestamp,
    renewed: Timestamp,
    renewals: u64,
    lease_ms: u64,
    released: bool,
}

impl LockShape {
    fn holder(&self) -> Holder {
        Holder { who: harmless(&self.holder), since: self.since, renewed: self.renewed }
    }

    /// Returns how long the lock is valid without a renewal, up to the longest lease that is honoured.
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).min(LONGEST_LEASE)
    }

    /// Returns the facts that `acquire` decides by.
    fn facts(&self) -> LockFacts<String> {
        LockFacts { id: self.id.clone(), released: self.released }
    }

    fn text(&self) -> Result<Bytes, RemoteError> {
        Ok(serde_json::to_vec(self).map_err(std::io::Error::from)?.into())
    }
}

/// Returns the name that a process gave itself, made safe to display.
pub(super) fn harmless(who: &str) -> String {
    who.chars().filter(|c| !drives_terminal(*c)).take(256).collect()
}

fn name_of(generation: u64) -> String {
    format!("lock/{generation:012}.json")
}

/// Returns the generation of the lock with this name.
pub(super) fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("lock/")?.strip_suffix(".json")?;
    digits.parse().ok().filter(|_| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The right to push to a state, as long as it is renewed.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// The position among all holders of the state.
    pub(super) generation: u64,
    shape: LockShape,
    /// The start of the lease: just before the last successful renewal was sent.
    pub(super) good_since: Moment,
}

/// The lease token that a local cache remembers. A process that uses this cache, and not a copy of it, need not wait
/// for that lock to expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) generation: u64,
    pub(super) id: String,
}

/// How to acquire a lock.
pub(super) struct Seeking<'a> {
    /// This process, for display.
    pub(super) who: &'a str,
    /// How long the lock is valid without a renewal.
    pub(super) lease: Duration,
    /// How long to wait for another holder.
    pub(super) patience: Duration,
    /// The lease token that the local cache remembers.
    pub(super) mine: Option<&'a Claim>,
    /// Called once if there is a holder to wait for.
    pub(super) waits: &'a (dyn Fn(&Holder, Duration) + Send + Sync),
}

/// A lock that is read repeatedly.
struct Watched {
    generation: u64,
    shape: LockShape,
    unchanged_since: Instant,
    /// Whether its holder is known to be alive: it was renewed, or appeared while another lock was watched.
    alive: bool,
}

/// One process that acquires the lock. It executes what [`Acquisition`] decides.
struct Candidate<'a> {
    door: &'a Door,
    lease: Duration,
    acquisition: Acquisition<String>,
    /// The lock that it creates.
    ours: LockShape,
    /// Just before the first request to create the lock was sent.
    good_since: Moment,
    /// The newest lock, as it was last read.
    newest: Option<LockShape>,
    watched: Option<Watched>,
    /// Whether another process created its lock just before this one.
    beaten: bool,
}

impl<'a> Candidate<'a> {
    fn new(door: &'a Door, who: &str, lease: Duration, taking: Taking<String>) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let now = Timestamp::now();
        let ours = LockShape {
            version: VERSION,
            id: id.clone(),
            holder: who.to_owned(),
            since: now,
            renewed: now,
            renewals: 0,
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            released: false,
        };
        let acquisition = Acquisition::new(id, taking);
        Self { door, lease, acquisition, ours, good_since: Moment::now(), newest: None, watched: None, beaten: false }
    }

    /// Makes one attempt, from its listings to its outcome.
    async fn attempt(&mut self) -> Result<AcquireOutcome, RemoteError> {
        self.acquisition.restart();
        self.proceed().await
    }

    /// Sends requests from the current step to the outcome.
    async fn proceed(&mut self) -> Result<AcquireOutcome, RemoteError> {
        let mut conflicts = 0;
        let mut creating = None;
        loop {
            match self.acquisition.step() {
                AcquireStep::ListHeads => self.acquisition.heads_listed(head::last(self.door).await?),
                AcquireStep::ListLocks => self.acquisition.locks_listed(&generations(self.door).await?),
                AcquireStep::Read(generation) => {
                    let found = read(self.door, generation).await?;
                    self.acquisition.lock_read(found.as_ref().map(LockShape::facts).as_ref());
                    self.newest = found;
                }
                AcquireStep::Judge(generation) => {
                    let has_run_out = self.has_run_out(generation).await?;
                    self.acquisition.judged(has_run_out);
                }
                AcquireStep::Create(generation) => {
                    if creating.replace(generation).is_none() {
                        self.ours.since = Timestamp::now();
                        self.ours.renewed = self.ours.since;
                        self.good_since = Moment::now();
                    }
                    let text = self.ours.text()?;
                    let created = self.door.create(&name_of(generation), text).await.map_err(no_condition)?;
                    self.acquisition.created(created);
                    if created == Created::Conflict {
                        conflicts += 1;
                        if conflicts > MAX_BEATEN {
                            return Err(refuses_and_shows_none());
                        }
                        pause().await;
                    }
                }
                AcquireStep::Done(outcome) => return Ok(outcome),
            }
        }
    }

    /// Returns whether the newest lock was not renewed for its whole lease.
    async fn has_run_out(&mut self, generation: u64) -> Result<bool, RemoteError> {
        let Some(shape) = &self.newest else { return Ok(false) };
        let watch = |alive| Some(Watched { generation, shape: shape.clone(), unchanged_since: Instant::now(), alive });
        let lease = shape.lease();
        match &self.watched {
            Some(seen) if seen.generation == generation && seen.shape == *shape => {
                return Ok(seen.unchanged_since.elapsed() > lease);
            }
            // The lock was renewed or replaced, so its holder is alive.
            Some(_) => {
                self.watched = watch(true);
                return Ok(false);
            }
            // The holder of a lock that was just created is alive as well.
            None => self.watched = watch(self.beaten),
        }
        // Usually the lock expired long ago. The store's clock shows that without waiting.
        let age = age_in_store(self.door, generation).await?;
        Ok(age.is_some_and(|age| age > lease + RESOLUTION))
    }

    /// Returns the acquired lock, and renews it if necessary.
    async fn held(self, generation: u64) -> Result<Lock, RemoteError> {
        let Self { door, lease, ours: shape, good_since, .. } = self;
        let mut lock = Lock { generation, shape, good_since };
        if lock.good_since.age() > lease / 6 {
            lock.renew(door, lease).await?;
        }
        Ok(lock)
    }

    /// Removes a lock that the store created twice, and returns the error.
    async fn no_condition(&self, generation: u64) -> Result<RemoteError, RemoteError> {
        // No process holds this lock. A store that ignores conditions may fail to remove it, so release it first.
        let mut lock = Lock { generation, shape: self.ours.clone(), good_since: self.good_since };
        lock.release(self.door).await?;
        let _ = self.door.remove(&name_of(generation)).await;
        let why = "it overwrites an object that it was to create only if there is none";
        Ok(RemoteError::NoCondition(why.to_owned()))
    }
}

impl Lock {
    /// Acquires the lock once no other process holds it.
    pub(super) async fn seek(door: &Door, seeking: &Seeking<'_>) -> Result<Self, RemoteError> {
        let deadline = Instant::now() + seeking.patience;
        let mine = seeking.mine.map(|mine| (mine.generation, mine.id.clone()));
        let mut candidate = Candidate::new(door, seeking.who, seeking.lease, Taking::Free(mine));
        let (mut told, mut beaten, mut newest) = (false, 0, 0);
        loop {
            match candidate.attempt().await? {
                AcquireOutcome::Held(generation) => return candidate.held(generation).await,
                AcquireOutcome::NoCondition(generation) => return Err(candidate.no_condition(generation).await?),
                AcquireOutcome::HeldElsewhere(_) => {
                    let Some(shape) = &candidate.newest else { continue };
                    // A lock that this process created and gave up must expire as well, but is no other holder.
                    if shape.id != candidate.ours.id {
                        let alive = candidate.watched.as_ref().is_some_and(|seen| seen.alive);
                        if alive && Instant::now() >= deadline {
                            return Err(RemoteError::Held(shape.holder()));
                        }
                        if !std::mem::replace(&mut told, true) {
                            (seeking.waits)(&shape.holder(), shape.lease());
                        }
                    }
                    let pause = (shape.lease() / 20).clamp(Duration::from_millis(50), Duration::from_secs(2));
                    beaten = 0;
                    tokio::time::sleep(pause).await;
                }
                AcquireOutcome::Beaten | AcquireOutcome::Vanished(_) | AcquireOutcome::Moved => {
                    candidate.beaten = true;
                    // The faster process shows up in the next attempt. A store that shows none several times is not
                    // trusted.
                    let listed = newest_of(&generations(door).await?);
                    beaten = if listed > newest { 1 } else { beaten + 1 };
                    newest = newest.max(listed);
                    if beaten > MAX_BEATEN {
                        return Err(refuses_and_shows_none());
                    }
                    pause().await;
                }
            }
        }
    }

    /// Renews the lock, and checks that no other process has taken over. A lock that was not renewed for half of its
    /// lease is not renewed any more, because another process may already consider it expired.
    pub(super) async fn renew(&mut self, door: &Door, lease: Duration) -> Result<(), RemoteError> {
        if self.good_since.age() > lease / 2 {
            let age = self.good_since.age().as_millis();
            return Err(RemoteError::NotRenewed(format!("it was not renewed for {age} ms")));
        }
        let sent = Moment::now();
        self.shape.renewals += 1;
        self.shape.renewed = Timestamp::now();
        self.shape.lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        door.put_once(&name_of(self.generation), self.shape.text()?, lease / 3).await?;
        if is_superseded(self.generation, &generations(door).await?) {
            return Err(RemoteError::TakenOver(newest_holder(door).await));
        }
        self.good_since = sent;
        Ok(())
    }

    pub(super) async fn release(&mut self, door: &Door) -> Result<(), RemoteError> {
        self.shape.released = true;
        self.shape.renewed = Timestamp::now();
        door.put(&name_of(self.generation), self.shape.text()?).await
    }

    /// Returns the lease token that the local cache remembers.
    pub(super) fn as_claim(&self) -> Claim {
        Claim { generation: self.generation, id: self.shape.id.clone() }
    }
}

/// Returns how long ago a lock was last written, by the store's own clock; `None` if that is unknown.
async fn age_in_store(door: &Door, generation: u64) -> Result<Option<Duration>, RemoteError> {
    let probe = format!("lock/now-{}", uuid::Uuid::new_v4().simple());
    door.put(&probe, Bytes::new()).await?;
    let times = door.list("lock/").await;
    // A probe that cannot be removed does no harm.
    let _ = door.remove(&probe).await;
    let times = times?;
    let time = |name: &str| times.iter().find(|(found, _)| found == name).map(|(_, at)| *at);
    let (Some(now), Some(then)) = (time(&probe), time(&name_of(generation))) else { return Ok(None) };
    Ok(Some(Duration::try_from(now.duration_since(then)).unwrap_or_default()))
}

/// Waits for a short random time, so that processes do not retry in step.
pub(super) async fn pause() {
    tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
}

/// Returns the error for an impossible response: the store cannot be trusted.
pub(super) fn refuses_and_shows_none() -> RemoteError {
    RemoteError::Damaged { name: "lock/".to_owned(), what: "it refuses to create a lock, and lists none".to_owned() }
}

/// Describes the holder of the newest lock, as far as the lock can be read.
pub(super) async fn newest_holder(door: &Door) -> String {
    let by = newest(door).await.ok().flatten();
    by.map_or_else(|| "another process".to_owned(), |(_, lock)| lock.holder().to_string())
}

/// Returns the lock of the newest generation; `None` if there is none.
async fn newest(door: &Door) -> Result<Option<(u64, LockShape)>, RemoteError> {
    const LOOKS: u32 = 20;
    for _ in 0..LOOKS {
        let Some(generation) = generations(door).await?.into_iter().max() else { return Ok(None) };
        // If this one is gone, a newer one has replaced it.
        if let Some(shape) = read(door, generation).await? {
            return Ok(Some((generation, shape)));
        }
    }
    Err(RemoteError::Damaged { name: "lock/".to_owned(), what: "it is listed, and not there".to_owned() })
}

pub(super) async fn generations(door: &Door) -> Result<Vec<u64>, RemoteError> {
    Ok(door.list("lock/").await?.iter().filter_map(|(name, _)| generation_of(name)).collect())
}

async fn read(door: &Door, generation: u64) -> Result<Option<LockShape>, RemoteError> {
    let name = name_of(generation);
    let Some(text) = door.get(&name, MAX_BYTES).await? else { return Ok(None) };
    let damaged = |what: String| RemoteError::Damaged { name: name.clone(), what };
    let shape: LockShape = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if shape.version > VERSION {
        return Err(RemoteError::Newer(shape.version));
    }
    Ok(Some(shape))
}

/// Returns the locks before this generation, whose holder calls this; `None` unless its lock is known to be the newest.
pub(super) async fn outlived(door: &Door, generation: u64) -> Result<Option<Vec<u64>>, RemoteError> {
    let head = head::last(door).await?;
    Ok(outlived_locks(generation, head, &generations(door).await?))
}

/// Returns the holder of the lock of this generation, and whether it was released; `None` if the lock is gone.
pub(super) async fn holder_of(door: &Door, generation: u64) -> Result<Option<(Holder, bool)>, RemoteError> {
    Ok(read(door, generation).await?.map(|lock| (lock.holder(), lock.released)))
}

/// Removes locks that [`outlived`] returned.
pub(super) async fn clear(door: &Door, outlived: Vec<u64>) -> Result<(), RemoteError> {
    for generation in outlived {
        door.remove(&name_of(generation)).await?;
    }
    Ok(())
}

/// Returns the generation and the holder of the newest lock, and whether it was released; `None` if there is no lock.
pub(super) async fn look(door: &Door) -> Result<Option<(u64, Holder, bool)>, RemoteError> {
    Ok(newest(door).await?.map(|(generation, shape)| (generation, shape.holder(), shape.released)))
}

/// Takes the lock of generation `over` from its holder, whatever its state: creates the next lock, and releases it at
/// once. The holder finds that when it renews, and stops. This is refused if another lock is the newest by now, because
/// the person who decided has never seen its holder.
pub(super) async fn force(door: &Door, who: &str, over: u64) -> Result<u64, RemoteError> {
    let mut candidate = Candidate::new(door, who, Duration::from_mins(1), Taking::ByForce(over));
    match candidate.attempt().await? {
        AcquireOutcome::Held(generation) => {
            let Candidate { ours: shape, good_since, .. } = candidate;
            Lock { generation, shape, good_since }.release(door).await?;
            Ok(generation)
        }
        AcquireOutcome::NoCondition(generation) => Err(candidate.no_condition(generation).await?),
        _ => Err(RemoteError::ChangedHands),
    }
}

/// Converts the error of a store that rejects the condition itself.
fn no_condition(error: RemoteError) -> RemoteError {
    match &error {
        RemoteError::Store { fault, .. } if fault.status == Some(501) || fault.code == "NotImplemented" => {
            RemoteError::NoCondition(fault.to_string())
        }
        _ => error,
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
