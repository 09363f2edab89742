//! One job, as the journal knows it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::pledge::Pledge;
use super::recurrence::{Inventory, Portion, Recurrence};
use crate::job::{JobId, JobStatus, Progress};
use crate::task::Seq;
use crate::variants::enum_with_all;

/// Where a job's objects come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The plan's own manifest.
    Plan,
    /// What failed in an earlier job.
    Retry {
        /// The earlier job.
        of: JobId,
        /// Whether also what it never attempted.
        unattempted: bool,
    },
    /// The failures of a completion report that was named on the command line.
    Report(ReportOrigin),
}

/// A completion report that is retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportOrigin {
    /// The bucket that holds it; `None` for a file of this machine.
    pub bucket: Option<String>,
    /// Its key, URL-encoded, or its path, absolute.
    pub name: String,
    /// Only failures with one of these HTTP statuses, if any are given.
    pub status: Vec<u16>,
    /// Only failures with one of these error codes, if any are given.
    pub code: Vec<String>,
}

impl ReportOrigin {
    /// Where it is, for people, and for telling it from others.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.bucket {
            Some(bucket) => format!("{bucket}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

enum_with_all! {
    /// Why a job is paused: it says whether anything but a person may resume it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum PauseCause {
        /// Somebody paused it.
        Person,
        /// Its process was asked to end.
        Signal,
        /// The service refuses the credentials.
        Credentials,
        /// Something of this machine failed, such as a full disk.
        Machine,
        /// The server does not do what it is asked, and nothing else.
        Server,
    }
}

impl PauseCause {
    /// Whether only a person may resume it: it was a person's decision, or needs one.
    #[must_use]
    pub fn waits_for_a_person(self) -> bool {
        matches!(self, Self::Person | Self::Server)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Signal => "signal",
            Self::Credentials => "credentials",
            Self::Machine => "machine",
            Self::Server => "server",
        }
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

enum_with_all! {
    /// What somebody asks of the process that works on a job.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Request {
        /// To pause it.
        Pause,
        /// To cancel it.
        Cancel,
    }
}

impl Request {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.as_str() == text)
    }
}

enum_with_all! {
    /// How far the report of a job that has ended, or is ending, has come.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Delivery {
        /// There is none yet: the job has not ended.
        None,
        /// It is complete on this machine, and not yet where the plan wants it.
        Due,
        /// It is where the plan wants it.
        Done,
    }
}

impl Delivery {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Due => "due",
            Self::Done => "done",
        }
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|delivery| delivery.as_str() == text)
    }
}

/// A job that is to be created.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// What names the work: see [`Plan::identity`](crate::plan::Plan::identity).
    pub identity: String,
    /// The plan's client request token.
    pub token: Option<String>,
    /// The plan's name.
    pub name: String,
    /// What names the plan's store: see [`Plan::store_identity`](crate::plan::Plan::store_identity).
    pub store: String,
    /// The plan's description.
    pub description: Option<String>,
    /// Where its objects come from.
    pub origin: Origin,
    /// The plan file, absolute: relative paths in the plan are resolved against its folder.
    pub plan_file: PathBuf,
    /// The plan's hash.
    pub plan_hash: String,
    /// The plan's text.
    pub plan: Vec<u8>,
    /// Whether it need not be confirmed.
    pub confirmed: bool,
    /// Its priority.
    pub priority: u32,
    /// What its manifest must be, where it is of a saved plan.
    pub pledge: Option<Pledge>,
    /// What it works on, where it recurs.
    pub recurrence: Option<Recurrence>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// Its place in the order of creation.
    pub number: i64,
    /// Its id.
    pub id: JobId,
    /// What names the work.
    pub identity: String,
    /// The plan's client request token.
    pub token: Option<String>,
    /// The plan's name.
    pub name: String,
    /// What names the plan's store; `None` in jobs of versions that did not record it.
    pub store: Option<String>,
    /// The plan's description.
    pub description: Option<String>,
    /// Where its objects come from.
    pub origin: Origin,
    /// The plan file that it came from, absolute.
    pub plan_file: PathBuf,
    /// The plan's hash.
    pub plan_hash: String,
    /// The plan's text; empty in a list of jobs.
    pub plan: Vec<u8>,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it stands there, where somebody or something had a reason.
    pub reason: Option<String>,
    /// Why it is paused, where it is.
    pub cause: Option<PauseCause>,
    /// Whether it was confirmed, or need not be.
    pub confirmed: bool,
    /// Its priority.
    pub priority: u32,
    /// When it was created.
    pub created: Timestamp,
    /// When its status last changed.
    pub changed: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its counts, as of the last checkpoint.
    pub progress: Progress,
    /// Objects that may have been changed without an outcome: their work was given up when it last stopped, or its process may
    /// have begun it since the last checkpoint. They are attempted again when it is resumed.
    pub in_doubt: u64,
    /// How many of the rows that are left may have been taken up, in the order in which they are worked on: those in doubt
    /// are among them.
    pub reach: u64,
    /// Rows whose outcomes were lost with a damaged report. They are worked on again, and may have been changed before.
    pub lost: u64,
    /// How long it was worked on, as of the last checkpoint.
    pub active: Duration,
    /// What it may touch, in the words of whoever schedules it.
    pub scope: Option<String>,
    /// The first row of its manifest that was not taken up, as of the last checkpoint.
    pub taken: Option<Seq>,
    /// What is asked of the process that works on it, and why.
    pub request: Option<(Request, Option<String>)>,
    /// How far its report is.
    pub delivery: Delivery,
    /// Where its report is, once it is there.
    pub place: Option<String>,
    /// What its manifest must be, where it is of a saved plan.
    pub pledge: Option<Pledge>,
    /// The inventory that it works on: known from its creation where it recurs, otherwise once its manifest is frozen.
    pub inventory: Option<Inventory>,
    /// Which of its objects, where it recurs.
    pub portion: Option<Portion>,
    /// When it may have changed objects, by the journal's counter.
    pub span: WorkSpan,
}

/// When a job was created and may have changed objects, by the journal's counter of changes: no clock is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkSpan {
    /// When it was decided what it works on.
    pub created: i64,
    /// When it was first Active; `None` where it never was.
    pub began: Option<i64>,
    /// The last moment at which it may have changed an object: [`AT_WORK`] as long as nobody knows that it has ended.
    pub touched: Option<i64>,
}

/// The moment that no other comes after.
pub const AT_WORK: i64 = i64::MAX;

impl JobRecord {
    /// Whether it may have changed an object: any job that has some and was ever Active may have, whatever else is recorded.
    #[must_use]
    pub fn may_have_touched(&self) -> bool {
        self.span.touched.is_some() && self.progress.total > 0
    }

    /// Objects that were certainly never attempted.
    #[must_use]
    pub fn not_attempted(&self) -> u64 {
        self.progress.left().saturating_sub(self.in_doubt)
    }
}

/// The columns that [`JobRecord::read`] takes.
pub(super) const COLUMNS: &str = "number, id, identity, token, name, description, origin, plan_file, plan_hash, plan, \
    status, reason, cause, confirmed, priority, created, changed, ended, total, succeeded, failed, in_doubt, active_ms, \
    scope, taken_part, taken_row, request, request_why, report, place, pledge, inventory, portion, store, created_seq, \
    began_seq, touched_seq, reach, lost";

/// The same without the plan's text, of which a thousand may be a gigabyte: for lists.
pub(super) fn listed() -> String {
    COLUMNS.replace(" plan,", " x'' AS plan,")
}

impl JobRecord {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let why: Option<String> = row.get("request_why")?;
        let taken: (Option<u32>, Option<u32>) = (row.get("taken_part")?, row.get("taken_row")?);
        let origin: String = row.get("origin")?;
        Ok(Self {
            number: row.get("number")?,
            id: parsed(row, "id")?,
            identity: row.get("identity")?,
            token: row.get("token")?,
            name: row.get("name")?,
            store: row.get("store")?,
            description: row.get("description")?,
            origin: serde_json::from_str(&origin).map_err(|error| unreadable(row, "origin", error))?,
            plan_file: PathBuf::from(row.get::<_, String>("plan_file")?),
            plan_hash: row.get("plan_hash")?,
            plan: row.get("plan")?,
            status: parsed(row, "status")?,
            reason: row.get("reason")?,
            cause: optional(row, "cause", PauseCause::read)?,
            confirmed: row.get("confirmed")?,
            priority: row.get("priority")?,
            created: instant(row, "created")?,
            changed: instant(row, "changed")?,
            ended: row.get::<_, Option<i64>>("ended")?.map(|_| instant(row, "ended")).transpose()?,
            progress: Progress {
                total: count(row, "total")?,
                succeeded: count(row, "succeeded")?,
                failed: count(row, "failed")?,
            },
            in_doubt: count(row, "in_doubt")?,
            reach: count(row, "reach")?,
            lost: count(row, "lost")?,
            active: Duration::from_millis(count(row, "active_ms")?),
            scope: row.get("scope")?,
            taken: taken.0.zip(taken.1).map(|(part, row)| Seq { part, row }),
            request: optional(row, "request", Request::read)?.map(|request| (request, why)),
            delivery: named(row, "report", Delivery::read)?,
            place: row.get("place")?,
            pledge: kept(row, "pledge")?,
            inventory: kept(row, "inventory")?,
            portion: kept(row, "portion")?,
            span: WorkSpan {
                created: row.get("created_seq")?,
                began: row.get("began_seq")?,
                touched: row.get("touched_seq")?,
            },
        })
    }
}

/// Something that the journal keeps as JSON, if at all.
fn kept<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(row, column, error))).transpose()
}

/// A count: `SQLite`'s integers are signed, ours never get there.
pub(super) fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|error| unreadable(row, column, error))
}

/// A count on its way into the database.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(row, column, error))
}

/// A value that the journal never holds, unless its file is damaged.
pub(super) fn unreadable(
    row: &Row<'_>,
    column: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

fn instant(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(column)?).map_err(|error| unreadable(row, column, error))
}

/// Something that the journal keeps by its name.
pub(super) fn named<T>(row: &Row<'_>, column: &str, read: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    read(&name).ok_or_else(|| unreadable(row, column, NotAName))
}

fn optional<T>(row: &Row<'_>, column: &str, read: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|_| named(row, column, read)).transpose()
}

/// The journal holds a name that it never gives.
#[derive(Debug, thiserror::Error)]
#[error("it is none of the names that stand there")]
struct NotAName;
