//! What somebody orders from outside: to confirm, pause, cancel, prioritise or forget a job, whether or not a process
//! works on it.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::desk::{Held, stored_plan};
use super::error::JobError;
use super::recurring::cost_of_forgetting;
use crate::job::JobId;
use crate::job::JobStatus::{
    Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
    Ready, Suspended,
};
use crate::journal::{
    ClockLeap, Delivery, JobFolder, JobRecord, Journal, JournalError, Lease, LeaseError, Outlived, PauseCause, Request,
    Why,
};

/// How long a process that works on a job is waited for. It looks twice a second; what is in flight may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the journal is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What became of an order.
#[must_use]
#[derive(Debug)]
pub enum Ordered {
    /// It is done.
    Done(JobRecord),
    /// The process that works on the job has taken it, and is still finishing what is in flight.
    Underway(JobRecord),
    /// Nobody works on the job: it is Cancelling, or was Failing when it was interrupted, and whoever holds it is
    /// to end it.
    Yours(JobRecord, Held),
}

fn not_now(job: &JobRecord, why: &'static str) -> JobError {
    JobError::NotNow { job: job.id.clone(), status: job.status, why }
}

/// Confirms a job: a Suspended one becomes Ready, one whose manifest is still being resolved will.
///
/// # Errors
/// When it does not wait for that.
pub fn confirm(journal: &Journal, id: &JobId) -> Result<JobRecord, JobError> {
    let job = journal.find(id.as_str())?;
    match job.status {
        New | Preparing | Suspended => {
            journal.confirm(id)?;
            // By now it may be Suspended or not: whoever prepares it makes it Ready from here on.
            let job = journal.find(id.as_str())?;
            let ready = || journal.advance(id, Ready, Why::default(), Timestamp::now());
            if job.status == Suspended { Ok(ready()?) } else { Ok(job) }
        }
        _ => Err(not_now(&job, "it does not wait to be confirmed")),
    }
}

/// Sets a job's priority. A process that works on it follows within a second.
///
/// # Errors
/// When the job is over.
pub fn prioritise(journal: &Journal, id: &JobId, priority: u32) -> Result<JobRecord, JobError> {
    let job = journal.find(id.as_str())?;
    if job.status.is_over() || matches!(job.status, Cancelling | Failing) {
        return Err(not_now(&job, "nothing is left to be done sooner"));
    }
    journal.set_priority(id, priority)?;
    Ok(JobRecord { priority, ..job })
}

/// Pauses a job.
///
/// # Errors
/// When there is nothing to pause.
pub async fn pause(journal: &Journal, id: &JobId) -> Result<Ordered, JobError> {
    let mut told = false;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let job = journal.look(id).await?;
        match job.status {
            Paused => return Ok(Ordered::Done(job)),
            Pausing | Active | Ready => {}
            New | Preparing => {
                return Err(not_now(&job, "its manifest is being resolved, which can be interrupted or cancelled"));
            }
            Suspended => return Err(not_now(&job, "it waits to be confirmed, and nothing is done for it")),
            _ if told => return Ok(Ordered::Done(job)),
            Cancelling | Failing => return Err(not_now(&job, "it is coming to its end")),
            Complete | Cancelled | Failed | Cleaning | Cleaned => return Err(not_now(&job, "it is over")),
        }
        match Held::take(journal, id) {
            Ok(_held) => return pause_unheld(journal, id).map(Ordered::Done),
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => {}
            Err(error) => return Err(error),
        }
        // Again where it is gone: whoever has just taken up the job has taken back what was meant for the one before.
        if !told || job.request.is_none() {
            journal.request(id, Request::Pause, None)?;
            told = true;
        }
        if Instant::now() >= deadline {
            return Ok(Ordered::Underway(job));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn pause_unheld(journal: &Journal, id: &JobId) -> Result<JobRecord, JobError> {
    let why = || Why::paused(PauseCause::Person, "on request");
    let job = journal.find(id.as_str())?;
    match job.status {
        Paused => return Ok(job),
        Active => {
            journal.advance(id, Pausing, why(), Timestamp::now())?;
        }
        Pausing | Ready => {}
        _ => return Err(not_now(&job, "it has changed meanwhile")),
    }
    Ok(journal.advance(id, Paused, why(), Timestamp::now())?)
}

/// Cancels a job. One that nobody works on is the caller's to end: its report is to be finished.
///
/// # Errors
/// When it is over, or coming to its end.
pub async fn cancel(journal: &Journal, id: &JobId, reason: Option<String>) -> Result<Ordered, JobError> {
    let mut told = false;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let job = journal.look(id).await?;
        match job.status {
            Cancelled | Complete | Failed if told => return Ok(Ordered::Done(job)),
            Complete | Cancelled | Failed | Cleaning | Cleaned => return Err(not_now(&job, "it is over")),
            _ => {}
        }
        match Held::take(journal, id) {
            Ok(held) => return cancel_unheld(journal, id, reason, held),
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) if job.status == Failing && !told => {
                return Err(not_now(&job, "it is coming to its end"));
            }
            Err(JobError::Lease { cause: LeaseError::Held(_), .. }) => {}
            Err(error) => return Err(error),
        }
        if !told {
            journal.request(id, Request::Cancel, reason.clone())?;
            told = true;
        }
        if Instant::now() >= deadline {
            return Ok(Ordered::Underway(job));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn cancel_unheld(journal: &Journal, id: &JobId, reason: Option<String>, held: Held) -> Result<Ordered, JobError> {
    let job = journal.find(id.as_str())?;
    let mut why = reason.unwrap_or_else(|| "on request".to_owned());
    // The finding about the server stays known when the job is cancelled for it.
    if let Some(found) = job.reason.as_ref().filter(|_| job.cause == Some(PauseCause::Server)) {
        why = format!("{why}; it was paused before: {found}");
    }
    let why = Why::because(why);
    let job = match job.status {
        Cancelling | Failing => job,
        Complete | Cancelled | Failed => return Ok(Ordered::Done(job)),
        _ => journal.advance(id, Cancelling, why, Timestamp::now())?,
    };
    if job.taken.is_none() {
        let last = if job.status == Failing { Failed } else { Cancelled };
        let why = Why { reason: job.reason, cause: None };
        return Ok(Ordered::Done(journal.advance(id, last, why, Timestamp::now())?));
    }
    Ok(Ordered::Yours(job, held))
}

/// Forgets a job that is over: its record, its frozen manifest and its report on this machine. With `force` also one that
/// comes to its end and cannot, because its report is damaged, and one that later jobs go by: nothing else would ever be rid
/// of it.
///
/// # Errors
/// When it is not over, somebody works on it, or something would be lost and `force` does not say that it may.
pub fn forget(journal: &Journal, id: &JobId, force: bool) -> Result<(), JobError> {
    let job = journal.find(id.as_str())?;
    may_forget(journal, &job, force)?;
    clean(journal, &job)
}

/// Whether a job may be forgotten.
///
/// # Errors
/// Why not, as for [`forget`].
pub fn may_forget(journal: &Journal, job: &JobRecord, force: bool) -> Result<(), JobError> {
    match job.status {
        Cancelling | Failing if force => return Ok(()),
        Cancelling | Failing => {
            return Err(not_now(job, "its report is to be completed, and is lost only with --force"));
        }
        _ if job.status.is_over() => {}
        _ => return Err(not_now(job, "only a job that is over can be deleted: cancel it first")),
    }
    if job.delivery == Delivery::Due && !force {
        return Err(JobError::Unpublished(job.id.clone()));
    }
    match cost_of_forgetting(journal, job)?.filter(|_| !force) {
        Some(cost) => Err(JobError::Needed { job: job.id.clone(), cost }),
        None => Ok(()),
    }
}

/// Removes a job's files, then its record.
fn clean(journal: &Journal, job: &JobRecord) -> Result<(), JobError> {
    let folder = JobFolder::of(journal.state(), &job.id);
    let _held = Held::take(journal, &job.id)?;
    // What it did stays known of its plan's store, and of any store where nobody can tell.
    if job.store.is_none()
        && let Some(plan) = journal.find(job.id.as_str()).ok().and_then(|job| stored_plan(&job).ok())
    {
        journal.set_store(&job.id, plan.store_identity())?;
    }
    let cleaning = match job.status {
        Cleaning => Ok(()),
        _ => begin_cleaning(journal, &job.id),
    };
    let faster = |error: &JournalError| matches!(error, JournalError::NoSuchJob(_) | JournalError::IllegalMove { .. });
    match cleaning {
        Ok(()) => {}
        // The lease was free and the job is gone, or nearly: the folder was made here for the lease alone.
        Err(error) if faster(&error) => {}
        Err(error) => return Err(error.into()),
    }
    match folder.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    match journal.remove(&job.id) {
        Err(error) if !faster(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The job is held, and stands nearer to its end than when it was looked at, if anywhere else.
fn begin_cleaning(journal: &Journal, id: &JobId) -> Result<(), JournalError> {
    let end = match journal.find(id.as_str())?.status {
        Cancelling => Some(Cancelled),
        Failing => Some(Failed),
        _ => None,
    };
    for next in end.into_iter().chain([Cleaning]) {
        journal.advance(id, next, Why::default(), Timestamp::now())?;
    }
    Ok(())
}

/// Fails Suspended jobs that nobody confirmed in time, and forgets what need not be remembered any longer. A job that
/// cannot be forgotten now is, another time. Returns what the clock keeps from being forgotten.
///
/// # Errors
/// When the journal cannot be used.
pub fn keep_house(journal: &Journal, now: Timestamp) -> Result<Option<ClockLeap>, JobError> {
    let Outlived { jobs, leap } = journal.outlived(now)?;
    for job in jobs {
        let kept = match job.status {
            Suspended => expire(journal, &job.id, now),
            _ => clean(journal, &job),
        };
        if let Err(JobError::Journal(error)) = kept {
            return Err(error.into());
        }
    }
    Ok(leap)
}

/// Fails Suspended jobs that nobody confirmed in time, and forgets nothing: for commands that only order something.
///
/// # Errors
/// As [`keep_house`].
pub fn expire_suspended(journal: &Journal, now: Timestamp) -> Result<(), JobError> {
    for job in journal.outlived(now)?.jobs.into_iter().filter(|job| job.status == Suspended) {
        if let Err(JobError::Journal(error)) = expire(journal, &job.id, now) {
            return Err(error.into());
        }
    }
    Ok(())
}

fn expire(journal: &Journal, id: &JobId, now: Timestamp) -> Result<(), JobError> {
    // Whoever holds it asks somebody at this moment.
    if Lease::is_held(JobFolder::of(journal.state(), id).path())? {
        return Ok(());
    }
    // Not if it was confirmed since it was found.
    journal.fail_suspended(id, Why::because("nobody confirmed it within 14 days"), now)?;
    Ok(())
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
