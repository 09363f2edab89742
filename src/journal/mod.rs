//! The record of everything that happened: every job of a state folder, and how far each has come.
//!
//! A state folder holds `journal.db` (`SQLite`) and a folder for each job with its frozen manifest and its report.
//! The journal has no row per object or per failure: what grows with the number of objects is in those files.
//!
//! | file | what it does |
//! |---|---|
//! | `db` | opens, checks and migrates the database, which one thread uses, and notifies listeners of changes |
//! | `record` | one job, as it is recorded |
//! | `jobs` | finds jobs, and moves them from status to status |
//! | `checkpoint`, `failure_tally` | how far a job has come, and why objects failed |
//! | `row` | reads the values of a row, and detects whether it was damaged |
//! | `clock` | the order of changes, and how much time has passed |
//! | `server_check` | whether a job's server is trusted |
//! | `recurrence` | which inventory a job processes, and which part of it |
//! | `retention` | retention: jobs that have expired |
//! | `lease` | which process works on a job |
//! | `job_folder` | a job's files |
//! | `error` | why the journal cannot be read or written |

mod checkpoint;
mod clock;
mod db;
mod error;
mod failure_tally;
mod job_folder;
mod jobs;
mod lease;
mod record;
mod recurrence;
mod retention;
mod row;
mod server_check;
#[cfg(test)]
mod testing;

pub use checkpoint::{Checkpoint, JournalCopyJob, RecordedProgress, ReportFileRecord};
pub use clock::MAX_CLOCK_STEP;
pub use db::{BackupPush, JOURNAL_NAME, Journal, JournalBackup, JournalListener};
pub use error::JournalError;
pub use failure_tally::{FailureCode, FailureExample, FailureGroup, FailureTally, OTHER_CODES};
pub use job_folder::{JobFolder, list_job_folders};
pub use jobs::{JobCreation, JobQuery, MAX_WAITING_JOBS, NamedWorkHistory, RemovedJobWork, StatusReason};
pub use lease::{FileLease, LeaseError};
pub use record::{
    ControlRequest, JobRecord, JobSource, ManifestFingerprint, NewJob, PauseCause, ReportDelivery, ReportSource,
    STILL_ACTIVE, WorkSpan,
};
pub use recurrence::{DeltaScope, PinnedInventory, RecurringScope};
pub use retention::{CONFIRMATION_PERIOD, ClockLeap, ExpiredJobs, MAX_RETAINED_JOBS, RETENTION_PERIOD};
pub use server_check::{FirstWrite, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
