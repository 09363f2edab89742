//! Pushing without a lock, if something else ensures that only one process works at a time. Such a process yields to
//! one that holds the lock: it checks before and after each push.

use super::acquire::{is_superseded, newest_of, next_generation};
use super::error::RemoteError;
use super::prefix_store::PrefixStore;
use super::{lock, snapshot};

/// The right to push without a lock, for a process that is promised to be the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LocklessPush {
    /// The generation under which it pushes: after everything that existed.
    pub(super) generation: u64,
    /// The newest lock that existed, 0 if there was none.
    newest: u64,
}

impl LocklessPush {
    /// Refuses a state that another process holds or may hold. As for a lock, the number follows from the listings that
    /// decide.
    pub(super) async fn start(door: &PrefixStore) -> Result<Self, RemoteError> {
        for _ in 0..lock::MAX_LOST_RACES {
            let head = snapshot::newest_generation(door).await?;
            let locks = lock::list_generations(door).await?;
            let (newest, generation) = (newest_of(&locks), next_generation(head, &locks));
            if newest == 0 {
                return Ok(Self { generation, newest });
            }
            match lock::read_holder(door, newest).await? {
                Some((_, true)) => return Ok(Self { generation, newest }),
                Some((holder, false)) => return Err(RemoteError::HeldBy(holder)),
                // A newer lock exists, so this one was removed.
                None => lock::wait_before_retry().await,
            }
        }
        Err(lock::inconsistent_store_error())
    }

    /// Checks whether another process has acquired the lock since.
    pub(super) async fn verify(&self, door: &PrefixStore) -> Result<(), RemoteError> {
        if is_superseded(self.newest, &lock::list_generations(door).await?) {
            return Err(RemoteError::TakenOver(lock::describe_newest_holder(door).await));
        }
        Ok(())
    }
}
