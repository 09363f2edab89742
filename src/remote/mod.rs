//! Jobs kept in a bucket, so that any machine can resume them: CI runners are short-lived and keep nothing.
//!
//! A folder of this machine, the local cache, holds the jobs like any state folder. While a process works with it,
//! changes are pushed at least every half minute. The next process pulls them into a local cache of its own. A runner
//! that is killed loses only what it recorded since its last push. Objects whose outcome is then unknown are processed
//! again, and reported once.
//!
//! Below the prefix there are three kinds of objects:
//!
//! | name | what it is |
//! |---|---|
//! | `lock/N.json` | the lock of generation N: created only if it does not exist, renewed by its creator |
//! | `heads/N-P-*.json` | a snapshot: the Pth push of the holder of generation N, as a list of chunks |
//! | `pieces/N/*` | chunks of files, each written once |
//!
//! Two processes never hold a state at once, and what one of them does too late harms no other. The next generation
//! starts when the previous lock was released, or was not renewed for its whole lease; a holder stops well before that.
//! Everything that is written has a name of its own, so that a write that arrives late never replaces newer data. What
//! is no longer needed is removed only once a renewal has shown that no other process has taken over. The clock of a
//! store is compared only with itself. A store need only be able to create an object on the condition that it does not
//! exist. OSS, which supports no other condition, is therefore sufficient.
//!
//! | file | what it does |
//! |---|---|
//! | `config` | which state to open, and how |
//! | `prefix_store` | objects below the prefix, with retries |
//! | `acquire` | how the lock is acquired, as decisions without I/O |
//! | `lock` | the lock, its lease and renewal, and pushing without a lock |
//! | `snapshot` | the snapshot document; a reader trusts nothing in it |
//! | `local_cache` | the local cache, what it contains, and how it is updated from the bucket |
//! | `push` | selects which bytes of which files are pushed, and copies them to the bucket |
//! | `state` | opens a state, and holds it on a background thread while other threads work |
//! | `inspect` | what can be done without holding a state |
//! | `error` | errors of keeping a state in a bucket |

mod acquire;
mod config;
mod error;
mod inspect;
mod local_cache;
mod lock;
mod prefix_store;
mod push;
mod snapshot;
mod state;
#[cfg(test)]
mod testing;

pub use config::{LeaseConfig, RemoteStateConfig};
pub use error::{LockHolder, RemoteError};
pub use inspect::{StateOverview, overview, pull_to_folder, unlock, update_cache};
pub use local_cache::cache_folder;
pub use lock::LockStatus;
pub use state::{RemoteState, ShutdownOptions, push_folder};
