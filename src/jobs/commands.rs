//! Commands to a job: confirm, pause, cancel, prioritise or delete it, whether or not a process works on it.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::error::JobError;
use super::job_lease::JobLease;
use super::recurring::deletion_cost;
use super::stored_plan::stored_plan;
use crate::job::JobId;
use crate::job::JobStatus::{
    self, Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
    Ready, Suspended,
};
use crate::journal::{
    ClockLeap, ControlRequest, ExpiredJobs, FileLease, JobFolder, JobRecord, Journal, JournalError, LeaseError,
    PauseCause, ReportDelivery, StatusReason,
};

/// How long to wait for the process that works on a job. That process reads the journal twice a second, but its
/// requests in flight may take longer.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// The interval between two reads of the journal while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The outcome of a command.
#[must_use]
#[derive(Debug)]
pub enum CommandOutcome {
    /// The command is complete.
    Done(JobRecord),
    /// The request is recorded, but the process that works on the job has not completed it yet.
    InProgress(JobRecord),
    /// No process works on the job, and it is Cancelling or Failing. The caller now holds its lease and must finish it.
    MustFinish(JobRecord, JobLease),
}

fn wrong_status(job: &JobRecord, why: &'static str) -> JobError {
    JobError::WrongStatus { job: job.id.clone(), status: job.status, why }
}

/// Confirms a job. A Suspended job becomes Ready at once; a job whose manifest is still being resolved becomes Ready
/// later.
///
/// # Errors
/// Returns an error if the job does not wait for confirmation.
pub fn confirm(journal: &Journal, id: &JobId) -> Result<JobRecord, JobError> {
    let job = journal.find(id.as_str())?;
    match job.status {
        New | Preparing | Suspended => {
            journal.confirm(id)?;
            // The job may have become Suspended meanwhile. From now on, the process that prepares it makes it Ready.
            let job = journal.find(id.as_str())?;
            let ready = || journal.advance(id, Ready, StatusReason::default(), Timestamp::now());
            if job.status == Suspended { Ok(ready()?) } else { Ok(job) }
        }
        _ => Err(wrong_status(&job, "it is not waiting for confirmation")),
    }
}

/// Sets a job's priority. A process that works on the job applies it within a second.
///
/// # Errors
/// Returns an error if the job is over or about to end.
pub fn prioritise(journal: &Journal, id: &JobId, priority: u32) -> Result<JobRecord, JobError> {
    let job = journal.find(id.as_str())?;
    if job.status.is_over() || matches!(job.status, Cancelling | Failing) {
        return Err(wrong_status(&job, "its priority no longer has an effect"));
    }
    journal.set_priority(id, priority)?;
    Ok(JobRecord { priority, ..job })
}

/// Pauses a job.
///
/// # Errors
/// Returns an error if the job's status does not allow it, or if the journal or the lease cannot be used.
pub async fn pause(journal: &Journal, id: &JobId) -> Result<CommandOutcome, JobError> {
    let mut requested = false;
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let job = journal.get(id).await?;
        match job.status {
            Paused => return Ok(CommandOutcome::Done(job)),
            Pausing | Active | Ready => {}
            New | Preparing => {
                return Err(wrong_status(&job, "its manifest is still being resolved; interrupt or cancel it instead"));
            }
            Suspended => return Err(wrong_status(&job, "it is not running, but waiting for confirmation")),
            _ if requested => return Ok(CommandOutcome::Done(job)),
            Cancelling | Failing => return Err(wrong_status(&job, "it is already ending")),
            Complete | Cancelled | Failed | Cleaning | Cleaned => {
                return Err(wrong_status(&job, "it has already ended"));
            }
        }
        match JobLease::acquire(journal, id) {
            Ok(_held) => return pause_unattended(journal, id).map(CommandOutcome::Done),
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => {}
            Err(error) => return Err(error),
        }
        // Repeat a request that is gone: a process that has just resumed the job removes pause requests that were meant
        // for the previous one.
        if !requested || job.request.is_none() {
            journal.request(id, ControlRequest::Pause, None)?;
            requested = true;
        }
        if Instant::now() >= deadline {
            return Ok(CommandOutcome::InProgress(job));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn pause_unattended(journal: &Journal, id: &JobId) -> Result<JobRecord, JobError> {
    let why = || StatusReason::paused(PauseCause::Person, ControlRequest::Pause.default_reason());
    let job = journal.find(id.as_str())?;
    match job.status {
        Paused => return Ok(job),
        Active => {
            journal.advance(id, Pausing, why(), Timestamp::now())?;
        }
        Pausing | Ready => {}
        _ => return Err(wrong_status(&job, "its status has just changed")),
    }
    Ok(journal.advance(id, Paused, why(), Timestamp::now())?)
}

/// Cancels a job. If no process works on it, the caller must finish it, including its report.
///
/// # Errors
/// Returns an error if the job is over or about to end, or if the journal or the lease cannot be used.
pub async fn cancel(journal: &Journal, id: &JobId, reason: Option<String>) -> Result<CommandOutcome, JobError> {
    let mut requested = false;
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let job = journal.get(id).await?;
        match job.status {
            Cancelled | Complete | Failed if requested => return Ok(CommandOutcome::Done(job)),
            Complete | Cancelled | Failed | Cleaning | Cleaned => {
                return Err(wrong_status(&job, "it has already ended"));
            }
            _ => {}
        }
        match JobLease::acquire(journal, id) {
            Ok(held) => return cancel_unattended(journal, id, reason, held),
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) if job.status == Failing && !requested => {
                return Err(wrong_status(&job, "it is already ending"));
            }
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => {}
            Err(error) => return Err(error),
        }
        if !requested {
            journal.request(id, ControlRequest::Cancel, reason.clone())?;
            requested = true;
        }
        if Instant::now() >= deadline {
            return Ok(CommandOutcome::InProgress(job));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn cancel_unattended(
    journal: &Journal,
    id: &JobId,
    reason: Option<String>,
    held: JobLease,
) -> Result<CommandOutcome, JobError> {
    let job = journal.find(id.as_str())?;
    let mut why = reason.unwrap_or_else(|| ControlRequest::Cancel.default_reason().to_owned());
    // Keep the finding when the job is cancelled because of it.
    let is_finding = matches!(job.pause_cause, Some(PauseCause::Server | PauseCause::Capture));
    if let Some(found) = job.reason.as_ref().filter(|_| is_finding) {
        why = format!("{why}; the reason of the earlier pause: {found}");
    }
    let why = StatusReason::because(why);
    let job = match job.status {
        Cancelling | Failing => job,
        Complete | Cancelled | Failed => return Ok(CommandOutcome::Done(job)),
        _ => journal.advance(id, Cancelling, why, Timestamp::now())?,
    };
    if job.next_row.is_none() {
        let last = if job.status == Failing { Failed } else { Cancelled };
        let why = StatusReason { message: job.reason, pause_cause: None };
        return Ok(CommandOutcome::Done(journal.advance(id, last, why, Timestamp::now())?));
    }
    Ok(CommandOutcome::MustFinish(job, held))
}

/// Deletes a job that is over: its record, its frozen manifest, and its report on this machine. With `force`, also
/// deletes a job that cannot finish because its report is damaged, and a job that later jobs depend on. There is no
/// other way to remove those.
///
/// # Errors
/// Returns an error if the job is not over, if a process works on it, or if something would be lost and `force` is not
/// set.
pub fn delete_job(journal: &Journal, id: &JobId, force: bool) -> Result<(), JobError> {
    let job = journal.find(id.as_str())?;
    check_deletable(journal, &job, force)?;
    remove_job(journal, &job)
}

/// Checks whether a job may be deleted.
///
/// # Errors
/// Returns the reason if it may not, as for [`delete_job`].
pub fn check_deletable(journal: &Journal, job: &JobRecord, force: bool) -> Result<(), JobError> {
    match job.status {
        Cancelling | Failing if force => return Ok(()),
        Cancelling | Failing => {
            return Err(wrong_status(job, "its report is incomplete; use --force to delete it anyway"));
        }
        _ if job.status.is_over() => {}
        _ => return Err(wrong_status(job, "cancel it before you delete it")),
    }
    if job.report_delivery == ReportDelivery::Due && !force {
        return Err(JobError::ReportUnpublished(job.id.clone()));
    }
    match deletion_cost(journal, job)?.filter(|_| !force) {
        Some(cost) => Err(JobError::NeededByPlan { job: job.id.clone(), cost }),
        None => Ok(()),
    }
}

/// Removes a job that changed nothing, so that a new job takes its place: one that is Failed or Cancelled, or one that
/// was not confirmed and that no process works on. Returns whether it was removed.
///
/// # Errors
/// Returns an error if the journal or the job's files cannot be used.
pub(super) fn replace_job(journal: &Journal, job: &JobRecord) -> Result<bool, JobError> {
    if !is_unused(journal, job)? {
        return Ok(false);
    }
    let is_left_alone = |error: &JobError| matches!(error, JobError::Lease { cause: LeaseError::Held(_), .. });
    if !job.status.is_over() {
        let _held = match JobLease::acquire(journal, &job.id) {
            Ok(held) => held,
            Err(error) if is_left_alone(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        // Another process may have confirmed or run it before this one took the lease.
        if !is_unused(journal, &journal.find(job.id.as_str())?)? {
            return Ok(false);
        }
        let why = "replaced by a job of the changed plan";
        journal.advance(&job.id, Cancelling, StatusReason::because(why), Timestamp::now())?;
        journal.advance(&job.id, Cancelled, StatusReason::because(why), Timestamp::now())?;
    }
    match remove_job(journal, job) {
        Err(error) if is_left_alone(&error) => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Returns whether a job has not sent a write, is not about to, and is not needed by another job.
fn is_unused(journal: &Journal, job: &JobRecord) -> Result<bool, JobError> {
    let nothing_finished = job.progress.finished() == 0 && job.in_doubt == 0;
    let is_unused = nothing_finished
        && match job.status {
            // A Preparing job stopped before its objects were known, whether it was confirmed by then or not.
            Failed | Cancelled | Preparing => !job.may_have_changed_objects(),
            Suspended => !job.confirmed && !job.may_have_changed_objects(),
            // The first write is recorded before it is sent.
            Paused if job.pause_cause == Some(PauseCause::Server) => journal.server_verdicts(job.number)?.is_empty(),
            _ => false,
        };
    Ok(is_unused && journal.retries_of(&job.id)?.is_empty())
}

/// Removes a job's files, then its record.
fn remove_job(journal: &Journal, job: &JobRecord) -> Result<(), JobError> {
    let folder = JobFolder::of(journal.state_folder(), &job.id);
    let _held = JobLease::acquire(journal, &job.id)?;
    // What the job did must stay known for its plan's store, or for any store if the plan cannot be read.
    if job.store_identity.is_none()
        && let Some(plan) = journal.find(job.id.as_str()).ok().and_then(|job| stored_plan(&job).ok())
    {
        journal.set_store(&job.id, plan.store_identity())?;
    }
    let cleaning = match job.status {
        Cleaning => Ok(()),
        _ => advance_to_cleaning(journal, &job.id),
    };
    let faster =
        |error: &JournalError| matches!(error, JournalError::NoSuchJob(_) | JournalError::IllegalStatusMove { .. });
    match cleaning {
        Ok(()) => {}
        // The job is already deleted, or nearly. The folder was created only to take the lease.
        Err(error) if faster(&error) => {}
        Err(error) => return Err(error.into()),
    }
    match folder.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    match journal.remove_cleaned(&job.id) {
        Err(error) if !faster(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Moves a job to Cleaning. The caller holds the lease, so a status that has changed meanwhile is only closer to the
/// end.
fn advance_to_cleaning(journal: &Journal, id: &JobId) -> Result<(), JournalError> {
    // At once, so that no crash leaves a job that looks as if its report were complete.
    let path: &[JobStatus] = match journal.find(id.as_str())?.status {
        Cancelling => &[Cancelled, Cleaning],
        Failing => &[Failed, Cleaning],
        _ => &[Cleaning],
    };
    journal.advance_through(id, path, Timestamp::now())
}

/// Fails Suspended jobs that were not confirmed in time, and deletes jobs that are past their retention. A job that
/// cannot be deleted now is deleted another time. If a jump of the clock keeps jobs from being deleted, returns it.
///
/// # Errors
/// Returns an error if the journal cannot be used.
pub fn apply_retention(journal: &Journal, now: Timestamp) -> Result<Option<ClockLeap>, JobError> {
    let ExpiredJobs { jobs, leap } = journal.expired_jobs(now)?;
    for job in jobs {
        let result = match job.status {
            Suspended => fail_unconfirmed(journal, &job.id, now),
            _ => remove_job(journal, &job),
        };
        if let Err(JobError::Journal(error)) = result {
            return Err(error.into());
        }
    }
    Ok(leap)
}

/// Fails Suspended jobs that were not confirmed in time, and deletes nothing. For commands that only control a job.
///
/// # Errors
/// As for [`apply_retention`].
pub fn expire_suspended(journal: &Journal, now: Timestamp) -> Result<(), JobError> {
    for job in journal.expired_jobs(now)?.jobs.into_iter().filter(|job| job.status == Suspended) {
        if let Err(JobError::Journal(error)) = fail_unconfirmed(journal, &job.id, now) {
            return Err(error.into());
        }
    }
    Ok(())
}

fn fail_unconfirmed(journal: &Journal, id: &JobId, now: Timestamp) -> Result<(), JobError> {
    // The process that holds the lease is asking for confirmation at this moment.
    if FileLease::is_held(JobFolder::of(journal.state_folder(), id).path())? {
        return Ok(());
    }
    // Does nothing if the job was confirmed after it was listed.
    journal.fail_suspended(id, StatusReason::because("not confirmed within 14 days"), now)?;
    Ok(())
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
