//! The plan file: parsed and checked into values that the rest of the program can trust.
//!
//! Reading has three stages. `tables` defines the tables and keys and reads them, with their spans, through `parser`
//! and `value_types`. `check` applies the rules between keys and the rules of the provider. The result is a [`Plan`].
//! Every stage collects all problems instead of stopping at the first. Plan files are untrusted input: `safe_text`
//! keeps them from driving the terminal and from echoing a credential.
//!
//! `canonical` identifies the work of a plan, so that an earlier job of it is found again, and `change` describes the
//! differences between two plans. [`xml`] writes parts of a plan in the format of OSS Batch Operations, [`interchange`]
//! converts plans to and from the job requests of the cloud services, and [`policy`] generates the permissions that a
//! plan's credentials need.

mod canonical;
mod change;
mod check;
mod defaults;
mod endpoint;
pub mod interchange;
mod limits;
mod money_value;
mod notify;
mod parser;
pub mod policy;
mod read;
mod safe_text;
mod share;
mod state_url;
mod tables;
mod threshold;
mod value_types;
pub mod xml;

use batchplan_store::StoreConfig;

use crate::completion::ReportSpec;
use crate::manifest::Manifest;
use crate::operation::{Operation, OperationSet};

pub use canonical::CanonicalForm;
pub use change::PlanChange;
pub use limits::{JobLimits, JobSettings, MAX_CONCURRENCY, PriceSettings, RecurringSettings};
pub use notify::{MAX_WEBHOOKS, WebhookConfig, WebhookEvent, WebhookTarget, parse_duration};
pub use read::{MAX_PLAN_BYTES, read, read_bytes, schema};
pub(crate) use safe_text::{mask_for_excerpts, nearest, quote_for_message};
pub use share::ExactShare;
pub use state_url::{StateUrl, StateUrlError};
pub use threshold::FailureThreshold;
pub use value_types::{parse_age, parse_timestamp};

/// A plan that passed all checks.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The plan's name, 1 to 128 characters. Together with the store it identifies the work.
    pub name: String,
    /// A description for people, at most 256 characters.
    pub description: Option<String>,
    /// The object store and how to connect to it.
    pub store: StoreConfig,
    /// Whether to skip the check that the server supports tags, ACLs and restores before the first write.
    pub skip_server_check: bool,
    /// The objects: one source and an optional filter.
    pub manifest: Manifest,
    /// The operations, all applied to each object in one pass. Never empty.
    pub operations: Vec<Operation>,
    /// Where the completion report is published, and in which format.
    pub report: ReportSpec,
    /// The priority, the confirmation and the other settings of `[job]`.
    pub job: JobSettings,
    /// The limits on concurrency, request rate, failures, disk space, objects and cost.
    pub limits: JobLimits,
    /// The price book for the cost estimate.
    pub prices: PriceSettings,
    /// Where the plan's jobs are kept, unless the command line names another place.
    pub state: Option<StateUrl>,
    /// The webhooks to notify of job events.
    pub notify: Vec<WebhookConfig>,
    /// How the plan recurs; `None` if it does not.
    pub recurring: Option<RecurringSettings>,
    canonical: CanonicalForm,
}

impl Plan {
    /// Returns the operations, composed as a job runs them.
    #[must_use]
    pub fn operations(&self) -> OperationSet {
        OperationSet::new(self.operations.clone()).with_skip_unchanged(self.job.skip_unchanged)
    }

    /// Returns whether the server must prove that it supports tags, ACLs and restores before the job writes to it.
    #[must_use]
    pub fn needs_server_check(&self) -> bool {
        !self.skip_server_check && !self.store.is_first_party()
    }
}
