//! Random weeks of two plans of one name and store that follow each other, with kills, cancels, retries, deletes and
//! clocks that leap, judged by a model that knows only what each object should have.
//!
//! `BATCHPLAN_RECURRING_SEQUENCES` sets how many weeks, and `BATCHPLAN_RECURRING_SEED` the first of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use fastrand::Rng;
use serde_json::Value as Json;

use crate::days::{Days, ONLY_CHANGED};
use crate::scene::Dialect;
use crate::world::Ran;

/// Days of a sequence, and objects that there may be.
const DAYS: u32 = 6;
const OBJECTS: u32 = 9;

/// Named by the inventory every day, and never there: it fails each time.
const GHOST: &str = "ghost";

/// Where processes are killed, and up to which time of passing by.
const POINTS: [(&str, u32); 6] = [
    ("report-flushed", 2),
    ("report-synced", 2),
    ("journal-before-commit", 3),
    ("journal-after-commit", 3),
    ("status-changed", 5),
    ("report-finished", 1),
];

/// How many hours the clock may be ahead.
const CLOCKS: [i64; 6] = [0, 1, -1, 31 * 24, 62 * 24, -400 * 24];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    One,
    Other,
}

impl Which {
    fn tag(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Other => "other",
        }
    }
}

/// A bucket, what should be in it, and what was done, for whoever has to find out why it is not.
struct Week {
    days: Days,
    rng: Rng,
    day: u32,
    /// What is in the bucket: each object's state, by its key.
    objects: BTreeMap<String, u32>,
    /// What has changed since a plan was last found to have nothing to do, where nothing else has happened.
    quiet: Option<(Which, BTreeSet<String>)>,
    log: String,
}

impl Week {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let objects: BTreeMap<String, u32> = (0..OBJECTS).filter(|_| rng.u8(..) > 60).map(|n| (key(n), 1)).collect();
        let keys: Vec<&str> = objects.keys().map(String::as_str).collect();
        let days = Days::of(Dialect::Aws, &keys);
        Self { days, rng, day: 0, objects, quiet: None, log: format!("seed {seed}\n") }
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        let _ = writeln!(self.log, "{what}");
    }

    fn any(&mut self) -> Which {
        if self.rng.bool() { Which::One } else { Which::Other }
    }

    /// A new day: some objects are written over, some deleted, some come.
    fn begin_day(&mut self) {
        self.day += 1;
        let mut changed = BTreeSet::new();
        for key in (0..OBJECTS).map(key).filter(|_| self.day > 1) {
            match (self.rng.u8(..8), self.objects.get(&key).copied()) {
                (0, Some(_)) => {
                    self.days.remove("bkt", &key);
                    self.objects.remove(&key);
                }
                (1 | 2, state) => {
                    let state = state.unwrap_or(0) + self.day * 10 + 1;
                    self.days.put("bkt", &key, state.to_string().into_bytes());
                    self.objects.insert(key.clone(), state);
                    changed.insert(key);
                }
                _ => {}
            }
        }
        let (day, all) = (self.day, self.objects.keys().cloned().collect::<Vec<_>>());
        self.note(format_args!("day {day}: {changed:?} changed of {all:?}"));
        if let Some((_, quiet)) = &mut self.quiet {
            quiet.extend(changed);
        }
        let mut told: Vec<_> = self.objects.iter().map(|(key, state)| (key.as_str(), *state)).collect();
        told.push((GHOST, 1));
        if self.rng.bool() {
            told.extend(told.first().copied());
        }
        self.days.inventory(self.day, &told);
    }

    fn write_plan(&self, which: Which) {
        self.days.scene.plan_unchecked(&format!(
            "[undo]\ncapture = false\n[manifest.inventory]\nbucket = \"lists\"\nlatest = \"daily/\"\n[operation.put_object_tagging]\n\
             tags = {{ by = \"{}\" }}\n{ONLY_CHANGED}[limits]\nfailure_threshold = 1\n",
            which.tag()
        ));
    }

    fn run(&mut self, args: &[&str]) -> Ran {
        let ran = self.days.run(args);
        self.note(format_args!("{args:?}: {} {}", ran.code, ran.stderr.replace('\n', " / ")));
        ran
    }

    fn apply(&mut self, which: Which, new: bool) -> Ran {
        self.write_plan(which);
        let args = ["apply", "plan.toml", "--auto-approve", "--json", "--new"];
        self.run(&args[..if new { 5 } else { 4 }])
    }

    fn job(&mut self, over: bool) -> Option<String> {
        let jobs: Vec<_> = self.days.listed().into_iter().filter(|job| is_over(job) == over).collect();
        if jobs.is_empty() {
            return None;
        }
        jobs[self.rng.usize(..jobs.len())]["job_id"].as_str().map(str::to_owned)
    }

    /// Something that happens.
    fn act(&mut self) {
        self.quiet = None;
        match self.rng.u8(..10) {
            0 | 1 => {
                let (which, new) = (self.any(), self.rng.u8(..3) == 0);
                self.apply(which, new);
            }
            2..=4 => {
                let (which, new) = (self.any(), self.rng.u8(..3) == 0);
                self.kill(which, new);
            }
            5 | 6 => {
                if let Some(job) = self.job(false) {
                    self.run(&["cancel", &job]);
                }
            }
            7 => {
                if let Some(job) = self.job(false) {
                    self.run(&["resume", &job, "--stored-plan", "--auto-approve"]);
                }
            }
            8 => {
                if let Some(job) = self.job(true) {
                    self.run(&["retry", &job, "--auto-approve"]);
                }
            }
            _ => {
                if let Some(job) = self.job(true) {
                    self.run(&["delete", &job, "--force", "--auto-approve"]).ended(0);
                }
            }
        }
    }

    /// Applies with the process killed somewhere, if it gets there; what it says it may have done is no less than it
    /// did.
    fn kill(&mut self, which: Which, new: bool) {
        self.write_plan(which);
        let (point, most) = POINTS[self.rng.usize(..POINTS.len())];
        let (point, every) = (format!("{point}:{}", self.rng.u32(1..=most)), self.rng.u32(1..5).to_string());
        let over = self.days.listed().into_iter().filter(is_over).map(|job| job["job_id"].clone());
        let over: Vec<Json> = over.collect();
        self.days.scene.gate.forget();
        let args = ["apply", "plan.toml", "--auto-approve", "--new"];
        let mut command = self.days.scene.world.command(&args[..if new { 4 } else { 3 }]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("BATCHPLAN_CHECKPOINT_EVERY", &every).env("BATCHPLAN_FAILPOINT", &point);
        let killed = command.output().expect("the binary runs").status.signal() == Some(9);
        let touched = self.days.touched();
        self.note(format_args!("{} killed ({killed}) at {point}, every {every}: {touched:?}", which.tag()));
        if !killed {
            return;
        }
        // It may have come to its end, and been killed after that.
        let mine: Vec<_> = self.days.listed().into_iter().filter(|job| !over.contains(&job["job_id"])).collect();
        let known = mine.iter().map(|job| {
            let id = job["job_id"].as_str().expect("an id");
            let shown = self.days.scene.run(&["show", id, "--json"]).ended(0).json();
            let count = |name: &str| shown[name].as_u64().expect("a count");
            let settled = count("succeeded") + count("failed");
            assert_eq!(settled + count("in_doubt") + count("not_attempted"), count("total"), "{shown}");
            settled + count("in_doubt")
        });
        let known = known.max().unwrap_or_default();
        assert!(touched.len() as u64 <= known, "{known} are said to be touched\n{}", self.log);
    }

    /// Applies a plan until it says that there is nothing new. Then each object has what the plan gives it.
    fn settle(&mut self, which: Which) {
        let quiet = self.quiet.take().filter(|(last, _)| *last == which);
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 12, "it never ends\n{}", self.log);
            let ran = self.apply(which, false);
            if ran.code == 6 {
                // The other plan's job is not over.
                let unfinished = self.job(false).unwrap_or_else(|| panic!("{}", self.log));
                self.run(&["cancel", &unfinished]);
                continue;
            }
            assert!(matches!(ran.code, 0 | 3), "{}", self.log);
            if ran.json()["nothing_new"] == true {
                break;
            }
            if let (Some((_, changed)), 1) = (&quiet, rounds) {
                let mut expected: BTreeSet<String> =
                    changed.iter().filter(|key| self.objects.contains_key(*key)).cloned().collect();
                expected.insert(GHOST.to_owned());
                let touched: BTreeSet<String> = self.days.touched().into_keys().collect();
                assert_eq!(touched, expected, "nothing happened but this\n{}", self.log);
            }
        }
        for key in self.objects.keys() {
            let learned = self.days.scene.ask("bkt", key, &ObjectRequest::GetTags).expect("its tags");
            let ResponseData::Tags(tags) = learned else { panic!("{learned:?}") };
            let by: Vec<_> = tags.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(by, [("by".to_owned(), which.tag().to_owned())], "{key} was left out\n{}", self.log);
        }
        self.quiet = Some((which, BTreeSet::new()));
    }

    fn pass(mut self) {
        let mut which = self.any();
        for _ in 0..DAYS {
            self.begin_day();
            let hours = CLOCKS[self.rng.usize(..CLOCKS.len())];
            if self.day > 1 && self.rng.bool() {
                self.note(format_args!("the clock is {hours} hours ahead"));
                self.days.set_clock(hours);
            }
            for _ in 0..self.rng.usize(..5) {
                self.act();
            }
            if self.rng.u8(..3) == 0 {
                which = self.any();
            }
            self.settle(which);
        }
    }
}

fn is_over(job: &Json) -> bool {
    matches!(job["status"].as_str(), Some("Complete" | "Cancelled" | "Failed"))
}

fn key(number: u32) -> String {
    format!("k{number}")
}

#[test]
fn whatever_happens_each_object_has_what_the_plan_gives_it() {
    let number = |name: &str, otherwise| std::env::var(name).ok().map_or(otherwise, |it| it.parse().expect("a number"));
    let first: u64 = number("BATCHPLAN_RECURRING_SEED", 1);
    for seed in first..first + number("BATCHPLAN_RECURRING_SEQUENCES", 2) {
        Week::of(seed).pass();
    }
}
