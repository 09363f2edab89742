//! Making it happen: from the rows of a frozen manifest to an outcome for each.
//!
//! One dispatcher owns all state of a running job. It takes rows, has workers carry out the operations, and learns of
//! each outcome by what the worker returns; workers share nothing but the store and the throttle. About once a second it has
//! its book make a checkpoint: the report's files first, then the journal. Everything is bounded: rows read ahead,
//! requests in flight, rows that wait for their twin, outcomes above the frontier's low mark, rows taken up since the
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
