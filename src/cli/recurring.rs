//! Recurring plans on the command line: whether there is anything new, and what a job works on.

use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::connected::connected;
use super::kept::Kept;
use super::state::{Access, State};
use super::terminal::Terminal;
use super::{Error, Exit, github, when};
use crate::jobs::{Due, JobError, due, newest, note_interrupted, recurring_source, whole};
use crate::journal::{Inventory, JobRecord, Journal, Portion, Recurrence};
use crate::manifest::{InventoryObject, Manifest, Source, Warning};
use crate::plan::Plan;

/// What a command that creates a job from a plan has to do.
pub(super) enum Turn {
    /// Create the job. Contains what it works on if the plan recurs.
    Work(Option<Recurrence>),
    /// Nothing: a job has already completed the newest inventory.
    Nothing(Nothing),
}

/// The newest inventory and the job of the plan that has completed it.
pub(super) struct Nothing {
    inventory: Inventory,
    older: Option<Inventory>,
    job: String,
    ended: Option<jiff::Timestamp>,
}

/// What a job would work on if it were created from the plan now.
pub(super) enum Ahead {
    /// The plan does not recur and applies unchanged.
    AsItIs,
    /// The plan, with the manifest source that a job created now would get.
    Work(Box<Plan>),
    /// Nothing: a job has already completed the newest inventory.
    Nothing(Box<Nothing>),
}

/// Determines whether there is anything new for a plan. An unfinished job is resumed in any case, unless `afresh` is
/// set: then it is left alone, and all of the newest inventory is due even if it was completed.
///
/// # Errors
/// Returns an error if the newest inventory cannot be found or the journal cannot be read.
pub(super) fn turn(plan: &Plan, journal: &Kept, afresh: bool, terminal: Terminal) -> Result<Turn, Error> {
    if plan.recurring.is_none() {
        return Ok(Turn::Work(None));
    }
    let unfinished = if afresh { None } else { unfinished(plan, journal)? };
    let (inventory, warnings) = match (look(plan), &unfinished) {
        // An unfinished job needs no newer inventory.
        (Err(_), Some(_)) | (Ok(None), _) => return Ok(Turn::Work(None)),
        (found, _) => match found? {
            Some(found) => found,
            None => return Ok(Turn::Work(None)),
        },
    };
    if let Some(job) = &unfinished {
        say_newer(job, &inventory, terminal);
    } else {
        warn(&warnings, terminal);
    }
    note_interrupted(plan, journal)?;
    Ok(match due(plan, inventory.clone(), Some(journal))? {
        Due::Work(recurrence) => {
            if let Some(base) = recurrence.portion.base() {
                journal.fetch(base)?;
            }
            Turn::Work(Some(recurrence))
        }
        Due::Nothing { .. } if afresh => Turn::Work(Some(whole(plan, inventory, journal)?)),
        Due::Nothing { .. } if unfinished.is_some() => Turn::Work(None),
        Due::Nothing { inventory, older, job, ended } => {
            Turn::Nothing(Nothing { inventory, older, job: job.to_string(), ended })
        }
    })
}

/// Returns what a job would work on if it were created from the plan now.
///
/// # Errors
/// Returns an error in the same cases as [`turn`].
pub(super) fn ahead(plan: &Plan, state: &State, terminal: Terminal) -> Result<Ahead, Error> {
    let Some((inventory, warnings)) = look(plan)? else { return Ok(Ahead::AsItIs) };
    let kept = state.existing(Some(plan), Access::Glance, terminal)?;
    let journal: Option<&Journal> = kept.as_deref();
    let unfinished = journal.map(|journal| unfinished(plan, journal)).transpose()?.flatten();
    if let Some(job) = unfinished {
        let flag = kept.as_ref().map(Kept::flag).unwrap_or_default();
        let (id, status) = (&job.id, job.status);
        terminal.say(format_args!(
            "job {id} of the plan is {status}: apply goes on with that first (batchplan show {id}{flag})"
        ));
    }
    warn(&warnings, terminal);
    let recurrence = match due(plan, inventory, journal)? {
        Due::Work(recurrence) => recurrence,
        Due::Nothing { inventory, older, job, ended } => {
            let nothing = Nothing { inventory, older, job: job.to_string(), ended };
            return Ok(Ahead::Nothing(Box::new(nothing)));
        }
    };
    terminal.say(told(&recurrence.inventory, &recurrence.portion));
    drop(kept);
    // Open the journal again to fetch the files of the base job. It was closed because a newer copy may take its place.
    let kept = state.existing_with(Some(plan), Access::Glance, recurrence.portion.base(), terminal)?;
    let source = recurring_source(&recurrence, kept.as_deref(), plan)?;
    // The hash stays that of the plan as it is written.
    let mut ahead = plan.clone();
    ahead.manifest.source = source;
    Ok(Ahead::Work(Box::new(ahead)))
}

fn unfinished(plan: &Plan, journal: &Journal) -> Result<Option<JobRecord>, Error> {
    Ok(journal.latest_of(&plan.identity())?.filter(|job| !job.status.is_over()))
}

/// Finds the newest inventory on its own connection, so that no connection stays open while a job is created.
fn look(plan: &Plan) -> Result<Option<(Inventory, Vec<Warning>)>, Error> {
    if plan.recurring.is_none() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let connection = connected(&plan.store).await?;
        Ok(newest(plan, connection.store(), &CancellationToken::new()).await.map_err(JobError::from)?)
    });
    runtime.shutdown_background();
    found
}

fn say_newer(job: &JobRecord, newest: &Inventory, terminal: Terminal) {
    let Some(own) = job.inventory.as_ref().filter(|own| newest.is_later(own)) else { return };
    terminal.say(format_args!(
        "a newer inventory has appeared: {}; job {} goes on with {}, and the next apply takes the newer one",
        newest.folder(),
        job.id,
        own.folder()
    ));
}

fn warn(warnings: &[Warning], terminal: Terminal) {
    for warning in warnings {
        terminal.say(format_args!("warning: {warning}\n  help: {}", warning.help));
    }
}

/// Describes in one sentence what a new job works on.
fn told(inventory: &Inventory, portion: &Portion) -> String {
    let what = match portion {
        Portion::All => "all its objects".to_owned(),
        Portion::First => "all its objects, for no job of this plan has completed before".to_owned(),
        Portion::PlanChanged(job) => {
            format!("all its objects, for the plan is another one than that of job {job}, which worked last")
        }
        Portion::Unrecorded(job) => {
            format!("all its objects, for it is not recorded which inventory job {job} has completed")
        }
        Portion::Since { job, inventory } => format!(
            "what is new or different since {}, which job {job} has completed, and what failed in that",
            inventory.folder()
        ),
    };
    format!("inventory {}: {what}", begun(inventory))
}

/// Describes what a job works on, if its plan recurs.
pub(super) fn told_of(job: &JobRecord) -> Option<String> {
    Some(told(job.inventory.as_ref()?, job.portion.as_ref()?))
}

/// Prints what a new job works on, if its plan recurs.
pub(super) fn introduce(job: &JobRecord, terminal: Terminal) {
    if let Some(told) = told_of(job) {
        terminal.say(told);
    }
}

/// Returns what a job works on as JSON, if its plan recurs.
pub(super) fn of_job(job: &JobRecord) -> Option<Json> {
    let (inventory, portion) = (job.inventory.as_ref()?, job.portion.as_ref()?);
    let since = match portion {
        Portion::Since { job, inventory } => {
            let mut since = of_inventory(inventory);
            since["job_id"] = json!(job.as_str());
            since
        }
        Portion::All | Portion::First | Portion::PlanChanged(_) | Portion::Unrecorded(_) => Json::Null,
    };
    let mut told = of_inventory(inventory);
    told["since"] = since;
    Some(told)
}

fn of_inventory(inventory: &Inventory) -> Json {
    let Inventory { bucket, key, etag, created } = inventory;
    json!({ "bucket": bucket, "key": key, "etag": etag, "created": created })
}

fn begun(inventory: &Inventory) -> String {
    let begun = inventory.created.map_or_else(String::new, |at| format!(" (begun {})", when::shown(at)));
    format!("{}{begun}", inventory.folder())
}

impl Nothing {
    /// Reports that nothing is new.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn tell(&self, json: bool, terminal: Terminal) -> Result<Exit, Error> {
        self.say(json, terminal)?;
        github::tell_nothing(&self.inventory.folder(), terminal);
        Ok(Exit::Done)
    }

    /// Reports the same for `batchplan plan`.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written.
    pub(super) fn tell_as_plan(&self, of: (&str, &str), json: bool, terminal: Terminal) -> Result<Exit, Error> {
        self.say(json, terminal)?;
        let none = ["total", "changes"].map(|name| (name, "0".to_owned()));
        github::tell_plan(of, &none, || github::nothing_since(&self.inventory.folder()), terminal);
        Ok(Exit::Done)
    }

    fn say(&self, json: bool, terminal: Terminal) -> Result<(), Error> {
        let ended = self.ended.map_or_else(String::new, |at| format!(", ended {}", when::shown(at)));
        terminal.say(format_args!("nothing new since {} (job {}{ended})", self.inventory.folder(), self.job));
        if let Some(older) = &self.older {
            terminal.say(format_args!("the newest inventory that is there now is older: {}", older.folder()));
        }
        if json {
            terminal.print(self.to_json())?;
        }
        Ok(())
    }

    fn to_json(&self) -> Json {
        json!({
            "nothing_new": true,
            "inventory": of_inventory(&self.inventory),
            "older": self.older.as_ref().map(of_inventory),
            "completed_by": { "job_id": self.job, "ended": self.ended },
            "job_id": null, "total": 0, "succeeded": 0, "failed": 0,
        })
    }
}

/// Returns whether a manifest names the changes of an inventory, which are not comparable with an earlier job's
/// objects.
pub(super) fn is_of_changes(manifest: &Manifest) -> bool {
    matches!(manifest.source, Source::Inventory { object: InventoryObject::Changed(_), .. })
}
