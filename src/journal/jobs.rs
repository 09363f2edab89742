//! Jobs: created, found by their ids or the start of one, listed, moved from status to status, and removed. What
//! removed jobs did stays recorded as long as later work under the same name may depend on it.
//!
//! Changes are ordered by a counter that increases whenever a job is created or moved, never by a clock.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter};

use super::checkpoint::update_job_checksum;
use super::db::Journal;
use super::error::{DatabaseCommandError, JournalError};
use super::record::{
    COLUMNS, ControlRequest, JobRecord, NewJob, PauseCause, PinnedInventory, ReportDelivery, STILL_ACTIVE,
    columns_without_plan,
};
use super::retention::advance_clock;
use super::row::{count_to_sql, parsed_column};
use crate::job::{JobId, JobStatus};
use crate::paths::path_to_text;

/// The number of jobs that may wait to run.
const MAX_WAITING_JOBS: u64 = 1000;

/// The result of creating a job.
#[must_use]
#[derive(Clone, Debug)]
pub enum JobCreation {
    /// A new job was created.
    Created(JobRecord),
    /// The work already has a job: an unfinished one, or the one that was created with the same token.
    Existing(JobRecord),
}

/// The reason for a new status.
#[derive(Clone, Debug, Default)]
pub struct StatusReason {
    /// A message for users.
    pub message: Option<String>,
    /// Why the job is paused; `None` for other statuses.
    pub pause_cause: Option<PauseCause>,
}

impl StatusReason {
    /// A reason with a message and no cause.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self { message: Some(reason.into()), pause_cause: None }
    }

    /// The reason for a pause.
    #[must_use]
    pub fn paused(cause: PauseCause, reason: impl Into<String>) -> Self {
        Self { message: Some(reason.into()), pause_cause: Some(cause) }
    }
}

/// Selects the jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobQuery {
    /// Jobs with one of these statuses; empty means any.
    pub statuses: Vec<JobStatus>,
    /// Jobs created at this instant or later.
    pub created_from: Option<Timestamp>,
    /// Jobs created before this instant.
    pub created_until: Option<Timestamp>,
    /// Jobs older than the job with this number: the last one of the previous page.
    pub older_than: Option<i64>,
    /// The maximum number of jobs.
    pub limit: u32,
}

/// Everything recorded about the jobs of one plan name and store at one moment.
#[derive(Clone, Debug, Default)]
pub struct NamedWorkHistory {
    /// The jobs, newest first, without the text of their plans. Includes jobs that are being removed and jobs whose
    /// store was never recorded.
    pub jobs: Vec<JobRecord>,
    /// What jobs did that are no longer kept.
    pub removed_jobs: Vec<RemovedJobWork>,
    /// The moment, by the journal's change counter.
    pub as_of: i64,
}

/// What the removed jobs of one plan did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedJobWork {
    /// The hash of the plan.
    pub plan_hash: String,
    /// The last of the jobs.
    pub job: JobId,
    /// The last moment at which that job may have changed an object, by the journal's change counter.
    pub last_touched: i64,
}

impl Journal {
    /// Creates a job, unless the same work has an unfinished job that must be resumed. With `force_new` it creates one
    /// in any case, except if the job's token already has one.
    ///
    /// # Errors
    /// Returns an error if the queue is full or the journal cannot be written.
    pub fn create(&self, new: NewJob, force_new: bool, now: Timestamp) -> Result<JobCreation, JournalError> {
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if let Some(found) = newest_with_identity(&transaction, &new.identity)?
                && (new.token.is_some() || !(force_new || found.status.is_over()))
            {
                return Ok(JobCreation::Existing(found));
            }
            let waiting: i64 = transaction.query_row(
                "SELECT count(*) FROM job WHERE status IN ('New', 'Preparing', 'Suspended', 'Ready')",
                [],
                |row| row.get(0),
            )?;
            if u64::try_from(waiting).unwrap_or(0) >= MAX_WAITING_JOBS {
                return Err(JournalError::QueueFull(MAX_WAITING_JOBS).into());
            }
            insert(&transaction, &new, now)?;
            let job = find(&transaction, new.id.as_str())?;
            transaction.commit()?;
            Ok(JobCreation::Created(job))
        })
    }

    /// Returns the newest job with this identity.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn latest_with_identity(&self, identity: &str) -> Result<Option<JobRecord>, JournalError> {
        let identity = identity.to_owned();
        self.run_blocking(move |connection| newest_with_identity(connection, &identity))
    }

    /// Finds the job by its id or by the start of its id.
    ///
    /// # Errors
    /// Returns an error if no job or several jobs match, or the journal cannot be read.
    pub fn find(&self, prefix: &str) -> Result<JobRecord, JournalError> {
        let prefix = prefix.to_owned();
        self.run_blocking(move |connection| find(connection, &prefix))
    }

    /// Like [`find`](Self::find) for a complete id, without blocking the current thread.
    ///
    /// # Errors
    /// Returns an error if there is no such job or the journal cannot be read.
    pub async fn get(&self, id: &JobId) -> Result<JobRecord, JournalError> {
        let id = id.clone();
        self.run(move |connection| find(connection, id.as_str())).await
    }

    /// Returns the matching jobs, newest first, without the text of their plans.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn list(&self, query: JobQuery) -> Result<Vec<JobRecord>, JournalError> {
        self.run_blocking(move |connection| list(connection, &query))
    }

    /// Returns the jobs that were created to retry the failures of a job.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn retries_of(&self, id: &JobId) -> Result<Vec<JobRecord>, JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let sql = format!(
                "SELECT {} FROM job WHERE origin ->> '$.retry.of' = ?1 ORDER BY number",
                columns_without_plan()
            );
            let mut statement = connection.prepare(&sql)?;
            let jobs = statement.query_map([id.as_str()], JobRecord::from_row)?;
            Ok(jobs.collect::<Result<_, _>>()?)
        })
    }

    /// Moves a job to another status. A confirmed job becomes Ready instead of Suspended, so that it can be confirmed
    /// at any time before that.
    ///
    /// # Errors
    /// Returns an error if the move is not legal, the job does not exist, or the journal cannot be written.
    pub fn advance(
        &self,
        id: &JobId,
        to: JobStatus,
        why: StatusReason,
        now: Timestamp,
    ) -> Result<JobRecord, JournalError> {
        let id = id.clone();
        let job = self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = advance(&transaction, &id, to, &why, now)?;
            transaction.commit()?;
            Ok(job)
        })?;
        self.notify_status_changed(&job);
        Ok(job)
    }

    /// Moves a job through several statuses at once: after a crash it has the last of them, or the one from before.
    ///
    /// # Errors
    /// Returns an error if a move is not legal, the job does not exist, or the journal cannot be written.
    pub fn advance_through(&self, id: &JobId, path: &[JobStatus], now: Timestamp) -> Result<(), JournalError> {
        let (id, path) = (id.clone(), path.to_vec());
        let moved = self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let records = path.iter().map(|to| advance(&transaction, &id, *to, &StatusReason::default(), now));
            let moved = records.collect::<Result<Vec<_>, _>>()?;
            transaction.commit()?;
            Ok(moved)
        })?;
        for job in &moved {
            self.notify_status_changed(job);
        }
        Ok(())
    }

    /// Makes a Ready job Active if `may_start` agrees. `may_start` gets the job and every other job that is Ready,
    /// Active or Pausing. No other process can make a job Active at the same time.
    ///
    /// # Errors
    /// Returns an error if the job may not become Active, or the journal cannot be written.
    pub async fn activate<W: Send + 'static>(
        &self,
        id: &JobId,
        may_start: impl FnOnce(&JobRecord, &[JobRecord]) -> Result<(), W> + Send + 'static,
        now: Timestamp,
    ) -> Result<Result<JobRecord, W>, JournalError> {
        let id = id.clone();
        let made = self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = find(&transaction, id.as_str())?;
            let statuses = vec![JobStatus::Ready, JobStatus::Active, JobStatus::Pausing];
            let others = list(&transaction, &JobQuery { statuses, limit: u32::MAX, ..JobQuery::default() })?;
            let others: Vec<_> = others.into_iter().filter(|other| other.id != id).collect();
            if let Err(waits) = may_start(&job, &others) {
                return Ok(Err(waits));
            }
            let job = advance(&transaction, &id, JobStatus::Active, &StatusReason::default(), now)?;
            transaction.commit()?;
            Ok(Ok(job))
        });
        Ok(made.await?.inspect(|job| self.notify_status_changed(job)))
    }

    /// Replaces the text of a job's plan: the same plan with other limits. `keep` is how long the job is kept after its
    /// end, if that is longer than other jobs.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn replace_plan(&self, id: &JobId, plan: Vec<u8>, keep: Option<SignedDuration>) -> Result<(), JournalError> {
        self.set_column(id, "plan = ?2", plan)?;
        self.set_column(id, "keep_ms = ?2", keep_ms(keep))
    }

    /// Sets a job's priority.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_priority(&self, id: &JobId, priority: u32) -> Result<(), JournalError> {
        self.set_column(id, "priority = ?2", priority)
    }

    /// Records that a job needs no more confirmation.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn confirm(&self, id: &JobId) -> Result<(), JournalError> {
        self.set_column(id, "confirmed = ?2", true)
    }

    /// Records which objects a job may touch.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_scope(&self, id: &JobId, scope: String) -> Result<(), JournalError> {
        self.set_column(id, "scope = ?2", scope)
    }

    /// Records how many objects a job has.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_total(&self, id: &JobId, total: u64) -> Result<(), JournalError> {
        self.set_column(id, "total = ?2", count_to_sql(total))
    }

    /// Records why a job stopped without a change of its status, or with `None` that it no longer does.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_reason(&self, id: &JobId, reason: Option<String>) -> Result<(), JournalError> {
        self.set_column(id, "reason = ?2", reason)
    }

    /// Records how far a job's report is, and its location if one is given.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_report_delivery(
        &self,
        id: &JobId,
        delivery: ReportDelivery,
        place: Option<String>,
    ) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let sql = "UPDATE job SET report = ?2, place = coalesce(?3, place) WHERE id = ?1";
            let changed = connection.execute(sql, params![id.as_str(), delivery.as_str(), place])?;
            expect_one_row(changed, &id)
        })
    }

    /// Sends a request to the process that works on a job. It checks for requests about twice a second. A pause does
    /// not replace a cancel, and is ignored if the job is paused or over: the next run would pause at once.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn request(&self, id: &JobId, request: ControlRequest, why: Option<String>) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = find(&transaction, id.as_str())?;
            let settled = job.status == JobStatus::Paused || cancel_requested(&job);
            if !(job.status.is_over() || request == ControlRequest::Pause && settled) {
                let sql = "UPDATE job SET request = ?2, request_why = ?3 WHERE id = ?1";
                transaction.execute(sql, params![id.as_str(), request.as_str(), why])?;
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// Withdraws a pause request that was meant for the previous run. A cancel request stays.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn withdraw_pause_request(&self, id: &JobId) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let sql = "UPDATE job SET request = NULL, request_why = NULL WHERE id = ?1 AND request = 'pause'";
            connection.execute(sql, [id.as_str()])?;
            Ok(())
        })
    }

    /// Removes a job that is New or Preparing: nothing but its manifest was read.
    ///
    /// # Errors
    /// Returns an error if the job has another status or the journal cannot be written.
    pub fn remove_unstarted(&self, id: &JobId) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let changed = connection
                .execute("DELETE FROM job WHERE id = ?1 AND status IN ('New', 'Preparing')", [id.as_str()])?;
            expect_one_row(changed, &id)
        })
    }

    /// Records the identity of a job's store, if an older version created the job without it.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_store(&self, id: &JobId, store: String) -> Result<(), JournalError> {
        self.set_column(id, "store = ?2", store)
    }

    /// Removes a job in status Cleaning and everything recorded about it, except that it may have changed objects.
    ///
    /// # Errors
    /// Returns an error if the job is not in status Cleaning or the journal cannot be written.
    pub fn remove_cleaned(&self, id: &JobId) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = find_any(&transaction, &id)?.filter(|job| job.status == JobStatus::Cleaning);
            let job = job.ok_or_else(|| JournalError::NoSuchJob(id.to_string()))?;
            transaction.execute("DELETE FROM job WHERE number = ?1", [job.number])?;
            remember_removed(&transaction, &job)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Records how many objects were started and are not in the report.
    ///
    /// # Errors
    /// Returns an error if there is no such job or the journal cannot be written.
    pub fn set_in_doubt(&self, id: &JobId, objects: u64) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = find_any(&transaction, &id)?.ok_or_else(|| JournalError::NoSuchJob(id.to_string()))?;
            transaction.execute(
                "UPDATE job SET in_doubt = ?2 WHERE number = ?1",
                params![job.number, count_to_sql(objects)],
            )?;
            update_job_checksum(&transaction, job.number)?;
            Ok(transaction.commit()?)
        })
    }

    /// Fails a Suspended job with this reason. Returns false if the job is no longer Suspended: it may have been
    /// confirmed, cancelled or removed.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn fail_suspended(&self, id: &JobId, why: StatusReason, now: Timestamp) -> Result<bool, JournalError> {
        let id = id.clone();
        let failed = self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if find_any(&transaction, &id)?.is_none_or(|job| job.status != JobStatus::Suspended) {
                return Ok(None);
            }
            advance(&transaction, &id, JobStatus::Failing, &why, now)?;
            let job = advance(&transaction, &id, JobStatus::Failed, &why, now)?;
            transaction.commit()?;
            Ok(Some(job))
        })?;
        if let Some(job) = &failed {
            self.notify_status_changed(job);
        }
        Ok(failed.is_some())
    }

    /// Returns the job with this number, in any status.
    ///
    /// # Errors
    /// Returns an error if there is no such job or the journal cannot be read.
    pub fn job_by_number(&self, number: i64) -> Result<JobRecord, JournalError> {
        self.run_blocking(move |connection| find_by_number(connection, number))
    }

    fn set_column(
        &self,
        id: &JobId,
        assignment: &'static str,
        value: impl rusqlite::ToSql + Send + 'static,
    ) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let sql = format!("UPDATE job SET {assignment} WHERE id = ?1");
            let changed = connection.execute(&sql, params![id.as_str(), value])?;
            expect_one_row(changed, &id)
        })
    }
}

fn expect_one_row(changed: usize, id: &JobId) -> Result<(), DatabaseCommandError> {
    if changed == 1 { Ok(()) } else { Err(JournalError::NoSuchJob(id.to_string()).into()) }
}

/// Returns how long a job is kept after its end, in milliseconds; 0 if it is kept as long as any.
fn keep_ms(keep: Option<SignedDuration>) -> i64 {
    keep.map_or(0, |keep| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX))
}

fn insert(transaction: &Transaction<'_>, new: &NewJob, now: Timestamp) -> Result<(), DatabaseCommandError> {
    let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let origin = serde_json::to_string(&new.source).map_err(unwritable)?;
    let fingerprint = new.manifest_fingerprint.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    let (inventory, delta_scope) = new.recurrence.as_ref().map(|it| (&it.inventory, &it.delta_scope)).unzip();
    let inventory = inventory.map(serde_json::to_string).transpose().map_err(unwritable)?;
    let delta_scope = delta_scope.map(serde_json::to_string).transpose().map_err(unwritable)?;
    let stamp = record_change(transaction, now)?;
    transaction.execute(
        "INSERT INTO job (id, identity, token, name, description, origin, plan_file, plan_hash, plan, status, confirmed,
                          priority, created, changed, pledge, inventory, portion, store, created_seq, aged_from,
                          endpoints, captures, keep_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'New', ?10, ?11, ?12, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, 1, ?20)",
        params![
            new.id.as_str(),
            new.identity,
            new.token,
            new.name,
            new.description,
            origin,
            path_to_text(&new.plan_file),
            new.plan_hash,
            new.plan_text,
            new.confirmed,
            new.priority,
            now.as_millisecond(),
            fingerprint,
            inventory,
            delta_scope,
            new.store_identity,
            // Its scope was decided at `as_of`: later changes may not be part of it.
            new.recurrence.as_ref().map_or(stamp.sequence, |recurrence| recurrence.as_of),
            stamp.at,
            new.environment_endpoints,
            keep_ms(new.keep),
        ],
    )?;
    Ok(())
}

fn newest_with_identity(connection: &Connection, identity: &str) -> Result<Option<JobRecord>, DatabaseCommandError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM job WHERE identity = ?1 AND status NOT IN ('Cleaning', 'Cleaned')
         ORDER BY number DESC LIMIT 1"
    );
    Ok(connection.query_row(&sql, [identity], JobRecord::from_row).optional()?)
}

fn find(connection: &Connection, prefix: &str) -> Result<JobRecord, DatabaseCommandError> {
    let none = || JournalError::NoSuchJob(prefix.chars().take(64).collect());
    // Only characters of ids: then all ids with this prefix sort before the prefix followed by a tilde.
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'=') {
        return Err(none().into());
    }
    let there = "id >= ?1 AND id < ?1 || '~' AND status NOT IN ('Cleaning', 'Cleaned')";
    let sql = format!("SELECT {COLUMNS} FROM job WHERE {there} LIMIT 2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut jobs: Vec<_> = statement.query_map([prefix], JobRecord::from_row)?.collect::<Result<_, _>>()?;
    if jobs.len() > 1 {
        let sql = format!("SELECT count(*) FROM job WHERE {there}");
        let count: i64 = connection.query_row(&sql, [prefix], |row| row.get(0))?;
        let count = u64::try_from(count).unwrap_or(0);
        return Err(JournalError::AmbiguousId { prefix: prefix.to_owned(), count }.into());
    }
    jobs.pop().ok_or_else(|| none().into())
}

fn list(connection: &Connection, query: &JobQuery) -> Result<Vec<JobRecord>, DatabaseCommandError> {
    let statuses: Vec<_> = query.statuses.iter().map(|status| format!("'{status}'")).collect();
    let of_status = if statuses.is_empty() { String::new() } else { format!("AND status IN ({})", statuses.join(",")) };
    let sql = format!(
        "SELECT {} FROM job WHERE status NOT IN ('Cleaning', 'Cleaned') {of_status}
         AND created >= ?1 AND created < ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4",
        columns_without_plan()
    );
    let bounds = [
        query.created_from.map_or(i64::MIN, Timestamp::as_millisecond),
        query.created_until.map_or(i64::MAX, Timestamp::as_millisecond),
        query.older_than.unwrap_or(i64::MAX),
        i64::from(query.limit),
    ];
    let mut statement = connection.prepare_cached(&sql)?;
    let jobs = statement.query_map(params_from_iter(bounds), JobRecord::from_row)?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

fn advance(
    transaction: &Transaction<'_>,
    id: &JobId,
    to: JobStatus,
    why: &StatusReason,
    now: Timestamp,
) -> Result<JobRecord, DatabaseCommandError> {
    let none = || JournalError::NoSuchJob(id.to_string());
    let job = find_any(transaction, id)?.ok_or_else(none)?;
    if !job.status.can_become(to) {
        return Err(JournalError::IllegalStatusMove { job: id.clone(), from: job.status, to }.into());
    }
    let to = if to == JobStatus::Suspended && job.confirmed { JobStatus::Ready } else { to };
    // A pause does not answer a cancel request.
    let answered = to.is_over() || (to == JobStatus::Paused && !cancel_requested(&job));
    let stamp = record_change(transaction, now)?;
    let is_stopped = to == JobStatus::Paused || to.is_over();
    let (first_active, last_touched) = match (to, job.work_span.last_touched) {
        (JobStatus::Active, _) => (job.work_span.first_active.or(Some(stamp.sequence)), Some(STILL_ACTIVE)),
        (_, Some(STILL_ACTIVE)) if is_stopped => (job.work_span.first_active, Some(stamp.sequence)),
        (_, touched) => (job.work_span.first_active, touched),
    };
    transaction.execute(
        "UPDATE job SET status = ?2, reason = ?3, cause = ?4, changed = ?5, ended = CASE WHEN ?6 THEN ?5 ELSE ended END,
                        request = CASE WHEN ?7 THEN NULL ELSE request END,
                        request_why = CASE WHEN ?7 THEN NULL ELSE request_why END,
                        began_seq = ?8, touched_seq = ?9, aged_from = ?10
         WHERE id = ?1",
        params![
            id.as_str(),
            to.as_str(),
            why.message,
            why.pause_cause.map(PauseCause::as_str),
            now.as_millisecond(),
            matches!(to, JobStatus::Complete | JobStatus::Cancelled | JobStatus::Failed),
            answered,
            first_active,
            last_touched,
            stamp.at,
        ],
    )?;
    Ok(find_any(transaction, id)?.ok_or_else(none)?)
}

fn cancel_requested(job: &JobRecord) -> bool {
    matches!(job.request, Some((ControlRequest::Cancel, _)))
}

/// The position and time of a recorded change.
#[derive(Clone, Copy, Debug)]
struct ChangeStamp {
    sequence: i64,
    /// The time of the change in milliseconds, at least the latest trusted time, so that the change never seems older
    /// than it is.
    at: i64,
}

/// Records a change that is made now.
fn record_change(transaction: &Transaction<'_>, now: Timestamp) -> Result<ChangeStamp, DatabaseCommandError> {
    let time = advance_clock(transaction, now)?;
    let sequence = transaction.query_row("UPDATE clock SET moves = moves + 1 RETURNING moves", [], |row| row.get(0))?;
    Ok(ChangeStamp { sequence, at: now.as_millisecond().max(time.latest) })
}

/// Returns the number of the last change.
fn last_change(connection: &Connection) -> Result<i64, DatabaseCommandError> {
    Ok(connection.query_row("SELECT moves FROM clock", [], |row| row.get(0))?)
}

/// Returns a job in any status, including those that are never shown.
fn find_any(connection: &Connection, id: &JobId) -> Result<Option<JobRecord>, DatabaseCommandError> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE id = ?1");
    Ok(connection.query_row(&sql, [id.as_str()], JobRecord::from_row).optional()?)
}

fn find_by_number(connection: &Connection, number: i64) -> Result<JobRecord, DatabaseCommandError> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE number = ?1");
    let job = connection.query_row(&sql, [number], JobRecord::from_row).optional()?;
    Ok(job.ok_or_else(|| JournalError::NoSuchJob(format!("number {number}")))?)
}

impl Journal {
    /// Returns everything recorded about the work under a plan's name on a store, by any plan or retry.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn work_history(&self, name: &str, store: &str) -> Result<NamedWorkHistory, JournalError> {
        let (name, store) = (name.to_owned(), store.to_owned());
        self.run_blocking(move |connection| {
            let transaction = connection.transaction()?;
            let sql = format!(
                "SELECT {} FROM job WHERE name = ?1 AND (store IS NULL OR store = ?2) ORDER BY number DESC",
                columns_without_plan()
            );
            let mut statement = transaction.prepare(&sql)?;
            let jobs = statement.query_map([&name, &store], JobRecord::from_row)?.collect::<Result<_, _>>()?;
            let sql = "SELECT plan_hash, job, touched_seq FROM past_work WHERE name = ?1 AND store IN ('', ?2)";
            let mut statement = transaction.prepare(sql)?;
            let past = statement.query_map([&name, &store], |row| {
                let (plan_hash, last_touched) = (row.get("plan_hash")?, row.get("touched_seq")?);
                Ok(RemovedJobWork { plan_hash, job: parsed_column(row, "job")?, last_touched })
            })?;
            let past = past.collect::<Result<_, _>>()?;
            Ok(NamedWorkHistory { jobs, removed_jobs: past, as_of: last_change(&transaction)? })
        })
    }

    /// Records that an interrupted job which is still Active is being processed again. Until its end is recorded, it
    /// may change objects.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn mark_work_resumed(&self, id: &JobId) -> Result<(), JournalError> {
        self.set_column(id, "touched_seq = ?2", STILL_ACTIVE)
    }

    /// Records that an interrupted job is no longer being processed: it may have changed objects until now. The
    /// caller must hold the job's lease.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn mark_work_ended(&self, id: &JobId, now: Timestamp) -> Result<(), JournalError> {
        let id = id.clone();
        self.run_blocking(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let stamp = record_change(&transaction, now)?;
            let sql = "UPDATE job SET touched_seq = ?2 WHERE id = ?1 AND touched_seq = ?3";
            transaction.execute(sql, params![id.as_str(), stamp.sequence, STILL_ACTIVE])?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Records which inventory a job processes.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the journal cannot be written.
    pub fn set_inventory(&self, id: &JobId, inventory: &PinnedInventory) -> Result<(), JournalError> {
        // An inventory can always be written as JSON.
        self.set_column(id, "inventory = ?2", serde_json::to_string(inventory).ok())
    }
}

/// Records that a removed job may have changed objects, since a later job under the same name may depend on it. The
/// last two plans of each name and store are enough. If no job with the name is left, all records of the name are
/// deleted.
fn remember_removed(transaction: &Transaction<'_>, job: &JobRecord) -> Result<(), DatabaseCommandError> {
    let store = job.store_identity.as_deref().unwrap_or("");
    if let Some(last_touched) = job.work_span.last_touched.filter(|_| job.may_have_changed_objects()) {
        transaction.execute(
            "INSERT INTO past_work (name, store, plan_hash, job, touched_seq) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET job = ?4, touched_seq = ?5 WHERE touched_seq < ?5",
            params![job.name, store, job.plan_hash, job.id.as_str(), last_touched],
        )?;
        transaction.execute(
            "DELETE FROM past_work WHERE name = ?1 AND store = ?2 AND plan_hash NOT IN
                 (SELECT plan_hash FROM past_work WHERE name = ?1 AND store = ?2 ORDER BY touched_seq DESC LIMIT 2)",
            params![job.name, store],
        )?;
    }
    transaction.execute(
        "DELETE FROM past_work WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM job WHERE name = ?1)",
        [&job.name],
    )?;
    Ok(())
}

impl Journal {
    /// Returns the ids of all jobs.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn ids(&self) -> Result<Vec<JobId>, JournalError> {
        self.run_blocking(|connection| {
            let sql = "SELECT id FROM job WHERE status NOT IN ('Cleaning', 'Cleaned')";
            let mut statement = connection.prepare(sql)?;
            let ids = statement.query_map([], |row| parsed_column(row, "id"))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
