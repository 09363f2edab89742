//! Looks at some of the writes that follow the first: a server may be several machines behind one name, and be replaced while a
//! job runs.
//!
//! A content that is as long as what was sent, or gone after tags were deleted, is the server's doing. Any other that changes
//! across a write may also come from another client. So the object fails, with both contents in its message, and the next write of
//! the scope is sent alone again: that one shows which of the two it was. A second change before that is too much of a chance.

use std::sync::atomic::Ordering;

use super::writes::{Content, aspect_of};
use super::{CONTENT_CHANGED, RefusalKind, ServerCheck, locked};
use crate::call::{Call, ContentMark, Learned, ObjectHeader, Reply};
use crate::engine::worker::{Halt, Visit, Worker, failed};
use crate::journal::TrustScope;
use crate::operation::Step;
use crate::task::{Fault, FaultClass};

/// Up to this many writes of a scope those are looked at whose number is a power of two.
const OFTEN_UNTIL: u64 = 1024;

/// Beyond that, each write whose number is a multiple of this.
const ONE_IN: u64 = 1000;

/// So many samples in a row that cannot be looked at are no matter of single objects any more.
const MOST_UNSEEN: u32 = 10;

impl ServerCheck {
    /// Counts a write of a proven scope; whether it is one to look at.
    fn is_sample(&self, scope: &TrustScope) -> bool {
        let mut proven = locked(&self.proven);
        let Some(writes) = proven.get_mut(scope) else { return false };
        *writes += 1;
        // One that could not be looked at is made up for by the next.
        is_sample(*writes) || self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Notes that a sample could not be looked at. Where that goes on, the first write has shown that HEAD works here, and it
    /// does not any more: the next write goes alone.
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
    /// Sends a write of a scope that has proven itself, and looks at the object before and after it if its turn has come.
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
            // It is there, and HEAD says that it is not: no matter of this object.
            Some(Content::Gone(_)) => {
                check.unprove(scope).await?;
                return Box::pin(self.write(visit, step, asked_before)).await;
            }
            // Such as an object that only its owner may look at.
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

    /// Fails an object whose content has changed while it was written, for reasons unknown. A second one before the scope has
    /// proven itself again ends the job.
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

    /// One look at the object, and no second attempt: others are written meanwhile. `None` where it shows nothing.
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

    /// Whether the tags or the ACL of an object can be read: then it is there, whatever HEAD says.
    async fn reads(&self, visit: &Visit<'_>, step: &Step) -> Result<bool, Halt> {
        let Some(call) = aspect_of(step).read() else { return Ok(false) };
        match self.send(visit, &Step { call, operation: step.operation.clone() }).await {
            Ok(_) => Ok(true),
            Err(Halt::Failed(_)) => Ok(false),
            Err(halt) => Err(halt),
        }
    }

    /// Whether a content that is new is as long as the body of the request.
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
