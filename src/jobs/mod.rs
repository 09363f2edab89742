//! The life cycle of a job: created from a plan, prepared, confirmed, scheduled, run, paused and resumed, finished and
//! deleted. Any process can take each of these steps.
//!
//! | file | what it does |
//! |---|---|
//! | `check` | checks whether the credentials may do what a plan needs, before there is a job |
//! | `job_request` | finds or creates the job for a plan |
//! | `job_source` | resolves where the job's objects come from |
//! | `runner`, `control` | run a job from its current status, and react to requests from other processes |
//! | `server_trust` | refuses to resume a job whose server is not trusted |
//! | `recurring` | decides whether a recurring plan has new work |
//! | `queue` | runs all queued jobs |
//! | `recovery` | recovers from damaged or unverified records |
//! | `finish` | finishes a job and publishes its report |
//! | `commands` | commands to a job: confirm, pause, cancel, prioritise, delete |
//! | `preview` | shows what a plan would do, before there is a job |
//! | `cost_check` | estimates what a job costs, and checks that against its limit |
//! | `saved_plan`, `fingerprint` | saved plans, and the fingerprint that their manifest must match |
//! | `describe`, `hints` | everything known about a job, and hints about its failures |
//! | `xml` | jobs in the XML of OSS Batch Operations |
//! | `schedule`, `scope`, `admission`, `request_budget` | which job starts next, what jobs may change, their share of the requests |
//! | `settings` | settings that the process chooses, not the plan |
//! | `error` | errors of creating, running and controlling jobs |

mod admission;
mod check;
mod commands;
mod control;
mod cost_check;
mod describe;
mod error;
mod fingerprint;
mod finish;
mod hints;
mod job_request;
mod job_source;
mod preview;
mod queue;
mod recovery;
mod recurring;
mod request_budget;
mod runner;
mod saved_plan;
mod schedule;
mod scope;
mod server_trust;
mod settings;
pub mod xml;

pub use check::{PermissionFinding, PermissionVerdict, WriteProbes, check};
pub use commands::{
    CommandOutcome, apply_retention, cancel, check_deletable, confirm, delete_job, expire_suspended, pause, prioritise,
};
pub use cost_check::{SAMPLE_SIZE, preview_sample, untrusted_error};
pub use describe::{JobDescription, JobFolderEntry, JobPresence, ReportState, describe, find_presence};
pub use error::JobError;
pub use fingerprint::{manifest_fingerprint, random_key};
pub use finish::{FinishOutcome, PublishOutcome, object_url};
pub use hints::{describe_untrusted_server, hint, untrusted_pause_hint};
pub use job_request::{CreateOutcome, JobLease, JobRequest, is_interrupted, plan_to_resume, stored_plan};
pub use job_source::job_manifest;
pub use preview::{
    ExampleSet, FactsFromManifest, PlanBuckets, Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer,
    ServerCheckStatus, cautions, server_check_off_warning,
};
pub use queue::{JobQueue, QueueObserver};
pub use recurring::{
    DueWork, deletion_cost, due_work, find_newest, is_only_evidence, manifest_source as recurring_source,
    record_interrupted, whole_inventory,
};
pub use request_budget::{BudgetShare, RequestBudget, ShareLimits};
pub use runner::{ConfirmationDecision, JobRunner, PrepareOutcome, ProgressObserver, RunOutcome, WorkOutcome};
pub use saved_plan::{SavedCounts, SavedPlan, SavedPlanError};
pub use schedule::{ScheduleCandidate, ScheduleRules, WaitReason, check_start, startable};
pub use scope::JobScope;
pub use settings::{DEFAULT_SLOTS, RunSettings, StopTimeouts};
