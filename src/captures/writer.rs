//! Appends groups of captures to a log, and seals full logs.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{MAX_VERSION_BYTES, StoredCapture};
use super::error::CaptureError;
use super::file::{
    BlockPacker, FILE_HEADER_BYTES, FileNumbers, end_mark, file_header, log_path, read_log, sealed_name,
};
use super::state::{Capture, FormerState, MAX_STATE_BYTES};
use crate::failpoint;
use crate::files::{create_folder, create_replacing, open_regular, sync_folder};

/// When a log is full; smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    /// The number of captures.
    pub(super) captures: usize,
    /// The size in bytes.
    pub(super) bytes: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { captures: 1 << 18, bytes: 32 << 20 }
    }
}

/// Appends captures, group by group.
#[derive(Debug)]
pub struct CaptureWriter {
    folder: PathBuf,
    limits: LogLimits,
    log: OpenLog,
    packer: Packer,
    buffer: Vec<u8>,
    /// The last state and its JSON: most objects of a job are in the same one.
    last_state: Option<(Arc<FormerState>, Arc<str>)>,
}

/// A [`BlockPacker`] without its content in debug output.
struct Packer(BlockPacker);

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockPacker")
    }
}

/// The log that captures are appended to.
#[derive(Debug)]
struct OpenLog {
    path: PathBuf,
    number: u32,
    file: File,
    bytes: u64,
    captures: usize,
    /// Whether the file may hold a part of a group that could not be written, and that could not be removed.
    is_broken: bool,
}

impl CaptureWriter {
    /// Opens the captures in a folder, which is created if it is missing, and removes a last group that a crash has cut
    /// off. Only one writer may have a folder open.
    ///
    /// # Errors
    /// Returns an error if the folder or a file cannot be read or written, or a log is damaged.
    pub fn open(folder: &Path) -> Result<Self, CaptureError> {
        Self::open_with(folder, LogLimits::default())
    }

    pub(super) fn open_with(folder: &Path, limits: LogLimits) -> Result<Self, CaptureError> {
        create_folder(folder).map_err(CaptureError::at(folder))?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent).map_err(CaptureError::at(parent))?;
        }
        let numbers = FileNumbers::list(folder)?;
        for number in numbers.replaced {
            remove(&log_path(folder, number))?;
        }
        let mut logs = numbers.logs;
        let next = numbers.sealed.last().map_or(0, |last| last + 1);
        let last = logs.pop().unwrap_or(next).max(next);
        // A log that is not the last one was followed by another before it could be sealed.
        for number in logs {
            seal(folder, number)?;
        }
        let log = OpenLog::open(folder, last)?;
        let packer = Packer(BlockPacker::uncompressed());
        let mut writer = Self { folder: folder.to_owned(), limits, log, packer, buffer: Vec::new(), last_state: None };
        writer.seal_if_full()?;
        Ok(writer)
    }

    /// Appends a group of captures, in any order, and waits until it is on disk. If a row has several captures in the
    /// group, the first one counts.
    ///
    /// # Errors
    /// Returns an error if the group cannot be written. It is then not in the captures, and can be appended again. After
    /// an error of sealing the log, the group is in the captures, and appending it again does no harm.
    pub fn append(&mut self, group: &[Capture]) -> Result<(), CaptureError> {
        let mut captures = group.iter().map(|capture| self.stored(capture)).collect::<Result<Vec<_>, _>>()?;
        sort_and_dedupe(&mut captures);
        self.buffer.clear();
        let packer = &mut self.packer.0;
        for capture in &captures {
            packer.push(capture, &mut self.buffer).map_err(CaptureError::at(&self.log.path))?;
        }
        packer.end_block(&mut self.buffer).map_err(CaptureError::at(&self.log.path))?;
        if captures.is_empty() {
            return Ok(());
        }
        self.log.append(&self.buffer, captures.len())?;
        failpoint::hit("captures-synced");
        self.seal_if_full()
    }

    fn stored(&mut self, capture: &Capture) -> Result<StoredCapture, CaptureError> {
        let invalid =
            |what: String| CaptureError::at(&self.log.path)(io::Error::new(io::ErrorKind::InvalidInput, what));
        if capture.version.as_ref().is_some_and(|version| version.as_str().len() > MAX_VERSION_BYTES) {
            return Err(invalid(format!("a version ID is longer than {MAX_VERSION_BYTES} bytes")));
        }
        let same = self
            .last_state
            .as_ref()
            .filter(|(state, _)| Arc::ptr_eq(state, &capture.former) || **state == *capture.former);
        let state = if let Some((_, json)) = same {
            Arc::clone(json)
        } else {
            let json = capture.former.to_json().map_err(|error| invalid(error.to_string()))?;
            if json.len() > MAX_STATE_BYTES {
                return Err(invalid(format!("a state is longer than {MAX_STATE_BYTES} bytes")));
            }
            let json: Arc<str> = json.into();
            self.last_state = Some((Arc::clone(&capture.former), Arc::clone(&json)));
            json
        };
        Ok(StoredCapture { row: capture.row, version: capture.version.clone(), state })
    }

    fn seal_if_full(&mut self) -> Result<(), CaptureError> {
        if self.log.captures < self.limits.captures && self.log.bytes < self.limits.bytes {
            return Ok(());
        }
        seal(&self.folder, self.log.number)?;
        self.log = OpenLog::open(&self.folder, self.log.number + 1)?;
        Ok(())
    }
}

impl OpenLog {
    /// Opens a log behind its last whole group, or creates it.
    fn open(folder: &Path, number: u32) -> Result<Self, CaptureError> {
        let path = log_path(folder, number);
        let content = match read_log(&path, number) {
            Ok(content) => Some(content).filter(|content| content.bytes > 0),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error),
        };
        let Some(content) = content else {
            let mut file = create_replacing(&path).map_err(CaptureError::at(&path))?;
            let written = file.write_all(&file_header(number)).and_then(|()| file.sync_all());
            written.and_then(|()| sync_folder(folder)).map_err(CaptureError::at(&path))?;
            return Ok(Self { path, number, file, bytes: FILE_HEADER_BYTES as u64, captures: 0, is_broken: false });
        };
        let open = || {
            let mut file = open_regular(&path, File::options().read(true).write(true))?;
            file.set_len(content.bytes)?;
            file.seek(SeekFrom::End(0))?;
            file.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(CaptureError::at(&path))?;
        let captures = content.captures.len();
        Ok(Self { path, number, file, bytes: content.bytes, captures, is_broken: false })
    }

    fn append(&mut self, blocks: &[u8], captures: usize) -> Result<(), CaptureError> {
        if self.is_broken {
            self.cut().map_err(CaptureError::at(&self.path))?;
        }
        if let Err(cause) = self.file.write_all(blocks).and_then(|()| self.file.sync_data()) {
            self.is_broken = true;
            // If it cannot be removed now, it is removed before the next group, or when the log is opened again.
            let _ = self.cut();
            return Err(CaptureError::at(&self.path)(cause));
        }
        self.bytes += blocks.len() as u64;
        self.captures += captures;
        Ok(())
    }

    /// Removes what was written after the last whole group.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.sync_data()?;
        self.is_broken = false;
        Ok(())
    }
}

/// Writes the captures of a log to a sealed file, and removes the log.
fn seal(folder: &Path, number: u32) -> Result<(), CaptureError> {
    let path = log_path(folder, number);
    let mut captures = read_log(&path, number)?.captures;
    sort_and_dedupe(&mut captures);
    let name = sealed_name(number);
    let draft = folder.join(format!("{name}.draft"));
    let write = || {
        let mut file = create_replacing(&draft)?;
        let mut packer = BlockPacker::compressed();
        let mut buffer = file_header(number).to_vec();
        for capture in &captures {
            packer.push(capture, &mut buffer)?;
            if buffer.len() >= 1 << 20 {
                file.write_all(&buffer)?;
                buffer.clear();
            }
        }
        packer.end_block(&mut buffer)?;
        buffer.extend_from_slice(&end_mark(captures.len()));
        file.write_all(&buffer)?;
        file.sync_all()?;
        failpoint::hit("captures-sealing");
        fs::rename(&draft, folder.join(&name))?;
        sync_folder(folder)
    };
    write().map_err(CaptureError::at(&draft))?;
    failpoint::hit("captures-sealed");
    remove(&path)
}

fn remove(path: &Path) -> Result<(), CaptureError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(CaptureError::at(path)(cause)),
        _ => Ok(()),
    }
}

/// Sorts captures by row. Of several captures of a row, the first one stays.
pub(super) fn sort_and_dedupe(captures: &mut Vec<StoredCapture>) {
    captures.sort_by_key(|capture| capture.row);
    captures.dedup_by_key(|capture| capture.row);
}
