//! Recurring plans on the command line: whether there is anything new, and what a job works on.

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::descriptions::format_instant;
use super::exit::{CommandError, ExitStatus};
use super::github;
use super::state::{JournalAccess, JournalHandle};
use super::state_location::StateLocationArgs;
use super::terminal::Terminal;
use crate::connect::connect;
use crate::jobs::{DueWork, JobError, due_work, find_newest, record_interrupted, recurring_source, whole_inventory};
use crate::journal::{DeltaScope, JobRecord, Journal, PinnedInventory, RecurringScope};
use crate::manifest::ManifestWarning;
use crate::plan::Plan;

/// What a command that creates a job from a plan has to do.
pub(super) enum RecurringDecision {
    /// Create the job. Contains what it works on if the plan recurs.
    CreateJob(Option<RecurringScope>),
    /// Nothing: a job has already completed the newest inventory.
    NothingNew(NothingNew),
}

/// The newest inventory and the job of the plan that has completed it.
pub(super) struct NothingNew {
    inventory: PinnedInventory,
    older: Option<PinnedInventory>,
    job: String,
    ended: Option<jiff::Timestamp>,
}

/// What a job would work on if it were created from the plan now.
pub(super) enum PlanToPreview {
    /// The plan does not recur and applies unchanged.
    Unchanged,
    /// The plan, with the manifest source that a job created now would get, and the folder with the files of that source
    /// if it is a temporary one.
    Resolved { plan: Box<Plan>, _temporary: Option<TempDir> },
    /// Nothing: a job has already completed the newest inventory.
    NothingNew(Box<NothingNew>),
}

/// Determines whether there is anything new for a plan. An unfinished job is resumed in any case, unless `force_new` is
/// set: then it is left alone, and all of the newest inventory is due even if it was completed.
///
/// # Errors
/// Returns an error if the newest inventory cannot be found or the journal cannot be read.
pub(super) fn decide(
    plan: &Plan,
    journal: &JournalHandle,
    force_new: bool,
    terminal: Terminal,
) -> Result<RecurringDecision, CommandError> {
    if plan.recurring.is_none() {
        return Ok(RecurringDecision::CreateJob(None));
    }
    let unfinished = if force_new { None } else { unfinished_job(plan, journal)? };
    let (inventory, warnings) = match (find_newest_inventory(plan), &unfinished) {
        // An unfinished job needs no newer inventory.
        (Err(_), Some(_)) | (Ok(None), _) => return Ok(RecurringDecision::CreateJob(None)),
        (found, _) => match found? {
            Some(found) => found,
            None => return Ok(RecurringDecision::CreateJob(None)),
        },
    };
    if let Some(job) = &unfinished {
        print_newer_inventory(job, &inventory, terminal);
    } else {
        print_warnings(&warnings, terminal);
    }
    record_interrupted(plan, journal)?;
    Ok(match due_work(plan, inventory.clone(), Some(journal))? {
        DueWork::Work(recurrence) => {
            if let Some(base) = recurrence.delta_scope.base_job() {
                journal.fetch(base)?;
            }
            RecurringDecision::CreateJob(Some(recurrence))
        }
        DueWork::UpToDate { .. } if force_new => {
            RecurringDecision::CreateJob(Some(whole_inventory(plan, inventory, journal)?))
        }
        DueWork::UpToDate { .. } if unfinished.is_some() => RecurringDecision::CreateJob(None),
        DueWork::UpToDate { inventory, older, job, ended } => {
            RecurringDecision::NothingNew(NothingNew { inventory, older, job: job.to_string(), ended })
        }
    })
}

/// Returns what a job would work on if it were created from the plan now.
///
/// # Errors
/// Returns an error in the same cases as [`decide`].
pub(super) fn plan_to_preview(
    plan: &Plan,
    state: &StateLocationArgs,
    terminal: Terminal,
) -> Result<PlanToPreview, CommandError> {
    let Some((inventory, warnings)) = find_newest_inventory(plan)? else { return Ok(PlanToPreview::Unchanged) };
    let handle = state.open_existing(Some(plan), JournalAccess::ReadHistory, terminal)?;
    let journal: Option<&Journal> = handle.as_deref();
    let unfinished = journal.map(|journal| unfinished_job(plan, journal)).transpose()?.flatten();
    if let Some(job) = unfinished {
        let flag = handle.as_ref().map(JournalHandle::flag).unwrap_or_default();
        let (id, status) = (&job.id, job.status);
        terminal.eprint(format_args!(
            "job {id} of this plan is {status}: apply resumes it first (batchplan show {id}{flag})"
        ));
    }
    print_warnings(&warnings, terminal);
    let recurrence = match due_work(plan, inventory, journal)? {
        DueWork::Work(recurrence) => recurrence,
        DueWork::UpToDate { inventory, older, job, ended } => {
            let nothing = NothingNew { inventory, older, job: job.to_string(), ended };
            return Ok(PlanToPreview::NothingNew(Box::new(nothing)));
        }
    };
    terminal.inform(describe_scope(&recurrence.inventory, &recurrence.delta_scope));
    drop(handle);
    // Open the journal again to fetch the files of the base job. It was closed because a newer copy may take its place.
    let mut handle = state.open_existing_with_job(
        Some(plan),
        JournalAccess::ReadHistory,
        recurrence.delta_scope.base_job(),
        terminal,
    )?;
    let source = recurring_source(&recurrence.inventory, &recurrence.delta_scope, handle.as_deref(), plan)?;
    // The hash stays that of the plan as it is written.
    let mut resolved = plan.clone();
    resolved.manifest.source = source;
    let temporary = handle.as_mut().and_then(JournalHandle::take_temporary);
    Ok(PlanToPreview::Resolved { plan: Box::new(resolved), _temporary: temporary })
}

fn unfinished_job(plan: &Plan, journal: &Journal) -> Result<Option<JobRecord>, CommandError> {
    Ok(journal.latest_with_identity(&plan.identity())?.filter(|job| !job.status.is_over()))
}

/// Finds the newest inventory on its own connection, so that no connection stays open while a job is created.
fn find_newest_inventory(plan: &Plan) -> Result<Option<(PinnedInventory, Vec<ManifestWarning>)>, CommandError> {
    if plan.recurring.is_none() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let connection = connect(&plan.store).await?;
        Ok(find_newest(plan, connection.store(), &CancellationToken::new()).await.map_err(JobError::from)?)
    });
    runtime.shutdown_background();
    found
}

fn print_newer_inventory(job: &JobRecord, newest: &PinnedInventory, terminal: Terminal) {
    let Some(own) = job.inventory.as_ref().filter(|own| newest.is_newer(own)) else { return };
    terminal.eprint(format_args!(
        "there is a newer inventory: {}; job {} continues with {}, and the next apply uses the newer one",
        newest.folder(),
        job.id,
        own.folder()
    ));
}

fn print_warnings(warnings: &[ManifestWarning], terminal: Terminal) {
    for warning in warnings {
        terminal.eprint(format_args!("warning: {warning}\n  help: {}", warning.help));
    }
}

/// Describes in one sentence what a new job works on.
fn describe_scope(inventory: &PinnedInventory, delta_scope: &DeltaScope) -> String {
    let what = match delta_scope {
        DeltaScope::All => "all objects".to_owned(),
        DeltaScope::First => "all objects, because no job of this plan has completed before".to_owned(),
        DeltaScope::PlanChanged(job) => {
            format!("all objects, because the plan differs from that of job {job}, which ran last")
        }
        DeltaScope::Unrecorded(job) => {
            format!("all objects, because it is not recorded which inventory job {job} completed")
        }
        DeltaScope::Since { job, inventory } => format!(
            "objects that are new or changed since {}, which job {job} completed, and objects that failed in it",
            inventory.folder()
        ),
    };
    format!("inventory {}: {what}", describe_inventory(inventory))
}

/// Describes what a job works on, if its plan recurs.
pub(super) fn describe_job_scope(job: &JobRecord) -> Option<String> {
    Some(describe_scope(job.inventory.as_ref()?, job.delta_scope.as_ref()?))
}

/// Prints what a new job works on, if its plan recurs.
pub(super) fn print_job_scope(job: &JobRecord, terminal: Terminal) {
    if let Some(scope) = describe_job_scope(job) {
        terminal.inform(scope);
    }
}

/// Returns what a job works on as JSON, if its plan recurs.
pub(super) fn job_json(job: &JobRecord) -> Option<Json> {
    let (inventory, delta_scope) = (job.inventory.as_ref()?, job.delta_scope.as_ref()?);
    let since = match delta_scope {
        DeltaScope::Since { job, inventory } => {
            let mut since = inventory_json(inventory);
            since["job_id"] = json!(job.as_str());
            since
        }
        DeltaScope::All | DeltaScope::First | DeltaScope::PlanChanged(_) | DeltaScope::Unrecorded(_) => Json::Null,
    };
    let mut scope = inventory_json(inventory);
    scope["since"] = since;
    Some(scope)
}

fn inventory_json(inventory: &PinnedInventory) -> Json {
    let PinnedInventory { bucket, key, etag, created } = inventory;
    json!({ "bucket": bucket, "key": key, "etag": etag, "created": created })
}

fn describe_inventory(inventory: &PinnedInventory) -> String {
    let created = inventory.created.map_or_else(String::new, |at| format!(" (created {})", format_instant(at)));
    format!("{}{created}", inventory.folder())
}

impl NothingNew {
    /// Reports that nothing is new. `previewed` are the name and the file of a plan that was to be previewed, not
    /// applied.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn report(
        &self,
        previewed: Option<(&str, &str)>,
        terminal: Terminal,
    ) -> Result<ExitStatus, CommandError> {
        self.print(terminal)?;
        github::report_nothing_new(&self.inventory.folder(), previewed, terminal);
        Ok(ExitStatus::Success)
    }

    fn print(&self, terminal: Terminal) -> Result<(), CommandError> {
        let ended = self.ended.map_or_else(String::new, |at| format!(", ended {}", format_instant(at)));
        terminal.eprint(format_args!("nothing new since {} (job {}{ended})", self.inventory.folder(), self.job));
        if let Some(older) = &self.older {
            terminal.eprint(format_args!("the newest inventory now is an older one: {}", older.folder()));
        }
        if terminal.is_json() {
            terminal.print_json(self.to_json())?;
        }
        Ok(())
    }

    fn to_json(&self) -> Json {
        json!({
            "nothing_new": true,
            "inventory": inventory_json(&self.inventory),
            "older": self.older.as_ref().map(inventory_json),
            "completed_by": { "job_id": self.job, "ended": self.ended },
            "job_id": null, "total": 0, "succeeded": 0, "failed": 0,
        })
    }
}
