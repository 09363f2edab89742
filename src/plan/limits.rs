//! How a job is run, and how hard: the parts of a plan that are not what it does.

use std::path::PathBuf;

use super::Share;
use crate::money::Money;

/// A plan's `[job]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// From 0 to 2147483647; higher is sooner out of the queue, and has more of the request budget.
    pub priority: u32,
    /// Whether `apply` asks before it changes anything.
    pub confirmation_required: bool,
    /// The user's own name for the job, 1 to 64 characters: the same token and plan is the same job.
    pub client_request_token: Option<String>,
    /// Whether each object is read first, and written to only where something changes.
    pub skip_unchanged: bool,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { priority: 0, confirmation_required: true, client_request_token: None, skip_unchanged: false }
    }
}

/// A plan's `[limits]`, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at once, from 1.
    pub concurrency: u32,
    /// Requests a second, retries included; `None` is no cap.
    pub requests_per_second: Option<u32>,
    /// The share of a job's objects that may fail before the job does.
    pub failure_threshold: Share,
    /// The most bytes that a job's frozen manifest may take on this machine, from 1; `None` is no limit.
    pub max_disk: Option<u64>,
    /// The most objects that a job may have, from 1; `None` is no limit.
    pub max_objects: Option<u64>,
    /// The most that a job may cost by its estimate; `None` is no limit.
    pub max_cost: Option<Money>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            requests_per_second: None,
            failure_threshold: Share::percent(20),
            max_disk: None,
            max_objects: None,
            max_cost: None,
        }
    }
}

/// A plan's `[recurring]`, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recurring {
    /// Whether only what has changed since the last completed inventory is worked on, and what failed then.
    pub only_changed: bool,
}

/// A plan's `[prices]`, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// The entry of the price book that holds, whatever the region; `None` takes the one of the store's region.
    pub book: Option<String>,
    /// A price book beside the shipped one.
    pub file: Option<PathBuf>,
}
