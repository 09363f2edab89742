//! A server that answers as a function says, with any headers and bytes, and the real binary in front of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use percent_encoding::percent_decode_str;
use serde_json::Value as Json;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, as it was sent.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// The key, decoded; empty for a request about the bucket.
    pub(crate) fn key(&self) -> String {
        let key = self.path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        percent_decode_str(key).decode_utf8_lossy().into_owned()
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let value = self.query.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then_some(value)
        });
        value.map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What is asked, as in `PUT tagging`, `GET list`, `HEAD object`.
    pub(crate) fn what(&self) -> String {
        let of_object = !self.key().is_empty();
        let names: BTreeSet<_> = self.query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).collect();
        let sub = ["tagging", "acl", "restore", "versions", "versioning", "lifecycle", "ownershipControls"];
        let sub = sub.into_iter().find(|sub| names.contains(sub));
        let sub = sub.unwrap_or(if of_object { "object" } else { "list" });
        format!("{} {sub}", self.method)
    }
}

/// A response: status, headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lines with their ends.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: String::new(), body: body.into() }
    }

    pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
    }

    pub(crate) fn with(mut self, headers: &str) -> Self {
        let _ = write!(self.headers, "{headers}\r\n");
        self
    }
}

type Behaviour = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// The objects of one bucket: their tags, as documents.
type Objects = BTreeMap<String, String>;

#[derive(Default)]
struct Shared {
    objects: Mutex<Objects>,
    log: Mutex<Vec<Request>>,
}

/// The server, a folder, and a plan in it. The server's threads end with the process.
pub(crate) struct Gateway {
    endpoint: String,
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
}

/// What a run of the binary came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(format!("{}{}", self.stdout, self.stderr).contains(text), "{text}: {}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

pub(crate) const APPLY: [&str; 4] = ["apply", "plan.toml", "--auto-approve", "--json"];

impl Gateway {
    /// Serves objects with these keys. A request that `behaviour` answers with `None` is answered as S3 does.
    pub(crate) fn start(keys: &[&str], behaviour: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared::default());
        *shared.objects.lock().expect("sound") = keys.iter().map(|key| ((*key).to_owned(), tagging(""))).collect();
        let (serving, behaviour): (_, Arc<Behaviour>) = (Arc::clone(&shared), Arc::new(behaviour));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, behaviour) = (Arc::clone(&serving), Arc::clone(&behaviour));
                std::thread::spawn(move || answer_all(stream, &shared, &*behaviour));
            }
        });
        Self { endpoint, shared, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Writes `plan.toml`. The lines of `store` end `[store]`, and `rest` has the other tables.
    pub(crate) fn plan(&self, store: &str, rest: &str) {
        let text = format!("name = \"t\"\n[store]\nendpoint = \"{}\"\n{store}\n{rest}", self.endpoint);
        self.write("plan.toml", &text);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"] {
            command.env(name, "hushhush");
        }
        let output = command.output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The action that `plan` predicts for each object, or the code of the failure.
    pub(crate) fn predicted(&self) -> Vec<String> {
        let ran = self.run(&["plan", "plan.toml", "--all", "--json"]).ended(0);
        let objects = ran.stdout.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let found = objects.filter(|object| object["key"].is_string()).map(|object| {
            let code = text(&object["code"]);
            let key = percent_decode_str(object["key"].as_str().unwrap_or_default()).decode_utf8_lossy();
            format!("{key} {}", if code.is_empty() { text(&object["action"]) } else { code })
        });
        found.collect()
    }

    /// Every request so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().expect("sound").clone()
    }

    /// The requests so far that ask for this.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.log().iter().filter(|request| request.what() == what).count()
    }

    /// The keys of the objects with a tag of this name.
    pub(crate) fn tagged(&self, name: &str) -> Vec<String> {
        let objects = self.shared.objects.lock().expect("sound");
        let has = |tags: &&String| tags.contains(&format!("<Key>{name}</Key>"));
        objects.iter().filter(|(_, tags)| has(tags)).map(|(key, _)| key.clone()).collect()
    }
}

fn tagging(tags: &str) -> String {
    format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
}

fn answer_all(stream: TcpStream, shared: &Shared, behaviour: &Behaviour) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        shared.log.lock().expect("sound").push(request.clone());
        let reply = behaviour(&request).unwrap_or_else(|| serve(&mut shared.objects.lock().expect("sound"), &request));
        let mut head = format!("HTTP/1.1 {} Status\r\n{}", reply.status, reply.headers);
        if !reply.headers.to_ascii_lowercase().contains("content-length:") {
            let _ = write!(head, "Content-Length: {}\r\n", reply.body.len());
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method != "HEAD" {
            writer.write_all(&reply.body)?;
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body }))
}

/// What S3 does: tags of objects, and a listing in one page.
fn serve(objects: &mut Objects, request: &Request) -> Reply {
    let (key, what) = (request.key(), request.what());
    match what.as_str() {
        "GET list" => return list(objects, request),
        _ if key.is_empty() => return Reply::refusal(501, "NotImplemented", "not here"),
        _ => {}
    }
    let Some(tags) = objects.get_mut(&key) else { return Reply::refusal(404, "NoSuchKey", "not here") };
    match what.as_str() {
        "GET tagging" => Reply::new(200, tags.clone()),
        "PUT tagging" => {
            request.body.clone_into(tags);
            Reply::new(200, "")
        }
        "DELETE tagging" => {
            *tags = tagging("");
            Reply::new(204, "")
        }
        "HEAD object" | "GET object" => Reply::new(200, "x").with("ETag: \"9dd4e461268c8034f5c8564e155c67a6\""),
        _ => Reply::refusal(501, "NotImplemented", "not here"),
    }
}

fn list(objects: &Objects, request: &Request) -> Reply {
    let prefix = request.parameter("prefix").unwrap_or_default();
    let keys = objects.keys().filter(|key| key.starts_with(&prefix));
    let entry = |key: &String| {
        let key = percent_encoding::percent_encode(key.as_bytes(), percent_encoding::NON_ALPHANUMERIC);
        format!(
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><Size>1</Size></Contents>"
        )
    };
    let entries: String = keys.map(entry).collect();
    Reply::new(
        200,
        format!(
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{entries}\
             </ListBucketResult>"
        ),
    )
}
