//! Webhook notifications about jobs: the `[[notify]]` tables of a plan.
//!
//! | file | contents |
//! |---|---|
//! | `endpoint` | a webhook endpoint, with the values that its plan takes from the environment |
//! | `message` | the JSON body of a message |
//! | `signature` | the signature of a message |
//! | `delivery` | one attempt to deliver a message |
//! | `queue` | the queue: in which order and when messages are sent |
//! | `sender` | the thread that sends the messages of the queue |
//! | `notifier` | turns journal events into messages |
//!
//! Notifications never fail or delay a job: an event is recorded in the journal first, a separate thread sends the
//! messages, and a failed delivery is at most a warning. If a process is killed, the messages that it has not delivered
//! are lost.

mod delivery;
mod endpoint;
mod message;
mod notifier;
mod queue;
mod sender;
mod signature;

pub use endpoint::{WebhookEndpoint, WebhookError};
pub use message::MessageOrigin;
pub use notifier::{Notifier, NotifierHost};
pub use queue::AbandonedMessages;
pub use sender::UndeliveredMessage;
