//! A model of the lock: every interleaving of three processes that acquire, renew, clean up and release it.
//!
//! The processes run [`LockAcquisition`], the same code as the program, and the functions beside it. The store is a
//! set of locks and the newest snapshot. Each request is carried out at one instant. Between any two requests,
//! anything may happen that [`FaultAllowance`] still allows. `acquire_tests` searches all worlds.
//!
//! The model has no clock. A lock counts as expired only if its holder, and the holder of every lock before it, has
//! stopped by its own clock, because it was not renewed for half of the lease.

use std::hash::{Hash as _, Hasher as _};

use xxhash_rust::xxh3::Xxh3;

use crate::remote::acquire::*;

pub(super) const PROCESSES: usize = 3;

/// A lock in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModelLock {
    pub(super) id: u8,
    pub(super) renewed: bool,
    pub(super) released: bool,
}

impl ModelLock {
    pub(super) fn facts(self) -> LockFacts<u8> {
        LockFacts { id: self.id, released: self.released }
    }
}

/// A request whose sender no longer waits for it. The store may carry it out at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DelayedRequest {
    Create(u64, ModelLock),
    Put(u64, ModelLock),
    Remove(u64),
}

/// How many faults may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FaultAllowance {
    /// Writes whose response is lost. They are sent again, and carried out now, later, or never.
    pub(super) lost: u8,
    /// Locks that expire although their process is alive, and processes that are killed.
    pub(super) silenced: u8,
    /// Responses that say that the store is busy with the name.
    pub(super) conflicts: u8,
    /// Snapshots that a process without a lock pushes.
    pub(super) lockless_pushes: u8,
}

/// What a holder is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum HolderStep {
    Working,
    ListingAfterRenewal,
    ListingHeads,
    ListingLocks { head: u64 },
    Clearing(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ModelProcess {
    Acquiring {
        acquisition: LockAcquisition<u8>,
        seen: Option<ModelLock>,
        /// Whether another process found that its lock has expired: its lease is over.
        stale: bool,
        relisting: Option<WrongRelisting>,
    },
    Holding {
        generation: u64,
        lock: ModelLock,
        errand: HolderStep,
    },
    Releasing {
        generation: u64,
        lock: ModelLock,
    },
    Gone,
}

/// What the rule of an earlier version did between checking a lock and creating the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum WrongRelisting {
    Heads { newest: u64 },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModelWorld {
    /// The locks, by generation.
    pub(super) locks: Vec<(u64, ModelLock)>,
    pub(super) head: u64,
    pub(super) processes: [ModelProcess; PROCESSES],
    /// How often each process may still start again after it was silenced.
    pub(super) lives: [u8; PROCESSES],
    pub(super) late: Vec<DelayedRequest>,
    pub(super) left: FaultAllowance,
    /// Whether a process was silenced, or a process without a lock pushed. A holder may then lose its lock.
    pub(super) disturbed: bool,
    /// Whether a holder lost its lock although neither happened.
    pub(super) robbed: bool,
}

impl ModelWorld {
    pub(super) fn new(left: FaultAllowance) -> Self {
        let begin = |id| ModelProcess::acquiring(id, None);
        // An earlier process has left its lock and its snapshot.
        let locks = vec![(1, ModelLock { id: u8::MAX, renewed: false, released: true })];
        let processes = [begin(0), begin(1), begin(2)];
        Self {
            locks,
            head: 1,
            processes,
            lives: [1; PROCESSES],
            late: Vec::new(),
            left,
            disturbed: false,
            robbed: false,
        }
    }

    pub(super) fn lock(&self, generation: u64) -> Option<ModelLock> {
        self.locks.iter().find(|(there, _)| *there == generation).map(|(_, lock)| *lock)
    }

    pub(super) fn generations(&self) -> Vec<u64> {
        self.locks.iter().map(|(generation, _)| *generation).collect()
    }

    pub(super) fn put(&mut self, generation: u64, lock: ModelLock) {
        self.remove(generation);
        self.locks.push((generation, lock));
        self.locks.sort_unstable_by_key(|(generation, _)| *generation);
    }

    pub(super) fn create(&mut self, generation: u64, lock: ModelLock) -> ConditionalPutOutcome {
        if self.lock(generation).is_some() {
            return ConditionalPutOutcome::AlreadyExists;
        }
        self.put(generation, lock);
        ConditionalPutOutcome::Created
    }

    pub(super) fn remove(&mut self, generation: u64) {
        self.locks.retain(|(there, _)| *there != generation);
    }

    pub(super) fn execute(&mut self, late: DelayedRequest) {
        match late {
            DelayedRequest::Create(generation, lock) => drop(self.create(generation, lock)),
            DelayedRequest::Put(generation, lock) => self.put(generation, lock),
            DelayedRequest::Remove(generation) => self.remove(generation),
        }
    }

    pub(super) fn holders(&self) -> usize {
        self.processes.iter().filter(|process| matches!(process, ModelProcess::Holding { .. })).count()
    }

    /// Ends a process without releasing anything. Another process may start in its place, and knows its lease token.
    pub(super) fn silence(&mut self, at: usize) {
        self.disturbed = true;
        let claim = match &self.processes[at] {
            ModelProcess::Holding { generation, lock, .. } | ModelProcess::Releasing { generation, lock } => {
                Some((*generation, lock.id))
            }
            _ => None,
        };
        self.processes[at] = if self.lives[at] > 0 {
            self.lives[at] -= 1;
            ModelProcess::acquiring(u8::try_from(at + PROCESSES).expect("small"), claim)
        } else {
            ModelProcess::Gone
        };
    }

    /// Returns the cost if the lock, as it was seen, can have expired, and the processes that this silences.
    pub(super) fn run_out(&self, generation: u64, seen: ModelLock) -> Option<(u8, Vec<usize>)> {
        if self.lock(generation) != Some(seen) {
            return None;
        }
        let silenced: Vec<usize> = (0..PROCESSES)
            .filter(|at| match &self.processes[*at] {
                ModelProcess::Holding { generation: held, .. } => *held <= generation,
                ModelProcess::Acquiring { acquisition, stale: false, .. } => {
                    acquisition.id == seen.id && acquisition.created_generation() == Some(generation)
                }
                _ => false,
            })
            .collect();
        let cost = u8::from(!silenced.is_empty());
        (cost <= self.left.silenced).then_some((cost, silenced))
    }

    /// Returns a hash that identifies this world among those that were seen.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.hash(&mut hasher);
        hasher.digest128()
    }

    /// Returns whether there is nothing left to wait for: a process holds the lock, or none needs it.
    pub(super) fn is_settled(&self) -> bool {
        self.holders() > 0 || !self.processes.iter().any(|process| matches!(process, ModelProcess::Acquiring { .. }))
    }

    /// Returns the equivalent world with its processes in canonical order.
    pub(super) fn canonical(mut self) -> Self {
        let mut order = [0, 1, 2];
        let keys = [0, 1, 2].map(|at| (self.processes[at].key(), self.lives[at]));
        order.sort_by_key(|at| keys[*at]);
        if order == [0, 1, 2] {
            return self;
        }
        let place = |id: u8| {
            let (index, life) = (usize::from(id) % PROCESSES, usize::from(id) / PROCESSES);
            let index = order.iter().position(|at| *at == index).expect("one of them");
            u8::try_from(life * PROCESSES + index).expect("small")
        };
        let rename = |lock: &mut ModelLock| {
            if lock.id != u8::MAX {
                lock.id = place(lock.id);
            }
        };
        self.locks.iter_mut().for_each(|(_, lock)| rename(lock));
        for late in &mut self.late {
            if let DelayedRequest::Create(_, lock) | DelayedRequest::Put(_, lock) = late {
                rename(lock);
            }
        }
        self.lives = order.map(|at| self.lives[at]);
        self.processes = order.map(|at| self.processes[at].clone());
        for process in &mut self.processes {
            match process {
                ModelProcess::Acquiring { acquisition, seen, .. } => {
                    acquisition.id = place(acquisition.id);
                    if let LockTakeover::IfFree(Some((_, id))) = &mut acquisition.takeover {
                        *id = place(*id);
                    }
                    seen.iter_mut().for_each(rename);
                }
                ModelProcess::Holding { lock, .. } | ModelProcess::Releasing { lock, .. } => rename(lock),
                ModelProcess::Gone => {}
            }
        }
        self
    }
}

impl LockAcquisition<u8> {
    /// Returns the lock that this process has created, or may have created.
    pub(super) fn created_generation(&self) -> Option<u64> {
        match self.phase {
            AcquirePhase::Creating { next, .. }
            | AcquirePhase::Refused { next, .. }
            | AcquirePhase::Proving { next, .. }
            | AcquirePhase::Verifying { next, .. } => Some(next),
            _ => None,
        }
    }
}

impl ModelProcess {
    pub(super) fn acquiring(id: u8, claim: Option<(u64, u8)>) -> Self {
        let acquisition = LockAcquisition::new(id, LockTakeover::IfFree(claim));
        Self::Acquiring { acquisition, seen: None, stale: false, relisting: None }
    }

    /// Returns a key that is equal for processes that differ only in their id.
    pub(super) fn key(&self) -> u64 {
        let mut hasher = Xxh3::new();
        match self {
            Self::Acquiring { acquisition, stale, relisting, .. } => {
                (0, acquisition.phase, stale, relisting).hash(&mut hasher);
            }
            Self::Holding { generation, errand, lock } => (1, generation, errand, lock.renewed).hash(&mut hasher),
            Self::Releasing { generation, .. } => (2, generation).hash(&mut hasher),
            Self::Gone => 3.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// Returns the invariant that this world violates, if any.
pub(super) fn wrong_with(world: &ModelWorld) -> Option<&'static str> {
    if world.holders() > 1 {
        return Some("two hold the lock");
    }
    if world.robbed {
        return Some("a holder loses the lock");
    }
    let refused = |process: &ModelProcess| match process {
        ModelProcess::Acquiring { acquisition, .. } => {
            matches!(acquisition.phase, AcquirePhase::Finished(AcquireOutcome::ConditionIgnored(_)))
        }
        _ => false,
    };
    world.processes.iter().any(refused).then_some("a store that honours the condition is refused")
}
