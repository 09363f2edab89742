//! Who holds a state: a lock with a lease, of which each holder makes a new one.
//!
//! Whoever wants to hold the state makes `lock/N+1` on condition that there is none, once `lock/N` was given back or its
//! lease has run out. It has when the store's own clock says so of both its last renewal and now, or when whoever waits has
//! seen it unchanged for as long as the lease is good, by no clock but its own. A holder counts its lease from before the
//! renewal was sent, and gives it up at half of it, whether or not an answer comes later: it is gone before anybody else
//! begins. `N` is beyond every lock and every head that there is, so that a lock which somebody has removed does not let an
//! older generation begin again.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

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

/// How often another may be faster before that is not believed any more.
const MAX_BEATEN: u32 = 20;

/// How long is waited before something is tried again that another was faster at.
const PAUSE: Duration = Duration::from_millis(200);

/// A moment on this machine: time passes for it also while the machine sleeps, and nobody sets it.
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

fn generation_of(name: &str) -> Option<u64> {
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
    pub(super) waits: &'a (dyn Fn(&Holder) + Send + Sync),
}

/// A lock that is looked at again and again.
struct Watched {
    shape: LockShape,
    unchanged_since: Instant,
    /// Whether it was ever seen to change.
    alive: bool,
}

impl Lock {
    /// Takes the lock, once nobody else holds it.
    pub(super) async fn seek(door: &Door, seeking: &Seeking<'_>) -> Result<Self, RemoteError> {
        let deadline = Instant::now() + seeking.patience;
        let mut watched: Option<Watched> = None;
        let mut told = false;
        let mut beaten = 0;
        loop {
            let last = newest(door).await?;
            let free = match &last {
                None => true,
                Some((_, shape)) if shape.released => true,
                // Its process is gone: whoever asks has the mirror to itself.
                Some((generation, shape))
                    if seeking.mine.is_some_and(|mine| mine.generation == *generation && mine.id == shape.id) =>
                {
                    true
                }
                Some((generation, shape)) => has_run_out(door, *generation, shape, &mut watched).await?,
            };
            if free {
                if let Some(lock) = Self::claim(door, beyond(door).await?, seeking).await? {
                    return Ok(lock);
                }
                // Somebody was faster, and is seen the next time; a store that says so again and again is not to be trusted.
                beaten += 1;
                if beaten > MAX_BEATEN {
                    let what = "it refuses a lock and shows none".to_owned();
                    return Err(RemoteError::Damaged { name: "lock/".to_owned(), what });
                }
                watched = None;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let Some((_, shape)) = last else { continue };
            if watched.as_ref().is_some_and(|seen| seen.alive) && Instant::now() >= deadline {
                return Err(RemoteError::Held(shape.holder()));
            }
            if !std::mem::replace(&mut told, true) {
                (seeking.waits)(&shape.holder());
            }
            tokio::time::sleep((shape.lease() / 20).clamp(Duration::from_millis(50), Duration::from_secs(2))).await;
        }
    }

    /// Makes the lock of a generation; `None` where somebody else was faster.
    async fn claim(door: &Door, generation: u64, seeking: &Seeking<'_>) -> Result<Option<Self>, RemoteError> {
        let now = Timestamp::now();
        let shape = LockShape {
            version: VERSION,
            id: uuid::Uuid::new_v4().simple().to_string(),
            holder: seeking.who.to_owned(),
            since: now,
            renewed: now,
            renewals: 0,
            lease_ms: u64::try_from(seeking.lease.as_millis()).unwrap_or(u64::MAX),
            released: false,
        };
        let (name, good_since) = (name_of(generation), Moment::now());
        let made = door.create(&name, shape.text()?).await.map_err(no_condition)?;
        let ours = made == Created::New || read(door, generation).await?.is_some_and(|there| there.id == shape.id);
        if !ours {
            return Ok(None);
        }
        // A store that does not know the condition makes it again.
        if made == Created::New && door.create(&name, shape.text()?).await.map_err(no_condition)? == Created::New {
            // It is nobody's; a store that knows no conditions may not remove either.
            let mut lock = Self { generation, shape, good_since };
            lock.release(door).await?;
            let _ = door.remove(&name).await;
            let why = "it makes an object again that was to be made only if it is new";
            return Err(RemoteError::NoCondition(why.to_owned()));
        }
        // Whoever was slow may have made one that was made, given back and cleared away long ago.
        if beyond(door).await? > generation + 1 {
            door.remove(&name).await?;
            return Ok(None);
        }
        let mut lock = Self { generation, shape, good_since };
        if lock.good_since.age() > seeking.lease / 6 {
            lock.renew(door, seeking.lease).await?;
        }
        Ok(Some(lock))
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
        if generations(door).await?.into_iter().any(|generation| generation > self.generation) {
            // Whatever can be read of it, it is another's.
            let by = newest(door).await.ok().flatten();
            let by = by.map_or_else(|| "somebody".to_owned(), |(_, other)| other.holder().to_string());
            return Err(RemoteError::TakenOver(by));
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

/// Whether a lock was not renewed for as long as it is good.
async fn has_run_out(
    door: &Door,
    generation: u64,
    shape: &LockShape,
    watched: &mut Option<Watched>,
) -> Result<bool, RemoteError> {
    let lease = shape.lease();
    match watched {
        Some(seen) if seen.shape == *shape => return Ok(seen.unchanged_since.elapsed() > lease),
        Some(seen) => {
            // Renewed, or another's by now: somebody is there.
            *seen = Watched { shape: shape.clone(), unchanged_since: Instant::now(), alive: true };
            return Ok(false);
        }
        None => *watched = Some(Watched { shape: shape.clone(), unchanged_since: Instant::now(), alive: false }),
    }
    // Long gone, as a rule: by the store's clock that need not be waited for.
    let probe = format!("lock/now-{}", uuid::Uuid::new_v4().simple());
    door.put(&probe, Bytes::new()).await?;
    let times = door.list("lock/").await;
    door.remove(&probe).await?;
    let times = times?;
    let time = |name: &str| times.iter().find(|(found, _)| found == name).map(|(_, at)| *at);
    let (Some(now), Some(then)) = (time(&probe), time(&name_of(generation))) else { return Ok(false) };
    let age = Duration::try_from(now.duration_since(then)).unwrap_or_default();
    Ok(age > lease + RESOLUTION)
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

async fn generations(door: &Door) -> Result<Vec<u64>, RemoteError> {
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

/// Removes the locks of generations before this one.
pub(super) async fn clear(door: &Door, before: u64) -> Result<(), RemoteError> {
    for generation in generations(door).await?.into_iter().filter(|generation| *generation < before) {
        door.remove(&name_of(generation)).await?;
    }
    Ok(())
}

/// Who holds the state now, and whether the lock was given back; `None` where nobody ever did.
pub(super) async fn look(door: &Door) -> Result<Option<(u64, Holder, bool)>, RemoteError> {
    Ok(newest(door).await?.map(|(generation, shape)| (generation, shape.holder(), shape.released)))
}

/// The generation beyond every lock and head that there is.
pub(super) async fn beyond(door: &Door) -> Result<u64, RemoteError> {
    let locks = generations(door).await?.into_iter().max().unwrap_or(0);
    Ok(locks.max(head::last(door).await?) + 1)
}

/// Takes the lock from whoever holds it, whatever it says: the next generation is made, and given back at once. Whoever holds
/// it now finds that when it renews, and stops.
pub(super) async fn force(door: &Door, who: &str) -> Result<u64, RemoteError> {
    let nobody = |_: &Holder| {};
    let lease = Duration::from_mins(1);
    let seeking = Seeking { who, lease, patience: Duration::ZERO, mine: None, waits: &nobody };
    for _ in 0..MAX_BEATEN {
        let generation = beyond(door).await?;
        if let Some(mut lock) = Lock::claim(door, generation, &seeking).await? {
            lock.release(door).await?;
            return Ok(generation);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RemoteError::Damaged { name: "lock/".to_owned(), what: "it refuses a lock and shows none".to_owned() })
}

/// Refuses a state that somebody holds, or may, for whoever does without a lock.
pub(super) async fn refuse_held(door: &Door) -> Result<(), RemoteError> {
    match newest(door).await? {
        Some((_, shape)) if !shape.released => Err(RemoteError::Held(shape.holder())),
        _ => Ok(()),
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
