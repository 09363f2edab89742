//! The thread that sends the queued messages.
//!
//! It is a separate thread, because some commands have their own runtimes and others have none, and because a job and a
//! slow endpoint must not wait for each other. Messages to several endpoints are sent concurrently.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::carrier::{Refused, attempt};
use super::letter::Letter;
use super::order::{LetterQueue, MAX_WAITING, NextStep, QueuedLetter, Undone};
use super::receiver::Receiver;
use crate::web::Client;

/// How long to wait for the response when an attempt is cancelled.
const GRACE: Duration = Duration::from_secs(1);

/// A message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The name of the event that the message is about.
    pub event: &'static str,
    /// The ID of the job that the message is about.
    pub job: String,
    /// Why the message was not delivered.
    pub why: String,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.job.chars().take(8).collect();
        write!(f, "nobody was told that job {short} is `{}`: {}", self.event, self.why)
    }
}

/// Receives the messages that were not delivered.
pub(super) type Tell = Box<dyn Fn(Undelivered) + Send + Sync>;

/// The messages of one process.
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<LetterQueue>,
    /// Whether the thread is running.
    started: AtomicBool,
    /// Signals that a message was posted, or that the order may have changed.
    posted: Notify,
    /// Signals that a message was delivered or given up, or that an attempt ended.
    left: Notify,
    tell: Tell,
}

impl Outbox {
    pub(super) fn new(tell: Tell) -> Self {
        let (posted, left) = (Notify::new(), Notify::new());
        let (queue, started) = (Mutex::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { queue, started, posted, left, tell }) }
    }

    /// Queues a message. If too many messages wait, drops and reports the oldest one.
    pub(super) fn post(&self, receiver: &Arc<Receiver>, letter: Letter) {
        let dropped = self.shared.queue().push(receiver, letter);
        if let Some(QueuedLetter { receiver, letter, .. }) = dropped {
            let why = format!("{MAX_WAITING} messages wait for {receiver} and others");
            (self.shared.tell)(undelivered(&letter, why));
        }
        if !self.shared.started.swap(true, Ordering::Relaxed)
            && let Err(why) = self.start()
        {
            self.shared.started.store(false, Ordering::Relaxed);
            let unsent = self.shared.queue().take_all();
            for QueuedLetter { letter, .. } in unsent {
                (self.shared.tell)(undelivered(&letter, why.to_string()));
            }
        }
        self.shared.posted.notify_one();
    }

    fn start(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deliver = move || runtime.block_on(deliver(&shared));
        thread::Builder::new().name("notifications".to_owned()).spawn(deliver).map(drop)
    }

    /// Announces that the process is ending and will not wait for long. The last status of each job is sent first,
    /// before earlier messages, and even before one that is in flight.
    pub(super) fn end(&self) {
        self.shared.queue().end();
        self.shared.posted.notify_one();
    }

    /// Returns the number of messages that are not delivered yet.
    pub(super) fn left(&self) -> usize {
        self.shared.queue().len()
    }

    /// Waits until every message is delivered or given up.
    pub(super) async fn emptied(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.left() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Gives up all messages that are not delivered.
    pub(super) fn close(&self) -> Undone {
        self.shared.queue().close()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, LetterQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of an attempt, which is `None` if it was cancelled.
    fn done(&self, posted: QueuedLetter, became: Option<Result<(), Refused>>) {
        let given_up = self.queue().took(posted, became, Instant::now());
        if let Some((letter, why)) = given_up {
            self.give_up(&letter, why);
        }
        self.left.notify_waiters();
    }

    /// Reports a message that is given up, unless nothing waits for it any more.
    fn give_up(&self, letter: &Letter, why: String) {
        if !self.queue().is_closed() {
            (self.tell)(undelivered(letter, why));
        }
        self.queue().was_told();
    }
}

fn undelivered(letter: &Letter, why: String) -> Undelivered {
    Undelivered { event: letter.event.as_str(), job: letter.job.clone(), why }
}

async fn deliver(shared: &Shared) {
    let client = Client::new();
    let client = &client;
    let mut under_way = FuturesUnordered::new();
    loop {
        let until = loop {
            let next = shared.queue().next(Instant::now());
            match next {
                NextStep::Send(posted, time, recall) => under_way.push(async move {
                    let called_back = async {
                        recall.cancelled().await;
                        // The response may arrive at any moment, and it keeps the messages in order.
                        tokio::time::sleep(GRACE).await;
                    };
                    let became = tokio::select! {
                        biased;
                        became = attempt(client, &posted.receiver, &posted.letter, time) => Some(became),
                        () = called_back => None,
                    };
                    (*posted, became)
                }),
                NextStep::GiveUp(letter, why) => {
                    shared.give_up(&letter, why);
                    shared.left.notify_waiters();
                }
                NextStep::Wait(until) => break until,
            }
        };
        let due = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((posted, became)) = under_way.next(), if !under_way.is_empty() => shared.done(posted, became),
            () = shared.posted.notified() => {}
            () = due => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bytes::Bytes;

    use super::*;
    use crate::plan::Event;
    use crate::web::Url;

    fn receiver(url: &str) -> Arc<Receiver> {
        let url = Url::parse(url).expect("a URL");
        let on = vec![Event::Failed];
        Arc::new(Receiver { url, seal: None, allow_http: false, on, failure_rate: None, run_time: None })
    }

    fn letter(job: usize) -> Letter {
        Letter { id: "id".to_owned(), event: Event::Failed, job: job.to_string(), body: Bytes::from_static(b"{}") }
    }

    fn outbox() -> (Outbox, Arc<Mutex<Vec<Undelivered>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        (Outbox::new(Box::new(move |what| noted.lock().expect("sound").push(what))), told)
    }

    #[test]
    fn of_too_many_letters_the_oldest_are_dropped_and_that_is_said() {
        // It listens, but accepts no connections.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = receiver(&format!("http://{}/hook", listener.local_addr().expect("an address")));
        let (outbox, told) = outbox();
        outbox.post(&silent, letter(0));
        while !outbox.shared.queue().is_sending() {
            thread::sleep(Duration::from_millis(1));
        }
        for job in 1..=MAX_WAITING + 2 {
            outbox.post(&silent, letter(job));
        }
        let dropped: Vec<_> = told.lock().expect("sound").iter().map(|what| what.job.clone()).collect();
        assert_eq!(dropped, ["1", "2"]);
        assert_eq!(outbox.left(), MAX_WAITING + 1);
        assert_eq!(outbox.close(), Undone { count: MAX_WAITING + 1, last_failure: None });
        assert_eq!(outbox.left(), 1, "what is under way is left to itself");
        let said = told.lock().expect("sound")[0].to_string();
        assert!(said.starts_with("nobody was told that job 1 is `failed`: 256 messages wait for http://127"), "{said}");
    }

    #[tokio::test]
    async fn it_is_empty_once_everything_is_given_up() {
        // Nothing listens on this port. A port that was free a moment ago may belong to another test by now.
        let nobody = "127.0.0.1:1";
        let elsewhere = receiver("http://192.0.2.1/hook");
        let (outbox, told) = outbox();
        outbox.emptied().await;
        for job in 0..3 {
            outbox.post(&elsewhere, letter(job));
        }
        tokio::time::timeout(Duration::from_secs(30), outbox.emptied()).await.expect("refused at once");
        let why: Vec<_> = told.lock().expect("sound").iter().map(|what| what.why.clone()).collect();
        assert_eq!(why, ["http://192.0.2.1 is not encrypted, and not on this machine"; 3]);
        outbox.post(&receiver(&format!("http://{nobody}/")), letter(4));
        assert_eq!(outbox.left(), 1, "it is tried again");
    }
}
