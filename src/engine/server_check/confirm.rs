//! Checks first writes that an earlier run has sent and whose result is unknown.

use super::writes::Content;
use super::{RefusalKind, ServerCheck, ServerRefusal, locked};
use crate::call::Call;
use crate::engine::worker::{Halt, Visit, Worker};
use crate::journal::{FirstWrite, TrustScope};
use crate::operation::Step;

impl Worker {
    /// Checks every object whose first write was sent by an earlier run that did not record the result.
    pub(super) async fn confirm_all(&self, check: &ServerCheck) -> Result<(), Halt> {
        let unconfirmed: Vec<_> = locked(&check.unconfirmed).clone().into_iter().collect();
        for (scope, write) in unconfirmed {
            self.confirm(check, &scope, write).await?;
        }
        Ok(())
    }

    async fn confirm(&self, check: &ServerCheck, scope: &TrustScope, write: FirstWrite) -> Result<(), Halt> {
        let FirstWrite { object, before } = write;
        let visit = Visit::new(&object);
        let step = Step { call: Call::Head, operation: String::new() };
        let what = match self.content(&visit, &step).await {
            Ok(Content::There { mark, .. }) if mark.is_same_content(&before) => {
                locked(&check.unconfirmed).remove(scope);
                return check.clear(scope).await;
            }
            Ok(Content::There { mark, .. }) => format!("it has {mark} now"),
            Ok(Content::Gone(fault)) => format!("HEAD says {fault} now"),
            Err(Halt::Failed(failure)) => {
                let what = format!(
                    "an earlier run has sent a first write, and a look at what it has done failed: {}",
                    failure.fault
                );
                let refusal = ServerRefusal::of_read(&object, scope.aspect, RefusalKind::Unseen, what);
                return self.distrust(check, refusal).await;
            }
            Err(halt) => return Err(halt),
        };
        let what = format!("an earlier run has sent the first write of {object}, which had {before} before; {what}");
        let refusal = check.refusal_of_write(&object, scope.aspect, RefusalKind::TakesForObject, what);
        self.distrust(check, refusal).await
    }
}
