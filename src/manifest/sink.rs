//! The destination of the rows of every source: applies the filter, and writes the rows to partitions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::begin::{Begun, Sizes, in_order};
use super::census::Census;
use super::changes::{Pile, Side};
use super::draft::{Draft, Keeper, Mark};
use super::error::{ManifestError, Warning};
use super::filter::{Row, Verdict};
use super::frozen::{self, PartInfo};
use super::glance::Glance;
use super::input::Rest;
use super::part::{Lane, MAX_BUCKET_BYTES, MAX_VERSION_BYTES, Tally, settle};
use super::prefix::Spread;
use super::reach::{Reach, Tracker};
use super::spec::Filter;
use super::stretch::Stretch;
use super::survey::Survey;
use crate::object::{Key, MAX_KEY_BYTES};
use crate::store::Store;

/// The number of rows between two checks of the stop token, which are also the progress reports.
const ROWS_A_STRIDE: u64 = 4096;

/// The number of characters that a message shows of an unsupported key.
const SHOWN: usize = 256;

/// The progress in reading a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The number of rows read from the source.
    pub read: u64,
    /// The number of rows that the filter included.
    pub taken: u64,
}

/// Accepts the rows of a source.
///
/// Rows go to one partition at a time. There is a single partition unless the source adds others.
pub(super) struct Sink {
    filter: Filter,
    store: Arc<dyn Store>,
    lanes: Vec<Stretch>,
    /// The index of the partition that rows go to now.
    current: usize,
    /// The order of the partitions in the manifest.
    order: Vec<Lane>,
    /// The total of all partitions.
    prepared: Prepared,
    progress: watch::Sender<Prepared>,
    stop: CancellationToken,
    warnings: Vec<Warning>,
    keeper: Option<Keeper>,
    home: PathBuf,
    sizes: Sizes,
    /// The cursor of the checkpoint that was loaded, for the source to resume from.
    mark: Option<Mark>,
    /// Samples every row that is included.
    survey: Option<Survey>,
    /// Set if reading stops after the first objects.
    glance: Option<Glance>,
    /// The size of a temporary file beside the parts, in bytes.
    aside: u64,
    /// If set, rows go here and not to the parts.
    pile: Option<Box<Pile>>,
}

/// The result of a freeze.
pub(super) struct Drained {
    pub(super) parts: Vec<PartInfo>,
    pub(super) read: u64,
    pub(super) warnings: Vec<Warning>,
    pub(super) reach: Reach,
    pub(super) census: Census,
    pub(super) survey: Option<Survey>,
}

/// The distance between two checkpoints: whichever limit is reached first.
///
/// Counted and not timed, so that a run can be reproduced. A checkpoint costs a few disk flushes, some tens of
/// milliseconds at worst; 64 pages of a listing take seconds, which is the time that a crash may cost. It ends the
/// current block, which would be full after as many rows anyway, so the parts do not become larger. It does not end the
/// part: the checkpoint records the length of the part, and ten billion rows need some 2,400 parts instead of 150,000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// Pages of a listing, or data files of an inventory.
    pub(super) steps: u32,
    /// Rows read, whether included or not.
    pub(super) rows: u64,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { steps: 64, rows: 65_536 }
    }
}

impl Sink {
    /// Creates a row writer that starts from `begun`.
    pub(super) fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        begun: Begun,
        progress: watch::Sender<Prepared>,
        stop: CancellationToken,
        survey: Option<Survey>,
    ) -> Self {
        let Begun { home, keeper, mut lanes, draft, sizes } = begun;
        let (warnings, mark) = draft.map_or((Vec::new(), None), |draft| (draft.warnings, Some(draft.mark)));
        if lanes.is_empty() {
            lanes.push(Stretch::new(&home, Lane(0), sizes));
        }
        let mut prepared = Prepared::default();
        for lane in &lanes {
            prepared.read += lane.prepared.read;
            prepared.taken += lane.prepared.taken;
        }
        progress.send_replace(prepared);
        let order = lanes.iter().map(Stretch::lane).collect();
        Self {
            filter,
            store,
            lanes,
            current: 0,
            order,
            prepared,
            progress,
            stop,
            warnings,
            keeper,
            home,
            sizes,
            mark,
            survey,
            glance: None,
            aside: 0,
            pile: None,
        }
    }

    /// Creates a row writer that writes nothing, and stops once enough objects have been found.
    pub(super) fn glancing(filter: Filter, store: Arc<dyn Store>, glance: Glance) -> Self {
        let sizes = Sizes { spread: Spread::default().within(Some(1)), ..Sizes::default() };
        let begun = Begun { home: PathBuf::new(), keeper: None, lanes: Vec::new(), draft: None, sizes };
        let sink = Self::new(filter, store, begun, watch::Sender::default(), CancellationToken::new(), None);
        Self { glance: Some(glance), ..sink }
    }

    /// Creates another row writer with this filter, whose rows are only collected for a comparison.
    pub(super) fn piling(&self, filter: Filter) -> Self {
        let pile = Pile::new(&self.home, self.sizes.room, self.sizes.max_disk, &self.stop);
        let begun = Begun { home: PathBuf::new(), keeper: None, lanes: Vec::new(), draft: None, sizes: self.sizes };
        let (store, progress, stop) = (Arc::clone(&self.store), self.progress.clone(), self.stop.clone());
        Self { pile: Some(Box::new(pile)), ..Self::new(filter, store, begun, progress, stop, None) }
    }

    /// Collects rows of this side from now on, with another filter.
    pub(super) fn onto(mut self, side: Side, filter: Filter) -> Self {
        if let Some(pile) = &mut self.pile {
            pile.turn(side);
        }
        Self { filter, ..self }
    }

    /// Returns the collected rows, and the warnings.
    pub(super) fn into_pile(self) -> Result<(Pile, Vec<Warning>), ManifestError> {
        let none = || ManifestError::corrupt(&self.home, "nothing was piled up in it");
        Ok((*self.pile.ok_or_else(none)?, self.warnings))
    }

    /// Adds the warnings of another row writer.
    pub(super) fn take_warnings(&mut self, warnings: Vec<Warning>) {
        self.warnings.extend(warnings);
    }

    /// Returns what to do with the rest of a file when reading stops early: skip it if only the first objects are
    /// needed.
    pub(super) fn rest(&self) -> Rest {
        if self.glance.is_some() { Rest::Leave } else { Rest::Digest }
    }

    /// Returns whether reading stops after the first objects.
    pub(super) fn glances(&self) -> bool {
        self.glance.is_some()
    }

    /// Returns the folder for temporary files. Returns `None` if nothing is written.
    pub(super) fn home(&self) -> Option<&Path> {
        if self.glance.is_some() { None } else { Some(&self.home) }
    }

    /// Sets the size of the temporary file beside the parts. Returns an error if both together exceed the limit.
    pub(super) fn set_aside(&mut self, place: &str, bytes: u64) -> Result<(), ManifestError> {
        self.aside = bytes;
        let lane = &mut self.lanes[self.current];
        lane.beside(Tally { rows: 0, bytes });
        let used = lane.tally().bytes;
        match self.sizes.max_disk {
            Some(limit) if bytes > 0 && used.saturating_add(bytes) > limit => {
                Err(ManifestError::NoRoomBeside { place: place.to_owned(), size: bytes, used, limit })
            }
            _ => Ok(()),
        }
    }

    /// Converts an exceeded limit to an error that names the temporary file, if there is one.
    pub(super) fn beside(&self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::TooLarge { used, limit, .. } if self.aside > 0 => {
                let (size, used) = (self.aside, used.saturating_sub(self.aside));
                ManifestError::NoRoomBeside { place: place.to_owned(), size, used, limit }
            }
            other => other,
        }
    }

    /// Returns the cursor that the source resumes from, if any. Returns it only once.
    pub(super) fn take_mark(&mut self) -> Option<Mark> {
        self.mark.take()
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Removes all rows: the source cannot resume.
    pub(super) fn start_over(&mut self) -> Result<(), ManifestError> {
        frozen::clear(&self.home)?;
        self.lanes = vec![Stretch::new(&self.home, Lane(0), self.sizes)];
        self.current = 0;
        self.order = vec![Lane(0)];
        self.prepared = Prepared::default();
        self.warnings.clear();
        match &mut self.survey {
            Some(survey) => survey.start_over(&self.home),
            None => Ok(()),
        }
    }

    /// Adds a partition, for rows that do not follow the last row.
    pub(super) fn add_lane(&mut self) -> Lane {
        let lane = Lane(u32::try_from(self.lanes.len()).unwrap_or(u32::MAX));
        self.lanes.push(Stretch::new(&self.home, lane, self.sizes));
        lane
    }

    /// Sets the partition that the next rows go to.
    pub(super) fn turn_to(&mut self, lane: Lane) {
        let Some(found) = self.lanes.iter().position(|it| it.lane() == lane) else { return };
        self.current = found;
        let mut others = Tally::default();
        for (place, lane) in self.lanes.iter().enumerate().filter(|_| self.sizes.max_disk.is_some()) {
            if place != found {
                let tally = lane.tally();
                others.rows += tally.rows;
                others.bytes += tally.bytes;
            }
        }
        self.lanes[found].beside(others);
    }

    /// Sets the order of the partitions in the manifest, if it differs from the order in which they were added.
    pub(super) fn set_order(&mut self, order: Vec<Lane>) {
        self.order = order;
    }

    /// Records the end of a page or data file. Returns whether a checkpoint is due.
    pub(super) fn step(&mut self) -> bool {
        self.lanes[self.current].step(self.sizes.cadence)
    }

    /// Returns the partitions with pages or data files since their last checkpoint.
    pub(super) fn ahead(&self) -> Vec<Lane> {
        self.lanes.iter().filter(|lane| lane.is_ahead()).map(Stretch::lane).collect()
    }

    /// Seals the current partition: it has all its rows.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        self.lanes[self.current].seal()
    }

    /// Syncs the rows of the current partition to disk. Does not write the checkpoint that records them.
    pub(super) fn flush(&mut self) -> Result<(), ManifestError> {
        if self.keeper.is_some() { self.lanes[self.current].keep() } else { Ok(()) }
    }

    /// Writes the checkpoint: the synced rows of each partition, and the cursor after them.
    pub(super) fn save(&self, mark: Mark) -> Result<(), ManifestError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let lanes = self.lanes.iter().map(|lane| lane.kept().clone()).collect();
        keeper.save(&Draft { lanes, warnings: self.warnings.clone(), mark })
    }

    /// Writes a checkpoint of a source with a single partition, including its rows.
    pub(super) fn keep(&mut self, mark: Mark) -> Result<(), ManifestError> {
        self.flush()?;
        self.save(mark)
    }

    /// Returns an error if the rows of a source probably exceed the limit on disk.
    ///
    /// The size of the compressed data files of an inventory is known before any of them is read. They contain more
    /// than names, so the estimate is usually too high. With a filter it is meaningless, and only the bytes actually
    /// written count.
    pub(super) fn refuse_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        match self.sizes.max_disk {
            Some(limit) if estimate > limit && self.filter.takes_all() && self.pile.is_none() => {
                Err(ManifestError::TooLargeAhead { place: place.to_owned(), estimate, limit })
            }
            _ => Ok(()),
        }
    }

    /// Extends the key ranges by the prefix that the rows were listed under.
    pub(super) fn note_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        if self.prepared.taken > 0 {
            self.lanes[self.current].tracker.note(bucket, prefix);
        }
    }

    /// Returns whether a source must report every fact it has, and not only those that the filter and the class
    /// statistics need.
    pub(super) fn surveys(&self) -> bool {
        self.survey.is_some() || self.pile.is_some()
    }

    /// Returns the filter, for a source that must know which facts to read.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn read(&self) -> u64 {
        self.prepared.read
    }

    /// Sets the number of rows read, for a source whose rows went to another row writer first.
    pub(super) fn set_read(&mut self, rows: u64) {
        self.prepared.read = rows;
        self.lanes[self.current].prepared.read = rows;
    }

    /// Returns the number of objects included so far.
    pub(super) fn taken(&self) -> u64 {
        self.prepared.taken
    }

    pub(super) fn warn(&mut self, message: String, help: &str) {
        self.warnings.push(Warning { message, help: help.to_owned() });
    }

    /// Adds a warning, unless there is one with the same message.
    pub(super) fn warn_once(&mut self, message: String, help: &str) {
        if !self.warnings.iter().any(|warning| warning.message == message) {
            self.warn(message, help);
        }
    }

    /// Records that a page of a listing was read, with or without objects.
    pub(super) fn page_read(&self) -> Result<(), ManifestError> {
        let enough = self.glance.as_ref().is_some_and(|glance| glance.has_read_page(self.prepared.read));
        if enough { Err(ManifestError::Stopped) } else { Ok(()) }
    }

    /// Counts a row that is not an object to process, such as a delete marker.
    pub(super) fn pass_over(&mut self) -> Result<(), ManifestError> {
        if self.glance.as_ref().is_some_and(|glance| glance.has_seen(self.prepared.read)) {
            return Err(ManifestError::Stopped);
        }
        self.prepared.read += 1;
        self.lanes[self.current].prepared.read += 1;
        if self.prepared.read.is_multiple_of(ROWS_A_STRIDE) {
            self.progress.send_replace(self.prepared);
            if self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(())
    }

    /// Adds a row if the filter includes it. The inner error says why the row names no object that the store can
    /// process.
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
            let shown: String = Key::new(row.key).to_string().chars().take(SHOWN).collect();
            return Ok(Err(format!("the store cannot carry the key {shown}: {why}")));
        }
        if let Some(glance) = &self.glance {
            let enough = glance.found(row, self.prepared.read);
            return if enough { Err(ManifestError::Stopped) } else { Ok(Ok(())) };
        }
        match &mut self.pile {
            Some(pile) => pile.push(row)?,
            None => self.take_named(row)?,
        }
        Ok(Ok(()))
    }

    /// Adds a row that has been checked and filtered.
    pub(super) fn take_named(&mut self, row: &Row<'_>) -> Result<(), ManifestError> {
        if let Some(limit) = self.sizes.max_objects.filter(|limit| self.prepared.taken >= *limit) {
            return Err(ManifestError::TooMany { limit, found: None });
        }
        self.prepared.taken += 1;
        if let Some(survey) = &mut self.survey {
            survey.note(row)?;
        }
        self.lanes[self.current].push(row)
    }

    /// Seals the partitions and puts them in order. The parts are on disk when this returns.
    pub(super) fn finish(mut self) -> Result<Drained, ManifestError> {
        let (mut tracker, mut census) = (Tracker::new(), Census::default());
        for lane in &mut self.lanes {
            lane.seal()?;
            tracker.take_in(&lane.tracker.reach());
            census.take_in(&lane.counter.census());
        }
        let lanes = in_order(&self.lanes, &self.order);
        if !settle(&self.home, &lanes)? {
            return Err(ManifestError::Missing { file: self.home });
        }
        self.progress.send_replace(self.prepared);
        let parts = lanes.into_iter().flat_map(|(_, parts)| parts).collect();
        let reach = tracker.reach();
        Ok(Drained { parts, read: self.prepared.read, warnings: self.warnings, reach, census, survey: self.survey })
    }
}

/// Checks the rules for names that apply to every store.
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

/// Checks a bucket name. It becomes part of a host name or a path: a malicious name in a file from elsewhere could send
/// signed requests to a foreign host.
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
