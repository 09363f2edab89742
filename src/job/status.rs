//! The status of a job, and the legal moves between statuses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use batchplan_store::enum_with_all;

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

use JobStatus::{
    Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
    Ready, Suspended,
};

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
