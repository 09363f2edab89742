//! `batchplan run`: runs all queued jobs.

use std::cell::{Cell, RefCell};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::after_job::untrusted;
use super::carry::result;
use super::github::{self, Outcome};
use super::kept::Kept;
use super::progress::ProgressView;
use super::state::{Running, State};
use super::summary::line;
use super::terminal::{Terminal, barred};
use super::{Error, Exit, notices, signals};
use crate::engine::Snapshot;
use crate::job::JobStatus;
use crate::jobs::{Concluded, Delivered, Floor, Gone, JobError, Queue, Waiting, Watch};
use crate::journal::{JobFolder, JobRecord, Journal, PauseCause, Query};
use crate::manifest::Prepared;

/// Work on every job that is Ready, several at once, until none is left.
///
/// Jobs of a higher priority go first and get more of the requests; jobs that may touch the same objects go one after the
/// other. Interrupted and paused jobs are resumed, except those that a person or the server check has paused. Other
/// processes may work off the same queue at the same time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan create plan.toml && batchplan confirm JOB && batchplan run
  batchplan run --slots 2 --json

Exit codes: 0 all succeeded, 1 the tool failed, 3 some objects failed, 4 a job failed,
5 a job is paused or the run was interrupted, 6 a job is refused, 7 a job was cancelled; of
several, the first of 1, 5, 4, 3, 7 and 6 that applies.")]
pub(super) struct Run {
    /// Print the results as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &Run, terminal: Terminal) -> Result<Exit, Error> {
    let kept = args.state.journal(None, terminal)?;
    let ended = work_off(args, &kept, terminal);
    kept.close(ended)
}

fn work_off(args: &Run, journal: &Kept, terminal: Terminal) -> Result<Exit, Error> {
    notices::require_of_all(journal)?;
    let settings = args.running.settings(false, journal);
    let shown = if terminal.drawn() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let view = View {
        terminal,
        journal,
        state_flag: journal.flag(),
        bars: MultiProgress::with_draw_target(shown),
        results: RefCell::default(),
        ended: RefCell::default(),
        exit: Cell::new(Exit::Done),
    };
    // Each manifest reader occupies a blocking thread for as long as its job runs. With the default limit of 512, many
    // jobs would leave no thread for their checkpoints, and would wait forever.
    let threads = 512 + settings.rules.slots;
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(threads).enable_all().build()?;
    let drained = runtime.block_on(async {
        let stop = CancellationToken::new();
        signals::listen(terminal, stop.clone())?;
        journal.watch(&stop);
        let queue = Queue { journal, settings: &settings, stop: &stop };
        queue.drain(&view).await?;
        if stop.is_cancelled() {
            view.note(Exit::Interrupted);
        }
        Ok::<_, Error>(())
    });
    runtime.shutdown_background();
    let View { results, exit, ended, state_flag, .. } = view;
    let (results, ended) = (results.into_inner(), ended.into_inner());
    let outcomes: Vec<_> = ended.iter().map(|(job, error)| Outcome { job, error: error.as_deref() }).collect();
    github::tell(journal, &outcomes, &state_flag, terminal);
    if results.is_empty() {
        terminal.say("nothing is Ready");
        if waits_for_a_person(journal)? {
            terminal.say("  help: paused jobs must be resumed or cancelled: batchplan list --status Paused");
        }
    }
    if args.json {
        terminal.print(json!({ "jobs": results }))?;
    }
    drained.map(|()| exit.get())
}

/// Returns whether there are paused jobs that only a person can resume.
fn waits_for_a_person(journal: &Journal) -> Result<bool, Error> {
    let paused = journal.list(Query { statuses: vec![JobStatus::Paused], limit: 1000, ..Query::default() })?;
    Ok(paused.iter().any(|job| job.cause.is_some_and(PauseCause::waits_for_a_person)))
}

/// Shows the progress and the results of all jobs.
struct View<'a> {
    terminal: Terminal,
    journal: &'a Journal,
    state_flag: String,
    bars: MultiProgress,
    results: RefCell<Vec<Json>>,
    ended: RefCell<Vec<(JobRecord, Option<String>)>>,
    exit: Cell<Exit>,
}

impl View<'_> {
    fn say(&self, job: &JobRecord, what: impl std::fmt::Display) {
        let short: String = job.id.as_str().chars().take(8).collect();
        self.bars.suspend(|| self.terminal.say(format_args!("{short} {}: {what}", job.name)));
    }

    /// Records an exit code. The command ends with the most severe one.
    fn note(&self, exit: Exit) {
        let rank = |exit| match exit {
            Exit::ToolFailed => 6,
            Exit::Interrupted => 5,
            Exit::JobFailed => 4,
            Exit::ObjectsFailed => 3,
            Exit::Cancelled => 2,
            Exit::Invalid | Exit::Refused => 1,
            Exit::Done | Exit::Changes => 0,
        };
        if rank(exit) > rank(self.exit.get()) {
            self.exit.set(exit);
        }
    }
}

impl Floor for View<'_> {
    fn begins(&self, job: &JobRecord) -> Box<dyn Watch> {
        self.say(job, format_args!("taken up ({}, {} objects)", job.status, job.progress.total));
        Box::new(OneJob { terminal: self.terminal, bars: self.bars.clone(), shown: None })
    }

    fn ends(&self, job: &JobRecord, gone: &Result<Gone, JobError>) {
        let folder = JobFolder::of(self.journal.state(), &job.id).report();
        let mut told = result(job, &folder, None);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", line(reason)));
        let (succeeded, failed) = (job.progress.succeeded, job.progress.failed);
        self.say(job, format_args!("{}{reason}: {succeeded} succeeded, {failed} failed", job.status));
        match gone {
            Err(error) => {
                told["error"] = json!(error.to_string());
                self.say(job, format_args!("error: {}", barred(&error.to_string())));
                if let Some(help) = error.help() {
                    self.say(job, format_args!("help: {}", State::named_in(&help, &self.state_flag)));
                }
                self.note(match &error {
                    JobError::TooDear(_) | JobError::Stale(_) | JobError::Untrusted { .. } => Exit::Refused,
                    _ if job.status == JobStatus::Failed => Exit::JobFailed,
                    _ => Exit::ToolFailed,
                });
            }
            Ok(Gone::Concluded(Concluded::Over(Delivered::Refused(error)))) => {
                let command = format!("batchplan publish {}{}", job.id, self.state_flag);
                self.say(job, format_args!("the report could not be published: {error}; send it again: {command}"));
                self.note(Exit::ToolFailed);
            }
            Ok(_) if job.status == JobStatus::Suspended => {
                self.say(job, format_args!("next: batchplan confirm {}{}", job.id, self.state_flag));
            }
            Ok(_) => {
                if let Some(Error { help: Some(help), .. }) = untrusted(self.journal, job) {
                    self.say(job, format_args!("help: {}", State::named_in(&help, &self.state_flag)));
                }
                self.note(Exit::of(job));
            }
        }
        let error = told["error"].as_str().map(str::to_owned);
        self.ended.borrow_mut().push((job.clone(), error));
        self.results.borrow_mut().push(told);
    }
}

/// Shows the progress of one job.
struct OneJob {
    terminal: Terminal,
    bars: MultiProgress,
    shown: Option<(Phase, ProgressView)>,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Preparing,
    Working,
}

impl OneJob {
    fn view(&mut self, phase: Phase, total: u64) -> &mut ProgressView {
        if self.shown.as_ref().is_some_and(|(shown, _)| *shown != phase) {
            self.shown = None;
        }
        let (terminal, bars) = (self.terminal, &self.bars);
        let (_, view) = self.shown.get_or_insert_with(|| {
            let view = match phase {
                Phase::Preparing => ProgressView::counting(terminal),
                Phase::Working => ProgressView::working(terminal, total),
            };
            (phase, view.among(bars))
        });
        view
    }
}

impl Watch for OneJob {
    fn prepares(&mut self, prepared: Prepared) {
        self.view(Phase::Preparing, 0).found(prepared.taken);
    }

    fn waits(&mut self, _: &Waiting) {}

    fn notes(&mut self, note: &str) {
        self.bars.suspend(|| self.terminal.say(format_args!("note: {}", barred(note))));
    }

    fn works(&mut self, snapshot: Snapshot) {
        self.view(Phase::Working, snapshot.progress.total).settled(snapshot.progress);
    }
}

impl Drop for OneJob {
    fn drop(&mut self) {
        if let Some((_, view)) = &self.shown {
            view.clear();
        }
    }
}
