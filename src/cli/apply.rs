//! `batchplan apply`: applies a plan and reports the result.

use std::path::PathBuf;

use jiff::Timestamp;

use super::carry::{Carry, Confirmation, result};
use super::github::{self, Outcome};
use super::given::{self, Given};
use super::kept::Kept;
use super::recurring::{self, Turn};
use super::state::{Running, State};
use super::terminal::Terminal;
use super::{Error, Exit, notices, shell};
use crate::jobs::{Entered, Submission, stored_plan};
use crate::journal::{JobFolder, JobRecord, Origin};

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
pub(super) struct Apply {
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
    running: Running,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Apply, terminal: Terminal) -> Result<Exit, Error> {
    let given = given::read(&args.given, args.plan.as_deref(), terminal)?;
    let plan = &given.plan;
    notices::require(plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.interactive() {
        let command = format!("batchplan apply {} --auto-approve{}", shell::path(&args.given), args.state.flag());
        return Err(Error::new(Exit::Refused, "the plan wants to be confirmed, and there is nobody to ask")
            .help(format!("when you have read it: {command}")));
    }
    let kept = args.state.journal(Some(plan), terminal)?;
    let ended = carry(args, &given, asks, &kept, terminal);
    kept.close(ended)
}

fn carry(args: &Apply, given: &Given, asks: bool, kept: &Kept, terminal: Terminal) -> Result<Exit, Error> {
    let Given { plan, text, file, pledge } = given;
    let recurrence = match recurring::turn(plan, kept, args.new, terminal)? {
        Turn::Work(recurrence) => recurrence,
        Turn::Nothing(nothing) => return nothing.tell(args.json, terminal),
    };
    let submission = Submission {
        plan,
        text,
        file,
        origin: Origin::Plan,
        afresh: args.new,
        confirmed: false,
        pledge: pledge.as_ref(),
        recurrence,
    };
    let job = match submission.enter(kept, Timestamp::now())? {
        Entered::New(job) => {
            recurring::introduce(&job, terminal);
            job
        }
        Entered::Unfinished(job) => {
            terminal.say(format_args!("going on with job {} ({})", job.id, job.status));
            job
        }
        Entered::Over(job) => return over(kept, &job, args.json, terminal),
    };
    // Evaluate ages as of job creation.
    let plan = &stored_plan(&job)?;
    Carry {
        terminal,
        journal: kept,
        job,
        plan,
        settings: args.running.settings(false, kept),
        confirmation: if asks { Confirmation::Ask } else { Confirmation::Given },
        expected: args.expect_count,
        json: args.json,
        state_flag: kept.flag(),
    }
    .run()
}

/// Reports the result of an earlier job with the same client request token. That job is over and is not repeated.
fn over(journal: &Kept, job: &JobRecord, json: bool, terminal: Terminal) -> Result<Exit, Error> {
    terminal.say(format_args!("job {} of this token is {}; nothing is done again", job.id, job.status));
    terminal.say(format_args!("{} succeeded, {} failed", job.progress.succeeded, job.progress.failed));
    github::tell(journal, &[Outcome { job, error: None }], &journal.flag(), terminal);
    if json {
        terminal.print(result(job, &JobFolder::of(journal.state(), &job.id).report(), None))?;
    }
    Ok(Exit::of(job))
}
