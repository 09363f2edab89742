//! The tables, as an append-only list of migrations. `PRAGMA user_version` holds the number of applied migrations.

/// The `PRAGMA application_id` of a journal: `bpjl` in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x6270_6a6c;

/// All migrations, oldest first. A released entry never changes.
///
/// Instants are milliseconds since 1970. Nothing here grows with a job's objects: `frontier` has a row for each
/// manifest part that was started (4 Mi rows each), `segment` one for each report file (256 MiB each). `failure` and
/// `example` are bounded for each job by [`FailureTally`](super::FailureTally), and `server_check` by
/// [`MAX_SERVER_CHECKS`](super::MAX_SERVER_CHECKS). `past_work` has at most two rows for each name and store of a
/// plan.
pub(super) const MIGRATIONS: &[&str] = &[
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
];

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
