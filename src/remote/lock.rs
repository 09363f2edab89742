//! The lock of a state: a lease for which each holder creates a new object, and which a task renews from the moment it
//! is acquired, whatever else happens.
//!
//! To hold the state, a process creates `lock/N+1`, on the condition that it does not exist, once `lock/N` was released
//! or its lease has expired; `acquire` decides that. A lease has expired if the store's own clock shows that, for both
//! the last renewal and now, or if a waiting process has seen the lock unchanged for the whole lease, by its own clock.
//! A holder counts its lease from before it sent the renewal, and gives the lock up at half of it, whether or not a
//! response arrives later: it is gone before another process starts. `N+1` is after every lock and every snapshot of
//! the listings that decided, so that a lock that was removed does not let an older generation start again.
//!
//! A process may also push without a lock, if something else ensures that only one process works at a time. It yields
//! to one that holds the lock: it checks before and after each push.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use batchplan_store::timeouts::micros;
use batchplan_store::{ConditionalPutOutcome, Mutex};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::acquire::{
    AcquireOutcome, AcquireStep, LockAcquisition, LockFacts, LockTakeover, is_superseded, newest_of, next_generation,
    removable_locks,
};
use super::config::RemoteStateConfig;
use super::error::{LockHolder, RemoteError, printable_name};
use super::prefix_store::PrefixStore;
use super::snapshot;

/// The version of the lock format.
const FORMAT_VERSION: u32 = 1;

/// The maximum size of a lock, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The margin for times in a store's listing, which are whole seconds.
const LISTING_RESOLUTION: Duration = Duration::from_secs(2);

/// The longest lease that is honoured, whatever a lock says.
const MAX_LEASE: Duration = Duration::from_mins(10);

/// How many times another process may be faster, or the store busy with a lock's name, while no newer lock is seen.
const MAX_LOST_RACES: u32 = 20;

/// The mean pause before another attempt, after another process was faster.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// An instant of a monotonic clock. If the system reports its uptime, the time that the machine sleeps counts as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MonotonicInstant {
    instant: Instant,
    /// The time since the machine started, if the system reports it.
    uptime: Option<Duration>,
}

impl MonotonicInstant {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), uptime: uptime() }
    }

    /// Returns the time since this instant.
    fn elapsed(self) -> Duration {
        let up = uptime().zip(self.uptime).map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
        self.instant.elapsed().max(up)
    }

    pub(crate) fn is_after(self, other: Self) -> bool {
        self.instant > other.instant
    }
}

/// Returns the time since the machine started, including sleep, with a resolution of 10 ms. Only Linux reports it;
/// elsewhere the clock of `Instant` is all there is.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split_whitespace().next()?.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
}

/// A lock as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LockDocument {
    version: u32,
    id: String,
    holder: String,
    since: Timestamp,
    renewed: Timestamp,
    renewals: u64,
    lease_ms: u64,
    released: bool,
}

impl LockDocument {
    fn holder(&self) -> LockHolder {
        LockHolder { name: printable_name(&self.holder), since: self.since, renewed: self.renewed }
    }

    /// Returns how long the lock is valid without a renewal, up to the longest lease that is honoured.
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).min(MAX_LEASE)
    }

    /// Returns the facts that `acquire` decides by.
    fn facts(&self) -> LockFacts<String> {
        LockFacts { id: self.id.clone(), released: self.released }
    }

    fn to_bytes(&self) -> Result<Bytes, RemoteError> {
        Ok(serde_json::to_vec(self).map_err(std::io::Error::from)?.into())
    }
}

fn lock_name(generation: u64) -> String {
    format!("lock/{generation:012}.json")
}

/// Returns the generation of the lock with this name.
fn parse_generation(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("lock/")?.strip_suffix(".json")?;
    digits.parse().ok().filter(|_| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The right to push to a state, as long as it is renewed.
#[derive(Clone, Debug)]
struct StateLock {
    /// The position among all holders of the state.
    generation: u64,
    document: LockDocument,
    /// The start of the lease: just before the last successful renewal was sent.
    lease_start: MonotonicInstant,
}

/// The lease token that a local cache remembers. A process that uses this cache, and not a copy of it, need not wait
/// for that lock to expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseToken {
    generation: u64,
    id: String,
}

/// How to acquire a lock.
struct LockRequest<'a> {
    /// This process, for display.
    process_name: &'a str,
    /// How long the lock is valid without a renewal.
    lease: Duration,
    /// How long to wait for another holder.
    timeout: Duration,
    /// The lease token that the local cache remembers.
    token: Option<&'a LeaseToken>,
    /// Called once if there is a holder to wait for.
    on_wait: &'a (dyn Fn(&LockHolder, Duration) + Send + Sync),
}

/// A lock that is read repeatedly.
struct ObservedLock {
    generation: u64,
    document: LockDocument,
    unchanged_since: Instant,
    /// Whether its holder is known to be alive: it was renewed, or appeared while another lock was watched.
    alive: bool,
}

/// One process that acquires the lock. It executes what [`LockAcquisition`] decides.
struct LockCandidate<'a> {
    store: &'a PrefixStore,
    lease: Duration,
    acquisition: LockAcquisition<String>,
    /// The lock that it creates.
    new_lock: LockDocument,
    /// Just before the first request to create the lock was sent.
    lease_start: MonotonicInstant,
    /// The newest lock, as it was last read.
    newest: Option<LockDocument>,
    observed: Option<ObservedLock>,
    /// Whether another process created its lock just before this one.
    lost_race: bool,
}

impl<'a> LockCandidate<'a> {
    fn new(store: &'a PrefixStore, who: &str, lease: Duration, takeover: LockTakeover<String>) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let now = Timestamp::now();
        let new_lock = LockDocument {
            version: FORMAT_VERSION,
            id: id.clone(),
            holder: who.to_owned(),
            since: now,
            renewed: now,
            renewals: 0,
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            released: false,
        };
        let acquisition = LockAcquisition::new(id, takeover);
        Self {
            store,
            lease,
            acquisition,
            new_lock,
            lease_start: MonotonicInstant::now(),
            newest: None,
            observed: None,
            lost_race: false,
        }
    }

    /// Makes one attempt, from its listings to its outcome.
    async fn attempt(&mut self) -> Result<AcquireOutcome, RemoteError> {
        self.acquisition.restart();
        self.run_steps().await
    }

    /// Sends requests from the current step to the outcome.
    async fn run_steps(&mut self) -> Result<AcquireOutcome, RemoteError> {
        let mut conflicts = 0;
        let mut creating = None;
        loop {
            match self.acquisition.step() {
                AcquireStep::ListSnapshots => {
                    self.acquisition.snapshots_listed(snapshot::newest_generation(self.store).await?);
                }
                AcquireStep::ListLocks => self.acquisition.locks_listed(&list_generations(self.store).await?),
                AcquireStep::Read(generation) => {
                    let found = read_lock(self.store, generation).await?;
                    self.acquisition.lock_read(found.as_ref().map(LockDocument::facts).as_ref());
                    self.newest = found;
                }
                AcquireStep::CheckExpiry(generation) => {
                    let has_run_out = self.has_expired(generation).await?;
                    self.acquisition.expiry_checked(has_run_out);
                }
                AcquireStep::Create(generation) => {
                    if creating.replace(generation).is_none() {
                        self.new_lock.since = Timestamp::now();
                        self.new_lock.renewed = self.new_lock.since;
                        self.lease_start = MonotonicInstant::now();
                    }
                    let text = self.new_lock.to_bytes()?;
                    let created =
                        self.store.create(&lock_name(generation), text).await.map_err(translate_condition_error)?;
                    self.acquisition.created(created);
                    if created == ConditionalPutOutcome::Conflict {
                        conflicts += 1;
                        if conflicts > MAX_LOST_RACES {
                            return Err(inconsistent_store_error());
                        }
                        wait_before_retry().await;
                    }
                }
                AcquireStep::Done(outcome) => return Ok(outcome),
            }
        }
    }

    /// Returns whether the newest lock was not renewed for its whole lease.
    async fn has_expired(&mut self, generation: u64) -> Result<bool, RemoteError> {
        let Some(document) = &self.newest else { return Ok(false) };
        let watch = |alive| {
            Some(ObservedLock { generation, document: document.clone(), unchanged_since: Instant::now(), alive })
        };
        let lease = document.lease();
        match &self.observed {
            Some(seen) if seen.generation == generation && seen.document == *document => {
                return Ok(seen.unchanged_since.elapsed() > lease);
            }
            // The lock was renewed or replaced, so its holder is alive.
            Some(_) => {
                self.observed = watch(true);
                return Ok(false);
            }
            // The holder of a lock that was just created is alive as well.
            None => self.observed = watch(self.lost_race),
        }
        // Usually the lock expired long ago. The store's clock shows that without waiting.
        let age = age_in_store(self.store, generation).await?;
        Ok(age.is_some_and(|age| age > lease + LISTING_RESOLUTION))
    }

    /// Returns the acquired lock, and renews it if necessary.
    async fn into_lock(self, generation: u64) -> Result<StateLock, RemoteError> {
        let Self { store, lease, new_lock: document, lease_start, .. } = self;
        let mut lock = StateLock { generation, document, lease_start };
        if lock.lease_start.elapsed() > lease / 6 {
            lock.renew(store, lease).await?;
        }
        Ok(lock)
    }

    /// Removes a lock that the store created twice, and returns the error.
    async fn remove_unconditional_lock(&self, generation: u64) -> Result<RemoteError, RemoteError> {
        // No process holds this lock. A store that ignores conditions may fail to remove it, so release it first.
        let mut lock = StateLock { generation, document: self.new_lock.clone(), lease_start: self.lease_start };
        lock.release(self.store).await?;
        let _ = self.store.remove(&lock_name(generation)).await;
        let why = "it overwrites an existing object despite a condition that forbids this";
        Ok(RemoteError::ConditionIgnored(why.to_owned()))
    }
}

impl StateLock {
    /// Acquires the lock once no other process holds it.
    async fn acquire(store: &PrefixStore, request: &LockRequest<'_>) -> Result<Self, RemoteError> {
        let deadline = Instant::now() + request.timeout;
        let mine = request.token.map(|mine| (mine.generation, mine.id.clone()));
        let mut candidate = LockCandidate::new(store, request.process_name, request.lease, LockTakeover::IfFree(mine));
        let (mut notified, mut lost_races, mut newest) = (false, 0, 0);
        loop {
            match candidate.attempt().await? {
                AcquireOutcome::Held(generation) => return candidate.into_lock(generation).await,
                AcquireOutcome::ConditionIgnored(generation) => {
                    return Err(candidate.remove_unconditional_lock(generation).await?);
                }
                AcquireOutcome::HeldElsewhere(_) => {
                    let Some(document) = &candidate.newest else { continue };
                    // A lock that this process created and gave up must expire as well, but is no other holder.
                    if document.id != candidate.new_lock.id {
                        let alive = candidate.observed.as_ref().is_some_and(|seen| seen.alive);
                        if alive && Instant::now() >= deadline {
                            return Err(RemoteError::HeldBy(document.holder()));
                        }
                        if !std::mem::replace(&mut notified, true) {
                            (request.on_wait)(&document.holder(), document.lease());
                        }
                    }
                    let pause = (document.lease() / 20).clamp(Duration::from_millis(50), Duration::from_secs(2));
                    lost_races = 0;
                    tokio::time::sleep(pause).await;
                }
                AcquireOutcome::LostRace | AcquireOutcome::Missing(_) | AcquireOutcome::NotNewest => {
                    candidate.lost_race = true;
                    // The faster process shows up in the next attempt. A store that shows none several times is not
                    // trusted.
                    let listed = newest_of(&list_generations(store).await?);
                    lost_races = if listed > newest { 1 } else { lost_races + 1 };
                    newest = newest.max(listed);
                    if lost_races > MAX_LOST_RACES {
                        return Err(inconsistent_store_error());
                    }
                    wait_before_retry().await;
                }
            }
        }
    }

    /// Renews the lock, and checks that no other process has taken over. A lock that was not renewed for half of its
    /// lease is not renewed any more, because another process may already consider it expired.
    async fn renew(&mut self, store: &PrefixStore, lease: Duration) -> Result<(), RemoteError> {
        if self.lease_start.elapsed() > lease / 2 {
            let age = self.lease_start.elapsed().as_millis();
            return Err(RemoteError::NotRenewed(format!("it was not renewed for {age} ms")));
        }
        let sent = MonotonicInstant::now();
        self.document.renewals += 1;
        self.document.renewed = Timestamp::now();
        self.document.lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        store.put_once(&lock_name(self.generation), self.document.to_bytes()?, lease / 3).await?;
        if is_superseded(self.generation, &list_generations(store).await?) {
            return Err(RemoteError::TakenOver(describe_newest_holder(store).await));
        }
        self.lease_start = sent;
        Ok(())
    }

    async fn release(&mut self, store: &PrefixStore) -> Result<(), RemoteError> {
        self.document.released = true;
        self.document.renewed = Timestamp::now();
        store.put(&lock_name(self.generation), self.document.to_bytes()?).await
    }

    /// Returns the lease token that the local cache remembers.
    fn token(&self) -> LeaseToken {
        LeaseToken { generation: self.generation, id: self.document.id.clone() }
    }
}

/// Returns how long ago a lock was last written, by the store's own clock; `None` if that is unknown.
async fn age_in_store(store: &PrefixStore, generation: u64) -> Result<Option<Duration>, RemoteError> {
    let probe = format!("lock/now-{}", uuid::Uuid::new_v4().simple());
    store.put(&probe, Bytes::new()).await?;
    let times = store.list("lock/").await;
    // A probe that cannot be removed does no harm.
    let _ = store.remove(&probe).await;
    let times = times?;
    let time = |name: &str| times.iter().find(|(found, _)| found == name).and_then(|(_, at)| *at);
    let (Some(now), Some(then)) = (time(&probe), time(&lock_name(generation))) else { return Ok(None) };
    Ok(Some(Duration::try_from(now.duration_since(then)).unwrap_or_default()))
}

/// Waits for a short random time, so that processes do not retry in step.
async fn wait_before_retry() {
    tokio::time::sleep(RETRY_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
}

/// Returns the error for an impossible response: the store cannot be trusted.
fn inconsistent_store_error() -> RemoteError {
    RemoteError::Damaged {
        name: "lock/".to_owned(),
        what: "the store refuses to create a lock, but lists none".to_owned(),
    }
}

/// Describes the holder of the newest lock, as far as the lock can be read.
async fn describe_newest_holder(store: &PrefixStore) -> String {
    let by = read_newest(store).await.ok().flatten();
    by.map_or_else(|| "another process".to_owned(), |(_, lock)| lock.holder().to_string())
}

/// Returns the lock of the newest generation; `None` if there is none.
async fn read_newest(store: &PrefixStore) -> Result<Option<(u64, LockDocument)>, RemoteError> {
    const MAX_ATTEMPTS: u32 = 20;
    for _ in 0..MAX_ATTEMPTS {
        let Some(generation) = list_generations(store).await?.into_iter().max() else { return Ok(None) };
        // If this one is gone, a newer one has replaced it.
        if let Some(document) = read_lock(store, generation).await? {
            return Ok(Some((generation, document)));
        }
    }
    Err(RemoteError::Damaged { name: "lock/".to_owned(), what: "it is listed, but does not exist".to_owned() })
}

async fn list_generations(store: &PrefixStore) -> Result<Vec<u64>, RemoteError> {
    Ok(store.list("lock/").await?.iter().filter_map(|(name, _)| parse_generation(name)).collect())
}

async fn read_lock(store: &PrefixStore, generation: u64) -> Result<Option<LockDocument>, RemoteError> {
    let name = lock_name(generation);
    let Some(text) = store.get(&name, MAX_BYTES).await? else { return Ok(None) };
    let damaged = |what: String| RemoteError::Damaged { name: name.clone(), what };
    let document: LockDocument = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if document.version > FORMAT_VERSION {
        return Err(RemoteError::NewerVersion(document.version));
    }
    Ok(Some(document))
}

/// Returns the locks before this generation, whose holder calls this; `None` unless its lock is known to be the newest.
pub(crate) async fn find_removable(store: &PrefixStore, generation: u64) -> Result<Option<Vec<u64>>, RemoteError> {
    let newest_snapshot = snapshot::newest_generation(store).await?;
    Ok(removable_locks(generation, newest_snapshot, &list_generations(store).await?))
}

/// Returns the holder of the lock of this generation, and whether it was released; `None` if the lock is gone.
async fn read_holder(store: &PrefixStore, generation: u64) -> Result<Option<(LockHolder, bool)>, RemoteError> {
    Ok(read_lock(store, generation).await?.map(|lock| (lock.holder(), lock.released)))
}

/// Removes locks that [`find_removable`] returned.
pub(crate) async fn remove_locks(store: &PrefixStore, generations: Vec<u64>) -> Result<(), RemoteError> {
    for generation in generations {
        store.remove(&lock_name(generation)).await?;
    }
    Ok(())
}

/// Returns the generation and the holder of the newest lock, and whether it was released; `None` if there is no lock.
pub(crate) async fn read_newest_holder(store: &PrefixStore) -> Result<Option<(u64, LockHolder, bool)>, RemoteError> {
    Ok(read_newest(store).await?.map(|(generation, document)| (generation, document.holder(), document.released)))
}

/// Takes the lock of this generation from its holder.
///
/// # Errors
/// Returns an error if the store cannot be reached, or if another lock is the newest by now.
pub async fn unlock(config: &RemoteStateConfig, generation: u64) -> Result<u64, RemoteError> {
    let (store, _connection) = config.connect().await?;
    take_by_force(&store, &config.process_name, generation).await
}

/// Takes the lock of generation `over` from its holder, whatever its state: creates the next lock, and releases it at
/// once. The holder finds that when it renews, and stops. This is refused if another lock is the newest by now, because
/// the person who decided has never seen its holder.
async fn take_by_force(store: &PrefixStore, who: &str, over: u64) -> Result<u64, RemoteError> {
    let mut candidate = LockCandidate::new(store, who, Duration::from_mins(1), LockTakeover::Forced(over));
    match candidate.attempt().await? {
        AcquireOutcome::Held(generation) => {
            let LockCandidate { new_lock: document, lease_start, .. } = candidate;
            StateLock { generation, document, lease_start }.release(store).await?;
            Ok(generation)
        }
        AcquireOutcome::ConditionIgnored(generation) => Err(candidate.remove_unconditional_lock(generation).await?),
        _ => Err(RemoteError::LockChanged),
    }
}

/// Converts the error of a store that rejects the condition itself.
fn translate_condition_error(error: RemoteError) -> RemoteError {
    match &error {
        RemoteError::Store { fault, .. } if fault.status == Some(501) || fault.code == "NotImplemented" => {
            RemoteError::ConditionIgnored(fault.to_string())
        }
        _ => error,
    }
}

/// Whether work with a state must stop, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateLoss {
    pub(crate) token: CancellationToken,
    reason: Arc<Mutex<Option<RemoteError>>>,
    lock_lost: Arc<AtomicBool>,
}

impl StateLoss {
    pub(crate) fn record(&self, why: RemoteError) {
        self.reason.lock().get_or_insert(why);
        self.token.cancel();
    }

    /// Records that another process has the lock, or will have it soon.
    pub(crate) fn record_lock_loss(&self, why: RemoteError) {
        if !self.lock_lost.swap(true, Ordering::AcqRel) {
            warn!(error = %why, "state lock lost");
        }
        self.record(why);
    }

    /// Returns whether pushes no longer count.
    pub(crate) fn is_lock_lost(&self) -> bool {
        self.lock_lost.load(Ordering::Acquire)
    }

    /// Returns the reason as text.
    fn reason_text(&self) -> String {
        let why = self.reason.lock();
        why.as_ref().map_or_else(|| "the state is lost".to_owned(), ToString::to_string)
    }

    pub(crate) fn take_reason(&self) -> Option<RemoteError> {
        self.reason.lock().take()
    }
}

enum LeaseCommand {
    /// Renew the lock now.
    Renew(oneshot::Sender<()>),
    /// Release the lock.
    Release(oneshot::Sender<()>),
}

/// Ends the process, and is called with the reason.
type ExitHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// A lock that this process holds.
pub(crate) struct LeaseKeeper {
    generation: u64,
    commands: mpsc::Sender<LeaseCommand>,
    last_renewal: watch::Receiver<MonotonicInstant>,
    ended: Arc<AtomicBool>,
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl LeaseKeeper {
    /// Starts to renew a lock. `exit` is called if the work has not ended before another process may start.
    ///
    /// # Errors
    /// Returns an error if the thread that watches the lease cannot be started.
    fn start(
        store: PrefixStore,
        lock: StateLock,
        lease: Duration,
        exit: ExitHandler,
        lost: StateLoss,
    ) -> io::Result<Self> {
        let generation = lock.generation;
        let (commands, inbox) = mpsc::channel(4);
        let (renewed, last_renewal) = watch::channel(lock.lease_start);
        let ended = Arc::new(AtomicBool::new(false));
        let watched = (last_renewal.clone(), Arc::clone(&ended), lost.clone(), Arc::clone(&exit));
        thread::Builder::new().name("lease".to_owned()).spawn(move || run_watchdog(lease, &watched))?;
        tokio::spawn(keep_renewing(LeaseRenewal { store, lock, lease, exit, lost, renewed }, inbox));
        Ok(Self { generation, commands, last_renewal, ended })
    }

    /// Returns when the last successful renewal was sent. It found no other holder.
    pub(crate) fn last_renewal(&self) -> MonotonicInstant {
        *self.last_renewal.borrow()
    }

    /// Renews the lock now, within a time limit. If the lock is lost, that is recorded in `StateLoss`.
    pub(crate) async fn renew(&self, within: Duration) {
        self.send(LeaseCommand::Renew, within).await;
    }

    /// Releases the lock within a time limit. Returns whether that succeeded; if not, the lock expires.
    pub(crate) async fn release(self, within: Duration) -> bool {
        self.send(LeaseCommand::Release, within).await
    }

    async fn send(&self, command: fn(oneshot::Sender<()>) -> LeaseCommand, within: Duration) -> bool {
        let (reply, done) = oneshot::channel();
        let executed = async { self.commands.send(command(reply)).await.is_ok() && done.await.is_ok() };
        tokio::time::timeout(within, executed).await.unwrap_or(false)
    }
}

/// Watches a lease independently of the tasks, which may wait for a disk. At half of the lease, it stops the work;
/// before the lease expires, it ends the process.
fn run_watchdog(
    lease: Duration,
    (last_renewal, ended, lost, exit): &(watch::Receiver<MonotonicInstant>, Arc<AtomicBool>, StateLoss, ExitHandler),
) {
    let pause = (lease / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !ended.load(Ordering::Acquire) {
        let age = last_renewal.borrow().elapsed();
        if age > lease / 2 {
            lost.record_lock_loss(RemoteError::NotRenewed(format!("it was not renewed for {} ms", age.as_millis())));
        }
        if age > lease * 5 / 6 {
            exit(&lost.reason_text());
        }
        thread::sleep(pause);
    }
}

struct LeaseRenewal {
    store: PrefixStore,
    lock: StateLock,
    lease: Duration,
    exit: ExitHandler,
    lost: StateLoss,
    renewed: watch::Sender<MonotonicInstant>,
}

async fn keep_renewing(mut renewal: LeaseRenewal, mut inbox: mpsc::Receiver<LeaseCommand>) {
    let mut pause = renewal.lease / 6;
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            () = tokio::time::sleep(pause) => {
                match renewal.renew().await {
                    Some(next) => pause = next,
                    None => return renewal.exit_in_time(&mut inbox).await,
                }
                continue;
            }
        };
        match command {
            Some(LeaseCommand::Renew(reply)) => {
                let held = renewal.renew().await;
                let _ = reply.send(());
                match held {
                    Some(next) => pause = next,
                    None => return renewal.exit_in_time(&mut inbox).await,
                }
            }
            Some(LeaseCommand::Release(reply)) => {
                if renewal.lock.release(&renewal.store).await.is_ok() {
                    info!(generation = renewal.lock.generation, "state lock released");
                    let _ = reply.send(());
                }
                return;
            }
            // The owner is gone without releasing the lock, which expires.
            None => return,
        }
    }
}

impl LeaseRenewal {
    /// Renews the lock, and returns when to renew it next; `None` if it is lost. A request that hangs is repeated on
    /// another connection. A lock that was not renewed for half of its lease is given up.
    async fn renew(&mut self) -> Option<Duration> {
        let Self { store, lock, lease, lost, renewed, .. } = self;
        let outcome = tokio::time::timeout(*lease / 9, lock.renew(store, *lease)).await;
        let late = || RemoteError::NotRenewed(format!("no response within {} ms", (*lease / 9).as_millis()));
        match outcome.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {
                debug!(generation = lock.generation, us = micros(lock.lease_start.elapsed()), "state lock renewed");
                renewed.send_replace(lock.lease_start);
                Some((*lease / 6).saturating_sub(lock.lease_start.elapsed()))
            }
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.record_lock_loss(error);
                None
            }
            Err(error) if lock.lease_start.elapsed() >= *lease / 2 => {
                lost.record_lock_loss(match error {
                    late @ RemoteError::NotRenewed(_) => late,
                    error => RemoteError::NotRenewed(error.to_string()),
                });
                None
            }
            Err(error) => {
                debug!(generation = lock.generation, %error, "state lock not renewed yet");
                Some(*lease / 60)
            }
        }
    }

    /// Ends the process before the lock expires, unless the work has ended by then.
    async fn exit_in_time(self, inbox: &mut mpsc::Receiver<LeaseCommand>) {
        let left = (self.lease * 5 / 6).saturating_sub(self.lock.lease_start.elapsed());
        // If the lock was taken by force, another process may start at any time.
        let pause = left.min(self.lease / 6).max(Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep(pause) => (self.exit)(&self.lost.reason_text()),
            _ = inbox.recv() => {}
        }
    }
}

/// The right to push without a lock, for a process that is promised to be the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocklessPush {
    /// The generation under which it pushes: after everything that existed.
    generation: u64,
    /// The newest lock that existed, 0 if there was none.
    newest: u64,
}

impl LocklessPush {
    /// Refuses a state that another process holds or may hold. As for a lock, the number follows from the listings that
    /// decide.
    pub(crate) async fn start(store: &PrefixStore) -> Result<Self, RemoteError> {
        for _ in 0..MAX_LOST_RACES {
            let newest_snapshot = snapshot::newest_generation(store).await?;
            let locks = list_generations(store).await?;
            let (newest, generation) = (newest_of(&locks), next_generation(newest_snapshot, &locks));
            if newest == 0 {
                return Ok(Self { generation, newest });
            }
            match read_holder(store, newest).await? {
                Some((_, true)) => return Ok(Self { generation, newest }),
                Some((holder, false)) => return Err(RemoteError::HeldBy(holder)),
                // A newer lock exists, so this one was removed.
                None => wait_before_retry().await,
            }
        }
        Err(inconsistent_store_error())
    }

    /// Checks whether another process has acquired the lock since.
    pub(crate) async fn verify(&self, store: &PrefixStore) -> Result<(), RemoteError> {
        if is_superseded(self.newest, &list_generations(store).await?) {
            return Err(RemoteError::TakenOver(describe_newest_holder(store).await));
        }
        Ok(())
    }
}

/// The right to push, with or without a lock.
pub(crate) enum PushPermit {
    Locked(LeaseKeeper),
    Lockless(LocklessPush),
}

impl PushPermit {
    /// Acquires the lock, if the state uses one, and renews it from then on. `remember` records its lease token, and
    /// `token` is the one that was recorded last.
    pub(crate) async fn acquire(
        store: &PrefixStore,
        config: &RemoteStateConfig,
        token: Option<&LeaseToken>,
        remember: impl FnOnce(LeaseToken) -> Result<(), RemoteError>,
        lost: &StateLoss,
    ) -> Result<Self, RemoteError> {
        if !config.use_lock {
            return Ok(Self::Lockless(LocklessPush::start(store).await?));
        }
        let waits = |holder: &LockHolder, lease: Duration| {
            let seconds = lease.as_secs().max(1);
            info!(%holder, lease_seconds = seconds, "waiting for the state lock");
            (config.notify)(&format!(
                "the state is held by {holder}; checking whether it is still running: its lock expires {seconds} s after \
                 its last renewal"
            ));
        };
        let request = LockRequest {
            process_name: &config.process_name,
            lease: config.lease_config.lease,
            timeout: config.lock_timeout,
            token,
            on_wait: &waits,
        };
        let lock = StateLock::acquire(store, &request).await?;
        remember(lock.token())?;
        info!(generation = lock.generation, "state lock acquired");
        let leave = Arc::clone(&config.exit);
        Ok(Self::Locked(LeaseKeeper::start(store.clone(), lock, config.lease_config.lease, leave, lost.clone())?))
    }

    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Locked(keeper) => keeper.generation,
            Self::Lockless(lockless) => lockless.generation,
        }
    }

    pub(crate) fn into_parts(self) -> (Option<LocklessPush>, Option<LeaseKeeper>) {
        match self {
            Self::Locked(keeper) => (None, Some(keeper)),
            Self::Lockless(lockless) => (Some(lockless), None),
        }
    }
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

/// Returns the content of the newest lock; `None` if there is none. A lock that cannot be read still exists.
pub(crate) async fn read_status(store: &PrefixStore) -> Result<Option<LockStatus>, RemoteError> {
    match read_newest_holder(store).await {
        Err(RemoteError::Damaged { name, what }) => match parse_generation(&name) {
            Some(generation) => Ok(Some(LockStatus::Unreadable { generation, name, what })),
            None => Err(RemoteError::Damaged { name, what }),
        },
        lock => Ok(lock?.map(|(generation, holder, released)| LockStatus::Readable { generation, holder, released })),
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
