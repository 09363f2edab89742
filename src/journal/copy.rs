//! A copy of the journal, for reading it where this process may not write to the state folder: on a read-only mount, or
//! in the folder of another user.
//!
//! Beside a database with a write-ahead log, `SQLite` needs the log and an index of it in shared memory. While a process
//! has the journal open, and after one was killed, both files exist, and it can be read without write permission.
//! Otherwise `SQLite` would have to create them. It can be told to do without (`immutable=1`), but then it ignores an
//! existing log and does not notice changes (<https://www.sqlite.org/wal.html#read_only_databases>). So the journal is
//! copied to a temporary folder together with its log, and copied again after it has changed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::error::JournalError;
use crate::files::{open_regular, temporary_folder, with_path};

/// How often to copy a journal that changes meanwhile, and the wait in between.
const COPY_ATTEMPTS: u32 = 10;
const COPY_RETRY_DELAY: Duration = Duration::from_millis(20);

/// The age from which on a modification time shows each later change. File systems record it in ticks: most of
/// milliseconds, some of a second or two. <https://docs.kernel.org/filesystems/multigrain-ts.html>
const SETTLED_AGE: Duration = Duration::from_secs(2);

/// A copy of a journal and its log, as they were at one moment. Removed when dropped.
#[derive(Debug)]
pub(super) struct JournalCopy {
    original: PathBuf,
    stamp: JournalStamp,
    /// Whether the stamp was old enough when the copy was made that it shows each later change.
    is_settled: bool,
    path: PathBuf,
    /// `None` once its files have no names any more.
    folder: Option<TempDir>,
}

/// The size and modification time of a journal and of its log, if they exist.
type JournalStamp = [Option<(u64, SystemTime)>; 2];

impl JournalCopy {
    /// Copies a journal and its log.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or changes all the time, or the copy cannot be written.
    pub(super) fn take(path: &Path) -> Result<Self, JournalError> {
        for _ in 0..COPY_ATTEMPTS {
            let stamp = stamp(path);
            let is_settled = is_settled(&stamp, SystemTime::now());
            let folder = temporary_folder().map_err(|cause| not_copied(path, cause))?;
            let to = folder.path().join("journal.db");
            let copy = Self { original: path.to_owned(), stamp, is_settled, path: to, folder: Some(folder) };
            copy_file(path, copy.path())?;
            if stamp[1].is_some() {
                copy_file(&log(path), &log(copy.path()))?;
            }
            if copy.has_same_stamp() {
                return Ok(copy);
            }
            thread::sleep(COPY_RETRY_DELAY);
        }
        Err(JournalError::Locked { path: path.to_owned() })
    }

    /// Returns the path of the copied journal.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the names of the copied files, which a process has open: nothing of them stays, even if it is killed.
    /// Does nothing on other systems than Unix, where an open file keeps its name.
    pub(super) fn unlink(&mut self) {
        if cfg!(unix) {
            // A folder that cannot be removed is one that only this user can read.
            drop(self.folder.take());
        }
    }

    /// Returns whether the journal has certainly not changed since it was copied.
    pub(super) fn is_current(&self) -> bool {
        self.is_settled && self.has_same_stamp()
    }

    fn has_same_stamp(&self) -> bool {
        stamp(&self.original) == self.stamp
    }
}

/// Returns whether a change after `now` changes this stamp. A time that is far in the future is that of another clock,
/// of which nothing is known.
fn is_settled(stamp: &JournalStamp, now: SystemTime) -> bool {
    stamp.iter().flatten().all(|(_, modified)| match now.duration_since(*modified) {
        Ok(age) => age >= SETTLED_AGE,
        Err(ahead) => ahead.duration() >= SETTLED_AGE,
    })
}

/// Returns whether the files exist that a process needs to read a journal without write permission.
pub(super) fn has_log_and_index(path: &Path) -> bool {
    log(path).exists() && beside(path, "-shm").exists()
}

/// Returns the path of a database and those of the files that `SQLite` may keep beside it.
pub(super) fn database_files(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|ending| beside(path, ending))
}

fn log(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn stamp(path: &Path) -> JournalStamp {
    [path.to_owned(), log(path)].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.len(), found.modified().ok()?))
    })
}

fn not_copied(path: &Path, cause: io::Error) -> JournalError {
    JournalError::NotCopied { path: path.to_owned(), cause }
}

fn copy_file(from: &Path, to: &Path) -> Result<(), JournalError> {
    let mut source = match open_regular(from, File::options().read(true)) {
        // The log was removed meanwhile: its content is in the journal.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        source => source.map_err(|cause| JournalError::Io { path: from.to_owned(), cause })?,
    };
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let copied = options.open(to).and_then(|mut copy| io::copy(&mut source, &mut copy));
    copied.map(drop).map_err(|cause| not_copied(from, with_path(to)(cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_current_until_the_journal_or_its_log_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        fs::write(&path, "one").expect("written");
        let long_ago = SystemTime::now() - Duration::from_hours(1);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("set");
        let copy = JournalCopy::take(&path).expect("copied");
        assert_eq!(fs::read(copy.path()).expect("read"), b"one");
        assert!(copy.is_current() && !has_log_and_index(&path));
        fs::write(log(&path), "more").expect("written");
        assert!(!copy.is_current());
        let copy = JournalCopy::take(&path).expect("copied");
        assert_eq!(fs::read(log(copy.path())).expect("read"), b"more");
        fs::write(&path, "another").expect("written");
        assert!(!copy.is_current());
        let place = copy.path().to_owned();
        drop(copy);
        assert!(!place.exists());
        fs::write(beside(&path, "-shm"), "").expect("written");
        assert!(has_log_and_index(&path));
    }

    #[test]
    fn a_copy_of_what_has_just_changed_is_taken_again() {
        let now = SystemTime::now();
        let of = |modified| is_settled(&[Some((1, now - Duration::from_hours(1))), modified], now);
        assert!(of(None) && of(Some((1, now - SETTLED_AGE))) && of(Some((1, now + Duration::from_hours(1)))));
        assert!(!of(Some((1, now))) && !of(Some((1, now - Duration::from_millis(1900)))));
        assert!(!of(Some((1, now + Duration::from_millis(1)))));
        // The second change is within a tick, and leaves the size as it was.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        fs::write(&path, "one").expect("written");
        let modified = fs::metadata(&path).and_then(|found| found.modified()).expect("a time");
        let copy = JournalCopy { is_settled: false, ..JournalCopy::take(&path).expect("copied") };
        fs::write(&path, "two").expect("written");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(modified)).expect("set");
        assert!(copy.has_same_stamp() && !copy.is_current());
    }

    #[cfg(unix)]
    #[test]
    fn only_this_user_can_read_a_copy_and_no_name_of_it_stays() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        for file in [path.clone(), log(&path)] {
            fs::write(&file, "one").expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
        }
        let mut copy = JournalCopy::take(&path).expect("copied");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        let place = copy.path().parent().expect("a folder").to_owned();
        assert_eq!([mode(&place), mode(copy.path()), mode(&log(copy.path()))], [0o700, 0o600, 0o600]);
        copy.unlink();
        assert!(!place.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        fs::write(folder.path().join("other"), "other").expect("written");
        std::os::unix::fs::symlink(folder.path().join("other"), &path).expect("a link");
        let refused = JournalCopy::take(&path).expect_err("a link").to_string();
        assert!(refused.contains("journal.db: it is a symbolic link"), "{refused}");
    }
}
