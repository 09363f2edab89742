//! Completion reports, which list the outcome of every object: rows are written while the job runs, split into
//! segments, listed in `manifest.json`, and published under fixed keys.
//!
//! The stages are [`ReportWriter`] while the job runs, its [`Segment`]s when it ends, [`Report::save`] to complete
//! the folder, and [`publish()`] to send it. Each step can be repeated, and the folder alone is enough to publish
//! later with [`Report::load`].
//!
//! A job that must survive a crash takes checkpoints: [`ReportWriter::flush`], then [`Flushed::sync`], then it
//! records the [`Position`] with the rest of its state. [`ReportWriter::reopen`] resumes from there. A sealed file
//! whose position is recorded can be published early: call [`send_segment`], record that it is published, then call
//! [`free`].
//!
//! Files in the job's folder have the names that they have below the report's root in the bucket:
//!
//! | format | in the folder | in the bucket |
//! |---|---|---|
//! | OSS | `manifest.json`, `report-N.csv` | `<prefix>/<JobId>/results/…` |
//! | AWS | `manifest.json`, `results/<40 hex>.csv` | `<prefix>/job-<JobId>/…` |
//!
//! `segments.json` is specific to batchplan and is never sent. It stores what [`Report::load`] needs.

mod destination;
mod digest;
#[cfg(test)]
mod fixtures;
mod folder;
mod layout;
mod position;
mod publish;
mod reopen;
mod segment;
mod sidecar;
mod writer;

pub use destination::Destination;
pub use digest::{Digest, NotADigest};
pub use folder::{LoadError, Report};
pub use layout::MANIFEST_NAME;
pub use position::{Flushed, OpenFile, Position, ReportState};
pub use publish::{PublishError, Published, publish, send_segment, try_place};
pub use reopen::ReopenError;
pub use segment::{Segment, free};
pub use writer::{ROTATE_AT, ReportWriter};
