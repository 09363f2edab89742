//! Sorted runs on disk: records in ascending order, each encoded by its difference from the previous one.
//!
//! A file holds many runs, one after the other, so that a sort of any size has few open files. On systems that support
//! it, the file has no name and vanishes when the process ends, however it ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::manifest::part::varint;

/// The buffer size in bytes; there are as many buffers as runs are merged.
const BUFFER: usize = 64 << 10;

/// The maximum size of a record in bytes, which only guards against interpreting garbage as a length.
pub(super) const MAX_RECORD: usize = 1 << 16;

/// One run in a file.
pub(super) struct SortedRun {
    file: Arc<File>,
    from: u64,
    to: u64,
    records: u64,
}

/// A file of runs.
pub(super) struct RunFile {
    file: Arc<File>,
    end: u64,
    runs: Vec<SortedRun>,
}

impl RunFile {
    /// Creates an empty file in a folder.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(folder)?), end: 0, runs: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns the size of all runs in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Removes all runs from the list; their data remain until the file is [emptied](Self::empty).
    pub(super) fn take_runs(&mut self) -> Vec<SortedRun> {
        std::mem::take(&mut self.runs)
    }

    /// Truncates the file, which releases the disk space of all runs.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        self.end = 0;
        self.file.set_len(0)
    }

    /// Starts another run. It counts once it is [ended](RunWriter::end).
    pub(super) fn start_run(&mut self) -> io::Result<SortedRunWriter<'_>> {
        (&*self.file).seek(SeekFrom::Start(self.end))?;
        let out = BufWriter::with_capacity(BUFFER, Arc::clone(&self.file));
        Ok(SortedRunWriter { file: self, out, bytes: 0, records: 0, last: Vec::new(), head: Vec::new() })
    }
}

pub(super) struct SortedRunWriter<'a> {
    file: &'a mut RunFile,
    out: BufWriter<Arc<File>>,
    bytes: usize,
    records: u64,
    last: Vec<u8>,
    head: Vec<u8>,
}

impl SortedRunWriter<'_> {
    /// Adds a record, unless it equals the previous one.
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if self.records > 0 && self.last == record {
            return Ok(());
        }
        let shared = self.last.iter().zip(record).take_while(|(a, b)| a == b).count();
        let rest = &record[shared..];
        self.head.clear();
        varint::put(&mut self.head, shared);
        varint::put(&mut self.head, rest.len());
        self.out.write_all(&self.head)?;
        self.out.write_all(rest)?;
        self.bytes += self.head.len() + rest.len();
        self.records += 1;
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        let from = self.file.end;
        let to = from + self.bytes as u64;
        self.file.end = to;
        self.file.runs.push(SortedRun { file: Arc::clone(&self.file.file), from, to, records: self.records });
        Ok(())
    }
}

pub(super) struct SortedRunReader {
    bytes: BufReader<FileSection>,
    remaining: u64,
}

impl SortedRunReader {
    pub(super) fn new(run: SortedRun) -> Self {
        let section = FileSection { file: run.file, at: run.from, to: run.to };
        Self { bytes: BufReader::with_capacity(BUFFER, section), remaining: run.records }
    }

    /// Replaces the previous record in `record` by the next one. Returns `false` at the end.
    pub(super) fn next_into(&mut self, record: &mut Vec<u8>) -> io::Result<bool> {
        if self.remaining == 0 {
            return Ok(false);
        }
        self.remaining -= 1;
        let (shared, rest) = (self.read_length()?, self.read_length()?);
        if shared > record.len() || shared + rest > MAX_RECORD {
            return Err(corrupt_run());
        }
        record.resize(shared + rest, 0);
        self.bytes.read_exact(&mut record[shared..])?;
        Ok(true)
    }

    fn read_length(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..21).step_by(7) {
            let byte = *self.bytes.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.bytes.consume(1);
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt_run())
    }
}

fn corrupt_run() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its content is not what was written")
}

/// A section of a file. Several readers share the file and its position.
struct FileSection {
    file: Arc<File>,
    at: u64,
    to: u64,
}

impl Read for FileSection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(&mut buffer[..wanted])?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(run: SortedRun) -> io::Result<Vec<Vec<u8>>> {
        let mut reader = SortedRunReader::new(run);
        let (mut record, mut found) = (Vec::new(), Vec::new());
        while reader.next_into(&mut record)? {
            found.push(record.clone());
        }
        Ok(found)
    }

    fn write(runs: &mut RunFile, records: &[Vec<u8>]) {
        let mut writer = runs.start_run().unwrap();
        for record in records {
            writer.push(record).unwrap();
        }
        writer.finish().unwrap();
    }

    proptest! {
        #[test]
        fn runs_in_one_file_are_read_separately(
            written in proptest::collection::vec(proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..9), 0..20), 0..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut runs = RunFile::create(folder.path()).unwrap();
            let written: Vec<Vec<Vec<u8>>> = written.into_iter().map(|run| run.into_iter().collect()).collect();
            for run in &written {
                write(&mut runs, run);
            }
            let found: Vec<_> = runs.take_runs().into_iter().map(|run| all(run).unwrap()).collect();
            prop_assert_eq!(found, written);
        }
    }

    #[test]
    fn emptied_file_is_reused() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = RunFile::create(folder.path()).unwrap();
        let long = vec![vec![b'a'; 1000], vec![b'b'; MAX_RECORD]];
        write(&mut runs, &long);
        assert_eq!(all(runs.take_runs().remove(0)).unwrap(), long);
        runs.truncate().unwrap();
        assert_eq!(runs.file.metadata().unwrap().len(), 0);
        write(&mut runs, &[b"c".to_vec(), b"c".to_vec(), b"cd".to_vec()]);
        assert_eq!(runs.file.metadata().unwrap().len(), 6);
        assert_eq!(all(runs.take_runs().remove(0)).unwrap(), [b"c".to_vec(), b"cd".to_vec()]);
    }

    #[test]
    fn a_run_that_was_cut_or_overwritten_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for (junk, kind) in [
            (&[][..], io::ErrorKind::UnexpectedEof),
            (&[0, 1, b'a'], io::ErrorKind::UnexpectedEof),
            (&[1, 0, 0, 0, 0, 0], io::ErrorKind::InvalidData),
            (&[0xff; 6], io::ErrorKind::InvalidData),
            (&[0, 0xff, 0xff, 0x7f, 0, 0], io::ErrorKind::InvalidData),
        ] {
            let mut runs = RunFile::create(folder.path()).unwrap();
            write(&mut runs, &[b"a".to_vec(), b"b".to_vec()]);
            runs.file.set_len(0).unwrap();
            (&*runs.file).seek(SeekFrom::Start(0)).unwrap();
            (&*runs.file).write_all(junk).unwrap();
            assert_eq!(all(runs.take_runs().remove(0)).unwrap_err().kind(), kind, "{junk:?}");
        }
    }
}
