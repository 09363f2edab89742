//! The log of changes, which makes the state durable.
//!
//! The file consists of 8 magic bytes and records. A record is the length of its payload, a checksum of the length, a
//! checksum of the payload, and the payload, which is one change. The checksums are CRC-32, and all numbers are
//! little-endian. The length has its own checksum so that a damaged length is not mistaken for the torn end of the
//! file.
//!
//! A process that is killed while it appends leaves an incomplete last record. This record was never acknowledged, and
//! is dropped when the log is opened. Any other damage is an error, because a guess could lose acknowledged writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::codec;
use super::state::{SandboxState, StateChange};
use crate::files::{create_replacing, open_regular};

const MAGIC: [u8; 8] = *b"BPSBOX01";
const HEADER_BYTES: usize = 12;
/// The maximum length of a payload in bytes. Keys, tags, headers and inline blobs are far shorter; only the settings
/// of a bucket could be longer, and such a change is refused.
const MAX_PAYLOAD_BYTES: u32 = 16 << 20;

/// Why a log could not be read.
#[derive(Debug)]
pub(super) enum StateLogError {
    Io(io::Error),
    /// The file is not a log, or is damaged.
    Damaged {
        /// The offset of the first byte that is not valid.
        at: u64,
        /// What is wrong at this offset.
        what: &'static str,
    },
}

impl From<io::Error> for StateLogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A log that is open for appending.
#[derive(Debug)]
pub(super) struct StateLog {
    file: File,
    length: u64,
    /// Set if a failed append could not be undone. Everything after it would be unreadable.
    broken: bool,
    buffer: Vec<u8>,
}

/// The result of reading a log.
pub(super) struct ReplayedLog {
    pub(super) log: StateLog,
    pub(super) state: SandboxState,
    /// The number of records in the log.
    pub(super) records: u64,
}

impl StateLog {
    /// Reads a log and opens it for appending. An incomplete last record is cut off.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read, or is damaged elsewhere than at its end.
    pub(super) fn open(path: &Path) -> Result<ReplayedLog, StateLogError> {
        let mut file = open_regular(path, OpenOptions::new().read(true).write(true))?;
        let total = file.metadata()?.len();
        let mut state = SandboxState::default();
        let mut records = 0;
        let mut good = MAGIC.len() as u64;
        {
            let mut reader = BufReader::with_capacity(1 << 20, &mut file);
            let mut magic = [0; MAGIC.len()];
            if total < good || reader.read_exact(&mut magic).is_err() || magic != MAGIC {
                return Err(StateLogError::Damaged { at: 0, what: "it is not a sandbox log" });
            }
            let mut payload = Vec::new();
            while let Some(length) = next_record(&mut reader, good, total, &mut payload)? {
                let damaged = |what| StateLogError::Damaged { at: good, what };
                let change = codec::decode(&payload).map_err(|_| damaged("the record is invalid"))?;
                state.apply(change).map_err(|misfit| damaged(misfit.0))?;
                good += length;
                records += 1;
            }
        }
        if good < total {
            file.set_len(good)?;
        }
        file.seek(SeekFrom::Start(good))?;
        Ok(ReplayedLog { log: Self { file, length: good, broken: false, buffer: Vec::new() }, state, records })
    }

    /// Atomically replaces the log by a new one that contains just this state.
    ///
    /// # Errors
    /// Returns an error if the new log cannot be written.
    pub(super) fn replace(path: &Path, state: &SandboxState) -> io::Result<Self> {
        let fresh = temporary_path(path);
        let mut writer = BufWriter::with_capacity(1 << 20, create_replacing(&fresh)?);
        writer.write_all(&MAGIC)?;
        let mut length = MAGIC.len() as u64;
        let mut buffer = Vec::new();
        for change in state.changes() {
            buffer.clear();
            append_record(&change, &mut buffer);
            writer.write_all(&buffer)?;
            length += buffer.len() as u64;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        Ok(Self { file, length, broken: false, buffer: Vec::new() })
    }

    /// Appends changes with one write. After this returns, they survive the end of the process.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written. The log then contains none of them.
    pub(super) fn append(&mut self, changes: &[StateChange]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the sandbox's log failed; restart the sandbox"));
        }
        self.buffer.clear();
        for change in changes {
            let start = self.buffer.len();
            append_record(change, &mut self.buffer);
            if self.buffer.len() - start - HEADER_BYTES > MAX_PAYLOAD_BYTES as usize {
                // A log with such a record could not be read again.
                return Err(io::Error::other("a change is too large for the sandbox's log"));
            }
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

fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn append_record(change: &StateChange, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    codec::encode(change, out);
    let payload = &out[start + HEADER_BYTES..];
    // A change comes from one request, and the limits of all its parts are far below 4 GiB.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let check = crc32fast::hash(payload).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&check);
}

/// Reads the record at offset `at`. Returns `None` at the end of the file, also if the last record is incomplete.
fn next_record(
    reader: &mut impl Read,
    at: u64,
    total: u64,
    payload: &mut Vec<u8>,
) -> Result<Option<u64>, StateLogError> {
    let left = total - at;
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut word = || -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (length, length_check, check) = (word()?, word()?, word()?);
    if crc32fast::hash(&length) != u32::from_le_bytes(length_check) {
        return Err(StateLogError::Damaged { at, what: "the record's length fails its checksum" });
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_PAYLOAD_BYTES {
        return Err(StateLogError::Damaged { at, what: "the record is too long" });
    }
    let whole = HEADER_BYTES as u64 + u64::from(length);
    if left < whole {
        return Ok(None);
    }
    payload.clear();
    reader.take(u64::from(length)).read_to_end(payload)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(check) {
        if left == whole {
            return Ok(None);
        }
        return Err(StateLogError::Damaged { at, what: "the record fails its checksum" });
    }
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::one_of_each;

    fn written(changes: &[StateChange]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.log");
        let mut log = StateLog::replace(&path, &SandboxState::default()).unwrap();
        for change in changes {
            log.append(std::slice::from_ref(change)).unwrap();
        }
        (dir, path)
    }

    /// Returns changes that leave something behind: a bucket with an object.
    fn some() -> Vec<StateChange> {
        one_of_each().into_iter().take(7).collect()
    }

    fn state_of(path: &Path) -> Vec<StateChange> {
        StateLog::open(path).unwrap_or_else(|error| panic!("{error:?}")).state.changes().collect()
    }

    #[test]
    fn keeps_appended_changes_after_reopening() {
        let (_dir, path) = written(&some());
        let replayed = StateLog::open(&path).unwrap();
        assert_eq!(replayed.records, 7);
        let mut log = replayed.log;
        log.append(&one_of_each()[8..9]).unwrap();
        drop(log);
        let state = StateLog::open(&path).unwrap().state;
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
            assert!(matches!(StateLog::open(&path), Err(StateLogError::Damaged { .. })), "byte {at}");
        }
    }

    #[test]
    fn a_replaced_log_holds_the_state_and_nothing_else() {
        let (_dir, path) = written(&some());
        let before = StateLog::open(&path).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        StateLog::replace(&path, &before.state).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < length);
        assert_eq!(state_of(&path), before.state.changes().collect::<Vec<_>>());
    }
}
