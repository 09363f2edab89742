//! An HTTP server that answers every request at once, for measuring what a client costs: `204 No Content`, the same
//! tags for every object, or a refusal of a given share, keep-alive, nothing parsed but where a request ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is answered to a request that succeeds.
const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\nx-amz-request-id: 0\r\n\r\n";

/// What is answered to a request that is refused.
const REFUSED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
    <Message>The specified key does not exist.</Message><RequestId>0</RequestId></Error>";

/// The tags of every object.
const TAGS: &str = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>team</Key><Value>web</Value>\
    </Tag><Tag><Key>stage</Key><Value>live</Value></Tag></TagSet></Tagging>";

/// How many requests there were.
#[derive(Default)]
struct Counts {
    all: AtomicU64,
    about_objects: AtomicU64,
}

/// The server; its threads end with the process.
pub(crate) struct InstantServer {
    address: SocketAddr,
    counts: Arc<Counts>,
}

impl InstantServer {
    /// Listens on a free loopback port, and refuses so many of every thousand requests about objects with 404
    /// `NoSuchKey`, evenly spread: of the first n, n times the share. Uploads are never refused.
    pub(crate) fn failing(per_mille: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&counting);
                std::thread::spawn(move || answer_all(stream, &counts, per_mille));
            }
        });
        Ok(Self { address, counts })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.all.load(Ordering::Relaxed)
    }
}

fn answer_all(stream: TcpStream, counts: &Counts, per_mille: u64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let refused = format!(
        "HTTP/1.1 404 Not Found\r\nx-amz-request-id: 0\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n\
         {REFUSED}",
        REFUSED.len()
    );
    let tags = format!("HTTP/1.1 200 OK\r\nx-amz-request-id: 0\r\ncontent-length: {}\r\n\r\n{TAGS}", TAGS.len());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let (about_object, asks_tags) = (is_about_object(&line), line.starts_with("GET ") && line.contains("?tagging"));
        let mut body = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut (&mut reader).take(body), &mut std::io::sink()).ok()?;
        counts.all.fetch_add(1, Ordering::Relaxed);
        let refuse = about_object && falls_on(counts.about_objects.fetch_add(1, Ordering::Relaxed), per_mille);
        writer
            .write_all(if refuse {
                refused.as_bytes()
            } else if asks_tags {
                tags.as_bytes()
            } else {
                DONE
            })
            .ok()?;
    }
}

/// Whether a request line names a sub-resource of an object, as everything but an upload does.
fn is_about_object(line: &str) -> bool {
    ["?tagging", "?acl", "?restore"].iter().any(|sub| line.contains(sub))
}

/// Whether the request with this number, counted from 0, is one of the share.
fn falls_on(number: u64, per_mille: u64) -> bool {
    (number + 1) * per_mille / 1000 > number * per_mille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends requests that begin so, one after the other; how many were refused.
    fn refused(server: &InstantServer, line: &str, count: u32) -> u32 {
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx");
        let mut refused = 0;
        for _ in 0..count {
            stream.write_all(request.as_bytes()).expect("sent");
            let (mut status, mut header, mut body) = (String::new(), String::new(), 0);
            reader.read_line(&mut status).expect("a status");
            while header != "\r\n" {
                header.clear();
                reader.read_line(&mut header).expect("a header");
                if let Some(length) = header.strip_prefix("content-length: ") {
                    body = length.trim().parse().expect("a length");
                }
            }
            let mut text = String::new();
            (&mut reader).take(body).read_to_string(&mut text).expect("a body");
            assert_eq!(text.contains("<Code>NoSuchKey</Code>"), status.contains(" 404 "), "{status}{text}");
            refused += u32::from(status.contains(" 404 "));
        }
        refused
    }

    #[test]
    fn the_share_is_exact_and_uploads_are_spared() {
        for (per_mille, expected) in [(0, 0), (10, 4), (190, 76), (1000, 400)] {
            let server = InstantServer::failing(per_mille).expect("a server");
            assert_eq!(refused(&server, "PUT /b/k?tagging", 300) + refused(&server, "GET /b/k?acl", 100), expected);
            assert_eq!(refused(&server, "PUT /b/report.csv?x-id=PutObject", 20), 0);
            assert_eq!(server.requests(), 420);
        }
    }
}
