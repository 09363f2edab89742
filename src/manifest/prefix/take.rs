//! Consumes listed pages on a dedicated thread: writes their entries to the row writer, and records the progress of
//! each range.

use tokio::sync::{mpsc, oneshot};

use crate::manifest::draft::{Mark, Next, RangeMark};
use crate::manifest::error::{BadRows, ManifestError};
use crate::manifest::filter::{Facts, Row};
use crate::manifest::part::Lane;
use crate::manifest::sink::Sink;
use crate::object::{Bucket, Key, VersionId};
use crate::store::{ListMark, Listed};

/// The input of the thread, processed in order.
pub(super) enum Message {
    /// A listed page.
    Page {
        /// The range.
        lane: Lane,
        /// The entries that belong to the range.
        entries: Vec<Listed>,
        /// The last key of the range so far.
        last: Option<Key>,
        /// Where the range continues.
        next: Next,
        /// Signals that the page was consumed.
        taken: oneshot::Sender<()>,
    },
    /// The range now ends at this key; a new range in a new partition has the rest.
    Cut {
        /// The range that is split.
        lane: Lane,
        /// Its new last key.
        at: Key,
    },
    /// A warning, recorded only once.
    Warn {
        /// What is wrong.
        message: String,
        /// What the user can do about it.
        help: &'static str,
    },
    /// Start over with a single range.
    StartOver,
    /// The listing failed and no further message follows: save a checkpoint for the next attempt.
    Keep,
}

/// The state of the thread.
pub(super) struct Taker {
    bucket: Bucket,
    sink: Sink,
    bad: BadRows,
    /// The ranges in key order, as far as their entries have been written to the row writer.
    ranges: Vec<RangeMark>,
    /// The same ranges, as far as their rows are on disk.
    kept: Vec<RangeMark>,
}

impl Taker {
    pub(super) fn new(bucket: Bucket, sink: Sink, ranges: Vec<RangeMark>) -> Self {
        Self { bucket, sink, bad: BadRows::new(), kept: ranges.clone(), ranges }
    }

    /// Consumes messages until all senders are dropped. `listing` is the name of the listing for messages.
    pub(super) fn run(mut self, mut messages: mpsc::Receiver<Message>, listing: &str) -> Result<Sink, ManifestError> {
        while let Some(message) = messages.blocking_recv() {
            match message {
                Message::Page { lane, entries, last, next, taken } => {
                    self.take(lane, &entries, last, next)?;
                    self.sink.page_read()?;
                    // The lister may have ended without waiting for the signal.
                    let _ = taken.send(());
                    if self.bad.are_hopeless() {
                        break;
                    }
                }
                Message::Cut { lane, at } => self.cut(lane, &at),
                Message::Warn { message, help } => self.sink.warn_once(message, help),
                Message::StartOver => {
                    self.sink.start_over()?;
                    self = Self::new(self.bucket, self.sink, vec![RangeMark::whole()]);
                }
                Message::Keep => {
                    self.keep_all()?;
                    return Ok(self.sink);
                }
            }
        }
        self.bad.verdict(&format!("the listing of {listing}"))?;
        let mut taken = Self { bad: BadRows::new(), ..self };
        taken.sink.set_order(taken.ranges.iter().map(|range| range.lane).collect());
        if taken.ranges.len() > 1 && taken.ranges.iter().all(|range| range.next == Next::Done) {
            // If ordering the parts is interrupted, this checkpoint says what the order is.
            taken.keep_all()?;
        }
        Ok(taken.sink)
    }

    fn take(&mut self, lane: Lane, entries: &[Listed], last: Option<Key>, next: Next) -> Result<(), ManifestError> {
        let Some(place) = self.ranges.iter().position(|range| range.lane == lane) else { return Ok(()) };
        self.sink.turn_to(lane);
        self.push(entries)?;
        let done = next == Next::Done;
        self.ranges[place].last = last;
        self.ranges[place].next = next;
        let due = self.sink.step();
        // With bad rows the freeze will fail, so a checkpoint is useless. A listing with a single range is at its end
        // here.
        if !self.bad.are_none() || (done && self.ranges.len() == 1) {
            return Ok(());
        }
        if done {
            self.sink.seal()?;
        }
        if due || done {
            self.flush(place)?;
            self.sink.save(Mark::Listing(self.kept.clone()))?;
        }
        Ok(())
    }

    /// Syncs the rows of a range to disk. The row writer must be at the partition of the range.
    fn flush(&mut self, place: usize) -> Result<(), ManifestError> {
        self.sink.flush()?;
        self.kept[place] = self.ranges[place].clone();
        Ok(())
    }

    fn keep_all(&mut self) -> Result<(), ManifestError> {
        if !self.bad.are_none() {
            return Ok(());
        }
        let ahead = self.sink.ahead();
        if ahead.is_empty() {
            return Ok(());
        }
        for place in 0..self.ranges.len() {
            let lane = self.ranges[place].lane;
            if ahead.contains(&lane) {
                self.sink.turn_to(lane);
                if self.ranges[place].next == Next::Done {
                    self.sink.seal()?;
                }
                self.flush(place)?;
            }
        }
        self.sink.save(Mark::Listing(self.kept.clone()))
    }

    fn cut(&mut self, lane: Lane, at: &Key) {
        let Some(place) = self.ranges.iter().position(|range| range.lane == lane) else { return };
        let new = self.sink.add_lane();
        for ranges in [&mut self.ranges, &mut self.kept] {
            let until = ranges[place].until.replace(at.clone());
            let next = Next::List(Some(ListMark::After { key: at.clone(), version: None }));
            let range = RangeMark { lane: new, after: Some(at.clone()), until, last: None, next };
            ranges.insert(place + 1, range);
        }
    }

    fn push(&mut self, entries: &[Listed]) -> Result<(), ManifestError> {
        for entry in entries {
            let row = Row {
                bucket: self.bucket.as_str(),
                key: entry.key.as_bytes(),
                version: entry.version.as_ref().map(VersionId::as_str),
                facts: Facts {
                    size: Some(entry.size),
                    modified: Some(entry.modified),
                    class: Some(entry.class.as_str()),
                    etag: entry.etag.as_deref(),
                    acl: None,
                },
            };
            if let Err(why) = self.sink.push(&row)? {
                self.bad.push(self.sink.read(), self.sink.read(), why);
            }
        }
        Ok(())
    }
}
