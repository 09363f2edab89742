//! Runs one job interactively: the flow that `apply`, `resume`, `create` and `retry` share.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::after_job::{changed, undelivered, untrusted};
use super::connected::connected;
use super::github::Outcome;
use super::kept::Kept;
use super::plan::{Foresight, rates};
use super::progress::ProgressView;
use super::prompt::{self, Answer};
use super::summary::{doubt, line, near, objects, summary};
use super::terminal::{Terminal, barred};
use super::{Error, Exit, github, notices, recurring, shell, signals};
use crate::codec::TaskStatus;
use crate::engine::Snapshot;
use crate::job::{JobStatus, Progress};
use crate::jobs::{
    Budget, Concluded, Decided, Delivered, Gone, Held, Prepare, Runner, Settings, Waiting, Watch, cautions, distrusted,
    foresee, manifest, server_check_off,
};
use crate::journal::{JobRecord, PauseCause};
use crate::manifest::{Frozen, Prepared};
use crate::plan::Plan;
use crate::report::{MANIFEST_NAME, Report};
use crate::store::Connection;

/// One job, and how to run it.
pub(super) struct Carry<'a> {
    pub(super) terminal: Terminal,
    pub(super) journal: &'a Kept,
    pub(super) job: JobRecord,
    pub(super) plan: &'a Plan,
    pub(super) settings: Settings,
    pub(super) confirmation: Confirmation,
    /// The number of objects that the manifest must name, if `--expect-count` was given.
    pub(super) expected: Option<u64>,
    /// Whether to print the result as JSON.
    pub(super) json: bool,
    /// ` --state DIR|URL` if shown commands need it, otherwise empty.
    pub(super) state_flag: String,
}

/// What to do with a job that is not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// Ask the user.
    Ask,
    /// Do not ask: no confirmation is needed, or `--auto-approve` was given.
    Given,
    /// Leave the job waiting.
    Leave,
}

/// How a session ended.
enum Ended {
    /// The result was printed.
    Exit(Exit),
    /// The result was printed, but an error must still be reported: the report could not be published, or the server is
    /// not trusted.
    Error(Error),
}

impl Carry<'_> {
    /// Runs the job on a runtime of its own.
    ///
    /// # Errors
    /// Returns an error if the job cannot be run. Every other outcome is reported by the exit code.
    pub(super) fn run(self) -> Result<Exit, Error> {
        if self.confirmation == Confirmation::Given {
            notices::nobody_is_asked();
        }
        // Requests are cheapest when no task moves between threads. Blocking work has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            let held = Held::take(self.journal, &self.job.id)?;
            let connection = self.connect(&held).await?;
            let stop = CancellationToken::new();
            signals::listen(self.terminal, stop.clone())?;
            self.journal.watch(&stop);
            let (settings, budget) = (self.settings, Budget::of_process());
            // Read the job again: another process may have run it before this one took the lease.
            let job = self.journal.find(self.job.id.as_str())?;
            let (store, signal) = (connection.store(), stop.clone());
            let mut runner = Runner::new(self.journal, held, job, self.plan, store, (&settings, &budget), signal);
            let mut view = View::new(self.terminal);
            let ended = self.carry(&mut runner, &mut view, &stop).await;
            view.clear();
            ended
        });
        // A thread that is blocked on a read that never returns must not keep the process alive.
        runtime.shutdown_background();
        ended
    }

    /// Connects to the plan's store. If that fails, a New job is withdrawn: it would only wait until its plan is
    /// applied again.
    async fn connect(&self, held: &Held) -> Result<Connection, Error> {
        let connection = connected(&self.plan.store).await;
        if connection.is_err() && self.job.status == JobStatus::New && self.journal.withdraw(&self.job.id).is_ok() {
            held.folder.clone().remove()?;
        }
        connection
    }

    /// Decides how errors are reported: an error after the result was printed is only shown on the terminal.
    async fn carry(&self, runner: &mut Runner<'_>, view: &mut View, stop: &CancellationToken) -> Result<Exit, Error> {
        match self.go(runner, view, stop).await {
            Ok(Ended::Exit(exit)) => Ok(exit),
            Ok(Ended::Error(error)) => Err(error),
            Err(error) => Err(self.told(runner, error)?),
        }
    }

    async fn go(&self, runner: &mut Runner<'_>, view: &mut View, stop: &CancellationToken) -> Result<Ended, Error> {
        if self.confirmation == Confirmation::Leave {
            return self.only_prepare(runner, view).await.map(Ended::Exit);
        }
        if runner.job.progress.total > 0 && runner.job.status != JobStatus::Suspended {
            self.check_count(runner, runner.job.progress.total)?;
            // This job is not introduced again, and its server check may have been switched off since.
            if let Some(caution) = server_check_off(self.plan) {
                self.terminal.say(format_args!("caution: {caution}"));
            }
        }
        loop {
            let before = runner.job.status;
            let gone = runner.go(view).await.map_err(Error::from)?;
            view.clear();
            match gone {
                Gone::Suspended(frozen) => {
                    self.check_count(runner, frozen.rows())?;
                    if before != JobStatus::Suspended || self.confirmation != Confirmation::Given {
                        self.introduce(&frozen);
                    }
                    self.foresee(runner, &frozen, stop).await?;
                    match self.confirm(runner, &frozen, stop).await? {
                        None => {}
                        Some(exit) => return Ok(Ended::Exit(exit)),
                    }
                }
                Gone::Interrupted => return self.interrupted(runner).map(Ended::Exit),
                Gone::Left => return self.left(runner).map(Ended::Exit),
                Gone::Concluded(concluded) => return self.concluded(runner, concluded, view.elapsed()),
            }
        }
    }

    /// Returns an error if the job does not have the expected number of objects. A job that waits for confirmation is
    /// cancelled, because its frozen objects are not the intended ones.
    fn check_count(&self, runner: &mut Runner<'_>, found: u64) -> Result<(), Error> {
        let Some(expected) = self.expected.filter(|expected| *expected != found) else { return Ok(()) };
        let what = format!("the manifest names {}, and {expected} were expected", objects(found));
        if runner.job.status == JobStatus::Suspended {
            runner.decline(&what).map_err(Error::from)?;
            return Err(Error::new(Exit::Refused, format!("{what}: nothing was changed, and the job is cancelled"))
                .help(format!("if that is right: --expect-count {found}; otherwise mend the plan's [manifest]")));
        }
        Err(Error::new(Exit::Refused, format!("{what}: nothing is done now"))
            .help(format!("the job was made of {}; go on with it by --expect-count {found}", objects(found))))
    }

    /// Shows the estimate if the user is about to be asked. Returns an error if the job would cost too much or its
    /// server is not trusted. The job then keeps waiting, because it can be confirmed with a higher limit. A job of a
    /// saved plan without a token is cancelled if it costs too much.
    async fn foresee(&self, runner: &mut Runner<'_>, frozen: &Frozen, stop: &CancellationToken) -> Result<(), Error> {
        let asks = self.confirmation == Confirmation::Ask;
        if !asks && self.plan.limits.max_cost.is_none() {
            return Ok(());
        }
        let rates = rates(self.plan, None, self.terminal)?;
        let preview = foresee(self.plan, frozen, runner.store, stop).await.map_err(Error::from)?;
        let foresight = Foresight::of(self.plan, &preview, &rates);
        if asks {
            self.terminal.say(format_args!("\n{}", foresight.text.trim_end()));
        }
        if let Some(refusal) = &preview.refusal {
            let (error, id, status) = (Error::from(distrusted(self.plan, refusal)), &runner.job.id, runner.job.status);
            let help = error.help.unwrap_or_default();
            return Err(Error {
                help: Some(format!("{help}; job {id} is {status}, and nothing was changed")),
                ..error
            });
        }
        let Some(refusal) = foresight.refusal else {
            runner.affordable = true;
            return Ok(());
        };
        // A saved plan cannot be changed. It must be saved again, which makes another job.
        if runner.job.pledge.is_some() && runner.job.token.is_none() {
            runner.decline(&refusal.to_string()).map_err(Error::from)?;
        }
        let (id, status) = (&runner.job.id, runner.job.status);
        let way = if status.is_over() {
            String::new()
        } else {
            format!(": apply the plan again, or give the job up (batchplan cancel {id})")
        };
        Err(Error::new(Exit::Refused, refusal.to_string())
            .help(format!("{}; job {id} is {status}{way}", refusal.help())))
    }

    /// Prints what the job is about to do.
    fn introduce(&self, frozen: &Frozen) {
        let file = near(&self.job.plan_file).display().to_string();
        let manifest = manifest(self.journal, &self.job, self.plan);
        let manifest = manifest.as_ref().unwrap_or(&self.plan.manifest);
        self.terminal.say(summary(self.plan, manifest, &file, frozen.rows()));
        for warning in frozen.warnings().iter().filter(|_| self.confirmation != Confirmation::Ask) {
            self.terminal.say(format_args!("  warning: {warning}\n    help: {}", warning.help));
        }
        // If the user is asked, cautions are shown with the estimate.
        for caution in cautions(self.plan).iter().filter(|_| self.confirmation != Confirmation::Ask) {
            self.terminal.say(format_args!("  caution: {caution}"));
        }
    }

    /// Confirms the job. Returns an exit code if the command ends without confirming it.
    async fn confirm(
        &self,
        runner: &mut Runner<'_>,
        frozen: &Frozen,
        stop: &CancellationToken,
    ) -> Result<Option<Exit>, Error> {
        let id = &runner.job.id;
        match self.confirmation {
            Confirmation::Given => {}
            Confirmation::Ask | Confirmation::Leave => {
                let question = format!("Apply this to {}?", objects(frozen.rows()));
                let answer = tokio::select! {
                    biased;
                    answer = prompt::ask(&question, stop) => answer?,
                    decided = runner.decided_elsewhere() => {
                        self.terminal.say("");
                        match decided {
                            Decided::Confirmed => Answer::Yes,
                            Decided::Cancelled => Answer::No,
                        }
                    }
                };
                match answer {
                    Answer::Yes => {}
                    Answer::No => {
                        runner.decline("it was declined when it was to be confirmed").map_err(Error::from)?;
                        self.terminal.say("cancelled: nothing was changed");
                        self.print_job(&runner.job)?;
                        return Ok(Some(Exit::Cancelled));
                    }
                    Answer::Stopped => {
                        self.terminal.say(format_args!("nothing was changed; job {id} waits to be confirmed"));
                        self.terminal.say(format_args!("next: batchplan resume {id}{}", self.state_flag));
                        self.print_job(&runner.job)?;
                        return Ok(Some(Exit::Interrupted));
                    }
                }
            }
        }
        runner.confirm().map_err(Error::from)?;
        Ok(None)
    }

    /// Resolves the job's manifest, and leaves the job waiting.
    async fn only_prepare(&self, runner: &mut Runner<'_>, view: &mut View) -> Result<Exit, Error> {
        if matches!(runner.job.status, JobStatus::New | JobStatus::Preparing) {
            let prepared = runner.prepare(view).await.map_err(Error::from)?;
            view.clear();
            match prepared {
                Prepare::Known(frozen) => self.introduce(&frozen),
                Prepare::Interrupted => return self.interrupted(runner),
                Prepare::Cancelled => return self.left(runner),
            }
        }
        let (id, status) = (&runner.job.id, runner.job.status);
        self.terminal.say(format_args!("job {id} is {status}"));
        let next = match status {
            JobStatus::Suspended => format!("batchplan confirm {id}"),
            JobStatus::Ready => "batchplan run".to_owned(),
            _ => format!("batchplan show {id}"),
        };
        self.terminal.say(format_args!("next: {next}{}", self.state_flag));
        self.print_job(&runner.job)?;
        Ok(Exit::Done)
    }

    fn interrupted(&self, runner: &Runner<'_>) -> Result<Exit, Error> {
        self.terminal.say("stopped: nothing was changed, and what was read of the manifest is kept");
        self.next_is_resume(runner);
        self.print_job(&runner.job)?;
        Ok(Exit::Interrupted)
    }

    fn left(&self, runner: &mut Runner<'_>) -> Result<Exit, Error> {
        runner.refresh().map_err(Error::from)?;
        let status = runner.job.status;
        self.terminal.say(format_args!("job {} is {status}: nothing was done now", runner.job.id));
        self.print_job(&runner.job)?;
        if status.is_over() {
            return Ok(Exit::of(&runner.job));
        }
        self.next_is_resume(runner);
        Ok(Exit::Interrupted)
    }

    /// Prints the result of a job that has stopped.
    fn concluded(&self, runner: &mut Runner<'_>, concluded: Concluded, took: Duration) -> Result<Ended, Error> {
        runner.refresh().map_err(Error::from)?;
        let job = &runner.job;
        let Progress { succeeded, failed, .. } = job.progress;
        let untrusted = untrusted(self.journal, job);
        if job.status != JobStatus::Complete {
            // If the server is not trusted, the reason is shown last, as an error.
            let reason = job.reason.as_ref().filter(|_| untrusted.is_none());
            let reason = reason.map_or_else(String::new, |reason| format!(": {}", line(reason)));
            self.terminal.say(format_args!("{}{reason}", job.status));
            self.terminal.say(format_args!("{} not attempted", objects(job.not_attempted())));
        }
        if let Some(doubt) = doubt(job) {
            self.terminal.say(doubt);
        }
        self.terminal.say(format_args!("{succeeded} succeeded, {failed} failed"));
        if let Some(warning) = changed(self.journal, job)?.filter(|_| untrusted.is_none()) {
            self.terminal.say(warning);
        }
        let folder = runner.folder().report();
        self.print_result(job, &folder, took)?;
        let delivered = match concluded {
            Concluded::Paused if let Some(error) = untrusted => return Ok(Ended::Error(error)),
            Concluded::Paused => {
                self.next_is_resume(runner);
                let machine = job.cause == Some(PauseCause::Machine);
                return Ok(Ended::Exit(if machine { Exit::ToolFailed } else { Exit::Interrupted }));
            }
            Concluded::Over(delivered) => delivered,
        };
        if let Some(place) = job.place.as_ref().filter(|_| matches!(delivered, Delivered::Published)) {
            self.terminal.say(format_args!("report: {place}"));
        } else if !matches!(delivered, Delivered::Nothing) {
            self.terminal.say(format_args!("report: {}", folder.join(MANIFEST_NAME).display()));
        }
        self.terminal.say(format_args!("next: {}", self.next(job, &folder)));
        Ok(match undelivered(&delivered, job, &self.state_flag) {
            Some(error) => Ended::Error(error),
            None => Ended::Exit(Exit::of(job)),
        })
    }

    /// Returns the command to suggest to the user.
    fn next(&self, job: &JobRecord, folder: &Path) -> String {
        let undone = job.progress.failed + if job.status == JobStatus::Complete { 0 } else { job.progress.left() };
        if undone > 0 {
            return format!(
                "batchplan show {id}{state}; then batchplan retry {id}{state}",
                id = job.id,
                state = self.state_flag
            );
        }
        let file = Report::load(folder).ok().and_then(|report| {
            let done = report.segments().iter().find(|segment| segment.status == TaskStatus::Succeeded);
            done.map(|segment| segment.path(folder)).filter(|path| path.exists())
        });
        format!("cat {}", shell::path(&file.unwrap_or_else(|| folder.join(MANIFEST_NAME))))
    }

    fn next_is_resume(&self, runner: &Runner<'_>) {
        self.terminal.say(format_args!("next: batchplan resume {}{}", runner.job.id, self.state_flag));
    }

    /// Reports a job that could not be run: prints its current record with the error, and returns the error to show.
    fn told(&self, runner: &Runner<'_>, error: Error) -> Result<Error, Error> {
        let Ok(job) = self.journal.find(runner.job.id.as_str()) else { return Ok(error) };
        let outcome = Outcome { job: &job, error: Some(&error.message) };
        github::tell(self.journal, &[outcome], &self.state_flag, self.terminal);
        if self.json {
            let mut result = result(&job, &runner.folder().report(), None);
            result["error"] = json!(error.message);
            self.terminal.print(result)?;
        }
        if job.status == JobStatus::Failed && job.taken.is_none() {
            let message = format!("no object was touched: {}", error.message);
            return Ok(Error { exit: Exit::JobFailed, message, help: error.help });
        }
        let resume = format!("batchplan resume {}{}", job.id, self.state_flag);
        let help = error.help.unwrap_or_else(|| format!("what was recorded is kept; go on with: {resume}"));
        Ok(Error { help: Some(help), ..error })
    }

    fn print_job(&self, job: &JobRecord) -> Result<(), Error> {
        let folder = crate::journal::JobFolder::of(self.journal.state(), &job.id).report();
        self.print_result(job, &folder, Duration::ZERO)
    }

    fn print_result(&self, job: &JobRecord, folder: &Path, took: Duration) -> Result<(), Error> {
        github::tell(self.journal, &[Outcome { job, error: None }], &self.state_flag, self.terminal);
        if !self.json {
            return Ok(());
        }
        Ok(self.terminal.print(result(job, folder, Some(took)))?)
    }
}

/// Returns a job's result as JSON.
pub(super) fn result(job: &JobRecord, folder: &Path, took: Option<Duration>) -> serde_json::Value {
    let Progress { total, succeeded, failed } = job.progress;
    let mut told = json!({
        "job_id": job.id.as_str(),
        "name": job.name,
        "status": job.status,
        "reason": job.reason,
        "cause": job.cause,
        "priority": job.priority,
        "total": total,
        "succeeded": succeeded,
        "failed": failed,
        "not_attempted": job.not_attempted(),
        "in_doubt": job.in_doubt,
        "report": job.place,
        "report_folder": folder,
        "elapsed_seconds": took.map(|took| took.as_secs_f64()),
    });
    if let Some(inventory) = recurring::of_job(job) {
        told["inventory"] = inventory;
    }
    told
}

/// Shows the progress of one job on the terminal.
struct View {
    terminal: Terminal,
    shown: Shown,
    since: std::time::Instant,
}

enum Shown {
    Nothing,
    Preparing(ProgressView),
    Waiting(String),
    Working(ProgressView),
}

impl View {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, shown: Shown::Nothing, since: std::time::Instant::now() }
    }

    fn clear(&mut self) {
        if let Shown::Preparing(view) | Shown::Working(view) = &self.shown {
            view.clear();
        }
        self.shown = Shown::Nothing;
    }

    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Watch for View {
    fn prepares(&mut self, prepared: Prepared) {
        if !matches!(self.shown, Shown::Preparing(_)) {
            self.shown = Shown::Preparing(ProgressView::counting(self.terminal));
        }
        if let Shown::Preparing(view) = &mut self.shown {
            view.found(prepared.taken);
        }
    }

    fn waits(&mut self, waiting: &Waiting) {
        let why = waiting.to_string();
        if !matches!(&self.shown, Shown::Waiting(said) if *said == why) {
            self.terminal.say(format_args!("waiting: {why}"));
            self.shown = Shown::Waiting(why);
        }
    }

    fn notes(&mut self, note: &str) {
        self.clear();
        self.terminal.say(format_args!("note: {}", barred(note)));
    }

    fn works(&mut self, snapshot: Snapshot) {
        if !matches!(self.shown, Shown::Working(_)) {
            self.since = std::time::Instant::now();
            self.shown = Shown::Working(ProgressView::working(self.terminal, snapshot.progress.total));
        }
        if let Shown::Working(view) = &mut self.shown {
            view.settled(snapshot.progress);
        }
    }
}
