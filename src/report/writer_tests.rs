//! Files: when they begin, what they are called, when they are full, and that their digests are true.

use std::fs;

use md5::{Digest as _, Md5};

use super::*;
use crate::object::{Bucket, Key};
use crate::task::{Failure, Fault, FaultClass};

fn spec(format: ReportFormat, scope: ReportScope) -> ReportSpec {
    ReportSpec { place: None, scope, format, keep_local: true }
}

fn job() -> JobId {
    "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=".parse().unwrap()
}

fn object(key: &str) -> ObjectId {
    ObjectId { bucket: Bucket::new("b"), key: Key::from(key), version: None }
}

const FINE: Outcome = Outcome::Succeeded { status: 200 };

fn bad() -> Outcome {
    Outcome::Failed(Failure {
        operation: "put_object_acl".to_owned(),
        fault: Fault {
            class: FaultClass::Rejected,
            status: Some(404),
            code: "NoSuchKey".to_owned(),
            message: "gone".to_owned(),
            request_id: String::new(),
            ec: String::new(),
            endpoint: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
        },
    })
}

fn writer(folder: &Path, spec: &ReportSpec, rotate_at: u64) -> ReportWriter {
    ReportWriter::create(folder, spec, &job(), Naming::Implied, rotate_at).unwrap()
}

fn assert_true_to_disk(folder: &Path, segments: &[Segment]) {
    for segment in segments {
        let content = fs::read(folder.join(&segment.name)).unwrap();
        assert_eq!(segment.bytes, content.len() as u64);
        assert_eq!(segment.md5, crate::report::Digest::of(&Md5::new_with_prefix(&content)));
        let rows = content.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(segment.rows, rows as u64);
    }
}

#[test]
fn a_report_without_rows_has_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    assert_eq!(writer.position(), Position::default());
    assert_eq!(writer.finish().unwrap(), []);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn success_and_failure_go_to_files_numbered_in_the_order_they_begin() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("x"), &bad()).unwrap();
    writer.record(&object("y"), &FINE).unwrap();
    writer.record(&object("z"), &bad()).unwrap();
    let segments = writer.finish().unwrap();
    let told: Vec<_> = segments.iter().map(|segment| (segment.name.as_str(), segment.status, segment.rows)).collect();
    assert_eq!(told, [("report-0.csv", TaskStatus::Failed, 2), ("report-1.csv", TaskStatus::Succeeded, 1)]);
    assert_eq!(fs::read_to_string(folder.path().join("report-1.csv")).unwrap(), "b,y,,200,\n");
    assert_true_to_disk(folder.path(), &segments);
}

#[test]
fn only_failures_when_only_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::FailedTasksOnly), ROTATE_AT);
    writer.record(&object("y"), &FINE).unwrap();
    writer.record(&object("z"), &bad()).unwrap();
    let segments = writer.finish().unwrap();
    assert_eq!(segments.iter().map(|segment| segment.status).collect::<Vec<_>>(), [TaskStatus::Failed]);
}

#[test]
fn a_full_file_is_sealed_between_rows() {
    let folder = tempfile::tempdir().unwrap();
    // Each row, `b,NN,,200,` and its line end, is 11 bytes: two fill a file of 22.
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 22);
    for n in 10..15 {
        writer.record(&object(&n.to_string()), &FINE).unwrap();
    }
    writer.record(&object(&"long".repeat(20)), &FINE).unwrap();
    let segments = writer.finish().unwrap();
    assert_eq!(segments.iter().map(|segment| segment.rows).collect::<Vec<_>>(), [2, 2, 1, 1]);
    assert_eq!(segments.iter().map(|segment| segment.bytes).collect::<Vec<_>>(), [22, 22, 11, 89]);
    let names: Vec<_> = segments.iter().map(|segment| segment.name.as_str()).collect();
    assert_eq!(names, ["report-0.csv", "report-1.csv", "report-2.csv", "report-3.csv"]);
    assert_true_to_disk(folder.path(), &segments);
}

#[test]
fn aws_files_lie_below_results_under_40_digits() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Aws, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("a/b c"), &FINE).unwrap();
    let segments = writer.finish().unwrap();
    assert!(segments[0].name.starts_with("results/") && segments[0].name.len() == "results/.csv".len() + 40);
    let text = fs::read_to_string(folder.path().join(&segments[0].name)).unwrap();
    assert_eq!(text, "b,a/b%20c,,succeeded,200,,Successful\n");
}

#[test]
fn a_position_is_true_once_persisted() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 22);
    for n in 10..13 {
        writer.record(&object(&n.to_string()), &FINE).unwrap();
    }
    writer.persist().unwrap();
    let position = writer.position();
    assert_eq!(position.open, [OpenLength { name: "report-1.csv".to_owned(), bytes: 11 }]);
    assert_eq!(fs::metadata(folder.path().join("report-1.csv")).unwrap().len(), 11);
    assert_eq!(position.sealed.len(), 1);
    assert_true_to_disk(folder.path(), &position.sealed);
}

#[test]
fn many_blocks_keep_their_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 200_000);
    for n in 0..30_000 {
        writer.record(&object(&format!("folder/{n:08}")), &FINE).unwrap();
    }
    let segments = writer.finish().unwrap();
    assert!(segments.len() > 3 && segments.iter().all(|segment| segment.bytes <= 200_000));
    assert_eq!(segments.iter().map(|segment| segment.rows).sum::<u64>(), 30_000);
    assert_true_to_disk(folder.path(), &segments);
}

#[test]
fn an_earlier_jobs_file_is_not_overwritten_and_the_message_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("report-0.csv");
    fs::write(&taken, "kept").unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    let error = writer.record(&object("x"), &FINE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("report-0.csv"), "{error}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "kept");
    // Once the obstacle is gone, the refused row can be recorded after all.
    fs::remove_file(&taken).unwrap();
    writer.record(&object("x"), &FINE).unwrap();
    assert_eq!(writer.finish().unwrap()[0].rows, 1);
}

/// `/dev/full` answers every write as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_with_the_files_name_and_loses_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("x"), &FINE).unwrap();
    let path = folder.path().join("report-0.csv");
    let real =
        writer.succeeded.as_mut().unwrap().replace_file(fs::File::options().write(true).open("/dev/full").unwrap());
    let error = writer.persist().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("report-0.csv"), "{error}");
    writer.succeeded.as_mut().unwrap().replace_file(real);
    writer.persist().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "b,x,,200,\n");
    assert_true_to_disk(folder.path(), &writer.finish().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_sealed_does_not_cost_the_other_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("x"), &FINE).unwrap();
    writer.record(&object("y"), &bad()).unwrap();
    writer.succeeded.as_mut().unwrap().replace_file(fs::File::options().write(true).open("/dev/full").unwrap());
    assert!(writer.finish().unwrap_err().to_string().contains("report-0.csv"));
    assert!(fs::read_to_string(folder.path().join("report-1.csv")).unwrap().starts_with("b,y,"));
}
