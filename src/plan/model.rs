//! The checked plan.

use batchplan_store::StoreConfig;
use serde_json::Value as Json;

use super::canonical::CanonicalForm;
use super::settings::{JobLimits, JobSettings, PriceSettings, RecurringSettings, WebhookConfig};
use super::state_url::StateUrl;
use crate::completion::ReportSpec;
use crate::manifest::Manifest;
use crate::operation::{Operation, OperationSet};

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
    pub(super) canonical: CanonicalForm,
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

    /// Returns the text that identifies the work. It stays the same when the plan is edited.
    ///
    /// It is made of the client request token, if there is one, or else of the store and the plan's name. It is a JSON
    /// array whose first item says which, so that a name cannot be mistaken for a token.
    #[must_use]
    pub fn identity(&self) -> String {
        let words = match &self.job.client_request_token {
            Some(token) => vec!["token", token],
            None => vec!["plan", self.store.provider.as_str(), self.store_location(), &self.name],
        };
        Json::from(words).to_string()
    }

    /// Returns the text that identifies the store. Plans for the same store have the same text.
    #[must_use]
    pub fn store_identity(&self) -> String {
        Json::from(vec![self.store.provider.as_str(), self.store_location()]).to_string()
    }

    /// Returns the location of the store. If there is an endpoint, the region only matters for signing.
    fn store_location(&self) -> &str {
        let paths = ["store.endpoint", "store.data", "store.region"];
        paths.iter().find_map(|path| self.canonical.get(path)).unwrap_or_default()
    }

    /// Returns the SHA-256 of the plan's canonical form, in lower-case hex. It is equal for two plans of the same work.
    #[must_use]
    pub fn hash(&self) -> String {
        self.canonical.hash()
    }

    /// Returns the canonical form, built when the plan was read.
    #[must_use]
    pub fn canonical(&self) -> &CanonicalForm {
        &self.canonical
    }
}
