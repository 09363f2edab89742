//! A server in the place of any service: the portal of AWS SSO, the service that renews its tokens, AWS Sign-In, STS, a
//! metadata service, a store, a webhook, or GitHub.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Method and target.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Status and body of the response to a request.
pub(crate) type Respond = fn(&Received) -> (u16, String);

/// The server. Its threads end with the process.
pub(crate) struct Portal {
    pub(crate) endpoint: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Portal {
    pub(crate) fn start(respond: Respond) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, respond, &log));
            }
        });
        Self { endpoint, received }
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("sound").clone()
    }
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, respond: Respond, log: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, length)| length);
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
        reader.read_exact(&mut body)?;
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let received = Received { line, headers, body: String::from_utf8(body).expect("UTF-8") };
        let is_metadata_token = received.line == "PUT /latest/api/token";
        let (status, body) = respond(&received);
        log.lock().expect("sound").push(received);
        let mut head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        if is_metadata_token {
            head.push_str("\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600");
        }
        write!(writer, "{head}\r\n\r\n{body}")?;
    }
}
