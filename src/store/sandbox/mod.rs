//! An object store inside the binary, so that the whole real path runs with no account.
//!
//! It speaks S3 and, to whoever signs as Alibaba Cloud's OSS does, OSS, on one port and about the same objects. It keeps
//! versions, tags, ACLs, storage classes and restores as AWS S3 and OSS do, refuses what they refuse, and checks
//! signatures. What it holds lives in one folder and outlives the process. It can be filled from a table of names, sizes
//! and classes without any content, so that a plan can be rehearsed on as many objects as production has.
//!
//! | file | what is in it |
//! |---|---|
//! | `model`, `tags` | the values |
//! | `state`, `listing` | buckets, keys and versions; changes; walking over keys |
//! | `codec`, `log`, `bodies` | what outlives the process |
//! | `settings` | what buckets are set to besides versioning and their ACL |
//! | `vault`, `find`, `uploads`, `restore` | what can be asked of it, whatever the dialect |
//! | `fill` | what it holds at first use |
//! | `s3`, `oss` | the dialects |
//! | `limit` | a limit on requests |
//! | `server` | listening, telling the dialects apart, and stopping |
//!
//! A bucket's lifecycle is kept and told, and never acts: nothing expires here, and nothing changes its class. Where a
//! bucket's objects are all its owner's, ACLs are refused as AWS refuses them.
//!
//! Time is scaled for restores only: with the default scale of [`DEFAULT_TIME_SCALE`], a restore that takes five hours
//! at AWS is done in five seconds. Expiry dates are not scaled.

mod bodies;
mod codec;
mod fill;
mod find;
mod limit;
mod listing;
mod log;
mod model;
mod oss;
mod restore;
mod s3;
mod server;
mod settings;
mod state;
mod tags;
mod uploads;
mod vault;

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

pub use server::{Server, ServerError};
pub use vault::Sandbox;

/// The access key that the sandbox takes unless told otherwise. It protects nothing, and is public by design.
pub const ACCESS_KEY: &str = "sandbox";

/// The secret key that goes with [`ACCESS_KEY`]; public as well.
pub const SECRET_KEY: &str = "sandboxsecret";

/// The region to sign for. Any other is taken as well.
pub const REGION: &str = "us-east-1";

/// How many seconds of a restore pass in one: an hour a second.
pub const DEFAULT_TIME_SCALE: NonZeroU32 = NonZeroU32::new(3600).unwrap();

/// How a sandbox tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a sandbox behaves.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The access key that requests are signed with.
    pub access_key: String,
    /// The secret key that requests are signed with.
    pub secret_key: String,
    /// By how much restores are sped up.
    pub time_scale: NonZeroU32,
    /// The most requests that are answered in a second; further ones are refused with 503, as a store does that
    /// throttles. `None` answers all.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// The time; tests bring their own.
    pub clock: Clock,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            time_scale: DEFAULT_TIME_SCALE,
            max_requests_per_second: None,
            clock: Arc::new(Timestamp::now),
        }
    }
}

impl fmt::Debug for SandboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxOptions")
            .field("access_key", &self.access_key)
            .field("time_scale", &self.time_scale)
            .field("max_requests_per_second", &self.max_requests_per_second)
            .finish_non_exhaustive()
    }
}

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Another process has it open.
    #[error("the sandbox in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The log is not one, or is damaged elsewhere than at its end.
    #[error("the sandbox's log {} is damaged at byte {at}: {what}", .path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Where sense ends.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The fill file cannot be taken as it is. Nothing was filled.
    #[error("{}, row {row}: {what}", .path.display())]
    Fill {
        /// The fill file.
        path: PathBuf,
        /// The row, from 1, the header included.
        row: u64,
        /// What is wrong there.
        what: String,
    },
}
