//! The operations on one object: pure functions from its current state to the desired state.
//!
//! An operation never sends anything. It computes the state that an object should have ([`Operation::desired`]), and
//! the requests follow from the difference ([`OperationSet::write_steps`]). Several operations therefore share one
//! pass, a no-op costs no write, and code that displays, counts or verifies a change uses the same functions.
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
//!   and
//!   in the requests of managed services, the aspect, the settings) and [`OperationDetails`], which follow from the
//!   settings: the requests that are sent, the summary, the warning, and what managed services cannot do.
//!
//! Canonical forms, XML, exports, imports, policies, estimates, warnings and summaries are written from these, and
//! match on no operation. A new operation is therefore a file here and a line in `operations!`, and its keys and
//! their checks in `plan/parser/tables.rs` and `plan/check/operation.rs`; if nothing like it exists, also an aspect and
//! its requests, and in `provider` whether each provider has it. Both traits have hardly any defaults, and every
//! registry is matched in full, so that what is forgotten does not compile.

mod acl;
mod add_tagging;
mod aspect;
mod delete_tagging;
mod descriptor;
mod put_tagging;
mod restore;
mod set;
mod tagging;

use serde::{Deserialize, Serialize};

use batchplan_store::enum_with_all;
use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState, RestoreRequest, TagSet};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

pub(crate) use aspect::AspectRules;
use descriptor::OperationRules;
pub use descriptor::{FieldKind, FieldValue, OperationDescriptor, OperationDetails, OperationField, ServiceGap};
pub use restore::{RestoreCheck, check_restore};
pub use set::{OperationSet, OperationStep};

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
    PutTagging(TagSet) = put_tagging::PutTagging,
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

enum_with_all! {
    /// The part of an object that an operation changes. Operations on different aspects do not affect each other.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ObjectAspect {
        /// The object's tags.
        Tags,
        /// The object's ACL.
        Acl,
        /// The restored copy of an archived object.
        Restoration,
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

    /// Returns the aspect that requests of a kind read or change; `None` if they are about the object or a bucket.
    #[must_use]
    pub fn of_kind(kind: RequestKind) -> Option<Self> {
        match kind {
            RequestKind::GetTags | RequestKind::PutTags | RequestKind::DeleteTags => Some(Self::Tags),
            RequestKind::GetAcl | RequestKind::PutAcl => Some(Self::Acl),
            RequestKind::Restore => Some(Self::Restoration),
            RequestKind::Head | RequestKind::List | RequestKind::GetObject | RequestKind::PutObject => None,
        }
    }

    /// Returns the aspect that a request reads or changes; `None` for HEAD.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Option<Self> {
        Self::of_kind(call.kind())
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

/// Why an operation cannot be applied to an object in this state, whatever the server would answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The object would have more tags than are allowed.
    #[error("the object would have {count} tags, and at most {} are allowed", batchplan_store::object::MAX_TAGS)]
    TooManyTags {
        /// The number of tags that it would have.
        count: usize,
    },
    /// The operation needs the object's tags, which were not read.
    #[error("the object's tags are not known")]
    TagsUnknown,
}

impl OperationError {
    /// Returns an error code in the style of the services.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyTags { .. } => "TooManyTags",
            Self::TagsUnknown => "TagsUnknown",
        }
    }
}

/// Returns the value to set, if the desired value is known and differs from the current one.
fn needed_change<'a, T: PartialEq>(before: &MaybeKnown<T>, after: &'a MaybeKnown<T>) -> Option<&'a T> {
    if before == after { None } else { after.known() }
}
