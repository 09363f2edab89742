//! One job, as the journal records it: where its objects come from, its status and progress, the inventory that it is
//! pinned to, and which part of it a recurring job processes.

use std::path::PathBuf;
use std::time::Duration;

use batchplan_store::enum_with_all;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::TaskId;
use jiff::{SignedDuration, Timestamp};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::row::{
    count_column, invalid_value, json_column, named_column, optional_named_column, parsed_column, timestamp_column,
};
use crate::job::{JobId, JobStatus, Progress};
use crate::manifest::SourcePin;
use crate::operation::UndoMode;
use crate::paths::path_from_text;

/// The source of a job's objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSource {
    /// The plan's own manifest.
    Plan,
    /// The failed objects of an earlier job.
    Retry {
        /// The earlier job.
        of: JobId,
        /// Whether to include the objects without an outcome: those never attempted, and those in doubt.
        unattempted: bool,
    },
    /// The failures in a completion report that was given on the command line.
    Report(ReportSource),
    /// What an earlier job changed, to undo it.
    Undo(UndoSource),
}

/// What is undone of an earlier job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoSource {
    /// The earlier job.
    pub of: JobId,
    /// Whether to change also objects that others have changed since.
    #[serde(default)]
    pub force: bool,
    /// Only objects whose keys match one of these globs; empty means all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Only objects whose keys match none of these globs.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Only objects that this report has as failed; `None` means all.
    #[serde(default)]
    pub report: Option<ReportSource>,
}

impl UndoSource {
    /// Returns how the undo works.
    #[must_use]
    pub fn mode(&self) -> UndoMode {
        UndoMode { force: self.force }
    }
}

/// A completion report whose failures are retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSource {
    /// The bucket that holds the report; `None` for a local file.
    pub bucket: Option<String>,
    /// The report's URL-encoded key, or its absolute path as [`path_to_text`](crate::paths::path_to_text) writes it.
    pub name: String,
    /// Only failures with one of these HTTP statuses; empty means all.
    pub status: Vec<u16>,
    /// Only failures with one of these error codes; empty means all.
    pub code: Vec<String>,
}

impl ReportSource {
    /// Returns the report's location, for messages and to tell reports apart.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.bucket {
            Some(bucket) => format!("{bucket}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

enum_with_all! {
    /// Why a job is paused. It determines whether only a user may resume it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum PauseCause {
        /// A user paused it.
        Person,
        /// Its process received a signal to stop.
        Signal,
        /// The service rejected the credentials.
        Credentials,
        /// Something on this machine failed, such as a full disk.
        Machine,
        /// The server check failed: the server does not do exactly what a request asks.
        Server,
        /// What the objects were like cannot be read, so they could not be changed back.
        Capture,
    }
}

impl PauseCause {
    /// Returns whether only a user may resume the job, because a user paused it or must decide.
    #[must_use]
    pub fn needs_user(self) -> bool {
        matches!(self, Self::Person | Self::Server | Self::Capture)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Signal => "signal",
            Self::Credentials => "credentials",
            Self::Machine => "machine",
            Self::Server => "server",
            Self::Capture => "capture",
        }
    }

    fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

enum_with_all! {
    /// A user's request to the process that works on a job.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ControlRequest {
        /// Pause the job.
        Pause,
        /// Cancel the job.
        Cancel,
    }
}

impl ControlRequest {
    /// Returns the reason of a request that gives no other.
    #[must_use]
    pub fn default_reason(self) -> &'static str {
        match self {
            Self::Pause => "requested by `batchplan pause`",
            Self::Cancel => "requested by `batchplan cancel`",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }

    fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.as_str() == text)
    }
}

enum_with_all! {
    /// How far the report of an ended or ending job has come.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ReportDelivery {
        /// No report yet: the job has not ended.
        None,
        /// The report is complete on this machine, but not yet published where the plan wants it.
        Due,
        /// The report is published where the plan wants it.
        Done,
    }
}

impl ReportDelivery {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Due => "due",
            Self::Done => "done",
        }
    }

    fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|delivery| delivery.as_str() == text)
    }
}

/// A job to create.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The job's id, chosen by the caller.
    pub id: JobId,
    /// The identity of the work, from [`Plan::identity`](crate::plan::Plan::identity).
    pub identity: String,
    /// The plan's client request token.
    pub token: Option<String>,
    /// The plan's name.
    pub name: String,
    /// The identity of the plan's store, from [`Plan::store_identity`](crate::plan::Plan::store_identity).
    pub store_identity: String,
    /// The endpoints that the environment selects, from
    /// [`Plan::environment_endpoints`](crate::plan::Plan::environment_endpoints).
    pub environment_endpoints: Option<String>,
    /// The plan's description.
    pub description: Option<String>,
    /// The source of the job's objects.
    pub source: JobSource,
    /// The absolute path of the plan file. Relative paths in the plan are resolved against its folder.
    pub plan_file: PathBuf,
    /// The hash of the plan, which tells plans with the same identity apart.
    pub plan_hash: String,
    /// The text of the plan.
    pub plan_text: Vec<u8>,
    /// Whether the job needs no confirmation.
    pub confirmed: bool,
    /// The priority: jobs with a higher one run first.
    pub priority: u32,
    /// The required manifest fingerprint, if the job is of a saved plan.
    pub manifest_fingerprint: Option<ManifestFingerprint>,
    /// Which objects the job processes, if it recurs.
    pub recurrence: Option<RecurringScope>,
    /// How long to keep the job after its end, if that is longer than other jobs.
    pub keep: Option<SignedDuration>,
}

/// A job as recorded in the journal.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// The job's number, in the order of creation.
    pub number: i64,
    /// The job's id.
    pub id: JobId,
    /// The identity of the work.
    pub identity: String,
    /// The plan's client request token.
    pub token: Option<String>,
    /// The plan's name.
    pub name: String,
    /// The identity of the plan's store; `None` for jobs of versions that did not record it.
    pub store_identity: Option<String>,
    /// The endpoints that the environment selected, beside that of the store. `None` if it selected none.
    pub environment_endpoints: Option<String>,
    /// The plan's description.
    pub description: Option<String>,
    /// The source of the job's objects.
    pub source: JobSource,
    /// The absolute path of the plan file.
    pub plan_file: PathBuf,
    /// The hash of the plan.
    pub plan_hash: String,
    /// The text of the plan; empty in a list of jobs.
    pub plan_text: Vec<u8>,
    /// The current status.
    pub status: JobStatus,
    /// Why the job has this status, as a message for users.
    pub reason: Option<String>,
    /// Why the job is paused; `None` if it is not.
    pub pause_cause: Option<PauseCause>,
    /// Whether the job was confirmed, or needs no confirmation.
    pub confirmed: bool,
    /// The priority: jobs with a higher one run first.
    pub priority: u32,
    /// When the job was created.
    pub created: Timestamp,
    /// When the status last changed.
    pub changed: Timestamp,
    /// When the job became Complete, Cancelled or Failed.
    pub ended: Option<Timestamp>,
    /// Row counts as of the last checkpoint.
    pub progress: Progress,
    /// The number of objects that may have been changed without an outcome: they were abandoned when the job last
    /// stopped, or the process may have started them since the last checkpoint. They are attempted again when the job
    /// is resumed.
    pub in_doubt: u64,
    /// How many of the remaining rows, in processing order, may have been started, including those in doubt.
    pub maybe_started: u64,
    /// The number of rows whose outcomes were lost with a damaged report. They are processed again and may have been
    /// changed before.
    pub lost_outcomes: u64,
    /// How long the job has been active, as of the last checkpoint.
    pub active_time: Duration,
    /// Which objects the job may touch, in the scheduler's own text format.
    pub scope: Option<String>,
    /// The first row of the manifest that was not started, as of the last checkpoint.
    pub next_row: Option<TaskId>,
    /// The request to the process that works on the job, and its reason.
    pub request: Option<(ControlRequest, Option<String>)>,
    /// How far the job's report is.
    pub report_delivery: ReportDelivery,
    /// The location of the report, once it is published.
    pub report_location: Option<String>,
    /// The required manifest fingerprint, if the job is of a saved plan.
    pub manifest_fingerprint: Option<ManifestFingerprint>,
    /// The inventory that the job processes. Known from its creation if the job recurs, otherwise once its manifest
    /// is frozen.
    pub inventory: Option<PinnedInventory>,
    /// Which objects of the inventory the job processes, if it recurs.
    pub delta_scope: Option<DeltaScope>,
    /// When the job may have changed objects, by the journal's change counter.
    pub work_span: WorkSpan,
    /// Whether the job was created by a version that can capture what objects were like before they are changed.
    pub can_capture: bool,
}

/// When a job was created and may have changed objects, by the journal's change counter. It does not depend on
/// clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkSpan {
    /// When the job's scope was decided.
    pub scope_decided: i64,
    /// When the job first became Active; `None` if it never did.
    pub first_active: Option<i64>,
    /// The last moment at which the job may have changed an object: [`STILL_ACTIVE`] until its end is recorded.
    pub last_touched: Option<i64>,
}

/// A moment after all others: the job may still be changing objects.
pub const STILL_ACTIVE: i64 = i64::MAX;

impl JobRecord {
    /// Returns whether the job may have changed an object: it has objects and was Active at some time.
    #[must_use]
    pub fn may_have_changed_objects(&self) -> bool {
        self.work_span.last_touched.is_some() && self.progress.total > 0
    }

    /// Returns the number of objects that were certainly never attempted.
    #[must_use]
    pub fn not_attempted(&self) -> u64 {
        self.progress.remaining().saturating_sub(self.in_doubt)
    }
}

/// The columns that [`JobRecord::from_row`] reads.
pub(super) const COLUMNS: &str = "number, id, identity, token, name, description, origin, plan_file, plan_hash, plan, \
    status, reason, cause, confirmed, priority, created, changed, ended, total, succeeded, failed, in_doubt, active_ms, \
    scope, taken_part, taken_row, request, request_why, report, place, pledge, inventory, portion, store, created_seq, \
    began_seq, touched_seq, reach, lost, endpoints, unchanged, captures";

/// `COLUMNS` without the plan's text, for lists: the texts of a thousand plans may take a gigabyte.
pub(super) fn columns_without_plan() -> String {
    COLUMNS.replace(" plan,", " x'' AS plan,")
}

impl JobRecord {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let why: Option<String> = row.get("request_why")?;
        let next_row: (Option<u32>, Option<u32>) = (row.get("taken_part")?, row.get("taken_row")?);
        let origin: String = row.get("origin")?;
        Ok(Self {
            number: row.get("number")?,
            id: parsed_column(row, "id")?,
            identity: row.get("identity")?,
            token: row.get("token")?,
            name: row.get("name")?,
            store_identity: row.get("store")?,
            environment_endpoints: row.get("endpoints")?,
            description: row.get("description")?,
            source: serde_json::from_str(&origin).map_err(|error| invalid_value(row, "origin", error))?,
            plan_file: path_from_text(&row.get::<_, String>("plan_file")?),
            plan_hash: row.get("plan_hash")?,
            plan_text: row.get("plan")?,
            status: parsed_column(row, "status")?,
            reason: row.get("reason")?,
            pause_cause: optional_named_column(row, "cause", PauseCause::from_name)?,
            confirmed: row.get("confirmed")?,
            priority: row.get("priority")?,
            created: timestamp_column(row, "created")?,
            changed: timestamp_column(row, "changed")?,
            ended: row.get::<_, Option<i64>>("ended")?.map(|_| timestamp_column(row, "ended")).transpose()?,
            progress: Progress {
                total: count_column(row, "total")?,
                succeeded: count_column(row, "succeeded")?,
                failed: count_column(row, "failed")?,
                unchanged: count_column(row, "unchanged")?,
            },
            in_doubt: count_column(row, "in_doubt")?,
            maybe_started: count_column(row, "reach")?,
            lost_outcomes: count_column(row, "lost")?,
            active_time: Duration::from_millis(count_column(row, "active_ms")?),
            scope: row.get("scope")?,
            next_row: next_row.0.zip(next_row.1).map(|(part, row)| TaskId { part, row }),
            request: optional_named_column(row, "request", ControlRequest::from_name)?.map(|request| (request, why)),
            report_delivery: named_column(row, "report", ReportDelivery::from_name)?,
            report_location: row.get("place")?,
            manifest_fingerprint: json_column(row, "pledge")?,
            inventory: json_column(row, "inventory")?,
            delta_scope: json_column(row, "portion")?,
            work_span: WorkSpan {
                scope_decided: row.get("created_seq")?,
                first_active: row.get("began_seq")?,
                last_touched: row.get("touched_seq")?,
            },
            can_capture: row.get("captures")?,
        })
    }
}

/// What a plan's manifest was when the plan was saved, and must still be when its job is prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFingerprint {
    /// When the plan was saved. The ages in the plan are counted from this instant.
    pub as_of: Timestamp,
    /// The number of objects that the manifest named.
    pub objects: u64,
    /// The manifest's source, as [`SourcePin::to_json`] formats it.
    pub pin: String,
    /// The key of the digest, in hex.
    pub key: String,
    /// The digest of bucket, key, version and `ETag` of each object.
    pub digest: String,
}

/// An inventory that a job is pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedInventory {
    /// The bucket that holds the inventory.
    pub bucket: String,
    /// The URL-encoded key of its `manifest.json`.
    pub key: String,
    /// The `ETag` of `manifest.json`, without quotes; empty if the server sent none.
    pub etag: String,
    /// When the inventory was started, if it says so.
    pub created: Option<Timestamp>,
}

impl PinnedInventory {
    /// Returns the inventory that a manifest was made from; `None` if it was not made from one.
    #[must_use]
    pub fn from_pin(pin: &SourcePin) -> Option<Self> {
        let SourcePin::Inventory { bucket, key, etag, created } = pin else { return None };
        let bucket = bucket.as_str().to_owned();
        Some(Self { bucket, key: key.encoded(), etag: etag.clone(), created: *created })
    }

    /// Returns the bucket that holds the inventory.
    #[must_use]
    pub fn bucket(&self) -> BucketName {
        BucketName::new(&self.bucket)
    }

    /// Returns the key of its `manifest.json`.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::decode(self.key.as_bytes())
    }

    /// Returns whether both are the same inventory. An inventory without an `ETag` is never the same as another.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_place = (&self.bucket, &self.key) == (&other.bucket, &other.key);
        same_place && !self.etag.is_empty() && self.etag.eq_ignore_ascii_case(&other.etag)
    }

    /// Returns whether it is newer than another inventory in the same bucket. Inventory folders are named after their
    /// date, so the keys are compared.
    #[must_use]
    pub fn is_newer(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.key() > other.key()
    }

    /// Returns the inventory's folder, for messages.
    #[must_use]
    pub fn folder(&self) -> String {
        let key = self.key().to_string();
        let folder = key.strip_suffix("manifest.json").unwrap_or(&key);
        format!("{}/{folder}", self.bucket)
    }
}

/// What a recurring job processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurringScope {
    /// The inventory.
    pub inventory: PinnedInventory,
    /// Which of its objects. Decided when the job is created, so that a resumed job processes the same objects.
    pub delta_scope: DeltaScope,
    /// When that was decided, by the journal's change counter.
    pub as_of: i64,
}

/// Which objects of an inventory a recurring job processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaScope {
    /// All objects, because the plan says so.
    All,
    /// All objects, because no job of the plan has completed before, as far as is recorded.
    First,
    /// All objects, because this job of a changed plan with the same name has touched objects since a job of this
    /// plan completed.
    PlanChanged(JobId),
    /// All objects, because it is not recorded which inventory the last completed job processed.
    Unrecorded(JobId),
    /// Objects that are new or changed since this job completed, and those that failed in it.
    Since {
        /// The job.
        job: JobId,
        /// The inventory that the job processed.
        inventory: PinnedInventory,
    },
}

impl DeltaScope {
    /// Returns the earlier job whose inventory and failures this scope is based on.
    #[must_use]
    pub fn base_job(&self) -> Option<&JobId> {
        match self {
            Self::Since { job, .. } => Some(job),
            Self::All | Self::First | Self::PlanChanged(_) | Self::Unrecorded(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(key: &str, etag: &str) -> PinnedInventory {
        PinnedInventory { bucket: "b".to_owned(), key: key.to_owned(), etag: etag.to_owned(), created: None }
    }

    #[test]
    fn an_inventory_is_known_again_by_its_place_and_its_etag() {
        let one = inventory("a%20b/manifest.json", "0A");
        assert!(one.is_same(&inventory("a%20b/manifest.json", "0a")));
        assert!(!one.is_same(&inventory("a/manifest.json", "0A")));
        assert!(!one.is_same(&inventory("a%20b/manifest.json", "0B")));
        assert!(!inventory("k", "").is_same(&inventory("k", "")), "without an ETag they cannot be compared");
        assert_eq!(one.folder(), "b/a b/");
    }

    #[test]
    fn delta_scopes_survive_a_round_trip() {
        let since = DeltaScope::Since { job: JobId::random(), inventory: inventory("k", "e") };
        for portion in [DeltaScope::All, DeltaScope::First, DeltaScope::PlanChanged(JobId::random()), since] {
            let text = serde_json::to_string(&portion).expect("text");
            assert_eq!(serde_json::from_str::<DeltaScope>(&text).expect("read"), portion);
        }
    }
}
