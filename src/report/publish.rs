//! Publishes a finished report to its bucket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::backoff::{Backoff, RetryPolicy};
use crate::completion::ReportPlace;
use crate::failpoint;
use crate::object::{Bucket, Key};
use crate::report::destination::Destination;
use crate::report::digest::Digest;
use crate::report::folder::{LoadError, Report, verify};
use crate::report::layout::{self, MANIFEST_NAME};
use crate::report::segment::Segment;
use crate::store::{Content, Store};
use crate::task::{Fault, FaultClass};
use crate::timeouts::{LEAST_RATE, TimedOut, scaled};

/// How often one file is sent before its report is left for later. All pauses together take well under a minute.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(250), cap: Duration::from_secs(10), attempts: 6 };

/// The time limit of one attempt, in addition to the time that the file needs at the slowest accepted rate. The store
/// gives up on stalled transfers and names the host. This limit bounds everything else that an attempt may consist
/// of.
const ATTEMPT_TIME: Duration = Duration::from_secs(90);

/// Where a report was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The bucket that the files were sent to.
    pub bucket: Bucket,
    /// The key of the report's `manifest.json`.
    pub manifest: Key,
    /// The number of files sent this time, including `manifest.json`.
    pub files: usize,
}

/// Why a report was not published, or not completely. Its folder is unchanged, so publishing can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The plan names no bucket for the report.
    #[error("the report has no bucket to be published to")]
    NoPlace,
    /// A file of the report, or its `manifest.json`, cannot be prepared.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the report is not the one that the job wrote.
    #[error(transparent)]
    Damaged(#[from] LoadError),
    /// The store did not accept a file.
    #[error("cannot send {file} to {bucket}/{key}: {fault}")]
    Store {
        /// The name of the file in the report's folder.
        file: String,
        /// The bucket that it was sent to.
        bucket: Bucket,
        /// The key that it was sent to.
        key: Key,
        /// The number of attempts.
        attempts: u32,
        /// The fault of the last attempt.
        fault: Fault,
    },
}

/// Sends one sealed file of a report, before the other files and while they may still be written. Can be repeated.
///
/// Send only a file that is recorded as sealed, so that it is the same after a crash: see
/// [`Flushed::sync`](crate::report::Flushed::sync).
///
/// # Errors
/// Returns an error if the file has changed, or the store does not accept it.
pub async fn send_segment(
    store: &dyn Store,
    folder: &Path,
    destination: &Destination,
    segment: &Segment,
) -> Result<(), PublishError> {
    Sender { store, policy: POLICY }.segment(folder, destination, segment).await
}

/// Sends every file of the report in `folder` that is not marked as published, then its `manifest.json`, so that a
/// visible manifest never lists a missing file. Afterwards, call [`Report::record_published`].
///
/// Keys and content are the same each time, so a repeat is harmless. Temporary faults are retried a few times with
/// growing pauses. Local files are kept in any case.
///
/// # Errors
/// Returns an error if the report has no destination, a file has changed, or the store does not accept a file.
pub async fn publish(store: &dyn Store, folder: &Path, report: &Report) -> Result<Published, PublishError> {
    Sender { store, policy: POLICY }.publish(folder, report).await
}

/// Writes a small object next to the reports that will be published at `place`, in the same way as they will be
/// written. The object is not deleted. Returns its key.
///
/// # Errors
/// Returns an error if the store does not accept the object.
pub async fn try_place(store: &dyn Store, place: &ReportPlace) -> Result<Key, PublishError> {
    const TEXT: &[u8] = b"batchplan wrote this to see whether reports can be written here; it may be deleted.\n";
    let name = format!(".batchplan-check-{:016x}", fastrand::u64(..));
    let key = layout::key_beside(&place.prefix, &name);
    let check = (TEXT.len() as u64, Digest::of(&Md5::new_with_prefix(TEXT)));
    let content = Content::Bytes(Bytes::from_static(TEXT));
    Sender { store, policy: POLICY }.send(&name, &place.bucket, &key, &content, check).await?;
    Ok(key)
}

struct Sender<'a> {
    store: &'a dyn Store,
    policy: RetryPolicy,
}

impl Sender<'_> {
    async fn publish(&self, folder: &Path, report: &Report) -> Result<Published, PublishError> {
        let destination = report.destination().ok_or(PublishError::NoPlace)?;
        let mut files = 1;
        for segment in report.segments().iter().filter(|segment| !segment.published) {
            self.segment(folder, &destination, segment).await?;
            failpoint::reach("segment-sent");
            files += 1;
        }
        let text = Bytes::from(report.manifest()?);
        let check = (text.len() as u64, Digest::of(&Md5::new_with_prefix(&text)));
        let (bucket, manifest) = (destination.bucket(), destination.manifest());
        self.send(MANIFEST_NAME, bucket, &manifest, &Content::Bytes(text), check).await?;
        Ok(Published { bucket: bucket.clone(), manifest, files })
    }

    async fn segment(&self, folder: &Path, destination: &Destination, segment: &Segment) -> Result<(), PublishError> {
        let (place, file) = (folder.to_owned(), segment.clone());
        tokio::task::spawn_blocking(move || verify(&place, &file)).await.map_err(io::Error::other)??;
        let content = Content::File(segment.path(folder));
        let key = destination.segment(segment);
        self.send(&segment.name, destination.bucket(), &key, &content, (segment.bytes, segment.md5)).await
    }

    async fn send(
        &self,
        file: &str,
        bucket: &Bucket,
        key: &Key,
        content: &Content,
        (bytes, md5): (u64, Digest),
    ) -> Result<(), PublishError> {
        let md5 = md5.base64();
        let allowed = scaled(ATTEMPT_TIME + Duration::from_secs(bytes / LEAST_RATE));
        let mut backoff = Backoff::new(self.policy);
        loop {
            let sending = self.store.write(bucket, key, content.clone(), &md5);
            let sent = tokio::time::timeout(allowed, sending).await.unwrap_or_else(|_| Err(unanswered(allowed)));
            let Err(fault) = sent else { return Ok(()) };
            // An ambiguous fault can be retried too: sent twice, the file is still the same.
            let Some(pause) = backoff.after_failure().filter(|_| fault.class.may_pass()) else {
                let (file, bucket, key) = (file.to_owned(), bucket.clone(), key.clone());
                return Err(PublishError::Store { file, bucket, key, attempts: backoff.failures(), fault });
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn unanswered(allowed: Duration) -> Fault {
    Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &TimedOut(allowed).to_string(), String::new())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
