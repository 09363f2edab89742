//! An object store in the binary, so that the whole real path runs without a cloud account.
//!
//! It speaks S3, and OSS to clients that sign requests as Alibaba Cloud's OSS requires. Both work on the same port and
//! with the same objects. The sandbox stores versions, tags, ACLs, storage classes, and restores as AWS S3 and OSS do,
//! rejects what they reject, and checks signatures. Its data is stored in one folder and survives the process. A new
//! sandbox can be seeded from a table of names, sizes, and storage classes without any content, so that a plan can be
//! rehearsed on as many objects as production has.
//!
//! | file | contents |
//! |---|---|
//! | `model`, `access`, `tags`, `checksum` | the stored values: objects and uploads; owners and ACLs; tags; checksums |
//! | `coded_enum`, `pool` | enums with stable codes and names; values that many objects share |
//! | `state`, `listing` | buckets, keys, and versions; changes to them; lookups; listings |
//! | `change_log`, `blobs` | storage on disk, which survives the end of the process |
//! | `permissions` | what the owners of buckets and objects allow others to do |
//! | `store`, `uploads`, `completed`, `restore` | the operations on buckets, objects, and uploads, independent of the dialect |
//! | `seed` | the seed data of a new sandbox |
//! | `s3`, `oss` | the dialects |
//! | `server` | the server, which limits the request rate and chooses the dialect of each request |
//!
//! The lifecycle of a bucket is stored and returned, but has no effect: no object expires or changes its storage class.
//!
//! Each access key belongs to an owner of its own, and ACLs decide what the others can do with an owner's buckets and
//! objects. If a bucket's owner owns all objects, ACLs are rejected as AWS rejects them. The README of this crate lists
//! what is served of S3, what is not, and what differs from other servers.
//!
//! Only the duration of restores is scaled: with [`DEFAULT_TIME_SCALE`], a restore that takes five hours at AWS takes
//! five seconds. Expiry dates are not scaled.

mod access;
mod blobs;
mod change_log;
mod checksum;
mod coded_enum;
mod completed;
mod listing;
mod model;
mod oss;
mod permissions;
mod pool;
mod restore;
mod s3;
mod seed;
mod server;
mod state;
mod store;
mod tags;
mod uploads;

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

pub use server::{SandboxServer, SandboxServerError};
pub use store::Sandbox;

/// The default access key. It protects nothing, and is public by design.
pub const ACCESS_KEY: &str = "sandbox";

/// The default secret key, which belongs to [`ACCESS_KEY`]. It is public by design, too.
pub const SECRET_KEY: &str = "sandboxsecret";

/// The number of the first owner's account. Requests can name it in `x-amz-expected-bucket-owner`.
pub const ACCOUNT_ID: &str = "000000000000";

/// The region to sign requests for. The sandbox also accepts every other region.
pub const REGION: &str = "us-east-1";

/// The default time scale of restores: one hour takes a second.
pub const DEFAULT_TIME_SCALE: NonZeroU32 = NonZeroU32::new(3600).unwrap();

/// A function that returns the current time.
pub type SandboxClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An access key with its secret key.
#[derive(Clone)]
pub struct SandboxKey {
    /// The access key, which is also the display name of its owner.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl fmt::Debug for SandboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxKey").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Options of a sandbox.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The access keys that requests can be signed with. Each belongs to an owner of its own. The owner of the first key
    /// also owns what the folder already held when it had one owner.
    pub keys: Vec<SandboxKey>,
    /// The factor by which restores are faster than in reality.
    pub time_scale: NonZeroU32,
    /// The maximum number of requests per second. Further requests are answered with 503, as by a store that throttles.
    /// `None` means no limit.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// The clock. Tests provide their own.
    pub clock: SandboxClock,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            keys: vec![SandboxKey { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() }],
            time_scale: DEFAULT_TIME_SCALE,
            max_requests_per_second: None,
            clock: Arc::new(Timestamp::now),
        }
    }
}

impl fmt::Debug for SandboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxOptions")
            .field("keys", &self.keys)
            .field("time_scale", &self.time_scale)
            .field("max_requests_per_second", &self.max_requests_per_second)
            .finish_non_exhaustive()
    }
}

/// Why a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Another process has the sandbox open.
    #[error("the sandbox in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation that failed, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a log, or is damaged elsewhere than at its end.
    #[error("the sandbox's log {} is damaged at byte {at}: {what}", .path.display())]
    Damaged {
        /// The path of the log.
        path: PathBuf,
        /// The offset of the first byte that is not valid.
        at: u64,
        /// What is wrong at this offset.
        what: &'static str,
    },
    /// The seed file is not valid. No objects were stored.
    #[error("{}, row {row}: {what}", .path.display())]
    Seed {
        /// The path of the seed file.
        path: PathBuf,
        /// The number of the row, counted from 1 and including the header.
        row: u64,
        /// What is wrong in this row.
        what: String,
    },
}
