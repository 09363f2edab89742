//! The life cycle of a job: created from a plan, prepared, confirmed, scheduled, run, paused and resumed, finished and
//! deleted. Any process can take each of these steps.
//!
//! | file | what it does |
//! |---|---|
//! | `permission_check` | checks whether the credentials may do what a plan needs, before there is a job |
//! | `preview` | what a plan would do and cost |
//! | `saved_plan` | saved plans, and the fingerprint that their manifest must match |
//! | `job_request` | finds or creates the job for a plan |
//! | `job_lease`, `stored_plan` | the lease to work on a job, and the plan that it was created from |
//! | `job_source` | resolves where the job's objects come from |
//! | `rule_check` | the rules for plans, before and while a job is prepared |
//! | `report_source` | the completion report that a job takes its objects from |
//! | `undo` | undoes what an earlier job changed |
//! | `recurring` | decides whether a recurring plan has new work |
//! | `runner` | runs one job to its end: prepares and confirms it, waits for its turn, works, recovers, reports |
//! | `run_settings` | how jobs are run: slots, checkpoints, and time limits after a stop |
//! | `queue` | runs all queued jobs |
//! | `warnings`, `lifecycle`, `recommendations` | what to know before a plan is applied, and what to change in it |
//! | `report_place` | whether a report can be published where the plan says, as far as reads show |
//! | `start_rules`, `request_budget` | which job starts next and which may overlap, and their share of the requests |
//! | `commands` | commands to a job: confirm, pause, cancel, prioritise, delete, apply retention |
//! | `describe`, `xml` | everything known about a job, and jobs in the XML of OSS Batch Operations |
//! | `error` | errors, and hints on what to do about them, about failed objects and about untrusted servers |

mod commands;
mod describe;
mod error;
mod job_lease;
mod job_request;
mod job_source;
mod lifecycle;
mod permission_check;
mod preview;
mod queue;
mod recommendations;
mod recurring;
mod report_place;
mod report_source;
mod request_budget;
mod rule_check;
mod run_settings;
mod runner;
mod saved_plan;
mod start_rules;
mod stored_plan;
mod undo;
mod warnings;
pub mod xml;

pub use commands::{
    CommandOutcome, apply_retention, cancel, check_deletable, confirm, delete_job, expire_suspended, pause, prioritise,
};
pub use describe::{
    JobDescription, JobFolderEntry, JobPresence, ReportState, describe, find_presence, may_retry_succeed,
};
pub use error::{
    JobError, codes_with_hints, denied_capture_hint, describe_untrusted_server, hint, untrusted_pause_hint,
};
pub use job_lease::JobLease;
pub use job_request::{CreateOutcome, JobRequest, ReplacedJob};
pub use job_source::{check_failures_recorded, job_manifest, recurring_source, succeeded_objects};
pub use permission_check::{PermissionFinding, PermissionVerdict, WriteProbes, check};
pub use preview::{
    ExampleSet, FactsFromManifest, Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer, SAMPLE_SIZE,
    ServerCheckStatus, preview_sample, untrusted_error,
};
pub use queue::{JobQueue, QueueObserver};
pub use recurring::{
    DueWork, deletion_cost, due_work, find_newest, is_only_evidence, record_interrupted, whole_inventory,
};
pub use report_place::{UnusableReportPlace, find_report_place, object_url};
pub use request_budget::{BudgetShare, RequestBudget, ShareLimits};
pub use rule_check::RuleCheck;
pub use run_settings::{DEFAULT_SLOTS, RunSettings, StopTimeouts};
pub use runner::{
    ConfirmationDecision, FinishOutcome, JobRunner, PrepareOutcome, ProgressObserver, PublishOutcome, RunOutcome,
};
pub use saved_plan::{SavedCounts, SavedPlan, SavedPlanError, manifest_fingerprint, random_key};
pub use start_rules::{JobScope, ScheduleCandidate, ScheduleRules, WaitReason};
pub use stored_plan::{plan_to_resume, stored_plan};
pub use undo::{changes_of, check_undoable, undo_plan, undone_changes};
pub use warnings::{PlanBuckets, plan_warnings, server_check_off_warning};
