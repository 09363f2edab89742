//! Checks a server by reading alone: its answers about a sub-resource, and what HEAD shows of an object's content.

use batchplan_store::object::{MAX_KEY_BYTES, ObjectId, ObjectKey};
use batchplan_store::object_request::{ContentIdentity, ObjectHeader, ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure};

use super::{
    ContentBaseline, ContentProbe, ServerCheckFailure, ServerCheckFailureKind, is_unknown_to_server, object_header,
};
use crate::engine::request_sender::{ObjectContext, RequestAbort, RequestSender};
use crate::operation::{ObjectAspect, OperationStep};

/// The result of the read checks with one object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadCheckOutcome {
    /// The server knows the sub-resource.
    Proven,
    /// The object does not exist, which shows nothing about the server.
    ObjectMissing(Box<StoreError>),
    /// The server does not know the sub-resource, or denies a read that the check needs.
    ServerFailed(Box<ServerCheckFailure>),
    /// Unknown: a request failed.
    RequestFailed(Box<StoreError>),
    /// The service rejected the credentials.
    CredentialsRejected(Box<StoreError>),
    /// The check was stopped.
    Stopped,
}

impl RequestSender {
    /// Checks the sub-resource of an object, and whether HEAD would show a change of the object.
    pub(in crate::engine) async fn run_read_checks(
        &self,
        context: &ObjectContext<'_>,
        aspect: ObjectAspect,
    ) -> Result<ReadCheckOutcome, RequestAbort> {
        let Some(call) = aspect.read_request() else { return Ok(ReadCheckOutcome::Proven) };
        match self.check_subresource(context, aspect, "").await? {
            ReadCheckOutcome::Proven => {}
            found => return Ok(found),
        }
        Ok(match self.content_baseline(context, aspect, &OperationStep { call, operation: String::new() }).await? {
            ContentBaseline::Mark(_) => ReadCheckOutcome::Proven,
            ContentBaseline::Missing(fault) => ReadCheckOutcome::ObjectMissing(fault),
            ContentBaseline::ServerFailed(refusal) => ReadCheckOutcome::ServerFailed(refusal),
        })
    }

    /// Checks whether the server knows the sub-resource of an object that is being processed.
    pub(super) async fn check_subresource(
        &self,
        context: &ObjectContext<'_>,
        aspect: ObjectAspect,
        operation: &str,
    ) -> Result<ReadCheckOutcome, RequestAbort> {
        let Some(call) = aspect.read_request() else { return Ok(ReadCheckOutcome::Proven) };
        let step = OperationStep { call, operation: operation.to_owned() };
        let reply = match self.send(context, &step).await {
            Ok(reply) => reply,
            Err(RequestAbort::Failed(failure)) => {
                return self.interpret_read_error(context, &step, aspect, *failure).await;
            }
            Err(abort) => return Err(abort),
        };
        let refused = |what| Ok(server_failed(context.object, aspect, ServerCheckFailureKind::AppliedToObject, what));
        let request = self.store.request_line(context.object, &step.call);
        if let Some(header) = object_header(&step.call, reply.headers) {
            return refused(format!(
                "{request} returned the header {}, like a request for the object itself",
                header.as_str()
            ));
        }
        let invented = invent_object(context.object);
        let request = self.store.request_line(&invented, &step.call);
        let every_answer_has_ranges = match self.send(&ObjectContext::new(&invented), &step).await {
            Ok(ObjectResponse { no_tag_set: true, headers, .. }) => headers.contains(ObjectHeader::AcceptRanges),
            Ok(ObjectResponse { status, .. }) => {
                return refused(format!("{request} returned {status}, although the object does not exist"));
            }
            Err(RequestAbort::Failed(failure)) => match (failure.error.status, failure.error.class.is_retryable()) {
                (Some(status), false) if status < 300 => {
                    return refused(format!("{request} returned {status}, although the object does not exist"));
                }
                (Some(_), false) => failure.error.headers.contains(ObjectHeader::AcceptRanges),
                _ => return Err(RequestAbort::Failed(failure)),
            },
            Err(abort) => return Err(abort),
        };
        if reply.headers.contains(ObjectHeader::AcceptRanges) && !every_answer_has_ranges {
            let request = self.store.request_line(context.object, &step.call);
            return refused(format!(
                "{request} returned the header Accept-Ranges, like a request for the object itself"
            ));
        }
        Ok(ReadCheckOutcome::Proven)
    }

    /// Interprets a read that returned no document.
    async fn interpret_read_error(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        aspect: ObjectAspect,
        failure: TaskFailure,
    ) -> Result<ReadCheckOutcome, RequestAbort> {
        let request = self.store.request_line(context.object, &step.call);
        let fault = &failure.error;
        let refused = |kind, what| Ok(server_failed(context.object, aspect, kind, what));
        match fault.status {
            Some(status) if fault.code == "UnexpectedDocument" => {
                let what = format!("{request} returned {status} and an unexpected document ({})", fault.message);
                refused(ServerCheckFailureKind::AppliedToObject, what)
            }
            _ if is_unknown_to_server(fault) => {
                refused(ServerCheckFailureKind::Unsupported, format!("{request} returned {fault}"))
            }
            Some(403) if fault.class == FaultClass::Rejected && fault.code != "InvalidObjectState" => {
                let what = format!("{request} returned {fault}");
                refused(ServerCheckFailureKind::Denied(step.call.clone()), what)
            }
            Some(404 | 405) if self.object_exists(context, step).await? => match self.send(context, step).await {
                // The document has appeared in the meantime.
                Ok(_) => Err(RequestAbort::Failed(Box::new(failure))),
                Err(RequestAbort::Failed(again)) if matches!(again.error.status, Some(404 | 405)) => {
                    let what = format!("{request} returned {}, although HEAD finds the object", again.error);
                    refused(ServerCheckFailureKind::Unsupported, what)
                }
                Err(abort) => Err(abort),
            },
            Some(404 | 405) => Ok(ReadCheckOutcome::ObjectMissing(Box::new(failure.error))),
            _ => Err(RequestAbort::Failed(Box::new(failure))),
        }
    }

    /// Returns whether HEAD finds the object. A denied HEAD counts as missing.
    async fn object_exists(&self, context: &ObjectContext<'_>, step: &OperationStep) -> Result<bool, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        match self.send(context, &head).await {
            Ok(_) => Ok(true),
            Err(RequestAbort::Failed(failure)) if matches!(failure.error.status, Some(403..=405)) => Ok(false),
            Err(abort) => Err(abort),
        }
    }

    /// Returns how a change of the object's content can be detected.
    pub(super) async fn content_baseline(
        &self,
        context: &ObjectContext<'_>,
        aspect: ObjectAspect,
        step: &OperationStep,
    ) -> Result<ContentBaseline, RequestAbort> {
        let request = self.store.request_line(context.object, &ObjectRequest::Head);
        let (kind, what) = match self.probe_content(context, step).await {
            Ok(ContentProbe::Present { mark: mark @ ContentIdentity { etag: Some(_), .. }, .. }) => {
                return Ok(ContentBaseline::Mark(mark));
            }
            Ok(ContentProbe::Present { .. }) => (
                ServerCheckFailureKind::NotVerifiable,
                format!("{request} returned no ETag, so a change of content cannot be detected"),
            ),
            Ok(ContentProbe::Missing(fault)) => return Ok(ContentBaseline::Missing(fault)),
            Err(RequestAbort::Failed(failure)) if failure.error.status == Some(403) => {
                (ServerCheckFailureKind::Denied(ObjectRequest::Head), format!("{request} returned {}", failure.error))
            }
            // For example, an object encrypted with the owner's key: HEAD needs that key.
            Err(RequestAbort::Failed(failure)) if failure.error.class == FaultClass::Rejected => {
                (ServerCheckFailureKind::NotVerifiable, format!("{request} returned {}", failure.error))
            }
            Err(abort) => return Err(abort),
        };
        Ok(ContentBaseline::ServerFailed(Box::new(ServerCheckFailure::before_write(
            context.object,
            aspect,
            kind,
            what,
        ))))
    }

    /// Sends HEAD once for the object's content.
    pub(super) async fn probe_content(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<ContentProbe, RequestAbort> {
        let head = OperationStep { call: ObjectRequest::Head, operation: step.operation.clone() };
        match self.send(context, &head).await {
            Ok(ObjectResponse { data: ResponseData::Head { content, .. }, headers, .. }) => {
                Ok(ContentProbe::Present { mark: content, restore: headers.contains(ObjectHeader::Restore) })
            }
            Ok(_) => Ok(ContentProbe::Present { mark: ContentIdentity::default(), restore: false }),
            Err(RequestAbort::Failed(failure)) if matches!(failure.error.status, Some(404 | 405 | 410)) => {
                Ok(ContentProbe::Missing(Box::new(failure.error)))
            }
            Err(abort) => Err(abort),
        }
    }

    /// Sends one of the job's own reads and checks that the answer is about the sub-resource.
    pub(in crate::engine) async fn read_checked(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<ObjectResponse, RequestAbort> {
        let answer = self.send(context, step).await;
        let (Some(check), Some(aspect)) = (&self.server_check, ObjectAspect::of(&step.call)) else { return answer };
        let request = self.store.request_line(context.object, &step.call);
        let as_object = |header: ObjectHeader| {
            let what =
                format!("{request} returned the header {}, like a request for the object itself", header.as_str());
            ServerCheckFailure::before_write(context.object, aspect, ServerCheckFailureKind::AppliedToObject, what)
        };
        let refusal = match answer {
            Ok(reply) => match object_header(&step.call, reply.headers) {
                None => return Ok(reply),
                Some(header) => as_object(header),
            },
            Err(RequestAbort::Failed(failure)) => match object_header(&step.call, failure.error.headers) {
                Some(header) if failure.error.status.is_some_and(|status| status < 300) => as_object(header),
                // The server has proven itself, so the fault concerns only this object.
                _ if check.is_aspect_proven(&context.object.bucket, aspect) => {
                    return Err(RequestAbort::Failed(failure));
                }
                _ => match self.interpret_own_read_error(context, step, aspect, *failure).await? {
                    ReadCheckOutcome::ServerFailed(refusal) => *refusal,
                    ReadCheckOutcome::ObjectMissing(fault) => {
                        return Err(RequestAbort::Failed(Box::new(TaskFailure {
                            operation: step.operation.clone(),
                            error: *fault,
                        })));
                    }
                    _ => return Err(RequestAbort::Stopped),
                },
            },
            Err(abort) => return Err(abort),
        };
        let refusal = check.with_others_written(refusal);
        check.fail(&refusal).await?;
        Err(RequestAbort::ServerUntrusted(Box::new(refusal.without_outcome())))
    }

    /// Interprets a failed read of the job's own. It may be denied for this object alone; other errors may show
    /// something about the server.
    async fn interpret_own_read_error(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        aspect: ObjectAspect,
        failure: TaskFailure,
    ) -> Result<ReadCheckOutcome, RequestAbort> {
        let says_something = failure.error.code == "UnexpectedDocument" || is_unknown_to_server(&failure.error);
        if says_something || failure.error.status == Some(405) {
            self.interpret_read_error(context, step, aspect, failure).await
        } else {
            Err(RequestAbort::Failed(Box::new(failure)))
        }
    }
}

fn server_failed(
    object: &ObjectId,
    aspect: ObjectAspect,
    kind: ServerCheckFailureKind,
    what: String,
) -> ReadCheckOutcome {
    ReadCheckOutcome::ServerFailed(Box::new(ServerCheckFailure::before_write(object, aspect, kind, what)))
}

/// Invents an unused key in the folder of an object, or in a parent folder if the key would be too long.
fn invent_object(object: &ObjectId) -> ObjectId {
    let name = format!("batchplan-server-check-{}", uuid::Uuid::new_v4().simple());
    let key = object.key.as_bytes();
    let slashes = key.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place + 1);
    let folder = slashes.into_iter().find(|end| end + name.len() <= MAX_KEY_BYTES).unwrap_or(0);
    let key = [&key[..folder], name.as_bytes()].concat();
    ObjectId { bucket: object.bucket.clone(), key: ObjectKey::new(key), version: object.version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::BucketName;

    #[test]
    fn invents_a_key_in_the_objects_folder_within_the_limit() {
        let of = |key: &[u8]| {
            invent_object(&ObjectId { bucket: BucketName::new("b"), key: ObjectKey::new(key), version: None }).key
        };
        assert!(of(b"a/b/c.txt").as_bytes().starts_with(b"a/b/batchplan-server-check-"));
        assert!(of(b"c").as_bytes().starts_with(b"batchplan-server-check-"));
        assert!(of(b"a/").as_bytes().starts_with(b"a/batchplan-"));
        let deep = [b"top/".as_slice(), &[b'x'; 1000], b"/y"].concat();
        assert!(of(&deep).as_bytes().starts_with(b"top/batchplan-"));
        assert_ne!(of(b"c"), of(b"c"));
    }
}
