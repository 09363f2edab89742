//! What the user is told of every object: rows written as the job runs, sealed into segments, listed in
//! `manifest.json`, and published under fixed keys.
//!
//! The road is [`ReportWriter`] while the job runs, its [`Segment`]s when it ends, [`Report::save`] to make the folder
//! whole, and [`publish()`] to send it. Each step is harmless to repeat, and the folder alone is enough to publish
//! later: [`Report::load`].
//!
//! A job that must survive a crash takes checkpoints on the way: [`ReportWriter::flush`], [`Flushed::sync`], and the
//! [`Position`] recorded with what else is known of the job; [`ReportWriter::reopen`] goes on from there. A sealed file
//! whose position is recorded may leave at once: [`send_segment`], its being published recorded too, then [`free`].
//!
//! Files lie in the job's folder under the names they have below the report's root in the bucket:
//!
//! | format | in the folder | in the bucket |
//! |---|---|---|
//! | OSS | `manifest.json`, `report-N.csv` | `<prefix>/<JobId>/results/…` |
//! | AWS | `manifest.json`, `results/<40 hex>.csv` | `<prefix>/job-<JobId>/…` |
//!
//! `segments.json` is ours alone and is never sent: it remembers what [`Report::load`] needs.

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
