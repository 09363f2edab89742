//! Samples the writes that follow the first one: a server may be several machines behind one name, and may be
//! replaced while a job runs.
//!
//! A content as long as the request's body, or one that is gone after tags were deleted, is the server's fault. Any
//! other change of content during a write may also come from another client. So the object fails with both contents
//! in its message, and the next write of the scope is sent alone again, which shows the cause. A second change before
//! the scope is proven again is unlikely to come from another client, and stops the job.

use std::sync::atomic::Ordering;

use super::writes::{Content, aspect_of};
use super::{CONTENT_CHANGED, RefusalKind, ServerCheck, locked};
use crate::call::{Call, ContentMark, Learned, ObjectHeader, Reply};
use crate::engine::worker::{Halt, Visit, Worker, failed};
use crate::journal::TrustScope;
use crate::operation::Step;
use crate::task::{Fault, FaultClass};

/// Up to this many writes of a scope, each write whose number is a power of two is sampled.
const OFTEN_UNTIL: u64 = 1024;

/// Beyond that, each write whose number is a multiple of this is sampled.
const ONE_IN: u64 = 1000;

/// The number of consecutive failed samples from which on single objects are no longer the likely cause.
const MOST_UNSEEN: u32 = 10;

impl ServerCheck {
    /// Counts a write of a proven scope. Returns whether to sample it.
    fn is_sample(&self, scope: &TrustScope) -> bool {
        let mut proven = locked(&self.proven);
        let Some(writes) = proven.get_mut(scope) else { return false };
        *writes += 1;
        // The next write makes up for a sample that could not be checked.
        is_sample(*writes) || self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Records that a sample could not be checked. Returns true if that happened too often: the first write has shown
    /// that HEAD works here, and it no longer does, so the next write is sent alone.
    async fn too_many_unseen(&self, scope: &TrustScope) -> Result<bool, Halt> {
        if self.unseen.fetch_add(1, Ordering::Relaxed) + 1 < MOST_UNSEEN {
            return Ok(false);
        }
        self.unseen.store(0, Ordering::Relaxed);
        self.unprove(scope).await?;
        Ok(true)
    }
}

impl Worker {
    /// Sends a write of a proven scope. If it is a sample, checks the object before and after it.
    pub(super) async fn later_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &Visit<'_>,
        step: &Step,
        asked_before: bool,
    ) -> Result<Reply, Halt> {
        if !check.is_sample(scope) {
            return self.send_write(visit, step, asked_before).await;
        }
        let before = match self.look_once(visit).await? {
            Some(Content::There { mark, .. }) if mark.etag.is_some() => mark,
            Some(Content::Gone(fault)) if !self.reads(visit, step).await? => {
                return Err(self.missing(check, visit, step, *fault).await);
            }
            // The object exists although HEAD says that it does not: this is not the object's fault.
            Some(Content::Gone(_)) => {
                check.unprove(scope).await?;
                return Box::pin(self.write(visit, step, asked_before)).await;
            }
            // For example, an object that only its owner may read.
            _ if check.too_many_unseen(scope).await? => return Box::pin(self.write(visit, step, asked_before)).await,
            _ => return self.send_write(visit, step, asked_before).await,
        };
        let reply = self.send_write(visit, step, asked_before).await?;
        let asked = self.store.request_url(visit.object, &step.call);
        let (found, is_servers_doing) = match self.look_once(visit).await? {
            Some(Content::There { mark, .. }) if mark.is_same_content(&before) => {
                check.unseen.store(0, Ordering::Relaxed);
                return Ok(reply);
            }
            Some(Content::There { mark, .. }) => (mark.to_string(), self.is_what_was_sent(step, &before, &mark)),
            Some(Content::Gone(fault)) => (fault.to_string(), step.call == Call::DeleteTags),
            None => {
                check.too_many_unseen(scope).await?;
                return Ok(reply);
            }
        };
        let what = format!("after {asked} HEAD says {found}, and before it said {before}");
        if is_servers_doing {
            let refusal = (RefusalKind::TakesForObject, what);
            return self.refused(check, visit, step, Some(reply.status), refusal).await;
        }
        self.changed(check, scope, visit, step, (reply.status, what)).await
    }

    /// Fails an object whose content has changed during its write for an unknown reason. A second one before the
    /// scope is proven again stops the job.
    pub(super) async fn changed<T>(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &Visit<'_>,
        step: &Step,
        (status, what): (u16, String),
    ) -> Result<T, Halt> {
        if check.doubt(scope).await? {
            return self.refused(check, visit, step, Some(status), (RefusalKind::TakesForObject, what)).await;
        }
        let url = self.store.request_url(visit.object, &step.call);
        let fault = Fault::unanswered(FaultClass::Rejected, CONTENT_CHANGED, &what, url);
        Err(failed(&step.operation, Fault { status: Some(status), ..fault }))
    }

    /// Sends HEAD once without a retry, since other objects are written meanwhile. Returns `None` if it shows
    /// nothing.
    async fn look_once(&self, visit: &Visit<'_>) -> Result<Option<Content>, Halt> {
        match self.attempt(visit, &Call::Head, false).await? {
            Ok(Reply { learned: Learned::Head { content: mark, .. }, headers, .. }) => {
                Ok(Some(Content::There { mark, restore: headers.has(ObjectHeader::Restore) }))
            }
            Err(fault) if fault.class == FaultClass::Credentials => Err(Halt::Refused(Box::new(fault))),
            Err(fault) if matches!(fault.status, Some(404 | 405 | 410)) => Ok(Some(Content::Gone(Box::new(fault)))),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Returns whether the object's tags or ACL can be read, which means that the object exists, whatever HEAD says.
    async fn reads(&self, visit: &Visit<'_>, step: &Step) -> Result<bool, Halt> {
        let Some(call) = aspect_of(step).read() else { return Ok(false) };
        match self.send(visit, &Step { call, operation: step.operation.clone() }).await {
            Ok(_) => Ok(true),
            Err(Halt::Failed(_)) => Ok(false),
            Err(halt) => Err(halt),
        }
    }

    /// Returns whether a new content is as long as the body of the request.
    fn is_what_was_sent(&self, step: &Step, before: &ContentMark, after: &ContentMark) -> bool {
        let sent = self.store.body_mark(&step.call);
        let emptied = sent.size == Some(0) && after.size == Some(0) && before.size != Some(0);
        emptied || (after.is_as_long_as(&sent) && !before.is_as_long_as(&sent))
    }
}

fn is_sample(write: u64) -> bool {
    if write < OFTEN_UNTIL { write.is_power_of_two() } else { write.is_multiple_of(ONE_IN) }
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
