//! What several workers gain on a server that answers a page of a listing after 20 ms: the time that one worker takes
//! for the same keys, over theirs.
//!
//! `cargo bench --bench listing` prints the ratio for buckets with keys of several kinds, and the requests that were
//! sent beyond one for each page. `BATCHPLAN_BENCH_PAGES` sets the pages of a bucket, 1,000 keys each. The server
//! sleeps and then answers from memory; it listens on loopback, and shares the machine's cores with the client.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use batchplan::connect::connect;
use batchplan::manifest::{
    Filter, FreezeLimits, FrozenManifest, ListedVersions, Manifest, ManifestSource, OnUnlistable, freeze,
};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{AddressingStyle, StoreConfig, StoreProvider};
use tokio_util::sync::CancellationToken;

/// How long a page takes.
const LATENCY: Duration = Duration::from_millis(20);

/// Keys of a page.
const PAGE: usize = 1000;

/// How often each is measured; the median counts.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        // The provider chain reads the environment, which a process cannot safely change for itself.
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").status()?;
        return status.success().then_some(()).ok_or_else(|| "the measurement failed".into());
    }
    let pages = std::env::var("BATCHPLAN_BENCH_PAGES").map_or(Ok(400), |pages| pages.parse())?;
    for (name, keys) in key_spaces(pages * PAGE) {
        let server = Server::start(keys)?;
        let (mut one, mut many) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            one.push(list(&server, 1, pages * PAGE)?);
            many.push(list(&server, 16, pages * PAGE)?);
        }
        let [(one, _), (many, requests)] = [median(one), median(many)];
        let ratio = one.as_secs_f64() / many.as_secs_f64();
        let extra = requests.saturating_sub(pages);
        writeln!(io::stdout(), "{name}: one worker / sixteen = {ratio:.1}; {extra} requests more than {pages} pages")?;
    }
    Ok(())
}

/// Freezes the whole listing: the time it takes, and the requests.
fn list(server: &Server, workers: u32, rows: usize) -> Result<(Duration, usize), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = server.requests.load(Ordering::Relaxed);
    let begun = Instant::now();
    let frozen: FrozenManifest = runtime.block_on(async {
        let config = StoreConfig {
            provider: StoreProvider::S3,
            endpoint: Some(server.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            addressing: AddressingStyle::Path,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
        };
        let connection = connect(&config).await?;
        let source = ManifestSource::Prefix {
            on_unlistable: OnUnlistable::Fail,
            bucket: BucketName::new("bucket"),
            prefix: ObjectKey::from("p/"),
            versions: ListedVersions::Current,
        };
        let manifest = Manifest { source, filter: Filter::default() };
        let bounds = FreezeLimits { max_disk: None, max_objects: None, concurrency: Some(workers) };
        let stop = CancellationToken::new();
        let frozen = freeze(&manifest, connection.store(), folder.path(), bounds, &|_| {}, &stop).await?;
        Ok::<_, Box<dyn std::error::Error>>(frozen)
    })?;
    let took = begun.elapsed();
    if frozen.rows() != u64::try_from(rows)? {
        return Err(format!("{} rows of {rows}", frozen.rows()).into());
    }
    Ok((took, server.requests.load(Ordering::Relaxed) - before))
}

fn median(mut measured: Vec<(Duration, usize)>) -> (Duration, usize) {
    measured.sort();
    measured[measured.len() / 2]
}

fn key_spaces(count: usize) -> Vec<(&'static str, Vec<String>)> {
    let hash = |n: usize| {
        let mixed = (n as u64 ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
    };
    let scan = |n: usize| format!("p/documents/2024/{:02}/customer-{:09}/scan-{n:012}.pdf", n % 12 + 1, n % 977);
    vec![
        ("hashes", (0..count).map(|n| format!("p/{:016x}", hash(n))).collect()),
        ("numbers behind one prefix", (0..count).map(|n| format!("p/logs/application/{n:09}.gz")).collect()),
        ("documents by month and customer", (0..count).map(scan).collect()),
    ]
}

/// The server; its threads end with the process.
struct Server {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(mut keys: Vec<String>) -> io::Result<Self> {
        keys.sort_unstable();
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (keys, requests) = (Arc::new(keys), Arc::new(AtomicUsize::new(0)));
        let counting = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keys, requests) = (Arc::clone(&keys), Arc::clone(&counting));
                std::thread::spawn(move || answer_all(stream, &keys, &requests));
            }
        });
        Ok(Self { endpoint, requests })
    }
}

fn answer_all(stream: TcpStream, keys: &[String], requests: &AtomicUsize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut header) = (String::new(), String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        while header != "\r\n" {
            header.clear();
            if reader.read_line(&mut header)? == 0 {
                return Ok(());
            }
        }
        header.clear();
        requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(LATENCY);
        let body = page(&line, keys);
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n", body.len())?;
        writer.write_all(body.as_bytes())?;
    }
}

/// The page that a request line asks for. A token is the place of its first key.
fn page(line: &str, keys: &[String]) -> String {
    let query = line.split(' ').nth(1).and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let from = match (parameter("continuation-token"), parameter("start-after")) {
        (Some(token), _) => token.parse().unwrap_or(0),
        (None, Some(after)) => {
            let after = ObjectKey::decode(after.as_bytes());
            keys.partition_point(|key| key.as_bytes() <= after.as_bytes())
        }
        (None, None) => 0,
    };
    let end = keys.len().min(from + PAGE);
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    for key in &keys[from..end] {
        let _ = write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>2026-01-31T00:00:00.000Z</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    let more = end < keys.len();
    let _ = write!(body, "<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>");
    if more {
        let _ = write!(body, "<NextContinuationToken>{end}</NextContinuationToken>");
    }
    body.push_str("</ListBucketResult>");
    body
}
