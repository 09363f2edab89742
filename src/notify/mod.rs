//! Webhook notifications about jobs, and about drift that `verify` found: the `[[notify]]` tables of a plan.
//!
//! | file | contents |
//! |---|---|
//! | `webhook` | a webhook endpoint, its values from the environment, and its messages: body, headers, signature |
//! | `delivery` | the queue, the thread that sends and repeats its messages, and the classification of responses |
//! | `notifier` | turns journal events into messages |
//!
//! Notifications never fail or delay a job: an event is recorded in the journal first, a separate thread sends the
//! messages, and a failed delivery is at most a warning. If a process is killed, the messages that it has not delivered
//! are lost.

mod delivery;
mod notifier;
mod webhook;

pub use delivery::{AbandonedMessages, UndeliveredMessage};
pub use notifier::{Notifier, NotifierHost};
pub use webhook::{DriftSummary, MessageOrigin, WebhookEndpoint, WebhookError};
