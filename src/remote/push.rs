//! Copies what is new from the local cache to the bucket.
//!
//! What is captured are the bytes of files that make up a state at one moment, while jobs are running.
//!
//! The journal is copied first. Of a job's report, only as much is taken as that copy records: the rest is cut off when
//! the job is resumed. Of a manifest that is still being resolved, the checkpoint is read first and its parts after it,
//! so that the parts contain at least what the checkpoint says. If a file is gone when it is to be read, what was
//! captured before is out of date, and everything is captured again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use batchplan_store::Mutex;
use batchplan_store::hex::hex;
use batchplan_store::timeouts::micros;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::error::RemoteError;
use super::local_cache::{LocalCache, copy_journal, fetch_jobs, run_blocking};
use super::lock::{self, LocklessPush, MonotonicInstant};
use super::prefix_store::PrefixStore;
use super::snapshot::{
    self, ChunkedFile, JournalDigest, MAX_CHUNK_BYTES, SnapshotChunk, SnapshotFiles, StateSnapshot, is_valid_file_name,
    job_file_path, new_chunk_name,
};
use crate::files::{open_regular, with_path};
use crate::job::JobId;
use crate::journal::{JobFolder, Journal, JournalCopyJob};
use crate::paths::show_path;

/// How often files that change meanwhile are read again.
const MAX_ATTEMPTS: u32 = 5;

/// The number of chunks to upload at once.
const CONCURRENT_UPLOADS: usize = 4;

/// Pushes a local cache repeatedly.
pub(super) struct StatePusher {
    store: PrefixStore,
    pub(super) cache: LocalCache,
    journal: Journal,
    /// This process, for display.
    process_name: String,
    /// The generation under which it pushes. `pushes` is the number of pushes under it.
    generation: u64,
    /// The right to push, if there is no lock.
    lockless: Option<LocklessPush>,
    pushes: u64,
    /// Files that this process has pushed, and their state at that time. Files that are unchanged are not read again.
    pushed_files: HashMap<PathBuf, PushedFileStamp>,
    /// Chunks that were uploaded since the last snapshot, by their digest. They come from a push that was interrupted.
    uploaded_chunks: Mutex<HashMap<String, SnapshotChunk>>,
    /// What is no longer needed after the push at that moment, provided that the push counts.
    unneeded: Vec<(MonotonicInstant, Vec<String>)>,
}

/// The state of a file when it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PushedFileStamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl StatePusher {
    /// Creates the pusher of a holder that has pushed nothing yet. `lockless` is the right to push, if there is no
    /// lock.
    pub(super) fn new(
        store: PrefixStore,
        cache: LocalCache,
        journal: Journal,
        process_name: String,
        generation: u64,
        lockless: Option<LocklessPush>,
    ) -> Self {
        Self {
            store,
            cache,
            journal,
            process_name,
            generation,
            lockless,
            pushes: 0,
            pushed_files: HashMap::new(),
            uploaded_chunks: Mutex::default(),
            unneeded: Vec::new(),
        }
    }

    /// Pushes what has changed since the last push. Returns whether anything has.
    pub(super) async fn push(&mut self) -> Result<bool, RemoteError> {
        for attempt in 1..=MAX_ATTEMPTS {
            let cache = self.cache.clone();
            let missing = if attempt < MAX_ATTEMPTS { MissingFilePolicy::Fail } else { MissingFilePolicy::Skip };
            let pushed = match capture(&self.journal, missing, move |job| cache.has_job_files(job)).await {
                Ok(captured) => self.push_captured(captured).await,
                Err(error) => Err(error),
            };
            match pushed {
                Err(RemoteError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(RemoteError::ConcurrentPush) if attempt < MAX_ATTEMPTS => {}
                pushed => return pushed,
            }
        }
        Err(RemoteError::FilesKeepChanging)
    }

    async fn push_captured(&mut self, captured: CapturedState) -> Result<bool, RemoteError> {
        let started_at = Instant::now();
        if let Some(lockless) = &self.lockless {
            lockless.verify(&self.store).await?;
        }
        let before = self.cache.snapshot().cloned();
        let mut snapshot = before.clone().unwrap_or_else(StateSnapshot::empty);
        let old = std::mem::take(&mut snapshot.jobs);
        let mut here = BTreeSet::new();
        // Record files only after a complete push: a push can be interrupted at any time.
        let mut seen = HashMap::new();
        for (job, found) in captured.jobs {
            let pushed_before = old.get(&job);
            let Some(found) = found else {
                snapshot.jobs.extend(pushed_before.map(|files| (job, files.clone())));
                continue;
            };
            let mut files = SnapshotFiles::new();
            for file in found {
                let pieces = self
                    .upload_file(&file.content, pushed_before.and_then(|files| files.get(&file.name)), &mut seen)
                    .await?;
                files.insert(file.name, pieces);
            }
            here.insert(job.clone());
            snapshot.jobs.insert(job, files);
        }
        let same = before
            .as_ref()
            .is_some_and(|before| before.jobs == snapshot.jobs && before.journal_sha256 == captured.journal_sha256);
        if same {
            self.pushed_files.extend(seen);
            return Ok(false);
        }
        snapshot.journal = self.upload_file(&CapturedBytes::Inline(captured.journal), None, &mut seen).await?;
        snapshot.journal_sha256 = captured.journal_sha256;
        let snapshot = snapshot.next_push(self.generation, self.pushes, &self.process_name);
        self.pushes = snapshot.push;
        self.cache.record_pending_push(&snapshot, here.clone())?;
        snapshot.write(&self.store).await?;
        self.verify_newest(&snapshot).await?;
        let written = MonotonicInstant::now();
        self.unneeded.push((written, snapshot.superseded_objects(before.as_ref())));
        self.uploaded_chunks.get_mut().clear();
        debug!(push = snapshot.push, jobs = here.len(), us = micros(started_at.elapsed()), "state pushed");
        self.cache.record_push(snapshot, here)?;
        self.pushed_files.extend(seen);
        Ok(true)
    }

    /// Checks, after a snapshot is written, whether it is the newest. A process without a lock removes its snapshot if
    /// another process has acquired the lock or pushed since. A process with a lock pushes again.
    async fn verify_newest(&mut self, snapshot: &StateSnapshot) -> Result<(), RemoteError> {
        let beyond = snapshot::later_push(&self.store, snapshot).await?;
        let Some(lockless) = &self.lockless else {
            let Some((generation, push)) = beyond else { return Ok(()) };
            if generation == self.generation {
                self.pushes = self.pushes.max(push);
            }
            return Err(RemoteError::ConcurrentPush);
        };
        let superseded = match (lockless.verify(&self.store).await, beyond) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some((generation, push))) => {
                RemoteError::TakenOver(format!("another process (push {push} of generation {generation})"))
            }
            (Err(error), _) => error,
        };
        if matches!(superseded, RemoteError::TakenOver(_)) {
            self.store.remove(&snapshot.object_name()).await?;
        }
        Err(superseded)
    }

    /// Removes what is no longer needed after pushes before this moment, at which this process was known to hold the
    /// state. The next holder removes what cannot be removed now.
    pub(super) async fn remove_unneeded(&mut self, verified: MonotonicInstant) {
        while self.unneeded.first().is_some_and(|(written, _)| verified.is_after(*written)) {
            let (_, names) = self.unneeded.remove(0);
            for name in names {
                let _ = self.store.remove(&name).await;
            }
        }
    }

    /// Removes what earlier holders left, if a lock shows that no other process holds the state.
    pub(super) async fn remove_leftovers(&mut self, verified: MonotonicInstant) {
        self.remove_unneeded(verified).await;
        if !self.unneeded.is_empty() {
            return;
        }
        let Ok(Some(older_locks)) = lock::find_removable(&self.store, self.generation).await else { return };
        if let Some(snapshot) = self.cache.snapshot().filter(|snapshot| snapshot.generation == self.generation) {
            let _ = snapshot::remove_older(&self.store, snapshot).await;
        }
        let _ = lock::remove_locks(&self.store, older_locks).await;
    }

    /// Fetches the files of a job, unless they are in the local cache.
    pub(super) async fn fetch_job(&mut self, job: &JobId) -> Result<(), RemoteError> {
        fetch_jobs(&self.store, &mut self.cache, [job]).await
    }

    /// Returns the journal of the local cache.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
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
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: it was truncated", show_path(path))).into())
        });
        self.upload_chunk(content.await?).await
    }

    async fn upload_chunk(&self, content: Vec<u8>) -> Result<SnapshotChunk, RemoteError> {
        let sha256 = hex(&Sha256::digest(&content));
        let put_since = || self.uploaded_chunks.lock();
        if let Some(piece) = put_since().get(&sha256) {
            return Ok(piece.clone());
        }
        let piece = SnapshotChunk { name: new_chunk_name(self.generation), bytes: content.len() as u64, sha256 };
        self.store.put(&piece.name, content.into()).await?;
        put_since().insert(piece.sha256.clone(), piece.clone());
        Ok(piece)
    }
}

/// Returns the first chunks of a file, as many as still match its content.
fn matching_chunks(path: &Path, bytes: u64, pieces: Vec<SnapshotChunk>) -> Result<Vec<SnapshotChunk>, RemoteError> {
    let mut file = open_regular(path, File::options().read(true)).map_err(with_path(path))?;
    let (mut matching, mut from) = (Vec::new(), 0);
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
        matching.push(piece);
    }
    Ok(matching)
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
fn regular_file_metadata(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::symlink_metadata(path).map_err(with_path(path))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: not a regular file", show_path(path))))
}

/// The largest checkpoint or list in bytes. These files are replaced as a whole, and read into memory.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// The subfolder of a job's folder that holds its report.
const REPORT_FOLDER: &str = "report";

/// The subfolder that holds what the objects were like.
const CAPTURES_FOLDER: &str = "captures";

/// A state at one moment.
struct CapturedState {
    /// The journal, compressed. `journal_sha256` is the digest of the journal before compression.
    journal: Vec<u8>,
    journal_sha256: String,
    /// Every job of the journal, with its files if its folder was to be read.
    jobs: BTreeMap<JobId, Option<Vec<CapturedFile>>>,
}

/// A file to push.
#[derive(Debug)]
struct CapturedFile {
    /// Its path in the job's folder, with `/` as separator.
    name: String,
    content: CapturedBytes,
}

/// The bytes of a file that belong to the state.
#[derive(Debug)]
enum CapturedBytes {
    /// The bytes themselves.
    Inline(Vec<u8>),
    /// This many bytes from the start of the file.
    Prefix(PathBuf, u64),
    /// This many bytes from the start of the file. They never change while the job runs.
    AppendOnly(PathBuf, u64),
}

/// What to do if a recorded report file is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MissingFilePolicy {
    /// Fail, and capture again: the file may have been removed after publishing, and the copy of the journal does not
    /// contain that yet.
    Fail,
    /// Leave the file out: it was removed from outside.
    Skip,
}

/// Captures the journal, and the folders of the jobs that `wanted` selects.
async fn capture(
    journal: &Journal,
    missing: MissingFilePolicy,
    wanted: impl Fn(&JobId) -> bool + Send + 'static,
) -> Result<CapturedState, RemoteError> {
    let (content, jobs) = copy_journal(journal).await?;
    let state = journal.state_folder().to_owned();
    run_blocking(move || capture_files(&state, content, jobs, missing, wanted)).await
}

fn capture_files(
    state: &Path,
    mut content: Vec<u8>,
    copied: Vec<JournalCopyJob>,
    missing: MissingFilePolicy,
    wanted: impl Fn(&JobId) -> bool,
) -> Result<CapturedState, RemoteError> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&content)?;
    let journal = packer.finish()?;
    let mut digest = JournalDigest::default();
    digest.update(&mut content);
    let journal_sha256 = digest.hex();
    let mut jobs = BTreeMap::new();
    for job in copied {
        let files = if wanted(&job.id) { Some(job_files(state, &job, missing)?) } else { None };
        jobs.insert(job.id, files);
    }
    Ok(CapturedState { journal, journal_sha256, jobs })
}

/// Returns the files of one job.
fn job_files(state: &Path, job: &JournalCopyJob, missing: MissingFilePolicy) -> Result<Vec<CapturedFile>, RemoteError> {
    let folder = JobFolder::of(state, &job.id);
    let mut found = Vec::new();
    // Checkpoints come first, as described at the top of this module.
    let mut names = Vec::new();
    list_files(folder.path(), "", &mut names)?;
    for name in names.iter().filter(|name| is_checkpoint(name)) {
        if let Some(text) = read_small_file(&job_file_path(folder.path(), name))? {
            found.push(CapturedFile { name: name.clone(), content: CapturedBytes::Inline(text) });
        }
    }
    let mut parts = Vec::new();
    list_files(folder.path(), "", &mut parts)?;
    let is_part = |name: &&String| !is_checkpoint(name) && !name.starts_with(REPORT_FOLDER);
    for name in parts.iter().filter(is_part) {
        let path = job_file_path(folder.path(), name);
        let bytes = regular_file_metadata(&path)?.len();
        // The log of captures only grows. Its last group may be incomplete: no write was sent for its objects.
        let grows = name.starts_with(CAPTURES_FOLDER) && has_extension(name, "log");
        let content = if grows { CapturedBytes::AppendOnly(path, bytes) } else { CapturedBytes::Prefix(path, bytes) };
        found.push(CapturedFile { name: name.clone(), content });
    }
    for file in job.files.iter().filter(|file| !file.published) {
        let name = format!("{REPORT_FOLDER}/{}", file.name);
        if !is_valid_file_name(&name) {
            let what = "it names a report file outside the job's folder".to_owned();
            return Err(RemoteError::Damaged { name: "the journal".to_owned(), what });
        }
        let path = job_file_path(folder.path(), &name);
        let there = match regular_file_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingFilePolicy::Skip => continue,
            there => there?.len(),
        };
        if there < file.bytes {
            let what = format!("{}: {there} bytes, but {} are recorded", show_path(path), file.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
        }
        found.push(CapturedFile { name, content: CapturedBytes::AppendOnly(path, file.bytes) });
    }
    Ok(found)
}

/// Returns whether a file is a checkpoint or a list. Such files are replaced as a whole.
fn is_checkpoint(name: &str) -> bool {
    has_extension(name, "json") || has_extension(name, "toml")
}

fn has_extension(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// Collects the names of the files below a folder that can be stored in the bucket. Drafts are skipped.
fn list_files(folder: &Path, below: &str, names: &mut Vec<String>) -> Result<(), RemoteError> {
    let place = job_file_path(folder, below.trim_end_matches('/'));
    let entries = match fs::read_dir(if below.is_empty() { folder } else { &place }) {
        Ok(entries) => entries,
        // The job has no files yet, or no longer has any.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(with_path(&place)(cause).into()),
    };
    for entry in entries {
        let entry = entry.map_err(with_path(&place))?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else { continue };
        let kind = entry.file_type().map_err(with_path(&entry.path()))?;
        if kind.is_dir() && is_valid_file_name(&format!("{name}/x")) {
            list_files(folder, &format!("{name}/"), names)?;
        } else if kind.is_file() && is_valid_file_name(&name) && !has_extension(&name, "draft") {
            names.push(name);
        }
    }
    Ok(())
}

/// Reads a small file as a whole; `None` if it is gone.
fn read_small_file(path: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match open_regular(path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(with_path(path)(cause).into()),
    };
    let mut text = Vec::new();
    file.take(MAX_SMALL_FILE + 1).read_to_end(&mut text).map_err(with_path(path))?;
    if text.len() as u64 > MAX_SMALL_FILE {
        let why = format!("it has more than {MAX_SMALL_FILE} bytes, which no file of its kind has: it is damaged");
        return Err(with_path(path)(io::Error::other(why)).into());
    }
    Ok(Some(text))
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
