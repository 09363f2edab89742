//! The queue of messages: in which order and when they are sent.
//!
//! Messages to one endpoint are sent one at a time. A message that is not accepted is sent again before the next one to
//! the same endpoint, until the process ends. Then the last status of each job is sent first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::carrier::Refused;
use super::letter::Letter;
use super::receiver::Receiver;
use crate::backoff::{Backoff, RetryPolicy};
use crate::plan::Event;
use crate::timeouts::scaled;

/// The maximum number of waiting messages. A job has a handful. More of them means that an endpoint is down while many
/// jobs run.
pub(super) const MAX_WAITING: usize = 256;

/// The maximum number of messages in flight.
const MAX_UNDER_WAY: usize = 16;

/// The maximum time for a message from its first attempt on, for one attempt, and for one attempt at the end of the
/// process, where several messages may have to share fifteen seconds.
const IN_ALL: Duration = Duration::from_mins(1);
const ATTEMPT: Duration = Duration::from_secs(10);
const ATTEMPT_AT_THE_END: Duration = Duration::from_secs(5);

/// The delays between the attempts to send a message, and the maximum number of attempts.
const RETRIES: RetryPolicy =
    RetryPolicy { base: Duration::from_millis(500), cap: Duration::from_secs(15), attempts: 5 };

/// The messages that are not delivered yet.
#[derive(Default)]
pub(super) struct LetterQueue {
    /// In the order in which they were posted.
    waiting: VecDeque<QueuedLetter>,
    /// By the receiver's whole URL.
    under_way: HashMap<String, LetterUnderWay>,
    /// Until when receivers accept no messages, by their whole URLs.
    paused: HashMap<String, Instant>,
    /// The number of messages that are given up and not reported yet. A caller that waits for all messages waits for
    /// these, too.
    untold: usize,
    /// The number of messages posted so far.
    count: u64,
    /// Whether the process is ending and only sends messages.
    ending: bool,
    /// Whether nothing waits for the messages any more. Undelivered messages are no longer reported.
    closed: bool,
}

/// A message that waits to be sent.
pub(super) struct QueuedLetter {
    pub(super) receiver: Arc<Receiver>,
    pub(super) letter: Letter,
    /// The position of the message among all posted messages.
    number: u64,
    /// Whether a later status of the same job waits for the same receiver, or was sent before this one.
    superseded: bool,
    backoff: Backoff,
    /// When the message is given up. Set at its first attempt.
    deadline: Option<Instant>,
    /// When the message is due to be sent again.
    not_before: Option<Instant>,
    /// Why the last attempt failed.
    last_failure: Option<String>,
}

/// A message that is in flight.
struct LetterUnderWay {
    job: String,
    event: Event,
    superseded: bool,
    last_failure: Option<String>,
    /// Cancels the attempt, so that another message is sent first.
    recall: CancellationToken,
}

/// The messages that were not delivered when the process stopped waiting for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Undone {
    /// The number of messages.
    pub count: usize,
    /// Why the last attempt of one of them failed, if there was one.
    pub last_failure: Option<String>,
}

pub(super) enum NextStep {
    /// Send this message, with a time limit for the attempt.
    Send(Box<QueuedLetter>, Duration, CancellationToken),
    /// Give up this message, for this reason.
    GiveUp(Letter, String),
    /// Wait until a message is posted or an attempt ends, or until this time.
    Wait(Option<Instant>),
}

impl QueuedLetter {
    /// Returns whether this is the last status of its job for this receiver.
    fn is_last(&self) -> bool {
        is_status(self.letter.event) && !self.superseded
    }
}

impl LetterQueue {
    /// Adds a message. If too many messages wait, removes the oldest one and returns it.
    pub(super) fn push(&mut self, receiver: &Arc<Receiver>, letter: Letter) -> Option<QueuedLetter> {
        let dropped = if self.waiting.len() >= MAX_WAITING { self.waiting.pop_front() } else { None };
        if is_status(letter.event) {
            let url = receiver.url.in_full();
            let earlier =
                self.waiting.iter_mut().filter(|it| it.letter.job == letter.job && it.receiver.url.in_full() == url);
            earlier.for_each(|it| it.superseded = true);
            self.under_way
                .get_mut(&url)
                .filter(|it| it.job == letter.job)
                .into_iter()
                .for_each(|it| it.superseded = true);
        }
        self.count += 1;
        self.waiting.push_back(QueuedLetter {
            receiver: Arc::clone(receiver),
            letter,
            number: self.count,
            superseded: false,
            backoff: Backoff::new(RETRIES),
            deadline: None,
            not_before: None,
            last_failure: None,
        });
        self.make_way();
        dropped
    }

    /// Returns the number of messages, including those in flight.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len() + self.untold
    }

    #[cfg(test)]
    pub(super) fn is_sending(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Records that a given-up message was reported.
    pub(super) fn was_told(&mut self) {
        self.untold = self.untold.saturating_sub(1);
    }

    /// From now on, the last status of each job is sent first.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.make_way();
    }

    /// Gives up the waiting messages. Messages in flight are not cancelled.
    pub(super) fn close(&mut self) -> Undone {
        self.closed = true;
        let count = self.len();
        let under_way = self.under_way.values().map(|it| it.last_failure.clone());
        let mut failures = under_way.chain(self.waiting.drain(..).map(|it| it.last_failure));
        Undone { count, last_failure: failures.find_map(|why| why) }
    }

    /// Returns whether undelivered messages are no longer reported.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Removes and returns all waiting messages.
    pub(super) fn take_all(&mut self) -> VecDeque<QueuedLetter> {
        std::mem::take(&mut self.waiting)
    }

    /// Returns what to do now.
    pub(super) fn next(&mut self, now: Instant) -> NextStep {
        self.paused.retain(|_, until| *until > now);
        if self.under_way.len() >= MAX_UNDER_WAY {
            return NextStep::Wait(None);
        }
        let mut seen: Vec<String> = self.under_way.keys().cloned().collect();
        let mut soonest: Option<Instant> = None;
        for at in self.in_turn(now) {
            let posted = &self.waiting[at];
            let url = posted.receiver.url.in_full();
            if seen.contains(&url) {
                continue;
            }
            let paused = self.paused.get(&url).copied();
            if paused.is_some_and(|until| until >= now + scaled(IN_ALL)) {
                let why = format!("{} wants no messages for now", posted.receiver);
                let Some(posted) = self.waiting.remove(at) else { return NextStep::Wait(None) };
                let (letter, why) = self.given_up(posted, why);
                return NextStep::GiveUp(letter, why);
            }
            match paused.max(posted.not_before).filter(|due| *due > now) {
                Some(due) => soonest = Some(soonest.map_or(due, |other| other.min(due))),
                None => return self.send(at, now),
            }
            // A later message does not overtake this one, unless the process is ending.
            if !self.ending {
                seen.push(url);
            }
        }
        NextStep::Wait(soonest)
    }

    /// Returns the indexes of the waiting messages in the order in which to try them.
    fn in_turn(&self, now: Instant) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.waiting.len()).collect();
        if self.ending {
            places.sort_by_cached_key(|at| {
                let posted = &self.waiting[*at];
                let due = posted.not_before.is_none_or(|due| due <= now);
                (!due, !posted.is_last(), posted.backoff.failures(), posted.number)
            });
        }
        places
    }

    fn send(&mut self, at: usize, now: Instant) -> NextStep {
        let Some(mut posted) = self.waiting.remove(at) else { return NextStep::Wait(None) };
        let deadline = *posted.deadline.get_or_insert(now + scaled(IN_ALL));
        let most = scaled(if self.ending { ATTEMPT_AT_THE_END } else { ATTEMPT });
        let (job, event, superseded) = (posted.letter.job.clone(), posted.letter.event, posted.superseded);
        let recall = CancellationToken::new();
        let last_failure = posted.last_failure.clone();
        let under_way = LetterUnderWay { job, event, superseded, last_failure, recall: recall.clone() };
        self.under_way.insert(posted.receiver.url.in_full(), under_way);
        NextStep::Send(Box::new(posted), most.min(deadline.saturating_duration_since(now)), recall)
    }

    /// While the process is ending, cancels attempts that delay the last status of a job and do not send one
    /// themselves.
    fn make_way(&self) {
        if !self.ending {
            return;
        }
        for posted in self.waiting.iter().filter(|posted| posted.is_last()) {
            let sent = self.under_way.get(&posted.receiver.url.in_full());
            if let Some(sent) = sent.filter(|sent| sent.superseded || !is_status(sent.event)) {
                sent.recall.cancel();
            }
        }
    }

    fn given_up(&mut self, posted: QueuedLetter, why: String) -> (Letter, String) {
        self.untold += 1;
        (posted.letter, why)
    }

    /// Records the result of an attempt, which is `None` if it was cancelled. Returns the message if it is given up.
    pub(super) fn took(
        &mut self,
        mut posted: QueuedLetter,
        became: Option<Result<(), Refused>>,
        now: Instant,
    ) -> Option<(Letter, String)> {
        if let Some(sent) = self.under_way.remove(&posted.receiver.url.in_full()) {
            posted.superseded = sent.superseded;
        }
        match became {
            Some(Ok(())) => return None,
            Some(Err(Refused::ForGood(why))) => return Some(self.given_up(posted, why)),
            Some(Err(Refused::ForNow { why, pause })) => {
                if let Some(pause) = pause {
                    self.paused.insert(posted.receiver.url.in_full(), now + pause);
                }
                let wait = posted.backoff.after_failure();
                let again = wait.map(|wait| now + wait.max(pause.unwrap_or_default().min(scaled(IN_ALL))));
                let again = again.filter(|again| posted.deadline.is_none_or(|deadline| *again < deadline));
                if again.is_none() {
                    let why = format!("{why}; tried {} times", posted.backoff.failures());
                    return Some(self.given_up(posted, why));
                }
                posted.not_before = again;
                posted.last_failure = Some(why);
            }
            None => {}
        }
        if !self.closed {
            let at = self.waiting.partition_point(|other| other.number < posted.number);
            self.waiting.insert(at, posted);
        }
        None
    }
}

/// Returns whether an event is a job status, which a later status supersedes.
fn is_status(event: Event) -> bool {
    !matches!(event, Event::FailureRate | Event::RunTime)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::web::Url;

    fn told(job: usize, event: Event) -> Letter {
        Letter { id: "id".to_owned(), event, job: job.to_string(), body: Bytes::from_static(b"{}") }
    }

    /// Returns the message that is sent next, if one is to be sent now.
    fn sent(state: &mut LetterQueue, now: Instant) -> Option<QueuedLetter> {
        match state.next(now) {
            NextStep::Send(posted, ..) => Some(*posted),
            NextStep::GiveUp(..) | NextStep::Wait(_) => None,
        }
    }

    fn name(posted: &QueuedLetter) -> (String, &'static str) {
        (posted.letter.job.clone(), posted.letter.event.as_str())
    }

    /// Returns a queue with these messages to one receiver.
    fn still(letters: &[(usize, Event)]) -> LetterQueue {
        let url = Url::parse("http://127.0.0.1:1/hook").expect("a URL");
        let on = vec![Event::Failed];
        let receiver = Receiver { url, seal: None, allow_http: false, on, failure_rate: None, run_time: None };
        let (receiver, mut queue) = (Arc::new(receiver), LetterQueue::default());
        for (job, event) in letters {
            assert!(queue.push(&receiver, told(*job, *event)).is_none());
        }
        queue
    }

    fn refused(pause: Option<u64>) -> Result<(), Refused> {
        Err(Refused::ForNow { why: "no".to_owned(), pause: pause.map(Duration::from_secs) })
    }

    #[test]
    fn letters_go_in_their_order_until_the_end_and_then_the_last_statuses_go_first() {
        let letters = [
            (1, Event::Active),
            (1, Event::RunTime),
            (2, Event::Active),
            (1, Event::Complete),
            (2, Event::Failed),
            (3, Event::Active),
        ];
        let (mut state, now) = (still(&letters), Instant::now());
        let first = sent(&mut state, now).expect("a letter");
        assert_eq!(name(&first), ("1".to_owned(), "active"));
        assert!(sent(&mut state, now).is_none(), "one at a time");
        let url = first.receiver.url.in_full();
        let recall = state.under_way[&url].recall.clone();
        assert!(state.took(first, Some(refused(None)), now).is_none());
        assert!(sent(&mut state, now).is_none(), "the others wait for it");
        let first = sent(&mut state, now + Duration::from_secs(2)).expect("again");
        assert_eq!(name(&first), ("1".to_owned(), "active"));
        let again = state.under_way[&url].recall.clone();
        state.end();
        assert!(again.is_cancelled() && !recall.is_cancelled());
        assert!(state.took(first, None, now).is_none());
        let mut order = Vec::new();
        let mut at = now + Duration::from_secs(30);
        while let Some(posted) = sent(&mut state, at) {
            order.push(name(&posted));
            let fails = posted.backoff.failures() == 0 && posted.letter.event == Event::Complete;
            assert!(state.took(posted, Some(if fails { refused(None) } else { Ok(()) }), at).is_none());
            at += Duration::from_secs(2);
        }
        let order: Vec<_> = order.iter().map(|(job, event)| format!("{job} {event}")).collect();
        // The failed one is tried again when it is due, after the last statuses that have not failed yet.
        let once: Vec<_> = order.iter().filter(|it| *it != "1 complete").map(String::as_str).collect();
        assert_eq!(once, ["2 failed", "3 active", "1 run-time", "2 active", "1 active"], "{order:?}");
        assert_eq!((order[0].as_str(), order.len()), ("1 complete", 7), "{order:?}");
    }

    #[test]
    fn what_is_not_delivered_says_why_it_was_not_taken_last_whether_it_waits_or_is_being_sent() {
        let now = Instant::now();
        for sending in [false, true] {
            let mut state = still(&[(1, Event::Complete), (2, Event::Complete)]);
            let first = sent(&mut state, now).expect("a letter");
            assert!(state.took(first, Some(refused(None)), now).is_none());
            let again = sending.then(|| sent(&mut state, now + Duration::from_secs(2)).expect("again"));
            assert_eq!(state.close(), Undone { count: 2, last_failure: Some("no".to_owned()) });
            assert_eq!((again.is_some(), state.len()), (sending, usize::from(sending)));
        }
        let untried = still(&[(1, Event::Complete)]).close();
        assert_eq!(untried, Undone { count: 1, last_failure: None });
    }

    #[test]
    fn a_last_status_that_is_being_sent_is_not_called_back() {
        let mut state = still(&[(1, Event::Complete), (2, Event::Complete)]);
        let first = sent(&mut state, Instant::now()).expect("a letter");
        state.end();
        assert!(!state.under_way[&first.receiver.url.in_full()].recall.is_cancelled());
    }

    #[test]
    fn a_receiver_that_has_had_too_many_gets_none_for_as_long_as_it_says() {
        let (mut state, now) = (still(&[(1, Event::Active), (2, Event::Active), (3, Event::Active)]), Instant::now());
        let first = sent(&mut state, now).expect("a letter");
        // Even if this message were given up by then, the next ones wait.
        assert!(state.took(first, Some(refused(Some(59))), now).is_none());
        state.waiting.pop_front();
        assert!(matches!(state.next(now), NextStep::Wait(Some(until)) if until == now + Duration::from_secs(59)));
        state.ending = true;
        assert!(matches!(state.next(now), NextStep::Wait(Some(_))), "even at the end");
        let second = sent(&mut state, now + Duration::from_mins(1)).expect("it may go");
        assert_eq!(name(&second), ("2".to_owned(), "active"));
        let later = now + Duration::from_mins(1);
        let given_up = state.took(second, Some(refused(Some(3600))), later).expect("it takes too long");
        assert_eq!(given_up.1, "no; tried 1 times");
        let NextStep::GiveUp(third, why) = state.next(later) else { panic!("it is not tried") };
        assert_eq!((third.job.as_str(), why.as_str()), ("3", "http://127.0.0.1:1 wants no messages for now"));
        assert_eq!(state.len(), 2, "it is not over before that was told");
        state.was_told();
        state.was_told();
        assert_eq!(state.len(), 0);
    }
}
