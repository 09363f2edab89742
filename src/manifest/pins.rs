//! Checks whether the source of a frozen manifest is unchanged.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::Sha256;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::error::{ManifestError, place};
use super::frozen::{Pin, Seen};
use super::input::{self, Rest};
use super::patient::Patient;
use crate::object::{Bucket, Key};
use crate::store::Store;

/// The source of a frozen manifest has changed, or cannot be checked.
#[derive(Debug, Error)]
pub enum PinBroken {
    /// The content of the source is different now.
    #[error("{place} has changed since the job was prepared: its {what} was {was}, {}", now_is(now.as_deref()))]
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
    #[error("{place} is gone; the job was prepared from it when its {what} was {was}")]
    Gone {
        /// The name of the file.
        place: String,
        /// The property to compare: `ETag` or SHA-256.
        what: &'static str,
        /// Its value when the manifest was frozen.
        was: String,
    },
    /// The source cannot be read at the moment, so it is unknown whether it has changed.
    #[error("whether the job's source is still the same cannot be told: {0}")]
    Unseen(#[source] Box<ManifestError>),
}

impl PinBroken {
    /// Returns one line that says what to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Changed { .. } | Self::Gone { .. } => Some(
                "bring the file back as it was, or apply the plan with --new: a new job reads the source as it is now"
                    .to_owned(),
            ),
            Self::Unseen(error) => error.help(),
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
pub async fn unchanged(pin: &Pin, store: &Arc<dyn Store>, stop: &CancellationToken) -> Result<(), PinBroken> {
    match pin {
        Pin::Listing => Ok(()),
        Pin::Object { bucket, key, etag, .. } | Pin::Inventory { bucket, key, etag, .. } => {
            object(bucket, key, etag, &Patient::new(Arc::clone(store), stop.clone())).await
        }
        Pin::File { path, sha256, seen } => {
            let file = File { path: path.clone(), sha256: sha256.clone(), seen: *seen, stop: stop.clone() };
            let compared = input::blocking(move || Ok(file.compare())).await;
            compared.map_err(unseen)?
        }
    }
}

async fn object(bucket: &Bucket, key: &Key, etag: &str, patient: &Patient) -> Result<(), PinBroken> {
    // If the server sends no ETag, only the existence of the object can be checked.
    let wanted = Some(etag).filter(|etag| !etag.is_empty());
    match patient.open_pinned(bucket, key, wanted).await {
        Ok(_unread) => Ok(()),
        Err(ManifestError::Changed { place, wanted, found }) => {
            Err(PinBroken::Changed { place, what: "ETag", was: wanted, now: found })
        }
        Err(ManifestError::Store { fault, .. }) if fault.status == Some(404) => {
            Err(PinBroken::Gone { place: place(bucket, key), what: "ETag", was: etag.to_owned() })
        }
        Err(error) => Err(unseen(error)),
    }
}

/// A pinned file on this machine.
struct File {
    path: String,
    sha256: String,
    seen: Option<Seen>,
    stop: CancellationToken,
}

impl File {
    fn compare(self) -> Result<(), PinBroken> {
        if self.seen.is_some() && seen(Path::new(&self.path)) == self.seen {
            return Ok(());
        }
        let Self { path, sha256, stop, .. } = self;
        match digest(&path, stop) {
            Ok(found) if found == sha256 => Ok(()),
            Ok(found) => Err(PinBroken::Changed { place: path, what: "SHA-256", was: sha256, now: Some(found) }),
            Err(ManifestError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Err(PinBroken::Gone { place: path, what: "SHA-256", was: sha256 })
            }
            Err(error) => Err(unseen(error)),
        }
    }
}

/// Returns the SHA-256 of the content of a file, in lower-case hex.
fn digest(path: &str, stop: CancellationToken) -> Result<String, ManifestError> {
    let raw = input::open_local(Path::new(path), stop)?;
    let (_, tally) = input::digested::<Sha256, ()>(raw, false, path, Rest::Digest, |_| Ok(()))?;
    Ok(tally.digest)
}

/// Returns the size and modification time of a file. Returns `None` if either is not available.
pub(super) fn seen(path: &Path) -> Option<Seen> {
    let found = fs::metadata(path).ok()?;
    Some(Seen { size: found.len(), modified: Timestamp::try_from(found.modified().ok()?).ok()? })
}

fn unseen(error: ManifestError) -> PinBroken {
    PinBroken::Unseen(Box::new(error))
}

fn now_is(now: Option<&str>) -> String {
    match now {
        Some(now) => format!("and is {now} now"),
        None => "and is another one now".to_owned(),
    }
}

#[cfg(test)]
mod tests;
