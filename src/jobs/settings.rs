//! Settings that the process chooses when it runs jobs, not the plan.

use std::time::Duration;

use super::schedule::Rules;
use crate::engine::Rhythm;

/// How long unfinished work may take after a stop.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For requests in flight.
    pub drain: Duration,
    /// For uploading the report to its bucket.
    pub publish: Duration,
    /// For notifications that are not delivered yet.
    pub notify: Duration,
}

impl Patience {
    /// For interactive use.
    pub const OF_A_PERSON: Self =
        Self { drain: Duration::from_secs(30), publish: Duration::from_secs(30), notify: Duration::from_secs(15) };

    /// For a CI runner, which kills processes about seven seconds after a stop.
    pub const OF_CI: Self =
        Self { drain: Duration::from_secs(5), publish: Duration::from_millis(1500), notify: Duration::from_secs(2) };

    /// For a CI runner where the process must also push its state to a bucket.
    pub const OF_CI_THAT_PUSHES: Self =
        Self { drain: Duration::from_secs(3), publish: Duration::from_secs(1), notify: Duration::from_secs(2) };
}

/// The default number of jobs that run at once, as in the managed service.
pub const SLOTS: usize = 6;

/// How to run jobs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long unfinished work may take after a stop.
    pub patience: Patience,
    /// When to write checkpoints.
    pub rhythm: Rhythm,
    /// How many jobs run at once, and which of them together.
    pub rules: Rules,
    /// Whether to resume a job with its frozen objects if the source of the manifest has changed.
    pub frozen_manifest: bool,
}
