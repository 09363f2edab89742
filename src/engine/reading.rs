//! Reads an object without changing it. A plan's reads are rate-limited and retried like any other request.

use super::worker::{Halt, Visit, Worker};
use crate::call::Call;
use crate::object::{ObjectId, ObjectState};
use crate::operation::Step;
use crate::task::Fault;

/// The result of reading an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// All reads succeeded.
    Seen(ObjectState),
    /// One request was rejected, or failed on every attempt.
    Failed {
        /// The state that earlier reads returned.
        seen: ObjectState,
        /// The request that failed.
        call: Call,
        /// Why the request failed.
        fault: Box<Fault>,
    },
    /// The service rejected the credentials. No other object would fare better.
    Refused(Box<Fault>),
    /// The read was stopped before it finished.
    Stopped,
}

impl Worker {
    /// Sends these reads in order and stops at the first that fails.
    pub async fn look_at(&self, object: &ObjectId, reads: &[Call]) -> Looked {
        let visit = Visit::new(object);
        let mut seen = ObjectState::default();
        for call in reads {
            let step = Step { call: call.clone(), operation: String::new() };
            match self.send(&visit, &step).await {
                Ok(reply) => seen.learn(reply.learned),
                Err(Halt::Failed(failure)) => {
                    return Looked::Failed { seen, call: call.clone(), fault: Box::new(failure.fault) };
                }
                Err(Halt::Refused(fault)) => return Looked::Refused(fault),
                Err(Halt::Untrusted(_) | Halt::Unrecorded(_) | Halt::Stopped) => return Looked::Stopped,
            }
        }
        Looked::Seen(seen)
    }
}
