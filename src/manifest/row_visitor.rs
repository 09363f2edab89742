//! What sources feed with rows: a visitor receives one row after the other and says whether reading continues.
//!
//! A row may name an object that no request can name. In a file that is a mistake, and the whole file is rejected. A
//! listing may include such a row as unlistable: it becomes a task that fails without a request.
//!
//! A source knows nothing of what becomes of its rows. They may be frozen, sorted for a comparison, or shown as the
//! first objects of the manifest. A visitor that saves how far a source was read receives the partitions of its rows
//! and the positions where reading resumes.

use std::path::PathBuf;
use std::sync::Arc;

use batchplan_store::object::{BucketName, MAX_KEY_BYTES, ObjectKey};
use batchplan_store::{InexactName, ListPosition, Store, UnsupportedBucket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::{BadRow, MAX_BAD_ROWS, MAX_SHOWN_ROWS, ManifestError, ManifestWarning};
use super::filter::{Filter, FilterDecision, FilterFact, ManifestRow};
use super::sort::SortBudget;
use super::spec::OnUnlistable;

/// The maximum length of a version id, in bytes.
pub(crate) const MAX_VERSION_BYTES: usize = 1024;

/// The maximum length of a bucket name, in bytes: the limit of AWS in its first years.
pub(crate) const MAX_BUCKET_BYTES: usize = 255;

/// The number of rows between two checks of the stop token, which are also the progress reports.
const STOP_CHECK_INTERVAL: u64 = 4096;

/// The number of characters that a message shows of a key or another field.
const MAX_SHOWN_CHARS: usize = 256;

/// The progress in reading a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeProgress {
    /// The number of rows read from the source.
    pub rows_read: u64,
    /// The number of rows that the filter included.
    pub rows_included: u64,
}

/// How a source continues after a row or a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum RowFlow {
    /// Read the next row.
    Continue,
    /// The row names no object that the store can process; contains the reason. Report it, and read the next row.
    Invalid(String),
    /// No further row is needed: end as if stopped.
    Stop,
}

/// Where a source may put temporary files.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScratchSpace {
    /// `None` means the system's folder for temporary files.
    pub(crate) folder: Option<PathBuf>,
    /// The memory and the number of runs that a sort may use.
    pub(crate) sort_budget: SortBudget,
    /// The maximum size on disk in bytes; `None` means no limit.
    pub(crate) max_disk: Option<u64>,
}

/// Receives the rows of a source.
pub(crate) trait RowVisitor: ResumableReading + Send + 'static {
    fn intake(&self) -> &RowIntake;

    fn intake_mut(&mut self) -> &mut RowIntake;

    /// Counts a row, before anything else is done with it. A row that is not an object to process, such as a delete
    /// marker, is only counted.
    fn count_row(&mut self) -> Result<RowFlow, ManifestError>;

    /// Receives a row that has been counted, checked, and included by the filter.
    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError>;

    /// Receives a row that has been counted and included, but names an object that no request can name; `why` says
    /// why. A visitor that cannot keep such a row rejects it.
    fn include_unlistable(&mut self, _row: &ManifestRow<'_>, why: &str) -> Result<RowFlow, ManifestError> {
        Ok(RowFlow::Invalid(why.to_owned()))
    }

    /// Receives a row of a listing. `inexact` says why the row's name may not be the object's own.
    fn visit_listed(
        &mut self,
        row: &ManifestRow<'_>,
        inexact: Option<InexactName>,
        on_unlistable: OnUnlistable,
    ) -> Result<RowFlow, ManifestError> {
        match self.count_row()? {
            RowFlow::Continue => {}
            other => return Ok(other),
        }
        match (self.intake().is_listed_included(row, inexact), on_unlistable) {
            (Ok(true), _) => self.include(row),
            (Ok(false), _) => {
                self.intake_mut().warn_of_own_report(row);
                Ok(RowFlow::Continue)
            }
            (Err(why), OnUnlistable::Fail) => Ok(RowFlow::Invalid(why)),
            (Err(why), OnUnlistable::Report) => self.include_unlistable(row, &why),
        }
    }

    /// Receives a row that an earlier job included as unlistable. It stays unlistable, because its name may not be the
    /// object's own, and its reason is found again if the name shows it.
    fn visit_unlistable(&mut self, row: &ManifestRow<'_>, known: Option<&str>) -> Result<RowFlow, ManifestError> {
        match self.count_row()? {
            RowFlow::Continue => {}
            other => return Ok(other),
        }
        if let Err(why) = check_bucket(row.bucket, self.intake().store.has_tenants()) {
            return Ok(RowFlow::Invalid(why));
        }
        if self.intake().filter().evaluate(row) == FilterDecision::Excluded {
            return Ok(RowFlow::Continue);
        }
        let found = self.intake().unnamable_reason(row);
        let why = known.or(found.as_deref()).unwrap_or("an earlier listing did not show the key exactly");
        self.include_unlistable(row, why)
    }

    /// Receives a row of the source.
    fn visit(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        match self.count_row()? {
            RowFlow::Continue => {}
            other => return Ok(other),
        }
        match self.intake().is_included(row) {
            Ok(true) => self.include(row),
            Ok(false) => Ok(RowFlow::Continue),
            Err(why) => Ok(RowFlow::Invalid(why)),
        }
    }

    /// Records that a page of a listing was read, with or without objects.
    fn count_page(&mut self) -> RowFlow {
        RowFlow::Continue
    }

    /// Records the prefix that all rows were listed under.
    fn set_listed_prefix(&mut self, _bucket: &str, _prefix: &[u8]) {}

    /// Sets the number of rows read, for a source whose rows went to another visitor first.
    fn set_rows_read(&mut self, rows: u64) {
        self.intake_mut().set_rows_read(rows);
    }

    /// Returns whether a source must report every fact it has, and not only those that the filter and the class
    /// statistics need.
    fn needs_all_metadata(&self) -> bool {
        false
    }

    /// Returns whether all rows are needed, and not only some.
    fn needs_all_rows(&self) -> bool {
        true
    }

    fn scratch(&self) -> ScratchSpace;

    /// Sets the size of the source's temporary file. Returns an error if the visitor has no room for it.
    fn reserve_temporary(&mut self, _place: &str, _bytes: u64) -> Result<(), ManifestError> {
        Ok(())
    }

    /// Converts an exceeded limit to an error that names the temporary file, if there is one.
    fn blame_temporary(&self, error: ManifestError, _place: &str) -> ManifestError {
        error
    }

    /// Returns an error if the rows of a source probably exceed the limit on disk.
    ///
    /// The size of the compressed data files of an inventory is known before any of them is read. They contain more
    /// than names, so the estimate is usually too high. With a filter it is meaningless, and only the bytes actually
    /// written count.
    fn reject_too_large(&self, _place: &str, _estimate: u64) -> Result<(), ManifestError> {
        Ok(())
    }
}

/// Partitions and cursors, for a source that can resume or that reads several ranges at once. A visitor that keeps no
/// files ignores them.
pub(crate) trait ResumableReading {
    /// Returns the cursor that the source resumes from, if any. Returns it only once.
    fn take_cursor(&mut self) -> Option<SourceCursor> {
        None
    }

    /// Discards all rows: the source starts over.
    fn restart(&mut self) -> Result<(), ManifestError> {
        Ok(())
    }

    /// Adds a partition, for rows that do not follow the last row.
    fn add_partition(&mut self) -> PartitionId {
        PartitionId(0)
    }

    /// Sets the partition that the next rows go to.
    fn select_partition(&mut self, _partition: PartitionId) {}

    /// Sets the order of the partitions in the manifest, if it differs from the order in which they were added.
    fn set_partition_order(&mut self, _order: Vec<PartitionId>) {}

    /// Completes the current partition: it has all its rows.
    fn seal_partition(&mut self) -> Result<(), ManifestError> {
        Ok(())
    }

    /// Records the end of a page or data file. Returns whether the position should be saved.
    fn save_due(&mut self) -> bool {
        false
    }

    /// Returns the partitions with pages or data files since their last save.
    fn unsaved_partitions(&self) -> Vec<PartitionId> {
        Vec::new()
    }

    /// Makes the rows of the current partition durable. They count once [`save_cursor`](Self::save_cursor) has
    /// recorded them.
    fn sync_partition(&mut self) -> Result<(), ManifestError> {
        Ok(())
    }

    /// Records the durable rows of each partition, and the cursor after them.
    fn save_cursor(&mut self, _cursor: SourceCursor) -> Result<(), ManifestError> {
        Ok(())
    }
}

/// The filter, counts and warnings that every visitor has.
pub(crate) struct RowIntake {
    filter: Filter,
    store: Arc<dyn Store>,
    total: FreezeProgress,
    progress: watch::Sender<FreezeProgress>,
    stop: CancellationToken,
    warnings: Vec<ManifestWarning>,
}

impl RowIntake {
    pub(crate) fn new(
        filter: Filter,
        store: Arc<dyn Store>,
        progress: watch::Sender<FreezeProgress>,
        stop: CancellationToken,
    ) -> Self {
        progress.send_replace(FreezeProgress::default());
        Self { filter, store, total: FreezeProgress::default(), progress, stop, warnings: Vec::new() }
    }

    /// Continues from the counts and warnings of an earlier attempt.
    pub(crate) fn resume(&mut self, total: FreezeProgress, warnings: Vec<ManifestWarning>) {
        (self.total, self.warnings) = (total, warnings);
        self.report_progress();
    }

    /// Forgets all counts and warnings.
    pub(crate) fn restart(&mut self) {
        (self.total, self.warnings) = (FreezeProgress::default(), Vec::new());
    }

    /// Returns an empty intake with another filter.
    pub(crate) fn with_filter(&self, filter: Filter) -> Self {
        Self::new(filter, Arc::clone(&self.store), self.progress.clone(), self.stop.clone())
    }

    /// Sets the filter of the next rows.
    pub(crate) fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Returns the filter, for a source that must know which facts to read.
    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    pub(crate) fn rows_read(&self) -> u64 {
        self.total.rows_read
    }

    /// Returns the number of objects included so far.
    pub(crate) fn rows_included(&self) -> u64 {
        self.total.rows_included
    }

    pub(crate) fn warn(&mut self, message: String, help: &str) {
        self.warnings.push(ManifestWarning { message, help: help.to_owned() });
    }

    /// Adds a warning, unless there is one with the same message.
    pub(crate) fn warn_once(&mut self, message: String, help: &str) {
        if !self.warnings.iter().any(|warning| warning.message == message) {
            self.warn(message, help);
        }
    }

    /// Adds a warning, once, if a row is left out because it is one of the plan's own reports.
    fn warn_of_own_report(&mut self, row: &ManifestRow<'_>) {
        if let Some(reports) = self.filter.own_reports.as_ref().filter(|_| self.filter.is_own_report(row.key)) {
            let message = format!("the plan's own reports in {}/{} are left out", row.bucket, reports.root());
            self.warn_once(message, "to process them as well, use another plan, which publishes its reports elsewhere");
        }
    }

    pub(crate) fn add_warnings(&mut self, warnings: Vec<ManifestWarning>) {
        self.warnings.extend(warnings);
    }

    pub(crate) fn warnings(&self) -> &[ManifestWarning] {
        &self.warnings
    }

    pub(crate) fn into_warnings(self) -> Vec<ManifestWarning> {
        self.warnings
    }

    /// Counts a row. Returns an error if reading is to stop.
    pub(crate) fn count_row(&mut self) -> Result<(), ManifestError> {
        self.total.rows_read += 1;
        if self.total.rows_read.is_multiple_of(STOP_CHECK_INTERVAL) {
            self.report_progress();
            if self.stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
        }
        Ok(())
    }

    pub(crate) fn set_rows_read(&mut self, rows: u64) {
        self.total.rows_read = rows;
    }

    pub(crate) fn count_included(&mut self) {
        self.total.rows_included += 1;
    }

    pub(crate) fn report_progress(&self) {
        self.progress.send_replace(self.total);
    }

    /// Returns whether the filter includes a row. The error says why the row names no object that the store can
    /// process.
    fn is_included(&self, row: &ManifestRow<'_>) -> Result<bool, String> {
        self.check_name(row)?;
        match self.filter.evaluate(row) {
            FilterDecision::Excluded => return Ok(false),
            FilterDecision::Unknown(fact) => return Err(self.missing_fact(row, fact)),
            FilterDecision::Included => {}
        }
        match self.store.unsupported_key_reason(&ObjectKey::new(row.key)) {
            None => Ok(true),
            Some(why) => Err(format!("the store does not support the key {}: {why}", shown_key(row.key))),
        }
    }

    /// Returns whether the filter includes a row of a listing. The error says why no request can name the object. A
    /// filter can exclude such a row as well, but not by a key that is not exact.
    fn is_listed_included(&self, row: &ManifestRow<'_>, inexact: Option<InexactName>) -> Result<bool, String> {
        match (self.filter.evaluate_listed(row, inexact), inexact) {
            (FilterDecision::Excluded, _) => Ok(false),
            (FilterDecision::Unknown(fact), _) => Err(self.missing_fact(row, fact)),
            (FilterDecision::Included, Some(why)) => Err(why.to_string()),
            (FilterDecision::Included, None) => self.unnamable_reason(row).map_or(Ok(true), Err),
        }
    }

    /// Returns why the filter cannot decide about a row.
    fn missing_fact(&self, row: &ManifestRow<'_>, fact: FilterFact) -> String {
        let (condition, what) = (self.filter.condition_for(fact), fact.label());
        format!("the filter's {condition} needs {what}, but {} has none", shown_key(row.key))
    }

    /// Returns why no request can name the object of a row, if its name shows it.
    fn unnamable_reason(&self, row: &ManifestRow<'_>) -> Option<String> {
        let unsupported = || self.store.unsupported_key_reason(&ObjectKey::new(row.key)).map(str::to_owned);
        self.check_name(row).err().or_else(unsupported)
    }

    /// Checks the rules for names that apply to every store, and what the store has in the place of buckets.
    fn check_name(&self, row: &ManifestRow<'_>) -> Result<(), String> {
        check_bucket_length(row.bucket)?;
        match self.store.unsupported_bucket(row.bucket) {
            None => check_name(row, self.store.has_tenants()),
            Some(UnsupportedBucket { title, help, .. }) => {
                Err(format!("the bucket `{}`: {title}; {help}", shown_text(row.bucket)))
            }
        }
    }
}

/// Returns the beginning of a key, for messages.
pub(super) fn shown_key(key: &[u8]) -> String {
    ObjectKey::new(key).to_string().chars().take(MAX_SHOWN_CHARS).collect()
}

/// Returns the beginning of a field, for messages: a field can be as long as a record.
pub(super) fn shown_text(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(MAX_SHOWN_CHARS + 1).collect();
    if let Some((end, _)) = shown.char_indices().nth(MAX_SHOWN_CHARS) {
        shown.replace_range(end.., "…");
    }
    shown
}

/// Collects the bad rows of one file.
#[derive(Default)]
pub(crate) struct BadRows {
    total: u64,
    first: Vec<BadRow>,
}

impl BadRows {
    /// Records what a visitor says of a row. Returns whether to read the next one.
    pub(crate) fn record(
        &mut self,
        flow: Result<RowFlow, ManifestError>,
        (row, line): (u64, u64),
        place: &str,
    ) -> Result<bool, ManifestError> {
        match flow {
            Ok(RowFlow::Continue) => Ok(true),
            Ok(RowFlow::Invalid(why)) => {
                self.push(row, line, why);
                Ok(!self.limit_reached())
            }
            Ok(RowFlow::Stop) => Err(self.or_bad_rows(ManifestError::Stopped, place)),
            Err(error) => Err(self.or_bad_rows(error, place)),
        }
    }

    /// Counts a bad row, and keeps it if it is among the first [`MAX_SHOWN_ROWS`].
    pub(crate) fn push(&mut self, row: u64, line: u64, why: String) {
        self.total += 1;
        if self.first.len() < MAX_SHOWN_ROWS {
            self.first.push(BadRow { row, line, why });
        }
    }

    /// Returns the error to report when reading ends early: the bad rows take precedence over a stop, but over nothing
    /// else.
    fn or_bad_rows(&mut self, error: ManifestError, place: &str) -> ManifestError {
        match error {
            ManifestError::Stopped => std::mem::take(self).into_result(place).err().unwrap_or(ManifestError::Stopped),
            other => other,
        }
    }

    /// Returns whether there are too many bad rows to continue reading.
    pub(crate) fn limit_reached(&self) -> bool {
        self.total >= MAX_BAD_ROWS
    }

    /// Returns an error if there are bad rows.
    pub(crate) fn into_result(self, place: &str) -> Result<(), ManifestError> {
        if self.total == 0 {
            return Ok(());
        }
        Err(ManifestError::BadRows { place: place.to_owned(), total: self.total, first: self.first })
    }
}

/// Checks the rules for names that apply to every store.
fn check_name(row: &ManifestRow<'_>, has_tenants: bool) -> Result<(), String> {
    check_bucket(row.bucket, has_tenants)?;
    match row.key.len() {
        0 => return Err("the key is empty".to_owned()),
        1..=MAX_KEY_BYTES => {}
        bytes => return Err(format!("the key has {bytes} bytes (maximum {MAX_KEY_BYTES})")),
    }
    let version = row.version.unwrap_or_default();
    if version.contains('\0') {
        // Samples and digests separate the fields of a row by zero bytes.
        return Err("the version ID contains a zero byte".to_owned());
    }
    match version.len() {
        0..=MAX_VERSION_BYTES => Ok(()),
        bytes => Err(format!("the version ID has {bytes} bytes (maximum {MAX_VERSION_BYTES})")),
    }
}

/// Checks a bucket name. It becomes part of a host name or a path: a malicious name in a file from elsewhere could send
/// signed requests to a foreign host. If the store has tenants, the name may begin with that of a tenant.
pub(crate) fn check_bucket(bucket: &str, has_tenants: bool) -> Result<(), String> {
    check_bucket_length(bucket)?;
    let name = if has_tenants { BucketName::without_tenant(bucket) } else { bucket };
    if name.contains(['/', ':']) {
        return Err(format!("`{}` is a URL, an ARN or a path: write only the bucket's name", shown_text(bucket)));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.bytes().all(legal) || matches!(name, "." | "..") {
        return Err(format!("`{}` is not a valid bucket name", shown_text(bucket)));
    }
    Ok(())
}

/// Checks the length of a bucket name, before anything else is said of it: a file from elsewhere can have any text there.
fn check_bucket_length(bucket: &str) -> Result<(), String> {
    match bucket.len() {
        0 => Err("the bucket is empty".to_owned()),
        1..=MAX_BUCKET_BYTES => Ok(()),
        bytes => Err(format!("the bucket name has {bytes} bytes (maximum {MAX_BUCKET_BYTES})")),
    }
}

/// The number of a partition: the rows of a source that is read sequentially, or of one range of a listing. Partition 0
/// has the first rows of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionId(pub(crate) u32);

/// The position in the source where an unfinished freeze resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceCursor {
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
pub(crate) struct RangeCursor {
    /// The partition that holds its rows.
    pub(crate) partition: PartitionId,
    /// `None` is the beginning of the prefix.
    pub(crate) after: Option<ObjectKey>,
    /// `None` is the end of the prefix.
    pub(crate) until: Option<ObjectKey>,
    /// The last key that was listed.
    pub(crate) last: Option<ObjectKey>,
    /// The next request for the range.
    pub(crate) position: RangePosition,
}

/// Where the listing of a range continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RangePosition {
    /// List from here; `None` is the beginning of the prefix.
    ListFrom(Option<ListPosition>),
    /// The range has been listed to its end.
    Finished,
}

impl RangeCursor {
    /// Returns the position of a listing that has not started.
    pub(crate) fn unstarted() -> Self {
        Self {
            partition: PartitionId(0),
            after: None,
            until: None,
            last: None,
            position: RangePosition::ListFrom(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::filter::RowMetadata;
    use crate::manifest::testing::MemoryStore;

    use super::*;

    #[test]
    fn a_message_shows_only_the_beginning_of_a_field() {
        assert_eq!(shown_text("a\nb"), "a\\nb");
        assert_eq!(shown_text(&"é".repeat(MAX_SHOWN_CHARS)), "é".repeat(MAX_SHOWN_CHARS));
        assert_eq!(shown_text(&"é".repeat(200_000)), "é".repeat(MAX_SHOWN_CHARS) + "…");
    }

    #[test]
    fn messages_about_buckets_are_short_whatever_the_row_contains() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let intake = RowIntake::new(Filter::default(), store, watch::Sender::default(), CancellationToken::new());
        let arn = |length: usize| format!("arn:aws:s3:::{}", "b".repeat(length));
        let (long, odd) = (arn(200_000), "\u{200b}".repeat(80));
        for (bucket, said) in [
            (long.as_str(), "the bucket name has 200013 bytes"),
            (&arn(100), "is required, not an ARN"),
            (&odd, "is not a valid bucket name"),
            (&format!("{odd}/"), "is a URL, an ARN or a path"),
        ] {
            let row = ManifestRow { bucket, key: b"k", version: None, metadata: RowMetadata::default() };
            let why = intake.check_name(&row).expect_err("not a bucket");
            assert!(why.contains(said) && why.chars().count() < 400, "{why}");
        }
    }

    #[test]
    fn names_are_checked_whatever_the_store() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let check = |bucket: &str, key: &str, version: Option<&str>| {
            check_name(&ManifestRow { bucket, key: key.as_bytes(), version, metadata: RowMetadata::default() }, true)
        };
        assert_eq!(check("my-bucket.x_Y9", &long[1..], Some("null")), Ok(()));
        assert!(check("", "k", None).unwrap_err().contains("bucket is empty"));
        assert!(check("b", "", None).unwrap_err().contains("key is empty"));
        assert!(check("b", &long, None).unwrap_err().contains("1025 bytes"));
        assert!(check("b", "k", Some(&long)).unwrap_err().contains("version ID has 1025"));
        assert!(check(&"b".repeat(256), "k", None).unwrap_err().contains("256 bytes"));
        for bucket in ["tenant_1:my-bucket", ":my-bucket"] {
            assert_eq!(check(bucket, "k", None), Ok(()), "{bucket}");
            assert!(check_bucket(bucket, false).unwrap_err().contains("is a URL, an ARN or a path"), "{bucket}");
        }
        for bucket in ["a b", "b@host", "..", "b#", "b\n", "é"] {
            assert!(check(bucket, "k", None).unwrap_err().contains("not a valid bucket name"), "{bucket}");
        }
        for bucket in
            ["evil.example/", "b:80", "host:9000", "a-b:bucket", "a:b:bucket", "user:..", "arn:aws:s3:::b", "../b"]
        {
            assert!(check(bucket, "k", None).unwrap_err().contains("is a URL, an ARN or a path"), "{bucket}");
        }
    }
}
