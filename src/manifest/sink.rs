//! Where every source's rows go: through the filter, and into the parts.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::begin::Begun;
use super::draft::{Draft, Keeper, Mark};
use super::error::{ManifestError, Warning};
use super::filter::{Row, Verdict};
use super::frozen::{self, PartInfo};
use super::part::{MAX_BUCKET_BYTES, MAX_VERSION_BYTES, PartsWriter};
use super::reach::{Reach, Tracker};
use super::spec::Filter;
use crate::object::{Key, MAX_KEY_BYTES};
use crate::store::Store;

/// Rows between two looks at the stop token, and two words of progress.
const ROWS_A_STRIDE: u64 = 4096;

/// How far the reading of a source has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Rows read from the source.
    pub read: u64,
    /// Rows that the filter took.
    pub taken: u64,
}

/// Takes rows until the source has no more.
pub(super) struct Sink {
    filter: Filter,
    store: Arc<dyn Store>,
    writer: PartsWriter,
    prepared: Prepared,
    progress: watch::Sender<Prepared>,
    stop: CancellationToken,
    warnings: Vec<Warning>,
    tracker: Tracker,
    checkpoints: Checkpoints,
}

/// What a sink has in the end.
pub(super) struct Drained {
    pub(super) parts: Vec<PartInfo>,
    pub(super) read: u64,
    pub(super) warnings: Vec<Warning>,
    pub(super) reach: Reach,
}

/// When a draft is written, and where.
struct Checkpoints {
    keeper: Option<Keeper>,
    home: PathBuf,
    cadence: Cadence,
    /// Steps since the last one.
    steps: u32,
    /// Rows read until the last one.
    read: u64,
    /// Where the draft that was found goes on.
    mark: Option<Mark>,
}

/// How much of a source lies between two checkpoints: whichever of the two comes first.
///
/// Counted and not timed, so that a run can be repeated. A checkpoint costs a few flushes of the disk, some tens of
/// milliseconds at worst; 64 pages of a listing take seconds, and seconds is what a crash may cost. It ends a block,
/// which is full after as many rows anyway, so that it makes the parts no larger. It does not end the part: that is
/// recorded by its length, and ten billion rows are some 2,400 parts and not 150,000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// Pages of a listing, or data files of an inventory.
    pub(super) steps: u32,
    /// Rows read, taken or not.
    pub(super) rows: u64,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { steps: 64, rows: 65_536 }
    }
}

impl Sink {
    /// Takes what the filter takes into the writer's parts.
    pub(super) fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        begun: Begun,
        progress: watch::Sender<Prepared>,
        stop: CancellationToken,
    ) -> Self {
        let Begun { home, keeper, writer, draft, cadence } = begun;
        let (prepared, warnings, reach, mark) = match draft {
            None => (Prepared::default(), Vec::new(), Reach::Known(Vec::new()), None),
            Some(draft) => (draft.prepared, draft.warnings, draft.reach, Some(draft.mark)),
        };
        let checkpoints = Checkpoints { keeper, home, cadence, steps: 0, read: prepared.read, mark };
        let tracker = Tracker::going_on(reach);
        progress.send_replace(prepared);
        Self { filter, store, writer, prepared, progress, stop, warnings, tracker, checkpoints }
    }

    /// Where the source is to go on, if it is; told once.
    pub(super) fn take_mark(&mut self) -> Option<Mark> {
        self.checkpoints.mark.take()
    }

    /// Forgets all rows: the source cannot go on where it was.
    pub(super) fn start_over(&mut self) -> Result<(), ManifestError> {
        frozen::clear(&self.checkpoints.home)?;
        self.writer = self.writer.begun_again();
        self.prepared = Prepared::default();
        self.warnings.clear();
        self.tracker = Tracker::new();
        self.checkpoints.steps = 0;
        self.checkpoints.read = 0;
        Ok(())
    }

    /// Behind a page or a data file: keeps the rows so far once there are enough of them. The source goes on at `mark`.
    pub(super) fn step(&mut self, mark: impl FnOnce() -> Mark) -> Result<(), ManifestError> {
        let Checkpoints { cadence, read, steps, .. } = &mut self.checkpoints;
        *steps += 1;
        if *steps >= cadence.steps || self.prepared.read - *read >= cadence.rows { self.keep(mark()) } else { Ok(()) }
    }

    /// Keeps the rows so far, if there was a step since they were kept last.
    pub(super) fn keep_all(&mut self, mark: Mark) -> Result<(), ManifestError> {
        if self.checkpoints.steps == 0 { Ok(()) } else { self.keep(mark) }
    }

    fn keep(&mut self, mark: Mark) -> Result<(), ManifestError> {
        self.checkpoints.steps = 0;
        self.checkpoints.read = self.prepared.read;
        let Some(keeper) = &self.checkpoints.keeper else { return Ok(()) };
        let written = self.writer.checkpoint()?;
        let (prepared, warnings, reach) = (self.prepared, self.warnings.clone(), self.tracker.reach());
        keeper.save(&Draft { prepared, written, warnings, reach, mark })
    }

    /// Refuses a source whose rows may take more than the limit on disk.
    ///
    /// Of an inventory the size of its compressed data files is known before one of them is read. They hold more than
    /// names, so that it is mostly too high a guess; with a filter it says nothing, and is left to what is written.
    pub(super) fn refuse_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        match self.writer.max_disk() {
            Some(limit) if estimate > limit && self.filter.takes_all() => {
                Err(ManifestError::TooLargeAhead { place: place.to_owned(), estimate, limit })
            }
            _ => Ok(()),
        }
    }

    /// Notes that the rows lie behind a prefix, which belongs to what they may touch.
    pub(super) fn note_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        if self.prepared.taken > 0 {
            self.tracker.note(bucket, prefix);
        }
    }

    /// The filter, for a source that must know which facts to read.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Rows read so far.
    pub(super) fn read(&self) -> u64 {
        self.prepared.read
    }

    /// Something worth saying.
    pub(super) fn warn(&mut self, message: String, help: &str) {
        self.warnings.push(Warning { message, help: help.to_owned() });
    }

    /// A row that is no object to work on, such as a delete marker: read, and left.
    pub(super) fn pass_over(&mut self) -> Result<(), ManifestError> {
        self.prepared.read += 1;
        if self.prepared.read.is_multiple_of(ROWS_A_STRIDE) {
            self.progress.send_replace(self.prepared);
            if self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(())
    }

    /// Takes or leaves one row; the inner error says why it names no object that this store could work on.
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<Result<(), String>, ManifestError> {
        self.pass_over()?;
        if let Err(why) = check_name(row) {
            return Ok(Err(why));
        }
        match self.filter.judge(row) {
            Verdict::Left => return Ok(Ok(())),
            Verdict::Unknown(fact) => return Ok(Err(format!("the filter needs {}, and it is empty", fact.noun()))),
            Verdict::Taken => {}
        }
        if let Some(why) = self.store.refuses_key(&Key::new(row.key)) {
            return Ok(Err(format!("the store cannot carry the key {}: {why}", Key::new(row.key))));
        }
        self.prepared.taken += 1;
        self.tracker.note(row.bucket, row.key);
        self.writer.push(row.bucket, row.key, row.version)?;
        Ok(Ok(()))
    }

    /// Ends the parts; they are on disk when this returns.
    pub(super) fn finish(self) -> Result<Drained, ManifestError> {
        let parts = self.writer.finish()?;
        self.progress.send_replace(self.prepared);
        let reach = self.tracker.reach();
        Ok(Drained { parts, read: self.prepared.read, warnings: self.warnings, reach })
    }
}

/// What holds for the name of every object, whatever the store.
fn check_name(row: &Row<'_>) -> Result<(), String> {
    check_bucket(row.bucket)?;
    match row.key.len() {
        0 => return Err("the key is empty".to_owned()),
        1..=MAX_KEY_BYTES => {}
        bytes => return Err(format!("the key has {bytes} bytes, and the most is {MAX_KEY_BYTES}")),
    }
    match row.version.map_or(0, str::len) {
        0..=MAX_VERSION_BYTES => Ok(()),
        bytes => Err(format!("the version id has {bytes} bytes, and the most is {MAX_VERSION_BYTES}")),
    }
}

/// A bucket's name becomes part of a host name or of a path, so that a wild one in a file from elsewhere could send
/// signed requests to a host that is not the store's.
pub(super) fn check_bucket(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() {
        return Err("the bucket is empty".to_owned());
    }
    if bucket.len() > MAX_BUCKET_BYTES {
        return Err(format!("the bucket's name has {} bytes, and the most is {MAX_BUCKET_BYTES}", bucket.len()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !bucket.bytes().all(legal) || matches!(bucket, "." | "..") {
        return Err(format!("`{}` is no name of a bucket", bucket.escape_debug()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::filter::Facts;

    #[test]
    fn names_are_checked_whatever_the_store() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let check = |bucket: &str, key: &str, version: Option<&str>| {
            check_name(&Row { bucket, key: key.as_bytes(), version, facts: Facts::default() })
        };
        assert_eq!(check("my-bucket.x_Y9", &long[1..], Some("null")), Ok(()));
        assert!(check("", "k", None).unwrap_err().contains("bucket is empty"));
        assert!(check("b", "", None).unwrap_err().contains("key is empty"));
        assert!(check("b", &long, None).unwrap_err().contains("1025 bytes"));
        assert!(check("b", "k", Some(&long)).unwrap_err().contains("version id has 1025"));
        assert!(check(&"b".repeat(256), "k", None).unwrap_err().contains("256 bytes"));
        for bucket in ["evil.example/", "a b", "b@host", "b:80", "..", "b#", "b\n", "é"] {
            assert!(check(bucket, "k", None).unwrap_err().contains("no name of a bucket"), "{bucket}");
        }
    }
}
