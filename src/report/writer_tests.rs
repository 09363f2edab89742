//! Checks when files are started, how they are named, when they are full, and that their digests are right.

use std::fs;

use md5::{Digest as _, Md5};

use super::*;
use crate::report::fixtures::{FINE, bad, job, object, spec};

fn writer(folder: &Path, spec: &ReportSpec, rotate_at: u64) -> ReportWriter {
    ReportWriter::create(folder, spec, &job(), OperationNaming::Implied, rotate_at).unwrap()
}

fn assert_true_to_disk(folder: &Path, segments: &[ReportSegment]) {
    for segment in segments {
        let content = fs::read(folder.join(&segment.name)).unwrap();
        assert_eq!(segment.bytes, content.len() as u64);
        assert_eq!(segment.md5, crate::report::Md5Digest::of(&Md5::new_with_prefix(&content)));
        let rows = content.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(segment.rows, rows as u64);
    }
}

#[test]
fn a_report_without_rows_has_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    assert_eq!(writer.flush(0).unwrap().sync().unwrap(), ReportPosition::default());
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
    // Each row, `b,NN,,200,` and its newline, is 11 bytes: two rows fill a file of 22 bytes.
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
fn a_position_tells_what_is_open_and_what_was_sealed_since() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 22);
    writer.record(&object("first"), &bad()).unwrap();
    for n in 10..13 {
        writer.record(&object(&n.to_string()), &FINE).unwrap();
    }
    let flushed = writer.flush(0).unwrap();
    // Rows that are added before the sync ends are not part of this position.
    writer.record(&object("13"), &FINE).unwrap();
    writer.record(&object("14"), &FINE).unwrap();
    let position = std::thread::spawn(|| flushed.sync()).join().unwrap().unwrap();
    let open: Vec<_> = position.open.iter().map(|file| (file.number, file.name.as_str(), file.rows)).collect();
    assert_eq!(open, [(2, "report-2.csv", 1), (0, "report-0.csv", 1)]);
    assert_eq!(position.open[0].bytes, 11);
    assert_eq!(position.sealed.iter().map(|segment| segment.number).collect::<Vec<_>>(), [1]);
    assert_true_to_disk(folder.path(), &position.sealed);

    // The same files are included again until they are known to be recorded.
    let again = writer.flush(0).unwrap();
    assert_eq!(again.files.len(), 4);
    let again = again.sync().unwrap();
    assert_eq!((&again.sealed[0], again.sealed.len(), again.total_sealed), (&position.sealed[0], 2, 2));
    let since = writer.flush(position.total_sealed).unwrap();
    assert_eq!(since.files.len(), 3);
    assert_eq!(since.sync().unwrap().sealed, again.sealed[1..]);
    let nothing = writer.flush(again.total_sealed).unwrap();
    assert_eq!(nothing.files.len(), 2);
    let nothing = nothing.sync().unwrap();
    assert_eq!((nothing.sealed.len(), nothing.total_sealed), (0, 2));
    assert_eq!(writer.finish().unwrap().iter().map(|segment| segment.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn what_is_marked_as_published_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 11);
    for n in 10..13 {
        writer.record(&object(&n.to_string()), &FINE).unwrap();
    }
    writer.mark_published(1);
    // Not sealed yet, so it cannot be in a bucket.
    writer.mark_published(2);
    let published = |segments: &[ReportSegment]| segments.iter().map(|segment| segment.published).collect::<Vec<_>>();
    assert_eq!(published(&writer.flush(0).unwrap().sync().unwrap().sealed), [false, true]);
    assert_eq!(published(&writer.finish().unwrap()), [false, true, false]);
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
    // Once the obstacle is removed, the refused row can be recorded.
    fs::remove_file(&taken).unwrap();
    writer.record(&object("x"), &FINE).unwrap();
    assert_eq!(writer.finish().unwrap()[0].rows, 1);
}

/// `/dev/full` fails every write, like a full disk.
#[cfg(target_os = "linux")]
fn full_disk() -> fs::File {
    fs::File::options().write(true).open("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_with_the_files_name_and_loses_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 22);
    writer.record(&object("x"), &FINE).unwrap();
    writer.persist().unwrap();
    writer.record(&object("y"), &FINE).unwrap();
    let real = writer.succeeded.as_mut().unwrap().replace_file(full_disk());
    for _ in 0..2 {
        let error = writer.flush(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("report-0.csv"), "{error}");
        // A row that needs a new file has to wait for this one.
        assert!(writer.record(&object("z"), &FINE).is_err());
    }
    let path = folder.path().join("report-0.csv");
    assert_eq!(fs::read_to_string(&path).unwrap(), "b,x,,200,\n");
    writer.succeeded.as_mut().unwrap().replace_file(real);
    let position = writer.flush(0).unwrap().sync().unwrap();
    assert_eq!((position.open[0].bytes, position.open[0].rows), (20, 2));
    assert_eq!(fs::read_to_string(&path).unwrap(), "b,x,,200,\nb,y,,200,\n");
    writer.record(&object("z"), &FINE).unwrap();
    let segments = writer.finish().unwrap();
    assert_eq!(segments.iter().map(|segment| segment.rows).collect::<Vec<_>>(), [2, 1]);
    assert_true_to_disk(folder.path(), &segments);
}

#[test]
fn a_block_that_was_half_written_is_written_again_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("x"), &FINE).unwrap();
    writer.persist().unwrap();
    writer.record(&object("y"), &FINE).unwrap();
    // What a write leaves that fails halfway, at the end of the disk or at a limit on the file size.
    let path = folder.path().join("report-0.csv");
    io::Write::write_all(&mut fs::File::options().append(true).open(&path).unwrap(), b"b,y,,2").unwrap();
    writer.persist().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "b,x,,200,\nb,y,,200,\n");
    assert_true_to_disk(folder.path(), &writer.finish().unwrap());
}

/// `/dev/null` accepts every byte and cannot be synced.
#[cfg(target_os = "linux")]
#[test]
fn a_sealed_file_that_does_not_reach_the_disk_is_not_passed_off_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), 10);
    writer.record(&object("x"), &FINE).unwrap();
    writer.succeeded.as_mut().unwrap().replace_file(fs::File::options().write(true).open("/dev/null").unwrap());
    writer.record(&object("y"), &FINE).unwrap();
    for _ in 0..2 {
        let error = writer.flush(0).unwrap().sync().unwrap_err();
        assert!(error.to_string().contains("report-0.csv"), "{error}");
    }
    assert!(writer.persist().unwrap_err().to_string().contains("report-0.csv"));
    assert!(writer.finish().unwrap_err().to_string().contains("report-0.csv"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_sealed_does_not_cost_the_other_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), &spec(ReportFormat::Oss, ReportScope::AllTasks), ROTATE_AT);
    writer.record(&object("x"), &FINE).unwrap();
    writer.record(&object("y"), &bad()).unwrap();
    writer.succeeded.as_mut().unwrap().replace_file(full_disk());
    assert!(writer.finish().unwrap_err().to_string().contains("report-0.csv"));
    assert!(fs::read_to_string(folder.path().join("report-1.csv")).unwrap().starts_with("b,y,"));
}
