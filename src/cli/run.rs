//! `batchplan run`: runs all queued jobs.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::descriptions::{format_objects, one_line, render_hint};
use super::error_json::error_json;
use super::event_stream::{EventWeight, emit};
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::github;
use super::job_events::JobEvents;
use super::job_session::{JobRunArgs, job_result_json, refused_pause_error, unpublished_report_error};
use super::plan_input::job_error;
use super::plan_rules::PlanRulesArgs;
use super::progress_view::ProgressView;
use super::run_summary::{MAX_FAILURE_CODES, failure, format_outcomes};
use super::state::JournalHandle;
use super::state_location::StateLocationArgs;
use super::terminal::{Terminal, bar_lines, escape_line};
use super::{notifications, signals};
use crate::engine::RunProgress;
use crate::hint::Hint;
use crate::job::{JobId, JobStatus};
use crate::jobs::{
    FinishOutcome, JobError, JobQueue, ProgressObserver, QueueObserver, RunOutcome, WaitReason, describe, hint,
    stored_plan,
};
use crate::journal::{JobFolder, JobQuery, JobRecord, Journal, PauseCause};
use crate::manifest::FreezeProgress;
use crate::plan_rules::PlanRules;

/// Run all queued jobs, up to six at a time, highest priority first.
///
/// Jobs with a higher priority also get more of the requests. Jobs that may change the same objects run one after
/// another. Interrupted and paused jobs are resumed, unless a person or the server check paused them. Several processes
/// can run jobs from the same queue.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan create plan.toml && batchplan confirm JOB && batchplan run
  batchplan run --slots 2 --json

Exit codes: 0 all succeeded, 1 the tool failed, 2 a price book is not valid, 3
some objects failed, 4 a job failed, 5 a job is paused or the run was
interrupted, 6 a job was refused, 7 a job was cancelled. If several apply, the
first of 1, 5, 4, 3, 7, 2 and 6.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for RunArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let rules = self.rules.load(terminal)?;
        let journal = self.state.open_journal(None, terminal)?;
        let ended = run_queue(self, rules, &journal, terminal);
        journal.close(ended)
    }
}

fn run_queue(
    args: &RunArgs,
    rules: Option<Arc<PlanRules>>,
    journal: &JournalHandle,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    notifications::check_webhooks_of_jobs(journal)?;
    let settings = args.running.settings(false, rules, journal);
    let view = QueueView {
        terminal,
        journal,
        state_flag: journal.flag(),
        results: RefCell::default(),
        ended_jobs: RefCell::default(),
        exit: Cell::new(ExitStatus::Success),
    };
    // Each manifest reader occupies a blocking thread for as long as its job runs. With the default limit of 512, many
    // jobs would leave no thread for their checkpoints, and would wait forever.
    let threads = 512 + settings.rules.slots;
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(threads).enable_all().build()?;
    let drained = runtime.block_on(async {
        let stop = CancellationToken::new();
        signals::listen(terminal, stop.clone(), Some(settings.timeouts.drain))?;
        journal.watch_for_stop(&stop);
        let queue = JobQueue { journal, settings: &settings, stop: &stop };
        queue.drain(&view).await?;
        if stop.is_cancelled() {
            view.record_exit(ExitStatus::Interrupted);
        }
        Ok::<_, CommandError>(())
    });
    runtime.shutdown_background();
    let QueueView { results, exit, ended_jobs: ended, state_flag, .. } = view;
    let (results, ended) = (results.into_inner(), ended.into_inner());
    github::report_jobs(journal, &ended, &state_flag, terminal);
    if results.is_empty() {
        terminal.eprint("no jobs are ready");
        if has_manually_paused_jobs(journal)? {
            let list = format!("batchplan list{state_flag} --status Paused");
            terminal.eprint(format_args!("  help: paused jobs must be resumed or cancelled: {list}"));
        }
    }
    let result = json!({ "jobs": results });
    if let Err(error) = drained {
        return Err(error.result(result));
    }
    if terminal.is_json() {
        terminal.print_json(result)?;
    }
    Ok(exit.get())
}

/// Returns whether there are paused jobs that only a person can resume.
fn has_manually_paused_jobs(journal: &Journal) -> Result<bool, CommandError> {
    let paused = journal.list(JobQuery { statuses: vec![JobStatus::Paused], limit: 1000, ..JobQuery::default() })?;
    Ok(paused.iter().any(|job| job.pause_cause.is_some_and(PauseCause::needs_user)))
}

/// Returns a line about one of several jobs.
fn about_job(job: &JobRecord, what: impl std::fmt::Display) -> String {
    format!("{}: {what}", job_label(job))
}

/// Returns a job's ID, which is abbreviated when it is shown, and its name.
fn job_label(job: &JobRecord) -> String {
    format!("{} {}", job.id, job.name)
}

/// Shows the progress and the results of all jobs.
struct QueueView<'a> {
    terminal: Terminal,
    journal: &'a Journal,
    state_flag: String,
    results: RefCell<Vec<Json>>,
    ended_jobs: RefCell<Vec<(JobRecord, Option<String>)>>,
    exit: Cell<ExitStatus>,
}

impl QueueView<'_> {
    fn print_for_job(&self, job: &JobRecord, what: impl std::fmt::Display) {
        self.terminal.eprint(about_job(job, what));
    }

    fn inform_for_job(&self, job: &JobRecord, what: impl std::fmt::Display) {
        self.terminal.inform(about_job(job, what));
    }

    /// Records an exit code. The command ends with the most severe one.
    fn record_exit(&self, exit: ExitStatus) {
        self.exit.set(self.exit.get().worst(exit));
    }

    /// Prints the commonest failures of a job, with advice.
    fn print_failures(&self, job: &JobRecord) {
        if job.progress.failed == 0 {
            return;
        }
        let Ok(described) = describe(self.journal, &job.id) else { return };
        for (code, group) in described.failures.iter().take(MAX_FAILURE_CODES) {
            let help = hint(&code.code, code.http).map_or_else(String::new, |help| format!(" ({help})"));
            self.inform_for_job(job, format_args!("{}{help}", one_line(&failure(code, group))));
        }
    }

    fn print_error(&self, job: &JobRecord, CommandError { message, help, .. }: &CommandError) {
        self.print_for_job(job, format_args!("error: {}", bar_lines(message)));
        if let Some(help) = help {
            self.print_help(job, help);
        }
    }

    fn print_help(&self, job: &JobRecord, help: &Hint) {
        self.print_for_job(job, format_args!("help: {}", render_hint(help, &self.state_flag)));
    }
}

impl QueueObserver for QueueView<'_> {
    fn on_job_started(&self, job: &JobRecord) -> Box<dyn ProgressObserver> {
        self.inform_for_job(job, format_args!("started ({}, {})", job.status, format_objects(job.progress.total)));
        // Bars are narrow, and names are long.
        let label = self.terminal.abbreviate_ids(&job_label(job)).into_owned();
        let bar_label = escape_line(&label).chars().take(MAX_BAR_LABEL).collect();
        let events = self.terminal.prints_events().then(|| JobEvents::start(self.journal, job));
        let waits_for = String::new();
        Box::new(QueuedJobView { terminal: self.terminal, label, bar_label, shown: None, waits_for, events })
    }

    fn on_job_blocked(&self, job: &JobRecord, blocked_by: &JobId) {
        let waits_for = WaitReason::Overlap(blocked_by.clone());
        self.inform_for_job(job, format_args!("waiting: {waits_for}"));
    }

    fn on_job_stopped(&self, job: &JobRecord, outcome: &Result<RunOutcome, JobError>) {
        let folder = JobFolder::of(self.journal.state_folder(), &job.id).report_folder();
        let mut result = job_result_json(job, &folder, None);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", one_line(reason)));
        let plan = stored_plan(job).ok();
        self.print_for_job(job, format_args!("{}{reason}: {}", job.status, format_outcomes(job, plan.as_ref())));
        self.print_failures(job);
        let unpublished = match outcome {
            Ok(RunOutcome::Finished(FinishOutcome::Over(delivered))) => {
                unpublished_report_error(delivered, job, &self.state_flag)
            }
            _ => None,
        };
        match (outcome, unpublished) {
            (Err(error), _) => {
                let error = job_error(error, self.terminal);
                result["error"] = error_json(&error, &self.state_flag);
                self.print_error(job, &error);
                self.record_exit(error.exit_for(job));
            }
            (Ok(_), Some(error)) => {
                result["error"] = error_json(&error, &self.state_flag);
                self.print_error(job, &error);
                self.record_exit(error.exit);
            }
            (Ok(_), None) if job.status == JobStatus::Suspended => {
                self.inform_for_job(job, format_args!("next: batchplan confirm {}{}", job.id, self.state_flag));
            }
            (Ok(_), None) => {
                if let Some(error) = refused_pause_error(self.journal, job) {
                    result["error"] = error_json(&error, &self.state_flag);
                    if let Some(help) = &error.help {
                        self.print_help(job, help);
                    }
                }
                self.record_exit(ExitStatus::of(job));
            }
        }
        emit("job_ended", Some(job.id.as_str()), json!({ "result": result }), EventWeight::Required);
        let error = outcome.as_ref().err().map(ToString::to_string);
        self.ended_jobs.borrow_mut().push((job.clone(), error));
        self.results.borrow_mut().push(result);
    }
}

/// The longest name of a bar: the beginning of the job's ID, and that of its name.
const MAX_BAR_LABEL: usize = 24;

/// Shows the progress of one job.
struct QueuedJobView {
    terminal: Terminal,
    /// The job's name in messages, and that of its bar.
    label: String,
    bar_label: String,
    shown: Option<(ProgressPhase, ProgressView)>,
    /// The last message about what the job waits for.
    waits_for: String,
    /// The job's events, if the output has them.
    events: Option<JobEvents>,
}

#[derive(PartialEq, Eq)]
enum ProgressPhase {
    Preparing,
    Working,
}

impl QueuedJobView {
    fn progress_view(&mut self, phase: ProgressPhase) -> &mut ProgressView {
        if self.shown.as_ref().is_some_and(|(shown, _)| *shown != phase) {
            self.shown = None;
        }
        let (terminal, label) = (self.terminal, self.bar_label.as_str());
        let (_, view) = self.shown.get_or_insert_with(|| (phase, ProgressView::new(terminal, label)));
        view
    }
}

impl ProgressObserver for QueuedJobView {
    fn on_rows_read(&mut self, prepared: FreezeProgress) {
        if let Some(events) = &mut self.events {
            events.on_rows_read(prepared.rows_included);
        }
        self.progress_view(ProgressPhase::Preparing).show_found(prepared.rows_included);
    }

    fn on_waiting(&mut self, waiting: &WaitReason) {
        self.shown = None;
        let why = waiting.to_string();
        if let Some(events) = &mut self.events {
            events.on_waiting(&why);
        }
        if self.waits_for != why {
            self.terminal.inform(format_args!("{}: waiting: {why}", self.label));
            self.waits_for = why;
        }
    }

    fn on_note(&mut self, note: &str) {
        if let Some(events) = &self.events {
            events.on_note(note);
        }
        self.terminal.inform(format_args!("{}: note: {}", self.label, bar_lines(note)));
    }

    fn on_progress(&mut self, progress: RunProgress) {
        if let Some(events) = &mut self.events {
            events.on_progress(&progress);
        }
        self.progress_view(ProgressPhase::Working).show_progress(&progress);
    }
}
