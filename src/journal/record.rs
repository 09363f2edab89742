//! What is written of a job as a whole: `job.json` in its folder.

use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{about, write_at_once};
use crate::job::{JobId, JobStatus, Progress};

/// The file's name.
const NAME: &str = "job.json";

/// One job, in the small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The plan file that it came from, absolute: relative paths in the plan are resolved against its folder.
    pub plan_file: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Where it stands.
    pub status: JobStatus,
    /// Its counts.
    pub progress: Progress,
}

impl JobRecord {
    /// Writes the record; a reader sees the old one or the new one, never half of one.
    ///
    /// # Errors
    /// When the file cannot be written, with its path in the message.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_at_once(folder, NAME, text.as_bytes()).map_err(about(&folder.join(NAME)))
    }

    /// Reads the record of a job's folder.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let text = fs::read_to_string(&path).map_err(about(&path))?;
        serde_json::from_str(&text).map_err(|error| about(&path)(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_a_broken_one_names_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = JobRecord {
            id: JobId::random(),
            plan_file: "/plans/a.toml".into(),
            created: Timestamp::UNIX_EPOCH,
            status: JobStatus::Active,
            progress: Progress { total: 3, succeeded: 1, failed: 0 },
        };
        record.save(folder.path()).expect("saved");
        assert_eq!(JobRecord::load(folder.path()).expect("loaded"), record);
        fs::write(folder.path().join("job.json"), "{").expect("written");
        let error = JobRecord::load(folder.path()).expect_err("broken");
        assert!(error.to_string().contains("job.json"), "{error}");
    }
}
