//! The real binary, run until it ends or is killed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};

use crate::bucket::BucketServer;
use crate::scenario::{CHECKPOINT_EVERY, Kill};

/// What `kill -9` sends.
const SIGKILL: i32 = 9;

/// How a run ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn killed(&self) -> bool {
        self.status.signal() == Some(SIGKILL)
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// `batchplan apply plan.toml --auto-approve --json` in this folder, killed when the time comes.
pub(crate) fn apply(folder: &Path, server: &BucketServer, kill: Option<&Kill>) -> Ended {
    apply_with(folder, server, kill, None)
}

/// The same, with the state kept there.
pub(crate) fn apply_with(folder: &Path, server: &BucketServer, kill: Option<&Kill>, state: Option<&str>) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    command
        .args(["apply", "plan.toml", "--auto-approve", "--json"])
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("BATCHPLAN_CHECKPOINT_EVERY", CHECKPOINT_EVERY.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(state) = state {
        command.args(["--state", state]).env("BATCHPLAN_LEASE_MS", "1500").env("BATCHPLAN_PUSH_MS", "150");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    }
    if let Some(Kill::Failpoint { name, nth }) = kill {
        command.env("BATCHPLAN_FAILPOINT", format!("{name}:{nth}"));
    }
    let child = Arc::new(Mutex::new(None::<Child>));
    let (stdout, stderr) = {
        // Held until the process is where the hook looks for it: a request of the run before may come late.
        let mut place = child.lock().expect("nobody panicked with it");
        if let Some(Kill::Request { nth, among, moment }) = kill {
            let victim = Arc::clone(&child);
            server.call_at(*nth, among.test(), *moment, move || end(&victim));
        }
        let child = place.insert(command.spawn().expect("the binary runs"));
        (told(child.stdout.take().expect("piped")), told(child.stderr.take().expect("piped")))
    };
    // Both end with the process, so that the lock is free while the hook may want it.
    let stdout = stdout.join().expect("read");
    let stderr = stderr.join().expect("read");
    server.call_no_more();
    let mut place = child.lock().expect("nobody panicked with it");
    let status = place.as_mut().expect("a process").wait().expect("ended");
    Ended { status, stdout, stderr }
}

/// Kills the process and sees it gone, before the server does anything else.
fn end(victim: &Mutex<Option<Child>>) {
    let mut place = victim.lock().expect("nobody panicked with it");
    let child = place.as_mut().expect("a process");
    child.kill().expect("killed");
    child.wait().expect("ended");
}

/// Reads on a thread of its own, so that neither output waits for the other.
fn told(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
