//! A job's files, in `<state>/jobs/<JobId>/`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::files::{create_folder, reject_symlink, with_path};
use crate::job::JobId;

/// The folder in the state folder that holds the jobs' folders.
pub(super) const JOBS_FOLDER: &str = "jobs";

/// Returns the jobs that have a folder in this state folder.
///
/// # Errors
/// Returns an error if the folder cannot be read.
pub fn list_job_folders(state: &Path) -> io::Result<Vec<JobId>> {
    let place = JobFolder::jobs_folder(state);
    reject_symlink(&place).map_err(with_path(&place))?;
    let entries = match fs::read_dir(&place) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(with_path(&place))?,
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.collect())
}

/// The folder of one job.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// Creates the folder of a new job.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created. The message contains its path.
    pub fn create(state: &Path, job: &JobId) -> io::Result<Self> {
        let jobs = Self::jobs_folder(state);
        reject_symlink(&jobs).map_err(with_path(&jobs))?;
        let folder = Self::of(state, job);
        create_folder(&folder.path).map_err(with_path(&folder.path))?;
        Ok(folder)
    }

    /// Returns the folder that holds the jobs' folders.
    #[must_use]
    pub fn jobs_folder(state: &Path) -> PathBuf {
        state.join(JOBS_FOLDER)
    }

    /// Returns the folder of an existing job. The folder itself may no longer exist.
    #[must_use]
    pub fn of(state: &Path, job: &JobId) -> Self {
        Self { path: Self::jobs_folder(state).join(job.as_str()) }
    }

    /// Returns the path of the job's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the folder with the completion report.
    #[must_use]
    pub fn report_folder(&self) -> PathBuf {
        self.path.join("report")
    }

    /// Returns the path of the folder with the captures: what the objects were like before the job changed them.
    #[must_use]
    pub fn captures_folder(&self) -> PathBuf {
        self.path.join("captures")
    }

    /// Removes the folder of a job that never ran.
    ///
    /// # Errors
    /// Returns an error if a file in the folder cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path).map_err(with_path(&self.path))
    }
}
