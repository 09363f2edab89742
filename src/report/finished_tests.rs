//! Checks that a saved report is loaded unchanged, and that a modified report is refused.

use std::fs;

use batchplan_store::object::ObjectId;
use batchplan_store::task::TaskOutcome;

use super::*;
use crate::report::{ROTATE_AT, ReportWriter};
use crate::report_format::{OperationNaming, ReportScope, TaskStatus};

const ID: &str = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";

fn spec(format: ReportFormat, place: bool) -> ReportSpec {
    let place =
        place.then(|| ReportLocation { bucket: BucketName::new("audit"), prefix: ObjectKey::from("batch reports/ü") });
    ReportSpec { location: place, scope: ReportScope::AllTasks, format, keep_local: true }
}

fn report(folder: &Path, spec: &ReportSpec) -> FinishedReport {
    let job = ID.parse().unwrap();
    let mut writer = ReportWriter::create(folder, spec, &job, OperationNaming::Implied, ROTATE_AT).unwrap();
    let object = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k"), version: None };
    writer.record(&object, &TaskOutcome::Succeeded { status: 200 }).unwrap();
    let segments = writer.finish().unwrap();
    FinishedReport::new(spec, &job, "2026-03-04T05:06:07.891Z".parse().unwrap(), segments)
}

#[test]
fn a_saved_report_is_loaded_as_it_was() {
    for (format, place) in [(ReportFormat::Oss, true), (ReportFormat::Aws, true), (ReportFormat::Oss, false)] {
        let folder = tempfile::tempdir().unwrap();
        let report = report(folder.path(), &spec(format, place));
        report.save(folder.path()).unwrap();
        report.save(folder.path()).unwrap();
        assert_eq!(FinishedReport::load(folder.path()).unwrap(), report);
        assert_eq!(fs::read_to_string(folder.path().join("manifest.json")).unwrap(), report.manifest_text().unwrap());
        let drafts = fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "draft"));
        assert_eq!(drafts.count(), 0);
    }
}

#[test]
fn the_manifest_lists_what_is_published_where() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), &spec(ReportFormat::Oss, true));
    let md5 = report.segments()[0].md5.hex();
    let expected = format!(
        r#"{{
  "Format": "Report_CSV_20250901",
  "ReportCreationDate": "2026-03-04T05:06:07Z",
  "Results": [
    {{
      "TaskExecutionStatus": "succeeded",
      "Bucket": "audit",
      "MD5Checksum": "\"{md5}\"",
      "Key": "batch reports/ü/{ID}/results/report-0.csv"
    }}
  ],
  "ReportSchema": "Bucket,Key,VersionId,HTTPStatus,Error"
}}"#
    );
    assert_eq!(report.manifest_text().unwrap(), expected);
    let (bucket, key) = report.manifest_location().unwrap();
    assert_eq!(format!("{bucket}/{key}"), format!("audit/batch reports/ü/{ID}/results/manifest.json"));
}

#[test]
fn a_local_report_names_its_files_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), &spec(ReportFormat::Oss, false));
    assert_eq!(report.manifest_location(), None);
    let text = report.manifest_text().unwrap();
    assert!(text.contains("\"Bucket\": \"\"") && text.contains("\"Key\": \"report-0.csv\""), "{text}");
}

#[test]
fn rejects_changed_files() {
    let folder = tempfile::tempdir().unwrap();
    report(folder.path(), &spec(ReportFormat::Oss, true)).save(folder.path()).unwrap();
    let path = folder.path().join("report-0.csv");

    fs::write(&path, "b,k,,404,\n").unwrap();
    let other = FinishedReport::load(folder.path()).unwrap_err();
    assert!(matches!(other, ReportLoadError::Changed { .. }) && other.to_string().contains("MD5"), "{other}");

    fs::write(&path, "b,k\n").unwrap();
    let shorter = FinishedReport::load(folder.path()).unwrap_err();
    assert!(shorter.to_string().ends_with("(4 bytes instead of 10)"), "{shorter}");

    fs::remove_file(&path).unwrap();
    let missing = FinishedReport::load(folder.path()).unwrap_err();
    assert!(matches!(missing, ReportLoadError::Io(_)) && missing.to_string().contains("report-0.csv"), "{missing}");
}

#[test]
fn names_an_invalid_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    assert!(FinishedReport::load(folder.path()).unwrap_err().to_string().contains("segments.json"));
    let mut report = report(folder.path(), &spec(ReportFormat::Oss, true));
    report.segments.push(ReportSegment {
        status: TaskStatus::Failed,
        name: "../secret".to_owned(),
        ..report.segments[0].clone()
    });
    report.save(folder.path()).unwrap();
    let stray = FinishedReport::load(folder.path()).unwrap_err();
    assert!(stray.to_string().ends_with("\"../secret\" is not a file of the report"), "{stray}");

    let path = folder.path().join("segments.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"version\": 2", "\"version\": 3");
    fs::write(&path, newer).unwrap();
    let error = FinishedReport::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("version 3"), "{error}");
    fs::write(&path, "{").unwrap();
    assert!(matches!(FinishedReport::load(folder.path()).unwrap_err(), ReportLoadError::Unreadable { .. }));
}

#[test]
fn a_file_may_be_missing_only_when_it_is_marked_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = report(folder.path(), &spec(ReportFormat::Aws, true));
    for keep_local in [true, false, false] {
        report.record_published(folder.path(), keep_local).unwrap();
        assert_eq!(report.segments()[0].path(folder.path()).exists(), keep_local);
        assert_eq!(FinishedReport::load(folder.path()).unwrap(), report);
    }
    // The `segments.json` of the same report without the mark: a file was lost.
    let path = folder.path().join("segments.json");
    let marked = fs::read_to_string(&path).unwrap();
    let unmarked = marked.replace("\"published\": true", "\"published\": false");
    fs::write(&path, &unmarked).unwrap();
    let error = FinishedReport::load(folder.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("segments.json: damaged since the job wrote it: it fails its checksum"),
        "{error}"
    );
    let digest = unmarked.find(",\n  \"sha256\"").unwrap();
    fs::write(&path, format!("{}\n}}", &unmarked[..digest])).unwrap();
    assert!(matches!(FinishedReport::load(folder.path()).unwrap_err(), ReportLoadError::Io(_)));
}

#[test]
fn a_published_file_that_is_still_there_is_checked_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    report(folder.path(), &spec(ReportFormat::Oss, true)).record_published(folder.path(), true).unwrap();
    fs::write(folder.path().join("report-0.csv"), "b,k,,404,\n").unwrap();
    assert!(matches!(FinishedReport::load(folder.path()).unwrap_err(), ReportLoadError::Changed { .. }));
}

#[test]
fn a_sidecar_of_the_first_version_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = report(folder.path(), &spec(ReportFormat::Oss, true));
    fs::write(folder.path().join("report-1.csv"), "x\n").unwrap();
    let text = format!(
        r#"{{
          "version": 1, "job": "{ID}", "format": "oss", "created": "2026-03-04T05:06:07.891Z",
          "place": {{ "bucket": "audit", "prefix": "batch%20reports/%C3%BC" }},
          "segments": [
            {{ "status": "succeeded", "name": "report-0.csv", "bytes": 10, "rows": 1, "md5": "{}" }},
            {{ "status": "failed", "name": "report-1.csv", "bytes": 2, "rows": 1, "md5": "401b30e3b8b5d629635a5c613cdb7919" }}
          ]
        }}"#,
        report.segments()[0].md5.hex()
    );
    fs::write(folder.path().join("segments.json"), text).unwrap();
    report.segments.push(ReportSegment {
        number: 1,
        status: TaskStatus::Failed,
        name: "report-1.csv".to_owned(),
        bytes: 2,
        rows: 1,
        md5: "401b30e3b8b5d629635a5c613cdb7919".to_owned().try_into().unwrap(),
        published: false,
    });
    assert_eq!(FinishedReport::load(folder.path()).unwrap(), report);
}
