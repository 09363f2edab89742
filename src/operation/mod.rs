//! The operations on one object: pure functions from its current state to the desired state.
//!
//! An operation never sends anything. It computes the state that an object should have ([`Operation::desired`]), and
//! the requests follow from the difference ([`OperationSet::write_steps`]). Several operations therefore share one pass, a
//! no-op costs no write, and code that displays, counts or verifies a change uses the same functions.

mod acl;
mod restore;
mod tagging;

use serde::{Deserialize, Serialize};

use batchplan_store::enum_with_all;
use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState, RestoreRequest, TagSet};
use batchplan_store::object_request::ObjectRequest;

pub use restore::{RestoreCheck, check_restore};

/// An operation of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Replace all tags.
    PutTagging(TagSet),
    /// Add tags: keep the others, and overwrite the values of the same keys.
    AddTagging(TagSet),
    /// Remove all tags, or those with these keys.
    DeleteTagging(Option<Vec<String>>),
    /// Set the ACL.
    PutAcl(ObjectAcl),
    /// Restore an archived object.
    Restore(RestoreRequest),
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
    /// Returns the request that changes this aspect from one state to the other; `None` if nothing has to change.
    fn write_request(self, before: &ObjectState, after: &ObjectState) -> Option<ObjectRequest> {
        match self {
            Self::Tags => tagging::request(&before.tags, &after.tags),
            Self::Acl => acl::request(&before.acl, &after.acl),
            Self::Restoration => restore::request(&before.restoration, &after.restoration),
        }
    }

    /// Returns the aspect that a request reads or changes; `None` for HEAD.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Option<Self> {
        match call {
            ObjectRequest::GetTags | ObjectRequest::PutTags(_) | ObjectRequest::DeleteTags => Some(Self::Tags),
            ObjectRequest::GetAcl | ObjectRequest::PutAcl(_) => Some(Self::Acl),
            ObjectRequest::Restore(_) => Some(Self::Restoration),
            ObjectRequest::Head => None,
        }
    }

    /// Returns the request that reads this aspect, if its sub-resource can be read.
    #[must_use]
    pub fn read_request(self) -> Option<ObjectRequest> {
        match self {
            Self::Tags => Some(ObjectRequest::GetTags),
            Self::Acl => Some(ObjectRequest::GetAcl),
            // A restore is always requested, because its days count from now.
            Self::Restoration => None,
        }
    }

    /// Returns the sub-resource, as in a URL.
    #[must_use]
    pub fn sub_resource(self) -> &'static str {
        match self {
            Self::Tags => "?tagging",
            Self::Acl => "?acl",
            Self::Restoration => "?restore",
        }
    }

    /// Returns the name in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Acl => "acl",
            Self::Restoration => "restoration",
        }
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

impl Operation {
    /// Returns the name in plan files and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PutTagging(_) => "put_object_tagging",
            Self::AddTagging(_) => "add_object_tagging",
            Self::DeleteTagging(_) => "delete_object_tagging",
            Self::PutAcl(_) => "put_object_acl",
            Self::Restore(_) => "restore_object",
        }
    }

    /// Returns the aspect that the operation changes.
    #[must_use]
    pub fn aspect(&self) -> ObjectAspect {
        match self {
            Self::PutTagging(_) | Self::AddTagging(_) | Self::DeleteTagging(_) => ObjectAspect::Tags,
            Self::PutAcl(_) => ObjectAspect::Acl,
            Self::Restore(_) => ObjectAspect::Restoration,
        }
    }

    /// Returns whether the desired state depends on the current state, which must then be read first.
    #[must_use]
    pub fn needs_current_state(&self) -> bool {
        matches!(self, Self::AddTagging(_) | Self::DeleteTagging(Some(_)))
    }

    /// Returns the desired state of an object in this state.
    ///
    /// # Errors
    /// Returns an error if no request could reach the desired state.
    pub fn desired(&self, before: ObjectState) -> Result<ObjectState, OperationError> {
        match self {
            Self::PutTagging(tags) => Ok(tagging::put(before, tags)),
            Self::AddTagging(tags) => tagging::add(before, tags),
            Self::DeleteTagging(None) => Ok(tagging::delete_all(before)),
            Self::DeleteTagging(Some(keys)) => tagging::delete(before, keys),
            Self::PutAcl(acl) => Ok(acl::put(before, *acl)),
            Self::Restore(request) => Ok(restore::restore(before, *request)),
        }
    }
}

/// One request towards the desired state, and the operations that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationStep {
    /// The request to send.
    pub call: ObjectRequest,
    /// The names of the operations, joined by `+`.
    pub operation: String,
}

/// All operations of a plan, combined into one pass over each object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSet {
    all: Vec<Operation>,
    skip_unchanged: bool,
}

impl OperationSet {
    /// Combines operations, in the order in which they are applied.
    #[must_use]
    pub fn new(operations: Vec<Operation>) -> Self {
        Self { all: operations, skip_unchanged: false }
    }

    /// Sets whether to also read what the operations do not need, so that an object already in the desired state is not
    /// written. A restore is requested in any case, because its days count from now.
    #[must_use]
    pub fn with_skip_unchanged(self, skip_unchanged: bool) -> Self {
        Self { skip_unchanged, ..self }
    }

    /// Returns the operations, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.all.iter()
    }

    /// Returns the reads that [`Self::desired`] needs, and, if unchanged objects are skipped, those that
    /// [`Self::write_steps`] needs to leave out unnecessary writes.
    #[must_use]
    pub fn read_steps(&self) -> Vec<OperationStep> {
        let looks = |op: &Operation| op.needs_current_state() || self.skip_unchanged;
        let wanted = |aspect: &ObjectAspect| self.all.iter().any(|op| op.aspect() == *aspect && looks(op));
        let aspects = ObjectAspect::ALL.into_iter().filter(wanted);
        aspects.filter_map(|aspect| Some(self.step(aspect, aspect.read_request()?))).collect()
    }

    /// Returns the desired state of an object after all operations.
    ///
    /// # Errors
    /// Returns an error if an operation rejects the object: the name of the first one that does, and the reason.
    pub fn desired(&self, before: &ObjectState) -> Result<ObjectState, (&'static str, OperationError)> {
        self.all.iter().try_fold(before.clone(), |state, operation| {
            operation.desired(state).map_err(|why| (operation.name(), why))
        })
    }

    /// Returns the requests that change one state to the other; empty if they are equal.
    #[must_use]
    pub fn write_steps(&self, before: &ObjectState, after: &ObjectState) -> Vec<OperationStep> {
        ObjectAspect::ALL
            .into_iter()
            .filter_map(|aspect| Some(self.step(aspect, aspect.write_request(before, after)?)))
            .collect()
    }

    /// Returns the names of all operations, joined by `+`.
    #[must_use]
    pub fn names(&self) -> String {
        self.all.iter().map(Operation::name).collect::<Vec<_>>().join("+")
    }

    fn step(&self, aspect: ObjectAspect, call: ObjectRequest) -> OperationStep {
        let names: Vec<_> = self.all.iter().filter(|op| op.aspect() == aspect).map(Operation::name).collect();
        OperationStep { call, operation: names.join("+") }
    }
}

/// Returns the value to set, if the desired value is known and differs from the current one.
fn needed_change<'a, T: PartialEq>(before: &MaybeKnown<T>, after: &'a MaybeKnown<T>) -> Option<&'a T> {
    if before == after { None } else { after.known() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::RestoreTier;

    fn tags(pairs: &[(&str, &str)]) -> TagSet {
        pairs.iter().copied().collect()
    }

    fn with_tags(pairs: &[(&str, &str)]) -> ObjectState {
        ObjectState { tags: MaybeKnown::Known(tags(pairs)), ..ObjectState::default() }
    }

    fn calls(operations: &[Operation], before: &ObjectState) -> Vec<ObjectRequest> {
        let all = OperationSet::new(operations.to_vec());
        let after = all.desired(before).expect("no rejection");
        all.write_steps(before, &after).into_iter().map(|step| step.call).collect()
    }

    #[test]
    fn replacing_reads_nothing_and_writes_once() {
        let put = Operation::PutTagging(tags(&[("a", "1")]));
        assert!(OperationSet::new(vec![put.clone()]).read_steps().is_empty());
        assert_eq!(calls(&[put], &ObjectState::default()), [ObjectRequest::PutTags(tags(&[("a", "1")]))]);
    }

    #[test]
    fn adding_and_deleting_keys_share_one_read_and_one_write() {
        let both = [Operation::AddTagging(tags(&[("new", "1")])), Operation::DeleteTagging(Some(vec!["old".into()]))];
        assert_eq!(OperationSet::new(both.to_vec()).read_steps().len(), 1);
        let before = with_tags(&[("old", "x"), ("kept", "y")]);
        assert_eq!(calls(&both, &before), [ObjectRequest::PutTags(tags(&[("kept", "y"), ("new", "1")]))]);
        assert_eq!(
            OperationSet::new(both.to_vec()).read_steps()[0].operation,
            "add_object_tagging+delete_object_tagging"
        );
    }

    #[test]
    fn an_unchanged_object_needs_no_request() {
        let add = Operation::AddTagging(tags(&[("a", "1")]));
        assert_eq!(calls(&[add], &with_tags(&[("a", "1"), ("b", "2")])), []);
        assert_eq!(calls(&[Operation::DeleteTagging(Some(vec!["gone".into()]))], &with_tags(&[("a", "1")])), []);
    }

    #[test]
    fn skip_unchanged_adds_reads_and_skips_writes() {
        let restore = Operation::Restore(RestoreRequest { days: 3, tier: None });
        let all = OperationSet::new(vec![
            Operation::PutTagging(tags(&[("a", "1")])),
            Operation::PutAcl(ObjectAcl::Private),
            restore,
        ]);
        assert!(all.read_steps().is_empty());
        let looking = all.clone().with_skip_unchanged(true);
        let reads: Vec<_> = looking.read_steps().into_iter().map(|step| (step.call, step.operation)).collect();
        let expected = [(ObjectRequest::GetTags, "put_object_tagging"), (ObjectRequest::GetAcl, "put_object_acl")];
        assert_eq!(reads, expected.map(|(call, name)| (call, name.to_owned())));
        let holds = ObjectState { acl: MaybeKnown::Known(ObjectAcl::Private), ..with_tags(&[("a", "1")]) };
        let after = looking.desired(&holds).expect("no rejection");
        let [left] = &looking.write_steps(&holds, &after)[..] else { panic!("the restore alone") };
        assert_eq!(left.operation, "restore_object");
    }

    #[test]
    fn an_operation_on_any_aspect_sends_something() {
        for aspect in ObjectAspect::ALL {
            let operation = match aspect {
                ObjectAspect::Tags => Operation::PutTagging(tags(&[("a", "1")])),
                ObjectAspect::Acl => Operation::PutAcl(ObjectAcl::Private),
                ObjectAspect::Restoration => Operation::Restore(RestoreRequest { days: 3, tier: None }),
            };
            assert_eq!(operation.aspect(), aspect);
            assert_eq!(calls(&[operation], &ObjectState::default()).len(), 1, "{aspect:?}");
        }
    }

    #[test]
    fn operations_on_different_aspects_each_send_their_own() {
        let request = RestoreRequest { days: 3, tier: Some(RestoreTier::Bulk) };
        let all = [Operation::PutAcl(ObjectAcl::Private), Operation::Restore(request), Operation::DeleteTagging(None)];
        assert_eq!(
            calls(&all, &ObjectState::default()),
            [ObjectRequest::DeleteTags, ObjectRequest::PutAcl(ObjectAcl::Private), ObjectRequest::Restore(request)]
        );
    }

    #[test]
    fn the_rejecting_operation_is_named() {
        let ten: TagSet = (0..10).map(|i| (format!("k{i}"), "")).collect();
        let before = ObjectState { tags: MaybeKnown::Known(ten), ..ObjectState::default() };
        let all = OperationSet::new(vec![
            Operation::PutAcl(ObjectAcl::Private),
            Operation::AddTagging(tags(&[("one-too-many", "")])),
        ]);
        assert_eq!(all.desired(&before), Err(("add_object_tagging", OperationError::TooManyTags { count: 11 })));
    }
}
