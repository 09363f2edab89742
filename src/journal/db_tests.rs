//! How older journals are migrated.

use std::fs;
use std::sync::Barrier;

use batchplan_store::Mutex;
use futures_util::FutureExt as _;
use rusqlite::params;

use super::super::JobRecord;
use super::super::checkpoint::Checkpoint;
use super::super::jobs::{JobQuery, StatusReason};
use super::super::record::STILL_ACTIVE;
use super::super::testing::{create_job, error_with_hint, folder_content, hour, journal, new_job, some_ids};
use super::*;
use crate::job::{JobStatus, Progress};

const FIRST: &str = "CREATE TABLE note (text TEXT NOT NULL) STRICT; INSERT INTO note VALUES ('old');";
const SECOND: &str = "ALTER TABLE note ADD COLUMN age INTEGER NOT NULL DEFAULT 3; UPDATE note SET text = 'new';";

fn options(migrations: &'static [&'static str]) -> JournalOptions {
    JournalOptions { migrations, ..DEFAULT_OPTIONS }
}

fn raw(state: &Path) -> Connection {
    Connection::open(state.join(JOURNAL_NAME)).expect("a database")
}

/// Returns the only value of a query.
fn cell<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).expect("an answer")
}

#[test]
fn a_fresh_one_is_made_with_its_folder_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("a").join("b");
    assert!(Journal::open_existing(&state).expect("looked").is_none());
    assert!(!state.exists(), "looking makes nothing");
    let first = Journal::open(&state).expect("made");
    let job = create_job(&first, new_job("one"));
    drop(first);
    let again = Journal::open_existing(&state).expect("opened").expect("it is there");
    assert_eq!(again.state_folder(), state);
    assert_eq!(again.find(job.id.as_str()).expect("found").plan_text, job.plan_text);
    let connection = raw(&state);
    assert_eq!(cell::<String>(&connection, "PRAGMA journal_mode"), "wal");
    assert_eq!(cell::<i32>(&connection, "PRAGMA application_id"), APPLICATION_ID);
    assert_eq!(cell::<isize>(&connection, "PRAGMA user_version").unsigned_abs(), MIGRATIONS.len());
    let synchronous = again.run_blocking(|connection| Ok(cell::<i32>(connection, "PRAGMA synchronous")));
    assert_eq!(synchronous.expect("read"), 2, "FULL");
}

#[test]
fn several_that_make_it_at_once_have_the_same() {
    for _ in 0..30 {
        let folder = tempfile::tempdir().expect("a folder");
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for n in 0..4 {
                let (start, folder) = (&start, &folder);
                scope.spawn(move || {
                    start.wait();
                    let journal = Journal::open(folder.path()).expect("made by one of them");
                    create_job(&journal, new_job(&n.to_string()));
                });
            }
        });
        let journal = Journal::open(folder.path()).expect("opened");
        let jobs = journal.list(JobQuery { limit: 10, ..JobQuery::default() }).expect("listed");
        assert_eq!(jobs.len(), 4);
    }
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let (folder, journal) = journal();
    drop(journal);
    let connection = raw(folder.path());
    connection.pragma_update(None, "user_version", 99).expect("set");
    connection.pragma_update(None, "journal_mode", "delete").expect("set");
    drop(connection);
    let before = folder_content(folder.path());
    let error = Journal::open(folder.path()).expect_err("it is newer");
    let ours = u32::try_from(MIGRATIONS.len()).expect("few");
    assert!(matches!(error, JournalError::NewerFormat { found: 99, known, .. } if known == ours), "{error}");
    assert!(error_with_hint(&error).contains("update batchplan"), "{}", error_with_hint(&error));
    assert_eq!(folder_content(folder.path()), before);
}

#[test]
fn an_older_format_is_migrated_after_a_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Journal::open_with(folder.path(), options(&[FIRST])).expect("made"));
    // A backup that is half written after a crash, or that belongs to a reverted migration.
    let backup = folder.path().join("journal.db.v1.backup");
    fs::write(&backup, "no database").expect("written");
    let migrated = Journal::open_with(folder.path(), options(&[FIRST, SECOND])).expect("migrated");
    let sees = |text: &'static str| {
        move |connection: &mut Connection| Ok(cell::<String>(connection, "SELECT text FROM note") == text)
    };
    assert!(migrated.run_blocking(sees("new")).expect("read"));
    drop(migrated);
    let names: Vec<_> = folder_content(folder.path()).into_iter().map(|(path, _)| path.display().to_string()).collect();
    assert!(!names.iter().any(|name| name.contains("draft")), "{names:?}");
    // The backup is a journal of the old format.
    let old = tempfile::tempdir().expect("a folder");
    fs::copy(backup, old.path().join(JOURNAL_NAME)).expect("copied");
    let old = Journal::open_with(old.path(), options(&[FIRST])).expect("opened");
    assert!(old.run_blocking(sees("old")).expect("read"));
    // A current journal is not migrated again.
    let again = Journal::open_with(folder.path(), options(&[FIRST, SECOND])).expect("opened");
    assert!(again.run_blocking(sees("new")).expect("read"));
}

#[test]
fn several_that_migrate_at_once_keep_what_was() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Journal::open_with(folder.path(), options(&[FIRST])).expect("made"));
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                let (start, folder) = (&start, &folder);
                scope.spawn(move || {
                    start.wait();
                    Journal::open_with(folder.path(), options(&[FIRST, SECOND])).expect("migrated by one of them");
                });
            }
        });
        let backup = Connection::open(folder.path().join("journal.db.v1.backup")).expect("a database");
        assert_eq!(cell::<String>(&backup, "SELECT text FROM note"), "old");
        assert_eq!(cell::<String>(&raw(folder.path()), "SELECT text FROM note"), "new");
    }
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Journal::open_with(folder.path(), options(&[FIRST])).expect("made"));
    let error = Journal::open_with(folder.path(), options(&[FIRST, SECOND, "INSERT INTO nowhere VALUES (1)"]))
        .expect_err("the third fails");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let old = Journal::open_with(folder.path(), options(&[FIRST])).expect("it is of the first format still");
    old.run_blocking(|connection| {
        assert_eq!(cell::<String>(connection, "SELECT text FROM note"), "old");
        assert_eq!(cell::<u32>(connection, "PRAGMA user_version"), 1);
        Ok(())
    })
    .expect("read");
}

#[test]
fn the_database_of_another_program_is_refused_and_left_as_it_is() {
    let somebodys = ["CREATE TABLE photos (id INTEGER)", "PRAGMA application_id = 252006674"];
    for sql in somebodys {
        let folder = tempfile::tempdir().expect("a folder");
        raw(folder.path()).execute_batch(sql).expect("made");
        let before = folder_content(folder.path());
        let error = Journal::open(folder.path()).expect_err("it is somebody else's");
        assert!(matches!(&error, JournalError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("another program"), "{error}");
        assert_eq!(folder_content(folder.path()), before, "{sql}");
    }
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    for text in ["name = \"a plan\"\n".repeat(100), "SQLite format 3".to_owned(), "x".repeat(5000)] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(JOURNAL_NAME), &text).expect("written");
        let error = Journal::open(folder.path()).expect_err("it is no database");
        assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
        assert!(error_with_hint(&error).contains("restore the file from a backup"), "{}", error_with_hint(&error));
        assert_eq!(folder_content(folder.path()), [(folder.path().join(JOURNAL_NAME), text.into_bytes())]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join(JOURNAL_NAME)).expect("made");
    let error = Journal::open(folder.path()).expect_err("it is a folder");
    assert!(error.to_string().contains(JOURNAL_NAME), "{error}");
}

/// A journal with a few jobs, all of it in its one file.
fn grown() -> Vec<u8> {
    let (folder, journal) = journal();
    for n in 0..40 {
        let job = create_job(&journal, new_job(&format!("work {n}")));
        journal.advance(&job.id, JobStatus::Preparing, StatusReason::because("x".repeat(300)), hour(n)).expect("moved");
    }
    drop(journal);
    let path = folder.path().join(JOURNAL_NAME);
    // The journal's thread may take a moment to end. The last connection to close writes the log into the file.
    let connection = Connection::open(&path).expect("a database");
    connection.busy_timeout(Duration::from_secs(10)).expect("set");
    write_delete(&connection);
    drop(connection);
    fs::read(path).expect("a file")
}

/// Writes the log into the file, once no other connection has it open.
fn write_delete(connection: &Connection) {
    while connection.pragma_update(None, "journal_mode", "delete").is_err() {
        thread::sleep(BUSY_RETRY_DELAY);
    }
}

/// Opens a journal with these bytes and returns all of its jobs, or the error.
fn says(bytes: &[u8]) -> Result<Vec<String>, JournalError> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(JOURNAL_NAME), bytes).expect("written");
    let journal = Journal::open(folder.path())?;
    let jobs = journal.list(JobQuery { limit: 1000, ..JobQuery::default() })?;
    for job in &jobs {
        journal.recorded_progress(job.number)?;
        journal.find(job.id.as_str())?;
    }
    Ok(jobs.iter().map(|job| format!("{job:?}")).collect())
}

#[test]
fn a_truncated_one_is_refused() {
    let whole = grown();
    let expected = says(&whole).expect("it is whole");
    assert_eq!(expected.len(), 40);
    let mut random = fastrand::Rng::with_seed(7);
    let cuts = (0..whole.len()).step_by(4096).chain((0..20).map(|_| random.usize(1..whole.len())));
    for cut in cuts.filter(|cut| *cut > 0) {
        let error = says(&whole[..cut]).expect_err("something is missing");
        assert!(matches!(error, JournalError::Damaged { .. }), "cut at {cut}: {error:?}");
    }
}

#[test]
fn an_empty_one_is_new_unless_there_are_jobs_beside_it() {
    assert_eq!(says(&[]).expect("as good as none").len(), 0);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(JOURNAL_NAME), "").expect("written");
    fs::create_dir_all(folder.path().join("jobs").join("some job")).expect("made");
    let error = Journal::open(folder.path()).expect_err("its content is gone");
    assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
    assert!(error_with_hint(&error).contains("move it away"), "{}", error_with_hint(&error));
    fs::remove_file(folder.path().join(JOURNAL_NAME)).expect("moved away");
    Journal::open(folder.path()).expect("a new one");
}

/// `SQLite`'s pages have no checksums, so a flipped bit in a stored value is not detected if the result is a valid
/// value. Everything else is rejected: a broken structure and invalid values.
#[test]
fn a_flipped_bit_is_refused_or_changes_one_value() {
    let whole = grown();
    let expected = says(&whole).expect("it is whole");
    let mut random = fastrand::Rng::with_seed(11);
    let (mut refused, mut unseen) = (0, 0);
    for round in 0..200 {
        let mut bytes = whole.clone();
        let (place, bit) = (random.usize(..bytes.len()), random.u32(..8));
        bytes[place] ^= 1 << bit;
        match says(&bytes) {
            Err(JournalError::Damaged { .. } | JournalError::NewerFormat { .. }) => refused += 1,
            Err(error) => panic!("round {round}, byte {place}: {error:?}"),
            Ok(jobs) => {
                assert_eq!(jobs.len(), expected.len(), "round {round}, byte {place}");
                let changed = jobs.iter().zip(&expected).filter(|(now, then)| now != then).count();
                assert!(changed <= 1, "round {round}, byte {place}: {changed} jobs changed");
                unseen += changed;
            }
        }
    }
    assert!(refused > 10, "{refused} refused, {unseen} unseen");
}

#[test]
fn one_that_another_process_keeps_locked_is_an_error_after_the_wait_and_goes_on_then() {
    let (folder, other) = journal();
    let timeout = Duration::from_millis(50);
    let journal =
        Journal::open_with(folder.path(), JournalOptions { busy_timeout: timeout, ..DEFAULT_OPTIONS }).expect("opened");
    let job = create_job(&other, new_job("one"));
    let connection = raw(folder.path());
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE job SET priority = 1").expect("begun");
    let since = Instant::now();
    let error = journal.set_priority(&job.id, 3).expect_err("it is locked");
    assert!(since.elapsed() >= timeout);
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    assert!(
        error_with_hint(&error).contains("is locked by another process\nnothing was changed; wait for"),
        "{}",
        error_with_hint(&error)
    );
    // Readers see the previous state. Another process that opens the journal has nothing to write.
    assert_eq!(journal.find(job.id.as_str()).expect("read").priority, 7);
    Journal::open_with(folder.path(), JournalOptions { busy_timeout: timeout, ..DEFAULT_OPTIONS }).expect("opened");
    connection.execute_batch("ROLLBACK").expect("rolled back");
    journal.set_priority(&job.id, 3).expect("it is free");
    assert_eq!(other.find(job.id.as_str()).expect("read").priority, 3);
}

#[test]
fn one_that_is_kept_for_one_process_alone_is_an_error_after_the_wait() {
    let (folder, made) = journal();
    drop(made);
    let connection = raw(folder.path());
    connection.busy_timeout(Duration::from_secs(10)).expect("set");
    write_delete(&connection);
    connection.execute_batch("BEGIN EXCLUSIVE").expect("begun");
    let timeout = Duration::from_millis(30);
    let error = Journal::open_with(folder.path(), JournalOptions { busy_timeout: timeout, ..DEFAULT_OPTIONS })
        .expect_err("it is locked");
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "a file").expect("written");
    let error = Journal::open(&file.join("state")).expect_err("a file is in the way");
    assert!(matches!(error, JournalError::Io { .. }), "{error:?}");
    assert!(
        error_with_hint(&error).contains("file/state") && error_with_hint(&error).contains("--state DIR"),
        "{}",
        error_with_hint(&error)
    );
    assert_eq!(fs::read(&file).expect("read"), b"a file");
}

#[test]
fn a_journal_that_is_only_read_shows_every_change_and_takes_none() {
    let (folder, journal) = journal();
    create_job(&journal, new_job("one"));
    let path = folder.path().join(JOURNAL_NAME);
    let count = |database: &mut JournalDatabase| {
        let connection = database.connection().expect("it can be read");
        connection.execute("DELETE FROM job", []).expect_err("it is only read");
        cell::<i64>(connection, "SELECT count(*) FROM job")
    };
    drop(journal);
    let before = folder_content(folder.path());
    let mut database = JournalDatabase::open_read_only(&path, DEFAULT_OPTIONS).expect("opened");
    assert!(matches!(database, JournalDatabase::Copied { .. }));
    assert_eq!((count(&mut database), folder_content(folder.path())), (1, before));
    // Another process opens it: what it records is visible at once, and after it has closed the journal.
    let journal = Journal::open(folder.path()).expect("opened");
    create_job(&journal, new_job("two"));
    drop(journal);
    assert_eq!(count(&mut database), 2);
    let journal = Journal::open(folder.path()).expect("opened");
    create_job(&journal, new_job("three"));
    let connection = database.connection().expect("it can be read");
    assert_eq!(cell::<i64>(connection, "SELECT count(*) FROM job"), 3);
    assert!(matches!(database, JournalDatabase::Original(_)), "the log and its index exist");
    drop(database);
    drop(journal);
    // One that must be migrated is migrated in the copy.
    let old = tempfile::tempdir().expect("a folder");
    drop(Journal::open_with(old.path(), options(&[FIRST])).expect("made"));
    let before = folder_content(old.path());
    let mut database =
        JournalDatabase::open_read_only(&old.path().join(JOURNAL_NAME), options(&[FIRST, SECOND])).expect("opened");
    assert_eq!(cell::<String>(database.connection().expect("read"), "SELECT text FROM note"), "new");
    assert_eq!(folder_content(old.path()), before);
    // Damage is reported of the journal, not of its copy.
    fs::write(&path, "no database, but long enough to be one").expect("written");
    let error = JournalDatabase::open_read_only(&path, DEFAULT_OPTIONS).map(drop).expect_err("damaged").to_string();
    assert!(error.starts_with(&format!("{} is damaged", path.display())), "{error}");
}

/// The kernel's own file systems reject writes even from root.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_refuses_everybody_is_read_only() {
    for state in ["/proc/sys", "/sys"].into_iter().filter(|state| Path::new(state).is_dir()) {
        let error = Journal::open(Path::new(state)).expect_err("nobody may write there");
        assert!(matches!(error, JournalError::ReadOnly { .. }), "{error:?}");
        assert!(error_with_hint(&error).contains("make the folder writable"), "{}", error_with_hint(&error));
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_is_lost() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let limit = |pages: u32| {
        journal.run_blocking(move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            Ok(())
        })
    };
    // Allow no more pages than there are.
    limit(1).expect("set");
    let long = || StatusReason::because("x".repeat(100_000));
    let error = journal.advance(&job.id, JobStatus::Preparing, long(), hour(1)).expect_err("there is no room");
    assert!(matches!(error, JournalError::DiskFull { .. }), "{error:?}");
    assert!(
        error_with_hint(&error).contains("disk is full") && error_with_hint(&error).contains("free some space"),
        "{}",
        error_with_hint(&error)
    );
    let checkpoint = |succeeded| Checkpoint {
        progress: Progress { total: 10, succeeded, ..Progress::default() },
        in_doubt: 0,
        maybe_started: 0,
        active_time: Duration::ZERO,
        next_row: None,
        parts: vec![crate::frontier::PartWatermark { part: 0, low: 0, above_bits: vec![1; 10_000] }],
        files: Vec::new(),
        failures: Vec::new(),
    };
    let error = journal.record_checkpoint(job.number, checkpoint(3)).await.expect_err("there is no room");
    assert!(matches!(error, JournalError::DiskFull { .. }), "{error:?}");
    let found = journal.find(job.id.as_str()).expect("it can be read");
    assert_eq!((found.status, found.progress.succeeded), (JobStatus::New, 0));
    assert_eq!(journal.recorded_progress(job.number).expect("read").frontier, crate::frontier::RowFrontier::default());
    limit(100_000).expect("set");
    journal.record_checkpoint(job.number, checkpoint(4)).await.expect("there is room");
    journal.advance(&job.id, JobStatus::Preparing, long(), hour(1)).expect("there is room");
    assert_eq!(journal.find(job.id.as_str()).expect("read").progress.succeeded, 4);
}

#[test]
fn no_room_for_the_file_that_connections_share_is_a_full_disk() {
    let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMSIZE), None);
    assert!(matches!(JournalError::from_sqlite(Path::new("j"), &error), JournalError::DiskFull { .. }));
}

#[tokio::test]
async fn a_thread_that_died_is_an_error_for_everybody_and_no_hang() {
    let (_folder, journal) = journal();
    let waiting = journal.clone();
    let died = journal.run_blocking::<()>(|_| panic!("in a test"));
    assert!(matches!(died, Err(JournalError::Closed)), "{died:?}");
    assert!(matches!(waiting.run_blocking(|_| Ok(())), Err(JournalError::Closed)));
    assert!(matches!(waiting.run(|_| Ok(())).await, Err(JournalError::Closed)));
    assert!(waiting.list(JobQuery::default()).is_err());
}

#[tokio::test]
async fn a_command_whose_sender_left_still_runs_in_order() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let ((started_sender, started), (release, released)) = (mpsc::sync_channel(0), mpsc::sync_channel::<()>(0));
    // The thread is busy until it is released.
    let busy = journal.clone();
    let busy = thread::spawn(move || busy.run_blocking(move |_| Ok((started_sender.send(()), released.recv()))));
    started.recv().expect("it has started");
    let id = job.id.clone();
    let asked = journal
        .run(move |connection| Ok(connection.execute("UPDATE job SET priority = 99 WHERE id = ?1", [id.as_str()])?));
    // Sent, and dropped while it waits.
    assert!(asked.now_or_never().is_none());
    release.send(()).expect("it waits");
    busy.join().expect("no panic").expect("done").1.expect("released");
    assert_eq!(journal.find(job.id.as_str()).expect("found").priority, 99);
}

#[tokio::test]
async fn commands_wait_when_the_queue_is_full() {
    let (_folder, journal) = journal();
    let job = create_job(&journal, new_job("one"));
    let asked = (0..3 * COMMAND_QUEUE_LENGTH).map(|_| {
        let id = job.id.clone();
        journal.run(move |connection| {
            Ok(connection.execute("UPDATE job SET priority = priority + 1 WHERE id = ?1", [id.as_str()])?)
        })
    });
    let done = futures_util::future::join_all(asked).await;
    assert!(done.into_iter().all(|changed| changed.is_ok_and(|rows| rows == 1)));
    assert_eq!(journal.find(job.id.as_str()).expect("found").priority as usize, 7 + 3 * COMMAND_QUEUE_LENGTH);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn note(&self, what: String) {
        self.0.lock().push(what);
    }
}

impl JournalListener for Heard {
    fn status_changed(&self, journal: &Journal, job: &JobRecord) {
        // A listener may query the journal, which already shows the change.
        assert_eq!(journal.job_by_number(job.number).expect("the job").status, job.status);
        self.note(job.status.to_string());
    }

    fn checkpoint_recorded(&self, _: &Journal, _: i64, progress: Progress, active: Duration) {
        self.note(format!("{} in {} s", progress.finished(), active.as_secs()));
    }
}

#[tokio::test]
async fn listeners_receive_recorded_changes_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let heard = Arc::new(Heard::default());
    let journal = Journal::open(folder.path()).expect("a journal").with_listener(heard.clone());
    let job = create_job(&journal, new_job("work"));
    for status in [JobStatus::Preparing, JobStatus::Suspended, JobStatus::Ready] {
        journal.advance(&job.id, status, StatusReason::default(), hour(0)).expect("moved");
    }
    assert!(journal.advance(&job.id, JobStatus::Complete, StatusReason::default(), hour(0)).is_err());
    let waits = journal.activate(&job.id, |_, _| Err(()), hour(0)).await.expect("judged");
    assert!(waits.is_err());
    let goes = journal.activate(&job.id, |_, _| Ok::<_, ()>(()), hour(0)).await.expect("judged");
    assert!(goes.is_ok());
    let checkpoint = Checkpoint {
        progress: Progress { total: 5, succeeded: 2, failed: 1, unchanged: 1 },
        in_doubt: 0,
        maybe_started: 0,
        active_time: Duration::from_secs(7),
        next_row: None,
        parts: Vec::new(),
        files: Vec::new(),
        failures: Vec::new(),
    };
    journal.record_checkpoint(job.number, checkpoint.clone()).await.expect("recorded");
    assert!(journal.record_checkpoint(job.number + 1, checkpoint).await.is_err());
    let heard = heard.0.lock();
    assert_eq!(*heard, ["Preparing", "Suspended", "Ready", "Active", "3 in 7 s"]);
}

/// A job in a journal without a change counter: its status; when it was created and last moved, in hours; how many of
/// its ten objects were finished; how many were in doubt; and the first row that was not started.
type OldJobRow = (&'static str, i64, i64, u32, u32, Option<u32>);

/// Creates these jobs in an old journal and migrates it.
fn migrated(jobs: &[OldJobRow]) -> (tempfile::TempDir, Journal, Vec<JobRecord>) {
    let folder = tempfile::tempdir().expect("a folder");
    let old = Journal::open_with(folder.path(), JournalOptions { migrations: &MIGRATIONS[..3], ..DEFAULT_OPTIONS })
        .expect("made");
    let jobs: Vec<_> = jobs.iter().copied().zip(some_ids(u32::try_from(jobs.len()).expect("few"))).collect();
    old.run_blocking(move |connection| {
        for ((status, created, changed, settled, in_doubt, taken), id) in jobs {
            connection.execute(
                "INSERT INTO job (id, identity, name, origin, plan_file, plan_hash, plan, status, confirmed, priority, created,
                                  changed, total, succeeded, in_doubt, taken_part, taken_row)
                 VALUES (?1, 'i', 'n', '\"plan\"', '/p', 'h', x'00', ?2, 1, 0, ?3, ?4, 10, ?5, ?6, ?7, ?8)",
                params![
                    id,
                    status,
                    hour(created).as_millisecond(),
                    hour(changed).as_millisecond(),
                    settled,
                    in_doubt,
                    taken.map(|_| 0),
                    taken
                ],
            )?;
        }
        Ok(())
    })
    .expect("inserted");
    drop(old);
    let journal = Journal::open(folder.path()).expect("migrated");
    let mut jobs = journal.work_history("n", "any").expect("read").jobs;
    jobs.reverse();
    assert!(jobs.iter().all(|job| !job.can_capture));
    (folder, journal, jobs)
}

#[test]
fn what_older_jobs_did_is_put_in_the_order_that_their_clocks_tell() {
    let (_folder, journal, jobs) = migrated(&[
        ("Complete", 0, 1, 10, 0, Some(10)),
        ("Paused", 24, 25, 5, 3, Some(9)),
        ("Complete", 48, 49, 10, 0, Some(10)),
        // Resumed since.
        ("Cancelled", 50, 100, 5, 0, Some(5)),
        ("Complete", 72, 73, 10, 0, Some(10)),
        ("Active", 74, 75, 4, 0, Some(6)),
        ("Suspended", 76, 76, 0, 0, None),
        // Clocks may differ by an hour.
        ("Failed", 77, 77, 1, 0, Some(1)),
        ("Complete", 78, 79, 10, 0, Some(10)),
    ]);
    let after = |job: usize, base: usize| {
        jobs[job].work_span.last_touched.is_some_and(|until| until > jobs[base].work_span.scope_decided)
    };
    assert!(jobs.is_sorted_by_key(|job| job.work_span.scope_decided));
    assert!(!after(0, 2) && !after(1, 2) && !after(2, 4), "they were made when the others had ended");
    assert!(after(3, 4), "it was resumed later");
    assert!(after(7, 8));
    assert_eq!(jobs[5].work_span.last_touched, Some(STILL_ACTIVE));
    assert_eq!((jobs[6].work_span.first_active, jobs[6].work_span.last_touched), (None, None));
    // Later changes come after all of these.
    let moved = journal.advance(&jobs[5].id, JobStatus::Cancelling, StatusReason::default(), hour(0)).expect("moved");
    assert_eq!(moved.work_span.last_touched, Some(STILL_ACTIVE));
    let moved = journal.advance(&jobs[5].id, JobStatus::Cancelled, StatusReason::default(), hour(0)).expect("moved");
    let last = jobs.iter().filter_map(|job| job.work_span.last_touched.filter(|until| *until != STILL_ACTIVE)).max();
    assert!(moved.work_span.last_touched > last && moved.work_span.last_touched < Some(STILL_ACTIVE));
    // Nothing expires before the latest recorded time, whatever the clock shows now.
    assert!(journal.expired_jobs(hour(-1000)).expect("read").jobs.is_empty());
}

#[test]
fn what_an_older_version_did_not_record_of_a_killed_job_is_in_doubt() {
    let (_folder, _journal, jobs) = migrated(&[
        ("Active", 0, 1, 4, 0, Some(6)),
        ("Cancelled", 0, 1, 0, 0, Some(0)),
        ("Cancelled", 0, 1, 4, 2, Some(6)),
        ("Paused", 0, 1, 4, 0, Some(4)),
        ("Cancelled", 0, 1, 0, 0, None),
    ]);
    let doubt: Vec<_> = jobs.iter().map(|job| (job.in_doubt, job.maybe_started, job.not_attempted())).collect();
    assert_eq!(doubt, [(6, 6, 0), (10, 10, 0), (2, 6, 4), (0, 0, 6), (0, 0, 10)]);
}

#[test]
fn a_journal_without_jobs_begins_to_count() {
    let (_folder, journal, jobs) = migrated(&[]);
    assert!(jobs.is_empty());
    let work = journal.work_history("n", "any").expect("read");
    assert_eq!((work.as_of, work.removed_jobs.len()), (0, 0));
    assert!(journal.expired_jobs(hour(0)).expect("read").leap.is_none());
}
