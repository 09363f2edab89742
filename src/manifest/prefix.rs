//! The source `prefix`: everything in the listing of a prefix.
//!
//! A listing starts as one range with one worker, and a small listing stays that way. A longer listing is split: a
//! range that has been listed up to some key is split at a guessed key after it (`key_alphabet`), and an idle worker
//! lists the part after the split point. The first page after the split point is requested before the split is made:
//! if it is empty, there is no split, and the next guess is better informed.
//!
//! The number of wasted requests is bounded. There is at most one attempt per eight pages, and each attempt, good or
//! bad, costs at most one extra request: the probe itself if nothing lies after the split point, otherwise the rest of
//! the page in which the first range ends.
//!
//! Ranges have no gaps and no keys in common, whatever the guesses: a range contains the keys after its start, up to
//! and including its end, with all their versions. The rows of each range go to files of their own, so that no row
//! waits in memory (`consumer`, and `freeze` beside this file). In the end the files are put in order.
//!
//! # Keys that no request can name
//!
//! | key | what becomes of the object |
//! |---|---|
//! | any bytes, UTF-8 or not, also control characters, and segments `.` and `..` | a row like any other: a request carries every byte of a path, and the server decides |
//! | not UTF-8, with the provider `aws`, `oss` or `sandbox`, whose services have no such keys | unlistable |
//! | empty | unlistable: the request would name the bucket |
//! | longer than the API allows: 1,024 bytes, 1,023 in OSS | unlistable |
//! | not shown exactly by the server ([`InexactName`](batchplan_store::InexactName)) | unlistable: the name may be another object's |
//! | a version ID that is longer than 1,024 bytes, or has a zero byte | unlistable |
//! | outside the prefix, or out of order | the listing fails: it is not what was requested |
//! | an unescaped `<` in XML | the listing fails: nothing of the page can be trusted |
//!
//! An unlistable key ends the listing with an error, or is a row whose task fails without a request
//! ([`OnUnlistable`]). A filter can exclude it.
//!
//! A page may end with such a key, but the listing cannot continue after it. If the server's own marker leads to the
//! next page, nothing is lost. If the listing continues after the last entry received, the keys at the end of the page
//! are left to the next page, which starts with them again. A page without any other object then ends the listing with
//! an error.
//!
//! Keys that are not exact have no known place in the order of the keys, so that two ranges could both have them, or
//! neither. As soon as there is one, everything is listed again by a single worker.

mod consumer;
mod key_alphabet;

use std::collections::HashSet;

use batchplan_store::object::{BucketName, ObjectKey, VersionId};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{ListCursor, ListPage, ListPosition, ListRequest, ListedObject};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use self::consumer::{ListingMessage, consume_pages};
use self::key_alphabet::{KeyAlphabet, shared_prefix_len};
use super::error::{ManifestError, object_path};
use super::input::join;
use super::retrying_store::RetryingStore;
use super::row_visitor::{PartitionId, RangeCursor, RangePosition, RowVisitor, SourceCursor};
use super::spec::{ListedVersions, OnUnlistable};

/// The maximum number of pages between the listing and the thread that consumes them. A page of the longest keys has
/// about a megabyte.
const CHANNEL_PAGES: usize = 8;

/// Lists everything below a prefix, and passes it to the visitor. Resumes from the checkpoint of an earlier attempt
/// if there is one.
pub(super) async fn list<V: RowVisitor>(
    bucket: &BucketName,
    prefix: &ObjectKey,
    (versions, on_unlistable): (ListedVersions, OnUnlistable),
    retrying: &RetryingStore,
    listing_concurrency: ListingConcurrency,
    mut visitor: V,
) -> Result<V, ManifestError> {
    let cursors = match visitor.take_cursor() {
        Some(SourceCursor::Listing(ranges)) => ranges,
        Some(SourceCursor::Inventory { .. }) | None => vec![RangeCursor::unstarted()],
    };
    let listing = object_path(bucket, prefix);
    let ranges = ListingRanges::new(prefix.clone(), versions == ListedVersions::All, &cursors, listing_concurrency);
    let (messages, receiver) = mpsc::channel(CHANNEL_PAGES);
    let (rules, name) = ((bucket.clone(), on_unlistable), listing.clone());
    let consuming = tokio::task::spawn_blocking(move || consume_pages(rules, visitor, cursors, receiver, &name));
    let request = ListRequest {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        all_versions: ranges.all_versions(),
        group_by_directory: false,
        from: None,
    };
    let lister = ParallelLister {
        request,
        listing,
        on_unlistable,
        store: retrying,
        ranges,
        worker_limit: ListingWorkerLimit::new(listing_concurrency.workers),
        in_flight: FuturesUnordered::new(),
        messages,
    };
    let outcome = lister.run().await;
    // If the consumer failed, its error is the reason why it stopped receiving.
    let mut visitor = match (outcome, join(consuming).await) {
        (Ok(()) | Err(ListingAbort::ReceiverGone), Err(error)) | (Err(ListingAbort::Failed(error)), _) => {
            return Err(error);
        }
        (Ok(()), Ok(visitor)) => visitor,
        (Err(ListingAbort::ReceiverGone), Ok(_)) => return Err(ManifestError::Stopped),
    };
    visitor.set_listed_prefix(bucket.as_str(), prefix.as_bytes());
    Ok(visitor)
}

/// Why a listing ended early.
enum ListingAbort {
    Failed(ManifestError),
    /// The receiver of the pages is gone.
    ReceiverGone,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug)]
enum ListingPurpose {
    /// The next page of a range.
    Next(PartitionId),
    /// The first page after a split point in the range.
    Probe(PartitionId),
}

struct ListingResponse {
    purpose: ListingPurpose,
    /// The position of the request that succeeded or failed last.
    from: Option<ListPosition>,
    /// Whether that differs from the requested position: the server rejected the token of an earlier attempt.
    used_fallback: bool,
    /// `None` if the previous page was never consumed.
    page: Option<Result<ListPage, ManifestError>>,
}

/// Requests the pages of all ranges, and sends them to the consumer.
struct ParallelLister<'a> {
    request: ListRequest,
    listing: String,
    on_unlistable: OnUnlistable,
    store: &'a RetryingStore,
    ranges: ListingRanges,
    worker_limit: ListingWorkerLimit,
    in_flight: FuturesUnordered<BoxFuture<'a, ListingResponse>>,
    messages: mpsc::Sender<ListingMessage>,
}

impl ParallelLister<'_> {
    async fn run(mut self) -> Result<(), ListingAbort> {
        loop {
            self.start_requests();
            let Some(response) = self.in_flight.next().await else { return Ok(()) };
            self.worker_limit.record_response(self.store.throttled_requests());
            match self.handle_response(response).await {
                Ok(()) => {}
                Err(ListingAbort::Failed(error)) => {
                    // Drop the other requests, but keep what was consumed. The first error is returned.
                    self.in_flight.clear();
                    if error.is_retryable() {
                        let _ = self.messages.send(ListingMessage::SaveCheckpoint).await;
                    }
                    return Err(ListingAbort::Failed(error));
                }
                Err(ListingAbort::ReceiverGone) => return Err(ListingAbort::ReceiverGone),
            }
        }
    }

    /// Starts requests for all idle workers, as long as there is work.
    fn start_requests(&mut self) {
        while self.in_flight.len() < self.worker_limit.current() {
            let (purpose, wanted) = if let Some(wanted) = self.ranges.next_request() {
                (ListingPurpose::Next(wanted.partition), wanted)
            } else if let Some((partition, at)) = self.ranges.next_split() {
                let from = Some(ListPosition::After { key: at, version: None });
                (
                    ListingPurpose::Probe(partition),
                    PageRequest { partition, from, fallback: None, previous_consumed: None },
                )
            } else {
                return;
            };
            let request = self.request.clone();
            self.in_flight.push(Box::pin(request_page(self.store, purpose, request, wanted)));
        }
    }

    async fn handle_response(&mut self, response: ListingResponse) -> Result<(), ListingAbort> {
        let ListingResponse { purpose, from, used_fallback, page } = response;
        match (purpose, page.ok_or(ListingAbort::ReceiverGone)?) {
            (ListingPurpose::Next(partition), Ok(page)) => {
                self.handle_page(partition, from.as_ref(), used_fallback, page).await
            }
            (ListingPurpose::Probe(partition), Ok(page)) => self.handle_probe(partition, page).await,
            (ListingPurpose::Probe(partition), Err(ManifestError::Store { fault, .. })) => {
                self.handle_probe_failure(partition, &fault).await
            }
            (_, Err(error)) => Err(ListingAbort::Failed(error)),
        }
    }

    /// Gives up a probe that failed. A split point is only a guess, so nothing is lost. Other problems, such as
    /// rejected credentials, recur at the next page of a range.
    async fn handle_probe_failure(&mut self, partition: PartitionId, fault: &StoreError) -> Result<(), ListingAbort> {
        // Neither error says anything about the abilities of the server.
        if matches!(fault.class, FaultClass::Throttled | FaultClass::Credentials) {
            self.ranges.probe_failed(partition);
            return Ok(());
        }
        self.ranges.probe_rejected(partition);
        self.warn_single_worker(&cannot_start_at_key(&fault.to_string())).await
    }

    async fn handle_page(
        &mut self,
        partition: PartitionId,
        from: Option<&ListPosition>,
        used_fallback: bool,
        page: ListPage,
    ) -> Result<(), ListingAbort> {
        if self.needs_single_worker(&page) {
            return self.restart(INEXACT_KEYS).await;
        }
        if from.is_none() && self.ranges.all_versions() && is_empty_listing(&page) {
            self.expect_no_current_objects().await?;
        }
        let unsure = used_fallback || self.ranges.is_unproven(partition);
        match self.ranges.record_page(partition, from, page) {
            Ok(message) => self.send(message).await,
            Err(why) if unsure => self.restart(&cannot_start_at_key(&why)).await,
            Err(what) => {
                let help = "use [manifest.csv] or [manifest.inventory] instead";
                let place = self.listing.clone();
                Err(ListingAbort::Failed(ManifestError::InconsistentListing { place, what, help }))
            }
        }
    }

    /// Fails if there are current objects, although the listing of all versions is empty. Some servers list no versions
    /// of objects in a bucket that never had versioning: <https://github.com/floci-io/floci/issues/334>.
    async fn expect_no_current_objects(&mut self) -> Result<(), ListingAbort> {
        let request = ListRequest { all_versions: false, from: None, ..self.request.clone() };
        // The permission for one of the listings does not include the other one.
        let Ok(page) = self.store.probe(&request).await else { return Ok(()) };
        let Some(first) = page.entries.first() else { return Ok(()) };
        Err(ListingAbort::Failed(ManifestError::InconsistentListing {
            place: self.listing.clone(),
            what: format!("it has no version of any object, but {} exists", first.key),
            help: "leave out `versions = \"all\"`, or use [manifest.csv] or [manifest.inventory] instead",
        }))
    }

    async fn handle_probe(&mut self, partition: PartitionId, page: ListPage) -> Result<(), ListingAbort> {
        if self.needs_single_worker(&page) {
            // The range itself will come to these keys.
            self.ranges.probe_rejected(partition);
            return Ok(());
        }
        match self.ranges.record_probe(partition, page) {
            ProbeOutcome::NotSplit => Ok(()),
            ProbeOutcome::Split { at, message } => {
                self.send(ListingMessage::Split { partition, at }).await?;
                self.send(message).await
            }
            ProbeOutcome::Unsupported(why) => self.warn_single_worker(&cannot_start_at_key(&why)).await,
        }
    }

    /// Returns whether everything must be listed again by a single worker, because a page has keys that are not exact.
    /// Forbids to split a listing that is still a single range.
    fn needs_single_worker(&mut self, page: &ListPage) -> bool {
        let inexact = page.entries.iter().any(|entry| entry.inexact.is_some());
        inexact && self.on_unlistable == OnUnlistable::Report && !self.ranges.stay_single()
    }

    /// Lists everything again with a single worker, for instance because the server ignores the requested start, and
    /// perhaps its own tokens as well.
    async fn restart(&mut self, why: &str) -> Result<(), ListingAbort> {
        self.in_flight.clear();
        self.ranges.restart();
        self.send(ListingMessage::Restart).await?;
        self.warn_single_worker(why).await
    }

    async fn warn_single_worker(&mut self, why: &str) -> Result<(), ListingAbort> {
        let message = format!("{} is listed by one worker: {why}", self.listing);
        self.send(ListingMessage::Warn { message, help: "the listing is complete, but takes longer" }).await
    }

    async fn send(&mut self, message: ListingMessage) -> Result<(), ListingAbort> {
        self.messages.send(message).await.map_err(|_| ListingAbort::ReceiverGone)
    }
}

/// Returns whether a listing that starts with this page has neither objects nor delete markers.
fn is_empty_listing(page: &ListPage) -> bool {
    page.entries.is_empty() && page.trailing_delete_marker.is_none() && page.next.is_none()
}

/// Why a listing is not split any further.
const INEXACT_KEYS: &str = "the server does not show all keys exactly";

fn cannot_start_at_key(why: &str) -> String {
    format!("the server cannot list from a given key: {why}")
}

/// Requests one page, once the previous page is consumed. If the server rejects a token of an earlier attempt, which
/// may have expired, requests the alternative position.
async fn request_page(
    retrying: &RetryingStore,
    purpose: ListingPurpose,
    request: ListRequest,
    wanted: PageRequest,
) -> ListingResponse {
    let PageRequest { from, fallback, previous_consumed, .. } = wanted;
    if let Some(previous_consumed) = previous_consumed
        && previous_consumed.await.is_err()
    {
        return ListingResponse { purpose, from, used_fallback: false, page: None };
    }
    let request = ListRequest { from, ..request };
    let page = match purpose {
        ListingPurpose::Next(_) => retrying.list(&request).await,
        ListingPurpose::Probe(_) => retrying.probe(&request).await,
    };
    let rejected = matches!(&page, Err(ManifestError::Store { fault, .. }) if fault.status == Some(400));
    if let (true, Some(RangePosition::ListFrom(from))) = (rejected, fallback) {
        let again = ListRequest { from, ..request.clone() };
        // Expired credentials are a 400 as well: in that case the first error is returned.
        if let Ok(page) = retrying.list(&again).await {
            return ListingResponse { purpose, from: again.from, used_fallback: true, page: Some(Ok(page)) };
        }
    }
    ListingResponse { purpose, from: request.from, used_fallback: false, page: Some(page) }
}

/// The maximum number of ranges. A listing that has reached it is not split further.
const MAX_RANGES: usize = 2048;

/// A range is not split if it probably has less than this share of the whole listing left. This limits even a very long
/// listing to hundreds of ranges.
const SMALLEST_SHARE: f64 = 1.0 / 512.0;

/// The maximum number of consecutive pages without objects: a million delete markers in a row fill a thousand pages.
const MAX_EMPTY_PAGES: u32 = 100_000;

/// The maximum number of versions of one key that are remembered, at eight bytes each. Beyond that, only the last
/// version is checked for repetition.
const MAX_VERSIONS: usize = 1 << 17;

/// All ranges, in key order.
struct ListingRanges {
    all: Vec<ListingRange>,
    prefix: ObjectKey,
    all_versions: bool,
    concurrency: ListingConcurrency,
    alphabet: KeyAlphabet,
    pages: u64,
    split_attempts: u64,
    /// Whether the server has been seen to ignore or reject a requested start.
    splitting_disabled: bool,
    /// Which method of guessing last succeeded: the keys of a bucket are similar, so it is tried first.
    middle_first: bool,
}

struct ListingRange {
    partition: PartitionId,
    until: Option<ObjectKey>,
    validator: ListingValidator,
    position: RangePosition,
    /// Whether its next page is being requested.
    in_flight: bool,
    /// Signals that its last page was consumed; `None` before the first page.
    consumed: Option<oneshot::Receiver<()>>,
    /// Whether `position` comes from an earlier attempt.
    resumed: bool,
    /// The first key that was listed.
    first: Option<ObjectKey>,
    /// The range has no key between this one and its end.
    empty_after: Option<ObjectKey>,
    /// The number of bytes that all keys of the last page share.
    shared_bytes: usize,
    pages: u32,
    /// The number of pages since the last attempt to split it.
    pages_since_attempt: u32,
    /// The number of split points with nothing after them, since the last successful one.
    misses: u32,
    /// The split point that is being probed.
    probing: Option<ObjectKey>,
}

/// A page to request.
struct PageRequest {
    /// The range that it belongs to.
    partition: PartitionId,
    /// Where the page starts.
    from: Option<ListPosition>,
    /// The alternative start, if the server rejects `from`.
    fallback: Option<RangePosition>,
    /// Signals that the previous page was consumed: each range has at most one page waiting in memory.
    previous_consumed: Option<oneshot::Receiver<()>>,
}

/// The result of a probe.
enum ProbeOutcome {
    /// The range is not split.
    NotSplit,
    /// The part after the split point is a new range.
    Split {
        /// The split point.
        at: ObjectKey,
        /// The first page after it.
        message: ListingMessage,
    },
    /// The server cannot start a listing at a key; contains the reason.
    Unsupported(String),
}

impl ListingRanges {
    /// Creates the ranges at these positions.
    fn new(prefix: ObjectKey, all_versions: bool, cursors: &[RangeCursor], concurrency: ListingConcurrency) -> Self {
        let mut alphabet = KeyAlphabet::new(&prefix);
        cursors.iter().filter_map(|cursor| cursor.last.as_ref()).for_each(|last| alphabet.record(last));
        let mut ranges = Self {
            all: Vec::new(),
            prefix,
            all_versions,
            concurrency,
            alphabet,
            pages: 0,
            split_attempts: 0,
            splitting_disabled: false,
            middle_first: true,
        };
        ranges.all = cursors.iter().map(|cursor| ranges.new_range(cursor, true)).collect();
        ranges
    }

    fn new_range(&self, cursor: &RangeCursor, resumed: bool) -> ListingRange {
        ListingRange {
            partition: cursor.partition,
            until: cursor.until.clone(),
            validator: ListingValidator::new(self.prefix.clone(), self.all_versions, cursor),
            position: if resumed { ListingValidator::resume_position(cursor) } else { cursor.position.clone() },
            in_flight: false,
            consumed: None,
            resumed,
            first: None,
            empty_after: None,
            shared_bytes: 0,
            pages: 0,
            pages_since_attempt: 0,
            misses: 0,
            probing: None,
        }
    }

    fn all_versions(&self) -> bool {
        self.all_versions
    }

    /// Starts over with a single range that is never split.
    fn restart(&mut self) {
        self.splitting_disabled = true;
        self.all = vec![self.new_range(&RangeCursor::unstarted(), false)];
    }

    /// Returns whether there is a single range, from the beginning to the end, and then never splits it.
    fn stay_single(&mut self) -> bool {
        let [range] = &mut self.all[..] else { return false };
        let is_single = range.validator.after.is_none() && range.until.is_none();
        if is_single {
            range.probing = None;
            self.splitting_disabled = true;
        }
        is_single
    }

    /// Returns the request for the next page of a range that has none in flight.
    fn next_request(&mut self) -> Option<PageRequest> {
        let range = self.all.iter_mut().find(|range| !range.in_flight && range.position != RangePosition::Finished)?;
        let RangePosition::ListFrom(from) = range.position.clone() else { return None };
        range.in_flight = true;
        let is_token = matches!(from, Some(ListPosition::Token(_)));
        let fallback = (range.resumed && is_token).then(|| {
            let last_listed = range.validator.last.clone().or_else(|| range.validator.after.clone());
            RangePosition::ListFrom(last_listed.map(|key| ListPosition::After { key, version: None }))
        });
        Some(PageRequest { partition: range.partition, from, fallback, previous_consumed: range.consumed.take() })
    }

    /// Records a page of a range. Returns the message for the consumer.
    fn record_page(
        &mut self,
        partition: PartitionId,
        from: Option<&ListPosition>,
        mut page: ListPage,
    ) -> Result<ListingMessage, String> {
        self.pages += 1;
        let all_versions = self.all_versions;
        let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) else {
            return Err("the server sent a page that was not requested".to_owned());
        };
        (range.in_flight, range.resumed) = (false, false);
        let next = range.validator.accept_page(from, &mut page)?;
        Ok(range.advance(page, next, all_versions, &mut self.alphabet))
    }

    /// Returns whether a range that starts at an invented key has received nothing yet: the server may be unable to
    /// start there.
    fn is_unproven(&self, partition: PartitionId) -> bool {
        let range = self.all.iter().find(|range| range.partition == partition);
        range.is_some_and(|range| range.validator.after.is_some() && range.first.is_none())
    }

    /// Returns the range that benefits most from a split, and the split point to probe, if an attempt is due.
    fn next_split(&mut self) -> Option<(PartitionId, ObjectKey)> {
        let due = self.pages / self.concurrency.pages_per_split.max(1);
        if self.splitting_disabled
            || self.split_attempts >= due
            || self.all.len() >= MAX_RANGES
            || self.concurrency.workers < 2
        {
            return None;
        }
        let least = (to_f64(self.pages) * SMALLEST_SHARE).max(f64::from(self.concurrency.min_pages_left));
        let left = |range: &ListingRange| range.pages_left(&self.alphabet);
        let candidates =
            self.all.iter().filter(|range| range.may_be_split()).map(|range| (range.partition, left(range)));
        let mut candidates: Vec<_> = candidates.filter(|(_, left)| *left >= least).collect();
        candidates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        candidates.into_iter().find_map(|(partition, _)| {
            let range = self.all.iter_mut().find(|range| range.partition == partition)?;
            range.pages_since_attempt = 0;
            let end = range.empty_after.as_ref().or(range.until.as_ref());
            let middle = range.misses.is_multiple_of(2) == self.middle_first;
            let at = self.alphabet.split_point(range.validator.last.as_ref()?, end, range.shared_bytes, middle)?;
            self.record_attempt(partition, at.clone());
            Some((partition, at))
        })
    }

    /// Records that a split point is being probed.
    fn record_attempt(&mut self, partition: PartitionId, at: ObjectKey) {
        self.split_attempts += 1;
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) {
            range.probing = Some(at);
        }
    }

    /// Records that the server rejected a probe. No further probes are sent.
    fn probe_rejected(&mut self, partition: PartitionId) {
        self.splitting_disabled = true;
        self.probe_failed(partition);
    }

    /// Records that a probe gave no result.
    fn probe_failed(&mut self, partition: PartitionId) {
        if let Some(range) = self.all.iter_mut().find(|range| range.partition == partition) {
            range.probing = None;
        }
    }

    /// Records the first page after a split point.
    fn record_probe(&mut self, partition: PartitionId, mut page: ListPage) -> ProbeOutcome {
        self.pages += 1;
        let new = PartitionId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let Some(place) = self.all.iter().position(|range| range.partition == partition) else {
            return ProbeOutcome::NotSplit;
        };
        let Some(at) = self.all[place].probing.take() else { return ProbeOutcome::NotSplit };
        let from = ListPosition::After { key: at.clone(), version: None };
        let next = RangePosition::ListFrom(Some(from.clone()));
        let until = self.all[place].until.clone();
        let cursor = RangeCursor { partition: new, after: Some(at.clone()), until, last: None, position: next };
        let mut after_split = self.new_range(&cursor, false);
        let next = match after_split.validator.accept_page(Some(&from), &mut page) {
            Ok(next) => next,
            Err(why) => {
                self.splitting_disabled = true;
                return ProbeOutcome::Unsupported(why);
            }
        };
        let range = &mut self.all[place];
        let ends = next.is_none() || page.entries.last().is_some_and(|last| !after_split.contains(last));
        let has_none = page.entries.first().is_none_or(|first| !after_split.contains(first));
        // A page without objects may consist of delete markers only: what follows is unknown.
        if has_none && ends {
            range.misses += 1;
            range.empty_after = Some(at);
            return ProbeOutcome::NotSplit;
        }
        // In the meantime the range may have been listed beyond the split point.
        if range.position == RangePosition::Finished || range.validator.last.as_ref().is_some_and(|last| *last > at) {
            return ProbeOutcome::NotSplit;
        }
        self.middle_first ^= !range.misses.is_multiple_of(2);
        range.misses = 0;
        after_split.empty_after = range.empty_after.take();
        range.until = Some(at.clone());
        let message = after_split.advance(page, next, self.all_versions, &mut self.alphabet);
        self.all.insert(place + 1, after_split);
        ProbeOutcome::Split { at, message }
    }
}

impl ListingRange {
    /// Returns whether an entry of its listing lies in the range. A name that is not exact lies where the previous
    /// entry does.
    fn contains(&self, entry: &ListedObject) -> bool {
        entry.inexact.is_some() || self.until.as_ref().is_none_or(|until| entry.key <= *until)
    }

    fn may_be_split(&self) -> bool {
        self.position != RangePosition::Finished
            && self.probing.is_none()
            && self.pages_since_attempt > 0
            && self.first.is_some()
    }

    /// Estimates the number of pages left: extrapolated from the share of the key range that is listed, but at least
    /// half the number of pages since the last attempt, because a listing that has been long is likely to stay long.
    fn pages_left(&self, alphabet: &KeyAlphabet) -> f64 {
        let half = f64::from(self.pages_since_attempt) / 2.0;
        let (Some(first), Some(last)) = (&self.first, &self.validator.last) else { return half };
        let end = self.empty_after.as_ref().or(self.until.as_ref());
        (f64::from(self.pages) * alphabet.remaining_ratio(first, last, end)).max(half)
    }

    /// Moves the range forward by a page that has been checked.
    fn advance(
        &mut self,
        page: ListPage,
        next: Option<ListPosition>,
        all_versions: bool,
        alphabet: &mut KeyAlphabet,
    ) -> ListingMessage {
        self.pages += 1;
        self.pages_since_attempt += 1;
        let mut entries = page.entries;
        self.record_keys(&entries, alphabet);
        // The whole page is checked first; only then are the entries of the next range removed.
        let inside = entries.iter().position(|entry| !self.contains(entry)).unwrap_or(entries.len());
        let beyond = inside < entries.len();
        entries.truncate(inside);
        self.position = match next {
            Some(next) if !beyond && !self.is_past_end(&next) => RangePosition::ListFrom(Some(next)),
            _ => RangePosition::Finished,
        };
        if !all_versions {
            // Some servers name the current version. The plan means the version that is current when the object is
            // processed.
            for entry in &mut entries {
                entry.version = None;
            }
        }
        if let Some(last) = entries.iter().rfind(|entry| entry.inexact.is_none()).filter(|_| beyond) {
            self.validator.last = Some(last.key.clone());
        }
        let (taken, receiver) = oneshot::channel();
        self.consumed = Some(receiver);
        ListingMessage::Page {
            partition: self.partition,
            entries,
            last: self.validator.last.clone(),
            next: self.position.clone(),
            consumed: taken,
        }
    }

    /// Returns whether a page that starts there has no entry of the range, so that it is at its end even if this page
    /// ended with delete markers.
    fn is_past_end(&self, next: &ListPosition) -> bool {
        match (next, &self.until) {
            (ListPosition::After { key, .. }, Some(until)) => key > until,
            _ => false,
        }
    }

    fn record_keys(&mut self, entries: &[ListedObject], alphabet: &mut KeyAlphabet) {
        let mut exact = entries.iter().filter(|entry| entry.inexact.is_none());
        let Some(first) = exact.next() else { return };
        let last = exact.next_back().unwrap_or(first);
        self.shared_bytes = shared_prefix_len(first.key.as_bytes(), last.key.as_bytes());
        self.first.get_or_insert_with(|| first.key.clone());
        let sampled = entries.iter().step_by(KEY_SAMPLING).filter(|entry| entry.inexact.is_none());
        sampled.for_each(|entry| alphabet.record(&entry.key));
        alphabet.record(&last.key);
    }
}

/// One key out of this number is added to the alphabet.
const KEY_SAMPLING: usize = 16;

fn to_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// Checks that the listing of a range moves forward and ends: a server that repeats itself would be listed forever, and
/// each object would be processed again and again.
#[derive(Clone)]
struct ListingValidator {
    prefix: ObjectKey,
    all_versions: bool,
    /// The start of the range: all its keys are greater.
    after: Option<ObjectKey>,
    /// The last key that was received.
    last: Option<ObjectKey>,
    /// The last version of that key; unknown after a resume.
    last_version: Option<VersionId>,
    /// The hashes of the versions of that key that were received so far.
    seen_versions: HashSet<u64>,
    cursor: ListCursor,
}

impl ListingValidator {
    fn new(prefix: ObjectKey, all_versions: bool, cursor: &RangeCursor) -> Self {
        Self {
            prefix,
            all_versions,
            after: cursor.after.clone(),
            last: cursor.last.clone(),
            last_version: None,
            seen_versions: HashSet::new(),
            cursor: ListCursor::new(all_versions, MAX_EMPTY_PAGES),
        }
    }

    /// Returns where a range of an earlier attempt resumes. A range of current versions that started at an invented key
    /// resumes after the last key received, whatever the checkpoint says: earlier releases saved the server's token,
    /// and with that token some servers skip a key.
    fn resume_position(cursor: &RangeCursor) -> RangePosition {
        match (&cursor.position, &cursor.after) {
            (RangePosition::ListFrom(Some(ListPosition::Token(_))), Some(after)) => {
                let key = cursor.last.as_ref().unwrap_or(after).clone();
                RangePosition::ListFrom(Some(ListPosition::After { key, version: None }))
            }
            (next, _) => next.clone(),
        }
    }

    /// Records a page that was requested from `from`, and removes the entry that it repeats. Returns where the listing
    /// continues. The error says why the page cannot be trusted.
    fn accept_page(
        &mut self,
        from: Option<&ListPosition>,
        page: &mut ListPage,
    ) -> Result<Option<ListPosition>, String> {
        self.cursor.drop_unnamable_end(from, page)?;
        self.drop_repeated(from, page)?;
        for entry in &page.entries {
            self.accept_entry(entry)?;
        }
        if let Some((key, version)) = &page.trailing_delete_marker {
            self.advance(key)?;
            self.last_version = Some(version.clone());
        }
        self.cursor.advance(from, page)
    }

    /// Removes the entries that the page repeats from the previous page.
    ///
    /// Some servers start a page with the entry that ended the previous one. If that entry has not been received yet,
    /// the server's marker means the next entry. If that version has been deleted, some servers start its key again.
    fn drop_repeated(&self, from: Option<&ListPosition>, page: &mut ListPage) -> Result<(), String> {
        let Some(ListPosition::After { key, version }) = from else { return Ok(()) };
        if self.last.as_ref() != Some(key) {
            return Ok(());
        }
        let is_same = |entry: &&ListedObject| entry.inexact.is_none() && entry.key == *key;
        let same_key = page.entries.iter().take_while(is_same).count();
        let marked = page.entries[..same_key].iter().position(|entry| !self.all_versions || entry.version == *version);
        let was_last = self.last_version.is_none() || !self.all_versions || self.last_version == *version;
        match marked {
            Some(0) if was_last => drop(page.entries.remove(0)),
            None if same_key > 0 => self.drop_seen_versions(same_key, page)?,
            _ => {}
        }
        Ok(())
    }

    /// Removes the versions at the start of a page that were received before, if something follows them.
    fn drop_seen_versions(&self, same_key: usize, page: &mut ListPage) -> Result<(), String> {
        let is_remembered =
            |entry: &ListedObject| entry.version.as_ref().is_some_and(|id| self.seen_versions.contains(&hash(id)));
        let repeated = page.entries[..same_key].iter().take_while(|entry| is_remembered(entry)).count();
        if repeated == page.entries.len() && page.next.is_none() {
            return Err(format!("it ends with versions of {} that it listed before", page.entries[0].key));
        }
        page.entries.drain(..repeated);
        Ok(())
    }

    fn accept_entry(&mut self, entry: &ListedObject) -> Result<(), String> {
        if entry.inexact.is_some() {
            return Ok(());
        }
        if !entry.key.as_bytes().starts_with(self.prefix.as_bytes()) {
            return Err(format!("{} does not begin with {}", entry.key, self.prefix));
        }
        self.advance(&entry.key)?;
        self.last_version.clone_from(&entry.version);
        match entry.version.as_ref().filter(|_| self.all_versions) {
            Some(version) if !self.is_new(version) => {
                Err(format!("it lists version {} of {} twice", version.as_str(), entry.key))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a version of the current key is new, as far as versions are remembered.
    fn is_new(&mut self, version: &VersionId) -> bool {
        let hash = hash(version);
        if self.seen_versions.len() < MAX_VERSIONS {
            self.seen_versions.insert(hash)
        } else {
            !self.seen_versions.contains(&hash)
        }
    }

    /// Advances to a key. It must be greater than all earlier keys, or be the same key with another version.
    fn advance(&mut self, key: &ObjectKey) -> Result<(), String> {
        let before = self.last.as_ref().or(self.after.as_ref());
        let is_same = self.last.as_ref() == Some(key);
        match before.filter(|before| key <= *before && !(is_same && self.all_versions)) {
            Some(before) => Err(format!("it went backwards: {key} after {before}")),
            None if is_same => Ok(()),
            None => {
                self.seen_versions.clear();
                self.last = Some(key.clone());
                Ok(())
            }
        }
    }
}

fn hash(version: &VersionId) -> u64 {
    xxh3_64(version.as_str().as_bytes())
}

/// How a listing is distributed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListingConcurrency {
    /// The maximum number of concurrent listing requests, at least 1.
    workers: u32,
    /// The number of listed pages per attempt to split a range.
    pages_per_split: u64,
    /// The minimum number of pages that a range must probably have left to be split.
    min_pages_left: u32,
}

impl Default for ListingConcurrency {
    /// Sixteen workers: a server that responds in 20 ms returns 800 pages per second to them, and no store that was
    /// measured lists a prefix faster. The memory for sixteen ranges is bounded.
    fn default() -> Self {
        Self { workers: 16, pages_per_split: 8, min_pages_left: 4 }
    }
}

impl ListingConcurrency {
    #[cfg(test)]
    pub(super) const fn new(workers: u32, pages_per_split: u64, min_pages_left: u32) -> Self {
        Self { workers, pages_per_split, min_pages_left }
    }

    /// Limits the number of workers.
    pub(super) fn limited_to(self, concurrency: Option<u32>) -> Self {
        Self { workers: self.workers.min(concurrency.unwrap_or(u32::MAX)).max(1), ..self }
    }
}

/// Starts with the maximum number of workers, and reduces it when the server throttles.
struct ListingWorkerLimit {
    max: usize,
    current: usize,
    /// The number of throttled requests so far.
    throttled: u64,
    /// The number of responses until the limit may change again.
    cooldown: usize,
}

impl ListingWorkerLimit {
    fn new(most: u32) -> Self {
        let max = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Self { max, current: max, throttled: 0, cooldown: 0 }
    }

    /// Returns the current limit.
    fn current(&self) -> usize {
        self.current
    }

    /// Records a response. `throttled` is the number of requests that the server has throttled so far.
    ///
    /// Throttling halves the limit; requests that were throttled at the same time count once. After as many responses
    /// without throttling as there are workers, the limit increases by one.
    fn record_response(&mut self, throttled: u64) {
        let refused = throttled > self.throttled;
        self.throttled = throttled;
        self.cooldown = self.cooldown.saturating_sub(1);
        if self.cooldown > 0 {
            return;
        }
        if refused {
            self.cooldown = self.current;
            self.current = (self.current / 2).max(1);
        } else if self.current < self.max {
            self.current += 1;
            self.cooldown = self.current;
        }
    }
}

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod range_tests;
#[cfg(test)]
mod tests;
