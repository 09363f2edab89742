//! What whoever runs jobs decides, and no plan does.

use std::time::Duration;

use super::schedule::Rules;
use crate::engine::Rhythm;

/// What a stop leaves time for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Requests in flight.
    pub drain: Duration,
    /// The report on its way to its bucket.
    pub publish: Duration,
    /// Notifications that are not delivered yet.
    pub notify: Duration,
}

impl Patience {
    /// For a person.
    pub const OF_A_PERSON: Self =
        Self { drain: Duration::from_secs(30), publish: Duration::from_secs(30), notify: Duration::from_secs(15) };

    /// For a CI runner, which kills what has not left after some seven seconds.
    pub const OF_CI: Self =
        Self { drain: Duration::from_secs(5), publish: Duration::from_millis(1500), notify: Duration::from_secs(2) };

    /// For such a one where what was done must be sent elsewhere as well.
    pub const OF_CI_THAT_PUSHES: Self =
        Self { drain: Duration::from_secs(3), publish: Duration::from_secs(1), notify: Duration::from_secs(2) };
}

/// How many jobs are worked on at once, as in the managed service.
pub const SLOTS: usize = 6;

/// How jobs are run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What a stop leaves time for.
    pub patience: Patience,
    /// When checkpoints are made.
    pub rhythm: Rhythm,
    /// How many jobs go at once, and beside whom.
    pub rules: Rules,
    /// Whether a job whose manifest's source has changed goes on with the objects that were frozen.
    pub frozen_manifest: bool,
}
