//! Checks writes. The first write of a scope is sent alone and checked from all sides; if an earlier run has sent it
//! and its result is unknown, the object is checked before anything else is sent.
//!
//! Later writes are sampled: a server may be several machines behind one name, and may be replaced while a job runs. A
//! content as long as the request's body, or one that is gone after tags were deleted, is the server's fault. Any other
//! change of content during a write may also come from another client. So the object fails with both contents in its
//! message, and the next write of the scope is sent alone again, which shows the cause. A second change before the
//! scope is proven again is unlikely to come from another client, and stops the job.

use std::sync::atomic::Ordering;
use std::time::Duration;

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::{ContentIdentity, ObjectHeader, ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure};
use batchplan_store::timeouts::scaled;

use super::read_check::ReadCheckOutcome;
use super::{
    CONTENT_CHANGED, ContentBaseline, ContentProbe, SERVER_CHECK_FAILED, ServerCheck, ServerCheckFailure,
    ServerCheckFailureKind, UntrustedServer, WRITE_NOT_KEPT, is_unknown_to_server, object_header,
};
use crate::engine::request_sender::{ObjectContext, RequestAbort, RequestSender, failed};
use crate::journal::{FirstWrite, JournalError, ServerTrust, TrustScope};
use crate::operation::{ObjectAspect, OperationStep};

/// The waits before a write is read back again: some stores show it only after a delay.
const READ_BACK_DELAYS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// The number of consecutive objects without a usable answer after which the job pauses.
const MAX_UNANSWERED: u32 = 3;

/// Up to this many writes of a scope, each write whose number is a power of two is sampled.
const DENSE_SAMPLING_UNTIL: u64 = 1024;

/// Beyond that, each write whose number is a multiple of this is sampled.
const SAMPLING_INTERVAL: u64 = 1000;

/// The number of consecutive failed samples from which on single objects are no longer the likely cause.
const MAX_FAILED_SAMPLES: u32 = 10;

/// The result of HEAD after a write.
#[must_use]
struct PostWriteProbe {
    /// Whether HEAD shows a restore.
    restore: bool,
    /// A description of the change, if the content differs but has the same length.
    changed: Option<String>,
}

impl ServerCheck {
    /// Counts a write of a proven scope. Returns whether to sample it.
    fn is_sample(&self, scope: &TrustScope) -> bool {
        let mut proven = self.proven.lock();
        let Some(writes) = proven.get_mut(scope) else { return false };
        *writes += 1;
        // The next write makes up for a sample that could not be checked.
        is_sample(*writes) || self.failed_samples.load(Ordering::Relaxed) > 0
    }

    /// Records that a sample could not be checked. Returns true if that happened too often: the first write has shown
    /// that HEAD works here, and it no longer does, so the next write is sent alone.
    async fn record_failed_sample(&self, scope: &TrustScope) -> Result<bool, JournalError> {
        if self.failed_samples.fetch_add(1, Ordering::Relaxed) + 1 < MAX_FAILED_SAMPLES {
            return Ok(false);
        }
        self.failed_samples.store(0, Ordering::Relaxed);
        self.revoke_proof(scope).await?;
        Ok(true)
    }
}

impl RequestSender {
    /// Sends a write. If the server has not proven itself yet, the write is sent alone, and other writes to the
    /// server wait for its result.
    pub(in crate::engine) async fn write_checked(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        may_have_been_sent: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        // Before anything is recorded: if the job's own restore already holds, nothing is written.
        if let (ObjectRequest::Restore(request), Some(since), true) =
            (&step.call, self.restores_sent_since, may_have_been_sent)
            && let Some(reply) = self.find_held_restore(context, step, *request, since).await?
        {
            return Ok(reply);
        }
        let (Some(check), Some(aspect)) = (&self.server_check, ObjectAspect::of(&step.call)) else {
            return self.send_write(context, step, may_have_been_sent).await;
        };
        let scope = TrustScope {
            bucket: context.object.bucket.clone(),
            aspect,
            deletes: step.call == ObjectRequest::DeleteTags,
            of_version: context.object.version.is_some(),
        };
        if !check.is_proven(&scope) || check.has_unconfirmed() {
            self.fail_if_missing(check, context, step).await?;
            let turn = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(RequestAbort::Stopped),
                turn = check.first_write_lock.lock() => turn,
            };
            // Writes that waited meanwhile check nothing more.
            if check.has_failed() {
                return Err(RequestAbort::Stopped);
            }
            // Check what an earlier run may have done before this run writes.
            self.confirm_first_writes(check).await?;
            if !check.is_proven(&scope) {
                let first = Box::pin(self.send_first_write(check, &scope, context, step, may_have_been_sent)).await;
                let first = self.count_unanswered(check, context, step, first).await;
                drop(turn);
                return first;
            }
        }
        let reply = self.send_later_write(check, &scope, context, step, may_have_been_sent).await?;
        self.expect_no_object_header(check, context, step, &reply).await?;
        Ok(reply)
    }

    /// If the manifest names missing objects, looks for this one before it waits its turn: a million missing objects
    /// need not wait for each other.
    async fn fail_if_missing(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<(), RequestAbort> {
        if !check.has_missing_objects.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.probe_content(context, step).await {
            Ok(ContentProbe::Missing(fault)) => Err(self.missing_object(check, context, step, *fault).await),
            Err(RequestAbort::Stopped) => Err(RequestAbort::Stopped),
            // The check meets any other error as well and interprets it.
            _ => Ok(()),
        }
    }

    /// Stops a job whose server gives no usable answer to several first writes. Sent one at a time, each with all its
    /// retries, its objects would fail for hours.
    async fn count_unanswered(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        first: Result<ObjectResponse, RequestAbort>,
    ) -> Result<ObjectResponse, RequestAbort> {
        let failure = match first {
            Err(RequestAbort::Failed(failure)) if failure.error.class.is_retryable() => failure,
            first => {
                check.unanswered_writes.store(0, Ordering::Relaxed);
                return first;
            }
        };
        let objects = check.unanswered_writes.fetch_add(1, Ordering::Relaxed) + 1;
        if objects < MAX_UNANSWERED {
            return Err(RequestAbort::Failed(failure));
        }
        let what = format!("requests for {objects} objects in a row failed, the last with {}", failure.error);
        let refusal = ServerCheckFailure::before_write(
            context.object,
            aspect_of(step),
            ServerCheckFailureKind::NoUsableAnswer,
            what,
        );
        check.fail(&refusal).await?;
        Err(RequestAbort::ServerUntrusted(Box::new(UntrustedServer {
            check_failure: refusal,
            object_failure: Some(*failure),
        })))
    }

    async fn send_first_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        may_have_been_sent: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        let before = self.content_before(check, scope, context, step).await?;
        if self.stop.is_cancelled() {
            return Err(RequestAbort::Stopped);
        }
        let write = FirstWrite { object: context.object.clone(), before: before.clone() };
        check.record_trust(scope, ServerTrust::Unconfirmed(write)).await?;
        check.push_backup().await?;
        let reply = match self.send_write(context, step, may_have_been_sent).await {
            Ok(reply) => reply,
            Err(RequestAbort::Failed(failure)) => {
                return self.interpret_write_error(check, scope, context, step, &before, *failure).await;
            }
            // An earlier attempt may have arrived: the next run checks.
            Err(abort) => return Err(abort),
        };
        let mut changed = None;
        if scope.aspect != ObjectAspect::Restoration {
            changed = self.probe_after_write(check, context, step, &before, Some(reply.status)).await?.changed;
        }
        self.expect_no_object_header(check, context, step, &reply).await?;
        let read = self.read_back(check, context, step, &before, reply.status).await?;
        if changed.is_some() {
            self.repeat_first_write(check, context, step).await?;
        }
        let sent = self.store.body_identity(&step.call);
        if sent.size > Some(0) && before.is_same_content(&sent) {
            let request = self.store.request_line(context.object, &step.call);
            let what = format!(
                "the content of {} is the body that {request} sends, so an earlier request has overwritten it",
                context.object
            );
            return self.fail_as_applied_to_object(check, context, step, Some(reply.status), what).await;
        }
        if before.has_same_size(&sent) || (read.is_some() && read == before.size) {
            // The object's content may be the very document that was sent or read. This write proves nothing, and the
            // next one is sent alone.
            check.forget_scope(scope).await?;
        } else {
            check.mark_proven(scope.clone()).await?;
        }
        Ok(reply)
    }

    /// Returns the content before the first write. Fails the check if reading shows that the server is not to be
    /// trusted, or if a change of content could not be detected.
    async fn content_before(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<ContentIdentity, RequestAbort> {
        if !check.read_proven.lock().contains(scope) {
            match self.check_subresource(context, scope.aspect, &step.operation).await? {
                ReadCheckOutcome::Proven => check.mark_read_proven(scope),
                ReadCheckOutcome::ObjectMissing(fault) => {
                    check.has_missing_objects.store(true, Ordering::Relaxed);
                    return Err(failed(&step.operation, *fault));
                }
                ReadCheckOutcome::RequestFailed(fault) => return Err(failed(&step.operation, *fault)),
                ReadCheckOutcome::CredentialsRejected(fault) => return Err(RequestAbort::CredentialsRejected(fault)),
                ReadCheckOutcome::ServerFailed(refusal) => return self.fail_check(check, *refusal).await,
                ReadCheckOutcome::Stopped => return Err(RequestAbort::Stopped),
            }
        }
        match self.content_baseline(context, scope.aspect, step).await? {
            ContentBaseline::Mark(mark) => Ok(mark),
            ContentBaseline::Missing(fault) => {
                check.has_missing_objects.store(true, Ordering::Relaxed);
                Err(self.missing_object(check, context, step, *fault).await)
            }
            ContentBaseline::ServerFailed(refusal) => self.fail_check(check, *refusal).await,
        }
    }

    /// Fails an object that HEAD does not find, with the error code of a request that returns one. If the object can
    /// be read although HEAD does not find it, no write could be checked, so the check fails.
    async fn missing_object(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        fault: StoreError,
    ) -> RequestAbort {
        let aspect = aspect_of(step);
        let Some(call) = aspect.read_request() else {
            return failed(&step.operation, with_missing_code(fault, context.object));
        };
        if let Err(abort) = self.send(context, &OperationStep { call, operation: step.operation.clone() }).await {
            return abort;
        }
        // The object may have been created in the meantime.
        let again = match self.probe_content(context, step).await {
            Ok(ContentProbe::Missing(again)) => again,
            Ok(ContentProbe::Present { .. }) => return failed(&step.operation, fault),
            Err(abort) => return abort,
        };
        let request = self.store.request_line(context.object, &ObjectRequest::Head);
        let what = format!("{request} returned {again}, although the object's {} can be read", aspect.sub_resource());
        let refusal =
            ServerCheckFailure::before_write(context.object, aspect, ServerCheckFailureKind::NotVerifiable, what);
        abort_check(check, refusal).await
    }

    /// Fails the check before anything was written, or if the result of a write is unknown.
    async fn fail_check<T>(&self, check: &ServerCheck, refusal: ServerCheckFailure) -> Result<T, RequestAbort> {
        Err(abort_check(check, refusal).await)
    }

    /// Fails the check after a write. The object fails with a message that says what the server did.
    async fn fail_check_after_write<T>(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        status: Option<u16>,
        (kind, what): (ServerCheckFailureKind, String),
    ) -> Result<T, RequestAbort> {
        let refusal = check.failure_of_write(context.object, aspect_of(step), kind, what);
        let url = self.store.request_line(context.object, &step.call);
        let code =
            if refusal.kind == ServerCheckFailureKind::WriteNotStored { WRITE_NOT_KEPT } else { SERVER_CHECK_FAILED };
        let fault = StoreError::without_response(FaultClass::Rejected, code, &refusal.to_string(), url);
        let failure = TaskFailure { operation: step.operation.clone(), error: StoreError { status, ..fault } };
        check.fail(&refusal).await?;
        Err(RequestAbort::ServerUntrusted(Box::new(UntrustedServer {
            check_failure: refusal,
            object_failure: Some(failure),
        })))
    }

    /// Fails the check after a write that the server applied to the object itself.
    async fn fail_as_applied_to_object<T>(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        status: Option<u16>,
        what: String,
    ) -> Result<T, RequestAbort> {
        let failure = (ServerCheckFailureKind::AppliedToObject, what);
        self.fail_check_after_write(check, context, step, status, failure).await
    }

    /// Fails the check if the answer to a write has a header of the object itself.
    async fn expect_no_object_header(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        reply: &ObjectResponse,
    ) -> Result<(), RequestAbort> {
        let Some(header) = object_header(&step.call, reply.headers) else { return Ok(()) };
        let request = self.store.request_line(context.object, &step.call);
        let what = format!("{request} returned the header {}, like a request for the object itself", header.as_str());
        self.fail_as_applied_to_object(check, context, step, Some(reply.status), what).await
    }

    /// Sends HEAD after the write and fails if the object has changed. Returns whether it shows a restore.
    async fn expect_unchanged(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        before: &ContentIdentity,
        status: Option<u16>,
    ) -> Result<bool, RequestAbort> {
        match self.probe_after_write(check, context, step, before, status).await? {
            PostWriteProbe { restore, changed: None } => Ok(restore),
            PostWriteProbe { changed: Some(what), .. } => {
                self.fail_as_applied_to_object(check, context, step, status, what).await
            }
        }
    }

    /// Like `expect_unchanged`, but a different content of the same length is only reported, because another client
    /// may have written the object in the meantime. A content as long as the request's body is the server's fault.
    async fn probe_after_write(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        before: &ContentIdentity,
        status: Option<u16>,
    ) -> Result<PostWriteProbe, RequestAbort> {
        let request = self.store.request_line(context.object, &step.call);
        let what = match self.probe_content(context, step).await {
            Ok(ContentProbe::Present { mark, restore }) if mark.is_same_content(before) => {
                return Ok(PostWriteProbe { restore, changed: None });
            }
            Ok(ContentProbe::Present { mark, restore }) => {
                let what = format!("before {request}, HEAD returned {before}; after it, {mark}");
                let as_long = mark.etag.is_some() && mark.has_same_size(before);
                if as_long && !mark.has_same_size(&self.store.body_identity(&step.call)) {
                    return Ok(PostWriteProbe { restore, changed: Some(what) });
                }
                what
            }
            Ok(ContentProbe::Missing(fault)) => format!("before {request}, HEAD returned {before}; after it, {fault}"),
            Err(RequestAbort::Failed(failure)) => {
                return self.fail_unverifiable(check, context, step, &failure.error).await;
            }
            Err(abort) => return Err(abort),
        };
        self.fail_as_applied_to_object(check, context, step, status, what).await
    }

    /// Repeats a first write on the same object after its content has changed. If it changes again, that is the
    /// server's fault.
    async fn repeat_first_write(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<(), RequestAbort> {
        let before = match self.content_baseline(context, aspect_of(step), step).await? {
            ContentBaseline::Mark(mark) => mark,
            ContentBaseline::Missing(fault) => return self.fail_unverifiable(check, context, step, &fault).await,
            ContentBaseline::ServerFailed(refusal) => return self.fail_check(check, *refusal).await,
        };
        let reply = self.send_write(context, step, true).await?;
        let _ = self.expect_unchanged(check, context, step, &before, Some(reply.status)).await?;
        Ok(())
    }

    /// Fails the check because the result of the first write cannot be checked. The next run checks it before it
    /// sends anything.
    async fn fail_unverifiable<T>(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        fault: &StoreError,
    ) -> Result<T, RequestAbort> {
        let request = self.store.request_line(context.object, &step.call);
        let what = format!("the first write was sent ({request}), but its effect could not be checked: {fault}");
        let refusal = ServerCheckFailure::before_write(
            context.object,
            aspect_of(step),
            ServerCheckFailureKind::NotVerifiable,
            what,
        );
        self.fail_check(check, refusal).await
    }

    /// Reads back what was written, repeatedly for a while if it differs, and fails the check if it still differs.
    /// Returns the length of the document, if there is one.
    async fn read_back(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        before: &ContentIdentity,
        status: u16,
    ) -> Result<Option<u64>, RequestAbort> {
        let mut waits = READ_BACK_DELAYS.iter();
        loop {
            let found = if let Some(call) = aspect_of(step).read_request() {
                self.read_back_once(check, context, step, call, status).await?
            } else if self.expect_unchanged(check, context, step, before, Some(status)).await? {
                Ok(None)
            } else {
                Err("HEAD shows no restore".to_owned())
            };
            let found = match found {
                Ok(size) => return Ok(size),
                Err(found) => found,
            };
            let Some(wait) = waits.next() else {
                let request = self.store.request_line(context.object, &step.call);
                let what = format!("{request} returned {status} and the object itself is unchanged, but {found}");
                return self
                    .fail_check_after_write(
                        check,
                        context,
                        step,
                        Some(status),
                        (ServerCheckFailureKind::WriteNotStored, what),
                    )
                    .await;
            };
            tokio::time::sleep(scaled(*wait)).await;
        }
    }

    /// Reads back what was written: returns the length of its document, or a description of the difference.
    async fn read_back_once(
        &self,
        check: &ServerCheck,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        call: ObjectRequest,
        status: u16,
    ) -> Result<Result<Option<u64>, String>, RequestAbort> {
        let read = OperationStep { call, operation: step.operation.clone() };
        let request = self.store.request_line(context.object, &read.call);
        match self.send(context, &read).await {
            Ok(reply) => {
                let difference = object_header(&read.call, reply.headers)
                    .map(|header| format!("{request} returned the header {}", header.as_str()))
                    .or_else(|| describe_difference(&step.call, &reply.data));
                Ok(difference.map_or(Ok(Some(reply.body_bytes)), Err))
            }
            Err(RequestAbort::Failed(failure)) if failure.error.class == FaultClass::Rejected => {
                let what = format!("after the first write, {request} returned {}", failure.error);
                self.fail_as_applied_to_object(check, context, step, Some(status), what).await
            }
            Err(RequestAbort::Failed(failure)) => self.fail_unverifiable(check, context, step, &failure.error).await,
            Err(abort) => Err(abort),
        }
    }

    /// Interprets a first write that was rejected or never answered.
    async fn interpret_write_error(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        before: &ContentIdentity,
        failure: TaskFailure,
    ) -> Result<ObjectResponse, RequestAbort> {
        let fault = &failure.error;
        let support = request_support(&step.call, fault);
        // Checked for every error: a server that does not know the request may have changed the object before it
        // answered with an error.
        let _ = self.expect_unchanged(check, context, step, before, fault.status).await?;
        match support {
            RequestSupport::Unsupported => {
                let request = self.store.request_line(context.object, &step.call);
                let what = format!("{request} returned {fault}; the object is unchanged");
                check.forget_scope(scope).await?;
                let refusal = ServerCheckFailure::before_write(
                    context.object,
                    scope.aspect,
                    ServerCheckFailureKind::Unsupported,
                    what,
                );
                self.fail_check(check, refusal).await
            }
            RequestSupport::Supported => {
                check.mark_proven(scope.clone()).await?;
                Err(RequestAbort::Failed(Box::new(failure)))
            }
            RequestSupport::Unclear => {
                check.forget_scope(scope).await?;
                Err(RequestAbort::Failed(Box::new(failure)))
            }
        }
    }

    /// Checks every object whose first write was sent by an earlier run that did not record the result.
    async fn confirm_first_writes(&self, check: &ServerCheck) -> Result<(), RequestAbort> {
        let unconfirmed: Vec<_> = check.unconfirmed.lock().clone().into_iter().collect();
        for (scope, write) in unconfirmed {
            self.confirm_first_write(check, &scope, write).await?;
        }
        Ok(())
    }

    async fn confirm_first_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        write: FirstWrite,
    ) -> Result<(), RequestAbort> {
        let FirstWrite { object, before } = write;
        let context = ObjectContext::new(&object);
        let step = OperationStep { call: ObjectRequest::Head, operation: String::new() };
        let what = match self.probe_content(&context, &step).await {
            Ok(ContentProbe::Present { mark, .. }) if mark.is_same_content(&before) => {
                check.unconfirmed.lock().remove(scope);
                return Ok(check.forget_scope(scope).await?);
            }
            Ok(ContentProbe::Present { mark, .. }) => mark.to_string(),
            Ok(ContentProbe::Missing(fault)) => fault.to_string(),
            Err(RequestAbort::Failed(failure)) => {
                let what = format!(
                    "an earlier run sent a first write, but its effect could not be checked: {}",
                    failure.error
                );
                let refusal = ServerCheckFailure::before_write(
                    &object,
                    scope.aspect,
                    ServerCheckFailureKind::NotVerifiable,
                    what,
                );
                return self.fail_check(check, refusal).await;
            }
            Err(abort) => return Err(abort),
        };
        let what = format!(
            "an earlier run sent the first write to {object}: before it, HEAD returned {before}; now it returns {what}"
        );
        let refusal = check.failure_of_write(&object, scope.aspect, ServerCheckFailureKind::AppliedToObject, what);
        self.fail_check(check, refusal).await
    }
}

/// The writes that follow the first one are sampled.
impl RequestSender {
    /// Sends a write of a proven scope. If it is a sample, checks the object before and after it.
    async fn send_later_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        may_have_been_sent: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        if !check.is_sample(scope) {
            return self.send_write(context, step, may_have_been_sent).await;
        }
        let before = match self.probe_once(context).await? {
            Some(ContentProbe::Present { mark, .. }) if mark.etag.is_some() => mark,
            Some(ContentProbe::Missing(fault)) if !self.subresource_readable(context, step).await? => {
                return Err(self.missing_object(check, context, step, *fault).await);
            }
            // The object exists although HEAD says that it does not: this is not the object's fault.
            Some(ContentProbe::Missing(_)) => {
                check.revoke_proof(scope).await?;
                return Box::pin(self.write_checked(context, step, may_have_been_sent)).await;
            }
            // For example, an object that only its owner may read.
            _ if check.record_failed_sample(scope).await? => {
                return Box::pin(self.write_checked(context, step, may_have_been_sent)).await;
            }
            _ => return self.send_write(context, step, may_have_been_sent).await,
        };
        let reply = self.send_write(context, step, may_have_been_sent).await?;
        let request = self.store.request_line(context.object, &step.call);
        let (found, is_servers_doing) = match self.probe_once(context).await? {
            Some(ContentProbe::Present { mark, .. }) if mark.is_same_content(&before) => {
                check.failed_samples.store(0, Ordering::Relaxed);
                return Ok(reply);
            }
            Some(ContentProbe::Present { mark, .. }) => {
                (mark.to_string(), self.matches_sent_body(step, &before, &mark))
            }
            Some(ContentProbe::Missing(fault)) => (fault.to_string(), step.call == ObjectRequest::DeleteTags),
            None => {
                check.record_failed_sample(scope).await?;
                return Ok(reply);
            }
        };
        let what = format!("before {request}, HEAD returned {before}; after it, {found}");
        if is_servers_doing {
            return self.fail_as_applied_to_object(check, context, step, Some(reply.status), what).await;
        }
        self.fail_changed_object(check, scope, context, step, (reply.status, what)).await
    }

    /// Fails an object whose content has changed during its write for an unknown reason. A second one before the
    /// scope is proven again stops the job.
    async fn fail_changed_object<T>(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        context: &ObjectContext<'_>,
        step: &OperationStep,
        (status, what): (u16, String),
    ) -> Result<T, RequestAbort> {
        if check.revoke_after_change(scope).await? {
            return self.fail_as_applied_to_object(check, context, step, Some(status), what).await;
        }
        let url = self.store.request_line(context.object, &step.call);
        let fault = StoreError::without_response(FaultClass::Rejected, CONTENT_CHANGED, &what, url);
        Err(failed(&step.operation, StoreError { status: Some(status), ..fault }))
    }

    /// Sends HEAD once without a retry, since other objects are written meanwhile. Returns `None` if it shows
    /// nothing.
    async fn probe_once(&self, context: &ObjectContext<'_>) -> Result<Option<ContentProbe>, RequestAbort> {
        match self.attempt(context, &ObjectRequest::Head, false).await? {
            Ok(ObjectResponse { data: ResponseData::Head { content: mark, .. }, headers, .. }) => {
                Ok(Some(ContentProbe::Present { mark, restore: headers.contains(ObjectHeader::Restore) }))
            }
            Err(fault) if fault.class == FaultClass::Credentials => {
                Err(RequestAbort::CredentialsRejected(Box::new(fault)))
            }
            Err(fault) if matches!(fault.status, Some(404 | 405 | 410)) => {
                Ok(Some(ContentProbe::Missing(Box::new(fault))))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Returns whether the object's tags or ACL can be read, which means that the object exists, whatever HEAD says.
    async fn subresource_readable(
        &self,
        context: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<bool, RequestAbort> {
        let Some(call) = aspect_of(step).read_request() else { return Ok(false) };
        match self.send(context, &OperationStep { call, operation: step.operation.clone() }).await {
            Ok(_) => Ok(true),
            Err(RequestAbort::Failed(_)) => Ok(false),
            Err(abort) => Err(abort),
        }
    }

    /// Returns whether a new content is as long as the body of the request.
    fn matches_sent_body(&self, step: &OperationStep, before: &ContentIdentity, after: &ContentIdentity) -> bool {
        let sent = self.store.body_identity(&step.call);
        let emptied = sent.size == Some(0) && after.size == Some(0) && before.size != Some(0);
        emptied || (after.has_same_size(&sent) && !before.has_same_size(&sent))
    }
}

fn is_sample(write: u64) -> bool {
    if write < DENSE_SAMPLING_UNTIL { write.is_power_of_two() } else { write.is_multiple_of(SAMPLING_INTERVAL) }
}

/// Fails the check without an outcome for the object.
async fn abort_check(check: &ServerCheck, refusal: ServerCheckFailure) -> RequestAbort {
    let refusal = check.with_others_written(refusal);
    match check.fail(&refusal).await {
        Ok(()) => RequestAbort::ServerUntrusted(Box::new(refusal.without_outcome())),
        Err(error) => error.into(),
    }
}

fn aspect_of(step: &OperationStep) -> ObjectAspect {
    ObjectAspect::of(&step.call).unwrap_or(ObjectAspect::Tags)
}

/// What an error answer to the first write shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestSupport {
    /// The server does not know the request.
    Unsupported,
    /// The server knows the request.
    Supported,
    /// Nothing: the request was rejected for its content, or did not arrive.
    Unclear,
}

/// Errors that the services document for restores only.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html>
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
const RESTORE_ERROR_CODES: [&str; 6] = [
    "RestoreAlreadyInProgress",
    "GlacierExpeditedRetrievalNotAvailable",
    "ObjectAlreadyInActiveTierError",
    "InvalidObjectState",
    "ObjectRestoreNotNeeded",
    "OperationNotSupported",
];

/// Errors with which a server that knows restores rejects an invalid request.
const INVALID_REQUEST_CODES: [&str; 4] = ["InvalidArgument", "InvalidRequest", "MalformedXML", "InvalidTier"];

fn request_support(call: &ObjectRequest, fault: &StoreError) -> RequestSupport {
    let unknown = is_unknown_to_server(fault) || fault.status == Some(405);
    match call {
        _ if unknown => RequestSupport::Unsupported,
        ObjectRequest::Restore(_) if RESTORE_ERROR_CODES.contains(&fault.code.as_str()) => RequestSupport::Supported,
        ObjectRequest::Restore(_)
            if fault.status == Some(400) && !INVALID_REQUEST_CODES.contains(&fault.code.as_str()) =>
        {
            RequestSupport::Unsupported
        }
        _ => RequestSupport::Unclear,
    }
}

/// Describes how the value read back differs from what was sent; `None` if they are equal.
fn describe_difference(sent: &ObjectRequest, found: &ResponseData) -> Option<String> {
    match ObjectAspect::of(sent) {
        Some(aspect) => aspect.rules().difference(sent, found),
        None => Some("it cannot be read".to_owned()),
    }
}

/// Gives the fault of an object that HEAD does not find the error code of other requests, since an answer to HEAD has
/// no error document.
fn with_missing_code(fault: StoreError, object: &ObjectId) -> StoreError {
    if fault.status != Some(404) || fault.code.starts_with("NoSuch") {
        return fault;
    }
    let code = if object.version.is_some() { "NoSuchVersion" } else { "NoSuchKey" };
    StoreError { code: code.to_owned(), message: "the object does not exist".to_owned(), ..fault }
}

#[cfg(test)]
#[path = "write_check_tests.rs"]
mod tests;
