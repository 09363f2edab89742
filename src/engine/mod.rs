//! Making it happen: from the rows of a frozen manifest to an outcome for each.
//!
//! One dispatcher owns all state of a running job. It takes rows, has workers carry out the operations, and learns of
//! each outcome by what the worker returns; workers share nothing but the store and the pace. Everything is bounded:
//! rows read ahead, requests in flight, rows that wait for their twin, outcomes above the frontier's low mark.

mod dispatcher;
mod job;
mod pace;
mod worker;

pub use dispatcher::{Dispatched, Dispatcher, EngineError, Snapshot, Stop, TaskBatches};
pub use job::{Job, Ran};
pub use pace::Pace;
pub use worker::{Worked, Worker};
