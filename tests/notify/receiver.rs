//! A receiver of webhooks, on loopback.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value as Json;
use sha2::Sha256;

use crate::scene::until;

/// The secret that letters are signed with.
pub(crate) const SECRET: &str = "an-unlikely-s3cret";

/// How a letter is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// With this status line and these headers.
    Status(&'static str, &'static str),
    /// With 200 and a body that does not end.
    Endless,
    /// Not at all.
    Silence,
    /// With half a head, and a closed connection.
    Broken,
}

const TAKEN: Answer = Answer::Status("204 No Content", "");

/// A letter as it came.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Json,
}

impl Letter {
    pub(crate) fn event(&self) -> &str {
        self.body["event"].as_str().expect("an event")
    }

    /// Checks the signature as a receiver should.
    #[track_caller]
    pub(crate) fn assert_signed(&self) {
        let (time, signature) = (&self.headers["x-batchplan-timestamp"], &self.headers["x-batchplan-signature"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(format!("{time}.").as_bytes());
        mac.update(&self.raw);
        let signature = signature.strip_prefix("v1=").expect("version 1");
        let bytes = (0..signature.len() / 2).map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16));
        mac.verify_slice(&bytes.collect::<Result<Vec<_>, _>>().expect("hexadecimal")).expect("the signature");
        let age = jiff::Timestamp::now().as_second() - time.parse::<i64>().expect("seconds");
        assert!((0..300).contains(&age), "{age}");
    }
}

/// The receiver. It answers each letter as the next of its script says, and takes all that come after.
pub(crate) struct Receiver {
    port: u16,
    letters: Arc<Mutex<Vec<Letter>>>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self::answering([])
    }

    /// One that always answers so.
    pub(crate) fn always(answer: Answer) -> Self {
        Self::answering(std::iter::repeat_n(answer, 100))
    }

    pub(crate) fn answering(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::start(script, None)
    }

    /// One that speaks TLS, with the certificate for `localhost` among the fixtures.
    pub(crate) fn encrypted() -> Self {
        let file = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        Self::start([], Some(Arc::new(config)))
    }

    fn start(script: impl IntoIterator<Item = Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&letters);
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        let script = Arc::new(Mutex::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, script, tls) = (Arc::clone(&noted), Arc::clone(&script), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.expect("a connection");
                    match tls {
                        None => serve(stream, &noted, &script),
                        Some(tls) => {
                            let session = ServerConnection::new(tls).expect("a session");
                            serve(StreamOwned::new(session, stream), &noted, &script)
                        }
                    }
                });
            }
        });
        Self { port, letters }
    }

    /// A `[[notify]]` that goes here, with these lines.
    pub(crate) fn hook(&self, rest: &str) -> String {
        format!("[[notify]]\nurl = \"http://127.0.0.1:{}/hook/{SECRET}?key=pathkey\"\n{rest}\n", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/{SECRET}?key=pathkey", self.port)
    }

    /// The same at this host, encrypted.
    pub(crate) fn url_at(&self, host: &str) -> String {
        format!("https://{host}:{}/hook/{SECRET}", self.port)
    }

    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.letters.lock().expect("sound").clone()
    }

    /// What was told so far.
    pub(crate) fn events(&self) -> Vec<String> {
        self.letters().iter().map(|letter| letter.event().to_owned()).collect()
    }

    pub(crate) fn wait_for(&self, event: &str) {
        until(event, || self.events().iter().any(|told| told == event));
    }
}

fn serve(mut stream: impl Read + Write, letters: &Mutex<Vec<Letter>>, script: &Mutex<Vec<Answer>>) -> Option<()> {
    let mut buffer = Vec::new();
    let mut block = [0; 4096];
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let read = stream.read(&mut block).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&block[..read]);
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).expect("a head");
    let mut lines = head.lines();
    let target = lines.next()?.to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().expect("a length");
    while buffer.len() < head_end + length {
        let read = stream.read(&mut block).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&block[..read]);
    }
    let raw = buffer[head_end..].to_vec();
    let body = serde_json::from_slice(&raw).expect("JSON");
    let answer = script.lock().expect("sound").pop().unwrap_or(TAKEN);
    letters.lock().expect("sound").push(Letter { target, headers, raw, body });
    match answer {
        Answer::Status(status, headers) => {
            let close = "Content-Length: 0\r\nConnection: close\r\n";
            stream.write_all(format!("HTTP/1.1 {status}\r\n{close}{headers}\r\n").as_bytes()).ok()
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            while stream.write_all(&block).is_ok() {}
            None
        }
        Answer::Silence => {
            while stream.read(&mut block).ok()? > 0 {}
            None
        }
        Answer::Broken => stream.write_all(b"HTTP/1.1 200").ok(),
    }
}
