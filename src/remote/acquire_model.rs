//! The transitions of the model: everything that may happen next in a world.

use super::world::{Errand, Late, Lock, PROCESSES, Process, Relisting, World};
use crate::remote::acquire::*;

/// The rule that the processes follow: that of the program, or one that omits a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
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
pub(super) type Event = (usize, &'static str, u64);

/// Collects everything that can happen next.
pub(super) struct Next<'a> {
    world: &'a World,
    rule: Rule,
    worlds: Vec<(Event, World)>,
}

impl Next<'_> {
    pub(super) fn of(world: &World, rule: Rule) -> Vec<(Event, World)> {
        let mut next = Next { world, rule, worlds: Vec::new() };
        for at in 0..PROCESSES {
            match &world.processes[at] {
                Process::Acquiring { acquisition, .. } => next.acquire(at, acquisition),
                Process::Holding { generation, lock, errand } => next.hold(at, *generation, *lock, errand),
                Process::Releasing { generation, lock } => {
                    let released = Lock { released: true, ..*lock };
                    next.write(at, "release", Late::Put(*generation, released));
                    next.add((at, "released", *generation), |world| {
                        world.put(*generation, released);
                        world.processes[at] = Process::Gone;
                    });
                }
                Process::Gone => continue,
            }
            if world.left.silenced > 0 && !matches!(world.processes[at], Process::Gone) {
                next.add((at, "is killed", 0), |world| {
                    world.left.silenced -= 1;
                    world.silence(at);
                });
            }
        }
        for (index, late) in world.late.iter().enumerate() {
            next.add((usize::MAX, "a late request arrives", index as u64), |world| {
                world.late.remove(index);
                world.carry_out(*late);
            });
        }
        if world.left.lockless_pushes > 0 {
            for head in world.head + 1..=next_beyond(world.head, &world.generations()) {
                next.add((usize::MAX, "somebody without a lock pushes", head), |world| {
                    world.left.lockless_pushes -= 1;
                    world.disturbed = true;
                    world.head = head;
                });
            }
        }
        next.worlds
    }

    fn add(&mut self, event: Event, change: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        change(&mut world);
        self.worlds.push((event, world));
    }

    /// Adds a write whose response is lost. It is sent again.
    fn write(&mut self, at: usize, what: &'static str, late: Late) {
        if self.world.left.lost > 0 {
            self.add((at, what, u64::MAX), |world| {
                world.left.lost -= 1;
                world.late.push(late);
            });
        }
    }

    /// Adds one step of a process that acquires the lock, and what follows without a request.
    fn acquire(&mut self, at: usize, acquisition: &Acquisition<u8>) {
        let id = acquisition.id;
        let ours = Lock { id, renewed: false, released: false };
        if self.relist(at) {
            return;
        }
        match acquisition.step() {
            AcquireStep::ListHeads => {
                let head = if self.rule == Rule::HeadsAfterLocks { 0 } else { self.world.head };
                self.advance((at, "lists heads", head), |acquisition, _| acquisition.heads_listed(head));
            }
            AcquireStep::ListLocks => {
                let mut found = self.world.generations();
                if let Phase::Verifying { next, .. } = acquisition.phase {
                    match self.rule {
                        Rule::NotVerified => found = vec![next],
                        Rule::OnlyLaterLocksCount | Rule::NumberFromLaterListing => {
                            found.retain(|other| *other >= next);
                        }
                        _ => {}
                    }
                }
                self.advance((at, "lists locks", newest_of(&found)), |acquisition, _| acquisition.locks_listed(&found));
            }
            AcquireStep::Read(generation) => {
                let found = self.world.lock(generation);
                let known = found.map(Lock::facts);
                self.advance((at, "reads", generation), |acquisition, seen| {
                    *seen = found;
                    acquisition.lock_read(known.as_ref());
                });
            }
            AcquireStep::Judge(generation) => {
                self.advance((at, "finds it held", generation), |acquisition, _| acquisition.judged(false));
                let Process::Acquiring { seen: Some(seen), .. } = &self.world.processes[at] else { return };
                if let Some((cost, silenced)) = self.world.run_out(generation, *seen) {
                    self.advance((at, "finds that it has run out", generation), |acquisition, _| {
                        acquisition.judged(true);
                    });
                    let (_, world) = self.worlds.last_mut().expect("just added");
                    world.left.silenced -= cost;
                    for other in silenced {
                        match &mut world.processes[other] {
                            Process::Acquiring { stale, .. } => *stale = true,
                            _ => world.silence(other),
                        }
                    }
                }
            }
            AcquireStep::Create(generation) => {
                self.write(at, "creates, unheard", Late::Create(generation, ours));
                let mut store = self.world.clone();
                let created = store.create(generation, ours);
                self.advance((at, "creates", generation), |acquisition, _| acquisition.created(created));
                self.worlds.last_mut().expect("just added").1.locks = store.locks;
                if self.world.left.conflicts > 0 {
                    let conflict = Created::Conflict;
                    self.advance((at, "meets a conflict", generation), |acquisition, _| acquisition.created(conflict));
                    self.worlds.last_mut().expect("just added").1.left.conflicts -= 1;
                }
            }
            // The process gave up, because it believes that the store ignores the condition.
            AcquireStep::Done(_) => {}
        }
    }

    /// Adds the response to a request, and its consequences.
    fn advance(&mut self, event: Event, answer: impl FnOnce(&mut Acquisition<u8>, &mut Option<Lock>)) {
        let at = event.0;
        self.add(event, |world| {
            let Process::Acquiring { acquisition, seen, relisting, stale } = &mut world.processes[at] else { return };
            answer(acquisition, seen);
            let (was_stale, id) = (*stale, acquisition.id);
            if !matches!(acquisition.phase, Phase::Judging { .. } | Phase::Reading { .. }) {
                *seen = None;
            }
            let ours = Lock { id, renewed: false, released: false };
            match acquisition.step() {
                AcquireStep::Done(AcquireOutcome::Held(_)) if was_stale => {
                    world.silence(at);
                }
                AcquireStep::Done(AcquireOutcome::Held(generation)) => {
                    world.processes[at] = Process::Holding { generation, lock: ours, errand: Errand::Working };
                }
                AcquireStep::Done(AcquireOutcome::NoCondition(_)) => {}
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
        let Process::Acquiring { acquisition: before, .. } = &self.world.processes[at] else { return };
        let Phase::Verifying { next, .. } = before.phase else { return };
        let lock = Lock { id: before.id, renewed: false, released: true };
        let (_, world) = self.worlds.last_mut().expect("just added");
        let Process::Acquiring { acquisition: Acquisition { phase: Phase::ListingHeads, .. }, .. } =
            world.processes[at]
        else {
            return;
        };
        match self.rule {
            Rule::ReleasedWhenBeaten => world.put(next, lock),
            Rule::RemovedWhenBeaten => {
                world.remove(next);
                // Its response may be lost. It is then sent again, and may arrive at any time.
                if world.left.lost > 0 {
                    world.left.lost -= 1;
                    world.late.push(Late::Remove(next));
                }
            }
            Rule::NumberFromLaterListing => world.remove(next),
            _ => {}
        }
    }

    /// Adds the listings that a wrong rule makes between checking a lock and creating the next.
    fn relist(&mut self, at: usize) -> bool {
        let Process::Acquiring { acquisition, relisting, .. } = &self.world.processes[at] else { return false };
        let Phase::Creating { last, .. } = acquisition.phase else { return false };
        let (event, to, number) = match (self.rule, relisting) {
            (Rule::NumberFromLaterListing, None) => {
                let newest = newest_of(&self.world.generations());
                ("lists locks again", Relisting::Heads { newest }, None)
            }
            (Rule::HeadsAfterLocks, None) => ("lists heads", Relisting::Done, Some(self.world.head.max(last) + 1)),
            (Rule::NumberFromLaterListing, Some(Relisting::Heads { newest })) => {
                ("lists heads again", Relisting::Done, Some(self.world.head.max(*newest) + 1))
            }
            _ => return false,
        };
        self.add((at, event, 0), |world| {
            let Process::Acquiring { acquisition, relisting, .. } = &mut world.processes[at] else { return };
            *relisting = Some(to);
            if let (Phase::Creating { next, .. }, Some(number)) = (&mut acquisition.phase, number) {
                *next = number;
            }
        });
        true
    }

    /// Adds the steps of a holder.
    fn hold(&mut self, at: usize, generation: u64, lock: Lock, errand: &Errand) {
        let to = |world: &mut World, errand: Errand| {
            world.processes[at] = Process::Holding { generation, lock, errand };
        };
        let releasing = Process::Releasing { generation, lock };
        match errand {
            Errand::Working => {
                if !lock.renewed {
                    let renewed = Lock { renewed: true, ..lock };
                    self.write(at, "renews, unheard", Late::Put(generation, renewed));
                    self.add((at, "renews", generation), |world| {
                        world.put(generation, renewed);
                        let errand = Errand::ListingAfterRenewal;
                        world.processes[at] = Process::Holding { generation, lock: renewed, errand };
                    });
                }
                if self.world.head < generation {
                    self.add((at, "pushes", generation), |world| world.head = generation);
                }
                self.add((at, "ends", generation), |world| to(world, Errand::ListingHeads));
            }
            Errand::ListingAfterRenewal => {
                let superseded = is_superseded(generation, &self.world.generations());
                self.add((at, "looks for others", generation), |world| {
                    if superseded {
                        world.robbed |= !world.disturbed;
                        world.silence(at);
                    } else {
                        to(world, Errand::Working);
                    }
                });
            }
            Errand::ListingHeads => {
                let head = self.world.head;
                self.add((at, "lists heads", head), |world| to(world, Errand::ListingLocks { head }));
            }
            Errand::ListingLocks { head } => {
                let old = outlived_locks(generation, *head, &self.world.generations()).unwrap_or_default();
                self.add((at, "lists locks", generation), |world| {
                    if old.is_empty() { world.processes[at] = releasing } else { to(world, Errand::Clearing(old)) }
                });
            }
            Errand::Clearing(old) => {
                let (first, rest) = old.split_first().expect("at least one");
                self.write(at, "removes, unheard", Late::Remove(*first));
                self.add((at, "removes", *first), |world| {
                    world.remove(*first);
                    if rest.is_empty() {
                        world.processes[at] = releasing;
                    } else {
                        to(world, Errand::Clearing(rest.to_vec()));
                    }
                });
            }
        }
    }
}
