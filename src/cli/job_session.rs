//! Runs one job interactively: the flow that `apply`, `resume`, `create` and `retry` share. What every command says of
//! a job: its result as JSON, and errors and warnings after it has run. The arguments that commands about a job share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::HumanCount;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::descriptions::{describe_doubt, format_objects, next_command, one_line, quote_path, relative_path, summary};
use super::error_code::ErrorCode;
use super::exit::{CommandError, ExitStatus, failed_before_start};
use super::github;
use super::job_events::JobEvents;
use super::numbers::whole_number;
use super::plan_input::{in_this_environment, job_error, load_prices};
use super::preview::{PreviewView, TextLayout, render_brief};
use super::progress_view::ProgressView;
use super::run_summary::{RunSummary, format_outcomes};
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::{PromptAnswer, Terminal, ask, bar_lines, escape_line};
use super::{notifications, recurring, signals};
use crate::connect::{StoreConnection, connect};
use crate::engine::{CONTENT_CHANGED, CheckpointPolicy, RunProgress, SERVER_CHECK_FAILED};
use crate::estimate::{CostTotal, JobWorkload, check_cost_limit, estimate, estimate_run_time, select_prices};
use crate::hint::{Hint, command, hint};
use crate::job::{JobStatus, Progress};
use crate::jobs::{
    ConfirmationDecision, CreateOutcome, DEFAULT_SLOTS, FinishOutcome, JobError, JobLease, JobRequest, JobRunner,
    PrepareOutcome, ProgressObserver, PublishOutcome, ReplacedJob, RequestBudget, RuleCheck, RunOutcome, RunSettings,
    ScheduleRules, StopTimeouts, WaitReason, denied_capture_hint, describe, find_presence, job_manifest,
    may_retry_succeed, plan_warnings, preview_sample, server_check_off_warning, stored_plan, undone_changes,
    untrusted_error, untrusted_pause_hint,
};
use crate::journal::{FailureCode, JobFolder, JobRecord, JobSource, Journal, LeaseError, PauseCause, ServerTrust};
use crate::manifest::{FreezeProgress, FrozenManifest};
use crate::paths::{path_to_text, show_path};
use crate::plan::Plan;
use crate::plan_rules::PlanRules;
use crate::report::{FinishedReport, MANIFEST_NAME};
use crate::report_format::TaskStatus;

/// One job, and how to run it.
pub(super) struct JobSession<'a> {
    terminal: Terminal,
    journal: &'a JournalHandle,
    job: JobRecord,
    plan: &'a Plan,
    settings: RunSettings,
    confirmation: ConfirmationMode,
    /// The number of objects that the manifest must name, if `--expect-count` was given.
    expected_count: Option<u64>,
    /// ` --state DIR|URL` if shown commands need it, otherwise empty.
    state_flag: String,
}

/// What to do with a job that is not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfirmationMode {
    /// Ask the user.
    Ask,
    /// Do not ask: no confirmation is needed, or `--auto-approve` was given.
    NotNeeded,
    /// Leave the job waiting.
    Defer,
}

/// Brings the files of the job that is undone onto this machine, and of the one that it undid if it is itself an undo.
fn fetch_undone_jobs(journal: &JournalHandle, job: &JobRecord) -> Result<(), CommandError> {
    let JobSource::Undo(undo) = &job.source else { return Ok(()) };
    journal.fetch(&undo.of)?;
    match journal.find(undo.of.as_str())?.source {
        JobSource::Undo(before) => journal.fetch(&before.of),
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => Ok(()),
    }
}

/// How a session ended.
enum SessionOutcome {
    /// The result was printed.
    Exit(ExitStatus),
    /// The job has stopped, and an error must still be reported with its result: the report could not be published, or
    /// the server is not trusted.
    Error(CommandError),
}

/// Creates the job of a request, or finds the one that it repeats, and runs it: the end of `retry` and `undo`.
pub(super) fn run_request(
    request: &JobRequest<'_>,
    journal: &JournalHandle,
    settings: RunSettings,
    confirmation: ConfirmationMode,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let job = match request.find_or_create(journal, Timestamp::now())? {
        CreateOutcome::Created { job, replaced } => {
            print_replaced(replaced.as_ref(), terminal);
            job
        }
        CreateOutcome::Over(job) => job,
        CreateOutcome::Unfinished(job) => {
            terminal.inform(format_args!("resuming job {} ({})", job.id, job.status));
            job
        }
    };
    let plan = &in_this_environment(stored_plan(&job)?)?;
    JobSession::new(journal, job, plan, settings, confirmation, terminal).run()
}

impl<'a> JobSession<'a> {
    /// Prepares to run a job. Nothing is expected of its number of objects.
    pub(super) fn new(
        journal: &'a JournalHandle,
        job: JobRecord,
        plan: &'a Plan,
        settings: RunSettings,
        confirmation: ConfirmationMode,
        terminal: Terminal,
    ) -> Self {
        let state_flag = journal.flag();
        Self { terminal, journal, job, plan, settings, confirmation, expected_count: None, state_flag }
    }

    /// Refuses the job unless its manifest names this number of objects, if one is given.
    pub(super) fn expect_count(self, expected_count: Option<u64>) -> Self {
        Self { expected_count, ..self }
    }

    /// Runs the job on a runtime of its own, and prints its result.
    ///
    /// # Errors
    /// Returns an error if the job cannot be run. Every other outcome is reported by the exit code.
    pub(super) fn run(self) -> Result<ExitStatus, CommandError> {
        if self.confirmation == ConfirmationMode::NotNeeded {
            notifications::announce_auto_confirm();
        }
        // Requests are cheapest when no task moves between threads. Blocking work has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let running = async {
            let held = self.acquire_lease()?;
            fetch_undone_jobs(self.journal, &self.job)?;
            let connection = self.connect(&held).await?;
            let stop = CancellationToken::new();
            signals::listen(self.terminal, stop.clone(), Some(self.settings.timeouts.drain))?;
            self.journal.watch_for_stop(&stop);
            let budget = RequestBudget::for_process();
            // Read the job again: another process may have run it before this one took the lease.
            let job = self.journal.find(self.job.id.as_str())?;
            let (store, signal) = (connection.store(), stop.clone());
            let mut runner =
                JobRunner::new(self.journal, held, job, self.plan, store, (&self.settings, &budget), signal);
            let mut view = SessionView::new(self.terminal, &self.terminal.abbreviate_ids(self.job.id.as_str()))
                .with_events(self.journal, &runner.job);
            let ended = self.run_and_report(&mut runner, &mut view, &stop).await;
            view.clear();
            ended
        };
        let ended = runtime.block_on(running.instrument(self.job.id.span()));
        // A thread that is blocked on a read that never returns must not keep the process alive.
        runtime.shutdown_background();
        ended
    }

    /// Takes the lease on the job. If that fails because of the job's folder, a New job is withdrawn: it could not be run.
    fn acquire_lease(&self) -> Result<JobLease, JobError> {
        let held = JobLease::acquire(self.journal, &self.job.id);
        let is_held = matches!(&held, Err(JobError::Lease { cause: LeaseError::Held(_), .. }));
        if held.is_err() && !is_held && self.job.status == JobStatus::New {
            // The error says more than a journal that cannot be written either.
            let _ = self.journal.remove_unstarted(&self.job.id);
        }
        held
    }

    /// Connects to the plan's store. If that fails, a New job is withdrawn: it would only wait until its plan is
    /// applied again.
    async fn connect(&self, held: &JobLease) -> Result<StoreConnection, CommandError> {
        let connection = connect(&self.plan.store).await.map_err(CommandError::from);
        if connection.is_err()
            && self.job.status == JobStatus::New
            && self.journal.remove_unstarted(&self.job.id).is_ok()
        {
            held.folder.clone().remove()?;
        }
        connection
    }

    /// Decides how errors are reported: an error after the result was printed is only shown on the terminal.
    async fn run_and_report(
        &self,
        runner: &mut JobRunner<'_>,
        view: &mut SessionView,
        stop: &CancellationToken,
    ) -> Result<ExitStatus, CommandError> {
        match self.run_until_stopped(runner, view, stop).await {
            Ok(SessionOutcome::Exit(exit)) => Ok(exit),
            Ok(SessionOutcome::Error(error)) => Err(error),
            Err(error) => Err(self.report_failure(runner, error)),
        }
    }

    async fn run_until_stopped(
        &self,
        runner: &mut JobRunner<'_>,
        view: &mut SessionView,
        stop: &CancellationToken,
    ) -> Result<SessionOutcome, CommandError> {
        if self.confirmation == ConfirmationMode::Defer {
            return self.prepare_only(runner, view).await.map(SessionOutcome::Exit);
        }
        if runner.job.progress.total > 0 && runner.job.status != JobStatus::Suspended {
            self.check_count(runner, runner.job.progress.total)?;
            // This job is not introduced again, and its server check may have been switched off since.
            if let Some(warning) = server_check_off_warning(self.plan) {
                self.terminal.eprint(format_args!("warning: {warning}"));
            }
        }
        let mut predicted = None;
        loop {
            let before = runner.job.status;
            let outcome = runner.run(view).await;
            view.clear();
            let outcome = outcome.map_err(|error| job_error(&error, self.terminal))?;
            match outcome {
                RunOutcome::Suspended(frozen) => {
                    self.check_count(runner, frozen.rows())?;
                    if before != JobStatus::Suspended || self.confirmation != ConfirmationMode::NotNeeded {
                        self.print_summary(&frozen);
                    }
                    predicted = self.check_estimate(runner, &frozen, stop).await?;
                    match self.confirm(runner, &frozen, stop).await? {
                        None => {}
                        Some(exit) => return Ok(SessionOutcome::Exit(exit)),
                    }
                }
                RunOutcome::Interrupted => return self.report_interrupted(runner).map(SessionOutcome::Exit),
                RunOutcome::Skipped => return self.report_skipped(runner).map(SessionOutcome::Exit),
                RunOutcome::Finished(concluded) => {
                    return self.report_finished(runner, concluded, view, predicted.as_ref());
                }
            }
        }
    }

    /// Returns an error if the job does not have the expected number of objects. A job that waits for confirmation is
    /// cancelled, because its frozen objects are not the intended ones.
    fn check_count(&self, runner: &mut JobRunner<'_>, found: u64) -> Result<(), CommandError> {
        let Some(expected) = self.expected_count.filter(|expected| *expected != found) else { return Ok(()) };
        let what = format!("the manifest names {}, but {} were expected", format_objects(found), HumanCount(expected));
        if runner.job.status == JobStatus::Suspended {
            runner.decline(&what).map_err(CommandError::from)?;
            return Err(CommandError::new(
                ExitStatus::Refused,
                format!("{what}: nothing was changed, and the job was cancelled"),
            )
            .code(ErrorCode::UnexpectedCount)
            .help(format!("if {found} is right, use --expect-count {found}; otherwise fix [manifest] in the plan")));
        }
        Err(CommandError::new(ExitStatus::Refused, format!("{what}: nothing was done"))
            .code(ErrorCode::UnexpectedCount)
            .help(format!("the job has {}; to resume it, use --expect-count {found}", format_objects(found))))
    }

    /// Shows the estimate if the user is about to be asked. Returns an error if the job would cost too much or its
    /// server is not trusted. The job then keeps waiting, because it can be confirmed with a higher limit. A job of a
    /// saved plan without a token is cancelled if it costs too much. Otherwise, returns what the job will send, if that
    /// was estimated.
    async fn check_estimate(
        &self,
        runner: &mut JobRunner<'_>,
        frozen: &FrozenManifest,
        stop: &CancellationToken,
    ) -> Result<Option<JobWorkload>, CommandError> {
        let asks = self.confirmation == ConfirmationMode::Ask;
        let rules = RuleCheck::of(self.settings.plan_rules.as_ref(), &runner.job);
        if !asks && self.plan.limits.max_cost.is_none() && !rules.limits_cost() {
            return Ok(None);
        }
        let prices = load_prices(self.plan, None, self.terminal)?;
        let undo = undone_changes(self.journal, &runner.job)?;
        let preview = preview_sample(self.plan, undo, frozen, runner.store, stop).await.map_err(CommandError::from)?;
        let estimate = estimate(&preview.workload, &prices);
        if asks {
            let layout = TextLayout { colour: false, width: self.terminal.message_width() };
            let run_time = estimate_run_time(&preview.workload, &self.plan.limits, &prices, &preview.latencies);
            let text = render_brief(&PreviewView::new(self.plan, &preview, &estimate, &run_time, layout));
            self.terminal.eprint(format_args!("\n{}", text.trim_end()));
        }
        if let Some(refusal) = &preview.refusal {
            let (error, id, status) =
                (CommandError::from(untrusted_error(self.plan, refusal)), &runner.job.id, runner.job.status);
            let help = error.help.clone().unwrap_or_default();
            return Err(error.help(help.append(format!("; job {id} is {status}, and nothing was changed"))));
        }
        rules.check_cost(self.plan, &estimate).map_err(|error| job_error(&error, self.terminal))?;
        let max_cost = self.plan.limits.max_cost;
        let Some(refusal) = max_cost.and_then(|max| check_cost_limit(&estimate, &max).error().cloned()) else {
            runner.cost_checked = true;
            return Ok(Some(preview.workload));
        };
        // A saved plan cannot be changed. It must be saved again, which makes another job.
        if runner.job.manifest_fingerprint.is_some() && runner.job.token.is_none() {
            runner.decline(&refusal.to_string()).map_err(CommandError::from)?;
        }
        let (id, status) = (&runner.job.id, runner.job.status);
        let next = if status.is_over() {
            Hint::default()
        } else {
            hint!(": apply the plan again, or cancel the job ({})", command!("cancel", id))
        };
        let help = Hint::from(format!("{}; job {id} is {status}", refusal.help())).append(next);
        Err(CommandError::from(JobError::TooExpensive(Box::new(refusal))).help(help))
    }

    /// Prints what the job is about to do.
    fn print_summary(&self, frozen: &FrozenManifest) {
        let file = show_path(relative_path(&self.job.plan_file)).to_string();
        let manifest = job_manifest(self.journal, &self.job, self.plan);
        let manifest = manifest.as_ref().unwrap_or(&self.plan.manifest);
        let summary = summary(self.plan, manifest, &file, frozen.rows());
        if self.confirmation == ConfirmationMode::Ask {
            // The question is about it, so it is shown in any case.
            self.terminal.eprint(summary);
        } else {
            self.terminal.inform(summary);
        }
        for warning in frozen.warnings().iter().filter(|_| self.confirmation != ConfirmationMode::Ask) {
            self.terminal.inform(format_args!("  warning: {warning}\n    help: {}", warning.help));
        }
        // If the user is asked, warnings are shown with the estimate.
        for warning in plan_warnings(self.plan).iter().filter(|_| self.confirmation != ConfirmationMode::Ask) {
            self.terminal.inform(format_args!("  warning: {warning}"));
        }
    }

    /// Confirms the job. Returns an exit code if the command ends without confirming it.
    async fn confirm(
        &self,
        runner: &mut JobRunner<'_>,
        frozen: &FrozenManifest,
        stop: &CancellationToken,
    ) -> Result<Option<ExitStatus>, CommandError> {
        let id = &runner.job.id;
        match self.confirmation {
            ConfirmationMode::NotNeeded => {}
            ConfirmationMode::Ask | ConfirmationMode::Defer => {
                let verb = if self.plan.undo_mode.is_some() { "Undo this for" } else { "Apply this to" };
                let question = format!("{verb} {}?", format_objects(frozen.rows()));
                let answer = tokio::select! {
                    biased;
                    answer = ask(&question, stop) => answer?,
                    decided = runner.wait_for_decision() => {
                        self.terminal.eprint("");
                        match decided {
                            ConfirmationDecision::Confirmed => PromptAnswer::Yes,
                            ConfirmationDecision::Cancelled => PromptAnswer::No,
                        }
                    }
                };
                match answer {
                    PromptAnswer::Yes => {}
                    PromptAnswer::No => {
                        runner.decline("declined at the confirmation prompt").map_err(CommandError::from)?;
                        self.terminal.eprint("cancelled: nothing was changed");
                        self.print_job(&runner.job)?;
                        return Ok(Some(ExitStatus::Cancelled));
                    }
                    PromptAnswer::Stopped => {
                        self.terminal.eprint(format_args!("nothing was changed; job {id} is waiting for confirmation"));
                        self.terminal.inform(format_args!("next: batchplan resume {id}{}", self.state_flag));
                        self.print_job(&runner.job)?;
                        return Ok(Some(ExitStatus::Interrupted));
                    }
                }
            }
        }
        runner.confirm().map_err(CommandError::from)?;
        Ok(None)
    }

    /// Resolves the job's manifest, and leaves the job waiting.
    async fn prepare_only(
        &self,
        runner: &mut JobRunner<'_>,
        view: &mut SessionView,
    ) -> Result<ExitStatus, CommandError> {
        if matches!(runner.job.status, JobStatus::New | JobStatus::Preparing) {
            let prepared = runner.prepare(view).await.map_err(|error| job_error(&error, self.terminal))?;
            view.clear();
            match prepared {
                PrepareOutcome::Frozen(frozen) => self.print_summary(&frozen),
                PrepareOutcome::Interrupted => return self.report_interrupted(runner),
                PrepareOutcome::Cancelled => return self.report_skipped(runner),
            }
        }
        let (id, status) = (&runner.job.id, runner.job.status);
        self.terminal.eprint(format_args!("job {id} is {status}"));
        let next = match status {
            JobStatus::Suspended => format!("batchplan confirm {id}"),
            JobStatus::Ready => "batchplan run".to_owned(),
            _ => format!("batchplan show {id}"),
        };
        self.terminal.inform(format_args!("next: {next}{}", self.state_flag));
        self.print_job(&runner.job)?;
        Ok(ExitStatus::Success)
    }

    fn report_interrupted(&self, runner: &JobRunner<'_>) -> Result<ExitStatus, CommandError> {
        self.terminal.eprint("stopped: nothing was changed, and the manifest rows read so far are kept");
        self.print_resume_command(runner);
        self.print_job(&runner.job)?;
        Ok(ExitStatus::Interrupted)
    }

    fn report_skipped(&self, runner: &mut JobRunner<'_>) -> Result<ExitStatus, CommandError> {
        runner.refresh().map_err(CommandError::from)?;
        let status = runner.job.status;
        self.terminal.eprint(format_args!("job {} is {status}: nothing was done", runner.job.id));
        self.print_job(&runner.job)?;
        if status.is_over() {
            return Ok(ExitStatus::of(&runner.job));
        }
        self.print_resume_command(runner);
        Ok(ExitStatus::Interrupted)
    }

    /// Prints the result of a job that has stopped.
    fn report_finished(
        &self,
        runner: &mut JobRunner<'_>,
        concluded: FinishOutcome,
        view: &SessionView,
        predicted: Option<&JobWorkload>,
    ) -> Result<SessionOutcome, CommandError> {
        runner.refresh().map_err(CommandError::from)?;
        let job = &runner.job;
        let untrusted = refused_pause_error(self.journal, job);
        if job.status != JobStatus::Complete {
            // If the server is not trusted, the reason is shown last, as an error.
            let reason = job.reason.as_ref().filter(|_| untrusted.is_none());
            let reason = reason.map_or_else(String::new, |reason| format!(": {}", one_line(reason)));
            self.terminal.eprint(format_args!("{}{reason}", job.status));
        }
        if let Some(doubt) = describe_doubt(job) {
            self.terminal.eprint(doubt);
        }
        self.terminal.eprint(format_outcomes(job, Some(self.plan)));
        self.print_run_summary(job, view.progress.as_ref(), predicted)?;
        if let Some(warning) = damaged_content_warning(self.journal, job)?.filter(|_| untrusted.is_none()) {
            self.terminal.eprint(warning);
        }
        let folder = runner.folder().report_folder();
        github::report_job(self.journal, job, None, &self.state_flag, self.terminal);
        let result = job_result_json(job, &folder, Some(view.elapsed()));
        let delivered = match concluded {
            FinishOutcome::Paused if let Some(error) = untrusted => {
                return Ok(SessionOutcome::Error(error.result(result)));
            }
            FinishOutcome::Paused => {
                self.print_json(result)?;
                self.print_resume_command(runner);
                return Ok(SessionOutcome::Exit(ExitStatus::of(job)));
            }
            FinishOutcome::Over(delivered) => delivered,
        };
        if let Some(place) = job.report_location.as_ref().filter(|_| matches!(delivered, PublishOutcome::Published)) {
            self.terminal.eprint(format_args!("report: {place}"));
        } else if !matches!(delivered, PublishOutcome::NoReport) {
            self.terminal.eprint(format_args!("report: {}", show_path(folder.join(MANIFEST_NAME))));
        }
        if let Some(next) = self.next_command(job, &folder) {
            self.terminal.inform(format_args!("next: {next}"));
        }
        if let Some(error) = unpublished_report_error(&delivered, job, &self.state_flag) {
            return Ok(SessionOutcome::Error(error.result(result)));
        }
        self.print_json(result)?;
        Ok(SessionOutcome::Exit(ExitStatus::of(job)))
    }

    /// Prints how long the run took, what it sent and what that cost, and why objects failed.
    fn print_run_summary(
        &self,
        job: &JobRecord,
        progress: Option<&RunProgress>,
        predicted: Option<&JobWorkload>,
    ) -> Result<(), CommandError> {
        let failures = if job.progress.failed > 0 { describe(self.journal, &job.id)?.failures } else { Vec::new() };
        let (cost, estimated_cost) = self.costs(progress, predicted);
        let summary = RunSummary { job, plan: self.plan, progress, cost, estimated_cost, failures: &failures };
        let text = summary.render(self.terminal.message_width());
        if !text.is_empty() {
            self.terminal.inform(text);
        }
        Ok(())
    }

    /// Returns what the requests of a run cost, and what was estimated for the job. Without an estimate, the storage
    /// classes are not known. A cost that depends on them is then left out.
    fn costs(
        &self,
        progress: Option<&RunProgress>,
        predicted: Option<&JobWorkload>,
    ) -> (Option<CostTotal>, Option<CostTotal>) {
        // A price book that cannot be read was reported before the job ran.
        let (Some(progress), Ok(prices)) = (progress, select_prices(self.plan, None)) else { return (None, None) };
        let unclassified = JobWorkload::default();
        let sent = predicted.unwrap_or(&unclassified).with_sent_requests(|kind| progress.requests.of(kind));
        let cost = estimate(&sent, &prices).total;
        let is_whole_job = progress.finished_before == 0;
        let estimated = predicted.filter(|_| is_whole_job).map(|work| estimate(work, &prices).total);
        (Some(cost).filter(|cost| predicted.is_some() || cost.is_complete()), estimated)
    }

    /// Returns the command to suggest to the user. `None` if nothing failed and the report lists only failures.
    fn next_command(&self, job: &JobRecord, folder: &Path) -> Option<String> {
        let undone = job.progress.failed + if job.status == JobStatus::Complete { 0 } else { job.progress.remaining() };
        if undone > 0 {
            let (id, state) = (&job.id, &self.state_flag);
            let show = format!("batchplan show {id}{state}");
            let retry = may_retry_succeed(job, &failure_codes(self.journal, job));
            return Some(if retry { format!("{show} && batchplan retry {id}{state}") } else { show });
        }
        let report = FinishedReport::load(folder).ok()?;
        if report.segments().is_empty() {
            return None;
        }
        let done = report.segments().iter().find(|segment| segment.status == TaskStatus::Succeeded);
        let file = done.map(|segment| segment.path(folder)).filter(|path| path.exists());
        Some(format!("cat {}", quote_path(&file.unwrap_or_else(|| folder.join(MANIFEST_NAME)))))
    }

    fn print_resume_command(&self, runner: &JobRunner<'_>) {
        self.terminal.inform(format_args!("next: batchplan resume {}{}", runner.job.id, self.state_flag));
    }

    /// Reports a job that could not be run, and returns the error to show with its current record.
    fn report_failure(&self, runner: &JobRunner<'_>, error: CommandError) -> CommandError {
        let Ok(job) = self.journal.find(runner.job.id.as_str()) else { return error };
        github::report_job(self.journal, &job, Some(&error.message), &self.state_flag, self.terminal);
        let error = error.result(job_result_json(&job, &runner.folder().report_folder(), None));
        if failed_before_start(&job) {
            let message = format!("no objects were changed: {}", error.message);
            let exit = error.exit_for(&job);
            return error.with_outcome(exit, message);
        }
        let resume = format!("batchplan resume {}{}", job.id, self.state_flag);
        let help = error.help.clone();
        error.help(help.unwrap_or_else(|| format!("progress is saved; resume with: {resume}").into()))
    }

    fn print_job(&self, job: &JobRecord) -> Result<(), CommandError> {
        let folder = JobFolder::of(self.journal.state_folder(), &job.id).report_folder();
        self.print_result(job, &folder, Duration::ZERO)
    }

    fn print_result(&self, job: &JobRecord, folder: &Path, took: Duration) -> Result<(), CommandError> {
        github::report_job(self.journal, job, None, &self.state_flag, self.terminal);
        self.print_json(job_result_json(job, folder, Some(took)))
    }

    fn print_json(&self, result: Json) -> Result<(), CommandError> {
        if self.terminal.is_json() {
            self.terminal.print_json(result)?;
        }
        Ok(())
    }
}

/// Shows the progress of one job on the terminal.
struct SessionView {
    terminal: Terminal,
    /// The beginning of the job's ID.
    label: String,
    phase: SessionPhase,
    started: std::time::Instant,
    /// The last progress of the run.
    progress: Option<RunProgress>,
    /// The job's events, if the output has them.
    events: Option<JobEvents>,
}

enum SessionPhase {
    Idle,
    Preparing(ProgressView),
    Waiting(String),
    Working(ProgressView),
}

impl SessionView {
    fn new(terminal: Terminal, label: &str) -> Self {
        let label = label.to_owned();
        Self {
            terminal,
            label,
            phase: SessionPhase::Idle,
            started: std::time::Instant::now(),
            progress: None,
            events: None,
        }
    }

    /// Emits the events of a job from now on, if the output has them.
    fn with_events(self, journal: &Journal, job: &JobRecord) -> Self {
        Self { events: self.terminal.prints_events().then(|| JobEvents::start(journal, job)), ..self }
    }

    fn clear(&mut self) {
        if let SessionPhase::Preparing(view) | SessionPhase::Working(view) = &self.phase {
            view.clear();
        }
        self.phase = SessionPhase::Idle;
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl ProgressObserver for SessionView {
    fn on_rows_read(&mut self, prepared: FreezeProgress) {
        if let Some(events) = &mut self.events {
            events.on_rows_read(prepared.rows_included);
        }
        if !matches!(self.phase, SessionPhase::Preparing(_)) {
            self.phase = SessionPhase::Preparing(ProgressView::new(self.terminal, self.label.as_str()));
        }
        if let SessionPhase::Preparing(view) = &mut self.phase {
            view.show_found(prepared.rows_included);
        }
    }

    fn on_waiting(&mut self, waiting: &WaitReason) {
        let why = waiting.to_string();
        if let Some(events) = &mut self.events {
            events.on_waiting(&why);
        }
        if !matches!(&self.phase, SessionPhase::Waiting(said) if *said == why) {
            self.terminal.inform(format_args!("waiting: {why}"));
            self.phase = SessionPhase::Waiting(why);
        }
    }

    fn on_note(&mut self, note: &str) {
        if let Some(events) = &self.events {
            events.on_note(note);
        }
        self.clear();
        self.terminal.inform(format_args!("note: {}", bar_lines(note)));
    }

    fn on_progress(&mut self, progress: RunProgress) {
        if let Some(events) = &mut self.events {
            events.on_progress(&progress);
        }
        if !matches!(self.phase, SessionPhase::Working(_)) {
            self.started = std::time::Instant::now();
            self.phase = SessionPhase::Working(ProgressView::new(self.terminal, self.label.as_str()));
        }
        if let SessionPhase::Working(view) = &mut self.phase {
            view.show_progress(&progress);
        }
        self.progress = Some(progress);
    }
}

/// The number of rows that may be processed between two pushes of a state: half a minute at more than 30,000 rows a
/// second.
const MAX_ROWS_BETWEEN_PUSHES: u64 = 1 << 20;

/// How jobs are run by this command.
#[derive(Debug, Args)]
pub(super) struct JobRunArgs {
    /// Do not wait for jobs that may change the same objects
    #[arg(long)]
    allow_overlap: bool,
    /// How many jobs may run at once, over all processes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SLOTS, value_parser = whole_number::<usize>(1..=1000))]
    slots: usize,
}

impl Default for JobRunArgs {
    fn default() -> Self {
        Self { allow_overlap: false, slots: DEFAULT_SLOTS }
    }
}

impl JobRunArgs {
    /// Converts the options to settings.
    pub(super) fn settings(
        &self,
        frozen_manifest: bool,
        plan_rules: Option<Arc<PlanRules>>,
        journal: &JournalHandle,
    ) -> RunSettings {
        let pushes_in_ci = std::env::var_os("CI").is_some() && journal.is_remote();
        let timeouts = if pushes_in_ci { StopTimeouts::CI_WITH_PUSH } else { signals::stop_timeouts() };
        let policy = checkpoint_policy();
        RunSettings {
            timeouts,
            // If the machine is lost, everything since the last push may be lost, which is up to this many rows.
            checkpoint_policy: if journal.is_remote() {
                CheckpointPolicy { max_unrecorded_rows: MAX_ROWS_BETWEEN_PUSHES, ..policy }
            } else {
                policy
            },
            rules: ScheduleRules { slots: self.slots, allow_overlap: self.allow_overlap },
            frozen_manifest,
            plan_rules,
        }
    }
}

/// Returns the checkpoint policy. In debug builds, tests can set the number of rows between checkpoints.
fn checkpoint_policy() -> CheckpointPolicy {
    let mut policy = CheckpointPolicy::default();
    if cfg!(debug_assertions)
        && let Some(most) = std::env::var("BATCHPLAN_CHECKPOINT_EVERY").ok().and_then(|text| text.parse().ok())
    {
        (policy.max_started_rows, policy.max_unrecorded_rows) = (most, most);
    }
    policy
}

/// The arguments of a command that changes an existing job.
#[derive(Debug, Args)]
pub(super) struct JobCommandArgs {
    /// The job's ID, or a unique prefix of it
    job: String,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl JobCommandArgs {
    /// Opens the journal to send a request to the process that runs the job, finds the job, and runs a command on it.
    ///
    /// # Errors
    /// Returns the command's own error, or an error if no job matches, if several do, or if the journal cannot be used.
    pub(super) fn run(
        &self,
        terminal: Terminal,
        command: impl FnOnce(&JournalHandle, JobRecord) -> Result<ExitStatus, CommandError>,
    ) -> Result<ExitStatus, CommandError> {
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Request, terminal)?;
        let ended = command(&journal, job);
        journal.close(ended)
    }

    /// Prints the job's status and the next command.
    ///
    /// # Errors
    /// Returns an error if the job's lease cannot be read or standard output cannot be written.
    pub(super) fn print_status(
        &self,
        terminal: Terminal,
        journal: &JournalHandle,
        job: JobRecord,
    ) -> Result<(), CommandError> {
        let (job, presence) = find_presence(journal, job)?;
        let presence = journal.adjust_presence(presence);
        let folder = JobFolder::of(journal.state_folder(), &job.id);
        let reason = job.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escape_line(reason)));
        terminal.eprint(format_args!("job {} is {}{reason}", job.id, job.status));
        let failures = failure_codes(journal, &job);
        if let Some(next) = next_command(&job, &presence, &failures, &folder, &journal.flag()) {
            terminal.inform(format_args!("next: {next}"));
        }
        self.print_json(terminal, job_result_json(&job, &folder.report_folder(), None))
    }

    /// Prints a result as JSON if requested.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    #[expect(clippy::unused_self, reason = "the result is that of the command")]
    pub(super) fn print_json(&self, terminal: Terminal, result: Json) -> Result<(), CommandError> {
        if terminal.is_json() {
            terminal.print_json(result)?;
        }
        Ok(())
    }
}

/// Returns the error codes of the objects that failed in a job. Returns none if they cannot be read.
fn failure_codes(journal: &Journal, job: &JobRecord) -> Vec<FailureCode> {
    let recorded = journal.recorded_progress(job.number);
    recorded.map_or_else(|_| Vec::new(), |recorded| recorded.tally.groups().map(|(code, _)| code.clone()).collect())
}

/// Says which earlier job a new one has replaced.
pub(super) fn print_replaced(replaced: Option<&ReplacedJob>, terminal: Terminal) {
    if let Some(ReplacedJob { id, status }) = replaced {
        terminal.inform(format_args!("replacing job {id} ({status}), which changed nothing"));
    }
}

/// Returns a job's result as JSON.
pub(super) fn job_result_json(job: &JobRecord, folder: &Path, took: Option<Duration>) -> Json {
    let Progress { total, succeeded, failed, .. } = job.progress;
    let mut result = json!({
        "job_id": job.id.as_str(),
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "cause": job.pause_cause,
        "priority": job.priority,
        "total": total,
        "succeeded": succeeded,
        "failed": failed,
        "unchanged": job.progress.unchanged,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "report": job.report_location,
        "report_folder": path_to_text(folder),
        "elapsed_seconds": took.map(|took| took.as_secs_f64()),
    });
    if let Some(inventory) = recurring::job_json(job) {
        result["inventory"] = inventory;
    }
    result
}

/// Returns the error to report for a job that is paused because its server is not trusted, or because what its objects
/// were like cannot be read.
pub(super) fn refused_pause_error(journal: &Journal, job: &JobRecord) -> Option<CommandError> {
    let why = job.reason.as_ref().filter(|_| job.status == JobStatus::Paused)?;
    let (code, help) = match job.pause_cause? {
        PauseCause::Server => {
            let verdicts = journal.server_verdicts(job.number).unwrap_or_default();
            let after_write = verdicts.iter().any(|verdict| matches!(verdict.trust, ServerTrust::Refused(_)));
            (ErrorCode::ServerNotTrusted, untrusted_pause_hint(&job.id, after_write, why))
        }
        PauseCause::Capture => (ErrorCode::CaptureDenied, denied_capture_hint(&job.id)),
        PauseCause::Person | PauseCause::Signal | PauseCause::Credentials | PauseCause::Machine => return None,
    };
    Some(CommandError::new(ExitStatus::Refused, why.clone()).code(code).help(help))
}

/// Returns the number of failed objects of a job that the server may have damaged.
///
/// # Errors
/// Returns an error if the job cannot be read.
pub(super) fn count_damaged_objects(journal: &Journal, job: &JobRecord) -> Result<u64, CommandError> {
    if job.progress.failed == 0 {
        return Ok(0);
    }
    let is_damage = |code: &FailureCode| [SERVER_CHECK_FAILED, CONTENT_CHANGED].contains(&code.code.as_str());
    let failures = describe(journal, &job.id)?.failures;
    Ok(failures.iter().filter(|(code, _)| is_damage(code)).map(|(_, reason)| reason.count).sum())
}

/// Returns the warning for a job that ended although contents changed while they were written.
///
/// # Errors
/// Returns an error if the job cannot be read.
fn damaged_content_warning(journal: &Journal, job: &JobRecord) -> Result<Option<String>, CommandError> {
    let damaged = count_damaged_objects(journal, job)?;
    Ok((damaged > 0).then(|| {
        format!(
            "warning: object contents changed during writes ({}): before you retry, also compare the contents of the other \
             objects with a copy or an older version",
            format_objects(damaged)
        )
    }))
}

/// Returns the error for a complete report that could not be published.
pub(super) fn unpublished_report_error(
    delivered: &PublishOutcome,
    job: &JobRecord,
    state_flag: &str,
) -> Option<CommandError> {
    let (exit, why, remedy) = match delivered {
        PublishOutcome::Failed(error) => (ExitStatus::ToolFailed, error.to_string(), error.help()),
        PublishOutcome::Interrupted => (ExitStatus::Interrupted, "stopped".to_owned(), None),
        PublishOutcome::KeptLocally | PublishOutcome::Published | PublishOutcome::NoReport => return None,
    };
    let command = format!("batchplan publish {}{state_flag}", job.id);
    let error = CommandError::new(exit, format!("the report is complete but could not be published: {why}"))
        .code(ErrorCode::ReportNotPublished);
    let remedy = remedy.map_or_else(String::new, |remedy| format!("{remedy}, or publish it elsewhere with --to URL; "));
    Some(error.help(format!("{remedy}the report is kept with the job; publish it again: {command}")))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::jobs::{CreateOutcome, JobRequest};
    use crate::journal::JobSource;

    #[test]
    fn a_pause_that_is_a_refusal_has_the_code_of_its_cause() {
        const PLAN: &str = "name = \"p\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n\
            [manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        let now = Timestamp::UNIX_EPOCH;
        let (plan, _) = crate::plan::read_bytes("p.toml", PLAN.as_bytes(), folder.path(), now);
        let plan = plan.expect("a plan");
        let request = JobRequest {
            plan: &plan,
            text: PLAN.as_bytes(),
            file: Path::new("/p.toml"),
            origin: JobSource::Plan,
            force_new: false,
            confirmed: true,
            fingerprint: None,
            replace_unconfirmed: false,
            recurrence: None,
        };
        let Ok(CreateOutcome::Created { mut job, .. }) = request.find_or_create(&journal, now) else {
            panic!("no job")
        };
        (job.status, job.reason) = (JobStatus::Paused, Some("no".to_owned()));
        for (cause, code) in [
            (PauseCause::Server, Some("ServerNotTrusted")),
            (PauseCause::Capture, Some("CaptureDenied")),
            (PauseCause::Person, None),
        ] {
            job.pause_cause = Some(cause);
            let error = refused_pause_error(&journal, &job);
            assert_eq!(error.map(|error| error.code.as_str()), code, "{cause:?}");
        }
    }
}
