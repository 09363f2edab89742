//! All operations of a plan, combined into one pass over each object.

use batchplan_store::object::{MAX_TAGS, ObjectState, TagSet};
use batchplan_store::object_request::ObjectRequest;

use super::Operation;
use super::rules::{ObjectAspect, OperationError};
use super::undo::UndoMode;

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
    capture: bool,
    /// How to undo the operations, instead of applying them.
    undo: Option<UndoMode>,
}

impl OperationSet {
    /// Combines operations, in the order in which they are applied.
    #[must_use]
    pub fn new(operations: Vec<Operation>) -> Self {
        Self { all: operations, skip_unchanged: false, capture: false, undo: None }
    }

    /// Sets whether to also read what the operations do not need, so that an object already in the desired state is not
    /// written. A restore is requested in any case, because its days count from now.
    #[must_use]
    pub fn with_skip_unchanged(self, skip_unchanged: bool) -> Self {
        Self { skip_unchanged, ..self }
    }

    /// Sets whether what an object was like is kept before it is changed. That is read even if the operations do not need
    /// it, and does not affect what is written.
    #[must_use]
    pub fn with_capture(self, capture: bool) -> Self {
        Self { capture, ..self }
    }

    /// Sets that the operations are undone: what they changed is read, and what each object was like before is written.
    #[must_use]
    pub fn undone(self, undo: Option<UndoMode>) -> Self {
        Self { undo, ..self }
    }

    /// Returns how the operations are undone, if they are.
    #[must_use]
    pub fn undo(&self) -> Option<UndoMode> {
        self.undo
    }

    /// Returns the operations, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.all.iter()
    }

    /// Returns the aspects that any of the operations changes, in the order of [`ObjectAspect::ALL`].
    pub fn aspects(&self) -> impl Iterator<Item = ObjectAspect> {
        ObjectAspect::ALL.into_iter().filter(|aspect| self.all.iter().any(|op| op.aspect() == *aspect))
    }

    /// Returns the reads that a job sends before it writes to an object: those that decide what it writes, and those that
    /// only capture what the object was like.
    #[must_use]
    pub fn read_steps(&self) -> Vec<OperationStep> {
        self.steps_that_read(|aspect| self.is_decisive(aspect) || self.is_captured(aspect))
    }

    /// Returns the reads that decide what is written: those that [`Self::desired`] needs, and, if unchanged objects are
    /// skipped, those that [`Self::write_steps`] needs to leave out unnecessary writes.
    #[must_use]
    pub fn decisive_reads(&self) -> Vec<OperationStep> {
        self.steps_that_read(|aspect| self.is_decisive(aspect))
    }

    /// Returns the reads that are sent only to capture an object.
    #[must_use]
    pub fn capture_reads(&self) -> Vec<OperationStep> {
        self.steps_that_read(|aspect| self.is_captured(aspect) && !self.is_decisive(aspect))
    }

    /// Returns the aspects that are captured before they are changed: those that can be read.
    pub fn captured_aspects(&self) -> impl Iterator<Item = ObjectAspect> {
        self.aspects().filter(|aspect| self.is_captured(*aspect))
    }

    /// Returns whether objects are captured whose version no answer names: S3 names it in answers about tags, and not in
    /// those about ACLs.
    #[must_use]
    pub fn captures_acl_alone(&self) -> bool {
        self.captured_aspects().eq([ObjectAspect::Acl])
    }

    /// Returns the aspects that are changed and cannot be captured, so that nothing undoes the change.
    pub fn irreversible_aspects(&self) -> impl Iterator<Item = ObjectAspect> {
        self.aspects().filter(|aspect| aspect.read_request().is_none())
    }

    /// Returns the desired state of an object after all operations.
    ///
    /// # Errors
    /// Returns an error if an operation rejects the object: the name of the first one that does, and the reason. Tags
    /// that are too many only until a later operation deletes some are no reason.
    pub fn desired(&self, before: &ObjectState) -> Result<ObjectState, (&'static str, OperationError)> {
        let mut state = before.clone();
        let mut exceeding = None;
        for operation in &self.all {
            state = operation.desired(state).map_err(|why| (operation.name(), why))?;
            let count = state.tags.known().map_or(0, TagSet::len);
            exceeding = (count > MAX_TAGS).then(|| (exceeding.map_or(operation.name(), |(name, _)| name), count));
        }
        match exceeding {
            Some((name, count)) => Err((name, OperationError::TooManyTags { count })),
            None => Ok(state),
        }
    }

    /// Returns the requests that change one state to the other; empty if they are equal.
    #[must_use]
    pub fn write_steps(&self, before: &ObjectState, after: &ObjectState) -> Vec<OperationStep> {
        ObjectAspect::ALL
            .into_iter()
            .filter_map(|aspect| Some(self.step(aspect, aspect.rules().write_request(before, after)?)))
            .collect()
    }

    /// Returns the names of all operations, joined by `+`.
    #[must_use]
    pub fn names(&self) -> String {
        self.all.iter().map(Operation::name).collect::<Vec<_>>().join("+")
    }

    /// Returns the reads that the job sends if the answer to a write is ambiguous.
    #[must_use]
    pub fn reads_after_ambiguous_write(&self) -> Vec<ObjectRequest> {
        let mut reads = Vec::new();
        for read in self.all.iter().flat_map(|op| op.descriptor().reads_after_ambiguous_write) {
            if !reads.contains(read) {
                reads.push(read.clone());
            }
        }
        reads
    }

    /// Returns whether what is read of an aspect decides what is written.
    fn is_decisive(&self, aspect: ObjectAspect) -> bool {
        let always = self.skip_unchanged || self.undo.is_some();
        let decides = |op: &Operation| always || op.details().needs_current_state;
        self.all.iter().any(|op| op.aspect() == aspect && decides(op))
    }

    /// Returns whether an aspect is captured before it is changed.
    fn is_captured(&self, aspect: ObjectAspect) -> bool {
        self.capture && aspect.read_request().is_some() && self.all.iter().any(|op| op.aspect() == aspect)
    }

    fn steps_that_read(&self, is_wanted: impl Fn(ObjectAspect) -> bool) -> Vec<OperationStep> {
        let aspects = ObjectAspect::ALL.into_iter().filter(|aspect| is_wanted(*aspect));
        aspects.filter_map(|aspect| Some(self.step(aspect, aspect.read_request()?))).collect()
    }

    fn step(&self, aspect: ObjectAspect, call: ObjectRequest) -> OperationStep {
        let names: Vec<_> = self.all.iter().filter(|op| op.aspect() == aspect).map(Operation::name).collect();
        OperationStep { call, operation: names.join("+") }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use batchplan_store::object::{MaybeKnown, ObjectAcl, RestoreRequest, RestoreTier};
    use batchplan_store::object_request::{RequestKind, ResponseData};

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
    fn a_state_that_already_holds_needs_no_request() {
        let add = Operation::AddTagging(tags(&[("a", "1")]));
        assert_eq!(calls(&[add], &with_tags(&[("a", "1"), ("b", "2")])), []);
        assert_eq!(calls(&[Operation::DeleteTagging(Some(vec!["gone".into()]))], &with_tags(&[("a", "1")])), []);
    }

    #[test]
    fn what_is_not_needed_is_read_only_to_leave_alone_what_holds() {
        let restore = Operation::Restore(RestoreRequest { days: Some(3), tier: None });
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
    fn what_is_captured_is_read_and_does_not_decide_what_is_written() {
        let restore = Operation::Restore(RestoreRequest { days: Some(3), tier: None });
        let add = Operation::AddTagging(tags(&[("b", "2")]));
        let all = OperationSet::new(vec![add, Operation::PutAcl(ObjectAcl::Private), restore]).with_capture(true);
        let sent = |steps: Vec<OperationStep>| steps.into_iter().map(|step| step.call).collect::<Vec<_>>();
        assert_eq!(sent(all.read_steps()), [ObjectRequest::GetTags, ObjectRequest::GetAcl]);
        assert_eq!(sent(all.decisive_reads()), [ObjectRequest::GetTags]);
        assert_eq!(sent(all.capture_reads()), [ObjectRequest::GetAcl]);
        assert_eq!(all.captured_aspects().collect::<Vec<_>>(), [ObjectAspect::Tags, ObjectAspect::Acl]);
        assert_eq!(all.irreversible_aspects().collect::<Vec<_>>(), [ObjectAspect::Restoration]);
        let looking = all.clone().with_skip_unchanged(true);
        assert_eq!((sent(looking.read_steps()), looking.capture_reads()), (sent(all.read_steps()), vec![]));
        let off = all.with_capture(false);
        assert_eq!((sent(off.read_steps()), off.captured_aspects().next()), (vec![ObjectRequest::GetTags], None));
    }

    #[test]
    fn every_operation_sends_the_writes_that_it_names() {
        let examples = Operation::examples();
        for (operation, before) in &examples {
            let (name, aspect) = (operation.name(), operation.aspect());
            let sent = calls(std::slice::from_ref(operation), before);
            assert_eq!(sent.len(), 1, "{name}");
            assert!(operation.details().writes.contains(&sent[0].kind()), "{name}: {sent:?}");
            assert_eq!(ObjectAspect::of(&sent[0]), Some(aspect), "{name}");
            assert!(sent[0].is_write() && aspect.rules().describe_response(&ResponseData::Empty).is_none());
            let after = operation.desired(before.clone()).expect("no rejection");
            assert!(aspect.rules().is_known(&after) && !aspect.rules().lines(&after).is_empty(), "{name}");
        }
        for aspect in ObjectAspect::ALL {
            assert!(examples.iter().any(|(operation, _)| operation.aspect() == aspect), "{aspect:?} has no operation");
            let read =
                aspect.read_request().is_none_or(|read| !read.is_write() && ObjectAspect::of(&read) == Some(aspect));
            assert!(read, "{aspect:?} is read by the request of another");
        }
    }

    #[test]
    fn every_request_with_a_sub_resource_is_about_the_aspect_with_it() {
        for kind in RequestKind::ALL {
            let (_, resource) = kind.method_and_subresource();
            let aspect =
                ObjectAspect::ALL.into_iter().find(|aspect| aspect.sub_resource().trim_start_matches('?') == resource);
            assert_eq!(ObjectAspect::of_kind(kind), aspect, "{kind:?}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<_> = Operation::DESCRIPTORS.iter().map(|descriptor| descriptor.name).collect();
        let elements: BTreeSet<_> = Operation::DESCRIPTORS.iter().map(|descriptor| descriptor.oss_element).collect();
        let aspects: BTreeSet<_> = ObjectAspect::ALL.iter().map(|aspect| aspect.as_str()).collect();
        let count = Operation::DESCRIPTORS.len();
        assert_eq!((names.len(), elements.len(), aspects.len()), (count, count, ObjectAspect::ALL.len()));
    }

    #[test]
    fn operations_on_different_aspects_each_send_their_own() {
        let request = RestoreRequest { days: Some(3), tier: Some(RestoreTier::Bulk) };
        let all = [Operation::PutAcl(ObjectAcl::Private), Operation::Restore(request), Operation::DeleteTagging(None)];
        assert_eq!(
            calls(&all, &ObjectState::default()),
            [ObjectRequest::DeleteTags, ObjectRequest::PutAcl(ObjectAcl::Private), ObjectRequest::Restore(request)]
        );
    }

    #[test]
    fn tags_over_the_limit_may_make_room_for_themselves() {
        let ten: TagSet = (0..10).map(|i| (format!("k{i}"), "")).collect();
        let before = ObjectState { tags: MaybeKnown::Known(ten), ..ObjectState::default() };
        let set = |deleted: &str| {
            let (first, second) = (tags(&[("new", "")]), tags(&[("newer", "")]));
            let deleted = Operation::DeleteTagging(Some(vec![deleted.into(), "k9".into()]));
            OperationSet::new(vec![Operation::AddTagging(first), Operation::AddTagging(second), deleted])
        };
        let after = set("k0").desired(&before).expect("ten tags");
        assert_eq!(after.tags.known().map(TagSet::len), Some(10));
        // The first operation that went over the limit is named, with what there would be in the end.
        assert_eq!(
            set("none").desired(&before),
            Err(("add_object_tagging", OperationError::TooManyTags { count: 11 }))
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
