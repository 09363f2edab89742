use std::path::{Path, PathBuf};

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskId};
use jiff::Timestamp;

use super::*;
use crate::engine::report_state;
use crate::job::{JobId, Progress};
use crate::journal::{JobCreation, JobRecord, JobSource, NewJob, RecordedProgress};
use crate::report::ROTATE_AT;
use crate::report_format::{OperationNaming, ReportFormat, ReportScope, ReportSpec};

/// Opens a report in a folder at the recorded position of its files.
fn writer(folder: &Path, id: &JobId, in_journal: &RecordedProgress) -> ReportWriter {
    let spec = ReportSpec { location: None, scope: ReportScope::AllTasks, format: ReportFormat::Oss, keep_local: true };
    let state = report_state(&in_journal.files).expect("whole");
    ReportWriter::resume(folder, &spec, id, OperationNaming::for_operations(1), ROTATE_AT, &state).expect("opened")
}

fn created(journal: &Journal, id: &JobId, identity: &str) -> JobRecord {
    let new = NewJob {
        id: id.clone(),
        identity: identity.to_owned(),
        token: None,
        name: "plan".to_owned(),
        store_identity: String::new(),
        environment_endpoints: None,
        description: None,
        source: JobSource::Plan,
        plan_file: PathBuf::from("/plan.toml"),
        plan_hash: String::new(),
        plan_text: Vec::new(),
        confirmed: true,
        priority: 0,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    };
    match journal.create(new, false, Timestamp::UNIX_EPOCH).expect("created") {
        JobCreation::Created(job) => job,
        JobCreation::Existing(job) => panic!("there is {}", job.id),
    }
}

fn denied() -> TaskOutcome {
    let fault = StoreError::without_response(FaultClass::Rejected, "AccessDenied", "no", String::new());
    TaskOutcome::Failed(TaskFailure { operation: "put_object_acl".to_owned(), error: fault })
}

fn object(row: u32) -> ObjectId {
    ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from(format!("k{row}").as_str()), version: None }
}

/// A job that the test drives by hand.
struct RecorderFixture<'a> {
    recorder: JobRecorder<'a>,
    frontier: RowFrontier,
    progress: Progress,
}

impl RecorderFixture<'_> {
    fn settle(&mut self, row: u32, outcome: &TaskOutcome) {
        self.recorder.record(&object(row), outcome).expect("written");
        self.frontier.mark_settled(TaskId { part: row / 100, row });
        let succeeded = matches!(outcome, TaskOutcome::Succeeded { .. });
        *if succeeded { &mut self.progress.succeeded } else { &mut self.progress.failed } += 1;
    }

    fn checkpoint(&mut self) -> PendingCheckpoint {
        let snapshot = ProgressSnapshot {
            progress: self.progress,
            in_doubt: 0,
            maybe_started: 0,
            next_row: None,
            stopping: false,
        };
        self.recorder.checkpoint(snapshot, &mut self.frontier)
    }
}

const FINE: TaskOutcome = TaskOutcome::Succeeded { status: 200 };

#[tokio::test]
async fn next_checkpoint_records_what_a_failed_one_could_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    let (report, id) = (folder.path().join("report"), JobId::random());
    let mut observe = |_: RunProgress| {};
    let number = created(&journal, &JobId::random(), "another").number + 1;
    let (writer, place) = (writer(&report, &id, &RecordedProgress::default()), (journal.clone(), number));
    let (recorder, _sealed, _sent) =
        JobRecorder::new(writer, FailureTally::default(), place, Duration::ZERO, 0, &mut observe);
    let mut work = RecorderFixture { recorder, frontier: RowFrontier::default(), progress: Progress::default() };
    work.settle(0, &FINE);
    work.settle(1, &denied());
    work.settle(100, &denied());
    // The journal does not know the job yet, so the checkpoint fails.
    let refused = work.checkpoint().await;
    assert!(matches!(refused, Err(CheckpointError::Journal(_))), "{refused:?}");
    // A checkpoint that is dropped halfway records nothing either.
    drop(work.checkpoint());
    work.settle(2, &FINE);
    let job = created(&journal, &id, "this");
    assert_eq!(job.number, number);
    work.checkpoint().await.expect("kept");
    let in_journal = journal.recorded_progress(number).expect("read");
    assert_eq!(in_journal.frontier, work.frontier);
    let told: Vec<_> = in_journal.tally.groups().map(|(code, reason)| (code.code.as_str(), reason.count)).collect();
    assert_eq!(told, [("AccessDenied", 2)]);
    assert_eq!(in_journal.files.iter().map(|file| file.rows).sum::<u64>(), 4);
    assert_eq!(journal.find(job.id.as_str()).expect("found").progress, work.progress);
    // Nothing is recorded twice: a part that did not change since is not written again.
    work.settle(101, &FINE);
    assert_eq!(work.frontier.clone().take_changes().len(), 1);
    work.checkpoint().await.expect("kept");
    assert_eq!(journal.recorded_progress(number).expect("read").frontier, work.frontier);
    // If no further checkpoint is made, closing the recorder returns the unrecorded changes.
    work.settle(102, &denied());
    drop(work.checkpoint());
    let RecorderFixture { recorder, mut frontier, .. } = work;
    let (_, UnrecordedChanges { parts, failures }) = recorder.close(&mut frontier);
    assert_eq!(parts.iter().map(|mark| mark.part).collect::<Vec<_>>(), [1]);
    assert_eq!(failures.iter().map(|(_, reason)| reason.count).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn nothing_is_recorded_that_may_not_be_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    let (report, id) = (folder.path().join("report"), JobId::random());
    let mut observe = |_: RunProgress| {};
    let number = created(&journal, &id, "this").number;
    let (writer, place) = (writer(&report, &id, &RecordedProgress::default()), (journal.clone(), number));
    let (recorder, _sealed, _sent) =
        JobRecorder::new(writer, FailureTally::default(), place, Duration::ZERO, 0, &mut observe);
    let mut work = RecorderFixture { recorder, frontier: RowFrontier::default(), progress: Progress::default() };
    work.settle(0, &FINE);
    let pending = work.checkpoint();
    // The rows are written, but their folder cannot be synced.
    std::fs::rename(&report, folder.path().join("elsewhere")).expect("moved");
    let refused = pending.await;
    assert!(matches!(refused, Err(CheckpointError::Report(_))), "{refused:?}");
    let in_journal = journal.recorded_progress(number).expect("read");
    assert_eq!((in_journal.files, in_journal.frontier), (Vec::new(), RowFrontier::default()));
    assert_eq!(journal.find(id.as_str()).expect("found").progress.finished(), 0);
}
