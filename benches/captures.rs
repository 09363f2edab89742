//! What captures take: bytes on disk, memory and processor time.
//!
//! `cargo bench --bench captures` writes the captures of ten million objects in groups of 1,000, and reads them in the order
//! of their rows: with 100 different states, and with a state of its own for each object. `BATCHPLAN_BENCH_ROWS` sets another number of objects. Processor time and memory are the kernel's
//! count for this process (Linux), so that waiting for the disk is not in it; each case is a process of its own.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use batchplan::captures::{Capture, CaptureReader, CaptureWriter, FormerState, FormerValue};
use batchplan_store::object::TagSet;
use batchplan_store::task::TaskId;

/// Captures in a group.
const GROUP: u32 = 1000;

/// Rows of a manifest part.
const PART_ROWS: u32 = 4 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rows = std::env::var("BATCHPLAN_BENCH_ROWS").map_or(Ok(10_000_000), |rows| rows.parse())?;
    if let [action, states, folder] = &arguments[..] {
        let folder = Path::new(folder);
        return if action == "write" { write(rows, states.parse()?, folder) } else { read(rows, folder) };
    }
    for states in [100, rows] {
        let folder = tempfile::tempdir()?;
        for action in ["write", "read"] {
            let mut command = Command::new(std::env::current_exe()?);
            let status = command.args([action, &states.to_string()]).arg(folder.path()).status()?;
            assert!(status.success(), "{status}");
        }
    }
    Ok(())
}

fn state(number: u32) -> Arc<FormerState> {
    let tags = TagSet::from_iter([("Team", format!("team-{number}")), ("Tier", "gold".to_owned())]);
    Arc::new(FormerState { tags: FormerValue::Known(tags), acl: FormerValue::NotCaptured })
}

/// Writes captures. Objects finish in another order than they start, and each is in any of the states.
fn write(rows: u32, states: u32, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut random = fastrand::Rng::with_seed(7);
    let few: Vec<_> = (0..states.min(100)).map(state).collect();
    let mut writer = CaptureWriter::open(folder)?;
    let mut group = Vec::new();
    for start in (0..rows).step_by(GROUP as usize) {
        for row in start..rows.min(start + GROUP) {
            let former = if states > 100 { state(row) } else { Arc::clone(&few[random.usize(..few.len())]) };
            group.push(Capture { row: TaskId { part: row / PART_ROWS, row: row % PART_ROWS }, version: None, former });
        }
        random.shuffle(&mut group);
        writer.append(&group)?;
        group.clear();
    }
    drop(writer);
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len())).collect::<io::Result<Vec<u64>>>()?;
    let bytes: u64 = files.iter().sum();
    let each = f64::from(u32::try_from(bytes / 1000)?) * 1000.0 / f64::from(rows);
    let kind = format!("{rows} captures, {states} states");
    print(&kind, &format!("{bytes} bytes in {} files, {each:.2} an object; written", files.len()), rows)
}

fn read(rows: u32, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let reader = CaptureReader::open(folder)?;
    let mut seen = 0;
    for capture in &reader {
        let TaskId { part, row } = capture?.row;
        assert_eq!(part * PART_ROWS + row, seen, "in order");
        seen += 1;
    }
    assert_eq!(seen, rows);
    print("", "read", rows)
}

fn print(kind: &str, what: &str, rows: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    if !kind.is_empty() {
        writeln!(out, "{kind}")?;
    }
    let each = processor_seconds()? * 1e6 / f64::from(rows);
    writeln!(out, "  {what} in {each:.2} us each, {:.1} MiB of memory at the most", peak_memory()?)?;
    Ok(())
}

/// Seconds of processor time that this process has taken, user and system.
fn processor_seconds() -> io::Result<f64> {
    /// Ticks of `/proc/self/stat` in a second, on every Linux that there is.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS)
}

/// The most memory that this process had, in MiB.
fn peak_memory() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.unwrap_or(0.0) / 1024.0)
}
