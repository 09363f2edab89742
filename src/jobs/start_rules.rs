//! Decides which job may start next, by priority and by what jobs may change: two jobs that may change the same aspect
//! of the same objects run one after the other. This is pure, and gives the same result in every process that reads the
//! same journal.

use std::collections::BTreeSet;

use batchplan_store::object::{BucketName, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::job::JobId;
use crate::journal::JobRecord;
use crate::manifest::{FrozenManifest, KeyRange, KeyRanges};
use crate::operation::{ObjectAspect, Operation};
use crate::plan::Plan;

/// A job that waits or runs.
#[derive(Clone, Debug)]
pub struct ScheduleCandidate {
    /// The id of the job.
    pub id: JobId,
    /// The position of the job in the order of creation.
    pub number: i64,
    /// The priority. Higher values start first.
    pub priority: u32,
    /// What the job may change; `None` if unknown, which counts as everything.
    pub scope: Option<JobScope>,
}

impl ScheduleCandidate {
    /// Creates a candidate from the journal's record.
    #[must_use]
    pub fn of(job: &JobRecord) -> Self {
        let scope = job.scope.as_deref().and_then(JobScope::from_text);
        Self { id: job.id.clone(), number: job.number, priority: job.priority, scope }
    }
}

/// How many jobs may run at once, and which of them together.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleRules {
    /// The maximum number of jobs that run at once.
    pub slots: usize,
    /// Whether jobs that may change the same objects may run at once.
    pub allow_overlap: bool,
}

/// Why a job must wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// No slot is free. The value is the number of jobs that run or start earlier.
    Slots(usize),
    /// This job may change the same objects, and runs or starts earlier.
    Overlap(JobId),
}

impl std::fmt::Display for WaitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slots(1) => f.write_str("1 other job runs or starts first"),
            Self::Slots(count) => write!(f, "{count} other jobs run or start first"),
            Self::Overlap(job) => write!(f, "job {job} may change the same objects and runs first"),
        }
    }
}

/// Returns whether a job may start now, given the jobs that run and those that wait, which may include the job itself.
///
/// Waiting jobs start by priority, then by age, as soon as a slot is free and no running job may change the same
/// objects. A job that such an overlap holds back does not hold back other jobs.
///
/// # Errors
/// Returns the reason if the job must wait.
pub(super) fn check_start(
    job: &ScheduleCandidate,
    waiting: &[ScheduleCandidate],
    running: &[ScheduleCandidate],
    rules: ScheduleRules,
) -> Result<(), WaitReason> {
    let mut queue: Vec<&ScheduleCandidate> = waiting.iter().filter(|other| other.id != job.id).chain([job]).collect();
    queue.sort_by_key(|candidate| (std::cmp::Reverse(candidate.priority), candidate.number));
    let mut started: Vec<&ScheduleCandidate> = running.iter().collect();
    started.sort_by_key(|candidate| candidate.number);
    for candidate in queue {
        let is_job = candidate.id == job.id;
        if let Some(other) = started.iter().find(|other| !rules.allow_overlap && may_overlap(candidate, other)) {
            if is_job {
                return Err(WaitReason::Overlap(other.id.clone()));
            }
            continue;
        }
        if started.len() >= rules.slots {
            return Err(WaitReason::Slots(started.len()));
        }
        if is_job {
            return Ok(());
        }
        started.push(candidate);
    }
    // Not reached: the queue contains the job.
    Ok(())
}

/// Returns the running job that a job has to wait for, because both may change the same objects.
pub(super) fn blocking_job<'a>(job: &ScheduleCandidate, running: &'a [ScheduleCandidate]) -> Option<&'a JobId> {
    let blocking = running.iter().filter(|other| other.id != job.id && may_overlap(job, other));
    blocking.min_by_key(|other| other.number).map(|other| &other.id)
}

fn may_overlap(one: &ScheduleCandidate, other: &ScheduleCandidate) -> bool {
    match (&one.scope, &other.scope) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => true,
    }
}

/// Returns the jobs that may start now, in the order in which they start.
#[must_use]
pub(super) fn startable(
    waiting: &[ScheduleCandidate],
    running: &[ScheduleCandidate],
    rules: ScheduleRules,
) -> Vec<JobId> {
    let mut queue: Vec<&ScheduleCandidate> = waiting.iter().collect();
    queue.sort_by_key(|candidate| (std::cmp::Reverse(candidate.priority), candidate.number));
    // The lists are read one after the other, so that a job may be in both.
    let running_numbers: BTreeSet<_> = running.iter().map(|candidate| candidate.number).collect();
    queue
        .into_iter()
        .filter(|candidate| !running_numbers.contains(&candidate.number))
        .filter(|candidate| check_start(candidate, waiting, running, rules).is_ok())
        .map(|candidate| candidate.id.clone())
        .collect()
}

/// The aspects and objects that a job may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobScope {
    store: String,
    aspects: BTreeSet<ObjectAspect>,
    /// The ranges of keys; `None` if unknown.
    ranges: Option<Vec<EncodedKeyRange>>,
}

/// Keys are bytes and the journal stores text, so keys are URL-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EncodedKeyRange {
    bucket: String,
    first: String,
    last: String,
}

impl JobScope {
    /// Returns what a plan may change of the objects of its frozen manifest.
    #[must_use]
    pub fn of(plan: &Plan, frozen: &FrozenManifest) -> Self {
        let ranges = match frozen.key_ranges() {
            KeyRanges::Unknown => None,
            KeyRanges::Known(ranges) => Some(ranges.iter().map(EncodedKeyRange::encode).collect()),
        };
        let aspects = plan.operations.iter().map(Operation::aspect).collect();
        Self { store: plan.store_identity(), aspects, ranges }
    }

    /// Returns whether both may change the same aspect of the same object. Unknown ranges may contain any object.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.store == other.store
            && !self.aspects.is_disjoint(&other.aspects)
            && self.key_ranges().overlaps(&other.key_ranges())
    }

    /// Returns the text that the journal stores.
    ///
    /// # Errors
    /// Returns an error only if serializing to memory fails, which does not happen in practice.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Parses the text that the journal stores. Returns `None` if another version wrote it; the scope is then unknown.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn key_ranges(&self) -> KeyRanges {
        match &self.ranges {
            None => KeyRanges::Unknown,
            Some(ranges) => KeyRanges::Known(ranges.iter().map(EncodedKeyRange::decode).collect()),
        }
    }
}

impl EncodedKeyRange {
    fn encode(range: &KeyRange) -> Self {
        Self { bucket: range.bucket.to_string(), first: range.first.encoded(), last: range.last.encoded() }
    }

    fn decode(&self) -> KeyRange {
        KeyRange {
            bucket: BucketName::new(&self.bucket),
            first: ObjectKey::decode(self.first.as_bytes()),
            last: ObjectKey::decode(self.last.as_bytes()),
        }
    }
}

#[cfg(test)]
#[path = "start_rules_tests.rs"]
mod tests;
