//! Consumes listed pages on a dedicated thread: passes their entries to the visitor, and records the progress of
//! each range.

use batchplan_store::object::{BucketName, ObjectKey, VersionId};
use batchplan_store::{InexactName, ListPosition, ListedObject};
use tokio::sync::{mpsc, oneshot};

use crate::manifest::error::{MAX_BAD_ROWS, MAX_SHOWN_ROWS, ManifestError, UnlistableKey};
use crate::manifest::filter::{FilterDecision, ManifestRow, RowMetadata};
use crate::manifest::row_visitor::{
    PartitionId, RangeCursor, RangePosition, RowFlow, RowVisitor, SourceCursor, shown_key,
};
use crate::manifest::spec::OnUnlistable;

/// The input of the thread, processed in order.
pub(super) enum ListingMessage {
    /// A listed page.
    Page {
        /// The range.
        partition: PartitionId,
        /// The entries that belong to the range.
        entries: Vec<ListedObject>,
        /// The last key of the range so far.
        last: Option<ObjectKey>,
        /// Where the range continues.
        next: RangePosition,
        /// Signals that the page was consumed.
        consumed: oneshot::Sender<()>,
    },
    /// The range now ends at this key; a new range in a new partition has the rest.
    Split {
        /// The range that is split.
        partition: PartitionId,
        /// Its new last key.
        at: ObjectKey,
    },
    /// A warning, recorded only once.
    Warn {
        /// What is wrong.
        message: String,
        /// What the user can do about it.
        help: &'static str,
    },
    /// Start over with a single range.
    Restart,
    /// The listing failed and no further message follows: save a checkpoint for the next attempt.
    SaveCheckpoint,
}

/// Consumes messages until all senders are dropped. `listing` is the name of the listing for messages.
pub(super) fn consume_pages<V: RowVisitor>(
    (bucket, on_unlistable): (BucketName, OnUnlistable),
    visitor: V,
    ranges: Vec<RangeCursor>,
    messages: mpsc::Receiver<ListingMessage>,
    listing: &str,
) -> Result<V, ManifestError> {
    PageConsumer::new((bucket, on_unlistable), listing, visitor, ranges).run(messages)
}

/// The state of the thread.
struct PageConsumer<'a, V> {
    bucket: BucketName,
    on_unlistable: OnUnlistable,
    /// The name of the listing for messages.
    listing: &'a str,
    visitor: V,
    /// The keys that end the listing with an error, and the first of them.
    unlistable: (u64, Vec<UnlistableKey>),
    /// Whether the last page ended with an entry whose name is not exact. Then its range cannot resume after that
    /// entry, so this state is not saved.
    ends_inexact: bool,
    /// The ranges in key order, as far as their entries have been passed to the visitor.
    ranges: Vec<RangeCursor>,
    /// The same ranges, as far as their rows are on disk.
    saved_ranges: Vec<RangeCursor>,
}

impl<'a, V: RowVisitor> PageConsumer<'a, V> {
    fn new(
        (bucket, on_unlistable): (BucketName, OnUnlistable),
        listing: &'a str,
        visitor: V,
        ranges: Vec<RangeCursor>,
    ) -> Self {
        Self {
            bucket,
            on_unlistable,
            listing,
            visitor,
            unlistable: (0, Vec::new()),
            ends_inexact: false,
            saved_ranges: ranges.clone(),
            ranges,
        }
    }

    fn run(mut self, mut messages: mpsc::Receiver<ListingMessage>) -> Result<V, ManifestError> {
        while let Some(message) = messages.blocking_recv() {
            match message {
                ListingMessage::Page { partition, entries, last, next, consumed } => {
                    self.write_page(partition, &entries, last, next)?;
                    if self.visitor.count_page() == RowFlow::Stop {
                        return Err(ManifestError::Stopped);
                    }
                    // The lister may have ended without waiting for the signal.
                    let _ = consumed.send(());
                    if self.unlistable.0 >= MAX_BAD_ROWS {
                        break;
                    }
                }
                ListingMessage::Split { partition, at } => self.split(partition, &at),
                ListingMessage::Warn { message, help } => self.visitor.intake_mut().warn_once(message, help),
                ListingMessage::Restart => {
                    self.visitor.restart()?;
                    let unstarted = vec![RangeCursor::unstarted()];
                    self = Self::new((self.bucket, self.on_unlistable), self.listing, self.visitor, unstarted);
                }
                ListingMessage::SaveCheckpoint => {
                    self.save_checkpoint()?;
                    return Ok(self.visitor);
                }
            }
        }
        if self.unlistable.0 > 0 {
            let (total, first) = self.unlistable;
            return Err(ManifestError::UnlistableKeys { place: self.listing.to_owned(), total, first });
        }
        self.visitor.set_partition_order(self.ranges.iter().map(|range| range.partition).collect());
        if self.ranges.len() > 1 && self.ranges.iter().all(|range| range.position == RangePosition::Finished) {
            // If ordering the parts is interrupted, this checkpoint says what the order is.
            self.save_checkpoint()?;
        }
        Ok(self.visitor)
    }

    fn write_page(
        &mut self,
        partition: PartitionId,
        entries: &[ListedObject],
        last: Option<ObjectKey>,
        next: RangePosition,
    ) -> Result<(), ManifestError> {
        let Some(place) = self.ranges.iter().position(|range| range.partition == partition) else { return Ok(()) };
        self.visitor.select_partition(partition);
        self.write_entries(entries)?;
        let done = next == RangePosition::Finished;
        self.ranges[place].last = last;
        self.ranges[place].position = next;
        self.ends_inexact = entries.last().is_some_and(|last| last.inexact.is_some());
        let due = self.visitor.save_due();
        // A listing with a single range is at its end here.
        if !self.can_save() || (done && self.ranges.len() == 1) {
            return Ok(());
        }
        if done {
            self.visitor.seal_partition()?;
        }
        if due || done {
            self.sync_range(place)?;
            self.visitor.save_cursor(SourceCursor::Listing(self.saved_ranges.clone()))?;
        }
        Ok(())
    }

    /// Returns whether a checkpoint of this state is useful. With keys that end the listing it is not.
    fn can_save(&self) -> bool {
        self.unlistable.0 == 0 && !self.ends_inexact
    }

    /// Syncs the rows of a range to disk. The visitor must be at the partition of the range.
    fn sync_range(&mut self, place: usize) -> Result<(), ManifestError> {
        self.visitor.sync_partition()?;
        self.saved_ranges[place] = self.ranges[place].clone();
        Ok(())
    }

    fn save_checkpoint(&mut self) -> Result<(), ManifestError> {
        if !self.can_save() {
            return Ok(());
        }
        let unsaved = self.visitor.unsaved_partitions();
        if unsaved.is_empty() {
            return Ok(());
        }
        for place in 0..self.ranges.len() {
            let partition = self.ranges[place].partition;
            if unsaved.contains(&partition) {
                self.visitor.select_partition(partition);
                if self.ranges[place].position == RangePosition::Finished {
                    self.visitor.seal_partition()?;
                }
                self.sync_range(place)?;
            }
        }
        self.visitor.save_cursor(SourceCursor::Listing(self.saved_ranges.clone()))
    }

    fn split(&mut self, partition: PartitionId, at: &ObjectKey) {
        let Some(place) = self.ranges.iter().position(|range| range.partition == partition) else { return };
        let new = self.visitor.add_partition();
        for ranges in [&mut self.ranges, &mut self.saved_ranges] {
            let until = ranges[place].until.replace(at.clone());
            let next = RangePosition::ListFrom(Some(ListPosition::After { key: at.clone(), version: None }));
            let range = RangeCursor { partition: new, after: Some(at.clone()), until, last: None, position: next };
            ranges.insert(place + 1, range);
        }
    }

    fn write_entries(&mut self, entries: &[ListedObject]) -> Result<(), ManifestError> {
        for entry in entries {
            let row = ManifestRow {
                bucket: self.bucket.as_str(),
                key: entry.key.as_bytes(),
                version: entry.version.as_ref().map(VersionId::as_str),
                metadata: RowMetadata {
                    size: entry.size,
                    modified: entry.last_modified,
                    class: Some(entry.class.as_str()),
                    etag: entry.etag.as_deref(),
                    acl: None,
                    origin: None,
                },
            };
            if entry.size.is_none() || entry.last_modified.is_none() {
                self.require_facts(&row, entry.inexact)?;
            }
            match self.visitor.visit_listed(&row, entry.inexact, self.on_unlistable)? {
                RowFlow::Continue => {}
                RowFlow::Invalid(why) => self.record_unlistable(entry.key.as_bytes(), why),
                RowFlow::Stop => return Err(ManifestError::Stopped),
            }
        }
        Ok(())
    }

    /// Returns an error if the filter needs what the listing does not say of an object. Some servers list objects
    /// without sizes or dates, which matters only to a filter for them.
    fn require_facts(&self, row: &ManifestRow<'_>, inexact: Option<InexactName>) -> Result<(), ManifestError> {
        let filter = self.visitor.intake().filter();
        let FilterDecision::Unknown(fact) = filter.evaluate_listed(row, inexact) else { return Ok(()) };
        let (condition, key) = (filter.condition_for(fact), shown_key(row.key));
        Err(ManifestError::MissingFact {
            what: format!(
                "the filter's {condition} needs {}, but the listing of {} has none for {key}",
                fact.label(),
                self.listing
            ),
            help: format!("remove {condition} from [manifest.filter], or use [manifest.inventory]"),
        })
    }

    fn record_unlistable(&mut self, key: &[u8], why: String) {
        let (total, first) = &mut self.unlistable;
        *total += 1;
        if first.len() < MAX_SHOWN_ROWS {
            let entry = self.visitor.intake().rows_read();
            first.push(UnlistableKey { entry, key: shown_key(key), why });
        }
    }
}
