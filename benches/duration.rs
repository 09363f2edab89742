//! Whether the duration that `plan` predicts is the one that `apply` takes: both run against the sandbox, behind a proxy
//! that delays each answer by 5, 20 or 100 ms.
//!
//! `cargo bench --bench duration` prints both durations and their ratio, and fails if they differ by more than a
//! quarter. `BATCHPLAN_BENCH_SECONDS` sets about how long each job takes. Sandbox, proxy and client share the machine's
//! cores, so the rates are those that two cores can serve.

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use batchplan_sandbox::{Sandbox, SandboxOptions, SandboxServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// The largest difference between the predicted and the real duration, as a share of the real one.
const TOLERANCE: f64 = 0.25;

/// A store that takes so long for each answer, the limits of the plan, and the requests per second that follow.
const CASES: [(u64, &str, u64); 5] = [
    (5, "concurrency = 16\n", 3200),
    (20, "concurrency = 64\n", 3200),
    (100, "concurrency = 64\n", 640),
    (100, "", 2560),
    (20, "requests_per_second = 500\n", 500),
];

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::var("BATCHPLAN_BENCH_SECONDS").map_or(Ok(15), |seconds| seconds.parse::<u64>())?;
    let mut out = io::stdout();
    let mut wrong = 0;
    for (latency, limits, per_second) in CASES {
        let folder = tempfile::tempdir()?;
        let objects = seconds * per_second;
        let server = start_sandbox(folder.path(), objects)?;
        let proxy = delaying_proxy(server.address(), Duration::from_millis(latency))?;
        let (predicted, real) = measure(folder.path(), proxy, limits)?;
        let ratio = predicted / real;
        let verdict = if (ratio - 1.0).abs() <= TOLERANCE { "" } else { "  NOT WITHIN A QUARTER" };
        wrong += usize::from(!verdict.is_empty());
        let limits = if limits.is_empty() { "default limits" } else { limits.trim() };
        writeln!(
            out,
            "{latency:>3} ms, {limits}: {objects} objects, predicted {predicted:.1} s, took {real:.1} s, \
             ratio {ratio:.2}{verdict}"
        )?;
    }
    if wrong > 0 {
        return Err(format!("{wrong} predictions are not within a quarter").into());
    }
    Ok(())
}

/// Starts a sandbox with this number of objects.
fn start_sandbox(folder: &Path, objects: u64) -> Result<SandboxServer, Box<dyn Error>> {
    let seed = folder.join("seed.csv");
    let mut rows = io::BufWriter::new(fs::File::create(&seed)?);
    writeln!(rows, "bucket,key")?;
    for number in 0..objects {
        writeln!(rows, "bkt,docs/{number:08}")?;
    }
    rows.flush()?;
    let sandbox = Sandbox::open(&folder.join("data"), Some(&seed), SandboxOptions::default())?;
    Ok(SandboxServer::start(sandbox, (Ipv4Addr::LOCALHOST, 0).into(), false)?)
}

/// Returns how many seconds `plan` predicts, and how many `apply` takes.
fn measure(folder: &Path, address: SocketAddr, limits: &str) -> Result<(f64, f64), Box<dyn Error>> {
    let plan = format!(
        "name = \"bench\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"http://{address}\"\n\
         region = \"us-east-1\"\naddressing = \"path\"\n[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"docs/\"\n\
         [operation.put_object_tagging]\ntags = {{ Environment = \"Production\" }}\n[report]\nenabled = false\n\
         [limits]\n{limits}"
    );
    fs::write(folder.join("plan.toml"), plan)?;
    let preview = run(folder, &["plan", "plan.toml", "--json"])?;
    let predicted = preview["duration"]["at_plan_seconds"].as_f64().ok_or("no prediction")?;
    let result = run(folder, &["apply", "plan.toml", "--auto-approve", "--json"])?;
    let real = result["elapsed_seconds"].as_f64().ok_or("no duration")?;
    if result["failed"] != 0 || result["status"] != "Complete" {
        return Err(format!("the job did not succeed: {result}").into());
    }
    Ok((predicted, real))
}

fn run(folder: &Path, arguments: &[&str]) -> Result<serde_json::Value, Box<dyn Error>> {
    let output = Command::new(env!("CARGO_BIN_EXE_batchplan"))
        .args(arguments)
        .current_dir(folder)
        .env("AWS_ACCESS_KEY_ID", batchplan_sandbox::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", batchplan_sandbox::SECRET_KEY)
        .env_remove("BATCHPLAN_STATE")
        .output()?;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Starts a proxy on a thread of its own that ends with the process. It passes requests on at once, and each answer so
/// long after its request.
fn delaying_proxy(server: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (client, _) = listener.accept().await?;
                tokio::spawn(serve(client, server, delay));
            }
            #[expect(unreachable_code, reason = "it names the error")]
            Ok::<_, io::Error>(())
        })
    });
    Ok(address)
}

/// Passes on what both sides of a connection send. A client sends its next request only after it has the answer.
async fn serve(mut client: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; 16 << 10], vec![0; 64 << 10]);
    let mut due = Instant::now();
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read? {
                0 => return Ok(()),
                length => {
                    due = Instant::now() + delay;
                    server.write_all(&request[..length]).await?;
                }
            },
            read = server.read(&mut answer) => match read? {
                0 => return Ok(()),
                length => {
                    tokio::time::sleep_until(due).await;
                    client.write_all(&answer[..length]).await?;
                }
            },
        }
    }
}
