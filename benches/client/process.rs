//! Processes, and what the kernel says that they took (Linux).

use std::fs;
use std::io::{self, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux that there is.
const TICKS: f64 = 100.0;

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Seconds of processor time, user and system, of all its threads.
    pub(crate) cpu: f64,
    /// The most memory that it had at once, in MiB.
    pub(crate) peak: f64,
}

/// Runs a command on one core to its end.
pub(crate) fn run(mut command: Command) -> io::Result<Took> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut peak = 0.0_f64;
    // The counts of a process can be read until its parent waits for it.
    let cpu = loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        if fields.first() == Some(&"Z") {
            let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
            break (ticks(11) + ticks(12)) / TICKS;
        }
        peak = peak.max(high_water(child.id()));
        sleep(Duration::from_millis(5));
    };
    let output = child.wait()?;
    if output.success() {
        return Ok(Took { cpu, peak });
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        io::Read::read_to_string(&mut BufReader::new(stderr), &mut said)?;
    }
    Err(io::Error::other(format!("{command:?} ended with {output}: {said}")))
}

/// `VmHWM`. What `getrusage` says of memory may be its parent's.
fn high_water(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A command that has one core, where there are two and `taskset` is there.
pub(crate) fn pinned(core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    let there = Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok();
    if several && there {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core.to_string()).arg(program);
        return command;
    }
    Command::new(program)
}
