//! Looks at the place that a plan's report is published to, before a job changes anything.
//!
//! Reads show whether the bucket exists and is where the requests go. The right to write there only shows when something
//! is written: `batchplan check PLAN --report-probe` tries it.

use std::time::Duration;

use batchplan_store::error::names_another_location;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::StoreError;
use batchplan_store::timeouts::scaled;
use batchplan_store::{BucketSetting, Store, StoreProvider};
use tokio_util::sync::CancellationToken;

use crate::plan::Plan;
use crate::report::FinishedReport;

/// How long to wait for the response. Without one the job starts: its own requests show what is wrong.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a report cannot be published where the plan says.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.reason())]
pub struct UnusableReportPlace {
    /// The bucket in the plan's `[report]`.
    pub bucket: BucketName,
    /// What the store answered.
    pub fault: Box<StoreError>,
}

impl UnusableReportPlace {
    /// Returns the reason, as the end of a sentence about the report.
    #[must_use]
    pub fn reason(&self) -> String {
        if self.fault.code == "NoSuchBucket" {
            format!("the bucket {} does not exist", self.bucket)
        } else {
            format!("the bucket {} is elsewhere: {}", self.bucket, self.fault)
        }
    }
}

/// Asks for the bucket of the plan's report. Returns an error only if no report could be published there: the bucket
/// does not exist, or is in another region or at another endpoint. Credentials need no permission to read its settings.
///
/// # Errors
/// Returns what is wrong with the bucket.
pub async fn find_report_place(
    plan: &Plan,
    store: &dyn Store,
    stop: &CancellationToken,
) -> Result<(), UnusableReportPlace> {
    let Some(location) = &plan.report.location else { return Ok(()) };
    let bucket = &location.bucket;
    let answer = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        answer = tokio::time::timeout(scaled(QUERY_TIMEOUT), store.bucket_setting(bucket, BucketSetting::Versioning)) => answer,
    };
    match answer {
        Ok(Err(fault)) if is_elsewhere_or_missing(&fault) => {
            Err(UnusableReportPlace { bucket: bucket.clone(), fault: Box::new(fault) })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_elsewhere_or_missing(fault: &StoreError) -> bool {
    fault.code == "NoSuchBucket" || fault.is_redirect() || names_another_location(fault)
}

/// Returns where a report is published, as a URL. Returns `None` for a local report.
pub(super) fn published_url(provider: StoreProvider, report: &FinishedReport) -> Option<String> {
    let (bucket, key) = report.manifest_location()?;
    Some(object_url(provider, &bucket, &key))
}

/// Returns the URL of an object, with the scheme that the service's own tools use.
#[must_use]
pub fn object_url(provider: StoreProvider, bucket: &BucketName, key: &ObjectKey) -> String {
    format!("{}://{bucket}/{key}", provider.profile().url_scheme)
}
