//! How far a source was read: partitions of its rows, and the positions where reading resumes.

use batchplan_store::ListPosition;
use batchplan_store::object::ObjectKey;

/// The number of a partition: the rows of a source that is read sequentially, or of one range of a listing. Partition 0
/// has the first rows of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartitionId(pub(super) u32);

/// The position in the source where an unfinished freeze resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceCursor {
    /// After a page of each range of a listing. In key order, the ranges cover the prefix without gaps.
    Listing(Vec<RangeCursor>),
    /// After a data file of an inventory.
    Inventory {
        /// The key of its `manifest.json`.
        key: ObjectKey,
        /// The `ETag` of the `manifest.json`, without quotes.
        etag: String,
        /// The number of data files that have been read.
        files: usize,
        /// The first row with a raw `+`, and the number of such rows.
        raw_plus: Option<(String, u64)>,
    },
}

/// The progress in one range of a listing: the keys after `after`, up to and including `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeCursor {
    /// The partition that holds its rows.
    pub(super) partition: PartitionId,
    /// `None` is the beginning of the prefix.
    pub(super) after: Option<ObjectKey>,
    /// `None` is the end of the prefix.
    pub(super) until: Option<ObjectKey>,
    /// The last key that was listed.
    pub(super) last: Option<ObjectKey>,
    /// The next request for the range.
    pub(super) position: RangePosition,
}

/// Where the listing of a range continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RangePosition {
    /// List from here; `None` is the beginning of the prefix.
    ListFrom(Option<ListPosition>),
    /// The range has been listed to its end.
    Finished,
}

impl RangeCursor {
    /// Returns the position of a listing that has not started.
    pub(super) fn unstarted() -> Self {
        Self {
            partition: PartitionId(0),
            after: None,
            until: None,
            last: None,
            position: RangePosition::ListFrom(None),
        }
    }
}
