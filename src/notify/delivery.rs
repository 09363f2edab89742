//! The queue of messages: in which order and when they are sent, the thread that sends them, and what an endpoint's
//! response means.
//!
//! Messages to one endpoint are sent one at a time, messages to several endpoints concurrently. A message that is not
//! accepted is sent again before the next one to the same endpoint, until the process ends. Then the last status of
//! each job is sent first.
//!
//! The thread is a separate one, because some commands have their own runtimes and others have none, and because a job
//! and a slow endpoint must not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use std::{fmt, thread};

use batchplan_store::Mutex;
use batchplan_store::backoff::{Backoff, RetryPolicy};
use batchplan_store::timeouts::scaled;
use batchplan_store::web::{WebClient, WebRequest, WebRequestError};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::webhook::{WebhookEndpoint, WebhookMessage};
use crate::plan::WebhookEvent;

/// The maximum number of waiting messages. A job has a handful. More of them means that an endpoint is down while many
/// jobs run.
const MAX_WAITING: usize = 256;

/// The maximum number of messages in flight.
const MAX_IN_FLIGHT: usize = 16;

/// The maximum time for a message from its first attempt on, for one attempt, and for one attempt at the end of the
/// process, where several messages may have to share fifteen seconds.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(1);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const FINAL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The delays between the attempts to send a message, and the maximum number of attempts.
const MESSAGE_RETRY_POLICY: RetryPolicy =
    RetryPolicy { base_delay: Duration::from_millis(500), max_delay: Duration::from_secs(15), max_attempts: 5 };

/// The messages that are not delivered yet.
#[derive(Default)]
struct MessageQueue {
    /// In the order in which they were posted.
    waiting: VecDeque<QueuedMessage>,
    /// By the endpoint's whole URL.
    in_flight: HashMap<String, MessageInFlight>,
    /// Until when receivers accept no messages, by their whole URLs.
    paused_until: HashMap<String, Instant>,
    /// The number of messages that are given up and not reported yet. A caller that waits for all messages waits for
    /// these, too.
    unreported: usize,
    /// The number of messages posted so far.
    posted: u64,
    /// Whether the process is ending and only sends messages.
    shutting_down: bool,
    /// Whether nothing waits for the messages any more. Undelivered messages are no longer reported.
    closed: bool,
}

/// A message that waits to be sent.
struct QueuedMessage {
    endpoint: Arc<WebhookEndpoint>,
    message: WebhookMessage,
    /// The position of the message among all posted messages.
    sequence: u64,
    /// Whether a later status of the same job waits for the same endpoint, or was sent before this one.
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
struct MessageInFlight {
    job: String,
    event: WebhookEvent,
    superseded: bool,
    last_failure: Option<String>,
    /// Cancels the attempt, so that another message is sent first.
    cancel: CancellationToken,
}

/// The messages that were not delivered when the process stopped waiting for them.
#[derive(Debug, PartialEq, Eq)]
pub struct AbandonedMessages {
    /// The number of messages.
    pub count: usize,
    /// Why the last attempt of one of them failed, if there was one.
    pub last_failure: Option<String>,
}

enum QueueAction {
    /// Send this message, with a time limit for the attempt.
    Send(Box<QueuedMessage>, Duration, CancellationToken),
    /// Give up this message, for this reason.
    GiveUp(WebhookMessage, String),
    /// Wait until a message is posted or an attempt ends, or until this time.
    Wait(Option<Instant>),
}

impl QueuedMessage {
    /// Returns whether this is the last status of its job for this endpoint.
    fn is_latest_status(&self) -> bool {
        is_status_event(self.message.event) && !self.superseded
    }
}

impl MessageQueue {
    /// Adds a message. If too many messages wait, removes the oldest one and returns it.
    fn push(&mut self, endpoint: &Arc<WebhookEndpoint>, message: WebhookMessage) -> Option<QueuedMessage> {
        let dropped = if self.waiting.len() >= MAX_WAITING { self.waiting.pop_front() } else { None };
        if is_status_event(message.event) {
            let url = endpoint.url.full_url();
            let earlier =
                self.waiting.iter_mut().filter(|it| it.message.job == message.job && it.endpoint.url.full_url() == url);
            earlier.for_each(|it| it.superseded = true);
            self.in_flight
                .get_mut(&url)
                .filter(|it| it.job == message.job)
                .into_iter()
                .for_each(|it| it.superseded = true);
        }
        self.posted += 1;
        self.waiting.push_back(QueuedMessage {
            endpoint: Arc::clone(endpoint),
            message,
            sequence: self.posted,
            superseded: false,
            backoff: Backoff::new(MESSAGE_RETRY_POLICY),
            deadline: None,
            not_before: None,
            last_failure: None,
        });
        self.cancel_blocking_attempts();
        dropped
    }

    /// Returns the number of messages, including those in flight.
    fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len() + self.unreported
    }

    #[cfg(test)]
    fn is_sending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Records that a given-up message was reported.
    fn mark_reported(&mut self) {
        self.unreported = self.unreported.saturating_sub(1);
    }

    /// From now on, the last status of each job is sent first.
    fn begin_shutdown(&mut self) {
        self.shutting_down = true;
        self.cancel_blocking_attempts();
    }

    /// Gives up the waiting messages. Messages in flight are not cancelled.
    fn close(&mut self) -> AbandonedMessages {
        self.closed = true;
        let count = self.len();
        let in_flight = self.in_flight.values().map(|it| it.last_failure.clone());
        let mut failures = in_flight.chain(self.waiting.drain(..).map(|it| it.last_failure));
        AbandonedMessages { count, last_failure: failures.find_map(|why| why) }
    }

    /// Returns whether undelivered messages are no longer reported.
    fn is_closed(&self) -> bool {
        self.closed
    }

    /// Removes and returns all waiting messages.
    fn drain_waiting(&mut self) -> VecDeque<QueuedMessage> {
        std::mem::take(&mut self.waiting)
    }

    /// Returns what to do now.
    fn next_action(&mut self, now: Instant) -> QueueAction {
        self.paused_until.retain(|_, until| *until > now);
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return QueueAction::Wait(None);
        }
        let mut busy: Vec<String> = self.in_flight.keys().cloned().collect();
        let mut soonest: Option<Instant> = None;
        for at in self.send_order(now) {
            let queued = &self.waiting[at];
            let url = queued.endpoint.url.full_url();
            if busy.contains(&url) {
                continue;
            }
            let paused = self.paused_until.get(&url).copied();
            if paused.is_some_and(|until| until >= now + scaled(DELIVERY_TIMEOUT)) {
                let why = format!("{} asked to receive no messages for now", queued.endpoint);
                let Some(queued) = self.waiting.remove(at) else { return QueueAction::Wait(None) };
                let (message, why) = self.give_up(queued, why);
                return QueueAction::GiveUp(message, why);
            }
            match paused.max(queued.not_before).filter(|due| *due > now) {
                Some(due) => soonest = Some(soonest.map_or(due, |other| other.min(due))),
                None => return self.start_attempt(at, now),
            }
            // A later message does not overtake this one, unless the process is ending.
            if !self.shutting_down {
                busy.push(url);
            }
        }
        QueueAction::Wait(soonest)
    }

    /// Returns the indexes of the waiting messages in the order in which to try them.
    fn send_order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        if self.shutting_down {
            order.sort_by_cached_key(|at| {
                let queued = &self.waiting[*at];
                let due = queued.not_before.is_none_or(|due| due <= now);
                (!due, !queued.is_latest_status(), queued.backoff.failures(), queued.sequence)
            });
        }
        order
    }

    fn start_attempt(&mut self, at: usize, now: Instant) -> QueueAction {
        let Some(mut queued) = self.waiting.remove(at) else { return QueueAction::Wait(None) };
        let deadline = *queued.deadline.get_or_insert(now + scaled(DELIVERY_TIMEOUT));
        let limit = scaled(if self.shutting_down { FINAL_ATTEMPT_TIMEOUT } else { ATTEMPT_TIMEOUT });
        let (job, event, superseded) = (queued.message.job.clone(), queued.message.event, queued.superseded);
        let cancel = CancellationToken::new();
        let last_failure = queued.last_failure.clone();
        let in_flight = MessageInFlight { job, event, superseded, last_failure, cancel: cancel.clone() };
        self.in_flight.insert(queued.endpoint.url.full_url(), in_flight);
        QueueAction::Send(Box::new(queued), limit.min(deadline.saturating_duration_since(now)), cancel)
    }

    /// While the process is ending, cancels attempts that delay the last status of a job and do not send one
    /// themselves.
    fn cancel_blocking_attempts(&self) {
        if !self.shutting_down {
            return;
        }
        for queued in self.waiting.iter().filter(|queued| queued.is_latest_status()) {
            let sent = self.in_flight.get(&queued.endpoint.url.full_url());
            if let Some(sent) = sent.filter(|sent| sent.superseded || !is_status_event(sent.event)) {
                sent.cancel.cancel();
            }
        }
    }

    fn give_up(&mut self, queued: QueuedMessage, why: String) -> (WebhookMessage, String) {
        self.unreported += 1;
        (queued.message, why)
    }

    /// Records the result of an attempt, which is `None` if it was cancelled. Returns the message if it is given up.
    fn finish_attempt(
        &mut self,
        mut queued: QueuedMessage,
        result: Option<Result<(), DeliveryError>>,
        now: Instant,
    ) -> Option<(WebhookMessage, String)> {
        if let Some(sent) = self.in_flight.remove(&queued.endpoint.url.full_url()) {
            queued.superseded = sent.superseded;
        }
        match result {
            Some(Ok(())) => return None,
            Some(Err(DeliveryError::Permanent(why))) => return Some(self.give_up(queued, why)),
            Some(Err(DeliveryError::Retryable { reason: why, pause })) => {
                if let Some(pause) = pause {
                    self.paused_until.insert(queued.endpoint.url.full_url(), now + pause);
                }
                let wait = queued.backoff.next_delay();
                let again = wait.map(|wait| now + wait.max(pause.unwrap_or_default().min(scaled(DELIVERY_TIMEOUT))));
                let again = again.filter(|again| queued.deadline.is_none_or(|deadline| *again < deadline));
                if again.is_none() {
                    let attempts = match queued.backoff.failures() {
                        1 => "1 attempt".to_owned(),
                        count => format!("{count} attempts"),
                    };
                    let why = format!("{why}; gave up after {attempts}");
                    return Some(self.give_up(queued, why));
                }
                queued.not_before = again;
                queued.last_failure = Some(why);
            }
            None => {}
        }
        if !self.closed {
            let at = self.waiting.partition_point(|other| other.sequence < queued.sequence);
            self.waiting.insert(at, queued);
        }
        None
    }
}

/// Returns whether an event is a job status, which a later status supersedes.
fn is_status_event(event: WebhookEvent) -> bool {
    !matches!(event, WebhookEvent::FailureRate | WebhookEvent::RunTime | WebhookEvent::Drift)
}

/// How long to send nothing to an endpoint that answers 429 without a `Retry-After` header.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// The maximum pause that an endpoint can request.
const MAX_PAUSE: Duration = Duration::from_hours(24);

/// Why a message was not accepted, as a sentence. Of the endpoint's URL it names only the origin.
#[derive(Debug)]
enum DeliveryError {
    /// The message can be sent again later.
    Retryable {
        reason: String,
        /// How long the endpoint asks to receive no messages at all.
        pause: Option<Duration>,
    },
    /// The message must not be sent again.
    Permanent(String),
}

/// Sends a message once, with this time limit.
///
/// # Errors
/// Returns an error if the message is not accepted.
async fn send_once(
    client: &WebClient,
    endpoint: &WebhookEndpoint,
    message: &WebhookMessage,
    timeout: Duration,
) -> Result<(), DeliveryError> {
    let now = Timestamp::now().as_second();
    let headers = endpoint.headers(message, now).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
    let (url, body, allow_http) = (&endpoint.url, message.body.clone(), endpoint.allow_http);
    let request = WebRequest { method: Method::POST, url, headers: &headers, body, allow_http };
    match client.send_for_head(request, timeout).await {
        Ok(head) => {
            let (status, event) = (head.status.as_u16(), message.event.as_str());
            debug!(%endpoint, job = message.job, event, status, "notification sent");
            classify_response(endpoint, head.status, &head.headers)
        }
        Err(error @ (WebRequestError::NotEncrypted(_) | WebRequestError::InvalidSetup(_))) => {
            Err(DeliveryError::Permanent(error.to_string()))
        }
        Err(error) => Err(DeliveryError::Retryable { reason: error.to_string(), pause: None }),
    }
}

fn classify_response(endpoint: &WebhookEndpoint, status: StatusCode, headers: &HeaderMap) -> Result<(), DeliveryError> {
    let answered = format!("{endpoint} answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(DeliveryError::Permanent(format!("{answered}; redirects are not followed"))),
        code @ (408 | 429 | 500..=599) => {
            let asked = retry_after(headers, Timestamp::now()).map(|pause| pause.min(MAX_PAUSE));
            Err(DeliveryError::Retryable { reason: answered, pause: asked.or((code == 429).then_some(DEFAULT_PAUSE)) })
        }
        _ => Err(DeliveryError::Permanent(answered)),
    }
}

/// Reads `Retry-After`, which is a number of seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Duration::try_from(then.duration_since(now)).ok()
}

/// How long to wait for the response when an attempt is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// A message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredMessage {
    /// The name of the event that the message is about.
    pub event: &'static str,
    /// The ID of the job that the message is about.
    pub job: String,
    /// Why the message was not delivered.
    pub reason: String,
}

impl fmt::Display for UndeliveredMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhook not delivered for job {} (`{}`): {}", self.job, self.event, self.reason)
    }
}

/// Receives the messages that were not delivered.
type UndeliveredCallback = Box<dyn Fn(UndeliveredMessage) + Send + Sync>;

/// The messages of one process.
pub(super) struct MessageSender {
    shared: Arc<SenderShared>,
}

struct SenderShared {
    queue: Mutex<MessageQueue>,
    /// Whether the thread is running.
    started: AtomicBool,
    /// Signals that a message was posted, or that the order may have changed.
    queue_changed: Notify,
    /// Signals that a message was delivered or given up, or that an attempt ended.
    message_finished: Notify,
    on_undelivered: UndeliveredCallback,
}

impl MessageSender {
    pub(super) fn new(on_undelivered: UndeliveredCallback) -> Self {
        Self {
            shared: Arc::new(SenderShared {
                queue: Mutex::default(),
                started: AtomicBool::new(false),
                queue_changed: Notify::new(),
                message_finished: Notify::new(),
                on_undelivered,
            }),
        }
    }

    /// Queues a message. If too many messages wait, drops and reports the oldest one.
    pub(super) fn enqueue(&self, endpoint: &Arc<WebhookEndpoint>, message: WebhookMessage) {
        let dropped = self.shared.queue().push(endpoint, message);
        if let Some(QueuedMessage { endpoint, message, .. }) = dropped {
            let why = format!("{MAX_WAITING} messages are waiting for {endpoint} and others");
            (self.shared.on_undelivered)(undelivered(&message, why));
        }
        if !self.shared.started.swap(true, Ordering::Relaxed)
            && let Err(why) = self.start_thread()
        {
            self.shared.started.store(false, Ordering::Relaxed);
            let unsent = self.shared.queue().drain_waiting();
            for QueuedMessage { message, .. } in unsent {
                (self.shared.on_undelivered)(undelivered(&message, why.to_string()));
            }
        }
        self.shared.queue_changed.notify_one();
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deliver = move || runtime.block_on(deliver(&shared));
        thread::Builder::new().name("notifications".to_owned()).spawn(deliver).map(drop)
    }

    /// Announces that the process is ending and will not wait for long. The last status of each job is sent first,
    /// before earlier messages, and even before one that is in flight.
    pub(super) fn begin_shutdown(&self) {
        self.shared.queue().begin_shutdown();
        self.shared.queue_changed.notify_one();
    }

    /// Returns the number of messages that are not delivered yet.
    pub(super) fn pending_count(&self) -> usize {
        self.shared.queue().len()
    }

    /// Waits until every message is delivered or given up.
    pub(super) async fn wait_until_empty(&self) {
        loop {
            let finished = self.shared.message_finished.notified();
            if self.pending_count() == 0 {
                return;
            }
            finished.await;
        }
    }

    /// Gives up all messages that are not delivered.
    pub(super) fn close(&self) -> AbandonedMessages {
        self.shared.queue().close()
    }
}

impl SenderShared {
    fn queue(&self) -> MutexGuard<'_, MessageQueue> {
        self.queue.lock()
    }

    /// Records the result of an attempt, which is `None` if it was cancelled.
    fn finish_attempt(&self, queued: QueuedMessage, result: Option<Result<(), DeliveryError>>) {
        let given_up = self.queue().finish_attempt(queued, result, Instant::now());
        if let Some((message, why)) = given_up {
            self.report_given_up(&message, why);
        }
        self.message_finished.notify_waiters();
    }

    /// Reports a message that is given up, unless nothing waits for it any more.
    fn report_given_up(&self, message: &WebhookMessage, why: String) {
        warn!(job = message.job, event = message.event.as_str(), error = why, "notification not delivered");
        if !self.queue().is_closed() {
            (self.on_undelivered)(undelivered(message, why));
        }
        self.queue().mark_reported();
    }
}

fn undelivered(message: &WebhookMessage, why: String) -> UndeliveredMessage {
    UndeliveredMessage { event: message.event.as_str(), job: message.job.clone(), reason: why }
}

async fn deliver(shared: &SenderShared) {
    let client = WebClient::new();
    let client = &client;
    let mut in_flight = FuturesUnordered::new();
    loop {
        let until = loop {
            let next = shared.queue().next_action(Instant::now());
            match next {
                QueueAction::Send(queued, timeout, cancel) => in_flight.push(async move {
                    let cancelled = async {
                        cancel.cancelled().await;
                        // The response may arrive at any moment, and it keeps the messages in order.
                        tokio::time::sleep(CANCEL_GRACE).await;
                    };
                    let result = tokio::select! {
                        biased;
                        result = send_once(client, &queued.endpoint, &queued.message, timeout) => Some(result),
                        () = cancelled => None,
                    };
                    (*queued, result)
                }),
                QueueAction::GiveUp(message, why) => {
                    shared.report_given_up(&message, why);
                    shared.message_finished.notify_waiters();
                }
                QueueAction::Wait(until) => break until,
            }
        };
        let due = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((queued, result)) = in_flight.next(), if !in_flight.is_empty() => shared.finish_attempt(queued, result),
            () = shared.queue_changed.notified() => {}
            () = due => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use batchplan_store::web::HttpUrl;
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::plan::WebhookEvent;

    fn message(job: usize, event: WebhookEvent) -> WebhookMessage {
        WebhookMessage { id: "id".to_owned(), event, job: job.to_string(), body: Bytes::from_static(b"{}") }
    }

    /// Returns the message that is sent next, if one is to be sent now.
    fn sent(state: &mut MessageQueue, now: Instant) -> Option<QueuedMessage> {
        match state.next_action(now) {
            QueueAction::Send(queued, ..) => Some(*queued),
            QueueAction::GiveUp(..) | QueueAction::Wait(_) => None,
        }
    }

    fn name(queued: &QueuedMessage) -> (String, &'static str) {
        (queued.message.job.clone(), queued.message.event.as_str())
    }

    /// Returns a queue with these messages to one receiver.
    fn still(messages: &[(usize, WebhookEvent)]) -> MessageQueue {
        let url = HttpUrl::parse("http://127.0.0.1:1/hook").expect("a URL");
        let receiver = WebhookEndpoint::unsigned(url, vec![WebhookEvent::Failed]);
        let (receiver, mut queue) = (Arc::new(receiver), MessageQueue::default());
        for (job, event) in messages {
            assert!(queue.push(&receiver, message(*job, *event)).is_none());
        }
        queue
    }

    fn refused(pause: Option<u64>) -> Result<(), DeliveryError> {
        Err(DeliveryError::Retryable { reason: "no".to_owned(), pause: pause.map(Duration::from_secs) })
    }

    #[test]
    fn sends_in_order_and_latest_statuses_first_on_shutdown() {
        let messages = [
            (1, WebhookEvent::Active),
            (1, WebhookEvent::RunTime),
            (2, WebhookEvent::Active),
            (1, WebhookEvent::Complete),
            (2, WebhookEvent::Failed),
            (3, WebhookEvent::Active),
        ];
        let (mut state, now) = (still(&messages), Instant::now());
        let first = sent(&mut state, now).expect("a message");
        assert_eq!(name(&first), ("1".to_owned(), "active"));
        assert!(sent(&mut state, now).is_none(), "one at a time");
        let url = first.endpoint.url.full_url();
        let cancel = state.in_flight[&url].cancel.clone();
        assert!(state.finish_attempt(first, Some(refused(None)), now).is_none());
        assert!(sent(&mut state, now).is_none(), "the others wait for it");
        let first = sent(&mut state, now + Duration::from_secs(2)).expect("again");
        assert_eq!(name(&first), ("1".to_owned(), "active"));
        let again = state.in_flight[&url].cancel.clone();
        state.begin_shutdown();
        assert!(again.is_cancelled() && !cancel.is_cancelled());
        assert!(state.finish_attempt(first, None, now).is_none());
        let mut order = Vec::new();
        let mut at = now + Duration::from_secs(30);
        while let Some(queued) = sent(&mut state, at) {
            order.push(name(&queued));
            let fails = queued.backoff.failures() == 0 && queued.message.event == WebhookEvent::Complete;
            assert!(state.finish_attempt(queued, Some(if fails { refused(None) } else { Ok(()) }), at).is_none());
            at += Duration::from_secs(2);
        }
        let order: Vec<_> = order.iter().map(|(job, event)| format!("{job} {event}")).collect();
        // The failed one is tried again when it is due, after the last statuses that have not failed yet.
        let once: Vec<_> = order.iter().filter(|it| *it != "1 complete").map(String::as_str).collect();
        assert_eq!(once, ["2 failed", "3 active", "1 run-time", "2 active", "1 active"], "{order:?}");
        assert_eq!((order[0].as_str(), order.len()), ("1 complete", 7), "{order:?}");
    }

    #[test]
    fn close_reports_the_last_failure() {
        let now = Instant::now();
        for sending in [false, true] {
            let mut state = still(&[(1, WebhookEvent::Complete), (2, WebhookEvent::Complete)]);
            let first = sent(&mut state, now).expect("a message");
            assert!(state.finish_attempt(first, Some(refused(None)), now).is_none());
            let again = sending.then(|| sent(&mut state, now + Duration::from_secs(2)).expect("again"));
            assert_eq!(state.close(), AbandonedMessages { count: 2, last_failure: Some("no".to_owned()) });
            assert_eq!((again.is_some(), state.len()), (sending, usize::from(sending)));
        }
        let untried = still(&[(1, WebhookEvent::Complete)]).close();
        assert_eq!(untried, AbandonedMessages { count: 1, last_failure: None });
    }

    #[test]
    fn shutdown_does_not_cancel_a_latest_status() {
        let mut state = still(&[(1, WebhookEvent::Complete), (2, WebhookEvent::Complete)]);
        let first = sent(&mut state, Instant::now()).expect("a message");
        state.begin_shutdown();
        assert!(!state.in_flight[&first.endpoint.url.full_url()].cancel.is_cancelled());
    }

    #[test]
    fn respects_the_pause_of_an_endpoint() {
        let (mut state, now) =
            (still(&[(1, WebhookEvent::Active), (2, WebhookEvent::Active), (3, WebhookEvent::Active)]), Instant::now());
        let first = sent(&mut state, now).expect("a message");
        // Even if this message were given up by then, the next ones wait.
        assert!(state.finish_attempt(first, Some(refused(Some(59))), now).is_none());
        state.waiting.pop_front();
        assert!(
            matches!(state.next_action(now), QueueAction::Wait(Some(until)) if until == now + Duration::from_secs(59))
        );
        state.shutting_down = true;
        assert!(matches!(state.next_action(now), QueueAction::Wait(Some(_))), "even at the end");
        let second = sent(&mut state, now + Duration::from_mins(1)).expect("it may go");
        assert_eq!(name(&second), ("2".to_owned(), "active"));
        let later = now + Duration::from_mins(1);
        let given_up = state.finish_attempt(second, Some(refused(Some(3600))), later).expect("it takes too long");
        assert_eq!(given_up.1, "no; gave up after 1 attempt");
        let QueueAction::GiveUp(third, why) = state.next_action(later) else { panic!("it is not tried") };
        assert_eq!(
            (third.job.as_str(), why.as_str()),
            ("3", "http://127.0.0.1:1 asked to receive no messages for now")
        );
        assert_eq!(state.len(), 2, "it is not over before that was reported");
        state.mark_reported();
        state.mark_reported();
        assert_eq!(state.len(), 0);
    }

    #[test]
    fn reads_retry_after_as_seconds_or_date() {
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, "2024-01-01T00:00:00Z".parse().expect("a time"))
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Mon, 01 Jan 2024 00:00:09 GMT"), Some(Duration::from_secs(9)));
        for text in ["Sun, 31 Dec 2023 00:00:00 GMT", "soon", "-1", ""] {
            assert_eq!(asked(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }

    fn receiver(url: &str) -> Arc<WebhookEndpoint> {
        let url = HttpUrl::parse(url).expect("a URL");
        Arc::new(WebhookEndpoint::unsigned(url, vec![WebhookEvent::Failed]))
    }

    fn failed_message(job: usize) -> WebhookMessage {
        WebhookMessage {
            id: "id".to_owned(),
            event: WebhookEvent::Failed,
            job: job.to_string(),
            body: Bytes::from_static(b"{}"),
        }
    }

    fn sender() -> (MessageSender, Arc<Mutex<Vec<UndeliveredMessage>>>) {
        let undelivered = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&undelivered);
        (MessageSender::new(Box::new(move |what| noted.lock().push(what))), undelivered)
    }

    #[test]
    fn drops_and_reports_the_oldest_messages_if_too_many_wait() {
        // It listens, but accepts no connections.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = receiver(&format!("http://{}/hook", listener.local_addr().expect("an address")));
        let (sender, undelivered) = sender();
        sender.enqueue(&silent, failed_message(0));
        while !sender.shared.queue().is_sending() {
            thread::sleep(Duration::from_millis(1));
        }
        for job in 1..=MAX_WAITING + 2 {
            sender.enqueue(&silent, failed_message(job));
        }
        let dropped: Vec<_> = undelivered.lock().iter().map(|what| what.job.clone()).collect();
        assert_eq!(dropped, ["1", "2"]);
        assert_eq!(sender.pending_count(), MAX_WAITING + 1);
        assert_eq!(sender.close(), AbandonedMessages { count: MAX_WAITING + 1, last_failure: None });
        assert_eq!(sender.pending_count(), 1, "what is under way is left to itself");
        let said = undelivered.lock()[0].to_string();
        assert!(
            said.starts_with("webhook not delivered for job 1 (`failed`): 256 messages are waiting for http://127"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn is_empty_after_all_messages_are_given_up() {
        // Nothing listens on this port. A port that was free a moment ago may belong to another test by now.
        let closed_port = "127.0.0.1:1";
        let elsewhere = receiver("http://192.0.2.1/hook");
        let (sender, undelivered) = sender();
        sender.wait_until_empty().await;
        for job in 0..3 {
            sender.enqueue(&elsewhere, failed_message(job));
        }
        tokio::time::timeout(Duration::from_secs(30), sender.wait_until_empty()).await.expect("refused at once");
        let why: Vec<_> = undelivered.lock().iter().map(|what| what.reason.clone()).collect();
        assert_eq!(why, ["http://192.0.2.1 uses unencrypted http to another machine"; 3]);
        sender.enqueue(&receiver(&format!("http://{closed_port}/")), failed_message(4));
        assert_eq!(sender.pending_count(), 1, "it is tried again");
    }
}
