//! Telling others what becomes of a job: the webhooks of a plan's `[[notify]]`.
//!
//! | file | what it does |
//! |---|---|
//! | `receiver` | a webhook, with what its plan takes from the environment |
//! | `letter` | what is told, as JSON |
//! | `seal` | its signature |
//! | `carrier` | one attempt to deliver one letter |
//! | `order` | in which order letters go, and when |
//! | `outbox` | what waits to be told, and the thread that tells it |
//! | `notifier` | hears what the journal has recorded, and decides who is told |
//!
//! Nothing here can fail a job or hold it up: the journal is told first, letters are carried by a thread of their own, and
//! what becomes of them is a warning at most. A letter that was not carried when its process is killed is not sent again.

mod carrier;
mod letter;
mod notifier;
mod order;
mod outbox;
mod receiver;
mod seal;

pub use letter::Context;
pub use notifier::{Notifier, Says};
pub use order::Undone;
pub use outbox::Undelivered;
pub use receiver::{NotReady, Receiver};
