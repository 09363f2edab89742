//! What the user is told of every object: rows written as the job runs, sealed into segments, listed in
//! `manifest.json`, and published under fixed keys.
//!
//! The road is [`ReportWriter`] while the job runs, its [`Segment`]s when it ends, [`Report::save`] to make the folder
//! whole, and [`publish()`] to send it. Each step is harmless to repeat, and the folder alone is enough to publish
//! later: [`Report::load`].
//!
//! Files lie in the job's folder under the names they have below the report's root in the bucket:
//!
//! | format | in the folder | in the bucket |
//! |---|---|---|
//! | OSS | `manifest.json`, `report-N.csv` | `<prefix>/<JobId>/results/…` |
//! | AWS | `manifest.json`, `results/<40 hex>.csv` | `<prefix>/job-<JobId>/…` |
//!
//! `segments.json` is ours alone and is never sent: it remembers what [`Report::load`] needs.

mod digest;
mod folder;
mod layout;
mod publish;
mod segment;
mod writer;

pub use digest::Digest;
pub use folder::{LoadError, Report};
pub use layout::MANIFEST_NAME;
pub use publish::{PublishError, Published, publish};
pub use segment::Segment;
pub use writer::{OpenLength, Position, ROTATE_AT, ReportWriter};
