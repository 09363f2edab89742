use proptest::prelude::*;

use super::*;
use batchplan_store::object::{ObjectAcl, RestoreRequest};

const RULES: ScheduleRules = ScheduleRules { slots: 6, allow_overlap: false };

/// A job that touches one aspect of one object, given by its name; of unknown objects if there is none.
fn candidate(number: i64, priority: u32, object: Option<char>) -> ScheduleCandidate {
    let scope = object.map(|object| {
        let ranges = format!(r#"[{{"bucket":"b","first":"{object}","last":"{object}"}}]"#);
        let text = format!(r#"{{"store":"s","aspects":["tags"],"ranges":{ranges}}}"#);
        JobScope::from_text(&text).expect("a scope")
    });
    ScheduleCandidate { id: JobId::random(), number, priority, scope }
}

fn ids<'a>(candidates: impl IntoIterator<Item = &'a ScheduleCandidate>) -> Vec<JobId> {
    candidates.into_iter().map(|candidate| candidate.id.clone()).collect()
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let wait = [candidate(1, 0, Some('a')), candidate(2, 9, Some('b')), candidate(3, 9, Some('c'))];
    assert_eq!(startable(&wait, &[], RULES), ids([&wait[1], &wait[2], &wait[0]]));
    let one = ScheduleRules { slots: 1, ..RULES };
    assert_eq!(startable(&wait, &[], one), ids([&wait[1]]));
    assert_eq!(check_start(&wait[0], &wait, &[], one), Err(WaitReason::Slots(1)));
    assert_eq!(check_start(&wait[2], &wait, &[], one), Err(WaitReason::Slots(1)));
}

#[test]
fn a_job_beyond_the_slots_waits_whatever_its_priority() {
    let work: Vec<_> = ('a'..='f').zip(1..).map(|(object, number)| candidate(number, 0, Some(object))).collect();
    let urgent = candidate(7, u32::MAX, Some('x'));
    assert_eq!(check_start(&urgent, &[], &work, RULES), Err(WaitReason::Slots(6)));
    assert_eq!(check_start(&urgent, &[], &work[1..], RULES), Ok(()));
    assert_eq!(check_start(&urgent, &[], &[], ScheduleRules { slots: 0, ..RULES }), Err(WaitReason::Slots(0)));
}

#[test]
fn jobs_that_may_touch_the_same_go_one_after_the_other() {
    let (first, second) = (candidate(1, 0, Some('a')), candidate(2, 5, Some('a')));
    // The running job goes first, whatever waits.
    assert_eq!(
        check_start(&second, &[], std::slice::from_ref(&first), RULES),
        Err(WaitReason::Overlap(first.id.clone()))
    );
    // Of two waiting jobs, the one with the higher priority goes first.
    let wait = [first.clone(), second.clone()];
    assert_eq!(check_start(&first, &wait, &[], RULES), Err(WaitReason::Overlap(second.id.clone())));
    assert_eq!(check_start(&second, &wait, &[], RULES), Ok(()));
    let both = ScheduleRules { allow_overlap: true, ..RULES };
    assert_eq!(startable(&wait, &[], both), ids([&second, &first]));
}

#[test]
fn unknown_scopes_overlap_with_everything() {
    let (known, unknown) = (candidate(1, 0, Some('a')), candidate(2, 0, None));
    assert_eq!(
        check_start(&unknown, &[], std::slice::from_ref(&known), RULES),
        Err(WaitReason::Overlap(known.id.clone()))
    );
    assert_eq!(
        check_start(&known, &[], std::slice::from_ref(&unknown), RULES),
        Err(WaitReason::Overlap(unknown.id.clone()))
    );
}

#[test]
fn an_overlap_holds_back_no_other_job() {
    let work = [candidate(1, 0, Some('a'))];
    // The first in line waits for the running job, and takes no slot meanwhile.
    let wait = [candidate(2, 9, Some('a')), candidate(3, 1, Some('b')), candidate(4, 0, Some('c'))];
    let two = ScheduleRules { slots: 2, ..RULES };
    assert_eq!(startable(&wait, &work, two), ids([&wait[1]]));
    assert_eq!(startable(&wait, &work, RULES), ids([&wait[1], &wait[2]]));
}

fn candidates(numbers: std::ops::Range<i64>) -> impl Strategy<Value = Vec<ScheduleCandidate>> {
    let one =
        (0_u32..4, prop::option::weighted(0.9, prop::sample::select(vec!['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])));
    prop::collection::vec(one, 0..12).prop_map(move |drawn| {
        let numbered = numbers.clone().zip(drawn);
        numbered.map(|(number, (priority, object))| candidate(number, priority, object)).collect()
    })
}

/// Returns jobs that may run together: each may start beside those before it.
fn at_work(drawn: Vec<ScheduleCandidate>, rules: ScheduleRules) -> Vec<ScheduleCandidate> {
    drawn.into_iter().fold(Vec::new(), |mut work, candidate| {
        if check_start(&candidate, &[], &work, rules).is_ok() {
            work.push(candidate);
        }
        work
    })
}

proptest! {
    #[test]
    fn the_line_is_kept(
        wait in candidates(0..100).prop_shuffle(), work in candidates(100..200), shuffled in any::<u64>(),
        slots in 0_usize..8, allow_overlap in any::<bool>(),
    ) {
        let rules = ScheduleRules { slots, allow_overlap };
        let work = at_work(work, rules);
        let gone = startable(&wait, &work, rules);
        let of = |id: &JobId| wait.iter().find(|candidate| candidate.id == *id).expect("it waits");
        let together: Vec<_> = work.iter().chain(gone.iter().map(of)).collect();
        // Never more jobs than slots, and never two that may touch the same object.
        prop_assert!(together.len() <= slots);
        for (place, one) in together.iter().enumerate() {
            let touches = |other: &&&ScheduleCandidate| may_overlap(one, other);
            prop_assert!(allow_overlap || !together[place + 1..].iter().any(|other| touches(&other)));
        }
        // Jobs that start first come first.
        let order = |candidate: &ScheduleCandidate| (std::cmp::Reverse(candidate.priority), candidate.number);
        prop_assert!(gone.is_sorted_by_key(|id| order(of(id))));
        for candidate in &wait {
            match check_start(candidate, &wait, &work, rules) {
                Ok(()) => prop_assert!(gone.contains(&candidate.id)),
                // A job that waits for another one waits for a running job, or for one that starts before it.
                Err(WaitReason::Overlap(other)) => {
                    let other = together.iter().find(|one| one.id == other);
                    prop_assert!(other.is_some_and(|other| may_overlap(candidate, other)));
                    prop_assert!(other.is_some_and(|other| other.number >= 100 || order(other) < order(candidate)));
                }
                // A job that waits for a slot finds none: running jobs and those that start before it fill them.
                Err(WaitReason::Slots(count)) => {
                    let before = gone.iter().filter(|id| order(of(id)) < order(candidate)).count();
                    prop_assert_eq!(count, work.len() + before);
                    prop_assert!(count >= slots);
                }
            }
        }
        // Every process that reads the same jobs decides the same, in whatever order it reads them.
        let mut random = fastrand::Rng::with_seed(shuffled);
        let (mut other_wait, mut other_work) = (wait.clone(), work.clone());
        random.shuffle(&mut other_wait);
        random.shuffle(&mut other_work);
        prop_assert_eq!(startable(&other_wait, &other_work, rules), gone);
        for candidate in &wait {
            let (one, other) = (check_start(candidate, &wait, &work, rules), check_start(candidate, &other_wait, &other_work, rules));
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn whoever_goes_in_turn_is_never_too_many(drawn in candidates(0..100), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut wait, mut work) = (drawn, Vec::<ScheduleCandidate>::new());
        while !wait.is_empty() {
            // Any waiting job may check first, on its own, and any running job may end.
            let place = random.usize(..wait.len());
            if check_start(&wait[place], &wait, &work, RULES).is_ok() {
                work.push(wait.swap_remove(place));
            } else if random.bool() && !work.is_empty() {
                work.swap_remove(random.usize(..work.len()));
            }
            prop_assert!(work.len() <= RULES.slots);
            for (place, one) in work.iter().enumerate() {
                prop_assert!(!work[place + 1..].iter().any(|other| may_overlap(one, other)));
            }
            // While there are jobs and none runs, at least one may start.
            prop_assert!(wait.is_empty() || !work.is_empty() || !startable(&wait, &work, RULES).is_empty());
        }
    }
}

fn range(bucket: &str, first: &[u8], last: &[u8]) -> EncodedKeyRange {
    EncodedKeyRange::encode(&KeyRange {
        bucket: BucketName::new(bucket),
        first: ObjectKey::new(first),
        last: ObjectKey::new(last),
    })
}

/// Returns a scope that covers the tags of the keys from `first` to `last`.
fn tags(first: &str, last: &str) -> JobScope {
    JobScope {
        store: "s3 here".to_owned(),
        aspects: [ObjectAspect::Tags].into(),
        ranges: Some(vec![range("b", first.as_bytes(), last.as_bytes())]),
    }
}

fn overlap(one: &JobScope, other: &JobScope) -> bool {
    assert_eq!(one.overlaps(other), other.overlaps(one), "{one:?} {other:?}");
    let stored = |scope: &JobScope| JobScope::from_text(&scope.to_text().expect("text")).expect("a scope");
    assert_eq!(stored(one).overlaps(&stored(other)), one.overlaps(other));
    one.overlaps(other)
}

#[test]
fn only_the_same_aspect_of_the_same_objects_in_the_same_store_overlaps() {
    let mine = tags("docs/a", "docs/m");
    let cases = [
        (tags("docs/m", "docs/z"), true),
        (tags("docs/n", "docs/z"), false),
        (JobScope { store: "s3 there".to_owned(), ..mine.clone() }, false),
        (JobScope { aspects: [ObjectAspect::Acl, ObjectAspect::Restoration].into(), ..mine.clone() }, false),
        (JobScope { aspects: [ObjectAspect::Acl, ObjectAspect::Tags].into(), ..mine.clone() }, true),
        (JobScope { aspects: BTreeSet::new(), ..mine.clone() }, false),
        (JobScope { ranges: Some(vec![range("c", b"docs/a", b"docs/m")]), ..mine.clone() }, false),
        (
            JobScope { ranges: Some(vec![range("a", b"", b"z"), range("b", b"docs/b", b"docs/c")]), ..mine.clone() },
            true,
        ),
        (JobScope { ranges: Some(Vec::new()), ..mine.clone() }, false),
        (JobScope { ranges: None, ..mine.clone() }, true),
        (JobScope { ranges: None, store: "s3 there".to_owned(), ..mine.clone() }, false),
        (JobScope { ranges: None, aspects: [ObjectAspect::Acl].into(), ..mine.clone() }, false),
    ];
    for (other, expected) in cases {
        assert_eq!(overlap(&mine, &other), expected, "{other:?}");
    }
    let unknown = JobScope { ranges: None, ..mine.clone() };
    assert!(overlap(&unknown, &unknown.clone()));
    assert!(!overlap(&unknown, &JobScope { ranges: Some(Vec::new()), ..mine }), "it has no objects");
}

#[test]
fn every_operation_has_its_aspect() {
    let cases = [
        (Operation::PutTagging([("a", "1")].into_iter().collect()), ObjectAspect::Tags),
        (Operation::AddTagging([("a", "1")].into_iter().collect()), ObjectAspect::Tags),
        (Operation::DeleteTagging(None), ObjectAspect::Tags),
        (Operation::DeleteTagging(Some(vec!["a".to_owned()])), ObjectAspect::Tags),
        (Operation::PutAcl(ObjectAcl::Private), ObjectAspect::Acl),
        (Operation::Restore(RestoreRequest { days: Some(1), tier: None }), ObjectAspect::Restoration),
    ];
    for (operation, aspect) in cases {
        assert_eq!(operation.aspect(), aspect);
    }
}

#[test]
fn unreadable_scopes_are_unknown() {
    for text in ["", "{}", "null", r#"{"store":"s","aspects":["colour"],"ranges":null}"#, r#"{"store":1}"#] {
        assert_eq!(JobScope::from_text(text), None, "{text}");
    }
    let text =
        r#"{"store":"s","aspects":["tags","restoration"],"ranges":[{"bucket":"b","first":"a%2F","last":"a%FF"}]}"#;
    let scope = JobScope::from_text(text).expect("what this version writes");
    assert_eq!(scope.to_text().expect("text"), text, "and goes on writing: other processes read it");
}

proptest! {
    #[test]
    fn any_key_is_kept(
        first in prop::collection::vec(any::<u8>(), 0..12), last in prop::collection::vec(any::<u8>(), 0..12),
        key in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let (first, last) = (first.clone().min(last.clone()), first.max(last));
        let scope = JobScope { ranges: Some(vec![range("b", &first, &last)]), ..tags("", "") };
        let stored = JobScope::from_text(&scope.to_text().expect("text")).expect("a scope");
        prop_assert_eq!(&stored, &scope);
        let expected = KeyRange { bucket: BucketName::new("b"), first: ObjectKey::new(first.clone()), last: ObjectKey::new(last.clone()) };
        prop_assert_eq!(stored.key_ranges(), KeyRanges::Known(vec![expected]));
        // A single object is within the range exactly if its key is.
        let object = JobScope { ranges: Some(vec![range("b", &key, &key)]), ..tags("", "") };
        prop_assert_eq!(overlap(&scope, &object), first <= key && key <= last);
    }
}
