//! Predicts the effect of a job on one object, from what is known about the object.

use super::restores::{Expected, Service, attempts, expect};
use crate::call::Call;
use crate::object::{Fact, ObjectId, ObjectState, Restoration, RestoreRequest};
use crate::operation::{Aspect, Operation, Operations};
use crate::task::Fault;

/// What a job would do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// The object that this prediction is about.
    pub object: ObjectId,
    /// What is known about the object before the job runs.
    pub before: ObjectState,
    /// The effect of the job on the object.
    pub fate: Fate,
    /// The requests that the job would send and that would succeed, in order. Requests that are never sent because of
    /// an earlier fault are not included.
    pub sends: Vec<Call>,
    /// The requests that would be refused: the one that makes the object fail, and those that the job recovers from.
    pub refused: Vec<Call>,
}

/// The effect of a job on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The object changes to this state.
    Changes(ObjectState),
    /// The object already has the desired state.
    Stays,
    /// The job would fail on the object.
    Fails(Reason),
    /// The effect cannot be predicted, for this reason.
    Open(String),
}

/// Why a job would fail on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The error code that the report would show.
    pub code: String,
    /// The HTTP status, or 0 if there would be no response.
    pub http: u16,
    /// The name of the operation that would fail.
    pub operation: String,
    /// The description of the problem, for users.
    pub message: String,
}

impl Reason {
    pub(super) fn new(code: &str, http: u16, operation: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), http, operation: operation.to_owned(), message: message.into() }
    }
}

/// A request to read the state of an object that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The request that failed.
    pub call: Call,
    /// The fault that it failed with.
    pub fault: Fault,
}

/// Predicts the effect of a job on objects.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The operations, configured as the job would run them.
    operations: Operations,
    service: Service,
    /// The requests with which the job reads an object.
    reads: Vec<Call>,
    tags: bool,
    acl: bool,
    restore: Option<RestoreRequest>,
}

impl Judge {
    /// Creates a predictor for the operations of a job and the rules of a service.
    #[must_use]
    pub fn new(operations: Operations, service: Service) -> Self {
        let about = |aspect| operations.iter().any(|operation| operation.aspect() == aspect);
        let restore = operations.iter().find_map(|operation| match operation {
            Operation::Restore(request) => Some(*request),
            _ => None,
        });
        let reads = operations.reads().into_iter().map(|step| step.call).collect();
        let (tags, acl) = (about(Aspect::Tags), about(Aspect::Acl));
        Self { operations, service, reads, tags, acl, restore }
    }

    /// Returns the requests that read what is still unknown about an object. `told` is what its manifest contains. If
    /// `class` is set, the storage class is read too.
    #[must_use]
    pub fn looks(&self, told: &ObjectState, class: bool) -> Vec<Call> {
        let mut looks = Vec::new();
        if self.tags {
            looks.push(Call::GetTags);
        }
        if self.acl && told.acl.known().is_none() {
            looks.push(Call::GetAcl);
        }
        let archived = || match self.restore {
            None => false,
            // If the restore is refused anyway, nothing more has to be known about the object.
            Some(request) => {
                let absent = Fact::Known(Restoration::Absent);
                !matches!(expect(self.service, &told.class, &absent, request), Expected::Refused(_))
            }
        };
        if archived() || (class && told.class.known().is_none()) {
            looks.push(Call::Head);
        }
        looks
    }

    /// Returns the part of an object's state that matters to what the job does or to what it costs.
    #[must_use]
    pub fn relevant(&self, known: ObjectState) -> ObjectState {
        let ObjectState { tags, acl, restoration, class } = known;
        let acl = if self.acl { acl } else { Fact::Unknown };
        let restoration = if self.restore.is_some() { restoration } else { Fact::Unknown };
        ObjectState { tags, acl, restoration, class }
    }

    /// Returns whether the effect on an object depends on the response to `look`. The storage class may matter only
    /// to the cost.
    #[must_use]
    pub fn hangs_on(&self, look: &Call) -> bool {
        *look != Call::Head || self.restore.is_some()
    }

    /// Returns whether the job reads tags before it writes them.
    #[must_use]
    pub fn reads_tags(&self) -> bool {
        self.reads.contains(&Call::GetTags)
    }

    /// Predicts the effect on an object with the state `before`. `trouble` is the request to read the object that
    /// failed, if any. `takes_acl` is false if the object's bucket is known not to accept ACLs.
    #[must_use]
    pub fn judge(&self, object: ObjectId, before: ObjectState, trouble: Option<&Trouble>, takes_acl: bool) -> Prospect {
        let mut sends = Vec::new();
        if let Some(trouble) = trouble {
            let met = self.first_met(trouble);
            let fate = match (self.troubled(trouble, &met), &met) {
                // The service checks whether the bucket accepts ACLs before it looks up the object.
                (Fate::Fails(reason), Call::PutAcl(_)) if !takes_acl && reason.code != "NoSuchBucket" => {
                    Fate::Fails(no_acls(&reason.operation))
                }
                (fate, _) => fate,
            };
            let mut refused = Vec::new();
            if matches!(fate, Fate::Fails(_)) {
                sends.extend(self.reads.iter().take_while(|read| **read != met).cloned());
                refused.push(met);
            }
            return Prospect { object, before, fate, sends, refused };
        }
        let mut refused = Vec::new();
        sends.extend(self.reads.iter().cloned());
        let seen = self.as_the_job_sees(&before);
        let after = match self.operations.desired(&seen) {
            Ok(after) => after,
            Err((operation, rejection)) => {
                let reason = Reason::new(rejection.code(), 0, operation, rejection.to_string());
                return Prospect { object, before, fate: Fate::Fails(reason), sends, refused };
            }
        };
        for step in self.operations.steps(&seen, &after) {
            let fails = match step.call {
                Call::PutAcl(_) if !takes_acl => Some(Fate::Fails(no_acls(&step.operation))),
                Call::Restore(request) => {
                    let expected = expect(self.service, &before.class, &before.restoration, request);
                    let attempts = attempts(self.service, &before.class, request, &expected);
                    sends.extend(attempts.sends);
                    refused.extend(attempts.refused);
                    match expected {
                        Expected::Taken => continue,
                        Expected::Refused(reason) => Some(Fate::Fails(reason)),
                        Expected::Open(why) => Some(Fate::Open(why.to_owned())),
                    }
                }
                _ => None,
            };
            if let Some(fate) = fails {
                if !matches!(step.call, Call::Restore(_)) {
                    refused.push(step.call);
                }
                return Prospect { object, before, fate, sends, refused };
            }
            sends.push(step.call);
        }
        let fate = self.changes(&before).map_or(Fate::Stays, Fate::Changes);
        Prospect { object, before, fate, sends, refused }
    }

    /// Returns the state after the job, or `None` if it is the same as before.
    fn changes(&self, before: &ObjectState) -> Option<ObjectState> {
        self.operations.desired(before).ok().filter(|after| after != before)
    }

    /// Returns what the job knows about the object when it decides what to send: only what it reads itself.
    fn as_the_job_sees(&self, before: &ObjectState) -> ObjectState {
        let mut seen = ObjectState::default();
        if self.reads.contains(&Call::GetTags) {
            seen.tags = before.tags.clone();
        }
        if self.reads.contains(&Call::GetAcl) {
            seen.acl = before.acl.clone();
        }
        seen
    }

    /// Predicts the effect of the job after a failed request to read the object.
    fn troubled(&self, Trouble { call, fault }: &Trouble, met: &Call) -> Fate {
        let gone = match fault.code.as_str() {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NoSuchObject" => true,
            // The response had no body, or the version is a delete marker.
            _ => fault.status == Some(404) || (fault.status == Some(405) && fault.code == "MethodNotAllowed"),
        };
        // If only the prediction sends this request, the job's own requests may still be allowed.
        let looks_too =
            self.reads.contains(call) && fault.class == crate::task::FaultClass::Rejected && fault.status.is_some();
        if gone || looks_too {
            let operation = self.operation_of(met);
            let reason = Reason::new(&fault.code, fault.status.unwrap_or(0), &operation, fault.message.clone());
            return Fate::Fails(reason);
        }
        // Leave out the server's message, which may name the object, so that objects with the same reason form one
        // group.
        let status = fault.status.map_or_else(String::new, |status| format!("{status} "));
        Fate::Open(format!("{} could not be read: {status}{}", what_of(call), fault.code))
    }

    /// Returns the request of the job that would be refused: the failed read request itself if the job sends it too,
    /// otherwise the first request that the job sends.
    fn first_met(&self, Trouble { call, .. }: &Trouble) -> Call {
        if self.reads.contains(call) {
            return call.clone();
        }
        let first_write = || {
            let nothing = ObjectState::default();
            let after = self.operations.desired(&nothing).ok()?;
            self.operations.steps(&nothing, &after).into_iter().next().map(|step| step.call)
        };
        self.reads.first().cloned().or_else(first_write).unwrap_or_else(|| call.clone())
    }

    /// Returns the name of the operation that the report would show for the failure.
    fn operation_of(&self, met: &Call) -> String {
        let aspect = match met {
            Call::GetTags | Call::PutTags(_) | Call::DeleteTags => Aspect::Tags,
            Call::GetAcl | Call::PutAcl(_) => Aspect::Acl,
            Call::Restore(_) | Call::Head => Aspect::Restoration,
        };
        let names: Vec<_> = self.operations.iter().filter(|it| it.aspect() == aspect).map(Operation::name).collect();
        names.join("+")
    }
}

/// Describes what a read request is for.
fn what_of(call: &Call) -> &'static str {
    match call {
        Call::GetTags | Call::PutTags(_) | Call::DeleteTags => "its tags",
        Call::GetAcl | Call::PutAcl(_) => "its ACL",
        Call::Head | Call::Restore(_) => "its storage class",
    }
}

/// Returns the failure of setting an ACL in a bucket that accepts none.
fn no_acls(operation: &str) -> Reason {
    let message = "the bucket's owner owns every object in it, and the bucket takes no ACLs";
    Reason::new("AccessControlListNotSupported", 400, operation, message)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
