//! `batchplan delete`: deletes a job that is over.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::job_command::JobCommandArgs;
use super::journal_handle::JournalHandle;
use super::prompt::{self, PromptAnswer};
use super::state_location::JournalAccess;
use super::terminal::Terminal;
use super::{CommandError, ExitStatus};
use crate::jobs::{check_deletable, delete_job, deletion_cost, is_only_evidence};
use crate::journal::JobRecord;

/// Delete a job that is over: its record, its frozen manifest and its report on this machine.
///
/// What was published stays where it is. A report that was to be published and was not is lost only with --force, and so is the last
/// job that a recurring plan has completed: the next one compares with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan delete ODRi --auto-approve

Exit codes: 0 deleted; 2 no such job; 6 it is not over, its report was not published, a recurring plan
goes by it, or there is nobody to ask; 7 not confirmed.")]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    order: JobCommandArgs,
    /// Also where its report was not published yet or cannot be completed, and is lost, or a recurring plan goes by it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
}

pub(super) fn run(args: &DeleteArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let order = &args.order;
    let (kept, job) = order.state.open_job(&order.job, JournalAccess::Request, terminal)?;
    let ended = delete(args, &kept, &job, terminal);
    kept.close(ended)
}

fn delete(
    args: &DeleteArgs,
    kept: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let order = &args.order;
    let id = &job.id;
    check_deletable(kept, job, args.force)?;
    let evidence = is_only_evidence(kept, job)?;
    if let Some(cost) = deletion_cost(kept, job)? {
        terminal.eprint(format_args!("warning: job {id} is the last that its plan has completed: without it {cost}"));
    }
    if !args.auto_approve {
        if !terminal.is_interactive() {
            let force = if args.force { " --force" } else { "" };
            let command = format!("batchplan delete {id}{force} --auto-approve{}", kept.flag());
            return Err(CommandError::new(
                ExitStatus::Refused,
                "deleting wants to be confirmed, and there is nobody to ask",
            )
            .help(format!("to delete it all the same: {command}")));
        }
        let question = format!("Delete job {id} ({}, {}), with its report on this machine?", job.status, job.name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let question = super::terminal::escape_line(&question);
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(prompt::ask(&question, &CancellationToken::new()))? != PromptAnswer::Yes {
            terminal.eprint("nothing was deleted");
            return Ok(ExitStatus::Cancelled);
        }
    }
    delete_job(kept, id, args.force)?;
    terminal.eprint(format_args!("job {id} is deleted"));
    if evidence {
        terminal.eprint(
            "that it may have changed objects stays known: an earlier plan of its name works on all objects when it is applied \
             again",
        );
    }
    if order.json {
        terminal.print(json!({ "job_id": id.as_str(), "deleted": true }))?;
    }
    Ok(ExitStatus::Success)
}
