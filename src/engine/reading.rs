//! Looking at an object without changing anything: the reads of a plan, paced and retried like any other request.

use super::worker::{Halt, Visit, Worker};
use crate::call::Call;
use crate::object::{ObjectId, ObjectState};
use crate::operation::Step;
use crate::task::Fault;

/// What came of looking at an object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// All of it was seen.
    Seen(ObjectState),
    /// One request was refused, or failed as often as it was sent.
    Failed {
        /// What was seen before.
        seen: ObjectState,
        /// The request.
        call: Call,
        /// Why.
        fault: Box<Fault>,
    },
    /// The service refuses the credentials, whatever the object.
    Refused(Box<Fault>),
    /// It was stopped.
    Stopped,
}

impl Worker {
    /// Sends these reads, in order, until one fails.
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
