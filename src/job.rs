//! A job's id, its counts, its status, and the legal moves between statuses.

use std::fmt;
use std::str::FromStr;

use JobStatus::{
    Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
    Ready, Suspended,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::enum_with_all;
use serde::{Deserialize, Serialize};

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

    /// Returns the span of the log that work on this job belongs to.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("job", id = %self)
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
#[error("a job ID is 44 characters of base64")]
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
    /// How many of the objects that succeeded were already as the plan wants them, so that nothing was written.
    #[serde(default)]
    pub unchanged: u64,
}

impl Progress {
    /// Returns the number of objects that have an outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Returns the number of objects that were written successfully.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.succeeded.saturating_sub(self.unchanged)
    }

    /// Returns the number of objects without an outcome.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.finished())
    }
}

enum_with_all! {
    /// The status of a job, with the names that the managed services use.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum JobStatus {
        /// Created; no work was done yet.
        New,
        /// The manifest is being resolved, checked and counted.
        Preparing,
        /// Waits for confirmation.
        Suspended,
        /// Confirmed; waits for a slot.
        Ready,
        /// Objects are being processed.
        Active,
        /// Takes no more objects; requests in flight are finished.
        Pausing,
        /// Stopped before its end; can be resumed.
        Paused,
        /// Every object was attempted; some may have failed.
        Complete,
        /// It was cancelled; requests in flight are finished and the report is completed.
        Cancelling,
        /// Cancelled; some objects may have been changed.
        Cancelled,
        /// Too many objects failed, or the job cannot be done at all; requests in flight are finished and the report
        /// is completed.
        Failing,
        /// Failed; some objects may have been changed.
        Failed,
        /// Its files are being removed. Never shown.
        Cleaning,
        /// Its files are removed. Never shown.
        Cleaned,
    }
}

/// Every legal move. Any other move is rejected.
const LEGAL_MOVES: [(JobStatus, &[JobStatus]); JobStatus::ALL.len()] = [
    (New, &[Preparing, Cancelling, Failing]),
    (Preparing, &[Suspended, Ready, Cancelling, Failing]),
    (Suspended, &[Ready, Cancelling, Failing]),
    (Ready, &[Active, Paused, Cancelling, Failing]),
    (Active, &[Pausing, Complete, Cancelling, Failing]),
    (Pausing, &[Paused, Complete, Cancelling, Failing]),
    (Paused, &[Ready, Cancelling]),
    (Complete, &[Cleaning]),
    (Cancelling, &[Cancelled]),
    (Cancelled, &[Cleaning]),
    (Failing, &[Failed]),
    (Failed, &[Cleaning]),
    (Cleaning, &[Cleaned]),
    (Cleaned, &[]),
];

impl JobStatus {
    /// Returns whether a job may move from this status to `next`.
    #[must_use]
    pub fn can_become(self, next: Self) -> bool {
        LEGAL_MOVES.iter().any(|(from, to)| *from == self && to.contains(&next))
    }

    /// Returns whether the job has ended: no more work will be done for it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Complete | Cancelled | Failed | Cleaning | Cleaned)
    }

    /// Returns whether a process must be working on a job in this status. If none is, the job was interrupted.
    #[must_use]
    pub fn needs_lease(self) -> bool {
        matches!(self, New | Preparing | Active | Pausing | Cancelling | Failing)
    }

    /// Returns whether a job in this status takes one of the slots while a process works on it.
    #[must_use]
    pub fn takes_slot(self) -> bool {
        matches!(self, Active | Pausing)
    }

    /// Returns the name as used in the journal, in JSON and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            New => "New",
            Preparing => "Preparing",
            Suspended => "Suspended",
            Ready => "Ready",
            Active => "Active",
            Pausing => "Pausing",
            Paused => "Paused",
            Complete => "Complete",
            Cancelling => "Cancelling",
            Cancelled => "Cancelled",
            Failing => "Failing",
            Failed => "Failed",
            Cleaning => "Cleaning",
            Cleaned => "Cleaned",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not the name of a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected one of New, Preparing, Suspended, Ready, Active, Pausing, Paused, Complete, Cancelling, Cancelled, \
     Failing, Failed"
)]
pub struct ParseJobStatusError;

impl FromStr for JobStatus {
    type Err = ParseJobStatusError;

    fn from_str(text: &str) -> Result<Self, ParseJobStatusError> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text)).ok_or(ParseJobStatusError)
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

    /// Rows and columns are in the order of `ALL`: `x` where the move is legal.
    const TABLE: [&str; 14] = [
        // NwPrSuRdAcPgPdCoCgCdFgFdClCd
        ".x......x.x...", // New
        "..xx....x.x...", // Preparing
        "...x....x.x...", // Suspended
        "....x.x.x.x...", // Ready
        ".....x.xx.x...", // Active
        "......xxx.x...", // Pausing
        "...x....x.....", // Paused
        "............x.", // Complete
        ".........x....", // Cancelling
        "............x.", // Cancelled
        "...........x..", // Failing
        "............x.", // Failed
        ".............x", // Cleaning
        "..............", // Cleaned
    ];

    #[test]
    fn every_pair_is_legal_exactly_where_the_table_says_so() {
        for (from, row) in JobStatus::ALL.into_iter().zip(TABLE) {
            for (to, cell) in JobStatus::ALL.into_iter().zip(row.chars()) {
                assert_eq!(from.can_become(to), cell == 'x', "{from} -> {to}");
            }
        }
    }

    #[test]
    fn every_status_comes_from_new_and_leads_to_an_end() {
        let mut reached = vec![New];
        while let Some(next) = JobStatus::ALL
            .into_iter()
            .find(|status| !reached.contains(status) && reached.iter().any(|from| from.can_become(*status)))
        {
            reached.push(next);
        }
        assert_eq!(reached.len(), JobStatus::ALL.len());
        for status in JobStatus::ALL.into_iter().filter(|status| *status != Cleaned) {
            assert!(JobStatus::ALL.into_iter().any(|next| status.can_become(next)), "{status} is a trap");
            let over_next = JobStatus::ALL.into_iter().any(|next| status.can_become(next) && !next.is_over());
            assert_eq!(status.is_over(), !over_next && status != Cancelling && status != Failing, "{status}");
        }
    }

    #[test]
    fn names_are_read_back_in_any_case() {
        for status in JobStatus::ALL {
            assert_eq!(status.as_str().to_lowercase().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.as_str());
        }
        assert_eq!("Running".parse::<JobStatus>(), Err(ParseJobStatusError));
    }
}
