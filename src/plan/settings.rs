//! Settings for how a job runs, as opposed to what it does: `[job]`, `[limits]`, `[prices]`, `[recurring]` and the
//! webhooks of `[[notify]]`.

use std::path::PathBuf;
use std::time::Duration;

use batchplan_store::web::HttpUrl;

use super::threshold::ExactShare;
use crate::money::Money;

/// The `[job]` table of a plan, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// From 0 to 2147483647. A job of a higher priority leaves the queue first and gets more of the request budget.
    pub priority: u32,
    /// Whether `apply` asks for confirmation before it changes anything.
    pub confirmation_required: bool,
    /// The user's own name for the job, 1 to 64 characters. The same token and plan mean the same job.
    pub client_request_token: Option<String>,
    /// Whether to read each object first and to write only where something changes.
    pub skip_unchanged: bool,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { priority: 0, confirmation_required: true, client_request_token: None, skip_unchanged: false }
    }
}

/// The most requests that a plan may keep in flight.
pub const MAX_CONCURRENCY: u32 = 4096;

/// The `[limits]` table of a plan, with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// The maximum number of requests in flight, from 1.
    pub concurrency: u32,
    /// The maximum number of requests per second, retries included; `None` means no limit.
    pub requests_per_second: Option<u32>,
    /// The share of the objects that may fail before the job fails.
    pub failure_threshold: ExactShare,
    /// The maximum size of the job's frozen manifest on this machine, in bytes, from 1; `None` means no limit.
    pub max_disk: Option<u64>,
    /// The maximum number of objects in a job, from 1; `None` means no limit.
    pub max_objects: Option<u64>,
    /// The maximum cost of a job by its estimate; `None` means no limit.
    pub max_cost: Option<Money>,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            requests_per_second: None,
            failure_threshold: ExactShare::percent(20),
            max_disk: None,
            max_objects: None,
            max_cost: None,
        }
    }
}

/// The `[recurring]` table of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecurringSettings {
    /// Whether to process only the objects that changed since the last completed inventory, and those that failed then.
    pub only_changed: bool,
}

/// The `[prices]` table of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceSettings {
    /// The price book entry to use, whatever the region; `None` selects the entry for the store's region.
    pub book: Option<String>,
    /// The path of a price book that is used in addition to the built-in one.
    pub file: Option<PathBuf>,
}

/// The maximum number of webhooks in a plan. For more, use one receiver that forwards the messages.
pub const MAX_WEBHOOKS: usize = 8;

/// A job event that a webhook can be notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    /// The job is running.
    Active,
    /// The job waits for confirmation.
    Suspended,
    /// The job was paused, for any reason.
    Paused,
    /// The job completed.
    Complete,
    /// The job failed.
    Failed,
    /// The job was cancelled.
    Cancelled,
    /// The share of failed objects exceeded the webhook's `failure_rate`.
    FailureRate,
    /// The job ran longer than the webhook's `run_time`.
    RunTime,
}

impl WebhookEvent {
    /// The events to notify if the plan does not set `on`.
    pub const DEFAULTS: [Self; 5] = [Self::Suspended, Self::Paused, Self::Complete, Self::Failed, Self::Cancelled];

    /// Returns the name of the event in messages and in plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Paused => "paused",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::FailureRate => "failure-rate",
            Self::RunTime => "run-time",
        }
    }
}

/// The address of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookTarget {
    /// The URL itself.
    Url(HttpUrl),
    /// The name of the environment variable that holds the URL.
    Variable(String),
}

/// One webhook: a `[[notify]]` table, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The URL of the webhook, or the variable that holds it.
    pub target: WebhookTarget,
    /// The environment variable that holds the secret for signing messages; without one they are not signed.
    pub secret_env: Option<String>,
    /// Whether unencrypted HTTP to another machine is allowed.
    pub allow_http: bool,
    /// The statuses to notify, without duplicates.
    pub events: Vec<WebhookEvent>,
    /// The share of failed objects above which the webhook is notified once.
    pub failure_rate: Option<ExactShare>,
    /// The run time after which the webhook is notified once.
    pub run_time: Option<Duration>,
}
