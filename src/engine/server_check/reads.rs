//! Checks a server by reading alone.

use super::writes::Marked;
use super::{RefusalKind, ServerRefusal, telltale};
use crate::call::{Call, ObjectHeader, Reply};
use crate::engine::worker::{Halt, Visit, Worker};
use crate::object::{Key, MAX_KEY_BYTES, ObjectId};
use crate::operation::{Aspect, Step};
use crate::task::{Failure, Fault, FaultClass};

/// The result of the read checks with one object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadCheck {
    /// The server knows the sub-resource.
    Proven,
    /// The object does not exist, which shows nothing about the server.
    Absent(Box<Fault>),
    /// The server does not know the sub-resource, or denies a read that the check needs.
    Refused(Box<ServerRefusal>),
    /// Unknown: a request failed.
    Failed(Box<Fault>),
    /// The service rejected the credentials.
    Credentials(Box<Fault>),
    /// The check was stopped.
    Stopped,
}

impl Worker {
    /// Checks by reading alone whether the server knows the sub-resource of an aspect, and whether HEAD would show a
    /// change of the object. A restore has no sub-resource and always passes.
    pub async fn check_reads(&self, object: &ObjectId, aspect: Aspect) -> ReadCheck {
        let halt = match self.all_reads(&Visit::new(object), aspect).await {
            Ok(found) => return found,
            Err(halt) => halt,
        };
        match halt {
            Halt::Failed(failure) => ReadCheck::Failed(Box::new(failure.fault)),
            Halt::Refused(fault) => ReadCheck::Credentials(fault),
            Halt::Untrusted(untrusted) => ReadCheck::Refused(Box::new(untrusted.refusal)),
            Halt::Unrecorded(_) | Halt::Stopped => ReadCheck::Stopped,
        }
    }

    async fn all_reads(&self, visit: &Visit<'_>, aspect: Aspect) -> Result<ReadCheck, Halt> {
        let Some(call) = aspect.read() else { return Ok(ReadCheck::Proven) };
        match self.prove_reads(visit, aspect, "").await? {
            ReadCheck::Proven => {}
            found => return Ok(found),
        }
        Ok(match self.mark(visit, aspect, &Step { call, operation: String::new() }).await? {
            Marked::By(_) => ReadCheck::Proven,
            Marked::Gone(fault) => ReadCheck::Absent(fault),
            Marked::Refused(refusal) => ReadCheck::Refused(refusal),
        })
    }

    /// Checks whether the server knows the sub-resource of an object that is being processed.
    pub(super) async fn prove_reads(
        &self,
        visit: &Visit<'_>,
        aspect: Aspect,
        operation: &str,
    ) -> Result<ReadCheck, Halt> {
        let Some(call) = aspect.read() else { return Ok(ReadCheck::Proven) };
        let step = Step { call, operation: operation.to_owned() };
        let reply = match self.send(visit, &step).await {
            Ok(reply) => reply,
            Err(Halt::Failed(failure)) => return self.read_refused(visit, &step, aspect, *failure).await,
            Err(halt) => return Err(halt),
        };
        let refused = |what| Ok(refusal(visit.object, aspect, RefusalKind::TakesForObject, what));
        let asked = self.store.request_url(visit.object, &step.call);
        if let Some(header) = telltale(&step.call, reply.headers) {
            return refused(format!(
                "{asked} was answered with the header {}, as the object itself is",
                header.as_str()
            ));
        }
        let invented = invented(visit.object);
        let asked = self.store.request_url(&invented, &step.call);
        let every_answer_has_ranges = match self.send(&Visit::new(&invented), &step).await {
            Ok(Reply { no_tag_set: true, headers, .. }) => headers.has(ObjectHeader::AcceptRanges),
            Ok(Reply { status, .. }) => {
                return refused(format!("{asked} was answered with {status}, although there is no such object"));
            }
            Err(Halt::Failed(failure)) => match (failure.fault.status, failure.fault.class.may_pass()) {
                (Some(status), false) if status < 300 => {
                    return refused(format!("{asked} was answered with {status}, although there is no such object"));
                }
                (Some(_), false) => failure.fault.headers.has(ObjectHeader::AcceptRanges),
                _ => return Err(Halt::Failed(failure)),
            },
            Err(halt) => return Err(halt),
        };
        if reply.headers.has(ObjectHeader::AcceptRanges) && !every_answer_has_ranges {
            let asked = self.store.request_url(visit.object, &step.call);
            return refused(format!("{asked} was answered with the header Accept-Ranges, as the object itself is"));
        }
        Ok(ReadCheck::Proven)
    }

    /// Interprets a read that returned no document.
    async fn read_refused(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        aspect: Aspect,
        failure: Failure,
    ) -> Result<ReadCheck, Halt> {
        let asked = self.store.request_url(visit.object, &step.call);
        let fault = &failure.fault;
        let refused = |kind, what| Ok(refusal(visit.object, aspect, kind, what));
        match fault.status {
            Some(status) if fault.code == "UnexpectedDocument" => {
                let what = format!("{asked} was answered with {status} and another document ({})", fault.message);
                refused(RefusalKind::TakesForObject, what)
            }
            _ if is_unknown_to_server(fault) => {
                refused(RefusalKind::Unsupported, format!("{asked} was answered with {fault}"))
            }
            Some(403) if fault.class == FaultClass::Rejected && fault.code != "InvalidObjectState" => {
                let what = format!("{asked} was answered with {fault}");
                refused(RefusalKind::Denied(step.call.clone()), what)
            }
            Some(404 | 405) if self.is_there(visit, step).await? => match self.send(visit, step).await {
                // The document has appeared in the meantime.
                Ok(_) => Err(Halt::Failed(Box::new(failure))),
                Err(Halt::Failed(again)) if matches!(again.fault.status, Some(404 | 405)) => {
                    let what = format!("{asked} was answered with {}, although HEAD finds the object", again.fault);
                    refused(RefusalKind::Unsupported, what)
                }
                Err(halt) => Err(halt),
            },
            Some(404 | 405) => Ok(ReadCheck::Absent(Box::new(failure.fault))),
            _ => Err(Halt::Failed(Box::new(failure))),
        }
    }

    /// Returns whether HEAD finds the object. A denied HEAD counts as missing.
    async fn is_there(&self, visit: &Visit<'_>, step: &Step) -> Result<bool, Halt> {
        let head = Step { call: Call::Head, operation: step.operation.clone() };
        match self.send(visit, &head).await {
            Ok(_) => Ok(true),
            Err(Halt::Failed(failure)) if matches!(failure.fault.status, Some(403..=405)) => Ok(false),
            Err(halt) => Err(halt),
        }
    }

    /// Sends one of the job's own reads and checks that the answer is about the sub-resource.
    pub(in crate::engine) async fn read(&self, visit: &Visit<'_>, step: &Step) -> Result<Reply, Halt> {
        let answer = self.send(visit, step).await;
        let (Some(check), Some(aspect)) = (&self.check, Aspect::of(&step.call)) else { return answer };
        let asked = self.store.request_url(visit.object, &step.call);
        let as_object = |header: ObjectHeader| {
            let what = format!("{asked} was answered with the header {}, as the object itself is", header.as_str());
            ServerRefusal::of_read(visit.object, aspect, RefusalKind::TakesForObject, what)
        };
        let refusal = match answer {
            Ok(reply) => match telltale(&step.call, reply.headers) {
                None => return Ok(reply),
                Some(header) => as_object(header),
            },
            Err(Halt::Failed(failure)) => match telltale(&step.call, failure.fault.headers) {
                Some(header) if failure.fault.status.is_some_and(|status| status < 300) => as_object(header),
                // The server has proven itself, so the fault concerns only this object.
                _ if check.knows(&visit.object.bucket, aspect) => return Err(Halt::Failed(failure)),
                _ => match self.own_read_refused(visit, step, aspect, *failure).await? {
                    ReadCheck::Refused(refusal) => *refusal,
                    ReadCheck::Absent(fault) => {
                        return Err(Halt::Failed(Box::new(Failure {
                            operation: step.operation.clone(),
                            fault: *fault,
                        })));
                    }
                    _ => return Err(Halt::Stopped),
                },
            },
            Err(halt) => return Err(halt),
        };
        let refusal = check.with_others(refusal);
        check.refuse(&refusal).await?;
        Err(Halt::Untrusted(Box::new(refusal.without_outcome())))
    }

    /// Interprets a failed read of the job's own. It may be denied for this object alone; other errors may show
    /// something about the server.
    async fn own_read_refused(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        aspect: Aspect,
        failure: Failure,
    ) -> Result<ReadCheck, Halt> {
        let says_something = failure.fault.code == "UnexpectedDocument" || is_unknown_to_server(&failure.fault);
        if says_something || failure.fault.status == Some(405) {
            self.read_refused(visit, step, aspect, failure).await
        } else {
            Err(Halt::Failed(Box::new(failure)))
        }
    }
}

/// Returns whether the server says that it does not know the request at all.
pub(super) fn is_unknown_to_server(fault: &Fault) -> bool {
    fault.status == Some(501) || (fault.code == "NotImplemented" && fault.status.is_some())
}

fn refusal(object: &ObjectId, aspect: Aspect, kind: RefusalKind, what: String) -> ReadCheck {
    ReadCheck::Refused(Box::new(ServerRefusal::of_read(object, aspect, kind, what)))
}

/// Invents an unused key in the folder of an object, or in a parent folder if the key would be too long.
fn invented(object: &ObjectId) -> ObjectId {
    let name = format!("batchplan-server-check-{}", uuid::Uuid::new_v4().simple());
    let key = object.key.as_bytes();
    let slashes = key.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place + 1);
    let folder = slashes.into_iter().find(|end| end + name.len() <= MAX_KEY_BYTES).unwrap_or(0);
    let key = [&key[..folder], name.as_bytes()].concat();
    ObjectId { bucket: object.bucket.clone(), key: Key::new(key), version: object.version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Bucket;

    #[test]
    fn an_invented_key_lies_beside_the_object_and_is_never_too_long() {
        let of = |key: &[u8]| invented(&ObjectId { bucket: Bucket::new("b"), key: Key::new(key), version: None }).key;
        assert!(of(b"a/b/c.txt").as_bytes().starts_with(b"a/b/batchplan-server-check-"));
        assert!(of(b"c").as_bytes().starts_with(b"batchplan-server-check-"));
        assert!(of(b"a/").as_bytes().starts_with(b"a/batchplan-"));
        let deep = [b"top/".as_slice(), &[b'x'; 1000], b"/y"].concat();
        assert!(of(&deep).as_bytes().starts_with(b"top/batchplan-"));
        assert_ne!(of(b"c"), of(b"c"));
    }
}
