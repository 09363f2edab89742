//! Where every source's rows go: through the filter, and into the parts.

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

/// Rows between two looks at the stop token, and two words of progress.
const ROWS_A_STRIDE: u64 = 4096;

/// Characters of a key that is too long to be one.
const SHOWN: usize = 256;

/// How far the reading of a source has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Rows read from the source.
    pub read: u64,
    /// Rows that the filter took.
    pub taken: u64,
}

/// Takes rows until the source has no more.
///
/// Rows go to one lane at a time: the only one, unless the source adds others.
pub(super) struct Sink {
    filter: Filter,
    store: Arc<dyn Store>,
    lanes: Vec<Stretch>,
    /// Where rows go now.
    current: usize,
    /// The order of the lanes' rows in the manifest.
    order: Vec<Lane>,
    /// Of all lanes together.
    prepared: Prepared,
    progress: watch::Sender<Prepared>,
    stop: CancellationToken,
    warnings: Vec<Warning>,
    keeper: Option<Keeper>,
    home: PathBuf,
    sizes: Sizes,
    /// Where the draft that was found goes on.
    mark: Option<Mark>,
    /// Looks at every row that is taken.
    survey: Option<Survey>,
    /// Set where it is to stop at the first object.
    glance: Option<Glance>,
    /// What a file takes on disk beside the parts, in bytes.
    aside: u64,
    /// Where rows go instead of the parts, if they do.
    pile: Option<Box<Pile>>,
}

/// What a sink has in the end.
pub(super) struct Drained {
    pub(super) parts: Vec<PartInfo>,
    pub(super) read: u64,
    pub(super) warnings: Vec<Warning>,
    pub(super) reach: Reach,
    pub(super) census: Census,
    pub(super) survey: Option<Survey>,
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

    /// Takes nothing, writes nothing, and stops at the first object that the filter takes, or after so many rows.
    pub(super) fn glancing(filter: Filter, store: Arc<dyn Store>, glance: Glance) -> Self {
        let sizes = Sizes { spread: Spread::default().within(Some(1)), ..Sizes::default() };
        let begun = Begun { home: PathBuf::new(), keeper: None, lanes: Vec::new(), draft: None, sizes };
        let sink = Self::new(filter, store, begun, watch::Sender::default(), CancellationToken::new(), None);
        Self { glance: Some(glance), ..sink }
    }

    /// Another one, through this filter, whose rows go onto a pile to be compared, and are worked on by nobody.
    pub(super) fn piling(&self, filter: Filter) -> Self {
        let pile = Pile::new(&self.home, self.sizes.room, self.sizes.max_disk, &self.stop);
        let begun = Begun { home: PathBuf::new(), keeper: None, lanes: Vec::new(), draft: None, sizes: self.sizes };
        let (store, progress, stop) = (Arc::clone(&self.store), self.progress.clone(), self.stop.clone());
        Self { pile: Some(Box::new(pile)), ..Self::new(filter, store, begun, progress, stop, None) }
    }

    /// Piles up rows of this side from now on, through another filter.
    pub(super) fn onto(mut self, side: Side, filter: Filter) -> Self {
        if let Some(pile) = &mut self.pile {
            pile.turn(side);
        }
        Self { filter, ..self }
    }

    /// What was piled up, and what is worth saying of it.
    pub(super) fn into_pile(self) -> Result<(Pile, Vec<Warning>), ManifestError> {
        let none = || ManifestError::corrupt(&self.home, "nothing was piled up in it");
        Ok((*self.pile.ok_or_else(none)?, self.warnings))
    }

    /// Adds what another one has to say.
    pub(super) fn take_warnings(&mut self, warnings: Vec<Warning>) {
        self.warnings.extend(warnings);
    }

    /// What is to become of the rest of a file whose rows are not read on: where a glance is enough, nothing.
    pub(super) fn rest(&self) -> Rest {
        if self.glance.is_some() { Rest::Leave } else { Rest::Digest }
    }

    /// Whether it stops at the first object that the filter takes.
    pub(super) fn glances(&self) -> bool {
        self.glance.is_some()
    }

    /// Where files may be kept for a while; `None` where nothing is written.
    pub(super) fn home(&self) -> Option<&Path> {
        if self.glance.is_some() { None } else { Some(&self.home) }
    }

    /// Counts a file of so many bytes as taking room beside the names, instead of the one before.
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

    /// Names the file that takes the room which is not there.
    pub(super) fn beside(&self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::TooLarge { used, limit, .. } if self.aside > 0 => {
                let (size, used) = (self.aside, used.saturating_sub(self.aside));
                ManifestError::NoRoomBeside { place: place.to_owned(), size, used, limit }
            }
            other => other,
        }
    }

    /// Where the source is to go on, if it is; told once.
    pub(super) fn take_mark(&mut self) -> Option<Mark> {
        self.mark.take()
    }

    /// The sizes that it works in.
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Forgets all rows: the source cannot go on where it was.
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

    /// A new lane, for rows that are not to stand behind the last.
    pub(super) fn add_lane(&mut self) -> Lane {
        let lane = Lane(u32::try_from(self.lanes.len()).unwrap_or(u32::MAX));
        self.lanes.push(Stretch::new(&self.home, lane, self.sizes));
        lane
    }

    /// Sends the rows that follow into this lane.
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

    /// The order of the lanes in the manifest, where it is not that in which they were added.
    pub(super) fn set_order(&mut self, order: Vec<Lane>) {
        self.order = order;
    }

    /// Behind a page or a data file: whether there are rows enough to be kept.
    pub(super) fn step(&mut self) -> bool {
        self.lanes[self.current].step(self.sizes.cadence)
    }

    /// The lanes with a step since their rows were kept last.
    pub(super) fn ahead(&self) -> Vec<Lane> {
        self.lanes.iter().filter(|lane| lane.is_ahead()).map(Stretch::lane).collect()
    }

    /// Ends the parts of the lane in hand: all its rows are there.
    pub(super) fn seal(&mut self) -> Result<(), ManifestError> {
        self.lanes[self.current].seal()
    }

    /// Brings the rows of the lane in hand to the disk; a draft that is to tell of them is still to be written.
    pub(super) fn flush(&mut self) -> Result<(), ManifestError> {
        if self.keeper.is_some() { self.lanes[self.current].keep() } else { Ok(()) }
    }

    /// Writes the draft: what was flushed of each lane, and where the source goes on behind that.
    pub(super) fn save(&self, mark: Mark) -> Result<(), ManifestError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let lanes = self.lanes.iter().map(|lane| lane.kept().clone()).collect();
        keeper.save(&Draft { lanes, warnings: self.warnings.clone(), mark })
    }

    /// Keeps the rows of a source that has one lane.
    pub(super) fn keep(&mut self, mark: Mark) -> Result<(), ManifestError> {
        self.flush()?;
        self.save(mark)
    }

    /// Refuses a source whose rows may take more than the limit on disk.
    ///
    /// Of an inventory the size of its compressed data files is known before one of them is read. They hold more than
    /// names, so that it is mostly too high a guess; with a filter it says nothing, and is left to what is written.
    pub(super) fn refuse_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        match self.sizes.max_disk {
            Some(limit) if estimate > limit && self.filter.takes_all() && self.pile.is_none() => {
                Err(ManifestError::TooLargeAhead { place: place.to_owned(), estimate, limit })
            }
            _ => Ok(()),
        }
    }

    /// Notes that the rows lie behind a prefix, which belongs to what they may touch.
    pub(super) fn note_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        if self.prepared.taken > 0 {
            self.lanes[self.current].tracker.note(bucket, prefix);
        }
    }

    /// Whether every fact is looked at that the source tells, and not only what the filter and the census need.
    pub(super) fn surveys(&self) -> bool {
        self.survey.is_some() || self.pile.is_some()
    }

    /// The filter, for a source that must know which facts to read.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Rows read so far.
    pub(super) fn read(&self) -> u64 {
        self.prepared.read
    }

    /// Says how many rows its source has, where they came by another way.
    pub(super) fn set_read(&mut self, rows: u64) {
        self.prepared.read = rows;
        self.lanes[self.current].prepared.read = rows;
    }

    /// Objects taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.prepared.taken
    }

    /// Something worth saying.
    pub(super) fn warn(&mut self, message: String, help: &str) {
        self.warnings.push(Warning { message, help: help.to_owned() });
    }

    /// Something worth saying that may have been said already.
    pub(super) fn warn_once(&mut self, message: String, help: &str) {
        if !self.warnings.iter().any(|warning| warning.message == message) {
            self.warn(message, help);
        }
    }

    /// A page of a listing was read, with objects or without.
    pub(super) fn page_read(&self) -> Result<(), ManifestError> {
        let enough = self.glance.as_ref().is_some_and(|glance| glance.has_read_page(self.prepared.read));
        if enough { Err(ManifestError::Stopped) } else { Ok(()) }
    }

    /// A row that is no object to work on, such as a delete marker: read, and left.
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

    /// Takes a row that was checked and judged.
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

    /// Ends the parts and puts them in order; they are on disk when this returns.
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
