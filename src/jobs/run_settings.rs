//! How jobs are run: time limits after a stop, checkpoints, slots, and the rules that plans must keep.

use std::sync::Arc;
use std::time::Duration;

use super::start_rules::ScheduleRules;
use crate::engine::CheckpointPolicy;
use crate::plan_rules::PlanRules;

/// How long unfinished work may take after a stop.
#[derive(Clone, Copy, Debug)]
pub struct StopTimeouts {
    /// For requests in flight.
    pub drain: Duration,
    /// For uploading the report to its bucket.
    pub publish: Duration,
    /// For notifications that are not delivered yet.
    pub notify: Duration,
}

impl StopTimeouts {
    /// For interactive use.
    pub const INTERACTIVE: Self =
        Self { drain: Duration::from_secs(30), publish: Duration::from_secs(30), notify: Duration::from_secs(15) };

    /// For a CI runner, which kills processes about seven seconds after a stop.
    pub const CI: Self =
        Self { drain: Duration::from_secs(5), publish: Duration::from_millis(1500), notify: Duration::from_secs(2) };

    /// For a CI runner where the process must also push its state to a bucket.
    pub const CI_WITH_PUSH: Self =
        Self { drain: Duration::from_secs(3), publish: Duration::from_secs(1), notify: Duration::from_secs(2) };
}

/// The default number of jobs that run at once, as in the managed service.
pub const DEFAULT_SLOTS: usize = 6;

/// How to run jobs.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// How long unfinished work may take after a stop.
    pub timeouts: StopTimeouts,
    /// When to write checkpoints.
    pub checkpoint_policy: CheckpointPolicy,
    /// How many jobs run at once, and which of them together.
    pub rules: ScheduleRules,
    /// Whether to resume a job with its frozen objects if the source of the manifest has changed.
    pub frozen_manifest: bool,
    /// The rules that the plan of each job must keep, if there are any.
    pub plan_rules: Option<Arc<PlanRules>>,
}
