//! `[manifest]`: exactly one source, and a filter that the source can answer.

use jiff::Timestamp;

use super::place::{Place, etag};
use super::{Context, bucket, refuse_beside, refuse_pair};
use crate::diagnostics::Problem;
use crate::manifest::{CsvField, Dialect, Filter, InventoryObject, KeyGlobs, Manifest, Narrowing, Source, Versions};
use crate::object::{Key, StorageClass};
use crate::plan::defaults;
use crate::plan::leaf::{Age, KeyGlob, List, OneOf, Text};
use crate::plan::shape::{CsvTable, EarlierReportTable, FilterTable, InventoryTable, ManifestTable, PrefixTable};
use crate::plan::text::nearest;
use crate::plan::walk::{At, Field, Span, Walk};
use crate::store::Provider;

/// The storage classes of AWS S3.
const AWS_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// The storage classes of OSS.
const OSS_CLASSES: &[&str] = &["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"];

pub(super) fn check(at: &At<ManifestTable>, context: &Context<'_>, walk: &mut Walk) -> Option<Manifest> {
    let table = &at.value;
    one_source(at, walk);
    let prefix = table.prefix.value().map(|table| prefix(table, context, walk));
    let csv = table.csv.given().map(|at| csv(at, context, walk));
    let inventory = table.inventory.given().map(|at| inventory(at, context, walk));
    let report = table.report.given().map(|at| report(at, context, walk));
    let filter = filter_table(table, context, walk);
    let source = prefix.or(csv).or(inventory).or(report)??;
    Some(Manifest { source, filter })
}

fn one_source(at: &At<ManifestTable>, walk: &mut Walk) {
    let table = &at.value;
    let absent =
        [table.prefix.is_absent(), table.csv.is_absent(), table.inventory.is_absent(), table.report.is_absent()];
    if absent.iter().all(|absent| *absent) && !walk.is_strange("manifest") {
        walk.push(
            Problem::new("the manifest has no source")
                .label(at.span.clone(), "which objects?")
                .help("add [manifest.prefix], [manifest.csv], [manifest.inventory] or [manifest.report]"),
        );
    }
    let sources = [key_of(&table.prefix), key_of(&table.csv), key_of(&table.inventory), key_of(&table.report)];
    let mut sources: Vec<Span> = sources.into_iter().flatten().collect();
    sources.sort_by_key(|span| span.start);
    if sources.len() > 1 {
        let mut problem = Problem::new("a manifest has exactly one source").help("keep one of them");
        for (index, span) in sources.into_iter().enumerate() {
            problem = problem.label(span, if index == 0 { "a source" } else { "another one" });
        }
        walk.push(problem);
    }
}

fn key_of<T>(field: &Field<T>) -> Option<Span> {
    field.given().map(|at| at.key.clone())
}

fn prefix(table: &PrefixTable, context: &Context<'_>, walk: &mut Walk) -> Option<Source> {
    let bucket = bucket::check(table.bucket.given()?, context, walk)?;
    let prefix = Key::from(table.prefix.value().map_or("", |prefix| prefix.0.as_str()));
    let versions = table.versions.value().map_or(Versions::Current, |versions| versions.0);
    Some(Source::Prefix { bucket, prefix, versions })
}

fn csv(at: &At<CsvTable>, context: &Context<'_>, walk: &mut Walk) -> Option<Source> {
    let CsvTable { bucket, object, etag, path, .. } = &at.value;
    let fields = fields(&at.value.fields, walk);
    let place = Place { table: "[manifest.csv]", noun: "the CSV file", bucket, object, etag, path };
    let place = place.check(&at.span, context, walk)?;
    let plus_is_space = at.value.plus_is_space.value().copied().unwrap_or(false);
    Some(Source::Csv { place, fields, plus_is_space })
}

fn report(at: &At<EarlierReportTable>, context: &Context<'_>, walk: &mut Walk) -> Option<Source> {
    let EarlierReportTable { bucket, object, etag, path, status, code } = &at.value;
    if let Some(at) = object.given() {
        is_a_reports_file(&at.value.0, &at.span, walk);
    }
    if let Some(at) = path.given() {
        is_a_reports_file(&at.value.0, &at.span, walk);
    }
    takes_some(status, "status", walk);
    takes_some(code, "code", walk);
    let place = Place { table: "[manifest.report]", noun: "the report", bucket, object, etag, path };
    let place = place.check(&at.span, context, walk)?;
    let status = status.value().map(|List(statuses)| statuses.iter().filter_map(|at| at.value.0.try_into().ok()));
    let code = code.value().map(|List(codes)| codes.iter().map(|at| at.value.0.clone()));
    let narrowing = Narrowing { status: status.map(Iterator::collect), code: code.map(Iterator::collect) };
    Some(Source::Report { place, narrowing })
}

fn is_a_reports_file(name: &str, span: &Span, walk: &mut Walk) {
    let lower = name.to_ascii_lowercase();
    if [".json", ".csv", ".csv.gz"].iter().any(|ending| lower.ends_with(ending)) {
        return;
    }
    walk.push(
        Problem::new("a report is read by its manifest.json or by one of its CSV files")
            .label(span.clone(), "ends in neither .json nor .csv")
            .help("name the manifest.json of the report: it lists the files"),
    );
}

/// Reports an empty list, which would select nothing.
fn takes_some<T>(field: &Field<List<T>>, name: &str, walk: &mut Walk) {
    let Some(at) = field.given().filter(|at| at.value.0.is_empty()) else { return };
    walk.push(
        Problem::new(format!("`{name}` takes no failed object at all"))
            .label(at.span.clone(), "empty")
            .help("name at least one, or remove it to take all failed objects"),
    );
}

fn fields(field: &Field<List<OneOf<CsvField>>>, walk: &mut Walk) -> Vec<CsvField> {
    let Some(at) = field.given() else { return defaults::CSV_FIELDS.to_vec() };
    let List(columns) = &at.value;
    for (wanted, name, needed) in
        [(CsvField::Bucket, "Bucket", true), (CsvField::Key, "Key", true), (CsvField::VersionId, "VersionId", false)]
    {
        let mut places = columns.iter().filter(|column| column.value.0 == wanted);
        match (places.next(), places.next()) {
            (Some(first), Some(second)) => {
                let title = format!("the column {name} is there twice");
                refuse_pair(first, second, &title, "a column that does not matter is \"Ignore\"", walk);
            }
            (None, _) if needed => walk.push(
                Problem::new(format!("the column {name} is missing"))
                    .label(at.span.clone(), "needs Bucket and Key")
                    .help("name the file's columns in their order, as in [\"Bucket\", \"Key\", \"VersionId\"]"),
            ),
            _ => {}
        }
    }
    columns.iter().map(|column| column.value.0).collect()
}

fn inventory(at: &At<InventoryTable>, context: &Context<'_>, walk: &mut Walk) -> Option<Source> {
    let table = &at.value;
    if table.object.is_absent() && table.latest.is_absent() {
        walk.push(
            Problem::new("[manifest.inventory] does not say which inventory")
                .label(at.span.clone(), "which one?")
                .help("add `object = \".../manifest.json\"`, or `latest = \"prefix/\"` for the newest"),
        );
    }
    let object = inventory_object(table, walk);
    let bucket = bucket::check(table.bucket.given()?, context, walk)?;
    let dialect = if context.is(Provider::Oss) { Dialect::Oss } else { Dialect::Aws };
    Some(Source::Inventory { bucket, object: object?, dialect })
}

fn inventory_object(table: &InventoryTable, walk: &mut Walk) -> Option<InventoryObject> {
    match (table.object.given(), table.latest.given()) {
        (Some(object), Some(latest)) => {
            let help = "keep `object` for this very one, or `latest` for the newest";
            refuse_pair(object, latest, "the inventory is named twice", help, walk);
            None
        }
        (Some(object), None) => {
            let key = object.value.0.as_str();
            if key != "manifest.json" && !key.ends_with("/manifest.json") {
                walk.push(
                    Problem::new("an inventory is read by its manifest.json")
                        .label(object.span.clone(), "does not end in /manifest.json")
                        .help(
                            "name the manifest.json, or use `latest` with the prefix that inventories are written to",
                        ),
                );
            }
            Some(InventoryObject::Exact { key: Key::from(key), etag: etag(&table.etag) })
        }
        (None, Some(latest)) => {
            let help = "remove it: the newest manifest is not known yet";
            refuse_beside(&table.etag, "`latest` cannot be pinned by an ETag", help, walk);
            if latest.value.0.ends_with("manifest.json") {
                walk.push(
                    Problem::new("`latest` is a prefix, not one manifest")
                        .label(latest.span.clone(), "names one file")
                        .help("use `object` for this one, or cut the date and the file's name"),
                );
            }
            Some(InventoryObject::Latest { prefix: Key::from(latest.value.0.as_str()) })
        }
        (None, None) => None,
    }
}

fn filter_table(manifest: &ManifestTable, context: &Context<'_>, walk: &mut Walk) -> Filter {
    let Some(table) = manifest.filter.value() else { return Filter::default() };
    if let Some(csv) = manifest.csv.given() {
        refuse_facts(table, "a CSV manifest", &csv.key, walk);
    }
    if let Some(report) = manifest.report.given() {
        refuse_facts(table, "a completion report", &report.key, walk);
    }
    let modified_before = modified_before(table, context, walk);
    sizes_agree(table, walk);
    Filter {
        include: globs(&table.include, true, walk),
        exclude: globs(&table.exclude, false, walk),
        larger_than: table.larger_than.value().map(|size| size.0),
        smaller_than: table.smaller_than.value().map(|size| size.0),
        modified_after: table.modified_after.value().map(|moment| moment.0),
        modified_before,
        storage_class: classes(&table.storage_class, context, walk),
    }
}

/// Reports filters that need more than keys, for a source that has only keys.
fn refuse_facts(table: &FilterTable, source: &str, key: &Span, walk: &mut Walk) {
    let facts = [
        (key_of(&table.larger_than), "sizes"),
        (key_of(&table.smaller_than), "sizes"),
        (key_of(&table.modified_after), "dates"),
        (key_of(&table.modified_before), "dates"),
        (key_of(&table.older_than), "dates"),
        (key_of(&table.storage_class), "storage classes"),
    ];
    for (span, fact) in facts {
        if let Some(span) = span {
            walk.push(
                Problem::new(format!("{source} knows no {fact}"))
                    .label(span, "cannot be answered")
                    .label(key.clone(), "has keys only")
                    .help("use an inventory or a prefix, or filter by `include` and `exclude`"),
            );
        }
    }
}

fn sizes_agree(table: &FilterTable, walk: &mut Walk) {
    let (Some(larger), Some(smaller)) = (table.larger_than.given(), table.smaller_than.given()) else { return };
    if smaller.value.0 <= larger.value.0.saturating_add(1) {
        refuse_pair(larger, smaller, "no size is both larger and smaller", "swap the values, or drop one", walk);
    }
}

/// Returns `modified_before`, or `older_than` counted back from now, whichever is earlier.
fn modified_before(table: &FilterTable, context: &Context<'_>, walk: &mut Walk) -> Option<Timestamp> {
    let before = table.modified_before.given().map(|at| (at.value.0, at.key.clone()));
    let older = table.older_than.given().and_then(|at| older_than(at, context, walk));
    let bound = before.into_iter().chain(older).min_by_key(|(moment, _)| *moment);
    if let (Some((moment, key)), Some(after)) = (&bound, table.modified_after.given())
        && after.value.0 >= *moment
    {
        let bound = At { key: key.clone(), span: key.clone(), value: () };
        refuse_pair(after, &bound, "no date is both after and before", "swap the values, or drop one", walk);
    }
    bound.map(|(moment, _)| moment)
}

fn older_than(at: &At<Age>, context: &Context<'_>, walk: &mut Walk) -> Option<(Timestamp, Span)> {
    let moment = context.now.checked_sub(at.value.0).ok();
    if moment.is_none() {
        walk.push(
            Problem::new("`older_than` reaches back too far")
                .label(at.span.clone(), "before the beginning of the calendar")
                .help("no object is that old"),
        );
    }
    moment.map(|moment| (moment, at.key.clone()))
}

fn globs(field: &Field<List<KeyGlob>>, required: bool, walk: &mut Walk) -> Option<KeyGlobs> {
    let at = field.given()?;
    let List(globs) = &at.value;
    if globs.is_empty() && required {
        walk.push(
            Problem::new("`include` takes no object at all")
                .label(at.span.clone(), "empty")
                .help("name at least one glob, or remove it to take all objects"),
        );
    }
    let set = KeyGlobs::new(globs.iter().map(|glob| glob.value.0.clone())).ok();
    if set.is_none() {
        walk.push(
            Problem::new("the globs are too large together")
                .label(at.span.clone(), "cannot be compiled")
                .help("use fewer or simpler globs"),
        );
    }
    set.filter(|_| !globs.is_empty())
}

fn classes(field: &Field<List<Text<1, 64>>>, context: &Context<'_>, walk: &mut Walk) -> Option<Vec<StorageClass>> {
    let at = field.given()?;
    let List(classes) = &at.value;
    if classes.is_empty() {
        walk.push(
            Problem::new("`storage_class` takes no object at all")
                .label(at.span.clone(), "empty")
                .help("name at least one class, or remove it to take all objects"),
        );
    }
    let known = match context.provider {
        Some(Provider::Aws) => AWS_CLASSES,
        Some(Provider::Oss) => OSS_CLASSES,
        _ => &[],
    };
    for class in classes {
        let Text(name) = &class.value;
        if known.is_empty() || known.contains(&name.as_str()) {
            continue;
        }
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        // Only a warning: services add storage classes faster than programs learn of them.
        walk.push(
            Problem::new("this storage class is not known")
                .label(class.span.clone(), "probably matches nothing")
                .help(help)
                .warning(),
        );
    }
    Some(classes.iter().map(|class| StorageClass::new(&class.value.0)).collect())
}
