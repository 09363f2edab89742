//! Runs a job: applies the plan's operations to every row of a frozen manifest and records one outcome for each row.
//!
//! One dispatcher owns all state of a running job. It reads rows, hands them to workers and gets each outcome as the
//! worker's return value. Workers share only the store and the throttle. About once a second the dispatcher has its
//! `OutcomeSink` write a checkpoint: the report files first, then the journal. Everything is bounded: rows read ahead,
//! requests in flight, deferred duplicates, finished rows above the frontier's low mark, and rows started since the
//! last checkpoint.
//!
//! | file | what it does |
//! |---|---|
//! | `job_execution` | runs one job, and records its outcomes in the report and its checkpoints in the journal |
//! | `dispatcher` | starts rows, counts what is in doubt, and decides when a run stops and why |
//! | `worker` | runs the operations on one object |
//! | `object_capture` | captures an object before its first write |
//! | `capture_queue` | writes the captures of all workers to disk, each group with one sync |
//! | `request_sender` | sends requests with a time limit, retries them, and resolves restores |
//! | `server_check` | checks that the server does exactly what a request asks |
//! | `throttle` | the job's quota, its rate limit, and the admission of each request |
//! | `congestion` | how many requests a bucket can take, and how fast |
//! | `run_progress` | how far a run is, how fast, and when it will end |
//! | `in_flight` | how long the oldest object is being processed |
//! | `undone_changes` | what an undo needs to know of each object |
//! | `request_counts` | how many requests were sent, and how long they take |

mod capture_queue;
mod congestion;
mod dispatcher;
mod in_flight;
mod job_execution;
mod object_capture;
mod request_counts;
mod request_sender;
mod run_progress;
mod server_check;
mod throttle;
mod undone_changes;
mod worker;

pub use capture_queue::CaptureDenial;
pub use dispatcher::{
    CheckpointError, CheckpointPolicy, DispatchLimits, DispatchOutcome, DispatchStart, Dispatcher, EngineError,
    GracefulStop, OutcomeSink, PendingCheckpoint, ProgressSnapshot, StopReason,
};
pub use job_execution::{ExecutionOutcome, JobExecution, JobResumeState, ReportError, UnrecordedChanges, report_state};
pub use request_counts::RequestCounts;
pub use run_progress::{ProgressMeter, RunProgress, RunState};
pub use server_check::{
    CONTENT_CHANGED, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, ReadCheckOutcome, SERVER_CHECK_FAILED, ServerCheck,
    ServerCheckFailure, ServerCheckFailureKind, UntrustedServer, WRITE_NOT_KEPT, WRITE_NOT_STORED, reason_says,
};
pub use throttle::{JobQuota, Throttle};
pub use undone_changes::{UndoneChangeError, UndoneChanges, is_former_unknown, known_state};
pub use worker::{ObjectReadOutcome, SingleRequestError, Worker, WorkerOutcome};
