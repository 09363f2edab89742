//! The journal's database: its file, the one thread of this process that uses it, the listeners that are notified of
//! recorded changes, and the tables, as an append-only list of migrations. `PRAGMA user_version` holds the number of
//! applied migrations.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::info;

use super::copy::{JournalCopy, database_files, has_log_and_index};
use super::error::{DatabaseCommandError, JournalError};
use super::job_folder::JOBS_FOLDER;
use super::lease::LEASE_FILE;
use super::record::JobRecord;
use crate::files::{
    absolute_path, are_locks_unsupported, check_record_locks, reject_blocking, sync_folder, write_refusal,
};
use crate::job::Progress;

/// The name of the journal's file in the state folder.
pub const JOURNAL_NAME: &str = "journal.db";

/// Settings for opening a journal. Tests use others than the default.
#[derive(Clone, Copy, Debug)]
struct JournalOptions {
    migrations: &'static [&'static str],
    /// How long to wait for another process's transaction. This program's own take milliseconds.
    busy_timeout: Duration,
}

const DEFAULT_OPTIONS: JournalOptions = JournalOptions { migrations: MIGRATIONS, busy_timeout: Duration::from_secs(5) };

/// The wait before a statement is retried for which `SQLite` does not wait itself.
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(5);

/// Capacity of the command queue: one checkpoint and a few queries for each running job.
const COMMAND_QUEUE_LENGTH: usize = 64;

type DatabaseCommand = Box<dyn FnOnce(Result<&mut Connection, JournalError>) + Send>;

/// The jobs of one state folder. Clones share one thread and one connection, which closes when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    state_folder: PathBuf,
    path: PathBuf,
    database: Arc<DatabaseThread>,
    listeners: JournalListeners,
}

#[derive(Debug)]
struct DatabaseThread {
    commands: Option<mpsc::SyncSender<DatabaseCommand>>,
    thread: Option<JoinHandle<()>>,
}

impl DatabaseThread {
    fn commands(&self) -> Result<&mpsc::SyncSender<DatabaseCommand>, JournalError> {
        self.commands.as_ref().ok_or(JournalError::Closed)
    }
}

/// Waits until the file is closed, so that the next process that opens it finds it closed. The remaining commands end
/// within their lock timeouts.
impl Drop for DatabaseThread {
    fn drop(&mut self) {
        self.commands = None;
        let elsewhere = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(elsewhere) {
            // A panic of the thread was already reported to the sender of the command.
            let _ = thread.join();
        }
    }
}

impl Journal {
    /// Opens the journal of a state folder. Creates the folder and the journal if they do not exist.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be created, read or written, is damaged, or has a newer format.
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(state).map_err(|cause| JournalError::from_io(state, cause))?;
        Self::open_with(state, DEFAULT_OPTIONS)
    }

    /// Opens the journal of a state folder; returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or written, is damaged, or has a newer format.
    pub fn open_existing(state: &Path) -> Result<Option<Self>, JournalError> {
        let path = state.join(JOURNAL_NAME);
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::open_with(state, DEFAULT_OPTIONS).map(Some),
            Err(cause) => Err(JournalError::from_io(&path, cause)),
        }
    }

    /// Opens the journal of a state folder for a command that only reads it; returns `None` if there is none. If this
    /// process may not write to the folder, nothing can be recorded through it.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read, is damaged, or has a newer format.
    pub fn open_for_reading(state: &Path) -> Result<Option<Self>, JournalError> {
        let path = state.join(JOURNAL_NAME);
        let folder = if state.as_os_str().is_empty() { Path::new(".") } else { state };
        let is_writable = write_refusal(&path).or_else(|| write_refusal(folder)).is_none();
        if is_writable || matches!(path.try_exists(), Ok(false)) {
            return Self::open_existing(state);
        }
        let database = JournalDatabase::open_read_only(&path, DEFAULT_OPTIONS)?;
        Self::start(state, path, database).map(Some)
    }

    /// Like [`open`](Self::open), with other settings.
    fn open_with(state: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        let path = state.join(JOURNAL_NAME);
        let database = JournalDatabase::Original(open_connection(&path, options)?);
        Self::start(state, path, database)
    }

    /// Starts the database's thread.
    fn start(state: &Path, path: PathBuf, mut database: JournalDatabase) -> Result<Self, JournalError> {
        let (command_sender, command_receiver) = mpsc::sync_channel::<DatabaseCommand>(COMMAND_QUEUE_LENGTH);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || command_receiver.into_iter().for_each(|work| work(database.connection())))
            .map_err(|cause| JournalError::from_io(&path, cause))?;
        let database = DatabaseThread { commands: Some(command_sender), thread: Some(thread) };
        Ok(Self {
            state_folder: state.to_owned(),
            path,
            database: Arc::new(database),
            listeners: JournalListeners::default(),
        })
    }

    /// Returns the folder that holds the journal and the jobs' folders.
    #[must_use]
    pub fn state_folder(&self) -> &Path {
        &self.state_folder
    }

    /// Runs a command on the database and blocks this thread until it is done: a few milliseconds, unless another
    /// process keeps the file locked.
    pub(crate) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, DatabaseCommandError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (result_sender, result_receiver) = mpsc::sync_channel(1);
        let work: DatabaseCommand = Box::new(move |connection| {
            // The caller may have stopped waiting.
            let _ = result_sender.send(connection.map_err(DatabaseCommandError::from).and_then(work));
        });
        self.database.commands()?.send(work).map_err(|_| JournalError::Closed)?;
        self.map_error(result_receiver.recv().map_err(|_| JournalError::Closed)?)
    }

    /// Runs a command on the database without blocking the current thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, DatabaseCommandError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (result_sender, result_receiver) = oneshot::channel();
        let mut work: DatabaseCommand = Box::new(move |connection| {
            // The caller may have stopped waiting.
            let _ = result_sender.send(connection.map_err(DatabaseCommandError::from).and_then(work));
        });
        // The queue is almost never full. If it is, other tasks run until there is room.
        while let Err(refused) = self.database.commands()?.try_send(work) {
            match refused {
                mpsc::TrySendError::Full(back) => work = back,
                mpsc::TrySendError::Disconnected(_) => return Err(JournalError::Closed),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.map_error(result_receiver.await.map_err(|_| JournalError::Closed)?)
    }

    fn map_error<T>(&self, result: Result<T, DatabaseCommandError>) -> Result<T, JournalError> {
        result.map_err(|problem| match problem {
            DatabaseCommandError::Sql(error) => JournalError::from_sqlite(&self.path, &error),
            DatabaseCommandError::Journal(error) => *error,
        })
    }
}

/// What the database's thread works on.
enum JournalDatabase {
    /// The journal's own file.
    Original(Connection),
    /// A copy of it that is read instead. Where an open file keeps its name, the connection closes before the copy is
    /// removed.
    Copied { connection: Connection, copy: JournalCopy, path: PathBuf, options: JournalOptions },
}

impl JournalDatabase {
    /// Opens a journal in a folder that this process may not write to.
    fn open_read_only(path: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        reject_blocking_files(path)?;
        if has_log_and_index(path) {
            match open_connection(path, options) {
                // It must be migrated, or it was closed meanwhile.
                Err(JournalError::ReadOnly { .. }) => {}
                opened => return opened.map(Self::Original),
            }
        }
        reject_emptied(path)?;
        let mut copy = JournalCopy::take(path)?;
        let connection = open_connection(copy.path(), options).map_err(|error| error.of_original(path))?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| JournalError::from_sqlite(copy.path(), &error))?;
        // The connection has read the database, so that it has opened all of its files.
        copy.unlink();
        Ok(Self::Copied { connection, copy, path: path.to_owned(), options })
    }

    /// Returns the connection, to a new copy if the journal has changed.
    fn connection(&mut self) -> Result<&mut Connection, JournalError> {
        if let Self::Copied { copy, path, options, .. } = self
            && !copy.is_current()
        {
            *self = Self::open_read_only(path, *options)?;
        }
        Ok(match self {
            Self::Original(connection) | Self::Copied { connection, .. } => connection,
        })
    }
}

/// Rejects a state folder on a file system without the locks of `SQLite`, which would take each for one that is held.
/// The file that is tried is the folder's lease, if it exists.
fn reject_without_locks(path: &Path) -> Result<(), JournalError> {
    match check_record_locks(&path.with_file_name(LEASE_FILE)) {
        Err(error) if are_locks_unsupported(&error) => {
            Err(JournalError::UnsupportedFileSystem { path: path.to_owned(), what: error.to_string() })
        }
        _ => Ok(()),
    }
}

fn open_connection(path: &Path, options: JournalOptions) -> Result<Connection, JournalError> {
    let of = |error: rusqlite::Error| JournalError::from_sqlite(path, &error);
    reject_emptied(path)?;
    reject_without_locks(path)?;
    let mut connection = open_database(path)?;
    connection.busy_timeout(options.busy_timeout).map_err(of)?;
    reject_foreign_database(&mut connection, path, options.migrations)?;
    enable_wal(&connection, options.busy_timeout).map_err(of)?;
    // FULL: a committed transaction survives a power loss, not only the end of the process.
    connection.pragma_update(None, "synchronous", "full").map_err(of)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(of)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(of)?;
    reject_triggers(&connection, path)?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20).map_err(of)?;
    let sound: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(of)?;
    if sound != "ok" {
        return Err(JournalError::Damaged { path: path.to_owned(), what: sound });
    }
    migrate(&mut connection, path, options.migrations)?;
    Ok(connection)
}

/// Opens a database file, or creates it.
///
/// `SQLite`, as built here, treats a name that begins with `file:` as a URL, whatever the flags are. An absolute path
/// never begins like that. `SQLite` would also follow a symbolic link at this path, and wait for ever at a pipe, also in
/// the place of the files that it keeps beside the database.
pub(crate) fn open_database(path: &Path) -> Result<Connection, JournalError> {
    reject_blocking_files(path)?;
    let (whole, flags) = (absolute_path(path), OpenFlags::default().difference(OpenFlags::SQLITE_OPEN_URI));
    whole.map_err(|cause| JournalError::from_io(path, cause)).and_then(|whole| {
        Connection::open_with_flags(whole, flags).map_err(|error| JournalError::from_sqlite(path, &error))
    })
}

/// Rejects a pipe in the place of a file that `SQLite` may open.
fn reject_blocking_files(path: &Path) -> Result<(), JournalError> {
    database_files(path)
        .into_iter()
        .try_for_each(|file| reject_blocking(&file).map_err(|cause| JournalError::from_io(&file, cause)))
}

/// Copies the database to a new file. Fails if the file exists.
pub(crate) fn copy_database(connection: &Connection, to: &Path) -> Result<(), JournalError> {
    let whole = absolute_path(to).map_err(|cause| JournalError::from_io(to, cause))?;
    // As bytes of the operating system: a file name need not be valid UTF-8.
    let name = ToSqlOutput::Borrowed(ValueRef::Text(whole.as_os_str().as_encoded_bytes()));
    let copied = connection.execute("VACUUM INTO ?1", [name]);
    copied.map(drop).map_err(|error| JournalError::from_sqlite(to, &error))
}

/// Rejects an empty journal file next to the folders of its jobs: `SQLite` would take an empty file for a new
/// database.
fn reject_emptied(path: &Path) -> Result<(), JournalError> {
    let empty = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    let jobs = path.with_file_name(JOBS_FOLDER);
    if empty && fs::read_dir(jobs).is_ok_and(|mut jobs| jobs.next().is_some()) {
        let what = "it is empty, but there are jobs next to it".to_owned();
        return Err(JournalError::Damaged { path: path.to_owned(), what });
    }
    Ok(())
}

/// Enables the write-ahead log. If several processes do so at once in a new file, `SQLite` refuses all but one
/// without a wait.
fn enable_wal(connection: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && Instant::now() < deadline => thread::sleep(BUSY_RETRY_DELAY),
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Rejects a journal with triggers or views: a journal never has any, and one from another source must not run code
/// of its own.
fn reject_triggers(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index')";
    let acting: i64 =
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| JournalError::from_sqlite(path, &error))?;
    if acting > 0 {
        let what = "it has triggers or views, which a journal never has".to_owned();
        return Err(JournalError::Damaged { path: path.to_owned(), what });
    }
    Ok(())
}

/// Rejects databases of other programs and journals of newer versions, and leaves them unchanged.
fn reject_foreign_database(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), JournalError> {
    let of = |error: rusqlite::Error| JournalError::from_sqlite(path, &error);
    // In one transaction: otherwise another process could create the journal between the two queries.
    let transaction = connection.transaction().map_err(of)?;
    let (application, found) = format_versions(&transaction).map_err(of)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(of)?;
    let new = tables == 0 && application == 0;
    if !new && application != APPLICATION_ID {
        let what = "it is another program's database".to_owned();
        return Err(JournalError::Damaged { path: path.to_owned(), what });
    }
    reject_newer(path, found, migrations)
}

fn reject_newer(path: &Path, found: u32, migrations: &[&str]) -> Result<(), JournalError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(JournalError::NewerFormat { path: path.to_owned(), found, known });
    }
    Ok(())
}

fn format_versions(connection: &Connection) -> rusqlite::Result<(i32, u32)> {
    let application = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((application, version))
}

/// Upgrades an older journal in one transaction. A backup of the old file is written next to it first.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), JournalError> {
    let of = |error: rusqlite::Error| JournalError::from_sqlite(path, &error);
    let (_, found) = format_versions(connection).map_err(of)?;
    if found as usize >= migrations.len() {
        return Ok(());
    }
    if found > 0 {
        back_up(connection, path, found)?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
    // Another process may have migrated it meanwhile, perhaps to a newer format.
    let (_, found) = format_versions(&transaction).map_err(of)?;
    reject_newer(path, found, migrations)?;
    for migration in migrations.iter().skip(found as usize) {
        transaction.execute_batch(migration).map_err(of)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(of)?;
    let version = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    transaction.pragma_update(None, "user_version", version).map_err(of)?;
    transaction.commit().map_err(of)
}

/// Writes a backup of a journal of format `found` next to it. The backup's name always stands for a complete copy of
/// that format or for none, even after a crash or if other processes migrate at the same time: `SQLite` does not sync
/// its copy to disk.
fn back_up(connection: &Connection, path: &Path, found: u32) -> Result<(), JournalError> {
    let of = |error: rusqlite::Error| JournalError::from_sqlite(path, &error);
    let backup = path.with_file_name(format!("{JOURNAL_NAME}.v{found}.backup"));
    let draft = path.with_file_name(format!("{JOURNAL_NAME}.v{found}.{:016x}.draft", fastrand::u64(..)));
    let copied = copy_database(connection, &draft).and_then(|()| {
        let (_, copied) = format_versions(&open_database(&draft)?).map_err(of)?;
        if copied != found {
            // Another process was faster and has written the backup.
            return Ok(false);
        }
        File::open(&draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&draft, &backup))
            .and_then(|()| backup.parent().map_or(Ok(()), sync_folder))
            .map_err(|cause| JournalError::from_io(&backup, cause))?;
        Ok(true)
    });
    if !matches!(copied, Ok(true)) {
        // The file may not even exist.
        let _ = fs::remove_file(&draft);
    }
    copied.map(|_| ())
}

/// Receives changes of a journal after they are recorded. Called on the thread or task that recorded the change,
/// which waits for it. It cannot make the change fail.
pub trait JournalListener: Send + Sync {
    /// A job has moved to another status.
    fn status_changed(&self, journal: &Journal, job: &JobRecord);

    /// A checkpoint was recorded. Gets the job's number, its row counts and how long it has been active.
    fn checkpoint_recorded(&self, journal: &Journal, job: i64, progress: Progress, active: Duration);
}

/// Keeps a copy of the journal that survives the loss of this machine.
pub trait JournalBackup: Send + Sync {
    /// Copies everything recorded so far. Completes once that is done, or with the reason why it never will be.
    fn push(&self) -> BackupPush;
}

/// A copy in progress.
pub type BackupPush = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

#[derive(Clone, Default)]
struct JournalListeners {
    listener: Option<Arc<dyn JournalListener>>,
    backup: Option<Arc<dyn JournalBackup>>,
}

impl fmt::Debug for JournalListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (listener, backup) = (self.listener.is_some(), self.backup.is_some());
        f.debug_struct("JournalListeners").field("listener", &listener).field("backup", &backup).finish()
    }
}

impl Journal {
    /// Returns the journal with a listener for everything recorded through it from now on.
    #[must_use]
    pub fn with_listener(mut self, listener: Arc<dyn JournalListener>) -> Self {
        self.listeners.listener = Some(listener);
        self
    }

    /// Returns the journal with a backup that survives the loss of this machine.
    #[must_use]
    pub fn with_backup(mut self, backup: Arc<dyn JournalBackup>) -> Self {
        self.listeners.backup = Some(backup);
        self
    }

    /// Waits until everything recorded is in the backup, if there is one.
    ///
    /// # Errors
    /// Returns an error if the backup cannot be written.
    pub async fn push_backup(&self) -> Result<(), JournalError> {
        match &self.listeners.backup {
            None => Ok(()),
            Some(backup) => backup.push().await.map_err(JournalError::BackupFailed),
        }
    }

    pub(crate) fn notify_status_changed(&self, job: &JobRecord) {
        info!(job = %job.id, name = job.name, status = %job.status, reason = job.reason, "status changed");
        if let Some(listener) = &self.listeners.listener {
            listener.status_changed(self, job);
        }
    }

    pub(crate) fn notify_checkpoint(&self, job: i64, progress: Progress, active: Duration) {
        if let Some(listener) = &self.listeners.listener {
            listener.checkpoint_recorded(self, job, progress, active);
        }
    }
}

/// The `PRAGMA application_id` of a journal: `bpjl` in ASCII.
const APPLICATION_ID: i32 = 0x6270_6a6c;

/// All migrations, oldest first. A released entry never changes.
///
/// Instants are milliseconds since 1970. Nothing here grows with a job's objects: `frontier` has a row for each
/// manifest part that was started (4 Mi rows each), `segment` one for each report file (256 MiB each). `failure` and
/// `example` are bounded for each job by [`FailureTally`](super::FailureTally), and `server_check` by
/// [`MAX_SERVER_CHECKS`](super::MAX_SERVER_CHECKS). `past_work` has at most two rows for each name and store of a
/// plan.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE job (
        number      INTEGER PRIMARY KEY AUTOINCREMENT,
        id          TEXT NOT NULL UNIQUE,
        identity    TEXT NOT NULL,
        token       TEXT,
        name        TEXT NOT NULL,
        description TEXT,
        origin      TEXT NOT NULL,
        plan_file   TEXT NOT NULL,
        plan_hash   TEXT NOT NULL,
        plan        BLOB NOT NULL,
        status      TEXT NOT NULL,
        reason      TEXT,
        cause       TEXT,
        confirmed   INTEGER NOT NULL,
        priority    INTEGER NOT NULL,
        created     INTEGER NOT NULL,
        changed     INTEGER NOT NULL,
        ended       INTEGER,
        total       INTEGER NOT NULL DEFAULT 0,
        succeeded   INTEGER NOT NULL DEFAULT 0,
        failed      INTEGER NOT NULL DEFAULT 0,
        in_doubt    INTEGER NOT NULL DEFAULT 0,
        active_ms   INTEGER NOT NULL DEFAULT 0,
        scope       TEXT,
        taken_part  INTEGER,
        taken_row   INTEGER,
        request     TEXT,
        request_why TEXT,
        report      TEXT NOT NULL DEFAULT 'none',
        place       TEXT
    ) STRICT;
    CREATE INDEX job_identity ON job (identity, number);
    CREATE INDEX job_status ON job (status, number);

    CREATE TABLE frontier (
        job   INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        part  INTEGER NOT NULL,
        low   INTEGER NOT NULL,
        above BLOB NOT NULL,
        PRIMARY KEY (job, part)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE segment (
        job       INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        number    INTEGER NOT NULL,
        status    TEXT NOT NULL,
        name      TEXT NOT NULL,
        bytes     INTEGER NOT NULL,
        rows      INTEGER NOT NULL,
        md5       TEXT,
        published INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (job, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE failure (
        job   INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        code  TEXT NOT NULL,
        http  INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (job, code, http)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE example (
        job     INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        code    TEXT NOT NULL,
        http    INTEGER NOT NULL,
        place   INTEGER NOT NULL,
        bucket  TEXT NOT NULL,
        key     BLOB NOT NULL,
        version TEXT,
        message TEXT NOT NULL,
        PRIMARY KEY (job, code, http, place)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE job ADD COLUMN pledge TEXT;
",
    "
    ALTER TABLE job ADD COLUMN inventory TEXT;
    ALTER TABLE job ADD COLUMN portion TEXT;
",
    // From here on, the order of changes is counted. For older jobs only the clock is known, so two hours of clock
    // difference are allowed for. A job that may be active counts as active until its end is recorded. What a killed
    // job may have started was not recorded: it may be everything that remains.
    "
    ALTER TABLE job ADD COLUMN store TEXT;
    ALTER TABLE job ADD COLUMN created_seq INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN began_seq INTEGER;
    ALTER TABLE job ADD COLUMN touched_seq INTEGER;
    ALTER TABLE job ADD COLUMN aged_from INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN reach INTEGER NOT NULL DEFAULT 0;

    UPDATE job SET created_seq = 2 * number, aged_from = changed;
    UPDATE job SET began_seq = created_seq, touched_seq = CASE
        WHEN status IN ('Active', 'Pausing', 'Cancelling', 'Failing') THEN 9223372036854775807
        ELSE (SELECT 1 + max(other.created_seq) FROM job AS other
              WHERE other.number = job.number OR other.created <= job.changed + 7200000) END
    WHERE taken_part IS NOT NULL OR succeeded + failed + in_doubt > 0 OR status IN ('Active', 'Pausing');
    UPDATE job SET in_doubt = max(0, total - succeeded - failed)
    WHERE taken_part IS NOT NULL
      AND (status IN ('Active', 'Pausing', 'Cancelling', 'Failing') OR succeeded + failed + taken_part + taken_row = 0);
    UPDATE job SET reach = max(0, total - succeeded - failed) WHERE in_doubt > 0;

    CREATE TABLE clock (
        only       INTEGER PRIMARY KEY CHECK (only = 1),
        moves      INTEGER NOT NULL,
        latest     INTEGER,
        leapt_to   INTEGER,
        leapt_seen INTEGER
    ) STRICT;
    INSERT INTO clock (only, moves, latest)
        SELECT 1, coalesce(2 * max(number) + 1, 0), max(max(created, changed)) FROM job;

    CREATE TABLE past_work (
        name        TEXT NOT NULL,
        store       TEXT NOT NULL,
        plan_hash   TEXT NOT NULL,
        job         TEXT NOT NULL,
        touched_seq INTEGER NOT NULL,
        PRIMARY KEY (name, store, plan_hash)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE job ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN checksum INTEGER;
    ALTER TABLE frontier ADD COLUMN checksum INTEGER;
    ALTER TABLE segment ADD COLUMN open_md5 TEXT;
    ALTER TABLE segment ADD COLUMN checksum INTEGER;
",
    "
    CREATE TABLE server_check (
        job     INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
        bucket  TEXT NOT NULL,
        aspect  TEXT NOT NULL,
        verdict TEXT NOT NULL,
        detail  TEXT NOT NULL,
        at       INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (job, bucket, aspect)
    ) STRICT, WITHOUT ROWID;
",
    // Earlier versions obeyed no settings of the environment for endpoints of AWS, which is what NULL says.
    "
    ALTER TABLE job ADD COLUMN endpoints TEXT;
",
    // Earlier versions did not count the objects that needed no change.
    "
    ALTER TABLE job ADD COLUMN unchanged INTEGER NOT NULL DEFAULT 0;
",
    // Jobs of earlier versions do not capture what objects were like. `keep_ms` is how long a job is kept, if not as long
    // as any.
    "
    ALTER TABLE job ADD COLUMN captures INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN keep_ms INTEGER NOT NULL DEFAULT 0;
",
];

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
