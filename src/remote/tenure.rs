//! Holding a lock: a task that renews it, from the moment that it is taken, whatever else is done meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::error::RemoteError;
use super::lock::{Lock, Moment};

/// Whether work with a state must stop, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    pub(super) token: CancellationToken,
    why: Arc<Mutex<Option<RemoteError>>>,
    lock: Arc<AtomicBool>,
}

impl Lost {
    pub(super) fn because(&self, why: RemoteError) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.token.cancel();
    }

    /// The lock is another's, or as good as.
    pub(super) fn lock_because(&self, why: RemoteError) {
        self.lock.store(true, Ordering::Release);
        self.because(why);
    }

    /// Whether nothing that is pushed counts any more.
    pub(super) fn is_of_lock(&self) -> bool {
        self.lock.load(Ordering::Acquire)
    }

    /// In words.
    fn text(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.as_ref().map_or_else(|| "the state is lost".to_owned(), ToString::to_string)
    }

    pub(super) fn why(&self) -> Option<RemoteError> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Ask {
    /// To renew now.
    Verify(oneshot::Sender<()>),
    /// To give the lock back.
    End(oneshot::Sender<()>),
}

/// What ends the process, and is told why.
pub(super) type Leave = Arc<dyn Fn(&str) + Send + Sync>;

/// A lock that is held.
pub(super) struct Tenure {
    pub(super) generation: u64,
    asks: mpsc::Sender<Ask>,
    verified: watch::Receiver<Moment>,
    over: Arc<AtomicBool>,
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl Tenure {
    /// Begins to renew a lock. `exit` is called when work that has not ended by then would go on beside somebody else's.
    ///
    /// # Errors
    /// When there can be no thread to watch over it.
    pub(super) fn begin(door: Door, lock: Lock, lease: Duration, exit: Leave, lost: Lost) -> io::Result<Self> {
        let generation = lock.generation;
        let (asks, inbox) = mpsc::channel(4);
        let (tell, verified) = watch::channel(lock.good_since);
        let over = Arc::new(AtomicBool::new(false));
        let watched = (verified.clone(), Arc::clone(&over), lost.clone(), Arc::clone(&exit));
        thread::Builder::new().name("lease".to_owned()).spawn(move || watch_over(lease, &watched))?;
        tokio::spawn(hold(Holding { door, lock, lease, exit, lost, tell }, inbox));
        Ok(Self { generation, asks, verified, over })
    }

    /// When the last renewal was sent that went through, and found nobody else.
    pub(super) fn verified(&self) -> Moment {
        *self.verified.borrow()
    }

    /// Renews the lock now, in a given time. Whether it is lost stands where losses are told.
    pub(super) async fn verify(&self, within: Duration) {
        self.ask(Ask::Verify, within).await;
    }

    /// Gives the lock back, in a given time; whether that went through. Where it does not, it runs out.
    pub(super) async fn end(self, within: Duration) -> bool {
        self.ask(Ask::End, within).await
    }

    async fn ask(&self, ask: fn(oneshot::Sender<()>) -> Ask, within: Duration) -> bool {
        let (reply, told) = oneshot::channel();
        let asked = async { self.asks.send(ask(reply)).await.is_ok() && told.await.is_ok() };
        tokio::time::timeout(within, asked).await.unwrap_or(false)
    }
}

/// Watches over a lease whatever the tasks do, which may wait for a disk: at its half the work is to stop, and before it runs
/// out the process to be gone.
fn watch_over(lease: Duration, (verified, over, lost, exit): &(watch::Receiver<Moment>, Arc<AtomicBool>, Lost, Leave)) {
    let pause = (lease / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !over.load(Ordering::Acquire) {
        let age = verified.borrow().age();
        if age > lease / 2 {
            lost.lock_because(RemoteError::NotRenewed(format!("it was not renewed for {} ms", age.as_millis())));
        }
        if age > lease * 5 / 6 {
            exit(&lost.text());
        }
        thread::sleep(pause);
    }
}

struct Holding {
    door: Door,
    lock: Lock,
    lease: Duration,
    exit: Leave,
    lost: Lost,
    tell: watch::Sender<Moment>,
}

async fn hold(mut holding: Holding, mut inbox: mpsc::Receiver<Ask>) {
    let mut pause = holding.lease / 6;
    loop {
        let ask = tokio::select! {
            ask = inbox.recv() => ask,
            () = tokio::time::sleep(pause) => {
                match holding.renew().await {
                    Some(next) => pause = next,
                    None => return holding.leave_in_time(&mut inbox).await,
                }
                continue;
            }
        };
        match ask {
            Some(Ask::Verify(reply)) => {
                let held = holding.renew().await;
                let _ = reply.send(());
                match held {
                    Some(next) => pause = next,
                    None => return holding.leave_in_time(&mut inbox).await,
                }
            }
            Some(Ask::End(reply)) => {
                if holding.lock.release(&holding.door).await.is_ok() {
                    let _ = reply.send(());
                }
                return;
            }
            // Whoever held it is gone without a word; it runs out.
            None => return,
        }
    }
}

impl Holding {
    /// Renews the lock, and says when to do so next; `None` where it is lost. A request that hangs is tried again on another
    /// connection; at half of the lease a lock that is not renewed is given up.
    async fn renew(&mut self) -> Option<Duration> {
        let Self { door, lock, lease, lost, tell, .. } = self;
        let renewed = tokio::time::timeout(*lease / 9, lock.renew(door, *lease)).await;
        let late = || RemoteError::NotRenewed(format!("no answer within {} ms", (*lease / 9).as_millis()));
        match renewed.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {
                tell.send_replace(lock.good_since);
                Some((*lease / 6).saturating_sub(lock.good_since.age()))
            }
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.lock_because(error);
                None
            }
            Err(error) if lock.good_since.age() >= *lease / 2 => {
                lost.lock_because(match error {
                    late @ RemoteError::NotRenewed(_) => late,
                    error => RemoteError::NotRenewed(error.to_string()),
                });
                None
            }
            Err(_) => Some(*lease / 60),
        }
    }

    /// Leaves before the lock runs out, unless the work has ended by then.
    async fn leave_in_time(self, inbox: &mut mpsc::Receiver<Ask>) {
        let left = (self.lease * 5 / 6).saturating_sub(self.lock.good_since.age());
        // Of a lock that was taken by force somebody may begin at any time.
        let pause = left.min(self.lease / 6).max(Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep(pause) => (self.exit)(&self.lost.text()),
            _ = inbox.recv() => {}
        }
    }
}
