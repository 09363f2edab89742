//! The wire form of completion reports: rows and the `manifest.json` that lists their files.
//!
//! Two services' forms are known: OSS Batch Operations' (`Report_CSV_20250901`) and S3 Batch Operations'
//! (`Report_CSV_20180820`). The room stands below [`manifest`](crate::manifest) and `report`, because the one reads
//! what the other writes. Everything here is text to bytes and back: no file is opened and nothing is sent.

mod decode;
pub mod escape;
mod listing;
mod row;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::task::Outcome;
use crate::variants::enum_with_all;

pub use decode::{ReportRow, RowDecoder, column_count, format_of_columns};
pub use listing::{ListedFile, Listing, manifest_json, read_manifest_json};
pub use row::{Naming, RowEncoder};

enum_with_all! {
    /// Whether a row, or a whole report file, tells of success or of failure. A file never mixes the two.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum TaskStatus {
        /// Every operation holds.
        Succeeded,
        /// One does not.
        Failed,
    }
}

impl TaskStatus {
    /// The status that an outcome is reported under.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded { .. } => Self::Succeeded,
            Outcome::Failed(_) => Self::Failed,
        }
    }

    /// The name in rows (AWS) and in `manifest.json` (both).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A moment as OSS writes it: UTC, whole seconds, `Z`.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A moment as AWS writes it: UTC, milliseconds, `Z`.
fn milliseconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
