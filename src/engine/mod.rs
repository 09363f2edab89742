//! Runs a job: applies the plan's operations to every row of a frozen manifest and records one outcome for each row.
//!
//! One dispatcher owns all state of a running job. It reads rows, hands them to workers and gets each outcome as the
//! worker's return value. Workers share only the store and the throttle. About once a second the dispatcher has its
//! `Book` write a checkpoint: the report files first, then the journal. Everything is bounded: rows read ahead,
//! requests in flight, deferred duplicates, finished rows above the frontier's low mark, and rows started since the
//! last checkpoint.

mod allowance;
mod book;
mod dispatcher;
mod doubt;
mod end;
mod job;
mod ledger;
mod pace;
mod reading;
mod server_check;
mod throttle;
mod worker;

pub use allowance::Allowance;
pub use book::{Book, CheckpointError, Pending, Snapshot};
pub use dispatcher::{Bounds, Dispatched, Dispatcher, Rhythm, Start, Stop, TaskBatches};
pub use end::{End, EngineError};
pub use job::{Before, Job, Ran, ReportError, state_of};
pub use ledger::Unkept;
pub use reading::Looked;
pub use server_check::{
    A_READ_IS_DENIED, CONTENT_CHANGED, INCONCLUSIVE, KEEPS_NOTHING, NO_USABLE_ANSWER, NOT_KEPT, ReadCheck, RefusalKind,
    SERVER_CHECK_FAILED, ServerCheck, ServerRefusal,
};
pub use throttle::Throttle;
pub use worker::{Unanswered, Untrusted, Worked, Worker};
