//! The real binary among such servers. A minute of every limit lasts three seconds here, so that each case takes
//! seconds; all are tried side by side, as they do nothing but wait.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use tempfile::TempDir;

use crate::server::{Door, Rule, Stall};

/// How long a minute of every limit lasts, in milliseconds.
const MINUTE: &str = "3000";

/// No case waits longer, on a machine that is busy as well.
const DEADLINE: Duration = Duration::from_mins(3);

/// The most memory that a run may take, in KiB: the binary itself is a third of it.
const MEMORY: u64 = 96 << 10;

const WORK: &str = "[undo]\ncapture = false\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
const LISTING: &str = "[manifest.prefix]\nbucket = \"bkt\"\n";
const CSV: &str = "[manifest.csv]\nbucket = \"bkt\"\nobject = \"list.csv\"\n";
const INVENTORY: &str = "[manifest.inventory]\nbucket = \"bkt\"\nobject = \"inventory/manifest.json\"\n";
const LOCAL: &str = "[manifest.csv]\npath = \"local.csv\"\n";
const REPORT: &str = "[manifest.csv]\npath = \"local.csv\"\n[report]\nbucket = \"reports\"\n";
const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/r\"\n";
const OSS_ROLE: &str = "role_arn = \"acs:ram::1234567890123456:role/r\"\n";

const PLAN: &[&str] = &["plan", "plan.toml"];
const APPLY: &[&str] = &["apply", "plan.toml", "--auto-approve"];

/// Who gives credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Environment,
    Process(&'static str),
    /// EC2's metadata service, which is the server.
    Imds,
    /// A container's, which is the server.
    Ecs,
    /// A session of `aws sso login`: the server is its portal, and renews its token.
    Sso,
    /// A session of `aws login`: the server renews its token.
    Login,
}

/// One wait of the program, and what becomes of it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    rule: Rule,
    /// In `[store]`, beyond the endpoint.
    store: &'static str,
    plan: &'static str,
    args: &'static [&'static str],
    keys: Keys,
    code: i32,
    /// What is said; `HOST` stands for the server.
    says: &'static [&'static str],
}

impl Case {
    const fn new(name: &'static str, plan: &'static str, rule: Rule, says: &'static [&'static str]) -> Self {
        Self { name, rule, store: S3, plan, args: PLAN, keys: Keys::Environment, code: 1, says }
    }

    const fn store(self, store: &'static str) -> Self {
        Self { store, ..self }
    }

    const fn args(self, args: &'static [&'static str], code: i32) -> Self {
        Self { args, code, ..self }
    }

    const fn keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }
}

const S3: &str = "provider = \"s3\"\naddressing = \"path\"\nregion = \"us-east-1\"\n";
const OSS: &str = "provider = \"oss\"\naddressing = \"path\"\nregion = \"cn-hangzhou\"\n";

/// A rule that stalls the requests whose method and target have this in them.
macro_rules! stall {
    ($method:literal, $target:literal, $stall:expr) => {
        |method, target| (method == $method && target.contains($target)).then_some($stall)
    };
}

macro_rules! at_sts {
    ($stall:expr) => {
        |method, target| (method == "POST" && (target == "/" || target.starts_with("/?"))).then_some($stall)
    };
}

/// Stalls what is kept in a bucket's state, and not its lock.
fn at_push(method: &str, target: &str) -> Option<Stall> {
    (method == "PUT" && target.contains("/states/team/") && !target.contains("/lock/")).then_some(Stall::Silent)
}

/// Every wait. A new one belongs here.
const CASES: &[Case] = &[
    // Heads, at the listing: every request of the lean client waits for its head in the same place.
    Case::new("a head", LISTING, stall!("GET", "list-type=2", Stall::Silent), LISTED),
    Case::new("half a head", LISTING, stall!("GET", "list-type=2", Stall::HalfHead), LISTED),
    Case::new("headers", LISTING, stall!("GET", "list-type=2", Stall::HeadersForEver), &["cannot list bkt"]),
    Case::new("100 Continue", LISTING, stall!("GET", "list-type=2", Stall::Continue), LISTED),
    Case::new("OSS, a head", LISTING, stall!("GET", "list-type=2", Stall::Silent), LISTED).store(OSS),
    // Pages of listings.
    Case::new("a page", LISTING, stall!("GET", "list-type=2", Stall::HalfBody(200)), PAGE),
    Case::new("a page, byte by byte", LISTING, stall!("GET", "list-type=2", Stall::Trickle(200)), SLOW_PAGE),
    Case::new(
        "a page without an end",
        LISTING,
        stall!("GET", "list-type=2", Stall::Endless(200)),
        &["longer than allowed"],
    ),
    Case::new("an error", LISTING, stall!("GET", "list-type=2", Stall::HalfBody(403)), &["cannot list bkt", "403"]),
    Case::new("an error without an end", LISTING, stall!("GET", "list-type=2", Stall::Endless(403)), &["403"]),
    // Contents of objects.
    Case::new(
        "an object's head",
        CSV,
        stall!("GET", "list.csv", Stall::Silent),
        &["waiting for HOST for", "cannot read bkt/list.csv", "no response from HOST within 3 s", "tried 3 times"],
    ),
    Case::new("a data file", CSV, stall!("GET", "list.csv", Stall::HalfBody(200)), OBJECT),
    Case::new("a data file, byte by byte", CSV, stall!("GET", "list.csv", Stall::Trickle(200)), SLOW_OBJECT),
    Case::new(
        "a data file without an end",
        CSV,
        stall!("GET", "list.csv", Stall::Endless(200)),
        &["bkt/list.csv", "the server did not send its size"],
    ),
    Case::new("an object's error", CSV, stall!("GET", "list.csv", Stall::HalfBody(403)), &["bkt/list.csv", "403"]),
    Case::new(
        "an object's error without an end",
        CSV,
        stall!("GET", "list.csv", Stall::Endless(403)),
        &["bkt/list.csv", "403"],
    ),
    Case::new("OSS, a data file", CSV, stall!("GET", "list.csv", Stall::HalfBody(200)), OBJECT).store(OSS),
    Case::new(
        "half a data file and then the rest",
        CSV,
        stall!("GET", "list.csv", Stall::Half("bkt,k0\nbkt,k1\nbkt,k2\nbkt,k3\n")),
        &["resuming bkt/list.csv at byte 14 of 28", "4 objects"],
    )
    .args(PLAN, 0),
    Case::new(
        "manifest.json",
        INVENTORY,
        stall!("GET", "manifest.json", Stall::HalfBody(200)),
        &["HOST sent nothing for 3 s"],
    ),
    Case::new(
        "manifest.json without an end",
        INVENTORY,
        stall!("GET", "manifest.json", Stall::Endless(200)),
        &["bkt/inventory/manifest.json", "the server did not send its size"],
    ),
    // Objects at work.
    Case::new("a write", LOCAL, stall!("PUT", "tagging", Stall::Silent), &["waiting for", "PUT http://HOST/bkt/k"])
        .args(APPLY, 3),
    Case::new("a write's answer", LOCAL, stall!("PUT", "tagging", Stall::HalfBody(200)), &["waiting for"])
        .args(APPLY, 3),
    Case::new("a bucket's settings", LISTING, stall!("GET", "?lifecycle", Stall::Silent), &["waiting for HOST for"])
        .args(PLAN, 0),
    // Reports.
    Case::new("a report", REPORT, stall!("PUT", "/reports/", Stall::Silent), UPLOAD).args(APPLY, 1),
    Case::new(
        "a report's answer",
        REPORT,
        stall!("PUT", "/reports/", Stall::HalfBody(200)),
        &["reports/", "HOST sent nothing for 3 s in response to PUT"],
    )
    .args(APPLY, 1),
    Case::new(
        "a report's answer without an end",
        REPORT,
        stall!("PUT", "/reports/", Stall::Endless(200)),
        &["reports/", "longer than allowed"],
    )
    .args(APPLY, 1),
    Case::new(
        "a report's error without an end",
        REPORT,
        stall!("PUT", "/reports/", Stall::Endless(403)),
        &["reports/", "403"],
    )
    .args(APPLY, 1),
    // Roles.
    Case::new(
        "STS",
        LISTING,
        at_sts!(Stall::Silent),
        &["waiting for HOST for", "no response to AssumeRole;", "HOST: no response within 1."],
    )
    .store(S3_ROLE),
    Case::new("STS, half an answer", LISTING, at_sts!(Stall::HalfBody(200)), &["cannot assume the role"])
        .store(S3_ROLE),
    Case::new("STS, byte by byte", LISTING, at_sts!(Stall::Trickle(200)), &["cannot assume the role"])
        .store(S3_ROLE),
    Case::new("STS without an end", LISTING, at_sts!(Stall::Endless(200)), &["cannot assume the role", "HOST"])
        .store(S3_ROLE),
    Case::new(
        "STS, an error without an end",
        LISTING,
        at_sts!(Stall::Endless(403)),
        &["cannot assume the role", "HOST"],
    )
    .store(S3_ROLE),
    Case::new(
        "OSS's STS",
        LISTING,
        at_sts!(Stall::Silent),
        &["waiting for HOST for", "no response to AssumeRole;", "HOST: no response within"],
    )
    .store(OSS_WITH_ROLE),
    Case::new("OSS's STS without an end", LISTING, at_sts!(Stall::Endless(200)), &["cannot assume the role"])
        .store(OSS_WITH_ROLE),
    // Credentials.
    Case::new(
        "credential_process",
        LISTING,
        |_, _| None,
        &[
            "waiting for the credential_process of the profile \"default\" for 0.5 s: it has not finished; gives up in 2.5 s",
            "the credential_process of the profile \"default\" did not finish within 3 s and was killed",
        ],
    )
    .keys(Keys::Process("sleep 1000")),
    Case::new("credential_process without an end", LISTING, |_, _| None, &["wrote more than 65536 bytes"])
        .keys(Keys::Process("yes hushhush")),
    Case::new("IMDS", LISTING, stall!("PUT", "/latest", Stall::Silent), &["no credentials"]).keys(Keys::Imds),
    Case::new("IMDS without an end", LISTING, stall!("PUT", "/latest", Stall::Endless(200)), &["no credentials"])
        .keys(Keys::Imds),
    Case::new("ECS", LISTING, stall!("GET", "/creds", Stall::HalfBody(200)), &["no credentials", "waiting for"])
        .keys(Keys::Ecs),
    Case::new("ECS without an end", LISTING, stall!("GET", "/creds", Stall::Endless(200)), &["no credentials"])
        .keys(Keys::Ecs),
    Case::new(
        "SSO",
        LISTING,
        stall!("GET", "/federation/credentials", Stall::Silent),
        &["no credentials", "waiting for HOST for"],
    )
    .keys(Keys::Sso),
    Case::new(
        "SSO without an end",
        LISTING,
        stall!("GET", "/federation/credentials", Stall::Endless(200)),
        &["the AWS SSO session of the profile \"default\" provided no credentials", "HOST (200) is longer than 65536 bytes"],
    )
    .keys(Keys::Sso),
    Case::new(
        "an SSO token",
        LISTING,
        stall!("POST", "/token", Stall::Silent),
        &["no credentials", "waiting for HOST for"],
    )
    .keys(Keys::Sso),
    Case::new("aws login", LISTING, stall!("POST", "/v1/token", Stall::Silent), &["no credentials", "waiting for HOST"])
        .keys(Keys::Login),
    Case::new(
        "aws login without an end",
        LISTING,
        stall!("POST", "/v1/token", Stall::Endless(200)),
        &["the AWS login session of the profile \"default\" provided no credentials", "HOST (200) is longer than 65536 bytes"],
    )
    .keys(Keys::Login),
    // Others.
    Case::new(
        "a webhook",
        HOOK,
        stall!("POST", "/hook", Stall::Silent),
        &["delivering notifications", "http://HOST did not respond within 0."],
    )
    .args(APPLY, 0),
    Case::new(
        "a webhook's head",
        HOOK,
        stall!("POST", "/hook", Stall::Continue),
        &["http://HOST did not respond within 0."],
    )
    .args(APPLY, 0),
    Case::new(
        "GitHub",
        LISTING,
        stall!("POST", "/github", Stall::Silent),
        &["waiting for", "pull request comment not written"],
    )
    .args(PLAN, 0),
    Case::new(
        "GitHub, byte by byte",
        LISTING,
        stall!("GET", "/github", Stall::Trickle(200)),
        &["pull request comment not written"],
    )
    .args(PLAN, 0),
    // The state in a bucket.
    Case::new(
        "the state",
        LISTING,
        stall!("GET", "prefix=team", Stall::Silent),
        &["waiting for HOST for", "from http://HOST/states/team"],
    )
    .args(STATE, 1),
    Case::new(
        "the state's page",
        LISTING,
        stall!("GET", "prefix=team", Stall::Trickle(200)),
        &["waiting for HOST for", "from http://HOST/states/team"],
    )
    .args(STATE, 1),
    Case::new("the state's push", LISTING, at_push, &["waiting for HOST for", "HOST/states/team"]).args(APPLY_STATE, 1),
    Case::new(
        "the state's lock",
        LISTING,
        stall!("PUT", "/states/team", Stall::Silent),
        &["waiting for HOST for", "HOST/states/team"],
    )
    .args(APPLY_STATE, 1),
];

const LISTED: &[&str] = &[
    "waiting for HOST for 0.",
    "no response to GET http://HOST/bkt/?",
    "cannot list bkt/ yet",
    "retrying (tried",
    "cannot list bkt",
    "no response from HOST within 3 s",
    "tried 3 times in",
];
const PAGE: &[&str] = &["waiting for HOST for", "cannot list bkt", "HOST sent nothing for 3 s", "tried 3 times in"];
const SLOW_PAGE: &[&str] = &["waiting for HOST for", "cannot list bkt", "HOST sent only", "tried 3 times in"];
const OBJECT: &[&str] = &[
    "waiting for HOST for",
    "resuming bkt/list.csv at byte 7 of 1000000",
    "bkt/list.csv",
    "HOST sent nothing for 3 s in response to GET http://HOST/bkt/list.csv",
    "resuming failed too",
];
const SLOW_OBJECT: &[&str] = &["waiting for HOST for", "bkt/list.csv", "HOST sent only"];
const UPLOAD: &[&str] = &["waiting for HOST for", "reports/", "no response from HOST within 3"];
const S3_ROLE: &str = "provider = \"s3\"\naddressing = \"path\"\nregion = \"us-east-1\"\nROLE";
const OSS_WITH_ROLE: &str = "provider = \"oss\"\naddressing = \"path\"\nregion = \"cn-hangzhou\"\nOSSROLE";
const HOOK: &str =
    "[manifest.csv]\npath = \"local.csv\"\n[[notify]]\nurl = \"http://HOST/hook\"\non = [\"complete\"]\n";
const STATE: &[&str] = &["list", "--state", "s3://states/team?endpoint=http://HOST"];
const APPLY_STATE: &[&str] =
    &["apply", "plan.toml", "--auto-approve", "--state", "s3://states/team?endpoint=http://HOST"];

#[test]
fn every_wait_ends_and_is_told() {
    std::thread::scope(|scope| {
        let running: Vec<_> = CASES.iter().map(|case| (case.name, scope.spawn(|| case.try_out()))).collect();
        let failed: Vec<_> = running
            .into_iter()
            .filter_map(|(name, thread)| {
                let said = thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()));
                said.err().map(|why| format!("{name}: {why}\n"))
            })
            .collect();
        assert!(failed.is_empty(), "{} of {} waits:\n{}", failed.len(), CASES.len(), failed.concat());
    });
}

impl Case {
    fn try_out(&self) -> Result<(), String> {
        let door = Door::open(self.rule);
        let folder = tempfile::tempdir().expect("a folder");
        let named = |text: &str| text.replace("OSSROLE", OSS_ROLE).replace("ROLE", ROLE).replace("HOST", &door.host());
        let (store, rest) = (named(self.store), named(self.plan));
        let plan = format!(
            "name = \"t\"\n[store]\nendpoint = \"http://{}\"\n{store}{rest}{WORK}[limits]\nfailure_threshold = 1.0\n",
            door.host()
        );
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        fs::write(folder.path().join("local.csv"), "bkt,k0\nbkt,k1\n").expect("written");
        let mut command = self.command(&folder, &door);
        command.args(self.args.iter().map(|arg| named(arg)));
        let Ended { code, said, peak } = Ended::of(command).ok_or("it did not end")?;
        let wanted = self.says.iter().map(|part| named(part));
        let missing: Vec<_> = wanted.filter(|part| !said.contains(part)).collect();
        if code != Some(self.code) || !missing.is_empty() || said.contains("hushhush") || said.contains(SECRET_KEY) {
            return Err(format!("exit {code:?}, expected {}; not said: {missing:?}; said:\n{said}", self.code));
        }
        if let Some(twice) = reported_twice(&said) {
            return Err(format!("a wait is reported by two: {twice}; said:\n{said}"));
        }
        if peak > MEMORY { Err(format!("{peak} KiB")) } else { Ok(()) }
    }

    fn command(&self, folder: &TempDir, door: &Door) -> Command {
        let mut command = batchplan(folder.path());
        let endpoint = format!("http://{}", door.host());
        match self.keys {
            Keys::Environment => {
                for name in ["AWS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_ID"] {
                    command.env(name, ACCESS_KEY);
                }
                for name in ["AWS_SECRET_ACCESS_KEY", "OSS_ACCESS_KEY_SECRET"] {
                    command.env(name, SECRET_KEY);
                }
            }
            Keys::Process(process) => {
                write_in(folder.path(), ".aws/config", &format!("[default]\ncredential_process = {process}\n"));
            }
            Keys::Imds => {
                command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint).env_remove("AWS_EC2_METADATA_DISABLED");
            }
            Keys::Ecs => {
                command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{endpoint}/creds"));
            }
            Keys::Sso | Keys::Login => {}
        }
        if matches!(self.keys, Keys::Sso | Keys::Login) {
            sign_in(folder.path(), self.keys);
            for service in ["SSO", "SSO_OIDC", "SIGNIN"] {
                command.env(format!("AWS_ENDPOINT_URL_{service}"), &endpoint);
            }
        }
        if self.name.starts_with("GitHub") {
            let event = folder.path().join("event.json");
            fs::write(&event, "{\"pull_request\": {\"number\": 7}}").expect("written");
            command.env("GITHUB_ACTIONS", "true").env("BATCHPLAN_COMMENT", "true").env("GITHUB_TOKEN", "hushhush");
            command.env("GITHUB_REPOSITORY", "o/r").env("GITHUB_EVENT_PATH", event);
            command.env("GITHUB_API_URL", format!("{endpoint}/github"));
        }
        command
    }
}

/// Returns what two parts of the program report that they wait for, each under another name.
fn reported_twice(said: &str) -> Option<&str> {
    let mut waits = BTreeMap::new();
    for line in said.lines() {
        let Some((who, what)) = line.strip_prefix("waiting for ").and_then(|wait| wait.split_once(": ")) else {
            continue;
        };
        let (who, _) = who.rsplit_once(" for ").expect("how long");
        if *waits.entry(what).or_insert(who) != who {
            return Some(what);
        }
    }
    None
}

/// Writes the profile of a session and its cached token, which has expired and can be renewed.
fn sign_in(home: &Path, keys: Keys) {
    if keys == Keys::Sso {
        let config = "[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n\
                      [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n";
        write_in(home, ".aws/config", config);
        let token = r#"{"accessToken": "hushhush", "expiresAt": "2026-01-01T00:00:00Z", "refreshToken": "hushhush",
            "clientId": "c", "clientSecret": "hushhush", "registrationExpiresAt": "2999-01-01T00:00:00Z"}"#;
        write_in(home, ".aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json", token);
        return;
    }
    let config = "[default]\nlogin_session = arn:aws:iam::123456789012:user/me\nregion = eu-west-1\n";
    write_in(home, ".aws/config", config);
    // A key that was made for this test.
    let token = r#"{"accessToken": {"accessKeyId": "A", "secretAccessKey": "hushhush", "sessionToken": "hushhush",
        "accountId": "123456789012", "expiresAt": "2026-01-01T00:00:00Z"}, "tokenType": "aws_sigv4",
        "refreshToken": "hushhush", "clientId": "arn:aws:signin:::devtools/same-device",
        "dpopKey": "DPOP"}"#;
    let token = token.replace("DPOP", &include_str!("../fixtures/login-key.pem").replace('\n', "\\n"));
    write_in(home, ".aws/login/cache/286187707741fc2ccb93cf9e56dbd0ee0a16208feed5fbc8ae1baa86d44c283f.json", &token);
}

fn write_in(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("written");
}

fn batchplan(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder);
    command.env("BATCHPLAN_MINUTE_MS", MINUTE).env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null());
    command
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    said: String,
    /// The most memory that it took, in KiB.
    peak: u64,
}

impl Ended {
    /// `None` where it does not end.
    fn of(mut command: Command) -> Option<Self> {
        let said = tempfile::tempfile().expect("a file");
        command.stdout(said.try_clone().expect("a file")).stderr(said.try_clone().expect("a file"));
        let (mut child, began) = (command.spawn().expect("the binary runs"), Instant::now());
        let mut peak = 0;
        let status = loop {
            peak = peak.max(high_water(&child));
            if let Some(status) = child.try_wait().expect("a state") {
                break status;
            }
            if began.elapsed() > DEADLINE {
                child.kill().expect("killed");
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Some(Self { code: status.code(), said: text(said), peak })
    }
}

fn text(mut file: fs::File) -> String {
    use std::io::{Read as _, Seek as _};

    let mut text = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut text).expect("read");
    String::from_utf8_lossy(&text).into_owned()
}

/// `VmHWM` of a process, in KiB (Linux; 0 elsewhere).
fn high_water(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// A plan that works on this endpoint, with keys in the environment.
fn apply_to(endpoint: &str, folder: &Path) -> Command {
    let plan = format!("name = \"t\"\n[store]\nendpoint = \"{endpoint}\"\n{S3}{LISTING}{WORK}");
    fs::write(folder.join("plan.toml"), plan).expect("written");
    let mut command = batchplan(folder);
    command.args(PLAN).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

/// Somebody listens and never takes the connection, as far as encryption is concerned.
#[test]
fn an_encryption_that_is_never_agreed_on_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = apply_to(&format!("https://{host}"), folder.path());
    command.env("SSL_CERT_FILE", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/ca.pem"));
    let ended = Ended::of(command).expect("it ends");
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains(&format!("https://{host}: no connection within 0.5 s")), "{}", ended.said);
}

/// The queue of connections is full: the system answers none of them.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_never_made_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let listener = socket.listen(1).expect("listening");
    let host = listener.local_addr().expect("an address");
    let waiting = |_| std::net::TcpStream::connect_timeout(&host, Duration::from_millis(200));
    let full: Vec<_> = (0..64).map(waiting).take_while(Result::is_ok).collect();
    assert!(full.len() < 64, "the queue is never full");
    let folder = tempfile::tempdir().expect("a folder");
    let ended = Ended::of(apply_to(&format!("http://{host}"), folder.path())).expect("it ends");
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains(&format!("http://{host}: no connection within 0.5 s")), "{}", ended.said);
}
