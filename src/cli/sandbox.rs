//! `batchplan sandbox`: serves the embedded object store to other clients.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use batchplan_sandbox::{
    ACCESS_KEY, DEFAULT_TIME_SCALE, REGION, SECRET_KEY, Sandbox, SandboxError, SandboxKey, SandboxOptions,
    SandboxServer, SandboxServerError,
};
use clap::Args;
use serde_json::json;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::numbers::{listen_address, positive_number};
use super::terminal::Terminal;
use crate::paths::show_path;

/// Run the built-in object store as a server, to test plans.
///
/// The sandbox serves S3 clients, and OSS clients with signature version 4, on the same port and with the same objects.
/// It supports versions, tags, ACLs, storage classes and restores like AWS S3, checks signatures, and keeps its data in
/// a folder. It prints only the endpoint's URL to standard output, and runs until you press Ctrl-C.
///
/// `--fill FILE` creates objects while the folder has no buckets. FILE is a CSV file with a header row: `bucket` and
/// `key` (URL-encoded) are required; `size`, `storage_class`, `last_modified`, `tags` (a=b&c=d), `acl` and `version_id`
/// are optional. These objects contain zero bytes. To add objects with content, put files into the folder next to it:
/// with `--fill quick.csv`, `quick.files/BUCKET/a/b.csv` becomes the object `a/b.csv`.
///
/// To test access between accounts, repeat `--access-key` and `--secret-key`: each key is an owner with its own
/// canonical ID, buckets and objects, and ACLs decide what the others can do. The first key also owns everything from
/// the fill file and from earlier runs with one key, so keep the order of the keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  batchplan sandbox --listen 127.0.0.1:9000 --data ./sandbox --fill inventory.csv")]
pub(super) struct SandboxArgs {
    /// The address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = listen_address)]
    listen: SocketAddr,

    /// The folder for the store's data; it is created if it does not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// A CSV file that lists the objects to create; ignored once the folder has buckets
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,

    /// How many times faster than on AWS restores complete
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TIME_SCALE, value_parser = positive_number)]
    time_scale: NonZeroU32,

    /// Serve at most N requests per second and reject others with 503, to test a plan on a store that throttles
    #[arg(long, value_name = "N", value_parser = positive_number)]
    max_requests_per_second: Option<NonZeroU32>,

    /// The access key that clients sign requests with; repeat it for several owners
    #[arg(long = "access-key", value_name = "KEY", default_value = ACCESS_KEY)]
    access_keys: Vec<String>,

    /// The secret key of each access key, in the same order; the first one is printed
    #[arg(long = "secret-key", value_name = "KEY", default_value = SECRET_KEY)]
    secret_keys: Vec<String>,

    /// Allow an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

impl CliCommand for SandboxArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let keys = self.keys()?;
        let first_key = keys.first().cloned();
        let options = SandboxOptions {
            keys,
            time_scale: self.time_scale,
            max_requests_per_second: self.max_requests_per_second,
            ..SandboxOptions::default()
        };
        if !self.allow_remote && !self.listen.ip().is_loopback() {
            return Err(SandboxServerError::NotLoopback(self.listen).into());
        }
        let sandbox = Sandbox::open(&self.data, self.fill.as_deref(), options)?;
        self.check_fill(&sandbox, terminal)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Listen before the endpoint is printed: a program that reads it may send the signal at once.
            let stop = StopSignal::listen()?;
            let owners = describe_owners(&sandbox);
            let server = SandboxServer::start(sandbox, self.listen, self.allow_remote)?;
            let endpoint = server.endpoint();
            terminal.inform("The sandbox is listening. To use it:");
            terminal.inform("");
            if let Some(SandboxKey { access_key, secret_key }) = first_key {
                terminal.inform(format_args!("  export AWS_ACCESS_KEY_ID={access_key}"));
                terminal.inform(format_args!("  export AWS_SECRET_ACCESS_KEY={secret_key}"));
            }
            terminal.inform(format_args!("  aws --endpoint-url {endpoint} --region {REGION} s3 ls"));
            terminal.inform("");
            if owners.len() > 1 {
                terminal.inform("Owners and their canonical IDs, for use in ACLs:");
                terminal.inform("");
                for owner in owners {
                    terminal.inform(format_args!("  {owner}"));
                }
                terminal.inform("");
            }
            if terminal.is_json() {
                terminal
                    .print_json(json!({ "endpoint": endpoint, "region": REGION, "access_keys": self.access_keys }))?;
            } else {
                terminal.print(&endpoint)?;
            }
            stop.wait().await;
            server.stop();
            Ok(ExitStatus::Success)
        })
    }
}

impl SandboxArgs {
    /// Says so if the fill file is not used, and refuses one that cannot be read in any case.
    fn check_fill(&self, sandbox: &Sandbox, terminal: Terminal) -> Result<(), CommandError> {
        let Some(fill) = self.fill.as_deref().filter(|_| !sandbox.is_newly_seeded()) else { return Ok(()) };
        File::open(fill).map_err(|source| SandboxError::Io { doing: "read", path: fill.to_owned(), source })?;
        let (fill, data) = (show_path(fill), show_path(&self.data));
        terminal.inform(format_args!("note: --fill {fill} is ignored: {data} has buckets already"));
        Ok(())
    }

    /// Returns each access key with its secret key.
    fn keys(&self) -> Result<Vec<SandboxKey>, CommandError> {
        let (access_keys, secret_keys) = (&self.access_keys, &self.secret_keys);
        let invalid = |message: String| CommandError::new(ExitStatus::Invalid, message);
        if access_keys.len() != secret_keys.len() {
            let counts = format!("{} for --access-key, {} for --secret-key", access_keys.len(), secret_keys.len());
            return Err(invalid(format!("the numbers of keys differ: {counts}"))
                .help("give one --secret-key for each --access-key, in the same order"));
        }
        let distinct: HashSet<&String> = access_keys.iter().collect();
        if distinct.len() < access_keys.len() {
            return Err(invalid("the same --access-key is given more than once".to_owned())
                .help("use a different --access-key for each owner"));
        }
        if access_keys.iter().chain(secret_keys).any(String::is_empty) {
            return Err(
                invalid("an --access-key or --secret-key is empty".to_owned()).help("give each of them a value")
            );
        }
        let pairs = access_keys.iter().cloned().zip(secret_keys.iter().cloned());
        Ok(pairs.map(|(access_key, secret_key)| SandboxKey { access_key, secret_key }).collect())
    }
}

/// Returns a line for each owner: its access key and its canonical ID.
fn describe_owners(sandbox: &Sandbox) -> Vec<String> {
    let width = sandbox.owners().map(|(access_key, _)| access_key.chars().count()).max().unwrap_or_default();
    sandbox.owners().map(|(access_key, id)| format!("{access_key:width$}  {id}")).collect()
}

/// The signals that stop the server.
struct StopSignal {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    #[cfg(unix)]
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(unix)]
    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn wait(self) {
        // If the signal cannot be listened for, there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
}
