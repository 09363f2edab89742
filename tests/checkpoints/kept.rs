//! A copy of what an earlier version left, with a server to resume it on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use batchplan::journal::{JobQuery, JobRecord, Journal};
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::{AddressingStyle, HttpStore, ListRequest, Store, StoreConfig, StoreProvider};
use jiff::Timestamp;
use rusqlite::Connection;

use crate::folders;
use crate::world::Ran;

/// What a checkpoint is resumed on.
pub(crate) struct Checkpoint {
    /// The objects of `bkt`.
    pub(crate) keys: Vec<String>,
    /// Whose `fill.files` the server has, where it is not its own.
    pub(crate) files_of: Option<&'static str>,
    /// Whether the plan's store is the sandbox in the binary.
    pub(crate) in_process: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { keys: (0..60).map(key).collect(), files_of: None, in_process: false }
    }
}

/// The copy, and the servers; all are gone when the test ends.
pub(crate) struct Left {
    folder: tempfile::TempDir,
    server: SandboxServer,
    /// Keeps the state, where it is in a bucket.
    chest: Option<SandboxServer>,
    keys: Vec<String>,
    in_process: bool,
}

impl Left {
    /// What was left under this name.
    pub(crate) fn of(name: &str, checkpoint: &Checkpoint) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints/kept/0.1.0");
        folders::copy(&kept.join(name), folder.path());
        let Checkpoint { keys, files_of, in_process } = checkpoint;
        let bucket = folder.path().join("bucket");
        let chest = bucket.exists().then(|| {
            let sandbox = Sandbox::open(&bucket, None, SandboxOptions::default()).expect("a sandbox");
            SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server")
        });
        let fill = folder.path().join("server.csv");
        let mut rows = String::from("bucket,key\nlater,seed\n");
        for key in keys {
            writeln!(rows, "bkt,{key}").expect("written");
        }
        fs::write(&fill, rows).expect("written");
        let files = kept.join(files_of.unwrap_or(name)).join("fill.files");
        if files.exists() {
            folders::copy(&files, &folder.path().join("server.files"));
        }
        let address = match &chest {
            Some(_) => address_of(&fs::read_to_string(folder.path().join("plan.toml")).expect("a plan")),
            None => (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let server = serve(&fill, address);
        let left = Self { folder, server, chest, keys: keys.clone(), in_process: *in_process };
        if !left.in_process && left.chest.is_none() {
            left.move_in();
        }
        left
    }

    /// Puts this server's address, and this folder, where those of then stood.
    fn move_in(&self) {
        let file = self.path("plan.toml");
        let text = fs::read_to_string(&file).expect("a plan");
        let line = text.lines().find(|line| line.starts_with("endpoint")).expect("an endpoint");
        let moved = text.replace(line, &format!("endpoint = \"{}\"", self.server.endpoint()));
        fs::write(&file, &moved).expect("written");
        let now = Timestamp::now();
        let (plan, problems) = batchplan::plan::read("plan.toml", &moved, self.folder.path(), now);
        let plan = plan.unwrap_or_else(|| panic!("{problems:?}"));
        let journal = Connection::open(self.path("state/journal.db")).expect("a journal");
        let row = (moved.as_bytes(), plan.hash(), plan.identity(), file.display().to_string());
        let changed = journal.execute("UPDATE job SET plan = ?1, plan_hash = ?2, identity = ?3, plan_file = ?4", row);
        assert!(changed.expect("changed") > 0);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a state in the bucket is.
    pub(crate) fn state_url(&self) -> String {
        let endpoint = self.chest.as_ref().expect("a state in a bucket").endpoint();
        format!("s3://states/team?endpoint={endpoint}&region=us-east-1&addressing=path")
    }

    /// Runs the binary in the folder.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true").env("CI", "true");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("BATCHPLAN_LEASE_MS", "1500").env("BATCHPLAN_PUSH_MS", "200");
        Ran::of(&command.output().expect("the binary runs"))
    }

    fn jobs(&self) -> Vec<JobRecord> {
        let journal = Journal::open_existing(&self.path("state")).expect("a journal").expect("a journal");
        journal.list(JobQuery { limit: 100, ..JobQuery::default() }).expect("jobs")
    }

    /// The newest job.
    pub(crate) fn newest(&self) -> String {
        self.jobs()[0].id.as_str().to_owned()
    }

    /// The only job that is not over.
    #[track_caller]
    pub(crate) fn unfinished(&self) -> String {
        let jobs: Vec<_> = self.jobs().into_iter().filter(|job| !job.status.is_over()).collect();
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        job.id.as_str().to_owned()
    }

    /// How many objects of a job are settled.
    pub(crate) fn settled(&self, job: &str) -> u64 {
        let job = self.jobs().into_iter().find(|known| known.id.as_str() == job).expect("the job");
        job.progress.finished()
    }

    /// The objects of `bkt` that were tagged since.
    pub(crate) fn tagged(&self) -> BTreeSet<String> {
        let beside = self.in_process.then(|| {
            let sandbox = Sandbox::open(&self.path("data"), None, SandboxOptions::default()).expect("a sandbox");
            SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server")
        });
        let endpoint = beside.as_ref().unwrap_or(&self.server).endpoint();
        let (store, runtime) = store(&endpoint);
        let is_tagged = |key: &String| {
            let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from(key.as_str()), version: None };
            let reply = runtime.block_on(store.send_request(&object, &ObjectRequest::GetTags)).expect("an answer");
            matches!(reply.data, ResponseData::Tags(tags) if tags.iter().next().is_some())
        };
        self.keys.iter().filter(|key| is_tagged(key)).cloned().collect()
    }

    /// The keys in a bucket of the server.
    pub(crate) fn uploads(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (store, runtime) = store(&self.server.endpoint());
        let request = ListRequest {
            bucket: BucketName::new(bucket),
            prefix: ObjectKey::from(prefix),
            all_versions: false,
            group_by_directory: false,
            from: None,
        };
        let page = runtime.block_on(store.list(&request)).expect("a listing");
        page.entries.iter().map(|entry| entry.key.to_string()).collect()
    }
}

/// The address of the server that a plan names.
fn address_of(plan: &str) -> SocketAddr {
    let line = plan.lines().find(|line| line.starts_with("endpoint")).expect("an endpoint");
    let (_, address) = line.trim_end_matches('"').split_once("http://").expect("a URL");
    address.parse().expect("an address")
}

/// Serves what a fill file lists. An address that another run of these tests has is waited for.
fn serve(fill: &Path, address: SocketAddr) -> SandboxServer {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let sandbox = Sandbox::in_memory(Some(fill), SandboxOptions::default()).expect("a sandbox");
        match SandboxServer::start(sandbox, address, false) {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn store(endpoint: &str) -> (Arc<HttpStore>, tokio::runtime::Runtime) {
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    let credentials = SharedCredentialsProvider::new(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"));
    let store = HttpStore::s3(&config, "us-east-1", credentials).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (Arc::new(store), runtime)
}

/// The n-th object's key.
pub(crate) fn key(n: usize) -> String {
    format!("k{n:04}")
}

/// The n-th key of the long listing.
pub(crate) fn listed_key(n: usize) -> String {
    format!("{}/{n:05}/data.json", char::from(b'a' + u8::try_from(n / 1000).expect("a letter")))
}

/// The keys of the first so many objects.
pub(crate) fn keys(count: usize) -> BTreeSet<String> {
    (0..count).map(key).collect()
}
