//! The thread that holds a state while others work with it: it renews the lock, and pushes what has changed.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::enter::{Base, Entered};
use super::error::RemoteError;
use super::head;
use super::lock::{self, Lock};
use super::pull::fetch;
use super::push::Pusher;
use crate::job::JobId;
use crate::journal::Journal;
use crate::object::{Bucket, Key};
use crate::store::StoreConfig;

/// Errands that wait for the thread.
const ERRANDS: usize = 16;

/// How long pushes may fail, one after the other, before the work is stopped.
const LONGEST_SILENCE: Duration = Duration::from_mins(3);

/// How long removing what earlier holders left may take at the end, where there is time for it.
const CLEARING: Duration = Duration::from_secs(5);

/// How long giving the lock back may take.
const FAREWELL: Duration = Duration::from_secs(2);

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
    /// Called when the lock is as good as over, and the process must be gone before somebody else begins.
    pub leave: fn(),
}

/// A state that is worked with.
#[derive(Debug)]
pub struct Remote {
    journal: Journal,
    errands: mpsc::Sender<Errand>,
    lost: Lost,
    thread: Option<JoinHandle<()>>,
}

/// Whoever waits for an errand may be gone.
type Reply = SyncSender<Result<(), RemoteError>>;

enum Errand {
    Push,
    Fetch(JobId, Reply),
    Close(Duration, Reply),
}

/// Whether the state is lost to whoever held it, and why.
#[derive(Clone, Debug, Default)]
struct Lost {
    token: CancellationToken,
    why: Arc<Mutex<Option<RemoteError>>>,
}

impl Lost {
    fn because(&self, why: RemoteError) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.token.cancel();
    }

    fn why(&self) -> Option<RemoteError> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
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
                match Entered::enter(&opening, Base::Pull).await {
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
    pub fn close(mut self, within: Duration) -> Result<(), RemoteError> {
        let closed = self.ask(|reply| Errand::Close(within, reply));
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

/// Holds a state until it is to be closed, or is lost.
async fn keep(entered: Entered, opening: &Opening, mut inbox: mpsc::Receiver<Errand>, lost: &Lost) {
    let Entered { mut pusher, lock, lease: _lease, connection: _connection } = entered;
    let (door, done) = (pusher.door.clone(), CancellationToken::new());
    let mut renewing = std::pin::pin!(renew(&door, lock, opening, &done, lost));
    let mut renewed = None;
    let closed = {
        let mut pushing = std::pin::pin!(work_off(&mut pusher, opening, &mut inbox, lost));
        loop {
            tokio::select! {
                closed = &mut pushing => break closed,
                lock = &mut renewing, if renewed.is_none() => renewed = Some(lock),
            }
        }
    };
    // A renewal that is on its way is waited for: it must not arrive behind the word that the lock is given back.
    done.cancel();
    let lock = match renewed {
        Some(lock) => lock,
        None => renewing.await,
    };
    let Some((pushed, reply)) = closed else { return };
    give_back(&mut pusher, lock).await;
    let _ = reply.send(pushed);
}

/// Lets a state go. Where that does not go through, its lock runs out.
pub(super) async fn give_back(pusher: &mut Pusher, lock: Option<Lock>) {
    if let Some(lock) = lock {
        let _ = tokio::time::timeout(FAREWELL, lock.release(&pusher.door)).await;
    }
    pusher.mirror.record.claim = None;
    let _ = pusher.mirror.save();
}

/// Pushes now and then, and does what it is asked for, until it is asked to close; what that came to, and who asked.
async fn work_off(
    pusher: &mut Pusher,
    opening: &Opening,
    inbox: &mut mpsc::Receiver<Errand>,
    lost: &Lost,
) -> Option<(Result<(), RemoteError>, Reply)> {
    // Soon at first: what is young is lost soonest.
    let mut pause = Duration::from_secs(1).min(opening.tempo.push_every);
    let mut last_good = Instant::now();
    let mut cleared = false;
    loop {
        let errand = tokio::select! {
            errand = inbox.recv() => errand?,
            () = tokio::time::sleep(pause) => Errand::Push,
        };
        match errand {
            Errand::Push if lost.token.is_cancelled() => tokio::time::sleep(pause).await,
            Errand::Push => {
                match pusher.push().await {
                    Ok(_) => last_good = Instant::now(),
                    Err(error) if last_good.elapsed() > LONGEST_SILENCE => lost.because(error),
                    Err(error) => (opening.tell)(&format!("warning: {error}; it is tried again")),
                }
                if !std::mem::replace(&mut cleared, true) {
                    clear(pusher).await;
                }
                pause = (pause * 2).min(opening.tempo.push_every);
            }
            Errand::Fetch(job, reply) => {
                let _ = reply.send(fetch(&pusher.door, &mut pusher.mirror, &job).await);
            }
            Errand::Close(_, reply) if lost.token.is_cancelled() => return Some((Ok(()), reply)),
            Errand::Close(within, reply) => {
                let in_time = tokio::time::timeout(within, pusher.push()).await;
                if !cleared && within > CLEARING {
                    let _ = tokio::time::timeout(CLEARING, clear(pusher)).await;
                }
                let late = RemoteError::NoTime(opening.folder.clone());
                return Some((in_time.unwrap_or(Err(late)).map(drop), reply));
            }
        }
    }
}

/// Removes what earlier holders left. What cannot be removed now is next time.
async fn clear(pusher: &Pusher) {
    if let Some(head) = pusher.mirror.record.head.as_ref().filter(|head| head.generation == pusher.generation) {
        let _ = head::clear(&pusher.door, head).await;
    }
    let _ = lock::clear(&pusher.door, pusher.generation).await;
}

/// Renews the lock until it is done, or lost: then there is none to be given back.
async fn renew(
    door: &Door,
    lock: Option<Lock>,
    opening: &Opening,
    done: &CancellationToken,
    lost: &Lost,
) -> Option<Lock> {
    let mut lock = lock?;
    let lease = opening.tempo.lease;
    let mut pause = lease / 6;
    loop {
        tokio::select! {
            () = done.cancelled() => return Some(lock),
            () = tokio::time::sleep(pause) => {}
        }
        match lock.renew(door, lease).await {
            Ok(()) => pause = lease / 6,
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.because(error);
                leave_after(lease / 6, opening, done).await;
                return None;
            }
            Err(error) if lock.age() > lease / 2 => {
                lost.because(RemoteError::NotRenewed(error.to_string()));
                leave_after((lease * 5 / 6).saturating_sub(lock.age()), opening, done).await;
                return None;
            }
            Err(_) => pause = lease / 30,
        }
    }
}

/// Work that has not ended by then must not go on beside somebody else's.
async fn leave_after(pause: Duration, opening: &Opening, done: &CancellationToken) {
    tokio::select! {
        () = done.cancelled() => {}
        () = tokio::time::sleep(pause) => (opening.leave)(),
    }
}
