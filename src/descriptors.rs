//! Open files and sockets, and the process's limit on them.

use std::fs;
use std::io;

use crate::files::os_code;

/// Where the system lists what this process has open.
const LISTS: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// Raises the number of files and sockets that may be open as far as this process may. Where it may not, it stays as it is.
#[cfg(unix)]
pub fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Some systems do not take what they call the maximum: then there is no more than there was.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Raises the number of files and sockets that may be open as far as this process may. Here it is never too low.
#[cfg(not(unix))]
pub fn raise_limit() {}

/// How many files and sockets may be open at once; `None` is no limit.
#[cfg(unix)]
#[must_use]
pub fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current
}

/// How many files and sockets may be open at once; `None` is no limit.
#[cfg(not(unix))]
#[must_use]
pub fn limit() -> Option<u64> {
    None
}

/// How many more files and sockets may be opened now; `None` is as many as anybody wants.
#[must_use]
pub fn left() -> Option<u64> {
    let limit = limit()?;
    Some(limit.saturating_sub(open().unwrap_or(UNSEEN)))
}

/// How many of the `wanted` things the file limit allows at once, where each takes `each` descriptors; at least one.
#[must_use]
pub fn fitting(wanted: u32, each: u64) -> u32 {
    let Some(left) = left() else { return wanted };
    let fitting = left.saturating_sub(SPARE) / each.max(1);
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, wanted.max(1))
}

/// Files and sockets that are for all else than what is counted: the journal's own, names that are looked up, credentials,
/// notifications, uploads.
pub const SPARE: u64 = 12;

/// Whether something could not be opened because as many files and sockets are open as may be.
#[cfg(unix)]
#[must_use]
pub fn are_used_up(error: &io::Error) -> bool {
    use rustix::io::Errno;
    os_code(error).is_some_and(|code| code == Errno::MFILE.raw_os_error() || code == Errno::NFILE.raw_os_error())
}

/// Whether something could not be opened because as many files and sockets are open as may be.
#[cfg(not(unix))]
#[must_use]
pub fn are_used_up(_: &io::Error) -> bool {
    false
}

/// The error of what cannot be opened because as many files and sockets are open as may be.
#[must_use]
pub fn used_up() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::MFILE.into();
    #[cfg(not(unix))]
    io::Error::other("too many open files")
}

/// What to do where too few files and sockets may be open.
pub const HELP: &str = "allow this process more open files and connections (ulimit -n 1024), then give the same command \
                        again: what was recorded is kept";

/// What a process has open, as a rule, where the system does not list it.
const UNSEEN: u64 = 24;

/// How many are open.
fn open() -> Option<u64> {
    // The list itself is open while it is read.
    LISTS.iter().find_map(|list| Some((fs::read_dir(list).ok()?.count() as u64).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_not_left() {
        let Some(before) = left() else { return };
        let files: Vec<_> = (0..10).map(|_| tempfile::tempfile().expect("a file")).collect();
        // Other tests of this process open and close files as well.
        assert!(files.len() == 10 && before <= limit().expect("a limit"));
        assert!(fitting(7, 1) <= 7 && fitting(0, 0) == 1 && fitting(u32::MAX, u64::MAX) == 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_lack_of_descriptors_is_told_from_other_errors() {
        let lacks = rustix::io::Errno::MFILE.raw_os_error();
        assert!(are_used_up(&io::Error::from_raw_os_error(lacks)));
        assert!(!are_used_up(&io::Error::from(io::ErrorKind::NotFound)));
    }
}
