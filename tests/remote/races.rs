//! Machines that want one state at the same instant, each over a connection of drawn latency: never two work at once.
//!
//! `BATCHPLAN_LOCK_PAIRS` sets how many pairs are started, 4 where it is absent, and for every eight of them one
//! round of three that wait for each other. Latencies decide only which interleaving comes about; what is asserted
//! holds in all of them.

use std::time::Duration;

use crate::bucket::Object;
use crate::latency::SlowLink;
use crate::place::{APPLY, Machine, Place, Ran, Running, key, start, until};

/// Objects of each machine's own bucket.
const OBJECTS: usize = 30;

/// How many of the first are answered before all that follow are held.
const ANSWERED: u64 = 10;

/// A pair whose machine was too busy to renew a lock in time proves nothing; so many more may be drawn.
const MOST_VOID: u64 = 20;

fn pairs() -> u64 {
    std::env::var("BATCHPLAN_LOCK_PAIRS").map_or(4, |pairs| pairs.parse().expect("a number"))
}

/// What lies in the bucket when the machines start.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Released,
    /// The lock of a process that was killed; it runs out while both watch it.
    Abandoned,
}

impl Before {
    fn drawn(seed: u64) -> Self {
        [Self::Nothing, Self::Released, Self::Abandoned][usize::try_from(seed % 3).expect("small")]
    }

    fn lay_out(self, place: &Place) {
        if matches!(self, Self::Nothing) {
            return;
        }
        let lock = serde_json::json!({
            "version": 1, "id": "0123456789abcdef0123456789abcdef", "holder": "a process that is gone",
            "since": "2026-01-01T00:00:00Z", "renewed": "2026-01-01T00:00:00Z", "renewals": 3, "lease_ms": 1000,
            "released": matches!(self, Self::Released),
        });
        place.chest().write("lock/000000000007.json", lock.to_string().as_bytes());
    }
}

/// Machines, each with a bucket and a plan of its own, and the state over a slow connection.
struct Race {
    place: Place,
    links: Vec<SlowLink>,
    seed: u64,
}

impl Race {
    fn drawn(seed: u64, machines: usize) -> Self {
        let place = Place::with_objects(0);
        for machine in 0..machines {
            for n in 0..OBJECTS {
                place.work.put(&format!("bkt-{machine}"), key(n), Object::default());
            }
        }
        Before::drawn(seed).lay_out(&place);
        let link = |n| SlowLink::to(place.state.address(), 20..80, seed * 10 + n as u64);
        let links = (0..machines).map(link).collect();
        Self { place, links, seed }
    }

    fn machine(&self, n: usize) -> Machine<'_> {
        let state = format!("s3://states/team?endpoint={}", self.links[n].endpoint());
        self.place.machine_of(&format!("machine-{n}"), &format!("bkt-{n}"), &state)
    }

    /// Starts them all within 150 ms.
    fn start(&self, args: &[&str]) -> Vec<Running> {
        let mut draw = fastrand::Rng::with_seed(self.seed);
        let machines: Vec<_> = (0..self.links.len()).map(|n| self.machine(n)).collect();
        let begin = |machine: &Machine<'_>| {
            let mut command = machine.command(args);
            command.env("BATCHPLAN_LEASE_MS", "12000");
            let running = start(command);
            std::thread::sleep(Duration::from_millis(draw.u64(0..150)));
            running
        };
        machines.iter().map(begin).collect()
    }

    /// The machines that worked, in the order in which they began; one that worked again after another stands there
    /// twice.
    fn sessions(&self) -> Vec<String> {
        let works = self.place.work.log().into_iter().filter(|seen| seen.kind.works() && seen.kind.writes());
        let mut sessions: Vec<_> = works.map(|seen| seen.bucket).collect();
        sessions.dedup();
        sessions
    }

    /// The names of the jobs that the state knows of, each with its status.
    fn jobs(&self) -> Vec<(String, String)> {
        let machine = self.place.machine("onlooker");
        let listed = machine.run(&["list", "--json", "--state", &self.place.url()]).ended(0).json();
        let text = |job: &serde_json::Value, name: &str| job[name].as_str().expect("text").to_owned();
        let jobs = listed["jobs"].as_array().expect("jobs").iter();
        let mut jobs: Vec<_> = jobs.map(|job| (text(job, "name"), text(job, "status"))).collect();
        jobs.sort();
        jobs
    }
}

/// Whether a machine was too busy to keep its lock: nothing is wrong, and nothing is shown by it.
fn is_void(ran: &Ran) -> bool {
    ran.code == Some(1) && ran.stderr.contains("was not renewed in time")
}

/// Two start together. One works, and stays at work; the other is refused with its name. Whether it proves anything.
fn one_pair(seed: u64) -> bool {
    let race = Race::drawn(seed, 2);
    race.place.hold_after(ANSWERED);
    let mut running = race.start(&APPLY);
    until("one of the two gives way", || running.iter_mut().any(Running::is_over) || race.sessions().len() > 1);
    assert!(race.sessions().len() <= 1, "seed {seed}: both are at work");
    let loser = running.iter_mut().position(Running::is_over).expect("one is over");
    let refused = running.remove(loser).over();
    let winner = format!("machine-{}", 1 - loser);
    if is_void(&refused) {
        race.place.let_go();
        drop(running.remove(0).over());
        return false;
    }
    assert_eq!(refused.code, Some(6), "seed {seed}: {}", refused.stderr);
    assert!(refused.stderr.contains(&format!("the state is held by {winner}@")), "seed {seed}: {}", refused.stderr);
    race.place.let_go();
    let done = running.remove(0).over();
    if is_void(&done) {
        return false;
    }
    assert_eq!(done.code, Some(0), "seed {seed}: {}", done.stderr);
    assert_eq!(race.sessions(), [format!("bkt-{}", 1 - loser)], "seed {seed}");
    assert_eq!(race.jobs(), [(winner, "Complete".to_owned())], "seed {seed}");
    true
}

/// Three start together, and wait for each other. Whether it proves anything.
fn one_round(seed: u64) -> bool {
    let race = Race::drawn(seed, 3);
    let waiting = race.start(&[&APPLY[..], &["--lock-timeout", "20m"]].concat());
    let ended: Vec<_> = waiting.into_iter().map(Running::over).collect();
    if ended.iter().any(is_void) {
        return false;
    }
    for ran in &ended {
        assert_eq!(ran.code, Some(0), "seed {seed}: {}", ran.stderr);
    }
    let mut sessions = race.sessions();
    sessions.sort();
    assert_eq!(sessions, ["bkt-0", "bkt-1", "bkt-2"], "seed {seed}: one after the other, in any order");
    let complete = |n| (format!("machine-{n}"), "Complete".to_owned());
    assert_eq!(race.jobs(), [complete(0), complete(1), complete(2)], "seed {seed}: no job is lost");
    true
}

/// Until so many have proved something.
fn until_proven(wanted: u64, first_seed: u64, one: impl Fn(u64) -> bool + Sync) {
    const AT_ONCE: u64 = 4;
    std::thread::scope(|scope| {
        for lane in 0..AT_ONCE.min(wanted) {
            let one = &one;
            scope.spawn(move || {
                let mut left = wanted / AT_ONCE + u64::from(lane < wanted % AT_ONCE);
                for seed in (first_seed + lane..).step_by(usize::try_from(AT_ONCE).expect("small")) {
                    if left == 0 {
                        return;
                    }
                    assert!(seed < first_seed + (wanted + MOST_VOID) * AT_ONCE, "this machine is too busy");
                    left -= u64::from(one(seed));
                }
            });
        }
    });
}

#[test]
fn of_two_that_start_together_one_works_and_the_other_is_refused() {
    until_proven(pairs(), 1, one_pair);
}

#[test]
fn those_that_wait_for_each_other_work_one_after_the_other() {
    until_proven(pairs().div_ceil(8), 10_001, one_round);
}
