//! Checks a parsed plan: the rules between keys, and the rules of each provider.

mod bucket;
mod endpoint;
mod file_location;
mod manifest;
mod notify;
mod operation;
mod recurring;
mod report;
mod role;
mod store;
mod tags;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::parser::{ParsedField, PlanParser, SpannedValue, TextSpan};
use super::tables::PlanTable;
use super::{CanonicalForm, JobLimits, JobSettings, Plan, PriceSettings, StateUrl};
use crate::diagnostics::FileProblem;
use crate::provider::ProviderRules;

pub(super) use endpoint::{EndpointError, EndpointUrl};

/// The inputs that the rules depend on.
struct PlanCheckContext<'a> {
    /// The rules of the plan's provider. `None` if it does not name a valid one; these rules are then skipped.
    rules: Option<&'static ProviderRules>,
    /// The folder that relative paths are resolved against.
    folder: &'a Path,
    /// The time that ages are counted back from.
    now: Timestamp,
}

impl PlanCheckContext<'_> {
    /// Resolves a path of the plan against its folder. Warns if there is no such file.
    fn resolve_file(
        &self,
        at: &SpannedValue<super::value_types::TextValue<1, 4096>>,
        walk: &mut PlanParser,
    ) -> PathBuf {
        let path = self.folder.join(&at.value.0);
        if !path.is_file() {
            walk.push(
                FileProblem::new("the file does not exist yet")
                    .label(at.span.clone(), "not found, relative to the plan's folder")
                    .help("it must exist when you apply the plan")
                    .warning(),
            );
        }
        path
    }
}

/// Checks a parsed plan and reports all problems. If none of them is an error, returns a plan.
pub(super) fn check(file: &PlanTable, folder: &Path, now: Timestamp, walk: &mut PlanParser) -> Option<Plan> {
    let provider = file.store.value().and_then(|store| store.provider.value()).map(|name| name.0);
    let context = PlanCheckContext { rules: provider.map(ProviderRules::of), folder, now };
    let store = file.store.value().map(|table| store::check(table, &context, walk));
    let manifest = file.manifest.present().map(|table| manifest::check(table, &context, walk));
    let operations = file.operation.present().map(|table| operation::check(table, &context, walk));
    let report = report::check(&file.report, &context, walk);
    let limits = limits(file, walk);
    let prices = prices(file, &context, walk);
    let state = state(file, walk);
    let notify = notify::check(&file.notify, walk);
    let recurring = recurring::check(file, walk);
    let (store, manifest, operations) = (store??, manifest??, operations?);
    let canonical = CanonicalForm::new(file, &store, &manifest.source, &operations, &report);
    Some(Plan {
        name: file.name.value()?.0.clone(),
        description: file.description.value().map(|text| text.0.clone()),
        store,
        skip_server_check: skip_server_check(file),
        manifest,
        operations,
        report,
        job: job(file),
        limits,
        prices,
        state,
        notify,
        recurring,
        canonical,
    })
}

fn skip_server_check(file: &PlanTable) -> bool {
    let store = file.store.value();
    store.and_then(|store| store.skip_server_check.value()).copied().unwrap_or_default()
}

fn job(file: &PlanTable) -> JobSettings {
    let default = JobSettings::default();
    let Some(job) = file.job.value() else { return default };
    JobSettings {
        priority: job.priority.value().map_or(default.priority, |number| number.0),
        confirmation_required: job.confirmation_required.value().copied().unwrap_or(default.confirmation_required),
        client_request_token: job.client_request_token.value().map(|token| token.0.clone()),
        skip_unchanged: job.skip_unchanged.value().copied().unwrap_or(default.skip_unchanged),
    }
}

fn limits(file: &PlanTable, walk: &mut PlanParser) -> JobLimits {
    let default = JobLimits::default();
    let Some(limits) = file.limits.value() else { return default };
    if let Some(none) = limits.max_disk.present().filter(|at| at.value.0 == 0) {
        walk.push(
            FileProblem::new("`max_disk` must be greater than 0")
                .label(none.span.clone(), "too small for any manifest")
                .help("set a size such as \"20 GiB\", or remove it for no limit"),
        );
    }
    JobLimits {
        concurrency: limits.concurrency.value().map_or(default.concurrency, |number| number.0),
        requests_per_second: limits.requests_per_second.value().map(|number| number.0),
        failure_threshold: limits.failure_threshold.value().copied().unwrap_or(default.failure_threshold),
        max_disk: limits.max_disk.value().map(|size| size.0),
        max_objects: limits.max_objects.value().map(|number| number.0),
        max_cost: limits.max_cost.value().copied(),
    }
}

fn prices(file: &PlanTable, context: &PlanCheckContext<'_>, walk: &mut PlanParser) -> PriceSettings {
    let Some(prices) = file.prices.value() else { return PriceSettings::default() };
    PriceSettings {
        book: prices.book.value().map(|name| name.0.clone()),
        file: prices.file.present().map(|at| context.resolve_file(at, walk)),
    }
}

fn state(file: &PlanTable, walk: &mut PlanParser) -> Option<StateUrl> {
    let url = file.state.value()?.url.present()?;
    match StateUrl::parse(&url.value.0) {
        Ok(state) => Some(state),
        Err(refused) => {
            if url.value.0.contains('@') {
                walk.hide(url.span.clone());
            }
            walk.push(
                FileProblem::new("invalid state URL").label(url.span.clone(), refused.message).help(refused.help),
            );
            None
        }
    }
}

/// Reports two keys that exclude each other.
fn report_conflict<A, B>(
    first: &SpannedValue<A>,
    second: &SpannedValue<B>,
    title: &str,
    help: &str,
    walk: &mut PlanParser,
) {
    let (upper, lower) =
        if first.key.start <= second.key.start { (&first.key, &second.key) } else { (&second.key, &first.key) };
    walk.push(FileProblem::new(title).label(upper.clone(), "this").label(lower.clone(), "and this").help(help));
}

fn key_span<T>(field: &ParsedField<T>) -> Option<TextSpan> {
    field.present().map(|at| at.key.clone())
}

/// Reports a key that is not allowed beside another.
fn report_not_allowed<A>(field: &ParsedField<A>, title: &str, help: &str, walk: &mut PlanParser) {
    if let Some(at) = field.present() {
        walk.push(FileProblem::new(title).label(at.key.clone(), "not allowed here").help(help));
    }
}
