//! Small files that must be whole whatever happens, and errors that say which file they are about.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
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
    let mut file = File::create(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    sync_folder(folder)
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
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            tried => return tried,
        }
    }
    file.try_lock()
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

    #[test]
    fn an_error_names_its_file() {
        let error = about(Path::new("a/b"))(io::Error::other("full"));
        assert_eq!(error.to_string(), "a/b: full");
        let twice = about(Path::new("a"))(about(Path::new("b"))(io::Error::from_raw_os_error(28)));
        assert_eq!(os_code(&twice), Some(28));
        assert_eq!(os_code(&error), None);
    }
}
