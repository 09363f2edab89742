use super::*;
use crate::object::{Acl, Bucket, Key, StorageClass, TagSet, Tier};
use crate::task::FaultClass;

fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs.iter().copied().collect()
}

fn tagged(pairs: &[(&str, &str)]) -> ObjectState {
    ObjectState { tags: Fact::Known(tags(pairs)), ..ObjectState::default() }
}

fn judge(operations: &[Operation], skips: bool) -> Judge {
    Judge::new(Operations::new(operations.to_vec()).skipping_unchanged(skips), Service::Aws)
}

fn object() -> ObjectId {
    ObjectId { bucket: Bucket::new("b"), key: Key::from("k"), version: None }
}

fn fate(operations: &[Operation], skips: bool, before: ObjectState) -> Prospect {
    judge(operations, skips).judge(object(), before, None, true)
}

fn refused(code: &str, status: u16, call: Call) -> Trouble {
    let fault = Fault::unanswered(FaultClass::Rejected, code, "no", String::new());
    Trouble { call, fault: Fault { status: Some(status), ..fault } }
}

#[test]
fn what_is_as_it_should_be_is_written_to_unless_the_plan_says_otherwise() {
    let put = [Operation::PutTagging(tags(&[("a", "1")]))];
    let same = fate(&put, false, tagged(&[("a", "1")]));
    assert_eq!((same.fate, same.sends), (Fate::Stays, vec![Call::PutTags(tags(&[("a", "1")]))]));
    let skipped = fate(&put, true, tagged(&[("a", "1")]));
    assert_eq!((skipped.fate, skipped.sends), (Fate::Stays, vec![Call::GetTags]));
    let other = fate(&put, true, tagged(&[("b", "2")]));
    assert_eq!(other.fate, Fate::Changes(tagged(&[("a", "1")])));
    assert_eq!(other.sends, [Call::GetTags, Call::PutTags(tags(&[("a", "1")]))]);
}

#[test]
fn an_object_with_too_many_tags_fails_before_anything_is_written() {
    let full: TagSet = (0..10).map(|number| (format!("k{number}"), "")).collect();
    let before = ObjectState { tags: Fact::Known(full), ..ObjectState::default() };
    let both = [Operation::PutAcl(Acl::Private), Operation::AddTagging(tags(&[("new", "")]))];
    let Prospect { fate, sends, refused, .. } = fate(&both, false, before);
    let Fate::Fails(reason) = fate else { panic!("{fate:?}") };
    assert_eq!(
        (reason.code.as_str(), reason.http, reason.operation.as_str()),
        ("TooManyTags", 0, "add_object_tagging")
    );
    assert_eq!((sends, refused), (vec![Call::GetTags], vec![]));
}

#[test]
fn what_is_not_there_fails_whichever_request_showed_it() {
    let put = judge(&[Operation::PutTagging(tags(&[("a", "1")]))], false);
    let gone = put.judge(object(), ObjectState::default(), Some(&refused("NoSuchKey", 404, Call::GetTags)), true);
    let Fate::Fails(reason) = gone.fate else { panic!("{:?}", gone.fate) };
    assert_eq!((reason.code.as_str(), reason.operation.as_str()), ("NoSuchKey", "put_object_tagging"));
    assert_eq!((gone.sends, gone.refused), (vec![], vec![Call::PutTags(tags(&[("a", "1")]))]));
}

#[test]
fn a_refused_look_is_a_failure_only_where_the_job_looks_too() {
    let denied = refused("AccessDenied", 403, Call::GetTags);
    let of = |operation, skips| judge(&[operation], skips).judge(object(), ObjectState::default(), Some(&denied), true);
    let open = of(Operation::PutTagging(tags(&[("a", "1")])), false);
    assert!(matches!(open.fate, Fate::Open(_)), "{:?}", open.fate);
    for fails in
        [of(Operation::AddTagging(tags(&[("a", "1")])), false), of(Operation::PutTagging(tags(&[("a", "1")])), true)]
    {
        assert!(matches!(&fails.fate, Fate::Fails(reason) if reason.code == "AccessDenied"), "{:?}", fails.fate);
        assert_eq!(fails.refused, [Call::GetTags]);
    }
}

#[test]
fn what_the_manifest_tells_is_not_asked() {
    let all = [
        Operation::PutTagging(tags(&[])),
        Operation::PutAcl(Acl::Private),
        Operation::Restore(RestoreRequest { days: 1, tier: None }),
    ];
    let judge = judge(&all, false);
    let nothing = ObjectState::default();
    assert_eq!(judge.looks(&nothing, false), [Call::GetTags, Call::GetAcl, Call::Head]);
    let told = ObjectState { acl: Fact::Known(Acl::Private), ..ObjectState::default() };
    assert_eq!(judge.looks(&told, false), [Call::GetTags, Call::Head]);
    let class = |name| ObjectState { class: Fact::Known(StorageClass::new(name)), ..ObjectState::default() };
    assert_eq!(judge.looks(&class("GLACIER"), true), [Call::GetTags, Call::GetAcl, Call::Head]);
    assert_eq!(judge.looks(&class("STANDARD"), true), [Call::GetTags, Call::GetAcl], "it cannot be restored");
    let tags_alone = Judge::new(Operations::new(all[..1].to_vec()), Service::Aws);
    assert_eq!(tags_alone.looks(&nothing, true), [Call::GetTags, Call::Head]);
    assert_eq!(tags_alone.looks(&class("STANDARD"), true), [Call::GetTags]);
}

#[test]
fn requests_are_counted_up_to_the_one_that_fails() {
    let request = RestoreRequest { days: 1, tier: Some(Tier::Expedited) };
    let all = [Operation::Restore(request), Operation::PutAcl(Acl::Private)];
    let before = ObjectState {
        acl: Fact::Known(Acl::PublicRead),
        class: Fact::Known(StorageClass::new("DEEP_ARCHIVE")),
        restoration: Fact::Known(Restoration::Absent),
        ..ObjectState::default()
    };
    let prospect = fate(&all, false, before.clone());
    assert!(matches!(&prospect.fate, Fate::Fails(reason) if reason.operation == "restore_object"));
    assert_eq!((prospect.sends, prospect.refused), (vec![Call::PutAcl(Acl::Private)], vec![Call::Restore(request)]));
    let closed = judge(&all, false).judge(object(), before, None, false);
    assert!(matches!(&closed.fate, Fate::Fails(reason) if reason.code == "AccessControlListNotSupported"));
    assert_eq!((closed.sends, closed.refused), (vec![], vec![Call::PutAcl(Acl::Private)]));
}

#[test]
fn an_untiered_class_takes_a_refusal_a_look_and_a_second_request() {
    let request = RestoreRequest { days: 1, tier: Some(Tier::Standard) };
    let judge = Judge::new(Operations::new(vec![Operation::Restore(request)]), Service::Oss);
    let before = ObjectState {
        class: Fact::Known(StorageClass::new("Archive")),
        restoration: Fact::Known(Restoration::Absent),
        ..ObjectState::default()
    };
    let prospect = judge.judge(object(), before, None, true);
    assert!(matches!(prospect.fate, Fate::Changes(_)));
    let untiered = Call::Restore(RestoreRequest { days: 1, tier: None });
    assert_eq!((prospect.sends, prospect.refused), (vec![Call::Head, untiered], vec![Call::Restore(request)]));
}

#[test]
fn a_read_that_is_refused_after_another_names_its_own_operation() {
    let both = [Operation::PutTagging(tags(&[])), Operation::PutAcl(Acl::Private)];
    let denied = refused("AccessDenied", 403, Call::GetAcl);
    let prospect = judge(&both, true).judge(object(), tagged(&[]), Some(&denied), true);
    assert!(matches!(&prospect.fate, Fate::Fails(reason) if reason.operation == "put_object_acl"), "{prospect:?}");
    assert_eq!((prospect.sends, prospect.refused), (vec![Call::GetTags], vec![Call::GetAcl]));
}

#[test]
fn what_the_job_does_not_touch_is_not_told() {
    let known = ObjectState {
        acl: Fact::Known(Acl::Private),
        restoration: Fact::Known(Restoration::Absent),
        class: Fact::Known(StorageClass::new("GLACIER")),
        ..tagged(&[("a", "1")])
    };
    let tags_alone = judge(&[Operation::DeleteTagging(None)], false);
    let class = known.class.clone();
    assert_eq!(tags_alone.relevant(known.clone()), ObjectState { class, ..tagged(&[("a", "1")]) });
    assert!(!tags_alone.hangs_on(&Call::Head) && tags_alone.hangs_on(&Call::GetTags));
    let request = RestoreRequest { days: 1, tier: None };
    let all = judge(&[Operation::PutAcl(Acl::Private), Operation::Restore(request)], false);
    assert_eq!(all.relevant(known.clone()), known);
    assert!(all.hangs_on(&Call::Head));
}
