//! What objects were like is on disk before they are changed, whatever happens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use batchplan::captures::{CaptureReader, FormerState, FormerValue};
use batchplan::engine::{CheckpointPolicy, DispatchStart, EngineError, StopReason};
use batchplan::operation::Operation;
use batchplan_store::object::{BucketName, MaybeKnown, ObjectAcl, ObjectId, ObjectKey, TagSet};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError, TaskId, TaskOutcome};
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};
use proptest::prelude::*;

use crate::faulty::{Faults, FaultyStore};
use crate::memory::{MemoryStore, object, refused};
use crate::run::{AT_ONCE, Captures, Notes, Run, objects, put, tags};

/// A store that looks at the captures when it gets a write, and that refuses some reads.
struct Witness {
    inner: Arc<MemoryStore>,
    captures: PathBuf,
    /// The objects in the order of their rows, and their tags before the job.
    before: Vec<(ObjectId, TagSet)>,
    /// So many reads are answered, and the others are denied.
    reads: AtomicU32,
}

impl Witness {
    fn new(inner: &Arc<MemoryStore>, captures: &Captures, before: Vec<(ObjectId, TagSet)>) -> Arc<Self> {
        let (inner, captures) = (Arc::clone(inner), captures.folder.clone());
        Arc::new(Self { inner, captures, before, reads: AtomicU32::new(u32::MAX) })
    }

    /// The object's first row has its captured state on disk, and that is what it was before the job.
    fn expect_captured(&self, object: &ObjectId) {
        let row = self.before.iter().position(|(one, _)| one == object).expect("a row");
        let row = TaskId { part: 0, row: u32::try_from(row).expect("few") };
        let mut captures = CaptureReader::open(&self.captures).expect("opened").into_lookup();
        let capture =
            captures.get(row).expect("read").unwrap_or_else(|| panic!("{object} is written and not captured"));
        let before = self.before.iter().find(|(one, _)| one == object).map(|(_, tags)| tags.clone());
        assert_eq!(capture.former.tags.known().cloned(), before, "{object}");
    }
}

#[async_trait]
impl Store for Witness {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        if call.is_write() {
            self.expect_captured(object);
        } else {
            let left = self.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map_err(|_| refused(403, "AccessDenied", FaultClass::Rejected))?;
        }
        self.inner.send_request(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.inner.list(request).await
    }

    async fn bucket_setting(&self, bucket: &BucketName, of: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        self.inner.bucket_setting(bucket, of).await
    }

    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        self.inner.read(bucket, key, if_match).await
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.inner.write(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.inner.request_line(object, call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.inner.unsupported_key_reason(key)
    }
}

/// Objects with tags of their own, and those tags.
fn tagged(store: &MemoryStore, count: u32) -> Vec<(ObjectId, TagSet)> {
    let one = |(number, object): (usize, ObjectId)| {
        let value = format!("{}", number % 7);
        store.put(&object, &[("old", &value)]);
        (object, tags(&[("old", &value)]))
    };
    objects(count).into_iter().enumerate().map(one).collect()
}

#[derive(Clone, Debug)]
struct Case {
    objects: u32,
    concurrency: u32,
    most: u64,
    /// How long each run lives.
    lives: Vec<u64>,
    operation: Operation,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let operation = prop::sample::select(vec![
        put(),
        Operation::AddTagging(tags(&[("team", "data")])),
        Operation::DeleteTagging(Some(vec!["old".to_owned()])),
        Operation::DeleteTagging(None),
    ]);
    let lives = prop::collection::vec(0_u64..400, 0..6);
    (1_u32..80, 1_u32..17, 1_u64..40, lives, operation, any::<u64>()).prop_map(
        |(objects, concurrency, most, lives, operation, seed)| Case {
            objects,
            concurrency,
            most,
            lives,
            operation,
            seed,
        },
    )
}

/// Runs a job until it is done, and kills it meanwhile as often as the case says. Then every captured state is the one
/// from before the job.
async fn killed_and_resumed(case: Case) {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures::new(folder.path());
    let store = MemoryStore::with_objects(0);
    let before = tagged(&store, case.objects);
    let all: Vec<_> = before.iter().map(|(object, _)| object.clone()).collect();
    let witness = Witness::new(&store, &captures, before.clone());
    let faults = Faults { latency: Duration::from_millis(20), ..Faults::default() };
    let mut book = Notes::new(|_| AT_ONCE);
    let run = |book: &Notes, seed| Run {
        concurrency: case.concurrency,
        rhythm: CheckpointPolicy {
            interval: Duration::from_millis(50),
            max_started_rows: case.most,
            max_unrecorded_rows: case.most,
        },
        book: book.clone(),
        captures: Some(captures.clone()),
        ..Run::new(FaultyStore::new(witness.clone(), faults, seed), vec![case.operation.clone()])
    };
    let mut start = DispatchStart::default();
    for (number, life) in (0..).zip(&case.lives) {
        let going = run(&book, case.seed.wrapping_add(number)).resume(&all, start.clone());
        let _ = tokio::time::timeout(Duration::from_millis(*life), going).await;
        captures.settle().await;
        start = book.reopen();
    }
    let ended = run(&book, case.seed).resume(&all, start).await;
    captures.settle().await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let found: BTreeMap<_, _> = captures.read().into_iter().map(|capture| (capture.row.row, capture.former)).collect();
    let known = |tags: &TagSet| FormerState { tags: FormerValue::Known(tags.clone()), acl: FormerValue::NotCaptured };
    let expected: BTreeMap<_, _> = (0..).zip(before.iter().map(|(_, tags)| Arc::new(known(tags)))).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_object_is_captured_as_it_was_before_the_job(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(killed_and_resumed(case));
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_read_that_is_denied_stops_the_job_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures::new(folder.path());
    let store = MemoryStore::with_objects(0);
    let before = tagged(&store, 20);
    let all: Vec<_> = before.iter().map(|(object, _)| object.clone()).collect();
    let witness = Witness::new(&store, &captures, before);
    witness.reads.store(0, Ordering::Relaxed);
    let run = Run { captures: Some(captures.clone()), ..Run::new(witness, vec![put()]) };
    let (ended, outcomes) = run.through(all).await;
    captures.settle().await;
    let StopReason::CaptureDenied(denial) = &ended.stop_reason else { panic!("{ended:?}") };
    assert_eq!((&denial.request, denial.fault.status), (&ObjectRequest::GetTags, Some(403)));
    assert_eq!((outcomes, ended.in_doubt, captures.read()), (vec![], 0, vec![]));
    assert!(store.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_later_read_that_is_denied_fails_its_object_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures::new(folder.path());
    let store = MemoryStore::with_objects(0);
    let before = tagged(&store, 20);
    let all: Vec<_> = before.iter().map(|(object, _)| object.clone()).collect();
    let witness = Witness::new(&store, &captures, before);
    witness.reads.store(17, Ordering::Relaxed);
    let run = Run { captures: Some(captures.clone()), concurrency: 1, ..Run::new(witness, vec![put()]) };
    let (ended, outcomes) = run.through(all).await;
    captures.settle().await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let failed: Vec<_> = outcomes.iter().filter(|(_, it)| matches!(it, TaskOutcome::Failed(_))).collect();
    assert_eq!((failed.len(), captures.read().len()), (3, 17));
    assert_eq!(store.calls().iter().filter(|(_, call)| call.is_write()).count(), 17);
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_capture_cannot_be_written_is_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures::new(folder.path());
    let store = MemoryStore::with_objects(0);
    // Longer than any state that a store returns.
    store.put(&object("k0"), &[("old", &"x".repeat(600_000))]);
    let run = Run { captures: Some(captures.clone()), ..Run::new(store.clone(), vec![put()]) };
    let (ended, outcomes) = run.through(objects(1)).await;
    captures.settle().await;
    let StopReason::InternalError(EngineError::CaptureNotKept(why)) = &ended.stop_reason else { panic!("{ended:?}") };
    assert!(why.ends_with("a state is longer than 524288 bytes"), "{why}");
    assert!(outcomes.is_empty() && store.calls().iter().all(|(_, call)| !call.is_write()));
}

#[tokio::test(start_paused = true)]
async fn of_two_rows_of_an_object_the_later_one_shows_what_the_job_made_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures::new(folder.path());
    let store = MemoryStore::with_objects(1);
    let run = Run { captures: Some(captures.clone()), ..Run::new(store.clone(), vec![put()]) };
    let (ended, _) = run.through(vec![object("k0"), object("k0")]).await;
    captures.settle().await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let found: Vec<_> = captures.read().into_iter().map(|capture| capture.former.tags.clone()).collect();
    assert_eq!(found, [FormerValue::Known(TagSet::default()), FormerValue::Known(tags(&[("team", "data")]))]);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_run_may_have_written_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let captures = Captures { may_be_missing: true, ..Captures::new(folder.path()) };
    let store = MemoryStore::with_objects(0);
    store.put(&object("k0"), &[("team", "data")]);
    store.put(&object("k1"), &[("old", "1")]);
    let operations = vec![put(), Operation::PutAcl(ObjectAcl::PublicRead)];
    let run = Run { captures: Some(captures.clone()), ..Run::new(store.clone(), operations) };
    let start =
        DispatchStart { next_row: Some(TaskId { part: 0, row: 2 }), maybe_started: 2, ..DispatchStart::default() };
    let ended = run.resume(&objects(2), start).await;
    captures.settle().await;
    assert!(matches!(ended.stop_reason, StopReason::Finished), "{ended:?}");
    let private = FormerValue::Known(ObjectAcl::Private);
    let found: Vec<_> = captures.read().into_iter().map(|capture| (*capture.former).clone()).collect();
    let expected = [
        FormerState { tags: FormerValue::Unknown, acl: private.clone() },
        FormerState { tags: FormerValue::Known(tags(&[("old", "1")])), acl: private },
    ];
    assert_eq!(found, expected);
    let state = store.state(&object("k1")).expect("there");
    assert_eq!(state.acl, MaybeKnown::Known(ObjectAcl::PublicRead));
}
