//! The source `prefix`: everything that a listing names.
//!
//! A listing begins as one range with one worker, and a small one stays that. One that goes on is cut: a range that has
//! been listed up to some key is cut at a guessed key behind it (`cut`), and a worker that has nothing to do lists what
//! is behind the cut. The first page behind a cut is asked for before anything is decided: where it is empty, nothing
//! was cut, and the next guess is a better one.
//!
//! What is asked for in vain is bounded: a cut, good or bad, is tried for every eighth page at most, and costs at most
//! one request, its own where nothing is behind it, otherwise the rest of the page that the range before it ends in.
//!
//! Ranges have no gap between them and no key in common, whatever the guesses were: a range takes the keys behind its
//! beginning, up to and with its end, with all their versions. The rows of each go into files of their own, so that
//! nothing waits in memory for its turn (`take`, and the room's `stretch`); in the end the files are put in order.

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

/// Pages between the listing and the thread that takes them: a page of the longest keys has about a megabyte.
const PAGES: usize = 8;

/// How a listing is spread over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// The most listing requests at once, from 1.
    pub(super) workers: u32,
    /// Pages that are listed for each cut that is tried.
    pub(super) pages_a_cut: u64,
    /// Pages that a range must be thought to have left to be cut.
    pub(super) least: u32,
}

impl Default for Spread {
    /// Sixteen: a server that answers in 20 ms sends 800 pages a second to them, and no store that was measured lists a
    /// prefix faster; and what sixteen ranges take of memory is bounded.
    fn default() -> Self {
        Self { workers: 16, pages_a_cut: 8, least: 4 }
    }
}

impl Spread {
    /// No more workers than this.
    pub(super) fn within(self, concurrency: Option<u32>) -> Self {
        Self { workers: self.workers.min(concurrency.unwrap_or(u32::MAX)).max(1), ..self }
    }
}

/// Lists everything below a prefix into the sink, from where an earlier attempt left off if there was one.
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
    // The taker's own error is why it listened no more.
    let mut sink = match (outcome, joined(taking).await) {
        (Ok(()) | Err(End::Deaf), Err(error)) | (Err(End::Failed(error)), _) => return Err(error),
        (Ok(()), Ok(sink)) => sink,
        (Err(End::Deaf), Ok(_)) => return Err(ManifestError::Stopped),
    };
    sink.note_prefix(bucket.as_str(), prefix.as_bytes());
    Ok(sink)
}

/// Why the listing ended before its end.
enum End {
    /// It cannot go on.
    Failed(ManifestError),
    /// Nobody takes its pages any more.
    Deaf,
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// The next page of a range.
    Next(Lane),
    /// What is behind a cut through it.
    Probe(Lane),
}

struct Answer {
    purpose: Purpose,
    /// What was asked for in the end.
    from: Option<ListMark>,
    /// Whether that is another thing than was to be asked for: the server did not take a token of an earlier attempt.
    aged: bool,
    /// `None` where nobody took the page before.
    page: Option<Result<ListPage, ManifestError>>,
}

/// Asks for the pages of all ranges, and sends them on.
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
                    // The other answers are given up, and what was taken is kept. The first error stands.
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

    /// Gives every worker that may be at work something to do, as far as there is anything.
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

    /// A cut is only a guess, so that nothing is lost where its page cannot be had. Whatever else is wrong, such as
    /// credentials that are refused, shows at the next page of a range.
    async fn hear_refusal(&mut self, lane: Lane, fault: &Fault) -> Result<(), End> {
        // Neither says anything of what the server can do.
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

    /// The server does not begin where it is told to, and perhaps does not take its own token either: everything is listed
    /// anew.
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

/// One page, once the one before it was taken. Where the server does not take a token of an earlier attempt, because
/// tokens may age, it is asked otherwise.
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
        // Expired credentials are a 400 as well: then the first refusal stands.
        if let Ok(page) = patient.list(&again).await {
            return Answer { purpose, from: again.from, aged: true, page: Some(Ok(page)) };
        }
    }
    Answer { purpose, from: request.from, aged: false, page: Some(page) }
}

#[cfg(test)]
mod tests;
