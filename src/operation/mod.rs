//! The operations on one object: pure functions from its current state to the desired state.
//!
//! An operation never sends anything. It computes the state that an object should have ([`Operation::desired`]), and
//! the requests follow from the difference ([`OperationSet::write_steps`]). Several operations therefore share one
//! pass, a no-op costs no write, and code that displays, counts or verifies a change uses the same functions.
//!
//! | file | what it holds |
//! |---|---|
//! | `registry` | the operations and the aspects that exist |
//! | `descriptor`, `aspect` | what must be known about an operation, and about an aspect |
//! | `tagging`, `acl`, `restore` | the aspects, each with the operation that sets it |
//! | `add_tagging`, `delete_tagging` | the other operations on tags |
//! | `set` | all operations of a plan, combined into one pass over each object |
//!
//! # Adding an operation
//!
//! Three registries hold what the rest of the program knows, and the rest only asks them:
//!
//! * `RequestKind` and `ObjectRequest` of the store: each request with its method, sub-resource, price item,
//!   permission.
//! * [`ObjectAspect`]: each part of an object that requests read and change. Its `AspectRules` say how it is read,
//!   written, compared, described and put back.
//! * [`Operation`]: each operation of a plan. Its `OperationRules` are an [`OperationDescriptor`] (the names in plans
//!   and in the requests of managed services, the aspect, the settings) and [`OperationDetails`], which follow from the
//!   settings: the requests that are sent, the summary, the warning, and what managed services cannot do.
//!
//! Canonical forms, XML, exports, imports, policies, estimates, warnings and summaries are written from these, and
//! match on no operation. A new operation is therefore a file here and a line in `registry`, and its keys and
//! their checks in `plan/tables.rs` and `plan/check/operation.rs`; if nothing like it exists, also an aspect and
//! its requests, and in `provider` whether each provider has it. Both traits have hardly any defaults, and every
//! registry is matched in full, so that what is forgotten does not compile.

mod acl;
mod add_tagging;
mod aspect;
mod delete_tagging;
mod descriptor;
mod registry;
mod restore;
mod set;
mod tagging;

pub(crate) use aspect::AspectRules;
pub use aspect::ObjectAspect;
pub use descriptor::{
    FieldKind, FieldValue, OperationDescriptor, OperationDetails, OperationError, OperationField, ServiceGap,
};
pub use registry::Operation;
pub use restore::{RestoreCheck, check_restore};
pub use set::{OperationSet, OperationStep};
