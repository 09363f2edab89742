//! What an undo needs to know of each object: its state before the undone job, and the state that the job gave it.

use std::path::Path;

use batchplan_store::Mutex;
use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState};
use batchplan_store::task::{RowOrigin, TaskId};

use crate::captures::{Capture, CaptureError, CaptureLookup, CaptureReader, FormerState, FormerValue};
use crate::operation::{OperationSet, UndoneChange};

/// The changes of a job that is undone, by the origins of the rows that undo them.
#[derive(Debug)]
pub struct UndoneChanges {
    /// The captures of the undone job.
    former: Mutex<CaptureLookup>,
    made: MadeState,
}

/// How the state follows that the undone job gave an object.
#[derive(Debug)]
enum MadeState {
    /// The job applied these operations to the former state.
    Applied(OperationSet),
    /// The job was itself an undo: it restored the captures of another job.
    Restored(Mutex<CaptureLookup>),
}

/// Why a change cannot be undone now.
#[derive(Debug, thiserror::Error)]
pub enum UndoneChangeError {
    /// The captures cannot be read.
    #[error("cannot read the captures: {0}")]
    Read(#[from] CaptureError),
    /// There is no capture of the row.
    #[error("the captures do not have row {} of part {}", row.row, row.part)]
    Missing {
        /// The row.
        row: TaskId,
    },
}

impl UndoneChanges {
    /// Opens the captures of a job that applied these operations.
    ///
    /// # Errors
    /// Returns an error if the captures cannot be read.
    pub fn applied(captures: &Path, operations: OperationSet) -> Result<Self, CaptureError> {
        Ok(Self { former: lookup(captures)?, made: MadeState::Applied(operations) })
    }

    /// Opens the captures of a job that was itself an undo, and the captures that it restored.
    ///
    /// # Errors
    /// Returns an error if the captures cannot be read.
    pub fn restored(captures: &Path, restored: &Path) -> Result<Self, CaptureError> {
        Ok(Self { former: lookup(captures)?, made: MadeState::Restored(lookup(restored)?) })
    }

    /// Returns what is known of an object.
    ///
    /// # Errors
    /// Returns an error if the captures cannot be read, or do not have the row.
    pub fn change(&self, origin: RowOrigin) -> Result<UndoneChange, UndoneChangeError> {
        let Capture { version, former, .. } = find(&self.former, origin.row)?;
        let is_former_unknown = is_former_unknown(&former);
        let former = known_state(&former);
        let made = match &self.made {
            // If an operation rejects the object, the job left it as it was.
            MadeState::Applied(operations) => operations.desired(&former).unwrap_or_else(|_| former.clone()),
            MadeState::Restored(captures) => {
                let row = origin.made_by.ok_or(UndoneChangeError::Missing { row: origin.row })?;
                known_state(&find(captures, row)?.former)
            }
        };
        Ok(UndoneChange { former, made, version, is_former_unknown })
    }
}

fn lookup(captures: &Path) -> Result<Mutex<CaptureLookup>, CaptureError> {
    Ok(Mutex::new(CaptureReader::open(captures)?.into_lookup()))
}

fn find(captures: &Mutex<CaptureLookup>, row: TaskId) -> Result<Capture, UndoneChangeError> {
    captures.lock().get(row)?.ok_or(UndoneChangeError::Missing { row })
}

/// Returns whether the former value of a changed aspect is not known, or cannot be sent to a server.
#[must_use]
pub fn is_former_unknown(former: &FormerState) -> bool {
    former.tags.is_unknown()
        || former.acl.is_unknown()
        || former.acl.known().is_some_and(|acl| matches!(acl, ObjectAcl::Custom(None)))
}

/// Returns the captured aspects as a state.
#[must_use]
pub fn known_state(former: &FormerState) -> ObjectState {
    fn value<T: Clone>(former: &FormerValue<T>) -> MaybeKnown<T> {
        former.known().map_or(MaybeKnown::Unknown, |value| MaybeKnown::Known(value.clone()))
    }
    ObjectState { tags: value(&former.tags), acl: value(&former.acl), ..ObjectState::default() }
}
