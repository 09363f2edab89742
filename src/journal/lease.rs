//! The lease of a job, held by the process that works on it: a lock of the operating system on a file in the job's
//! folder. It is released when the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::files::{self, about};

const NAME: &str = "lease";

/// The right to work on a job, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    // Closing the file releases the lock.
    _file: File,
}

/// Why a lease was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process, or another part of this one, works on the job. Holds a description of it.
    #[error("it is being worked on by {0}")]
    Held(String),
    /// The lease file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Lease {
    /// Acquires the lease of the job in this folder, and writes the process id to the file.
    ///
    /// # Errors
    /// Returns an error if the lease is held or the file cannot be created.
    pub fn take(folder: &Path) -> Result<Self, LeaseError> {
        let path = folder.join(NAME);
        let mut file = locked(&path, files::lock)?;
        let said = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
        said.map_err(about(&path))?;
        Ok(Self { _file: file })
    }

    /// Acquires a shared lock that keeps every process from acquiring the lease of this folder until it is dropped.
    /// Several processes may hold it at once.
    ///
    /// # Errors
    /// Returns an error if a process holds the lease or the file cannot be created.
    pub fn share(folder: &Path) -> Result<Self, LeaseError> {
        let mut file = locked(&folder.join(NAME), files::lock_shared)?;
        // With several holders, the file names the last one.
        let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
        Ok(Self { _file: file })
    }

    /// Returns what the holder of this folder's lease has written to identify itself; `None` if the lease is free.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be opened.
    pub fn holder(folder: &Path) -> io::Result<Option<String>> {
        Ok(Self::is_held(folder)?.then(|| holder(&folder.join(NAME))))
    }

    /// Returns whether the lease of the job in this folder is held.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be opened.
    pub fn is_held(folder: &Path) -> io::Result<bool> {
        let path = folder.join(NAME);
        let file = match files::open_own(&path, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(about(&path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(cause)) => Err(about(&path)(cause)),
        }
    }
}

/// How often to try again if the lease file is removed meanwhile.
const TRIES: u32 = 5;

fn locked(path: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<File, LeaseError> {
    for _ in 0..TRIES {
        let file = open(path)?;
        match lock(&file) {
            // The previous holder may have removed the file before it released the lock. A lock on a removed file
            // excludes no one.
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(cause)) => return Err(about(path)(cause).into()),
        }
    }
    Err(LeaseError::Held(holder(path)))
}

/// Returns whether the path still leads to this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata().map_err(about(path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(about(path)(cause)),
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
    files::open_own(path, &options).map_err(about(path))
}

/// Reads what the holder has written, for messages.
fn holder(path: &Path) -> String {
    let mut said = String::new();
    if let Ok(file) = files::open_own(path, OpenOptions::new().read(true)) {
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
    fn one_holds_it_and_lets_it_go_by_leaving() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!Lease::is_held(folder.path()).expect("looked"));
        let lease = Lease::take(folder.path()).expect("nobody holds it");
        assert!(Lease::is_held(folder.path()).expect("looked"));
        let refused = Lease::take(folder.path()).expect_err("it is held").to_string();
        assert_eq!(refused, format!("it is being worked on by process {}", std::process::id()));
        let holder = Lease::holder(folder.path()).expect("looked");
        assert_eq!(holder, Some(format!("process {}", std::process::id())));
        drop(lease);
        assert!(!Lease::is_held(folder.path()).expect("looked"));
        assert_eq!(Lease::holder(folder.path()).expect("looked"), None);
        drop(Lease::take(folder.path()).expect("nobody holds it"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, folder.path().join(NAME)).expect("a link");
        assert!(matches!(Lease::take(folder.path()), Err(LeaseError::Io(_))));
        assert!(Lease::is_held(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(&victim).expect("it is there"), "precious");
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_no_lease() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let held = std::cell::Cell::new(Some(Lease::take(folder.path()).expect("nobody holds it")));
        let other = std::cell::Cell::new(None);
        // This one has opened the file. Before it locks it, the holder removes the file and releases it, and another
        // acquires the lease.
        let taken = locked(&path, |file| {
            if let Some(held) = held.take() {
                fs::remove_file(&path).expect("removed");
                drop(held);
                other.set(Some(Lease::take(folder.path()).expect("nobody holds the new file")));
            }
            files::lock(file)
        });
        assert!(matches!(taken, Err(LeaseError::Held(_))), "{taken:?}");
        drop(other);
        drop(Lease::take(folder.path()).expect("nobody holds it any more"));
    }

    #[test]
    fn many_share_what_none_may_take() {
        let folder = tempfile::tempdir().expect("a folder");
        let shared = [(); 2].map(|()| Lease::share(folder.path()).expect("nobody holds it"));
        assert!(matches!(Lease::take(folder.path()), Err(LeaseError::Held(_))));
        drop(shared);
        let _held = Lease::take(folder.path()).expect("nobody shares it any more");
        assert!(matches!(Lease::share(folder.path()), Err(LeaseError::Held(_))));
    }

    #[test]
    fn lookers_do_not_keep_anybody_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Lease::take(folder.path()).expect("nobody holds it"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = Lease::is_held(folder.path());
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            for _ in 0..50 {
                drop(Lease::take(folder.path()).expect("only lookers"));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
