use jiff::Timestamp;
use proptest::prelude::*;

use super::super::record::JobSource;
use super::super::testing::{
    create_job, error_with_hint, hour, insert_raw, journal, move_to, moves_to, new_job, some_ids,
};
use super::*;

/// The id of the job that was found, if there was one.
fn found(creation: Result<JobCreation, JournalError>) -> Option<JobId> {
    match creation.expect("no error") {
        JobCreation::Created(_) => None,
        JobCreation::Existing(job) => Some(job.id),
    }
}

fn ids(jobs: &[JobRecord]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id.clone()).collect()
}

fn all() -> JobQuery {
    JobQuery { limit: u32::MAX, ..JobQuery::default() }
}

#[test]
fn created_jobs_are_returned_unchanged() {
    let (_folder, journal) = journal();
    let wanted = NewJob { token: Some("token".to_owned()), confirmed: true, priority: u32::MAX, ..new_job("one") };
    let job = create_job(&journal, wanted.clone());
    let again = journal.find(job.id.as_str()).expect("found");
    assert_eq!(format!("{job:?}"), format!("{again:?}"));
    assert_eq!((again.id, again.identity, again.token), (wanted.id, wanted.identity, wanted.token));
    assert_eq!((again.name, again.description, again.source), (wanted.name, wanted.description, wanted.source));
    assert_eq!(
        (again.plan_file, again.plan_hash, again.plan_text),
        (wanted.plan_file, wanted.plan_hash, wanted.plan_text)
    );
    assert_eq!((again.status, again.confirmed, again.priority), (JobStatus::New, true, u32::MAX));
    assert_eq!((again.created, again.changed, again.ended), (hour(0), hour(0), None));
    assert_eq!((again.next_row, again.request, again.report_delivery), (None, None, ReportDelivery::None));
}

#[test]
fn unfinished_work_has_one_job_and_finished_work_gets_another() {
    let (_folder, journal) = journal();
    let first = create_job(&journal, new_job("one"));
    for status in JobStatus::ALL.into_iter().filter(|status| !status.is_over()) {
        let job = create_job(&journal, new_job(&status.to_string()));
        move_to(&journal, &job.id, status, hour(1));
        assert_eq!(found(journal.create(new_job(&status.to_string()), false, hour(2))), Some(job.id), "{status}");
    }
    // A changed plan with the same name is found as well: the caller compares the hashes.
    let changed = NewJob { plan_hash: "another".to_owned(), ..new_job("one") };
    assert_eq!(found(journal.create(changed, false, hour(1))), Some(first.id.clone()));
    assert_eq!(found(journal.create(new_job("one"), true, hour(1))), None, "afresh");
    for status in [JobStatus::Complete, JobStatus::Cancelled, JobStatus::Failed, JobStatus::Cleaning] {
        let job = create_job(&journal, new_job(&status.to_string()));
        move_to(&journal, &job.id, status, hour(1));
        assert_eq!(found(journal.create(new_job(&status.to_string()), false, hour(2))), None, "{status}");
    }
}

#[test]
fn a_token_stands_for_one_plan_for_ever() {
    let (_folder, journal) = journal();
    let with_token = || NewJob { token: Some("t".to_owned()), ..new_job("one") };
    let first = create_job(&journal, with_token());
    for afresh in [false, true] {
        assert_eq!(found(journal.create(with_token(), afresh, hour(1))), Some(first.id.clone()));
    }
    move_to(&journal, &first.id, JobStatus::Complete, hour(1));
    for afresh in [false, true] {
        assert_eq!(found(journal.create(with_token(), afresh, hour(2))), Some(first.id.clone()));
        let other = NewJob { plan_hash: "another".to_owned(), ..with_token() };
        // The caller reports the difference.
        assert_eq!(found(journal.create(other, afresh, hour(2))), Some(first.id.clone()));
    }
    assert_eq!(journal.list(all()).expect("listed").len(), 1);
}

#[test]
fn a_thousand_may_wait_and_no_more() {
    let (_folder, journal) = journal();
    let most = u32::try_from(MAX_WAITING_JOBS).expect("small");
    insert_raw(&journal, some_ids(most - 1), "Ready");
    let last = create_job(&journal, new_job("the last"));
    let error = journal.create(new_job("one more"), false, hour(0)).expect_err("it is full");
    assert!(matches!(error, JournalError::QueueFull(1000)), "{error}");
    assert!(error_with_hint(&error).contains("batchplan run"), "{}", error_with_hint(&error));
    assert_eq!(
        found(journal.create(new_job("the last"), false, hour(0))),
        Some(last.id.clone()),
        "it is there already"
    );
    move_to(&journal, &last.id, JobStatus::Active, hour(0));
    create_job(&journal, new_job("one more"));
}

#[test]
fn a_job_is_found_by_any_beginning_of_its_id_that_no_other_has() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    for length in 1..=job.id.as_str().len() {
        assert_eq!(journal.find(&job.id.as_str()[..length]).expect("found").id, job.id);
    }
    insert_raw(&journal, some_ids(40), "Complete");
    let [first, second] = &some_ids(2)[..] else { panic!("two") };
    let common = first.bytes().zip(second.bytes()).take_while(|(one, other)| one == other).count();
    assert_eq!(journal.find(&second[..=common]).expect("found").id.as_str(), second);
    let error = journal.find(&first[..6]).expect_err("there are forty");
    assert!(matches!(&error, JournalError::AmbiguousId { count: 40, .. }), "{error}");
    assert!(error_with_hint(&error).contains("use a longer prefix"), "{}", error_with_hint(&error));
    // A job that is being removed is neither found nor counted.
    let hidden: JobId = first.parse().expect("an id");
    journal.advance(&hidden, JobStatus::Cleaning, StatusReason::default(), hour(0)).expect("moved");
    assert!(matches!(journal.find(first), Err(JournalError::NoSuchJob(_))));
    assert!(matches!(journal.find(&first[..6]), Err(JournalError::AmbiguousId { count: 39, .. })));
}

#[test]
fn a_hostile_prefix_finds_nothing() {
    let (_folder, journal) = journal();
    insert_raw(&journal, some_ids(1), "Complete");
    let whole = &some_ids(1)[0];
    let (million, longer, lower) = ("M".repeat(1_000_000), format!("{whole}M"), whole.to_lowercase());
    let hostile = [
        "",
        "*",
        "?",
        "%",
        "_",
        "'",
        "' OR 1=1 --",
        "[M]",
        "[A-Z]*",
        "M*",
        "M%",
        "..",
        "M\0",
        "\u{1F980}",
        " M",
        "~",
        &million,
        &longer,
        &lower,
    ];
    for prefix in hostile {
        let error = journal.find(prefix).expect_err(prefix);
        assert!(matches!(error, JournalError::NoSuchJob(_)), "{prefix:.20}: {error:?}");
        assert!(error.to_string().len() < 300, "{} bytes", error.to_string().len());
        assert!(error_with_hint(&error).contains("batchplan list"), "{}", error_with_hint(&error));
    }
}

#[test]
fn jobs_are_listed_newest_first_by_status_and_time() {
    let (_folder, journal) = journal();
    let jobs: Vec<_> = (0..12)
        .map(|n| match journal.create(new_job(&n.to_string()), false, hour(n)).expect("created") {
            JobCreation::Created(job) => job.id,
            JobCreation::Existing(job) => panic!("there is {}", job.id),
        })
        .collect();
    for (job, status) in jobs.iter().zip(JobStatus::ALL) {
        move_to(&journal, job, status, hour(20));
    }
    let newest_first: Vec<_> = jobs.iter().rev().cloned().collect();
    let listed = |query: JobQuery| ids(&journal.list(query).expect("listed"));
    assert_eq!(listed(all()), newest_first);
    for (job, status) in jobs.iter().zip(JobStatus::ALL) {
        assert_eq!(listed(JobQuery { statuses: vec![status], ..all() }), std::slice::from_ref(job), "{status}");
    }
    let two = vec![JobStatus::New, JobStatus::Failed];
    assert_eq!(listed(JobQuery { statuses: two, ..all() }), [jobs[11].clone(), jobs[0].clone()]);
    // `created_from` is inclusive, `created_until` is exclusive.
    let between = JobQuery { created_from: Some(hour(3)), created_until: Some(hour(6)), ..all() };
    assert_eq!(listed(between), newest_first[6..9]);
    assert_eq!(listed(JobQuery { created_from: Some(Timestamp::MAX), ..all() }), []);
    assert_eq!(listed(JobQuery { created_until: Some(Timestamp::MIN), ..all() }), []);
    assert_eq!(listed(JobQuery { limit: 0, ..all() }), []);
    move_to(&journal, &jobs[0], JobStatus::Cleaning, hour(21));
    assert_eq!(listed(all()), newest_first[..11], "what is being removed is not shown");
    assert_eq!(listed(JobQuery { statuses: vec![JobStatus::Cleaning], ..all() }), []);
}

#[test]
fn pages_hold_every_job_once_while_others_come() {
    let (_folder, journal) = journal();
    insert_raw(&journal, some_ids(25), "Complete");
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = journal.list(JobQuery { older_than: after, limit: 10, ..JobQuery::default() }).expect("listed");
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        seen.extend(ids(&page));
        create_job(&journal, new_job(&seen.len().to_string()));
    }
    let expected: Vec<_> = some_ids(25).into_iter().rev().collect();
    assert_eq!(seen.iter().map(JobId::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn every_legal_move_is_made_and_recorded_and_no_other() {
    let (_folder, journal) = journal();
    for from in JobStatus::ALL {
        for to in JobStatus::ALL {
            let job = create_job(&journal, new_job(&format!("{from} {to}")));
            move_to(&journal, &job.id, from, hour(1));
            let whole = || {
                let id = job.id.clone();
                journal.run_blocking(move |connection| find_any(connection, &id)).expect("read").expect("it is there")
            };
            let before = whole();
            assert_eq!(before.status, from);
            let why = StatusReason::paused(PauseCause::Machine, "because");
            match journal.advance(&job.id, to, why, hour(2)) {
                Ok(after) => {
                    assert!(from.can_become(to), "{from} -> {to}");
                    assert_eq!(format!("{:?}", whole()), format!("{after:?}"));
                    assert_eq!((after.status, after.changed), (to, hour(2)));
                    assert_eq!(
                        (after.reason.as_deref(), after.pause_cause),
                        (Some("because"), Some(PauseCause::Machine))
                    );
                    let ends = matches!(to, JobStatus::Complete | JobStatus::Cancelled | JobStatus::Failed);
                    assert_eq!(after.ended, if ends { Some(hour(2)) } else { before.ended }, "{from} -> {to}");
                }
                Err(JournalError::IllegalStatusMove { job: id, from: was, to: wanted }) => {
                    assert!(!from.can_become(to), "{from} -> {to}");
                    assert_eq!((id, was, wanted), (job.id.clone(), from, to));
                    assert_eq!(format!("{:?}", whole()), format!("{before:?}"));
                }
                Err(error) => panic!("{from} -> {to}: {error}"),
            }
        }
    }
}

#[test]
fn a_job_that_is_not_there_is_an_error_whatever_is_wanted_of_it() {
    let (_folder, journal) = journal();
    let id = JobId::random();
    let errors = [
        journal.advance(&id, JobStatus::Preparing, StatusReason::default(), hour(0)).err(),
        journal.set_priority(&id, 1).err(),
        journal.confirm(&id).err(),
        journal.set_scope(&id, String::new()).err(),
        journal.set_total(&id, 1).err(),
        journal.set_report_delivery(&id, ReportDelivery::Due, None).err(),
        journal.request(&id, ControlRequest::Cancel, None).err(),
        journal.replace_plan(&id, Vec::new(), None).err(),
        journal.remove_cleaned(&id).err(),
    ];
    for (place, error) in errors.into_iter().enumerate() {
        assert!(matches!(error, Some(JournalError::NoSuchJob(_))), "{place}: {error:?}");
    }
}

#[test]
fn a_job_that_was_confirmed_while_it_was_prepared_is_not_suspended() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    journal.advance(&job.id, JobStatus::Preparing, StatusReason::default(), hour(0)).expect("moved");
    journal.confirm(&job.id).expect("confirmed");
    // The process that prepares the job has not seen the confirmation.
    let moved = journal.advance(&job.id, JobStatus::Suspended, StatusReason::default(), hour(0)).expect("moved");
    assert_eq!(moved.status, JobStatus::Ready);
}

#[test]
fn a_request_stands_until_it_is_answered() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let asked = || journal.find(job.id.as_str()).expect("found").request;
    let go = |to| journal.advance(&job.id, to, StatusReason::default(), hour(1)).expect("a legal move");
    let why = || Some("enough".to_owned());
    let cancel = Some((ControlRequest::Cancel, why()));
    move_to(&journal, &job.id, JobStatus::Active, hour(0));
    journal.request(&job.id, ControlRequest::Pause, None).expect("asked");
    assert_eq!(asked(), Some((ControlRequest::Pause, None)));
    // Pausing does not answer the request yet; Paused does.
    go(JobStatus::Pausing);
    assert_eq!(asked(), Some((ControlRequest::Pause, None)));
    go(JobStatus::Paused);
    assert_eq!(asked(), None);
    // A request that comes too late is ignored: the next run would pause at once.
    journal.request(&job.id, ControlRequest::Pause, None).expect("nothing to ask");
    assert_eq!(asked(), None);
    go(JobStatus::Ready);
    go(JobStatus::Active);
    // A pause neither replaces a cancel nor answers it.
    journal.request(&job.id, ControlRequest::Pause, None).expect("asked");
    journal.request(&job.id, ControlRequest::Cancel, why()).expect("asked");
    assert_eq!(asked(), cancel);
    journal.request(&job.id, ControlRequest::Pause, None).expect("asked");
    assert_eq!(asked(), cancel);
    go(JobStatus::Pausing);
    go(JobStatus::Paused);
    assert_eq!(asked(), cancel);
    go(JobStatus::Cancelling);
    assert_eq!(asked(), cancel);
    go(JobStatus::Cancelled);
    assert_eq!(asked(), None);
    journal.request(&job.id, ControlRequest::Cancel, why()).expect("nothing to ask");
    assert_eq!(asked(), None, "it is over");
}

#[tokio::test]
async fn a_ready_job_becomes_active_when_the_others_let_it() {
    let (_folder, journal) = journal();
    let at = |name: &str, status| {
        let job = create_job(&journal, new_job(name));
        move_to(&journal, &job.id, status, hour(0));
        job.id
    };
    let me = at("me", JobStatus::Ready);
    let waits = at("waits", JobStatus::Ready);
    let works = at("works", JobStatus::Active);
    let pauses = at("pauses", JobStatus::Pausing);
    for status in [JobStatus::Suspended, JobStatus::Paused, JobStatus::Complete, JobStatus::Cancelling] {
        at(&status.to_string(), status);
    }
    let (mine, others) = (me.clone(), vec![pauses, works, waits.clone()]);
    let judge = move |job: &JobRecord, seen: &[JobRecord]| {
        assert_eq!((&job.id, ids(seen)), (&mine, others));
        Err("not yet")
    };
    assert_eq!(journal.activate(&me, judge, hour(1)).await.expect("asked").err(), Some("not yet"));
    assert_eq!(journal.find(me.as_str()).expect("found").status, JobStatus::Ready);
    let active = journal.activate(&me, |_, _| Ok::<_, ()>(()), hour(1)).await.expect("asked").expect("it may");
    assert_eq!((active.status, active.changed), (JobStatus::Active, hour(1)));
    let moved = journal.advance(&waits, JobStatus::Paused, StatusReason::default(), hour(1)).expect("moved");
    let error = journal.activate(&moved.id, |_, _| Ok::<_, ()>(()), hour(1)).await.expect_err("it is Paused");
    assert!(matches!(error, JournalError::IllegalStatusMove { .. }), "{error}");
}

/// Two processes check at the same moment: the second sees the first one's job as Active.
#[tokio::test]
async fn two_that_ask_for_the_last_slot_do_not_both_get_it() {
    let (folder, one) = journal();
    let other = Journal::open(folder.path()).expect("opened");
    for round in 0..20 {
        let jobs: Vec<_> = (0..2).map(|n| create_job(&one, new_job(&format!("{round} {n}"))).id).collect();
        for job in &jobs {
            move_to(&one, job, JobStatus::Ready, hour(0));
        }
        let judge = |_: &JobRecord, others: &[JobRecord]| {
            if others.iter().any(|other| other.status == JobStatus::Active) { Err(()) } else { Ok(()) }
        };
        let (first, second) =
            tokio::join!(one.activate(&jobs[0], judge, hour(0)), other.activate(&jobs[1], judge, hour(0)));
        let active = [first, second].into_iter().filter(|got| got.as_ref().expect("asked").is_ok()).count();
        assert_eq!(active, 1);
        for job in &jobs {
            one.advance(job, JobStatus::Failing, StatusReason::default(), hour(0)).expect("moved");
        }
    }
}

#[test]
fn small_things_are_kept() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    journal.set_priority(&job.id, 0).expect("set");
    journal.confirm(&job.id).expect("set");
    journal.set_scope(&job.id, "{}".to_owned()).expect("set");
    journal.set_total(&job.id, 10_000_000_000).expect("set");
    journal.replace_plan(&job.id, b"other".to_vec(), None).expect("set");
    journal.set_report_delivery(&job.id, ReportDelivery::Due, Some("s3://b/k".to_owned())).expect("set");
    journal.set_report_delivery(&job.id, ReportDelivery::Done, None).expect("set");
    let job = journal.find(job.id.as_str()).expect("found");
    assert_eq!((job.priority, job.confirmed, job.scope.as_deref()), (0, true, Some("{}")));
    assert_eq!((job.progress.total, job.plan_text.as_slice()), (10_000_000_000, b"other".as_slice()));
    assert_eq!(
        (job.report_delivery, job.report_location.as_deref()),
        (ReportDelivery::Done, Some("s3://b/k")),
        "the place stays"
    );
}

#[test]
fn the_retries_of_a_job_are_known() {
    let (_folder, journal) = journal();
    let first = create_job(&journal, new_job("one"));
    let retry = |n: u32| {
        let origin = JobSource::Retry { of: first.id.clone(), unattempted: n == 1 };
        create_job(&journal, NewJob { source: origin, ..new_job(&format!("retry {n}")) }).id
    };
    let retries = [retry(0), retry(1)];
    assert_eq!(ids(&journal.retries_of(&first.id).expect("read")), retries);
    assert!(journal.retries_of(&retries[0]).expect("read").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_and_bytes_are_kept(
        name in "\\PC{0,40}", reason in any::<String>(), plan in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (_folder, journal) = journal();
        let wanted = NewJob { name: name.clone(), identity: reason.clone(), plan_text: plan.clone(), ..new_job("one") };
        let job = create_job(&journal, wanted);
        let to = moves_to(JobStatus::Preparing)[0];
        journal.advance(&job.id, to, StatusReason::because(reason.clone()), hour(0)).expect("moved");
        let job = journal.find(job.id.as_str()).expect("found");
        prop_assert_eq!((job.name, job.identity, job.plan_text, job.reason), (name, reason.clone(), plan, Some(reason)));
    }
}

fn new(id: &JobId) -> NewJob {
    NewJob {
        id: id.clone(),
        identity: id.to_string(),
        token: None,
        name: "name".to_owned(),
        store_identity: String::new(),
        environment_endpoints: None,
        description: None,
        source: JobSource::Plan,
        plan_file: "/plan.toml".into(),
        plan_hash: "hash".to_owned(),
        plan_text: Vec::new(),
        confirmed: true,
        priority: 0,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    }
}

#[test]
fn ids_are_those_of_the_jobs_that_are_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    let [kept, gone] = [JobId::random(), JobId::random()];
    for id in [&kept, &gone] {
        let _ = journal.create(new(id), true, Timestamp::now()).expect("created");
    }
    let removed = [JobStatus::Failing, JobStatus::Failed, JobStatus::Cleaning];
    journal.advance_through(&gone, &removed, Timestamp::now()).expect("moved");
    assert_eq!(journal.ids().expect("read"), [kept]);
}
