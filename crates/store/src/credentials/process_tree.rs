//! A process that is killed together with the processes that it has started.
//!
//! A process group would do that with a single signal, but the system stops a background group that asks for something
//! on the terminal, as some programs for credentials do. Therefore the descendants are looked up by their parents. A
//! descendant whose parent has already ended belongs to the system: on Linux it is found by a variable that it has
//! inherited, elsewhere it is not found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::process::{Child, Command};

/// The variable that marks all processes of a tree.
const MARKER: &str = "_BATCHPLAN_PROCESS_TREE";

/// A running process. If it is dropped before the process has been waited for, the process and its descendants are
/// killed.
#[derive(Debug)]
pub(super) struct ProcessTree {
    root: Child,
    /// The value of [`MARKER`], which no other tree has.
    marker: String,
}

impl ProcessTree {
    /// Starts the process.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let marker = uuid::Uuid::new_v4().simple().to_string();
        let root = command.env(MARKER, &marker).kill_on_drop(true).spawn()?;
        Ok(Self { root, marker })
    }

    /// Returns the process at the root of the tree.
    pub(super) fn root(&mut self) -> &mut Child {
        &mut self.root
    }
}

/// The maximum number of times that new descendants are looked for. Stopped processes start none, so that the second
/// search usually finds none.
const MAX_SEARCHES: usize = 16;

/// The maximum time to look for descendants. It takes milliseconds, unless the system hangs.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

impl Drop for ProcessTree {
    fn drop(&mut self) {
        // A process that was waited for has no ID: another process may have it by now.
        let Some(id) = self.root.id() else { return };
        let marker = std::mem::take(&mut self.marker);
        let given_up = Arc::new(AtomicBool::new(false));
        let is_given_up = Arc::clone(&given_up);
        let (done, ended) = mpsc::channel();
        // On a thread of its own, because the system's list of processes is read with blocking calls, some of which
        // wait for the processes themselves.
        let searching = std::thread::Builder::new().spawn(move || {
            kill_descendants(id, &marker, &is_given_up);
            let _ = done.send(());
        });
        if searching.is_ok() && ended.recv_timeout(SEARCH_TIMEOUT).is_err() {
            given_up.store(true, Ordering::Relaxed);
        }
        // The system has reported no end of this process, so its ID is still its own.
        let _ = self.root.start_kill();
    }
}

/// Stops the process and its descendants, and kills the descendants.
fn kill_descendants(root: u32, marker: &str, is_given_up: &AtomicBool) {
    // All are stopped before one is killed: without their parent the descendants could not be found, and a running
    // process could start another one that is not in the list yet.
    let mut stopped = Vec::new();
    for _ in 0..MAX_SEARCHES {
        let parents = parents();
        let mut found = marked(marker, &parents);
        found.extend(descendants(root, &parents));
        found.push(root);
        found.sort_unstable();
        found.dedup();
        found.retain(|id| !stopped.contains(id));
        // By now, other processes may have these IDs.
        if found.is_empty() || is_given_up.load(Ordering::Relaxed) {
            break;
        }
        for id in &found {
            signal(*id, TreeSignal::Stop);
        }
        stopped.append(&mut found);
    }
    for descendant in stopped.into_iter().filter(|stopped| *stopped != root) {
        signal(descendant, TreeSignal::Kill);
    }
}

/// What is sent to a process.
#[derive(Clone, Copy, Debug)]
enum TreeSignal {
    Stop,
    Kill,
}

/// Returns the processes below `root`, given each process with its parent.
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = parents.iter().filter(|(child, of)| *of == parent && !found.contains(child));
        let children: Vec<_> = children.map(|(child, _)| *child).collect();
        found.extend(children);
        at += 1;
    }
    found.remove(0);
    found
}

/// Sends a signal to a process, which may have ended by itself.
#[cfg(unix)]
fn signal(id: u32, signal: TreeSignal) {
    use rustix::process::{Pid, Signal, kill_process};

    let signal = match signal {
        TreeSignal::Stop => Signal::STOP,
        TreeSignal::Kill => Signal::KILL,
    };
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(not(unix))]
fn signal(_: u32, _: TreeSignal) {}

/// Returns the processes among these that have inherited the marker, with any parent.
#[cfg(target_os = "linux")]
fn marked(marker: &str, processes: &[(u32, u32)]) -> Vec<u32> {
    let variable = format!("{MARKER}={marker}");
    // The environments of other users' processes cannot be read, and cannot be marked.
    let is_marked = |id: u32| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    processes.iter().map(|(id, _)| *id).filter(|id| is_marked(*id)).collect()
}

/// Only Linux shows the environment of another process.
#[cfg(not(target_os = "linux"))]
fn marked(_: &str, _: &[(u32, u32)]) -> Vec<u32> {
    Vec::new()
}

/// Returns all processes with their parents.
#[cfg(target_os = "linux")]
fn parents() -> Vec<(u32, u32)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |stat: &str| {
        // The name of the program, in parentheses, may itself contain parentheses and spaces.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
    };
    let entry = |id: u32| Some((id, parent(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?));
    processes.filter_map(|process| entry(process.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns all processes with their parents.
#[cfg(all(unix, not(target_os = "linux")))]
fn parents() -> Vec<(u32, u32)> {
    let Ok(listed) = std::process::Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output() else {
        return Vec::new();
    };
    let entry = |line: &str| {
        let (child, parent) = line.trim().split_once(char::is_whitespace)?;
        Some((child.parse().ok()?, parent.trim().parse().ok()?))
    };
    String::from_utf8_lossy(&listed.stdout).lines().filter_map(entry).collect()
}

/// Windows ends only the process itself.
#[cfg(not(unix))]
fn parents() -> Vec<(u32, u32)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_at_any_depth() {
        let parents = [(1, 0), (20, 10), (10, 1), (30, 20), (40, 1), (31, 20), (21, 10)];
        assert_eq!(descendants(10, &parents), [20, 21, 30, 31]);
        assert_eq!(descendants(30, &parents), Vec::<u32>::new());
        // A table that changes while it is read may contain a circle.
        assert_eq!(descendants(1, &[(1, 3), (2, 1), (3, 2)]), [2, 3]);
    }

    /// The pipe has a writer as long as one of the processes runs, so its reader sees the end when all are killed.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn grandchildren_are_killed_with_the_process() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'echo started; sleep 1000; true' & sleep 1000; true"]);
        command.stdout(std::process::Stdio::piped());
        let mut tree = ProcessTree::spawn(&mut command).expect("a shell");
        let stdout = tree.root().stdout.take().expect("its output");
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        assert_eq!(lines.next_line().await.expect("readable").as_deref(), Some("started"));
        drop(tree);
        assert_eq!(lines.next_line().await.expect("readable"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn orphans_are_killed_with_the_process() {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sh -c 'echo started; sleep 1000; true' & exit 0"]);
        command.stdout(std::process::Stdio::piped());
        let mut tree = ProcessTree::spawn(&mut command).expect("a shell");
        let stdout = tree.root().stdout.take().expect("its output");
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        assert_eq!(lines.next_line().await.expect("readable").as_deref(), Some("started"));
        // From now on, nothing connects the process that still runs with its parent.
        let stat = format!("/proc/{}/stat", tree.root().id().expect("not waited for"));
        while !std::fs::read_to_string(&stat).expect("a zombie").contains(") Z ") {
            tokio::task::yield_now().await;
        }
        drop(tree);
        assert_eq!(lines.next_line().await.expect("readable"), None);
    }
}
