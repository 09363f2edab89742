use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { slots: 6, allow_overlap: false };

/// A job that touches one aspect of one object, given by its name; of unknown objects if there is none.
fn candidate(number: i64, priority: u32, object: Option<char>) -> Candidate {
    let scope = object.map(|object| {
        let ranges = format!(r#"[{{"bucket":"b","first":"{object}","last":"{object}"}}]"#);
        let text = format!(r#"{{"store":"s","aspects":["tags"],"ranges":{ranges}}}"#);
        Scope::from_text(&text).expect("a scope")
    });
    Candidate { id: JobId::random(), number, priority, scope }
}

fn ids<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Vec<JobId> {
    candidates.into_iter().map(|candidate| candidate.id.clone()).collect()
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let wait = [candidate(1, 0, Some('a')), candidate(2, 9, Some('b')), candidate(3, 9, Some('c'))];
    assert_eq!(going(&wait, &[], RULES), ids([&wait[1], &wait[2], &wait[0]]));
    let one = Rules { slots: 1, ..RULES };
    assert_eq!(going(&wait, &[], one), ids([&wait[1]]));
    assert_eq!(may_go(&wait[0], &wait, &[], one), Err(Waiting::Slots(1)));
    assert_eq!(may_go(&wait[2], &wait, &[], one), Err(Waiting::Slots(1)));
}

#[test]
fn a_job_beyond_the_slots_waits_whatever_its_priority() {
    let work: Vec<_> = ('a'..='f').zip(1..).map(|(object, number)| candidate(number, 0, Some(object))).collect();
    let urgent = candidate(7, u32::MAX, Some('x'));
    assert_eq!(may_go(&urgent, &[], &work, RULES), Err(Waiting::Slots(6)));
    assert_eq!(may_go(&urgent, &[], &work[1..], RULES), Ok(()));
    assert_eq!(may_go(&urgent, &[], &[], Rules { slots: 0, ..RULES }), Err(Waiting::Slots(0)));
}

#[test]
fn jobs_that_may_touch_the_same_go_one_after_the_other() {
    let (first, second) = (candidate(1, 0, Some('a')), candidate(2, 5, Some('a')));
    // The running job goes first, whatever waits.
    assert_eq!(may_go(&second, &[], std::slice::from_ref(&first), RULES), Err(Waiting::Overlap(first.id.clone())));
    // Of two waiting jobs, the one with the higher priority goes first.
    let wait = [first.clone(), second.clone()];
    assert_eq!(may_go(&first, &wait, &[], RULES), Err(Waiting::Overlap(second.id.clone())));
    assert_eq!(may_go(&second, &wait, &[], RULES), Ok(()));
    let both = Rules { allow_overlap: true, ..RULES };
    assert_eq!(going(&wait, &[], both), ids([&second, &first]));
}

#[test]
fn what_is_not_known_may_be_the_same() {
    let (known, unknown) = (candidate(1, 0, Some('a')), candidate(2, 0, None));
    assert_eq!(may_go(&unknown, &[], std::slice::from_ref(&known), RULES), Err(Waiting::Overlap(known.id.clone())));
    assert_eq!(may_go(&known, &[], std::slice::from_ref(&unknown), RULES), Err(Waiting::Overlap(unknown.id.clone())));
}

#[test]
fn one_that_is_kept_back_keeps_back_nobody_else() {
    let work = [candidate(1, 0, Some('a'))];
    // The first in line waits for the running job, and takes no slot meanwhile.
    let wait = [candidate(2, 9, Some('a')), candidate(3, 1, Some('b')), candidate(4, 0, Some('c'))];
    let two = Rules { slots: 2, ..RULES };
    assert_eq!(going(&wait, &work, two), ids([&wait[1]]));
    assert_eq!(going(&wait, &work, RULES), ids([&wait[1], &wait[2]]));
}

fn candidates(numbers: std::ops::Range<i64>) -> impl Strategy<Value = Vec<Candidate>> {
    let one =
        (0_u32..4, prop::option::weighted(0.9, prop::sample::select(vec!['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])));
    prop::collection::vec(one, 0..12).prop_map(move |drawn| {
        let numbered = numbers.clone().zip(drawn);
        numbered.map(|(number, (priority, object))| candidate(number, priority, object)).collect()
    })
}

/// Returns jobs that may run together: each may start beside those before it.
fn at_work(drawn: Vec<Candidate>, rules: Rules) -> Vec<Candidate> {
    drawn.into_iter().fold(Vec::new(), |mut work, candidate| {
        if may_go(&candidate, &[], &work, rules).is_ok() {
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
        let rules = Rules { slots, allow_overlap };
        let work = at_work(work, rules);
        let gone = going(&wait, &work, rules);
        let of = |id: &JobId| wait.iter().find(|candidate| candidate.id == *id).expect("it waits");
        let together: Vec<_> = work.iter().chain(gone.iter().map(of)).collect();
        // Never more jobs than slots, and never two that may touch the same object.
        prop_assert!(together.len() <= slots);
        for (place, one) in together.iter().enumerate() {
            let touches = |other: &&&Candidate| overlap(one, other);
            prop_assert!(allow_overlap || !together[place + 1..].iter().any(|other| touches(&other)));
        }
        // Jobs that start first come first.
        let order = |candidate: &Candidate| (std::cmp::Reverse(candidate.priority), candidate.number);
        prop_assert!(gone.is_sorted_by_key(|id| order(of(id))));
        for candidate in &wait {
            match may_go(candidate, &wait, &work, rules) {
                Ok(()) => prop_assert!(gone.contains(&candidate.id)),
                // A job that waits for another one waits for a running job, or for one that starts before it.
                Err(Waiting::Overlap(other)) => {
                    let other = together.iter().find(|one| one.id == other);
                    prop_assert!(other.is_some_and(|other| overlap(candidate, other)));
                    prop_assert!(other.is_some_and(|other| other.number >= 100 || order(other) < order(candidate)));
                }
                // A job that waits for a slot finds none: running jobs and those that start before it fill them.
                Err(Waiting::Slots(count)) => {
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
        prop_assert_eq!(going(&other_wait, &other_work, rules), gone);
        for candidate in &wait {
            let (one, other) = (may_go(candidate, &wait, &work, rules), may_go(candidate, &other_wait, &other_work, rules));
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn whoever_goes_in_turn_is_never_too_many(drawn in candidates(0..100), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut wait, mut work) = (drawn, Vec::<Candidate>::new());
        while !wait.is_empty() {
            // Any waiting job may check first, on its own, and any running job may end.
            let place = random.usize(..wait.len());
            if may_go(&wait[place], &wait, &work, RULES).is_ok() {
                work.push(wait.swap_remove(place));
            } else if random.bool() && !work.is_empty() {
                work.swap_remove(random.usize(..work.len()));
            }
            prop_assert!(work.len() <= RULES.slots);
            for (place, one) in work.iter().enumerate() {
                prop_assert!(!work[place + 1..].iter().any(|other| overlap(one, other)));
            }
            // While there are jobs and none runs, at least one may start.
            prop_assert!(wait.is_empty() || !work.is_empty() || !going(&wait, &work, RULES).is_empty());
        }
    }
}
