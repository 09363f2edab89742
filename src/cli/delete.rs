//! `batchplan delete`: deletes a job that is over.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::ordered::Order;
use super::prompt::{self, Answer};
use super::state::Access;
use super::terminal::Terminal;
use super::{Error, Exit};
use crate::jobs::{cost_of_forgetting, forget, is_evidence, may_forget};
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
pub(super) struct Delete {
    #[command(flatten)]
    order: Order,
    /// Also where its report was not published yet or cannot be completed, and is lost, or a recurring plan goes by it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
}

pub(super) fn run(args: &Delete, terminal: Terminal) -> Result<Exit, Error> {
    let order = &args.order;
    let (kept, job) = order.state.job(&order.job, Access::Order, terminal)?;
    let ended = delete(args, &kept, &job, terminal);
    kept.close(ended)
}

fn delete(args: &Delete, kept: &Kept, job: &JobRecord, terminal: Terminal) -> Result<Exit, Error> {
    let order = &args.order;
    let id = &job.id;
    may_forget(kept, job, args.force)?;
    let evidence = is_evidence(kept, job)?;
    if let Some(cost) = cost_of_forgetting(kept, job)? {
        terminal.say(format_args!("warning: job {id} is the last that its plan has completed: without it {cost}"));
    }
    if !args.auto_approve {
        if !terminal.interactive() {
            let force = if args.force { " --force" } else { "" };
            let command = format!("batchplan delete {id}{force} --auto-approve{}", kept.flag());
            return Err(Error::new(Exit::Refused, "deleting wants to be confirmed, and there is nobody to ask")
                .help(format!("to delete it all the same: {command}")));
        }
        let question = format!("Delete job {id} ({}, {}), with its report on this machine?", job.status, job.name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let question = super::terminal::cell(&question);
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(prompt::ask(&question, &CancellationToken::new()))? != Answer::Yes {
            terminal.say("nothing was deleted");
            return Ok(Exit::Cancelled);
        }
    }
    forget(kept, id, args.force)?;
    terminal.say(format_args!("job {id} is deleted"));
    if evidence {
        terminal.say(
            "that it may have changed objects stays known: an earlier plan of its name works on all objects when it is applied \
             again",
        );
    }
    if order.json {
        terminal.print(json!({ "job_id": id.as_str(), "deleted": true }))?;
    }
    Ok(Exit::Done)
}
