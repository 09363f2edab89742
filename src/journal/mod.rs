//! The record of everything that happened: every job of a state folder, and how far each has come.
//!
//! A state folder holds `journal.db` (`SQLite`) and a folder for each job with its frozen manifest and its report.
//! The journal has no row per object or per failure: what grows with the number of objects is in those files.
//!
//! | file | what it does |
//! |---|---|
//! | `db`, `schema` | opens, checks and migrates the database, which one thread uses |
//! | `record`, `jobs` | jobs, and their moves from status to status |
//! | `checkpoint`, `failure_tally` | how far a job has come, and why objects failed |
//! | `checksum` | detects whether a record was damaged |
//! | `clock` | the order of changes, and how much time has passed |
//! | `listener` | listeners that are notified of changes, and the backup |
//! | `server_check` | whether a job's server is trusted |
//! | `recurrence` | which inventory a job processed |
//! | `retention` | retention: jobs that have expired |
//! | `manifest_fingerprint` | the manifest fingerprint of a saved plan |
//! | `lease` | which process works on a job |
//! | `snapshot` | a consistent copy of the journal |
//! | `short_ids` | shortened ids |
//! | `job_folder` | a job's files |
//! | `error` | why the journal cannot be read or written |

mod checkpoint;
mod checksum;
mod clock;
mod db;
mod error;
mod failure_tally;
mod job_folder;
mod jobs;
mod lease;
mod listener;
mod manifest_fingerprint;
mod record;
mod recurrence;
mod retention;
mod schema;
mod server_check;
mod short_ids;
mod snapshot;
#[cfg(test)]
mod testing;

pub use checkpoint::{Checkpoint, RecordedProgress, ReportFileRecord};
pub use clock::MAX_CLOCK_STEP;
pub use db::{JOURNAL_NAME, Journal};
pub use error::JournalError;
pub use failure_tally::{FailureCode, FailureExample, FailureGroup, FailureTally, OTHER_CODES};
pub use job_folder::{JobFolder, list_job_folders};
pub use jobs::{JobCreation, JobQuery, MAX_WAITING_JOBS, StatusReason};
pub use lease::{FileLease, LeaseError};
pub use listener::{BackupPush, JournalBackup, JournalListener};
pub use manifest_fingerprint::ManifestFingerprint;
pub use record::{
    ControlRequest, JobRecord, JobSource, NewJob, PauseCause, ReportDelivery, ReportSource, STILL_ACTIVE, WorkSpan,
};
pub use recurrence::{DeltaScope, NamedWorkHistory, PinnedInventory, RecurringScope, RemovedJobWork};
pub use retention::{CONFIRMATION_PERIOD, ClockLeap, ExpiredJobs, MAX_RETAINED_JOBS, RETENTION_PERIOD};
pub use server_check::{FirstWrite, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
pub use snapshot::JournalCopyJob;
