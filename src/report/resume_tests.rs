//! Checks that a report contains exactly what was recorded, whatever happens to its writer.

use std::collections::BTreeMap;
use std::io::Write as _;

use md5::Md5;
use proptest::prelude::*;

use super::*;
use crate::codec::{ReportRowEncoder, TaskStatus};
use crate::completion::ReportScope;
use crate::report::fixtures::{FINE, bad, job, object, spec};
use crate::report::{Md5Digest, OpenReportFile, ROTATE_AT, ReportPosition, UnsyncedReportPosition, remove_local_file};

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
                    let path = layout::local_path(self.path(), &file.name);
                    fs::File::options().append(true).open(path).unwrap().write_all(&tail).unwrap();
                }
                let stray = layout::segment_name(self.format, &job(), u32::try_from(self.files().len()).unwrap() + 9);
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
        let (place, before) = match layout::subfolder(self.format) {
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
            assert_eq!((segment.number, &segment.name), (number, &layout::segment_name(format, &job(), number)));
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
        let subfolder = layout::subfolder(format);
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
