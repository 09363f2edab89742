use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::super::testing::{create_job, journal, new_job};
use super::*;
use crate::journal::JOURNAL_NAME;

fn seq(part: u32, row: u32) -> TaskId {
    TaskId { part, row }
}

fn checkpoint(succeeded: u64) -> Checkpoint {
    Checkpoint {
        progress: Progress { total: 1 << 40, succeeded, ..Progress::default() },
        in_doubt: 0,
        maybe_started: 0,
        active_time: Duration::from_millis(succeeded),
        next_row: Some(seq(0, 0)),
        parts: Vec::new(),
        files: Vec::new(),
        failures: Vec::new(),
    }
}

fn file(number: u32) -> ReportFileRecord {
    ReportFileRecord {
        number,
        status: TaskStatus::Succeeded,
        name: format!("succeeded-{number}.csv"),
        bytes: 10,
        rows: 1,
        md5: None,
        open_md5: None,
        published: false,
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn reasons(tally: &FailureTally) -> BTreeMap<FailureCode, FailureGroup> {
    tally.groups().map(|(code, reason)| (code.clone(), reason.clone())).collect()
}

#[test]
fn a_job_that_never_ran_has_recorded_nothing() {
    let (_folder, journal) = journal();
    let recorded = journal.recorded_progress(create_job(&journal, new_job("one")).number).expect("read");
    assert_eq!((recorded.frontier, recorded.files), (RowFrontier::default(), Vec::new()));
    assert_eq!(recorded.tally.groups().count(), 0);
}

#[test]
fn the_last_checkpoint_counts_and_files_and_parts_stay() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let sealed = ReportFileRecord { md5: Some("0".repeat(32)), bytes: 500, rows: 50, ..file(0) };
    let mark = |part| PartWatermark { part, low: 64, above_bits: vec![5] };
    let first = Checkpoint { files: vec![file(0)], parts: vec![mark(0), mark(1)], in_doubt: 3, ..checkpoint(5) };
    now(journal.record_checkpoint(job.number, first)).expect("recorded");
    let second = Checkpoint { files: vec![sealed.clone(), file(1)], parts: vec![mark(2)], ..checkpoint(9) };
    now(journal.record_checkpoint(job.number, second)).expect("recorded");
    let record = journal.find(job.id.as_str()).expect("found");
    assert_eq!((record.progress.succeeded, record.in_doubt, record.active_time), (9, 0, Duration::from_millis(9)));
    let recorded = journal.recorded_progress(job.number).expect("read");
    assert_eq!(recorded.files, [sealed, file(1)]);
    assert_eq!(recorded.frontier, RowFrontier::from_parts([mark(0), mark(1), mark(2)]));
}

#[test]
fn what_was_published_stays_so() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let keep =
        |files| now(journal.record_checkpoint(job.number, Checkpoint { files, ..checkpoint(1) })).expect("recorded");
    keep(vec![file(0), file(1)]);
    now(journal.mark_published(job.number, 0)).expect("recorded");
    // Prepared before the file was published, and recorded afterwards.
    keep(vec![file(0), file(1)]);
    let published = |file: &ReportFileRecord| file.published;
    assert_eq!(
        journal.recorded_progress(job.number).expect("read").files.iter().map(published).collect::<Vec<_>>(),
        [true, false]
    );
    keep(vec![ReportFileRecord { published: true, ..file(1) }]);
    assert!(journal.recorded_progress(job.number).expect("read").files.iter().all(published));
}

#[test]
fn a_checkpoint_that_fails_changes_nothing() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let mark = |above| PartWatermark { part: 0, low: 0, above_bits: vec![above] };
    let first = Checkpoint { parts: vec![mark(1)], files: vec![file(0)], ..checkpoint(1) };
    now(journal.record_checkpoint(job.number, first)).expect("recorded");
    journal
        .run_blocking(|connection| {
            // The last table that a checkpoint writes to.
            let sql = "CREATE TRIGGER no BEFORE INSERT ON failure BEGIN SELECT RAISE (ABORT, 'refused'); END";
            Ok(connection.execute_batch(sql)?)
        })
        .expect("made");
    let code = FailureCode { code: "AccessDenied".to_owned(), http: 403 };
    let second = Checkpoint {
        parts: vec![mark(3)],
        files: vec![ReportFileRecord { bytes: 99, ..file(0) }, file(1)],
        failures: vec![(code, FailureGroup { count: 1, examples: Vec::new() })],
        ..checkpoint(2)
    };
    let error = now(journal.record_checkpoint(job.number, second)).expect_err("refused");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(journal.find(job.id.as_str()).expect("found").progress.succeeded, 1);
    let recorded = journal.recorded_progress(job.number).expect("read");
    assert_eq!((recorded.files, recorded.frontier), (vec![file(0)], RowFrontier::from_parts([mark(1)])));
    assert_eq!(recorded.tally.groups().count(), 0);
}

#[test]
fn a_job_that_is_gone_keeps_no_checkpoint() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let error = now(journal.record_checkpoint(job.number + 1, checkpoint(1))).expect_err("there is no such job");
    assert!(matches!(error, JournalError::NoSuchJob(_)), "{error}");
}

/// Values that are no longer valid, as a failing disk leaves them.
#[test]
fn what_cannot_have_been_written_is_damage() {
    let damages = [
        "UPDATE job SET status = 'Actove'",
        "UPDATE job SET report = 'dux'",
        "UPDATE job SET request = 'pausf'",
        "UPDATE job SET cause = 'persom'",
        "UPDATE job SET origin = '{\"plan\"'",
        "UPDATE job SET total = -1",
        "UPDATE job SET priority = -1",
        "UPDATE job SET created = 9000000000000000000",
        "UPDATE job SET taken_part = 4294967296, taken_row = 0",
        "UPDATE job SET id = 'bm8='",
        "UPDATE frontier SET low = 63",
        "UPDATE frontier SET low = 4294967295",
        "UPDATE frontier SET low = 4294967232",
        "UPDATE frontier SET above = x'00'",
        "UPDATE segment SET status = 'succeedee'",
        "UPDATE segment SET bytes = -5",
        "UPDATE failure SET http = 70000",
    ];
    for sql in damages {
        let (_folder, journal) = journal();
        let job = create_job(&journal, new_job("one"));
        let code = FailureCode { code: "AccessDenied".to_owned(), http: 403 };
        let made = Checkpoint {
            parts: vec![PartWatermark { part: 0, low: 64, above_bits: vec![2] }],
            files: vec![file(0)],
            failures: vec![(code, FailureGroup { count: 1, examples: Vec::new() })],
            ..checkpoint(1)
        };
        now(journal.record_checkpoint(job.number, made)).expect("recorded");
        journal.run_blocking(move |connection| Ok(connection.execute_batch(sql)?)).expect("done");
        let all = super::super::JobQuery { limit: 10, ..Default::default() };
        let read = journal.list(all).and_then(|_| journal.recorded_progress(job.number));
        assert!(matches!(read, Err(JournalError::Damaged { .. })), "{sql}: {read:?}");
    }
}

/// The journal does not grow, however long a job runs and however many objects it has or fails.
#[test]
fn many_checkpoints_of_a_big_job_take_no_room() {
    let (folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    // Syncing does not affect the size. Without this, the test would wait for two thousand syncs.
    journal.run_blocking(|connection| Ok(connection.pragma_update(None, "synchronous", "off")?)).expect("set");
    let mut frontier = RowFrontier::default();
    let mut tally = FailureTally::default();
    let size = || {
        let of = |name: String| fs::metadata(folder.path().join(name)).map_or(0, |file| file.len());
        of(JOURNAL_NAME.to_owned()) + of(format!("{JOURNAL_NAME}-wal"))
    };
    let mut early = 0;
    for round in 0..2000_u32 {
        for n in 0..64 {
            frontier.mark_settled(seq(round / 1000, (round % 1000) * 64 + n));
        }
        let object =
            ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k".repeat(200).as_str()), version: None };
        let fault = batchplan_store::task::StoreError::without_response(
            batchplan_store::task::FaultClass::Rejected,
            &format!("Code{}", round % 100),
            "no",
            String::new(),
        );
        tally
            .add(&object, &batchplan_store::task::TaskFailure { operation: "put_object_acl".to_owned(), error: fault });
        let made = Checkpoint {
            parts: frontier.take_changes(),
            files: vec![ReportFileRecord { bytes: u64::from(round) * 6000, ..file(round / 1000) }],
            failures: tally.take_changes(),
            next_row: Some(seq(0, round)),
            ..checkpoint(u64::from(round) * 64)
        };
        now(journal.record_checkpoint(job.number, made)).expect("recorded");
        if round == 1000 {
            early = size();
        }
    }
    assert!(size() < 8 << 20, "{} bytes", size());
    assert!(size() <= early + (256 << 10), "{} bytes, and {early} half-way", size());
    assert_eq!(journal.recorded_progress(job.number).expect("read").frontier, frontier);
}

fn objects() -> impl Strategy<Value = ObjectId> {
    let key = prop::collection::vec(any::<u8>(), 0..40);
    ("[a-z]{1,5}", key, prop::option::of("\\PC{1,8}")).prop_map(|(bucket, key, version)| ObjectId {
        bucket: BucketName::new(&bucket),
        key: ObjectKey::new(key),
        version: version.as_deref().map(VersionId::new),
    })
}

fn failures() -> impl Strategy<Value = BTreeMap<FailureCode, FailureGroup>> {
    let code = ("\\PC{0,12}", 0_u16..600).prop_map(|(code, http)| FailureCode { code, http });
    let example = (objects(), any::<String>()).prop_map(|(object, message)| FailureExample { object, message });
    let reason = (0..u64::from(u32::MAX), prop::collection::vec(example, 0..4))
        .prop_map(|(count, examples)| FailureGroup { count, examples });
    prop::collection::btree_map(code, reason, 0..4)
}

fn files_of_a_report() -> impl Strategy<Value = BTreeMap<u32, ReportFileRecord>> {
    let file = (
        any::<bool>(),
        "[a-z0-9-]{1,6}(/[a-z0-9-]{1,6})?[.]csv",
        0..1_u64 << 40,
        any::<u32>(),
        prop::option::of("[0-9a-f]{32}"),
        any::<bool>(),
    );
    prop::collection::btree_map(any::<u32>(), file, 0..5).prop_map(|files| {
        let file = |(number, (ok, name, bytes, rows, md5, published))| {
            let status = if ok { TaskStatus::Succeeded } else { TaskStatus::Failed };
            (
                number,
                ReportFileRecord { number, status, name, bytes, rows: u64::from(rows), md5, open_md5: None, published },
            )
        };
        files.into_iter().map(file).collect()
    })
}

#[test]
fn the_name_of_a_report_leads_nowhere_else() {
    for name in ["../x", "a/../../x", "/etc/passwd", "a//b", ".hidden", "", "a\\b", "a\0"] {
        let (_folder, journal) = journal();
        let job = create_job(&journal, new_job("hostile"));
        let file = ReportFileRecord { name: name.to_owned(), ..file(0) };
        let made = Checkpoint { files: vec![file], ..checkpoint(1) };
        now(journal.record_checkpoint(job.number, made)).expect("recorded");
        let refused = journal.recorded_progress(job.number).expect_err(name).to_string();
        assert!(refused.contains("not the name of a report file"), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_recorded_is_read_back(
        rows in prop::collection::vec((0_u32..3, 0_u32..400), 0..300),
        cuts in prop::collection::vec(0_usize..300, 0..3),
        files in files_of_a_report(),
        failures in failures(),
        (total, succeeded, failed, in_doubt) in (0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40, any::<u32>()),
        active in 0..1_u64 << 40,
        taken in prop::option::of((any::<u32>(), any::<u32>())),
    ) {
        let (_folder, journal) = journal();
        let (before, job) = (create_job(&journal, new_job("before")), create_job(&journal, new_job("one")));
        let mut frontier = RowFrontier::default();
        for (place, (part, row)) in rows.iter().enumerate() {
            if cuts.contains(&place) {
                let made = Checkpoint { parts: frontier.take_changes(), ..checkpoint(1) };
                now(journal.record_checkpoint(job.number, made)).expect("recorded");
            }
            frontier.mark_settled(seq(*part, *row));
        }
        let last = Checkpoint {
            progress: Progress { total, succeeded, failed, unchanged: succeeded / 2 },
            in_doubt: u64::from(in_doubt),
            maybe_started: u64::from(in_doubt) * 2,
            active_time: Duration::from_millis(active),
            next_row: taken.map(|(part, row)| seq(part, row)),
            parts: frontier.take_changes(),
            files: files.values().cloned().collect(),
            failures: failures.clone().into_iter().collect(),
        };
        now(journal.record_checkpoint(job.number, last.clone())).expect("recorded");
        // Recording the same checkpoint again changes nothing.
        now(journal.record_checkpoint(job.number, last.clone())).expect("recorded");
        let record = journal.find(job.id.as_str()).expect("found");
        prop_assert_eq!((record.progress, record.active_time, record.next_row), (last.progress, last.active_time, last.next_row));
        prop_assert_eq!((record.in_doubt, record.maybe_started), (last.in_doubt, last.maybe_started));
        let recorded = journal.recorded_progress(job.number).expect("read");
        prop_assert_eq!(recorded.frontier, frontier);
        prop_assert_eq!(recorded.files, files.into_values().collect::<Vec<_>>());
        prop_assert_eq!(reasons(&recorded.tally), failures);
        prop_assert!(journal.recorded_progress(before.number).expect("read").files.is_empty(), "of another job");
    }
}
