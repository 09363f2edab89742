//! `[manifest]`: exactly one source, and a filter that the source can answer.

use batchplan_store::object::{ObjectKey, StorageClass};
use globset::Glob;
use jiff::{SignedDuration, Timestamp};

use super::bucket;
use super::context::{PlanCheckContext, key_span, report_conflict, report_not_allowed};
use crate::diagnostics::FileProblem;
use crate::manifest::{
    CsvField, FileLocation, Filter, InventoryDialect, InventorySelector, KeyGlobs, ListedVersions, Manifest,
    ManifestSource, ReportRowFilter,
};
use crate::plan::tables::{
    CsvTable, DEFAULT_CSV_FIELDS, EarlierReportTable, FilterTable, InventoryTable, ManifestTable, PrefixTable,
};
use crate::toml_reader::{DocumentReader, ParsedField, SpannedValue, TextSpan, nearest};

pub(super) fn check(
    at: &SpannedValue<ManifestTable>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<Manifest> {
    let table = &at.value;
    check_one_source(at, reader);
    let prefix = table.prefix.value().map(|table| prefix(table, context, reader));
    let csv = table.csv.present().map(|at| csv(at, context, reader));
    let inventory = table.inventory.present().map(|at| inventory(at, context, reader));
    let report = table.report.present().map(|at| report(at, context, reader));
    let filter = filter_table(table, context, reader);
    let source = prefix.or(csv).or(inventory).or(report)??;
    Some(Manifest { source, filter })
}

fn check_one_source(at: &SpannedValue<ManifestTable>, reader: &mut DocumentReader) {
    let table = &at.value;
    let absent =
        [table.prefix.is_absent(), table.csv.is_absent(), table.inventory.is_absent(), table.report.is_absent()];
    if absent.iter().all(|absent| *absent) && !reader.has_unknown_key("manifest") {
        reader.push(
            FileProblem::new("the manifest has no source")
                .label(at.span.clone(), "which objects?")
                .help("add [manifest.prefix], [manifest.csv], [manifest.inventory] or [manifest.report]"),
        );
    }
    let sources = [key_span(&table.prefix), key_span(&table.csv), key_span(&table.inventory), key_span(&table.report)];
    let mut sources: Vec<TextSpan> = sources.into_iter().flatten().collect();
    sources.sort_by_key(|span| span.start);
    if sources.len() > 1 {
        let mut problem = FileProblem::new("a manifest must have exactly one source").help("keep one of them");
        for (index, span) in sources.into_iter().enumerate() {
            problem = problem.label(span, if index == 0 { "a source" } else { "another source" });
        }
        reader.push(problem);
    }
}

fn prefix(table: &PrefixTable, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> Option<ManifestSource> {
    let bucket = bucket::check(table.bucket.present()?, "prefix", context, reader)?;
    let prefix = ObjectKey::from(table.prefix.value().map_or("", String::as_str));
    let versions = table.versions.value().copied().unwrap_or(ListedVersions::Current);
    let on_unlistable = table.on_unlistable.value().copied().unwrap_or_default();
    Some(ManifestSource::Prefix { bucket, prefix, versions, on_unlistable })
}

fn csv(
    at: &SpannedValue<CsvTable>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<ManifestSource> {
    let CsvTable { bucket, object, etag, path, .. } = &at.value;
    let fields = csv_fields(&at.value.fields, reader);
    let keys = FileLocationKeys { table: "[manifest.csv]", noun: "the CSV file", bucket, object, etag, path };
    let location = keys.check(&at.span, context, reader)?;
    let plus_is_space = at.value.plus_is_space.value().copied().unwrap_or(false);
    Some(ManifestSource::Csv { location, fields, plus_is_space })
}

fn report(
    at: &SpannedValue<EarlierReportTable>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<ManifestSource> {
    let EarlierReportTable { bucket, object, etag, path, status, code } = &at.value;
    if let Some(at) = object.present() {
        check_report_file_name(&at.value, &at.span, reader);
    }
    if let Some(at) = path.present() {
        check_report_file_name(&at.value, &at.span, reader);
    }
    check_not_empty(status, "status", reader);
    check_not_empty(code, "code", reader);
    let keys = FileLocationKeys { table: "[manifest.report]", noun: "the report", bucket, object, etag, path };
    let location = keys.check(&at.span, context, reader)?;
    let status = status.value().map(|statuses| statuses.iter().filter_map(|at| at.value.try_into().ok()));
    let code = code.value().map(|codes| codes.iter().map(|at| at.value.clone()));
    let row_filter = ReportRowFilter { status: status.map(Iterator::collect), code: code.map(Iterator::collect) };
    Some(ManifestSource::Report { location, row_filter })
}

fn check_report_file_name(name: &str, span: &TextSpan, reader: &mut DocumentReader) {
    let lower = name.to_ascii_lowercase();
    if [".json", ".csv", ".csv.gz"].iter().any(|ending| lower.ends_with(ending)) {
        return;
    }
    reader.push(
        FileProblem::new("a report must be a manifest.json or a CSV file")
            .label(span.clone(), "ends in neither .json nor .csv")
            .help("use the report's manifest.json, which lists its files"),
    );
}

/// Reports an empty list, which would select nothing.
fn check_not_empty<T>(field: &ParsedField<Vec<SpannedValue<T>>>, name: &str, reader: &mut DocumentReader) {
    let Some(at) = field.present().filter(|at| at.value.is_empty()) else { return };
    reader.push(
        FileProblem::new(format!("`{name}` selects no objects"))
            .label(at.span.clone(), "empty")
            .help("add at least one value, or remove it to select all failed objects"),
    );
}

fn csv_fields(field: &ParsedField<Vec<SpannedValue<CsvField>>>, reader: &mut DocumentReader) -> Vec<CsvField> {
    let Some(at) = field.present() else { return DEFAULT_CSV_FIELDS.to_vec() };
    let columns = &at.value;
    for (wanted, name, needed) in
        [(CsvField::Bucket, "Bucket", true), (CsvField::Key, "Key", true), (CsvField::VersionId, "VersionId", false)]
    {
        let mut found = columns.iter().filter(|column| column.value == wanted);
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => {
                let title = format!("duplicate column {name}");
                report_conflict(first, second, &title, "use \"Ignore\" for columns to skip", reader);
            }
            (None, _) if needed => reader.push(
                FileProblem::new(format!("the column {name} is missing"))
                    .label(at.span.clone(), "must include Bucket and Key")
                    .help("list the file's columns in order, such as [\"Bucket\", \"Key\", \"VersionId\"]"),
            ),
            _ => {}
        }
    }
    columns.iter().map(|column| column.value).collect()
}

fn inventory(
    at: &SpannedValue<InventoryTable>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<ManifestSource> {
    let table = &at.value;
    if table.object.is_absent() && table.latest.is_absent() {
        reader.push(
            FileProblem::new("[manifest.inventory] has neither `object` nor `latest`")
                .label(at.span.clone(), "which inventory?")
                .help("add `object = \".../manifest.json\"`, or `latest = \"prefix/\"` for the newest"),
        );
    }
    let object = inventory_object(table, reader);
    let bucket = bucket::check_of_inventory(table.bucket.present()?, context, reader)?;
    let dialect = context.rules.map_or(InventoryDialect::Aws, |rules| rules.inventory);
    Some(ManifestSource::Inventory { bucket, selector: object?, dialect })
}

fn inventory_object(table: &InventoryTable, reader: &mut DocumentReader) -> Option<InventorySelector> {
    match (table.object.present(), table.latest.present()) {
        (Some(object), Some(latest)) => {
            let help = "keep `object` for this inventory, or `latest` for the newest";
            report_conflict(object, latest, "`object` and `latest` cannot be combined", help, reader);
            None
        }
        (Some(object), None) => {
            let key = object.value.as_str();
            if key != "manifest.json" && !key.ends_with("/manifest.json") {
                reader.push(
                    FileProblem::new("an inventory's `object` must be its manifest.json")
                        .label(object.span.clone(), "does not end in /manifest.json")
                        .help("use the key of the manifest.json, or set `latest` to the prefix of the inventories"),
                );
            }
            Some(InventorySelector::Exact { key: ObjectKey::from(key), etag: unquoted_etag(&table.etag) })
        }
        (None, Some(latest)) => {
            let help = "remove it: the newest manifest is not known yet";
            report_not_allowed(&table.etag, "`latest` cannot be combined with `etag`", help, reader);
            if latest.value.ends_with("manifest.json") {
                reader.push(
                    FileProblem::new("`latest` must be a prefix, not a manifest")
                        .label(latest.span.clone(), "a single file")
                        .help("use `object` for this file, or remove the date and the file name"),
                );
            }
            Some(InventorySelector::Latest { prefix: ObjectKey::from(latest.value.as_str()) })
        }
        (None, None) => None,
    }
}

fn filter_table(manifest: &ManifestTable, context: &PlanCheckContext<'_>, reader: &mut DocumentReader) -> Filter {
    let Some(table) = manifest.filter.value() else { return Filter::default() };
    if let Some(csv) = manifest.csv.present() {
        report_unsupported_filters(table, "a CSV manifest", &csv.key, reader);
    }
    if let Some(report) = manifest.report.present() {
        report_unsupported_filters(table, "a completion report", &report.key, reader);
    }
    let modified_before = modified_before(table, context, reader);
    check_sizes(table, reader);
    Filter {
        own_reports: None,
        include: globs(&table.include, true, reader),
        exclude: globs(&table.exclude, false, reader),
        larger_than: table.larger_than.value().copied(),
        smaller_than: table.smaller_than.value().copied(),
        modified_after: table.modified_after.value().copied(),
        modified_before,
        storage_class: storage_classes(&table.storage_class, context, reader),
    }
}

/// Reports filters that need more than keys, for a source that has only keys.
fn report_unsupported_filters(table: &FilterTable, source: &str, key: &TextSpan, reader: &mut DocumentReader) {
    let facts = [
        (key_span(&table.larger_than), "sizes"),
        (key_span(&table.smaller_than), "sizes"),
        (key_span(&table.modified_after), "dates"),
        (key_span(&table.modified_before), "dates"),
        (key_span(&table.older_than), "dates"),
        (key_span(&table.storage_class), "storage classes"),
    ];
    for (span, fact) in facts {
        if let Some(span) = span {
            reader.push(
                FileProblem::new(format!("{source} has no {fact}"))
                    .label(span, "cannot be evaluated")
                    .label(key.clone(), "has only keys")
                    .help("use an inventory or a prefix, or filter by `include` and `exclude`"),
            );
        }
    }
}

fn check_sizes(table: &FilterTable, reader: &mut DocumentReader) {
    let (Some(larger), Some(smaller)) = (table.larger_than.present(), table.smaller_than.present()) else { return };
    if smaller.value <= larger.value.saturating_add(1) {
        report_conflict(larger, smaller, "the size filters match no size", "swap the values, or remove one", reader);
    }
}

/// Returns `modified_before`, or `older_than` counted back from now, whichever is earlier.
fn modified_before(
    table: &FilterTable,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<Timestamp> {
    let before = table.modified_before.present().map(|at| (at.value, at.key.clone()));
    let older = table.older_than.present().and_then(|at| older_than(at, context, reader));
    let bound = before.into_iter().chain(older).min_by_key(|(moment, _)| *moment);
    if let (Some((moment, key)), Some(after)) = (&bound, table.modified_after.present())
        && after.value >= *moment
    {
        let bound = SpannedValue { key: key.clone(), span: key.clone(), value: () };
        report_conflict(after, &bound, "the date filters match no date", "swap the values, or remove one", reader);
    }
    bound.map(|(moment, _)| moment)
}

fn older_than(
    at: &SpannedValue<SignedDuration>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<(Timestamp, TextSpan)> {
    let moment = context.now.checked_sub(at.value).ok();
    if moment.is_none() {
        reader.push(
            FileProblem::new("`older_than` is too long")
                .label(at.span.clone(), "before the start of the calendar")
                .help("no object is that old"),
        );
    }
    moment.map(|moment| (moment, at.key.clone()))
}

fn globs(
    field: &ParsedField<Vec<SpannedValue<Glob>>>,
    required: bool,
    reader: &mut DocumentReader,
) -> Option<KeyGlobs> {
    let at = field.present()?;
    let globs = &at.value;
    if globs.is_empty() && required {
        reader.push(
            FileProblem::new("`include` selects no objects")
                .label(at.span.clone(), "empty")
                .help("add at least one glob, or remove it to select all objects"),
        );
    }
    let set = KeyGlobs::new(globs.iter().map(|glob| glob.value.clone())).ok();
    if set.is_none() {
        reader.push(
            FileProblem::new("the globs are too complex")
                .label(at.span.clone(), "cannot be compiled")
                .help("use fewer or simpler globs"),
        );
    }
    set.filter(|_| !globs.is_empty())
}

fn storage_classes(
    field: &ParsedField<Vec<SpannedValue<String>>>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<Vec<StorageClass>> {
    let at = field.present()?;
    let classes = &at.value;
    if classes.is_empty() {
        reader.push(
            FileProblem::new("`storage_class` selects no objects")
                .label(at.span.clone(), "empty")
                .help("add at least one class, or remove it to select all objects"),
        );
    }
    let known = context.rules.map_or(&[][..], |rules| rules.storage_classes);
    for class in classes {
        let name = &class.value;
        if known.is_empty() || known.contains(&name.as_str()) {
            continue;
        }
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known classes: {}", known.join(", ")),
        };
        // Only a warning: services add storage classes faster than programs learn of them.
        reader.push(
            FileProblem::new("unrecognized storage class")
                .label(class.span.clone(), "probably matches nothing")
                .help(help)
                .warning(),
        );
    }
    Some(classes.iter().map(|class| StorageClass::new(&class.value)).collect())
}

/// The keys of a table that locate its file.
struct FileLocationKeys<'a> {
    /// The table as written, for messages.
    table: &'static str,
    /// What messages call the file.
    noun: &'static str,
    bucket: &'a ParsedField<String>,
    object: &'a ParsedField<String>,
    etag: &'a ParsedField<String>,
    path: &'a ParsedField<String>,
}

impl FileLocationKeys<'_> {
    /// Checks that the keys name one file, in one way.
    fn check(
        &self,
        header: &TextSpan,
        context: &PlanCheckContext<'_>,
        reader: &mut DocumentReader,
    ) -> Option<FileLocation> {
        if self.path.is_absent() {
            self.report_incomplete_object(header, reader);
        }
        let Some(path) = self.path.present() else {
            let bucket = bucket::check(self.bucket.present()?, "object", context, reader)?;
            let key = ObjectKey::from(self.object.value()?.as_str());
            return Some(FileLocation::Object { bucket, key, etag: unquoted_etag(self.etag) });
        };
        let title = format!("{} has two locations", self.noun);
        if let Some(elsewhere) = self.bucket.present() {
            report_conflict(path, elsewhere, &title, "keep either `path`, or `bucket` and `object`", reader);
        } else if let Some(elsewhere) = self.object.present() {
            report_conflict(path, elsewhere, &title, "keep either `path`, or `bucket` and `object`", reader);
        }
        report_not_allowed(
            self.etag,
            "a local file has no ETag",
            "remove it: local files are pinned by their content",
            reader,
        );
        Some(FileLocation::Local(context.resolve_file(path, reader)))
    }

    fn report_incomplete_object(&self, header: &TextSpan, reader: &mut DocumentReader) {
        match (self.bucket.is_absent(), self.object.is_absent()) {
            (true, true) => reader.push(
                FileProblem::new(format!("the location of {} is missing in {}", self.noun, self.table))
                    .label(header.clone(), "which file?")
                    .help("add `bucket` and `object`, or `path` for a file on this machine"),
            ),
            (true, false) => self.report_missing("bucket", self.object.present(), reader),
            (false, true) => self.report_missing("object", self.bucket.present(), reader),
            (false, false) => {}
        }
    }

    /// Reports that one of `bucket` and `object` is missing beside the other.
    fn report_missing<T>(&self, name: &str, other: Option<&SpannedValue<T>>, reader: &mut DocumentReader) {
        let problem =
            FileProblem::new(format!("`{name}` is missing in {}", self.table)).help(format!("add `{name} = \"...\"`"));
        reader.push(match other {
            Some(other) => problem.label(other.key.clone(), format!("requires `{name}`")),
            None => problem,
        });
    }
}

/// Returns an `ETag` without the quotes that are often copied with it.
fn unquoted_etag(field: &ParsedField<String>) -> Option<String> {
    field.value().map(|etag| etag.trim_matches('"').to_owned())
}
