//! `batchplan cancel`: cancels a job.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::after_job::undelivered;
use super::connected::connected;
use super::kept::Kept;
use super::ordered::Order;
use super::state::{Access, Running};
use super::terminal::Terminal;
use super::{Error, Exit, signals};
use crate::job::JobStatus;
use crate::jobs::{self, Budget, Concluded, Held, Ordered, Runner, SLOTS, stored_plan};
use crate::journal::{JobFolder, JobRecord};
use crate::store::{Store, Unreachable};

/// Cancel a job.
///
/// Objects that were changed already stay so; the report of what was done is completed and published. A process that
/// works on the job finishes what is in flight and ends with exit code 7.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan cancel ODRi
  batchplan cancel ODRi --reason \"wrong bucket, see ticket 12\"

Exit codes: 0 cancelled, or asked to and still finishing what is in flight; 1 cancelled, but the
report could not be published; 2 no such job; 6 it is over already.")]
pub(super) struct Cancel {
    #[command(flatten)]
    order: Order,
    /// Why, in up to 256 characters: it stays with the job
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

/// Checks the length of a reason. The managed service has the same limit.
fn reason(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if (1..=256).contains(&length) { Ok(text.to_owned()) } else { Err(format!("{length} characters, not 1 to 256")) }
}

pub(super) fn run(args: &Cancel, terminal: Terminal) -> Result<Exit, Error> {
    let order = &args.order;
    let (kept, job) = order.state.job(&order.job, Access::Order, terminal)?;
    let ended = cancel(args, &kept, &job, terminal);
    kept.close(ended)
}

fn cancel(args: &Cancel, journal: &Kept, job: &JobRecord, terminal: Terminal) -> Result<Exit, Error> {
    let order = &args.order;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match jobs::cancel(journal, &job.id, args.reason.clone()).await? {
            Ordered::Done(job) => {
                let cancelled = job.status == JobStatus::Cancelled;
                order.answer(terminal, journal, job)?;
                if cancelled {
                    return Ok(Exit::Done);
                }
                terminal.say("it came to its end before it could be cancelled");
                Ok(Exit::Refused)
            }
            Ordered::Underway(job) => {
                terminal.say("it was asked to end, and what is in flight is still being finished");
                order.answer(terminal, journal, job)?;
                Ok(Exit::Done)
            }
            Ordered::Yours(job, held) => end(args, terminal, journal, job, held).await,
        }
    });
    runtime.shutdown_background();
    ended
}

/// Ends a job that no process works on: completes its report, and publishes it if the store can be reached.
async fn end(args: &Cancel, terminal: Terminal, journal: &Kept, job: JobRecord, held: Held) -> Result<Exit, Error> {
    let plan = stored_plan(&job)?;
    let connection = connected(&plan.store).await;
    let store: Arc<dyn Store> = match &connection {
        Ok(connection) => Arc::clone(connection.store()),
        Err(error) => Arc::new(Unreachable::new(error.message.clone())),
    };
    let stop = CancellationToken::new();
    signals::listen(terminal, stop.clone())?;
    journal.watch(&stop);
    let settings = Running { allow_overlap: false, slots: SLOTS }.settings(true, journal);
    let budget = Budget::default();
    let id = job.id.clone();
    let mut runner = Runner::new(journal, held, job, &plan, &store, (&settings, &budget), stop);
    let concluded = runner.end_as_recorded().await?;
    // Release the job first, so that the printed status shows that no process works on it.
    drop(runner);
    let order = &args.order;
    order.answer(terminal, journal, journal.find(id.as_str())?)?;
    let job = journal.find(id.as_str())?;
    if let Concluded::Over(delivered) = &concluded
        && let Some(error) = undelivered(delivered, &job, &journal.flag())
    {
        return Err(error);
    }
    let folder = JobFolder::of(journal.state(), &id);
    let place = job.place.unwrap_or_else(|| folder.report().display().to_string());
    terminal.say(format_args!("report: {place}"));
    Ok(Exit::Done)
}
