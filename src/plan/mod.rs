//! The plan file: parsed and checked into values that the rest of the program can trust.
//!
//! `validate` reads a file in two stages. The reader of TOML files reads the tables and keys, which `tables` defines,
//! with their spans. Then the rules between keys and the rules of the provider are applied. The result is a [`Plan`],
//! in `model`, with the settings in `settings`, the failure threshold among them. Both stages collect all problems
//! instead of stopping at the first.
//!
//! `model` also has the canonical form of a plan, which identifies its work, so that an earlier job of it is found again,
//! and describes the differences between two plans. `environment` has the endpoints that the environment selects, which
//! belong to a job like its plan. `url` parses the state URL of a plan. [`xml`]
//! writes parts of a plan in the format of OSS Batch Operations, [`interchange`] converts plans to and from the job
//! requests of the cloud services, and [`policy`] generates the permissions that a plan's credentials need.

mod bucket_name;
mod environment;
pub mod interchange;
mod model;
pub mod policy;
mod settings;
mod tables;
mod url;
mod validate;
pub mod xml;

pub(crate) use bucket_name::lax_problem as bucket_problem;
pub(crate) use environment::describe_environment_endpoints;
pub use model::{CanonicalForm, Plan, PlanChange};
pub use settings::{
    ExactShare, FailureThreshold, JobLimits, JobSettings, MAX_CONCURRENCY, MAX_WEBHOOKS, PriceSettings,
    RecurringSettings, UndoSettings, WebhookConfig, WebhookEvent, WebhookTarget,
};
pub(crate) use tables::ObjectCount;
pub use tables::{parse_age, parse_duration, parse_key_glob, parse_timestamp};
pub use url::{StateUrl, StateUrlError};
pub use validate::{MAX_PLAN_BYTES, may_be_plan, read, read_bytes, schema};
