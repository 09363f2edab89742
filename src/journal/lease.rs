//! The lease of a job, held by the process that works on it: a lock of the operating system on a file in the job's
//! folder. It is released when the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::files::{self, with_path};

/// The name of the lease's file in its folder.
pub(super) const LEASE_FILE: &str = "lease";

/// The right to work on a job, until it is dropped.
#[derive(Debug)]
pub struct FileLease {
    // Closing the file releases the lock.
    _file: File,
}

/// Why a lease was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process, or another part of this one, works on the job. Holds a description of it.
    #[error("it is in use by {0}")]
    Held(String),
    /// The lease file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileLease {
    /// Acquires the lease of the job in this folder, and writes the process id to the file.
    ///
    /// # Errors
    /// Returns an error if the lease is held or the file cannot be created.
    pub fn acquire(folder: &Path) -> Result<Self, LeaseError> {
        let path = folder.join(LEASE_FILE);
        let mut file = open_locked(&path, files::lock)?;
        let said = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
        said.map_err(with_path(&path))?;
        Ok(Self { _file: file })
    }

    /// Acquires a shared lock that keeps every process from acquiring the lease of this folder until it is dropped.
    /// Several processes may hold it at once.
    ///
    /// # Errors
    /// Returns an error if a process holds the lease or the file cannot be created.
    pub fn acquire_shared(folder: &Path) -> Result<Self, LeaseError> {
        let mut file = open_locked(&folder.join(LEASE_FILE), files::lock_shared)?;
        // With several holders, the file names the last one.
        let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
        Ok(Self { _file: file })
    }

    /// Returns what the holder of this folder's lease has written to identify itself; `None` if the lease is free.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be opened.
    pub fn holder(folder: &Path) -> io::Result<Option<String>> {
        Ok(Self::is_held(folder)?.then(|| holder(&folder.join(LEASE_FILE))))
    }

    /// Returns whether the lease of the job in this folder is held.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be opened.
    pub fn is_held(folder: &Path) -> io::Result<bool> {
        let path = folder.join(LEASE_FILE);
        let file = match files::open_regular(&path, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(with_path(&path)(error)),
        };
        match files::try_lock_shared(&file) {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(cause)) => Err(with_path(&path)(cause)),
        }
    }
}

/// How often to try again if the lease file is removed meanwhile.
const MAX_LOCK_ATTEMPTS: u32 = 5;

fn open_locked(path: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<File, LeaseError> {
    for _ in 0..MAX_LOCK_ATTEMPTS {
        let file = open(path)?;
        match lock(&file) {
            // The previous holder may have removed the file before it released the lock. A lock on a removed file
            // excludes no one.
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(cause)) => return Err(with_path(path)(cause).into()),
        }
    }
    Err(LeaseError::Held(holder(path)))
}

/// Returns whether the path still leads to this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata().map_err(with_path(path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(with_path(path)(cause)),
    }
}

/// On other systems, an open file keeps its name.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

fn open(path: &Path) -> io::Result<File> {
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
    files::open_regular(path, &options).map_err(with_path(path))
}

/// Reads what the holder has written, for messages.
fn holder(path: &Path) -> String {
    let mut said = String::new();
    if let Ok(file) = files::open_regular(path, OpenOptions::new().read(true)) {
        // A file that cannot be read, or is not text, counts as empty.
        let _ = file.take(256).read_to_string(&mut said);
    }
    if said.is_empty() { "another process".to_owned() } else { said.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_is_exclusive_and_released_on_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!FileLease::is_held(folder.path()).expect("looked"));
        let lease = FileLease::acquire(folder.path()).expect("nobody holds it");
        assert!(FileLease::is_held(folder.path()).expect("looked"));
        let refused = FileLease::acquire(folder.path()).expect_err("it is held").to_string();
        assert_eq!(refused, format!("it is in use by process {}", std::process::id()));
        let holder = FileLease::holder(folder.path()).expect("looked");
        assert_eq!(holder, Some(format!("process {}", std::process::id())));
        drop(lease);
        assert!(!FileLease::is_held(folder.path()).expect("looked"));
        assert_eq!(FileLease::holder(folder.path()).expect("looked"), None);
        drop(FileLease::acquire(folder.path()).expect("nobody holds it"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, folder.path().join(LEASE_FILE)).expect("a link");
        assert!(matches!(FileLease::acquire(folder.path()), Err(LeaseError::Io(_))));
        assert!(FileLease::is_held(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(&victim).expect("it is there"), "precious");
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_no_lease() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(LEASE_FILE);
        let held = std::cell::Cell::new(Some(FileLease::acquire(folder.path()).expect("nobody holds it")));
        let other = std::cell::Cell::new(None);
        // This one has opened the file. Before it locks it, the holder removes the file and releases it, and another
        // acquires the lease.
        let taken = open_locked(&path, |file| {
            if let Some(held) = held.take() {
                fs::remove_file(&path).expect("removed");
                drop(held);
                other.set(Some(FileLease::acquire(folder.path()).expect("nobody holds the new file")));
            }
            files::lock(file)
        });
        assert!(matches!(taken, Err(LeaseError::Held(_))), "{taken:?}");
        drop(other);
        drop(FileLease::acquire(folder.path()).expect("nobody holds it any more"));
    }

    #[test]
    fn shared_leases_exclude_exclusive_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let shared = [(); 2].map(|()| FileLease::acquire_shared(folder.path()).expect("nobody holds it"));
        assert!(matches!(FileLease::acquire(folder.path()), Err(LeaseError::Held(_))));
        drop(shared);
        let _held = FileLease::acquire(folder.path()).expect("nobody shares it any more");
        assert!(matches!(FileLease::acquire_shared(folder.path()), Err(LeaseError::Held(_))));
    }

    #[test]
    fn checking_a_lease_does_not_block_it() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(FileLease::acquire(folder.path()).expect("nobody holds it"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = FileLease::is_held(folder.path());
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            for _ in 0..50 {
                drop(FileLease::acquire(folder.path()).expect("only lookers"));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
