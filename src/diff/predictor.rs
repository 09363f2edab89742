//! Predicts the effect of a job on one object, from what is known about the object.

use batchplan_store::object::{MaybeKnown, ObjectId, ObjectState, RestoreRequest, RestoreState};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use super::restores::{ExpectedResponse, expected_response, restore_attempts};
use crate::operation::{ObjectAspect, Operation, OperationSet};
use crate::provider::RestoreService;

/// What a job would do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The object that this prediction is about.
    pub object: ObjectId,
    /// What is known about the object before the job runs.
    pub before: ObjectState,
    /// The effect of the job on the object.
    pub effect: Effect,
    /// The requests that the job would send and that would succeed, in order. Requests that are never sent because of
    /// an earlier fault are not included.
    pub accepted: Vec<ObjectRequest>,
    /// The requests that would be refused: the one that makes the object fail, and those that the job recovers from.
    pub refused: Vec<ObjectRequest>,
}

/// The effect of a job on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The object changes to this state.
    Changes(ObjectState),
    /// The object already has the desired state.
    Unchanged,
    /// The job would fail on the object.
    Fails(FailureReason),
    /// The effect cannot be predicted, for this reason.
    Unknown(String),
}

/// Why a job would fail on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReason {
    /// The error code that the report would show.
    pub code: String,
    /// The HTTP status, or 0 if there would be no response.
    pub http: u16,
    /// The name of the operation that would fail.
    pub operation: String,
    /// The description of the problem, for users.
    pub message: String,
}

impl FailureReason {
    pub(super) fn new(code: &str, http: u16, operation: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), http, operation: operation.to_owned(), message: message.into() }
    }
}

/// A request to read the state of an object that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// The request that failed.
    pub call: ObjectRequest,
    /// The fault that it failed with.
    pub fault: StoreError,
}

/// Predicts the effect of a job on objects.
#[derive(Clone, Debug)]
pub struct Predictor {
    /// The operations, configured as the job would run them.
    operations: OperationSet,
    service: RestoreService,
    /// The requests with which the job reads an object.
    reads: Vec<ObjectRequest>,
    /// The aspects that the operations change.
    aspects: Vec<ObjectAspect>,
    restore: Option<RestoreRequest>,
}

impl Predictor {
    /// Creates a predictor for the operations of a job and the rules of a service.
    #[must_use]
    pub fn new(operations: OperationSet, service: RestoreService) -> Self {
        let restore = operations.iter().find_map(|operation| match operation {
            Operation::Restore(request) => Some(*request),
            _ => None,
        });
        let reads = operations.read_steps().into_iter().map(|step| step.call).collect();
        let aspects = operations.aspects().collect();
        Self { operations, service, reads, aspects, restore }
    }

    /// Returns the requests that read what is still unknown about an object. `told` is what its manifest contains. If
    /// `class` is set, the storage class is read too.
    #[must_use]
    pub fn required_reads(&self, told: &ObjectState, class: bool) -> Vec<ObjectRequest> {
        let unknown = self.aspects.iter().filter(|aspect| !aspect.rules().is_known(told));
        let mut looks: Vec<_> = unknown.filter_map(|aspect| aspect.read_request()).collect();
        let archived = || match self.restore {
            None => false,
            // If the restore is refused anyway, nothing more has to be known about the object.
            Some(request) => {
                let absent = MaybeKnown::Known(RestoreState::NotRestored);
                !matches!(expected_response(self.service, &told.class, &absent, request), ExpectedResponse::Refused(_))
            }
        };
        if archived() || (class && told.class.known().is_none()) {
            looks.push(ObjectRequest::Head);
        }
        looks
    }

    /// Returns the part of an object's state that matters to what the job does or to what it costs.
    #[must_use]
    pub fn relevant_state(&self, known: &ObjectState) -> ObjectState {
        let mut relevant = ObjectState { class: known.class.clone(), ..ObjectState::default() };
        self.aspects.iter().for_each(|aspect| aspect.rules().copy(known, &mut relevant));
        relevant
    }

    /// Returns whether the effect on an object depends on the response to `look`. The storage class may matter only
    /// to the cost.
    #[must_use]
    pub fn depends_on(&self, look: &ObjectRequest) -> bool {
        *look != ObjectRequest::Head || self.restore.is_some()
    }

    /// Returns whether the job reads tags before it writes them.
    #[must_use]
    pub fn reads_tags(&self) -> bool {
        self.reads.contains(&ObjectRequest::GetTags)
    }

    /// Predicts the effect on an object with the state `before`. `trouble` is the request to read the object that
    /// failed, if any. `takes_acl` is false if the object's bucket is known not to accept ACLs.
    #[must_use]
    pub fn predict(
        &self,
        object: ObjectId,
        before: ObjectState,
        trouble: Option<&ReadFailure>,
        takes_acl: bool,
    ) -> Prediction {
        let mut sends = Vec::new();
        if let Some(trouble) = trouble {
            let met = self.first_refused(trouble);
            let fate = match (self.predict_from_failure(trouble, &met), &met) {
                // The service checks whether the bucket accepts ACLs before it looks up the object.
                (Effect::Fails(reason), ObjectRequest::PutAcl(_)) if !takes_acl && reason.code != "NoSuchBucket" => {
                    Effect::Fails(acls_not_supported(&reason.operation))
                }
                (fate, _) => fate,
            };
            let mut refused = Vec::new();
            if matches!(fate, Effect::Fails(_)) {
                sends.extend(self.reads.iter().take_while(|read| **read != met).cloned());
                refused.push(met);
            }
            return Prediction { object, before, effect: fate, accepted: sends, refused };
        }
        let mut refused = Vec::new();
        sends.extend(self.reads.iter().cloned());
        let seen = self.state_seen_by_job(&before);
        let after = match self.operations.desired(&seen) {
            Ok(after) => after,
            Err((operation, rejection)) => {
                let reason = FailureReason::new(rejection.code(), 0, operation, rejection.to_string());
                return Prediction { object, before, effect: Effect::Fails(reason), accepted: sends, refused };
            }
        };
        for step in self.operations.write_steps(&seen, &after) {
            let fails = match step.call {
                ObjectRequest::PutAcl(_) if !takes_acl => Some(Effect::Fails(acls_not_supported(&step.operation))),
                ObjectRequest::Restore(request) => {
                    let expected = expected_response(self.service, &before.class, &before.restoration, request);
                    let attempts = restore_attempts(self.service, &before.class, request, &expected);
                    sends.extend(attempts.accepted);
                    refused.extend(attempts.refused);
                    match expected {
                        ExpectedResponse::Accepted => continue,
                        ExpectedResponse::Refused(reason) => Some(Effect::Fails(reason)),
                        ExpectedResponse::Unknown(why) => Some(Effect::Unknown(why.to_owned())),
                    }
                }
                _ => None,
            };
            if let Some(fate) = fails {
                if !matches!(step.call, ObjectRequest::Restore(_)) {
                    refused.push(step.call);
                }
                return Prediction { object, before, effect: fate, accepted: sends, refused };
            }
            sends.push(step.call);
        }
        let fate = self.changed_state(&before).map_or(Effect::Unchanged, Effect::Changes);
        Prediction { object, before, effect: fate, accepted: sends, refused }
    }

    /// Returns the state after the job, or `None` if it is the same as before.
    fn changed_state(&self, before: &ObjectState) -> Option<ObjectState> {
        self.operations.desired(before).ok().filter(|after| after != before)
    }

    /// Returns what the job knows about the object when it decides what to send: only what it reads itself.
    fn state_seen_by_job(&self, before: &ObjectState) -> ObjectState {
        let mut seen = ObjectState::default();
        for aspect in self.reads.iter().filter_map(ObjectAspect::of) {
            aspect.rules().copy(before, &mut seen);
        }
        seen
    }

    /// Predicts the effect of the job after a failed request to read the object.
    fn predict_from_failure(&self, ReadFailure { call, fault }: &ReadFailure, met: &ObjectRequest) -> Effect {
        let gone = match fault.code.as_str() {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NoSuchObject" => true,
            // The response had no body, or the version is a delete marker.
            _ => fault.status == Some(404) || (fault.status == Some(405) && fault.code == "MethodNotAllowed"),
        };
        // If only the prediction sends this request, the job's own requests may still be allowed.
        let looks_too = self.reads.contains(call)
            && fault.class == batchplan_store::task::FaultClass::Rejected
            && fault.status.is_some();
        if gone || looks_too {
            let operation = self.operation_name(met);
            let reason = FailureReason::new(&fault.code, fault.status.unwrap_or(0), &operation, fault.message.clone());
            return Effect::Fails(reason);
        }
        // Leave out the server's message, which may name the object, so that objects with the same reason form one
        // group.
        let status = fault.status.map_or_else(String::new, |status| format!("{status} "));
        Effect::Unknown(format!(
            "{} could not be read: {status}{}",
            aspect_shown_by(call).rules().subject(),
            fault.code
        ))
    }

    /// Returns the request of the job that would be refused: the failed read request itself if the job sends it too,
    /// otherwise the first request that the job sends.
    fn first_refused(&self, ReadFailure { call, .. }: &ReadFailure) -> ObjectRequest {
        if self.reads.contains(call) {
            return call.clone();
        }
        let first_write = || {
            let nothing = ObjectState::default();
            let after = self.operations.desired(&nothing).ok()?;
            self.operations.write_steps(&nothing, &after).into_iter().next().map(|step| step.call)
        };
        self.reads.first().cloned().or_else(first_write).unwrap_or_else(|| call.clone())
    }

    /// Returns the name of the operation that the report would show for the failure.
    fn operation_name(&self, met: &ObjectRequest) -> String {
        let aspect = aspect_shown_by(met);
        let names: Vec<_> = self.operations.iter().filter(|it| it.aspect() == aspect).map(Operation::name).collect();
        names.join("+")
    }
}

/// Returns the aspect that a request is about. HEAD is sent because of restores.
fn aspect_shown_by(call: &ObjectRequest) -> ObjectAspect {
    ObjectAspect::of(call).unwrap_or(ObjectAspect::Restoration)
}

/// Returns the failure of setting an ACL in a bucket that accepts none.
fn acls_not_supported(operation: &str) -> FailureReason {
    let message = "the bucket has ACLs disabled: its owner owns every object";
    FailureReason::new("AccessControlListNotSupported", 400, operation, message)
}

#[cfg(test)]
#[path = "predictor_tests.rs"]
mod tests;
