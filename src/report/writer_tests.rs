//! Checks when files are started, how they are named, when they are full, and that their digests are right.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use md5::{Digest as _, Md5};
use proptest::prelude::*;

use super::*;
use crate::report::fixtures::{FINE, bad, job, object, spec};
use crate::report::{Md5Digest, OpenReportFile, ROTATE_AT, ReportPosition, UnsyncedReportPosition, remove_local_file};
use crate::report_format::{ReportRowEncoder, ReportScope, TaskStatus};

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

/// A simplified journal: one row per file, replaced by later ones.
#[derive(Default)]
struct Journal {
    files: BTreeMap<u32, Recorded>,
    sealed: usize,
}

enum Recorded {
    Open(OpenReportFile),
    Sealed(ReportSegment),
}

impl Journal {
    fn commit(&mut self, position: ReportPosition) {
        for file in position.open {
            self.files.insert(file.number, Recorded::Open(file));
        }
        for segment in position.sealed {
            self.files.insert(segment.number, Recorded::Sealed(segment));
        }
        self.sealed = position.total_sealed;
    }

    fn state(&self) -> RecordedReport {
        let mut state = RecordedReport::default();
        for file in self.files.values() {
            match file {
                Recorded::Open(file) => state.open.push(file.clone()),
                Recorded::Sealed(segment) => state.sealed.push(segment.clone()),
            }
        }
        state
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record {
        failed: bool,
        length: usize,
    },
    /// The first half of a checkpoint. Rows may follow before the second half.
    Flush,
    /// The second half: the files are synced, and the journal is committed.
    Commit,
    /// The files are synced, but the journal is not committed.
    Uncommitted,
    /// A sealed file that the journal knows is published.
    Publish {
        which: prop::sample::Index,
        freed: bool,
    },
    /// The process dies. Its files keep everything that was written, and possibly more.
    Kill {
        tail: Vec<u8>,
    },
    /// The machine dies. Only what was synced is left.
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![12 => 0..40usize, 1 => 20_000..70_000usize];
    prop_oneof![
        12 => (any::<bool>(), length).prop_map(|(failed, length)| Step::Record { failed, length }),
        3 => Just(Step::Flush),
        3 => Just(Step::Commit),
        1 => Just(Step::Uncommitted),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, freed)| Step::Publish { which, freed }),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(|tail| Step::Kill { tail }),
        1 => Just(Step::PowerLoss),
    ]
}

/// A job that is killed now and then, and its expected report.
struct Run {
    folder: tempfile::TempDir,
    format: ReportFormat,
    rotate_at: u64,
    writer: ReportWriter,
    encoder: ReportRowEncoder,
    journal: Journal,
    /// A checkpoint in progress, and the number of rows that it covers.
    checkpoint: Option<(UnsyncedReportPosition, usize)>,
    rows: Vec<(TaskStatus, Vec<u8>)>,
    committed: usize,
    recorded: usize,
    bucket: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn new(format: ReportFormat, rotate_at: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(format, ReportScope::AllTasks);
        let writer = ReportWriter::create(folder.path(), &spec, &job(), OperationNaming::Implied, rotate_at).unwrap();
        Self {
            folder,
            format,
            rotate_at,
            writer,
            encoder: ReportRowEncoder::new(format, OperationNaming::Implied),
            journal: Journal::default(),
            checkpoint: None,
            rows: Vec::new(),
            committed: 0,
            recorded: 0,
            bucket: BTreeMap::new(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Record { failed, length } => self.record(failed, length),
            Step::Flush => {
                if self.checkpoint.is_none() {
                    self.checkpoint = Some((self.writer.flush(self.journal.sealed).unwrap(), self.rows.len()));
                }
            }
            Step::Commit => {
                if let Some((flushed, rows)) = self.checkpoint.take() {
                    self.journal.commit(flushed.sync().unwrap());
                    self.committed = rows;
                }
            }
            Step::Uncommitted => {
                if let Some((flushed, _)) = self.checkpoint.take() {
                    flushed.sync().unwrap();
                }
            }
            Step::Publish { which, freed } => self.publish(which, freed),
            Step::Kill { tail } => {
                for file in self.journal.state().open {
                    let path = local_path(self.path(), &file.name);
                    fs::File::options().append(true).open(path).unwrap().write_all(&tail).unwrap();
                }
                let stray = segment_name(self.format, &job(), u32::try_from(self.files().len()).unwrap() + 9);
                fs::write(self.path().join(stray), &tail).unwrap();
                self.resume();
            }
            Step::PowerLoss => {
                let state = self.journal.state();
                let lengths: BTreeMap<_, _> = state.open.iter().map(|file| (file.name.clone(), file.bytes)).collect();
                for name in self.files() {
                    let path = self.path().join(&name);
                    match lengths.get(&name) {
                        Some(bytes) => fs::File::options().write(true).open(path).unwrap().set_len(*bytes).unwrap(),
                        None if state.sealed.iter().any(|segment| segment.name == name) => {}
                        None => fs::remove_file(path).unwrap(),
                    }
                }
                self.resume();
            }
        }
    }

    fn record(&mut self, failed: bool, length: usize) {
        self.recorded += 1;
        let object = object(&format!("{}-{}", self.recorded, "k".repeat(length)));
        let (status, outcome) = if failed { (TaskStatus::Failed, bad()) } else { (TaskStatus::Succeeded, FINE) };
        self.writer.record(&object, &outcome).unwrap();
        let mut row = Vec::new();
        self.encoder.encode(&object, &outcome, &mut row).unwrap();
        self.rows.push((status, row));
    }

    fn publish(&mut self, which: prop::sample::Index, freed: bool) {
        let state = self.journal.state();
        let waiting: Vec<_> = state.sealed.into_iter().filter(|segment| !segment.published).collect();
        if waiting.is_empty() {
            return;
        }
        let segment = ReportSegment { published: true, ..which.get(&waiting).clone() };
        self.bucket.insert(segment.name.clone(), fs::read(segment.path(self.path())).unwrap());
        self.journal.files.insert(segment.number, Recorded::Sealed(segment.clone()));
        self.writer.mark_published(segment.number);
        if freed {
            remove_local_file(self.path(), &segment).unwrap();
        }
    }

    fn resume(&mut self) {
        self.checkpoint = None;
        self.rows.truncate(self.committed);
        let spec = spec(self.format, ReportScope::AllTasks);
        let state = self.journal.state();
        self.writer =
            ReportWriter::resume(self.path(), &spec, &job(), OperationNaming::Implied, self.rotate_at, &state).unwrap();
    }

    /// Returns the names of the report's files.
    fn files(&self) -> Vec<String> {
        let (place, before) = match subfolder(self.format) {
            Some(name) => (self.path().join(name), format!("{name}/")),
            None => (self.path().to_owned(), String::new()),
        };
        let entries = fs::read_dir(place).unwrap();
        entries.map(|entry| format!("{before}{}", entry.unwrap().file_name().into_string().unwrap())).collect()
    }

    /// Ends the job and compares the report with the expected rows.
    fn judge(self) {
        let Self { folder, format, writer, rows, bucket, .. } = self;
        let segments = writer.finish().unwrap();
        let mut told = BTreeMap::from([("succeeded", Vec::new()), ("failed", Vec::new())]);
        for (number, segment) in (0..).zip(&segments) {
            assert_eq!((segment.number, &segment.name), (number, &segment_name(format, &job(), number)));
            let local = fs::read(segment.path(folder.path()));
            assert!(local.is_ok() || segment.published, "{segment:?}");
            assert_eq!(segment.published, bucket.contains_key(&segment.name));
            let content = local.unwrap_or_else(|_| bucket[&segment.name].clone());
            assert!(bucket.get(&segment.name).is_none_or(|sent| *sent == content), "{segment:?}");
            assert_eq!(segment.bytes, content.len() as u64);
            assert_eq!(segment.md5, Md5Digest::of(&<Md5 as md5::Digest>::new_with_prefix(&content)));
            assert_eq!(segment.rows, content.split_inclusive(|byte| *byte == b'\n').count() as u64);
            told.get_mut(segment.status.as_str()).unwrap().extend(content);
        }
        for (status, told) in told {
            let expected: Vec<u8> =
                rows.iter().filter(|(of, _)| of.as_str() == status).flat_map(|(_, row)| row.clone()).collect();
            assert!(told == expected, "{status} rows are not those that were recorded");
        }
        let known: BTreeSet<_> = segments.iter().map(|segment| segment.name.clone()).collect();
        let subfolder = subfolder(format);
        for entry in fs::read_dir(subfolder.map_or(folder.path().to_owned(), |name| folder.path().join(name))).unwrap()
        {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = subfolder.map_or(file.clone(), |subfolder| format!("{subfolder}/{file}"));
            assert!(known.contains(&name), "{name} is no file of the report");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_recorded_and_what_came_after_the_crash_is_in_the_report_exactly_once(
        aws in any::<bool>(),
        rotate_at in prop_oneof![Just(1), Just(60), Just(400), Just(100_000), Just(ROTATE_AT)],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut run = Run::new(if aws { ReportFormat::Aws } else { ReportFormat::Oss }, rotate_at);
        for step in steps {
            run.take(step);
        }
        run.judge();
    }
}

/// `report-0.csv` sealed, `report-1.csv` open with two rows of 10 bytes, `report-2.csv` open with one failure.
fn interrupted(folder: &Path) -> RecordedReport {
    let spec = spec(ReportFormat::Oss, ReportScope::AllTasks);
    let mut writer = ReportWriter::create(folder, &spec, &job(), OperationNaming::Implied, 20).unwrap();
    for key in ["a", "b", "c", "d"] {
        writer.record(&object(key), &FINE).unwrap();
    }
    writer.record(&object("e"), &bad()).unwrap();
    let ReportPosition { open, sealed, .. } = writer.flush(0).unwrap().sync().unwrap();
    RecordedReport { open, sealed }
}

fn reopen(folder: &Path, state: &RecordedReport) -> Result<ReportWriter, ReportResumeError> {
    let spec = spec(ReportFormat::Oss, ReportScope::AllTasks);
    ReportWriter::resume(folder, &spec, &job(), OperationNaming::Implied, 20, state)
}

/// Checks that reopening fails with a message that ends in `expected`, before anything is changed.
#[track_caller]
fn refused(folder: &Path, state: &RecordedReport, expected: &str) {
    let stray = folder.join("report-3.csv");
    fs::write(&stray, "begun later").unwrap();
    let message = reopen(folder, state).unwrap_err().to_string();
    assert!(message.ends_with(expected), "{message}");
    assert!(stray.exists());
}

#[test]
fn nothing_recorded_is_a_report_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    interrupted(folder.path());
    assert_eq!(reopen(folder.path(), &RecordedReport::default()).unwrap().finish().unwrap(), []);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn removes_only_later_files_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let state = interrupted(folder.path());
    let stays = ["notes.txt", "report-03.csv", "report-3.csv.bak"];
    for name in ["report-3.csv", "report-7.csv", "manifest.json", "segments.json"].iter().chain(&stays) {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    reopen(folder.path(), &state).unwrap();
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let expected = ["notes.txt", "report-0.csv", "report-03.csv", "report-1.csv", "report-2.csv", "report-3.csv.bak"];
    assert_eq!(left, expected);
}

#[test]
fn shortened_open_file_is_reported_with_both_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let state = interrupted(folder.path());
    let path = folder.path().join("report-1.csv");
    fs::write(&path, "b,c,,200,\nb").unwrap();
    let expected = "report-1.csv: changed since the job wrote it (11 bytes, 20 are recorded)";
    refused(folder.path(), &state, expected);
    fs::remove_file(&path).unwrap();
    refused(folder.path(), &state, "report-1.csv: missing (20 bytes are recorded)");
}

#[test]
fn a_sealed_file_has_its_length_or_was_published_and_freed() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = interrupted(folder.path());
    let path = folder.path().join("report-0.csv");
    fs::write(&path, "b,a,,200,\nb,b,,200,\nb").unwrap();
    refused(folder.path(), &state, "report-0.csv: changed since the job wrote it (21 bytes, 20 are recorded)");
    fs::remove_file(&path).unwrap();
    refused(folder.path(), &state, "report-0.csv: missing (20 bytes are recorded)");
    state.sealed[0].published = true;
    let segments = reopen(folder.path(), &state).unwrap().finish().unwrap();
    assert_eq!(segments.iter().map(|segment| segment.published).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn rejects_an_inconsistent_state_before_changing_files() {
    let folder = tempfile::tempdir().unwrap();
    let state = interrupted(folder.path());
    let changed = |change: fn(&mut RecordedReport)| {
        let mut state = state.clone();
        change(&mut state);
        state
    };
    for (state, expected) in [
        (changed(|state| state.sealed.clear()), "file number 0 is missing"),
        (changed(|state| state.open[1].number = 4), "file number 2 is missing"),
        (changed(|state| state.open[1].number = 1), "file number 1 is recorded twice"),
        (changed(|state| state.open[1].status = TaskStatus::Succeeded), "report-1.csv and report-2.csv are both open"),
        (
            changed(|state| state.open[0].name = "../report-1.csv".to_owned()),
            "file number 1 is called \"../report-1.csv\" instead of \"report-1.csv\"",
        ),
    ] {
        refused(folder.path(), &state, expected);
    }
}

/// `/dev/null` accepts every byte and cannot be synced.
#[cfg(target_os = "linux")]
#[test]
fn sync_fails_forever_after_one_failure() {
    let folder = tempfile::tempdir().unwrap();
    let good = File::create(folder.path().join("f")).unwrap();
    let mut handle = ReportFileHandle { file: good, path: PathBuf::from("f"), sync_failed: AtomicBool::new(false) };
    handle.sync().unwrap();
    let good = std::mem::replace(&mut handle.file, File::options().write(true).open("/dev/null").unwrap());
    assert!(handle.sync().unwrap_err().to_string().starts_with("f: "));
    handle.file = good;
    assert_eq!(handle.sync().unwrap_err().to_string(), "f: a part of it was not written to disk");
}
