//! A server that answers every request at once, with as little as a client can be content with.

use std::borrow::Cow;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::LazyLock;

use crate::process::pinned;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nx-amz-request-id: 0\r\nETag: \"0\"\r\nContent-Length: 0\r\n\r\n";
/// rclone takes a prefix for an object where it finds one.
const MISSING: &str = "HTTP/1.1 404 Not Found\r\nx-amz-request-id: 0\r\nContent-Length: 0\r\n\r\n";
const TAGS: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
const ACL: &str = "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>o</ID></Owner>\
    <AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
    xsi:type=\"CanonicalUser\"><ID>o</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>\
    </AccessControlPolicy>";

/// Keys of a page of a listing.
const PAGE: usize = 1000;

/// The server, for as long as this lives.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Host and port.
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = pinned(0, std::env::current_exe()?.as_os_str());
        let mut child = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut address = String::new();
        BufReader::new(stdout.ok_or_else(|| io::Error::other("no output"))?).read_line(&mut address)?;
        Ok(Self { child, stdin, address: address.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Listens on a free loopback port, prints it, and serves until standard input ends.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 128 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4) {
            let text = String::from_utf8_lossy(&buffer[..head]);
            let header = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.split_once(':'));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
            };
            if header("expect").is_some() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let whole = head + body;
            if whole > filled {
                // The rest of the body is read and discarded.
                let rest = (whole - filled) as u64;
                if io::copy(&mut (&stream).take(rest), &mut io::sink())? < rest {
                    return Ok(());
                }
            }
            stream.write_all(answer(text.lines().next().unwrap_or_default()).as_bytes())?;
            let next = whole.min(filled);
            buffer.copy_within(next..filled, 0);
            filled -= next;
        }
    }
}

fn answer(request: &str) -> Cow<'static, str> {
    static TAGGED: LazyLock<String> = LazyLock::new(|| document(TAGS));

    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let query = target.split_once('?').map_or("", |(_, query)| query);
    match method {
        "GET" if has(query, "tagging") => TAGGED.as_str().into(),
        "GET" if has(query, "acl") => document(ACL).into(),
        "GET" if has(query, "location") => document("<LocationConstraint/>").into(),
        "GET" => document(&listing(query)).into(),
        "HEAD" => MISSING.into(),
        _ => EMPTY.into(),
    }
}

fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

fn document(content: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nx-amz-request-id: 0\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

/// A page of a listing, of the first or the second kind: below the prefix `N/` are N objects.
fn listing(query: &str) -> String {
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<usize>().ok());
    let listed = pairs().find(|(name, _)| *name == "prefix").and_then(|(_, prefix)| digits(prefix)).unwrap_or(0);
    let names = ["marker", "continuation-token", "start-after"];
    let after = pairs().find(|(name, _)| names.contains(name)).and_then(|(_, key)| digits(key.rsplit('-').next()?));
    let from = after.map_or(0, |last| last + 1);
    let to = (from + PAGE).min(listed);
    let name = |n: usize| format!("{listed}/key-{n:08}");
    let truncated = to < listed;
    let count = to.saturating_sub(from);
    let next = if truncated {
        let next = name(to - 1);
        format!("<NextMarker>{next}</NextMarker><NextContinuationToken>{next}</NextContinuationToken>")
    } else {
        String::new()
    };
    let entries: Vec<_> = (from..to).map(|n| entry(&name(n))).collect();
    format!(
        "<ListBucketResult><Name>bucket</Name><IsTruncated>{truncated}</IsTruncated><KeyCount>{count}</KeyCount>{next}\
         {}</ListBucketResult>",
        entries.concat()
    )
}

fn entry(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"0\"</ETag><Size>1</Size>\
         <StorageClass>GLACIER</StorageClass></Contents>"
    )
}
