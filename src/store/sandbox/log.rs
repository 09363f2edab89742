//! The log of changes: what outlives the process.
//!
//! A file of 8 magic bytes and then records, each the length of its payload, a check of those four bytes, a check of the
//! payload (CRC-32, all little-endian) and the payload: one change. The length has a check of its own so that a damaged
//! length cannot pass for the torn end of the file.
//!
//! A process that dies while it appends leaves a last record that is cut short: that record was never acknowledged, and
//! is dropped when the log is opened. Any other damage is an error: guessing would lose acknowledged writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::codec;
use super::state::{Change, State};
use crate::files::{create_anew, open_own};

const MAGIC: [u8; 8] = *b"BPSBOX01";
const HEADER: usize = 12;
/// No change is longer: an inline body is small, and keys, tags and headers have limits.
const MAX_PAYLOAD: u32 = 16 << 20;

/// Why a log could not be read.
#[derive(Debug)]
pub(super) enum LogError {
    /// The file system said no.
    Io(io::Error),
    /// The file is not a log, or a damaged one.
    Damaged {
        /// The byte where sense ends.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A log that is open for appending.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    length: u64,
    /// Set when a failed append could not be undone: what follows would be unreadable.
    broken: bool,
    buffer: Vec<u8>,
}

/// What reading a log gave.
pub(super) struct Replayed {
    pub(super) log: Log,
    pub(super) state: State,
    /// How many records there were.
    pub(super) records: u64,
}

impl Log {
    /// Reads a log and opens it for appending; a torn last record is cut off.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged elsewhere than at its end.
    pub(super) fn open(path: &Path) -> Result<Replayed, LogError> {
        let mut file = open_own(path, OpenOptions::new().read(true).write(true))?;
        let total = file.metadata()?.len();
        let mut state = State::default();
        let mut records = 0;
        let mut good = MAGIC.len() as u64;
        {
            let mut reader = BufReader::with_capacity(1 << 20, &mut file);
            let mut magic = [0; MAGIC.len()];
            if total < good || reader.read_exact(&mut magic).is_err() || magic != MAGIC {
                return Err(LogError::Damaged { at: 0, what: "it is not the log of a sandbox" });
            }
            let mut payload = Vec::new();
            while let Some(length) = next_record(&mut reader, good, total, &mut payload)? {
                let damaged = |what| LogError::Damaged { at: good, what };
                let change = codec::decode(&payload).map_err(|_| damaged("the record is not understood"))?;
                state.apply(change).map_err(|misfit| damaged(misfit.0))?;
                good += length;
                records += 1;
            }
        }
        if good < total {
            file.set_len(good)?;
        }
        file.seek(SeekFrom::Start(good))?;
        Ok(Replayed { log: Self { file, length: good, broken: false, buffer: Vec::new() }, state, records })
    }

    /// Writes a new log that holds just this state, in place of whatever is there: whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn replace(path: &Path, state: &State) -> io::Result<Self> {
        let fresh = beside(path);
        let mut writer = BufWriter::with_capacity(1 << 20, create_anew(&fresh)?);
        writer.write_all(&MAGIC)?;
        let mut length = MAGIC.len() as u64;
        let mut buffer = Vec::new();
        for change in state.changes() {
            buffer.clear();
            frame(&change, &mut buffer);
            writer.write_all(&buffer)?;
            length += buffer.len() as u64;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        Ok(Self { file, length, broken: false, buffer: Vec::new() })
    }

    /// Appends changes with one write. When this returns, they outlive the process.
    ///
    /// # Errors
    /// When they cannot be written: then none of them is in the log.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the sandbox's log failed half-way"));
        }
        self.buffer.clear();
        for change in changes {
            frame(change, &mut self.buffer);
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            let undone = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.broken = undone.is_err();
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn frame(change: &Change, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    codec::encode(change, out);
    let payload = &out[start + HEADER..];
    // A change is built from one request, whose parts all have limits far below four gigabytes.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let check = crc32fast::hash(payload).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&check);
}

/// Reads the record at `at`; `None` at the end of the file, torn or clean.
fn next_record(reader: &mut impl Read, at: u64, total: u64, payload: &mut Vec<u8>) -> Result<Option<u64>, LogError> {
    let left = total - at;
    if left < HEADER as u64 {
        return Ok(None);
    }
    let mut word = || -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (length, length_check, check) = (word()?, word()?, word()?);
    if crc32fast::hash(&length) != u32::from_le_bytes(length_check) {
        return Err(LogError::Damaged { at, what: "the record's length does not fit its check" });
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_PAYLOAD {
        return Err(LogError::Damaged { at, what: "the record is longer than any can be" });
    }
    let whole = HEADER as u64 + u64::from(length);
    if left < whole {
        return Ok(None);
    }
    payload.clear();
    reader.take(u64::from(length)).read_to_end(payload)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(check) {
        if left == whole {
            return Ok(None);
        }
        return Err(LogError::Damaged { at, what: "the record does not fit its check" });
    }
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sandbox::codec::tests::one_of_each;

    fn written(changes: &[Change]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.log");
        let mut log = Log::replace(&path, &State::default()).unwrap();
        for change in changes {
            log.append(std::slice::from_ref(change)).unwrap();
        }
        (dir, path)
    }

    /// Changes that leave something behind: a bucket with an object.
    fn some() -> Vec<Change> {
        one_of_each().into_iter().take(7).collect()
    }

    fn state_of(path: &Path) -> Vec<Change> {
        Log::open(path).unwrap_or_else(|error| panic!("{error:?}")).state.changes().collect()
    }

    #[test]
    fn what_was_appended_is_there_after_opening() {
        let (_dir, path) = written(&some());
        let replayed = Log::open(&path).unwrap();
        assert_eq!(replayed.records, 7);
        let mut log = replayed.log;
        log.append(&one_of_each()[8..9]).unwrap();
        drop(log);
        let state = Log::open(&path).unwrap().state;
        assert_eq!(state.uploads.len(), 1);
        assert_eq!(state.buckets["b"].keys.len(), 2);
    }

    #[test]
    fn a_torn_last_record_is_cut_off_wherever_it_tore() {
        let (_dir, path) = written(&some());
        let whole = fs::read(&path).unwrap();
        let (_shorter_dir, shorter) = written(&some()[..6]);
        let keep = fs::read(&shorter).unwrap().len();
        let expected = state_of(&shorter);
        for length in keep..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(state_of(&path), expected, "torn at {length}");
            assert_eq!(fs::metadata(&path).unwrap().len(), keep as u64);
        }
        let mut last_byte_lost = whole.clone();
        *last_byte_lost.last_mut().unwrap() ^= 1;
        fs::write(&path, &last_byte_lost).unwrap();
        assert_eq!(state_of(&path), expected);
    }

    #[test]
    fn damage_before_the_end_is_an_error_and_never_a_guess() {
        let (_dir, path) = written(&some());
        let whole = fs::read(&path).unwrap();
        let (_shorter_dir, shorter) = written(&some()[..6]);
        let last = fs::read(&shorter).unwrap().len();
        for at in 0..last {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(Log::open(&path), Err(LogError::Damaged { .. })), "byte {at}");
        }
    }

    #[test]
    fn a_replaced_log_holds_the_state_and_nothing_else() {
        let (_dir, path) = written(&some());
        let before = Log::open(&path).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        Log::replace(&path, &before.state).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < length);
        assert_eq!(state_of(&path), before.state.changes().collect::<Vec<_>>());
    }
}
