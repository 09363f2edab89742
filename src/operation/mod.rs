//! The operations on one object: pure functions from its current state to the desired state.
//!
//! An operation never sends anything. It computes the state that an object should have ([`Operation::desired`]), and
//! the requests follow from the difference ([`OperationSet::write_steps`]). Several operations therefore share one
//! pass, a no-op costs no write, and code that displays, counts or verifies a change uses the same functions.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod` | the registry: the operations that exist, and the rules of each aspect |
//! | `rules` | what must be known about an aspect, and about an operation |
//! | `tagging`, `acl`, `restore` | the aspects, each with the operation that sets it |
//! | `add_tagging`, `delete_tagging` | the other operations on tags |
//! | `undo` | the state that an undo gives an object |
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
//! match on no operation. A new operation is therefore a file here and a line in `operations!`, and its keys and
//! their checks in `plan/tables.rs` and `plan/validate/operation.rs`; if nothing like it exists, also an aspect and
//! its requests, and in `provider` which providers lack it. Both traits have hardly any defaults, and every
//! registry is matched in full, so that what is forgotten does not compile.

mod acl;
mod add_tagging;
mod delete_tagging;
mod restore;
mod rules;
mod set;
mod tagging;
mod undo;

use batchplan_store::object::{ObjectAcl, ObjectState, RestoreRequest, TagSet};
use batchplan_store::object_request::ObjectRequest;

pub use restore::{RestoreCheck, check_restore};
pub(crate) use rules::AspectRules;
use rules::OperationRules;
pub use rules::{
    FieldKind, FieldValue, ObjectAspect, OperationDescriptor, OperationDetails, OperationError, OperationField,
    ServiceGap,
};
pub use set::{OperationSet, OperationStep};
pub use undo::{UndoMode, UndoneChange};

/// Declares the operations: a variant with its settings, and the rules of the operation.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $module:ident::$rules:ident,)+) => {
        /// An operation of a plan.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($(#[$doc])* $variant($settings),)+
        }

        impl Operation {
            /// The descriptors of all operations, in the order in which plans apply them.
            pub const DESCRIPTORS: &'static [&'static OperationDescriptor] = &[$(&$module::$rules::DESCRIPTOR),+];

            /// Returns what does not depend on the settings.
            #[must_use]
            pub fn descriptor(&self) -> &'static OperationDescriptor {
                match self {
                    $(Self::$variant(_) => const { &$module::$rules::DESCRIPTOR },)+
                }
            }

            /// Returns what follows from the settings.
            #[must_use]
            pub fn details(&self) -> OperationDetails {
                match self {
                    $(Self::$variant(settings) => $module::$rules::details(settings),)+
                }
            }

            /// Returns the desired state of an object in this state.
            ///
            /// # Errors
            /// Returns an error if no request could reach the desired state.
            pub fn desired(&self, before: ObjectState) -> Result<ObjectState, OperationError> {
                match self {
                    $(Self::$variant(settings) => $module::$rules::desired(before, settings),)+
                }
            }

            /// Returns each operation with an object that it changes.
            #[cfg(test)]
            pub(crate) fn examples() -> Vec<(Self, ObjectState)> {
                let mut examples = Vec::new();
                $(
                    let (settings, before) = $module::$rules::example();
                    examples.push((Self::$variant(settings), before));
                )+
                examples
            }
        }
    };
}

operations! {
    /// Replace all tags.
    PutTagging(TagSet) = tagging::PutTagging,
    /// Add tags: keep the others, and overwrite the values of the same keys.
    AddTagging(TagSet) = add_tagging::AddTagging,
    /// Remove all tags, or those with these keys.
    DeleteTagging(Option<Vec<String>>) = delete_tagging::DeleteTagging,
    /// Set the ACL.
    PutAcl(ObjectAcl) = acl::PutAcl,
    /// Restore an archived object.
    Restore(RestoreRequest) = restore::RestoreObject,
}

impl Operation {
    /// Returns the name in plan files and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.descriptor().name
    }

    /// Returns the aspect that the operation changes.
    #[must_use]
    pub fn aspect(&self) -> ObjectAspect {
        self.descriptor().aspect
    }
}

impl ObjectAspect {
    /// Returns everything else that is known about this aspect.
    pub(crate) fn rules(self) -> &'static dyn AspectRules {
        match self {
            Self::Tags => &tagging::TagRules,
            Self::Acl => &acl::AclRules,
            Self::Restoration => &restore::RestorationRules,
        }
    }

    /// Returns the request that reads this aspect, if its sub-resource can be read.
    #[must_use]
    pub fn read_request(self) -> Option<ObjectRequest> {
        self.rules().read_request()
    }

    /// Returns the sub-resource, as in a URL.
    #[must_use]
    pub fn sub_resource(self) -> &'static str {
        self.rules().sub_resource()
    }

    /// Returns the name in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.rules().name()
    }
}
