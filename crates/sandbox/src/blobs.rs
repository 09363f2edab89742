//! Storage of object content as blobs: small ones inline, larger ones in files in the sandbox's folder.
//!
//! A blob file is complete before the log refers to it, and is removed after the log no longer refers to it. A crash in
//! between can leave an unreferenced file, which is removed when the sandbox is opened.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use md5::{Digest, Md5};

use super::model::{Md5Digest, ObjectBlob};

/// Blobs of up to this many bytes are stored in memory and in the log.
const MAX_INLINE_BYTES: usize = 1024;
/// The number of bytes that are read and served at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// The name of a blob file is its number in hexadecimal, with this many digits.
const NAME_DIGITS: usize = 16;
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

#[derive(Debug)]
pub(crate) struct BlobStore {
    /// `None` keeps every blob in memory.
    dir: Option<PathBuf>,
    next: AtomicU64,
}

impl BlobStore {
    /// Creates a store that keeps every blob in memory.
    pub(crate) fn in_memory() -> Self {
        Self { dir: None, next: AtomicU64::new(0) }
    }

    /// Opens the folder, creates it if necessary, and removes every blob file that is not in use. Files that are not
    /// named like blob files are left alone.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created or read, or a file cannot be removed.
    pub(crate) fn open(dir: PathBuf, used: impl Iterator<Item = u64>) -> io::Result<Self> {
        let used: HashSet<u64> = used.collect();
        fs::create_dir_all(&dir)?;
        for file in fs::read_dir(&dir)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_str().filter(|name| name.len() == NAME_DIGITS);
            let number = name.and_then(|name| u64::from_str_radix(name, 16).ok());
            if number.is_some_and(|number| !used.contains(&number)) {
                fs::remove_file(file.path())?;
            }
        }
        let next = used.iter().max().map_or(0, |highest| highest + 1);
        Ok(Self { dir: Some(dir), next: AtomicU64::new(next) })
    }

    /// Starts to write a new blob.
    pub(crate) fn writer(&self) -> BlobWriter<'_> {
        BlobWriter { blobs: self, inline: Vec::new(), file: None, size: 0, md5: Md5::new() }
    }

    /// Opens a range of a blob for reading.
    ///
    /// # Errors
    /// Returns an error if the blob's file cannot be opened.
    pub(crate) fn reader(&self, body: &ObjectBlob, range: Range<u64>) -> io::Result<BlobReader> {
        let length = range.end.saturating_sub(range.start);
        Ok(match body {
            ObjectBlob::Zeros => BlobReader { source: BlobReaderSource::Zeros, remaining: length },
            ObjectBlob::Inline(bytes) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let slice = Bytes::copy_from_slice(&bytes[at(range.start)..at(range.end).max(at(range.start))]);
                BlobReader { remaining: slice.len() as u64, source: BlobReaderSource::Bytes(slice) }
            }
            ObjectBlob::File(number) => {
                let path = self.path(*number).ok_or_else(|| io::Error::other("a body file of a sandbox in memory"))?;
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(range.start))?;
                BlobReader { source: BlobReaderSource::File(file), remaining: length }
            }
        })
    }

    /// Removes a blob file. If that fails, the file is removed when the sandbox is opened the next time.
    pub(crate) fn remove(&self, number: u64) {
        if let Some(path) = self.path(number) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, number: u64) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(file_name(number)))
    }
}

fn file_name(number: u64) -> String {
    format!("{number:0NAME_DIGITS$x}")
}

/// Receives the content of a blob. If it is dropped before [`BlobWriter::finish`], it leaves nothing behind.
pub(crate) struct BlobWriter<'a> {
    blobs: &'a BlobStore,
    inline: Vec<u8>,
    file: Option<(u64, File)>,
    size: u64,
    md5: Md5,
}

/// A blob that was received completely.
#[derive(Debug)]
pub(crate) struct WrittenBlob {
    pub(crate) body: ObjectBlob,
    pub(crate) size: u64,
    pub(crate) md5: Md5Digest,
}

impl BlobWriter<'_> {
    /// Appends bytes.
    ///
    /// # Errors
    /// Returns an error if the blob's file cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        if let Some((_, file)) = &mut self.file {
            return file.write_all(bytes);
        }
        if self.inline.len() + bytes.len() > MAX_INLINE_BYTES
            && let Some(dir) = &self.blobs.dir
        {
            let number = self.blobs.next.fetch_add(1, Ordering::Relaxed);
            let mut file = File::create_new(dir.join(file_name(number)))?;
            let written = file.write_all(&self.inline).and_then(|()| file.write_all(bytes));
            self.inline = Vec::new();
            self.file = Some((number, file));
            return written;
        }
        self.inline.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the number of bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Completes the blob.
    pub(crate) fn finish(mut self) -> WrittenBlob {
        let body = match self.file.take() {
            Some((number, _)) => ObjectBlob::File(number),
            None => ObjectBlob::Inline(std::mem::take(&mut self.inline).into()),
        };
        WrittenBlob { body, size: self.size, md5: std::mem::take(&mut self.md5).finalize().into() }
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if let Some((number, _)) = self.file.take() {
            self.blobs.remove(number);
        }
    }
}

/// Reads a blob in chunks.
#[derive(Debug)]
pub(crate) struct BlobReader {
    source: BlobReaderSource,
    remaining: u64,
}

#[derive(Debug)]
enum BlobReaderSource {
    Zeros,
    Bytes(Bytes),
    File(File),
}

impl BlobReader {
    /// Returns the number of bytes that are not read yet.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Iterator for BlobReader {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let length = usize::try_from(self.remaining).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let chunk = match &mut self.source {
            BlobReaderSource::Zeros => Bytes::from_static(&ZEROS[..length]),
            BlobReaderSource::Bytes(bytes) => bytes.split_to(length.min(bytes.len())),
            BlobReaderSource::File(file) => {
                let mut chunk = vec![0; length];
                if let Err(error) = file.read_exact(&mut chunk) {
                    self.remaining = 0;
                    return Some(Err(error));
                }
                chunk.into()
            }
        };
        self.remaining -= chunk.len() as u64;
        Some(Ok(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bodies: &BlobStore, content: &[u8]) -> WrittenBlob {
        let mut writer = bodies.writer();
        for chunk in content.chunks(700) {
            writer.write(chunk).unwrap();
        }
        writer.finish()
    }

    fn all(bodies: &BlobStore, body: &ObjectBlob, range: Range<u64>) -> Vec<u8> {
        bodies.reader(body, range).unwrap().map(Result::unwrap).collect::<Vec<_>>().concat()
    }

    #[test]
    fn stores_small_bodies_inline_and_removes_unused_files() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = BlobStore::open(dir.path().join("bodies"), std::iter::empty()).unwrap();
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let large = stored(&bodies, &content);
        assert_eq!((large.size, &large.body), (800_000, &ObjectBlob::File(0)));
        assert_eq!(all(&bodies, &large.body, 0..800_000), content);
        assert_eq!(all(&bodies, &large.body, 5..70_000), content[5..70_000]);
        let small = stored(&bodies, &content[..1000]);
        assert_eq!(small.body, ObjectBlob::Inline(content[..1000].into()));
        assert_eq!(all(&bodies, &small.body, 10..20), content[10..20]);
        let mut dropped = bodies.writer();
        dropped.write(&content).unwrap();
        drop(dropped);
        let files = || fs::read_dir(dir.path().join("bodies")).unwrap().count();
        assert_eq!(files(), 1);
        stored(&bodies, &content);
        assert_eq!(files(), 2);
        let again = BlobStore::open(dir.path().join("bodies"), [0].into_iter()).unwrap();
        assert_eq!(files(), 1);
        assert_eq!(stored(&again, &content).body, ObjectBlob::File(1));
    }

    #[test]
    fn serves_zeros_without_storing_them() {
        let bodies = BlobStore::in_memory();
        assert_eq!(all(&bodies, &ObjectBlob::Zeros, 10..200_000), vec![0; 199_990]);
        assert!(matches!(stored(&bodies, &[1; 5000]).body, ObjectBlob::Inline(_)));
    }
}
