//! Webhooks and the job events that they are notified of: the `[[notify]]` tables of a plan.

use std::time::Duration;

use batchplan_store::web::HttpUrl;
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::ExactShare;
use super::parser::{PlanParser, PlanValue, RawField, SpannedValue};
use crate::diagnostics::FileProblem;

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

/// An array of tables, each under a header in double brackets.
#[derive(Debug)]
pub(super) struct TableArray<T>(pub(super) Vec<SpannedValue<T>>);

impl<T: PlanValue> PlanValue for TableArray<T> {
    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "maxItems": MAX_WEBHOOKS })
    }

    fn example() -> String {
        format!("[{}]", T::example())
    }

    fn read(slot: &RawField<'_>, walk: &mut PlanParser) -> Option<Self> {
        let DeValue::Array(items) = slot.value else {
            walk.push(
                FileProblem::new(format!("`{}` must be an array of tables", slot.name))
                    .label(slot.span.clone(), "needs double brackets")
                    .help(format!("write its keys under a [[{}]] header", slot.name)),
            );
            return None;
        };
        let mut read = Vec::new();
        let mut whole = true;
        for item in items {
            let (span, value) = (item.span(), item.get_ref());
            let slot = RawField { name: slot.name, path: slot.path, key: span.clone(), span, value, is_item: true };
            match T::read(&slot, walk) {
                Some(table) => read.push(slot.with_spans(table)),
                None => whole = false,
            }
        }
        whole.then_some(Self(read))
    }
}

/// A duration: `"90m"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationValue(pub(super) Duration);

impl PlanValue for DurationValue {
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[smhd]$" })
    }

    fn example() -> String {
        "\"2h\"".to_owned()
    }

    fn read(slot: &RawField<'_>, walk: &mut PlanParser) -> Option<Self> {
        let DeValue::String(text) = slot.value else {
            slot.report_type_mismatch("a duration", &Self::example(), walk);
            return None;
        };
        let lapse = parse_duration(text);
        if lapse.is_none() {
            let help = "use an integer and s, m, h or d (seconds, minutes, hours, days), such as \"2h\"";
            slot.report_invalid("is not a valid duration", "cannot be parsed", help, walk);
        }
        lapse.map(Self)
    }
}

/// Parses a duration: a whole number and `s`, `m`, `h` or `d`, for seconds, minutes, hours or days. Returns `None` for
/// any other text, or for more than `u32::MAX` seconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 24 * 3600),
        _ => return None,
    };
    let number = number.strip_suffix(' ').unwrap_or(number);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    u32::try_from(number.checked_mul(seconds)?).ok().map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations() {
        for (text, seconds) in [("0s", 0), ("45s", 45), ("90 m", 5400), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "2", "2w", "-1h", "+1h", "1.5h", " 1h", "1  h", "99999999999d", "9é", "٣s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
