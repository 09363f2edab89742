//! `batchplan apply`: applies a plan and reports the result.

use std::path::PathBuf;

use jiff::Timestamp;

use super::github::{self, ReportedJob};
use super::job_session::{ConfirmationMode, JobSession, job_result_json};
use super::journal_handle::JournalHandle;
use super::plan_input::{self, PlanInput};
use super::recurring::{self, RecurringDecision};
use super::state_location::{JobRunArgs, StateLocationArgs};
use super::terminal::Terminal;
use super::{CommandError, ExitStatus, notifications, shell};
use crate::jobs::{CreateOutcome, JobRequest, stored_plan};
use crate::journal::{JobFolder, JobRecord, JobSource};

/// Apply a plan to every object of its manifest.
///
/// A plan whose job was interrupted or paused is gone on with where it stopped. Limits and priority may have changed since;
/// where anything else of the plan has, apply refuses and says what.
///
/// A plan that recurs works on the newest inventory once: where nothing new has appeared, apply says so and ends with 0.
///
/// A plan that was saved (batchplan plan PLAN --out FILE) is applied exactly as it was looked at: where the manifest names other
/// objects now, or some were written over (as far as it tells), apply refuses and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan apply plan.toml                  show what would be done, ask, and do it
  batchplan apply plan.toml --auto-approve   without asking, as in a script
  batchplan apply plan.toml --auto-approve --json | jq .failed
  batchplan apply plan.toml --expect-count 1200   refuse, unless the manifest names 1200 objects
  batchplan apply plan.bpl --plan plan.toml       what `plan --out` saved, while all is as it was

Exit codes: 0 all succeeded, 1 the tool failed, 2 invalid plan, 3 some objects failed,
4 the job failed, 5 paused or interrupted, 6 refused, 7 cancelled.")]
pub(super) struct ApplyArgs {
    /// The plan file, or a saved plan
    #[arg(value_name = "PLAN")]
    given: PathBuf,
    /// Refuse a saved plan that was not made of this plan file; relative paths are seen from its folder
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Do not ask: the plan was reviewed
    #[arg(long)]
    auto_approve: bool,
    /// Make a new job, and leave an unfinished one of the same plan as it is
    #[arg(long)]
    new: bool,
    /// Refuse unless the manifest names exactly so many objects
    #[arg(long, value_name = "N")]
    expect_count: Option<u64>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

pub(super) fn run(args: &ApplyArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let given = plan_input::read(&args.given, args.plan.as_deref(), terminal)?;
    let plan = &given.plan;
    notifications::require_ready(plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        let command = format!("batchplan apply {} --auto-approve{}", shell::quote_path(&args.given), args.state.flag());
        return Err(CommandError::new(
            ExitStatus::Refused,
            "the plan wants to be confirmed, and there is nobody to ask",
        )
        .help(format!("when you have read it: {command}")));
    }
    let kept = args.state.open_journal(Some(plan), terminal)?;
    let ended = create_and_run(args, &given, asks, &kept, terminal);
    kept.close(ended)
}

fn create_and_run(
    args: &ApplyArgs,
    given: &PlanInput,
    asks: bool,
    kept: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let PlanInput { plan, text, file, fingerprint: pledge } = given;
    let recurrence = match recurring::decide(plan, kept, args.new, terminal)? {
        RecurringDecision::CreateJob(recurrence) => recurrence,
        RecurringDecision::NothingNew(nothing) => return nothing.report(args.json, terminal),
    };
    let submission = JobRequest {
        plan,
        text,
        file,
        origin: JobSource::Plan,
        force_new: args.new,
        confirmed: false,
        fingerprint: pledge.as_ref(),
        recurrence,
    };
    let job = match submission.find_or_create(kept, Timestamp::now())? {
        CreateOutcome::Created(job) => {
            recurring::print_job_scope(&job, terminal);
            job
        }
        CreateOutcome::Unfinished(job) => {
            terminal.eprint(format_args!("going on with job {} ({})", job.id, job.status));
            job
        }
        CreateOutcome::Over(job) => return report_finished_job(kept, &job, args.json, terminal),
    };
    // Evaluate ages as of job creation.
    let plan = &stored_plan(&job)?;
    JobSession {
        terminal,
        journal: kept,
        job,
        plan,
        settings: args.running.settings(false, kept),
        confirmation: if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded },
        expected_count: args.expect_count,
        json: args.json,
        state_flag: kept.flag(),
    }
    .run()
}

/// Reports the result of an earlier job with the same client request token. That job is over and is not repeated.
fn report_finished_job(
    journal: &JournalHandle,
    job: &JobRecord,
    json: bool,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    terminal.eprint(format_args!("job {} of this token is {}; nothing is done again", job.id, job.status));
    terminal.eprint(format_args!("{} succeeded, {} failed", job.progress.succeeded, job.progress.failed));
    github::report_jobs(journal, &[ReportedJob { job, error: None }], &journal.flag(), terminal);
    if json {
        terminal.print(job_result_json(job, &JobFolder::of(journal.state_folder(), &job.id).report_folder(), None))?;
    }
    Ok(ExitStatus::of(job))
}
