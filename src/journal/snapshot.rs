//! A consistent copy of the journal at one moment, made while jobs are running. Remote state uses it.

use std::path::Path;

use rusqlite::Connection;

use super::checkpoint::{ReportFile, files};
use super::db::{Journal, Problem, copy_database, open_database};
use super::error::JournalError;
use crate::job::{JobId, JobStatus};

/// A job in a copy of the journal.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The job's id.
    pub id: JobId,
    /// The job's status in the copy.
    pub status: JobStatus,
    /// The files of the job's report. An open file may have more bytes on disk than recorded here.
    pub files: Vec<ReportFile>,
}

impl Journal {
    /// Writes a copy to a new file. Returns the jobs in it.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or the copy cannot be written.
    pub async fn copy_to(&self, path: &Path) -> Result<Vec<Kept>, JournalError> {
        let path = path.to_owned();
        self.ask(move |connection| {
            copy_database(connection, &path)?;
            // Query the copy: another process may have written to the journal meanwhile.
            jobs(&open_database(&path)?)
        })
        .await
    }
}

fn jobs(copy: &Connection) -> Result<Vec<Kept>, Problem> {
    let mut statement = copy.prepare("SELECT number, id, status FROM job ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let (id, status) = (super::record::parsed(row, "id")?, super::record::parsed(row, "status")?);
        jobs.push(Kept { id, status, files: files(copy, number)? });
    }
    Ok(jobs)
}
