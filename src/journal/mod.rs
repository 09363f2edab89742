//! The record of everything that happened: every job of a state folder, and how far each has come.
//!
//! A state folder holds `journal.db` (`SQLite`) and a folder for each job with its frozen manifest and its report.
//! The journal has no row per object or per failure: what grows with the number of objects is in those files.
//!
//! | file | what it does |
//! |---|---|
//! | `db` | opens, checks and migrates the database, which one thread uses, and notifies listeners of changes |
//! | `copy` | a copy of the database, for reading it in a read-only folder |
//! | `record` | one job, as it is recorded, and the inventory that a recurring job is pinned to |
//! | `jobs` | finds jobs, moves them from status to status, and counts the changes |
//! | `checkpoint`, `failure_tally` | how far a job has come, and why objects failed |
//! | `row` | reads the values of a row, and detects whether it was damaged |
//! | `server_check` | whether a job's server is trusted |
//! | `retention` | which jobs have expired, by the time that has passed |
//! | `lease` | which process works on a job |
//! | `job_folder` | a job's files |
//! | `error` | why the journal cannot be read or written |

mod checkpoint;
mod copy;
mod db;
mod error;
mod failure_tally;
mod job_folder;
mod jobs;
mod lease;
mod record;
mod retention;
mod row;
mod server_check;
#[cfg(test)]
mod testing;

pub use checkpoint::{Checkpoint, JournalCopyJob, RecordedProgress, ReportFileRecord};
pub use db::{BackupPush, JOURNAL_NAME, Journal, JournalBackup, JournalListener};
pub use error::JournalError;
pub use failure_tally::{FailureCode, FailureExample, FailureGroup, FailureTally};
pub use job_folder::{JobFolder, list_job_folders};
pub use jobs::{JobCreation, JobQuery, NamedWorkHistory, RemovedJobWork, StatusReason};
pub use lease::{FileLease, LeaseError};
pub use record::{
    ControlRequest, DeltaScope, JobRecord, JobSource, ManifestFingerprint, NewJob, PauseCause, PinnedInventory,
    RecurringScope, ReportDelivery, ReportSource, STILL_ACTIVE, UndoSource, WorkSpan,
};
pub use retention::{ClockLeap, ExpiredJobs, MAX_CLOCK_STEP};
pub use server_check::{FirstWrite, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
