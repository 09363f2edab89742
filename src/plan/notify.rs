//! Who is told of what becomes of a job, and of what: a plan's `[[notify]]`.

use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::Share;
use super::walk::{At, Slot, Value, Walk};
use crate::diagnostics::Problem;
use crate::web::Url;

/// Webhooks of one plan. A receiver that fans out is a better place for more.
pub const MAX_HOOKS: usize = 8;

/// What a webhook can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The job is worked on.
    Active,
    /// It waits to be confirmed.
    Suspended,
    /// It was paused, by whomever or whatever.
    Paused,
    /// It came to its end.
    Complete,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// More of its objects failed than the hook wants to hear nothing of.
    FailureRate,
    /// It was worked on for longer than that.
    RunTime,
}

impl Event {
    /// What is told where a plan does not say it.
    pub const BY_DEFAULT: [Self; 5] = [Self::Suspended, Self::Paused, Self::Complete, Self::Failed, Self::Cancelled];

    /// Its name in messages, and in plans.
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

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Here.
    Url(Url),
    /// At the URL that this environment variable holds.
    Variable(String),
}

/// One `[[notify]]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it is.
    pub target: Target,
    /// The environment variable that holds the secret which messages are signed with.
    pub secret_env: Option<String>,
    /// Whether it may be told without encryption although it is on another machine.
    pub allow_http: bool,
    /// The statuses that it is told of.
    pub on: Vec<Event>,
    /// The share of failed objects beyond which it is told once.
    pub failure_rate: Option<Share>,
    /// The time of work beyond which it is told once.
    pub run_time: Option<Duration>,
}

/// Tables of one kind, each under a header in double brackets.
#[derive(Debug)]
pub(super) struct Several<T>(pub(super) Vec<At<T>>);

impl<T: Value> Value for Several<T> {
    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "maxItems": MAX_HOOKS })
    }

    fn example() -> String {
        format!("[{}]", T::example())
    }

    fn read(slot: &Slot<'_>, walk: &mut Walk) -> Option<Self> {
        let DeValue::Array(items) = slot.value else {
            walk.push(
                Problem::new(format!("`{}` can be there several times", slot.name))
                    .label(slot.span.clone(), "in single brackets, or none")
                    .help(format!("write its keys below the line [[{}]]", slot.name)),
            );
            return None;
        };
        let mut read = Vec::new();
        let mut whole = true;
        for item in items {
            let (span, value) = (item.span(), item.get_ref());
            let slot = Slot { name: slot.name, path: slot.path, key: span.clone(), span, value, item: true };
            match T::read(&slot, walk) {
                Some(table) => read.push(slot.at(table)),
                None => whole = false,
            }
        }
        whole.then_some(Self(read))
    }
}

/// A length of time: `"90m"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lapse(pub(super) Duration);

impl Value for Lapse {
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[smhd]$" })
    }

    fn example() -> String {
        "\"2h\"".to_owned()
    }

    fn read(slot: &Slot<'_>, walk: &mut Walk) -> Option<Self> {
        let DeValue::String(text) = slot.value else {
            slot.mismatch("a length of time", &Self::example(), walk);
            return None;
        };
        let lapse = parse_lapse(text);
        if lapse.is_none() {
            let help = "a whole number and s, m, h or d for seconds, minutes, hours or days, such as \"2h\"";
            slot.refuse("is no length of time", "cannot be read", help, walk);
        }
        lapse.map(Self)
    }
}

/// A length of time: a whole number and `s`, `m`, `h` or `d`, for seconds, minutes, hours or days.
#[must_use]
pub fn parse_lapse(text: &str) -> Option<Duration> {
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
    fn lengths_of_time_are_read_exactly() {
        for (text, seconds) in [("0s", 0), ("45s", 45), ("90 m", 5400), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(parse_lapse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "2", "2w", "-1h", "+1h", "1.5h", " 1h", "1  h", "99999999999d", "9é", "٣s"] {
            assert_eq!(parse_lapse(text), None, "{text}");
        }
    }
}
