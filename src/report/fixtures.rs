//! Objects and outcomes for the tests of reports.

use crate::completion::{ReportFormat, ReportScope, ReportSpec};
use crate::job::JobId;
use crate::object::{Bucket, Key, ObjectId};
use crate::task::{Failure, Fault, FaultClass, Outcome};

pub(super) const FINE: Outcome = Outcome::Succeeded { status: 200 };

pub(super) fn bad() -> Outcome {
    Outcome::Failed(Failure {
        operation: "put_object_acl".to_owned(),
        fault: Fault {
            class: FaultClass::Rejected,
            status: Some(404),
            code: "NoSuchKey".to_owned(),
            message: "gone".to_owned(),
            request_id: String::new(),
            ec: String::new(),
            endpoint: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
            retry_after: None,
            headers: crate::call::ObjectHeaders::default(),
        },
    })
}

pub(super) fn object(key: &str) -> ObjectId {
    ObjectId { bucket: Bucket::new("b"), key: Key::from(key), version: None }
}

pub(super) fn job() -> JobId {
    "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse().unwrap()
}

/// Returns the settings of a local report.
pub(super) fn spec(format: ReportFormat, scope: ReportScope) -> ReportSpec {
    ReportSpec { place: None, scope, format, keep_local: true }
}
