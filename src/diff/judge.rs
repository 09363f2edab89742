//! One object's fate, from what was seen of it.

use super::restores::{Expected, Service, attempts, expect};
use crate::call::Call;
use crate::object::{Fact, ObjectId, ObjectState, Restoration, RestoreRequest};
use crate::operation::{Aspect, Operation, Operations};
use crate::task::Fault;

/// What a job would do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// The object.
    pub object: ObjectId,
    /// What is known of it now.
    pub before: ObjectState,
    /// What becomes of it.
    pub fate: Fate,
    /// The requests that the job would send for it and have carried out, in order; those that a fault keeps from being
    /// sent are not among them.
    pub sends: Vec<Call>,
    /// The requests that would be refused: the one that it fails on, and those that it gets over.
    pub refused: Vec<Call>,
}

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It becomes another one than it is.
    Changes(ObjectState),
    /// It is as it should be.
    Stays,
    /// The job would fail on it.
    Fails(Reason),
    /// Nobody can tell; why not.
    Open(String),
}

/// Why a job would fail on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The error code that its report would have.
    pub code: String,
    /// The HTTP status, 0 where none would come.
    pub http: u16,
    /// The operation that would fail.
    pub operation: String,
    /// What is wrong, for people.
    pub message: String,
}

impl Reason {
    pub(super) fn new(code: &str, http: u16, operation: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), http, operation: operation.to_owned(), message: message.into() }
    }
}

/// A request by which an object was to be looked at, and that brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The request.
    pub call: Call,
    /// Why not.
    pub fault: Fault,
}

/// Says what becomes of objects.
#[derive(Clone, Debug)]
pub struct Judge {
    /// As the job would carry them out.
    operations: Operations,
    service: Service,
    /// What the job reads of an object.
    reads: Vec<Call>,
    tags: bool,
    acl: bool,
    restore: Option<RestoreRequest>,
}

impl Judge {
    /// For what a job does to each object of this service.
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

    /// The requests that show what is still to be known of an object, besides what its manifest tells; with `class`, also of
    /// what class it is.
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
            // Of an object that cannot be restored anyway, nothing more needs to be known.
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

    /// What is known of an object, as far as it has to do with what the job does or with what that costs.
    #[must_use]
    pub fn relevant(&self, known: ObjectState) -> ObjectState {
        let ObjectState { tags, acl, restoration, class } = known;
        let acl = if self.acl { acl } else { Fact::Unknown };
        let restoration = if self.restore.is_some() { restoration } else { Fact::Unknown };
        ObjectState { tags, acl, restoration, class }
    }

    /// Whether an object's fate hangs on the answer to a look; of what class it is may matter to what it costs alone.
    #[must_use]
    pub fn hangs_on(&self, look: &Call) -> bool {
        *look != Call::Head || self.restore.is_some()
    }

    /// Whether the job reads tags before it writes them.
    #[must_use]
    pub fn reads_tags(&self) -> bool {
        self.reads.contains(&Call::GetTags)
    }

    /// What becomes of an object of which this is known; `trouble` is what it could not be asked. `takes_acl` is false where
    /// its bucket is known to take none.
    #[must_use]
    pub fn judge(&self, object: ObjectId, before: ObjectState, trouble: Option<&Trouble>, takes_acl: bool) -> Prospect {
        let mut sends = Vec::new();
        if let Some(trouble) = trouble {
            let met = self.first_met(trouble);
            let fate = match (self.troubled(trouble, &met), &met) {
                // That is looked at before the object is.
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

    /// What it becomes, where that is something else.
    fn changes(&self, before: &ObjectState) -> Option<ObjectState> {
        self.operations.desired(before).ok().filter(|after| after != before)
    }

    /// What the job knows of the object when it decides what to send: only what it reads itself.
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

    /// What a refused look says of what the job would meet.
    fn troubled(&self, Trouble { call, fault }: &Trouble, met: &Call) -> Fate {
        let gone = match fault.code.as_str() {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NoSuchObject" => true,
            // No body came with it, or the version is a delete marker.
            _ => fault.status == Some(404) || (fault.status == Some(405) && fault.code == "MethodNotAllowed"),
        };
        // What is refused to a look that the job does not make may be allowed to what it does.
        let looks_too =
            self.reads.contains(call) && fault.class == crate::task::FaultClass::Rejected && fault.status.is_some();
        if gone || looks_too {
            let operation = self.operation_of(met);
            let reason = Reason::new(&fault.code, fault.status.unwrap_or(0), &operation, fault.message.clone());
            return Fate::Fails(reason);
        }
        // Without the server's words, which may name the object: objects with one reason are one group.
        let status = fault.status.map_or_else(String::new, |status| format!("{status} "));
        Fate::Open(format!("{} could not be read: {status}{}", what_of(call), fault.code))
    }

    /// The request that the job would have refused: the look itself where the job looks too, else the first that it sends.
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

    /// The operation that would name the failure in the report.
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

/// What a look is for.
fn what_of(call: &Call) -> &'static str {
    match call {
        Call::GetTags | Call::PutTags(_) | Call::DeleteTags => "its tags",
        Call::GetAcl | Call::PutAcl(_) => "its ACL",
        Call::Head | Call::Restore(_) => "its storage class",
    }
}

/// What comes of setting an ACL in a bucket that takes none.
fn no_acls(operation: &str) -> Reason {
    let message = "the bucket's owner owns every object in it, and the bucket takes no ACLs";
    Reason::new("AccessControlListNotSupported", 400, operation, message)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
