//! `batchplan sandbox`: serves the embedded object store to other clients.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use batchplan_sandbox::{
    ACCESS_KEY, DEFAULT_TIME_SCALE, REGION, SECRET_KEY, Sandbox, SandboxError, SandboxOptions, SandboxServer,
    SandboxServerError,
};
use clap::Args;

use super::terminal::Terminal;
use super::{CommandError, ExitStatus};

/// Serve the embedded object store, for trying plans out and for other S3 and OSS clients.
///
/// It keeps versions, tags, ACLs, storage classes and restores as AWS S3 does, checks signatures, and keeps what it is
/// given in a folder. A client that signs as Alibaba Cloud OSS does (version 4) is answered as OSS answers, on the same
/// port and about the same objects. The only line on standard output is the endpoint's URL. It runs until it is interrupted.
///
/// A fill file says what the store holds at first use. It is a CSV file with a header row: `bucket` and `key` (URL-encoded)
/// are required; `size`, `storage_class`, `last_modified`, `tags` (a=b&c=d), `acl` and `version_id` may be there. Such
/// objects have a size and no content: zero bytes are served. Real files are taken from the folder beside it: with
/// `--fill quick.csv`, `quick.files/BUCKET/a/b.csv` becomes the object `a/b.csv`.
///
/// Example: batchplan sandbox --listen 127.0.0.1:9000 --data ./sandbox --fill inventory.csv
#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// The folder that keeps what the store holds; it is made where there is none
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// What the store holds at first use; not read again once the folder has a state
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,

    /// How many seconds of a restore pass in one; 1 takes as long as AWS does
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TIME_SCALE)]
    time_scale: NonZeroU32,

    /// Answer at most so many requests a second and refuse the others with 503, to rehearse a plan on a store that throttles
    #[arg(long, value_name = "N")]
    max_requests_per_second: Option<NonZeroU32>,

    /// The access key that clients sign with
    #[arg(long, value_name = "KEY", default_value = ACCESS_KEY)]
    access_key: String,

    /// The secret key that clients sign with; it is printed
    #[arg(long, value_name = "KEY", default_value = SECRET_KEY)]
    secret_key: String,

    /// Listen on an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

pub(super) fn run(args: SandboxArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let options = SandboxOptions {
        access_key: args.access_key,
        secret_key: args.secret_key,
        time_scale: args.time_scale,
        max_requests_per_second: args.max_requests_per_second,
        ..SandboxOptions::default()
    };
    if !args.allow_remote && !args.listen.ip().is_loopback() {
        return Err(SandboxServerError::NotLoopback(args.listen).into());
    }
    let sandbox = Sandbox::open(&args.data, args.fill.as_deref(), options.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listen before the endpoint is printed: a program that reads it may send the signal at once.
        let stop = StopSignal::listen()?;
        let server = SandboxServer::start(sandbox, args.listen, args.allow_remote)?;
        let endpoint = server.endpoint();
        terminal.eprint("The sandbox is listening. To try it:");
        terminal.eprint("");
        terminal.eprint(format_args!("  export AWS_ACCESS_KEY_ID={}", options.access_key));
        terminal.eprint(format_args!("  export AWS_SECRET_ACCESS_KEY={}", options.secret_key));
        terminal.eprint(format_args!("  aws --endpoint-url {endpoint} --region {REGION} s3 ls"));
        terminal.eprint("");
        terminal.print(&endpoint)?;
        stop.wait().await;
        server.stop();
        Ok(ExitStatus::Success)
    })
}

impl From<SandboxError> for CommandError {
    fn from(error: SandboxError) -> Self {
        let (exit, help) = match &error {
            SandboxError::InUse(_) => {
                (ExitStatus::Refused, "stop the other process, or give this one a folder of its own with --data")
            }
            SandboxError::Seed { .. } => (ExitStatus::Invalid, "mend the row; nothing was filled"),
            SandboxError::Damaged { .. } => {
                (ExitStatus::ToolFailed, "move the folder away to begin anew; nothing in it was changed")
            }
            SandboxError::Io { .. } => (ExitStatus::ToolFailed, "check that the file is there and that you may use it"),
        };
        Self::new(exit, error.to_string()).help(help)
    }
}

impl From<SandboxServerError> for CommandError {
    fn from(error: SandboxServerError) -> Self {
        let message = error.to_string();
        match error {
            SandboxServerError::NotLoopback(_) => Self::new(ExitStatus::Refused, message)
                .help("listen on 127.0.0.1, or say --allow-remote and give keys of your own"),
            SandboxServerError::Listen { .. } => {
                Self::new(ExitStatus::ToolFailed, message).help("port 0 takes a port that is free")
            }
            SandboxServerError::Start(_) => Self::new(ExitStatus::ToolFailed, message),
        }
    }
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
