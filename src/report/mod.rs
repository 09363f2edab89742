//! Completion reports, which list the outcome of every object: rows are written while the job runs, split into
//! segments, listed in `manifest.json`, and published under fixed keys.
//!
//! The stages are [`ReportWriter`] while the job runs, its [`ReportSegment`]s when it ends, [`FinishedReport::save`]
//! to complete the folder, and [`publish()`] to send it. Each step can be repeated, and the folder alone is enough to
//! publish later with [`FinishedReport::load`].
//!
//! A job that must survive a crash takes checkpoints: [`ReportWriter::flush`], then [`UnsyncedReportPosition::sync`],
//! then it records the [`ReportPosition`] with the rest of its state. [`ReportWriter::resume`] resumes from there. A
//! sealed file whose position is recorded can be published early: call [`send_segment`], record that it is published,
//! then call [`remove_local_file`].
//!
//! Files in the job's folder have the names that they have below the report's root in the bucket:
//!
//! | format | in the folder | in the bucket |
//! |---|---|---|
//! | OSS | `manifest.json`, `report-N.csv` | `<prefix>/<JobId>/results/…` |
//! | AWS | `manifest.json`, `results/<40 hex>.csv` | `<prefix>/job-<JobId>/…` |
//!
//! `segments.json` is specific to batchplan and is never sent. It stores what [`FinishedReport::load`] needs.
//!
//! | file | what it does |
//! |---|---|
//! | `writer` | writes rows while the job runs, and resumes at a recorded position |
//! | `segment` | a sealed file: its names in the folder and in the bucket, and its MD5 |
//! | `finished` | a finished report, its `segments.json`, and where it is published |
//! | `publish` | sends a report to its bucket |

mod finished;
#[cfg(test)]
mod fixtures;
mod publish;
mod segment;
mod writer;

pub use finished::{FinishedReport, ReportDestination, ReportLoadError};
pub use publish::{PublishedReport, ReportPublishError, check_report_location, publish, send_segment};
pub use segment::{InvalidMd5Error, MANIFEST_NAME, Md5Digest, ReportSegment, remove_local_file};
pub use writer::{
    OpenReportFile, ROTATE_AT, RecordedReport, ReportPosition, ReportResumeError, ReportWriter, UnsyncedReportPosition,
};
