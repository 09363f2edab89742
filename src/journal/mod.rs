//! What is known to have happened: which rows of the frozen manifest are settled, and what a job leaves in its folder.

mod folder;
mod frontier;
mod record;

pub use folder::JobFolder;
pub use frontier::Frontier;
pub use record::JobRecord;
