//! Checks whether the server supports what a plan needs, as far as reads can show.

use std::collections::BTreeMap;

use super::{PreviewError, Previewer};
use crate::backoff::RetryPolicy;
use crate::engine::{Allowance, ReadCheck, ServerRefusal, Throttle, Worker};
use crate::manifest::Sampled;
use crate::object::{Bucket, ObjectId};
use crate::operation::{Aspect, Operations};

/// The number of buckets to check. Manifests with more buckets are rare.
const MOST_BUCKETS: usize = 100;

/// The number of objects to try in each bucket until one exists.
const MOST_OBJECTS: usize = 50;

/// How far the server was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLook {
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

impl ServerLook {
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
        sample: &[Sampled],
    ) -> Result<(ServerLook, Option<ServerRefusal>), PreviewError> {
        if !self.plan.needs_server_check() {
            let look = if self.plan.store.is_first_party() { ServerLook::NotNeeded } else { ServerLook::Off };
            return Ok((look, None));
        }
        let mut look = ServerLook::NotChecked;
        let mut buckets: BTreeMap<&Bucket, Vec<&ObjectId>> = BTreeMap::new();
        for Sampled { object, .. } in sample {
            if buckets.len() < MOST_BUCKETS || buckets.contains_key(&object.bucket) {
                buckets.entry(&object.bucket).or_default().push(object);
            }
        }
        let throttle = Throttle::new(Allowance::new(1, self.plan.limits.requests_per_second));
        let nothing = Operations::new(Vec::new());
        let worker = Worker::new(self.store.clone(), nothing, throttle, RetryPolicy::default(), self.stop.clone());
        let about = |aspect: &Aspect| self.plan.operations.iter().any(|operation| operation.aspect() == *aspect);
        for objects in buckets.values() {
            for aspect in Aspect::ALL.into_iter().filter(about) {
                for object in objects.iter().take(MOST_OBJECTS) {
                    match worker.check_reads(object, aspect).await {
                        ReadCheck::Absent(_) => {}
                        // A restore has nothing that could be read.
                        ReadCheck::Proven if aspect.read().is_none() => break,
                        ReadCheck::Proven => {
                            look = ServerLook::Passed;
                            break;
                        }
                        // The same problem occurs again when the sample is read.
                        ReadCheck::Failed(_) => break,
                        ReadCheck::Refused(refusal) => return Ok((ServerLook::Refused, Some(*refusal))),
                        ReadCheck::Credentials(fault) => return Err(PreviewError::Refused(fault)),
                        ReadCheck::Stopped => return Err(PreviewError::Stopped),
                    }
                }
            }
        }
        Ok((look, None))
    }
}
