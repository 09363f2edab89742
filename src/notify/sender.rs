//! The thread that sends the queued messages.
//!
//! It is a separate thread, because some commands have their own runtimes and others have none, and because a job and a
//! slow endpoint must not wait for each other. Messages to several endpoints are sent concurrently.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use batchplan_store::web::WebClient;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::delivery::{DeliveryError, send_once};
use super::endpoint::WebhookEndpoint;
use super::message::WebhookMessage;
use super::queue::{AbandonedMessages, MAX_WAITING, MessageQueue, QueueAction, QueuedMessage};

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
        let short: String = self.job.chars().take(8).collect();
        write!(f, "webhook not delivered for job {short} (`{}`): {}", self.event, self.reason)
    }
}

/// Receives the messages that were not delivered.
pub(super) type UndeliveredCallback = Box<dyn Fn(UndeliveredMessage) + Send + Sync>;

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
    pub(super) fn new(tell: UndeliveredCallback) -> Self {
        let (posted, left) = (Notify::new(), Notify::new());
        let (queue, started) = (Mutex::default(), AtomicBool::new(false));
        Self {
            shared: Arc::new(SenderShared {
                queue,
                started,
                queue_changed: posted,
                message_finished: left,
                on_undelivered: tell,
            }),
        }
    }

    /// Queues a message. If too many messages wait, drops and reports the oldest one.
    pub(super) fn enqueue(&self, receiver: &Arc<WebhookEndpoint>, letter: WebhookMessage) {
        let dropped = self.shared.queue().push(receiver, letter);
        if let Some(QueuedMessage { endpoint: receiver, message: letter, .. }) = dropped {
            let why = format!("{MAX_WAITING} messages are waiting for {receiver} and others");
            (self.shared.on_undelivered)(undelivered(&letter, why));
        }
        if !self.shared.started.swap(true, Ordering::Relaxed)
            && let Err(why) = self.start_thread()
        {
            self.shared.started.store(false, Ordering::Relaxed);
            let unsent = self.shared.queue().drain_waiting();
            for QueuedMessage { message: letter, .. } in unsent {
                (self.shared.on_undelivered)(undelivered(&letter, why.to_string()));
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
            let left = self.shared.message_finished.notified();
            if self.pending_count() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Gives up all messages that are not delivered.
    pub(super) fn close(&self) -> AbandonedMessages {
        self.shared.queue().close()
    }
}

impl SenderShared {
    fn queue(&self) -> MutexGuard<'_, MessageQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of an attempt, which is `None` if it was cancelled.
    fn finish_attempt(&self, posted: QueuedMessage, became: Option<Result<(), DeliveryError>>) {
        let given_up = self.queue().finish_attempt(posted, became, Instant::now());
        if let Some((letter, why)) = given_up {
            self.report_given_up(&letter, why);
        }
        self.message_finished.notify_waiters();
    }

    /// Reports a message that is given up, unless nothing waits for it any more.
    fn report_given_up(&self, letter: &WebhookMessage, why: String) {
        if !self.queue().is_closed() {
            (self.on_undelivered)(undelivered(letter, why));
        }
        self.queue().mark_reported();
    }
}

fn undelivered(letter: &WebhookMessage, why: String) -> UndeliveredMessage {
    UndeliveredMessage { event: letter.event.as_str(), job: letter.job.clone(), reason: why }
}

async fn deliver(shared: &SenderShared) {
    let client = WebClient::new();
    let client = &client;
    let mut under_way = FuturesUnordered::new();
    loop {
        let until = loop {
            let next = shared.queue().next_action(Instant::now());
            match next {
                QueueAction::Send(posted, time, recall) => under_way.push(async move {
                    let called_back = async {
                        recall.cancelled().await;
                        // The response may arrive at any moment, and it keeps the messages in order.
                        tokio::time::sleep(CANCEL_GRACE).await;
                    };
                    let became = tokio::select! {
                        biased;
                        became = send_once(client, &posted.endpoint, &posted.message, time) => Some(became),
                        () = called_back => None,
                    };
                    (*posted, became)
                }),
                QueueAction::GiveUp(letter, why) => {
                    shared.report_given_up(&letter, why);
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
            Some((posted, became)) = under_way.next(), if !under_way.is_empty() => shared.finish_attempt(posted, became),
            () = shared.queue_changed.notified() => {}
            () = due => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bytes::Bytes;

    use super::*;
    use crate::plan::WebhookEvent;
    use batchplan_store::web::HttpUrl;

    fn receiver(url: &str) -> Arc<WebhookEndpoint> {
        let url = HttpUrl::parse(url).expect("a URL");
        let on = vec![WebhookEvent::Failed];
        Arc::new(WebhookEndpoint {
            url,
            signer: None,
            allow_http: false,
            events: on,
            failure_rate: None,
            run_time: None,
        })
    }

    fn letter(job: usize) -> WebhookMessage {
        WebhookMessage {
            id: "id".to_owned(),
            event: WebhookEvent::Failed,
            job: job.to_string(),
            body: Bytes::from_static(b"{}"),
        }
    }

    fn outbox() -> (MessageSender, Arc<Mutex<Vec<UndeliveredMessage>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        (MessageSender::new(Box::new(move |what| noted.lock().expect("sound").push(what))), told)
    }

    #[test]
    fn drops_and_reports_the_oldest_messages_if_too_many_wait() {
        // It listens, but accepts no connections.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = receiver(&format!("http://{}/hook", listener.local_addr().expect("an address")));
        let (outbox, told) = outbox();
        outbox.enqueue(&silent, letter(0));
        while !outbox.shared.queue().is_sending() {
            thread::sleep(Duration::from_millis(1));
        }
        for job in 1..=MAX_WAITING + 2 {
            outbox.enqueue(&silent, letter(job));
        }
        let dropped: Vec<_> = told.lock().expect("sound").iter().map(|what| what.job.clone()).collect();
        assert_eq!(dropped, ["1", "2"]);
        assert_eq!(outbox.pending_count(), MAX_WAITING + 1);
        assert_eq!(outbox.close(), AbandonedMessages { count: MAX_WAITING + 1, last_failure: None });
        assert_eq!(outbox.pending_count(), 1, "what is under way is left to itself");
        let said = told.lock().expect("sound")[0].to_string();
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
        let (outbox, told) = outbox();
        outbox.wait_until_empty().await;
        for job in 0..3 {
            outbox.enqueue(&elsewhere, letter(job));
        }
        tokio::time::timeout(Duration::from_secs(30), outbox.wait_until_empty()).await.expect("refused at once");
        let why: Vec<_> = told.lock().expect("sound").iter().map(|what| what.reason.clone()).collect();
        assert_eq!(why, ["http://192.0.2.1 is not encrypted, and not on this machine"; 3]);
        outbox.enqueue(&receiver(&format!("http://{closed_port}/")), letter(4));
        assert_eq!(outbox.pending_count(), 1, "it is tried again");
    }
}
