//! A process that is killed together with the processes that it has started.
//!
//! A process group would do that with a single signal, but the system stops a background group that asks for something
//! on the terminal, as some programs for credentials do. Therefore the descendants are looked up. A descendant whose
//! parent has already ended belongs to the system and is not found.

use std::io;

use tokio::process::{Child, Command};

/// A running process. If it is dropped before the process has been waited for, the process and its descendants are
/// killed.
#[derive(Debug)]
pub(super) struct ProcessTree(Child);

impl ProcessTree {
    /// Starts the process.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        command.kill_on_drop(true).spawn().map(Self)
    }

    /// Returns the process at the root of the tree.
    pub(super) fn root(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// The maximum number of times that new descendants are looked for. Stopped processes start none, so that the second
/// search usually finds none.
const MAX_SEARCHES: usize = 16;

impl Drop for ProcessTree {
    fn drop(&mut self) {
        // A process that was waited for has no ID: another process may have it by now.
        let Some(id) = self.0.id() else { return };
        // All are stopped before one is killed: without their parent the descendants could not be found, and a running
        // process could start another one that is not in the list yet.
        let mut stopped = Vec::new();
        for _ in 0..MAX_SEARCHES {
            let mut found = descendants(id, &parents());
            found.push(id);
            found.retain(|id| !stopped.contains(id));
            if found.is_empty() {
                break;
            }
            for id in &found {
                signal(*id, TreeSignal::Stop);
            }
            stopped.append(&mut found);
        }
        for descendant in stopped.into_iter().filter(|stopped| *stopped != id) {
            signal(descendant, TreeSignal::Kill);
        }
        // The system has reported no end of this process, so its ID is still its own.
        let _ = self.0.start_kill();
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
}
