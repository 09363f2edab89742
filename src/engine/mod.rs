//! Runs a job: applies the plan's operations to every row of a frozen manifest and records one outcome for each row.
//!
//! One dispatcher owns all state of a running job. It reads rows, hands them to workers and gets each outcome as the
//! worker's return value. Workers share only the store and the throttle. About once a second the dispatcher has its
//! `OutcomeSink` write a checkpoint: the report files first, then the journal. Everything is bounded: rows read ahead,
//! requests in flight, deferred duplicates, finished rows above the frontier's low mark, and rows started since the
//! last checkpoint.

mod dispatcher;
mod in_doubt;
mod job_execution;
mod job_recorder;
mod object_read;
mod outcome_sink;
mod quota;
mod rate_limiter;
mod server_check;
mod stop_reason;
mod throttle;
mod worker;

pub use dispatcher::{
    CheckpointPolicy, DispatchLimits, DispatchOutcome, DispatchStart, Dispatcher, GracefulStop, TaskBatches,
};
pub use job_execution::{ExecutionOutcome, JobExecution, JobResumeState, ReportError, report_state};
pub use job_recorder::UnrecordedChanges;
pub use object_read::ObjectReadOutcome;
pub use outcome_sink::{CheckpointError, OutcomeSink, PendingCheckpoint, ProgressSnapshot};
pub use quota::JobQuota;
pub use server_check::{
    CONTENT_CHANGED, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, ReadCheckOutcome, SERVER_CHECK_FAILED, ServerCheck,
    ServerCheckFailure, ServerCheckFailureKind, WRITE_NOT_KEPT, WRITE_NOT_STORED, reason_says,
};
pub use stop_reason::{EngineError, StopReason};
pub use throttle::Throttle;
pub use worker::{SingleRequestError, UntrustedServer, Worker, WorkerOutcome};
