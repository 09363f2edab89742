//! The tables of a plan file, as they are written. All keys are defined here, and only here.

use batchplan_store::object::{ObjectAcl, RestoreTier};
use batchplan_store::{AddressingStyle, StoreProvider};
use serde_json::{Value as Json, json};
use toml::de::DeTable;

use super::notify::{DurationValue, TableArray, WebhookEvent};
use super::parser::{PlanParser, PlanValue, TableReader, table};
use super::share::ExactShare;
use super::value_types::{
    AgeValue, ByteSize, EnumValue, IntValue, KeyGlobValue, ListValue, NamedVariants, ObjectCount, ObjectKeyText,
    TagsValue, TextValue, TimestampValue,
};
use crate::completion::{ReportFormat, ReportScope};
use crate::manifest::{CsvField, ListedVersions};
use crate::money::Money;

table! {
    /// A batchplan plan: one declared operation on every object of a manifest.
    struct PlanTable {
        /// The name of the work; with the store it says which job a plan belongs to. 1 to 128 characters.
        required name: TextValue<1, 128>,
        /// What the plan is for, in at most 256 characters.
        optional description: TextValue<0, 256, true>,
        /// Where the objects are. Credentials never stand here: they come from the environment.
        required store: StoreTable,
        /// Which objects: exactly one source, and a filter if need be.
        required manifest: ManifestTable,
        /// What is done to each object. Several operations are applied together, in one pass.
        required operation: OperationTable,
        /// The completion report, published to a bucket.
        optional report: ReportTable,
        /// How the job is run.
        optional job: JobTable,
        /// How hard the store is driven, and how much a job may take.
        optional limits: LimitsTable,
        /// By which prices the cost of a job is told beforehand.
        optional prices: PricesTable,
        /// Where the plan's jobs are kept, other than in a folder of this machine.
        optional state: StateTable,
        /// Webhooks that are told of what becomes of the job, at most 8. Only a job that is worked on sends anything.
        optional notify: TableArray<WebhookTable>,
        /// Whether the plan is applied again and again, whenever a new inventory has appeared.
        optional recurring: RecurringTable,
    }
}

impl PlanTable {
    /// Reads the top level of a plan file.
    pub(super) fn read_file(entries: &DeTable<'_>, walk: &mut PlanParser) -> Self {
        let table = TableReader::root(entries, Self::KEYS, walk);
        Self::fields(&table, walk)
    }

    /// Returns the JSON Schema of a plan file.
    pub(super) fn file_schema() -> Json {
        let mut schema = Self::schema();
        // TOML plug-ins of editors support draft 7 best.
        schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        schema["title"] = json!("batchplan plan");
        schema
    }
}

table! {
    /// Where the objects are.
    struct StoreTable {
        /// Whose API is spoken: "aws", "oss", "s3" for any other server that speaks S3, or "sandbox" for the object
        /// store inside the binary.
        required provider: EnumValue<StoreProvider>,
        /// The server's URL, without path: https, or http on loopback. Needed for oss and s3, derived from the region
        /// for aws, absent for the sandbox.
        optional endpoint: TextValue<1, 2048>,
        /// The region to sign for. Needed for oss; aws takes it from the environment; "us-east-1" elsewhere.
        optional region: TextValue<1, 64>,
        /// Where the bucket stands in a URL: "virtual" (in the host, the default of aws and oss) or "path" (the default
        /// of s3 and sandbox).
        optional addressing: EnumValue<AddressingStyle>,
        /// The role to work in, by its ARN: assumed before work with the credentials of the environment, and renewed in
        /// time.
        optional role_arn: TextValue<1, 2048>,
        /// Whether an endpoint that is not on this machine may be spoken to without encryption. False by default.
        optional allow_http: bool,
        /// Whether jobs write without having checked that the server knows tags, ACLs and restores. Only for a server that is
        /// known to: one that does not may replace, empty or delete objects. False by default; endpoints of AWS and Alibaba
        /// Cloud are not checked in any case.
        optional skip_server_check: bool,
        /// Sandbox only: the folder that holds its state, seen from the plan's folder.
        optional data: TextValue<1, 4096>,
        /// Sandbox only: a CSV file that says what the buckets hold at first use, seen from the plan's folder.
        optional fill: TextValue<1, 4096>,
    }
}

table! {
    /// Which objects: exactly one of prefix, csv, inventory and report.
    struct ManifestTable {
        /// Everything whose key begins so.
        optional prefix: PrefixTable,
        /// The objects that a CSV file names.
        optional csv: CsvTable,
        /// The objects that a bucket inventory names.
        optional inventory: InventoryTable,
        /// The objects that failed, as an earlier completion report has it.
        optional report: EarlierReportTable,
        /// Which of the source's objects are taken. All conditions must hold.
        optional filter: FilterTable,
    }
    missing "add [manifest.prefix], [manifest.csv], [manifest.inventory] or [manifest.report]"
    rules { "oneOf": [
        { "required": ["prefix"] }, { "required": ["csv"] }, { "required": ["inventory"] }, { "required": ["report"] },
    ] }
}

table! {
    /// Everything in a bucket whose key begins so.
    struct PrefixTable {
        /// The bucket.
        required bucket: TextValue<1, 255>,
        /// The beginning of the keys; the whole bucket by default.
        optional prefix: ObjectKeyText<0>,
        /// "current" (the default) for the current version of each object, "all" for every version.
        optional versions: EnumValue<ListedVersions>,
    }
}

table! {
    /// A CSV file without header, in a bucket or on this machine.
    struct CsvTable {
        /// The bucket that holds the file.
        optional bucket: TextValue<1, 255>,
        /// The file's key.
        optional object: ObjectKeyText<1>,
        /// The file's `ETag`; a file with another one is refused.
        optional etag: TextValue<1, 1024>,
        /// A file on this machine instead, seen from the plan's folder.
        optional path: TextValue<1, 4096>,
        /// The columns, in the file's order; `["Bucket", "Key"]` by default.
        optional fields: ListValue<EnumValue<CsvField>>,
        /// Whether a raw + in a key means a space. False by default.
        optional plus_is_space: bool,
    }
    rules { "oneOf": [{ "required": ["path"] }, { "required": ["bucket", "object"] }] }
}

table! {
    /// A bucket inventory: of AWS S3 in CSV, Parquet or ORC, or of OSS in CSV.
    struct InventoryTable {
        /// The bucket that holds the inventory.
        required bucket: TextValue<1, 255>,
        /// The key of the inventory's manifest.json.
        optional object: ObjectKeyText<1>,
        /// The manifest's `ETag`; one with another is refused.
        optional etag: TextValue<1, 1024>,
        /// Instead of an object: the newest complete inventory below this prefix.
        optional latest: ObjectKeyText<1>,
    }
    rules { "oneOf": [{ "required": ["object"] }, { "required": ["latest"] }] }
}

table! {
    /// The failed objects of an earlier completion report of OSS or AWS, or of batchplan in either form.
    struct EarlierReportTable {
        /// The bucket that holds the report.
        optional bucket: TextValue<1, 255>,
        /// The key of the report's manifest.json, or of one of its CSV files.
        optional object: ObjectKeyText<1>,
        /// The file's `ETag`; a file with another one is refused.
        optional etag: TextValue<1, 1024>,
        /// Such a file on this machine instead, seen from the plan's folder.
        optional path: TextValue<1, 4096>,
        /// Only objects that failed with one of these HTTP statuses, such as `[403, 503]`.
        optional status: ListValue<IntValue<100, 599>>,
        /// Only objects that failed with one of these error codes, such as `["AccessDenied"]`.
        optional code: ListValue<TextValue<1, 128>>,
    }
    rules { "oneOf": [{ "required": ["path"] }, { "required": ["bucket", "object"] }] }
}

table! {
    /// Conditions that all must hold. CSV files and reports know only keys, so only include and exclude work with them.
    struct FilterTable {
        /// Globs of which at least one matches the whole key. * crosses /, so "*.pdf" is every key that ends so.
        optional include: ListValue<KeyGlobValue>,
        /// Globs of which none matches the whole key.
        optional exclude: ListValue<KeyGlobValue>,
        /// Only objects of more bytes than this, such as "1 MiB".
        optional larger_than: ByteSize,
        /// Only objects of fewer bytes than this, such as "5GB".
        optional smaller_than: ByteSize,
        /// Only objects last written after this day or instant.
        optional modified_after: TimestampValue,
        /// Only objects last written before this day or instant.
        optional modified_before: TimestampValue,
        /// Only objects last written longer ago than this, such as "90d", "12h" or "4w".
        optional older_than: AgeValue,
        /// Only objects of these storage classes, by the store's own names.
        optional storage_class: ListValue<TextValue<1, 64>>,
    }
}

table! {
    /// What is done to each object: at least one operation.
    struct OperationTable {
        /// Replace all tags by these.
        optional put_object_tagging: TagsTable,
        /// Add these tags: others are kept, values of the same keys are overwritten.
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
        /// The keys of the tags to remove; without it all tags go.
        optional keys: ListValue<TextValue<1, 128>>,
    }
}

table! {
    /// The ACL to set.
    struct AclTable {
        /// "private", "public-read" or "public-read-write"; on OSS also "default", the bucket's ACL.
        required acl: EnumValue<ObjectAcl>,
    }
}

table! {
    /// How archived objects are restored.
    struct RestoreTable {
        /// For how many days the restored copy stays readable: from 1, at most 365 on OSS.
        required days: IntValue<1, 2_147_483_647>,
        /// "Standard", "Bulk" or "Expedited", where the store and the class have them; the server's default otherwise.
        optional tier: EnumValue<RestoreTier>,
    }
}

table! {
    /// The completion report.
    struct ReportTable {
        /// Whether it is published. True by default.
        optional enabled: bool,
        /// The bucket it is published to.
        optional bucket: TextValue<1, 255>,
        /// What its keys begin with: at most 512 characters.
        optional prefix: TextValue<0, 512>,
        /// "all-tasks" (the default) lists every object, "failed-tasks-only" only the failures.
        optional scope: EnumValue<ReportScope>,
        /// "oss" or "aws": whose batch reports it looks like. "aws" by default on aws, "oss" elsewhere.
        optional format: EnumValue<ReportFormat>,
        /// Whether the report's files stay with the job once they are in the bucket. True by default.
        optional keep_local: bool,
    }
}

table! {
    /// How the job is run.
    struct JobTable {
        /// From 0, the default, to 2147483647. The job of a higher priority leaves the queue first and gets more of the
        /// request budget.
        optional priority: IntValue<0, 2_147_483_647>,
        /// Whether apply asks before it changes anything. True by default.
        optional confirmation_required: bool,
        /// A name for the job, 1 to 64 characters, that makes its creation idempotent: the same token and plan is the
        /// same job, and another plan under the same token is refused.
        optional client_request_token: TextValue<1, 64>,
        /// Whether each object's tags or ACL are read first, and written only where they change. False by default. Restores are
        /// asked for in any case.
        optional skip_unchanged: bool,
    }
}

table! {
    /// How hard the store is driven, and how much a job may take.
    struct LimitsTable {
        /// Objects in flight at once: 1 to 4096, 64 by default.
        optional concurrency: IntValue<1, 4096>,
        /// Requests a second about objects, retries included: 1 to 1000000, no cap by default.
        optional requests_per_second: IntValue<1, 1_000_000>,
        /// The share of the objects that may fail before the job fails: from 0 to 1, 0.20 by default; 1 never fails it.
        optional failure_threshold: ExactShare,
        /// The most that a job's frozen manifest may take on this machine, such as "20 GiB", with the data file that is just
        /// read where that is Parquet or ORC; no limit by default.
        optional max_disk: ByteSize,
        /// The most objects that a job may have: a manifest that names more is refused before anything is changed; no limit
        /// by default.
        optional max_objects: ObjectCount,
        /// The most that a job may cost by its estimate, such as "50 CNY"; a job that would cost more, or whose cost cannot
        /// be known, is refused. No limit by default.
        optional max_cost: Money,
    }
}

table! {
    /// Where the plan's jobs are kept, so that another machine can go on with them.
    struct StateTable {
        /// `s3://BUCKET/PREFIX` or `oss://BUCKET/PREFIX`; `?region=...&endpoint=https://...` where the store is another one
        /// than the plan's.
        required url: TextValue<1, 4096>,
    }
}

table! {
    /// By which prices the cost of a job is told beforehand.
    struct PricesTable {
        /// The entry of the price book that holds, such as "aws-us-east-1", whatever the region. By default the one of the
        /// store's provider and region.
        optional book: TextValue<1, 64>,
        /// A price book on this machine, seen from the plan's folder. Its entries come before those of the same name that
        /// the program knows.
        optional file: TextValue<1, 4096>,
    }
}

table! {
    /// A webhook that is told of what becomes of the job.
    struct WebhookTable {
        /// Its URL: https, or http on loopback. No user name or password may stand in it.
        optional url: TextValue<1, 2048>,
        /// Instead of `url`: the environment variable that holds the URL, for those that are secrets themselves.
        optional url_env: TextValue<1, 128>,
        /// The environment variable that holds the secret which messages are signed with. They are not signed without it.
        optional secret_env: TextValue<1, 128>,
        /// Whether a URL that is not on this machine may be spoken to without encryption. False by default.
        optional allow_http: bool,
        /// The statuses that are told: of "active", "suspended", "paused", "complete", "failed" and "cancelled" all but the first
        /// by default. Suspended is a job that waits to be confirmed.
        optional on: ListValue<EnumValue<WebhookEvent>>,
        /// Also told, once, when more than this share of the objects has failed: of all, or of those that were attempted once
        /// they are a thousand. From 0 to 1.
        optional failure_rate: ExactShare,
        /// Also told, once, when the job was worked on for longer than this, such as "90m" or "2h".
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
    ];
}

table! {
    /// A plan that is applied again and again: it works on each new inventory once. Only with the newest inventory as its
    /// manifest (`latest`).
    struct RecurringTable {
        /// Whether only objects are worked on that are new or different since the inventory that the plan completed last,
        /// and those that failed then. False by default.
        optional only_changed: bool,
    }
}

impl NamedVariants for StoreProvider {
    const NAMES: &'static [(&'static str, Self)] =
        &[("aws", Self::Aws), ("oss", Self::Oss), ("s3", Self::S3), ("sandbox", Self::Sandbox)];
}

impl NamedVariants for AddressingStyle {
    const NAMES: &'static [(&'static str, Self)] = &[("virtual", Self::Virtual), ("path", Self::Path)];
}

impl NamedVariants for ListedVersions {
    const NAMES: &'static [(&'static str, Self)] = &[("current", Self::Current), ("all", Self::All)];
}

impl NamedVariants for CsvField {
    const NAMES: &'static [(&'static str, Self)] =
        &[("Bucket", Self::Bucket), ("Key", Self::Key), ("VersionId", Self::VersionId), ("Ignore", Self::Ignore)];
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
