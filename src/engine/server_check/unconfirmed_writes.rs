//! Checks first writes that an earlier run has sent and whose result is unknown.

use batchplan_store::object_request::ObjectRequest;

use super::first_write::ContentProbe;
use super::{ServerCheck, ServerCheckFailure, ServerCheckFailureKind, lock};
use crate::engine::worker::{ObjectContext, RequestAbort, Worker};
use crate::journal::{FirstWrite, TrustScope};
use crate::operation::OperationStep;

impl Worker {
    /// Checks every object whose first write was sent by an earlier run that did not record the result.
    pub(super) async fn confirm_first_writes(&self, check: &ServerCheck) -> Result<(), RequestAbort> {
        let unconfirmed: Vec<_> = lock(&check.unconfirmed).clone().into_iter().collect();
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
        let visit = ObjectContext::new(&object);
        let step = OperationStep { call: ObjectRequest::Head, operation: String::new() };
        let what = match self.probe_content(&visit, &step).await {
            Ok(ContentProbe::Present { mark, .. }) if mark.is_same_content(&before) => {
                lock(&check.unconfirmed).remove(scope);
                return check.forget_scope(scope).await;
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
            Err(halt) => return Err(halt),
        };
        let what = format!(
            "an earlier run sent the first write to {object}: before it, HEAD returned {before}; now it returns {what}"
        );
        let refusal = check.failure_of_write(&object, scope.aspect, ServerCheckFailureKind::AppliedToObject, what);
        self.fail_check(check, refusal).await
    }
}
