//! Which state to open, and how.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use batchplan_store::StoreConfig;
use batchplan_store::object::{BucketName, ObjectKey};

use super::error::RemoteError;
use super::prefix_store::PrefixStore;
use crate::connect::{StoreConnection, connect};
use crate::files::with_path;

/// The intervals of renewing and pushing.
#[derive(Clone, Copy, Debug)]
pub struct LeaseConfig {
    /// How long the lock is valid without a renewal. It is renewed every sixth of this time, and its holder stops at
    /// half of it.
    pub lease: Duration,
    /// The maximum time between two pushes.
    pub push_interval: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { lease: Duration::from_secs(90), push_interval: Duration::from_secs(30) }
    }
}

/// Which state to open, and how.
pub struct RemoteStateConfig {
    /// The full location of the state, for display.
    pub location: String,
    /// The store that holds the state.
    pub store: StoreConfig,
    /// The bucket that holds the state.
    pub bucket: BucketName,
    /// The prefix of all keys, without a trailing slash.
    pub prefix: ObjectKey,
    /// Whether a lock keeps two processes from holding the state.
    pub use_lock: bool,
    /// The folder of the local cache.
    pub folder: PathBuf,
    /// This process, for display.
    pub process_name: String,
    /// The intervals of renewing and pushing.
    pub lease_config: LeaseConfig,
    /// How long to wait for another holder.
    pub lock_timeout: Duration,
    /// Called with notes for the user.
    pub notify: Arc<dyn Fn(&str) + Send + Sync>,
    /// Called with the reason when the lock is about to expire: the process must exit before another one starts.
    pub exit: Arc<dyn Fn(&str) + Send + Sync>,
}

impl RemoteStateConfig {
    /// Returns the folder, and creates it if it does not exist.
    pub(crate) fn create_folder(&self) -> Result<PathBuf, RemoteError> {
        std::fs::create_dir_all(&self.folder).map_err(with_path(&self.folder))?;
        Ok(self.folder.clone())
    }

    /// Connects to the store, and returns the objects below the prefix.
    pub(crate) async fn connect(&self) -> Result<(PrefixStore, StoreConnection), RemoteError> {
        let connection = connect(&self.store).await?;
        let store = PrefixStore::new(Arc::clone(connection.store()), self.bucket.clone(), self.prefix.clone());
        Ok((store, connection))
    }
}
