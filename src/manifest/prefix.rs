//! The source `prefix`: everything in the listing of a prefix.
//!
//! A listing starts as one range with one worker, and a small listing stays that way. A longer listing is split: a
//! range that has been listed up to some key is split at a guessed key after it (`split_point`), and an idle worker
//! lists the part after the split point. The first page after the split point is requested before the split is made:
//! if it is empty, there is no split, and the next guess is better informed.
//!
//! The number of wasted requests is bounded. There is at most one attempt per eight pages, and each attempt, good or
//! bad, costs at most one extra request: the probe itself if nothing lies after the split point, otherwise the rest of
//! the page in which the first range ends.
//!
//! Ranges have no gaps and no keys in common, whatever the guesses: a range contains the keys after its start, up to
//! and including its end, with all their versions. The rows of each range go to files of their own, so that no row
//! waits in memory (`record_page`, and `partition` in the parent module). In the end the files are put in order.

mod concurrency;
mod consumer;
mod ranges;
mod split_point;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{ListPage, ListPosition, ListRequest};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::cursor::{PartitionId, RangeCursor, RangePosition, SourceCursor};
use super::error::{ManifestError, object_path};
use super::input::join;
use super::retrying_store::RetryingStore;
use super::row_visitor::RowVisitor;
use super::spec::ListedVersions;
use concurrency::ListingWorkerLimit;
use consumer::{ListingMessage, PageConsumer};
use ranges::{ListingRanges, PageRequest, ProbeOutcome};

pub(super) use concurrency::ListingConcurrency;

/// The maximum number of pages between the listing and the thread that consumes them. A page of the longest keys has
/// about a megabyte.
const CHANNEL_PAGES: usize = 8;

/// Lists everything below a prefix, and passes it to the visitor. Resumes from the checkpoint of an earlier attempt
/// if there is one.
pub(super) async fn list<V: RowVisitor>(
    bucket: &BucketName,
    prefix: &ObjectKey,
    versions: ListedVersions,
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
    let (taker, name) = (PageConsumer::new(bucket.clone(), visitor, cursors), listing.clone());
    let taking = tokio::task::spawn_blocking(move || taker.run(receiver, &name));
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
        store: retrying,
        ranges,
        worker_limit: ListingWorkerLimit::new(listing_concurrency.workers),
        in_flight: FuturesUnordered::new(),
        messages,
    };
    let outcome = lister.run().await;
    // If the consumer failed, its error is the reason why it stopped receiving.
    let mut visitor = match (outcome, join(taking).await) {
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
            let Some(answer) = self.in_flight.next().await else { return Ok(()) };
            self.worker_limit.record_response(self.store.throttled_requests());
            match self.handle_response(answer).await {
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

    async fn handle_response(&mut self, answer: ListingResponse) -> Result<(), ListingAbort> {
        let ListingResponse { purpose, from, used_fallback: aged, page } = answer;
        match (purpose, page.ok_or(ListingAbort::ReceiverGone)?) {
            (ListingPurpose::Next(partition), Ok(page)) => self.handle_page(partition, from.as_ref(), aged, page).await,
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
        self.warn_single_worker(&fault.to_string()).await
    }

    async fn handle_page(
        &mut self,
        partition: PartitionId,
        from: Option<&ListPosition>,
        aged: bool,
        page: ListPage,
    ) -> Result<(), ListingAbort> {
        let unsure = aged || self.ranges.is_unproven(partition);
        match self.ranges.record_page(partition, from, page) {
            Ok(message) => self.send(message).await,
            Err(why) if unsure => self.restart(&why).await,
            Err(what) => {
                Err(ListingAbort::Failed(ManifestError::InconsistentListing { place: self.listing.clone(), what }))
            }
        }
    }

    async fn handle_probe(&mut self, partition: PartitionId, page: ListPage) -> Result<(), ListingAbort> {
        match self.ranges.record_probe(partition, page) {
            ProbeOutcome::NotSplit => Ok(()),
            ProbeOutcome::Split { at, message } => {
                self.send(ListingMessage::Split { partition, at }).await?;
                self.send(message).await
            }
            ProbeOutcome::Unsupported(why) => self.warn_single_worker(&why).await,
        }
    }

    /// Lists everything again: the server ignores the requested start, and perhaps its own tokens as well.
    async fn restart(&mut self, why: &str) -> Result<(), ListingAbort> {
        self.in_flight.clear();
        self.ranges.restart();
        self.send(ListingMessage::Restart).await?;
        self.warn_single_worker(why).await
    }

    async fn warn_single_worker(&mut self, why: &str) -> Result<(), ListingAbort> {
        let message =
            format!("{} is listed by one worker: the server cannot list from a given key: {why}", self.listing);
        self.send(ListingMessage::Warn { message, help: "the listing is complete, but takes longer" }).await
    }

    async fn send(&mut self, message: ListingMessage) -> Result<(), ListingAbort> {
        self.messages.send(message).await.map_err(|_| ListingAbort::ReceiverGone)
    }
}

/// Requests one page, once the previous page is consumed. If the server rejects a token of an earlier attempt, which
/// may have expired, requests the alternative position.
async fn request_page(
    retrying: &RetryingStore,
    purpose: ListingPurpose,
    request: ListRequest,
    wanted: PageRequest,
) -> ListingResponse {
    let PageRequest { from, fallback: otherwise, previous_consumed: taken, .. } = wanted;
    if let Some(taken) = taken
        && taken.await.is_err()
    {
        return ListingResponse { purpose, from, used_fallback: false, page: None };
    }
    let request = ListRequest { from, ..request };
    let page = match purpose {
        ListingPurpose::Next(_) => retrying.list(&request).await,
        ListingPurpose::Probe(_) => retrying.probe(&request).await,
    };
    let refused = matches!(&page, Err(ManifestError::Store { fault, .. }) if fault.status == Some(400));
    if let (true, Some(RangePosition::ListFrom(from))) = (refused, otherwise) {
        let again = ListRequest { from, ..request.clone() };
        // Expired credentials are a 400 as well: in that case the first error is returned.
        if let Ok(page) = retrying.list(&again).await {
            return ListingResponse { purpose, from: again.from, used_fallback: true, page: Some(Ok(page)) };
        }
    }
    ListingResponse { purpose, from: request.from, used_fallback: false, page: Some(page) }
}

#[cfg(test)]
mod tests;
