//! Helpers for the journal's tests.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use rusqlite::params;
use tempfile::TempDir;

use super::jobs::{JobCreation, StatusReason};
use super::record::{JobRecord, JobSource, NewJob};
use super::{Journal, JournalError};
use crate::hint::ShownCommand;
use crate::job::{JobId, JobStatus};

/// Creates a journal in a temporary folder.
pub(super) fn journal() -> (TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("a journal");
    (folder, journal)
}

/// An instant `hours` after a fixed start.
pub(super) fn hour(hours: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
    start + SignedDuration::from_hours(hours)
}

/// A new job for the work with this name.
pub(super) fn new_job(name: &str) -> NewJob {
    NewJob {
        id: JobId::random(),
        identity: format!("plan {name}"),
        token: None,
        name: name.to_owned(),
        store_identity: "store".to_owned(),
        environment_endpoints: None,
        description: Some("It's \"odd\" \u{1F980}".to_owned()),
        source: JobSource::Plan,
        plan_file: PathBuf::from("/plans/plan.toml"),
        plan_hash: format!("hash of {name}"),
        plan_text: b"name = \"\xFF\"".to_vec(),
        confirmed: false,
        priority: 7,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    }
}

/// Creates a job and checks that it is new.
pub(super) fn create_job(journal: &Journal, new: NewJob) -> JobRecord {
    match journal.create(new, false, hour(0)).expect("created") {
        JobCreation::Created(job) => job,
        JobCreation::Existing(job) => panic!("there is {}", job.id),
    }
}

/// The moves that lead from New to a status.
pub(super) fn moves_to(to: JobStatus) -> &'static [JobStatus] {
    use JobStatus::{
        Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
        Ready, Suspended,
    };
    match to {
        New => &[],
        Preparing => &[Preparing],
        Suspended => &[Preparing, Suspended],
        Ready => &[Preparing, Ready],
        Active => &[Preparing, Ready, Active],
        Pausing => &[Preparing, Ready, Active, Pausing],
        Paused => &[Preparing, Ready, Active, Pausing, Paused],
        Complete => &[Preparing, Ready, Active, Complete],
        Cancelling => &[Cancelling],
        Cancelled => &[Cancelling, Cancelled],
        Failing => &[Failing],
        Failed => &[Failing, Failed],
        Cleaning => &[Failing, Failed, Cleaning],
        Cleaned => &[Failing, Failed, Cleaning, Cleaned],
    }
}

/// Moves a new job to a status.
pub(super) fn move_to(journal: &Journal, id: &JobId, to: JobStatus, now: Timestamp) {
    for status in moves_to(to) {
        journal.advance(id, *status, StatusReason::default(), now).expect("a legal move");
    }
}

/// Returns every file in a folder, with its content.
pub(super) fn folder_content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

/// Returns an error's message and its hint.
pub(super) fn error_with_hint(error: &JournalError) -> String {
    let name = |command: &ShownCommand| format!("batchplan {}", command.name());
    format!("{error}\n{}", error.help().unwrap_or_default().render(name))
}

/// Inserts jobs with these ids, which need not be valid, directly into the journal.
pub(super) fn insert_raw(
    journal: &Journal,
    ids: impl IntoIterator<Item = String> + Send + 'static,
    status: &'static str,
) {
    journal
        .run_blocking(move |connection| {
            let transaction = connection.transaction()?;
            for id in ids {
                transaction.execute(
                    "INSERT INTO job (id, identity, name, origin, plan_file, plan_hash, plan, status, confirmed, priority,
                                      created, changed, ended, aged_from)
                     VALUES (?1, ?1, 'raw', '\"plan\"', '/p', 'h', x'00', ?2, 1, 0, ?3, ?3, ?3, ?3)",
                    params![id, status, hour(0).as_millisecond()],
                )?;
            }
            Ok(transaction.commit()?)
        })
        .expect("inserted");
}

/// Valid ids in ascending order.
pub(super) fn some_ids(count: u32) -> Vec<String> {
    (0..count).map(|n| base64::engine::general_purpose::STANDARD.encode(format!("{n:032x}"))).collect()
}
