//! What is known to have happened: what a job leaves in its folder.

mod folder;
mod record;

pub use folder::JobFolder;
pub use record::JobRecord;
