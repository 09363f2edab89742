//! Reads a plan file and checks it: the rules between keys, and the rules of each provider. Returns a checked plan, or
//! all problems in the file.
//!
//! The tables of settings, such as `[limits]`, `[report]` and `[[notify]]`, are checked here, those of the store, the
//! manifest and the operations in `store`, `manifest` and `operation`, names of buckets in `bucket`. `context` has what all
//! checks share.

mod bucket;
mod context;
mod manifest;
mod operation;
mod store;

use std::path::Path;

use batchplan_store::object::ObjectKey;
use batchplan_store::web::{HttpUrl, HttpUrlError};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::model::{CanonicalForm, Plan};
use super::settings::{
    JobLimits, JobSettings, MAX_WEBHOOKS, PriceSettings, RecurringSettings, UndoSettings, WebhookConfig, WebhookEvent,
    WebhookTarget,
};
use super::tables::{PlanTable, ReportTable, WebhookTable, default_report_scope};
use super::url::StateUrl;
use crate::diagnostics::{FileProblem, FileProblems};
use crate::manifest::{ManifestSource, OwnReports};
use crate::provider::ProviderRules;
use crate::report_format::{ReportFormat, ReportLocation, ReportSpec};
use crate::toml_reader::{
    DocumentReader, DocumentType, DocumentValue as _, MAX_DOCUMENT_BYTES, ParsedField, SpannedValue,
};
use context::{PlanCheckContext, report_conflict};

/// The maximum size of a plan file, in bytes. Plans are written by hand; lists of objects belong in a manifest.
pub const MAX_PLAN_BYTES: usize = MAX_DOCUMENT_BYTES;

const PLAN_FILE: DocumentType = DocumentType {
    name: "plan",
    too_large: "the plan file is too large",
    too_large_help: "put a list of objects into a manifest",
};

/// Returns the JSON Schema of plan files, for editors. It is generated from the same definitions as the parser.
#[must_use]
pub fn schema() -> Json {
    let mut schema = PlanTable::schema();
    // TOML plug-ins of editors support draft 7 best.
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("batchplan plan");
    schema
}

/// Returns whether a file may be meant as a plan: it has at least one of the tables that every plan needs.
#[must_use]
pub fn may_be_plan(bytes: &[u8]) -> bool {
    DocumentType::has_any_table(bytes, &["store", "manifest", "operation"])
}

/// Reads a plan file from bytes. Like [`read`], but also reports a file that is not UTF-8.
#[must_use]
pub fn read_bytes(name: &str, bytes: &[u8], folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    match PLAN_FILE.decode(name, bytes) {
        Ok(text) => read(name, text, folder, now),
        Err(problems) => (None, problems),
    }
}

/// Reads a plan file and reports all problems in it.
///
/// Relative paths are resolved against `folder`, and ages are counted back from `now`. There is a plan exactly if no
/// problem is an error; there may be warnings beside it. Only a TOML syntax error hides other problems. Text that looks
/// like a credential is masked in every excerpt.
#[must_use]
pub fn read(name: &str, text: &str, folder: &Path, now: Timestamp) -> (Option<Plan>, FileProblems) {
    PLAN_FILE.read(name, text, |file: &PlanTable, reader| check(file, folder, now, reader))
}

/// Checks a parsed plan and reports all problems. If none of them is an error, returns a plan.
fn check(file: &PlanTable, folder: &Path, now: Timestamp, reader: &mut DocumentReader) -> Option<Plan> {
    let provider = file.store.value().and_then(|store| store.provider.value()).copied();
    let region = file.store.value().and_then(|store| store.region.value()).map(String::as_str);
    let context = PlanCheckContext { rules: provider.map(ProviderRules::of), region, folder, now };
    let store = file.store.value().map(|table| store::check(table, &context, reader));
    let manifest = file.manifest.present().map(|table| manifest::check(table, &context, reader));
    let filter = file.manifest.value().and_then(|manifest| manifest.filter.value());
    let classes = filter.and_then(|filter| filter.storage_class.value()).map(Vec::as_slice);
    let operations = file.operation.present().map(|table| operation::check(table, classes, &context, reader));
    let report = report(&file.report, &context, reader);
    let limits = limits(file, reader);
    let prices = prices(file, &context, reader);
    let state = state(file, reader);
    let notify = webhooks(&file.notify, reader);
    let recurring = recurring(file, reader);
    let undo = undo(file);
    let (store, mut manifest, operations) = (store??, manifest??, operations?);
    manifest.filter.own_reports = own_reports(&manifest.source, &report);
    let canonical = CanonicalForm::new(file, &store, &manifest.source, &operations, &report);
    Some(Plan {
        name: file.name.value()?.clone(),
        description: file.description.value().cloned(),
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
        undo,
        undo_mode: None,
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
        priority: job.priority.value().copied().unwrap_or(default.priority),
        confirmation_required: job.confirmation_required.value().copied().unwrap_or(default.confirmation_required),
        client_request_token: job.client_request_token.value().cloned(),
        skip_unchanged: job.skip_unchanged.value().copied().unwrap_or(default.skip_unchanged),
    }
}

fn limits(file: &PlanTable, reader: &mut DocumentReader) -> JobLimits {
    let default = JobLimits::default();
    let Some(limits) = file.limits.value() else { return default };
    if let Some(none) = limits.max_disk.present().filter(|at| at.value == 0) {
        reader.push(
            FileProblem::new("`max_disk` must be greater than 0")
                .label(none.span.clone(), "too small for any manifest")
                .help("set a size such as \"20 GiB\", or remove it for no limit"),
        );
    }
    JobLimits {
        concurrency: limits.concurrency.value().copied().unwrap_or(default.concurrency),
        max_concurrency: limits.concurrency.value().copied().unwrap_or(default.max_concurrency),
        requests_per_second: limits.requests_per_second.value().copied(),
        failure_threshold: limits.failure_threshold.value().copied().unwrap_or(default.failure_threshold),
        max_disk: limits.max_disk.value().copied(),
        max_objects: limits.max_objects.value().copied(),
        max_cost: limits.max_cost.value().copied(),
    }
}

fn prices(file: &PlanTable, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> PriceSettings {
    let Some(prices) = file.prices.value() else { return PriceSettings::default() };
    PriceSettings {
        book: prices.book.value().cloned(),
        file: prices.file.present().map(|at| context.resolve_file(at, reader)),
    }
}

fn state(file: &PlanTable, reader: &mut DocumentReader) -> Option<StateUrl> {
    let url = file.state.value()?.url.present()?;
    match StateUrl::parse(&url.value) {
        Ok(state) => Some(state),
        Err(refused) => {
            if url.value.contains('@') {
                reader.hide(url.span.clone());
            }
            reader.push(
                FileProblem::new("invalid state URL").label(url.span.clone(), refused.message).help(refused.help),
            );
            None
        }
    }
}

/// Checks the report. Without a `[report]` table nothing is published, and the job's own copy lists the failures.
fn report(field: &ParsedField<ReportTable>, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> ReportSpec {
    let Some(at) = field.present() else {
        return ReportSpec {
            location: None,
            scope: default_report_scope(false),
            format: default_report_format(context.rules),
            keep_local: true,
        };
    };
    let table = &at.value;
    let enabled = table.enabled.value().copied().unwrap_or(true);
    if enabled && table.bucket.is_absent() {
        reader.push(
            FileProblem::new("`bucket` is missing in [report]")
                .label(at.span.clone(), "needed to publish a report")
                .help("add `bucket = \"...\"`, or `enabled = false`"),
        );
    }
    check_report_is_saved(table, enabled, reader);
    let bucket = table.bucket.present().and_then(|at| bucket::check(at, "prefix", context, reader));
    let prefix = ObjectKey::from(table.prefix.value().map_or("", String::as_str));
    ReportSpec {
        location: bucket.filter(|_| enabled).map(|bucket| ReportLocation { bucket, prefix }),
        scope: table.scope.value().copied().unwrap_or(default_report_scope(enabled)),
        format: table.format.value().copied().unwrap_or(default_report_format(context.rules)),
        keep_local: table.keep_local.value().copied().unwrap_or(true),
    }
}

/// Returns which of the objects that the manifest lists are the plan's own reports. A plan that recurs, or that is applied
/// again, must not process what it has published itself.
fn own_reports(source: &ManifestSource, report: &ReportSpec) -> Option<OwnReports> {
    let (ManifestSource::Prefix { bucket, prefix, .. }, Some(location)) = (source, &report.location) else {
        return None;
    };
    OwnReports::in_listing((bucket, prefix), location, report.format)
}

/// Returns the format of the provider's own service. Elsewhere the OSS format, which has more detail about a failure.
fn default_report_format(rules: Option<&ProviderRules>) -> ReportFormat {
    rules.map_or(ReportFormat::Oss, |rules| rules.report_format)
}

/// Reports a report that is neither published nor kept with the job. A missing bucket is already reported.
fn check_report_is_saved(table: &ReportTable, enabled: bool, reader: &mut DocumentReader) {
    let Some(keep_local) = table.keep_local.present().filter(|at| !at.value) else { return };
    if let (false, Some(switch)) = (enabled, table.enabled.present()) {
        reader.push(
            FileProblem::new("the report would not be saved anywhere")
                .label(keep_local.key.clone(), "not kept")
                .label(switch.key.clone(), "not published")
                .help("remove `keep_local`, or publish the report with `enabled = true` and a `bucket`"),
        );
    }
}

/// Checks `[recurring]`. Returns `None` if the plan does not recur.
fn recurring(file: &PlanTable, reader: &mut DocumentReader) -> Option<RecurringSettings> {
    let at = file.recurring.present()?;
    let manifest = file.manifest.value();
    let inventory = manifest.and_then(|manifest| manifest.inventory.value());
    if manifest.is_some() && inventory.is_none_or(|inventory| inventory.latest.is_absent()) {
        let mut problem = FileProblem::new("[recurring] requires the newest inventory as its manifest")
            .label(at.key.clone(), "requires `latest`")
            .help("use [manifest.inventory] with `latest = \"prefix/\"`, or remove [recurring]");
        if let Some(object) = inventory.and_then(|inventory| inventory.object.present()) {
            problem = problem.label(object.key.clone(), "always the same inventory");
        }
        reader.push(problem);
    }
    if let Some(token) = file.job.value().and_then(|job| job.client_request_token.present()) {
        reader.push(
            FileProblem::new("`client_request_token` cannot be combined with [recurring]")
                .label(token.key.clone(), "identifies one job")
                .label(at.key.clone(), "creates many jobs")
                .help("remove `client_request_token`: a recurring plan already creates one job per inventory"),
        );
    }
    Some(RecurringSettings { only_changed: at.value.only_changed.value().copied().unwrap_or_default() })
}

fn undo(file: &PlanTable) -> UndoSettings {
    let Some(undo) = file.undo.value() else { return UndoSettings::default() };
    UndoSettings {
        capture: undo.capture.value().copied().unwrap_or(UndoSettings::default().capture),
        keep: undo.keep.value().copied(),
    }
}

fn webhooks(field: &ParsedField<Vec<SpannedValue<WebhookTable>>>, reader: &mut DocumentReader) -> Vec<WebhookConfig> {
    let Some(hooks) = field.value() else { return Vec::new() };
    if let Some(more) = hooks.get(MAX_WEBHOOKS) {
        reader.push(
            FileProblem::new(format!("too many webhooks: {}", hooks.len()))
                .label(more.span.clone(), format!("more than {MAX_WEBHOOKS}"))
                .help("use one receiver that forwards messages to the others"),
        );
    }
    hooks.iter().filter_map(|at| webhook(at, reader)).collect()
}

fn webhook(at: &SpannedValue<WebhookTable>, reader: &mut DocumentReader) -> Option<WebhookConfig> {
    let table = &at.value;
    let allow_http = table.allow_http.value().copied().unwrap_or(false);
    let secret_env = table.secret_env.present().and_then(|at| variable_name(at, "secret_env", reader));
    let mut on = Vec::new();
    for event in
        table.on.value().map_or(WebhookEvent::DEFAULTS.to_vec(), |list| list.iter().map(|at| at.value).collect())
    {
        if !on.contains(&event) {
            on.push(event);
        }
    }
    if let Some(list) = table.on.present()
        && on.is_empty()
        && table.failure_rate.is_absent()
        && table.run_time.is_absent()
    {
        reader.push(
            FileProblem::new("this webhook is never notified")
                .label(list.span.clone(), "no statuses")
                .help("add statuses to `on`, or set `failure_rate` or `run_time`"),
        );
    }
    let target = webhook_target(at, allow_http, reader)?;
    Some(WebhookConfig {
        target,
        secret_env,
        allow_http,
        events: on,
        failure_rate: table.failure_rate.value().copied(),
        run_time: table.run_time.value().copied(),
    })
}

fn webhook_target(
    at: &SpannedValue<WebhookTable>,
    allow_http: bool,
    reader: &mut DocumentReader,
) -> Option<WebhookTarget> {
    let table = &at.value;
    if let (Some(url), Some(variable)) = (table.url.present(), table.url_env.present()) {
        report_conflict(
            url,
            variable,
            "`url` and `url_env` cannot be combined",
            "keep `url_env` if the URL is a secret",
            reader,
        );
        return None;
    }
    if let Some(name) = table.url_env.present() {
        return variable_name(name, "url_env", reader).map(WebhookTarget::Variable);
    }
    if table.url.is_absent() && table.url_env.is_absent() {
        let example =
            "add `url = \"https://...\"`, or `url_env` with the name of an environment variable that holds it";
        reader.push(
            FileProblem::new("this webhook has no URL")
                .label(at.span.clone(), "`url` or `url_env` is missing")
                .help(example),
        );
    }
    webhook_url(table.url.present()?, allow_http, reader).map(WebhookTarget::Url)
}

fn webhook_url(at: &SpannedValue<String>, allow_http: bool, reader: &mut DocumentReader) -> Option<HttpUrl> {
    match HttpUrl::parse(&at.value) {
        Ok(url) => {
            if !url.is_encrypted() && !url.is_loopback() && !allow_http {
                reader.push(
                    FileProblem::new("the webhook URL is not encrypted")
                        .label(at.span.clone(), "plain http to another machine")
                        .help("use https, or set `allow_http = true` to send messages unencrypted"),
                );
            }
            Some(url)
        }
        Err(HttpUrlError::Credentials) => {
            reader.hide(at.span.clone());
            reader.push(
                FileProblem::new("credentials are not allowed in a plan")
                    .label(at.span.clone(), HttpUrlError::Credentials.to_string())
                    .help(
                        "move the URL to an environment variable, set `url_env`, and treat the credentials as leaked",
                    ),
            );
            None
        }
        Err(fault) => {
            reader.push(FileProblem::new("invalid webhook URL").label(at.span.clone(), fault.to_string()).help(
                "use a URL such as https://hooks.example.com/batchplan, with special characters \
                           percent-encoded",
            ));
            None
        }
    }
}

/// Returns the name of an environment variable. An invalid name may be the secret itself, and is not shown.
fn variable_name(at: &SpannedValue<String>, key: &str, reader: &mut DocumentReader) -> Option<String> {
    let name = &at.value;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(name.clone());
    }
    reader.hide(at.span.clone());
    reader.push(
        FileProblem::new(format!("`{key}` must be the name of an environment variable"))
            .label(at.span.clone(), "not a name")
            .help(format!(
                "use letters, digits and _, as in {key} = \"BATCHPLAN_HOOK\"; set the variable where batchplan runs"
            )),
    );
    None
}
