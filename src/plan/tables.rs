//! The tables of a plan file, as they are written. All keys are defined here, and only here.
//!
//! A table is one [`table!`] definition. It is the struct, its parser, its known keys and its part of the JSON Schema
//! at once, so that they cannot disagree. The types of values that only plans have follow the tables; each defines its
//! parser and its JSON Schema.

use std::time::Duration;

use batchplan_store::object::{MAX_KEY_BYTES, MAX_TAGS, ObjectAcl, RestoreTier};
use batchplan_store::{AddressingStyle, StoreProvider};
use globset::{Glob, GlobBuilder};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::settings::{ExactShare, MAX_CONCURRENCY, MAX_WEBHOOKS, WebhookEvent};
use crate::manifest::{CsvField, ListedVersions, OnUnlistable};
use crate::money::Money;
use crate::report_format::{ReportFormat, ReportScope};
use crate::toml_reader::{
    DocumentReader, DocumentValue, EnumValue, IntValue, NamedVariants, RawField, SpannedValue, TableArray, TextValue,
    quote_for_message, read_integer, table,
};

/// The default columns of a CSV manifest.
pub(super) const DEFAULT_CSV_FIELDS: [CsvField; 2] = [CsvField::Bucket, CsvField::Key];

/// Returns the default scope of a report. A published report lists all tasks. A report that only stays with the job
/// lists the failed tasks.
pub(super) fn default_report_scope(published: bool) -> ReportScope {
    if published { ReportScope::AllTasks } else { ReportScope::FailedTasksOnly }
}

table! {
    /// A batchplan plan: the operations to run on every object of a manifest.
    struct PlanTable {
        /// The plan's name, 1 to 128 characters. The name and the store identify the plan's job.
        required name: TextValue<1, 128>,
        /// What the plan is for, in at most 256 characters.
        optional description: TextValue<0, 256, true>,
        /// Where the objects are. Credentials come from the environment, never from the plan.
        required store: StoreTable,
        /// Which objects to process: exactly one source, and an optional filter.
        required manifest: ManifestTable,
        /// What to do with each object. Several operations are applied together, in one pass.
        required operation: OperationTable,
        /// The completion report, published to a bucket.
        optional report: ReportTable,
        /// How the job runs.
        optional job: JobTable,
        /// Limits on the load on the store, and on the size and cost of a job.
        optional limits: LimitsTable,
        /// The prices for the cost estimate.
        optional prices: PricesTable,
        /// Where to keep the plan's jobs, instead of in a local folder.
        optional state: StateTable,
        /// Webhooks to notify about the job, at most 8. `validate`, `plan` and `check` send no messages.
        optional notify: TableArray<WebhookTable, MAX_WEBHOOKS>,
        /// Makes the plan recurring: it runs once for each new inventory.
        optional recurring: RecurringTable,
        /// What the job keeps so that it can be undone.
        optional undo: UndoTable,
    }
}

table! {
    /// Where the objects are.
    struct StoreTable {
        /// The API to use: "aws", "oss", "s3" for any other S3-compatible server, or "sandbox" for the built-in object
        /// store.
        required provider: EnumValue<StoreProvider>,
        /// The server's URL, without a path: https, or http on loopback. Required for oss and s3, not allowed for the
        /// sandbox. By default, aws uses the endpoint that the environment names, or else the region's own.
        optional endpoint: TextValue<1, 2048>,
        /// The region to sign for. Required for oss. By default, aws takes it from the environment, and s3 and the
        /// sandbox use "us-east-1".
        optional region: TextValue<1, 64>,
        /// Where the bucket appears in URLs: "virtual" (in the host, the default for aws and oss) or "path" (the
        /// default for s3 and the sandbox).
        optional addressing: EnumValue<AddressingStyle>,
        /// The ARN of a role to assume with the credentials of the environment. Its credentials are renewed before they
        /// expire.
        optional role_arn: TextValue<1, 2048>,
        /// Whether to allow unencrypted http to an endpoint on another machine. False by default.
        optional allow_http: bool,
        /// Whether to skip the check that the server supports tags, ACLs and restores. Only for servers that are known
        /// to: others may replace, empty or delete objects. False by default. Endpoints of AWS and Alibaba Cloud are
        /// never checked.
        optional skip_server_check: bool,
        /// Whether you pay for the requests and the data transfer instead of the owners of the buckets, which Requester
        /// Pays buckets require. Not for the sandbox. False by default.
        optional requester_pays: bool,
        /// Sandbox only: the folder that holds its state, relative to the plan's folder.
        optional data: TextValue<1, 4096>,
        /// Sandbox only: a CSV file with the initial objects, relative to the plan's folder. It is read while the
        /// sandbox has no buckets.
        optional fill: TextValue<1, 4096>,
    }
}

table! {
    /// Which objects to process: exactly one of prefix, csv, inventory and report.
    struct ManifestTable {
        /// All objects whose keys start with a prefix.
        optional prefix: PrefixTable,
        /// The objects listed in a CSV file.
        optional csv: CsvTable,
        /// The objects listed in a bucket inventory.
        optional inventory: InventoryTable,
        /// The objects that failed, according to an earlier completion report.
        optional report: EarlierReportTable,
        /// Which of the source's objects to process. All conditions must match.
        optional filter: FilterTable,
    }
    missing "add [manifest.prefix], [manifest.csv], [manifest.inventory] or [manifest.report]"
    rules { "oneOf": [
        { "required": ["prefix"] }, { "required": ["csv"] }, { "required": ["inventory"] }, { "required": ["report"] },
    ] }
}

table! {
    /// All objects of a bucket whose keys start with a prefix.
    struct PrefixTable {
        /// The bucket.
        required bucket: BucketText,
        /// The prefix of the keys. By default, the entire bucket.
        optional prefix: ObjectKeyText<0>,
        /// "current" (the default) for the current version of each object, "all" for every version.
        optional versions: EnumValue<ListedVersions>,
        /// What to do with objects that no request can name, such as one with an empty key: "fail" (the default)
        /// rejects the manifest, "report" reports each as a failed object.
        optional on_unlistable: EnumValue<OnUnlistable>,
    }
}

table! {
    /// A CSV file without header, in a bucket or on this machine.
    struct CsvTable {
        /// The bucket that holds the file.
        optional bucket: BucketText,
        /// The file's key.
        optional object: ObjectKeyText<1>,
        /// The expected `ETag` of the file. A file with a different one is rejected.
        optional etag: TextValue<1, 1024>,
        /// Instead of an object: a local file, relative to the plan's folder.
        optional path: TextValue<1, 4096>,
        /// The columns of the file, in order. `["Bucket", "Key"]` by default.
        optional fields: Vec<EnumValue<CsvField>>,
        /// Whether a raw + in a key means a space. False by default.
        optional plus_is_space: bool,
    }
    rules { "oneOf": [{ "required": ["path"] }, { "required": ["bucket", "object"] }] }
}

table! {
    /// A bucket inventory: of AWS S3 in CSV, Parquet or ORC, or of OSS in CSV.
    struct InventoryTable {
        /// The bucket that holds the inventory.
        required bucket: BucketText,
        /// The key of the inventory's manifest.json.
        optional object: ObjectKeyText<1>,
        /// The expected `ETag` of the manifest. A manifest with a different one is rejected.
        optional etag: TextValue<1, 1024>,
        /// Instead of an object: a prefix, below which the newest complete inventory is used.
        optional latest: ObjectKeyText<1>,
    }
    rules { "oneOf": [{ "required": ["object"] }, { "required": ["latest"] }] }
}

table! {
    /// The failed objects of an earlier completion report of OSS or AWS, or of batchplan in either form.
    struct EarlierReportTable {
        /// The bucket that holds the report.
        optional bucket: BucketText,
        /// The key of the report's manifest.json, or of one of its CSV files.
        optional object: ObjectKeyText<1>,
        /// The expected `ETag` of the file. A file with a different one is rejected.
        optional etag: TextValue<1, 1024>,
        /// Instead of an object: such a local file, relative to the plan's folder.
        optional path: TextValue<1, 4096>,
        /// Only objects that failed with one of these HTTP statuses, such as `[403, 503]`.
        optional status: Vec<IntValue<100, 599>>,
        /// Only objects that failed with one of these error codes, such as `["AccessDenied"]`.
        optional code: Vec<TextValue<1, 128>>,
    }
    rules { "oneOf": [{ "required": ["path"] }, { "required": ["bucket", "object"] }] }
}

table! {
    /// Conditions that must all match. CSV files and reports contain only keys, so only include and exclude work with
    /// them.
    struct FilterTable {
        /// Globs, of which at least one must match the entire key. * also matches /, so "*.pdf" matches every key with
        /// that ending.
        optional include: Vec<Glob>,
        /// Globs, of which none may match the entire key.
        optional exclude: Vec<Glob>,
        /// Only objects larger than this, such as "1 MiB".
        optional larger_than: ByteSize,
        /// Only objects smaller than this, such as "5GB".
        optional smaller_than: ByteSize,
        /// Only objects last modified after this date or time.
        optional modified_after: Timestamp,
        /// Only objects last modified before this date or time.
        optional modified_before: Timestamp,
        /// Only objects last modified longer ago than this, such as "90d", "12h" or "4w".
        optional older_than: AgeValue,
        /// Only objects in these storage classes, by the store's own names.
        optional storage_class: Vec<TextValue<1, 64>>,
    }
}

table! {
    /// What to do with each object: at least one operation.
    struct OperationTable {
        /// Replace all tags with these.
        optional put_object_tagging: TagsTable,
        /// Add these tags. Other tags are kept, values of the same keys are overwritten.
        optional add_object_tagging: TagsTable,
        /// Remove all tags, or those with certain keys.
        optional delete_object_tagging: DeleteTagsTable,
        /// Set the ACL.
        optional put_object_acl: AclTable,
        /// Make archived objects readable for some days.
        optional restore_object: RestoreTable,
    }
    missing "add an operation, such as [operation.put_object_tagging]"
    rules { "minProperties": 1 }
}

table! {
    /// Tags to set.
    struct TagsTable {
        /// At most 10 tags: keys of 1 to 128 characters, values of 0 to 256.
        required tags: TagsValue,
    }
}

table! {
    /// Tags to remove.
    struct DeleteTagsTable {
        /// The keys of the tags to remove. By default, all tags are removed.
        optional keys: Vec<TextValue<1, 128>>,
    }
}

table! {
    /// The ACL to set.
    struct AclTable {
        /// "private", "public-read" or "public-read-write"; on OSS also "default", the bucket's ACL.
        required acl: AclName,
    }
}

table! {
    /// How archived objects are restored.
    struct RestoreTable {
        /// How many days the restored copy stays readable: at least 1, at most 365 on OSS. Required on OSS, and on AWS
        /// for all classes but Intelligent-Tiering, whose restores do not expire and allow no days.
        optional days: IntValue<1, 2_147_483_647>,
        /// "Standard", "Bulk" or "Expedited", if the store and the storage class support it. The server's default if
        /// not set.
        optional tier: EnumValue<RestoreTier>,
    }
}

table! {
    /// The completion report.
    struct ReportTable {
        /// Whether to publish the report. True by default.
        optional enabled: bool,
        /// The bucket to publish the report to.
        optional bucket: BucketText,
        /// The prefix of the report's keys, at most 512 characters.
        optional prefix: TextValue<0, 512>,
        /// "all-tasks" (the default) lists every object, "failed-tasks-only" only the failures.
        optional scope: EnumValue<ReportScope>,
        /// The report format of a batch service: "oss" or "aws". "aws" by default on aws, "oss" elsewhere.
        optional format: EnumValue<ReportFormat>,
        /// Whether to keep the report's files with the job after publishing them. True by default.
        optional keep_local: bool,
    }
}

table! {
    /// How the job runs.
    struct JobTable {
        /// From 0 (the default) to 2147483647. Jobs with a higher priority leave the queue first and get more of the
        /// request budget.
        optional priority: IntValue<0, 2_147_483_647>,
        /// Whether apply asks before it changes anything. True by default.
        optional confirmation_required: bool,
        /// A token, 1 to 64 characters, that makes job creation idempotent: the same token and plan mean the same job,
        /// and another plan with the same token is rejected.
        optional client_request_token: TextValue<1, 64>,
        /// Whether to read each object's tags or ACL first, and write only what changes. False by default. Restores are
        /// always requested.
        optional skip_unchanged: bool,
    }
}

table! {
    /// Limits on the load on the store, and on the size and cost of a job.
    struct LimitsTable {
        /// The maximum number of objects in flight at once: 1 to 4096. By default, a job starts with 64 and goes up to
        /// 256 while the store answers as fast as before.
        optional concurrency: IntValue<1, { MAX_CONCURRENCY }>,
        /// Requests per second for objects, retries included: 1 to 1000000. No limit by default.
        optional requests_per_second: IntValue<1, 1_000_000>,
        /// The share of objects that may fail before the job fails: from 0 to 1, 0.20 by default. With 1, failed
        /// objects never fail the job.
        optional failure_threshold: ExactShare,
        /// The maximum disk space for the job's frozen manifest on this machine, such as "20 GiB", including the
        /// Parquet or ORC file that is being read. No limit by default.
        optional max_disk: ByteSize,
        /// The maximum number of objects in a job. A manifest with more is rejected before anything is changed. No
        /// limit by default.
        optional max_objects: ObjectCount,
        /// The maximum estimated cost of a job, such as "50 CNY". A job that would cost more, or whose cost is unknown,
        /// is rejected. No limit by default.
        optional max_cost: Money,
    }
}

table! {
    /// Where to keep the plan's jobs, so that another machine can resume them.
    struct StateTable {
        /// `s3://BUCKET/PREFIX` or `oss://BUCKET/PREFIX`. Add `?region=...&endpoint=https://...` if the store is not
        /// the plan's.
        required url: TextValue<1, 4096>,
    }
}

table! {
    /// The prices for the cost estimate.
    struct PricesTable {
        /// The price book entry to use, such as "aws-us-east-1", whatever the region. By default, the entry for the
        /// store's provider and region.
        optional book: TextValue<1, 64>,
        /// A local price book, relative to the plan's folder. Its entries replace built-in entries of the same name.
        optional file: TextValue<1, 4096>,
    }
}

table! {
    /// A webhook to notify about the job.
    struct WebhookTable {
        /// The URL, without user name and password: https, or http on loopback.
        optional url: TextValue<1, 2048>,
        /// Instead of `url`: the environment variable that holds the URL, if the URL is a secret.
        optional url_env: TextValue<1, 128>,
        /// The environment variable that holds the secret for signing messages. Without it, messages are not signed.
        optional secret_env: TextValue<1, 128>,
        /// Whether to allow unencrypted http to another machine. False by default.
        optional allow_http: bool,
        /// The job statuses to send: "active", "suspended", "paused", "complete", "failed" and "cancelled", and "drift"
        /// if `verify` finds objects that are not as they should be. All but "active" and "drift" by default. A suspended
        /// job waits for confirmation.
        optional on: Vec<EnumValue<WebhookEvent>>,
        /// Also send a message once when more than this share of objects has failed: of all objects, or of those
        /// attempted, once there are 1000. From 0 to 1.
        optional failure_rate: ExactShare,
        /// Also send a message once when the job has run for longer than this, such as "90m" or "2h".
        optional run_time: DurationValue,
    }
    rules { "oneOf": [{ "required": ["url"] }, { "required": ["url_env"] }] }
}

impl NamedVariants for WebhookEvent {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("active", Self::Active),
        ("suspended", Self::Suspended),
        ("paused", Self::Paused),
        ("complete", Self::Complete),
        ("failed", Self::Failed),
        ("cancelled", Self::Cancelled),
        ("drift", Self::Drift),
    ];
}

table! {
    /// A plan that runs once for each new inventory. It requires the newest inventory as its manifest (`latest`).
    struct RecurringTable {
        /// Whether to process only objects that are new or changed since the last inventory that the plan completed,
        /// and those that failed then. False by default.
        optional only_changed: bool,
    }
}

table! {
    /// What the job keeps so that it can be undone.
    struct UndoTable {
        /// Whether to keep the tags or the ACL that each object had before the job changes them. They are read first, even
        /// if the operations do not need them. Restores cannot be undone. True by default.
        optional capture: bool,
        /// How long to keep the job after its end, such as "90d": at least 30 days, which is the default.
        optional keep: AgeValue,
    }
}

impl NamedVariants for StoreProvider {
    const NAMES: &'static [(&'static str, Self)] = Self::NAMES;
}

impl NamedVariants for AddressingStyle {
    const NAMES: &'static [(&'static str, Self)] = &[("virtual", Self::Virtual), ("path", Self::Path)];
}

impl NamedVariants for ListedVersions {
    const NAMES: &'static [(&'static str, Self)] = &[("current", Self::Current), ("all", Self::All)];
}

impl NamedVariants for OnUnlistable {
    const NAMES: &'static [(&'static str, Self)] = &[("fail", Self::Fail), ("report", Self::Report)];
}

impl NamedVariants for CsvField {
    const NAMES: &'static [(&'static str, Self)] =
        &[("Bucket", Self::Bucket), ("Key", Self::Key), ("VersionId", Self::VersionId), ("Ignore", Self::Ignore)];
}

/// The name of an ACL, which is not checked yet: the provider decides which ones there are.
pub(super) enum AclName {}

impl DocumentValue for AclName {
    type Value = String;

    fn schema() -> Json {
        EnumValue::<ObjectAcl>::schema()
    }

    fn example() -> String {
        EnumValue::<ObjectAcl>::example()
    }

    fn missing(_: &str, name: &str) -> String {
        format!("add `{name} = ...`, one of \"private\", \"public-read\", \"public-read-write\"")
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        field.text::<Self>("a string", reader).map(str::to_owned)
    }
}

impl NamedVariants for ObjectAcl {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("private", Self::Private),
        ("public-read", Self::PublicRead),
        ("public-read-write", Self::PublicReadWrite),
        ("default", Self::Default),
    ];
}

impl NamedVariants for RestoreTier {
    const NAMES: &'static [(&'static str, Self)] =
        &[("Standard", Self::Standard), ("Bulk", Self::Bulk), ("Expedited", Self::Expedited)];
}

impl NamedVariants for ReportScope {
    const NAMES: &'static [(&'static str, Self)] =
        &[("all-tasks", Self::AllTasks), ("failed-tasks-only", Self::FailedTasksOnly)];
}

impl NamedVariants for ReportFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("oss", Self::Oss), ("aws", Self::Aws)];
}

/// The name of a bucket. The rules of each service, which say more about an empty name, are checked with the plan.
pub(super) enum BucketText {}

impl DocumentValue for BucketText {
    type Value = String;

    fn schema() -> Json {
        TextValue::<1, 255>::schema()
    }

    fn example() -> String {
        TextValue::<1, 255>::example()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        TextValue::<0, 255>::read(field, reader)
    }
}

/// An object key or key prefix: any text of `MIN` to 1024 bytes.
pub(super) enum ObjectKeyText<const MIN: usize> {}

impl<const MIN: usize> DocumentValue for ObjectKeyText<MIN> {
    type Value = String;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": MIN, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"...\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("a string", reader)?;
        if !(MIN..=MAX_KEY_BYTES).contains(&text.len()) {
            let help = format!("use {MIN} to {MAX_KEY_BYTES} bytes of UTF-8");
            let length = if text.len() < MIN { "is empty" } else { "is too long" };
            field.report_invalid(length, &format!("{} bytes", text.len()), help, reader);
            return None;
        }
        Some(text.to_string())
    }
}

/// A number of objects, at least one.
pub(crate) enum ObjectCount {}

/// The largest integer in TOML.
const MAX_COUNT: u64 = i64::MAX.unsigned_abs();

impl DocumentValue for ObjectCount {
    type Value = u64;

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_COUNT })
    }

    fn example() -> String {
        "1000000".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        read_integer::<Self>(field, &(1..=MAX_COUNT), "use an integer from 1", reader)
    }
}

/// Tags: a table of arbitrary keys with text values, in file order.
pub(super) enum TagsValue {}

impl DocumentValue for TagsValue {
    type Value = Vec<(SpannedValue<String>, SpannedValue<String>)>;

    fn schema() -> Json {
        json!({ "type": "object", "minProperties": 1, "maxProperties": MAX_TAGS, "additionalProperties": { "type": "string", "maxLength": 256 } })
    }

    fn example() -> String {
        "{ Team = \"DataOps\" }".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let path = field.inner_path();
        let Some(entries) = field.entries(&path) else {
            field.report_wrong_type::<Self>("a table", reader);
            return None;
        };
        let mut tags = Vec::new();
        let mut whole = true;
        for tag in entries {
            if let DeValue::String(text) = tag.value() {
                tags.push((tag.spanned_name(), tag.with_spans(text.to_string())));
            } else {
                tag.report_type_mismatch("a string: tag values are text", "\"...\"", reader);
                whole = false;
            }
        }
        tags.sort_by_key(|(key, _)| key.span.start);
        whole.then_some(tags)
    }
}

/// A glob over whole object keys. `*` and `?` also match `/`, because keys have no folders: `*.pdf` matches every key
/// with this ending.
impl DocumentValue for Glob {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"*.pdf\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let pattern = ObjectKeyText::<1>::read(field, reader)?;
        match parse_key_glob(&pattern) {
            Ok(glob) => Some(glob),
            Err(error) => {
                let label = quote_for_message(&error);
                let help = "`*` matches any text, `?` any character, [abc] one of these, {a,b} either; escape special \
                            characters with `\\`";
                field.report_invalid("contains an invalid glob", &label, help, reader);
                None
            }
        }
    }
}

/// Parses a glob for keys.
///
/// # Errors
/// Returns what is wrong with it.
pub fn parse_key_glob(pattern: &str) -> Result<Glob, String> {
    let built = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build();
    built.map_err(|error| error.kind().to_string())
}

/// A size in bytes: `1048576`, `"1 MiB"`, `"5GB"`.
pub(super) enum ByteSize {}

/// The units of sizes: powers of 1000 and powers of 1024.
const SIZE_UNITS: [(&str, u64); 11] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
];

impl DocumentValue for ByteSize {
    type Value = u64;

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,9})? ?([bB]|[kKmMgGtTpP][iI]?[bB])$" },
        ] })
    }

    fn example() -> String {
        "\"1 MiB\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let size = match field.value() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => parse_size(text),
            _ => {
                field.report_wrong_type::<Self>("a size", reader);
                return None;
            }
        };
        if size.is_none() {
            let help = "use an integer (bytes), or a number with a unit: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
            field.report_invalid("is not a valid size", "cannot be parsed", help, reader);
        }
        size
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (_, unit) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // More than nine decimals make no useful difference in any unit.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    u64::try_from(parts.checked_mul(u128::from(*unit))? / scale).ok()
}

/// A point in time: RFC 3339, or a date, which means midnight UTC.
impl DocumentValue for Timestamp {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$" })
    }

    fn example() -> String {
        "\"2024-01-31\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = match field.value() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            _ => {
                field.report_wrong_type::<Self>("a date", reader);
                return None;
            }
        };
        let moment = parse_timestamp(&text);
        if moment.is_none() {
            let help = "use a date such as \"2024-01-31\" (midnight UTC), or a time with its offset, such as \
                        \"2024-01-31T08:00:00Z\"";
            field.report_invalid("is not a valid date", "cannot be parsed", help, reader);
        }
        moment
    }
}

/// Parses a point in time: RFC 3339 with its offset, or a date, which means midnight UTC. Returns `None` for any other
/// text.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    let only_a_day = text.len() == "2024-01-31".len();
    if only_a_day { day() } else { text.parse::<Timestamp>().ok() }
}

/// A length of time in hours, days or weeks: `"90d"`, `"12h"`, `"4w"`.
pub(super) enum AgeValue {}

impl DocumentValue for AgeValue {
    type Value = SignedDuration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[hdw]$" })
    }

    fn example() -> String {
        "\"90d\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("an age", reader)?;
        let age = parse_age(text);
        if age.is_none() {
            let help = "use an integer and h, d or w (hours, days, weeks), such as \"90d\"";
            field.report_invalid("is not a valid age", "cannot be parsed", help, reader);
        }
        age
    }
}

/// Parses a length of time: a whole number and `h`, `d` or `w`, for hours, days or weeks. Returns `None` for any other
/// text.
#[must_use]
pub fn parse_age(text: &str) -> Option<SignedDuration> {
    let (number, hours) = match text.char_indices().next_back()? {
        (at, 'h') => (&text[..at], 1),
        (at, 'd') => (&text[..at], 24),
        (at, 'w') => (&text[..at], 24 * 7),
        _ => return None,
    };
    let hours = u32::try_from(parse_count(number)?).ok()?.checked_mul(hours)?;
    Some(SignedDuration::from_hours(i64::from(hours)))
}

/// Parses the number before a unit: only digits, which a space may follow.
fn parse_count(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(' ').unwrap_or(text);
    // The standard parser would accept a sign.
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits)
}

/// A duration: `"90m"`, `"2h"`, `"1d"`.
pub(super) enum DurationValue {}

impl DocumentValue for DurationValue {
    type Value = Duration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[smhd]$" })
    }

    fn example() -> String {
        "\"2h\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("a duration", reader)?;
        let duration = parse_duration(text);
        if duration.is_none() {
            let help = "use an integer and s, m, h or d (seconds, minutes, hours, days), such as \"2h\"";
            field.report_invalid("is not a valid duration", "cannot be parsed", help, reader);
        }
        duration
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
    u32::try_from(parse_count(number)?.checked_mul(seconds)?).ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// A share: a number from 0 to 1 with at most six decimals.
impl DocumentValue for ExactShare {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn example() -> String {
        "0.20".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let share = match field.value() {
            DeValue::Float(number) => parse_share(number.as_str()),
            DeValue::Integer(digits) => match u32::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(0) => Ok(Self::percent(0)),
                Ok(1) => Ok(Self::ALL),
                _ => Err(ShareError::OutOfRange),
            },
            _ => {
                field.report_wrong_type::<Self>("a number from 0 to 1", reader);
                return None;
            }
        };
        match share {
            Ok(share) => return Some(share),
            Err(ShareError::OutOfRange) => {
                field.report_invalid(
                    "is out of range",
                    "not from 0 to 1",
                    "use a number from 0 to 1: 0.20 means 20 %",
                    reader,
                );
            }
            Err(ShareError::TooFine) => {
                field.report_invalid("has too many decimals", "more than six", "use at most six decimals", reader);
            }
        }
        None
    }
}

/// Parses a number from 0 to 1 in decimal notation, as in TOML.
fn parse_share(text: &str) -> Result<ExactShare, ShareError> {
    let number: f64 = text.parse().map_err(|_| ShareError::OutOfRange)?;
    if !(0.0..=1.0).contains(&number) {
        return Err(ShareError::OutOfRange);
    }
    let rounded = format!("{:.6}", number.abs());
    if rounded.parse::<f64>().map(f64::to_bits) != Ok(number.abs().to_bits()) {
        return Err(ShareError::TooFine);
    }
    rounded.replace('.', "").parse().map(ExactShare::millionths).map_err(|_| ShareError::OutOfRange)
}

/// Why a number is not a valid share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShareError {
    OutOfRange,
    TooFine,
}

impl DocumentValue for Money {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,15}(\\.[0-9]{1,12})? [A-Z]{3}$" })
    }

    fn example() -> String {
        "\"50 CNY\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = field.text::<Self>("an amount with a currency, in quotes", reader)?;
        let money = Self::parse(text);
        if money.is_none() {
            let help = "use a number, a space and an upper-case currency code, such as \"50 CNY\" or \"12.50 USD\"";
            field.report_invalid("is not a valid amount of money", "cannot be parsed", help, reader);
        }
        money
    }
}

#[cfg(test)]
mod tests;
