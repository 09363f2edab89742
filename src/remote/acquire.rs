//! How the lock of a state is acquired, as decisions alone: which request comes next, and what its answer means.
//!
//! Nothing here does I/O or reads a clock, so that a test can explore every interleaving of several processes with the code
//! that the program runs. `lock` carries the requests out.
//!
//! 1. List the heads, then the locks. The number of the lock to create follows from these two listings and from no later
//!    one: the next beyond all of them. The heads come first: a holder creates its lock before its first head, so that no
//!    head is seen whose lock is not.
//! 2. Judge the newest lock of that listing. It is free if it was released, has run out, or is the claim of this very mirror.
//! 3. Create the lock of that number, on condition that there is none, and no other. If there is one, start again at 1.
//! 4. Create it again, which must be refused: otherwise the store ignores the condition.
//! 5. List the locks once more. Any that was not there when the newest was judged, on either side of ours, belongs to another
//!    process that did the same meanwhile. Then start again at 1.
//!
//! Two processes that judged one listing create one name, and the store lets one of them. Two that judged different listings
//! may create two names; each lists after it has created, so at least one of the two sees the other and starts again. The lock
//! that it leaves is neither released nor removed: released, it would hide a lower one that is held; and a removal that arrives
//! late could strike a later lock of the same number. It runs out, or the next holder clears it away.

use crate::store::Created;

/// What matters of a lock that was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LockFacts<Id> {
    /// Which process created it.
    pub(super) id: Id,
    /// Whether its holder gave it back.
    pub(super) released: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AcquireStep {
    /// List the heads.
    ListHeads,
    /// List the locks.
    ListLocks,
    /// Read the lock of this generation.
    Read(u64),
    /// Find out whether the lock of this generation, as it was last read, has run out.
    Judge(u64),
    /// Create the lock of this generation, on condition that there is none.
    Create(u64),
    /// It is over.
    Done(AcquireOutcome),
}

/// What an attempt came to. After any but the first, [`Acquisition::restart`] begins another.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AcquireOutcome {
    /// The lock of this generation is held.
    Held(u64),
    /// Another process holds the lock of this generation.
    HeldElsewhere(u64),
    /// Another process was faster.
    Beaten,
    /// The lock of this generation is listed and cannot be found.
    Vanished(u64),
    /// The store created the lock of this generation twice.
    NoCondition(u64),
    /// The lock to take by force is not the newest any more.
    Moved,
}

/// Whose lock may be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Taking<Id> {
    /// One that is free, or that this claim names.
    Free(Option<(u64, Id)>),
    /// The one of this generation, whatever it says.
    ByForce(u64),
}

/// One process on its way to the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acquisition<Id> {
    id: Id,
    taking: Taking<Id>,
    phase: Phase,
}

/// `last` is the newest lock that was listed, 0 where there was none; `next` is the only one that may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    ListingHeads,
    ListingLocks {
        head: u64,
    },
    Reading {
        last: u64,
        next: u64,
    },
    Judging {
        last: u64,
        next: u64,
    },
    Creating {
        last: u64,
        next: u64,
    },
    /// It was refused: is the one that is there ours, of a request whose answer was lost?
    Refused {
        last: u64,
        next: u64,
        conflict: bool,
    },
    Proving {
        last: u64,
        next: u64,
    },
    Verifying {
        last: u64,
        next: u64,
        proven: bool,
    },
    Over(AcquireOutcome),
}

impl<Id: Clone + PartialEq> Acquisition<Id> {
    /// Begins; `id` is what the locks of this process are known by.
    pub(super) fn new(id: Id, taking: Taking<Id>) -> Self {
        Self { id, taking, phase: Phase::ListingHeads }
    }

    /// Begins anew, with new listings.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::ListingHeads;
    }

    /// What comes next.
    pub(super) fn step(&self) -> AcquireStep {
        match self.phase {
            Phase::ListingHeads => AcquireStep::ListHeads,
            Phase::ListingLocks { .. } | Phase::Verifying { .. } => AcquireStep::ListLocks,
            Phase::Reading { last, .. } => AcquireStep::Read(last),
            Phase::Judging { last, .. } => AcquireStep::Judge(last),
            Phase::Creating { next, .. } | Phase::Proving { next, .. } => AcquireStep::Create(next),
            Phase::Refused { next, .. } => AcquireStep::Read(next),
            Phase::Over(outcome) => AcquireStep::Done(outcome),
        }
    }

    /// The heads were listed; the newest is of this generation, 0 where there is none.
    pub(super) fn heads_listed(&mut self, newest: u64) {
        if let Phase::ListingHeads = self.phase {
            self.phase = Phase::ListingLocks { head: newest };
        }
    }

    /// The locks were listed.
    pub(super) fn locks_listed(&mut self, found: &[u64]) {
        match self.phase {
            Phase::ListingLocks { head } => {
                let last = newest_of(found);
                let next = next_beyond(head, found);
                self.phase = match self.taking {
                    Taking::ByForce(expected) if expected != last => Phase::Over(AcquireOutcome::Moved),
                    Taking::ByForce(_) => Phase::Creating { last, next },
                    Taking::Free(_) if last == 0 => Phase::Creating { last, next },
                    Taking::Free(_) => Phase::Reading { last, next },
                };
            }
            Phase::Verifying { last, next, proven } => {
                let others = found.iter().any(|other| *other > last && *other != next);
                self.phase = Phase::Over(if others || !found.contains(&next) {
                    AcquireOutcome::Beaten
                } else if proven {
                    AcquireOutcome::Held(next)
                } else {
                    AcquireOutcome::NoCondition(next)
                });
            }
            _ => {}
        }
    }

    /// The lock was read; `None` where there is none.
    pub(super) fn lock_read(&mut self, found: Option<&LockFacts<Id>>) {
        match self.phase {
            Phase::Reading { last, next } => {
                self.phase = match found {
                    // It is older than another that has come since.
                    None => Phase::Over(AcquireOutcome::Vanished(last)),
                    Some(lock) if lock.released || self.claims(last, &lock.id) => Phase::Creating { last, next },
                    Some(_) => Phase::Judging { last, next },
                };
            }
            Phase::Refused { last, next, conflict } => {
                self.phase = match found {
                    Some(lock) if lock.id == self.id => Phase::Verifying { last, next, proven: true },
                    // Nothing was created, by anybody: the store was busy with the name.
                    None if conflict => Phase::Creating { last, next },
                    _ => Phase::Over(AcquireOutcome::Beaten),
                };
            }
            _ => {}
        }
    }

    /// It was found out whether the lock has run out.
    pub(super) fn judged(&mut self, has_run_out: bool) {
        if let Phase::Judging { last, next } = self.phase {
            self.phase = if has_run_out {
                Phase::Creating { last, next }
            } else {
                Phase::Over(AcquireOutcome::HeldElsewhere(last))
            };
        }
    }

    /// The store answered to the request to create the lock.
    pub(super) fn created(&mut self, created: Created) {
        self.phase = match (self.phase, created) {
            (Phase::Creating { last, next }, Created::New) => Phase::Proving { last, next },
            (Phase::Creating { last, next }, refused) => {
                Phase::Refused { last, next, conflict: refused == Created::Conflict }
            }
            (Phase::Proving { last, next }, again) => Phase::Verifying { last, next, proven: again != Created::New },
            (phase, _) => phase,
        };
    }

    fn claims(&self, generation: u64, id: &Id) -> bool {
        match &self.taking {
            Taking::Free(Some((ours, claim))) => *ours == generation && claim == id,
            _ => false,
        }
    }
}

/// The newest of these generations, 0 where there is none.
pub(super) fn newest_of(locks: &[u64]) -> u64 {
    locks.iter().copied().max().unwrap_or(0)
}

/// The next generation beyond the newest head and all of these locks.
pub(super) fn next_beyond(head: u64, locks: &[u64]) -> u64 {
    head.max(newest_of(locks)) + 1
}

/// Whether these locks show that another process has taken over since the lock of this generation was acquired.
pub(super) fn is_superseded(generation: u64, locks: &[u64]) -> bool {
    newest_of(locks) > generation
}

/// The locks that the holder of this generation may remove; `None` unless it is known to hold the newest of all.
pub(super) fn outlived_locks(generation: u64, head: u64, locks: &[u64]) -> Option<Vec<u64>> {
    (next_beyond(head, locks) == generation + 1)
        .then(|| locks.iter().copied().filter(|lock| *lock < generation).collect())
}

#[cfg(test)]
#[path = "acquire_tests.rs"]
mod tests;
