//! Small files that must be whole whatever happens, and errors that say which file they are about.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::hex::hex;

/// Says which file an I/O error is about: the system's own text does not.
pub fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| io::Error::new(cause.kind(), FileError { path: path.to_owned(), cause })
}

/// An I/O error, and the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
struct FileError {
    path: PathBuf,
    cause: io::Error,
}

/// The system's code of an I/O error, also of one that says [which file](about) it is about.
#[must_use]
pub fn os_code(error: &io::Error) -> Option<i32> {
    let named = || os_code(&error.get_ref()?.downcast_ref::<FileError>()?.cause);
    error.raw_os_error().or_else(named)
}

/// Writes a file so that its name stands for the old content or the new, even after a crash. Until it does, the content
/// is in a file beside it, with `.draft` behind the name.
///
/// # Errors
/// When the file cannot be written; the message does not name it.
pub fn write_at_once(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.draft"));
    let mut file = create_anew(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    sync_folder(folder)
}

/// Begins a file in place of whatever has the name. Neither a symbolic link nor a second name of another file has this write
/// elsewhere: in a folder that others may write to, a name may be anything.
///
/// # Errors
/// When what has the name cannot be removed, such as a folder, or the file cannot be made; the message does not name it.
pub fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens a file that batchplan keeps, with these options. A symbolic link is refused, and so is all else that is no regular
/// file; opening a pipe waits for nobody.
///
/// # Errors
/// When it is no regular file, or cannot be opened; the message does not name it.
pub fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    add_flags(&mut options);
    #[cfg(not(unix))]
    refuse_link(path)?;
    let opened = options.open(path).map_err(|error| refuse_link(path).err().unwrap_or(error))?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file; remove it"));
    }
    Ok(opened)
}

/// Has an open follow no link, and wait for nobody.
#[cfg(unix)]
fn add_flags(options: &mut OpenOptions) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;

    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
}

/// Reads a file that batchplan keeps, as [`open_own`] opens it.
///
/// # Errors
/// When it is no regular file, or cannot be read; the message does not name it.
pub fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_own(path, File::options().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Makes a folder that batchplan keeps, and those above it, where they are not there yet.
///
/// # Errors
/// When it cannot be made, or is a symbolic link: what is kept in it would be elsewhere. The message does not name it.
pub fn create_own_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    refuse_link(path)
}

/// Refuses a symbolic link. What is not there is none.
///
/// # Errors
/// When it is one.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other(
            "it is a symbolic link, which is not followed here: put what it points to in its place",
        ));
    }
    Ok(())
}

/// The path from the root of the file system on: to a library that reads more than a file's name in some texts, such as
/// `file:x`, it is never one of those.
///
/// # Errors
/// When the process has no folder that it is in.
pub fn from_root(path: &Path) -> io::Result<PathBuf> {
    // `.` stands for the process's folder, where the path is empty.
    std::path::absolute(Path::new(".").join(path))
}

/// The SHA-256 of a value's JSON, in hex: the same for the same content.
///
/// # Errors
/// When the value has no JSON.
pub fn json_digest(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(hex(&Sha256::digest(serde_json::to_vec(value)?)))
}

/// How often a lock is tried, and how long after one another.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Locks a file for this process alone.
///
/// A lock that is held for an instant is waited for, a fifth of a second at most: so long may hold it who only looks
/// whether somebody does, and a process that is being started and has not let go of its parent's files yet.
///
/// # Errors
/// When somebody holds it for longer, or the file cannot be locked.
pub fn lock(file: &File) -> Result<(), TryLockError> {
    patiently(|| file.try_lock())
}

/// Locks a file so that no process can lock it for itself alone; many may do so at once. As patient as [`lock`].
///
/// # Errors
/// When a process holds it for itself alone, or the file cannot be locked.
pub fn lock_shared(file: &File) -> Result<(), TryLockError> {
    patiently(|| file.try_lock_shared())
}

fn patiently(lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            tried => return tried,
        }
    }
    lock()
}

/// Makes the names in a folder survive a crash. Only Unix has to be told, and only Unix can open a folder.
///
/// # Errors
/// When the folder cannot be opened or written.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_content_stands_until_the_new_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        write_at_once(folder.path(), "f", b"old").unwrap();
        // A draft that cannot be written leaves the file alone.
        fs::create_dir(folder.path().join("f.draft")).unwrap();
        assert!(write_at_once(folder.path(), "f", b"new").is_err());
        assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"old");
        fs::remove_dir(folder.path().join("f.draft")).unwrap();
        write_at_once(folder.path(), "f", b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_that_has_the_name_of_a_file_leads_elsewhere() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let [victim, name, link] = ["victim", "f", "f.draft"].map(|name| folder.path().join(name));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        write_at_once(folder.path(), "f", b"new").unwrap();
        assert_eq!((fs::read_to_string(&name).unwrap(), link.exists()), ("new".to_owned(), false));
        // A link with nothing behind it, and another name of the same file.
        symlink(folder.path().join("none"), &link).unwrap();
        write_at_once(folder.path(), "f", b"newer").unwrap();
        fs::hard_link(&victim, &link).unwrap();
        write_at_once(folder.path(), "f", b"newest").unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "newest");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!folder.path().join("none").exists());

        symlink(&victim, &link).unwrap();
        for options in [OpenOptions::new().read(true), OpenOptions::new().create(true).write(true)] {
            let refused = open_own(&link, options).expect_err("a link").to_string();
            assert!(refused.starts_with("it is a symbolic link"), "{refused}");
        }
        assert!(open_own(folder.path(), OpenOptions::new().read(true)).is_err());
        symlink(folder.path(), folder.path().join("inner")).unwrap();
        create_own_folder(&folder.path().join("inner")).expect_err("a link");
        create_own_folder(&folder.path().join("a/b")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nobody_waits_at_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let refused = open_own(&pipe, OpenOptions::new().read(true)).expect_err("a pipe").to_string();
        assert_eq!(refused, "it is no regular file; remove it");
    }

    #[test]
    fn an_error_names_its_file() {
        let error = about(Path::new("a/b"))(io::Error::other("full"));
        assert_eq!(error.to_string(), "a/b: full");
        let twice = about(Path::new("a"))(about(Path::new("b"))(io::Error::from_raw_os_error(28)));
        assert_eq!(os_code(&twice), Some(28));
        assert_eq!(os_code(&error), None);
    }
}
