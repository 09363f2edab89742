//! The background thread that holds a state while other threads work: it renews the lock, and pushes what has changed.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::enter::{Base, Entered, give_back};
use super::error::RemoteError;
use super::head;
use super::lock::{self, Moment};
use super::pull::fetch;
use super::push::Pusher;
use super::tenure::{Lost, Tenure};
use crate::files::about;
use crate::job::JobId;
use crate::journal::{Backup, Journal, Pushing};
use crate::object::{Bucket, Key};
use crate::store::StoreConfig;
use crate::timeouts::scaled;

/// The number of commands that can wait for the thread.
const ERRANDS: usize = 16;

/// How long pushes may keep failing before the work is stopped.
const LONGEST_SILENCE: Duration = Duration::from_mins(3);

/// How long removing leftovers of earlier holders may take on shutdown, if there is time for it.
const CLEARING: Duration = Duration::from_secs(5);

/// How long verifying the last push and releasing the lock may take.
const AT_THE_END: Duration = Duration::from_secs(5);

/// The intervals of renewing and pushing.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// How long the lock is valid without a renewal. It is renewed every sixth of this time, and its holder stops at
    /// half of it.
    pub lease: Duration,
    /// The maximum time between two pushes.
    pub push_every: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self { lease: Duration::from_secs(90), push_every: Duration::from_secs(30) }
    }
}

/// Which state to open, and how.
pub struct Opening {
    /// The full location of the state, for display.
    pub place: String,
    /// The store that holds the state.
    pub store: StoreConfig,
    /// The bucket that holds the state.
    pub bucket: Bucket,
    /// The prefix of all keys, without a trailing slash.
    pub prefix: Key,
    /// Whether a lock keeps two processes from holding the state.
    pub locked: bool,
    /// The folder of the local cache.
    pub folder: PathBuf,
    /// This process, for display.
    pub who: String,
    /// The intervals of renewing and pushing.
    pub tempo: Tempo,
    /// How long to wait for another holder.
    pub patience: Duration,
    /// Called with notes for the user.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
    /// Called with the reason when the lock is about to expire: the process must exit before another one starts.
    pub leave: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Opening {
    /// Returns the folder, and creates it if it does not exist.
    pub(super) fn folder_made(&self) -> Result<PathBuf, RemoteError> {
        std::fs::create_dir_all(&self.folder).map_err(about(&self.folder))?;
        Ok(self.folder.clone())
    }
}

/// How to close a state.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// How long closing may take in total.
    pub within: Duration,
    /// Whether to do only what is necessary.
    pub hurried: bool,
}

/// A state that this process works with.
#[derive(Debug)]
pub struct Remote {
    journal: Journal,
    errands: mpsc::Sender<Errand>,
    lost: Lost,
    thread: Option<JoinHandle<()>>,
}

/// Notifies a caller that waits for a push. It is dropped if there will be none.
type Securing = oneshot::Sender<()>;

/// Sends the result of a command. The caller may be gone.
type Reply = SyncSender<Result<(), RemoteError>>;

enum Errand {
    Push,
    /// Push, and notify the caller when done. Everything recorded before the command is included.
    Secure(Securing),
    Fetch(JobId, Reply),
    Close(Farewell, Reply),
}

impl Remote {
    /// Opens a state: acquires its lock, and pulls its contents.
    ///
    /// # Errors
    /// Returns an error if the state cannot be reached or read, or if another process holds it.
    pub fn open(opening: Opening) -> Result<Self, RemoteError> {
        let (errands, inbox) = mpsc::channel(ERRANDS);
        let (tell, told) = sync_channel(1);
        let lost = Lost::default();
        let ours = lost.clone();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match Entered::enter(&opening, Base::Pull, &ours).await {
                    Ok(entered) => {
                        if tell.send(Ok(entered.pusher.journal.clone())).is_ok() {
                            keep(entered, &opening, inbox, &ours).await;
                        }
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(run)?;
        let ended = || RemoteError::Io(std::io::Error::other("the thread that holds the state has ended"));
        let journal = told.recv().map_err(|_| ended())??;
        let journal = journal.backed_up_by(Arc::new(StateBackup { errands: errands.clone(), lost: lost.clone() }));
        Ok(Self { journal, errands, lost, thread: Some(thread) })
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
    pub fn pusher(&self) -> impl Fn() + Send + 'static {
        let errands = self.errands.clone();
        move || {
            // If the queue is full, one of the waiting commands serves as well.
            let _ = errands.try_send(Errand::Push);
        }
    }

    /// Fetches the files of a job, unless they are in the local cache.
    ///
    /// # Errors
    /// Returns an error if they cannot be fetched.
    pub fn fetch(&self, job: &JobId) -> Result<(), RemoteError> {
        self.ask(|reply| Errand::Fetch(job.clone(), reply))
    }

    /// Pushes the remaining changes, and releases the state.
    ///
    /// # Errors
    /// Returns an error if the state was lost, or if there was no time to push everything.
    pub fn close(mut self, farewell: Farewell) -> Result<(), RemoteError> {
        let closed = self.ask(|reply| Errand::Close(farewell, reply));
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
        match self.lost.why() {
            Some(why) => Err(why),
            None => closed,
        }
    }

    fn ask(&self, errand: impl FnOnce(Reply) -> Errand) -> Result<(), RemoteError> {
        let (reply, told) = sync_channel(1);
        let ended = || RemoteError::Io(std::io::Error::other("the thread that holds the state has ended"));
        let mut errand = errand(reply);
        // The thread is working through a full queue.
        while let Err(refused) = self.errands.try_send(errand) {
            match refused {
                mpsc::error::TrySendError::Full(back) => errand = back,
                mpsc::error::TrySendError::Closed(_) => return Err(self.lost.why().unwrap_or_else(ended)),
            }
            thread::sleep(Duration::from_millis(10));
        }
        told.recv().unwrap_or_else(|_| Err(ended()))
    }
}

/// Pushes the state before work on a job begins.
struct StateBackup {
    errands: mpsc::Sender<Errand>,
    lost: Lost,
}

impl Backup for StateBackup {
    fn push(&self) -> Pushing {
        let (errands, lost) = (self.errands.clone(), self.lost.clone());
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            if errands.send(Errand::Secure(tell)).await.is_ok() && told.await.is_ok() {
                return Ok(());
            }
            Err(if lost.token.is_cancelled() { "the state is lost" } else { "it is being closed" }.to_owned())
        })
    }
}

/// Keeps a state until it is closed or lost.
async fn keep(entered: Entered, opening: &Opening, mut inbox: mpsc::Receiver<Errand>, lost: &Lost) {
    let Entered { mut pusher, tenure, lease: _lease, connection: _connection } = entered;
    let Some((farewell, reply)) = work_off(&mut pusher, tenure.as_ref(), opening, &mut inbox, lost).await else {
        return;
    };
    let closed = close(pusher, tenure, opening, farewell, lost).await;
    let _ = reply.send(closed);
}

/// Pushes the remaining changes, verifies that they count, and releases the lock.
async fn close(
    mut pusher: Pusher,
    tenure: Option<Tenure>,
    opening: &Opening,
    farewell: Farewell,
    lost: &Lost,
) -> Result<(), RemoteError> {
    // Reserve time to release the lock: otherwise the next process would have to wait until it expires.
    let reserved = (farewell.within / 3).min(AT_THE_END);
    let late = || RemoteError::NoTime(opening.folder.clone());
    let mut ended = Ok(());
    if !lost.is_of_lock() {
        let in_time = tokio::time::timeout(farewell.within.saturating_sub(reserved), pusher.push()).await;
        ended = in_time.unwrap_or_else(|_| Err(late())).map(drop);
    }
    if let Some(tenure) = &tenure {
        tenure.verify(reserved / 2).await;
    }
    if ended.is_ok() && !lost.is_of_lock() {
        pusher.mirror.record.open = false;
        if !farewell.hurried {
            let _ = tokio::time::timeout(CLEARING, clear(&mut pusher, tenure.as_ref())).await;
        }
    }
    give_back(&mut pusher.mirror, tenure, reserved / 2).await?;
    ended
}

/// When the next push is due, and the outcome of the previous ones.
struct PushSchedule {
    /// The interval between pushes. It is short at first, because a young state is the most likely to be lost.
    pause: Duration,
    next: Instant,
    failing_since: Option<Instant>,
    /// The callers that wait for a push.
    securing: Vec<Securing>,
}

impl PushSchedule {
    fn new(opening: &Opening) -> Self {
        let pause = Duration::from_secs(1).min(opening.tempo.push_every);
        Self { pause, next: Instant::now() + pause, failing_since: None, securing: Vec::new() }
    }

    /// A push starts now.
    fn begun(&mut self, opening: &Opening) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(opening.tempo.push_every);
    }

    /// No push happens any more, because the state is lost.
    fn given_up(&mut self, opening: &Opening) {
        self.securing.clear();
        self.next = Instant::now() + opening.tempo.push_every;
    }

    fn ended(&mut self, outcome: Result<(), RemoteError>, opening: &Opening, lost: &Lost) {
        match outcome {
            Ok(()) => {
                self.failing_since = None;
                // A caller may be gone.
                self.securing.drain(..).for_each(|tell| tell.send(()).unwrap_or_default());
            }
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.lock_because(error);
                self.securing.clear();
            }
            Err(error) if self.failing_since.is_some_and(|since| since.elapsed() > scaled(LONGEST_SILENCE)) => {
                lost.because(error);
                self.securing.clear();
            }
            Err(error) => {
                self.failing_since.get_or_insert_with(Instant::now);
                if !self.securing.is_empty() {
                    self.next = Instant::now() + Duration::from_secs(1);
                }
                (opening.tell)(&format!("warning: {error}; retrying"));
            }
        }
    }
}

/// Pushes at intervals and executes commands until it is asked to close. Returns how to close, and the caller that
/// asked.
async fn work_off(
    pusher: &mut Pusher,
    tenure: Option<&Tenure>,
    opening: &Opening,
    inbox: &mut mpsc::Receiver<Errand>,
    lost: &Lost,
) -> Option<(Farewell, Reply)> {
    let (mut schedule, mut waiting) = (PushSchedule::new(opening), VecDeque::new());
    loop {
        let errand = if let Some(errand) = waiting.pop_front() {
            errand
        } else {
            tokio::select! {
                errand = inbox.recv() => errand?,
                () = tokio::time::sleep_until(schedule.next) => Errand::Push,
            }
        };
        match errand {
            Errand::Close(farewell, reply) => return Some((farewell, reply)),
            Errand::Fetch(job, reply) => {
                let _ = reply.send(fetch(&pusher.door, &mut pusher.mirror, &job).await);
                continue;
            }
            Errand::Secure(tell) => schedule.securing.push(tell),
            Errand::Push => {}
        }
        if lost.token.is_cancelled() {
            schedule.given_up(opening);
            continue;
        }
        schedule.begun(opening);
        let Some(outcome) = unless_closed(pusher.push(), inbox, &mut waiting).await else { continue };
        schedule.ended(outcome.map(drop), opening, lost);
        let verified = tenure.map_or_else(Moment::now, Tenure::verified);
        unless_closed(pusher.sweep(verified), inbox, &mut waiting).await;
    }
}

/// Waits for `doing`, unless the state is to be closed first: then returns `None` at once.
async fn unless_closed<T>(
    doing: impl Future<Output = T>,
    inbox: &mut mpsc::Receiver<Errand>,
    waiting: &mut VecDeque<Errand>,
) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    loop {
        tokio::select! {
            biased;
            done = &mut doing => return Some(done),
            errand = inbox.recv(), if waiting.len() < ERRANDS => match errand {
                Some(close @ Errand::Close(..)) => {
                    waiting.push_front(close);
                    return None;
                }
                // One push serves several requests.
                Some(Errand::Push) => {}
                Some(errand) => waiting.push_back(errand),
                None => return None,
            },
        }
    }
}

/// Removes what earlier holders left, if no other process holds the state. What cannot be removed now is removed next
/// time.
async fn clear(pusher: &mut Pusher, tenure: Option<&Tenure>) {
    // Without a lock, it is unknown which other processes use the state.
    let Some(tenure) = tenure else { return };
    let verified = tenure.verified();
    pusher.sweep(verified).await;
    if !pusher.needless.is_empty() {
        return;
    }
    let Ok(Some(outlived)) = lock::outlived(&pusher.door, tenure.generation).await else { return };
    if let Some(head) = pusher.mirror.record.head.as_ref().filter(|head| head.generation == pusher.generation) {
        let _ = head::clear(&pusher.door, head).await;
    }
    let _ = lock::clear(&pusher.door, outlived).await;
}
