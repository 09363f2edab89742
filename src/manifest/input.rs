//! Bytes from a store or a disk, on a thread that may block, in constant memory.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use sha2::Digest;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use crate::hex::hex;
use crate::object::Key;
use crate::store::Opened;

/// Bytes handed on at once.
const CHUNK: usize = 128 << 10;

/// Chunks between the network and the parser.
const CHUNKS: usize = 4;

/// Bytes read at once: they are digested and parsed while a core's nearest cache holds them.
const TEXT: usize = 32 << 10;

/// How many times its size a gzip file may inflate to, once that is more than so much. Lists of a thousand-byte keys that
/// differ in their last digits come to seventy; a bomb has a thousand.
const MAX_RATIO: u64 = 400;
const SMALL_TEXT: u64 = 8 << 20;

/// A blocking source of bytes.
pub(super) type Raw = Box<dyn Read + Send>;

/// Runs work that blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ManifestError> + Send + 'static,
) -> Result<T, ManifestError> {
    joined(tokio::task::spawn_blocking(work)).await
}

/// What a thread came to; its panic is the caller's.
pub(super) async fn joined<T>(work: JoinHandle<Result<T, ManifestError>>) -> Result<T, ManifestError> {
    match work.await {
        Ok(done) => done,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away.
            Err(_) => Err(ManifestError::Stopped),
        },
    }
}

/// Streams an opened object through `parse`, which runs on a blocking thread.
///
/// # Errors
/// What `parse` returns, or that it was stopped. A body that breaks off is an error of the reader given to `parse`.
pub(super) async fn stream<T: Send + 'static>(
    opened: Opened,
    stop: &CancellationToken,
    parse: impl FnOnce(Raw) -> Result<T, ManifestError> + Send + 'static,
) -> Result<T, ManifestError> {
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    let parser = tokio::task::spawn_blocking(move || {
        parse(Box::new(Feed { chunks: receiver, chunk: Bytes::new(), ended: false }))
    });
    let stopped = tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = pump(opened, chunks) => false,
    };
    // Stopping has dropped the channel's other end, so that the parser comes to an end as well.
    let parsed = joined(parser).await;
    if stopped { Err(ManifestError::Stopped) } else { parsed }
}

/// Sends a body on, an empty chunk behind its end; gives up when nobody listens any more.
async fn pump(mut opened: Opened, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let mut seen = 0_u64;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let mut ended = false;
        // Bodies come in small pieces, and each handing over costs the wake of a thread.
        while buffer.len() < CHUNK / 2 && !ended {
            match opened.body.read_buf(&mut buffer).await {
                Ok(count) => {
                    ended = count == 0;
                    seen = seen.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    if seen > opened.size {
                        let _ = chunks.send(Err(too_long(opened.size))).await;
                        return;
                    }
                }
                Err(cause) => {
                    // A receiver that is gone has already met its own end.
                    let _ = chunks.send(Err(cause)).await;
                    return;
                }
            }
        }
        if !buffer.is_empty() && chunks.send(Ok(buffer.split().freeze())).await.is_err() {
            return;
        }
        if ended {
            let end = if seen == opened.size { Ok(Bytes::new()) } else { Err(cut_off(seen, opened.size)) };
            let _ = chunks.send(end).await;
            return;
        }
    }
}

fn cut_off(seen: u64, size: u64) -> io::Error {
    io::Error::other(format!("it ended after {seen} of {size} bytes"))
}

fn too_long(size: u64) -> io::Error {
    if size == 0 {
        return io::Error::other("the server sends it without saying how large it is");
    }
    io::Error::other(format!("the server sends more than the {size} bytes that it announced"))
}

/// The reader's end of a body.
struct Feed {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !self.ended {
            let next = self.chunks.blocking_recv();
            self.chunk = next.unwrap_or_else(|| Err(io::Error::other("the reading was given up")))?;
            self.ended = self.chunk.is_empty();
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

/// Opens a file of this machine; reading it ends with an error once the token is cancelled.
pub(super) fn open_local(path: &Path, stop: CancellationToken) -> Result<Raw, ManifestError> {
    let failed = |cause| ManifestError::Read { place: path.display().to_string(), cause };
    let found = fs::metadata(path).map_err(failed)?;
    if found.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    // To open a pipe would wait for whoever writes to it.
    if !found.is_file() {
        return Err(failed(io::Error::other("it is no regular file: write what it gives to one first")));
    }
    let file = File::open(path).map_err(failed)?;
    Ok(Box::new(LocalFile { file, stop }))
}

struct LocalFile {
    file: File,
    stop: CancellationToken,
}

impl Read for LocalFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the reading was given up"));
        }
        self.file.read(buffer)
    }
}

/// Whether a name says that the file is gzip-compressed.
pub(super) fn is_gzip(name: &[u8]) -> bool {
    name.len() > 3 && name[name.len() - 3..].eq_ignore_ascii_case(b".gz")
}

/// Whether an object's name says that it is gzip-compressed.
pub(super) fn is_gzip_key(key: &Key) -> bool {
    is_gzip(key.as_bytes())
}

/// What is done with the bytes that `parse` has not read when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// They are read and digested: the digest may tell why it failed.
    Digest,
    /// They are left: there may be terabytes of them.
    Leave,
}

/// What the raw bytes of a file came to, as far as they were read.
pub(super) struct Tally {
    /// The digest, in lower-case hex.
    pub(super) digest: String,
    /// How many.
    pub(super) bytes: u64,
}

/// Hands a file's text to `parse`, inflated where it is gzip, and digests its raw bytes; where `parse` succeeds, to their
/// very end.
///
/// # Errors
/// Only that the bytes stopped coming; what `parse` says is inside, so that a caller that knows the digest can tell a
/// damaged file from a wrong one.
pub(super) fn digested<D: Digest, T>(
    raw: Raw,
    gzip: bool,
    place: &str,
    rest: Rest,
    parse: impl FnOnce(&mut dyn BufRead) -> Result<T, ManifestError>,
) -> Result<(Result<T, ManifestError>, Tally), ManifestError> {
    let mut source = Digesting { raw, hasher: D::new(), bytes: 0, failure: None };
    let parsed = {
        let mut text = BufReader::with_capacity(TEXT, &mut source);
        if gzip {
            let text = Inflating { decoder: MultiGzDecoder::new(text), given: 0 };
            parse(&mut BufReader::with_capacity(TEXT, text))
        } else {
            parse(&mut text)
        }
    };
    let on = source.failure.is_none() && (parsed.is_ok() || rest == Rest::Digest);
    let drained = if on { io::copy(&mut source, &mut io::sink()).err() } else { None };
    // A body that broke off shows as a damaged file further up: its own words come first.
    if let Some(cause) = source.failure.take().or(drained) {
        return Err(ManifestError::Read { place: place.to_owned(), cause });
    }
    Ok((parsed, Tally { digest: hex(&source.hasher.finalize()), bytes: source.bytes }))
}

/// The text of a gzip file, within bounds.
struct Inflating<'a, D> {
    decoder: MultiGzDecoder<BufReader<&'a mut Digesting<D>>>,
    given: u64,
}

impl<D: Digest> Read for Inflating<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.given = self.given.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let taken = self.decoder.get_ref().get_ref().bytes;
        if self.given > SMALL_TEXT && self.given / MAX_RATIO > taken {
            let why = format!("it inflates to more than {MAX_RATIO} times its size, which no list of objects does");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}

struct Digesting<D> {
    raw: Raw,
    hasher: D,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<D: Digest> Read for Digesting<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.raw.read(buffer) {
            Ok(count) => {
                self.hasher.update(&buffer[..count]);
                self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                Ok(count)
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Err(cause),
            Err(cause) => {
                let told = io::Error::new(cause.kind(), cause.to_string());
                self.failure = Some(cause);
                Err(told)
            }
        }
    }
}

/// Reads a small object whole; more than `limit` bytes are an error of the server's file, not of memory.
pub(super) async fn read_small(
    opened: Opened,
    limit: u64,
    place: &str,
    stop: &CancellationToken,
) -> Result<Vec<u8>, ManifestError> {
    let size = opened.size;
    let too_large = || {
        let help = "check that the plan names the right file";
        ManifestError::malformed(place, format!("it is larger than {limit} bytes"), help)
    };
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // No more than was announced, and one to tell that there is more.
    let mut body = opened.body.take(size.saturating_add(1));
    let read = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(ManifestError::Stopped),
        read = body.read_to_end(&mut bytes) => read,
    };
    let failed = |cause| ManifestError::Read { place: place.to_owned(), cause };
    let seen = u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX);
    if seen > size {
        return Err(failed(too_long(size)));
    }
    if seen == size { Ok(bytes) } else { Err(failed(cut_off(seen, size))) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::Sha256;

    use super::*;

    /// How much of this text, packed, comes out again.
    fn unpacked(line: &str, lines: usize) -> Result<u64, String> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        for n in 0..lines {
            packed.write_all(line.replace('#', &format!("{n:08}")).as_bytes()).expect("packed");
        }
        let raw: Raw = Box::new(io::Cursor::new(packed.finish().expect("packed")));
        let copy = |text: &mut dyn BufRead| {
            let cause = |cause| ManifestError::Read { place: "list.gz".to_owned(), cause };
            io::copy(text, &mut io::sink()).map_err(cause)
        };
        let (copied, _) = digested::<Sha256, _>(raw, true, "list.gz", Rest::Leave, copy).expect("the bytes came");
        copied.map_err(|error| error.to_string())
    }

    #[test]
    fn a_gzip_file_may_inflate_as_lists_do_and_not_as_bombs_do() {
        let small = "k".repeat(1000);
        assert_eq!(unpacked(&small, 8000), Ok(8_000_000));
        let refused = unpacked(&small, 9000).expect_err("a bomb");
        assert!(refused.contains("list.gz") && refused.contains("more than 400 times"), "{refused}");
        let long = format!("bucket,{}/#.json\n", "folder".repeat(160));
        assert!(unpacked(&long, 10_000).is_ok());
    }
}
