//! The plan file: parsed and checked into values that the rest of the program can trust.
//!
//! `read` reads a file in two stages. The reader of TOML files reads the tables and keys, which `tables` defines out of
//! `value_types`, with their spans. `check` applies the rules between keys and the rules of the provider. The result is
//! a [`Plan`], in `model`, with the settings in `settings`. Both stages collect all problems instead of stopping at the
//! first.
//!
//! `threshold` decides when too many objects have failed. `endpoint` and `state_url` parse the URLs of a plan.
//! `canonical` identifies the work of a plan, so that an earlier job of it is found again, and describes the
//! differences between two plans. [`xml`] writes parts of a plan in the format of OSS Batch Operations, [`interchange`]
//! converts plans to and from the job requests of the cloud services, and [`policy`] generates the permissions that a
//! plan's credentials need.

mod canonical;
mod check;
mod endpoint;
pub mod interchange;
mod model;
pub mod policy;
mod read;
mod settings;
mod state_url;
mod tables;
mod threshold;
mod value_types;
pub mod xml;

pub use canonical::{CanonicalForm, PlanChange};
pub use model::Plan;
pub use read::{MAX_PLAN_BYTES, read, read_bytes, schema};
pub use settings::{
    JobLimits, JobSettings, MAX_CONCURRENCY, MAX_WEBHOOKS, PriceSettings, RecurringSettings, WebhookConfig,
    WebhookEvent, WebhookTarget,
};
pub use state_url::{StateUrl, StateUrlError};
pub use threshold::{ExactShare, FailureThreshold};
pub use value_types::{parse_age, parse_duration, parse_timestamp};
