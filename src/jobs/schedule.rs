//! Whose turn it is: pure, and the same in every process that looks at the same journal.

use std::collections::BTreeSet;

use super::scope::Scope;
use crate::job::JobId;
use crate::journal::JobRecord;

/// A job that waits or works.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its id.
    pub id: JobId,
    /// Its place in the order of creation.
    pub number: i64,
    /// Higher goes first.
    pub priority: u32,
    /// What it may touch; anything, where that is not known.
    pub scope: Option<Scope>,
}

impl Candidate {
    /// As the journal knows it.
    #[must_use]
    pub fn of(job: &JobRecord) -> Self {
        let scope = job.scope.as_deref().and_then(Scope::from_text);
        Self { id: job.id.clone(), number: job.number, priority: job.priority, scope }
    }
}

/// How many may go, and beside whom.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Jobs that may be worked on at once.
    pub slots: usize,
    /// Whether jobs that may touch the same may be worked on at once.
    pub allow_overlap: bool,
}

/// Why a job must wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// So many jobs are being worked on, or go before it.
    Slots(usize),
    /// This job may touch the same objects, and is being worked on or goes before it.
    Overlap(JobId),
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slots(count) => write!(f, "{count} jobs are at work or go first"),
            Self::Overlap(job) => write!(f, "job {job} may touch the same objects and goes first"),
        }
    }
}

/// Whether `me` may go now, beside those that `work` and before or after the others that `wait`.
///
/// Those that wait go by priority, then by age, each as soon as there is a slot and nobody at work may touch the same; one
/// that is kept back for the latter keeps back no one else.
///
/// # Errors
/// Why it must wait.
pub fn may_go(me: &Candidate, wait: &[Candidate], work: &[Candidate], rules: Rules) -> Result<(), Waiting> {
    let mut line: Vec<&Candidate> = wait.iter().filter(|other| other.id != me.id).chain([me]).collect();
    line.sort_by_key(|candidate| (std::cmp::Reverse(candidate.priority), candidate.number));
    let mut going: Vec<&Candidate> = work.iter().collect();
    going.sort_by_key(|candidate| candidate.number);
    for candidate in line {
        let mine = candidate.id == me.id;
        if let Some(other) = going.iter().find(|other| !rules.allow_overlap && overlap(candidate, other)) {
            if mine {
                return Err(Waiting::Overlap(other.id.clone()));
            }
            continue;
        }
        if going.len() >= rules.slots {
            return Err(Waiting::Slots(going.len()));
        }
        if mine {
            return Ok(());
        }
        going.push(candidate);
    }
    Ok(())
}

fn overlap(one: &Candidate, other: &Candidate) -> bool {
    match (&one.scope, &other.scope) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => true,
    }
}

/// The jobs that may go now, those that go first first.
#[must_use]
pub fn going(wait: &[Candidate], work: &[Candidate], rules: Rules) -> Vec<JobId> {
    let mut line: Vec<&Candidate> = wait.iter().collect();
    line.sort_by_key(|candidate| (std::cmp::Reverse(candidate.priority), candidate.number));
    let busy: BTreeSet<_> = work.iter().map(|candidate| candidate.number).collect();
    line.into_iter()
        .filter(|candidate| !busy.contains(&candidate.number))
        .filter(|candidate| may_go(candidate, wait, work, rules).is_ok())
        .map(|candidate| candidate.id.clone())
        .collect()
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
