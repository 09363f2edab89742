//! Publishes a finished report to its bucket.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use batchplan_store::backoff::{RetryError, RetryPolicy, retry};
use batchplan_store::error::{hint_without_job, names_another_location};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::timeouts::{MIN_BYTES_PER_SECOND, TimeLimitError, micros, scaled};
use batchplan_store::{ObjectContent, Store};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use tracing::debug;

use crate::failpoint;
use crate::report::finished::{FinishedReport, ReportDestination, ReportLoadError, verify_segment};
use crate::report::segment::{MANIFEST_NAME, Md5Digest, ReportSegment, sibling_key};
use crate::report_format::ReportLocation;

/// How often one file is sent before its report is left for later. All pauses together take well under a minute.
const POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(250), max_delay: Duration::from_secs(10), max_attempts: 6 };

/// The time limit of one attempt, in addition to the time that the file needs at the slowest accepted rate. The store
/// gives up on stalled transfers and names the host. This limit bounds everything else that an attempt may consist
/// of.
const ATTEMPT_TIME: Duration = Duration::from_secs(90);

/// Where a report was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedReport {
    /// The bucket that the files were sent to.
    pub bucket: BucketName,
    /// The key of the report's `manifest.json`.
    pub manifest: ObjectKey,
    /// The number of files sent this time, including `manifest.json`.
    pub files: usize,
}

/// Why a report was not published, or not completely. Its folder is unchanged, so publishing can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReportPublishError {
    /// The plan names no bucket for the report.
    #[error("the plan names no bucket for the report")]
    NoDestination,
    /// A file of the report, or its `manifest.json`, cannot be prepared.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the report is not the one that the job wrote.
    #[error(transparent)]
    Damaged(#[from] ReportLoadError),
    /// The store did not accept a file.
    #[error("cannot upload {file} to {bucket}/{key}: {fault}")]
    Store {
        /// The name of the file in the report's folder.
        file: String,
        /// The bucket that it was sent to.
        bucket: BucketName,
        /// The key that it was sent to.
        key: ObjectKey,
        /// The number of attempts.
        attempts: u32,
        /// The fault of the last attempt.
        fault: StoreError,
    },
}

impl ReportPublishError {
    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store { fault, .. } if names_another_location(fault) => None,
            Self::Store { bucket, fault, .. } if fault.code == "NoSuchBucket" => {
                Some(format!("create the bucket {bucket}"))
            }
            Self::Store { bucket, fault, .. } if fault.status == Some(403) && fault.class == FaultClass::Rejected => {
                Some(format!("grant the credentials permission to write to {bucket}"))
            }
            Self::Store { fault, .. } => hint_without_job(&fault.code, fault.status),
            Self::NoDestination | Self::Io(_) | Self::Damaged(_) => None,
        }
    }
}

/// Sends one sealed file of a report, before the other files and while they may still be written. Can be repeated.
///
/// Send only a file that is recorded as sealed, so that it is the same after a crash: see
/// [`UnsyncedReportPosition::sync`](crate::report::UnsyncedReportPosition::sync).
///
/// # Errors
/// Returns an error if the file has changed, or the store does not accept it.
pub async fn send_segment(
    store: &dyn Store,
    folder: &Path,
    destination: &ReportDestination,
    segment: &ReportSegment,
) -> Result<(), ReportPublishError> {
    ReportSender { store, policy: POLICY }.send_segment(folder, destination, segment).await
}

/// Sends every file of the report in `folder` that is not marked as published, then its `manifest.json`, so that a
/// visible manifest never lists a missing file. Afterwards, call [`FinishedReport::record_published`].
///
/// Keys and content are the same each time, so a repeat is harmless. Temporary faults are retried a few times with
/// growing pauses. Local files are kept in any case.
///
/// # Errors
/// Returns an error if the report has no destination, a file has changed, or the store does not accept a file.
pub async fn publish(
    store: &dyn Store,
    folder: &Path,
    report: &FinishedReport,
) -> Result<PublishedReport, ReportPublishError> {
    ReportSender { store, policy: POLICY }.publish(folder, report).await
}

/// Writes a small object next to the reports that will be published at `location`, in the same way as they will be
/// written. The object is not deleted. Returns its key.
///
/// # Errors
/// Returns an error if the store does not accept the object.
pub async fn check_report_location(
    store: &dyn Store,
    location: &ReportLocation,
) -> Result<ObjectKey, ReportPublishError> {
    const TEXT: &[u8] = b"batchplan wrote this file to check that it can write reports here. You can delete it.\n";
    let name = format!(".batchplan-check-{:016x}", fastrand::u64(..));
    let key = sibling_key(&location.prefix, &name);
    let check = (TEXT.len() as u64, Md5Digest::of(&Md5::new_with_prefix(TEXT)));
    let content = ObjectContent::Bytes(Bytes::from_static(TEXT));
    ReportSender { store, policy: POLICY }.send_file(&name, &location.bucket, &key, &content, check).await?;
    Ok(key)
}

struct ReportSender<'a> {
    store: &'a dyn Store,
    policy: RetryPolicy,
}

impl ReportSender<'_> {
    async fn publish(&self, folder: &Path, report: &FinishedReport) -> Result<PublishedReport, ReportPublishError> {
        let destination = report.destination().ok_or(ReportPublishError::NoDestination)?;
        let mut files = 1;
        for segment in report.segments().iter().filter(|segment| !segment.published) {
            self.send_segment(folder, &destination, segment).await?;
            failpoint::hit("segment-sent");
            files += 1;
        }
        let text = Bytes::from(report.manifest_text()?);
        let check = (text.len() as u64, Md5Digest::of(&Md5::new_with_prefix(&text)));
        let (bucket, manifest) = (destination.bucket(), destination.manifest_key());
        self.send_file(MANIFEST_NAME, bucket, &manifest, &ObjectContent::Bytes(text), check).await?;
        Ok(PublishedReport { bucket: bucket.clone(), manifest, files })
    }

    async fn send_segment(
        &self,
        folder: &Path,
        destination: &ReportDestination,
        segment: &ReportSegment,
    ) -> Result<(), ReportPublishError> {
        let (location, file) = (folder.to_owned(), segment.clone());
        tokio::task::spawn_blocking(move || verify_segment(&location, &file)).await.map_err(io::Error::other)??;
        let content = ObjectContent::File(segment.path(folder));
        let key = destination.segment_key(segment);
        self.send_file(&segment.name, destination.bucket(), &key, &content, (segment.bytes, segment.md5)).await
    }

    async fn send_file(
        &self,
        file: &str,
        bucket: &BucketName,
        key: &ObjectKey,
        content: &ObjectContent,
        (bytes, md5): (u64, Md5Digest),
    ) -> Result<(), ReportPublishError> {
        let (md5, started_at) = (md5.base64(), Instant::now());
        let allowed = scaled(ATTEMPT_TIME + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND));
        // An ambiguous error can be retried too: sent twice, the file is still the same.
        let sent = retry(self.policy, StoreError::is_retryable, || async {
            let sending = self.store.write(bucket, key, content.clone(), &md5);
            tokio::time::timeout(allowed, sending).await.unwrap_or_else(|_| Err(timeout_fault(allowed)))
        });
        sent.await.map_err(|RetryError { error, attempts }| {
            let (file, bucket, key) = (file.to_owned(), bucket.clone(), key.clone());
            ReportPublishError::Store { file, bucket, key, attempts, fault: error }
        })?;
        debug!(file, %bucket, %key, bytes, us = micros(started_at.elapsed()), "report file uploaded");
        Ok(())
    }
}

fn timeout_fault(allowed: Duration) -> StoreError {
    StoreError::without_response(
        FaultClass::Ambiguous,
        "RequestTimeout",
        &TimeLimitError(allowed).to_string(),
        String::new(),
    )
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
