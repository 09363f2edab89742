//! The thread that holds a state while others work with it: it renews the lock, and pushes what has changed.

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

/// Errands that wait for the thread.
const ERRANDS: usize = 16;

/// How long pushes may fail, one after the other, before the work is stopped.
const LONGEST_SILENCE: Duration = Duration::from_mins(3);

/// How long removing what earlier holders left may take at the end, where there is time for it.
const CLEARING: Duration = Duration::from_secs(5);

/// How long making sure of the last push, and giving the lock back, may take.
const AT_THE_END: Duration = Duration::from_secs(5);

/// How fast things go.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// How long the lock is good for without being renewed. It is renewed six times as often, and its holder stops at half.
    pub lease: Duration,
    /// How long one push comes after the other at most.
    pub push_every: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self { lease: Duration::from_secs(90), push_every: Duration::from_secs(30) }
    }
}

/// Which state is to be worked with, and how.
pub struct Opening {
    /// The state's place in full, for people.
    pub place: String,
    /// Its store.
    pub store: StoreConfig,
    /// Its bucket.
    pub bucket: Bucket,
    /// What its keys begin with, without the slash behind it.
    pub prefix: Key,
    /// Whether a lock keeps two from holding it.
    pub locked: bool,
    /// The folder of this machine that it is worked on in.
    pub folder: PathBuf,
    /// Whoever works with it, for people.
    pub who: String,
    /// How fast things go.
    pub tempo: Tempo,
    /// How long another holder is waited for.
    pub patience: Duration,
    /// Told what people should know.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
    /// Called, with the reason, when the lock is as good as over, and the process must be gone before somebody else begins.
    pub leave: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Opening {
    /// The folder, made where there is none.
    pub(super) fn folder_made(&self) -> Result<PathBuf, RemoteError> {
        std::fs::create_dir_all(&self.folder).map_err(about(&self.folder))?;
        Ok(self.folder.clone())
    }
}

/// How a state is let go.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// How long all of it may take.
    pub within: Duration,
    /// Whether there is time only for what must be.
    pub hurried: bool,
}

/// A state that is worked with.
#[derive(Debug)]
pub struct Remote {
    journal: Journal,
    errands: mpsc::Sender<Errand>,
    lost: Lost,
    thread: Option<JoinHandle<()>>,
}

/// Whoever waits for a push. It is dropped where none comes.
type Securing = oneshot::Sender<()>;

/// Whoever waits for an errand may be gone.
type Reply = SyncSender<Result<(), RemoteError>>;

enum Errand {
    Push,
    /// To push, and to say when that is done: what was recorded before it was asked for is in it.
    Secure(Securing),
    Fetch(JobId, Reply),
    Close(Farewell, Reply),
}

impl Remote {
    /// Takes hold of a state: its lock, and what is in it.
    ///
    /// # Errors
    /// When it cannot be reached, somebody else holds it, or it cannot be read.
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

    /// The journal of the state.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Cancelled when the state is lost: whatever is done with it from then on does not count.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost.token
    }

    /// What has all that has changed pushed soon, without waiting for it.
    pub fn pusher(&self) -> impl Fn() + Send + 'static {
        let errands = self.errands.clone();
        move || {
            // Where so many wait, one of them is as good.
            let _ = errands.try_send(Errand::Push);
        }
    }

    /// Sees to it that the files of a job are here.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn fetch(&self, job: &JobId) -> Result<(), RemoteError> {
        self.ask(|reply| Errand::Fetch(job.clone(), reply))
    }

    /// Pushes what is left, and gives the state back.
    ///
    /// # Errors
    /// When the state was lost, or there was no time to push all.
    pub fn close(mut self, farewell: Farewell) -> Result<(), RemoteError> {
        let closed = self.ask(|reply| Errand::Close(farewell, reply));
        if let Some(thread) = self.thread.take() {
            // A panic over there has shown already.
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
        // A queue that is full is being worked off.
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

/// Has a state pushed before work on a job begins.
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

/// Holds a state until it is to be closed, or is lost.
async fn keep(entered: Entered, opening: &Opening, mut inbox: mpsc::Receiver<Errand>, lost: &Lost) {
    let Entered { mut pusher, tenure, lease: _lease, connection: _connection } = entered;
    let Some((farewell, reply)) = work_off(&mut pusher, tenure.as_ref(), opening, &mut inbox, lost).await else {
        return;
    };
    let closed = close(pusher, tenure, opening, farewell, lost).await;
    let _ = reply.send(closed);
}

/// Pushes what is left, makes sure that it counts, and gives the lock back.
async fn close(
    mut pusher: Pusher,
    tenure: Option<Tenure>,
    opening: &Opening,
    farewell: Farewell,
    lost: &Lost,
) -> Result<(), RemoteError> {
    // So much is kept for the lock: whoever comes next would have to wait for it.
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

/// When the next push is due, and what became of those before.
struct PushSchedule {
    /// How long one comes after the other. Short at first: what is young is lost soonest.
    pause: Duration,
    next: Instant,
    failing_since: Option<Instant>,
    /// Who waits for one.
    securing: Vec<Securing>,
}

impl PushSchedule {
    fn new(opening: &Opening) -> Self {
        let pause = Duration::from_secs(1).min(opening.tempo.push_every);
        Self { pause, next: Instant::now() + pause, failing_since: None, securing: Vec::new() }
    }

    /// One is made now.
    fn begun(&mut self, opening: &Opening) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(opening.tempo.push_every);
    }

    /// None is made any more: the state is lost.
    fn given_up(&mut self, opening: &Opening) {
        self.securing.clear();
        self.next = Instant::now() + opening.tempo.push_every;
    }

    fn ended(&mut self, outcome: Result<(), RemoteError>, opening: &Opening, lost: &Lost) {
        match outcome {
            Ok(()) => {
                self.failing_since = None;
                // Whoever waited may be gone.
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

/// Pushes now and then, and does what it is asked for, until it is asked to close; how, and who asked.
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

/// What something comes to; nothing where it is to be closed first, which does not wait.
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
                // One push is as good as another.
                Some(Errand::Push) => {}
                Some(errand) => waiting.push_back(errand),
                None => return None,
            },
        }
    }
}

/// Removes what earlier holders left, where nobody else holds the state. What cannot be removed now is next time.
async fn clear(pusher: &mut Pusher, tenure: Option<&Tenure>) {
    // Without a lock nobody knows who else is there.
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
