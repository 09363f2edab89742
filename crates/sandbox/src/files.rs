//! Opening and locking the files of the sandbox's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often a lock is tried, and the time between two attempts.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Creates an empty file, replacing whatever has the name. A symbolic link or a hard link with that name is removed,
/// not followed, so the write never changes another file.
pub(crate) fn create_replacing(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens a regular file. Symbolic links are refused, and opening a named pipe does not block.
pub(crate) fn open_regular(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;

        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let refused =
        || io::Error::other("it is a symbolic link, which the sandbox does not follow; replace it with its target");
    if cfg!(not(unix)) && is_link() {
        return Err(refused());
    }
    let opened = options.open(path).map_err(|error| if is_link() { refused() } else { error })?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file; remove it"));
    }
    Ok(opened)
}

/// Takes the exclusive lock of a file. If another process holds it, tries again for up to a fifth of a second: a
/// process that is just being started may still have its parent's files open.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_INTERVAL),
            tried => return tried,
        }
    }
    file.try_lock()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_neither_opened_nor_written_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let [victim, link] = ["victim", "link"].map(|name| folder.path().join(name));
        fs::write(&victim, "precious").expect("written");
        symlink(&victim, &link).expect("linked");
        for options in [OpenOptions::new().read(true), OpenOptions::new().create(true).write(true)] {
            let refused = open_regular(&link, options).expect_err("a link").to_string();
            assert!(refused.starts_with("it is a symbolic link"), "{refused}");
        }
        drop(create_replacing(&link).expect("created"));
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
        assert!(!fs::symlink_metadata(&link).expect("it is there").is_symlink());
    }

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let refused = open_regular(&pipe, OpenOptions::new().read(true)).expect_err("a pipe").to_string();
        assert_eq!(refused, "it is not a regular file; remove it");
        assert!(open_regular(folder.path(), OpenOptions::new().read(true)).is_err());
    }
}
