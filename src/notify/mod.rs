//! Webhook notifications about jobs: the `[[notify]]` tables of a plan.
//!
//! | file | contents |
//! |---|---|
//! | `webhook_endpoint` | a webhook endpoint, its values from the environment, and its signatures |
//! | `message` | the JSON body of a message |
//! | `delivery` | the queue, the thread that sends and repeats its messages, and the classification of responses |
//! | `notifier` | turns journal events into messages |
//!
//! Notifications never fail or delay a job: an event is recorded in the journal first, a separate thread sends the
//! messages, and a failed delivery is at most a warning. If a process is killed, the messages that it has not delivered
//! are lost.

mod delivery;
mod message;
mod notifier;
mod webhook_endpoint;

pub use delivery::{AbandonedMessages, UndeliveredMessage};
pub use message::MessageOrigin;
pub use notifier::{Notifier, NotifierHost};
pub use webhook_endpoint::{WebhookEndpoint, WebhookError};
