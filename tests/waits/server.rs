//! A sandbox behind a door that stalls where a test wants it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};

/// How often something comes that is hardly anything.
const DRIP: Duration = Duration::from_millis(50);

/// How a request is kept waiting, or its answer without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// It is read, and never answered.
    Silent,
    /// Half a status line, and nothing more.
    HalfHead,
    /// One header after another, slowly, without an end.
    HeadersForEver,
    /// `100 Continue`, again and again.
    Continue,
    /// A head with this status, some bytes of its body, and nothing more.
    HalfBody(u16),
    /// A head with this status, and its body byte by byte.
    Trickle(u16),
    /// Half of this object, and nothing more; the rest for who asks for that.
    Half(&'static str),
    /// A head with this status, and a body without an end, as fast as it is taken.
    Endless(u16),
}

/// What is stalled: method and target of a request.
pub(crate) type Rule = fn(&str, &str) -> Option<Stall>;

/// The door, and the sandbox behind it.
pub(crate) struct Door {
    address: SocketAddr,
    _sandbox: SandboxServer,
}

impl Door {
    /// Before a sandbox with the bucket `bkt`, its objects `k0` to `k9`, and a bucket for reports.
    pub(crate) fn open(rule: Rule) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let objects: Vec<_> = (0..10).map(|n| format!("bkt,k{n}\n")).collect();
        std::fs::write(file.path(), format!("bucket,key\nreports,x\nstates,x\n{}", objects.concat())).expect("written");
        let sandbox = Sandbox::in_memory(Some(file.path()), SandboxOptions::default()).expect("a sandbox");
        let sandbox =
            SandboxServer::start(sandbox, "127.0.0.1:0".parse().expect("an address"), false).expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, behind) = (listener.local_addr().expect("an address"), sandbox.address());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || pass(client, behind, rule));
            }
        });
        Self { address, _sandbox: sandbox }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
}

/// One request of a connection, which then ends.
fn pass(mut client: TcpStream, behind: SocketAddr, rule: Rule) -> Option<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while bytes.len() < head + length.unwrap_or(0) {
        match client.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let (line, rest) = text.split_once("\r\n")?;
    let request = line.strip_suffix(" HTTP/1.1")?;
    let (method, target) = request.split_once(' ')?;
    if let Some(stall) = rule(method, target) {
        let from = rest.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        return stalled(client, stall, from);
    }
    let mut server = TcpStream::connect(behind).ok()?;
    server.write_all(format!("{line}\r\nConnection: close\r\n{rest}").as_bytes()).ok()?;
    server.write_all(&bytes[head..]).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    client.write_all(&answer).ok()?;
    client.shutdown(Shutdown::Write).ok()
}

/// Keeps a client waiting for as long as it does.
fn stalled(mut client: TcpStream, stall: Stall, from: Option<usize>) -> Option<()> {
    let head = |status: u16, body: &str| format!("HTTP/1.1 {status} As The Test Wants\r\n{body}\r\n\r\n");
    let sized = |status| head(status, "ETag: \"e\"\r\nContent-Length: 1000000");
    match stall {
        Stall::Silent => {}
        Stall::HalfHead => client.write_all(b"HTTP/1.1 20").ok()?,
        Stall::HeadersForEver => {
            client.write_all(b"HTTP/1.1 200 OK\r\n").ok()?;
            return drip(client, b"x: y\r\n");
        }
        Stall::Continue => return drip(client, b"HTTP/1.1 100 Continue\r\n\r\n"),
        Stall::HalfBody(status) => client.write_all(format!("{}bkt,k0\n", sized(status)).as_bytes()).ok()?,
        Stall::Half(object) => {
            let (size, from) = (object.len(), from.unwrap_or(0));
            let range = format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
            let (status, to) = if from > 0 { (206, size) } else { (200, size / 2) };
            let headers = format!("{range}ETag: \"e\"\r\nContent-Length: {}", size - from);
            client.write_all(head(status, &headers).as_bytes()).ok()?;
            client.write_all(&object.as_bytes()[from..to]).ok()?;
        }
        Stall::Trickle(status) => {
            client.write_all(sized(status).as_bytes()).ok()?;
            return drip(client, b"a");
        }
        Stall::Endless(status) => {
            client.write_all(head(status, "ETag: \"e\"\r\nTransfer-Encoding: chunked").as_bytes()).ok()?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            loop {
                client.write_all(chunk.as_bytes()).ok()?;
            }
        }
    }
    // Until the client leaves.
    let mut rest = [0; 1024];
    while client.read(&mut rest).ok()? > 0 {}
    None
}

fn drip(mut client: TcpStream, drop: &[u8]) -> Option<()> {
    loop {
        client.write_all(drop).ok()?;
        thread::sleep(DRIP);
    }
}
