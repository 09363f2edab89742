//! Looks at some of the writes that follow the first: a server may be several machines behind one name, and be replaced while a
//! job runs.
//!
//! A content that changes across a write may also be somebody else's doing. So the object fails, with both contents in its
//! message, and the next write of the scope is sent alone again: that one shows which of the two it was.

use super::writes::Content;
use super::{CONTENT_CHANGED, ServerCheck, locked};
use crate::call::Reply;
use crate::engine::worker::{Halt, Visit, Worker, failed};
use crate::journal::TrustScope;
use crate::operation::{Aspect, Step};
use crate::task::{Fault, FaultClass};

/// Up to this many writes of a scope those are looked at whose number is a power of two.
const OFTEN_UNTIL: u64 = 1024;

/// Beyond that, one write in so many.
const ONE_IN: u64 = 1000;

impl ServerCheck {
    /// Counts a write of a proven scope; whether it is one to look at.
    fn is_sample(&self, scope: &TrustScope) -> bool {
        let mut proven = locked(&self.proven);
        let Some(writes) = proven.get_mut(scope) else { return false };
        *writes += 1;
        is_sample(*writes)
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
        // A restore sends no document that could take the object's place.
        if scope.aspect == Aspect::Restoration || !check.is_sample(scope) {
            return self.send_write(visit, step, asked_before).await;
        }
        // A look that fails is no reason to leave the object undone: the first write has shown that HEAD is allowed.
        let before = match self.content(visit, step).await {
            Ok(Content::There { mark, .. }) if mark.etag.is_some() => mark,
            Err(halt @ (Halt::Refused(_) | Halt::Stopped)) => return Err(halt),
            _ => return self.send_write(visit, step, asked_before).await,
        };
        let reply = self.send_write(visit, step, asked_before).await?;
        let found = match self.content(visit, step).await {
            Ok(Content::There { mark, .. }) if mark == before => return Ok(reply),
            Ok(Content::There { mark, .. }) => mark.to_string(),
            Ok(Content::Gone(fault)) => fault.to_string(),
            Err(_) => return Ok(reply),
        };
        check.doubt(scope).await?;
        let url = self.store.request_url(visit.object, &step.call);
        let what = format!("after {url} HEAD says {found}, and before it said {before}");
        let fault = Fault::unanswered(FaultClass::Rejected, CONTENT_CHANGED, &what, url);
        Err(failed(&step.operation, Fault { status: Some(reply.status), ..fault }))
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
