//! Checks whether the source of a frozen manifest is unchanged.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use sha2::Sha256;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, object_path};
use super::frozen::{FileStamp, SourcePin};
use super::input::{self, UnreadBytes};
use super::retrying_store::RetryingStore;

/// The source of a frozen manifest has changed, or cannot be checked.
#[derive(Debug, Error)]
pub enum SourceChangedError {
    /// The content of the source is different now.
    #[error("{place} has changed since the job was prepared: its {what} was {was} and {}", now_is(now.as_deref()))]
    Changed {
        /// The name of the file.
        place: String,
        /// The property that was compared: `ETag` or SHA-256.
        what: &'static str,
        /// Its value when the manifest was frozen.
        was: String,
        /// Its value now, if known.
        now: Option<String>,
    },
    /// The source no longer exists.
    #[error("{place} no longer exists; its {what} was {was} when the job was prepared")]
    Missing {
        /// The name of the file.
        place: String,
        /// The property to compare: `ETag` or SHA-256.
        what: &'static str,
        /// Its value when the manifest was frozen.
        was: String,
    },
    /// The source cannot be read at the moment, so it is unknown whether it has changed.
    #[error("cannot check whether the job's source has changed: {0}")]
    Unreadable(#[source] Box<ManifestError>),
}

impl SourceChangedError {
    /// Returns one line that says what to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Changed { .. } | Self::Missing { .. } => Some(
                "restore the original file, or apply the plan with --new to read the source again in a new job"
                    .to_owned(),
            ),
            Self::Unreadable(error) => error.help(),
        }
    }
}

/// Checks that a source is the same as when its manifest was frozen.
///
/// An object is opened with If-Match, and its body is not read. A local file is read only if its size or modification
/// time differs, or was never recorded. A listing has nothing to compare.
///
/// # Errors
/// Returns an error if the source has changed, no longer exists, or cannot be checked. A stop counts as the last.
pub async fn check_pin(
    pin: &SourcePin,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<(), SourceChangedError> {
    match pin {
        SourcePin::Listing => Ok(()),
        SourcePin::Object { bucket, key, etag, .. } | SourcePin::Inventory { bucket, key, etag, .. } => {
            check_object(bucket, key, etag, &RetryingStore::new(Arc::clone(store), stop.clone())).await
        }
        SourcePin::File { path, sha256, stamp: seen } => {
            let file = PinnedFile { path: path.clone(), sha256: sha256.clone(), stamp: *seen, stop: stop.clone() };
            let compared = input::run_blocking(move || Ok(file.check())).await;
            compared.map_err(unreadable)?
        }
    }
}

/// Returns the path that a pin records for a local file: an absolute one, because the job may be resumed from another
/// folder.
pub(super) fn pinned_path(path: &Path) -> String {
    std::path::absolute(path).map_or_else(|_| path.display().to_string(), |path| path.display().to_string())
}

async fn check_object(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    patient: &RetryingStore,
) -> Result<(), SourceChangedError> {
    // If the server sends no ETag, only the existence of the object can be checked.
    let wanted = Some(etag).filter(|etag| !etag.is_empty());
    match patient.open_pinned(bucket, key, wanted).await {
        Ok(_unread) => Ok(()),
        Err(ManifestError::Changed { place, wanted, found }) => {
            Err(SourceChangedError::Changed { place, what: "ETag", was: wanted, now: found })
        }
        Err(ManifestError::Store { fault, .. }) if fault.status == Some(404) => {
            Err(SourceChangedError::Missing { place: object_path(bucket, key), what: "ETag", was: etag.to_owned() })
        }
        Err(error) => Err(unreadable(error)),
    }
}

/// A pinned file on this machine.
struct PinnedFile {
    path: String,
    sha256: String,
    stamp: Option<FileStamp>,
    stop: CancellationToken,
}

impl PinnedFile {
    fn check(self) -> Result<(), SourceChangedError> {
        if self.stamp.is_some() && file_stamp(Path::new(&self.path)) == self.stamp {
            return Ok(());
        }
        let Self { path, sha256, stop, .. } = self;
        match file_digest(&path, stop) {
            Ok(found) if found == sha256 => Ok(()),
            Ok(found) => {
                Err(SourceChangedError::Changed { place: path, what: "SHA-256", was: sha256, now: Some(found) })
            }
            Err(ManifestError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Err(SourceChangedError::Missing { place: path, what: "SHA-256", was: sha256 })
            }
            Err(error) => Err(unreadable(error)),
        }
    }
}

/// Returns the SHA-256 of the content of a file, in lower-case hex.
fn file_digest(path: &str, stop: CancellationToken) -> Result<String, ManifestError> {
    let raw = input::open_local(Path::new(path), stop)?;
    let (_, tally) = input::read_digested::<Sha256, ()>(raw, false, path, UnreadBytes::Digest, |_| Ok(()))?;
    Ok(tally.digest)
}

/// Returns the size and modification time of a file. Returns `None` if either is not available.
pub(super) fn file_stamp(path: &Path) -> Option<FileStamp> {
    let found = fs::metadata(path).ok()?;
    Some(FileStamp { size: found.len(), modified: Timestamp::try_from(found.modified().ok()?).ok()? })
}

fn unreadable(error: ManifestError) -> SourceChangedError {
    SourceChangedError::Unreadable(Box::new(error))
}

fn now_is(now: Option<&str>) -> String {
    match now {
        Some(now) => format!("is now {now}"),
        None => "is now different".to_owned(),
    }
}

#[cfg(test)]
mod tests;
