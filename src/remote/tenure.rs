//! Holding a lock: a task that renews it, from the moment that it is taken, whatever else is done meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::error::RemoteError;
use super::lock::{Lock, Moment};

/// Whether the state is lost to whoever held it, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    pub(super) token: CancellationToken,
    why: Arc<Mutex<Option<RemoteError>>>,
}

impl Lost {
    pub(super) fn because(&self, why: RemoteError) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.token.cancel();
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

/// A lock that is held.
pub(super) struct Tenure {
    pub(super) generation: u64,
    asks: mpsc::Sender<Ask>,
    verified: watch::Receiver<Moment>,
}

impl Tenure {
    /// Begins to renew a lock. `exit` is called when work that has not ended by then would go on beside somebody else's.
    pub(super) fn begin(door: Door, lock: Lock, lease: Duration, exit: fn(), lost: Lost) -> Self {
        let generation = lock.generation;
        let (asks, inbox) = mpsc::channel(4);
        let (tell, verified) = watch::channel(lock.good_since);
        tokio::spawn(hold(Holding { door, lock, lease, exit, lost, tell }, inbox));
        Self { generation, asks, verified }
    }

    /// When the last renewal was sent that went through, and found nobody else.
    pub(super) fn verified(&self) -> Moment {
        *self.verified.borrow()
    }

    /// Renews the lock now, in a given time. Whether it is lost stands where losses are told.
    pub(super) async fn verify(&self, within: Duration) {
        self.ask(Ask::Verify, within).await;
    }

    /// Gives the lock back, in a given time. Where that does not go through, it runs out.
    pub(super) async fn end(self, within: Duration) {
        self.ask(Ask::End, within).await;
    }

    async fn ask(&self, ask: fn(oneshot::Sender<()>) -> Ask, within: Duration) {
        let (reply, told) = oneshot::channel();
        let asked = async {
            if self.asks.send(ask(reply)).await.is_ok() {
                let _ = told.await;
            }
        };
        let _ = tokio::time::timeout(within, asked).await;
    }
}

struct Holding {
    door: Door,
    lock: Lock,
    lease: Duration,
    exit: fn(),
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
                let _ = holding.lock.release(&holding.door).await;
                let _ = reply.send(());
                return;
            }
            // Whoever held it is gone without a word; it runs out.
            None => return,
        }
    }
}

impl Holding {
    /// Renews the lock, and says when to do so next; `None` where it is lost. It takes a third of the lease at most, and is
    /// begun a sixth after the last: at half of it a lock that is not renewed is given up.
    async fn renew(&mut self) -> Option<Duration> {
        let Self { door, lock, lease, lost, tell, .. } = self;
        let renewed = tokio::time::timeout(*lease / 3, lock.renew(door, *lease)).await;
        let late = || RemoteError::NotRenewed(format!("no answer within {} ms", (*lease / 3).as_millis()));
        match renewed.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {
                tell.send_replace(lock.good_since);
                Some(*lease / 6)
            }
            Err(error @ RemoteError::TakenOver(_)) => {
                lost.because(error);
                None
            }
            Err(error) if lock.good_since.age() >= *lease / 2 => {
                lost.because(match error {
                    late @ RemoteError::NotRenewed(_) => late,
                    error => RemoteError::NotRenewed(error.to_string()),
                });
                None
            }
            Err(_) => Some(*lease / 30),
        }
    }

    /// Leaves before the lock runs out, unless the work has ended by then.
    async fn leave_in_time(self, inbox: &mut mpsc::Receiver<Ask>) {
        let left = (self.lease * 5 / 6).saturating_sub(self.lock.good_since.age());
        // Of a lock that was taken by force somebody may begin at any time.
        let pause = left.min(self.lease / 6).max(Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep(pause) => (self.exit)(),
            _ = inbox.recv() => {}
        }
    }
}
