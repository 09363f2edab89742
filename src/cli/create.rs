//! `batchplan create`: creates a job from a plan, resolves its manifest, and leaves the job waiting.

use std::path::PathBuf;

use jiff::Timestamp;

use super::carry::{Carry, Confirmation};
use super::kept::Kept;
use super::plan_file::{self, PlanFile};
use super::recurring::{self, Turn};
use super::state::{Running, State};
use super::terminal::Terminal;
use super::{Error, Exit, notices};
use crate::jobs::{Entered, Submission, stored_plan};
use crate::journal::Origin;

/// Make a job of a plan without working on it yet.
///
/// Its manifest is resolved, checked and counted; then the job waits: Suspended until it is confirmed, or Ready at once
/// where the plan wants no confirmation. `batchplan run` works on what is Ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan create plan.toml          and then batchplan confirm JOB, batchplan run
  batchplan create plan.toml --json | jq -r .job_id

Exit codes: 0 created, 1 the tool failed, 2 invalid plan, 4 its manifest cannot be resolved,
5 interrupted, 6 refused, 7 cancelled.")]
pub(super) struct Create {
    /// The plan file
    plan: PathBuf,
    /// Make a new job, and leave an unfinished one of the same plan as it is
    #[arg(long)]
    new: bool,
    /// Print the job as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Create, terminal: Terminal) -> Result<Exit, Error> {
    let file = plan_file::require(&args.plan, terminal)?;
    notices::require(&file.plan)?;
    let kept = args.state.journal(Some(&file.plan), terminal)?;
    let ended = create(args, &file, &kept, terminal);
    kept.close(ended)
}

fn create(args: &Create, file: &PlanFile, kept: &Kept, terminal: Terminal) -> Result<Exit, Error> {
    let PlanFile { plan, bytes, .. } = file;
    let path = std::path::absolute(&args.plan)?;
    let confirmed = !plan.job.confirmation_required;
    let recurrence = match recurring::turn(plan, kept, args.new, terminal)? {
        Turn::Work(recurrence) => recurrence,
        Turn::Nothing(nothing) => return nothing.tell(args.json, terminal),
    };
    let submission = Submission {
        plan,
        text: bytes,
        file: &path,
        origin: Origin::Plan,
        afresh: args.new,
        confirmed,
        pledge: None,
        recurrence,
    };
    let job = match submission.enter(kept, Timestamp::now())? {
        Entered::New(job) => {
            recurring::introduce(&job, terminal);
            job
        }
        Entered::Unfinished(job) | Entered::Over(job) => job,
    };
    let plan = &stored_plan(&job)?;
    Carry {
        terminal,
        journal: kept,
        job,
        plan,
        settings: Running { allow_overlap: false, slots: crate::jobs::SLOTS }.settings(false, kept),
        confirmation: Confirmation::Leave,
        expected: None,
        json: args.json,
        state_flag: kept.flag(),
    }
    .run()
}
