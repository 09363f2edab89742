//! Takes listed pages into the sink, on a thread of its own, and keeps how far each range has come.

use tokio::sync::{mpsc, oneshot};

use crate::manifest::draft::{Mark, Next, RangeMark};
use crate::manifest::error::{BadRows, ManifestError};
use crate::manifest::filter::{Facts, Row};
use crate::manifest::part::Lane;
use crate::manifest::sink::Sink;
use crate::object::{Bucket, Key, VersionId};
use crate::store::{ListMark, Listed};

/// What the thread is told, in this order.
pub(super) enum Message {
    /// A page was listed.
    Page {
        /// For which range.
        lane: Lane,
        /// What is in it, and in the range.
        entries: Vec<Listed>,
        /// The last key of the range so far.
        last: Option<Key>,
        /// What the range does next.
        next: Next,
        /// Told when it has been taken.
        taken: oneshot::Sender<()>,
    },
    /// The range of this lane ends at this key from now on, and the next lane has what is behind.
    Cut {
        /// The range that is cut.
        lane: Lane,
        /// Its last key.
        at: Key,
    },
    /// Something worth saying, once.
    Warn {
        /// What.
        message: String,
        /// What to do about it.
        help: &'static str,
    },
    /// There is one range from the beginning.
    StartOver,
    /// Nothing follows, and not all is listed: what is there is kept for the next attempt.
    Keep,
}

/// The thread's state.
pub(super) struct Taker {
    bucket: Bucket,
    sink: Sink,
    bad: BadRows,
    /// The ranges in the order of their keys, each as far as it is in the sink.
    ranges: Vec<RangeMark>,
    /// Those ranges as far as their rows are on the disk.
    kept: Vec<RangeMark>,
}

impl Taker {
    /// Goes on with these ranges.
    pub(super) fn new(bucket: Bucket, sink: Sink, ranges: Vec<RangeMark>) -> Self {
        Self { bucket, sink, bad: BadRows::new(), kept: ranges.clone(), ranges }
    }

    /// Takes all there is, until nobody has anything to say any more; `listing` is its name.
    pub(super) fn run(mut self, mut messages: mpsc::Receiver<Message>, listing: &str) -> Result<Sink, ManifestError> {
        while let Some(message) = messages.blocking_recv() {
            match message {
                Message::Page { lane, entries, last, next, taken } => {
                    self.take(lane, &entries, last, next)?;
                    self.sink.page_read()?;
                    // Whoever does not wait for it has ended.
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
            // Should putting the parts in order be interrupted, it is this draft that says what the order is.
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
        // With bad rows the listing will be refused, so that there is nothing to go on with; and a listing in one range
        // is at its end when that is.
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

    /// Brings a range to the disk, which the sink has been turned to.
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
