//! Everything that there is to say of a job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::desk::stored_plan;
use super::error::JobError;
use super::origin::from_report;
use crate::job::{JobId, JobStatus};
use crate::journal::{Delivery, ErrorCode, JobFolder, JobRecord, Journal, Lease, Origin, Reason};
use crate::manifest::{Frozen, ManifestError, Pin, Source};
use crate::plan::Plan;

/// A job, and all that is known of it.
#[derive(Debug)]
pub struct Description {
    /// What the journal says of it.
    pub job: JobRecord,
    /// Who works on it.
    pub presence: Presence,
    /// What it does; an error where this version does not accept its plan any more.
    pub plan: Result<Plan, JobError>,
    /// Its frozen manifest, once there is one; an error where that cannot be read.
    pub manifest: Result<Option<Frozen>, ManifestError>,
    /// The jobs that do again what failed in it, oldest first.
    pub retried_by: Vec<JobId>,
    /// Why objects failed, the most frequent reason first.
    pub failures: Vec<(ErrorCode, Reason)>,
    /// Its folder.
    pub folder: JobFolder,
    /// What is in there.
    pub files: Vec<Kept>,
}

/// Who works on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody, as it should be where the job stands.
    Nobody,
    /// Nobody, and somebody should: its process is gone.
    Interrupted,
    /// Whoever this is, in words.
    Held(String),
}

/// A file in a job's folder, or a folder in there and all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name; that of a folder ends in `/`.
    pub name: String,
    /// How many files it is.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// What became of a job's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportState {
    /// There is none yet: no object was attempted.
    Absent,
    /// It grows in the job's folder.
    Open,
    /// It is complete in the job's folder, where it stays.
    Kept,
    /// It is complete in the job's folder, and not yet where the plan wants it.
    Due,
    /// It is where the plan wants it.
    Published,
}

/// Gathers everything that there is to say of a job.
///
/// # Errors
/// When the job is gone, or the journal or the job's folder cannot be read.
pub fn describe(journal: &Journal, id: &JobId) -> Result<Description, JobError> {
    let (job, presence) = look(journal, journal.find(id.as_str())?)?;
    let folder = JobFolder::of(journal.state(), &job.id);
    let recorded = journal.recorded(job.number)?;
    let mut failures: Vec<_> = recorded.tally.reasons().map(|(code, reason)| (code.clone(), reason.clone())).collect();
    failures.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.count));
    Ok(Description {
        plan: stored_plan(&job),
        manifest: Frozen::open(folder.path()),
        retried_by: journal.retries_of(&job.id)?.into_iter().map(|job| job.id).collect(),
        failures,
        files: kept(folder.path())?,
        folder,
        job,
        presence,
    })
}

/// A job as it is now, and who works on it. As long as somebody does, nothing is in doubt: that is for the case that they are
/// gone.
///
/// # Errors
/// When the job is gone, or the journal or its lease cannot be read.
pub fn look(journal: &Journal, job: JobRecord) -> Result<(JobRecord, Presence), JobError> {
    let (job, presence) = seen(journal, job)?;
    let at_work = job.status.needs_holder() && matches!(presence, Presence::Held(_));
    let in_doubt = if at_work { 0 } else { job.in_doubt };
    Ok((JobRecord { in_doubt, ..job }, presence))
}

fn seen(journal: &Journal, job: JobRecord) -> Result<(JobRecord, Presence), JobError> {
    let folder = JobFolder::of(journal.state(), &job.id);
    let held = Lease::holder(folder.path())?;
    if held.is_some() || !job.status.needs_holder() {
        return Ok((job, held.map_or(Presence::Nobody, Presence::Held)));
    }
    // Whoever let go of it a moment ago has recorded where it stands before that.
    let job = journal.find(job.id.as_str())?;
    let presence = match Lease::holder(folder.path())? {
        Some(holder) => Presence::Held(holder),
        None if job.status.needs_holder() => Presence::Interrupted,
        None => Presence::Nobody,
    };
    Ok((job, presence))
}

impl Description {
    /// Objects that have an outcome, for each second of work; `None` where there was none.
    #[must_use]
    pub fn objects_per_second(&self) -> Option<f64> {
        let seconds = self.job.active.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let settled = self.job.progress.settled() as f64;
        (seconds > 0.0).then(|| settled / seconds)
    }

    /// Whether it was ever Active.
    #[must_use]
    pub fn was_active(&self) -> bool {
        let JobRecord { status, active, taken, .. } = &self.job;
        let tells = matches!(status, JobStatus::Active | JobStatus::Pausing | JobStatus::Complete);
        tells || !active.is_zero() || taken.is_some()
    }

    /// What its manifest was made from, once that is known.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.manifest.as_ref().ok()?.as_ref().map(Frozen::pin)
    }

    /// The manifest that its objects come from; `None` where they are those that an earlier job left.
    ///
    /// # Errors
    /// When this version does not accept its plan.
    pub fn source(&self) -> Result<Option<Source>, &JobError> {
        Ok(match &self.job.origin {
            Origin::Plan => Some(self.plan.as_ref()?.manifest.source.clone()),
            Origin::Retry { .. } => None,
            Origin::Report(report) => Some(from_report(report)),
        })
    }

    /// What became of its report.
    #[must_use]
    pub fn report(&self) -> ReportState {
        let place = self.plan.as_ref().ok().and_then(|plan| plan.report.place.as_ref());
        match self.job.delivery {
            Delivery::None if self.job.taken.is_none() => ReportState::Absent,
            Delivery::None => ReportState::Open,
            Delivery::Due => ReportState::Due,
            Delivery::Done if place.is_some() => ReportState::Published,
            Delivery::Done => ReportState::Kept,
        }
    }

    /// Where its report is, or is to be, in words: a URL or a path.
    #[must_use]
    pub fn report_place(&self) -> Option<String> {
        match self.report() {
            ReportState::Absent => None,
            ReportState::Open => Some(self.folder.report().display().to_string()),
            ReportState::Kept | ReportState::Due | ReportState::Published => self.job.place.clone(),
        }
    }
}

/// The entries of a folder by name, each folder summed up. What goes away meanwhile is not there.
fn kept(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (files, bytes) = weigh(&path)?;
        let end = if path.is_dir() { "/" } else { "" };
        found.push(Kept { name: format!("{name}{end}"), files, bytes });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// How many files there are, and their bytes. Links are not followed.
fn weigh(path: &Path) -> io::Result<(u64, u64)> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        found => found?,
    };
    if !found.is_dir() {
        return Ok((1, found.len()));
    }
    let (mut files, mut bytes) = (0, 0);
    for inner in entries(path)? {
        let (more, weight) = weigh(&inner)?;
        (files, bytes) = (files + more, bytes + weight);
    }
    Ok((files, bytes))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}
