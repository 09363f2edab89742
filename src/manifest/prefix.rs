//! The source `prefix`: everything in the listing of a prefix.
//!
//! A listing starts as one range with one worker, and a small listing stays that way. A longer listing is split: a
//! range that has been listed up to some key is split at a guessed key after it (`cut`), and an idle worker lists the
//! part after the split point. The first page after the split point is requested before the split is made: if it is
//! empty, there is no split, and the next guess is better informed.
//!
//! The number of wasted requests is bounded. There is at most one attempt per eight pages, and each attempt, good or
//! bad, costs at most one extra request: the probe itself if nothing lies after the split point, otherwise the rest of
//! the page in which the first range ends.
//!
//! Ranges have no gaps and no keys in common, whatever the guesses: a range contains the keys after its start, up to
//! and including its end, with all their versions. The rows of each range go to files of their own, so that no row
//! waits in memory (`take`, and `stretch` in the parent module). In the end the files are put in order.

mod cut;
mod fleet;
mod range;
mod take;
mod walk;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::draft::{Mark, Next, RangeMark};
use super::error::{ManifestError, place};
use super::input::joined;
use super::part::Lane;
use super::patient::Patient;
use super::sink::Sink;
use super::spec::Versions;
use crate::object::{Bucket, Key};
use crate::store::{ListMark, ListPage, ListRequest};
use crate::task::{Fault, FaultClass};
use fleet::Fleet;
use range::{Probed, Ranges, Wanted};
use take::{Message, Taker};

/// The maximum number of pages between the listing and the thread that consumes them. A page of the longest keys has
/// about a megabyte.
const PAGES: usize = 8;

/// How a listing is distributed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// The maximum number of concurrent listing requests, at least 1.
    pub(super) workers: u32,
    /// The number of listed pages per attempt to split a range.
    pub(super) pages_a_cut: u64,
    /// The minimum number of pages that a range must probably have left to be split.
    pub(super) least: u32,
}

impl Default for Spread {
    /// Sixteen workers: a server that responds in 20 ms returns 800 pages per second to them, and no store that was
    /// measured lists a prefix faster. The memory for sixteen ranges is bounded.
    fn default() -> Self {
        Self { workers: 16, pages_a_cut: 8, least: 4 }
    }
}

impl Spread {
    /// Limits the number of workers.
    pub(super) fn within(self, concurrency: Option<u32>) -> Self {
        Self { workers: self.workers.min(concurrency.unwrap_or(u32::MAX)).max(1), ..self }
    }
}

/// Lists everything below a prefix, and writes it to the row writer. Resumes from the checkpoint of an earlier attempt
/// if there is one.
pub(super) async fn list(
    bucket: &Bucket,
    prefix: &Key,
    versions: Versions,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Sink, ManifestError> {
    let marks = match sink.take_mark() {
        Some(Mark::Listing(ranges)) => ranges,
        Some(Mark::Inventory { .. }) | None => vec![RangeMark::whole()],
    };
    let listing = place(bucket, prefix);
    let spread = sink.sizes().spread;
    let ranges = Ranges::new(prefix.clone(), versions == Versions::All, &marks, spread);
    let (messages, receiver) = mpsc::channel(PAGES);
    let (taker, name) = (Taker::new(bucket.clone(), sink, marks), listing.clone());
    let taking = tokio::task::spawn_blocking(move || taker.run(receiver, &name));
    let request = ListRequest {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        all_versions: ranges.all_versions(),
        directories: false,
        from: None,
    };
    let lister = Lister {
        request,
        listing,
        patient,
        ranges,
        fleet: Fleet::new(spread.workers),
        asked: FuturesUnordered::new(),
        messages,
    };
    let outcome = lister.run().await;
    // If the consumer failed, its error is the reason why it stopped receiving.
    let mut sink = match (outcome, joined(taking).await) {
        (Ok(()) | Err(End::Deaf), Err(error)) | (Err(End::Failed(error)), _) => return Err(error),
        (Ok(()), Ok(sink)) => sink,
        (Err(End::Deaf), Ok(_)) => return Err(ManifestError::Stopped),
    };
    sink.note_prefix(bucket.as_str(), prefix.as_bytes());
    Ok(sink)
}

/// Why a listing ended early.
enum End {
    Failed(ManifestError),
    /// The receiver of the pages is gone.
    Deaf,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// The next page of a range.
    Next(Lane),
    /// The first page after a split point in the range.
    Probe(Lane),
}

struct Answer {
    purpose: Purpose,
    /// The position of the request that succeeded or failed last.
    from: Option<ListMark>,
    /// Whether that differs from the requested position: the server rejected the token of an earlier attempt.
    aged: bool,
    /// `None` if the previous page was never consumed.
    page: Option<Result<ListPage, ManifestError>>,
}

/// Requests the pages of all ranges, and sends them to the consumer.
struct Lister<'a> {
    request: ListRequest,
    listing: String,
    patient: &'a Patient,
    ranges: Ranges,
    fleet: Fleet,
    asked: FuturesUnordered<BoxFuture<'a, Answer>>,
    messages: mpsc::Sender<Message>,
}

impl Lister<'_> {
    async fn run(mut self) -> Result<(), End> {
        loop {
            self.ask();
            let Some(answer) = self.asked.next().await else { return Ok(()) };
            self.fleet.answered(self.patient.throttled());
            match self.hear(answer).await {
                Ok(()) => {}
                Err(End::Failed(error)) => {
                    // Drop the other requests, but keep what was consumed. The first error is returned.
                    self.asked.clear();
                    if error.may_pass() {
                        let _ = self.messages.send(Message::Keep).await;
                    }
                    return Err(End::Failed(error));
                }
                Err(End::Deaf) => return Err(End::Deaf),
            }
        }
    }

    /// Starts requests for all idle workers, as long as there is work.
    fn ask(&mut self) {
        while self.asked.len() < self.fleet.allowed() {
            let (purpose, wanted) = if let Some(wanted) = self.ranges.next_waiting() {
                (Purpose::Next(wanted.lane), wanted)
            } else if let Some((lane, at)) = self.ranges.next_cut() {
                let from = Some(ListMark::After { key: at, version: None });
                (Purpose::Probe(lane), Wanted { lane, from, otherwise: None, taken: None })
            } else {
                return;
            };
            let request = self.request.clone();
            self.asked.push(Box::pin(ask(self.patient, purpose, request, wanted)));
        }
    }

    async fn hear(&mut self, answer: Answer) -> Result<(), End> {
        let Answer { purpose, from, aged, page } = answer;
        match (purpose, page.ok_or(End::Deaf)?) {
            (Purpose::Next(lane), Ok(page)) => self.hear_next(lane, from.as_ref(), aged, page).await,
            (Purpose::Probe(lane), Ok(page)) => self.hear_probe(lane, page).await,
            (Purpose::Probe(lane), Err(ManifestError::Store { fault, .. })) => self.hear_refusal(lane, &fault).await,
            (_, Err(error)) => Err(End::Failed(error)),
        }
    }

    /// Gives up a probe that failed. A split point is only a guess, so nothing is lost. Other problems, such as
    /// rejected credentials, recur at the next page of a range.
    async fn hear_refusal(&mut self, lane: Lane, fault: &Fault) -> Result<(), End> {
        // Neither error says anything about the abilities of the server.
        if matches!(fault.class, FaultClass::Throttled | FaultClass::Credentials) {
            self.ranges.abandoned(lane);
            return Ok(());
        }
        self.ranges.refused(lane);
        self.warn_alone(&fault.to_string()).await
    }

    async fn hear_next(&mut self, lane: Lane, from: Option<&ListMark>, aged: bool, page: ListPage) -> Result<(), End> {
        let unsure = aged || self.ranges.is_unproven(lane);
        match self.ranges.take(lane, from, page) {
            Ok(message) => self.send(message).await,
            Err(why) if unsure => self.start_over(&why).await,
            Err(what) => Err(End::Failed(ManifestError::Listing { place: self.listing.clone(), what })),
        }
    }

    async fn hear_probe(&mut self, lane: Lane, page: ListPage) -> Result<(), End> {
        match self.ranges.probed(lane, page) {
            Probed::Vain => Ok(()),
            Probed::Cut { at, message } => {
                self.send(Message::Cut { lane, at }).await?;
                self.send(message).await
            }
            Probed::Ignored(why) => self.warn_alone(&why).await,
        }
    }

    /// Lists everything again: the server ignores the requested start, and perhaps its own tokens as well.
    async fn start_over(&mut self, why: &str) -> Result<(), End> {
        self.asked.clear();
        self.ranges.start_over();
        self.send(Message::StartOver).await?;
        self.warn_alone(why).await
    }

    async fn warn_alone(&mut self, why: &str) -> Result<(), End> {
        let message =
            format!("{} is listed by one worker: the server does not begin behind a key: {why}", self.listing);
        self.send(Message::Warn { message, help: "nothing is missing; it takes longer than elsewhere" }).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        self.messages.send(message).await.map_err(|_| End::Deaf)
    }
}

/// Requests one page, once the previous page is consumed. If the server rejects a token of an earlier attempt, which
/// may have expired, requests the alternative position.
async fn ask(patient: &Patient, purpose: Purpose, request: ListRequest, wanted: Wanted) -> Answer {
    let Wanted { from, otherwise, taken, .. } = wanted;
    if let Some(taken) = taken
        && taken.await.is_err()
    {
        return Answer { purpose, from, aged: false, page: None };
    }
    let request = ListRequest { from, ..request };
    let page = match purpose {
        Purpose::Next(_) => patient.list(&request).await,
        Purpose::Probe(_) => patient.probe(&request).await,
    };
    let refused = matches!(&page, Err(ManifestError::Store { fault, .. }) if fault.status == Some(400));
    if let (true, Some(Next::List(from))) = (refused, otherwise) {
        let again = ListRequest { from, ..request.clone() };
        // Expired credentials are a 400 as well: in that case the first error is returned.
        if let Ok(page) = patient.list(&again).await {
            return Answer { purpose, from: again.from, aged: true, page: Some(Ok(page)) };
        }
    }
    Answer { purpose, from: request.from, aged: false, page: Some(page) }
}

#[cfg(test)]
mod tests;
