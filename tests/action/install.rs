//! How the action comes by its binary.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::expression::Status;
use crate::machine::{Machine, Trigger, root};
use crate::table;

/// The key of the cache for the release 0.1.0 that no pin holds.
const KEY: &str = "batchplan-0.1.0-x86_64-unknown-linux-musl-release";

const ARCHIVE: &str = "batchplan-x86_64-unknown-linux-musl-v0.1.0.tar.gz";

/// The files of a release by their names, for the key that the action caches them by. Its binary is this script.
pub(crate) fn release(key: &str, script: &str) -> BTreeMap<String, Vec<u8>> {
    let name = format!("batchplan-x86_64-unknown-linux-musl-v{}", version(key));
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join(&name);
    fs::create_dir(&inside).expect("a folder");
    fs::write(inside.join("batchplan"), format!("#!/bin/sh\n{script}\n")).expect("written");
    let packed = Command::new("tar").args(["-czf", "a.tar.gz", &name]).current_dir(folder.path()).status();
    assert!(packed.expect("tar").success());
    let archive = fs::read(folder.path().join("a.tar.gz")).expect("an archive");
    let sums = format!("{}  other.tar.gz\n{}  {name}.tar.gz\n", hex(b""), hex(&archive));
    BTreeMap::from([(format!("{name}.tar.gz"), archive), ("SHA256SUMS".to_owned(), sums.into_bytes())])
}

/// The version in a release's key.
fn version(key: &str) -> &str {
    let found = key.strip_prefix("batchplan-").and_then(|rest| rest.split_once("-x86_64-unknown-linux-musl-"));
    found.unwrap_or_else(|| panic!("{key} is no release's key")).0
}

/// A server of a release's files, and what it was asked for.
struct Releases {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    /// The paths that were asked for with the job's token.
    authorized: Arc<Mutex<Vec<String>>>,
    sums: String,
}

impl Releases {
    /// The release 0.1.0, whose binary says what it was called with. `spoil` may change its files.
    fn start(spoil: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Self {
        Self::of(KEY, spoil)
    }

    fn of(key: &str, spoil: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Self {
        let files = release(key, "echo \"released: $*\"");
        let sums = hex(&files["SHA256SUMS"]);
        let version = version(key);
        let mut files = files.into_iter().map(|(name, content)| (format!("/v{version}/{name}"), content)).collect();
        spoil(&mut files);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let authorized = Arc::new(Mutex::new(Vec::new()));
        let (log, tokens) = (Arc::clone(&asked), Arc::clone(&authorized));
        // It ends with the test's process.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let (mut header, mut has_token) = (String::new(), false);
                while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
                    has_token |= header.trim() == "Authorization: Bearer ghs_harness";
                    header.clear();
                }
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let (status, body) =
                    files.get(&path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body.as_slice()));
                if has_token {
                    tokens.lock().expect("a log").push(path.clone());
                }
                log.lock().expect("a log").push(path);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        Self { address, asked, authorized, sums }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("a log"))
    }

    fn machine(&self) -> Machine {
        let mut machine = self.enterprise();
        machine.env.insert("BATCHPLAN_RELEASES".to_owned(), self.address.clone());
        machine
    }

    /// A machine of a GitHub that is this server.
    fn enterprise(&self) -> Machine {
        let mut machine = Machine::new();
        machine.cached = false;
        machine.github = (self.address.clone(), format!("{}/api/v3", self.address));
        // Not what a step or the workflow writes into these.
        for name in ["GITHUB_SERVER_URL", "GITHUB_API_URL"] {
            machine.env.insert(name.to_owned(), "http://127.0.0.1:1".to_owned());
        }
        machine.write("plan.toml", PLAN);
        machine
    }
}

const PLAN: &str = "name = \"x\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
                    prefix = \"\"\n[operation.put_object_acl]\nacl = \"private\"\n";

fn hex(bytes: &[u8]) -> String {
    batchplan_store::hex::hex(&Sha256::digest(bytes))
}

#[test]
fn a_tag_installs_its_release_once_and_then_from_the_cache() {
    let releases = Releases::start(|_| {});
    let machine = releases.machine();
    let with = json!({ "command": "validate", "plan": "plan.toml" });
    let job = machine.called("OWNER/batchplan@v0.1.0", &with);
    job.ended(Status::Success);
    assert!(job.log().contains("released: validate plan.toml"), "{}", job.log());
    assert_eq!(releases.asked(), ["/v0.1.0/SHA256SUMS".to_owned(), format!("/v0.1.0/{ARCHIVE}")]);
    let job = machine.called("OWNER/batchplan@v0.1.0", &with);
    assert!(job.ended(Status::Success).log().contains("released: validate plan.toml"), "{}", job.log());
    assert_eq!(releases.asked(), Vec::<String>::new());
    // Nothing but what can be checked again is kept.
    let kept = machine.path("cache").join(KEY);
    let mut names: Vec<_> = fs::read_dir(&kept).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["SHA256SUMS", ARCHIVE]);
    // What is missing there is fetched, and only that.
    fs::remove_file(kept.join(ARCHIVE)).expect("removed");
    machine.called("OWNER/batchplan@v0.1.0", &with).ended(Status::Success);
    assert_eq!(releases.asked(), [format!("/v0.1.0/{ARCHIVE}")]);
}

#[test]
fn only_its_own_variable_changes_where_a_release_comes_from() {
    let with = json!({ "command": "validate", "plan": "plan.toml" });
    let (here, elsewhere) = (Releases::start(|_| {}), Releases::start(|_| {}));
    let mut machine = here.machine();
    for variable in table::ignored_by("releases") {
        let value = if variable == "BATCHPLAN_COMMENT" { "false" } else { "http://127.0.0.1:1" };
        machine.env.insert(variable, value.to_owned());
    }
    machine.called("OWNER/batchplan@v0.1.0", &with).ended(Status::Success);
    assert_eq!(here.asked(), ["/v0.1.0/SHA256SUMS".to_owned(), format!("/v0.1.0/{ARCHIVE}")]);

    let obeyed = table::cells().into_iter().filter(|(_, client, does)| *client == "releases" && does == "obeyed");
    assert_eq!(obeyed.map(|(variable, ..)| variable).collect::<Vec<_>>(), ["BATCHPLAN_RELEASES"]);
    let mut machine = here.machine();
    machine.env.insert("BATCHPLAN_RELEASES".to_owned(), elsewhere.address.clone());
    machine.called("OWNER/batchplan@v0.1.0", &with).ended(Status::Success);
    assert_eq!((here.asked().len(), elsewhere.asked().len()), (0, 2));
}

#[test]
fn a_tag_before_a_release_is_one_and_other_tags_are_built() {
    let releases = Releases::of("batchplan-0.1.0-rc.1-x86_64-unknown-linux-musl-release", |_| {});
    let machine = releases.machine();
    let with = json!({ "command": "validate", "plan": "plan.toml" });
    let job = machine.called("OWNER/batchplan@v0.1.0-rc.1", &with);
    assert!(job.ended(Status::Success).log().contains("released: validate plan.toml"), "{}", job.log());
    for tag in ["v0", "0.1.0", "v0.1.0-", "v0.1.0+a", "nightly-v0.1.0"] {
        let job = machine.called(&format!("OWNER/batchplan@{tag}"), &with);
        assert!(job.ended(Status::Failure).log().contains("this runner has no cargo"), "{tag}: {}", job.log());
    }
}

#[test]
fn what_comes_from_the_cache_is_checked_like_what_is_downloaded() {
    let releases = Releases::start(|_| {});
    let with = |version: &str| json!({ "command": "validate", "plan": "plan.toml", "version": version });
    let pinned = format!("0.1.0@sha256:{}", releases.sums);
    let poison = release(KEY, "echo poisoned");
    let binary = b"#!/bin/sh\necho poisoned\n".to_vec();
    // What is put into the cache, what refuses it of a pinned version, and what of one that is not.
    let (pin, sum) = ("does not match the checksum in the input version", "does not match SHA256SUMS");
    let cases: [(&[&str], _, _); 3] = [
        (&[ARCHIVE], Some(sum), Some(sum)),
        (&["SHA256SUMS"], Some(pin), Some(sum)),
        (&["SHA256SUMS", ARCHIVE], Some(pin), None),
    ];
    for (names, of_pinned, of_other) in cases {
        for (version, refused) in [(pinned.as_str(), of_pinned), ("0.1.0", of_other)] {
            let machine = releases.machine();
            machine.action(&with(version)).ended(Status::Success);
            releases.asked();
            let entry = fs::read_dir(machine.path("cache")).expect("a folder").flatten().next().expect("an entry");
            for name in names {
                fs::write(entry.path().join(name), &poison[*name]).expect("written");
            }
            let job = machine.action(&with(version));
            match refused {
                Some(refused) => {
                    let log = job.ended(Status::Failure).log();
                    assert!(log.contains(refused), "{names:?} {version}: {log}");
                    let key = entry.file_name().into_string().expect("UTF-8");
                    assert!(log.contains(&format!("it may come from the cache {key}: delete it")), "{log}");
                    assert!(!log.contains("poisoned"), "nothing of it was run: {log}");
                }
                // As the README says, who is not pinned trusts the cache.
                None => assert!(job.ended(Status::Success).log().contains("poisoned"), "{}", job.log()),
            }
            assert_eq!(releases.asked(), Vec::<String>::new());
        }
    }

    // A binary there, or in the folder that an earlier step of the job could write, is nobody's.
    let machine = releases.machine();
    machine.action(&with(&pinned)).ended(Status::Success);
    let entry = fs::read_dir(machine.path("cache")).expect("a folder").flatten().next().expect("an entry");
    fs::write(entry.path().join("batchplan"), binary).expect("written");
    let job = machine.action(&with(&pinned));
    assert!(job.ended(Status::Success).log().contains("released: validate"), "{}", job.log());
}

#[test]
fn what_an_earlier_step_of_the_job_left_is_checked_as_well() {
    let releases = Releases::start(|_| {});
    let machine = releases.machine();
    let action = json!({ "uses": "./", "with": { "command": "validate", "plan": "plan.toml", "version": "0.1.0" } });
    let job = |between: &str| {
        let between = format!("cd \"$RUNNER_TEMP/batchplan/{KEY}\"\n{between}\n");
        let steps = json!([
            { "uses": "actions/checkout@0000000000000000000000000000000000000000" },
            action, { "run": between, "shell": "bash" }, action,
        ]);
        let workflow = json!({ "on": "push", "jobs": { "job": { "runs-on": "ubuntu-latest", "steps": steps } } });
        let mut run = machine.run(&workflow, &Trigger { event: "push", payload: json!({}) }, &mut || false);
        run.jobs.pop().expect("a job")
    };
    let twice = job("ls");
    assert_eq!(twice.ended(Status::Success).log().matches("released: validate").count(), 2, "{}", twice.log());
    assert_eq!(releases.asked().len(), 2, "once is enough");
    let spoilt =
        job(&format!("printf '#!/bin/sh\\necho poisoned\\n' >batchplan; chmod +x batchplan; echo >>{ARCHIVE}"));
    assert!(spoilt.ended(Status::Failure).log().contains("does not match SHA256SUMS"), "{}", spoilt.log());
    assert!(!spoilt.log().contains("\npoisoned"), "{}", spoilt.log());
}

#[test]
fn a_release_that_is_not_what_it_should_be_is_refused() {
    let archive = format!("/v0.1.0/{ARCHIVE}");
    let pinned = |sums: &str| format!("0.1.0@sha256:{sums}");
    let version = |version: &str| json!({ "command": "validate", "plan": "plan.toml", "version": version });

    let changed = Releases::start(|files| files.get_mut(&archive).expect("an archive").push(b'x'));
    let job = changed.machine().action(&version("0.1.0"));
    job.ended(Status::Failure);
    assert!(job.log().contains("does not match SHA256SUMS"), "{}", job.log());
    assert!(!job.log().contains("released:"), "nothing of it was run");

    let unlisted = Releases::start(|files| {
        files.insert("/v0.1.0/SHA256SUMS".to_owned(), b"00  other.tar.gz\n".to_vec());
    });
    let job = unlisted.machine().action(&version("v0.1.0"));
    assert!(job.ended(Status::Failure).log().contains("does not match SHA256SUMS"), "{}", job.log());

    let missing = Releases::start(BTreeMap::clear);
    let job = missing.machine().action(&version("0.1.0"));
    assert!(job.ended(Status::Failure).log().contains("cannot download SHA256SUMS of release v0.1.0"), "{}", job.log());

    let whole = Releases::start(|_| {});
    whole.machine().action(&version(&pinned(&whole.sums))).ended(Status::Success);
    whole.asked();
    let job = whole.machine().action(&version(&pinned(&hex(b"another"))));
    assert!(
        job.ended(Status::Failure).log().contains("does not match the checksum in the input version"),
        "{}",
        job.log()
    );
    assert_eq!(whole.asked(), ["/v0.1.0/SHA256SUMS"], "the archive is not even asked for");
}

/// The folder of a repository's releases, and of the API for them.
const PUBLIC: &str = "/acme/data/releases/download/v0.1.0";
const API: &str = "/api/v3/repos/acme/data/releases";

#[test]
fn another_github_serves_its_own_releases() {
    let releases = Releases::start(|files| {
        *files = std::mem::take(files)
            .into_iter()
            .map(|(path, content)| (path.replace("/v0.1.0", PUBLIC), content))
            .collect();
    });
    let job = releases.enterprise().action(&json!({ "command": "validate", "plan": "plan.toml", "version": "0.1.0" }));
    assert!(job.ended(Status::Success).log().contains("released: validate plan.toml"), "{}", job.log());
    assert_eq!(releases.asked(), [format!("{PUBLIC}/SHA256SUMS"), format!("{PUBLIC}/{ARCHIVE}")]);
    assert!(releases.authorized.lock().expect("a log").is_empty(), "what is public needs no token");
}

#[test]
fn a_private_release_comes_from_the_api_with_the_token() {
    // In the order in which GitHub writes them.
    let asset = |id: u32, name: &str| {
        let uploader = r#"{"login":"x","url":"https://ghe.example/u","name":"SHA256SUMS"}"#;
        format!(r#"{{"url":"https://ghe.example{API}/assets/{id}","id":{id},"name":"{name}","uploader":{uploader}}}"#)
    };
    let description = format!(
        r#"{{"url":"https://ghe.example{API}/1","upload_url":"https://ghe.example{API}/1/assets{{?name,label}}",
        "id":1,"tag_name":"v0.1.0","name":"SHA256SUMS","body":"{{\"name\":\"SHA256SUMS\"}}","assets":[{},{},{}]}}"#,
        asset(6, "other.tar.gz"),
        asset(7, "SHA256SUMS"),
        asset(8, ARCHIVE)
    );
    let spaced = description.replace("\":", "\": ").replace("\",\"", "\",\n  \"");
    for (description, login_page) in [(description, false), (spaced, true)] {
        serde_json::from_str::<serde_json::Value>(&description).expect("JSON");
        let releases = Releases::start(|files| {
            for (id, name) in [(7, "SHA256SUMS"), (8, ARCHIVE)] {
                let content = files.remove(&format!("/v0.1.0/{name}")).expect("a file");
                files.insert(format!("{API}/assets/{id}"), content);
            }
            files.insert(format!("{API}/tags/v0.1.0"), description.into_bytes());
            if login_page {
                files.insert(format!("{PUBLIC}/SHA256SUMS"), b"<!DOCTYPE html>\nSign in\n".to_vec());
            }
        });
        let version = format!("0.1.0@sha256:{}", releases.sums);
        let machine = releases.enterprise();
        let job = machine.action(&json!({ "command": "validate", "plan": "plan.toml", "version": version }));
        assert!(job.ended(Status::Success).log().contains("released: validate plan.toml"), "{}", job.log());
        let from_api = ["tags/v0.1.0", "assets/7", "assets/8"].map(|path| format!("{API}/{path}"));
        assert_eq!(*releases.authorized.lock().expect("a log"), from_api);
        assert_eq!(releases.asked()[0], format!("{PUBLIC}/SHA256SUMS"));
        assert!(!job.log().contains("ghs_harness"), "{}", job.log());
    }
}

#[test]
fn a_failed_download_names_its_url_and_the_override() {
    let releases = Releases::start(BTreeMap::clear);
    let with = json!({ "command": "validate", "version": "0.1.0" });
    let job = releases.enterprise().action(&with);
    let url = format!("from {}{PUBLIC}/SHA256SUMS: ", releases.address);
    let log = job.ended(Status::Failure).log();
    for said in [url.as_str(), "set BATCHPLAN_RELEASES to the https URL above v0.1.0/SHA256SUMS", "https_proxy"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(*releases.authorized.lock().expect("a log"), [format!("{API}/tags/v0.1.0")]);

    // A mirror gets no token, and its password is not shown.
    let mut machine = releases.machine();
    machine.action(&with).ended(Status::Failure);
    assert_eq!(releases.authorized.lock().expect("a log").len(), 1);
    machine.env.insert("BATCHPLAN_RELEASES".to_owned(), "https://me:hushhush@127.0.0.1:1/mirror".to_owned());
    let job = machine.action(&with);
    let log = job.ended(Status::Failure).log();
    assert!(log.contains("from https://127.0.0.1:1/mirror/v0.1.0/SHA256SUMS") && !log.contains("hushhush"), "{log}");
}

#[test]
fn the_password_of_a_mirror_is_no_argument_of_a_process() {
    let mut machine = Machine::new();
    machine.cached = false;
    let (bin, log) = (machine.path("bin"), machine.path("arguments"));
    fs::create_dir(&bin).expect("a folder");
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >>'{}'\nexec /usr/bin/curl \"$@\"\n", log.display());
    fs::write(bin.join("curl"), script).expect("written");
    fs::set_permissions(bin.join("curl"), fs::Permissions::from_mode(0o755)).expect("set");
    machine.env.insert("PATH".to_owned(), format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    machine.env.insert("BATCHPLAN_RELEASES".to_owned(), "https://me:hush\\\"hush@127.0.0.1:1/mirror".to_owned());
    let job = machine.action(&json!({ "command": "validate", "version": "0.1.0" }));
    let said = job.ended(Status::Failure).log();
    assert!(said.contains("connect to 127.0.0.1") && !said.contains("hush"), "{said}");
    let arguments = fs::read_to_string(log).expect("the arguments");
    assert!(arguments.contains("--config") && !arguments.contains("hush"), "{arguments}");
}

#[test]
fn releases_come_over_https_or_from_this_machine() {
    for place in ["http://example.com", "http://127.0.0.1:80@example.com/", "file:///etc", "ftp://127.0.0.1"] {
        let mut machine = Machine::new();
        machine.cached = false;
        machine.env.insert("BATCHPLAN_RELEASES".to_owned(), place.to_owned());
        let job = machine.action(&json!({ "command": "validate", "version": "0.1.0" }));
        assert!(job.ended(Status::Failure).log().contains("must be downloaded over https"), "{place}: {}", job.log());
    }
}

#[test]
fn what_is_no_version_and_windows_are_refused_clearly() {
    let machine = Machine::new();
    for version in ["latest", "1.0", "0.1.0; rm -rf /", "0.1.0@sha256:abc", "../0.1.0"] {
        let job = machine.action(&json!({ "command": "validate", "version": version }));
        job.ended(Status::Failure);
        assert_eq!(job.action().told()[0].text, "the input version is not valid: use 0.1.0 or 0.1.0@sha256:...");
        assert_eq!(job.action().code, Some(2));
    }
    let mut windows = Machine::new();
    windows.kind = ("Windows", "X64");
    let job = windows.action(&json!({ "command": "validate" }));
    assert!(job.ended(Status::Failure).log().contains("does not run on Windows"), "{}", job.log());
}

#[test]
fn a_branch_builds_from_source_and_says_what_it_lacks() {
    let mut machine = Machine::new();
    machine.cached = false;
    let with = json!({ "command": "validate", "plan": "." });
    // The harness's PATH has no cargo.
    let job = machine.called("OWNER/batchplan@main", &with);
    assert!(job.ended(Status::Failure).log().contains("this runner has no cargo"), "{}", job.log());
    machine.cached = true;
    machine.write("plan.toml", PLAN);
    machine.called("OWNER/batchplan@main", &with).ended(Status::Success);
    machine.action(&with).ended(Status::Success);
    let names: Vec<_> =
        fs::read_dir(machine.path("cache")).expect("a folder").flatten().map(|it| it.file_name()).collect();
    let [name] = names.as_slice() else { panic!("one source is one key: {names:?}") };
    let name = name.to_string_lossy();
    let hash = name.strip_prefix("batchplan-source-").and_then(|rest| rest.strip_suffix("-Linux-X64"));
    assert!(hash.is_some_and(|hash| hash.len() == 64), "{name}");
    assert!(root().join("Cargo.lock").exists(), "what is built is locked");
    // A binary that is kept must not outlive a change of what it is built from.
    let action = fs::read_to_string(root().join("action.yml")).expect("the action");
    let hashed = action.lines().find(|line| line.contains("find ") && line.contains("Cargo.lock")).expect("the hash");
    for source in fs::read_dir(root()).expect("the repository").flatten().filter(|it| it.path().is_dir()) {
        let name = source.file_name().to_string_lossy().into_owned();
        let is_built = source.path().join("lib.rs").exists() || name == "crates";
        assert!(!is_built || hashed.split(' ').any(|word| word == name), "{name} is not part of the key");
    }
}
