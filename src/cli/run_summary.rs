//! What the end of a run says: the outcomes of the job, how long it took and what it sent, what it cost beside the
//! estimate, when restored objects can be read, and the commonest failures with advice.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanCount;

use super::descriptions::{format_duration, format_objects};
use super::terminal::escape_line;
use super::wrap::wrap_words;
use crate::engine::RunProgress;
use crate::estimate::CostTotal;
use crate::job::JobStatus;
use crate::jobs::hint;
use crate::journal::{FailureCode, FailureGroup, JobRecord};
use crate::operation::{FieldValue, ObjectAspect};
use crate::plan::Plan;
use crate::provider::ProviderRules;

/// The number of failure codes that are shown. `batchplan show` lists all of them.
pub(super) const MAX_FAILURE_CODES: usize = 3;

/// The width of the label column, with its margin.
const INDENT: usize = 12;

/// Formats the outcomes of a job, such as `1,203 changed, 40 already right, 1 failed, 12 not attempted`. `plan` is the
/// job's plan, if it is known: restores are only requested.
pub(crate) fn format_outcomes(job: &JobRecord, plan: Option<&Plan>) -> String {
    let progress = job.progress;
    if job.status == JobStatus::Complete && progress.total == 0 {
        return "nothing to do: there were no objects to process".to_owned();
    }
    let done = if plan.is_some_and(only_restores) { "requested" } else { "changed" };
    let mut text = format!("{} {done}", HumanCount(progress.changed()));
    if progress.unchanged > 0 {
        let _ = write!(text, ", {} already right", HumanCount(progress.unchanged));
    }
    let _ = write!(text, ", {} failed", HumanCount(progress.failed));
    if job.not_attempted() > 0 {
        let _ = write!(text, ", {} not attempted", HumanCount(job.not_attempted()));
    }
    text
}

/// Returns whether a plan only restores objects.
fn only_restores(plan: &Plan) -> bool {
    plan.operations.iter().all(|operation| operation.aspect() == ObjectAspect::Restoration)
}

/// What is known of a run that has ended.
pub(super) struct RunSummary<'a> {
    pub(super) job: &'a JobRecord,
    pub(super) plan: &'a Plan,
    /// The last progress of the run. `None` if it did not process objects.
    pub(super) progress: Option<&'a RunProgress>,
    /// What the requests of the run cost, and the estimate of the whole job, as far as they are known.
    pub(super) cost: Option<CostTotal>,
    pub(super) estimated_cost: Option<CostTotal>,
    /// The failures by code, the commonest first.
    pub(super) failures: &'a [(FailureCode, FailureGroup)],
}

impl RunSummary<'_> {
    /// Returns the lines, without a line break at the end, or nothing. Text of servers is escaped.
    pub(super) fn render(&self, width: usize) -> String {
        let mut rows = Vec::new();
        if let Some(progress) = self.progress.filter(|progress| progress.finished_in_run() > 0) {
            rows.push(("time", self.time(progress)));
            rows.push(("requests", requests(progress)));
        }
        rows.extend(self.cost().map(|cost| ("cost", cost)));
        rows.extend(self.readable().map(|when| ("readable", when)));
        for (index, (code, group)) in self.failures.iter().take(MAX_FAILURE_CODES).enumerate() {
            let text = escape_line(&failure(code, group));
            rows.push((if index == 0 { "failures" } else { "" }, text));
            rows.extend(hint(&code.code, code.http).map(|help| ("", format!("help: {help}"))));
        }
        let more = self.failures.len().saturating_sub(MAX_FAILURE_CODES);
        if more > 0 {
            let codes = if more == 1 { "code" } else { "codes" };
            rows.push(("", format!("and {more} more error {codes}")));
        }
        let lines = rows.into_iter().map(|(label, text)| {
            let text = wrap_words(&text, width.saturating_sub(INDENT), INDENT);
            format!("  {label:<10}{text}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the time and the rate of this run, and the time of all runs if there were others.
    fn time(&self, progress: &RunProgress) -> String {
        let time = format_short_duration(progress.elapsed);
        let rate = format_mean_rate(progress.mean_rate());
        if progress.finished_before == 0 {
            return format!("{time}, {rate}");
        }
        let (count, all) = (format_objects(progress.finished_in_run()), format_short_duration(self.job.active_time));
        format!("{time} for the last {count}, {rate}; {all} in all runs")
    }

    fn cost(&self) -> Option<String> {
        let known = |total: &&CostTotal| total.known.is_some();
        match (self.cost.as_ref().filter(known), self.estimated_cost.as_ref().filter(known)) {
            (Some(cost), Some(estimate)) => Some(format!("{cost}, estimated: {estimate}")),
            (Some(cost), None) => Some(cost.to_string()),
            (None, Some(estimate)) => Some(format!("estimated: {estimate}")),
            (None, None) => None,
        }
    }

    /// Returns when the restored objects can be read, by storage class.
    fn readable(&self) -> Option<String> {
        if self.job.progress.changed() == 0 {
            return None;
        }
        let service = ProviderRules::of(self.plan.store.provider).retrieval_times?;
        let restore = self.plan.operations.iter().find(|operation| operation.aspect() == ObjectAspect::Restoration)?;
        let tier = restore.details().settings.into_iter().find_map(|(field, value)| match value {
            FieldValue::Text(tier) if field.key == "tier" => Some(tier),
            _ => None,
        });
        let wanted = self.plan.manifest.filter.storage_class.as_deref();
        let times: Vec<_> = service
            .retrieval_times(tier)
            .into_iter()
            .filter(|(class, _)| wanted.is_none_or(|wanted| wanted.iter().any(|it| it.as_str() == *class)))
            .map(|(class, time)| format!("{class} {time}"))
            .collect();
        (!times.is_empty()).then(|| times.join(", "))
    }
}

fn requests(progress: &RunProgress) -> String {
    let counts = progress.requests;
    let mut text = HumanCount(counts.total()).to_string();
    let retries = match counts.retries {
        0 => return text,
        1 => "1 retry".to_owned(),
        retries => format!("{} retries", HumanCount(retries)),
    };
    let _ = write!(text, ", including {retries}");
    if counts.throttled > 0 {
        let _ = write!(text, "; {} throttled", HumanCount(counts.throttled));
    }
    text
}

/// Formats a failure code and its count, such as `12 objects: 403 AccessDenied`.
pub(super) fn failure(FailureCode { code, http }: &FailureCode, group: &FailureGroup) -> String {
    let status = if *http == 0 { String::new() } else { format!("{http} ") };
    format!("{}: {status}{code}", format_objects(group.count))
}

/// Formats a duration with one decimal below ten seconds, such as `0.4 s`, and otherwise in two units.
fn format_short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 { format!("{seconds:.1} s") } else { format_duration(Duration::from_secs_f64(seconds.round())) }
}

fn format_mean_rate(rate: f64) -> String {
    if rate < 9.95 {
        return format!("{rate:.1} objects/s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
    let rounded = rate.round() as u64;
    format!("{} objects/s", HumanCount(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RequestCounts;

    #[test]
    fn retries_and_throttled_requests_are_named() {
        let of = |retries, throttled| {
            let mut counts = RequestCounts::default();
            (counts.retries, counts.throttled) = (retries, throttled);
            requests(&RunProgress { requests: counts, ..RunProgress::default() })
        };
        assert_eq!(of(0, 0), "0");
        assert_eq!(of(1, 0), "0, including 1 retry");
        assert_eq!(of(2100, 1900), "0, including 2,100 retries; 1,900 throttled");
    }

    #[test]
    fn times_and_rates_are_rounded() {
        let time = |milliseconds| format_short_duration(Duration::from_millis(milliseconds));
        assert_eq!((time(40), time(9_940), time(9_960), time(119_600)), text(["0.0 s", "9.9 s", "10 s", "2 min"]));
        assert_eq!(
            (format_mean_rate(0.44), format_mean_rate(28_717.4)),
            ("0.4 objects/s".into(), "28,717 objects/s".into())
        );
    }

    fn text([a, b, c, d]: [&str; 4]) -> (String, String, String, String) {
        (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())
    }
}
