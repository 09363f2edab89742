//! Finds or creates the job for a plan. A job that changed nothing never stands in the way of a new one.

use std::path::Path;

use jiff::Timestamp;

use super::commands::replace_job;
use super::error::JobError;
use super::stored_plan::stored_plan;
use crate::job::{JobId, JobStatus};
use crate::journal::{
    FileLease, JobCreation, JobFolder, JobRecord, JobSource, Journal, ManifestFingerprint, NewJob, RecurringScope,
    ReportSource, UndoSource,
};
use crate::plan::{Plan, PlanChange, describe_environment_endpoints};

/// A request to find or create the job for a plan.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    /// The plan to run.
    pub plan: &'a Plan,
    /// The text of the plan, which is stored with the job.
    pub text: &'a [u8],
    /// The absolute path of the plan file.
    pub file: &'a Path,
    /// Where the job's objects come from.
    pub origin: JobSource,
    /// Whether to create a new job even if there is an unfinished one.
    pub force_new: bool,
    /// Whether a new job takes the place of an unfinished one of another plan, if that one is not confirmed.
    pub replace_unconfirmed: bool,
    /// Whether the job runs without waiting for confirmation.
    pub confirmed: bool,
    /// The fingerprint that the manifest must match, if the plan was saved.
    pub fingerprint: Option<&'a ManifestFingerprint>,
    /// What a new job works on, if the plan recurs.
    pub recurrence: Option<RecurringScope>,
}

/// The job that a request found or created.
#[must_use]
#[derive(Clone, Debug)]
pub enum CreateOutcome {
    /// A new job.
    Created {
        /// The job.
        job: JobRecord,
        /// The earlier job of the same work that changed nothing, and was removed.
        replaced: Option<ReplacedJob>,
    },
    /// An existing job that is not over.
    Unfinished(JobRecord),
    /// The job that was created with the plan's client request token. It is over.
    Over(JobRecord),
}

/// A job that changed nothing, and was removed because a new one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedJob {
    /// The ID of the job.
    pub id: JobId,
    /// The status that the job had.
    pub status: JobStatus,
}

impl JobRequest<'_> {
    /// Returns the identity of the work: that of the plan, or for a retry, what is retried and how much of it. An
    /// unfinished retry of some failures must not be mistaken for a retry of others.
    fn identity(&self) -> String {
        match &self.origin {
            JobSource::Plan => self.plan.identity(),
            JobSource::Retry { of, unattempted: true } => format!("retry of {of}"),
            JobSource::Retry { of, unattempted: false } => format!("retry of what failed in {of}"),
            JobSource::Report(report) => {
                let ReportSource { status, code, .. } = report;
                let (place, by) = (report.location(), self.plan.identity());
                format!("retry of {place} by {by}, statuses {status:?}, codes {code:?}")
            }
            JobSource::Undo(UndoSource { of, force, include, exclude, report }) => {
                let report = report.as_ref().map(ReportSource::location);
                format!("undo of {of}, force {force}, include {include:?}, exclude {exclude:?}, report {report:?}")
            }
        }
    }

    /// Finds the job for this work, or creates one.
    ///
    /// The newest job of this work is removed first if it is Failed or Cancelled and changed nothing.
    ///
    /// # Errors
    /// Returns an error if the existing job belongs to a different plan or saved plan, if the queue is full, or if the
    /// journal cannot be used.
    pub fn find_or_create(&self, journal: &Journal, now: Timestamp) -> Result<CreateOutcome, JobError> {
        let token = self.plan.job.client_request_token.clone().filter(|_| self.origin == JobSource::Plan);
        let new = NewJob {
            id: JobId::random(),
            identity: self.identity(),
            token,
            name: self.plan.name.clone(),
            store_identity: self.plan.store_identity(),
            environment_endpoints: self.plan.environment_endpoints(),
            description: self.plan.description.clone(),
            source: self.origin.clone(),
            plan_file: self.file.to_owned(),
            plan_hash: self.plan.hash(),
            plan_text: self.text.to_owned(),
            confirmed: self.confirmed,
            priority: self.plan.job.priority,
            manifest_fingerprint: self.fingerprint.cloned(),
            recurrence: self.recurrence.clone(),
            keep: self.plan.undo.keep,
        };
        let replaced = self.replace_unused(&new.identity, journal)?;
        let found = match journal.create(new, self.force_new, now)? {
            JobCreation::Created(job) => return Ok(CreateOutcome::Created { job, replaced }),
            JobCreation::Existing(job) => job,
        };
        self.check_same_work(journal, &found)?;
        if let Some(fingerprint) = self.fingerprint
            && found.manifest_fingerprint.as_ref() != Some(fingerprint)
        {
            return Err(JobError::OtherSavedPlan { over: found.status.is_over(), job: found.id });
        }
        if found.status.is_over() {
            return Ok(CreateOutcome::Over(found));
        }
        // An approved plan runs exactly as it was approved, limits included.
        if found.manifest_fingerprint.is_some() {
            return Ok(CreateOutcome::Unfinished(found));
        }
        // The limits may have changed. It is still the same work.
        journal.replace_plan(&found.id, self.text.to_owned(), self.plan.undo.keep)?;
        Ok(CreateOutcome::Unfinished(JobRecord { plan_text: self.text.to_owned(), ..found }))
    }

    /// Removes the newest job of this work if a new one takes its place, and returns it.
    fn replace_unused(&self, identity: &str, journal: &Journal) -> Result<Option<ReplacedJob>, JobError> {
        let Some(found) = journal.latest_with_identity(identity)? else { return Ok(None) };
        let is_replaced = if found.status.is_over() {
            // A token stands for one job, which would be found again.
            !self.force_new || found.token.is_some()
        } else {
            // What a recurring plan's next job works on was decided with the unfinished job in mind.
            let may_replace = self.replace_unconfirmed && !self.force_new && self.plan.recurring.is_none();
            may_replace && !self.has_same_plan(&found)
        };
        let was_replaced = is_replaced && replace_job(journal, &found)?;
        Ok(was_replaced.then_some(ReplacedJob { id: found.id, status: found.status }))
    }

    /// Returns whether a job is of this plan, and of this saved plan. A job of the same plan at another endpoint is not
    /// replaced, because the environment may be wrong.
    fn has_same_plan(&self, job: &JobRecord) -> bool {
        let is_same_saved_plan =
            self.fingerprint.is_none_or(|fingerprint| job.manifest_fingerprint.as_ref() == Some(fingerprint));
        is_same_saved_plan && job.plan_hash == self.plan.hash()
    }

    fn check_same_work(&self, journal: &Journal, job: &JobRecord) -> Result<(), JobError> {
        let store = self.plan.store_identity();
        let is_elsewhere = job.store_identity.as_ref().is_some_and(|before| *before != store)
            || !self.plan.is_in_environment_of(job.environment_endpoints.as_deref());
        if job.plan_hash == self.plan.hash() && !is_elsewhere {
            return Ok(());
        }
        let before = stored_plan(job)?;
        let mut changes = before.canonical().changes(self.plan.canonical());
        if is_elsewhere && changes.is_empty() {
            let path = "the endpoint in the environment".to_owned();
            let (before, after) = (describe_environment_endpoints(&before), describe_environment_endpoints(self.plan));
            changes.push(PlanChange { path, before: Some(before), after: Some(after) });
        }
        Err(JobError::PlanChanged {
            job: job.id.clone(),
            changes,
            token: job.token.is_some(),
            running: FileLease::is_held(JobFolder::of(journal.state_folder(), &job.id).path()).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    const PLAN: &str = "name = \"p\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n\
        [manifest.prefix]\nbucket = \"bkt\"\nprefix = \"\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

    #[test]
    fn a_job_of_an_earlier_version_is_resumed_without_captures() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        let text = format!("{PLAN}[undo]\ncapture = true\nkeep = \"90d\"\n");
        let (plan, _) = plan::read_bytes("p.toml", text.as_bytes(), folder.path(), Timestamp::UNIX_EPOCH);
        let request = JobRequest {
            plan: &plan.expect("a plan"),
            text: text.as_bytes(),
            file: Path::new("/p.toml"),
            origin: JobSource::Plan,
            force_new: false,
            confirmed: false,
            fingerprint: None,
            recurrence: None,
            replace_unconfirmed: false,
        };
        let Ok(CreateOutcome::Created { job, .. }) = request.find_or_create(&journal, Timestamp::UNIX_EPOCH) else {
            panic!("not created")
        };
        assert!(job.can_capture && stored_plan(&job).expect("a plan").undo.capture);
        let earlier = JobRecord { can_capture: false, ..job };
        assert!(!stored_plan(&earlier).expect("a plan").undo.capture);
    }

    #[test]
    fn a_retry_of_other_failures_is_other_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        let now = Timestamp::UNIX_EPOCH;
        let (plan, problems) = plan::read_bytes("p.toml", PLAN.as_bytes(), folder.path(), now);
        let plan = plan.unwrap_or_else(|| panic!("{problems:?}"));
        let create = |origin: &JobSource| {
            let (text, file, origin) = (PLAN.as_bytes(), Path::new("/p.toml"), origin.clone());
            let request = JobRequest {
                plan: &plan,
                text,
                file,
                origin,
                force_new: false,
                replace_unconfirmed: false,
                confirmed: false,
                fingerprint: None,
                recurrence: None,
            };
            request.find_or_create(&journal, now).expect("created")
        };
        let of = JobId::random();
        let report = |status: &[u16], code: &[&str]| {
            let (status, code) = (status.to_vec(), code.iter().map(ToString::to_string).collect());
            JobSource::Report(ReportSource { bucket: None, name: "/r.csv".to_owned(), status, code })
        };
        let origins = [
            JobSource::Plan,
            JobSource::Retry { of: of.clone(), unattempted: true },
            JobSource::Retry { of, unattempted: false },
            report(&[], &[]),
            report(&[403], &[]),
            report(&[], &["403"]),
        ];
        for origin in &origins {
            assert!(
                matches!(create(origin), CreateOutcome::Created { job, .. } if job.source == *origin),
                "{origin:?}"
            );
        }
        for origin in &origins {
            assert!(matches!(create(origin), CreateOutcome::Unfinished(job) if job.source == *origin), "{origin:?}");
        }
    }
}
