//! Who holds a state: a lock with a lease, of which each holder makes a new one.
//!
//! A process that wants to hold the state creates `lock/N+1` on condition that there is none, once `lock/N` was given back or
//! its lease has run out; `acquire` decides that. It has run out when the store's own clock says so of both its last renewal
//! and now, or when whoever waits has seen it unchanged for as long as the lease is good, by no clock but its own. A holder
//! counts its lease from before the renewal was sent, and gives it up at half of it, whether or not an answer comes later: it
//! is gone before anybody else begins. `N+1` is beyond every lock and every head of the listings that were judged, so that a lock which was removed does not
//! let an older generation begin again.

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

/// The version of a lock's form.
const VERSION: u32 = 1;

/// The longest lock, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What a store's listing says of times is whole seconds.
const RESOLUTION: Duration = Duration::from_secs(2);

/// The longest lease that is honoured, whatever a lock says.
const LONGEST_LEASE: Duration = Duration::from_mins(10);

/// How often another may be faster, or the store be busy with a lock's name, while no newer lock is seen.
pub(super) const MAX_BEATEN: u32 = 20;

/// How long is waited before something is tried again that another was faster at.
const PAUSE: Duration = Duration::from_millis(200);

/// An instant of a clock that nobody sets. Where the system tells its uptime, the time that the machine sleeps counts as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    running: Instant,
    /// Since the machine was started, where it says so.
    up: Option<Duration>,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { running: Instant::now(), up: uptime() }
    }

    /// How long ago it was.
    pub(super) fn age(self) -> Duration {
        let up = uptime().zip(self.up).map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
        self.running.elapsed().max(up)
    }

    /// Whether it is later than another.
    pub(super) fn is_after(self, other: Self) -> bool {
        self.running > other.running
    }
}

/// How long ago the machine was started, time asleep included, to a hundredth of a second. Linux says it; elsewhere the clock of
/// `Instant` is all there is.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().next()?.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
}

/// Who holds a state, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// In its own words, such as `user@host (process 7)`.
    pub who: String,
    /// Since when, by its clock.
    pub since: Timestamp,
    /// When it was last heard of, by its clock.
    pub renewed: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(f, "{} since {} (last heard of at {})", self.who, second(self.since), second(self.renewed))
    }
}

/// A lock, as it lies in the store.
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

    /// For how long it is good, as far as that is honoured.
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).min(LONGEST_LEASE)
    }

    /// What `acquire` judges it by.
    fn facts(&self) -> LockFacts<String> {
        LockFacts { id: self.id.clone(), released: self.released }
    }

    fn text(&self) -> Result<Bytes, RemoteError> {
        Ok(serde_json::to_vec(self).map_err(std::io::Error::from)?.into())
    }
}

/// What somebody calls themselves, as it can be shown.
pub(super) fn harmless(who: &str) -> String {
    who.chars().filter(|c| !drives_terminal(*c)).take(256).collect()
}

fn name_of(generation: u64) -> String {
    format!("lock/{generation:012}.json")
}

/// The generation of a lock of this name.
pub(super) fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("lock/")?.strip_suffix(".json")?;
    digits.parse().ok().filter(|_| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The right to push to a state, for as long as it is renewed.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// Its place among all that held the state.
    pub(super) generation: u64,
    shape: LockShape,
    /// Since when the lease counts: before the last renewal that went through was sent.
    pub(super) good_since: Moment,
}

/// A claim that a mirror remembers: whoever has the mirror, and is not a copy of it, need not wait for it to run out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) generation: u64,
    pub(super) id: String,
}

/// How a lock is sought.
pub(super) struct Seeking<'a> {
    /// Who seeks it, for people.
    pub(super) who: &'a str,
    /// How long it is good for without being renewed.
    pub(super) lease: Duration,
    /// How long another holder is waited for.
    pub(super) patience: Duration,
    /// What the mirror remembers.
    pub(super) mine: Option<&'a Claim>,
    /// Told once when there is somebody to wait for.
    pub(super) waits: &'a (dyn Fn(&Holder, Duration) + Send + Sync),
}

/// A lock that is looked at again and again.
struct Watched {
    generation: u64,
    shape: LockShape,
    unchanged_since: Instant,
    /// Whether its holder was seen to be alive: it is renewed, or came while another was watched.
    alive: bool,
}

/// One process that acquires the lock: it carries out what [`Acquisition`] decides.
struct Candidate<'a> {
    door: &'a Door,
    lease: Duration,
    acquisition: Acquisition<String>,
    /// The lock that it creates.
    ours: LockShape,
    /// Since before the first request to create it was sent.
    good_since: Moment,
    /// The newest lock, as it was read last.
    newest: Option<LockShape>,
    watched: Option<Watched>,
    /// Whether another process created its lock while this one was about to.
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

    /// One attempt, from its listings to its outcome.
    async fn attempt(&mut self) -> Result<AcquireOutcome, RemoteError> {
        self.acquisition.restart();
        self.proceed().await
    }

    /// The requests from here to the outcome.
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

    /// Whether the newest lock was not renewed for as long as it is good.
    async fn has_run_out(&mut self, generation: u64) -> Result<bool, RemoteError> {
        let Some(shape) = &self.newest else { return Ok(false) };
        let watch = |alive| Some(Watched { generation, shape: shape.clone(), unchanged_since: Instant::now(), alive });
        let lease = shape.lease();
        match &self.watched {
            Some(seen) if seen.generation == generation && seen.shape == *shape => {
                return Ok(seen.unchanged_since.elapsed() > lease);
            }
            // Renewed, or another's by now: its holder is alive.
            Some(_) => {
                self.watched = watch(true);
                return Ok(false);
            }
            // One that was just created is alive as well.
            None => self.watched = watch(self.beaten),
        }
        // Long gone, as a rule: by the store's clock that need not be waited for.
        let age = age_in_store(self.door, generation).await?;
        Ok(age.is_some_and(|age| age > lease + RESOLUTION))
    }

    /// The lock that it came to hold.
    async fn held(self, generation: u64) -> Result<Lock, RemoteError> {
        let Self { door, lease, ours: shape, good_since, .. } = self;
        let mut lock = Lock { generation, shape, good_since };
        if lock.good_since.age() > lease / 6 {
            lock.renew(door, lease).await?;
        }
        Ok(lock)
    }

    /// Removes what a store created twice, and says so.
    async fn no_condition(&self, generation: u64) -> Result<RemoteError, RemoteError> {
        // It is nobody's; a store that knows no conditions may not remove either.
        let mut lock = Lock { generation, shape: self.ours.clone(), good_since: self.good_since };
        lock.release(self.door).await?;
        let _ = self.door.remove(&name_of(generation)).await;
        let why = "it overwrites an object that it was to create only if there is none";
        Ok(RemoteError::NoCondition(why.to_owned()))
    }
}

impl Lock {
    /// Acquires the lock, once no other process holds it.
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
                    // One that this process created and gave up is waited for as well, and is no other holder.
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
                    // Whoever was faster is seen the next time; a store that shows nobody again and again is not to be trusted.
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

    /// Says that the holder is still there, and looks whether it is one. One that has not been heard of for half of its lease
    /// is not renewed any more: somebody may have judged it by now.
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

    /// Gives it back.
    pub(super) async fn release(&mut self, door: &Door) -> Result<(), RemoteError> {
        self.shape.released = true;
        self.shape.renewed = Timestamp::now();
        door.put(&name_of(self.generation), self.shape.text()?).await
    }

    /// What the mirror remembers of it.
    pub(super) fn as_claim(&self) -> Claim {
        Claim { generation: self.generation, id: self.shape.id.clone() }
    }
}

/// How long ago a lock was last written, by the store's own clock; `None` where that cannot be said.
async fn age_in_store(door: &Door, generation: u64) -> Result<Option<Duration>, RemoteError> {
    let probe = format!("lock/now-{}", uuid::Uuid::new_v4().simple());
    door.put(&probe, Bytes::new()).await?;
    let times = door.list("lock/").await;
    // What cannot be removed is in nobody's way.
    let _ = door.remove(&probe).await;
    let times = times?;
    let time = |name: &str| times.iter().find(|(found, _)| found == name).map(|(_, at)| *at);
    let (Some(now), Some(then)) = (time(&probe), time(&name_of(generation))) else { return Ok(None) };
    Ok(Some(Duration::try_from(now.duration_since(then)).unwrap_or_default()))
}

/// Waits a little, not all processes as long as each other.
pub(super) async fn pause() {
    tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
}

/// What cannot be: a store that is not to be trusted.
pub(super) fn refuses_and_shows_none() -> RemoteError {
    RemoteError::Damaged { name: "lock/".to_owned(), what: "it refuses to create a lock, and lists none".to_owned() }
}

/// Who holds the newest lock, as far as it can be read.
pub(super) async fn newest_holder(door: &Door) -> String {
    let by = newest(door).await.ok().flatten();
    by.map_or_else(|| "another process".to_owned(), |(_, lock)| lock.holder().to_string())
}

/// The lock of the newest generation, where there is any.
async fn newest(door: &Door) -> Result<Option<(u64, LockShape)>, RemoteError> {
    const LOOKS: u32 = 20;
    for _ in 0..LOOKS {
        let Some(generation) = generations(door).await?.into_iter().max() else { return Ok(None) };
        // One that is gone by now is older than another that has come.
        if let Some(shape) = read(door, generation).await? {
            return Ok(Some((generation, shape)));
        }
    }
    Err(RemoteError::Damaged { name: "lock/".to_owned(), what: "it is listed, and not there".to_owned() })
}

/// The generations of all locks.
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

/// The locks before that of this generation, whose holder asks; `None` where it is not known to hold the newest of all.
pub(super) async fn outlived(door: &Door, generation: u64) -> Result<Option<Vec<u64>>, RemoteError> {
    let head = head::last(door).await?;
    Ok(outlived_locks(generation, head, &generations(door).await?))
}

/// Who holds the lock of this generation, and whether it was given back; `None` where it is gone.
pub(super) async fn holder_of(door: &Door, generation: u64) -> Result<Option<(Holder, bool)>, RemoteError> {
    Ok(read(door, generation).await?.map(|lock| (lock.holder(), lock.released)))
}

/// Removes locks that [`outlived`] named.
pub(super) async fn clear(door: &Door, outlived: Vec<u64>) -> Result<(), RemoteError> {
    for generation in outlived {
        door.remove(&name_of(generation)).await?;
    }
    Ok(())
}

/// Who holds the state now, and whether the lock was given back; `None` where nobody ever did.
pub(super) async fn look(door: &Door) -> Result<Option<(u64, Holder, bool)>, RemoteError> {
    Ok(newest(door).await?.map(|(generation, shape)| (generation, shape.holder(), shape.released)))
}

/// Takes the lock of this generation from its holder, whatever it says: the next is created, and given back at once. The
/// holder finds that when it renews, and stops. Refused where another lock is the newest by now: its holder was never shown to
/// the person who decided.
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

/// A store that refuses the condition itself.
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
