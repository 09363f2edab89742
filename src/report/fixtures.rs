//! Objects and outcomes for the tests of reports.

use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};

use crate::job::JobId;
use crate::report_format::{ReportFormat, ReportScope, ReportSpec};

pub(super) const FINE: TaskOutcome = TaskOutcome::Succeeded { status: 200 };

pub(super) fn bad() -> TaskOutcome {
    TaskOutcome::Failed(TaskFailure {
        operation: "put_object_acl".to_owned(),
        error: StoreError {
            class: FaultClass::Rejected,
            status: Some(404),
            code: "NoSuchKey".to_owned(),
            message: "gone".to_owned(),
            request_id: String::new(),
            ec: String::new(),
            request_line: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            retry_after: None,
            headers: batchplan_store::object_request::ObjectHeaderSet::default(),
        },
    })
}

pub(super) fn object(key: &str) -> ObjectId {
    ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from(key), version: None }
}

pub(super) fn job() -> JobId {
    "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse().unwrap()
}

/// Returns the settings of a local report.
pub(super) fn spec(format: ReportFormat, scope: ReportScope) -> ReportSpec {
    ReportSpec { location: None, scope, format, keep_local: true }
}
