//! `batchplan delete`: deletes a job that is over.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::JobCommandArgs;
use super::state::JournalHandle;
use super::terminal::{PromptAnswer, Terminal, ask, escape_line};
use crate::jobs::{check_deletable, delete_job, deletion_cost, is_only_evidence};
use crate::journal::JobRecord;

/// Delete a job that has ended, with its frozen manifest and local report.
///
/// A published report stays in its bucket. --force is needed if the job's report is not published yet, or if it is the
/// last job that a recurring plan completed: the next job compares with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan delete ODRi --auto-approve

Exit codes: 0 deleted; 2 no such job; 6 the job has not ended, its report is not
published, a recurring plan needs it, or there is no terminal to ask on; 7 not
confirmed.")]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    target: JobCommandArgs,
    /// Delete the job even if its unpublished or incomplete report is lost, or a recurring plan needs it
    #[arg(long)]
    force: bool,
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
}

impl CliCommand for DeleteArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        self.target.run(terminal, |journal, job| delete(self, journal, &job, terminal))
    }
}

fn delete(
    args: &DeleteArgs,
    journal: &JournalHandle,
    job: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let id = &job.id;
    check_deletable(journal, job, args.force)?;
    let evidence = is_only_evidence(journal, job)?;
    if let Some(cost) = deletion_cost(journal, job)? {
        terminal.eprint(format_args!("warning: job {id} is the last completed job of its plan: without it, {cost}"));
    }
    if !args.auto_approve {
        if !terminal.is_interactive() {
            let force = if args.force { " --force" } else { "" };
            let command = format!("batchplan delete {id}{force} --auto-approve{}", journal.flag());
            return Err(CommandError::new(
                ExitStatus::Refused,
                "deleting a job needs confirmation, but there is no terminal to ask on",
            )
            .code(ErrorCode::ConfirmationRequired)
            .help(format!("to delete it without asking: {command}")));
        }
        let question = format!("Delete job {id} ({}, {}) and its local report?", job.status, job.name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let question = escape_line(&terminal.abbreviate_ids(&question));
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(ask(&question, &CancellationToken::new()))? != PromptAnswer::Yes {
            terminal.eprint("nothing was deleted");
            args.target.print_json(terminal, json!({ "job_id": id.as_str(), "deleted": false }))?;
            return Ok(ExitStatus::Cancelled);
        }
    }
    delete_job(journal, id, args.force)?;
    terminal.eprint(format_args!("job {id} is deleted"));
    if evidence {
        terminal.eprint(
            "it may have changed objects: if you apply an earlier plan with the same name, that job processes all \
             objects",
        );
    }
    args.target.print_json(terminal, json!({ "job_id": id.as_str(), "deleted": true }))?;
    Ok(ExitStatus::Success)
}
