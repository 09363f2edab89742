//! Checks whether the server supports what a plan needs, as far as reads can show.

use std::collections::BTreeMap;

use batchplan_store::backoff::RetryPolicy;
use batchplan_store::object::{BucketName, ObjectId};

use super::{PreviewError, Previewer};
use crate::engine::{JobQuota, ReadCheckOutcome, ServerCheckFailure, Throttle, Worker};
use crate::manifest::SampledObject;
use crate::operation::{ObjectAspect, OperationSet};

/// The number of buckets to check. Manifests with more buckets are rare.
const MAX_BUCKETS: usize = 100;

/// The number of objects to try in each bucket until one exists.
const MAX_OBJECTS_TRIED: usize = 50;

/// How far the server was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCheckStatus {
    /// No check is needed: the server belongs to AWS or Alibaba Cloud, or is the embedded one.
    NotNeeded,
    /// The plan turns the check off.
    Off,
    /// None of the objects allowed a check.
    NotChecked,
    /// Reads show nothing wrong.
    Passed,
    /// The server is not trusted with the plan.
    Refused,
}

impl ServerCheckStatus {
    /// Returns the name that JSON output uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Off => "off",
            Self::NotChecked => "not_checked",
            Self::Passed => "passed",
            Self::Refused => "refused",
        }
    }
}

impl Previewer<'_> {
    /// Checks the server with objects of the sample, for each bucket and each aspect that the plan writes and that can
    /// be read. Stops at the first refusal.
    pub(super) async fn check_server(
        &self,
        sample: &[SampledObject],
    ) -> Result<(ServerCheckStatus, Option<ServerCheckFailure>), PreviewError> {
        if !self.plan.needs_server_check() {
            let look =
                if self.plan.store.is_first_party() { ServerCheckStatus::NotNeeded } else { ServerCheckStatus::Off };
            return Ok((look, None));
        }
        let mut look = ServerCheckStatus::NotChecked;
        let mut buckets: BTreeMap<&BucketName, Vec<&ObjectId>> = BTreeMap::new();
        for SampledObject { object, .. } in sample {
            if buckets.len() < MAX_BUCKETS || buckets.contains_key(&object.bucket) {
                buckets.entry(&object.bucket).or_default().push(object);
            }
        }
        let throttle = Throttle::new(JobQuota::new(1, self.plan.limits.requests_per_second));
        let nothing = OperationSet::new(Vec::new());
        let worker = Worker::new(self.store.clone(), nothing, throttle, RetryPolicy::default(), self.stop.clone());
        let about = |aspect: &ObjectAspect| self.plan.operations.iter().any(|operation| operation.aspect() == *aspect);
        for objects in buckets.values() {
            for aspect in ObjectAspect::ALL.into_iter().filter(about) {
                for object in objects.iter().take(MAX_OBJECTS_TRIED) {
                    match worker.check_reads(object, aspect).await {
                        ReadCheckOutcome::ObjectMissing(_) => {}
                        // A restore has nothing that could be read.
                        ReadCheckOutcome::Proven if aspect.read_request().is_none() => break,
                        ReadCheckOutcome::Proven => {
                            look = ServerCheckStatus::Passed;
                            break;
                        }
                        // The same problem occurs again when the sample is read.
                        ReadCheckOutcome::RequestFailed(_) => break,
                        ReadCheckOutcome::ServerFailed(refusal) => {
                            return Ok((ServerCheckStatus::Refused, Some(*refusal)));
                        }
                        ReadCheckOutcome::CredentialsRejected(fault) => {
                            return Err(PreviewError::CredentialsRejected(fault));
                        }
                        ReadCheckOutcome::Stopped => return Err(PreviewError::Stopped),
                    }
                }
            }
        }
        Ok((look, None))
    }
}
