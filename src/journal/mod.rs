//! What is known to have happened: every job of a state folder, and how far each has come.
//!
//! A state folder holds `journal.db` (`SQLite`) and a folder for each job with its frozen manifest and its report. The
//! journal has no row for an object and none for a failure: what grows with objects lies in those files.
//!
//! | file | what it does |
//! |---|---|
//! | `db`, `schema` | the database: opened, checked, migrated, used by one thread |
//! | `record`, `jobs` | jobs, and their moves from status to status |
//! | `checkpoint`, `tally` | how far a job has come, and why objects failed |
//! | `checksum` | whether that is still what was recorded |
//! | `clock` | what came before what, and how much time has passed |
//! | `listen` | who is told of what was recorded |
//! | `server_check` | whether a job's server is trusted |
//! | `recurrence` | which inventory a job worked on |
//! | `outlived` | jobs whose time is over |
//! | `lease` | who works on a job |
//! | `snapshot` | a copy of it all, at one moment |
//! | `short` | ids cut short |
//! | `folder` | a job's files |
//! | `error` | why something cannot be recorded |

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
