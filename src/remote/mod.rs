//! Jobs kept in a bucket, so that any machine can resume them: CI runners are short-lived and keep nothing. A *state*
//! is the journal of the jobs with all their files.
//!
//! A folder of this machine, the local cache, holds the jobs like any state folder. While a process works with it,
//! changes are pushed at least every half minute. The next process pulls them into a local cache of its own. A runner
//! that is killed loses only what it recorded since its last push. Objects whose outcome is then unknown are processed
//! again; the report has one row for each.
//!
//! Below the prefix there are three kinds of objects. Their names are older than the terms of the code; `*` stands for
//! a random part:
//!
//! | name | what it is |
//! |---|---|
//! | `lock/N.json` | the lock of generation N: created only if it does not exist, renewed by its creator |
//! | `heads/N-P-*.json` | a snapshot: the Pth push of the holder of generation N, as a list of chunks |
//! | `pieces/N/*` | chunks of files, each written once |
//!
//! Only one process holds a state at a time, and its time as the holder is a *generation*. A late write of a former
//! holder cannot damage the state. The next generation starts when the previous lock was released, or was not renewed
//! for its whole lease; a holder stops well before that. Everything that is written has a name of its own, so that a
//! write that arrives late never replaces newer data. What is no longer needed is removed only once a renewal has shown
//! that no other process has taken over. Times from the store are compared only with other times from the store, never
//! with the clock of this machine. A store need only be able to create an object on the condition that it does not
//! exist. OSS, which supports no other condition, is therefore sufficient.
//!
//! | file | what it does |
//! |---|---|
//! | `config` | which state to open, and how |
//! | `prefix_store` | objects below the prefix, with retries |
//! | `acquire` | how the lock is acquired, as decisions without I/O |
//! | `lock` | the lock, its lease and renewal, taking it by force, and pushing without a lock |
//! | `snapshot` | the snapshot document, which is validated when it is read |
//! | `local_cache` | the local cache, what it contains, and how it is updated from the bucket, even without the lock |
//! | `push` | selects which bytes of which files are pushed, and copies them to the bucket |
//! | `state` | opens a state, holds it on a background thread while other threads work, and summarizes it |
//! | `error` | errors of keeping a state in a bucket |

mod acquire;
mod config;
mod error;
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
pub use local_cache::{CacheUpdate, cache_folder, pull_to_folder, update_cache};
pub use lock::{LockStatus, unlock};
pub use state::{RemoteState, ShutdownOptions, StateOverview, overview, push_folder};
