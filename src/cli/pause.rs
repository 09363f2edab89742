//! `batchplan pause`: pauses a job, so that it can be resumed later.

use super::kept::Kept;
use super::ordered::Order;
use super::state::Access;
use super::terminal::Terminal;
use super::{Error, Exit};
use crate::job::JobStatus;
use crate::jobs::{self, Ordered};
use crate::journal::JobRecord;

/// Pause a job that works or waits for its turn.
///
/// The process that works on it takes no more objects, finishes what is in flight, records how far it came, and ends with
/// exit code 5. `batchplan resume JOB` goes on from there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  batchplan pause ODRi

Exit codes: 0 paused, or asked to and still finishing what is in flight; 2 no such job;
6 there is nothing to pause.")]
pub(super) struct Pause {
    #[command(flatten)]
    order: Order,
}

pub(super) fn run(args: &Pause, terminal: Terminal) -> Result<Exit, Error> {
    let order = &args.order;
    let (kept, job) = order.state.job(&order.job, Access::Order, terminal)?;
    let ended = pause(order, &kept, &job, terminal);
    kept.close(ended)
}

fn pause(order: &Order, kept: &Kept, job: &JobRecord, terminal: Terminal) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(jobs::pause(kept, &job.id))? {
        Ordered::Done(job) | Ordered::Yours(job, _) => {
            let paused = job.status == JobStatus::Paused;
            order.answer(terminal, kept, job)?;
            if paused {
                return Ok(Exit::Done);
            }
            terminal.say("it came to its end before it could be paused");
            Ok(Exit::Refused)
        }
        Ordered::Underway(job) => {
            terminal.say("it was asked to pause, and what is in flight is still being finished");
            order.answer(terminal, kept, job)?;
            Ok(Exit::Done)
        }
    }
}
