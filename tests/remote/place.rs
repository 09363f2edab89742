//! A bucket that is worked on, one that keeps the state, and as many machines as a test wants.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{AddressingStyle, HttpStore, ListRequest, ObjectContent, Store, StoreConfig, StoreProvider};
use md5::Digest as _;
use serde_json::Value as Json;
use tokio::io::AsyncReadExt as _;

use crate::bucket::{BucketServer, Faults, Kind, Manner, Object};

/// Objects in flight at once.
const CONCURRENCY: u64 = 4;

/// What is waited for comes long before this.
const DEADLINE: Duration = Duration::from_mins(2);

/// All of it, gone when the test ends.
pub(crate) struct Place {
    pub(crate) work: BucketServer,
    pub(crate) state: SandboxServer,
    folder: tempfile::TempDir,
}

/// What a run of the binary came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails with everything the run said, unless it ended so.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless it said this.
    #[track_caller]
    pub(crate) fn said(self, what: &str) -> Self {
        assert!(self.stderr.contains(what), "{what:?} is not in:\n{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.stdout, self.stderr))
    }
}

impl Place {
    /// A bucket with the objects `k0000`, `k0001` and so on.
    pub(crate) fn with_objects(count: usize) -> Self {
        let work =
            BucketServer::start(&["bkt", "bkt-0", "bkt-1", "bkt-2", "reports", "states"], 100, Faults::default(), 0);
        for n in 0..count {
            work.put("bkt", key(n), Object::default());
        }
        let folder = tempfile::tempdir().expect("a folder");
        let fill = folder.path().join("fill.csv");
        fs::write(&fill, "bucket,key\nstates,readme\n").expect("written");
        let sandbox = Sandbox::in_memory(Some(&fill), SandboxOptions::default()).expect("a sandbox");
        let state = SandboxServer::start(sandbox, (std::net::Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server");
        Self { work, state, folder }
    }

    /// Where the state is kept.
    pub(crate) fn url(&self) -> String {
        format!("s3://states/team?endpoint={}", self.state.endpoint())
    }

    /// The plan that all machines have. It captures nothing, so that each object is one request.
    fn plan(&self, state: &str) -> String {
        format!(
            "name = \"handed over\"\n\
             [store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{}\"\nregion = \"us-east-1\"\naddressing = \"path\"\n\
             [undo]\ncapture = false\n[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n\
             [report]\nbucket = \"reports\"\nscope = \"all-tasks\"\n\
             [job]\nclient_request_token = \"once\"\n\
             [limits]\nconcurrency = {CONCURRENCY}\nfailure_threshold = 1.0\n[state]\nurl = \"{state}\"\n",
            self.work.endpoint()
        )
    }

    /// A machine that has the plan and nothing else.
    pub(crate) fn machine(&self, name: &str) -> Machine<'_> {
        self.machine_with(name, &self.url())
    }

    /// One whose plan keeps its state there.
    pub(crate) fn machine_with(&self, name: &str, state: &str) -> Machine<'_> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).expect("a new machine");
        fs::write(folder.join("plan.toml"), self.plan(state)).expect("written");
        Machine { place: self, folder }
    }

    /// One with a plan of its own, for the objects of another bucket.
    pub(crate) fn machine_of(&self, name: &str, bucket: &str, state: &str) -> Machine<'_> {
        let machine = self.machine_with(name, state);
        let plan =
            self.plan(state).replace("\"bkt\"", &format!("\"{bucket}\"")).replace("\"once\"", &format!("\"{name}\""));
        fs::write(machine.path("plan.toml"), plan.replace("handed over", name)).expect("written");
        machine
    }

    /// Has the server answer so many more requests about objects, and none after them.
    pub(crate) fn hold_after(&self, served: u64) {
        let mut left = served;
        self.work.behave(move |seen| {
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

    /// Waits until so many objects were written, and as many as may be in flight wait for their answer.
    pub(crate) fn wait_until_held(&self, served: u64) {
        until("requests are held", || {
            let count = self.work.count(Kind::PutTags);
            count.served >= served && count.arrived >= count.served + CONCURRENCY
        });
    }

    /// Answers everything again, what waits included.
    pub(crate) fn let_go(&self) {
        self.work.behave(|_| Manner::Serve);
    }

    /// The keys that published reports list, sorted; there is one report.
    #[track_caller]
    pub(crate) fn reported(&self) -> Vec<String> {
        let uploads = self.work.uploads("reports");
        let manifests: Vec<_> = uploads.keys().filter(|key| key.ends_with("manifest.json")).collect();
        let [manifest] = manifests[..] else { panic!("{:?}", uploads.keys()) };
        let manifest: Json = serde_json::from_slice(&uploads[manifest]).expect("JSON");
        let mut keys = Vec::new();
        for listed in manifest["Results"].as_array().expect("results") {
            let file = &uploads[listed["Key"].as_str().expect("a key")];
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&file[..]);
            keys.extend(reader.records().map(|row| row.expect("a row")[1].to_owned()));
        }
        keys.sort();
        keys
    }

    /// The bucket of the state, through the store port.
    pub(crate) fn chest(&self) -> Chest {
        let config = StoreConfig {
            provider: StoreProvider::S3,
            endpoint: Some(self.state.endpoint()),
            region: Some("us-east-1".to_owned()),
            addressing: AddressingStyle::Path,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
        };
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
        let provider = SharedCredentialsProvider::new(credentials);
        let store = Arc::new(HttpStore::s3(&config, "us-east-1", provider).expect("a store"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Chest { runtime, store }
    }
}

/// What the state is made of.
pub(crate) struct Chest {
    runtime: tokio::runtime::Runtime,
    store: Arc<HttpStore>,
}

impl Chest {
    /// The names below the state's prefix that begin so.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let request = ListRequest {
            bucket: BucketName::new("states"),
            prefix: ObjectKey::from(format!("team/{below}").as_str()),
            all_versions: false,
            group_by_directory: false,
            from: None,
        };
        let page = self.runtime.block_on(self.store.list(&request)).expect("a listing");
        page.entries.iter().map(|entry| entry.key.to_string()["team/".len()..].to_owned()).collect()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let key = ObjectKey::from(format!("team/{name}").as_str());
            let mut opened = self.store.read(&BucketName::new("states"), &key, None).await.expect("it is there");
            let mut content = Vec::new();
            opened.body.read_to_end(&mut content).await.expect("read");
            content
        })
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(content));
        let key = ObjectKey::from(format!("team/{name}").as_str());
        let content = ObjectContent::Bytes(content.to_vec().into());
        self.runtime.block_on(self.store.write(&BucketName::new("states"), &key, content, &md5)).expect("written");
    }

    pub(crate) fn remove(&self, name: &str) {
        let key = ObjectKey::from(format!("team/{name}").as_str());
        self.runtime.block_on(self.store.delete(&BucketName::new("states"), &key)).expect("removed");
    }
}

/// A folder that stands for a machine.
pub(crate) struct Machine<'a> {
    place: &'a Place,
    folder: PathBuf,
}

impl Machine<'_> {
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The binary, as a CI runner would start it, in a hurry: locks are good for six seconds.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let binary = std::env::var_os("BATCHPLAN_TEST_BINARY");
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_batchplan").into()));
        command.args(args).current_dir(&self.folder).env_clear().stdin(Stdio::null());
        command.env("HOME", &self.folder).env("AWS_EC2_METADATA_DISABLED", "true").env("CI", "true");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", SECRET_KEY);
        command.env("USER", self.folder.file_name().expect("a name"));
        command.env("BATCHPLAN_LEASE_MS", "6000").env("BATCHPLAN_PUSH_MS", "200");
        command.env("BATCHPLAN_CHECKPOINT_EVERY", "8");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
    }

    /// `apply plan.toml --auto-approve --json`.
    pub(crate) fn apply(&self) -> Ran {
        self.run(&APPLY)
    }

    /// Starts the binary.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        start(self.command(args))
    }

    /// Starts `apply` and waits until so many objects have been served, and some are in flight, which get no answer.
    pub(crate) fn start_and_hold(&self, served: u64) -> Running {
        self.place.hold_after(served);
        let running = self.start(&APPLY);
        self.place.wait_until_held(served);
        running
    }
}

/// Starts the binary as [`Machine::command`] gave it, and changed.
pub(crate) fn start(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    Running { child, stdout: told(stdout), stderr: told(stderr) }
}

/// `apply plan.toml --auto-approve --json`.
pub(crate) const APPLY: [&str; 4] = ["apply", "plan.toml", "--auto-approve", "--json"];

/// The binary at work.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Told,
    stderr: Told,
}

impl Running {
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// `kill -9`, and what it had said until then.
    pub(crate) fn kill(mut self) -> Ran {
        self.child.kill().expect("killed");
        self.over()
    }

    pub(crate) fn over(mut self) -> Ran {
        let code = self.child.wait().expect("ended").code();
        Ran { code, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) {
        until(what, || self.stderr.so_far().contains(what));
    }
}

/// What is read on a thread of its own, so that neither output waits for the other.
struct Told {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Told {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("nobody panicked with it")).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().expect("read");
        String::from_utf8_lossy(&self.text.lock().expect("nobody panicked with it")).into_owned()
    }
}

fn told(mut from: impl Read + Send + 'static) -> Told {
    let text = Arc::<Mutex<Vec<u8>>>::default();
    let ours = Arc::clone(&text);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer).expect("read") {
                0 => return,
                read => ours.lock().expect("nobody panicked with it").extend_from_slice(&buffer[..read]),
            }
        }
    });
    Told { text, reader }
}

/// The n-th object's key.
pub(crate) fn key(n: usize) -> String {
    format!("k{n:04}")
}

/// The keys of the first so many objects.
pub(crate) fn keys(count: usize) -> Vec<String> {
    (0..count).map(key).collect()
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
