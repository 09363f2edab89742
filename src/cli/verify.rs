//! `batchplan verify`: reads objects again, and reports those that are not as a job or a plan wants them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::{Mutex, ReadOnlyStore};
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::descriptions::relative_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::numbers::{any_number, whole_number};
use super::progress_view::ProgressView;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use super::verification::{DriftReport, VerificationView, VerifiedTarget};
use super::{github, notifications, plan_input, signals};
use crate::connect::connect;
use crate::diff::Prediction;
use crate::hint::{command, hint};
use crate::jobs::{
    Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer, SAMPLE_SIZE, stored_plan, succeeded_objects,
    untrusted_error,
};
use crate::journal::{JobRecord, JobSource};
use crate::manifest::FreezeProgress;
use crate::notify::WebhookEndpoint;
use crate::paths::path_to_text;
use crate::plan::Plan;

/// Check that objects still are as a job or a plan wants them.
///
/// For a job, reads objects that it reported as succeeded; for a plan file, objects of its manifest as it is now.
/// Reports those whose tags or ACL are not as they should be, that have no restored copy and no restore in progress, or
/// that no longer exist. Nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan verify ODRi                           # a random sample of the job's objects
  batchplan verify ODRi --full --out drift        # all of them, with a report of those that drifted
  batchplan verify plan.toml --json | jq .counts

A name with a dot or a slash, or that of an existing file, is a plan file.
Without --full, totals are estimated from the sample, with their 95 % confidence
intervals, and exit code 0 means that no object of the sample has drifted.

--out writes the files of a completion report, in the plan's format and scope:
objects that drifted are failed rows with the code Drifted, and `retry --report
DIR/manifest.json --plan PLAN` applies the plan to them again.

--json prints one object, `version` 1:
  job; plan {file, name, hash}; objects; exact; sample {looked, seed} or null;
  counts {hold, drift, unreadable: {likely, low, high}};
  drifted: [{bucket, key (URL-encoded), version, expected, found}] (examples);
  failures: [{code, http, operation, count, message, examples: [{bucket, key,
    version}]}] (objects that do not exist or cannot be as they should be);
  unreadable: [{reason, count, examples}]; server_check; warnings; report

Exit codes: 0 all objects that were read are as they should be, 1 an object
could not be read, 2 invalid plan or no such job, 3 some objects have drifted, 5
interrupted, 6 refused (the job has not ended, or a server that does not do what
it is asked).")]
pub(super) struct VerifyArgs {
    /// A job (its ID, or a unique prefix of it), or a plan file
    #[arg(value_name = "JOB|PLAN")]
    target: PathBuf,
    /// The number of objects to read
    #[arg(long, value_name = "N", default_value_t = SAMPLE_SIZE, conflicts_with = "full")]
    #[arg(value_parser = whole_number::<u32>(1..=100_000))]
    sample: u32,
    /// The seed of the random sample: the same seed selects the same objects of a manifest
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = any_number)]
    seed: u64,
    /// Read every object
    #[arg(long)]
    full: bool,
    /// Write a report of the objects that were read to this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result in another format
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<VerifyFormat>,
    #[command(flatten)]
    state: StateLocationArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VerifyFormat {
    /// For a workflow's summary or a pull request
    Markdown,
}

impl CliCommand for VerifyArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        if !names_file(&self.target) {
            // An ID is ASCII: any other text matches no job.
            let id = self.target.to_string_lossy();
            let (journal, job) = self.state.open_job(&id, JournalAccess::Read, terminal)?;
            return verify_job(self, &journal, job, terminal);
        }
        let file = plan_input::require(&self.target, terminal)?;
        let target = VerifiedTarget { job: None, file: self.target.clone(), flag: self.state.flag() };
        verify(self, &file.plan, target, terminal)
    }
}

/// Returns whether an argument names a plan file, and not a job.
fn names_file(target: &Path) -> bool {
    let text = target.as_os_str().as_encoded_bytes();
    text.contains(&b'.') || text.contains(&b'/') || target.exists()
}

fn verify_job(
    args: &VerifyArgs,
    journal: &JournalHandle,
    job: JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    if !job.status.is_over() {
        let what = format!("job {} is {}: it has not ended", job.id, job.status);
        let error = CommandError::new(ExitStatus::Refused, what).code(ErrorCode::WrongJobStatus);
        return Err(error.help(hint!("{}, or {}", command!("resume", &job.id), command!("cancel", &job.id))));
    }
    if job.scope.is_none() {
        let what = format!("job {} has no resolved manifest, so no object succeeded", job.id);
        return Err(CommandError::new(ExitStatus::Refused, what)
            .help(hint!("verify its plan: {}", command!("verify").path(&job.plan_file))));
    }
    if let JobSource::Undo(undo) = &job.source {
        let what = format!("job {} is an undo, which is not verified", job.id);
        let preview = command!("undo", &undo.of, "--plan", "--full");
        return Err(CommandError::new(ExitStatus::Refused, what)
            .help(hint!("see which objects do not have their former state: {}", preview)));
    }
    let mut plan = plan_input::in_this_environment(stored_plan(&job)?)?;
    plan.manifest = succeeded_objects(journal, &job, &plan)?;
    let target =
        VerifiedTarget { file: relative_path(&job.plan_file).to_owned(), job: Some(job.id), flag: journal.flag() };
    verify(args, &plan, target, terminal)
}

/// Verifies the objects of the plan's manifest.
fn verify(
    args: &VerifyArgs,
    plan: &Plan,
    target: VerifiedTarget,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let webhooks = notifications::drift_endpoints(plan)?;
    let report = args.out.as_deref().map(|out| DriftReport::create(out, plan)).transpose()?;
    let scratch = plan_input::temporary_folder()?;
    let Some((preview, report)) = read_objects(args, plan, (report, scratch.path()), terminal)? else {
        return Ok(ExitStatus::Success);
    };
    if let Some(refusal) = &preview.refusal {
        return Err(untrusted_error(plan, refusal).into());
    }
    let out = report.map(DriftReport::finish).transpose()?;
    let view = VerificationView::new(plan, &preview, target, out, terminal.colours_data());
    report_result(args, &view, webhooks, terminal)?;
    Ok(if view.has_drift() {
        ExitStatus::ObjectsFailed
    } else if view.has_unreadable() {
        ExitStatus::ToolFailed
    } else {
        ExitStatus::Success
    })
}

/// Prints the result, and sends it to GitHub and the webhooks.
fn report_result(
    args: &VerifyArgs,
    view: &VerificationView<'_>,
    webhooks: Vec<WebhookEndpoint>,
    terminal: Terminal,
) -> Result<(), CommandError> {
    let printed = if terminal.is_json() {
        String::new()
    } else if args.format == Some(VerifyFormat::Markdown) {
        view.markdown()
    } else {
        terminal.abbreviate_ids(&view.text()).into_owned()
    };
    if terminal.is_json() {
        terminal.print_json(view.json())?;
    } else {
        terminal.print(printed.trim_end_matches('\n'))?;
    }
    let drift = view.has_drift().then(|| view.headline());
    let file = path_to_text(view.file());
    github::report_verification(
        (view.name(), &file),
        &view.step_outputs(),
        drift.as_deref(),
        || view.markdown(),
        terminal,
    );
    if view.has_drift() {
        notifications::notify_drift(webhooks, &view.drift_summary());
    }
    Ok(())
}

/// Reads the objects. Returns `None` if the output is no longer read.
fn read_objects(
    args: &VerifyArgs,
    plan: &Plan,
    (report, scratch): (Option<DriftReport>, &Path),
    terminal: Terminal,
) -> Result<Option<(Preview, Option<DriftReport>)>, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let mut progress =
        VerifyProgress { terminal, view: Mutex::new(ProgressView::new(terminal, "")), objects_read: 0, report };
    let preview = runtime.block_on(async {
        let connection = connect(&plan.store).await?;
        signals::listen(terminal, stop.clone(), None)?;
        let options = PreviewOptions {
            sample: args.sample,
            seed: args.seed,
            full: args.full,
            verify: true,
            digest_key: None,
            max_objects: None,
        };
        let store = Arc::new(ReadOnlyStore::new(Arc::clone(connection.store())));
        let previewer = Previewer { plan, store, folder: scratch, options, undo: None, stop: &stop };
        let preview = previewer.preview(&mut progress).await;
        progress.view.lock().clear();
        let preview = preview?;
        if stop.is_cancelled() { Err(CommandError::from(PreviewError::Stopped)) } else { Ok(preview) }
    });
    // A thread that is blocked on a read that never returns must not keep the process alive.
    runtime.shutdown_background();
    if terminal.is_stdout_closed() && progress.report.is_none() {
        return Ok(None);
    }
    Ok(Some((preview?, progress.report)))
}

/// Shows the progress, and writes the report.
struct VerifyProgress {
    terminal: Terminal,
    view: Mutex<ProgressView>,
    objects_read: u64,
    report: Option<DriftReport>,
}

impl PreviewObserver for VerifyProgress {
    fn on_rows_read(&self, prepared: FreezeProgress) {
        self.view.lock().show_found(prepared.rows_included);
    }

    fn on_object_read(&mut self, prediction: &Prediction, of: u64) -> io::Result<()> {
        let mut view = self.view.lock();
        if self.objects_read == 0 {
            view.clear();
            *view = ProgressView::new(self.terminal, "");
        }
        self.objects_read += 1;
        view.show_read(self.objects_read, of);
        drop(view);
        match &mut self.report {
            Some(report) => report.record(prediction),
            None => Ok(()),
        }
    }
}
