//! `batchplan create`: creates a job from a plan, resolves its manifest, and leaves the job waiting.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{ConfirmationMode, JobRunArgs, JobSession, print_replaced};
use super::notifications;
use super::plan_input::{self, LoadedPlan};
use super::plan_rules::PlanRulesArgs;
use super::recurring::{self, RecurringDecision};
use super::state::JournalHandle;
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use crate::jobs::{CreateOutcome, JobRequest, stored_plan};
use crate::journal::JobSource;
use crate::plan_rules::PlanRules;

/// Create a job from a plan without running it.
///
/// The manifest is resolved, checked and counted. The job then waits: Suspended until you confirm it, or Ready if the
/// plan needs no confirmation. `batchplan run` runs all Ready jobs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan create plan.toml          # then: batchplan confirm JOB && batchplan run
  batchplan create plan.toml --json | jq -r .job_id

Exit codes: 0 created, 1 the tool failed, 2 invalid plan, 4 the manifest cannot
be resolved, 5 interrupted, 6 refused, 7 cancelled.")]
pub(super) struct CreateArgs {
    /// The plan file
    plan: PathBuf,
    /// Create a new job even if the plan has an unfinished one
    #[arg(long)]
    new: bool,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for CreateArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let file = plan_input::require(&self.plan, terminal)?;
        let rules = self.rules.check(&file.plan, (&self.plan, &file.bytes), terminal)?;
        notifications::check_webhooks(&file.plan)?;
        let journal = self.state.open_journal(Some(&file.plan), terminal)?;
        let ended = create(self, &file, rules, &journal, terminal);
        journal.close(ended)
    }
}

fn create(
    args: &CreateArgs,
    file: &LoadedPlan,
    rules: Option<Arc<PlanRules>>,
    journal: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let LoadedPlan { plan, bytes, .. } = file;
    let path = std::path::absolute(&args.plan)?;
    let confirmed = !plan.job.confirmation_required;
    let recurrence = match recurring::decide(plan, journal, args.new, terminal)? {
        RecurringDecision::CreateJob(recurrence) => recurrence,
        RecurringDecision::NothingNew(nothing) => return nothing.report(None, terminal),
    };
    let request = JobRequest {
        plan,
        text: bytes,
        file: &path,
        origin: JobSource::Plan,
        force_new: args.new,
        replace_unconfirmed: false,
        confirmed,
        fingerprint: None,
        recurrence,
    };
    let job = match request.find_or_create(journal, Timestamp::now())? {
        CreateOutcome::Created { job, replaced } => {
            print_replaced(replaced.as_ref(), terminal);
            recurring::print_job_scope(&job, terminal);
            job
        }
        CreateOutcome::Unfinished(job) | CreateOutcome::Over(job) => job,
    };
    let plan = &plan_input::in_this_environment(stored_plan(&job)?)?;
    JobSession::new(
        journal,
        job,
        plan,
        JobRunArgs::default().settings(false, rules, journal),
        ConfirmationMode::Defer,
        terminal,
    )
    .run()
}
