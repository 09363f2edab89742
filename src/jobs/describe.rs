//! Gathers everything that is known about a job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use batchplan_store::error;

use super::error::JobError;
use super::report_source::report_source;
use super::stored_plan::stored_plan;
use crate::files::with_path;
use crate::job::{JobId, JobStatus};
use crate::journal::{FailureCode, FailureGroup, FileLease, JobFolder, JobRecord, JobSource, Journal, ReportDelivery};
use crate::manifest::{FrozenManifest, ManifestError, ManifestSource, SourcePin};
use crate::paths::path_to_text;
use crate::plan::Plan;

/// A job, and everything that is known about it.
#[derive(Debug)]
pub struct JobDescription {
    /// The journal's record of the job.
    pub job: JobRecord,
    /// Whether a process works on the job.
    pub presence: JobPresence,
    /// The job's plan; an error if this version does not accept it.
    pub plan: Result<Plan, JobError>,
    /// The frozen manifest: `None` before it exists, an error if it cannot be read.
    pub manifest: Result<Option<FrozenManifest>, ManifestError>,
    /// The jobs that retry what failed in this job, oldest first.
    pub retried_by: Vec<JobId>,
    /// Why objects failed, most frequent reason first.
    pub failures: Vec<(FailureCode, FailureGroup)>,
    /// The folder with the job's files.
    pub folder: JobFolder,
    /// The entries of that folder.
    pub files: Vec<JobFolderEntry>,
}

/// Whether a process works on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPresence {
    /// No process works on the job, and its status needs none.
    Unattended,
    /// No process works on the job, but its status needs one: the process is gone.
    Interrupted,
    /// A process works on the job. The value describes it for display.
    HeldBy(String),
}

/// An entry of a job's folder: a file, or a subfolder with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFolderEntry {
    /// The name of the entry. The name of a subfolder ends in `/`.
    pub name: String,
    /// The number of files; 1 if the entry is a file.
    pub files: u64,
    /// The total size of these files, in bytes.
    pub bytes: u64,
}

/// The state of a job's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportState {
    /// There is no report yet, because no object was attempted.
    Absent,
    /// The report is being written in the job's folder.
    Open,
    /// The report is complete in the job's folder, and stays there.
    Local,
    /// The report is complete in the job's folder, but not published yet.
    Unpublished,
    /// The report is published where the plan says.
    Published,
}

/// Gathers everything that is known about a job.
///
/// # Errors
/// Returns an error if the job does not exist, or if the journal or the job's folder cannot be read.
pub fn describe(journal: &Journal, id: &JobId) -> Result<JobDescription, JobError> {
    let (job, presence) = find_presence(journal, journal.find(id.as_str())?)?;
    let folder = JobFolder::of(journal.state_folder(), &job.id);
    let recorded = journal.recorded_progress(job.number)?;
    let mut failures: Vec<_> = recorded.tally.groups().map(|(code, reason)| (code.clone(), reason.clone())).collect();
    failures.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.count));
    Ok(JobDescription {
        plan: stored_plan(&job),
        manifest: FrozenManifest::open(folder.path()),
        retried_by: journal.retries_of(&job.id)?.into_iter().map(|job| job.id).collect(),
        failures,
        files: folder_entries(folder.path())?,
        folder,
        job,
        presence,
    })
}

/// Returns whether a retry of a job's failed and unattempted objects may end differently. It does not if every failure
/// is of a kind that happens again until the plan, the server or the objects themselves are others, and too many failures
/// were the reason why objects were not attempted.
#[must_use]
pub fn may_retry_succeed<'a>(job: &JobRecord, failures: impl IntoIterator<Item = &'a FailureCode>) -> bool {
    let mut codes = failures.into_iter().peekable();
    let was_cancelled = job.status == JobStatus::Cancelled && job.progress.remaining() > 0;
    let status = |code: &FailureCode| Some(code.http).filter(|http| *http != 0);
    was_cancelled || codes.peek().is_none() || codes.any(|code| !error::is_final(&code.code, status(code)))
}

/// Returns the job's current record, and whether a process works on the job. While one does, no object counts as in
/// doubt: that count applies only after the process is gone.
///
/// # Errors
/// Returns an error if the job does not exist, or if the journal or the lease cannot be read.
pub fn find_presence(journal: &Journal, job: JobRecord) -> Result<(JobRecord, JobPresence), JobError> {
    let (job, presence) = read_presence(journal, job)?;
    let at_work = job.status.needs_lease() && matches!(presence, JobPresence::HeldBy(_));
    let in_doubt = if at_work { 0 } else { job.in_doubt };
    Ok((JobRecord { in_doubt, ..job }, presence))
}

fn read_presence(journal: &Journal, job: JobRecord) -> Result<(JobRecord, JobPresence), JobError> {
    let folder = JobFolder::of(journal.state_folder(), &job.id);
    let held = FileLease::holder(folder.path())?;
    if held.is_some() || !job.status.needs_lease() {
        return Ok((job, held.map_or(JobPresence::Unattended, JobPresence::HeldBy)));
    }
    // A process records the final status before it releases the lease, so read the record again.
    let job = journal.find(job.id.as_str())?;
    let presence = match FileLease::holder(folder.path())? {
        Some(holder) => JobPresence::HeldBy(holder),
        None if job.status.needs_lease() => JobPresence::Interrupted,
        None => JobPresence::Unattended,
    };
    Ok((job, presence))
}

impl JobDescription {
    /// Returns the number of settled objects per second of active time; `None` if there was no active time.
    #[must_use]
    pub fn objects_per_second(&self) -> Option<f64> {
        let seconds = self.job.active_time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let settled = self.job.progress.finished() as f64;
        (seconds > 0.0).then(|| settled / seconds)
    }

    /// Returns how much of the job is settled, in percent; `None` if it has not started or is over.
    #[must_use]
    pub fn percent_finished(&self) -> Option<f64> {
        let JobRecord { status, progress, .. } = &self.job;
        if status.is_over() || progress.total == 0 || !self.was_active() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = progress.finished() as f64 / progress.total as f64;
        Some(share * 100.0)
    }

    /// Estimates how long the rest takes at the job's mean rate; `None` unless a process works on the objects.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let at_work = self.job.status == JobStatus::Active && matches!(self.presence, JobPresence::HeldBy(_));
        let rate = self.objects_per_second().filter(|rate| at_work && *rate > 0.0)?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = self.job.progress.remaining() as f64 / rate;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns whether the job was ever Active.
    #[must_use]
    pub fn was_active(&self) -> bool {
        let JobRecord { status, active_time: active, next_row: taken, .. } = &self.job;
        let tells = matches!(status, JobStatus::Active | JobStatus::Pausing | JobStatus::Complete);
        tells || !active.is_zero() || taken.is_some()
    }

    /// Returns what the manifest was made from, once that is known.
    #[must_use]
    pub fn pin(&self) -> Option<&SourcePin> {
        self.manifest.as_ref().ok()?.as_ref().map(FrozenManifest::pin)
    }

    /// Returns the manifest source of the job's objects; `None` if the job retries what an earlier job left.
    ///
    /// # Errors
    /// Returns an error if this version does not accept the job's plan.
    pub fn source(&self) -> Result<Option<ManifestSource>, &JobError> {
        Ok(match &self.job.source {
            JobSource::Plan => Some(self.plan.as_ref()?.manifest.source.clone()),
            JobSource::Retry { .. } | JobSource::Undo(_) => None,
            JobSource::Report(report) => Some(report_source(report)),
        })
    }

    /// Returns the state of the report.
    #[must_use]
    pub fn report_state(&self) -> ReportState {
        let place = self.plan.as_ref().ok().and_then(|plan| plan.report.location.as_ref());
        match self.job.report_delivery {
            ReportDelivery::None if self.job.next_row.is_none() => ReportState::Absent,
            ReportDelivery::None => ReportState::Open,
            ReportDelivery::Due => ReportState::Unpublished,
            ReportDelivery::Done if place.is_some() => ReportState::Published,
            ReportDelivery::Done => ReportState::Local,
        }
    }

    /// Returns where the report is or will be, as a URL or a path.
    #[must_use]
    pub fn report_location(&self) -> Option<String> {
        match self.report_state() {
            ReportState::Absent => None,
            ReportState::Open => Some(path_to_text(&self.folder.report_folder())),
            ReportState::Local | ReportState::Unpublished | ReportState::Published => self.job.report_location.clone(),
        }
    }
}

/// Lists the entries of a folder by name, with a total for each subfolder. Entries that disappear meanwhile count as
/// empty.
fn folder_entries(folder: &Path) -> io::Result<Vec<JobFolderEntry>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (files, bytes) = disk_usage(&path)?;
        let end = if path.is_dir() { "/" } else { "" };
        found.push(JobFolderEntry { name: format!("{name}{end}"), files, bytes });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Returns the number of files, and their total size in bytes. Symbolic links are not followed.
fn disk_usage(path: &Path) -> io::Result<(u64, u64)> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        found => found.map_err(with_path(path))?,
    };
    if !found.is_dir() {
        return Ok((1, found.len()));
    }
    let (mut files, mut bytes) = (0, 0);
    for inner in entries(path)? {
        let (more, weight) = disk_usage(&inner)?;
        (files, bytes) = (files + more, bytes + weight);
    }
    Ok((files, bytes))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries = entries.map_err(with_path(folder))?;
            entries.map(|entry| Ok(entry.map_err(with_path(folder))?.path())).collect()
        }
    }
}
