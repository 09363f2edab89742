//! Copies what is new from the local cache to the bucket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::capture::{Bytes, Captured, Gone, capture};
use super::door::Door;
use super::error::RemoteError;
use super::head::{self, Filed, Files, Head, PIECE, Piece, piece_name};
use super::lock::Moment;
use super::lockless::Lockless;
use super::mirror::Mirror;
use crate::files::{about, open_own};
use crate::hex::hex;
use crate::job::JobId;
use crate::journal::Journal;

/// How often files that change meanwhile are read again.
const LOOKS: u32 = 5;

/// The number of chunks to upload at once.
const AT_ONCE: usize = 4;

/// Pushes a local cache repeatedly.
pub(super) struct Pusher {
    pub(super) door: Door,
    pub(super) mirror: Mirror,
    pub(super) journal: Journal,
    /// This process, for display.
    pub(super) who: String,
    /// The generation under which it pushes. `pushes` is the number of pushes under it.
    pub(super) generation: u64,
    /// The right to push, if there is no lock.
    pub(super) lockless: Option<Lockless>,
    pub(super) pushes: u64,
    /// Files that this process has pushed, and their state at that time. Files that are unchanged are not read again.
    pub(super) seen: HashMap<PathBuf, Stamp>,
    /// Chunks that were uploaded since the last snapshot, by their digest. They come from a push that was interrupted.
    pub(super) put_since: Mutex<HashMap<String, Piece>>,
    /// What is no longer needed after the push at that moment, provided that the push counts.
    pub(super) needless: Vec<(Moment, Vec<String>)>,
}

/// The state of a file when it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Pusher {
    /// Pushes what has changed since the last push. Returns whether anything has.
    pub(super) async fn push(&mut self) -> Result<bool, RemoteError> {
        for look in 1..=LOOKS {
            let mirror = self.mirror.clone();
            let gone = if look < LOOKS { Gone::Refuse } else { Gone::LeaveOut };
            let pushed = match capture(&self.journal, gone, move |job| mirror.has(job)).await {
                Ok(captured) => self.push_captured(captured).await,
                Err(error) => Err(error),
            };
            match pushed {
                Err(RemoteError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(RemoteError::Outrun) if look < LOOKS => {}
                pushed => return pushed,
            }
        }
        Err(RemoteError::Restless)
    }

    async fn push_captured(&mut self, captured: Captured) -> Result<bool, RemoteError> {
        if let Some(lockless) = &self.lockless {
            lockless.verify(&self.door).await?;
        }
        let before = self.mirror.record.head.clone();
        let mut head = before.clone().unwrap_or_else(Head::first);
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
            let mut files = Files::new();
            for file in found {
                let pieces = self.filed(&file.content, kept.and_then(|files| files.get(&file.name)), &mut seen).await?;
                files.insert(file.name, pieces);
            }
            here.insert(job.clone());
            head.jobs.insert(job, files);
        }
        let same = before
            .as_ref()
            .is_some_and(|before| before.jobs == head.jobs && before.journal_sha256 == captured.journal_sha256);
        if same {
            self.seen.extend(seen);
            return Ok(false);
        }
        head.journal = self.filed(&Bytes::Here(captured.journal), None, &mut seen).await?;
        head.journal_sha256 = captured.journal_sha256;
        let mut head = head.next(self.generation);
        head.push = head.push.max(self.pushes + 1);
        self.pushes = head.push;
        head.by.clone_from(&self.who);
        head.at = Timestamp::now();
        self.mirror.record.pending = Some((head.id.clone(), here.clone()));
        self.mirror.save()?;
        head.write(&self.door).await?;
        self.verify_newest(&head).await?;
        let written = Moment::now();
        self.needless.push((written, needless(before.as_ref(), &head)));
        self.put_since.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.mirror.record.here = here;
        self.mirror.record.head = Some(head);
        self.mirror.record.pending = None;
        self.mirror.save()?;
        self.seen.extend(seen);
        Ok(true)
    }

    /// Checks, after a snapshot is written, whether it is the newest. A process without a lock removes its snapshot if
    /// another process has acquired the lock or pushed since. A process with a lock pushes again.
    async fn verify_newest(&mut self, head: &Head) -> Result<(), RemoteError> {
        let beyond = head::pushed_beyond(&self.door, head).await?;
        let Some(lockless) = &self.lockless else {
            let Some((generation, push)) = beyond else { return Ok(()) };
            if generation == self.generation {
                self.pushes = self.pushes.max(push);
            }
            return Err(RemoteError::Outrun);
        };
        let superseded = match (lockless.verify(&self.door).await, beyond) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some((generation, push))) => {
                RemoteError::TakenOver(format!("another process (push {push} of generation {generation})"))
            }
            (Err(error), _) => error,
        };
        if matches!(superseded, RemoteError::TakenOver(_)) {
            self.door.remove(&head.name()).await?;
        }
        Err(superseded)
    }

    /// Removes what is no longer needed after pushes before this moment, at which this process was known to hold the
    /// state. The next holder removes what cannot be removed now.
    pub(super) async fn sweep(&mut self, verified: Moment) {
        while self.needless.first().is_some_and(|(written, _)| verified.is_after(*written)) {
            let (_, names) = self.needless.remove(0);
            for name in names {
                let _ = self.door.remove(&name).await;
            }
        }
    }

    /// Returns the chunks of a file: existing ones, and new ones for the rest.
    async fn filed(
        &self,
        content: &Bytes,
        before: Option<&Filed>,
        now_seen: &mut HashMap<PathBuf, Stamp>,
    ) -> Result<Filed, RemoteError> {
        let before = before.cloned().unwrap_or_default();
        let (path, bytes, grows) = match content {
            Bytes::Here(text) => return self.filed_here(text, before).await,
            Bytes::First(path, bytes) => (path.clone(), *bytes, false),
            Bytes::Grown(path, bytes) => (path.clone(), *bytes, true),
        };
        let modified = plain_file(&path)?.modified().ok().filter(|_| !grows);
        let seen = self.seen.get(&path).copied();
        let known =
            |stamp: Stamp| if grows { stamp.bytes == before.bytes() } else { stamp == Stamp { bytes, modified } };
        let mut pieces = if seen.is_some_and(known) && before.bytes() <= bytes {
            before.pieces
        } else {
            let path = path.clone();
            blocking(move || still(&path, bytes, before.pieces)).await?
        };
        merge_tail(&mut pieces);
        let from: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        let starts = (from..bytes).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let new: Vec<Piece> = stream::iter(starts)
            .map(|start| self.piece_of(&path, start, PIECE.min(bytes - start)))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        pieces.extend(new);
        now_seen.insert(path, Stamp { bytes, modified });
        Ok(Filed { pieces })
    }

    async fn filed_here(&self, text: &[u8], before: Filed) -> Result<Filed, RemoteError> {
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
        for chunk in rest.chunks(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
            pieces.push(self.put(chunk.to_vec()).await?);
        }
        Ok(Filed { pieces })
    }

    async fn piece_of(&self, path: &Path, start: u64, bytes: u64) -> Result<Piece, RemoteError> {
        let path = path.to_owned();
        let content = blocking(move || {
            let mut file = open_own(&path, File::options().read(true)).map_err(about(&path))?;
            file.seek(SeekFrom::Start(start)).map_err(about(&path))?;
            let mut content = Vec::new();
            file.take(bytes).read_to_end(&mut content).map_err(about(&path))?;
            if content.len() as u64 == bytes {
                return Ok(content);
            }
            // The file was truncated, so what was captured no longer exists.
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: shorter than it was", path.display())).into())
        });
        self.put(content.await?).await
    }

    async fn put(&self, content: Vec<u8>) -> Result<Piece, RemoteError> {
        let sha256 = hex(&Sha256::digest(&content));
        let put_since = || self.put_since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = put_since().get(&sha256) {
            return Ok(piece.clone());
        }
        let piece = Piece { name: piece_name(self.generation), bytes: content.len() as u64, sha256 };
        self.door.put(&piece.name, content.into()).await?;
        put_since().insert(piece.sha256.clone(), piece.clone());
        Ok(piece)
    }
}

/// Returns the first chunks of a file, as many as still match its content.
fn still(path: &Path, bytes: u64, pieces: Vec<Piece>) -> Result<Vec<Piece>, RemoteError> {
    let mut file = open_own(path, File::options().read(true)).map_err(about(path))?;
    let (mut kept, mut from) = (Vec::new(), 0);
    let mut content = Vec::new();
    for piece in pieces {
        from += piece.bytes;
        if from > bytes {
            break;
        }
        content.clear();
        (&mut file).take(piece.bytes).read_to_end(&mut content).map_err(about(path))?;
        if hex(&Sha256::digest(&content)) != piece.sha256 {
            break;
        }
        kept.push(piece);
    }
    Ok(kept)
}

/// The number of small chunks that may stand at the end of a file before they are merged.
const SMALL_PIECES: usize = 16;

/// Drops the small chunks at the end of a file if there are many. Their content is pushed again in larger chunks.
fn merge_tail(pieces: &mut Vec<Piece>) {
    let small = pieces.iter().rev().take_while(|piece| piece.bytes < PIECE / 2).count();
    if small > SMALL_PIECES {
        pieces.truncate(pieces.len() - small);
    }
}

/// Returns the metadata of a file, and fails if it is a link or no plain file.
pub(super) fn plain_file(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::symlink_metadata(path).map_err(about(path))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: is no plain file", path.display())))
}

/// Returns what a push makes unnecessary: the previous snapshot, and the chunks that only it used.
fn needless(before: Option<&Head>, head: &Head) -> Vec<String> {
    let Some(before) = before.filter(|before| before.push > 0) else { return Vec::new() };
    let needed = head.names();
    let pieces = before.pieces().map(|piece| &piece.name).filter(|name| !needed.contains(name.as_str()));
    // The snapshot comes first: one without its chunks must not be found.
    [before.name()].into_iter().chain(pieces.cloned()).collect()
}

/// Runs a blocking operation on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    errand: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    tokio::task::spawn_blocking(errand).await.map_err(io::Error::other)?
}

/// Returns the jobs of a snapshot, and the size of their files in bytes.
pub(super) fn sizes(head: &Head) -> BTreeMap<JobId, u64> {
    let bytes = |files: &Files| files.values().map(Filed::bytes).sum();
    head.jobs.iter().map(|(job, files)| (job.clone(), bytes(files))).collect()
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
