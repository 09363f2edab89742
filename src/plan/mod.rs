//! The promise the user wrote: a plan file, parsed and checked into values the rest of the house can trust.
//!
//! It comes in three passes. `shape` says which tables and keys there are and reads them, with their places, by `walk`
//! and `leaf`; `check` applies the rules between keys and those of the provider; what remains is a [`Plan`]. Mistakes
//! are collected by all of them. Plan files are hostile input: `text` keeps them from driving the terminal and from
//! echoing a credential.
//!
//! `canonical` says what work a plan is, so that it is known again, and `change` what became of it; [`xml`] shows its
//! parts as OSS Batch Operations would, [`interchange`] makes the cloud services' own requests of it and a plan of them,
//! and [`policy`] says what its credentials must be allowed.

mod canonical;
mod change;
mod check;
mod cost;
mod defaults;
pub mod interchange;
mod leaf;
mod limits;
mod notify;
pub mod policy;
mod read;
mod shape;
mod share;
mod state_url;
mod text;
mod threshold;
mod walk;
pub mod xml;

use crate::completion::ReportSpec;
use crate::manifest::Manifest;
use crate::operation::{Operation, Operations};
use crate::store::StoreConfig;

pub use canonical::Canonical;
pub use change::Change;
pub use leaf::{parse_age, parse_moment};
pub use limits::{JobSettings, Limits, Prices, Recurring};
pub use notify::{Event, Hook, MAX_HOOKS, Target, parse_lapse};
pub use read::{MAX_PLAN_BYTES, read, read_bytes, schema};
pub use share::Share;
pub use state_url::{NotAState, StateUrl};
pub(crate) use text::{for_excerpts, nearest, shown};
pub use threshold::Threshold;

/// A checked plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name that, with the store, names the work.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Where.
    pub store: StoreConfig,
    /// Whether the server is trusted without having proven that it knows what the plan asks of it.
    pub skip_server_check: bool,
    /// Which objects.
    pub manifest: Manifest,
    /// What is done to each of them, in one pass; at least one.
    pub operations: Vec<Operation>,
    /// The report.
    pub report: ReportSpec,
    /// How the job is run.
    pub job: JobSettings,
    /// How hard it is run.
    pub limits: Limits,
    /// By which prices its cost is told beforehand.
    pub prices: Prices,
    /// Where its jobs are kept, unless the command line says it.
    pub state: Option<StateUrl>,
    /// Who is told of what becomes of the job.
    pub notify: Vec<Hook>,
    /// How it recurs, if it does.
    pub recurring: Option<Recurring>,
    /// What work it is.
    canonical: Canonical,
}

impl Plan {
    /// The operations as a job carries them out.
    #[must_use]
    pub fn operations(&self) -> Operations {
        Operations::new(self.operations.clone()).skipping_unchanged(self.job.skip_unchanged)
    }

    /// Whether the server must prove that it knows tags, ACLs and restores before it is trusted with writes.
    #[must_use]
    pub fn needs_server_check(&self) -> bool {
        !self.skip_server_check && !self.store.is_first_party()
    }
}
