//! A server whose tokens skip a key: the real binary counts and works on every object all the same.
//!
//! MinIO between its commits 2c7fe094d and 71f293d9a, <https://github.com/minio/minio/issues/21463>: where a page
//! begins at a key that is not there, and ends at the end of a folder, its token lies behind the first key of the
//! next page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use batchplan_store::object::ObjectKey;
use serde_json::Value as Json;

/// Objects: as many as this variable says, or so few that a test takes a second or two.
fn count() -> usize {
    std::env::var("BATCHPLAN_TEST_FOLDERS").map_or(3000, |count| count.parse().expect("a number"))
}

/// The server. Its threads end with the process.
struct Minio {
    endpoint: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// In their order; each in a folder of its own.
    keys: Vec<String>,
    page: usize,
    tags: BTreeMap<String, String>,
    /// How often a listing began at a key that is not there.
    invented: usize,
}

impl Minio {
    /// Sixty pages of objects.
    fn start() -> Self {
        let keys = (0..count()).map(|n| format!("k/{n:06}/data.json")).collect();
        let (page, tags) = (count().div_ceil(60).min(1000), BTreeMap::new());
        let shared = Arc::new(Mutex::new(Shared { keys, page, tags, invented: 0 }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // It ends when the client closes the connection.
                std::thread::spawn(move || answer_all(stream, &shared));
            }
        });
        Self { endpoint, shared }
    }

    fn invented(&self) -> usize {
        self.shared.lock().expect("sound").invented
    }
}

fn answer_all(stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, answer) = shared.lock().expect("sound").answer(method, target, &body);
        let sent = if method == "HEAD" { "" } else { &answer };
        // What is about an object itself has its ETag.
        let etag = if target.contains('?') { "" } else { "ETag: \"9dd4e461268c8034f5c8564e155c67a6\"\r\n" };
        write!(writer, "HTTP/1.1 {status}\r\n{etag}Content-Length: {}\r\n\r\n{sent}", answer.len())?;
    }
}

impl Shared {
    fn answer(&mut self, method: &str, target: &str, body: &[u8]) -> (&'static str, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        if key.is_empty() {
            return self.list(query);
        }
        let key = ObjectKey::decode(key.as_bytes()).to_string();
        let known = self.keys.binary_search(&key).is_ok();
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        match (method, query.starts_with("tagging")) {
            _ if !known => ("404 Not Found", error("NoSuchKey")),
            ("PUT", true) => {
                self.tags.insert(key, String::from_utf8_lossy(body).into_owned());
                ("200 OK", String::new())
            }
            ("GET", true) => {
                let empty = || "<Tagging><TagSet></TagSet></Tagging>".to_owned();
                ("200 OK", self.tags.get(&key).cloned().unwrap_or_else(empty))
            }
            ("GET" | "HEAD", false) if query.is_empty() => ("200 OK", "x".to_owned()),
            _ => ("501 Not Implemented", error("NotImplemented")),
        }
    }

    fn list(&mut self, query: &str) -> (&'static str, String) {
        let parameter = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| ObjectKey::decode(value.as_bytes()).to_string()).unwrap_or_default()
        };
        if !query.contains("list-type=2") || query.contains("delimiter") {
            return (
                "501 Not Implemented",
                "<Error><Code>NotImplemented</Code><Message>m</Message></Error>".to_owned(),
            );
        }
        let (token, start) = (parameter("continuation-token"), parameter("start-after"));
        let by_token = !token.is_empty();
        let marker = if by_token { token } else { start };
        let is_there = self.keys.binary_search(&marker).is_ok();
        self.invented += usize::from(!by_token && !marker.is_empty() && !is_there);
        let begin = self.keys.partition_point(|key| *key <= marker);
        let end = self.keys.len().min(begin + self.page);
        // A key of the next page that was found as well: beyond a marker, one key more than there is room for is
        // looked for. The folder behind that is met, and passed over, on the way to the key that shows that there is
        // more.
        let one_more = usize::from(!marker.is_empty() && !is_there);
        let passed = self.keys.get(end + one_more).map(|key| key.trim_end_matches("data.json"));
        let mut body = String::from("<ListBucketResult><EncodingType>url</EncodingType>");
        for key in &self.keys[begin..end] {
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>2026-01-31T00:00:00.000Z</LastModified><Size>1</Size></Contents>"
            );
        }
        let more = end < self.keys.len();
        let _ = write!(body, "<IsTruncated>{more}</IsTruncated>");
        if more {
            let next = if by_token { None } else { passed }.unwrap_or(&self.keys[end - 1]);
            let _ = write!(body, "<NextContinuationToken>{next}</NextContinuationToken>");
        }
        body.push_str("</ListBucketResult>");
        ("200 OK", body)
    }
}

/// The real binary, or the one that `BATCHPLAN_TEST_BINARY` names, in this folder; what it prints, as JSON.
fn run(folder: &tempfile::TempDir, args: &[&str]) -> Json {
    let binary = std::env::var_os("BATCHPLAN_TEST_BINARY").unwrap_or(env!("CARGO_BIN_EXE_batchplan").into());
    let output = Command::new(binary)
        .args(args)
        .current_dir(folder.path())
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")])
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(!stderr.contains("one worker"), "{stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

#[test]
fn a_token_that_skips_a_key_leaves_no_object_out() {
    let (server, folder) = (Minio::start(), tempfile::tempdir().expect("a folder"));
    let plan = format!(
        "name = \"t\"\n[store]\nprovider = \"s3\"\nendpoint = \"{}\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
         prefix = \"k/\"\n[operation.put_object_tagging]\ntags = {{ seen = \"yes\" }}\n",
        server.endpoint
    );
    fs::write(folder.path().join("plan.toml"), plan).expect("written");
    let planned = run(&folder, &["plan", "plan.toml", "--sample", "20", "--json"]);
    assert_eq!(planned["objects"], count(), "{planned}");
    assert!(server.invented() > 2, "{} listings began at a key that is not there", server.invented());
    let before = server.invented();
    let applied = run(&folder, &["apply", "plan.toml", "--auto-approve", "--json"]);
    assert_eq!((&applied["succeeded"], &applied["failed"]), (&count().into(), &0.into()), "{applied}");
    assert!(server.invented() > before + 2, "{} listings began at a key that is not there", server.invented());
    let shared = server.shared.lock().expect("sound");
    let (tagged, all): (BTreeSet<_>, BTreeSet<_>) = (shared.tags.keys().collect(), shared.keys.iter().collect());
    let missed: Vec<_> = all.difference(&tagged).collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert!(shared.tags.values().all(|tags| tags.contains("<Key>seen</Key>")));
}
