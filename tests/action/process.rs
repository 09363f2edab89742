//! A step's process: started as the runner does, heard line by line, and told to go as the runner does when a
//! workflow is cancelled: SIGINT, SIGTERM after 7.5 s, SIGKILL 2.5 s later, each to the step's own process and to no
//! other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the runner sends, and how long after the step was cancelled.
const SIGNALS: [(&str, Duration); 3] =
    [("INT", Duration::ZERO), ("TERM", Duration::from_millis(7500)), ("KILL", Duration::from_secs(10))];

/// No step takes longer.
const DEADLINE: Duration = Duration::from_mins(3);

/// How long after a step's end its output may stay open.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// How a process ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// What it was sent.
    pub(crate) signals: Vec<&'static str>,
    /// Every line that it wrote, to whichever stream.
    pub(crate) log: Vec<String>,
}

/// Runs a script to its end. Once `cancelled` says so, it is told to go.
pub(crate) fn run(
    script: &Path,
    shell: &[&str],
    folder: &Path,
    env: &BTreeMap<String, String>,
    cancelled: &mut dyn FnMut() -> bool,
) -> Ended {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(folder).env_clear().envs(env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shell:?} in {}: {error}", folder.display()));
    let log = Arc::new(Mutex::new(Vec::new()));
    let readers =
        [listen(child.stdout.take().expect("piped"), &log), listen(child.stderr.take().expect("piped"), &log)];
    let (code, signals) = wait(&mut child, cancelled);
    let over = Instant::now();
    while !readers.iter().all(JoinHandle::is_finished) {
        assert!(over.elapsed() < LEFT_BEHIND, "a step has left a process behind, which still holds its output");
        thread::sleep(Duration::from_millis(5));
    }
    let log = log.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ended { code, signals, log }
}

fn wait(child: &mut Child, cancelled: &mut dyn FnMut() -> bool) -> (Option<i32>, Vec<&'static str>) {
    let (begun, mut since, mut signals) = (Instant::now(), None, Vec::new());
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return (status.code(), signals);
        }
        if since.is_none() && cancelled() {
            since = Some(Instant::now());
        }
        if let Some(since) = since
            && let Some((signal, after)) = SIGNALS.get(signals.len())
            && since.elapsed() >= *after
        {
            let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            assert!(sent.expect("kill").success());
            signals.push(*signal);
        }
        if begun.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("a step does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn listen(from: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // The runner's lines end at either.
            let line = String::from_utf8_lossy(&line).into_owned();
            let lines = line.split('\r').map(str::to_owned);
            log.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        }
    })
}

/// A script in a file of its own, as the runner has it.
pub(crate) fn script(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join(format!("{}.sh", uuid::Uuid::new_v4().simple()));
    fs::write(&path, text).expect("written");
    path
}

#[test]
fn who_does_not_listen_is_killed_as_the_runner_does_it_and_nobody_else_is_signalled() {
    let folder = tempfile::tempdir().expect("a folder");
    // The child outlives its parent, since nothing is sent to it.
    let child = "(touch up; while [ -e up ]; do sleep 0.1; done; touch left) >/dev/null 2>&1 &";
    let path = script(folder.path(), &format!("trap '' INT TERM\n{child}\nexec sleep 60\n"));
    let up = folder.path().join("up");
    let begun = Instant::now();
    let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let ended = run(&path, &["bash", "-e"], folder.path(), &env, &mut || up.exists());
    assert_eq!((ended.code, ended.signals), (None, vec!["INT", "TERM", "KILL"]));
    assert!(begun.elapsed() >= Duration::from_secs(10));
    fs::remove_file(&up).expect("removed");
    while !folder.path().join("left").exists() {
        assert!(begun.elapsed() < DEADLINE, "the child was ended");
        thread::sleep(Duration::from_millis(20));
    }
}
