//! Reads bytes from a store or a disk in constant memory, on a thread that may block.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use batchplan_store::OpenedObject;
use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use sha2::Digest;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::error::ManifestError;
use crate::paths::show_path;

/// The size of a chunk sent to the parser, in bytes.
const CHUNK_BYTES: usize = 128 << 10;

/// The number of chunks between the network and the parser.
const CHANNEL_CHUNKS: usize = 4;

/// The size of a read in bytes: small enough to be digested and parsed while it is in the nearest cache of a core.
const READ_BYTES: usize = 32 << 10;

/// The maximum compression ratio of a gzip file, once it has more than [`RATIO_CHECK_BYTES`] bytes of text. Lists of
/// thousand-byte keys that differ only in their last digits reach 70; a bomb reaches 1,000.
const MAX_RATIO: u64 = 400;
const RATIO_CHECK_BYTES: u64 = 8 << 20;

pub(crate) type BoxedReader = Box<dyn Read + Send>;

/// Runs blocking work on a thread that may block.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ManifestError> + Send + 'static,
) -> Result<T, ManifestError> {
    let span = Span::current();
    join(tokio::task::spawn_blocking(move || span.in_scope(work))).await
}

/// Waits for the result of a thread. Resumes its panic in the caller.
pub(crate) async fn join<T>(work: JoinHandle<Result<T, ManifestError>>) -> Result<T, ManifestError> {
    match work.await {
        Ok(done) => done,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(ManifestError::Stopped),
        },
    }
}

/// Streams an opened object through `parse`, which runs on a blocking thread.
///
/// # Errors
/// Returns the error of `parse`, or [`ManifestError::Read`]. A body that breaks off is an error of the reader that
/// `parse` gets.
pub(crate) async fn stream<T: Send + 'static>(
    opened: OpenedObject,
    stop: &CancellationToken,
    parse: impl FnOnce(BoxedReader) -> Result<T, ManifestError> + Send + 'static,
) -> Result<T, ManifestError> {
    let (chunks, receiver) = mpsc::channel(CHANNEL_CHUNKS);
    let parser = tokio::task::spawn_blocking(move || {
        parse(Box::new(ChannelReader { chunks: receiver, chunk: Bytes::new(), ended: false }))
    });
    let stopped = tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = send_chunks(opened, chunks) => false,
    };
    // A stop drops the sending end of the channel, so that the parser ends as well.
    let parsed = join(parser).await;
    if stopped { Err(ManifestError::Stopped) } else { parsed }
}

/// Sends the chunks of a body, and an empty chunk at its end. Returns early if the receiver is gone.
async fn send_chunks(mut opened: OpenedObject, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let mut seen = 0_u64;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        let mut ended = false;
        // Bodies arrive in small pieces, and each send costs the wake-up of a thread.
        while buffer.len() < CHUNK_BYTES / 2 && !ended {
            match opened.body.read_buf(&mut buffer).await {
                Ok(count) => {
                    ended = count == 0;
                    seen = seen.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    if seen > opened.size {
                        let _ = chunks.send(Err(oversized_body(opened.size))).await;
                        return;
                    }
                }
                Err(cause) => {
                    // If the receiver is gone, it has already failed by itself.
                    let _ = chunks.send(Err(cause)).await;
                    return;
                }
            }
        }
        if !buffer.is_empty() && chunks.send(Ok(buffer.split().freeze())).await.is_err() {
            return;
        }
        if ended {
            let end = if seen == opened.size { Ok(Bytes::new()) } else { Err(truncated_body(seen, opened.size)) };
            let _ = chunks.send(end).await;
            return;
        }
    }
}

fn truncated_body(seen: u64, size: u64) -> io::Error {
    io::Error::other(format!("it ended after {seen} of {size} bytes"))
}

fn oversized_body(size: u64) -> io::Error {
    if size == 0 {
        return io::Error::other("the server did not send its size");
    }
    io::Error::other(format!("the server sent more than the announced {size} bytes"))
}

/// The reading end of a body.
struct ChannelReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !self.ended {
            let next = self.chunks.blocking_recv();
            self.chunk = next.unwrap_or_else(|| Err(io::Error::other("reading was stopped")))?;
            self.ended = self.chunk.is_empty();
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

/// Opens a local file. Reads fail once the token is cancelled.
pub(crate) fn open_local(path: &Path, stop: CancellationToken) -> Result<BoxedReader, ManifestError> {
    let failed = |cause| ManifestError::Read { place: show_path(path).to_string(), cause };
    let found = fs::metadata(path).map_err(failed)?;
    if found.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    // Opening a pipe would block until another process opens it for writing.
    if !found.is_file() {
        return Err(failed(io::Error::other("not a regular file: write its content to a file first")));
    }
    let file = File::open(path).map_err(failed)?;
    Ok(Box::new(StoppableFile { file, stop }))
}

struct StoppableFile {
    file: File,
    stop: CancellationToken,
}

impl Read for StoppableFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("reading was stopped"));
        }
        self.file.read(buffer)
    }
}

/// Returns whether a file name ends with `.gz`.
pub(crate) fn is_gzip(name: &[u8]) -> bool {
    name.len() > 3 && name[name.len() - 3..].eq_ignore_ascii_case(b".gz")
}

/// Returns whether a key ends with `.gz`.
pub(crate) fn is_gzip_key(key: &ObjectKey) -> bool {
    is_gzip(key.as_bytes())
}

/// What to do with the bytes that `parse` has not read when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnreadBytes {
    /// Read and digest them: the digest may explain the failure.
    Digest,
    /// Skip them: there may be terabytes.
    Skip,
}

impl UnreadBytes {
    /// Returns what to do in a source whose visitor needs all rows, or only some.
    pub(crate) fn after_failure(needs_all_rows: bool) -> Self {
        if needs_all_rows { Self::Digest } else { Self::Skip }
    }
}

/// The digest and length of the raw bytes of a file, as far as they were read.
pub(crate) struct ReadDigest {
    /// In lower-case hex.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// Passes the text of a file to `parse`, decompressed if it is gzip, and digests the raw bytes. If `parse` succeeds,
/// the digest covers the whole file.
///
/// # Errors
/// Returns an error only if the bytes cannot be read. The result of `parse` is inside `Ok`, so that the caller can use
/// the digest to tell a damaged file from a wrong one.
pub(crate) fn read_digested<D: Digest, T>(
    raw: BoxedReader,
    gzip: bool,
    place: &str,
    rest: UnreadBytes,
    parse: impl FnOnce(&mut dyn BufRead) -> Result<T, ManifestError>,
) -> Result<(Result<T, ManifestError>, ReadDigest), ManifestError> {
    let mut source = DigestingReader { raw, hasher: D::new(), bytes: 0, failure: None };
    let parsed = {
        let mut text = BufReader::with_capacity(READ_BYTES, &mut source);
        if gzip {
            let text = BoundedGzipReader { decoder: MultiGzDecoder::new(text), produced: 0 };
            parse(&mut BufReader::with_capacity(READ_BYTES, text))
        } else {
            parse(&mut text)
        }
    };
    let on = source.failure.is_none() && (parsed.is_ok() || rest == UnreadBytes::Digest);
    let drained = if on { io::copy(&mut source, &mut io::sink()).err() } else { None };
    // A broken body looks like a damaged file to the parser: report the error of the read.
    if let Some(cause) = source.failure.take().or(drained) {
        return Err(ManifestError::Read { place: place.to_owned(), cause });
    }
    Ok((parsed, ReadDigest { digest: hex(&source.hasher.finalize()), bytes: source.bytes }))
}

/// Decompresses a gzip file, and fails beyond [`MAX_RATIO`].
struct BoundedGzipReader<'a, D> {
    decoder: MultiGzDecoder<BufReader<&'a mut DigestingReader<D>>>,
    produced: u64,
}

impl<D: Digest> Read for BoundedGzipReader<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.produced = self.produced.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let taken = self.decoder.get_ref().get_ref().bytes;
        if self.produced > RATIO_CHECK_BYTES && self.produced / MAX_RATIO > taken {
            let why =
                format!("it decompresses to more than {MAX_RATIO} times its size, so it is not a list of objects");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}

struct DigestingReader<D> {
    raw: BoxedReader,
    hasher: D,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<D: Digest> Read for DigestingReader<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.raw.read(buffer) {
            Ok(count) => {
                self.hasher.update(&buffer[..count]);
                self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                Ok(count)
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Err(cause),
            Err(cause) => {
                let copy = io::Error::new(cause.kind(), cause.to_string());
                self.failure = Some(cause);
                Err(copy)
            }
        }
    }
}

/// Reads a small object completely. More than `limit` bytes are an error: the wrong file, not a lack of memory.
pub(crate) async fn read_small(
    opened: OpenedObject,
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
    // One byte more than announced, to detect a longer body.
    let mut body = opened.body.take(size.saturating_add(1));
    let read = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(ManifestError::Stopped),
        read = body.read_to_end(&mut bytes) => read,
    };
    let failed = |cause| ManifestError::Read { place: place.to_owned(), cause };
    let seen = u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX);
    if seen > size {
        return Err(failed(oversized_body(size)));
    }
    if seen == size { Ok(bytes) } else { Err(failed(truncated_body(seen, size))) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::Sha256;

    use super::*;

    /// Compresses this text, and returns how many bytes of it can be decompressed again.
    fn unpacked(line: &str, lines: usize) -> Result<u64, String> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        for n in 0..lines {
            packed.write_all(line.replace('#', &format!("{n:08}")).as_bytes()).expect("packed");
        }
        let raw: BoxedReader = Box::new(io::Cursor::new(packed.finish().expect("packed")));
        let copy = |text: &mut dyn BufRead| {
            let cause = |cause| ManifestError::Read { place: "list.gz".to_owned(), cause };
            io::copy(text, &mut io::sink()).map_err(cause)
        };
        let (copied, _) =
            read_digested::<Sha256, _>(raw, true, "list.gz", UnreadBytes::Skip, copy).expect("the bytes came");
        copied.map_err(|error| error.to_string())
    }

    #[test]
    fn rejects_gzip_bombs() {
        let small = "k".repeat(1000);
        assert_eq!(unpacked(&small, 8000), Ok(8_000_000));
        let refused = unpacked(&small, 9000).expect_err("a bomb");
        assert!(refused.contains("list.gz") && refused.contains("more than 400 times"), "{refused}");
        let long = format!("bucket,{}/#.json\n", "folder".repeat(160));
        assert!(unpacked(&long, 10_000).is_ok());
    }
}
