//! Publishes to a store that fails, temporarily or permanently.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::object::ObjectId;
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{TaskFailure, TaskOutcome};
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, OpenedObject};
use jiff::Timestamp;

use super::*;
use crate::job::JobId;
use crate::report::{ROTATE_AT, RecordedReport, ReportWriter, remove_local_file};
use crate::report_format::{OperationNaming, ReportFormat, ReportLocation, ReportScope, ReportSpec};

/// A store that checks and accepts files, after it has returned the queued faults.
#[derive(Default)]
struct FakeStore {
    faults: Mutex<VecDeque<FaultClass>>,
    /// Never responds to a write.
    silent: bool,
    /// The bucket and key, and the content, of each accepted write.
    taken: Mutex<Vec<(String, String)>>,
    attempts: Mutex<u32>,
}

impl FakeStore {
    fn failing(faults: impl IntoIterator<Item = FaultClass>) -> Self {
        Self { faults: Mutex::new(faults.into_iter().collect()), ..Self::default() }
    }

    fn keys(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }
}

fn fault(class: FaultClass) -> StoreError {
    StoreError {
        class,
        status: Some(503),
        code: "SlowDown".to_owned(),
        message: "later".to_owned(),
        request_id: String::new(),
        ec: String::new(),
        request_line: String::new(),
        at: Timestamp::UNIX_EPOCH,
        retry_after: None,
        headers: batchplan_store::object_request::ObjectHeaderSet::default(),
    }
}

#[async_trait]
impl Store for FakeStore {
    async fn send_request(&self, _: &ObjectId, _: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        unreachable!("publishing only writes")
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, StoreError> {
        unreachable!("publishing only writes")
    }

    async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        unreachable!("publishing only writes")
    }

    async fn read(&self, _: &BucketName, _: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        unreachable!("publishing only writes")
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        *self.attempts.lock().unwrap() += 1;
        if self.silent {
            std::future::pending::<()>().await;
        }
        if let Some(class) = self.faults.lock().unwrap().pop_front() {
            return Err(fault(class));
        }
        let bytes = match content {
            ObjectContent::Bytes(bytes) => bytes.to_vec(),
            ObjectContent::File(path) => std::fs::read(path).unwrap(),
        };
        assert_eq!(md5, STANDARD.encode(Md5::digest(&bytes)));
        self.taken.lock().unwrap().push((format!("{bucket}/{key}"), String::from_utf8(bytes).unwrap()));
        Ok(())
    }

    fn request_line(&self, _: &ObjectId, _: &ObjectRequest) -> String {
        String::new()
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}

const ID: &str = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";

fn report(folder: &Path, place: bool) -> FinishedReport {
    let place = place.then(|| ReportLocation { bucket: BucketName::new("audit"), prefix: ObjectKey::from("r") });
    let spec =
        ReportSpec { location: place, scope: ReportScope::AllTasks, format: ReportFormat::Oss, keep_local: true };
    let job: JobId = ID.parse().unwrap();
    let mut writer = ReportWriter::create(folder, &spec, &job, OperationNaming::Implied, ROTATE_AT).unwrap();
    let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None };
    writer.record(&object, &TaskOutcome::Succeeded { status: 200 }).unwrap();
    let failure = TaskFailure { operation: "put_object_acl".to_owned(), error: fault(FaultClass::Rejected) };
    writer.record(&object, &TaskOutcome::Failed(failure)).unwrap();
    let report = FinishedReport::new(&spec, &job, Timestamp::UNIX_EPOCH, writer.finish().unwrap());
    report.save(folder).unwrap();
    report
}

async fn publish_now(
    store: &FakeStore,
    folder: &Path,
    report: &FinishedReport,
) -> Result<PublishedReport, ReportPublishError> {
    ReportSender { store, policy: RetryPolicy { base_delay: Duration::ZERO, ..POLICY } }.publish(folder, report).await
}

fn expected_keys() -> Vec<String> {
    ["report-0.csv", "report-1.csv", "manifest.json"].map(|name| format!("audit/r/{ID}/results/{name}")).to_vec()
}

#[tokio::test]
async fn the_manifest_goes_last_and_is_the_local_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = FakeStore::default();
    let published = publish(&store, folder.path(), &report(folder.path(), true)).await.unwrap();
    assert_eq!(store.keys(), expected_keys());
    assert_eq!(format!("{}/{}", published.bucket, published.manifest), expected_keys()[2]);
    assert_eq!(published.files, 3);
    let local = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    assert_eq!(store.taken.lock().unwrap()[2].1, local);
}

#[tokio::test]
async fn retries_transient_errors() {
    let folder = tempfile::tempdir().unwrap();
    let store = FakeStore::failing([FaultClass::Throttled, FaultClass::Transient, FaultClass::Ambiguous]);
    publish_now(&store, folder.path(), &report(folder.path(), true)).await.unwrap();
    assert_eq!(store.keys(), expected_keys());
    assert_eq!(*store.attempts.lock().unwrap(), 6);
}

#[tokio::test]
async fn a_store_that_never_recovers_is_given_up_on_and_the_folder_is_enough_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), true);
    let store = FakeStore::failing([FaultClass::Transient; 100]);
    let error = publish_now(&store, folder.path(), &report).await.unwrap_err();
    let expected = format!("cannot upload report-0.csv to audit/r/{ID}/results/report-0.csv: 503 SlowDown: later");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, ReportPublishError::Store { attempts: 6, .. }), "{error:?}");
    assert_eq!(*store.attempts.lock().unwrap(), POLICY.max_attempts);

    let later = FakeStore::default();
    let loaded = FinishedReport::load(folder.path()).unwrap();
    for _ in 0..2 {
        publish_now(&later, folder.path(), &loaded).await.unwrap();
    }
    assert_eq!(later.keys(), [expected_keys(), expected_keys()].concat());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = FakeStore { silent: true, ..FakeStore::default() };
    let start = tokio::time::Instant::now();
    let error = publish(&store, folder.path(), &report(folder.path(), true)).await.unwrap_err();
    assert!(error.to_string().ends_with("RequestTimeout: no response within 90 s"), "{error}");
    assert!(start.elapsed() < Duration::from_mins(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_refusal_is_final_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for class in [FaultClass::Rejected, FaultClass::Conflict] {
        let path: PathBuf = folder.path().join(format!("{class:?}"));
        let store = FakeStore::failing([class]);
        let error = publish_now(&store, &path, &report(&path, true)).await.unwrap_err();
        assert!(matches!(error, ReportPublishError::Store { attempts: 1, .. }), "{error:?}");
        assert_eq!(store.keys(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_local_report_has_nowhere_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let error = publish_now(&FakeStore::default(), folder.path(), &report(folder.path(), false)).await.unwrap_err();
    assert!(matches!(error, ReportPublishError::NoDestination));
}

#[tokio::test]
async fn a_sealed_file_goes_alone_and_again_if_need_be() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), true);
    let store = FakeStore::failing([FaultClass::Ambiguous]);
    let destination = report.destination().unwrap();
    for _ in 0..2 {
        let sender = ReportSender { store: &store, policy: RetryPolicy { base_delay: Duration::ZERO, ..POLICY } };
        sender.send_segment(folder.path(), &destination, &report.segments()[1]).await.unwrap();
    }
    send_segment(&store, folder.path(), &destination, &report.segments()[1]).await.unwrap();
    assert_eq!(store.keys(), vec![expected_keys()[1].clone(); 3]);

    let refusing = FakeStore::failing([FaultClass::Rejected]);
    let error = send_segment(&refusing, folder.path(), &destination, &report.segments()[0]).await.unwrap_err();
    assert!(matches!(&error, ReportPublishError::Store { file, .. } if file == "report-0.csv"), "{error:?}");
}

#[tokio::test]
async fn what_was_published_before_is_listed_and_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = report(folder.path(), true);
    report.segments[0].published = true;
    report.save(folder.path()).unwrap();
    remove_local_file(folder.path(), &report.segments[0]).unwrap();
    let store = FakeStore::default();
    let mut report = FinishedReport::load(folder.path()).unwrap();
    let published = publish(&store, folder.path(), &report).await.unwrap();
    assert_eq!((published.files, store.keys()), (2, expected_keys()[1..].to_vec()));
    let manifest = store.taken.lock().unwrap()[1].1.clone();
    assert!(manifest.contains("results/report-0.csv") && manifest.contains("results/report-1.csv"), "{manifest}");

    report.record_published(folder.path(), false).unwrap();
    assert!(!folder.path().join("report-1.csv").exists());
    let again = publish(&store, folder.path(), &FinishedReport::load(folder.path()).unwrap()).await.unwrap();
    assert_eq!((again.files, &store.keys()[2..]), (1, &expected_keys()[2..]));
    assert_eq!(store.taken.lock().unwrap()[2].1, manifest);
}

/// Seals, sends, marks and frees one file after another, and kills the process after some step.
#[tokio::test]
async fn a_kill_between_any_two_steps_loses_no_file() {
    let place = ReportLocation { bucket: BucketName::new("audit"), prefix: ObjectKey::from("r") };
    let spec = ReportSpec {
        location: Some(place),
        scope: ReportScope::AllTasks,
        format: ReportFormat::Oss,
        keep_local: false,
    };
    let job: JobId = ID.parse().unwrap();
    let destination = ReportDestination::of(&spec, &job).unwrap();
    let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None };
    for steps in 0..=9 {
        let folder = tempfile::tempdir().unwrap();
        let store = FakeStore::default();
        let mut writer = ReportWriter::create(folder.path(), &spec, &job, OperationNaming::Implied, 1).unwrap();
        for _ in 0..4 {
            writer.record(&object, &TaskOutcome::Succeeded { status: 200 }).unwrap();
        }
        let position = writer.flush(0).unwrap().sync().unwrap();
        let mut state = RecordedReport { open: position.open, sealed: position.sealed };
        for step in 0..steps {
            let segment = &mut state.sealed[step / 3];
            match step % 3 {
                0 => send_segment(&store, folder.path(), &destination, segment).await.unwrap(),
                1 => segment.published = true,
                _ => remove_local_file(folder.path(), segment).unwrap(),
            }
        }
        drop(writer);

        let writer = ReportWriter::resume(folder.path(), &spec, &job, OperationNaming::Implied, 1, &state).unwrap();
        let mut report = FinishedReport::new(&spec, &job, Timestamp::UNIX_EPOCH, writer.finish().unwrap());
        report.save(folder.path()).unwrap();
        publish(&store, folder.path(), &report).await.unwrap();
        report.record_published(folder.path(), spec.keep_local).unwrap();
        let taken: std::collections::BTreeMap<_, _> = store.taken.lock().unwrap().iter().cloned().collect();
        for segment in report.segments() {
            let key = format!("{}/{}", destination.bucket(), destination.segment_key(segment));
            assert_eq!(taken[&key], "b,k,,200,\n", "after {steps} steps");
            assert!(!segment.path(folder.path()).exists());
        }
        assert_eq!((taken.len(), store.keys().last()), (5, Some(&expected_keys()[2])));
        FinishedReport::load(folder.path()).unwrap();
    }
}
