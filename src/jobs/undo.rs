//! Undoes what an earlier job changed: which of its objects, and what they were like.

use std::sync::Arc;

use super::error::JobError;
use super::report_source::report_location;
use super::stored_plan::stored_plan;
use crate::captures::{CaptureReader, FormerState};
use crate::engine::{UndoneChanges, is_former_unknown, known_state};
use crate::journal::{JobFolder, JobRecord, JobSource, Journal, UndoSource};
use crate::manifest::{Filter, KeyGlobs, Manifest, ManifestSource, UndoneJob};
use crate::operation::ObjectAspect;
use crate::plan::{Plan, parse_key_glob};

/// Checks that a job can be undone.
///
/// # Errors
/// Returns an error if the job has not ended, if what it did cannot be undone, or if it captured nothing.
pub fn check_undoable(journal: &Journal, job: &JobRecord, plan: &Plan) -> Result<(), JobError> {
    let refuse =
        |why: &str, help: &'static str| Err(JobError::NotUndoable { job: job.id.clone(), why: why.to_owned(), help });
    if !job.status.is_over() {
        return Err(JobError::NotOver { job: job.id.clone(), status: job.status });
    }
    if plan.operations.iter().all(|operation| operation.aspect() == ObjectAspect::Restoration) {
        return refuse(
            "a restore cannot be undone",
            "restored copies expire by themselves after the days that were requested",
        );
    }
    let captures = JobFolder::of(journal.state_folder(), &job.id).captures_folder();
    // Without this, captures that were lost or cut off would pass for nothing to undo.
    let is_lost = || CaptureReader::open(&captures).is_ok_and(|reader| reader.is_empty());
    if captures.exists() && job.progress.changed() > 0 && is_lost() {
        return refuse(
            "it changed objects, but nothing is left of what they were like before",
            "restore the `captures` folder of the job from a backup, or restore the objects with another plan",
        );
    }
    if !captures.exists() {
        return refuse(
            "it kept nothing of what the objects were like before",
            "only a job that changed objects, without `capture = false` in [undo], can be undone",
        );
    }
    Ok(())
}

/// Returns the objects that an undo changes.
///
/// # Errors
/// Returns an error if the earlier job no longer exists, or if a glob is not valid.
pub(super) fn undo_manifest(journal: &Journal, undo: &UndoSource) -> Result<Manifest, JobError> {
    let job = journal.find(undo.of.as_str())?;
    let folder = JobFolder::of(journal.state_folder(), &job.id);
    let operations = stored_plan(&job)?.operations();
    let is_undo = matches!(job.source, JobSource::Undo(_));
    let changes = move |former: &FormerState| {
        let before = known_state(former);
        // An undo captures only what it changes.
        is_undo || is_former_unknown(former) || operations.desired(&before).is_ok_and(|made| made != before)
    };
    let globs = |patterns: &[String]| {
        let compiled: Result<Vec<_>, _> = patterns.iter().map(|pattern| parse_key_glob(pattern)).collect();
        let set = compiled.and_then(|globs| KeyGlobs::new(globs).map_err(|error| error.to_string()));
        set.map(|set| (!patterns.is_empty()).then_some(set)).map_err(JobError::InvalidGlob)
    };
    let filter = Filter { include: globs(&undo.include)?, exclude: globs(&undo.exclude)?, ..Filter::default() };
    let source = UndoneJob {
        folder: folder.path().to_owned(),
        captures: folder.captures_folder(),
        report: undo.report.as_ref().map(report_location),
        changes: Arc::new(changes),
    };
    Ok(Manifest { source: ManifestSource::Undo(source), filter })
}

/// Returns the captures that an undo restores, or `None` if this job is no undo.
///
/// # Errors
/// Returns an error if a job that they depend on no longer exists, or if the captures cannot be read.
pub fn undone_changes(journal: &Journal, job: &JobRecord) -> Result<Option<Arc<UndoneChanges>>, JobError> {
    match &job.source {
        JobSource::Undo(undo) => changes_of(journal, &journal.find(undo.of.as_str())?).map(Some),
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => Ok(None),
    }
}

/// Returns the captures of a job, with what it made of the objects.
///
/// # Errors
/// Returns an error if a job that they depend on no longer exists, or if the captures cannot be read.
pub fn changes_of(journal: &Journal, job: &JobRecord) -> Result<Arc<UndoneChanges>, JobError> {
    let captures = JobFolder::of(journal.state_folder(), &job.id).captures_folder();
    let changes = match &job.source {
        JobSource::Undo(before) => {
            let restored = JobFolder::of(journal.state_folder(), &before.of).captures_folder();
            UndoneChanges::restored(&captures, &restored)
        }
        JobSource::Plan | JobSource::Retry { .. } | JobSource::Report(_) => {
            UndoneChanges::applied(&captures, stored_plan(job)?.operations())
        }
    };
    Ok(Arc::new(changes.map_err(JobError::Captures)?))
}

/// Returns the plan and the manifest of an undo of a job that is over, without creating a job.
///
/// # Errors
/// Returns an error if the plan is not accepted, or if a glob is not valid.
pub fn undo_plan(journal: &Journal, job: &JobRecord, undo: &UndoSource) -> Result<Plan, JobError> {
    let mut plan = stored_plan(job)?.undone(undo.mode());
    plan.manifest = undo_manifest(journal, undo)?;
    Ok(plan)
}
