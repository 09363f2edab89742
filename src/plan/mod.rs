//! The plan file: parsed and checked into values that the rest of the program can trust.
//!
//! `read` reads a file in three stages. `parser` reads the tables and keys, which `parser/tables.rs` defines, with their
//! spans. `check` applies the rules between keys and the rules of the provider. The result is a [`Plan`], in `model`,
//! with the settings in `settings`. Every stage collects all problems instead of stopping at the first. Plan files are
//! untrusted input: `safe_text` keeps them from driving the terminal and from echoing a credential.
//!
//! `threshold` decides when too many objects have failed. `endpoint` and `state_url` parse the URLs of a plan.
//! `canonical` identifies the work of a plan, so that an earlier job of it is found again, and describes the differences
//! between two plans. [`xml`] writes parts of a plan in the format of OSS Batch Operations, [`interchange`] converts
//! plans to and from the job requests of the cloud services, and [`policy`] generates the permissions that a plan's
//! credentials need.

mod canonical;
mod check;
mod endpoint;
pub mod interchange;
mod model;
mod parser;
pub mod policy;
mod read;
mod safe_text;
mod settings;
mod state_url;
mod threshold;
pub mod xml;

pub use canonical::{CanonicalForm, PlanChange};
pub use model::Plan;
pub use parser::value_types::{parse_age, parse_duration, parse_timestamp};
pub use read::{MAX_PLAN_BYTES, read, read_bytes, schema};
pub(crate) use safe_text::{mask_for_excerpts, nearest, quote_for_message};
pub use settings::{
    JobLimits, JobSettings, MAX_CONCURRENCY, MAX_WEBHOOKS, PriceSettings, RecurringSettings, WebhookConfig,
    WebhookEvent, WebhookTarget,
};
pub use state_url::{StateUrl, StateUrlError};
pub use threshold::{ExactShare, FailureThreshold};
