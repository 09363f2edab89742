//! Samples the writes that follow the first one: a server may be several machines behind one name, and may be
//! replaced while a job runs.
//!
//! A content as long as the request's body, or one that is gone after tags were deleted, is the server's fault. Any
//! other change of content during a write may also come from another client. So the object fails with both contents
//! in its message, and the next write of the scope is sent alone again, which shows the cause. A second change before
//! the scope is proven again is unlikely to come from another client, and stops the job.

use std::sync::atomic::Ordering;

use batchplan_store::object_request::{ContentIdentity, ObjectHeader, ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError};

use super::first_write::{ContentProbe, aspect_of};
use super::{CONTENT_CHANGED, ServerCheck, ServerCheckFailureKind, lock};
use crate::engine::worker::{ObjectContext, RequestAbort, Worker, failed};
use crate::journal::TrustScope;
use crate::operation::OperationStep;

/// Up to this many writes of a scope, each write whose number is a power of two is sampled.
const DENSE_SAMPLING_UNTIL: u64 = 1024;

/// Beyond that, each write whose number is a multiple of this is sampled.
const SAMPLING_INTERVAL: u64 = 1000;

/// The number of consecutive failed samples from which on single objects are no longer the likely cause.
const MAX_FAILED_SAMPLES: u32 = 10;

impl ServerCheck {
    /// Counts a write of a proven scope. Returns whether to sample it.
    fn is_sample(&self, scope: &TrustScope) -> bool {
        let mut proven = lock(&self.proven);
        let Some(writes) = proven.get_mut(scope) else { return false };
        *writes += 1;
        // The next write makes up for a sample that could not be checked.
        is_sample(*writes) || self.failed_samples.load(Ordering::Relaxed) > 0
    }

    /// Records that a sample could not be checked. Returns true if that happened too often: the first write has shown
    /// that HEAD works here, and it no longer does, so the next write is sent alone.
    async fn record_failed_sample(&self, scope: &TrustScope) -> Result<bool, RequestAbort> {
        if self.failed_samples.fetch_add(1, Ordering::Relaxed) + 1 < MAX_FAILED_SAMPLES {
            return Ok(false);
        }
        self.failed_samples.store(0, Ordering::Relaxed);
        self.revoke_proof(scope).await?;
        Ok(true)
    }
}

impl Worker {
    /// Sends a write of a proven scope. If it is a sample, checks the object before and after it.
    pub(super) async fn send_later_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        asked_before: bool,
    ) -> Result<ObjectResponse, RequestAbort> {
        if !check.is_sample(scope) {
            return self.send_write(visit, step, asked_before).await;
        }
        let before = match self.probe_once(visit).await? {
            Some(ContentProbe::Present { mark, .. }) if mark.etag.is_some() => mark,
            Some(ContentProbe::Missing(fault)) if !self.subresource_readable(visit, step).await? => {
                return Err(self.missing_object(check, visit, step, *fault).await);
            }
            // The object exists although HEAD says that it does not: this is not the object's fault.
            Some(ContentProbe::Missing(_)) => {
                check.revoke_proof(scope).await?;
                return Box::pin(self.write_checked(visit, step, asked_before)).await;
            }
            // For example, an object that only its owner may read.
            _ if check.record_failed_sample(scope).await? => {
                return Box::pin(self.write_checked(visit, step, asked_before)).await;
            }
            _ => return self.send_write(visit, step, asked_before).await,
        };
        let reply = self.send_write(visit, step, asked_before).await?;
        let asked = self.store.request_line(visit.object, &step.call);
        let (found, is_servers_doing) = match self.probe_once(visit).await? {
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
        let what = format!("before {asked}, HEAD returned {before}; after it, {found}");
        if is_servers_doing {
            let refusal = (ServerCheckFailureKind::AppliedToObject, what);
            return self.fail_check_after_write(check, visit, step, Some(reply.status), refusal).await;
        }
        self.fail_changed_object(check, scope, visit, step, (reply.status, what)).await
    }

    /// Fails an object whose content has changed during its write for an unknown reason. A second one before the
    /// scope is proven again stops the job.
    pub(super) async fn fail_changed_object<T>(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &ObjectContext<'_>,
        step: &OperationStep,
        (status, what): (u16, String),
    ) -> Result<T, RequestAbort> {
        if check.revoke_after_change(scope).await? {
            return self
                .fail_check_after_write(
                    check,
                    visit,
                    step,
                    Some(status),
                    (ServerCheckFailureKind::AppliedToObject, what),
                )
                .await;
        }
        let url = self.store.request_line(visit.object, &step.call);
        let fault = StoreError::without_response(FaultClass::Rejected, CONTENT_CHANGED, &what, url);
        Err(failed(&step.operation, StoreError { status: Some(status), ..fault }))
    }

    /// Sends HEAD once without a retry, since other objects are written meanwhile. Returns `None` if it shows
    /// nothing.
    async fn probe_once(&self, visit: &ObjectContext<'_>) -> Result<Option<ContentProbe>, RequestAbort> {
        match self.attempt(visit, &ObjectRequest::Head, false).await? {
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
        visit: &ObjectContext<'_>,
        step: &OperationStep,
    ) -> Result<bool, RequestAbort> {
        let Some(call) = aspect_of(step).read_request() else { return Ok(false) };
        match self.send(visit, &OperationStep { call, operation: step.operation.clone() }).await {
            Ok(_) => Ok(true),
            Err(RequestAbort::Failed(_)) => Ok(false),
            Err(halt) => Err(halt),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_dense_at_first_and_one_in_a_thousand_then() {
        let samples: Vec<_> = (1..=4000).filter(|write| is_sample(*write)).collect();
        assert_eq!(samples, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2000, 3000, 4000]);
    }
}
