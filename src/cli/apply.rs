//! `batchplan apply`: applies a plan and reports the result.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::descriptions::quote_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::file_digest::FileDigest;
use super::github;
use super::job_session::{ConfirmationMode, JobRunArgs, JobSession, job_result_json, print_replaced};
use super::notifications;
use super::numbers::any_number;
use super::plan_input::{self, PlanInput};
use super::plan_rules::PlanRulesArgs;
use super::recurring::{self, RecurringDecision};
use super::run_summary::format_outcomes;
use super::state::JournalHandle;
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use crate::jobs::{CreateOutcome, JobRequest, stored_plan};
use crate::journal::{JobFolder, JobRecord, JobSource};
use crate::plan::Plan;
use crate::plan_rules::PlanRules;

/// Apply a plan to every object of its manifest.
///
/// If the plan's job was paused or interrupted, apply resumes it. Limits and priority may have changed since. If
/// anything else in the plan has changed, apply refuses and shows what.
///
/// A recurring plan is applied once to each new inventory. If there is no new inventory, apply says so and exits with
/// 0.
///
/// A saved plan (batchplan plan PLAN --out FILE) is applied exactly as it was previewed. If its manifest names other
/// objects now, or shows that some were overwritten, apply refuses and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan apply plan.toml                  # show what would change, ask, then apply
  batchplan apply plan.toml --auto-approve   # apply without asking, as in a script
  batchplan apply plan.toml --auto-approve --json | jq .failed
  batchplan apply plan.toml --expect-count 1200   # only if there are 1200 objects
  batchplan apply plan.bpl --plan plan.toml       # apply what `plan --out` saved
  batchplan apply plan.bpl --expect-digest \"$DIGEST\"   # only the reviewed file

Exit codes: 0 all succeeded, 1 the tool failed, 2 invalid plan, 3 some objects
failed, 4 the job failed, 5 paused or interrupted, 6 refused, 7 cancelled.")]
pub(super) struct ApplyArgs {
    /// The plan file, or a saved plan
    #[arg(value_name = "PLAN")]
    given: PathBuf,
    /// Refuse a saved plan that was not made from this plan file; relative paths are resolved against its folder
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Refuse a saved plan unless this is its SHA-256, as `plan --out` and `show` print it
    #[arg(long, value_name = "DIGEST", value_parser = FileDigest::parse)]
    expect_digest: Option<FileDigest>,
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
    /// Create a new job even if the plan has an unfinished one
    #[arg(long)]
    new: bool,
    /// Refuse unless the manifest names exactly N objects
    #[arg(long, value_name = "N", value_parser = any_number)]
    expect_count: Option<u64>,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for ApplyArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let given = plan_input::read(&self.given, self.plan.as_deref(), self.expect_digest.as_ref(), terminal)?;
        let plan = &given.plan;
        let rules = self.rules.check(plan, (given.shown_path(), &given.text), terminal)?;
        notifications::check_webhooks(plan)?;
        let asks = plan.job.confirmation_required && !self.auto_approve;
        if asks && !terminal.is_interactive() {
            let command = format!("batchplan apply {} --auto-approve{}", quote_path(&self.given), self.state.flag());
            return Err(CommandError::new(
                ExitStatus::Refused,
                "this plan needs confirmation, but there is no terminal to ask on",
            )
            .code(ErrorCode::ConfirmationRequired)
            .help(format!("review it, then run: {command}")));
        }
        let journal = self.state.open_journal(Some(plan), terminal)?;
        let ended = create_and_run(self, &given, (rules, asks), &journal, terminal);
        journal.close(ended)
    }
}

fn create_and_run(
    args: &ApplyArgs,
    given: &PlanInput,
    (rules, asks): (Option<Arc<PlanRules>>, bool),
    journal: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let PlanInput { plan, text, file, fingerprint } = given;
    let recurrence = match recurring::decide(plan, journal, args.new, terminal)? {
        RecurringDecision::CreateJob(recurrence) => recurrence,
        RecurringDecision::NothingNew(nothing) => return nothing.report(None, terminal),
    };
    let request = JobRequest {
        plan,
        text,
        file,
        origin: JobSource::Plan,
        force_new: args.new,
        replace_unconfirmed: true,
        confirmed: false,
        fingerprint: fingerprint.as_ref(),
        recurrence,
    };
    let job = match request.find_or_create(journal, Timestamp::now())? {
        CreateOutcome::Created { job, replaced } => {
            print_replaced(replaced.as_ref(), terminal);
            recurring::print_job_scope(&job, terminal);
            job
        }
        CreateOutcome::Unfinished(job) => {
            terminal.inform(format_args!("resuming job {} ({})", job.id, job.status));
            job
        }
        CreateOutcome::Over(job) => return report_finished_job(journal, &job, plan, terminal),
    };
    // Evaluate ages as of job creation.
    let plan = &plan_input::in_this_environment(stored_plan(&job)?)?;
    JobSession::new(
        journal,
        job,
        plan,
        args.running.settings(false, rules, journal),
        if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded },
        terminal,
    )
    .expect_count(args.expect_count)
    .run()
}

/// Reports the result of an earlier job with the same client request token. That job is over and is not repeated.
fn report_finished_job(
    journal: &JournalHandle,
    job: &JobRecord,
    plan: &Plan,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    terminal.eprint(format_args!("job {} with this token is already {}: nothing to do", job.id, job.status));
    terminal.eprint(format_outcomes(job, Some(plan)));
    github::report_job(journal, job, None, &journal.flag(), terminal);
    if terminal.is_json() {
        terminal.print_json(job_result_json(
            job,
            &JobFolder::of(journal.state_folder(), &job.id).report_folder(),
            None,
        ))?;
    }
    Ok(ExitStatus::of(job))
}
