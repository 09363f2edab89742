//! `batchplan undo`: undoes what a job changed, in a new job.

use std::path::PathBuf;
use std::sync::Arc;

use batchplan_store::{Mutex, ReadOnlyStore};
use tokio_util::sync::CancellationToken;

use super::descriptions::relative_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::job_session::{ConfirmationMode, JobRunArgs, run_request};
use super::plan_input::load_prices;
use super::plan_rules::{PlanRulesArgs, check_plan};
use super::preview::{PreviewView, TextLayout, render_json, render_text};
use super::progress_view::ProgressView;
use super::retry::parse_report_origin;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use super::{notifications, plan_input, signals};
use crate::connect::connect;
use crate::diff::Prediction;
use crate::estimate::{estimate, estimate_run_time};
use crate::jobs::{
    JobRequest, Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer, SAMPLE_SIZE, changes_of,
    check_undoable, stored_plan, undo_plan, untrusted_error,
};
use crate::journal::{JobRecord, JobSource, UndoSource};
use crate::manifest::FreezeProgress;
use crate::operation::ObjectAspect;
use crate::paths::path_to_text;
use crate::plan::Plan;

/// Undo what a job changed: give each object the tags and the ACL that it had before.
///
/// Creates a new job that restores what the job kept of each object before it changed it. An object that others have
/// changed since is left alone and fails with `ChangedSince`, unless --force is given; so does an object that was
/// overwritten in a bucket with versions. Restores cannot be undone. An undo is a job like any other: it can be paused,
/// resumed, retried, and undone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan undo ODRi --plan                      # show what it would change
  batchplan undo ODRi
  batchplan undo ODRi --include 'docs/*' --auto-approve
  batchplan undo ODRi --report left.csv --force   # also what others have changed

Exit codes: as for apply; 3 if some objects were left alone.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct UndoArgs {
    /// The job to undo: its ID, or a unique prefix of it
    job: String,
    /// Show what the undo would change and cost, without changing anything
    #[arg(long, conflicts_with = "auto_approve")]
    plan: bool,
    /// With --plan: read every object, not a random sample
    #[arg(long, requires = "plan")]
    full: bool,
    /// Only objects whose keys match this glob; can be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Not objects whose keys match this glob; can be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only objects that this completion report has as failed: the path or URL (s3:// or oss://) of its manifest.json or
    /// of one of its CSV files
    #[arg(long, value_name = "PATH|URL")]
    report: Option<PathBuf>,
    /// Change also objects that others have changed since
    #[arg(long)]
    force: bool,
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    running: JobRunArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl UndoArgs {
    /// Returns what to undo of a job.
    fn source(&self, job: &JobRecord, plan: &Plan) -> Result<UndoSource, CommandError> {
        let (include, exclude) = (self.include.clone(), self.exclude.clone());
        let parse = |report: &PathBuf| parse_report_origin(report, (Vec::new(), Vec::new()), plan.store.provider);
        let report = self.report.as_ref().map(parse).transpose()?;
        Ok(UndoSource { of: job.id.clone(), force: self.force, include, exclude, report })
    }
}

impl CliCommand for UndoArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        if self.plan {
            let (journal, job) = self.state.open_job(&self.job, JournalAccess::Read, terminal)?;
            return preview(self, &journal, &job, terminal);
        }
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Run, terminal)?;
        let ended = undo(self, &journal, &job, terminal);
        journal.close(ended)
    }
}

/// Creates the job that undoes another, and runs it.
fn undo(
    args: &UndoArgs,
    journal: &JournalHandle,
    undone: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let plan = stored_plan(undone)?;
    check_undoable(journal, undone, &plan)?;
    let rules = args.rules.load(terminal)?;
    check_plan(rules.as_ref(), &plan, (relative_path(&undone.plan_file), &undone.plan_text), terminal)?;
    let source = args.source(undone, &plan)?;
    // A glob that is not valid must not create a job.
    undo_plan(journal, undone, &source)?;
    notifications::check_webhooks(&plan)?;
    let asks = plan.job.confirmation_required && !args.auto_approve;
    if asks && !terminal.is_interactive() {
        return Err(CommandError::new(
            ExitStatus::Refused,
            "this undo needs confirmation, but there is no terminal to ask on",
        )
        .code(ErrorCode::ConfirmationRequired)
        .help("add --auto-approve to undo without asking, or --plan to see what it would change"));
    }
    warn_of_restores(&plan, terminal);
    let request = JobRequest {
        plan: &plan,
        text: &undone.plan_text,
        file: &undone.plan_file,
        origin: JobSource::Undo(source),
        force_new: false,
        replace_unconfirmed: false,
        confirmed: false,
        fingerprint: None,
        recurrence: None,
    };
    let confirmation = if asks { ConfirmationMode::Ask } else { ConfirmationMode::NotNeeded };
    run_request(&request, journal, args.running.settings(false, rules, journal), confirmation, terminal)
}

/// Says that only a part of what the job did is undone.
fn warn_of_restores(plan: &Plan, terminal: Terminal) {
    if plan.operations.iter().any(|operation| operation.aspect() == ObjectAspect::Restoration) {
        terminal.eprint("warning: restores are not undone: restored copies expire by themselves");
    }
}

/// Shows what an undo would change.
fn preview(
    args: &UndoArgs,
    journal: &JournalHandle,
    undone: &JobRecord,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let stored = stored_plan(undone)?;
    check_undoable(journal, undone, &stored)?;
    warn_of_restores(&stored, terminal);
    let plan = plan_input::in_this_environment(undo_plan(journal, undone, &args.source(undone, &stored)?)?)?;
    let changes = changes_of(journal, undone)?;
    let scratch = plan_input::temporary_folder()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let mut progress = UndoProgress { terminal, view: Mutex::new(ProgressView::new(terminal, "")), objects_read: 0 };
    let preview = runtime.block_on(async {
        let connection = connect(&plan.store).await?;
        signals::listen(terminal, stop.clone(), None)?;
        let options = PreviewOptions {
            sample: SAMPLE_SIZE,
            seed: 0,
            full: args.full,
            verify: false,
            digest_key: None,
            max_objects: None,
        };
        let store = Arc::new(ReadOnlyStore::new(Arc::clone(connection.store())));
        let previewer =
            Previewer { plan: &plan, store, folder: scratch.path(), options, undo: Some(changes), stop: &stop };
        let preview = previewer.preview(&mut progress).await;
        progress.view.lock().clear();
        let preview = preview?;
        if stop.is_cancelled() { Err(CommandError::from(PreviewError::Stopped)) } else { Ok(preview) }
    });
    // A thread that is blocked on a read that never returns must not keep the process alive.
    runtime.shutdown_background();
    print_preview(&plan, (undone, &preview?), &journal.flag(), terminal)
}

fn print_preview(
    plan: &Plan,
    (undone, preview): (&JobRecord, &Preview),
    flag: &str,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let prices = load_prices(plan, None, terminal)?;
    let estimate = estimate(&preview.workload, &prices);
    let run_time = estimate_run_time(&preview.workload, &plan.limits, &prices, &preview.latencies);
    let layout = TextLayout { colour: terminal.colours_data(), width: terminal.data_width() };
    let view = PreviewView::new(plan, preview, &estimate, &run_time, layout).of_file(
        path_to_text(relative_path(&undone.plan_file)),
        None,
        format!("batchplan undo {}{flag}", undone.id),
        None,
    );
    if let Some(refusal) = &preview.refusal {
        let error = CommandError::from(untrusted_error(plan, refusal));
        return Err(if terminal.is_json() { error.result(render_json(&view)) } else { error });
    }
    if terminal.is_json() {
        terminal.print_json(render_json(&view))?;
    } else {
        terminal.print(terminal.abbreviate_ids(&render_text(&view)).trim_end_matches('\n'))?;
    }
    Ok(ExitStatus::Success)
}

/// Shows the progress of the preview.
struct UndoProgress {
    terminal: Terminal,
    view: Mutex<ProgressView>,
    objects_read: u64,
}

impl PreviewObserver for UndoProgress {
    fn on_rows_read(&self, prepared: FreezeProgress) {
        self.view.lock().show_found(prepared.rows_included);
    }

    fn on_object_read(&mut self, _: &Prediction, of: u64) -> std::io::Result<()> {
        let mut view = self.view.lock();
        if self.objects_read == 0 {
            view.clear();
            *view = ProgressView::new(self.terminal, "");
        }
        self.objects_read += 1;
        view.show_read(self.objects_read, of);
        Ok(())
    }
}
