//! What work a plan is: its canonical form, its hash, and the name by which an earlier job of it is found.
//!
//! The form is an ordered list of dotted paths with a text for each value. It covers what decides which objects become
//! what, and what is reported of it: store, manifest, filter, operations and report. It leaves out how the plan is
//! written (comments, order, spelling of sizes and ages), how it is run, where that is kept, and who is told of it: name,
//! description, `[job]`, `[limits]`, `[prices]`, `[state]` and `[[notify]]`.
//!
//! Values are taken as they were checked, so that two ways of writing one thing are one thing. Only what checking loses
//! is taken as it was written: relative paths, which would name another file in another clone, and ages, which would be
//! another instant with each reading. A permission such as `allow_http` or `skip_server_check` changes nothing that is
//! covered, and is not in the form.
//!
//! What holds anyway is left out. So a key that plans gain later changes no hash of a plan that does not use it. The
//! price is that a default must keep its meaning: to change one is to change what unfinished jobs are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::SignedDuration;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::leaf::{Text, name_of};
use super::shape::{FilterTable, PlanFile};
use super::walk::Field;
use super::{Change, Plan, defaults};
use crate::completion::{ReportPlace, ReportSpec};
use crate::hex::hex;
use crate::manifest::{CsvPlace, InventoryObject, Narrowing, Source, Versions};
use crate::object::{Key, RestoreRequest, TagSet, Tier};
use crate::operation::Operation;
use crate::store::StoreConfig;

/// A plan's covered values by their dotted paths, in the order of the paths. Credentials are never among them, as no
/// plan holds any. To compare with a stored plan, read its text again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canonical(BTreeMap<String, String>);

impl Canonical {
    /// From a plan's parts as they were checked, and from the file for what checking loses.
    pub(super) fn new(
        file: &PlanFile,
        store: &StoreConfig,
        source: &Source,
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
        form.put_some("recurring.only_changed", only_changed.then_some("true"));
        form
    }

    /// Each path with its value, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, value)| (path.as_str(), value.as_str()))
    }

    /// The value at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// SHA-256 of the form's text, in lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_string()))
    }

    /// What is different in a newer plan, in the order of the paths.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let paths: BTreeSet<_> = self.0.keys().chain(newer.0.keys()).collect();
        let change = |path: &String| Change {
            path: path.clone(),
            before: self.0.get(path).cloned(),
            after: newer.0.get(path).cloned(),
        };
        paths.into_iter().map(change).filter(|change| change.before != change.after).collect()
    }

    fn put(&mut self, path: &str, value: impl Into<String>) {
        self.0.insert(path.to_owned(), value.into());
    }

    /// A value, unless it is the one that holds anyway.
    fn put_some(&mut self, path: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }

    fn store(&mut self, store: &StoreConfig, file: &PlanFile) {
        // The two paths are resolved in here.
        let StoreConfig { provider, endpoint, region, addressing, role_arn, data: _, fill: _ } = store;
        self.put("store.provider", provider.as_str());
        // Hosts are the same in either case.
        self.put_some("store.endpoint", endpoint.as_ref().map(|url| url.to_ascii_lowercase()));
        self.put_some("store.region", region.as_deref().filter(|name| defaults::region(*provider) != Some(name)));
        self.put_some(
            "store.addressing",
            (*addressing != defaults::addressing(*provider)).then(|| name_of(*addressing)),
        );
        self.put_some("store.role_arn", role_arn.as_deref());
        if let Some(table) = file.store.value() {
            self.put_some("store.data", table.data.value().map(|path| path.0.as_str()));
            self.put_some("store.fill", table.fill.value().map(|path| path.0.as_str()));
        }
    }

    fn source(&mut self, source: &Source, file: &PlanFile) {
        match source {
            Source::Prefix { bucket, prefix, versions } => {
                self.put("manifest.prefix.bucket", bucket.as_str());
                self.put_key("manifest.prefix.prefix", prefix);
                self.put_some("manifest.prefix.versions", (*versions == Versions::All).then_some("all"));
            }
            Source::Csv { place, fields, plus_is_space } => {
                let table = file.manifest.value().and_then(|manifest| manifest.csv.value());
                self.file_place("manifest.csv", place, table.map(|table| &table.path));
                let names = fields.iter().map(|field| name_of(*field).to_owned());
                self.put_some("manifest.csv.fields", (fields[..] != defaults::CSV_FIELDS).then(|| list(names)));
                self.put_some("manifest.csv.plus_is_space", plus_is_space.then_some("true"));
            }
            Source::Report { place, narrowing } => {
                let table = file.manifest.value().and_then(|manifest| manifest.report.value());
                self.file_place("manifest.report", place, table.map(|table| &table.path));
                let Narrowing { status, code } = narrowing;
                self.put_set("manifest.report.status", status.iter().flatten().map(u16::to_string));
                // Compared without regard to case.
                self.put_set("manifest.report.code", code.iter().flatten().map(|code| code.to_ascii_lowercase()));
            }
            // Not said by a plan: it is what the program makes of an earlier job.
            Source::Retry { .. } => {}
            // The dialect follows from the provider.
            Source::Inventory { bucket, object, dialect: _ } => {
                self.put("manifest.inventory.bucket", bucket.as_str());
                match object {
                    InventoryObject::Exact { key, etag } => {
                        self.put_key("manifest.inventory.object", key);
                        self.put_some("manifest.inventory.etag", etag.as_deref().map(str::to_ascii_lowercase));
                    }
                    InventoryObject::Latest { prefix } => self.put_key("manifest.inventory.latest", prefix),
                    // Not said by a plan either.
                    InventoryObject::Changed(_) | InventoryObject::Once { .. } => {}
                }
            }
        }
    }

    /// A file in a bucket, or on this machine by its path as it is written.
    fn file_place(&mut self, table: &str, place: &CsvPlace, path: Option<&Field<Text<1, 4096>>>) {
        match place {
            CsvPlace::Object { bucket, key, etag } => {
                self.put(&format!("{table}.bucket"), bucket.as_str());
                self.put_key(&format!("{table}.object"), key);
                // Compared without regard to case.
                self.put_some(&format!("{table}.etag"), etag.as_deref().map(str::to_ascii_lowercase));
            }
            CsvPlace::Local(_) => {
                let path = path.and_then(Field::value);
                self.put_some(&format!("{table}.path"), path.map(|path| path.0.as_str()));
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
            let globs = globs.value().map(|globs| globs.0.iter().map(|at| at.value.0.glob().to_owned()));
            self.put_set(path, globs.into_iter().flatten());
        }
        let classes = storage_class.value().map(|classes| classes.0.iter().map(|at| at.value.0.clone()));
        self.put_set("manifest.filter.storage_class", classes.into_iter().flatten());
        for (path, size) in
            [("manifest.filter.larger_than", larger_than), ("manifest.filter.smaller_than", smaller_than)]
        {
            self.put_some(path, text(size, |size| size.0.to_string()));
        }
        self.put_some("manifest.filter.modified_after", text(modified_after, |moment| moment.0.to_string()));
        self.put_some("manifest.filter.modified_before", text(modified_before, |moment| moment.0.to_string()));
        self.put_some("manifest.filter.older_than", text(older_than, |length| age(length.0)));
    }

    fn operation(&mut self, operation: &Operation) {
        let path = format!("operation.{}", operation.name());
        match operation {
            Operation::PutTagging(tags) | Operation::AddTagging(tags) => self.tags(&path, tags),
            // A list begins with a bracket, so that it is never taken for all.
            Operation::DeleteTagging(None) => self.put(&format!("{path}.keys"), "all"),
            Operation::DeleteTagging(Some(keys)) => self.put_set(&format!("{path}.keys"), keys.iter().cloned()),
            Operation::PutAcl(acl) => self.put(&format!("{path}.acl"), acl.as_str()),
            Operation::Restore(RestoreRequest { days, tier }) => {
                self.put(&format!("{path}.days"), days.to_string());
                self.put_some(&format!("{path}.tier"), tier.map(Tier::as_str));
            }
        }
    }

    fn tags(&mut self, path: &str, tags: &TagSet) {
        for (key, value) in tags.iter() {
            self.put(&format!("{path}.tags.{}", segment(key)), value);
        }
    }

    fn report(&mut self, report: &ReportSpec, store: &StoreConfig) {
        let ReportSpec { place, scope, format, keep_local } = report;
        if let Some(ReportPlace { bucket, prefix }) = place {
            self.put("report.bucket", bucket.as_str());
            self.put_key("report.prefix", prefix);
        }
        self.put_some("report.scope", (*scope != defaults::scope(place.is_some())).then(|| name_of(*scope)));
        self.put_some("report.format", (*format != defaults::format(Some(store.provider))).then(|| name_of(*format)));
        self.put_some("report.keep_local", (!keep_local).then_some("false"));
    }

    /// A key or a prefix, where it is not empty: an empty prefix is none. A plan's keys are UTF-8.
    fn put_key(&mut self, path: &str, key: &Key) {
        self.put_some(path, Some(String::from_utf8_lossy(key.as_bytes())).filter(|key| !key.is_empty()));
    }

    /// A list whose order and repetitions mean nothing, where it is not empty.
    fn put_set(&mut self, path: &str, items: impl Iterator<Item = String>) {
        let items: BTreeSet<_> = items.collect();
        if !items.is_empty() {
            self.put(path, list(items));
        }
    }
}

/// A line for each value: its path, ` = ` and the value as a JSON string.
impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(path, value)| writeln!(f, "{path} = {}", Json::from(value)))
    }
}

impl Plan {
    /// The text that names the work: the same for every plan that is meant as this one, whatever it says by now.
    ///
    /// It is made of the client request token, where there is one, and else of the store and the plan's name. A JSON
    /// array whose first word says which, so that no name can be taken for a token.
    #[must_use]
    pub fn identity(&self) -> String {
        let words = match &self.job.client_request_token {
            Some(token) => vec!["token", token],
            None => vec!["plan", self.store.provider.as_str(), self.place(), &self.name],
        };
        Json::from(words).to_string()
    }

    /// The text that names the store: plans that work on the same one have the same.
    #[must_use]
    pub fn store_identity(&self) -> String {
        Json::from(vec![self.store.provider.as_str(), self.place()]).to_string()
    }

    /// Where the store is. A region beside an endpoint says how to sign, not where.
    fn place(&self) -> &str {
        let paths = ["store.endpoint", "store.data", "store.region"];
        paths.iter().find_map(|path| self.canonical.get(path)).unwrap_or_default()
    }

    /// SHA-256 of the plan's canonical form, in lower-case hex: equal for two plans that are the same work.
    #[must_use]
    pub fn hash(&self) -> String {
        self.canonical.hash()
    }

    /// What the plan was when it was read, apart from how it was written.
    #[must_use]
    pub fn canonical(&self) -> &Canonical {
        &self.canonical
    }
}

fn text<T>(field: &Field<T>, show: impl FnOnce(&T) -> String) -> Option<String> {
    field.value().map(show)
}

/// A length of time in days, or in hours where it is not whole days: the same length has one text.
fn age(length: SignedDuration) -> String {
    let hours = length.as_hours();
    if hours % 24 == 0 { format!("{}d", hours / 24) } else { format!("{hours}h") }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    Json::from_iter(items).to_string()
}

/// A free key as a part of a path, quoted where TOML would have it so.
fn segment(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Json::from(key).to_string() }
}

#[cfg(test)]
mod tests;
