//! A folder with a plan and a sandbox of its own, and the real binary run in it with a cleared environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use batchplan::job::JobStatus;
use batchplan::journal::{JobQuery, JobRecord, Journal};
use batchplan_sandbox::{ACCESS_KEY, Sandbox, SandboxOptions, SandboxServer};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::{ObjectContent, Store, StoreConfig, StoreProvider};
use md5::Digest as _;
use serde_json::Value as Json;

/// The folder, gone when the test ends.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// What a run of the binary came to.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with everything the run said, unless it ended so.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The result that `--json` prints.
    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }
}

impl World {
    /// A folder whose sandbox will be filled with these rows (`bucket,key,...` by the header).
    pub(crate) fn filled(fill: &str) -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a folder") };
        world.write("fill.csv", fill);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// Writes `plan.toml`: the sandbox, and this.
    pub(crate) fn plan(&self, rest: &str) {
        let store = "[store]\nprovider = \"sandbox\"\ndata = \"data\"\nfill = \"fill.csv\"\n";
        self.write("plan.toml", format!("name = \"test\"\n{store}\n{rest}"));
    }

    /// The binary, or the one that `BATCHPLAN_TEST_BINARY` names, in this folder, with nothing in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let binary = std::env::var_os("BATCHPLAN_TEST_BINARY").unwrap_or(env!("CARGO_BIN_EXE_batchplan").into());
        let mut command = Command::new(fs::canonicalize(binary).expect("the binary"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("the binary runs"))
    }

    /// `apply plan.toml --auto-approve --json`.
    pub(crate) fn apply(&self) -> Ran {
        self.run(&["apply", "plan.toml", "--auto-approve", "--json"])
    }

    /// Every job that the folder knows, newest first.
    pub(crate) fn jobs(&self) -> Vec<JobRecord> {
        let Some(journal) = Journal::open_existing(&self.path(".batchplan")).expect("a journal") else {
            return Vec::new();
        };
        journal.list(JobQuery { limit: 100, ..JobQuery::default() }).expect("jobs")
    }

    /// The text of the plan that a job has.
    pub(crate) fn jobs_with_plans(&self, job: &str) -> String {
        let journal = Journal::open(&self.path(".batchplan")).expect("a journal");
        String::from_utf8(journal.find(job).expect("the job").plan_text).expect("UTF-8")
    }

    /// Waits until the newest job stands there: not for time to pass, but for the job to say so.
    pub(crate) fn wait_for(&self, status: JobStatus) -> JobRecord {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let job = self.jobs().into_iter().next();
            match job {
                Some(job) if job.status == status => return job,
                job => assert!(Instant::now() < deadline, "never {status}: {job:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the run said, with the folder, job ids and times replaced by names.
    pub(crate) fn normal(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let text = text.replace(&folder, "[FOLDER]");
        let mut out = String::new();
        for piece in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '=')) {
            let word = piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '='));
            if is_job_id(word) {
                out.push_str("[JOB]");
                out.push_str(&piece[word.len()..]);
            } else {
                out.push_str(piece);
            }
        }
        hide_times(&out)
    }

    /// The sandbox's objects, after the binary has left it.
    pub(crate) fn objects(&self) -> Objects {
        let sandbox = Sandbox::open(&self.path("data"), None, SandboxOptions::default()).expect("a sandbox");
        let server = SandboxServer::start(sandbox, (std::net::Ipv4Addr::LOCALHOST, 0).into(), false).expect("a server");
        let config = StoreConfig {
            provider: StoreProvider::S3,
            endpoint: Some(server.endpoint()),
            region: Some("us-east-1".to_owned()),
            addressing: batchplan_store::AddressingStyle::Path,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
        };
        let credentials = aws_credential_types::Credentials::new(ACCESS_KEY, "sandboxsecret", None, None, "tests");
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
        let store = Arc::new(batchplan_store::HttpStore::s3(&config, "us-east-1", provider).expect("a store"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Objects { runtime, store, _server: server }
    }

    /// Every row of the job's report files, as columns, succeeded ones first.
    pub(crate) fn report_rows(&self, result: &Json) -> Vec<Vec<String>> {
        let folder = self.path(result["report_folder"].as_str().expect("a folder"));
        report_rows(&folder)
    }
}

/// Hides how long a run took, and how fast it was.
fn hide_times(text: &str) -> String {
    const TIME: &str = "  time      ";
    let hide = |line: &str| {
        if line.starts_with(TIME) { format!("{TIME}[TIME]\n") } else { line.to_owned() }
    };
    text.split_inclusive('\n').map(hide).collect()
}

/// Every row of the files that a report's manifest lists.
pub(crate) fn report_rows(folder: &Path) -> Vec<Vec<String>> {
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: Json = serde_json::from_str(&manifest).expect("JSON");
    let mut rows = Vec::new();
    for listed in manifest["Results"].as_array().expect("results") {
        let key = listed["Key"].as_str().expect("a key");
        let name = key.rsplit('/').next().expect("a name");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(folder.join(name)).expect("a file");
        rows.extend(reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect::<Vec<_>>()));
    }
    rows
}

/// A look at the sandbox through the store port.
pub(crate) struct Objects {
    runtime: tokio::runtime::Runtime,
    store: Arc<batchplan_store::HttpStore>,
    _server: SandboxServer,
}

impl Objects {
    fn ask(&self, key: &str, version: Option<&str>, call: &ObjectRequest) -> ResponseData {
        let version = version.map(VersionId::new);
        let id = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from(key), version };
        self.runtime
            .block_on(self.store.send_request(&id, call))
            .unwrap_or_else(|fault| panic!("{key:?}: {fault}"))
            .data
    }

    /// Writes an object.
    pub(crate) fn write(&self, key: &str, content: &'static str) {
        let (bucket, key) = (BucketName::new("bkt"), ObjectKey::from(key));
        let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(content));
        let content = ObjectContent::Bytes(content.into());
        self.runtime.block_on(self.store.write(&bucket, &key, content, &md5)).expect("written");
    }

    /// An object's tags as `a=1 b=2`.
    pub(crate) fn tags(&self, key: &str, version: Option<&str>) -> String {
        let ResponseData::Tags(tags) = self.ask(key, version, &ObjectRequest::GetTags) else { panic!("no tags") };
        tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn acl(&self, key: &str, version: Option<&str>) -> &'static str {
        let ResponseData::Acl(acl) = self.ask(key, version, &ObjectRequest::GetAcl) else { panic!("no ACL") };
        acl.as_str()
    }

    /// Whether a restored copy is there or on its way.
    pub(crate) fn restored(&self, key: &str, version: Option<&str>) -> bool {
        let ResponseData::Head { restoration, .. } = self.ask(key, version, &ObjectRequest::Head) else {
            panic!("no head")
        };
        restoration != batchplan_store::object::RestoreState::NotRestored
    }
}

/// Returns whether a word is the id of a job, in full or abbreviated as in messages.
fn is_job_id(word: &str) -> bool {
    const REST: &str = "Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";
    let full = if word.len() == 8 { format!("{word}{REST}") } else { word.to_owned() };
    full.parse::<batchplan::job::JobId>().is_ok()
}
