//! The identity of a source, which tells later whether the source is unchanged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::object::{BucketName, ObjectKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, object_path};
use super::input::{self, UnreadBytes};
use super::retrying_store::RetryingStore;
use crate::paths::{path_from_text, path_to_text, show_path};

/// The identity of a source at the time when it was frozen. A job resumes only if its source still has an equal pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePin {
    /// A listing, or the unfinished rows of an earlier job. There is nothing to compare later.
    Listing,
    /// A CSV manifest or a completion report in a bucket.
    Object {
        /// The bucket of the file.
        bucket: BucketName,
        /// The key of the file.
        key: ObjectKey,
        /// The `ETag` without quotes.
        etag: String,
        /// The SHA-256 of the content, in lower-case hex.
        sha256: String,
    },
    /// A CSV manifest or a completion report on this machine.
    File {
        /// The path of the file; always absolute for a CSV manifest.
        path: PathBuf,
        /// The SHA-256 of the content, in lower-case hex.
        sha256: String,
        /// The size and modification time, if they were the same before and after the read. While they are unchanged,
        /// the file need not be read again to verify it.
        stamp: Option<FileStamp>,
    },
    /// An inventory. Its data files are pinned by the MD5 of each in its `manifest.json`.
    Inventory {
        /// The bucket of its `manifest.json`.
        bucket: BucketName,
        /// The key of its `manifest.json`: with `latest`, the one that was selected.
        key: ObjectKey,
        /// The `ETag` of its `manifest.json`, without quotes.
        etag: String,
        /// When the inventory was started, if it says so: objects written later may be missing from it.
        created: Option<Timestamp>,
    },
}

/// The metadata of a local file, for a comparison without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// The size in bytes.
    pub size: u64,
    /// When the file was last modified, with the precision of the file system (nanoseconds at best).
    pub modified: Timestamp,
}

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
pub(crate) fn pinned_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

async fn check_object(
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    retrying: &RetryingStore,
) -> Result<(), SourceChangedError> {
    // If the server sends no ETag, only the existence of the object can be checked.
    let wanted = Some(etag).filter(|etag| !etag.is_empty());
    match retrying.open_pinned(bucket, key, wanted).await {
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
    path: PathBuf,
    sha256: String,
    stamp: Option<FileStamp>,
    stop: CancellationToken,
}

impl PinnedFile {
    fn check(self) -> Result<(), SourceChangedError> {
        if self.stamp.is_some() && file_stamp(&self.path) == self.stamp {
            return Ok(());
        }
        let Self { path, sha256, stop, .. } = self;
        let place = show_path(&path).to_string();
        match file_digest(&path, &place, stop) {
            Ok(found) if found == sha256 => Ok(()),
            Ok(found) => Err(SourceChangedError::Changed { place, what: "SHA-256", was: sha256, now: Some(found) }),
            Err(ManifestError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Err(SourceChangedError::Missing { place, what: "SHA-256", was: sha256 })
            }
            Err(error) => Err(unreadable(error)),
        }
    }
}

/// Returns the SHA-256 of the content of a file, in lower-case hex.
fn file_digest(path: &Path, name: &str, stop: CancellationToken) -> Result<String, ManifestError> {
    let raw = input::open_local(path, stop)?;
    let (_, content) = input::read_digested::<Sha256, ()>(raw, false, name, UnreadBytes::Digest, |_| Ok(()))?;
    Ok(content.digest)
}

/// Returns the size and modification time of a file. Returns `None` if either is not available.
pub(crate) fn file_stamp(path: &Path) -> Option<FileStamp> {
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

/// Keys are URL-encoded, because they are bytes and JSON is text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourcePinJson {
    Listing,
    Object {
        bucket: String,
        key: String,
        etag: String,
        sha256: String,
    },
    File {
        path: String,
        sha256: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<FileStampJson>,
    },
    Inventory {
        bucket: String,
        key: String,
        etag: String,
        created: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FileStampJson {
    size: u64,
    modified: String,
}

impl SourcePin {
    /// Returns the JSON text, for storage outside of the index.
    ///
    /// # Errors
    /// Returns the errors of [`serde_json::to_string`], none of which occurs in practice.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&SourcePinJson::from(self))
    }

    /// Parses such a text. Returns `None` if it is invalid.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str::<SourcePinJson>(text).ok()?.into_pin().ok()
    }
}

impl From<&SourcePin> for SourcePinJson {
    fn from(pin: &SourcePin) -> Self {
        match pin {
            SourcePin::Listing => Self::Listing,
            SourcePin::Object { bucket, key, etag, sha256 } => Self::Object {
                bucket: bucket.to_string(),
                key: key.encoded_keeping_slashes(),
                etag: etag.clone(),
                sha256: sha256.clone(),
            },
            SourcePin::File { path, sha256, stamp: seen } => Self::File {
                path: path_to_text(path),
                sha256: sha256.clone(),
                seen: seen.map(|seen| FileStampJson { size: seen.size, modified: seen.modified.to_string() }),
            },
            SourcePin::Inventory { bucket, key, etag, created } => Self::Inventory {
                bucket: bucket.to_string(),
                key: key.encoded_keeping_slashes(),
                etag: etag.clone(),
                created: created.map(|at| at.to_string()),
            },
        }
    }
}

impl SourcePinJson {
    /// Returns an error if a timestamp is invalid.
    pub(crate) fn into_pin(self) -> Result<SourcePin, String> {
        Ok(match self {
            Self::Listing => SourcePin::Listing,
            Self::Object { bucket, key, etag, sha256 } => SourcePin::Object {
                bucket: BucketName::new(&bucket),
                key: ObjectKey::decode(key.as_bytes()),
                etag,
                sha256,
            },
            Self::File { path, sha256, seen } => SourcePin::File {
                path: path_from_text(&path),
                sha256,
                stamp: seen.as_ref().map(parse_stamp).transpose()?,
            },
            Self::Inventory { bucket, key, etag, created } => SourcePin::Inventory {
                bucket: BucketName::new(&bucket),
                key: ObjectKey::decode(key.as_bytes()),
                etag,
                created: created.as_deref().map(parse_timestamp).transpose()?,
            },
        })
    }
}

fn parse_stamp(json: &FileStampJson) -> Result<FileStamp, String> {
    Ok(FileStamp { size: json.size, modified: parse_timestamp(&json.modified)? })
}

fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|why: jiff::Error| why.to_string())
}

#[cfg(test)]
mod tests;
