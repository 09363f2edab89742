//! The formats of completion reports: their settings, rows, and the `manifest.json` that lists a report's files.
//!
//! Two formats are supported: OSS Batch Operations (`Report_CSV_20250901`) and S3 Batch Operations
//! (`Report_CSV_20180820`). This module is a layer below [`manifest`](crate::manifest) and `report`, because one of
//! them reads what the other writes. It only converts between values and bytes: it opens no files and sends no
//! requests.
//!
//! | file | what it does |
//! |---|---|
//! | `row` | encodes and decodes the rows of both formats |
//! | `manifest_json` | writes and parses `manifest.json` |
//! | `settings` | the settings of a report: destination, scope and format |

mod manifest_json;
mod row;
mod settings;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use batchplan_store::enum_with_all;
use batchplan_store::task::TaskOutcome;

pub use manifest_json::{ReportManifest, ReportManifestEntry, parse_report_manifest, report_manifest_json};
pub use row::{OperationNaming, ReportRow, ReportRowDecoder, ReportRowEncoder, format_for_column_count};
pub use settings::{ReportFormat, ReportLocation, ReportScope, ReportSpec};

enum_with_all! {
    /// Whether a row, or a whole report file, is about success or failure. A file never mixes the two.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum TaskStatus {
        /// Every operation on the object succeeded.
        Succeeded,
        /// One operation on the object failed.
        Failed,
    }
}

impl TaskStatus {
    /// Returns the status that an outcome is reported under.
    #[must_use]
    pub fn of(outcome: &TaskOutcome) -> Self {
        match outcome {
            TaskOutcome::Succeeded { .. } => Self::Succeeded,
            TaskOutcome::Failed(_) => Self::Failed,
        }
    }

    /// Returns the name used in rows (AWS) and in `manifest.json` (both services).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// Formats a timestamp as OSS does: UTC, whole seconds, `Z`.
fn format_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a timestamp as AWS does: UTC, milliseconds, `Z`.
fn format_milliseconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
