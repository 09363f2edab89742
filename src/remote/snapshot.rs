//! The snapshot of a state: a document that lists the chunks of its files. A reader trusts nothing in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{RemoteError, printable_name};
use super::prefix_store::PrefixStore;
use crate::job::JobId;

/// The version of the snapshot format.
const FORMAT_VERSION: u32 = 1;

/// The maximum size of a snapshot, in bytes. A hundred thousand files and chunks fit in it.
const MAX_BYTES: u64 = 64 << 20;

/// The maximum size of the files of all jobs, in bytes. A billion names take ten billion bytes.
const MAX_STATE_BYTES: u64 = 1 << 40;

/// The maximum size of the compressed journal, in bytes. Our journals stay below 64 MiB uncompressed.
const MAX_JOURNAL_BYTES: u64 = 256 << 20;

/// The maximum size of a chunk, in bytes.
pub(crate) const MAX_CHUNK_BYTES: u64 = 8 << 20;

/// A snapshot of a state, as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateSnapshot {
    version: u32,
    /// A random id, drawn when the state was created. States with different ids are unrelated.
    pub(crate) lineage: String,
    /// The generation of the lock under which it was pushed.
    pub(crate) generation: u64,
    /// The number of the push under that lock, from 1.
    pub(crate) push: u64,
    /// A random id, unique to this snapshot.
    pub(crate) id: String,
    /// The process that pushed it, for display.
    by: String,
    /// When it was pushed, by the clock of that process.
    at: Timestamp,
    /// The journal, compressed.
    pub(crate) journal: ChunkedFile,
    /// The SHA-256 of the uncompressed journal, without the counters that differ in each copy: see [`JournalDigest`].
    pub(crate) journal_sha256: String,
    /// The files of each job, by their path in its folder, with `/` as separator.
    pub(crate) jobs: BTreeMap<JobId, SnapshotFiles>,
}

pub(crate) type SnapshotFiles = BTreeMap<String, ChunkedFile>;

/// A file, split into chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkedFile {
    pub(crate) pieces: Vec<SnapshotChunk>,
}

/// A chunk of a file: an object of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotChunk {
    /// The name of the object, below the prefix.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl ChunkedFile {
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }
}

/// The last push to a state.
#[derive(Clone, Debug)]
pub struct LastPush {
    /// The generation of the lock under which it was pushed.
    pub generation: u64,
    /// The number of the push under that lock, from 1.
    pub push: u64,
    /// When it was pushed, by the clock of the process that pushed.
    pub pushed_at: Timestamp,
    /// The name that this process gave itself.
    pub pushed_by: String,
    /// The jobs, and the number of bytes stored for each.
    pub jobs: BTreeMap<JobId, u64>,
}

/// The position of a push in the order of all pushes: generation and number.
type SnapshotPosition = (u64, u64);

impl StateSnapshot {
    /// Creates the empty snapshot of a new state.
    pub(crate) fn empty() -> Self {
        Self {
            version: FORMAT_VERSION,
            lineage: random_id(),
            generation: 0,
            push: 0,
            id: random_id(),
            by: String::new(),
            at: Timestamp::UNIX_EPOCH,
            journal: ChunkedFile::default(),
            journal_sha256: String::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Returns a snapshot at the same position with only these jobs. The next push continues from there, as a new
    /// state.
    pub(crate) fn with_jobs(self, jobs: BTreeMap<JobId, SnapshotFiles>) -> Self {
        Self { jobs, journal: ChunkedFile::default(), journal_sha256: String::new(), lineage: random_id(), ..self }
    }

    /// Returns the snapshot of the next push under this lock, which is made now by this process. Its number is greater
    /// than `pushes`.
    pub(crate) fn next_push(self, generation: u64, pushes: u64, process_name: &str) -> Self {
        let push = if self.generation == generation { self.push + 1 } else { 1 };
        let (push, by) = (push.max(pushes + 1), process_name.to_owned());
        Self { generation, push, id: random_id(), by, at: Timestamp::now(), ..self }
    }

    pub(crate) fn position(&self) -> SnapshotPosition {
        (self.generation, self.push)
    }

    /// Returns when the snapshot was pushed.
    pub(crate) fn pushed_at(&self) -> Timestamp {
        self.at
    }

    /// Returns the push that wrote the snapshot.
    pub(crate) fn into_last_push(self) -> LastPush {
        let bytes = |files: SnapshotFiles| files.values().map(ChunkedFile::bytes).sum();
        LastPush {
            generation: self.generation,
            push: self.push,
            pushed_at: self.at,
            pushed_by: printable_name(&self.by),
            jobs: self.jobs.into_iter().map(|(job, files)| (job, bytes(files))).collect(),
        }
    }

    /// Describes the push that wrote the snapshot.
    pub(crate) fn describe(&self) -> String {
        let (at, by) = (self.at.strftime("%Y-%m-%dT%H:%M:%SZ"), printable_name(&self.by));
        format!("push {} of generation {} at {at} by {by}", self.push, self.generation)
    }

    /// Returns all chunks that the snapshot names.
    fn chunks(&self) -> impl Iterator<Item = &SnapshotChunk> {
        let files = self.jobs.values().flat_map(BTreeMap::values).chain([&self.journal]);
        files.flat_map(|file| &file.pieces)
    }

    /// Returns the names of all chunks.
    pub(crate) fn chunk_names(&self) -> BTreeSet<&str> {
        self.chunks().map(|piece| piece.name.as_str()).collect()
    }

    /// Returns what this push makes unnecessary: the previous snapshot, and the chunks that only it used.
    pub(crate) fn superseded_objects(&self, before: Option<&Self>) -> Vec<String> {
        let Some(before) = before.filter(|before| before.push > 0) else { return Vec::new() };
        let needed = self.chunk_names();
        let pieces = before.chunks().map(|piece| &piece.name).filter(|name| !needed.contains(name.as_str()));
        // The snapshot comes first: one without its chunks must not be found.
        [before.object_name()].into_iter().chain(pieces.cloned()).collect()
    }

    /// Returns the object name. Each push has its own, so that a write that arrives late never replaces newer data.
    pub(crate) fn object_name(&self) -> String {
        format!("heads/{:012}-{:08}-{}.json", self.generation, self.push, self.id)
    }

    /// Writes the snapshot where the next reader of the state finds it.
    pub(crate) async fn write(&self, store: &PrefixStore) -> Result<(), RemoteError> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::from)?;
        // Never write a snapshot that could not be read.
        if text.len() as u64 > MAX_BYTES || parse(&text, self.position()).is_err() {
            let what = format!("it would be unreadable, with {} bytes", text.len());
            return Err(RemoteError::Damaged { name: self.object_name(), what });
        }
        store.put(&self.object_name(), text.into()).await
    }

    /// Reads the newest snapshot; `None` if there is none.
    pub(crate) async fn read_newest(store: &PrefixStore) -> Result<Option<Self>, RemoteError> {
        const MAX_ATTEMPTS: u32 = 20;
        for _ in 0..MAX_ATTEMPTS {
            let Some((place, name)) = list_snapshots(store).await?.into_iter().max() else { return Ok(None) };
            // If this one is gone, a newer one has replaced it.
            let Some(text) = store.get(&name, MAX_BYTES).await? else { continue };
            return parse(&text, place).map(Some).map_err(|what| match what {
                SnapshotReadError::NewerVersion(version) => RemoteError::NewerVersion(version),
                SnapshotReadError::Damaged(what) => RemoteError::Damaged { name, what },
            });
        }
        Err(RemoteError::Damaged { name: "heads/".to_owned(), what: "it is listed, but does not exist".to_owned() })
    }
}

fn random_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Lists all snapshots, with their positions.
async fn list_snapshots(store: &PrefixStore) -> Result<Vec<(SnapshotPosition, String)>, RemoteError> {
    let place = |name: &str| {
        let mut parts = name.strip_prefix("heads/")?.strip_suffix(".json")?.split('-');
        let (generation, push, id) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text: &str, digits: usize| {
            let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        };
        let whole = parts.next().is_none() && is_id(id);
        Some((number(generation, 12)?, number(push, 8)?)).filter(|_| whole)
    };
    let found = store.list("heads/").await?;
    Ok(found.into_iter().filter_map(|(name, _)| place(&name).map(|place| (place, name))).collect())
}

/// Returns the generation of the newest snapshot; 0 if there is none.
pub(crate) async fn newest_generation(store: &PrefixStore) -> Result<u64, RemoteError> {
    Ok(list_snapshots(store).await?.into_iter().map(|((generation, _), _)| generation).max().unwrap_or(0))
}

/// Returns the newest other push that is not before this one.
pub(crate) async fn later_push(
    store: &PrefixStore,
    snapshot: &StateSnapshot,
) -> Result<Option<SnapshotPosition>, RemoteError> {
    let others = list_snapshots(store).await?.into_iter().filter(|(_, name)| *name != snapshot.object_name());
    Ok(others.map(|(place, _)| place).filter(|place| *place >= snapshot.position()).max())
}

/// Removes what earlier pushes left, except for the chunks that this snapshot uses. The caller must hold the state, and
/// `snapshot` must be the last push.
pub(crate) async fn remove_older(store: &PrefixStore, snapshot: &StateSnapshot) -> Result<(), RemoteError> {
    for (_, name) in list_snapshots(store).await?.into_iter().filter(|(place, _)| *place < snapshot.position()) {
        store.remove(&name).await?;
    }
    let needed = snapshot.chunk_names();
    for (name, _) in store.list("pieces/").await? {
        let ours_or_before = chunk_generation(&name).is_some_and(|generation| generation <= snapshot.generation);
        if ours_or_before && !needed.contains(name.as_str()) {
            store.remove(&name).await?;
        }
    }
    Ok(())
}

pub(crate) fn new_chunk_name(generation: u64) -> String {
    format!("pieces/{generation:012}/{}", random_id())
}

fn chunk_generation(name: &str) -> Option<u64> {
    let (generation, id) = name.strip_prefix("pieces/")?.split_once('/')?;
    let is_generation = generation.len() == 12 && generation.bytes().all(|byte| byte.is_ascii_digit());
    if is_id(id) && is_generation { generation.parse().ok() } else { None }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the path of a job's file below `folder`.
pub(crate) fn job_file_path(folder: &Path, name: &str) -> PathBuf {
    name.split('/').fold(folder.to_owned(), |path, part| path.join(part))
}

/// Returns whether a name denotes a file in a job's folder, and nothing outside of it.
pub(crate) fn is_valid_file_name(name: &str) -> bool {
    let part = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-=".contains(&byte));
        plain && (1..=128).contains(&part.len()) && !part.starts_with('.')
    };
    name.split('/').count() <= 4 && name.split('/').all(part) && name != "lease"
}

/// The part of a snapshot that can be read in any newer format.
#[derive(Deserialize)]
struct SnapshotHeader {
    version: u32,
}

/// The SHA-256 of a journal, with zeros for the counters in its header that differ between copies of the same content.
/// <https://www.sqlite.org/fileformat2.html#the_database_header>
#[derive(Default)]
pub(crate) struct JournalDigest {
    digest: Sha256,
    seen: usize,
}

impl JournalDigest {
    /// The file format versions, the file change counter, the schema cookie, and the SQLite version that wrote the file
    /// and when.
    const COUNTERS: [Range<usize>; 4] = [18..20, 24..28, 40..44, 92..100];

    pub(crate) fn update(&mut self, bytes: &mut [u8]) {
        let here = self.seen..self.seen + bytes.len();
        for at in Self::COUNTERS.into_iter().flatten().filter(|at| here.contains(at)) {
            bytes[at - here.start] = 0;
        }
        self.seen += bytes.len();
        self.digest.update(bytes);
    }

    pub(crate) fn hex(self) -> String {
        hex(&self.digest.finalize())
    }
}

enum SnapshotReadError {
    NewerVersion(u32),
    Damaged(String),
}

/// Parses a snapshot that is not trusted.
fn parse(text: &[u8], place: SnapshotPosition) -> Result<StateSnapshot, SnapshotReadError> {
    let damaged = |what: &str| SnapshotReadError::Damaged(what.to_owned());
    let SnapshotHeader { version } =
        serde_json::from_slice(text).map_err(|error| SnapshotReadError::Damaged(error.to_string()))?;
    if version > FORMAT_VERSION {
        return Err(SnapshotReadError::NewerVersion(version));
    }
    let snapshot: StateSnapshot =
        serde_json::from_slice(text).map_err(|error| SnapshotReadError::Damaged(error.to_string()))?;
    if snapshot.position() != place {
        return Err(damaged("its content does not match its name"));
    }
    if snapshot.chunks().any(|piece| piece.bytes > MAX_CHUNK_BYTES || chunk_generation(&piece.name).is_none()) {
        return Err(damaged("it names an invalid chunk"));
    }
    if snapshot
        .chunks()
        .try_fold(0_u64, |sum, piece| sum.checked_add(piece.bytes))
        .is_none_or(|sum| sum > MAX_STATE_BYTES)
    {
        return Err(damaged("its files are too large"));
    }
    if snapshot.journal.bytes() > MAX_JOURNAL_BYTES {
        return Err(damaged("its journal is too large"));
    }
    if !is_id(&snapshot.id) || !is_id(&snapshot.lineage) {
        return Err(damaged("its id is not valid"));
    }
    if snapshot.jobs.values().flat_map(BTreeMap::keys).any(|name| !is_valid_file_name(name)) {
        return Err(damaged("it names a file outside a job's folder"));
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> StateSnapshot {
        let piece = SnapshotChunk { name: new_chunk_name(3), bytes: 7, sha256: "ab".to_owned() };
        let files = SnapshotFiles::from([("report/report-0.csv".to_owned(), ChunkedFile { pieces: vec![piece] })]);
        StateSnapshot {
            generation: 3,
            push: 2,
            jobs: BTreeMap::from([(JobId::random(), files)]),
            ..StateSnapshot::empty()
        }
    }

    fn tried(change: impl FnOnce(&mut serde_json::Value)) -> Result<StateSnapshot, SnapshotReadError> {
        let mut text = serde_json::to_value(head()).expect("JSON");
        change(&mut text);
        parse(text.to_string().as_bytes(), (3, 2))
    }

    #[test]
    fn what_was_written_is_read() {
        let written = head();
        let text = serde_json::to_vec(&written).expect("JSON");
        assert!(matches!(parse(&text, (3, 2)), Ok(read) if read == written));
        assert_eq!(written.chunks().count(), 1);
    }

    #[test]
    fn names_outside_the_state_are_rejected() {
        assert!(matches!(tried(|head| head["version"] = 2.into()), Err(SnapshotReadError::NewerVersion(2))));
        assert!(matches!(tried(|head| head["generation"] = 4.into()), Err(SnapshotReadError::Damaged(_))));
        let job = |head: &mut serde_json::Value, name: &str, piece: &str, bytes: u64| {
            let job = head["jobs"].as_object_mut().expect("jobs").values_mut().next().expect("one");
            let pieces = serde_json::json!([{ "name": piece, "bytes": bytes, "sha256": "" }]);
            *job = serde_json::json!({ name: { "pieces": pieces } });
        };
        let good = new_chunk_name(1);
        for (name, piece, bytes) in [
            ("../x", good.as_str(), 1),
            ("a/../../x", &good, 1),
            ("/etc/passwd", &good, 1),
            ("a\\b", &good, 1),
            (".hidden", &good, 1),
            ("lease", &good, 1),
            ("a/b/c/d/e", &good, 1),
            ("a", "lock/000000000001.json", 1),
            ("a", "pieces/../x", 1),
            ("a", &good, MAX_CHUNK_BYTES + 1),
        ] {
            assert!(
                matches!(tried(|head| job(head, name, piece, bytes)), Err(SnapshotReadError::Damaged(_))),
                "{name} {piece}"
            );
        }
        assert!(tried(|head| job(head, "report/report-1.csv", &good, 1)).is_ok());
        for text in ["", "{", "[]", "{\"version\":1}"] {
            assert!(parse(text.as_bytes(), (1, 1)).is_err(), "{text}");
        }
        let named = |head: &mut serde_json::Value| head["jobs"] = serde_json::json!({ "../../x": {} });
        assert!(tried(named).is_err());
    }
}
