//! Jobs kept in a bucket, so that whichever machine comes next goes on with them: runners of CI die and forget.
//!
//! A folder of this machine, the mirror, holds the jobs as any state folder does. While somebody works with it, what has
//! changed is pushed at least every half a minute; whoever comes next pulls it into a mirror of its own. A runner that is
//! killed loses what it came to know since its last push, and never what is true: what is not known to be done is done
//! again, and reported once.
//!
//! Below the prefix there are three kinds of objects:
//!
//! | name | what it is |
//! |---|---|
//! | `lock/N.json` | who holds the state in its generation N: made on condition that it is new, and renewed by its maker |
//! | `heads/N-P-*.json` | what the state was when that holder pushed it for the Pth time: a list of pieces |
//! | `pieces/N/*` | pieces of files, each written once |
//!
//! Two never hold a state at once, and what one of them does too late harms nobody: the next generation begins when the
//! lock of the one before was given back, or was not renewed for as long as it is good; a holder stops well before that;
//! whatever is written has a name of its own, so that nothing that arrives late takes the place of what is newer; and what is
//! not needed any more is removed only once a renewal has shown that nobody else has come. No store's clock is compared with
//! another's. That an object can be made on condition that it is new is all that is asked of a store, so that OSS, which knows
//! no other condition, does.
//!
//! | file | what it does |
//! |---|---|
//! | `door` | objects below the prefix, with retries |
//! | `acquire` | how the lock is acquired, as decisions without I/O |
//! | `lock`, `tenure` | who holds the state, and for how long |
//! | `lockless` | pushing without a lock |
//! | `head` | what is pushed, as a document; it is read as if by a stranger |
//! | `mirror` | the folder, and what is known of it |
//! | `capture` | which bytes of which files are to be pushed |
//! | `push`, `pull` | there and back |
//! | `enter` | taking hold of it |
//! | `keeper` | the thread that renews and pushes while others work |
//! | `look` | what can be done without working with it |
//! | `error` | why it cannot be done |

mod acquire;
mod capture;
mod door;
mod enter;
mod error;
mod head;
mod keeper;
mod lock;
mod lockless;
mod look;
mod mirror;
mod pull;
mod push;
mod tenure;
#[cfg(test)]
mod testing;

pub use error::RemoteError;
pub use keeper::{Farewell, Opening, Remote, Tempo};
pub use lock::Holder;
pub use look::{Held, Overview, look, move_in, overview, take_out, unlock};
pub use mirror::mirror_of;
