//! A copy of the journal as it is at one moment, while jobs are at work, for whoever keeps it elsewhere.

use std::path::Path;

use rusqlite::Connection;

use super::checkpoint::{ReportFile, files};
use super::db::{Journal, Problem, copy_database, open_database};
use super::error::JournalError;
use crate::job::{JobId, JobStatus};

/// A job as a copy of the journal has it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// The files of its report: of one that is open, more may be on the disk than is recorded here.
    pub files: Vec<ReportFile>,
}

impl Journal {
    /// Writes a copy to a file that is not there yet, and says which jobs are in it.
    ///
    /// # Errors
    /// When the journal cannot be read, or the copy not be written.
    pub async fn copy_to(&self, path: &Path) -> Result<Vec<Kept>, JournalError> {
        let path = path.to_owned();
        self.ask(move |connection| {
            copy_database(connection, &path)?;
            // Asked of the copy: another process may have written meanwhile.
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
