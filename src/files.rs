//! Crash-safe small files, file locks, and I/O errors that name their file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use batchplan_store::hex::hex;

use crate::paths::show_path;

/// Adds the path to an I/O error, because the system's message does not name the file.
pub fn with_path(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| io::Error::new(cause.kind(), FileError { path: path.to_owned(), cause })
}

/// An I/O error with the path of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", show_path(path))]
struct FileError {
    path: PathBuf,
    cause: io::Error,
}

/// Returns the operating system's code of an I/O error, including an error that [names its file](with_path).
#[must_use]
pub fn os_error_code(error: &io::Error) -> Option<i32> {
    let inner = || {
        let inner = error.get_ref()?;
        let named = inner.downcast_ref::<FileError>().map(|error| &error.cause);
        os_error_code(named.or_else(|| inner.downcast_ref::<LocksUnsupportedError>().map(|error| &error.0))?)
    };
    error.raw_os_error().or_else(inner)
}

/// Replaces a file atomically: even after a crash, its name refers to either the old or the new content. The new
/// content is first written to a file next to it, with `.draft` appended to the name.
///
/// # Errors
/// Returns an error if the file cannot be written, and removes the draft. The message does not name the file.
pub fn write_atomic(folder: &Path, name: impl AsRef<OsStr>, content: &[u8]) -> io::Result<()> {
    let name = name.as_ref();
    let mut draft = name.to_owned();
    draft.push(".draft");
    let draft = folder.join(draft);
    let mut file = create_replacing(&draft)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&draft, folder.join(name))) {
        // It may take the space that is missing. If it cannot be removed either, the first error is the one to report.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
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
        return Err(not_regular());
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

/// Rejects a symbolic link and what blocks the process that opens it, such as a pipe. For a file that a library opens. A
/// path that does not exist is accepted, and so is a folder.
///
/// # Errors
/// Returns an error if the path is one of these. The message does not name the file.
pub fn reject_blocking(path: &Path) -> io::Result<()> {
    reject_symlink(path)?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(not_regular());
    }
    Ok(())
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file; remove it")
}

/// Creates a temporary folder that only this user can read, whatever the umask is. It is removed when it is dropped.
///
/// # Errors
/// Returns an error if it cannot be created.
pub fn temporary_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
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

/// Acquires a shared lock on a file, as [`lock_shared`] does, but does not retry.
///
/// # Errors
/// Returns an error if a process holds an exclusive lock, or the file cannot be locked.
pub fn try_lock_shared(file: &File) -> Result<(), TryLockError> {
    file.try_lock_shared().map_err(explain)
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
            tried => return tried.map_err(explain),
        }
    }
    lock().map_err(explain)
}

fn explain(error: TryLockError) -> TryLockError {
    match error {
        TryLockError::Error(error) => TryLockError::Error(explain_lock_error(error)),
        TryLockError::WouldBlock => error,
    }
}

/// What to do if a temporary file or folder cannot be created or written.
pub const TEMPORARY_FOLDER_HELP: &str =
    "temporary files are written there: set TMPDIR to a folder that exists, is writable and has room";

/// What to do if [`are_locks_unsupported`].
pub const OTHER_FILE_SYSTEM_HELP: &str = "NFS without its lock service, for example, cannot hold jobs: keep them on a local \
    disk with --state DIR, or in a bucket with --state s3://BUCKET/PREFIX";

/// Returns what to do about a file in the state folder that cannot be used, if its disk or its permissions are the
/// cause.
#[must_use]
pub fn disk_help(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some("free space there, then run the command again")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(
            "make the file and its folder readable and writable, then run the command again, or use another folder with \
             --state DIR",
        ),
        _ => are_locks_unsupported(error).then_some(OTHER_FILE_SYSTEM_HELP),
    }
}

/// Returns what to do about a file of the user that cannot be read or written, if the error tells.
#[must_use]
pub fn access_help(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::NotFound => "check the path: the file or its folder does not exist",
        io::ErrorKind::IsADirectory => "it is a folder: name a file",
        io::ErrorKind::NotADirectory => "check the path: a part of it is a file and not a folder",
        io::ErrorKind::PermissionDenied => "check the permissions of the file and of its folder",
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only: choose another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => "free space there",
        _ => return None,
    })
}

/// A lock that cannot be acquired because the file system offers none.
#[derive(Debug, thiserror::Error)]
#[error("its file system offers no file locks ({0})")]
struct LocksUnsupportedError(io::Error);

/// Returns whether a file could not be locked because its file system offers no locks.
#[must_use]
pub fn are_locks_unsupported(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        let named = inner.downcast_ref::<FileError>();
        inner.is::<LocksUnsupportedError>() || named.is_some_and(|error| are_locks_unsupported(&error.cause))
    })
}

/// Adds to an error of locking a file that the file system offers no locks, if the system's code says so.
fn explain_lock_error(error: io::Error) -> io::Error {
    let is_unsupported = error.kind() == io::ErrorKind::Unsupported || error.raw_os_error().is_some_and(is_no_locks);
    if is_unsupported { io::Error::new(error.kind(), LocksUnsupportedError(error)) } else { error }
}

/// Returns whether a code of the system is `ENOLCK`: NFS without its lock service.
#[cfg(unix)]
fn is_no_locks(code: i32) -> bool {
    code == rustix::io::Errno::NOLCK.raw_os_error()
}

#[cfg(not(unix))]
fn is_no_locks(_: i32) -> bool {
    false
}

/// Checks that the file system of a file offers the locks that `SQLite` uses: those of `fcntl`, which are others than
/// those of [`lock`]. The file must not be a database that is open: closing any file descriptor of a file releases all
/// such locks of the process.
///
/// # Errors
/// Returns an error if the file cannot be opened or locked. The message does not name the file.
pub fn check_record_locks(path: &Path) -> io::Result<()> {
    let file = open_regular(path, File::options().read(true))?;
    try_record_lock(&file)
}

#[cfg(unix)]
fn try_record_lock(file: &File) -> io::Result<()> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;

    match fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
        // Another process holds it, so there are locks.
        Ok(()) | Err(Errno::AGAIN | Errno::ACCESS) => Ok(()),
        Err(error) => Err(explain_lock_error(error.into())),
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
fn try_record_lock(_: &File) -> io::Result<()> {
    Ok(())
}

/// Returns the error of a write that permissions or a read-only file system would refuse: to a file, or of new files in
/// a folder. Returns `None` if they would allow it, or if there is no such file. Nothing is written.
#[must_use]
pub fn write_refusal(path: &Path) -> Option<io::Error> {
    let error = try_access(path).err()?;
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem).then_some(error)
}

#[cfg(unix)]
fn try_access(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn try_access(path: &Path) -> io::Result<()> {
    let is_read_only = path.is_file() && fs::metadata(path)?.permissions().readonly();
    if is_read_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
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
        // Nothing stays of a draft that cannot take the file's place.
        fs::create_dir(folder.path().join("g")).unwrap();
        assert!(write_atomic(folder.path(), "g", b"new").is_err());
        assert!(!folder.path().join("g.draft").exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_blocks_a_library_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let [file, pipe, link] = ["file", "pipe", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for accepted in [&file, folder.path(), &folder.path().join("none")] {
            reject_blocking(accepted).unwrap();
        }
        assert_eq!(reject_blocking(&pipe).unwrap_err().to_string(), "it is not a regular file; remove it");
        assert!(reject_blocking(&link).unwrap_err().to_string().contains("it is a symbolic link"));
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

    #[cfg(unix)]
    #[test]
    fn a_file_system_without_locks_is_named_as_that() {
        for (code, is_unsupported) in
            [(rustix::io::Errno::NOLCK, true), (rustix::io::Errno::NOSYS, true), (rustix::io::Errno::IO, false)]
        {
            let error = explain_lock_error(io::Error::from(code));
            assert_eq!(are_locks_unsupported(&error), is_unsupported, "{error}");
            let named = with_path(Path::new("a/lease"))(error);
            assert_eq!(are_locks_unsupported(&named), is_unsupported, "{named}");
            assert_eq!(
                named.to_string().starts_with("a/lease: its file system offers no file locks ("),
                is_unsupported
            );
            assert_eq!(os_error_code(&named), Some(code.raw_os_error()));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, "").unwrap();
        check_record_locks(&file).unwrap();
        lock(&File::open(&file).unwrap()).unwrap();
    }
}
