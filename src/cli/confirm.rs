//! `batchplan confirm`: confirms a job, so that it can run.

use super::ordered::Order;
use super::state::Access;
use super::terminal::Terminal;
use super::{Error, Exit};
use crate::jobs;

/// Confirm a job that waits for it.
///
/// A Suspended job becomes Ready: `batchplan run` works on it in its turn, `batchplan resume JOB` now. One whose manifest
/// is still being resolved will become Ready without asking.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan show ODRi                 what it would do, and to how many objects
  batchplan confirm ODRi

Exit codes: 0 confirmed, 2 no such job, 6 it does not wait to be confirmed.")]
pub(super) struct Confirm {
    #[command(flatten)]
    order: Order,
}

pub(super) fn run(args: &Confirm, terminal: Terminal) -> Result<Exit, Error> {
    let (kept, job) = args.order.state.job(&args.order.job, Access::Order, terminal)?;
    let confirmed = jobs::confirm(&kept, &job.id).map_err(Error::from);
    let ended = confirmed.and_then(|job| args.order.answer(terminal, &kept, job));
    kept.close(ended.map(|()| Exit::Done))
}
