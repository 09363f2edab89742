//! Finds or creates the job for a plan, and takes the lease to work on it.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use tracing::info;

use super::error::JobError;
use crate::job::JobId;
use crate::journal::{
    FileLease, JobCreation, JobFolder, JobRecord, JobSource, Journal, LeaseError, ManifestFingerprint, NewJob,
    RecurringScope, ReportSource,
};
use crate::paths::show_path;
use crate::plan::{self, Plan, PlanChange, describe_environment_endpoints};

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
    Created(JobRecord),
    /// An existing job that is not over.
    Unfinished(JobRecord),
    /// The job that was created with the plan's client request token. It is over.
    Over(JobRecord),
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
        }
    }

    /// Finds the job for this work, or creates one.
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
        };
        let found = match journal.create(new, self.force_new, now)? {
            JobCreation::Created(job) => return Ok(CreateOutcome::Created(job)),
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
        journal.replace_plan(&found.id, self.text.to_owned())?;
        Ok(CreateOutcome::Unfinished(JobRecord { plan_text: self.text.to_owned(), ..found }))
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

/// Returns the plan that a job was created from. Its ages are evaluated as of the job's creation, or as of the moment
/// the plan was saved.
///
/// # Errors
/// Returns an error if this version does not accept the plan, or if it is not the plan that was stored.
pub fn stored_plan(job: &JobRecord) -> Result<Plan, JobError> {
    let plan = read_plan(job)?;
    if plan.hash() != job.plan_hash {
        let what = "it does not match its recorded hash; the journal may be damaged".to_owned();
        return Err(JobError::StoredPlan { job: job.id.clone(), what });
    }
    Ok(plan)
}

/// Parses the plan text of a job.
fn read_plan(job: &JobRecord) -> Result<Plan, JobError> {
    let folder = job.plan_file.parent().unwrap_or(Path::new(""));
    let as_of = job.manifest_fingerprint.as_ref().map_or(job.created, |fingerprint| fingerprint.as_of);
    let (plan, problems) = plan::read_bytes(&show_path(&job.plan_file).to_string(), &job.plan_text, folder, as_of);
    let Some(mut plan) = plan else {
        let first = problems.iter().find(|problem| !problem.is_warning());
        let what = first.map_or_else(|| "it cannot be read".to_owned(), |problem| problem.title().to_owned());
        return Err(JobError::StoredPlan { job: job.id.clone(), what });
    };
    plan.restore_endpoints(job.store_identity.as_deref(), job.environment_endpoints.as_deref());
    Ok(plan)
}

/// Returns the plan to resume a job with. `text` is the current content of the plan file. If it describes the same
/// work, it is used, and replaces the stored plan. Without `text`, and for saved plans and retries, the stored plan is
/// used.
///
/// # Errors
/// Returns an error if the plan file now describes different work, or if one of the plans is not accepted.
pub fn plan_to_resume(journal: &Journal, job: &JobRecord, text: Option<&[u8]>) -> Result<Plan, JobError> {
    let stored = stored_plan(job)?;
    let uses_stored_plan = matches!(job.source, JobSource::Retry { .. }) || job.manifest_fingerprint.is_some();
    let Some(text) = text.filter(|_| !uses_stored_plan) else { return Ok(stored) };
    let renewed = JobRecord { plan_text: text.to_owned(), ..job.clone() };
    let plan = read_plan(&renewed)?;
    if plan.hash() != job.plan_hash {
        let changes = stored.canonical().changes(plan.canonical());
        return Err(JobError::PlanChanged { job: job.id.clone(), changes, token: false, running: false });
    }
    journal.replace_plan(&job.id, text.to_owned())?;
    Ok(plan)
}

/// The lease on a job, and the job's folder. Dropping it releases the lease.
#[derive(Debug)]
pub struct JobLease {
    /// The folder with the job's files.
    pub folder: JobFolder,
    job: JobId,
    _lease: FileLease,
}

impl Drop for JobLease {
    fn drop(&mut self) {
        info!(job = %self.job, "job lease released");
    }
}

impl JobLease {
    /// Takes the lease on a job, and creates the job's folder if there is none.
    ///
    /// # Errors
    /// Returns an error if another process holds the lease, or if the folder cannot be created.
    pub fn acquire(journal: &Journal, job: &JobId) -> Result<Self, JobError> {
        let mut tries = 0;
        loop {
            let folder = JobFolder::create(journal.state_folder(), job)?;
            tries += 1;
            match FileLease::acquire(folder.path()) {
                Ok(lease) => {
                    info!(%job, "job lease acquired");
                    return Ok(Self { folder, job: job.clone(), _lease: lease });
                }
                // Another process is deleting the job, and has just removed its folder.
                Err(LeaseError::Io(error)) if error.kind() == io::ErrorKind::NotFound && tries < 5 => {}
                Err(cause) => return Err(JobError::Lease { job: job.clone(), cause }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "name = \"p\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n\
        [manifest.prefix]\nbucket = \"bkt\"\nprefix = \"\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

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
            assert!(matches!(create(origin), CreateOutcome::Created(job) if job.source == *origin), "{origin:?}");
        }
        for origin in &origins {
            assert!(matches!(create(origin), CreateOutcome::Unfinished(job) if job.source == *origin), "{origin:?}");
        }
    }
}
