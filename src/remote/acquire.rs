//! How the lock of a state is acquired, as decisions without I/O: which request comes next, and what its response
//! means.
//!
//! Nothing here does I/O or reads a clock, so that a test can explore every interleaving of several processes with the
//! code that the program runs. `lock` sends the requests.
//!
//! 1. List the snapshots, then the locks. The number of the lock to create follows from these two listings and from no
//!    later one: the next number after all of them. The snapshots come first: a holder creates its lock before its
//!    first snapshot, so that no snapshot is seen without its lock.
//! 2. Check whether the newest lock of that listing is free: it was released, has expired, or matches the lease token
//!    of this local cache.
//! 3. Create the lock of that number and no other, on the condition that it does not exist. If it exists, start again
//!    at 1.
//! 4. Create it again. This must be refused: otherwise the store ignores the condition.
//! 5. List the locks once more. Any lock that is newer than the one that was checked, whether its number is below or
//!    above ours, belongs to another process that did the same meanwhile. In that case start again at 1.
//!
//! Two processes that decide by the same listing create the same name, and the store lets one of them succeed. Two that
//! decide by different listings may create two names. Each lists after it has created, so at least one of the two sees
//! the other and starts again. The lock that it leaves is neither released nor removed: if it were released, it would
//! hide a lower lock that is held, and a removal that arrives late could hit a later lock of the same number. It
//! expires, or the next holder removes it.

use batchplan_store::ConditionalPutOutcome;

/// The part of a lock that matters for acquiring it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LockFacts<Id> {
    /// The process that created it.
    pub(super) id: Id,
    /// Whether its holder released it.
    pub(super) released: bool,
}

/// The next request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AcquireStep {
    ListSnapshots,
    ListLocks,
    Read(u64),
    /// Find out whether the lock of this generation, as it was last read, has expired.
    CheckExpiry(u64),
    /// Create the lock of this generation, on the condition that it does not exist.
    Create(u64),
    /// The attempt is over.
    Done(AcquireOutcome),
}

/// The outcome of an attempt. After any outcome but the first, [`LockAcquisition::restart`] starts another attempt.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AcquireOutcome {
    /// This process holds the lock of this generation.
    Held(u64),
    /// Another process holds the lock of this generation.
    HeldElsewhere(u64),
    /// Another process was faster.
    LostRace,
    /// The lock of this generation is listed, but does not exist.
    Missing(u64),
    /// The store created the lock of this generation twice.
    ConditionIgnored(u64),
    /// The lock to take by force is no longer the newest one.
    NotNewest,
}

/// Which lock may be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LockTakeover<Id> {
    /// A lock that is free, or that this lease token names.
    IfFree(Option<(u64, Id)>),
    /// The lock of this generation, whatever its state.
    Forced(u64),
}

/// One process that acquires the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LockAcquisition<Id> {
    id: Id,
    takeover: LockTakeover<Id>,
    phase: AcquirePhase,
}

/// `newest` is the newest lock that was listed, 0 if there was none; `next` is the only lock that may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AcquirePhase {
    ListingSnapshots,
    ListingLocks {
        newest_snapshot: u64,
    },
    Reading {
        last: u64,
        next: u64,
    },
    CheckingExpiry {
        last: u64,
        next: u64,
    },
    Creating {
        last: u64,
        next: u64,
    },
    /// The request was refused. The existing lock may be ours, from a request whose response was lost.
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
    Finished(AcquireOutcome),
}

impl<Id: Clone + PartialEq> LockAcquisition<Id> {
    /// Starts an acquisition; `id` identifies the locks of this process.
    pub(super) fn new(id: Id, takeover: LockTakeover<Id>) -> Self {
        Self { id, takeover, phase: AcquirePhase::ListingSnapshots }
    }

    /// Starts again, with new listings.
    pub(super) fn restart(&mut self) {
        self.phase = AcquirePhase::ListingSnapshots;
    }

    /// Returns the next request to send.
    pub(super) fn step(&self) -> AcquireStep {
        match self.phase {
            AcquirePhase::ListingSnapshots => AcquireStep::ListSnapshots,
            AcquirePhase::ListingLocks { .. } | AcquirePhase::Verifying { .. } => AcquireStep::ListLocks,
            AcquirePhase::Reading { last, .. } => AcquireStep::Read(last),
            AcquirePhase::CheckingExpiry { last, .. } => AcquireStep::CheckExpiry(last),
            AcquirePhase::Creating { next, .. } | AcquirePhase::Proving { next, .. } => AcquireStep::Create(next),
            AcquirePhase::Refused { next, .. } => AcquireStep::Read(next),
            AcquirePhase::Finished(outcome) => AcquireStep::Done(outcome),
        }
    }

    /// Handles the listing of the snapshots. `newest` is the generation of the newest one, 0 if there is none.
    pub(super) fn snapshots_listed(&mut self, newest: u64) {
        if let AcquirePhase::ListingSnapshots = self.phase {
            self.phase = AcquirePhase::ListingLocks { newest_snapshot: newest };
        }
    }

    /// Handles a listing of the locks.
    pub(super) fn locks_listed(&mut self, found: &[u64]) {
        match self.phase {
            AcquirePhase::ListingLocks { newest_snapshot } => {
                let last = newest_of(found);
                let next = next_generation(newest_snapshot, found);
                self.phase = match self.takeover {
                    LockTakeover::Forced(expected) if expected != last => {
                        AcquirePhase::Finished(AcquireOutcome::NotNewest)
                    }
                    LockTakeover::Forced(_) => AcquirePhase::Creating { last, next },
                    LockTakeover::IfFree(_) if last == 0 => AcquirePhase::Creating { last, next },
                    LockTakeover::IfFree(_) => AcquirePhase::Reading { last, next },
                };
            }
            AcquirePhase::Verifying { last, next, proven } => {
                let others = found.iter().any(|other| *other > last && *other != next);
                self.phase = AcquirePhase::Finished(if others || !found.contains(&next) {
                    AcquireOutcome::LostRace
                } else if proven {
                    AcquireOutcome::Held(next)
                } else {
                    AcquireOutcome::ConditionIgnored(next)
                });
            }
            _ => {}
        }
    }

    /// Handles a lock that was read; `None` if it does not exist.
    pub(super) fn lock_read(&mut self, found: Option<&LockFacts<Id>>) {
        match self.phase {
            AcquirePhase::Reading { last, next } => {
                self.phase = match found {
                    // A newer lock exists, so this one was removed.
                    None => AcquirePhase::Finished(AcquireOutcome::Missing(last)),
                    Some(lock) if lock.released || self.owns_token(last, &lock.id) => {
                        AcquirePhase::Creating { last, next }
                    }
                    Some(_) => AcquirePhase::CheckingExpiry { last, next },
                };
            }
            AcquirePhase::Refused { last, next, conflict } => {
                self.phase = match found {
                    Some(lock) if lock.id == self.id => AcquirePhase::Verifying { last, next, proven: true },
                    // No process created it: the store was busy with the name.
                    None if conflict => AcquirePhase::Creating { last, next },
                    _ => AcquirePhase::Finished(AcquireOutcome::LostRace),
                };
            }
            _ => {}
        }
    }

    /// Handles the decision whether the lock has expired.
    pub(super) fn expiry_checked(&mut self, has_run_out: bool) {
        if let AcquirePhase::CheckingExpiry { last, next } = self.phase {
            self.phase = if has_run_out {
                AcquirePhase::Creating { last, next }
            } else {
                AcquirePhase::Finished(AcquireOutcome::HeldElsewhere(last))
            };
        }
    }

    /// Handles the store's response to a request to create the lock.
    pub(super) fn created(&mut self, created: ConditionalPutOutcome) {
        self.phase = match (self.phase, created) {
            (AcquirePhase::Creating { last, next }, ConditionalPutOutcome::Created) => {
                AcquirePhase::Proving { last, next }
            }
            (AcquirePhase::Creating { last, next }, refused) => {
                AcquirePhase::Refused { last, next, conflict: refused == ConditionalPutOutcome::Conflict }
            }
            (AcquirePhase::Proving { last, next }, again) => {
                AcquirePhase::Verifying { last, next, proven: again != ConditionalPutOutcome::Created }
            }
            (phase, _) => phase,
        };
    }

    fn owns_token(&self, generation: u64, id: &Id) -> bool {
        match &self.takeover {
            LockTakeover::IfFree(Some((ours, claim))) => *ours == generation && claim == id,
            _ => false,
        }
    }
}

/// Returns the newest of these generations, 0 if there is none.
pub(super) fn newest_of(locks: &[u64]) -> u64 {
    locks.iter().copied().max().unwrap_or(0)
}

/// Returns the next generation after the newest snapshot and all of these locks.
pub(super) fn next_generation(newest_snapshot: u64, locks: &[u64]) -> u64 {
    newest_snapshot.max(newest_of(locks)) + 1
}

/// Returns whether these locks show that another process has taken over since the lock of this generation was acquired.
pub(super) fn is_superseded(generation: u64, locks: &[u64]) -> bool {
    newest_of(locks) > generation
}

/// Returns the locks that the holder of this generation may remove; `None` unless its lock is known to be the newest.
pub(super) fn removable_locks(generation: u64, newest_snapshot: u64, locks: &[u64]) -> Option<Vec<u64>> {
    (next_generation(newest_snapshot, locks) == generation + 1)
        .then(|| locks.iter().copied().filter(|lock| *lock < generation).collect())
}

#[cfg(test)]
#[path = "acquire_tests.rs"]
mod tests;
