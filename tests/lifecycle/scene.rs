//! A folder with plans, a bucket to work on, and the real binary at work between them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use batchplan::job::{JobId, JobStatus};
use batchplan::journal::JobRecord;
use serde_json::Value as Json;

use crate::bucket::{BucketServer, Count, Faults, Kind, Manner, Object, Seen};
use crate::world::{Ran, World};

/// Tagging everything that the bucket holds.
pub(crate) const TAG: &str =
    "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// What is waited for comes long before this.
const DEADLINE: Duration = Duration::from_mins(2);

/// A job's id as messages show it.
pub(crate) fn short(id: &JobId) -> &str {
    &id.as_str()[..8]
}

/// The folder and the bucket, gone when the test ends.
pub(crate) struct Scene {
    world: World,
    pub(crate) server: BucketServer,
    /// Whether plans trust the server without checking it: then each object is one write, and nothing else is sent.
    pub(crate) trusted: bool,
}

impl Deref for Scene {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Scene {
    /// A bucket `bkt` with the objects `k0000`, `k0001` and so on, and empty ones for lists and reports.
    pub(crate) fn with_objects(count: usize) -> Self {
        Self::paged(count, 1000)
    }

    /// As [`with_objects`](Self::with_objects), with listings in pages of so many keys.
    pub(crate) fn paged(count: usize, page: usize) -> Self {
        let server = BucketServer::start(&["bkt", "lists", "reports"], page, Faults::default(), 0);
        for n in 0..count {
            server.put("bkt", key(n), Object::default());
        }
        Self { world: World::filled(""), server, trusted: true }
    }

    /// Writes `plan.toml`, which works on this bucket.
    pub(crate) fn plan(&self, rest: &str) {
        self.plan_named("plan", rest);
    }

    /// Writes `NAME.toml`, of a plan of that name, which reports on every object. It captures none, unless the plan says so,
    /// so that the requests for an object are those of its operation.
    pub(crate) fn plan_named(&self, name: &str, rest: &str) {
        let endpoint = self.server.endpoint();
        let trust = if self.trusted { "skip_server_check = true\n" } else { "" };
        let store = format!(
            "[store]\n{trust}provider = \"s3\"\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\naddressing = \"path\"\n"
        );
        let report = if rest.contains("[report]") { "" } else { "[report]\nenabled = false\nscope = \"all-tasks\"\n" };
        let undo = if rest.contains("[undo]") { "" } else { "[undo]\ncapture = false\n" };
        self.write(&format!("{name}.toml"), format!("name = \"{name}\"\n{store}{undo}{report}\n{rest}"));
    }

    /// The binary with credentials, as a CI runner would start it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env("AWS_ACCESS_KEY_ID", "AKIDSEEN").env("AWS_SECRET_ACCESS_KEY", "hushhush").env("CI", "true");
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.start(args).over()
    }

    pub(crate) fn apply(&self) -> Ran {
        self.run(&APPLY)
    }

    /// Starts the binary.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// Starts `apply` and waits until so many objects have been served and so many are in flight, which get no answer.
    pub(crate) fn start_and_hold(&self, served: u64, in_flight: u64) -> Running {
        self.hold_after(served);
        let running = self.start(&APPLY);
        self.wait_until_held(served, in_flight);
        running
    }

    /// Has the server answer so many more requests about objects, and none after them.
    pub(crate) fn hold_after(&self, served: u64) {
        let mut left = served;
        self.server.behave(move |seen| {
            if !seen.kind.works() {
                return Manner::Serve;
            }
            if left == 0 {
                return Manner::Wait;
            }
            left -= 1;
            Manner::Serve
        });
    }

    /// Waits until so many writes were served, all told, and so many wait for their answers.
    pub(crate) fn wait_until_held(&self, served: u64, in_flight: u64) {
        until("requests are held", || {
            let counts = [Kind::PutTags, Kind::PutAcl].map(|kind| self.server.count(kind));
            let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
            sum(|count| count.served) >= served && sum(|count| count.arrived - count.served) >= in_flight
        });
    }

    /// Answers everything again, what waits included.
    pub(crate) fn let_go(&self) {
        self.server.behave(|_| Manner::Serve);
    }

    /// Refuses all work on the objects that this picks.
    pub(crate) fn deny(&self, picks: impl Fn(&str) -> bool + Send + 'static) {
        self.server.behave(move |seen: &Seen| {
            let denied = seen.kind.works() && picks(&seen.key);
            if denied { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
        });
    }

    /// The job of a result, as the journal has it.
    #[track_caller]
    pub(crate) fn job(&self, result: &Json) -> JobRecord {
        let id = result["job_id"].as_str().expect("an id");
        self.jobs().into_iter().find(|job| job.id.as_str() == id).expect("the job")
    }

    /// The newest job.
    #[track_caller]
    pub(crate) fn newest(&self) -> JobRecord {
        self.jobs().into_iter().next().expect("a job")
    }

    /// The keys that were written to, in the order in which that was asked for.
    pub(crate) fn written(&self) -> Vec<String> {
        let log = self.server.log().into_iter();
        log.filter(|seen| seen.kind.works() && seen.kind.writes()).map(|seen| seen.key).collect()
    }

    /// How often each object was written to.
    pub(crate) fn writes(&self) -> BTreeMap<String, usize> {
        let mut writes = BTreeMap::new();
        self.written().into_iter().for_each(|key| *writes.entry(key).or_default() += 1);
        writes
    }

    /// The tags of an object, as `a=1 b=2`.
    #[track_caller]
    pub(crate) fn tags(&self, key: &str) -> String {
        let object = self.server.state("bkt", key).unwrap_or_else(|| panic!("no {key}"));
        object.tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// The folder of a job.
    pub(crate) fn folder(&self, job: &JobRecord) -> PathBuf {
        self.path(".batchplan/jobs").join(job.id.as_str())
    }

    /// The keys that the job's report lists, sorted.
    #[track_caller]
    pub(crate) fn reported(&self, job: &JobRecord) -> Vec<String> {
        let folder = self.folder(job).join("report");
        let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
        let manifest: Json = serde_json::from_slice(&manifest).expect("JSON");
        let mut keys = Vec::new();
        for listed in manifest["Results"].as_array().expect("results") {
            let name = listed["Key"].as_str().and_then(|key| key.rsplit('/').next()).expect("a name");
            // The format of AWS keeps its files in a folder of their own.
            let path = [folder.join(name), folder.join("results").join(name)].into_iter().find(|path| path.exists());
            let path = path.unwrap_or_else(|| panic!("{name} is listed and not there"));
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).expect("a file");
            keys.extend(reader.records().map(|row| row.expect("a row")[1].to_owned()));
        }
        keys.sort();
        keys
    }

    /// Fails unless the job's report lists each of these objects, and no other, once.
    #[track_caller]
    pub(crate) fn assert_reported(&self, job: &JobRecord, keys: impl IntoIterator<Item = String>) {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort();
        assert_eq!(self.reported(job), keys);
    }
}

/// `apply plan.toml --auto-approve --json`.
pub(crate) const APPLY: [&str; 4] = ["apply", "plan.toml", "--auto-approve", "--json"];

/// The n-th object's key.
pub(crate) fn key(n: usize) -> String {
    format!("k{n:04}")
}

/// The keys of the first so many objects.
pub(crate) fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(key)
}

/// The rows of a CSV manifest that names these keys.
pub(crate) fn rows(keys: impl IntoIterator<Item = String>) -> String {
    keys.into_iter().map(|key| format!("bkt,{key}\n")).collect::<Vec<_>>().concat()
}

/// Waits for a state: not for time to pass.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The binary at work. It is killed when the test fails.
pub(crate) struct Running {
    child: Child,
    stdout: Heard,
    stderr: Heard,
}

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stdout = Heard::from(child.stdout.take().expect("piped"));
        let stderr = Heard::from(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Sends a signal.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &process]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits until it has said this on standard error.
    #[track_caller]
    pub(crate) fn wait_for(&self, said: &str) {
        until(said, || self.stderr.so_far().contains(said));
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits until it ends.
    pub(crate) fn over(mut self) -> Ran {
        let status = self.child.wait().expect("it ends");
        Ran { code: status.code().unwrap_or(-1), stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process says, read on a thread of its own.
struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut block) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&block[..count]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(&mut self) -> String {
        self.reader.take().map(JoinHandle::join);
        self.so_far()
    }
}

/// Fails unless a job stands there with these counts.
#[track_caller]
pub(crate) fn assert_stands(job: &JobRecord, status: JobStatus, succeeded: u64, failed: u64) {
    let counts = (job.progress.succeeded, job.progress.failed);
    assert_eq!((job.status, counts), (status, (succeeded, failed)), "{:?}", job.reason);
}
