use batchplan_store::object::{ArchiveStatus, BucketName, ObjectAcl, ObjectKey, RestoreTier, StorageClass, TagSet};

use super::*;

fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs.iter().copied().collect()
}

fn tagged(pairs: &[(&str, &str)]) -> ObjectState {
    ObjectState { tags: MaybeKnown::Known(tags(pairs)), ..ObjectState::default() }
}

fn predictor(operations: &[Operation], skips: bool) -> Predictor {
    Predictor::new(OperationSet::new(operations.to_vec()).with_skip_unchanged(skips), RestoreService::Aws)
}

fn object() -> ObjectId {
    ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None }
}

fn predict(operations: &[Operation], skips: bool, before: ObjectState) -> Prediction {
    predictor(operations, skips).predict(object(), before, None, AclAcceptance::Accepted)
}

fn refused(code: &str, status: u16, call: ObjectRequest) -> ReadFailure {
    let fault = StoreError::without_response(FaultClass::Rejected, code, "no", String::new());
    ReadFailure { call, fault: StoreError { status: Some(status), ..fault } }
}

#[test]
fn unchanged_objects_are_written_unless_skip_unchanged() {
    let put = [Operation::PutTagging(tags(&[("a", "1")]))];
    let same = predict(&put, false, tagged(&[("a", "1")]));
    assert_eq!((same.effect, same.accepted), (Effect::Unchanged, vec![ObjectRequest::PutTags(tags(&[("a", "1")]))]));
    let skipped = predict(&put, true, tagged(&[("a", "1")]));
    assert_eq!((skipped.effect, skipped.accepted), (Effect::Unchanged, vec![ObjectRequest::GetTags]));
    let other = predict(&put, true, tagged(&[("b", "2")]));
    assert_eq!(other.effect, Effect::Changes(tagged(&[("a", "1")])));
    assert_eq!(other.accepted, [ObjectRequest::GetTags, ObjectRequest::PutTags(tags(&[("a", "1")]))]);
}

#[test]
fn too_many_tags_fail_before_any_write() {
    let full: TagSet = (0..10).map(|number| (format!("k{number}"), "")).collect();
    let before = ObjectState { tags: MaybeKnown::Known(full), ..ObjectState::default() };
    let both = [Operation::PutAcl(ObjectAcl::Private), Operation::AddTagging(tags(&[("new", "")]))];
    let Prediction { effect, accepted, refused, .. } = predict(&both, false, before);
    let Effect::Fails(reason) = effect else { panic!("{effect:?}") };
    assert_eq!(
        (reason.code.as_str(), reason.http, reason.operation.as_str()),
        ("TooManyTags", 0, "add_object_tagging")
    );
    assert_eq!((accepted, refused), (vec![ObjectRequest::GetTags], vec![]));
}

#[test]
fn missing_objects_fail_for_any_read() {
    let put = predictor(&[Operation::PutTagging(tags(&[("a", "1")]))], false);
    let gone = put.predict(
        object(),
        ObjectState::default(),
        Some(&refused("NoSuchKey", 404, ObjectRequest::GetTags)),
        AclAcceptance::Accepted,
    );
    let Effect::Fails(reason) = gone.effect else { panic!("{:?}", gone.effect) };
    assert_eq!((reason.code.as_str(), reason.operation.as_str()), ("NoSuchKey", "put_object_tagging"));
    assert_eq!((gone.accepted, gone.refused), (vec![], vec![ObjectRequest::PutTags(tags(&[("a", "1")]))]));
}

#[test]
fn refused_read_is_a_failure_only_if_the_job_reads_too() {
    let denied = refused("AccessDenied", 403, ObjectRequest::GetTags);
    let of = |operation, skips| {
        predictor(&[operation], skips).predict(object(), ObjectState::default(), Some(&denied), AclAcceptance::Accepted)
    };
    let open = of(Operation::PutTagging(tags(&[("a", "1")])), false);
    assert!(matches!(open.effect, Effect::Unknown(_)), "{:?}", open.effect);
    for fails in
        [of(Operation::AddTagging(tags(&[("a", "1")])), false), of(Operation::PutTagging(tags(&[("a", "1")])), true)]
    {
        assert!(matches!(&fails.effect, Effect::Fails(reason) if reason.code == "AccessDenied"), "{:?}", fails.effect);
        assert_eq!(fails.refused, [ObjectRequest::GetTags]);
    }
}

#[test]
fn a_request_that_the_server_does_not_support_for_any_object_fails_for_all() {
    let put = predictor(&[Operation::PutTagging(tags(&[("a", "1")]))], false);
    let cases = [
        ("NotImplemented", 501),
        ("Whatever", 501),
        ("MethodNotAllowed", 405),
        ("PermanentRedirect", 301),
        ("UnexpectedRedirect", 307),
        ("MethodNotAllowed", 400),
        ("XNotImplemented", 403),
    ];
    for (code, status) in cases {
        let failure = refused(code, status, ObjectRequest::GetTags);
        let Prediction { effect, refused, .. } =
            put.predict(object(), ObjectState::default(), Some(&failure), AclAcceptance::Accepted);
        let Effect::Fails(reason) = effect else { panic!("{code} {status}: {effect:?}") };
        let found = (reason.code.as_str(), reason.http, reason.operation.as_str());
        assert_eq!(found, (code, status, "put_object_tagging"));
        assert_eq!(refused, [ObjectRequest::PutTags(tags(&[("a", "1")]))]);
    }
    for (code, status) in [("InvalidRequest", 400), ("NotModified", 304), ("AccessDenied", 403)] {
        let failure = refused(code, status, ObjectRequest::GetTags);
        let effect = put.predict(object(), ObjectState::default(), Some(&failure), AclAcceptance::Accepted).effect;
        assert!(matches!(effect, Effect::Unknown(_)), "{code} {status}: {effect:?}");
    }
}

#[test]
fn known_facts_need_no_read() {
    let all = [
        Operation::PutTagging(tags(&[])),
        Operation::PutAcl(ObjectAcl::Private),
        Operation::Restore(RestoreRequest { days: Some(1), tier: None }),
    ];
    let predictor = predictor(&all, false);
    let nothing = ObjectState::default();
    assert_eq!(
        predictor.preview_reads(&nothing, false),
        [ObjectRequest::GetTags, ObjectRequest::GetAcl, ObjectRequest::Head]
    );
    let told = ObjectState { acl: MaybeKnown::Known(ObjectAcl::Private), ..ObjectState::default() };
    assert_eq!(predictor.preview_reads(&told, false), [ObjectRequest::GetTags, ObjectRequest::Head]);
    let class = |name| ObjectState { class: MaybeKnown::Known(StorageClass::new(name)), ..ObjectState::default() };
    assert_eq!(
        predictor.preview_reads(&class("GLACIER"), true),
        [ObjectRequest::GetTags, ObjectRequest::GetAcl, ObjectRequest::Head]
    );
    assert_eq!(
        predictor.preview_reads(&class("STANDARD"), true),
        [ObjectRequest::GetTags, ObjectRequest::GetAcl],
        "it cannot be restored"
    );
    let tags_alone = Predictor::new(OperationSet::new(all[..1].to_vec()), RestoreService::Aws);
    assert_eq!(tags_alone.preview_reads(&nothing, true), [ObjectRequest::GetTags, ObjectRequest::Head]);
    assert_eq!(tags_alone.preview_reads(&class("STANDARD"), true), [ObjectRequest::GetTags]);
}

#[test]
fn requests_are_counted_up_to_the_one_that_fails() {
    let request = RestoreRequest { days: Some(1), tier: Some(RestoreTier::Expedited) };
    let all = [Operation::Restore(request), Operation::PutAcl(ObjectAcl::Private)];
    let before = ObjectState {
        acl: MaybeKnown::Known(ObjectAcl::PublicRead),
        class: MaybeKnown::Known(StorageClass::new("DEEP_ARCHIVE")),
        restoration: MaybeKnown::Known(RestoreState::NotRestored),
        ..ObjectState::default()
    };
    let prediction = predict(&all, false, before.clone());
    assert!(matches!(&prediction.effect, Effect::Fails(reason) if reason.operation == "restore_object"));
    assert_eq!(
        (prediction.accepted, prediction.refused),
        (vec![ObjectRequest::PutAcl(ObjectAcl::Private)], vec![ObjectRequest::Restore(request)])
    );
    let closed = predictor(&all, false).predict(object(), before.clone(), None, AclAcceptance::Refused);
    assert!(matches!(&closed.effect, Effect::Fails(reason) if reason.code == "AccessControlListNotSupported"));
    assert_eq!((closed.accepted, closed.refused), (vec![], vec![ObjectRequest::PutAcl(ObjectAcl::Private)]));
    let unclear = predictor(&all, false).predict(object(), before, None, AclAcceptance::Unclear);
    assert!(matches!(&unclear.effect, Effect::Unknown(why) if why.contains("ACLs disabled")), "{unclear:?}");
}

#[test]
fn untiered_class_needs_a_second_request() {
    let request = RestoreRequest { days: Some(1), tier: Some(RestoreTier::Standard) };
    let predictor = Predictor::new(OperationSet::new(vec![Operation::Restore(request)]), RestoreService::Oss);
    let before = ObjectState {
        class: MaybeKnown::Known(StorageClass::new("Archive")),
        restoration: MaybeKnown::Known(RestoreState::NotRestored),
        ..ObjectState::default()
    };
    let prediction = predictor.predict(object(), before, None, AclAcceptance::Accepted);
    assert!(matches!(prediction.effect, Effect::Changes(_)));
    let untiered = ObjectRequest::Restore(RestoreRequest { days: Some(1), tier: None });
    assert_eq!(
        (prediction.accepted, prediction.refused),
        (vec![ObjectRequest::Head, untiered], vec![ObjectRequest::Restore(request)])
    );
}

#[test]
fn refused_second_read_names_its_operation() {
    let both = [Operation::PutTagging(tags(&[])), Operation::PutAcl(ObjectAcl::Private)];
    let denied = refused("AccessDenied", 403, ObjectRequest::GetAcl);
    let prediction = predictor(&both, true).predict(object(), tagged(&[]), Some(&denied), AclAcceptance::Accepted);
    assert!(
        matches!(&prediction.effect, Effect::Fails(reason) if reason.operation == "put_object_acl"),
        "{prediction:?}"
    );
    assert_eq!((prediction.accepted, prediction.refused), (vec![ObjectRequest::GetTags], vec![ObjectRequest::GetAcl]));
}

#[test]
fn irrelevant_state_is_omitted() {
    let known = ObjectState {
        acl: MaybeKnown::Known(ObjectAcl::Private),
        restoration: MaybeKnown::Known(RestoreState::NotRestored),
        class: MaybeKnown::Known(StorageClass::new("GLACIER")),
        ..tagged(&[("a", "1")])
    };
    let tags_alone = predictor(&[Operation::DeleteTagging(None)], false);
    let class = known.class.clone();
    assert_eq!(tags_alone.relevant_state(&known), ObjectState { class, ..tagged(&[("a", "1")]) });
    assert!(!tags_alone.depends_on(&ObjectRequest::Head) && tags_alone.depends_on(&ObjectRequest::GetTags));
    let request = RestoreRequest { days: Some(1), tier: None };
    let all = [Operation::DeleteTagging(None), Operation::PutAcl(ObjectAcl::Private), Operation::Restore(request)];
    let all = predictor(&all, false);
    assert_eq!(all.relevant_state(&known), known);
    assert!(all.depends_on(&ObjectRequest::Head));
}

fn response(
    service: RestoreService,
    class: &str,
    restoration: RestoreState,
    days: u32,
    tier: Option<RestoreTier>,
) -> ExpectedResponse {
    let state = ObjectState {
        class: MaybeKnown::Known(StorageClass::new(class)),
        restoration: MaybeKnown::Known(restoration),
        ..ObjectState::default()
    };
    expected_response(service, &state, RestoreRequest { days: Some(days), tier })
}

fn refusal_code(expected: ExpectedResponse) -> String {
    let ExpectedResponse::Refused(reason) = expected else { panic!("{expected:?}") };
    reason.code
}

const NONE: RestoreState = RestoreState::NotRestored;

#[test]
fn services_have_different_restore_rules() {
    use RestoreService::{Aws, Oss, Other};
    assert_eq!(response(Aws, "GLACIER", NONE, 1000, Some(RestoreTier::Expedited)), ExpectedResponse::Accepted);
    assert_eq!(refusal_code(response(Aws, "DEEP_ARCHIVE", NONE, 1, Some(RestoreTier::Expedited))), "InvalidArgument");
    assert_eq!(refusal_code(response(Aws, "STANDARD", NONE, 1, None)), "InvalidObjectState");
    assert_eq!(response(Oss, "Archive", NONE, 7, None), ExpectedResponse::Accepted);
    assert_eq!(response(Oss, "Archive", NONE, 7, Some(RestoreTier::Standard)), ExpectedResponse::Accepted);
    assert_eq!(refusal_code(response(Oss, "Archive", NONE, 8, None)), "InvalidArgument");
    assert_eq!(response(Oss, "ColdArchive", NONE, 365, Some(RestoreTier::Bulk)), ExpectedResponse::Accepted);
    assert_eq!(refusal_code(response(Oss, "ColdArchive", NONE, 366, None)), "InvalidArgument");
    assert_eq!(refusal_code(response(Oss, "DeepColdArchive", NONE, 1, Some(RestoreTier::Bulk))), "MalformedXML");
    assert_eq!(refusal_code(response(Oss, "IA", NONE, 1, None)), "OperationNotSupported");
    assert_eq!(response(Other, "DEEP_ARCHIVE", NONE, 9999, Some(RestoreTier::Expedited)), ExpectedResponse::Accepted);
    assert_eq!(refusal_code(response(Other, "STANDARD", NONE, 1, None)), "InvalidObjectState");
    assert_eq!(refusal_code(response(Aws, "INTELLIGENT_TIERING", NONE, 1, None)), "InvalidArgument");
    for (service, class) in [(Other, "CLOUDTIER"), (Other, "INTELLIGENT_TIERING"), (Aws, "CLOUDTIER")] {
        assert!(matches!(response(service, class, NONE, 1, None), ExpectedResponse::Unknown(_)), "{class}");
    }
}

#[test]
fn restore_in_progress_is_refused_for_the_slowest_tier() {
    let going = |tier| response(RestoreService::Aws, "GLACIER", RestoreState::InProgress, 1, tier);
    assert_eq!(refusal_code(going(Some(RestoreTier::Bulk))), "RestoreAlreadyInProgress");
    assert!(matches!(going(None), ExpectedResponse::Unknown(_)));
    assert!(matches!(going(Some(RestoreTier::Expedited)), ExpectedResponse::Unknown(_)));
}

#[test]
fn unknown_facts_are_not_guessed() {
    let request = RestoreRequest { days: Some(1), tier: None };
    let of = |class: Option<&str>, restoration: Option<RestoreState>, request| {
        let known = ObjectState {
            class: class.map_or(MaybeKnown::Unknown, |class| MaybeKnown::Known(StorageClass::new(class))),
            restoration: restoration.map_or(MaybeKnown::Unknown, MaybeKnown::Known),
            ..ObjectState::default()
        };
        expected_response(RestoreService::Aws, &known, request)
    };
    assert!(matches!(of(None, Some(NONE), request), ExpectedResponse::Unknown(_)));
    assert!(matches!(of(Some("GLACIER"), None, request), ExpectedResponse::Unknown(_)));
    let forever = RestoreRequest { days: None, tier: None };
    assert!(matches!(of(Some("INTELLIGENT_TIERING"), Some(NONE), forever), ExpectedResponse::Unknown(_)));
}

#[test]
fn the_archive_tier_decides_about_objects_that_tier_themselves() {
    let request = RestoreRequest { days: None, tier: None };
    let smart = predictor(&[Operation::Restore(request)], false);
    let known = ObjectState {
        class: MaybeKnown::Known(StorageClass::new("INTELLIGENT_TIERING")),
        restoration: MaybeKnown::Known(NONE),
        ..ObjectState::default()
    };
    let listed = ObjectState { restoration: MaybeKnown::Unknown, ..known.clone() };
    assert_eq!(smart.preview_reads(&listed, false), [ObjectRequest::Head], "only HEAD shows the tier");
    let of = |status| {
        let before = ObjectState { archive_status: MaybeKnown::Known(status), ..known.clone() };
        smart.predict(object(), smart.relevant_state(&before), None, AclAcceptance::Accepted).effect
    };
    assert!(matches!(of(ArchiveStatus::ArchiveAccess), Effect::Changes(_)));
    let Effect::Fails(reason) = of(ArchiveStatus::NotArchived) else { panic!("it is not archived") };
    assert_eq!((reason.code.as_str(), reason.http), ("ObjectAlreadyInActiveTierError", 403));
    let days = predictor(&[Operation::Restore(RestoreRequest { days: Some(1), tier: None })], false);
    assert!(days.preview_reads(&listed, false).is_empty(), "the class alone refuses days");
}

fn verified(operations: Vec<Operation>, found: &ObjectState, failure: Option<&ReadFailure>) -> Effect {
    let predictor = Predictor::verifying(OperationSet::new(operations), RestoreService::Aws);
    predictor.predict(object(), found.clone(), failure, AclAcceptance::Accepted).effect
}

#[test]
fn verification_compares_with_the_desired_state() {
    let tags = |pairs: &[(&str, &str)]| MaybeKnown::Known(pairs.iter().copied().collect::<TagSet>());
    let add = || vec![Operation::AddTagging([("a", "1")].into_iter().collect())];
    let found = |pairs: &[(&str, &str)]| ObjectState { tags: tags(pairs), ..ObjectState::default() };
    assert_eq!(verified(add(), &found(&[("a", "1"), ("b", "2")]), None), Effect::Unchanged);
    let expected = found(&[("a", "1"), ("b", "2")]);
    assert_eq!(verified(add(), &found(&[("a", "0"), ("b", "2")]), None), Effect::Changes(expected));
    // A bucket that accepts no ACL can still have one that is not as it should be.
    let predictor =
        Predictor::verifying(OperationSet::new(vec![Operation::PutAcl(ObjectAcl::Private)]), RestoreService::Aws);
    let public = ObjectState { acl: MaybeKnown::Known(ObjectAcl::PublicRead), ..ObjectState::default() };
    let private = ObjectState { acl: MaybeKnown::Known(ObjectAcl::Private), ..ObjectState::default() };
    let effect = |found: &ObjectState| predictor.predict(object(), found.clone(), None, AclAcceptance::Refused).effect;
    assert_eq!((effect(&public), effect(&private)), (Effect::Changes(private.clone()), Effect::Unchanged));
    assert_eq!(predictor.usable_facts(&private), ObjectState::default(), "an inventory may be old");
    assert_eq!(predictor.preview_reads(&ObjectState::default(), false), [ObjectRequest::GetAcl]);
}

#[test]
fn a_verified_restore_is_a_copy_or_a_restore_in_progress() {
    let restore = || vec![Operation::Restore(RestoreRequest { days: Some(3), tier: None })];
    let state = |class: &str, restoration, archive| ObjectState {
        class: MaybeKnown::Known(StorageClass::new(class)),
        restoration: MaybeKnown::Known(restoration),
        archive_status: MaybeKnown::Known(archive),
        ..ObjectState::default()
    };
    let (none, archived) = (ArchiveStatus::NotArchived, ArchiveStatus::ArchiveAccess);
    for (found, holds) in [
        (state("GLACIER", RestoreState::NotRestored, none), false),
        (state("GLACIER", RestoreState::InProgress, none), true),
        (state("GLACIER", RestoreState::RestoredUntil(jiff::Timestamp::UNIX_EPOCH), none), true),
        (state("STANDARD", RestoreState::NotRestored, none), true),
        (state("INTELLIGENT_TIERING", RestoreState::NotRestored, none), true),
        (state("INTELLIGENT_TIERING", RestoreState::NotRestored, archived), false),
        (state("SOMETHING", RestoreState::NotRestored, none), false),
    ] {
        assert_eq!(verified(restore(), &found, None) == Effect::Unchanged, holds, "{found:?}");
    }
    assert!(matches!(verified(restore(), &ObjectState::default(), None), Effect::Unknown(_)));
}

#[test]
fn only_an_object_that_certainly_does_not_exist_has_drifted_unread() {
    let put = || vec![Operation::PutTagging(TagSet::default())];
    for (status, code, drifted) in [
        (404, "NoSuchKey", true),
        (404, "NoSuchVersion", true),
        (405, "MethodNotAllowed", true),
        (404, "NoSuchBucket", false),
        (403, "AccessDenied", false),
        (501, "NotImplemented", false),
        (503, "SlowDown", false),
    ] {
        let effect = verified(put(), &ObjectState::default(), Some(&refused(code, status, ObjectRequest::GetTags)));
        assert_eq!(matches!(&effect, Effect::Fails(reason) if reason.code == code), drifted, "{code}: {effect:?}");
        assert_eq!(matches!(effect, Effect::Unknown(_)), !drifted, "{code}");
    }
}
