//! A job's id, its status and its counts.

mod status;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use status::{JobStatus, ParseJobStatusError};

/// A job's id: 44 characters of base64, the same form as OSS's own job ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// Generates a new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(STANDARD.encode(uuid::Uuid::new_v4().simple().to_string()))
    }

    /// Returns the id as used in paths, reports and messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a valid job id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 44 characters of base64")]
pub struct ParseJobIdError;

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, ParseJobIdError> {
        // The id becomes a folder name and a report prefix, so only the exact form is accepted.
        let hex = STANDARD.decode(text).map_err(|_| ParseJobIdError)?;
        let hex_digits = hex.iter().all(u8::is_ascii_hexdigit);
        if hex.len() == 32 && hex_digits && !text.contains(['/', '+']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseJobIdError)
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = ParseJobIdError;

    fn try_from(text: String) -> Result<Self, ParseJobIdError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// How many objects a job has, and how many of them succeeded or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The number of rows in the frozen manifest.
    pub total: u64,
    /// The number of objects on which every operation succeeded.
    pub succeeded: u64,
    /// The number of objects on which an operation failed.
    pub failed: u64,
}

impl Progress {
    /// Returns the number of objects that have an outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Returns the number of objects without an outcome.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_form_of_the_services_and_survives_a_round_trip() {
        let id = JobId::random();
        assert_eq!(id.as_str().len(), 44);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!("ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse::<JobId>().is_ok());
    }

    #[test]
    fn a_path_is_not_an_id() {
        for text in ["", "..", "../../etc/passwd", "a/b", &"A".repeat(44)] {
            assert_eq!(text.parse::<JobId>(), Err(ParseJobIdError), "{text}");
        }
    }
}
