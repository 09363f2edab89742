//! What an undo makes of an object: the state from before the job, unless others have changed the object since.

use batchplan_store::object::{ObjectState, VersionId};

use super::rules::{ObjectAspect, OperationError};

/// How an undo works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndoMode {
    /// Whether to change also objects that others have changed since.
    pub force: bool,
}

/// What is known of an object that is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoneChange {
    /// The state before the job that is undone. Aspects that the job did not change are not known.
    pub former: ObjectState,
    /// The state that the job gave the object.
    pub made: ObjectState,
    /// The version that was current when the job changed it, if the bucket has versions and the row names none.
    pub version: Option<VersionId>,
    /// Whether the former value of an aspect that the job changed was lost.
    pub is_former_unknown: bool,
}

impl UndoneChange {
    /// Returns the state that an undo gives an object that was found in this state.
    ///
    /// # Errors
    /// Returns an error if the former state is not known, or if an aspect is neither as the job made it nor as it was
    /// before. With `force`, it does not matter how the object is now.
    pub fn target(&self, found: &ObjectState, mode: UndoMode) -> Result<ObjectState, OperationError> {
        if self.is_former_unknown {
            return Err(OperationError::FormerStateUnknown);
        }
        let mut target = found.clone();
        for rules in ObjectAspect::ALL.map(ObjectAspect::rules) {
            if !rules.is_known(&self.former) {
                continue;
            }
            let differs = |wanted: &ObjectState| rules.write_request(found, wanted).is_some();
            if differs(&self.former) && differs(&self.made) && !mode.force {
                return Err(OperationError::ChangedSince { what: rules.subject() });
            }
            rules.copy(&self.former, &mut target);
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use batchplan_store::object::{MaybeKnown, ObjectAcl, TagSet};
    use proptest::prelude::*;

    use super::*;
    use crate::operation::{Operation, OperationSet};

    fn tagged(tags: &[(&str, &str)]) -> ObjectState {
        ObjectState { tags: MaybeKnown::Known(tags.iter().copied().collect::<TagSet>()), ..ObjectState::default() }
    }

    fn change(former: ObjectState, made: ObjectState) -> UndoneChange {
        UndoneChange { former, made, version: None, is_former_unknown: false }
    }

    const STRICT: UndoMode = UndoMode { force: false };
    const FORCED: UndoMode = UndoMode { force: true };

    #[test]
    fn only_what_the_job_made_is_undone() {
        let (before, after, other) = (tagged(&[("a", "1")]), tagged(&[("b", "2")]), tagged(&[("c", "3")]));
        let change = change(before.clone(), after.clone());
        assert_eq!(change.target(&after, STRICT), Ok(before.clone()));
        assert_eq!(change.target(&before, STRICT), Ok(before.clone()), "it is undone already, or was never changed");
        assert_eq!(change.target(&other, STRICT), Err(OperationError::ChangedSince { what: "its tags" }));
        assert_eq!(change.target(&other, FORCED), Ok(before));
    }

    #[test]
    fn one_aspect_that_others_changed_keeps_the_whole_object_from_change() {
        let with = |state: ObjectState, acl| ObjectState { acl: MaybeKnown::Known(acl), ..state };
        let before = with(tagged(&[("a", "1")]), ObjectAcl::PublicRead);
        let after = with(tagged(&[]), ObjectAcl::Private);
        let change = change(before.clone(), after.clone());
        let half = with(tagged(&[]), ObjectAcl::PublicRead);
        assert_eq!(change.target(&half, STRICT), Ok(before.clone()), "the job failed between its two writes");
        let mixed = with(tagged(&[]), ObjectAcl::PublicReadWrite);
        assert_eq!(change.target(&mixed, STRICT), Err(OperationError::ChangedSince { what: "its ACL" }));
        assert_eq!(change.target(&mixed, FORCED), Ok(before));
    }

    #[test]
    fn an_aspect_that_the_job_left_alone_is_left_alone() {
        let change = change(tagged(&[("a", "1")]), tagged(&[]));
        let found = ObjectState { acl: MaybeKnown::Known(ObjectAcl::PublicRead), ..tagged(&[]) };
        let expected = ObjectState { acl: MaybeKnown::Known(ObjectAcl::PublicRead), ..tagged(&[("a", "1")]) };
        assert_eq!(change.target(&found, STRICT), Ok(expected));
    }

    #[test]
    fn a_former_state_that_was_lost_is_never_guessed() {
        let change = UndoneChange { is_former_unknown: true, ..change(ObjectState::default(), tagged(&[])) };
        assert_eq!(change.target(&tagged(&[]), FORCED), Err(OperationError::FormerStateUnknown));
    }

    fn tag_set() -> impl Strategy<Value = TagSet> {
        prop::collection::btree_map("[ab]", "[xy]", 0..3).prop_map(|tags| tags.into_iter().collect())
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            tag_set().prop_map(Operation::PutTagging),
            tag_set().prop_map(Operation::AddTagging),
            prop::option::of(prop::collection::vec("[ab]", 1..3)).prop_map(Operation::DeleteTagging),
            Just(Operation::PutAcl(ObjectAcl::Private)),
            Just(Operation::PutAcl(ObjectAcl::PublicRead)),
        ]
    }

    fn state() -> impl Strategy<Value = ObjectState> {
        let acl = prop_oneof![Just(ObjectAcl::Private), Just(ObjectAcl::PublicRead), Just(ObjectAcl::PublicReadWrite)];
        (tag_set(), acl).prop_map(|(tags, acl)| ObjectState {
            tags: MaybeKnown::Known(tags),
            acl: MaybeKnown::Known(acl),
            ..ObjectState::default()
        })
    }

    proptest! {
        /// Applies, perhaps lets others write, undoes, and undoes that.
        #[test]
        fn apply_and_undo_give_back_every_state_that_nobody_else_changed(
            before in state(), operations in prop::collection::vec(operation(), 1..4), others in prop::option::of(state()),
            written in 0_usize..3,
        ) {
            let set = OperationSet::new(operations);
            let after = set.desired(&before).expect("few tags");
            // The job may have died between two writes.
            let mut found = before.clone();
            let steps = set.write_steps(&before, &after);
            for step in steps.iter().take(written) {
                if let Some(aspect) = ObjectAspect::of(&step.call) {
                    aspect.rules().copy(&after, &mut found);
                }
            }
            let is_changed = others.as_ref().is_some_and(|others| *others != found);
            let found = others.unwrap_or(found);
            let mut former = ObjectState::default();
            set.aspects().for_each(|aspect| aspect.rules().copy(&before, &mut former));
            let undo = UndoneChange { former, made: after, version: None, is_former_unknown: false };
            match undo.target(&found, STRICT) {
                Ok(target) => {
                    for aspect in set.aspects() {
                        prop_assert!(aspect.rules().write_request(&target, &before).is_none(), "{aspect:?} is not as before");
                    }
                    // The undo of this undo gives back what was found.
                    let again = UndoneChange { former: found.clone(), made: target.clone(), ..undo };
                    prop_assert_eq!(again.target(&target, STRICT), Ok(found));
                }
                Err(error) => {
                    prop_assert!(is_changed, "{error}");
                    prop_assert_eq!(error.code(), "ChangedSince");
                }
            }
        }
    }
}
