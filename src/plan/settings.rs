//! Settings for how a job runs, as opposed to what it does: `[job]`, `[limits]` with the failure threshold, `[prices]`,
//! `[recurring]` and the webhooks of `[[notify]]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use batchplan_store::web::HttpUrl;
use jiff::SignedDuration;

use crate::job::Progress;
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
    /// The number of requests in flight that a job starts with, from 1.
    pub concurrency: u32,
    /// The maximum number of requests in flight. Equal to `concurrency`, unless the plan leaves both to the program.
    pub max_concurrency: u32,
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
            max_concurrency: 256,
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

/// The `[undo]` table of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoSettings {
    /// Whether to keep what each object was like before the job changes it.
    pub capture: bool,
    /// How long the job is kept after its end, if that is longer than other jobs.
    pub keep: Option<SignedDuration>,
}

impl Default for UndoSettings {
    fn default() -> Self {
        Self { capture: true, keep: None }
    }
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
    /// `verify` found objects that are not as they should be.
    Drift,
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
            Self::Drift => "drift",
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
    /// The statuses to notify, and whether to notify of drift, without duplicates.
    pub events: Vec<WebhookEvent>,
    /// The share of failed objects above which the webhook is notified once.
    pub failure_rate: Option<ExactShare>,
    /// The run time after which the webhook is notified once.
    pub run_time: Option<Duration>,
}

/// A share of a whole, from 0 to 1, in steps of one millionth.
///
/// The value is stored in whole millionths, so that comparing counts with it is exact for any number of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactShare(u32);

/// Millionths in a whole.
const WHOLE: u32 = 1_000_000;

impl ExactShare {
    /// The whole: 100 %.
    pub const ALL: Self = Self(WHOLE);

    /// Returns a share of `percent` percent; values above 100 count as 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { WHOLE } else { percent as u32 * (WHOLE / 100) })
    }

    /// Returns whether `part` is more than this share of `whole`. [`ExactShare::ALL`] is never exceeded as long as
    /// `part` is at most `whole`.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(whole) * u128::from(self.0)
    }

    /// Returns a share of this many millionths; values above a million count as a million.
    pub(super) const fn millionths(millionths: u32) -> Self {
        Self(if millionths > WHOLE { WHOLE } else { millionths })
    }
}

/// Formats the share in percent: `20 %`, `0.5 %`.
impl fmt::Display for ExactShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / (WHOLE / 100), self.0 % (WHOLE / 100));
        if rest == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{rest:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

/// The number of objects that must be processed before their failure rate is meaningful for the rest.
const MIN_PROCESSED: u64 = 1000;

/// The share of objects that may fail before the job fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureThreshold(ExactShare);

impl FailureThreshold {
    /// Creates a threshold. With [`ExactShare::ALL`], every object may fail.
    #[must_use]
    pub fn new(share: ExactShare) -> Self {
        Self(share)
    }

    /// Returns whether the failed objects exceed the share of all objects, or, once enough objects are processed, the
    /// share of those.
    #[must_use]
    pub fn is_exceeded(self, progress: Progress) -> bool {
        let of = |objects| self.0.is_exceeded_by(progress.failed, objects);
        of(progress.total) || (progress.finished() >= MIN_PROCESSED && of(progress.finished()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_share_exceeds_it_and_the_share_itself_does_not() {
        let fifth = ExactShare::percent(20);
        assert!(!fifth.is_exceeded_by(2, 10) && fifth.is_exceeded_by(3, 10));
        assert!(!fifth.is_exceeded_by(0, 0) && fifth.is_exceeded_by(1, 4));
        assert!(!ExactShare::ALL.is_exceeded_by(u64::MAX, u64::MAX));
        assert!(
            ExactShare::percent(0).is_exceeded_by(1, u64::MAX) && !ExactShare::percent(0).is_exceeded_by(0, u64::MAX)
        );
        assert_eq!(ExactShare::percent(101), ExactShare::ALL);
    }

    #[test]
    fn displays_percent() {
        let shown = [ExactShare(200_000), ExactShare(5_000), ExactShare(1), ExactShare::ALL, ExactShare(0)]
            .map(|share| share.to_string());
        assert_eq!(shown, ["20 %", "0.5 %", "0.0001 %", "100 %", "0 %"]);
    }

    fn crossed(percent: u8, total: u64, succeeded: u64, failed: u64) -> bool {
        FailureThreshold::new(ExactShare::percent(percent)).is_exceeded(Progress {
            total,
            succeeded,
            failed,
            ..Progress::default()
        })
    }

    #[test]
    fn fails_above_the_default_threshold() {
        assert!(!crossed(20, 10, 8, 2));
        assert!(crossed(20, 10, 0, 3));
        assert!(crossed(20, 1, 0, 1));
        assert!(!crossed(20, 0, 0, 0));
    }

    #[test]
    fn fails_early_after_a_thousand_objects() {
        assert!(!crossed(20, 1_000_000, 0, 999));
        assert!(crossed(20, 1_000_000, 0, 1000));
        assert!(!crossed(20, 1_000_000, 800, 200));
        assert!(crossed(20, 1_000_000, 800, 201));
    }

    #[test]
    fn thresholds_of_zero_and_one() {
        assert!(crossed(0, 10_000_000_000, 9_999, 1));
        assert!(!crossed(100, 10_000_000_000, 0, 10_000_000_000));
    }
}
