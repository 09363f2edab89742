//! Where the log goes: standard error, or a file. A line is written at once, so the end of the process does not cut it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use batchplan_store::Mutex;

use crate::cli::terminal::Terminal;
use crate::files::with_path;

/// Where the log goes.
pub(super) enum LogDestination {
    Terminal(Terminal),
    File(LogFile),
}

impl LogDestination {
    /// Returns whether lines may have colours.
    pub(super) fn is_coloured(&self) -> bool {
        match self {
            Self::Terminal(terminal) => terminal.colours_messages(),
            Self::File(_) => false,
        }
    }

    /// Writes a line, which has no line break. A line that cannot be written is lost.
    pub(super) fn write(&self, line: String) {
        match self {
            Self::Terminal(terminal) => terminal.eprint_unescaped(line),
            Self::File(file) => file.append(line),
        }
    }
}

/// A log file.
pub(super) struct LogFile {
    path: PathBuf,
    state: Mutex<LogFileState<File>>,
    terminal: Terminal,
}

impl LogFile {
    /// Opens a file to append to, or creates it for its owner alone.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be opened.
    pub(super) fn open(path: &Path, terminal: Terminal) -> io::Result<Self> {
        let file = open_to_append(path).map_err(with_path(path))?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(LogFileState::new(file)), terminal })
    }

    fn append(&self, line: String) {
        let Some(error) = self.state.lock().append(line) else { return };
        self.terminal.eprint(format_args!(
            "warning: cannot write the log file: {}: log lines are lost until this is fixed, and the command continues",
            with_path(&self.path)(error)
        ));
    }
}

/// A pipe without a reader would block an ordinary open forever.
#[cfg(unix)]
fn open_to_append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    // A slow reader of a pipe must not lose lines.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_to_append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// The state of a log file.
struct LogFileState<W> {
    file: W,
    /// Whether the file ends with a part of a line, because the rest could not be written.
    ends_in_line: bool,
    /// Whether the user was warned that the file cannot be written.
    warned: bool,
}

impl<W: io::Write> LogFileState<W> {
    fn new(file: W) -> Self {
        Self { file, ends_in_line: false, warned: false }
    }

    /// Appends a line. Returns the error if the user must be warned that it cannot be written, which is the case only
    /// once.
    fn append(&mut self, mut line: String) -> Option<io::Error> {
        if self.ends_in_line {
            line.insert(0, '\n');
        }
        line.push('\n');
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.fail(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.ends_in_line = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(error),
            }
        }
        None
    }

    fn fail(&mut self, error: io::Error) -> Option<io::Error> {
        (!std::mem::replace(&mut self.warned, true)).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with little space.
    #[derive(Default)]
    struct SmallDisk {
        content: Vec<u8>,
        size: usize,
    }

    impl io::Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match bytes.len().min(self.size - self.content.len()) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                fits => {
                    self.content.extend_from_slice(&bytes[..fits]);
                    Ok(fits)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_reported_once_and_lines_after_it_are_whole() {
        let mut log = LogFileState::new(SmallDisk { size: 10, ..SmallDisk::default() });
        let mut reported = Vec::new();
        for line in ["one", "second", "third"] {
            reported.extend(log.append(line.to_owned()).map(|error| error.kind()));
        }
        assert_eq!(reported, [io::ErrorKind::StorageFull]);
        log.file.size = 100;
        assert!(log.append("fourth".to_owned()).is_none());
        assert!(log.append("fifth".to_owned()).is_none());
        assert_eq!(String::from_utf8_lossy(&log.file.content), "one\nsecond\nfourth\nfifth\n");
    }

    #[test]
    fn nothing_is_written_twice_if_only_the_end_of_the_line_is_missing() {
        let mut log = LogFileState::new(SmallDisk { size: 6, ..SmallDisk::default() });
        assert!(log.append("one".to_owned()).is_none());
        assert!(log.append("second".to_owned()).is_some());
        log.file.size = 100;
        assert!(log.append("third".to_owned()).is_none());
        assert_eq!(String::from_utf8_lossy(&log.file.content), "one\nse\nthird\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_log_file_is_appended_to_and_only_its_owner_can_read_a_new_one() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("batchplan.log");
        for line in ["first", "second"] {
            LogFile::open(&path, Terminal::from_process()).expect("opened").append(line.to_owned());
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "first\nsecond\n");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let missing = LogFile::open(&folder.path().join("none/x.log"), Terminal::from_process());
        let error = missing.err().expect("no folder").to_string();
        assert!(error.contains("none/x.log: "), "{error}");
    }
}
