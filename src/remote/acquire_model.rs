//! The transitions of the model: everything that may happen next in a world.

use super::world::{DelayedRequest, HolderStep, ModelLock, ModelProcess, ModelWorld, PROCESSES, WrongRelisting};
use crate::remote::acquire::*;

/// The rule that the processes follow: that of the program, or one that omits a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolRule {
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
pub(super) type ModelEvent = (usize, &'static str, u64);

/// Collects everything that can happen next.
pub(super) struct ModelTransitions<'a> {
    world: &'a ModelWorld,
    rule: ProtocolRule,
    worlds: Vec<(ModelEvent, ModelWorld)>,
}

impl ModelTransitions<'_> {
    pub(super) fn of(world: &ModelWorld, rule: ProtocolRule) -> Vec<(ModelEvent, ModelWorld)> {
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
