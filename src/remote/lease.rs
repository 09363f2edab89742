//! Keeps a lock: a task renews it from the moment it is acquired, whatever else happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::error::RemoteError;
use super::lock::{MonotonicInstant, StateLock};
use super::prefix_store::PrefixStore;

/// Whether work with a state must stop, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct StateLoss {
    pub(super) token: CancellationToken,
    reason: Arc<Mutex<Option<RemoteError>>>,
    lock_lost: Arc<AtomicBool>,
}

impl StateLoss {
    pub(super) fn record(&self, why: RemoteError) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.token.cancel();
    }

    /// Records that another process has the lock, or will have it soon.
    pub(super) fn record_lock_loss(&self, why: RemoteError) {
        self.lock_lost.store(true, Ordering::Release);
        self.record(why);
    }

    /// Returns whether pushes no longer count.
    pub(super) fn is_lock_lost(&self) -> bool {
        self.lock_lost.load(Ordering::Acquire)
    }

    /// Returns the reason as text.
    fn reason_text(&self) -> String {
        let why = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        why.as_ref().map_or_else(|| "the state is lost".to_owned(), ToString::to_string)
    }

    pub(super) fn take_reason(&self) -> Option<RemoteError> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum LeaseCommand {
    /// Renew the lock now.
    Renew(oneshot::Sender<()>),
    /// Release the lock.
    Release(oneshot::Sender<()>),
}

/// Ends the process, and is called with the reason.
pub(super) type ExitHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// A lock that this process holds.
pub(super) struct LeaseKeeper {
    pub(super) generation: u64,
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
    pub(super) fn start(
        door: PrefixStore,
        lock: StateLock,
        lease: Duration,
        exit: ExitHandler,
        lost: StateLoss,
    ) -> io::Result<Self> {
        let generation = lock.generation;
        let (asks, inbox) = mpsc::channel(4);
        let (tell, verified) = watch::channel(lock.lease_start);
        let over = Arc::new(AtomicBool::new(false));
        let watched = (verified.clone(), Arc::clone(&over), lost.clone(), Arc::clone(&exit));
        thread::Builder::new().name("lease".to_owned()).spawn(move || run_watchdog(lease, &watched))?;
        tokio::spawn(keep_renewing(LeaseRenewal { door, lock, lease, exit, lost, renewed: tell }, inbox));
        Ok(Self { generation, commands: asks, last_renewal: verified, ended: over })
    }

    /// Returns when the last successful renewal was sent. It found no other holder.
    pub(super) fn last_renewal(&self) -> MonotonicInstant {
        *self.last_renewal.borrow()
    }

    /// Renews the lock now, within a time limit. If the lock is lost, that is recorded in `StateLoss`.
    pub(super) async fn renew(&self, within: Duration) {
        self.send(LeaseCommand::Renew, within).await;
    }

    /// Releases the lock within a time limit. Returns whether that succeeded; if not, the lock expires.
    pub(super) async fn release(self, within: Duration) -> bool {
        self.send(LeaseCommand::Release, within).await
    }

    async fn send(&self, ask: fn(oneshot::Sender<()>) -> LeaseCommand, within: Duration) -> bool {
        let (reply, told) = oneshot::channel();
        let asked = async { self.commands.send(ask(reply)).await.is_ok() && told.await.is_ok() };
        tokio::time::timeout(within, asked).await.unwrap_or(false)
    }
}

/// Watches a lease independently of the tasks, which may wait for a disk. At half of the lease, it stops the work;
/// before the lease expires, it ends the process.
fn run_watchdog(
    lease: Duration,
    (verified, over, lost, exit): &(watch::Receiver<MonotonicInstant>, Arc<AtomicBool>, StateLoss, ExitHandler),
) {
    let pause = (lease / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !over.load(Ordering::Acquire) {
        let age = verified.borrow().elapsed();
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
    door: PrefixStore,
    lock: StateLock,
    lease: Duration,
    exit: ExitHandler,
    lost: StateLoss,
    renewed: watch::Sender<MonotonicInstant>,
}

async fn keep_renewing(mut holding: LeaseRenewal, mut inbox: mpsc::Receiver<LeaseCommand>) {
    let mut pause = holding.lease / 6;
    loop {
        let ask = tokio::select! {
            ask = inbox.recv() => ask,
            () = tokio::time::sleep(pause) => {
                match holding.renew().await {
                    Some(next) => pause = next,
                    None => return holding.exit_in_time(&mut inbox).await,
                }
                continue;
            }
        };
        match ask {
            Some(LeaseCommand::Renew(reply)) => {
                let held = holding.renew().await;
                let _ = reply.send(());
                match held {
                    Some(next) => pause = next,
                    None => return holding.exit_in_time(&mut inbox).await,
                }
            }
            Some(LeaseCommand::Release(reply)) => {
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

impl LeaseRenewal {
    /// Renews the lock, and returns when to renew it next; `None` if it is lost. A request that hangs is repeated on
    /// another connection. A lock that was not renewed for half of its lease is given up.
    async fn renew(&mut self) -> Option<Duration> {
        let Self { door, lock, lease, lost, renewed: tell, .. } = self;
        let renewed = tokio::time::timeout(*lease / 9, lock.renew(door, *lease)).await;
        let late = || RemoteError::NotRenewed(format!("no response within {} ms", (*lease / 9).as_millis()));
        match renewed.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {
                tell.send_replace(lock.lease_start);
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
            Err(_) => Some(*lease / 60),
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
