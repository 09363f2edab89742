//! Limits on the files and sockets that this process can have open at once (file descriptors).

use std::fs;
use std::io;

use crate::files::os_error_code;

/// Folders that list the open file descriptors of this process. The first one that can be read is used.
const DESCRIPTOR_FOLDERS: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// Raises the limit on open files and sockets to the maximum that this process may set. If that fails, the limit stays
/// unchanged.
#[cfg(unix)]
pub fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Some systems reject the maximum that they report. The limit then stays unchanged.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Does nothing: on this platform the limit is never too low.
#[cfg(not(unix))]
pub fn raise_limit() {}

/// Returns the limit on open files and sockets, or `None` if there is no limit.
#[cfg(unix)]
#[must_use]
pub fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current
}

/// Returns `None`: this platform has no limit on open files and sockets.
#[cfg(not(unix))]
#[must_use]
pub fn limit() -> Option<u64> {
    None
}

/// Returns how many more files and sockets can be opened now, or `None` if there is no limit.
#[must_use]
pub fn available() -> Option<u64> {
    let limit = limit()?;
    Some(limit.saturating_sub(open_count().unwrap_or(ASSUMED_OPEN)))
}

/// Reduces `wanted` to the number of items that can be open at once, if each of them uses `each` descriptors.
/// [`RESERVED`] descriptors stay free. Returns at least 1.
#[must_use]
pub fn fit_to_available(wanted: u32, each: u64) -> u32 {
    let Some(left) = available() else { return wanted };
    let fitting = left.saturating_sub(RESERVED) / each.max(1);
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, wanted.max(1))
}

/// The number of descriptors reserved for everything that is not counted: the journal, name resolution, credentials,
/// notifications, and uploads.
pub const RESERVED: u64 = 12;

/// Returns whether an open failed because the process or the system has too many open files and sockets.
#[cfg(unix)]
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    os_error_code(error).is_some_and(|code| code == Errno::MFILE.raw_os_error() || code == Errno::NFILE.raw_os_error())
}

/// Returns `false`: this platform does not report that too many files and sockets are open.
#[cfg(not(unix))]
#[must_use]
pub fn is_exhausted(_: &io::Error) -> bool {
    false
}

/// Returns the error that an open fails with if too many files and sockets are open.
#[must_use]
pub fn exhausted_error() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::MFILE.into();
    #[cfg(not(unix))]
    io::Error::other("too many open files")
}

/// The hint for errors that are caused by too few available files and sockets.
pub const HELP: &str = "raise the limit on open files and connections (ulimit -n 1024), then run the same command \
                        again: recorded progress is kept";

/// The assumed number of open descriptors on systems that do not list them.
const ASSUMED_OPEN: u64 = 24;

/// Returns the number of open descriptors, or `None` if the system does not list them.
fn open_count() -> Option<u64> {
    // Reading the folder opens one descriptor itself.
    DESCRIPTOR_FOLDERS.iter().find_map(|list| Some((fs::read_dir(list).ok()?.count() as u64).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_descriptors_are_limited() {
        let Some(before) = available() else { return };
        let files: Vec<_> = (0..10).map(|_| tempfile::tempfile().expect("a file")).collect();
        // Other tests in this process also open and close files.
        assert!(files.len() == 10 && before <= limit().expect("a limit"));
        assert!(
            fit_to_available(7, 1) <= 7 && fit_to_available(0, 0) == 1 && fit_to_available(u32::MAX, u64::MAX) == 1
        );
    }

    #[cfg(unix)]
    #[test]
    fn recognizes_exhausted_descriptors() {
        let lacks = rustix::io::Errno::MFILE.raw_os_error();
        assert!(is_exhausted(&io::Error::from_raw_os_error(lacks)));
        assert!(!is_exhausted(&io::Error::from(io::ErrorKind::NotFound)));
    }
}
