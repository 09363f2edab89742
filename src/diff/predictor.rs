//! Predicts the effect of a job on one object, from what is known about the object.
//!
//! Whether a service accepts a restore depends on storage class, days and tier. The service decides; this file predicts
//! its most likely answer.

use batchplan_store::object::{
    MaybeKnown, ObjectId, ObjectState, RestoreRequest, RestoreState, RestoreTier, StorageClass,
};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

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
    /// The requests that would be refused: the one that makes the object fail, and those that the job recovers from,
    /// such as a restore with a tier that the storage class lacks.
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
    fn new(code: &str, http: u16, operation: &str, message: impl Into<String>) -> Self {
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

    /// Returns the requests that read what is still unknown about an object. `manifest_state` is what its manifest
    /// contains. If `want_class` is set, the storage class is read too.
    #[must_use]
    pub fn required_reads(&self, manifest_state: &ObjectState, want_class: bool) -> Vec<ObjectRequest> {
        let unknown = self.aspects.iter().filter(|aspect| !aspect.rules().is_known(manifest_state));
        let mut required: Vec<_> = unknown.filter_map(|aspect| aspect.read_request()).collect();
        let restore_needs_head = || match self.restore {
            None => false,
            // If the restore is refused anyway, nothing more has to be known about the object.
            Some(request) => {
                let absent = MaybeKnown::Known(RestoreState::NotRestored);
                !matches!(
                    expected_response(self.service, &manifest_state.class, &absent, request),
                    ExpectedResponse::Refused(_)
                )
            }
        };
        if restore_needs_head() || (want_class && manifest_state.class.known().is_none()) {
            required.push(ObjectRequest::Head);
        }
        required
    }

    /// Returns the part of an object's state that matters to what the job does or to what it costs.
    #[must_use]
    pub fn relevant_state(&self, known: &ObjectState) -> ObjectState {
        let mut relevant = ObjectState { class: known.class.clone(), ..ObjectState::default() };
        self.aspects.iter().for_each(|aspect| aspect.rules().copy(known, &mut relevant));
        relevant
    }

    /// Returns whether the effect on an object depends on the response to `read`. Without a restore, HEAD only tells
    /// the storage class, which matters only to the cost.
    #[must_use]
    pub fn depends_on(&self, read: &ObjectRequest) -> bool {
        *read != ObjectRequest::Head || self.restore.is_some()
    }

    /// Returns whether the job reads tags before it writes them.
    #[must_use]
    pub fn reads_tags(&self) -> bool {
        self.reads.contains(&ObjectRequest::GetTags)
    }

    /// Predicts the effect on an object with the state `before`. `read_failure` is the request to read the object that
    /// failed, if any. `takes_acl` is false if the object's bucket is known not to accept ACLs.
    #[must_use]
    pub fn predict(
        &self,
        object: ObjectId,
        before: ObjectState,
        read_failure: Option<&ReadFailure>,
        takes_acl: bool,
    ) -> Prediction {
        let mut accepted = Vec::new();
        if let Some(read_failure) = read_failure {
            let refused_request = self.first_refused(read_failure);
            let effect = match (self.predict_from_failure(read_failure, &refused_request), &refused_request) {
                // The service checks whether the bucket accepts ACLs before it looks up the object.
                (Effect::Fails(reason), ObjectRequest::PutAcl(_)) if !takes_acl && reason.code != "NoSuchBucket" => {
                    Effect::Fails(acls_not_supported(&reason.operation))
                }
                (effect, _) => effect,
            };
            let mut refused = Vec::new();
            if matches!(effect, Effect::Fails(_)) {
                accepted.extend(self.reads.iter().take_while(|read| **read != refused_request).cloned());
                refused.push(refused_request);
            }
            return Prediction { object, before, effect, accepted, refused };
        }
        let mut refused = Vec::new();
        accepted.extend(self.reads.iter().cloned());
        let seen = self.state_seen_by_job(&before);
        let after = match self.operations.desired(&seen) {
            Ok(after) => after,
            Err((operation, rejection)) => {
                let reason = FailureReason::new(rejection.code(), 0, operation, rejection.to_string());
                return Prediction { object, before, effect: Effect::Fails(reason), accepted, refused };
            }
        };
        for step in self.operations.write_steps(&seen, &after) {
            let fails = match step.call {
                ObjectRequest::PutAcl(_) if !takes_acl => Some(Effect::Fails(acls_not_supported(&step.operation))),
                ObjectRequest::Restore(request) => {
                    let expected = expected_response(self.service, &before.class, &before.restoration, request);
                    let attempts = restore_attempts(self.service, &before.class, request, &expected);
                    accepted.extend(attempts.accepted);
                    refused.extend(attempts.refused);
                    match expected {
                        ExpectedResponse::Accepted => continue,
                        ExpectedResponse::Refused(reason) => Some(Effect::Fails(reason)),
                        ExpectedResponse::Unknown(why) => Some(Effect::Unknown(why.to_owned())),
                    }
                }
                _ => None,
            };
            if let Some(effect) = fails {
                if !matches!(step.call, ObjectRequest::Restore(_)) {
                    refused.push(step.call);
                }
                return Prediction { object, before, effect, accepted, refused };
            }
            accepted.push(step.call);
        }
        let effect = self.changed_state(&before).map_or(Effect::Unchanged, Effect::Changes);
        Prediction { object, before, effect, accepted, refused }
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
    fn predict_from_failure(
        &self,
        ReadFailure { call, fault }: &ReadFailure,
        refused_request: &ObjectRequest,
    ) -> Effect {
        let missing = match fault.code.as_str() {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NoSuchObject" => true,
            // The response had no body, or the version is a delete marker.
            _ => fault.status == Some(404) || (fault.status == Some(405) && fault.code == "MethodNotAllowed"),
        };
        // If only the prediction sends this request, the job's own requests may still be allowed.
        let sent_by_job = self.reads.contains(call)
            && fault.class == batchplan_store::task::FaultClass::Rejected
            && fault.status.is_some();
        if missing || sent_by_job {
            let operation = self.operation_name(refused_request);
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
    fn operation_name(&self, refused_request: &ObjectRequest) -> String {
        let aspect = aspect_shown_by(refused_request);
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

/// The name of the restore operation in reports.
const RESTORE_OPERATION: &str = "restore_object";

/// The predicted response to a restore request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ExpectedResponse {
    /// Accepted: at the second attempt if the request names a tier and the class has none.
    Accepted,
    /// Refused, for this reason.
    Refused(FailureReason),
    /// Not predictable, for this reason.
    Unknown(&'static str),
}

/// Predicts the response to a restore of an object, from its storage class and the state of its restored copy.
fn expected_response(
    service: RestoreService,
    class: &MaybeKnown<StorageClass>,
    restoration: &MaybeKnown<RestoreState>,
    request: RestoreRequest,
) -> ExpectedResponse {
    let Some(class) = class.known() else {
        return ExpectedResponse::Unknown("the storage class is unknown");
    };
    let kind = RetrievalClass::of(class);
    if kind == RetrievalClass::Readable {
        let message = format!("objects of class {} can be read directly and need no restore", class.as_str());
        let (code, http) =
            if service == RestoreService::Oss { ("OperationNotSupported", 400) } else { ("InvalidObjectState", 403) };
        return ExpectedResponse::Refused(FailureReason::new(code, http, RESTORE_OPERATION, message));
    }
    let checked = match service {
        RestoreService::Aws => check_aws(kind, class, request),
        RestoreService::Oss => check_oss(kind, class, request),
        RestoreService::Other => Ok(()),
    };
    if let Err(reason) = checked {
        return ExpectedResponse::Refused(reason);
    }
    match restoration.known() {
        None => ExpectedResponse::Unknown("it is unknown whether a restore is in progress"),
        Some(RestoreState::InProgress) if service == RestoreService::Oss && kind == RetrievalClass::Archive => {
            in_progress(None)
        }
        Some(RestoreState::InProgress) => in_progress(Some(request.tier.unwrap_or(RestoreTier::Standard))),
        Some(_) if kind == RetrievalClass::Unknown => {
            ExpectedResponse::Unknown("it is unknown whether objects of this class need a restore")
        }
        Some(_) => ExpectedResponse::Accepted,
    }
}

/// The requests that a restore takes, without the requests before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RestoreAttempts {
    /// The requests that succeed.
    accepted: Vec<ObjectRequest>,
    /// The requests that are refused.
    refused: Vec<ObjectRequest>,
}

/// Returns the requests that the job sends for a restore with this predicted response.
///
/// The job sends a HEAD request after a 409 conflict. On OSS, which has a class without tiers, it also sends one
/// after a 400 response to a request that names a tier.
fn restore_attempts(
    service: RestoreService,
    class: &MaybeKnown<StorageClass>,
    request: RestoreRequest,
    expected: &ExpectedResponse,
) -> RestoreAttempts {
    let asks = ObjectRequest::Restore(request);
    let untiered = ObjectRequest::Restore(RestoreRequest { tier: None, ..request });
    let kind = class.known().map_or(RetrievalClass::Unknown, RetrievalClass::of);
    let gives_up_tier = service == RestoreService::Oss && kind == RetrievalClass::Archive && request.tier.is_some();
    let mut attempts = RestoreAttempts::default();
    if gives_up_tier {
        attempts.refused.push(asks.clone());
        attempts.accepted.push(ObjectRequest::Head);
    }
    let last = if gives_up_tier { untiered } else { asks };
    match expected {
        ExpectedResponse::Accepted => attempts.accepted.push(last),
        ExpectedResponse::Refused(reason) => {
            attempts.refused.push(last);
            let tier = service == RestoreService::Oss && request.tier.is_some() && !gives_up_tier;
            if reason.http == 409 || (reason.http == 400 && tier) {
                attempts.accepted.push(ObjectRequest::Head);
            }
        }
        ExpectedResponse::Unknown(_) => {}
    }
    attempts
}

/// Predicts the response if a restore is already in progress. The service refuses the new one unless it is faster,
/// and the tier of the old one cannot be seen. `tier` is the tier of the new one, or `None` if the class has no
/// tiers.
fn in_progress(tier: Option<RestoreTier>) -> ExpectedResponse {
    match tier {
        None | Some(RestoreTier::Bulk) => {
            let message = "a restore of this object is already in progress, and the expiry of its copy is unknown";
            ExpectedResponse::Refused(FailureReason::new("RestoreAlreadyInProgress", 409, RESTORE_OPERATION, message))
        }
        Some(RestoreTier::Standard | RestoreTier::Expedited) => ExpectedResponse::Unknown(
            "a restore of unknown tier is in progress; a new one is accepted only if it is faster",
        ),
    }
}

/// Storage classes, grouped by how their objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetrievalClass {
    /// Objects can be read immediately.
    Readable,
    /// Objects can be read after minutes or hours: GLACIER of S3, Archive of OSS.
    Archive,
    /// `ColdArchive` of OSS.
    Cold,
    /// Objects can be read after half a day or more.
    Deep,
    /// An unknown storage class.
    Unknown,
}

impl RetrievalClass {
    fn of(class: &StorageClass) -> Self {
        match class.as_str().to_ascii_uppercase().as_str() {
            "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "REDUCED_REDUNDANCY" | "GLACIER_IR" | "EXPRESS_ONEZONE"
            | "IA" => Self::Readable,
            "GLACIER" | "ARCHIVE" => Self::Archive,
            "COLDARCHIVE" => Self::Cold,
            "DEEP_ARCHIVE" | "DEEPCOLDARCHIVE" => Self::Deep,
            _ => Self::Unknown,
        }
    }
}

fn check_aws(kind: RetrievalClass, class: &StorageClass, request: RestoreRequest) -> Result<(), FailureReason> {
    if kind == RetrievalClass::Deep && request.tier == Some(RestoreTier::Expedited) {
        return Err(tier_not_supported("InvalidArgument", class, RestoreTier::Expedited));
    }
    Ok(())
}

fn check_oss(
    kind: RetrievalClass,
    class: &StorageClass,
    RestoreRequest { days, tier }: RestoreRequest,
) -> Result<(), FailureReason> {
    let most = if kind == RetrievalClass::Archive { 7 } else { 365 };
    if kind != RetrievalClass::Unknown && !(1..=most).contains(&days) {
        let message =
            format!("copies restored from class {} are kept for 1 to {most} days, not {days}", class.as_str());
        return Err(FailureReason::new("InvalidArgument", 400, RESTORE_OPERATION, message));
    }
    match tier {
        Some(tier @ RestoreTier::Bulk) if kind == RetrievalClass::Deep => {
            Err(tier_not_supported("MalformedXML", class, tier))
        }
        _ => Ok(()),
    }
}

fn tier_not_supported(code: &str, class: &StorageClass, tier: RestoreTier) -> FailureReason {
    let message = format!("objects of class {} cannot be restored with tier {}", class.as_str(), tier.as_str());
    FailureReason::new(code, 400, RESTORE_OPERATION, message)
}

#[cfg(test)]
#[path = "predictor_tests.rs"]
mod tests;
