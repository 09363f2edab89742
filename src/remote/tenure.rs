//! Keeps a lock: a task renews it from the moment it is acquired, whatever else happens.

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

    /// Records that another process has the lock, or will have it soon.
    pub(super) fn lock_because(&self, why: RemoteError) {
        self.lock.store(true, Ordering::Release);
        self.because(why);
    }

    /// Returns whether pushes no longer count.
    pub(super) fn is_of_lock(&self) -> bool {
        self.lock.load(Ordering::Acquire)
    }

    /// Returns the reason as text.
    fn text(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.as_ref().map_or_else(|| "the state is lost".to_owned(), ToString::to_string)
    }

    pub(super) fn why(&self) -> Option<RemoteError> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Ask {
    /// Renew the lock now.
    Verify(oneshot::Sender<()>),
    /// Release the lock.
    End(oneshot::Sender<()>),
}

/// Ends the process, and is called with the reason.
pub(super) type Leave = Arc<dyn Fn(&str) + Send + Sync>;

/// A lock that this process holds.
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
    /// Starts to renew a lock. `exit` is called if the work has not ended before another process may start.
    ///
    /// # Errors
    /// Returns an error if the thread that watches the lease cannot be started.
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

    /// Returns when the last successful renewal was sent. It found no other holder.
    pub(super) fn verified(&self) -> Moment {
        *self.verified.borrow()
    }

    /// Renews the lock now, within a time limit. If the lock is lost, that is recorded in `Lost`.
    pub(super) async fn verify(&self, within: Duration) {
        self.ask(Ask::Verify, within).await;
    }

    /// Releases the lock within a time limit. Returns whether that succeeded; if not, the lock expires.
    pub(super) async fn end(self, within: Duration) -> bool {
        self.ask(Ask::End, within).await
    }

    async fn ask(&self, ask: fn(oneshot::Sender<()>) -> Ask, within: Duration) -> bool {
        let (reply, told) = oneshot::channel();
        let asked = async { self.asks.send(ask(reply)).await.is_ok() && told.await.is_ok() };
        tokio::time::timeout(within, asked).await.unwrap_or(false)
    }
}

/// Watches a lease independently of the tasks, which may wait for a disk. At half of the lease, it stops the work;
/// before the lease expires, it ends the process.
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
            // The owner is gone without releasing the lock, which expires.
            None => return,
        }
    }
}

impl Holding {
    /// Renews the lock, and returns when to renew it next; `None` if it is lost. A request that hangs is repeated on
    /// another connection. A lock that was not renewed for half of its lease is given up.
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

    /// Ends the process before the lock expires, unless the work has ended by then.
    async fn leave_in_time(self, inbox: &mut mpsc::Receiver<Ask>) {
        let left = (self.lease * 5 / 6).saturating_sub(self.lock.good_since.age());
        // If the lock was taken by force, another process may start at any time.
        let pause = left.min(self.lease / 6).max(Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep(pause) => (self.exit)(&self.lost.text()),
            _ = inbox.recv() => {}
        }
    }
}
