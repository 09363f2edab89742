//! The lease that a process takes to work on a job.

use std::io;

use tracing::info;

use super::error::JobError;
use crate::job::JobId;
use crate::journal::{FileLease, JobFolder, Journal, LeaseError};

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
