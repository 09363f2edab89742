//! A service that hands out credentials to machines, as EC2's (`IMDSv2`) and ECS's do, and misbehaves as a test wants
//! it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What is asked for credentials.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Gives `ROLE1`, `ROLE2` and so on, each for so long.
    New(SignedDuration),
    /// Gives the last ones once more, as they were.
    Again,
    /// Answers with this status and nothing in it.
    Fails(u16),
    /// Never answers.
    Hangs,
    /// Says this.
    Says(String),
}

struct State {
    source: Source,
    /// The role that IMDS names, and how long its tokens last.
    role: String,
    ttl: String,
    asked: usize,
    given: usize,
    last: String,
    until: Timestamp,
    held: Vec<TcpStream>,
}

/// The service; its threads end with the test.
#[derive(Clone)]
pub(crate) struct Metadata {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Metadata {
    pub(crate) fn start(source: Source) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (role, ttl) = ("Role".to_owned(), "21600".to_owned());
        let state = State {
            source,
            role,
            ttl,
            asked: 0,
            given: 0,
            last: String::new(),
            until: Timestamp::MAX,
            held: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.expect("a connection"), Arc::clone(&serving));
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Has it behave otherwise.
    pub(crate) fn set(&self, source: Source) {
        self.with(|state| state.source = source);
    }

    /// What IMDS calls its role, and says of its tokens' life.
    pub(crate) fn imds(&self, role: &str, ttl: &str) {
        self.with(|state| (state.role, state.ttl) = (role.to_owned(), ttl.to_owned()));
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.with(|state| state.asked)
    }

    /// Whether the last ones that it made have expired.
    pub(crate) fn has_expired(&self) -> bool {
        self.with(|state| Timestamp::now() >= state.until)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the binary ask here, as on an EC2 machine.
    pub(crate) fn as_imds(&self, mut command: Command) -> Command {
        command.env_remove("AWS_EC2_METADATA_DISABLED");
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", self.address));
        command
    }

    /// Has the binary ask here, as in an ECS task.
    pub(crate) fn as_ecs(&self, mut command: Command) -> Command {
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/ecs", self.address));
        command
    }
}

/// Credentials as both services write them.
pub(crate) fn document(key: &str, secret: &str, token: &str, expiration: &str) -> String {
    serde_json::json!({
        "Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": expiration
    })
    .to_string()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        line.clear();
    }
    let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
    let state = &mut *locked;
    state.asked += 1;
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (mut status, mut headers) = (200, String::new());
    let body = match (path, &state.source) {
        (_, Source::Hangs) => {
            state.held.push(stream);
            return;
        }
        (_, Source::Fails(failure)) => {
            status = *failure;
            String::new()
        }
        ("/latest/api/token", _) => {
            headers = format!("x-aws-ec2-metadata-token-ttl-seconds: {}\r\n", state.ttl);
            "TOKEN".to_owned()
        }
        ("/latest/meta-data/iam/security-credentials/", _) => state.role.clone(),
        ("/latest/meta-data/placement/region", _) => "us-east-1\n".to_owned(),
        (_, Source::Again) => state.last.clone(),
        (_, Source::Says(body)) => body.clone(),
        (_, Source::New(lives)) => {
            state.given += 1;
            let (key, until) = (format!("ROLE{}", state.given), Timestamp::now() + *lives);
            state.until = until;
            state.last = document(&key, "hushhush", "tokentoken", &format!("{until:.0}"));
            state.last.clone()
        }
    };
    drop(locked);
    let length = body.len();
    // The client may have gone away.
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.flush();
    // Read to the end, lest a reset overtake the answer.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = reader.read_line(&mut line);
}
