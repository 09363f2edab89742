//! A gate before a sandbox: it notes every request, turns away those that it is told to, and hands on the rest byte
//! by byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};

/// What becomes of requests of a method whose target has this in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    pub(crate) act: Act,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// They are refused with this status and code, and go no further.
    Refuse(u16, &'static str),
    /// They are carried out, and then this is, with the sandbox's endpoint, before they are answered.
    Meanwhile(fn(&str)),
}

/// Refused for want of a permission.
pub(crate) const fn denied(method: &'static str, target: &'static str) -> Rule {
    refused(method, target, 403, "AccessDenied")
}

/// Refused with this status and code.
pub(crate) const fn refused(method: &'static str, target: &'static str, status: u16, code: &'static str) -> Rule {
    Rule { method, target, act: Act::Refuse(status, code) }
}

/// The gate, and the sandbox behind it.
pub(crate) struct Gate {
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    server: SandboxServer,
}

impl Gate {
    /// Before a sandbox that is filled with this table.
    pub(crate) fn before(table: &str, rules: &[Rule]) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), table).expect("written");
        let sandbox = Sandbox::in_memory(Some(file.path()), SandboxOptions::default()).expect("a sandbox");
        Self::to(sandbox, rules)
    }

    /// Before this sandbox.
    pub(crate) fn to(sandbox: Sandbox, rules: &[Rule]) -> Self {
        let server =
            SandboxServer::start(sandbox, "127.0.0.1:0".parse().expect("an address"), false).expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, behind) = (listener.local_addr().expect("an address"), server.address());
        let (log, rules) = (Arc::new(Mutex::new(Vec::new())), rules.to_vec());
        let noted = Arc::clone(&log);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, log, rules) = (client.expect("a connection"), Arc::clone(&noted), rules.clone());
                std::thread::spawn(move || pass(client, behind, &log, &rules));
            }
        });
        Self { address, log, server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the sandbox itself is, past the gate.
    pub(crate) fn behind(&self) -> String {
        self.server.endpoint()
    }

    /// Method and target of each request so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("sound").clone()
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        self.log.lock().expect("sound").clear();
    }

    /// Those that change something.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.log().into_iter().filter(|request| !request.starts_with("GET ") && !request.starts_with("HEAD ")).collect()
    }
}

/// One request of a connection, which then ends.
fn pass(mut client: TcpStream, behind: SocketAddr, log: &Mutex<Vec<String>>, rules: &[Rule]) -> Option<()> {
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
    let length =
        text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    while bytes.len() < head + length.unwrap_or(0) {
        match client.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let (line, rest) = text.split_once("\r\n")?;
    let request = line.strip_suffix(" HTTP/1.1")?;
    log.lock().expect("sound").push(request.to_owned());
    let (method, target) = request.split_once(' ')?;
    let rule = rules.iter().find(|rule| rule.method == method && target.contains(rule.target));
    let answer = match rule.map(|rule| rule.act) {
        Some(Act::Refuse(status, code)) => {
            let body = format!("<Error><Code>{code}</Code><Message>As the test wants it.</Message></Error>");
            let body = if method == "HEAD" { String::new() } else { body };
            let head = format!("HTTP/1.1 {status} Refused\r\nContent-Length: {}\r\nConnection: close", body.len());
            format!("{head}\r\n\r\n{body}").into_bytes()
        }
        meanwhile => {
            let mut server = TcpStream::connect(behind).ok()?;
            server.write_all(format!("{line}\r\nConnection: close\r\n{rest}").as_bytes()).ok()?;
            server.write_all(&bytes[head..]).ok()?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).ok()?;
            if let Some(Act::Meanwhile(happens)) = meanwhile {
                happens(&format!("http://{behind}"));
            }
            answer
        }
    };
    client.write_all(&answer).ok()?;
    client.shutdown(Shutdown::Write).ok()
}
