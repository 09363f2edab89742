//! Where a job keeps its files: `<state>/jobs/<JobId>/`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::files::{about, create_anew, create_own_folder, refuse_link};
use crate::job::JobId;

/// The folder in the state folder that keeps the jobs' folders.
pub(super) const JOBS: &str = "jobs";

/// The jobs that have a folder in this state folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn folders(state: &Path) -> io::Result<Vec<JobId>> {
    let place = JobFolder::all(state);
    refuse_link(&place).map_err(about(&place))?;
    let entries = match fs::read_dir(&place) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(about(&place))?,
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.collect())
}

/// One job's folder.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// Makes the folder of a new job.
    ///
    /// # Errors
    /// When it cannot be made, with its path in the message.
    pub fn create(state: &Path, job: &JobId) -> io::Result<Self> {
        let jobs = Self::all(state);
        refuse_link(&jobs).map_err(about(&jobs))?;
        let folder = Self::of(state, job);
        create_own_folder(&folder.path).map_err(about(&folder.path))?;
        Ok(folder)
    }

    /// The folder of all jobs' folders.
    #[must_use]
    pub fn all(state: &Path) -> PathBuf {
        state.join(JOBS)
    }

    /// The folder of a job that was made before; it may be gone.
    #[must_use]
    pub fn of(state: &Path, job: &JobId) -> Self {
        Self { path: Self::all(state).join(job.as_str()) }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plan's text as it was when the job was made.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.toml")
    }

    /// Keeps the plan's text.
    ///
    /// # Errors
    /// When it cannot be written, with its path in the message.
    pub fn keep_plan(&self, text: &[u8]) -> io::Result<()> {
        let path = self.plan();
        create_anew(&path).and_then(|mut file| file.write_all(text)).map_err(about(&path))
    }

    /// The completion report.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.path.join("report")
    }

    /// Removes the folder of a job that never ran.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path).map_err(about(&self.path))
    }
}
