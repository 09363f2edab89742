//! Webhook notifications about jobs: the `[[notify]]` tables of a plan.
//!
//! | file | contents |
//! |---|---|
//! | `receiver` | a webhook endpoint, with the values that its plan takes from the environment |
//! | `letter` | the JSON body of a message |
//! | `seal` | the signature of a message |
//! | `carrier` | one attempt to deliver a message |
//! | `order` | the queue: in which order and when messages are sent |
//! | `outbox` | the thread that sends the messages of the queue |
//! | `notifier` | turns journal events into messages |
//!
//! Notifications never fail or delay a job: an event is recorded in the journal first, a separate thread sends the
//! messages, and a failed delivery is at most a warning. If a process is killed, the messages that it has not delivered
//! are lost.

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
