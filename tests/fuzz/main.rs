//! Every format that comes from outside, with mutated input: nothing panics, hangs or takes much memory.
//!
//! Each target mutates its corpus by a seed, so that a run can be repeated. By default a run is short;
//! `BATCHPLAN_FUZZ_SECONDS` says how many seconds each target takes, `BATCHPLAN_FUZZ_SEED` where it begins, and
//! `BATCHPLAN_FUZZ_INPUT` runs one file, such as one that a failed run kept. The same targets are run with coverage by
//! `cargo fuzz`, whose corpora are written to the folder that `BATCHPLAN_FUZZ_CORPUS` names; see `fuzz/README.md`.

#[path = "../support/inventory.rs"]
mod inventory;
mod mutate;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use mutate::Mutator;
use targets::{TARGETS, Target};

/// The most memory that the whole process may ever have taken, in KiB: a gibibyte.
const MOST_MEMORY: u64 = 1 << 20;

/// Panics of any thread so far. Most threads' panics end up as errors, which a target takes for a refusal.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// One target at a time, so that a panic can be told whose it is.
static TURN: Mutex<()> = Mutex::new(());

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

/// Runs a target on one input, and fails with the input kept where anything panicked.
fn run_one(target: &Target, input: &[u8], origin: &str) {
    let before = PANICS.load(Ordering::SeqCst);
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if ended.is_ok() && PANICS.load(Ordering::SeqCst) == before {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target.name);
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(origin);
    fs::write(&file, input).expect("written");
    panic!(
        "target {} panicked; run it again with BATCHPLAN_FUZZ_INPUT={} cargo test --test fuzz {}",
        target.name,
        file.display(),
        target.name
    );
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    count_panics();
    if let Some(file) = std::env::var_os("BATCHPLAN_FUZZ_INPUT") {
        return run_one(target, &fs::read(file).expect("the input"), "input");
    }
    let mut corpus = (target.corpus)();
    corpus.extend(kept(name));
    assert!(!corpus.is_empty(), "a target needs a corpus");
    if let Some(folder) = std::env::var_os("BATCHPLAN_FUZZ_CORPUS") {
        write_corpus(&Path::new(&folder).join(name), &corpus);
    }
    for (number, input) in corpus.iter().enumerate() {
        run_one(target, input, &format!("corpus-{number}"));
    }
    let seed = number("BATCHPLAN_FUZZ_SEED").unwrap_or(0);
    let time = number("BATCHPLAN_FUZZ_SECONDS").map(Duration::from_secs);
    let mut mutator = Mutator::new(seed, corpus);
    let (begun, mut runs, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while time.map_or(runs < target.short, |time| begun.elapsed() < time) {
        let input = mutator.next_input();
        let at = Instant::now();
        run_one(target, &input, &format!("seed-{seed}-run-{runs}"));
        slowest = slowest.max(at.elapsed());
        runs += 1;
    }
    say(format_args!("{name}: {runs} inputs in {:?}, the slowest in {slowest:?}", begun.elapsed()));
    let memory = most_memory();
    assert!(memory < MOST_MEMORY, "{memory} KiB of memory were taken");
}

#[expect(clippy::print_stdout, reason = "a run by hand shows how far it came")]
fn say(what: std::fmt::Arguments<'_>) {
    println!("{what}");
}

fn write_corpus(folder: &Path, corpus: &[Vec<u8>]) {
    fs::create_dir_all(folder).expect("a folder");
    for (number, input) in corpus.iter().enumerate() {
        fs::write(folder.join(format!("{number:04}")), input).expect("written");
    }
}

/// Inputs that once were trouble, and others that no fixture has.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).expect("a file")).collect()
}

/// The most memory that the process has taken, in KiB; 0 where the system does not say.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

macro_rules! fuzz {
    ($($test:ident),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                run(stringify!($test));
            }
        )+

        #[test]
        fn every_target_is_run() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($test)),+]);
        }
    };
}

fuzz!(
    plan,
    prices,
    saved_plan,
    import,
    csv,
    inventory_manifest,
    inventory_csv,
    inventory_parquet,
    inventory_orc,
    report,
    journal,
    remote_state,
    answers,
);
