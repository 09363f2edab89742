//! A server that plays a script, request by request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::StoreError;
use batchplan_store::{AddressingStyle, HttpStore, Store, StoreConfig, StoreProvider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// These bytes are sent, and the connection is kept.
    Send(Vec<u8>),
    /// These bytes are sent, and the connection is closed.
    SendAndClose(Vec<u8>),
    /// These bytes are sent, and nothing more will be; the server goes on reading.
    SendAndFallSilent(Vec<u8>),
    /// These bytes are sent, and the server's half of the connection is shut.
    SendAndShut(Vec<u8>),
}

/// The server, in this runtime.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    script: VecDeque<Act>,
    requests: Vec<String>,
    connections: usize,
    /// Connections that the client has closed.
    left: usize,
}

impl Server {
    /// Plays this script; what comes when it is over is answered with an empty 200.
    pub(crate) async fn playing(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen { script: script.into_iter().collect(), ..Seen::default() }));
        let playing = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                playing.lock().expect("sound").connections += 1;
                let seen = Arc::clone(&playing);
                tokio::spawn(async move {
                    play(stream, &seen).await;
                    seen.lock().expect("sound").left += 1;
                });
            }
        });
        Self { address, seen }
    }

    /// Says this to whoever connects, before it is asked anything, and answers nothing.
    pub(crate) async fn speaking_first(words: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                noted.lock().expect("sound").connections += 1;
                let (words, noted) = (words.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    stream.write_all(&words).await.ok()?;
                    while stream.read_buf(&mut asked).await.ok()? > 0 {}
                    if !asked.is_empty() {
                        noted.lock().expect("sound").requests.push(String::from_utf8_lossy(&asked).into_owned());
                    }
                    Some(())
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("sound").requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().expect("sound").connections
    }

    /// Waits until the client has closed so many connections.
    pub(crate) async fn has_been_left(&self, connections: usize) {
        while self.seen.lock().expect("sound").left < connections {
            tokio::task::yield_now().await;
        }
    }
}

async fn play(mut stream: TcpStream, seen: &Mutex<Seen>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        while buffer.len() < head + length.unwrap_or(0) {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.drain(..head + length.unwrap_or(0));
        let act = {
            let mut seen = seen.lock().expect("sound");
            seen.requests.push(text);
            seen.script.pop_front().unwrap_or_else(|| ok(""))
        };
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).await.ok()?,
            Act::SendAndClose(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Act::SendAndFallSilent(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                while stream.read_buf(&mut buffer).await.ok()? > 0 {
                    buffer.clear();
                }
                return None;
            }
            Act::SendAndShut(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                while stream.read_buf(&mut buffer).await.ok()? > 0 {
                    buffer.clear();
                }
                return None;
            }
        }
    }
}

/// An answer with this status line, these headers and this body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// A success with this body.
pub(crate) fn ok(body: &str) -> Act {
    Act::Send(answer("200 OK", "", body))
}

/// What both dialects send for one tag.
pub(crate) const TAGS: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";

/// Both stores, at this endpoint.
pub(crate) fn stores(endpoint: &str) -> [(&'static str, Arc<dyn Store>); 2] {
    [("s3", Arc::new(s3(endpoint))), ("oss", Arc::new(oss(endpoint)))]
}

pub(crate) fn credentials(key: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, "hushhush", None, None, "tests"))
}

pub(crate) fn s3(endpoint: &str) -> HttpStore {
    s3_as(endpoint, credentials("AKID"))
}

pub(crate) fn s3_as(endpoint: &str, credentials: SharedCredentialsProvider) -> HttpStore {
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    HttpStore::s3(&config, "us-east-1", credentials).expect("a store")
}

pub(crate) fn oss(endpoint: &str) -> HttpStore {
    HttpStore::oss(endpoint, AddressingStyle::Path, "cn-hangzhou", credentials("AKID")).expect("a store")
}

pub(crate) fn object() -> ObjectId {
    ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None }
}

/// Sends a request, and does not wait for ever.
pub(crate) async fn ask(store: &Arc<dyn Store>, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
    let patience = std::time::Duration::from_mins(1);
    tokio::time::timeout(patience, store.send_request(&object(), call)).await.expect("an end")
}
