//! The checked plan, and its canonical form, which identifies its work: it has a hash, finds an earlier job of the same
//! work, and shows what differs between two plans.
//!
//! The form is an ordered list of dotted paths with a text for each value. It covers everything that decides which
//! objects are changed, how, and what is reported: store, manifest, filter, operations, report and
//! `recurring.only_changed`. It leaves out how the plan is written (comments, order, spelling of sizes and ages), how
//! the job runs, where its state is kept and who is notified: name, description, `[job]`, `[limits]`, `[prices]`,
//! `[state]` and `[[notify]]`.
//!
//! Values are taken after the checks, so that two spellings of one value are equal. Only what the checks lose is taken
//! as written: relative paths, which would name another file in another clone, and ages, which would be another instant
//! at each reading. A permission such as `allow_http` or `skip_server_check` changes nothing that is covered, and is
//! not in the form.
//!
//! Defaults are left out. A key that plans gain later therefore does not change the hash of a plan that does not use
//! it. In return, a default must keep its meaning: changing one changes the hash of the plans of unfinished jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use batchplan_store::StoreConfig;
use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use jiff::SignedDuration;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::settings::{JobLimits, JobSettings, PriceSettings, RecurringSettings, UndoSettings, WebhookConfig};
use super::tables::{DEFAULT_CSV_FIELDS, FilterTable, PlanTable, default_report_scope};
use super::url::StateUrl;
use crate::diagnostics::escape_line;
use crate::manifest::{
    FileLocation, InventorySelector, ListedVersions, Manifest, ManifestSource, OnUnlistable, ReportRowFilter,
};
use crate::operation::{FieldValue, ObjectAspect, Operation, OperationSet, UndoMode};
use crate::provider::ProviderRules;
use crate::report_format::{ReportLocation, ReportSpec};
use crate::toml_reader::{ParsedField, name_of, quote_for_message};

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
    /// Where the plan's jobs are kept, unless the command line names another location.
    pub state: Option<StateUrl>,
    /// The webhooks to notify of job events.
    pub notify: Vec<WebhookConfig>,
    /// How the plan recurs; `None` if it does not.
    pub recurring: Option<RecurringSettings>,
    /// What the job keeps so that it can be undone.
    pub undo: UndoSettings,
    /// How to undo the operations, instead of applying them. No plan file can say this: the command `undo` does.
    pub undo_mode: Option<UndoMode>,
    pub(super) canonical: CanonicalForm,
}

impl Plan {
    /// Returns the operations, composed as a job runs them.
    #[must_use]
    pub fn operations(&self) -> OperationSet {
        OperationSet::new(self.operations.clone())
            .with_skip_unchanged(self.job.skip_unchanged)
            .with_capture(self.undo.capture)
            .undone(self.undo_mode)
    }

    /// Returns the plan that undoes what this plan changed. A restore cannot be undone, and is left out.
    #[must_use]
    pub fn undone(mut self, mode: UndoMode) -> Self {
        self.operations.retain(|operation| operation.aspect() != ObjectAspect::Restoration);
        self.undo_mode = Some(mode);
        self
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
        if let Some(endpoint) = self.store.environment_endpoint() {
            return &endpoint.url;
        }
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

/// Texts longer than this, in characters, are shown from the first difference on.
const MAX_FULL_CHARS: usize = 60;

/// The number of characters shown before the first difference, for context.
const CONTEXT_CHARS: usize = 20;

/// The covered values of a plan by their dotted paths, sorted by path. It never holds credentials, because no plan
/// holds any. To compare with a stored plan, parse the text of that plan again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanonicalForm(BTreeMap<String, String>);

impl CanonicalForm {
    /// Builds the form from the checked parts of a plan, and from the file for what the checks lose.
    pub(super) fn new(
        file: &PlanTable,
        store: &StoreConfig,
        source: &ManifestSource,
        operations: &[Operation],
        report: &ReportSpec,
    ) -> Self {
        let mut form = Self::default();
        form.store(store, file);
        form.source(source, file);
        if let Some(filter) = file.manifest.value().and_then(|manifest| manifest.filter.value()) {
            form.filter(filter);
        }
        for operation in operations {
            form.operation(operation);
        }
        form.report(report, store);
        let recurring = file.recurring.value();
        let only_changed = recurring.and_then(|recurring| recurring.only_changed.value()).is_some_and(|it| *it);
        form.set_if_some("recurring.only_changed", only_changed.then_some("true"));
        form
    }

    /// Returns each path with its value, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, value)| (path.as_str(), value.as_str()))
    }

    /// Returns the value at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Returns the SHA-256 of the form's text, in lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_string()))
    }

    /// Returns the values that differ in a newer plan, sorted by path.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<PlanChange> {
        let paths: BTreeSet<_> = self.0.keys().chain(newer.0.keys()).collect();
        let change = |path: &String| PlanChange {
            path: path.clone(),
            before: self.0.get(path).cloned(),
            after: newer.0.get(path).cloned(),
        };
        paths.into_iter().map(change).filter(|change| change.before != change.after).collect()
    }

    fn set(&mut self, path: &str, value: impl Into<String>) {
        self.0.insert(path.to_owned(), value.into());
    }

    /// Sets a value, unless it is the default (`None`).
    fn set_if_some(&mut self, path: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.set(path, value);
        }
    }

    fn store(&mut self, store: &StoreConfig, file: &PlanTable) {
        // `data` and `fill` are resolved paths here.
        let StoreConfig {
            provider,
            endpoint,
            region,
            addressing,
            role_arn,
            requester_pays,
            data: _,
            fill: _,
            allow_http: _,
            aws_endpoints: _,
        } = store;
        self.set("store.provider", provider.as_str());
        // Host names are case-insensitive.
        self.set_if_some("store.endpoint", endpoint.as_ref().map(|url| url.to_ascii_lowercase()));
        self.set_if_some(
            "store.region",
            region.as_deref().filter(|name| provider.profile().region.default_region() != Some(name)),
        );
        self.set_if_some(
            "store.addressing",
            (*addressing != provider.profile().addressing).then(|| name_of(*addressing)),
        );
        self.set_if_some("store.role_arn", role_arn.as_deref());
        self.set_if_some("store.requester_pays", requester_pays.then_some("true"));
        if let Some(table) = file.store.value() {
            self.set_if_some("store.data", table.data.value().map(String::as_str));
            self.set_if_some("store.fill", table.fill.value().map(String::as_str));
        }
    }

    fn source(&mut self, source: &ManifestSource, file: &PlanTable) {
        match source {
            ManifestSource::Prefix { bucket, prefix, versions, on_unlistable } => {
                self.set("manifest.prefix.bucket", bucket.as_str());
                self.set_key("manifest.prefix.prefix", prefix);
                self.set_if_some("manifest.prefix.versions", (*versions == ListedVersions::All).then_some("all"));
                let reports = *on_unlistable == OnUnlistable::Report;
                self.set_if_some("manifest.prefix.on_unlistable", reports.then_some("report"));
            }
            ManifestSource::Csv { location, fields, plus_is_space } => {
                let table = file.manifest.value().and_then(|manifest| manifest.csv.value());
                self.file_location("manifest.csv", location, table.map(|table| &table.path));
                let names = fields.iter().map(|field| name_of(*field).to_owned());
                self.set_if_some("manifest.csv.fields", (fields[..] != DEFAULT_CSV_FIELDS).then(|| json_list(names)));
                self.set_if_some("manifest.csv.plus_is_space", plus_is_space.then_some("true"));
            }
            ManifestSource::Report { location, row_filter } => {
                let table = file.manifest.value().and_then(|manifest| manifest.report.value());
                self.file_location("manifest.report", location, table.map(|table| &table.path));
                let ReportRowFilter { status, code } = row_filter;
                self.set_unordered_list("manifest.report.status", status.iter().flatten().map(u16::to_string));
                // Error codes are compared without regard to case.
                self.set_unordered_list(
                    "manifest.report.code",
                    code.iter().flatten().map(|code| code.to_ascii_lowercase()),
                );
            }
            // No plan can name these sources: the program makes them from an earlier job.
            ManifestSource::Retry { .. } | ManifestSource::Succeeded { .. } | ManifestSource::Undo(_) => {}
            // The dialect follows from the provider.
            ManifestSource::Inventory { bucket, selector, dialect: _ } => {
                self.set("manifest.inventory.bucket", bucket.as_str());
                match selector {
                    InventorySelector::Exact { key, etag } => {
                        self.set_key("manifest.inventory.object", key);
                        self.set_if_some("manifest.inventory.etag", etag.as_deref().map(str::to_ascii_lowercase));
                    }
                    InventorySelector::Latest { prefix } => self.set_key("manifest.inventory.latest", prefix),
                    // No plan can name these either.
                    InventorySelector::Changed(_) | InventorySelector::Distinct { .. } => {}
                }
            }
        }
    }

    /// Adds a file in a bucket, or a local file by its path as written.
    fn file_location(&mut self, table: &str, location: &FileLocation, path: Option<&ParsedField<String>>) {
        match location {
            FileLocation::Object { bucket, key, etag } => {
                self.set(&format!("{table}.bucket"), bucket.as_str());
                self.set_key(&format!("{table}.object"), key);
                // ETags are compared without regard to case.
                self.set_if_some(&format!("{table}.etag"), etag.as_deref().map(str::to_ascii_lowercase));
            }
            FileLocation::Local(_) => {
                let path = path.and_then(ParsedField::value);
                self.set_if_some(&format!("{table}.path"), path.map(String::as_str));
            }
        }
    }

    fn filter(&mut self, filter: &FilterTable) {
        let FilterTable {
            include,
            exclude,
            larger_than,
            smaller_than,
            modified_after,
            modified_before,
            older_than,
            storage_class,
        } = filter;
        for (path, globs) in [("manifest.filter.include", include), ("manifest.filter.exclude", exclude)] {
            let globs = globs.value().map(|globs| globs.iter().map(|at| at.value.glob().to_owned()));
            self.set_unordered_list(path, globs.into_iter().flatten());
        }
        let classes = storage_class.value().map(|classes| classes.iter().map(|at| at.value.clone()));
        self.set_unordered_list("manifest.filter.storage_class", classes.into_iter().flatten());
        for (path, size) in
            [("manifest.filter.larger_than", larger_than), ("manifest.filter.smaller_than", smaller_than)]
        {
            self.set_if_some(path, format_value(size, ToString::to_string));
        }
        self.set_if_some("manifest.filter.modified_after", format_value(modified_after, ToString::to_string));
        self.set_if_some("manifest.filter.modified_before", format_value(modified_before, ToString::to_string));
        self.set_if_some("manifest.filter.older_than", format_value(older_than, |length| format_age(*length)));
    }

    fn operation(&mut self, operation: &Operation) {
        for (field, value) in operation.details().settings {
            let path = format!("operation.{}.{}", operation.name(), field.key);
            match value {
                FieldValue::Tags(tags) => {
                    for (key, value) in tags.iter() {
                        self.set(&format!("{path}.{}", path_segment(key)), value);
                    }
                }
                // A list begins with a bracket, so it cannot be mistaken for `all`.
                FieldValue::TagKeys(None) => self.set(&path, "all"),
                FieldValue::TagKeys(Some(keys)) => self.set_unordered_list(&path, keys.into_iter()),
                FieldValue::Text(text) => self.set(&path, text),
                FieldValue::Number(number) => self.set(&path, number.to_string()),
            }
        }
    }

    fn report(&mut self, report: &ReportSpec, store: &StoreConfig) {
        let ReportSpec { location, scope, format, keep_local } = report;
        if let Some(ReportLocation { bucket, prefix }) = location {
            self.set("report.bucket", bucket.as_str());
            self.set_key("report.prefix", prefix);
        }
        self.set_if_some("report.scope", (*scope != default_report_scope(location.is_some())).then(|| name_of(*scope)));
        self.set_if_some(
            "report.format",
            (*format != ProviderRules::of(store.provider).report_format).then(|| name_of(*format)),
        );
        self.set_if_some("report.keep_local", (!keep_local).then_some("false"));
    }

    /// Adds a key or a prefix, unless it is empty: an empty prefix is none. Keys in plans are UTF-8.
    fn set_key(&mut self, path: &str, key: &ObjectKey) {
        self.set_if_some(path, Some(String::from_utf8_lossy(key.as_bytes())).filter(|key| !key.is_empty()));
    }

    /// Adds a list whose order and repetitions mean nothing, unless it is empty.
    fn set_unordered_list(&mut self, path: &str, items: impl Iterator<Item = String>) {
        let items: BTreeSet<_> = items.collect();
        if !items.is_empty() {
            self.set(path, json_list(items));
        }
    }
}

/// One line for each value: its path, ` = ` and the value as a JSON string.
impl fmt::Display for CanonicalForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(path, value)| writeln!(f, "{path} = {}", Json::from(value)))
    }
}

fn format_value<T>(field: &ParsedField<T>, show: impl FnOnce(&T) -> String) -> Option<String> {
    field.value().map(show)
}

/// Returns a length of time in days, or in hours if it is not whole days. Equal lengths have equal texts.
fn format_age(length: SignedDuration) -> String {
    let hours = length.as_hours();
    if hours % 24 == 0 { format!("{}d", hours / 24) } else { format!("{hours}h") }
}

fn json_list(items: impl IntoIterator<Item = String>) -> String {
    Json::from_iter(items).to_string()
}

/// Returns an arbitrary key as a part of a path, quoted as in TOML.
fn path_segment(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Json::from(key).to_string() }
}

/// One value that differs between two plans. `Display` escapes control characters and shortens long values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    /// The dotted path of the value, such as `operation.put_object_tagging.tags.Team`.
    pub path: String,
    /// The full old value; `None` if the older plan did not set it, or set it to the default.
    pub before: Option<String>,
    /// The full new value; `None` if the newer plan does not set it, or sets it to the default.
    pub after: Option<String>,
}

impl fmt::Display for PlanChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", escape_line(&self.path))?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                let skipped = shared_prefix_to_skip(before, after);
                write!(f, "`{}` is now `{}`", excerpt_from(before, skipped), excerpt_from(after, skipped))
            }
            (None, Some(after)) => write!(f, "was not set, is now `{}`", quote_for_message(after)),
            (Some(before), None) => write!(f, "was `{}`, is not set now", quote_for_message(before)),
            (None, None) => f.write_str("is not set"),
        }
    }
}

/// Returns the number of leading characters that both texts share and that need not be shown.
fn shared_prefix_to_skip(one: &str, other: &str) -> usize {
    if one.chars().count().max(other.chars().count()) <= MAX_FULL_CHARS {
        return 0;
    }
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    same.saturating_sub(CONTEXT_CHARS)
}

fn excerpt_from(text: &str, skipped: usize) -> String {
    let rest: String = text.chars().skip(skipped).collect();
    format!("{}{}", if skipped > 0 { "…" } else { "" }, quote_for_message(&rest))
}

#[cfg(test)]
mod tests;
