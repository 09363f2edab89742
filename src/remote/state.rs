//! A state that this process holds. To open it, the process acquires the lock, takes its local cache, and decides
//! whether the bucket or the cache is newer. While other threads work, a background thread renews the lock, and pushes
//! what has changed.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use batchplan_store::timeouts::scaled;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::config::RemoteStateConfig;
use super::error::RemoteError;
use super::local_cache::{DivergencePolicy, LocalCache, sync_cache};
use super::lock::{LeaseKeeper, LockStatus, MonotonicInstant, PushPermit, StateLoss, read_status};
use super::push::StatePusher;
use super::snapshot::{LastPush, StateSnapshot};
use crate::connect::StoreConnection;
use crate::job::JobId;
use crate::journal::{BackupPush, FileLease, Journal, JournalBackup};

/// The number of commands that can wait for the thread.
const MAX_QUEUED_COMMANDS: usize = 16;

/// How long pushes may keep failing before the work is stopped.
const MAX_FAILING_TIME: Duration = Duration::from_mins(3);

/// How long removing leftovers of earlier holders may take on shutdown, if there is time for it.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long verifying the last push and releasing the lock may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A summary of a state.
#[derive(Clone, Debug)]
pub struct StateOverview {
    /// The last push; `None` if nothing was ever pushed.
    pub pushed: Option<LastPush>,
    /// The newest lock; `None` if there is none.
    pub lock: Option<LockStatus>,
}

/// Returns a summary of the state.
///
/// # Errors
/// Returns an error if the state cannot be reached or read.
pub async fn overview(config: &RemoteStateConfig) -> Result<StateOverview, RemoteError> {
    let (store, _connection) = config.connect().await?;
    let lock = read_status(&store).await?;
    let pushed = StateSnapshot::read_newest(&store).await?.map(StateSnapshot::into_last_push);
    Ok(StateOverview { pushed, lock })
}

/// How to close a state.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownOptions {
    /// How long closing may take in total.
    pub time_limit: Duration,
    /// Whether to do only what is necessary.
    pub essential_only: bool,
}

/// A state that this process works with.
#[derive(Debug)]
pub struct RemoteState {
    journal: Journal,
    commands: mpsc::Sender<BackgroundCommand>,
    lost: StateLoss,
    thread: Option<JoinHandle<()>>,
}

/// Notifies a caller that waits for a push. It is dropped if there will be none.
type PushWaiter = oneshot::Sender<()>;

/// Sends the result of a command. The caller may be gone.
type CommandReply = SyncSender<Result<(), RemoteError>>;

enum BackgroundCommand {
    Push,
    /// Push, and notify the caller when done. Everything recorded before the command is included.
    PushAndNotify(PushWaiter),
    Fetch(JobId, CommandReply),
    Close(ShutdownOptions, CommandReply),
}

impl RemoteState {
    /// Opens a state: acquires its lock, and pulls its contents.
    ///
    /// # Errors
    /// Returns an error if the state cannot be reached or read, or if another process holds it.
    pub fn open(config: RemoteStateConfig) -> Result<Self, RemoteError> {
        let (commands, inbox) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let (opened_sender, opened_receiver) = sync_channel(1);
        let lost = StateLoss::default();
        let ours = lost.clone();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(opened_sender.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match OpenedState::open(&config, DivergencePolicy::Pull, &ours).await {
                    Ok(opened) => {
                        if opened_sender.send(Ok(opened.pusher.journal().clone())).is_ok() {
                            serve(opened, &config, inbox, &ours).await;
                        }
                    }
                    Err(error) => drop(opened_sender.send(Err(error))),
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(run)?;
        let ended = || RemoteError::Io(std::io::Error::other("the thread that holds the state has ended"));
        let journal = opened_receiver.recv().map_err(|_| ended())??;
        let journal = journal.with_backup(Arc::new(StateBackup { commands: commands.clone(), lost: lost.clone() }));
        Ok(Self { journal, commands, lost, thread: Some(thread) })
    }

    /// Returns the journal of the state.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Returns a token that is cancelled when the state is lost. Work done after that does not count.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost.token
    }

    /// Returns a function that requests a push, and does not wait for it.
    pub fn push_requester(&self) -> impl Fn() + Send + 'static {
        let commands = self.commands.clone();
        move || {
            // If the queue is full, one of the waiting commands serves as well.
            let _ = commands.try_send(BackgroundCommand::Push);
        }
    }

    /// Fetches the files of a job, unless they are in the local cache.
    ///
    /// # Errors
    /// Returns an error if they cannot be fetched.
    pub fn fetch_job(&self, job: &JobId) -> Result<(), RemoteError> {
        self.send_command(|reply| BackgroundCommand::Fetch(job.clone(), reply))
    }

    /// Pushes the remaining changes, and releases the state.
    ///
    /// # Errors
    /// Returns an error if the state was lost, or if there was no time to push everything.
    pub fn shut_down(mut self, options: ShutdownOptions) -> Result<(), RemoteError> {
        let closed = self.send_command(|reply| BackgroundCommand::Close(options, reply));
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
        match self.lost.take_reason() {
            Some(why) => Err(why),
            None => closed,
        }
    }

    fn send_command(&self, command: impl FnOnce(CommandReply) -> BackgroundCommand) -> Result<(), RemoteError> {
        let (reply, result) = sync_channel(1);
        let ended = || RemoteError::Io(std::io::Error::other("the thread that holds the state has ended"));
        let mut command = command(reply);
        // The thread is working through a full queue.
        while let Err(refused) = self.commands.try_send(command) {
            match refused {
                mpsc::error::TrySendError::Full(back) => command = back,
                mpsc::error::TrySendError::Closed(_) => return Err(self.lost.take_reason().unwrap_or_else(ended)),
            }
            thread::sleep(Duration::from_millis(10));
        }
        result.recv().unwrap_or_else(|_| Err(ended()))
    }
}

/// Pushes the state before work on a job begins.
struct StateBackup {
    commands: mpsc::Sender<BackgroundCommand>,
    lost: StateLoss,
}

impl JournalBackup for StateBackup {
    fn push(&self) -> BackupPush {
        let (commands, lost) = (self.commands.clone(), self.lost.clone());
        Box::pin(async move {
            let (waiter, pushed) = oneshot::channel();
            if commands.send(BackgroundCommand::PushAndNotify(waiter)).await.is_ok() && pushed.await.is_ok() {
                return Ok(());
            }
            Err(if lost.token.is_cancelled() { "the state is lost" } else { "the state is being closed" }.to_owned())
        })
    }
}

/// Keeps a state until it is closed or lost.
async fn serve(
    opened: OpenedState,
    config: &RemoteStateConfig,
    mut inbox: mpsc::Receiver<BackgroundCommand>,
    lost: &StateLoss,
) {
    let OpenedState { mut pusher, lease_keeper: keeper, cache_lease: _lease, connection: _connection } = opened;
    let Some((options, reply)) = run_commands(&mut pusher, keeper.as_ref(), config, &mut inbox, lost).await else {
        return;
    };
    let closed = close_state(pusher, keeper, config, options, lost).await;
    let _ = reply.send(closed);
}

/// Pushes the remaining changes, verifies that they count, and releases the lock.
async fn close_state(
    mut pusher: StatePusher,
    keeper: Option<LeaseKeeper>,
    config: &RemoteStateConfig,
    options: ShutdownOptions,
    lost: &StateLoss,
) -> Result<(), RemoteError> {
    // Reserve time to release the lock: otherwise the next process would have to wait until it expires.
    let reserved = (options.time_limit / 3).min(RELEASE_TIMEOUT);
    let late = || RemoteError::PushTimedOut(config.folder.clone());
    let mut ended = Ok(());
    if !lost.is_lock_lost() {
        let in_time = tokio::time::timeout(options.time_limit.saturating_sub(reserved), pusher.push()).await;
        ended = in_time.unwrap_or_else(|_| Err(late())).map(drop);
    }
    if let Some(keeper) = &keeper {
        keeper.renew(reserved / 2).await;
    }
    if ended.is_ok() && !lost.is_lock_lost() {
        pusher.cache.set_unpushed_changes(false);
        if !options.essential_only {
            let _ = tokio::time::timeout(CLEANUP_TIMEOUT, clean_up(&mut pusher, keeper.as_ref())).await;
        }
    }
    release_lock(&mut pusher.cache, keeper, reserved / 2).await?;
    ended
}

/// When the next push is due, and the outcome of the previous ones.
struct PushSchedule {
    /// The interval between pushes. It is short at first, because a young state is the most likely to be lost.
    interval: Duration,
    next_push: Instant,
    failing_since: Option<Instant>,
    /// The callers that wait for a push.
    waiters: Vec<PushWaiter>,
}

impl PushSchedule {
    fn new(config: &RemoteStateConfig) -> Self {
        let interval = Duration::from_secs(1).min(config.lease_config.push_interval);
        Self { interval, next_push: Instant::now() + interval, failing_since: None, waiters: Vec::new() }
    }

    /// A push starts now.
    fn push_started(&mut self, config: &RemoteStateConfig) {
        self.next_push = Instant::now() + self.interval;
        self.interval = (self.interval * 2).min(config.lease_config.push_interval);
    }

    /// No push happens any more, because the state is lost.
    fn state_lost(&mut self, config: &RemoteStateConfig) {
        self.waiters.clear();
        self.next_push = Instant::now() + config.lease_config.push_interval;
    }

    fn push_ended(&mut self, outcome: Result<(), RemoteError>, config: &RemoteStateConfig, lost: &StateLoss) {
        match outcome {
            Ok(()) => {
                self.failing_since = None;
                // A caller may be gone.
                self.waiters.drain(..).for_each(|waiter| waiter.send(()).unwrap_or_default());
            }
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.record_lock_loss(error);
                self.waiters.clear();
            }
            Err(error) if self.failing_since.is_some_and(|since| since.elapsed() > scaled(MAX_FAILING_TIME)) => {
                lost.record(error);
                self.waiters.clear();
            }
            Err(error) => {
                warn!(%error, "the state could not be pushed, will be repeated");
                self.failing_since.get_or_insert_with(Instant::now);
                if !self.waiters.is_empty() {
                    self.next_push = Instant::now() + Duration::from_secs(1);
                }
                (config.notify)(&format!("warning: {error}; retrying"));
            }
        }
    }
}

/// Pushes at intervals and executes commands until it is asked to close. Returns how to close, and the caller that
/// asked.
async fn run_commands(
    pusher: &mut StatePusher,
    keeper: Option<&LeaseKeeper>,
    config: &RemoteStateConfig,
    inbox: &mut mpsc::Receiver<BackgroundCommand>,
    lost: &StateLoss,
) -> Option<(ShutdownOptions, CommandReply)> {
    let (mut schedule, mut waiting) = (PushSchedule::new(config), VecDeque::new());
    loop {
        let command = if let Some(command) = waiting.pop_front() {
            command
        } else {
            tokio::select! {
                command = inbox.recv() => command?,
                () = tokio::time::sleep_until(schedule.next_push) => BackgroundCommand::Push,
            }
        };
        match command {
            BackgroundCommand::Close(options, reply) => return Some((options, reply)),
            BackgroundCommand::Fetch(job, reply) => {
                let _ = reply.send(pusher.fetch_job(&job).await);
                continue;
            }
            BackgroundCommand::PushAndNotify(waiter) => schedule.waiters.push(waiter),
            BackgroundCommand::Push => {}
        }
        if lost.token.is_cancelled() {
            schedule.state_lost(config);
            continue;
        }
        schedule.push_started(config);
        let Some(outcome) = until_closed(pusher.push(), inbox, &mut waiting).await else { continue };
        schedule.push_ended(outcome.map(drop), config, lost);
        let verified = keeper.map_or_else(MonotonicInstant::now, LeaseKeeper::last_renewal);
        until_closed(pusher.remove_unneeded(verified), inbox, &mut waiting).await;
    }
}

/// Waits for `doing`, unless the state is to be closed first: then returns `None` at once.
async fn until_closed<T>(
    doing: impl Future<Output = T>,
    inbox: &mut mpsc::Receiver<BackgroundCommand>,
    waiting: &mut VecDeque<BackgroundCommand>,
) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            biased;
            done = &mut doing => return Some(done),
            command = inbox.recv(), if waiting.len() < MAX_QUEUED_COMMANDS => match command {
                Some(close @ BackgroundCommand::Close(..)) => {
                    waiting.push_front(close);
                    return None;
                }
                // One push serves several requests.
                Some(BackgroundCommand::Push) => {}
                Some(command) => waiting.push_back(command),
                None => return None,
            },
        }
    }
}

/// Removes what earlier holders left, if no other process holds the state. What cannot be removed now is removed next
/// time.
async fn clean_up(pusher: &mut StatePusher, keeper: Option<&LeaseKeeper>) {
    // Without a lock, it is unknown which other processes use the state.
    if let Some(keeper) = keeper {
        pusher.remove_leftovers(keeper.last_renewal()).await;
    }
}

/// How often a state that changes meanwhile is read again.
const MAX_ATTEMPTS: u32 = 5;

/// A state that this process holds.
struct OpenedState {
    pusher: StatePusher,
    /// `None` if the state uses no lock.
    lease_keeper: Option<LeaseKeeper>,
    /// Keeps other processes of this machine out of the local cache.
    cache_lease: FileLease,
    connection: StoreConnection,
}

impl OpenedState {
    /// Opens a state. Its lock is renewed as soon as it is acquired.
    async fn open(config: &RemoteStateConfig, base: DivergencePolicy, lost: &StateLoss) -> Result<Self, RemoteError> {
        let (mut cache, lease) = LocalCache::open_exclusive(&config.folder, &config.location)?;
        let (store, connection) = config.connect().await?;
        let mut attempts = 0;
        let (permit, journal) = loop {
            let token = cache.token().cloned();
            let remember = |token| cache.remember_token(Some(token));
            let permit = PushPermit::acquire(&store, config, token.as_ref(), remember, lost).await?;
            attempts += 1;
            match sync_cache(&store, &mut cache, config, base, permit.generation()).await {
                Ok(journal) => break (permit, journal),
                Err(error) => {
                    release_lock(&mut cache, permit.into_parts().1, config.lease_config.lease / 3).await?;
                    // The next number is after everything that was pushed meanwhile.
                    if attempts == MAX_ATTEMPTS || !matches!(error, RemoteError::ConcurrentPush) {
                        return Err(error);
                    }
                }
            }
        };
        let (generation, who) = (permit.generation(), config.process_name.clone());
        let (lockless, keeper) = permit.into_parts();
        let pusher = StatePusher::new(store, cache, journal, who, generation, lockless);
        match lost.take_reason() {
            None => Ok(Self { pusher, lease_keeper: keeper, cache_lease: lease, connection }),
            Some(why) => Err(why),
        }
    }
}

/// Releases the lock. If that fails, the local cache remembers the lock, so that its next process need not wait for it.
async fn release_lock(
    cache: &mut LocalCache,
    keeper: Option<LeaseKeeper>,
    within: Duration,
) -> Result<(), RemoteError> {
    let released = match keeper {
        Some(keeper) => keeper.release(within).await,
        None => true,
    };
    if released { cache.remember_token(None) } else { cache.save() }
}

/// Pushes the folder if it is based on the state in the bucket, or if there is none; with `replace`, in any case.
/// Returns whether anything was new.
///
/// # Errors
/// Returns an error if another process holds the state, or if the state in the bucket is newer.
pub async fn push_folder(config: &RemoteStateConfig, replace: bool) -> Result<bool, RemoteError> {
    let base = if replace { DivergencePolicy::Overwrite } else { DivergencePolicy::Fail };
    let lost = StateLoss::default();
    let OpenedState { mut pusher, lease_keeper: keeper, cache_lease: _lease, connection: _connection } =
        OpenedState::open(config, base, &lost).await?;
    let pushed = pusher.push().await;
    if let Some(keeper) = &keeper {
        keeper.renew(config.lease_config.lease / 3).await;
    }
    pusher.cache.set_unpushed_changes(pushed.is_err() || lost.is_lock_lost());
    release_lock(&mut pusher.cache, keeper, config.lease_config.lease / 3).await?;
    lost.take_reason().map_or(pushed, Err)
}
