//! Copies what is new from the local cache to the bucket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use batchplan_store::hex::hex;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::capture::{CapturedBytes, CapturedState, MissingFilePolicy, capture};
use super::error::RemoteError;
use super::local_cache::LocalCache;
use super::lock::MonotonicInstant;
use super::lockless::LocklessPush;
use super::prefix_store::PrefixStore;
use super::snapshot::{
    self, ChunkedFile, MAX_CHUNK_BYTES, SnapshotChunk, SnapshotFiles, StateSnapshot, new_chunk_name,
};
use crate::files::{open_regular, with_path};
use crate::job::JobId;
use crate::journal::Journal;

/// How often files that change meanwhile are read again.
const MAX_ATTEMPTS: u32 = 5;

/// The number of chunks to upload at once.
const CONCURRENT_UPLOADS: usize = 4;

/// Pushes a local cache repeatedly.
pub(super) struct StatePusher {
    pub(super) door: PrefixStore,
    pub(super) mirror: LocalCache,
    pub(super) journal: Journal,
    /// This process, for display.
    pub(super) process_name: String,
    /// The generation under which it pushes. `pushes` is the number of pushes under it.
    pub(super) generation: u64,
    /// The right to push, if there is no lock.
    pub(super) lockless: Option<LocklessPush>,
    pub(super) pushes: u64,
    /// Files that this process has pushed, and their state at that time. Files that are unchanged are not read again.
    pub(super) pushed_files: HashMap<PathBuf, PushedFileStamp>,
    /// Chunks that were uploaded since the last snapshot, by their digest. They come from a push that was interrupted.
    pub(super) uploaded_chunks: Mutex<HashMap<String, SnapshotChunk>>,
    /// What is no longer needed after the push at that moment, provided that the push counts.
    pub(super) unneeded: Vec<(MonotonicInstant, Vec<String>)>,
}

/// The state of a file when it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PushedFileStamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl StatePusher {
    /// Pushes what has changed since the last push. Returns whether anything has.
    pub(super) async fn push(&mut self) -> Result<bool, RemoteError> {
        for look in 1..=MAX_ATTEMPTS {
            let mirror = self.mirror.clone();
            let gone = if look < MAX_ATTEMPTS { MissingFilePolicy::Fail } else { MissingFilePolicy::Skip };
            let pushed = match capture(&self.journal, gone, move |job| mirror.has_job_files(job)).await {
                Ok(captured) => self.push_captured(captured).await,
                Err(error) => Err(error),
            };
            match pushed {
                Err(RemoteError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(RemoteError::ConcurrentPush) if look < MAX_ATTEMPTS => {}
                pushed => return pushed,
            }
        }
        Err(RemoteError::FilesKeepChanging)
    }

    async fn push_captured(&mut self, captured: CapturedState) -> Result<bool, RemoteError> {
        if let Some(lockless) = &self.lockless {
            lockless.verify(&self.door).await?;
        }
        let before = self.mirror.record.head.clone();
        let mut head = before.clone().unwrap_or_else(StateSnapshot::empty);
        let old = std::mem::take(&mut head.jobs);
        let mut here = BTreeSet::new();
        // Record files only after a complete push: a push can be interrupted at any time.
        let mut seen = HashMap::new();
        for (job, found) in captured.jobs {
            let kept = old.get(&job);
            let Some(found) = found else {
                head.jobs.extend(kept.map(|files| (job, files.clone())));
                continue;
            };
            let mut files = SnapshotFiles::new();
            for file in found {
                let pieces =
                    self.upload_file(&file.content, kept.and_then(|files| files.get(&file.name)), &mut seen).await?;
                files.insert(file.name, pieces);
            }
            here.insert(job.clone());
            head.jobs.insert(job, files);
        }
        let same = before
            .as_ref()
            .is_some_and(|before| before.jobs == head.jobs && before.journal_sha256 == captured.journal_sha256);
        if same {
            self.pushed_files.extend(seen);
            return Ok(false);
        }
        head.journal = self.upload_file(&CapturedBytes::Inline(captured.journal), None, &mut seen).await?;
        head.journal_sha256 = captured.journal_sha256;
        let mut head = head.next_push(self.generation);
        head.push = head.push.max(self.pushes + 1);
        self.pushes = head.push;
        head.by.clone_from(&self.process_name);
        head.at = Timestamp::now();
        self.mirror.record.pending = Some((head.id.clone(), here.clone()));
        self.mirror.save()?;
        head.write(&self.door).await?;
        self.verify_newest(&head).await?;
        let written = MonotonicInstant::now();
        self.unneeded.push((written, unneeded_objects(before.as_ref(), &head)));
        self.uploaded_chunks.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.mirror.record.here = here;
        self.mirror.record.head = Some(head);
        self.mirror.record.pending = None;
        self.mirror.save()?;
        self.pushed_files.extend(seen);
        Ok(true)
    }

    /// Checks, after a snapshot is written, whether it is the newest. A process without a lock removes its snapshot if
    /// another process has acquired the lock or pushed since. A process with a lock pushes again.
    async fn verify_newest(&mut self, head: &StateSnapshot) -> Result<(), RemoteError> {
        let beyond = snapshot::later_push(&self.door, head).await?;
        let Some(lockless) = &self.lockless else {
            let Some((generation, push)) = beyond else { return Ok(()) };
            if generation == self.generation {
                self.pushes = self.pushes.max(push);
            }
            return Err(RemoteError::ConcurrentPush);
        };
        let superseded = match (lockless.verify(&self.door).await, beyond) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some((generation, push))) => {
                RemoteError::TakenOver(format!("another process (push {push} of generation {generation})"))
            }
            (Err(error), _) => error,
        };
        if matches!(superseded, RemoteError::TakenOver(_)) {
            self.door.remove(&head.object_name()).await?;
        }
        Err(superseded)
    }

    /// Removes what is no longer needed after pushes before this moment, at which this process was known to hold the
    /// state. The next holder removes what cannot be removed now.
    pub(super) async fn remove_unneeded(&mut self, verified: MonotonicInstant) {
        while self.unneeded.first().is_some_and(|(written, _)| verified.is_after(*written)) {
            let (_, names) = self.unneeded.remove(0);
            for name in names {
                let _ = self.door.remove(&name).await;
            }
        }
    }

    /// Returns the chunks of a file: existing ones, and new ones for the rest.
    async fn upload_file(
        &self,
        content: &CapturedBytes,
        before: Option<&ChunkedFile>,
        now_seen: &mut HashMap<PathBuf, PushedFileStamp>,
    ) -> Result<ChunkedFile, RemoteError> {
        let before = before.cloned().unwrap_or_default();
        let (path, bytes, grows) = match content {
            CapturedBytes::Inline(text) => return self.upload_inline(text, before).await,
            CapturedBytes::Prefix(path, bytes) => (path.clone(), *bytes, false),
            CapturedBytes::AppendOnly(path, bytes) => (path.clone(), *bytes, true),
        };
        let modified = regular_file_metadata(&path)?.modified().ok().filter(|_| !grows);
        let seen = self.pushed_files.get(&path).copied();
        let known = |stamp: PushedFileStamp| {
            if grows { stamp.bytes == before.bytes() } else { stamp == PushedFileStamp { bytes, modified } }
        };
        let mut pieces = if seen.is_some_and(known) && before.bytes() <= bytes {
            before.pieces
        } else {
            let path = path.clone();
            run_blocking(move || matching_chunks(&path, bytes, before.pieces)).await?
        };
        drop_small_tail(&mut pieces);
        let from: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        let starts = (from..bytes).step_by(usize::try_from(MAX_CHUNK_BYTES).unwrap_or(usize::MAX));
        let new: Vec<SnapshotChunk> = stream::iter(starts)
            .map(|start| self.upload_range(&path, start, MAX_CHUNK_BYTES.min(bytes - start)))
            .buffered(CONCURRENT_UPLOADS)
            .try_collect()
            .await?;
        pieces.extend(new);
        now_seen.insert(path, PushedFileStamp { bytes, modified });
        Ok(ChunkedFile { pieces })
    }

    async fn upload_inline(&self, text: &[u8], before: ChunkedFile) -> Result<ChunkedFile, RemoteError> {
        let mut rest = text;
        let mut pieces = Vec::new();
        for piece in before.pieces {
            let Some(there) = usize::try_from(piece.bytes).ok().and_then(|bytes| rest.get(..bytes)) else { break };
            if hex(&Sha256::digest(there)) != piece.sha256 {
                break;
            }
            rest = &rest[there.len()..];
            pieces.push(piece);
        }
        for chunk in rest.chunks(usize::try_from(MAX_CHUNK_BYTES).unwrap_or(usize::MAX)) {
            pieces.push(self.upload_chunk(chunk.to_vec()).await?);
        }
        Ok(ChunkedFile { pieces })
    }

    async fn upload_range(&self, path: &Path, start: u64, bytes: u64) -> Result<SnapshotChunk, RemoteError> {
        let path = path.to_owned();
        let content = run_blocking(move || {
            let mut file = open_regular(&path, File::options().read(true)).map_err(with_path(&path))?;
            file.seek(SeekFrom::Start(start)).map_err(with_path(&path))?;
            let mut content = Vec::new();
            file.take(bytes).read_to_end(&mut content).map_err(with_path(&path))?;
            if content.len() as u64 == bytes {
                return Ok(content);
            }
            // The file was truncated, so what was captured no longer exists.
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: it was truncated", path.display())).into())
        });
        self.upload_chunk(content.await?).await
    }

    async fn upload_chunk(&self, content: Vec<u8>) -> Result<SnapshotChunk, RemoteError> {
        let sha256 = hex(&Sha256::digest(&content));
        let put_since = || self.uploaded_chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = put_since().get(&sha256) {
            return Ok(piece.clone());
        }
        let piece = SnapshotChunk { name: new_chunk_name(self.generation), bytes: content.len() as u64, sha256 };
        self.door.put(&piece.name, content.into()).await?;
        put_since().insert(piece.sha256.clone(), piece.clone());
        Ok(piece)
    }
}

/// Returns the first chunks of a file, as many as still match its content.
fn matching_chunks(path: &Path, bytes: u64, pieces: Vec<SnapshotChunk>) -> Result<Vec<SnapshotChunk>, RemoteError> {
    let mut file = open_regular(path, File::options().read(true)).map_err(with_path(path))?;
    let (mut kept, mut from) = (Vec::new(), 0);
    let mut content = Vec::new();
    for piece in pieces {
        from += piece.bytes;
        if from > bytes {
            break;
        }
        content.clear();
        (&mut file).take(piece.bytes).read_to_end(&mut content).map_err(with_path(path))?;
        if hex(&Sha256::digest(&content)) != piece.sha256 {
            break;
        }
        kept.push(piece);
    }
    Ok(kept)
}

/// The number of small chunks that may stand at the end of a file before they are merged.
const MAX_SMALL_CHUNKS: usize = 16;

/// Drops the small chunks at the end of a file if there are many. Their content is pushed again in larger chunks.
fn drop_small_tail(pieces: &mut Vec<SnapshotChunk>) {
    let small = pieces.iter().rev().take_while(|piece| piece.bytes < MAX_CHUNK_BYTES / 2).count();
    if small > MAX_SMALL_CHUNKS {
        pieces.truncate(pieces.len() - small);
    }
}

/// Returns the metadata of a file, and fails if it is a link or no plain file.
pub(super) fn regular_file_metadata(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::symlink_metadata(path).map_err(with_path(path))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: not a regular file", path.display())))
}

/// Returns what a push makes unnecessary: the previous snapshot, and the chunks that only it used.
fn unneeded_objects(before: Option<&StateSnapshot>, head: &StateSnapshot) -> Vec<String> {
    let Some(before) = before.filter(|before| before.push > 0) else { return Vec::new() };
    let needed = head.chunk_names();
    let pieces = before.chunks().map(|piece| &piece.name).filter(|name| !needed.contains(name.as_str()));
    // The snapshot comes first: one without its chunks must not be found.
    [before.object_name()].into_iter().chain(pieces.cloned()).collect()
}

/// Runs a blocking operation on a thread of its own.
pub(super) async fn run_blocking<T: Send + 'static>(
    errand: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(errand).await.map_err(io::Error::other)?
}

/// Returns the jobs of a snapshot, and the size of their files in bytes.
pub(super) fn job_sizes(head: &StateSnapshot) -> BTreeMap<JobId, u64> {
    let bytes = |files: &SnapshotFiles| files.values().map(ChunkedFile::bytes).sum();
    head.jobs.iter().map(|(job, files)| (job.clone(), bytes(files))).collect()
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
