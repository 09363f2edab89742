//! A model of the lock: every interleaving of three processes that acquire, renew, clean up and release it.
//!
//! The processes run [`LockAcquisition`], the same code as the program, and the functions beside it. The store is a
//! set of locks and the newest snapshot. Each request is carried out at one instant. Between any two requests,
//! anything may happen that [`FaultAllowance`] still allows. The tests search all worlds: half a million, and many more
//! in the test that is ignored by default.
//!
//! The model has no clock. A lock counts as expired only if its holder, and the holder of every lock before it, has
//! stopped by its own clock, because it was not renewed for half of the lease.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use xxhash_rust::xxh3::Xxh3;

use super::*;

const PROCESSES: usize = 3;

/// A lock in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ModelLock {
    id: u8,
    renewed: bool,
    released: bool,
}

impl ModelLock {
    fn facts(self) -> LockFacts<u8> {
        LockFacts { id: self.id, released: self.released }
    }
}

/// A request whose sender no longer waits for it. The store may carry it out at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DelayedRequest {
    Create(u64, ModelLock),
    Put(u64, ModelLock),
    Remove(u64),
}

/// How many faults may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FaultAllowance {
    /// Writes whose response is lost. They are sent again, and carried out now, later, or never.
    lost: u8,
    /// Locks that expire although their process is alive, and processes that are killed.
    silenced: u8,
    /// Responses that say that the store is busy with the name.
    conflicts: u8,
    /// Snapshots that a process without a lock pushes.
    lockless_pushes: u8,
}

/// What a holder is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HolderStep {
    Working,
    ListingAfterRenewal,
    ListingHeads,
    ListingLocks { head: u64 },
    Clearing(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ModelProcess {
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
enum WrongRelisting {
    Heads { newest: u64 },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ModelWorld {
    /// The locks, by generation.
    locks: Vec<(u64, ModelLock)>,
    head: u64,
    processes: [ModelProcess; PROCESSES],
    /// How often each process may still start again after it was silenced.
    lives: [u8; PROCESSES],
    late: Vec<DelayedRequest>,
    left: FaultAllowance,
    /// Whether a process was silenced, or a process without a lock pushed. A holder may then lose its lock.
    disturbed: bool,
    /// Whether a holder lost its lock although neither happened.
    robbed: bool,
}

impl ModelWorld {
    fn new(left: FaultAllowance) -> Self {
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

    fn lock(&self, generation: u64) -> Option<ModelLock> {
        self.locks.iter().find(|(there, _)| *there == generation).map(|(_, lock)| *lock)
    }

    fn generations(&self) -> Vec<u64> {
        self.locks.iter().map(|(generation, _)| *generation).collect()
    }

    fn put(&mut self, generation: u64, lock: ModelLock) {
        self.remove(generation);
        self.locks.push((generation, lock));
        self.locks.sort_unstable_by_key(|(generation, _)| *generation);
    }

    fn create(&mut self, generation: u64, lock: ModelLock) -> ConditionalPutOutcome {
        if self.lock(generation).is_some() {
            return ConditionalPutOutcome::AlreadyExists;
        }
        self.put(generation, lock);
        ConditionalPutOutcome::Created
    }

    fn remove(&mut self, generation: u64) {
        self.locks.retain(|(there, _)| *there != generation);
    }

    fn execute(&mut self, late: DelayedRequest) {
        match late {
            DelayedRequest::Create(generation, lock) => drop(self.create(generation, lock)),
            DelayedRequest::Put(generation, lock) => self.put(generation, lock),
            DelayedRequest::Remove(generation) => self.remove(generation),
        }
    }

    fn holders(&self) -> usize {
        self.processes.iter().filter(|process| matches!(process, ModelProcess::Holding { .. })).count()
    }

    /// Ends a process without releasing anything. Another process may start in its place, and knows its lease token.
    fn silence(&mut self, at: usize) {
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
    fn run_out(&self, generation: u64, seen: ModelLock) -> Option<(u8, Vec<usize>)> {
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
    fn fingerprint(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.hash(&mut hasher);
        hasher.digest128()
    }

    /// Returns whether there is nothing left to wait for: a process holds the lock, or none needs it.
    fn is_settled(&self) -> bool {
        self.holders() > 0 || !self.processes.iter().any(|process| matches!(process, ModelProcess::Acquiring { .. }))
    }

    /// Returns the equivalent world with its processes in canonical order.
    fn canonical(mut self) -> Self {
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
    fn created_generation(&self) -> Option<u64> {
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
    fn acquiring(id: u8, claim: Option<(u64, u8)>) -> Self {
        let acquisition = LockAcquisition::new(id, LockTakeover::IfFree(claim));
        Self::Acquiring { acquisition, seen: None, stale: false, relisting: None }
    }

    /// Returns a key that is equal for processes that differ only in their id.
    fn key(&self) -> u64 {
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
fn wrong_with(world: &ModelWorld) -> Option<&'static str> {
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

/// The rule that the processes follow: that of the program, or one that omits a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtocolRule {
    Shipped,
    /// The number to create comes from a later listing than the decision, as in an earlier version.
    NumberFromLaterListing,
    /// The snapshots are listed after the locks.
    HeadsAfterLocks,
    /// A process does not check for other locks after it has created its own.
    NotVerified,
    /// Only locks with a higher number make a process start again.
    OnlyLaterLocksCount,
    /// A process that starts again releases the lock that it leaves.
    ReleasedWhenBeaten,
    /// A process that starts again removes the lock that it leaves.
    RemovedWhenBeaten,
}

/// What happened between one world and the next: the process, its action, and a number.
type ModelEvent = (usize, &'static str, u64);

/// Collects everything that can happen next.
struct ModelTransitions<'a> {
    world: &'a ModelWorld,
    rule: ProtocolRule,
    worlds: Vec<(ModelEvent, ModelWorld)>,
}

impl ModelTransitions<'_> {
    fn of(world: &ModelWorld, rule: ProtocolRule) -> Vec<(ModelEvent, ModelWorld)> {
        let mut next = ModelTransitions { world, rule, worlds: Vec::new() };
        for at in 0..PROCESSES {
            match &world.processes[at] {
                ModelProcess::Acquiring { acquisition, .. } => next.acquire(at, acquisition),
                ModelProcess::Holding { generation, lock, errand } => next.hold(at, *generation, *lock, errand),
                ModelProcess::Releasing { generation, lock } => {
                    let released = ModelLock { released: true, ..*lock };
                    next.write(at, "release", DelayedRequest::Put(*generation, released));
                    next.add((at, "released", *generation), |world| {
                        world.put(*generation, released);
                        world.processes[at] = ModelProcess::Gone;
                    });
                }
                ModelProcess::Gone => continue,
            }
            if world.left.silenced > 0 && !matches!(world.processes[at], ModelProcess::Gone) {
                next.add((at, "is killed", 0), |world| {
                    world.left.silenced -= 1;
                    world.silence(at);
                });
            }
        }
        for (index, late) in world.late.iter().enumerate() {
            next.add((usize::MAX, "a late request arrives", index as u64), |world| {
                world.late.remove(index);
                world.execute(*late);
            });
        }
        if world.left.lockless_pushes > 0 {
            for head in world.head + 1..=next_generation(world.head, &world.generations()) {
                next.add((usize::MAX, "a process without a lock pushes", head), |world| {
                    world.left.lockless_pushes -= 1;
                    world.disturbed = true;
                    world.head = head;
                });
            }
        }
        next.worlds
    }

    fn add(&mut self, event: ModelEvent, change: impl FnOnce(&mut ModelWorld)) {
        let mut world = self.world.clone();
        change(&mut world);
        self.worlds.push((event, world));
    }

    /// Adds a write whose response is lost. It is sent again.
    fn write(&mut self, at: usize, what: &'static str, late: DelayedRequest) {
        if self.world.left.lost > 0 {
            self.add((at, what, u64::MAX), |world| {
                world.left.lost -= 1;
                world.late.push(late);
            });
        }
    }

    /// Adds one step of a process that acquires the lock, and what follows without a request.
    fn acquire(&mut self, at: usize, acquisition: &LockAcquisition<u8>) {
        let id = acquisition.id;
        let ours = ModelLock { id, renewed: false, released: false };
        if self.relist(at) {
            return;
        }
        match acquisition.step() {
            AcquireStep::ListSnapshots => {
                let head = if self.rule == ProtocolRule::HeadsAfterLocks { 0 } else { self.world.head };
                self.advance((at, "lists heads", head), |acquisition, _| acquisition.snapshots_listed(head));
            }
            AcquireStep::ListLocks => {
                let mut found = self.world.generations();
                if let AcquirePhase::Verifying { next, .. } = acquisition.phase {
                    match self.rule {
                        ProtocolRule::NotVerified => found = vec![next],
                        ProtocolRule::OnlyLaterLocksCount | ProtocolRule::NumberFromLaterListing => {
                            found.retain(|other| *other >= next);
                        }
                        _ => {}
                    }
                }
                self.advance((at, "lists locks", newest_of(&found)), |acquisition, _| acquisition.locks_listed(&found));
            }
            AcquireStep::Read(generation) => {
                let found = self.world.lock(generation);
                let known = found.map(ModelLock::facts);
                self.advance((at, "reads", generation), |acquisition, seen| {
                    *seen = found;
                    acquisition.lock_read(known.as_ref());
                });
            }
            AcquireStep::CheckExpiry(generation) => {
                self.advance((at, "finds it held", generation), |acquisition, _| acquisition.expiry_checked(false));
                let ModelProcess::Acquiring { seen: Some(seen), .. } = &self.world.processes[at] else { return };
                if let Some((cost, silenced)) = self.world.run_out(generation, *seen) {
                    self.advance((at, "finds that it has run out", generation), |acquisition, _| {
                        acquisition.expiry_checked(true);
                    });
                    let (_, world) = self.worlds.last_mut().expect("just added");
                    world.left.silenced -= cost;
                    for other in silenced {
                        match &mut world.processes[other] {
                            ModelProcess::Acquiring { stale, .. } => *stale = true,
                            _ => world.silence(other),
                        }
                    }
                }
            }
            AcquireStep::Create(generation) => {
                self.write(at, "creates, unheard", DelayedRequest::Create(generation, ours));
                let mut store = self.world.clone();
                let created = store.create(generation, ours);
                self.advance((at, "creates", generation), |acquisition, _| acquisition.created(created));
                self.worlds.last_mut().expect("just added").1.locks = store.locks;
                if self.world.left.conflicts > 0 {
                    let conflict = ConditionalPutOutcome::Conflict;
                    self.advance((at, "meets a conflict", generation), |acquisition, _| acquisition.created(conflict));
                    self.worlds.last_mut().expect("just added").1.left.conflicts -= 1;
                }
            }
            // The process gave up, because it believes that the store ignores the condition.
            AcquireStep::Done(_) => {}
        }
    }

    /// Adds the response to a request, and its consequences.
    fn advance(&mut self, event: ModelEvent, answer: impl FnOnce(&mut LockAcquisition<u8>, &mut Option<ModelLock>)) {
        let at = event.0;
        self.add(event, |world| {
            let ModelProcess::Acquiring { acquisition, seen, relisting, stale } = &mut world.processes[at] else {
                return;
            };
            answer(acquisition, seen);
            let (was_stale, id) = (*stale, acquisition.id);
            if !matches!(acquisition.phase, AcquirePhase::CheckingExpiry { .. } | AcquirePhase::Reading { .. }) {
                *seen = None;
            }
            let ours = ModelLock { id, renewed: false, released: false };
            match acquisition.step() {
                AcquireStep::Done(AcquireOutcome::Held(_)) if was_stale => {
                    world.silence(at);
                }
                AcquireStep::Done(AcquireOutcome::Held(generation)) => {
                    world.processes[at] = ModelProcess::Holding { generation, lock: ours, errand: HolderStep::Working };
                }
                AcquireStep::Done(AcquireOutcome::ConditionIgnored(_)) => {}
                AcquireStep::Done(_) => {
                    acquisition.restart();
                    (*stale, *relisting) = (false, None);
                }
                _ => {}
            }
        });
        self.leave_what_was_made(at);
    }

    /// Applies what a wrong rule does with the lock of a process that starts again.
    fn leave_what_was_made(&mut self, at: usize) {
        let ModelProcess::Acquiring { acquisition: before, .. } = &self.world.processes[at] else { return };
        let AcquirePhase::Verifying { next, .. } = before.phase else { return };
        let lock = ModelLock { id: before.id, renewed: false, released: true };
        let (_, world) = self.worlds.last_mut().expect("just added");
        let ModelProcess::Acquiring {
            acquisition: LockAcquisition { phase: AcquirePhase::ListingSnapshots, .. }, ..
        } = world.processes[at]
        else {
            return;
        };
        match self.rule {
            ProtocolRule::ReleasedWhenBeaten => world.put(next, lock),
            ProtocolRule::RemovedWhenBeaten => {
                world.remove(next);
                // Its response may be lost. It is then sent again, and may arrive at any time.
                if world.left.lost > 0 {
                    world.left.lost -= 1;
                    world.late.push(DelayedRequest::Remove(next));
                }
            }
            ProtocolRule::NumberFromLaterListing => world.remove(next),
            _ => {}
        }
    }

    /// Adds the listings that a wrong rule makes between checking a lock and creating the next.
    fn relist(&mut self, at: usize) -> bool {
        let ModelProcess::Acquiring { acquisition, relisting, .. } = &self.world.processes[at] else { return false };
        let AcquirePhase::Creating { last, .. } = acquisition.phase else { return false };
        let (event, to, number) = match (self.rule, relisting) {
            (ProtocolRule::NumberFromLaterListing, None) => {
                let newest = newest_of(&self.world.generations());
                ("lists locks again", WrongRelisting::Heads { newest }, None)
            }
            (ProtocolRule::HeadsAfterLocks, None) => {
                ("lists heads", WrongRelisting::Done, Some(self.world.head.max(last) + 1))
            }
            (ProtocolRule::NumberFromLaterListing, Some(WrongRelisting::Heads { newest })) => {
                ("lists heads again", WrongRelisting::Done, Some(self.world.head.max(*newest) + 1))
            }
            _ => return false,
        };
        self.add((at, event, 0), |world| {
            let ModelProcess::Acquiring { acquisition, relisting, .. } = &mut world.processes[at] else { return };
            *relisting = Some(to);
            if let (AcquirePhase::Creating { next, .. }, Some(number)) = (&mut acquisition.phase, number) {
                *next = number;
            }
        });
        true
    }

    /// Adds the steps of a holder.
    fn hold(&mut self, at: usize, generation: u64, lock: ModelLock, errand: &HolderStep) {
        let to = |world: &mut ModelWorld, errand: HolderStep| {
            world.processes[at] = ModelProcess::Holding { generation, lock, errand };
        };
        let releasing = ModelProcess::Releasing { generation, lock };
        match errand {
            HolderStep::Working => {
                if !lock.renewed {
                    let renewed = ModelLock { renewed: true, ..lock };
                    self.write(at, "renews, unheard", DelayedRequest::Put(generation, renewed));
                    self.add((at, "renews", generation), |world| {
                        world.put(generation, renewed);
                        let errand = HolderStep::ListingAfterRenewal;
                        world.processes[at] = ModelProcess::Holding { generation, lock: renewed, errand };
                    });
                }
                if self.world.head < generation {
                    self.add((at, "pushes", generation), |world| world.head = generation);
                }
                self.add((at, "ends", generation), |world| to(world, HolderStep::ListingHeads));
            }
            HolderStep::ListingAfterRenewal => {
                let superseded = is_superseded(generation, &self.world.generations());
                self.add((at, "looks for others", generation), |world| {
                    if superseded {
                        world.robbed |= !world.disturbed;
                        world.silence(at);
                    } else {
                        to(world, HolderStep::Working);
                    }
                });
            }
            HolderStep::ListingHeads => {
                let head = self.world.head;
                self.add((at, "lists heads", head), |world| to(world, HolderStep::ListingLocks { head }));
            }
            HolderStep::ListingLocks { head } => {
                let old = removable_locks(generation, *head, &self.world.generations()).unwrap_or_default();
                self.add((at, "lists locks", generation), |world| {
                    if old.is_empty() { world.processes[at] = releasing } else { to(world, HolderStep::Clearing(old)) }
                });
            }
            HolderStep::Clearing(old) => {
                let (first, rest) = old.split_first().expect("at least one");
                self.write(at, "removes, unheard", DelayedRequest::Remove(*first));
                self.add((at, "removes", *first), |world| {
                    world.remove(*first);
                    if rest.is_empty() {
                        world.processes[at] = releasing;
                    } else {
                        to(world, HolderStep::Clearing(rest.to_vec()));
                    }
                });
            }
        }
    }
}

/// The result of a search.
struct ModelSearchResult {
    worlds: usize,
    /// What went wrong, and the events that led to it.
    wrong: Option<String>,
}

/// Searches all worlds that can be reached for the fault `wanted`, or for any fault. Only a fingerprint is kept of
/// worlds that were already seen.
fn explore(rule: ProtocolRule, adversity: FaultAllowance, wanted: Option<&str>) -> ModelSearchResult {
    let first = ModelWorld::new(adversity).canonical();
    let mut known = HashMap::from([(first.fingerprint(), 0)]);
    let mut settled = vec![first.is_settled()];
    let mut came_by: Vec<(usize, ModelEvent)> = vec![(0, (0, "begins", 0))];
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut left = VecDeque::from([first]);
    let mut from = 0;
    while let Some(world) = left.pop_front() {
        if let Some(what) = wrong_with(&world).filter(|what| wanted.is_none_or(|wanted| wanted == *what)) {
            let wrong = Some(format!("{what}:\n{}\n{world:#?}", way_to(from, &came_by)));
            return ModelSearchResult { worlds: settled.len(), wrong };
        }
        for (event, next) in ModelTransitions::of(&world, rule) {
            let next = next.canonical();
            let to = match known.entry(next.fingerprint()) {
                Entry::Occupied(there) => *there.get(),
                Entry::Vacant(new) => {
                    new.insert(settled.len());
                    settled.push(next.is_settled());
                    came_by.push((from, event));
                    left.push_back(next);
                    settled.len() - 1
                }
            };
            edges.push((from, to));
        }
        from += 1;
    }
    let wrong =
        stuck(&settled, &edges).map(|at| format!("nobody can get the lock any more:\n{}", way_to(at, &came_by)));
    ModelSearchResult { worlds: settled.len(), wrong }
}

/// Returns a world from which no process can get the lock, although one needs it.
fn stuck(settled: &[bool], edges: &[(usize, usize)]) -> Option<usize> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); settled.len()];
    for (from, to) in edges {
        before[*to].push(*from);
    }
    let mut good = settled.to_vec();
    let mut left: Vec<usize> = (0..good.len()).filter(|at| good[*at]).collect();
    while let Some(at) = left.pop() {
        for from in &before[at] {
            if !std::mem::replace(&mut good[*from], true) {
                left.push(*from);
            }
        }
    }
    good.iter().position(|good| !good)
}

/// Describes how a world was reached. In each world, processes are numbered anew, by what they do.
fn way_to(mut at: usize, came_by: &[(usize, ModelEvent)]) -> String {
    let mut lines = Vec::new();
    while at != 0 {
        let (from, (process, what, number)) = came_by[at];
        let process = if process == usize::MAX { String::new() } else { format!("{process} ") };
        lines.push(format!("{process}{what} {number}"));
        at = from;
    }
    lines.reverse();
    lines.join("\n")
}

const CALM: FaultAllowance = FaultAllowance { lost: 0, silenced: 0, conflicts: 0, lockless_pushes: 0 };

#[track_caller]
fn holds(adversity: FaultAllowance) {
    let found = explore(ProtocolRule::Shipped, adversity, None);
    assert!(found.wrong.is_none(), "{adversity:?}: {}", found.wrong.unwrap_or_default());
    assert!(found.worlds > 5000, "{adversity:?}: {} worlds are too few to be all", found.worlds);
}

#[track_caller]
fn fails(rule: ProtocolRule, adversity: FaultAllowance, how: &str) {
    let found = explore(rule, adversity, Some(how));
    let wrong = found.wrong.unwrap_or_default();
    assert!(wrong.starts_with(how), "{rule:?} under {adversity:?}: {} worlds, and {wrong:?}", found.worlds);
}

#[test]
fn whatever_happens_one_holds_the_lock_and_another_can_get_it() {
    holds(CALM);
    holds(FaultAllowance { lost: 1, ..CALM });
    holds(FaultAllowance { conflicts: 1, ..CALM });
    holds(FaultAllowance { silenced: 1, ..CALM });
    holds(FaultAllowance { lockless_pushes: 1, ..CALM });
}

#[test]
#[ignore = "millions of worlds: it takes minutes without optimization"]
fn whatever_happens_together_one_holds_the_lock_and_another_can_get_it() {
    holds(FaultAllowance { lost: 1, conflicts: 1, ..CALM });
    holds(FaultAllowance { lost: 2, ..CALM });
    holds(FaultAllowance { lost: 1, silenced: 1, ..CALM });
    holds(FaultAllowance { lost: 1, lockless_pushes: 1, ..CALM });
    holds(FaultAllowance { silenced: 1, lockless_pushes: 1, ..CALM });
}

#[test]
fn the_rule_of_before_lets_two_hold_the_lock() {
    fails(ProtocolRule::NumberFromLaterListing, CALM, "two hold the lock");
}

#[test]
fn no_part_of_the_rule_can_be_left_out() {
    let pushed = FaultAllowance { lockless_pushes: 1, ..CALM };
    fails(ProtocolRule::HeadsAfterLocks, CALM, "a holder loses the lock");
    fails(ProtocolRule::NotVerified, FaultAllowance { silenced: 1, ..CALM }, "two hold the lock");
    fails(ProtocolRule::OnlyLaterLocksCount, pushed, "two hold the lock");
    fails(ProtocolRule::ReleasedWhenBeaten, pushed, "two hold the lock");
    fails(ProtocolRule::RemovedWhenBeaten, FaultAllowance { lost: 1, ..pushed }, "two hold the lock");
}
