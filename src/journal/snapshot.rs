//! A consistent copy of the journal at one moment, made while jobs are running. Remote state uses it.

use std::path::Path;

use rusqlite::Connection;

use super::checkpoint::{ReportFileRecord, report_files};
use super::db::{DatabaseCommandError, Journal, copy_database, open_database};
use super::error::JournalError;
use crate::job::{JobId, JobStatus};

/// A job in a copy of the journal.
#[derive(Clone, Debug)]
pub struct JournalCopyJob {
    /// The job's id.
    pub id: JobId,
    /// The job's status in the copy.
    pub status: JobStatus,
    /// The files of the job's report. An open file may have more bytes on disk than recorded here.
    pub files: Vec<ReportFileRecord>,
}

impl Journal {
    /// Writes a copy to a new file. Returns the jobs in it.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or the copy cannot be written.
    pub async fn copy_to(&self, path: &Path) -> Result<Vec<JournalCopyJob>, JournalError> {
        let path = path.to_owned();
        self.run(move |connection| {
            copy_database(connection, &path)?;
            // Query the copy: another process may have written to the journal meanwhile.
            jobs_in_copy(&open_database(&path)?)
        })
        .await
    }
}

fn jobs_in_copy(copy: &Connection) -> Result<Vec<JournalCopyJob>, DatabaseCommandError> {
    let mut statement = copy.prepare("SELECT number, id, status FROM job ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let (id, status) = (super::record::parsed_column(row, "id")?, super::record::parsed_column(row, "status")?);
        jobs.push(JournalCopyJob { id, status, files: report_files(copy, number)? });
    }
    Ok(jobs)
}
