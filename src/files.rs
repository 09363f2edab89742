//! Crash-safe small files, file locks, and I/O errors that name their file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use batchplan_store::hex::hex;

/// Adds the path to an I/O error, because the system's message does not name the file.
pub fn with_path(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| io::Error::new(cause.kind(), FileError { path: path.to_owned(), cause })
}

/// An I/O error with the path of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
struct FileError {
    path: PathBuf,
    cause: io::Error,
}

/// Returns the operating system's code of an I/O error, including an error that [names its file](with_path).
#[must_use]
pub fn os_error_code(error: &io::Error) -> Option<i32> {
    let named = || os_error_code(&error.get_ref()?.downcast_ref::<FileError>()?.cause);
    error.raw_os_error().or_else(named)
}

/// Replaces a file atomically: even after a crash, its name refers to either the old or the new content. The new
/// content is first written to a file next to it, with `.draft` appended to the name.
///
/// # Errors
/// Returns an error if the file cannot be written. The message does not name the file.
pub fn write_atomic(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.draft"));
    let mut file = create_replacing(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    sync_folder(folder)
}

/// Creates a file and removes any file that has this name. It does not write through a symbolic link or a hard link: in
/// a folder that others can write to, a name can refer to any file.
///
/// # Errors
/// Returns an error if the existing entry cannot be removed, for example because it is a folder, or if the file cannot
/// be created. The message does not name the file.
pub fn create_replacing(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens one of batchplan's own files with these options. Rejects symbolic links and everything else that is not a
/// regular file, and does not block on a pipe.
///
/// # Errors
/// Returns an error if it is not a regular file or cannot be opened. The message does not name the file.
pub fn open_regular(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    add_safe_flags(&mut options);
    #[cfg(not(unix))]
    reject_symlink(path)?;
    let opened = options.open(path).map_err(|error| reject_symlink(path).err().unwrap_or(error))?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file; remove it"));
    }
    Ok(opened)
}

/// Makes an open reject symbolic links and not block.
#[cfg(unix)]
fn add_safe_flags(options: &mut OpenOptions) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;

    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
}

/// Reads one of batchplan's own files, which is opened with [`open_regular`].
///
/// # Errors
/// Returns an error if it is not a regular file or cannot be read. The message does not name the file.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path, File::options().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Creates one of batchplan's own folders, and its missing parents.
///
/// # Errors
/// Returns an error if the folder cannot be created, or is a symbolic link: its files would be stored elsewhere. The
/// message does not name the folder.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    reject_symlink(path)
}

/// Rejects a symbolic link. A path that does not exist is accepted.
///
/// # Errors
/// Returns an error if the path is a symbolic link.
pub fn reject_symlink(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other(
            "it is a symbolic link, which batchplan does not follow: replace it with its target",
        ));
    }
    Ok(())
}

/// Returns the absolute path. Some libraries give texts such as `file:x` a special meaning. An absolute path never has
/// it.
///
/// # Errors
/// Returns an error if the process has no current folder.
pub fn absolute_path(path: &Path) -> io::Result<PathBuf> {
    // `.` stands for the current folder if the path is empty.
    std::path::absolute(Path::new(".").join(path))
}

/// Returns the SHA-256 of a value's JSON in hexadecimal. The same content gives the same digest.
///
/// # Errors
/// Returns an error if the value cannot be serialized to JSON.
pub fn json_digest(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(hex(&Sha256::digest(serde_json::to_vec(value)?)))
}

/// The number of attempts to acquire a lock, and the delay between them.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Acquires an exclusive lock on a file.
///
/// Retries for up to a fifth of a second, because a lock can be held for a moment by a process that only checks it, or
/// by a new process that has not closed its parent's files yet.
///
/// # Errors
/// Returns an error if the lock is held for longer, or the file cannot be locked.
pub fn lock(file: &File) -> Result<(), TryLockError> {
    retry_lock(|| file.try_lock())
}

/// Acquires a shared lock on a file. Several processes can hold a shared lock, but not while another one holds an
/// exclusive lock. Retries as [`lock`] does.
///
/// # Errors
/// Returns an error if a process holds an exclusive lock, or the file cannot be locked.
pub fn lock_shared(file: &File) -> Result<(), TryLockError> {
    retry_lock(|| file.try_lock_shared())
}

fn retry_lock(lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        match lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY_DELAY),
            tried => return tried,
        }
    }
    lock()
}

/// Syncs a folder, so that the names in it survive a crash. Does nothing on other systems than Unix, where this is not
/// needed and a folder cannot be opened.
///
/// # Errors
/// Returns an error if the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_atomic_replaces_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write_atomic(folder.path(), "f", b"old").unwrap();
        // A draft that cannot be written leaves the file unchanged.
        fs::create_dir(folder.path().join("f.draft")).unwrap();
        assert!(write_atomic(folder.path(), "f", b"new").is_err());
        assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"old");
        fs::remove_dir(folder.path().join("f.draft")).unwrap();
        write_atomic(folder.path(), "f", b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let [victim, name, link] = ["victim", "f", "f.draft"].map(|name| folder.path().join(name));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        write_atomic(folder.path(), "f", b"new").unwrap();
        assert_eq!((fs::read_to_string(&name).unwrap(), link.exists()), ("new".to_owned(), false));
        // A dangling symbolic link, and then a hard link to another file.
        symlink(folder.path().join("none"), &link).unwrap();
        write_atomic(folder.path(), "f", b"newer").unwrap();
        fs::hard_link(&victim, &link).unwrap();
        write_atomic(folder.path(), "f", b"newest").unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "newest");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!folder.path().join("none").exists());

        symlink(&victim, &link).unwrap();
        for options in [OpenOptions::new().read(true), OpenOptions::new().create(true).write(true)] {
            let refused = open_regular(&link, options).expect_err("a link").to_string();
            assert!(refused.starts_with("it is a symbolic link"), "{refused}");
        }
        assert!(open_regular(folder.path(), OpenOptions::new().read(true)).is_err());
        symlink(folder.path(), folder.path().join("inner")).unwrap();
        create_folder(&folder.path().join("inner")).expect_err("a link");
        create_folder(&folder.path().join("a/b")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn opening_a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let refused = open_regular(&pipe, OpenOptions::new().read(true)).expect_err("a pipe").to_string();
        assert_eq!(refused, "it is not a regular file; remove it");
    }

    #[test]
    fn an_error_names_its_file() {
        let error = with_path(Path::new("a/b"))(io::Error::other("full"));
        assert_eq!(error.to_string(), "a/b: full");
        let twice = with_path(Path::new("a"))(with_path(Path::new("b"))(io::Error::from_raw_os_error(28)));
        assert_eq!(os_error_code(&twice), Some(28));
        assert_eq!(os_error_code(&error), None);
    }
}
