//! Sending a finished report to its bucket.

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

/// How often one file is sent before its report is left for later: the pauses come to well under a minute.
const POLICY: RetryPolicy = RetryPolicy { base: Duration::from_millis(250), cap: Duration::from_secs(10), attempts: 6 };

/// How long one attempt may take whatever the file's size, besides what the slowest connection needs that is put up with.
/// The store gives up what stalls, and says which host that was; this bounds all that an attempt may consist of.
const ATTEMPT_TIME: Duration = Duration::from_secs(90);

/// Where a report was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The bucket.
    pub bucket: Bucket,
    /// The key of its `manifest.json`.
    pub manifest: Key,
    /// How many files were sent this time, `manifest.json` included.
    pub files: usize,
}

/// Why a report was not published, or not wholly. Its folder is as it was: publishing can simply be repeated.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The plan names no bucket for it.
    #[error("the report has no bucket to be published to")]
    NoPlace,
    /// A file of the report, or its list, cannot be made.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the report is not the one that the job wrote.
    #[error(transparent)]
    Damaged(#[from] LoadError),
    /// The store did not take a file.
    #[error("cannot send {file} to {bucket}/{key}: {fault}")]
    Store {
        /// The file's name in the report's folder.
        file: String,
        /// The bucket it was sent to.
        bucket: Bucket,
        /// The key it was sent to.
        key: Key,
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt met.
        fault: Fault,
    },
}

/// Sends one sealed file of a report, before the others and while they may still be written. Safe to repeat.
///
/// Only one that is recorded as sealed, so that it would be the same after a crash, may be sent: see
/// [`Flushed::sync`](crate::report::Flushed::sync).
///
/// # Errors
/// When the store does not take it.
pub async fn send_segment(
    store: &dyn Store,
    folder: &Path,
    destination: &Destination,
    segment: &Segment,
) -> Result<(), PublishError> {
    Sender { store, policy: POLICY }.segment(folder, destination, segment).await
}

/// Sends every file of the report in `folder` that is not marked as published, then its `manifest.json`: whoever sees
/// the manifest sees all it lists. Afterwards [`Report::record_published`] makes that known.
///
/// Keys and content are the same each time, so a repeat is harmless. What may pass is tried a few times with growing
/// pauses; files stay where they are in any case.
///
/// # Errors
/// When the report has no place, or the store does not take a file.
pub async fn publish(store: &dyn Store, folder: &Path, report: &Report) -> Result<Published, PublishError> {
    Sender { store, policy: POLICY }.publish(folder, report).await
}

/// Writes a small object beside the reports that a place will have, as they will be written. It stays there. Gives back its
/// key.
///
/// # Errors
/// When the store does not take it.
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
            // One that may have been carried out is as good: sent twice, the file is still the same.
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
