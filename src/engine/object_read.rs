//! Reads an object without changing it. A plan's reads are rate-limited and retried like any other request.

use batchplan_store::object::{ObjectId, ObjectState};
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use super::worker::{ObjectContext, RequestAbort, Worker};
use crate::operation::OperationStep;

/// The result of reading an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectReadOutcome {
    /// All reads succeeded.
    Complete(ObjectState),
    /// One request was rejected, or failed on every attempt.
    Failed {
        /// The state that earlier reads returned.
        seen: ObjectState,
        /// The request that failed.
        call: ObjectRequest,
        /// Why the request failed.
        fault: Box<StoreError>,
    },
    /// The service rejected the credentials. No other object would fare better.
    CredentialsRejected(Box<StoreError>),
    /// The read was stopped before it finished.
    Stopped,
}

impl Worker {
    /// Sends these reads in order and stops at the first that fails.
    pub async fn read_object(&self, object: &ObjectId, reads: &[ObjectRequest]) -> ObjectReadOutcome {
        let visit = ObjectContext::new(object);
        let mut seen = ObjectState::default();
        for call in reads {
            let step = OperationStep { call: call.clone(), operation: String::new() };
            match self.send(&visit, &step).await {
                Ok(reply) => seen.apply(reply.data),
                Err(RequestAbort::Failed(failure)) => {
                    return ObjectReadOutcome::Failed { seen, call: call.clone(), fault: Box::new(failure.error) };
                }
                Err(RequestAbort::CredentialsRejected(fault)) => return ObjectReadOutcome::CredentialsRejected(fault),
                Err(
                    RequestAbort::ServerUntrusted(_) | RequestAbort::ServerCheckNotRecorded(_) | RequestAbort::Stopped,
                ) => return ObjectReadOutcome::Stopped,
            }
        }
        ObjectReadOutcome::Complete(seen)
    }
}
