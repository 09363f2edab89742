//! `batchplan plan`: shows what a plan would change and cost before it is applied.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::error::names_another_location;
use batchplan_store::{Mutex, ReadOnlyStore};
use clap::ValueEnum;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::descriptions::{quote_path, relative_path};
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::file_digest::FileDigest;
use super::numbers::{any_number, whole_number};
use super::plan_input::{self, LoadedPlan, job_error, load_prices};
use super::plan_rules::{PlanRulesArgs, rule_check};
use super::preview::{
    PreviewView, PreviousJobDiff, TextLayout, nothing_to_do, object_json, object_text, render_json, render_markdown,
    render_text, saved_counts, step_outputs,
};
use super::progress_view::ProgressView;
use super::recurring::{self, PlanToPreview};
use super::state::JournalAccess;
use super::state_csv::StateCsvFile;
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use super::{github, signals};
use crate::connect::connect;
use crate::diff::{Effect, FailureReason, Prediction};
use crate::estimate::{CostEstimate, check_cost_limit, estimate, estimate_run_time};
use crate::jobs::{
    JobError, Preview, PreviewError, PreviewObserver, PreviewOptions, Previewer, RuleCheck, SAMPLE_SIZE, SavedCounts,
    SavedPlan, manifest_fingerprint, random_key, untrusted_error,
};
use crate::journal::{JobFolder, JobRecord};
use crate::manifest::{
    FreezeProgress, FrozenManifest, InventorySelector, Manifest, ManifestError, ManifestSource, compare_manifests,
};
use crate::operation::ObjectAspect;
use crate::paths::{path_to_text, show_path};
use crate::plan::Plan;

/// Show what a plan would change and cost, without changing anything.
///
/// Resolves the manifest and reads a random sample of its objects: their tags, ACLs and storage classes, and what these
/// would become. Totals are estimated from the sample, with their 95 % confidence intervals. No write requests are
/// sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan plan plan.toml
  batchplan plan plan.toml --full                 # read every object: exact counts
  batchplan plan plan.toml --all                  # read and show every object
  batchplan plan plan.toml --full --csv tags.csv  # write the tags of every object
  batchplan plan plan.toml --out plan.bpl && batchplan apply plan.bpl
  batchplan plan plan.toml --format markdown      # for a pull request
  batchplan plan plan.toml --full --detailed-exitcode
  batchplan plan plan.toml --json | jq .counts

--json prints one object, `version` 2:
  plan {file, name, hash}; objects; exact; sample {looked, seed} or null;
  counts {change, unchanged, fail, unknown: {likely, low, high}};
  failures: [{code, http (0 without a response), operation, count (of those
    read; of all for UnlistableKey), message, advice, examples: [{bucket, key
    (URL-encoded), version}]}];
  unknown: [{reason, count, examples}];
  examples: [{bucket, key, version, action (change, unchanged, unknown), before,
    after}];
  facts {acls, classes, since}; requests: [{kind, class, count, refused}];
  cost {book, dated, currency, known, whole, lines: [{what, for, quantity, unit,
    days, price, per, amount, why, source}], managed {service, fees, known,
    whole}};
  duration {requests, per_second, latency_ms, latency_measured,
    at_plan_seconds, at_provider_seconds};
  manifest {read, added, gone, added_examples, gone_examples}; plan_diff;
  earlier; server_check {state (not_needed, off, not_checked, passed, refused),
    found (takes_for_object, unsupported, denied, unseen), object, why};
  warnings; recommendations; would_fail; saved (the file), saved_digest (its
    SHA-256)
With --all, one line for each object comes first. Unknown values are null.

Exit codes: 0 done, 1 the tool failed, 2 invalid plan, 5 interrupted, 6 refused
(a limit of the plan, or a server that does not do what it is asked), 10 with
--detailed-exitcode: there are changes, failures or unknown objects. With
--detailed-exitcode, 0 means that every object was read: a sample of a larger
manifest always exits with 10.")]
pub(super) struct PlanArgs {
    /// The plan file
    plan: PathBuf,
    /// The number of objects to read
    #[arg(long, value_name = "N", default_value_t = SAMPLE_SIZE, value_parser = whole_number::<u32>(1..=100_000))]
    sample: u32,
    /// The seed of the random sample: the same seed selects the same objects of a manifest
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = any_number)]
    seed: u64,
    /// Read every object
    #[arg(long)]
    full: bool,
    /// Read and show every object
    #[arg(long)]
    all: bool,
    /// Write the tags and ACLs of all objects, as far as the plan is about them, to this CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Use the prices in this price book before the built-in ones
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Save the plan with a fingerprint of its manifest: `apply FILE` applies exactly that, or refuses
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result in another format
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["all", "json"])]
    format: Option<PlanFormat>,
    /// Exit with 10 if anything would change or fail, or is unknown
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    rules: PlanRulesArgs,
    #[command(flatten)]
    state: StateLocationArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For a pull request: a summary and a folded diff, at most 60,000 characters
    Markdown,
}

impl CliCommand for PlanArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let file = plan_input::require(&self.plan, terminal)?;
        if let Some(out) = &self.out {
            refuse_to_overwrite(out)?;
        }
        if self.csv.is_some() {
            check_csv(self, &file.plan)?;
        }
        let source = (self.plan.as_path(), file.bytes.as_slice());
        let rules = rule_check(self.rules.check(&file.plan, source, terminal)?.as_ref(), source);
        let resolved = recurring::plan_to_preview(&file.plan, &self.state, terminal)?;
        let plan = match &resolved {
            PlanToPreview::Unchanged => &file.plan,
            PlanToPreview::Resolved { plan, .. } => &**plan,
            PlanToPreview::NothingNew(nothing) => {
                let (name, path) = (file.plan.name.clone(), path_to_text(relative_path(&self.plan)));
                return nothing.report(Some((&name, &path)), terminal);
            }
        };
        let prices = load_prices(plan, self.prices.as_deref(), terminal)?;
        let scratch = plan_input::temporary_folder()?;
        let Some((preview, earlier)) = preview_objects(self, &file, (plan, &rules), scratch.path(), terminal)? else {
            return Ok(ExitStatus::Success);
        };
        let estimate = estimate(&preview.workload, &prices);
        let run_time = estimate_run_time(&preview.workload, &plan.limits, &prices, &preview.latencies);
        let refusal = plan.limits.max_cost.and_then(|max| check_cost_limit(&estimate, &max).error().cloned());
        let broken = broken_rule(&rules, plan, &preview, &estimate);
        let refused = refusal.is_some() || preview.refusal.is_some() || broken.is_some();
        let out = self.out.as_ref().filter(|_| !refused);
        // If the plan is refused, the error below says what to do.
        let next = if refused {
            String::new()
        } else {
            format!("batchplan apply {}{}", quote_path(out.unwrap_or(&self.plan)), self.state.flag())
        };
        let layout = TextLayout { colour: terminal.colours_data(), width: terminal.data_width() };
        let view = PreviewView::new(plan, &preview, &estimate, &run_time, layout).of_file(
            path_to_text(relative_path(&self.plan)),
            earlier.as_ref(),
            next,
            out.map(|out| path_to_text(out)),
        );
        let digest = out.map(|out| save(self, &file, plan, &preview, saved_counts(&view), out)).transpose()?;
        let view = view.with_digest(digest.map(|digest| digest.as_str().to_owned()));
        let untrusted = preview.refusal.as_ref().map(|refusal| untrusted_error(plan, refusal));
        let refusal = refusal.map(|refusal| JobError::TooExpensive(Box::new(refusal)));
        let error = untrusted.or(broken).or(refusal);
        print_view(self, &view, (&plan.name, error.is_none()), terminal)?;
        if let Some(error) = error {
            return Err(job_error(&error, terminal).result(render_json(&view)));
        }
        // If nothing in a sample changes, objects outside it still may.
        let nothing = nothing_to_do(&view).is_some();
        Ok(if self.detailed_exitcode && !nothing { ExitStatus::Changes } else { ExitStatus::Success })
    }
}

/// Previews the objects of a plan, and compares it with its last job. Returns `None` if the output is no longer read.
fn preview_objects(
    args: &PlanArgs,
    file: &LoadedPlan,
    (plan, rules): (&Plan, &RuleCheck),
    scratch: &Path,
    terminal: Terminal,
) -> Result<Option<(Preview, Option<PreviousJobDiff>)>, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let view = Mutex::new(ProgressView::new(terminal, ""));
    let aspects = plan.operations().aspects().collect();
    let csv = args.csv.as_deref().map(StateCsvFile::create).transpose()?;
    let mut progress = PlanProgressView { terminal, args, view, objects_read: 0, csv, aspects, stop: stop.clone() };
    let previous =
        if lists_inventory_changes(&plan.manifest) { None } else { find_previous_job(plan, &args.state, terminal)? };
    let preview = runtime.block_on(async {
        let connection = connect(&plan.store).await?;
        signals::listen(terminal, stop.clone(), None)?;
        let digest = args.out.as_ref().map(|_| random_key());
        let options = PreviewOptions {
            sample: args.sample,
            seed: args.seed,
            full: args.full || args.all,
            verify: false,
            digest_key: digest,
            max_objects: rules.max_objects(),
        };
        let store = Arc::new(ReadOnlyStore::new(Arc::clone(connection.store())));
        let previewer = Previewer { plan, store, folder: scratch, options, undo: None, stop: &stop };
        let preview = previewer.preview(&mut progress).await;
        progress.clear();
        let preview = preview.map_err(|error| match &error {
            PreviewError::Manifest(cause) if let Some(broken) = rules.broken_count(cause, plan) => {
                job_error(&broken, terminal)
            }
            _ => preview_error(plan, error),
        })?;
        let earlier = match previous {
            Some(previous) => previous.compare_with(&file.bytes, &preview.frozen, scratch, &stop).await,
            None => None,
        };
        if stop.is_cancelled() { Err(CommandError::from(PreviewError::Stopped)) } else { Ok((preview, earlier)) }
    });
    // A thread that is blocked on a read that never returns must not keep the process alive.
    runtime.shutdown_background();
    // A reader that has seen enough ends the preview, which is no failure.
    let is_abandoned = terminal.is_stdout_closed() && args.out.is_none() && args.csv.is_none();
    let preview = match preview {
        Err(error) if !is_abandoned || error.exit != ExitStatus::Interrupted => return Err(error),
        Ok(preview) if !is_abandoned => preview,
        _ => return Ok(None),
    };
    if let Some(csv) = progress.csv.take() {
        csv.finish()?;
    }
    Ok(Some(preview))
}

/// Returns the rule that the job of a preview would break.
fn broken_rule(rules: &RuleCheck, plan: &Plan, preview: &Preview, estimate: &CostEstimate) -> Option<JobError> {
    rules.check_frozen(&preview.frozen).and_then(|()| rules.check_cost(plan, estimate)).err()
}

/// Returns the error of a preview. If the store denies access to the manifest, it may only want the caller to pay.
fn preview_error(plan: &Plan, error: PreviewError) -> CommandError {
    let fault = if let PreviewError::Manifest(error) = &error { error.fault() } else { None };
    let is_denied = fault.is_some_and(|fault| fault.status == Some(403) && !names_another_location(fault));
    let error = CommandError::from(error);
    if !is_denied || plan.store.requester_pays {
        return error;
    }
    let payer = "for a Requester Pays bucket, set `requester_pays = true` in [store]";
    let help = error.help.clone().map_or_else(|| payer.into(), |help| help.append("; ").append(payer));
    error.help(help)
}

/// Prints a preview in the requested format, and reports it to GitHub. As JSON, the preview of a plan that is not
/// accepted is printed with the error.
fn print_view(
    args: &PlanArgs,
    view: &PreviewView<'_>,
    (name, accepted): (&str, bool),
    terminal: Terminal,
) -> Result<(), CommandError> {
    let printed = if terminal.is_json() {
        String::new()
    } else if args.format == Some(PlanFormat::Markdown) {
        render_markdown(view)
    } else {
        terminal.abbreviate_ids(&render_text(view)).into_owned()
    };
    match (terminal.is_json(), accepted) {
        (true, true) => terminal.print_json(render_json(view))?,
        (true, false) => {}
        (false, _) => terminal.print(printed.trim_end_matches('\n'))?,
    }
    github::report_plan((name, &path_to_text(&args.plan)), &step_outputs(view), || render_markdown(view), terminal);
    Ok(())
}

/// Returns an error if `--csv` is given, but not all objects are read, or nothing of them that the file has.
fn check_csv(args: &PlanArgs, plan: &Plan) -> Result<(), CommandError> {
    if !args.full && !args.all {
        return Err(CommandError::new(
            ExitStatus::Invalid,
            "--csv writes all objects, but only a sample would be read",
        )
        .help("add --full"));
    }
    if plan.operations.iter().all(|operation| operation.aspect() == ObjectAspect::Restoration) {
        let what = "--csv writes tags and ACLs, and this plan is about neither";
        return Err(CommandError::new(ExitStatus::Invalid, what)
            .help("use a plan with an operation on tags or ACLs; it is not applied"));
    }
    Ok(())
}

/// Returns an error if `--out` names an existing file that is not a saved plan.
fn refuse_to_overwrite(out: &Path) -> Result<(), CommandError> {
    if !out.exists() || plan_input::is_saved_plan(out) {
        return Ok(());
    }
    Err(CommandError::new(ExitStatus::Refused, format!("{} already exists and is not a saved plan", show_path(out)))
        .code(ErrorCode::FileExists)
        .help("choose a new file, or a saved plan to overwrite"))
}

/// Saves the plan together with the fingerprint of its manifest. Returns the digest of the file.
fn save(
    args: &PlanArgs,
    file: &LoadedPlan,
    plan: &Plan,
    preview: &Preview,
    counts: SavedCounts,
    out: &Path,
) -> Result<FileDigest, CommandError> {
    let Preview { frozen, digest: Some(digest), options: PreviewOptions { digest_key: Some(key), .. }, .. } = preview
    else {
        return Err(CommandError::new(ExitStatus::ToolFailed, "there is no digest to save the plan with"));
    };
    let saved = SavedPlan {
        plan_file: std::path::absolute(&args.plan)?,
        // An accepted plan is UTF-8.
        plan: String::from_utf8_lossy(&file.bytes).into_owned(),
        hash: plan.hash(),
        store: plan.store.environment_endpoint().map(|_| plan.store_identity()),
        endpoints: plan.environment_endpoints(),
        fingerprint: manifest_fingerprint(frozen, *key, digest, file.read_at).map_err(io::Error::from)?,
        counts,
    };
    Ok(FileDigest::of(&saved.write(out)?))
}

/// Returns whether a manifest names the changes of an inventory, which are not comparable with an earlier job's
/// objects.
fn lists_inventory_changes(manifest: &Manifest) -> bool {
    matches!(manifest.source, ManifestSource::Inventory { selector: InventorySelector::Changed(_), .. })
}

/// The last job of a plan, and the job's folder.
struct PreviousJob {
    job: JobRecord,
    folder: PathBuf,
    /// Holds the folder, if it is a temporary copy of what is in a bucket.
    temporary: Option<TempDir>,
}

/// Finds the last job of a plan.
fn find_previous_job(
    plan: &Plan,
    state: &StateLocationArgs,
    terminal: Terminal,
) -> Result<Option<PreviousJob>, CommandError> {
    let Some(journal) = state.open_existing(Some(plan), JournalAccess::ReadHistory, terminal)? else { return Ok(None) };
    let Some(job) = journal.latest_with_identity(&plan.identity())? else { return Ok(None) };
    drop(journal);
    // Open the journal again to fetch the job's files. It was closed because a newer copy may take its place.
    let Some(mut journal) =
        state.open_existing_with_job(Some(plan), JournalAccess::ReadHistory, Some(&job.id), terminal)?
    else {
        return Ok(None);
    };
    let folder = JobFolder::of(journal.state_folder(), &job.id).path().to_owned();
    Ok(Some(PreviousJob { job, folder, temporary: journal.take_temporary() }))
}

impl PreviousJob {
    /// Compares the job with the current plan and its objects. Returns `None` if the comparison was stopped.
    async fn compare_with(
        self,
        text: &[u8],
        frozen: &FrozenManifest,
        scratch: &Path,
        stop: &CancellationToken,
    ) -> Option<PreviousJobDiff> {
        let Self { job, folder, temporary } = self;
        let (new, scratch, stop) = (frozen.clone(), scratch.to_owned(), stop.clone());
        let compared = tokio::task::spawn_blocking(move || match FrozenManifest::open(&folder)? {
            Some(old) => compare_manifests(&old, &new, &scratch, &stop).map(Some),
            None => Ok(None),
        });
        let compared = compared.await.ok()?;
        drop(temporary);
        let objects = match compared {
            Ok(Some(difference)) => Ok(difference),
            Ok(None) => Err("the manifest of that job was not resolved, or was deleted".to_owned()),
            Err(ManifestError::Stopped) => return None,
            Err(error) => Err(error.to_string()),
        };
        Some(PreviousJobDiff::new(job, text, objects))
    }
}

/// Shows the progress of the preview and, with `--all`, every object.
struct PlanProgressView<'a> {
    terminal: Terminal,
    args: &'a PlanArgs,
    view: Mutex<ProgressView>,
    objects_read: u64,
    csv: Option<StateCsvFile>,
    /// The aspects that the plan changes.
    aspects: Vec<ObjectAspect>,
    /// Cancelled to end the preview when its output is no longer read.
    stop: CancellationToken,
}

impl PlanProgressView<'_> {
    fn view(&self) -> std::sync::MutexGuard<'_, ProgressView> {
        self.view.lock()
    }

    fn clear(&self) {
        self.view().clear();
    }
}

impl PreviewObserver for PlanProgressView<'_> {
    fn on_rows_read(&self, prepared: FreezeProgress) {
        self.view().show_found(prepared.rows_included);
    }

    fn on_object_read(&mut self, prediction: &Prediction, of: u64) -> io::Result<()> {
        if self.objects_read == 0 {
            self.clear();
            *self.view() = ProgressView::new(self.terminal, "");
        }
        self.objects_read += 1;
        self.view().show_read(self.objects_read, of);
        if let Some(csv) = &mut self.csv {
            csv.record(&prediction.object, &prediction.before, &unread_reason(prediction, &self.aspects))?;
        }
        if !self.args.all {
            return Ok(());
        }
        let shown = if self.terminal.is_json() {
            format!("{}\n", object_json(prediction))
        } else {
            object_text(prediction, self.terminal.colours_data())
        };
        self.terminal.print_text(&shown)?;
        // With `--out` or `--csv`, the preview continues, because the file must still be written.
        if self.terminal.is_stdout_closed() && self.args.out.is_none() && self.csv.is_none() {
            self.stop.cancel();
        }
        Ok(())
    }
}

/// Returns why one of these aspects of an object was not read, or an empty text if all were.
fn unread_reason(prediction: &Prediction, aspects: &[ObjectAspect]) -> String {
    let is_read = aspects.iter().all(|aspect| aspect.rules().is_known(&prediction.before));
    match &prediction.effect {
        Effect::Unknown(why) if !is_read => why.clone(),
        Effect::Fails(FailureReason { code, http: 0, .. }) if !is_read => code.clone(),
        Effect::Fails(FailureReason { code, http, .. }) if !is_read => format!("{http} {code}"),
        _ => String::new(),
    }
}
