//! `batchplan sandbox`: serves the embedded object store to other clients.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use batchplan_sandbox::{
    ACCESS_KEY, DEFAULT_TIME_SCALE, REGION, SECRET_KEY, Sandbox, SandboxKey, SandboxOptions, SandboxServer,
    SandboxServerError,
};
use clap::Args;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;

/// Serve the built-in object store, to rehearse plans.
///
/// The sandbox also serves other S3 and OSS clients. It supports versions, tags, ACLs, storage classes and restores as
/// AWS S3 does, checks signatures, and stores its data in a folder. Clients that sign requests for Alibaba Cloud OSS
/// (version 4) get OSS responses, on the same port and for the same objects. The only line on standard output is the
/// endpoint's URL. The sandbox runs until you interrupt it.
///
/// A fill file lists what the store contains at first use. It is a CSV file with a header row: `bucket` and `key`
/// (URL-encoded) are required; `size`, `storage_class`, `last_modified`, `tags` (a=b&c=d), `acl` and `version_id` are
/// optional. These objects have a size but no content: they are served as zero bytes. Real files come from the folder
/// next to it: with `--fill quick.csv`, `quick.files/BUCKET/a/b.csv` becomes the object `a/b.csv`.
///
/// Repeat `--access-key` and `--secret-key` to rehearse access between accounts: each key is an owner with its own
/// canonical ID, buckets and objects, and ACLs decide what the others can do. The first key also owns everything from
/// the fill file and from earlier runs with one key, so keep the order of the keys.
///
/// Example: batchplan sandbox --listen 127.0.0.1:9000 --data ./sandbox --fill inventory.csv
#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// The address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// The folder for the store's data; it is created if it does not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// A CSV file that lists what the store contains at first use; ignored once the folder has data
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,

    /// How many times faster than on AWS a restore completes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TIME_SCALE)]
    time_scale: NonZeroU32,

    /// Answer at most N requests per second and refuse others with 503, to rehearse a plan on a store that throttles
    #[arg(long, value_name = "N")]
    max_requests_per_second: Option<NonZeroU32>,

    /// The access key that clients sign with; repeat it for several owners
    #[arg(long = "access-key", value_name = "KEY", default_value = ACCESS_KEY)]
    access_keys: Vec<String>,

    /// The secret key that clients sign with, one for each access key in the same order; the first is printed
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Listen before the endpoint is printed: a program that reads it may send the signal at once.
            let stop = StopSignal::listen()?;
            let owners = describe_owners(&sandbox);
            let server = SandboxServer::start(sandbox, self.listen, self.allow_remote)?;
            let endpoint = server.endpoint();
            terminal.eprint("The sandbox is listening. To try it:");
            terminal.eprint("");
            if let Some(SandboxKey { access_key, secret_key }) = first_key {
                terminal.eprint(format_args!("  export AWS_ACCESS_KEY_ID={access_key}"));
                terminal.eprint(format_args!("  export AWS_SECRET_ACCESS_KEY={secret_key}"));
            }
            terminal.eprint(format_args!("  aws --endpoint-url {endpoint} --region {REGION} s3 ls"));
            terminal.eprint("");
            if owners.len() > 1 {
                terminal.eprint("The owners, with the canonical IDs that ACLs name:");
                terminal.eprint("");
                for owner in owners {
                    terminal.eprint(format_args!("  {owner}"));
                }
                terminal.eprint("");
            }
            terminal.print(&endpoint)?;
            stop.wait().await;
            server.stop();
            Ok(ExitStatus::Success)
        })
    }
}

impl SandboxArgs {
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
            return Err(invalid("the same --access-key is given twice".to_owned())
                .help("give each owner an access key of its own"));
        }
        if access_keys.iter().chain(secret_keys).any(String::is_empty) {
            return Err(invalid("a key is empty".to_owned()).help("give each --access-key and --secret-key a value"));
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
