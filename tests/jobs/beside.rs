//! Orders from a second process to one that works on the job.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use crate::bucket::{BucketServer, Faults, Object};
use crate::fixture::{newest, short, show, wait_for};
use crate::world::{Ran, World, report_rows};

/// Objects of the slow job: at one request a second it would take ten minutes, longer than any test waits.
const OBJECTS: usize = 600;

/// A process that works on a slow job, in a bucket that several processes reach.
struct Slow {
    world: World,
    server: BucketServer,
    child: Option<Child>,
    job: String,
}

impl Slow {
    /// Starts the job and waits until an object has its outcome.
    fn start() -> Self {
        let server = BucketServer::start(&["bkt", "reports"], 1000, Faults::default(), 0);
        (0..OBJECTS).for_each(|n| server.put("bkt", format!("k{n}"), Object::default()));
        let world = World::filled("");
        let mut slow = Self { world, server, child: None, job: String::new() };
        slow.plan(1);
        let mut command = slow.command(&["apply", "plan.toml", "--auto-approve", "--json"]);
        slow.child = Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs"));
        slow.job = wait_for("a job", || {
            let listed = slow.run(&["list", "--json", "--status", "active"]).ended(0).json();
            listed["jobs"][0]["job_id"].as_str().map(str::to_owned)
        });
        wait_for("an outcome", || (slow.show()["succeeded"].as_u64() > Some(0)).then_some(()));
        slow
    }

    /// Writes the plan, with so many requests a second.
    fn plan(&self, rate: u32) {
        self.world.write(
            "plan.toml",
            format!(
                "name = \"slow\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{}\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
                 [undo]\ncapture = false\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n[report]\nbucket = \"reports\"\n\
                 [limits]\nrequests_per_second = {rate}\n",
                self.server.endpoint()
            ),
        );
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("the binary runs"))
    }

    fn show(&self) -> serde_json::Value {
        show(&self.world, &self.job)
    }

    /// How the first process ended.
    fn ended(&mut self, code: i32) -> Ran {
        let child = self.child.take().expect("a process");
        Ran::of(&child.wait_with_output().expect("it ends")).ended(code)
    }

    /// The keys in the report, each of which is there once.
    fn reported(&self) -> BTreeSet<String> {
        let rows = report_rows(&self.world.path(".batchplan/jobs").join(&self.job).join("report"));
        let keys: BTreeSet<_> = rows.iter().map(|row| row[1].clone()).collect();
        assert_eq!(keys.len(), rows.len());
        keys
    }

    /// The keys of the objects that have their tag.
    fn tagged(&self) -> BTreeSet<String> {
        let keys = (0..OBJECTS).map(|n| format!("k{n}"));
        keys.filter(|key| !self.server.state("bkt", key).expect("an object").tags.is_empty()).collect()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test that failed leaves no process behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_pause_from_elsewhere_stops_the_job_and_it_goes_on_later() {
    let mut slow = Slow::start();
    let ran = slow.run(&["pause", &slow.job[..8], "--json"]).ended(0);
    assert_eq!(
        ran.stderr,
        format!("job {0} is Paused: requested by `batchplan pause`\nnext: batchplan resume {0}\n", short(&slow.job))
    );
    assert_eq!(ran.json()["status"], "Paused");
    let first = slow.ended(5).json();
    assert_eq!(first["status"], "Paused");
    let settled = first["succeeded"].as_u64().expect("a count");
    assert!(0 < settled && settled < OBJECTS as u64, "{first}");
    assert_eq!(slow.tagged().len() as u64, settled);
    let shown = slow.show();
    assert_eq!((&shown["cause"], &shown["holder"]), (&"person".into(), &serde_json::Value::Null));
    slow.plan(10_000);
    let ran = slow.run(&["resume", &slow.job, "--json"]).ended(0);
    assert_eq!(ran.json()["succeeded"], OBJECTS);
    assert_eq!(slow.reported().len(), OBJECTS);
    assert_eq!(slow.tagged().len(), OBJECTS);
}

#[test]
fn a_cancel_from_elsewhere_ends_the_job_and_its_report_is_right() {
    let mut slow = Slow::start();
    let ran = slow.run(&["cancel", &slow.job, "--reason", "wrong tags"]).ended(0);
    assert!(ran.stderr.starts_with(&format!("job {} is Cancelled: wrong tags\n", short(&slow.job))), "{}", ran.stderr);
    let first = slow.ended(7);
    assert_eq!((&first.json()["status"], &first.json()["reason"]), (&"Cancelled".into(), &"wrong tags".into()));
    assert!(first.stderr.contains("Cancelled: wrong tags\n"), "{}", first.stderr);
    let settled = first.json()["succeeded"].as_u64().expect("a count");
    assert!(settled < OBJECTS as u64, "{settled}");
    assert_eq!(slow.reported(), slow.tagged());
    assert_eq!(slow.reported().len() as u64, settled);
    let shown = slow.show();
    assert_eq!(
        (&shown["report_state"], &shown["not_attempted"]),
        (&"published".into(), &(OBJECTS as u64 - settled).into())
    );
    assert!(slow.server.uploads("reports").keys().any(|key| key.ends_with("manifest.json")));
}

#[test]
fn a_priority_from_elsewhere_is_the_jobs_and_the_job_goes_on() {
    let slow = Slow::start();
    let before = slow.show();
    assert_eq!(before["holder"], format!("process {}", slow.child.as_ref().expect("a process").id()));
    let ran = slow.run(&["priority", &slow.job, "1000", "--json"]).ended(0);
    assert_eq!(ran.json()["priority"], 1000);
    wait_for("another outcome", || {
        let now = slow.show();
        assert_eq!((&now["status"], &now["priority"]), (&"Active".into(), &1000.into()));
        (now["succeeded"].as_u64() > before["succeeded"].as_u64()).then_some(())
    });
}

#[test]
fn what_a_running_job_cannot_do_is_refused() {
    let slow = Slow::start();
    for args in [&["confirm", &slow.job][..], &["delete", &slow.job, "--auto-approve"]] {
        let ran = slow.run(args).ended(6);
        assert!(ran.stderr.contains(&format!("job {} is Active: ", short(&slow.job))), "{}", ran.stderr);
    }
    assert_eq!(slow.show()["status"], "Active");
    let page = slow.run(&["show", &slow.job]).ended(0).stdout;
    assert!(page.ends_with(&format!("next: batchplan show {} --watch\n", short(&slow.job))), "{page}");
}

#[test]
fn two_processes_never_work_on_one_job() {
    let slow = Slow::start();
    let holder = slow.child.as_ref().expect("a process").id();
    for args in [&["apply", "plan.toml", "--auto-approve"][..], &["resume", &slow.job]] {
        let ran = slow.run(args).ended(6);
        assert!(ran.stderr.contains(&format!("it is in use by process {holder}\n")), "{}", ran.stderr);
    }
    assert_eq!(newest(&slow.world), slow.job, "no other job was made");
    assert_eq!(slow.show()["interrupted"], false);
}

#[test]
fn watching_ends_with_the_work() {
    let mut slow = Slow::start();
    let watch = |slow: &Slow, more: &[&str]| {
        let mut command = slow.command(&[&["show", &slow.job, "--watch"], more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        out.read_line(&mut first).expect("read");
        (child, out, first)
    };
    let (mut lines, mut said, first) = watch(&slow, &[]);
    assert!(first.starts_with("Active: "), "{first}");
    let (mut objects, mut told, first_object) = watch(&slow, &["--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&first_object).expect("JSON")["status"], "Active");
    // One that watches leaves at once when it is told to, and what it watches goes on. Its stdout stays open: a
    // reader that leaves would end it as well.
    let (mut interrupted, _stdout, _) = watch(&slow, &[]);
    let killed = Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    assert_eq!(interrupted.wait().expect("it ends").code(), None);
    assert_eq!(slow.show()["status"], "Active");

    slow.run(&["pause", &slow.job]).ended(0);
    slow.ended(5);
    assert!(lines.wait().expect("it ends").success() && objects.wait().expect("it ends").success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("read");
    let last = rest.lines().last().unwrap_or(&first).to_owned();
    assert!(last.starts_with("Paused: ") && last.contains(&format!(" of {OBJECTS} objects, 0 failed")), "{last}");
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("read");
    let last: serde_json::Value = serde_json::from_str(rest.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["status"], "Paused");
}

#[test]
fn on_a_screen_a_watched_job_is_drawn_in_place() {
    let mut slow = Slow::start();
    let binary = env!("CARGO_BIN_EXE_batchplan");
    let mut child = Command::new("script")
        .args(["-qec", &format!("exec '{binary}' show {} --watch", slow.job), "/dev/null"])
        .current_dir(slow.world.path(""))
        .env_remove("BATCHPLAN_STATE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of the package bsdutils or util-linux");
    let mut stdout = child.stdout.take().expect("piped");
    let (mut screen, mut block, mut paused) = (Vec::new(), [0; 1024], false);
    while let Ok(count @ 1..) = stdout.read(&mut block) {
        screen.extend_from_slice(&block[..count]);
        if !paused && String::from_utf8_lossy(&screen).contains("not attempted") {
            paused = true;
            slow.run(&["pause", &slow.job]).ended(0);
        }
    }
    assert!(child.wait().expect("it ends").success());
    slow.ended(5);
    let screen = String::from_utf8_lossy(&screen).into_owned();
    let active = screen.find(&format!("job {} is Active", short(&slow.job))).expect("it was at work");
    let last = screen.rfind(&format!("job {} is Paused", short(&slow.job))).expect("it is paused");
    // What stood there is cleared away line by line before the next.
    assert!(screen[active..last].contains("\u{1b}[2K"), "{screen}");
    assert!(!screen[last..].contains('\u{1b}'), "{screen}");
    assert!(screen.trim_end().ends_with(&format!("next: batchplan resume {}", short(&slow.job))), "{screen}");
}
