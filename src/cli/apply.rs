//! `batchplan apply`: do what a plan says, and say what was done.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::connected::connected;
use super::plan_file::{self, PlanFile};
use super::progress::ProgressView;
use super::prompt::{self, Answer};
use super::state::State;
use super::summary::{cautions, objects, scheme, summary};
use super::terminal::Terminal;
use super::{Error, Exit, shell, signals};
use crate::codec::TaskStatus;
use crate::engine::{Dispatched, Job, Ran, Stop};
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{JobFolder, JobRecord};
use crate::manifest::{Bounds, Frozen, ManifestError, Prepared, freeze};
use crate::plan::Plan;
use crate::report::{PublishError, Published, Report, publish};
use crate::store::{Connection, Store};

/// What a signal leaves time for.
#[derive(Clone, Copy)]
struct Patience {
    /// Requests in flight.
    drain: Duration,
    /// The report on its way to its bucket.
    publish: Duration,
}

/// For a person.
const PATIENCE: Patience = Patience { drain: Duration::from_secs(30), publish: Duration::from_secs(30) };

/// For a CI runner, which kills what has not left after some seven seconds.
const PATIENCE_IN_CI: Patience = Patience { drain: Duration::from_secs(5), publish: Duration::from_millis(1500) };

/// Apply a plan to every object of its manifest.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan apply plan.toml                  show what would be done, ask, and do it
  batchplan apply plan.toml --auto-approve   without asking, as in a script
  batchplan apply plan.toml --auto-approve --json | jq .failed

Exit codes: 0 all succeeded, 1 the tool failed, 2 invalid plan, 3 some objects failed,
4 the job failed, 5 interrupted, 6 refused, 7 cancelled at the question.")]
pub(super) struct Apply {
    /// The plan file
    plan: PathBuf,
    /// Do not ask: the plan was reviewed
    #[arg(long)]
    auto_approve: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// Everything that one apply works with.
struct Applying<'a> {
    args: &'a Apply,
    terminal: Terminal,
    plan: Plan,
    record: JobRecord,
    folder: JobFolder,
    stop: CancellationToken,
}

pub(super) fn run(args: &Apply, terminal: Terminal) -> Result<Exit, Error> {
    let PlanFile { plan, bytes } = plan_file::require(&args.plan, terminal)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.interactive() {
        let command = format!("batchplan apply {} --auto-approve{}", shell::path(&args.plan), args.state.flag());
        return Err(Error::new(Exit::Refused, "the plan wants to be confirmed, and there is nobody to ask")
            .help(format!("when you have read it: {command}")));
    }
    // The SDK's client is at its cheapest on one thread; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let connection = connected(&plan.store).await?;
        let id = JobId::random();
        let folder = JobFolder::create(&args.state.state, &id)?;
        folder.keep_plan(&bytes)?;
        let record = JobRecord {
            id,
            plan_file: std::path::absolute(&args.plan)?,
            created: Timestamp::now(),
            status: JobStatus::Preparing,
            progress: Progress::default(),
        };
        record.save(folder.path())?;
        let stop = CancellationToken::new();
        signals::listen(terminal, stop.clone())?;
        Applying { args, terminal, plan, record, folder, stop }.run(&connection, asks).await
    });
    // A thread that reads from what never answers must not keep the program from leaving.
    runtime.shutdown_background();
    ended
}

impl Applying<'_> {
    async fn run(mut self, connection: &Connection, asks: bool) -> Result<Exit, Error> {
        let frozen = match self.prepare(connection).await {
            Ok(frozen) => frozen,
            Err(ManifestError::Stopped) => return Ok(self.give_up(Exit::Interrupted)),
            Err(error) => {
                let exit = self.give_up(Exit::JobFailed);
                let message = format!("no object was touched: {error}");
                if self.args.json {
                    let id = self.record.id.as_str();
                    let status = JobStatus::Failed;
                    let failed = json!({ "job_id": id, "name": self.plan.name, "status": status, "error": message });
                    self.terminal.print(failed)?;
                }
                return Err(Error { exit, message, help: error.help() });
            }
        };
        self.record.progress.total = frozen.rows();
        self.terminal.say(summary(&self.plan, &self.args.plan.display().to_string(), frozen.rows()));
        for warning in frozen.warnings() {
            self.terminal.say(format_args!("  warning: {warning}\n    help: {}", warning.help));
        }
        for caution in cautions(&self.plan) {
            self.terminal.say(format_args!("  caution: {caution}"));
        }
        if asks {
            let question = format!("Apply this to {}?", objects(frozen.rows()));
            match prompt::ask(&question, &self.stop).await? {
                Answer::Yes => {}
                Answer::No => return Ok(self.give_up(Exit::Cancelled)),
                Answer::Stopped => return Ok(self.give_up(Exit::Interrupted)),
            }
        }
        self.work(connection, &frozen).await
    }

    async fn prepare(&self, connection: &Connection) -> Result<Frozen, ManifestError> {
        let view = std::sync::Mutex::new(ProgressView::counting(self.terminal));
        let observe = |prepared: Prepared| {
            if let Ok(mut view) = view.lock() {
                view.found(prepared.taken);
            }
        };
        let (store, folder) = (connection.store(), self.folder.path());
        let freezing = freeze(&self.plan.manifest, store, folder, Bounds::default(), &observe, &self.stop);
        // Freezing ends by itself soon after a signal, unless it reads a file that never answers.
        let frozen = tokio::select! {
            biased;
            frozen = freezing => frozen,
            () = self.long_stopped(PATIENCE_IN_CI.drain) => Err(ManifestError::Stopped),
        };
        if let Ok(view) = view.lock() {
            view.clear();
        }
        frozen
    }

    async fn work(mut self, connection: &Connection, frozen: &Frozen) -> Result<Exit, Error> {
        self.set_status(JobStatus::Active)?;
        let patience = if std::env::var_os("CI").is_some() { PATIENCE_IN_CI } else { PATIENCE };
        // The engine stops itself when it breaks; only a signal is the user's own.
        let stop = Stop { asked: self.stop.child_token(), patience: patience.drain };
        let mut view = ProgressView::working(self.terminal, frozen.rows());
        let store = connection.store();
        let job = Job { id: &self.record.id, plan: &self.plan, frozen, store, folder: &self.folder };
        let ran = job.run(stop, &mut |snapshot| view.settled(snapshot.progress)).await;
        view.clear();
        let Ran { mut dispatched, report } = ran.map_err(|error| self.unreported(&error))?;
        let broken = dispatched.broken.take();
        self.record.progress = dispatched.progress;
        let saved = self.set_status(match (&broken, dispatched.finished) {
            (Some(_), _) => JobStatus::Failed,
            (None, true) => JobStatus::Complete,
            (None, false) => JobStatus::Paused,
        });
        let delivered = match &report {
            Ok(report) => self.deliver(&**store, report, patience.publish).await,
            Err(_) => Ok(None),
        };
        let place = match &delivered {
            Ok(Some(place)) => format!("{}://{}/{}", scheme(self.plan.store.provider), place.bucket, place.manifest),
            Ok(None) | Err(_) => shown(&self.folder.report().join("manifest.json")),
        };
        let printed = self.conclude(&dispatched, report.as_ref().ok(), &place, view.elapsed());
        report.map_err(|error| self.unreported(&error))?;
        if let Some(error) = broken {
            return Err(
                Error::new(Exit::ToolFailed, error.to_string()).help("the report tells what was done until then")
            );
        }
        delivered.map_err(|error| self.undelivered(&error))?;
        saved?;
        printed?;
        Ok(match (dispatched.finished, dispatched.progress.failed) {
            (false, _) => Exit::Interrupted,
            (true, 0) => Exit::Done,
            (true, _) => Exit::ObjectsFailed,
        })
    }

    /// Ends so long after a signal.
    async fn long_stopped(&self, patience: Duration) {
        self.stop.cancelled().await;
        tokio::time::sleep(patience).await;
    }

    /// Publishes the report where the plan wants it, for no longer than that after a signal.
    async fn deliver(
        &self,
        store: &dyn Store,
        report: &Report,
        patience: Duration,
    ) -> Result<Option<Published>, Undelivered> {
        if report.address().is_none() {
            return Ok(None);
        }
        let folder = self.folder.report();
        tokio::select! {
            biased;
            sent = publish(store, &folder, report) => sent.map(Some).map_err(|error| Undelivered::Refused(Box::new(error))),
            () = self.long_stopped(patience) => Err(Undelivered::Stopped),
        }
    }

    /// The last lines.
    fn conclude(
        &self,
        dispatched: &Dispatched,
        report: Option<&Report>,
        place: &str,
        took: Duration,
    ) -> Result<(), Error> {
        let Progress { total, succeeded, failed } = dispatched.progress;
        if !dispatched.finished {
            let left = objects(total.saturating_sub(succeeded + failed + dispatched.abandoned));
            self.terminal.say(format_args!("stopped: {left} not attempted; applying the plan again starts over"));
        }
        if dispatched.abandoned > 0 {
            let begun = objects(dispatched.abandoned);
            self.terminal.say(format_args!("{begun} begun and not in the report: each may have been changed, or not"));
        }
        self.terminal.say(format_args!("{succeeded} succeeded, {failed} failed"));
        if let Some(report) = report {
            self.terminal.say(format_args!("report: {place}"));
            self.terminal.say(format_args!("next: {}", self.next(dispatched.finished, report)));
        }
        if self.args.json {
            self.terminal
                .print(json!({
                    "job_id": self.record.id.as_str(),
                    "name": self.plan.name,
                    "status": self.record.status,
                    "total": total,
                    "succeeded": succeeded,
                    "failed": failed,
                    "abandoned": dispatched.abandoned,
                    "report": report.map(|_| place),
                    "report_folder": self.folder.report(),
                    "elapsed_seconds": took.as_secs_f64(),
                }))
                .map_err(|error| {
                    Error::new(Exit::ToolFailed, format!("the result cannot be written to standard output: {error}"))
                })?;
        }
        Ok(())
    }

    /// The command that a person would want now.
    fn next(&self, finished: bool, report: &Report) -> String {
        if !finished {
            return format!("batchplan apply {}{}", shell::path(&self.args.plan), self.args.state.flag());
        }
        let of = |status| report.segments().iter().find(|segment| segment.status == status);
        let file = of(TaskStatus::Failed)
            .or_else(|| of(TaskStatus::Succeeded))
            .map_or("manifest.json", |segment| segment.name.as_str());
        format!("cat {}", shell::path(&self.folder.report().join(file)))
    }

    /// Ends a job that touched nothing, and leaves nothing of it.
    fn give_up(&self, exit: Exit) -> Exit {
        if matches!(exit, Exit::Cancelled | Exit::Interrupted) {
            self.terminal.say("cancelled: nothing was changed");
        }
        if let Err(error) = self.folder.clone().remove() {
            self.terminal.say(format_args!("warning: what is left of the job cannot be removed: {error}"));
        }
        exit
    }

    fn set_status(&mut self, status: JobStatus) -> io::Result<()> {
        self.record.status = status;
        self.record.save(self.folder.path())
    }

    /// The report could not be begun or finished; what did reach its files is there.
    fn unreported(&self, error: &io::Error) -> Error {
        Error::new(Exit::ToolFailed, format!("the report cannot be written: {error}"))
            .help(format!("what was written until then is in {}", shown(&self.folder.report())))
    }

    fn undelivered(&self, error: &Undelivered) -> Error {
        let command = format!("batchplan publish {}{}", self.record.id, self.args.state.flag());
        let exit = if matches!(error, Undelivered::Stopped) { Exit::Interrupted } else { Exit::ToolFailed };
        Error::new(exit, format!("the report is complete but could not be published: {error}"))
            .help(format!("it is kept with the job; send it again: {command}"))
    }
}

/// Why a finished report is not in its bucket.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("{0}")]
    Refused(Box<PublishError>),
    #[error("stopped")]
    Stopped,
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
