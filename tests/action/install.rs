//! How the action comes by its binary.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::expression::Status;
use crate::machine::{Machine, root};

const NAME: &str = "batchplan-x86_64-unknown-linux-musl-v0.1.0";

/// A server of a release's files, and what it was asked for.
struct Releases {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    sums: String,
}

impl Releases {
    /// The release 0.1.0, whose binary says what it was called with. `spoil` may change its files.
    fn start(spoil: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join(NAME);
        fs::create_dir(&inside).expect("a folder");
        fs::write(inside.join("batchplan"), "#!/bin/sh\necho \"released: $*\"\n").expect("written");
        let packed = Command::new("tar").args(["-czf", "a.tar.gz", NAME]).current_dir(folder.path()).status();
        assert!(packed.expect("tar").success());
        let archive = fs::read(folder.path().join("a.tar.gz")).expect("an archive");
        let sums = format!("{}  other.tar.gz\n{}  {NAME}.tar.gz\n", hex(b""), hex(&archive));
        let mut files = BTreeMap::from([
            (format!("/v0.1.0/{NAME}.tar.gz"), archive),
            ("/v0.1.0/SHA256SUMS".to_owned(), sums.clone().into_bytes()),
        ]);
        spoil(&mut files);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // It ends with the test's process.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let mut header = String::new();
                while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
                    header.clear();
                }
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let (status, body) =
                    files.get(&path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body.as_slice()));
                log.lock().expect("a log").push(path);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        Self { address, asked, sums: hex(sums.as_bytes()) }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("a log"))
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::new();
        machine.cached = false;
        machine.env.insert("BATCHPLAN_RELEASES".to_owned(), self.address.clone());
        machine.write("plan.toml", PLAN);
        machine
    }
}

const PLAN: &str = "name = \"x\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
                    prefix = \"\"\n[operation.put_object_acl]\nacl = \"private\"\n";

fn hex(bytes: &[u8]) -> String {
    batchplan::hex::hex(&Sha256::digest(bytes))
}

#[test]
fn a_tag_installs_its_release_once_and_then_from_the_cache() {
    let releases = Releases::start(|_| {});
    let machine = releases.machine();
    let with = json!({ "command": "validate", "plan": "plan.toml" });
    let job = machine.called("OWNER/batchplan@v0.1.0", &with);
    job.ended(Status::Success);
    assert!(job.log().contains("released: validate plan.toml"), "{}", job.log());
    assert_eq!(releases.asked(), ["/v0.1.0/SHA256SUMS".to_owned(), format!("/v0.1.0/{NAME}.tar.gz")]);
    let job = machine.called("OWNER/batchplan@v0.1.0", &with);
    assert!(job.ended(Status::Success).log().contains("released: validate plan.toml"), "{}", job.log());
    assert_eq!(releases.asked(), Vec::<String>::new());
    // Nothing but the binary is kept.
    let kept = machine.path("cache/batchplan-0.1.0-x86_64-unknown-linux-musl-release");
    let kept: Vec<_> =
        fs::read_dir(kept).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(kept, ["batchplan"]);
}

#[test]
fn a_release_that_is_not_what_it_should_be_is_refused() {
    let archive = format!("/v0.1.0/{NAME}.tar.gz");
    let pinned = |sums: &str| format!("0.1.0@sha256:{sums}");
    let version = |version: &str| json!({ "command": "validate", "plan": "plan.toml", "version": version });

    let changed = Releases::start(|files| files.get_mut(&archive).expect("an archive").push(b'x'));
    let job = changed.machine().action(&version("0.1.0"));
    job.ended(Status::Failure);
    assert!(job.log().contains("does not have the checksum"), "{}", job.log());
    assert!(!job.log().contains("released:"), "nothing of it was run");

    let unlisted = Releases::start(|files| {
        files.insert("/v0.1.0/SHA256SUMS".to_owned(), b"00  other.tar.gz\n".to_vec());
    });
    let job = unlisted.machine().action(&version("v0.1.0"));
    assert!(job.ended(Status::Failure).log().contains("does not have the checksum"), "{}", job.log());

    let missing = Releases::start(BTreeMap::clear);
    let job = missing.machine().action(&version("0.1.0"));
    assert!(job.ended(Status::Failure).log().contains("SHA256SUMS of the release v0.1.0 cannot"), "{}", job.log());

    let whole = Releases::start(|_| {});
    whole.machine().action(&version(&pinned(&whole.sums))).ended(Status::Success);
    whole.asked();
    let job = whole.machine().action(&version(&pinned(&hex(b"another"))));
    assert!(job.ended(Status::Failure).log().contains("is not the file that the input version pins"), "{}", job.log());
    assert_eq!(whole.asked(), ["/v0.1.0/SHA256SUMS"], "the archive is not even asked for");
}

#[test]
fn releases_come_over_https_or_from_this_machine() {
    for place in ["http://example.com", "http://127.0.0.1:80@example.com/", "file:///etc", "ftp://127.0.0.1"] {
        let mut machine = Machine::new();
        machine.cached = false;
        machine.env.insert("BATCHPLAN_RELEASES".to_owned(), place.to_owned());
        let job = machine.action(&json!({ "command": "validate", "version": "0.1.0" }));
        assert!(job.ended(Status::Failure).log().contains("over https only"), "{place}: {}", job.log());
    }
}

#[test]
fn what_is_no_version_and_windows_are_refused_clearly() {
    let machine = Machine::new();
    for version in ["latest", "1.0", "0.1.0; rm -rf /", "0.1.0@sha256:abc", "../0.1.0"] {
        let job = machine.action(&json!({ "command": "validate", "version": version }));
        job.ended(Status::Failure);
        assert_eq!(job.action().told()[0].text, "the input version is no version: write 0.1.0, or 0.1.0@sha256:...");
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
    assert!(job.ended(Status::Failure).log().contains("there is no cargo on this runner"), "{}", job.log());
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
}
