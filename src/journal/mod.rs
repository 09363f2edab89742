//! The record of everything that happened: every job of a state folder, and how far each has come.
//!
//! A state folder holds `journal.db` (`SQLite`) and a folder for each job with its frozen manifest and its report.
//! The journal has no row per object or per failure: what grows with the number of objects is in those files.
//!
//! | file | what it does |
//! |---|---|
//! | `db`, `schema` | opens, checks and migrates the database, which one thread uses |
//! | `record`, `jobs` | jobs, and their moves from status to status |
//! | `checkpoint`, `tally` | how far a job has come, and why objects failed |
//! | `checksum` | detects whether a record was damaged |
//! | `clock` | the order of changes, and how much time has passed |
//! | `listen` | listeners that are notified of changes, and the backup |
//! | `server_check` | whether a job's server is trusted |
//! | `recurrence` | which inventory a job processed |
//! | `outlived` | retention: jobs that have expired |
//! | `pledge` | the manifest fingerprint of a saved plan |
//! | `lease` | which process works on a job |
//! | `snapshot` | a consistent copy of the journal |
//! | `short` | shortened ids |
//! | `folder` | a job's files |
//! | `error` | why the journal cannot be read or written |

mod checkpoint;
mod checksum;
mod clock;
mod db;
mod error;
mod folder;
mod jobs;
mod lease;
mod listen;
mod outlived;
mod pledge;
mod record;
mod recurrence;
mod schema;
mod server_check;
mod short;
mod snapshot;
mod tally;
#[cfg(test)]
mod testing;

pub use checkpoint::{Checkpoint, Recorded, ReportFile};
pub use clock::LEAP;
pub use db::{JOURNAL_NAME, Journal};
pub use error::JournalError;
pub use folder::{JobFolder, folders};
pub use jobs::{Creation, MAX_WAITING, Query, Why};
pub use lease::{Lease, LeaseError};
pub use listen::{Backup, Listener, Pushing};
pub use outlived::{ClockLeap, MAX_REMEMBERED, Outlived, REMEMBERED_FOR, SUSPENDED_FOR};
pub use pledge::Pledge;
pub use record::{AT_WORK, Delivery, JobRecord, NewJob, Origin, PauseCause, ReportOrigin, Request, WorkSpan};
pub use recurrence::{Inventory, NamedWork, PastWork, Portion, Recurrence};
pub use server_check::{FirstWrite, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
pub use snapshot::Kept;
pub use tally::{ErrorCode, Example, OTHER_CODES, Reason, Tally};
