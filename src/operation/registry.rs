//! The registry: every operation of plans with its rules, and every aspect of objects with its rules. How to add one is
//! described in the module above.

use batchplan_store::object::{ObjectAcl, ObjectState, RestoreRequest, TagSet};
use batchplan_store::object_request::ObjectRequest;

use super::aspect::{AspectRules, ObjectAspect};
use super::descriptor::{OperationDescriptor, OperationDetails, OperationError, OperationRules};
use super::{acl, add_tagging, delete_tagging, restore, tagging};

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
