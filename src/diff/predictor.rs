//! Predicts the effect of a job on one object, from what is known about the object.
//!
//! Whether a service accepts a restore depends on storage class, days and tier. The service decides; this file predicts
//! its most likely answer, by the rules in `provider`.

use batchplan_store::object::{
    ArchiveStatus, MaybeKnown, ObjectId, ObjectState, RestoreRequest, RestoreState, RestoreTier, StorageClass,
};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::{FaultClass, StoreError};

use crate::operation::{ObjectAspect, Operation, OperationSet, OperationStep, UndoneChange};
use crate::provider::{RestoreRefusal, RestoreService, RetrievalClass};

/// What a job would do with one object or, if objects are verified, whether the object is as it should be.
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

/// The effect of a job on an object or, if objects are verified, the result of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The object changes to this state. Verified: it should have this state, and has not.
    Changes(ObjectState),
    /// The object already has the desired state.
    Unchanged,
    /// The job would fail on the object. Verified: it does not exist, or cannot have the desired state.
    Fails(FailureReason),
    /// The effect cannot be predicted, for this reason. Verified: it could not be read.
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
    restore_service: RestoreService,
    /// The requests with which the job itself reads an object before it writes, and those of them that decide what it
    /// writes.
    job_reads: Vec<ObjectRequest>,
    decisive_reads: Vec<ObjectRequest>,
    /// The aspects that the operations change.
    aspects: Vec<ObjectAspect>,
    /// The restore that the job requests, if it does.
    restore: Option<RestoreRequest>,
    /// Whether to verify objects, instead of predicting what the job does to them.
    verifies: bool,
}

impl Predictor {
    /// Creates a predictor for the operations of a job and the rules of a service.
    #[must_use]
    pub fn new(operations: OperationSet, restore_service: RestoreService) -> Self {
        let restore = operations.iter().find_map(|operation| match operation {
            Operation::Restore(request) => Some(*request),
            _ => None,
        });
        let job_reads = operations.read_steps().into_iter().map(|step| step.call).collect();
        let decisive_reads = operations.decisive_reads().into_iter().map(|step| step.call).collect();
        let aspects = operations.aspects().collect();
        Self { operations, restore_service, job_reads, decisive_reads, aspects, restore, verifies: false }
    }

    /// Creates a predictor that verifies objects: that compares their state with the one that the operations want. It
    /// relies only on what is read from the store now, not on what a manifest says.
    #[must_use]
    pub fn verifying(operations: OperationSet, restore_service: RestoreService) -> Self {
        Self { verifies: true, ..Self::new(operations, restore_service) }
    }

    /// Returns the part of what a manifest says about an object that replaces a read.
    #[must_use]
    pub fn usable_facts(&self, manifest_state: &ObjectState) -> ObjectState {
        if self.verifies { ObjectState::default() } else { self.relevant_state(manifest_state) }
    }

    /// Returns the requests with which a preview reads what its manifest does not say about an object.
    /// `manifest_state` is what it says. If `want_class` is set, the storage class is read too.
    #[must_use]
    pub fn preview_reads(&self, manifest_state: &ObjectState, want_class: bool) -> Vec<ObjectRequest> {
        let unknown = self.aspects.iter().filter(|aspect| !aspect.rules().is_known(manifest_state));
        let mut reads: Vec<_> = unknown.filter_map(|aspect| aspect.read_request()).collect();
        let class = &manifest_state.class;
        if self.restore_depends_on_head(class) || (want_class && class.known().is_none()) {
            reads.push(ObjectRequest::Head);
        }
        reads
    }

    /// Returns whether the response to the job's restore depends on more than the storage class. It does not if the
    /// class alone causes it to be refused.
    fn restore_depends_on_head(&self, class: &MaybeKnown<StorageClass>) -> bool {
        self.restore.is_some_and(|request| {
            let state = ObjectState { class: class.clone(), ..ObjectState::default() };
            let response = expected_response(self.restore_service, &state, request);
            !matches!(response, ExpectedResponse::Refused(_))
        })
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
    pub fn job_reads_tags(&self) -> bool {
        self.job_reads.contains(&ObjectRequest::GetTags)
    }

    /// Predicts the effect on an object with the state `before`. `read_failure` is the request of the preview that
    /// failed, if one did. `acls` says whether the object's bucket accepts ACLs.
    #[must_use]
    pub fn predict(
        &self,
        object: ObjectId,
        before: ObjectState,
        read_failure: Option<&ReadFailure>,
        acls: AclAcceptance,
    ) -> Prediction {
        let (effect, requests) = match read_failure {
            Some(failure) if self.verifies => (self.verify_failure(failure), PredictedRequests::default()),
            None if self.verifies => (self.verify_state(&before), PredictedRequests::default()),
            Some(failure) => self.predict_from_failure(failure, acls),
            None => self.predict_from_state(&before, acls),
        };
        let PredictedRequests { accepted, refused } = requests;
        Prediction { object, before, effect, accepted, refused }
    }

    /// Predicts the effect of an undo on an object with the state `found`.
    #[must_use]
    pub fn predict_undo(
        &self,
        object: ObjectId,
        found: ObjectState,
        read_failure: Option<&ReadFailure>,
        change: &UndoneChange,
    ) -> Prediction {
        let Some(mode) = self.operations.undo().filter(|_| read_failure.is_none()) else {
            return self.predict(object, found, read_failure, AclAcceptance::Accepted);
        };
        let mut accepted = self.job_reads.clone();
        let effect = match change.target(&found, mode) {
            Ok(target) => {
                accepted.extend(self.operations.write_steps(&found, &target).into_iter().map(|step| step.call));
                if target == found { Effect::Unchanged } else { Effect::Changes(target) }
            }
            Err(why) => Effect::Fails(FailureReason::new(why.code(), 0, &self.operations.names(), why.to_string())),
        };
        Prediction { object, before: found, effect, accepted, refused: Vec::new() }
    }

    /// Predicts the effect on an object that could be read.
    fn predict_from_state(&self, before: &ObjectState, acls: AclAcceptance) -> (Effect, PredictedRequests) {
        let mut requests = PredictedRequests { accepted: self.job_reads.clone(), refused: Vec::new() };
        let read_by_job = self.state_read_by_job(before);
        let desired = match self.operations.desired(&read_by_job) {
            Ok(desired) => desired,
            Err((operation, rejection)) => {
                let reason = FailureReason::new(rejection.code(), 0, operation, rejection.to_string());
                return (Effect::Fails(reason), requests);
            }
        };
        for OperationStep { call, operation } in self.operations.write_steps(&read_by_job, &desired) {
            match call {
                ObjectRequest::PutAcl(_) if acls == AclAcceptance::Refused => {
                    requests.refused.push(call);
                    return (Effect::Fails(acls_not_supported(&operation)), requests);
                }
                ObjectRequest::PutAcl(_) if acls == AclAcceptance::Unclear => {
                    let why = "the bucket has ACLs disabled, but this server may accept them all the same";
                    return (Effect::Unknown(why.to_owned()), requests);
                }
                ObjectRequest::Restore(request) => {
                    let response = expected_response(self.restore_service, before, request);
                    requests.append(restore_requests(self.restore_service, &before.class, request, &response));
                    match response {
                        ExpectedResponse::Accepted => {}
                        ExpectedResponse::Refused(reason) => return (Effect::Fails(reason), requests),
                        ExpectedResponse::Unknown(why) => return (Effect::Unknown(why.to_owned()), requests),
                    }
                }
                write => requests.accepted.push(write),
            }
        }
        // The effect is the difference to the real state, even where the job writes without reading it.
        let changed = self.operations.desired(before).ok().filter(|after| after != before);
        (changed.map_or(Effect::Unchanged, Effect::Changes), requests)
    }

    /// Verifies an object that could be read.
    fn verify_state(&self, found: &ObjectState) -> Effect {
        let mut desired = match self.operations.desired(found) {
            Ok(desired) => desired,
            Err((operation, rejection)) => {
                return Effect::Fails(FailureReason::new(rejection.code(), 0, operation, rejection.to_string()));
            }
        };
        if self.restore.is_some() {
            match is_readable_copy_due(found) {
                Some(true) => ObjectAspect::Restoration.rules().copy(found, &mut desired),
                Some(false) => {}
                None => return Effect::Unknown("the storage class or the restored copy was not reported".to_owned()),
            }
        }
        if desired == *found { Effect::Unchanged } else { Effect::Changes(desired) }
    }

    /// Verifies an object that could not be read: only if it certainly does not exist, it is not as it should be.
    fn verify_failure(&self, failure: &ReadFailure) -> Effect {
        let ReadFailure { call, fault } = failure;
        if fault.code == "NoSuchBucket" || !is_missing(fault) {
            return Effect::Unknown(describe_unreadable(failure));
        }
        let operation = self.operation_names(call);
        Effect::Fails(FailureReason::new(&fault.code, fault.status.unwrap_or(0), &operation, fault.message.clone()))
    }

    /// Returns what the job knows about the object when it decides what to write: only what it reads itself, and not only
    /// to capture it.
    fn state_read_by_job(&self, before: &ObjectState) -> ObjectState {
        let mut state = ObjectState::default();
        for aspect in self.decisive_reads.iter().filter_map(ObjectAspect::of) {
            aspect.rules().copy(before, &mut state);
        }
        state
    }

    /// Predicts the effect on an object that the preview failed to read.
    fn predict_from_failure(&self, failure: &ReadFailure, acls: AclAcceptance) -> (Effect, PredictedRequests) {
        let refused = self.first_refused_request(&failure.call);
        if !self.job_fails_too(failure) {
            return (Effect::Unknown(describe_unreadable(failure)), PredictedRequests::default());
        }
        let fault = &failure.fault;
        let operation = self.operation_names(&refused);
        // The service checks whether the bucket accepts ACLs before it looks up the object.
        let acl_is_refused = matches!(refused, ObjectRequest::PutAcl(_))
            && acls == AclAcceptance::Refused
            && fault.code != "NoSuchBucket";
        let reason = if acl_is_refused {
            acls_not_supported(&operation)
        } else {
            FailureReason::new(&fault.code, fault.status.unwrap_or(0), &operation, fault.message.clone())
        };
        let accepted = self.job_reads.iter().take_while(|read| **read != refused).cloned().collect();
        (Effect::Fails(reason), PredictedRequests { accepted, refused: vec![refused] })
    }

    /// Returns whether the job would fail on an object that the preview failed to read: if the object does not exist,
    /// if the server supports no such request or serves the bucket elsewhere, or if the job sends the refused request
    /// too. Otherwise, the job's own requests may still be allowed.
    fn job_fails_too(&self, ReadFailure { call, fault }: &ReadFailure) -> bool {
        let is_refused = fault.class == FaultClass::Rejected && fault.status.is_some();
        let is_refused_for_all = fault.is_unsupported() || fault.is_redirect();
        is_missing(fault) || (is_refused && (is_refused_for_all || self.job_reads.contains(call)))
    }

    /// Returns the request of the job that would be refused: the failed read request itself if the job sends it too,
    /// otherwise the first request that the job sends.
    fn first_refused_request(&self, failed_read: &ObjectRequest) -> ObjectRequest {
        if self.job_reads.contains(failed_read) {
            return failed_read.clone();
        }
        let first_write = || {
            let unknown = ObjectState::default();
            let desired = self.operations.desired(&unknown).ok()?;
            self.operations.write_steps(&unknown, &desired).into_iter().next().map(|step| step.call)
        };
        self.job_reads.first().cloned().or_else(first_write).unwrap_or_else(|| failed_read.clone())
    }

    /// Returns the names of the operations that the report would show for the failure, joined by `+`.
    fn operation_names(&self, refused: &ObjectRequest) -> String {
        let aspect = aspect_of(refused);
        let names: Vec<_> = self.operations.iter().filter(|it| it.aspect() == aspect).map(Operation::name).collect();
        names.join("+")
    }
}

/// Returns whether a fault says that the object, its version or its bucket does not exist.
fn is_missing(fault: &StoreError) -> bool {
    match fault.code.as_str() {
        "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NoSuchObject" => true,
        // The response had no body, or the version is a delete marker.
        _ => fault.status == Some(404) || (fault.status == Some(405) && fault.code == "MethodNotAllowed"),
    }
}

/// Returns whether an object that was to be restored can be read, now or when the restore in progress ends. `None` if
/// that is not known.
fn is_readable_copy_due(found: &ObjectState) -> Option<bool> {
    let class = found.class.known().map(RetrievalClass::of);
    match (found.restoration.known()?, class?) {
        (RestoreState::InProgress | RestoreState::RestoredUntil(_) | RestoreState::Requested(_), _)
        | (RestoreState::NotRestored, RetrievalClass::Readable) => Some(true),
        (RestoreState::NotRestored, RetrievalClass::IntelligentTiering) => {
            found.archive_status.known().map(|status| *status == ArchiveStatus::NotArchived)
        }
        (RestoreState::NotRestored, _) => Some(false),
    }
}

/// The requests that a job would send for one object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PredictedRequests {
    /// The requests that would succeed.
    accepted: Vec<ObjectRequest>,
    /// The requests that would be refused.
    refused: Vec<ObjectRequest>,
}

impl PredictedRequests {
    fn append(&mut self, later: Self) {
        self.accepted.extend(later.accepted);
        self.refused.extend(later.refused);
    }
}

/// Describes a failed request without the server's message, which may name the object, so that objects with the same
/// reason form one group.
fn describe_unreadable(ReadFailure { call, fault }: &ReadFailure) -> String {
    let status = fault.status.map_or_else(String::new, |status| format!("{status} "));
    format!("{} could not be read: {status}{}", aspect_of(call).rules().subject(), fault.code)
}

/// Returns the aspect that a request is about. HEAD is sent because of restores.
fn aspect_of(call: &ObjectRequest) -> ObjectAspect {
    ObjectAspect::of(call).unwrap_or(ObjectAspect::Restoration)
}

/// Whether a bucket accepts ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAcceptance {
    /// It does, as far as is known.
    Accepted,
    /// Its ownership disables them.
    Refused,
    /// Its ownership disables them, but the server may not go by it. `SeaweedFS` gives every new bucket the ownership
    /// that it has on AWS, and accepts ACLs: <https://github.com/seaweedfs/seaweedfs/pull/10591>.
    Unclear,
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

/// Predicts the response to a restore of an object in this state.
fn expected_response(service: RestoreService, state: &ObjectState, request: RestoreRequest) -> ExpectedResponse {
    let Some(class) = state.class.known() else {
        return ExpectedResponse::Unknown("the storage class is unknown");
    };
    if let Some(refusal) = service.refusal(class, &state.archive_status, request) {
        let RestoreRefusal { code, http, message, help: _ } = refusal;
        return ExpectedResponse::Refused(FailureReason::new(code, http, RESTORE_OPERATION, message));
    }
    let retrieval = RetrievalClass::of(class);
    match state.restoration.known() {
        None => ExpectedResponse::Unknown("it is unknown whether a restore is in progress"),
        Some(RestoreState::InProgress) if service == RestoreService::Oss && retrieval == RetrievalClass::Archive => {
            response_while_in_progress(None)
        }
        Some(RestoreState::InProgress) => {
            response_while_in_progress(Some(request.tier.unwrap_or(RestoreTier::Standard)))
        }
        Some(_) if retrieval == RetrievalClass::IntelligentTiering && service == RestoreService::Aws => {
            match state.archive_status.known() {
                Some(_) => ExpectedResponse::Accepted,
                None => ExpectedResponse::Unknown("it is unknown whether the object is in an archive tier"),
            }
        }
        Some(_) if matches!(retrieval, RetrievalClass::Unknown | RetrievalClass::IntelligentTiering) => {
            ExpectedResponse::Unknown("it is unknown whether objects of this class need a restore")
        }
        Some(_) => ExpectedResponse::Accepted,
    }
}

/// Returns the requests that the job sends for a restore with this predicted response.
///
/// The job sends a HEAD request after a 409 conflict. On OSS, which has a class without tiers, it also sends one
/// after a 400 response to a request that names a tier, and then requests the restore without the tier if the class has
/// none.
fn restore_requests(
    service: RestoreService,
    class: &MaybeKnown<StorageClass>,
    request: RestoreRequest,
    response: &ExpectedResponse,
) -> PredictedRequests {
    let as_planned = ObjectRequest::Restore(request);
    let without_tier = ObjectRequest::Restore(RestoreRequest { tier: None, ..request });
    let retrieval = class.known().map_or(RetrievalClass::Unknown, RetrievalClass::of);
    let has_tier_on_oss = service == RestoreService::Oss && request.tier.is_some();
    let tier_is_refused = has_tier_on_oss && retrieval == RetrievalClass::Archive;
    let mut requests = PredictedRequests::default();
    let last = if tier_is_refused {
        requests.refused.push(as_planned);
        requests.accepted.push(ObjectRequest::Head);
        without_tier
    } else {
        as_planned
    };
    match response {
        ExpectedResponse::Accepted => requests.accepted.push(last),
        ExpectedResponse::Refused(reason) => {
            requests.refused.push(last);
            let may_be_the_tier = reason.http == 400 && has_tier_on_oss && !tier_is_refused;
            if reason.http == 409 || may_be_the_tier {
                requests.accepted.push(ObjectRequest::Head);
            }
        }
        ExpectedResponse::Unknown(_) => {}
    }
    requests
}

/// Predicts the response if a restore is already in progress. The service refuses the new one unless it is faster,
/// and the tier of the old one cannot be seen. `tier` is the tier of the new one, or `None` if the class has no
/// tiers.
fn response_while_in_progress(tier: Option<RestoreTier>) -> ExpectedResponse {
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

#[cfg(test)]
#[path = "predictor_tests.rs"]
mod tests;
