//! Pushing without a lock, if something else ensures that only one process works at a time. Such a process yields to
//! one that holds the lock: it checks before and after each push.

use super::acquire::{is_superseded, newest_of, next_beyond};
use super::door::Door;
use super::error::RemoteError;
use super::{head, lock};

/// The right to push without a lock, for a process that is promised to be the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lockless {
    /// The generation under which it pushes: after everything that existed.
    pub(super) generation: u64,
    /// The newest lock that existed, 0 if there was none.
    newest: u64,
}

impl Lockless {
    /// Refuses a state that another process holds or may hold. As for a lock, the number follows from the listings that
    /// decide.
    pub(super) async fn begin(door: &Door) -> Result<Self, RemoteError> {
        for _ in 0..lock::MAX_BEATEN {
            let head = head::last(door).await?;
            let locks = lock::generations(door).await?;
            let (newest, generation) = (newest_of(&locks), next_beyond(head, &locks));
            if newest == 0 {
                return Ok(Self { generation, newest });
            }
            match lock::holder_of(door, newest).await? {
                Some((_, true)) => return Ok(Self { generation, newest }),
                Some((holder, false)) => return Err(RemoteError::Held(holder)),
                // A newer lock exists, so this one was removed.
                None => lock::pause().await,
            }
        }
        Err(lock::refuses_and_shows_none())
    }

    /// Checks whether another process has acquired the lock since.
    pub(super) async fn verify(&self, door: &Door) -> Result<(), RemoteError> {
        if is_superseded(self.newest, &lock::generations(door).await?) {
            return Err(RemoteError::TakenOver(lock::newest_holder(door).await));
        }
        Ok(())
    }
}
