//! How long a job will take, in words: at the plan's rate and at the provider's limits, what limits it, and what to
//! change.

use std::time::Duration;

use indicatif::HumanCount;

use super::descriptions::format_duration;
use crate::estimate::{RateBottleneck, RunTimeEstimate};
use crate::plan::{JobLimits, MAX_CONCURRENCY};

/// The minimum run time for which it is said what limits the rate.
const LONG_RUN_TIME: Duration = Duration::from_secs(10);

/// Returns the duration at the plan's rate and, if the provider's limits are known, at those limits. For a long job,
/// also returns what limits it, and what to change to make it faster.
pub(super) fn describe_run_time(limits: &JobLimits, run_time: &RunTimeEstimate) -> Vec<(&'static str, String)> {
    let in_flight = match (limits.concurrency, limits.max_concurrency) {
        (start, max) if start < max => format!("{} to {} in flight", HumanCount(start.into()), HumanCount(max.into())),
        (_, max) => format!("{} in flight", HumanCount(max.into())),
    };
    let how = if run_time.is_measured { "measured" } else { "assumed" };
    let each = format!("{in_flight}, {} each, {how}", format_latency(run_time.latency));
    let limit = match run_time.bottleneck {
        RateBottleneck::RateLimit => "`[limits] requests_per_second`".to_owned(),
        RateBottleneck::Concurrency | RateBottleneck::Processor => each,
    };
    let up_to = if limits.concurrency < limits.max_concurrency { "up to " } else { "" };
    let (time, rate) = (format_duration(run_time.at_plan_rate), HumanCount(run_time.per_second));
    let mut lines = vec![("at the plan's rate", format!("about {time} at {up_to}{rate} requests/s ({limit})"))];
    let at_provider_limits = run_time.at_provider_limits();
    if let Some(at) = at_provider_limits {
        lines
            .push(("at the provider's limit", format!("at least {}, if all keys share a prefix", format_duration(at))));
    }
    let longest = run_time.at_plan_rate.max(at_provider_limits.unwrap_or_default());
    if longest >= LONG_RUN_TIME {
        lines.push(("limited by", bottleneck(limits, run_time, at_provider_limits).to_owned()));
    }
    lines
}

/// Returns what limits the rate most, and what to change.
fn bottleneck(limits: &JobLimits, run_time: &RunTimeEstimate, at_provider_limits: Option<Duration>) -> &'static str {
    if at_provider_limits.is_some_and(|at| at > run_time.at_plan_rate) {
        return "the provider, if all keys share a prefix. Keys below several prefixes go faster";
    }
    match run_time.bottleneck {
        RateBottleneck::RateLimit => "the plan. Raise `[limits] requests_per_second` to go faster",
        RateBottleneck::Concurrency if limits.max_concurrency < MAX_CONCURRENCY => {
            "requests in flight. Raise `[limits] concurrency` to go faster"
        }
        RateBottleneck::Concurrency => "requests in flight. Run closer to the store, so that each takes less time",
        RateBottleneck::Processor => "this machine. Divide the manifest among several machines to go faster",
    }
}

/// Formats a latency, such as `0.4 ms`, `12 ms` or `1.5 s`.
fn format_latency(latency: Duration) -> String {
    let milliseconds = latency.as_secs_f64() * 1000.0;
    match milliseconds {
        few if few < 9.95 => format!("{few:.1} ms"),
        some if some < 999.5 => format!("{some:.0} ms"),
        many => format!("{:.1} s", many / 1000.0),
    }
}
