//! Where jobs are kept.

use std::path::{Path, PathBuf};

use clap::Args;

use super::shell;

/// Where jobs are kept unless somebody says otherwise.
const DEFAULT: &str = ".batchplan";

/// The folder of all jobs.
#[derive(Debug, Args)]
pub(super) struct State {
    /// Folder that keeps jobs: their frozen manifests and their reports
    #[arg(long, value_name = "DIR", env = "BATCHPLAN_STATE", default_value = DEFAULT)]
    pub(super) state: PathBuf,
}

impl State {
    /// What a command that is shown must say besides, so that it finds the same jobs.
    pub(super) fn flag(&self) -> String {
        if self.state == Path::new(DEFAULT) {
            return String::new();
        }
        format!(" --state {}", shell::path(&self.state))
    }
}
