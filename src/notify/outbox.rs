//! What waits to be told, and the thread that tells it.
//!
//! A thread of its own, as commands have runtimes of their own or none, and as a job's work and a slow receiver must not
//! wait for each other. Letters to one receiver go one after the other, those to several side by side.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;

use super::carrier::carry;
use super::letter::Letter;
use super::receiver::Receiver;
use crate::web::Client;

/// Letters that wait. A job has a handful; more is a receiver that is down while a queue is worked off.
const MAX_WAITING: usize = 256;

/// Letters under way at once.
const MAX_UNDER_WAY: usize = 16;

/// A letter that its receiver did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// What it tells.
    pub event: &'static str,
    /// Of which job.
    pub job: String,
    /// Why it was not taken.
    pub why: String,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.job.chars().take(8).collect();
        write!(f, "nobody was told that job {short} is `{}`: {}", self.event, self.why)
    }
}

/// Whoever is told of letters that were not delivered.
pub(super) type Tell = Box<dyn Fn(Undelivered) + Send + Sync>;

/// The letters of one process.
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits.
    posted: Notify,
    /// Something has left.
    left: Notify,
    tell: Tell,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Arc<Receiver>, Letter)>,
    /// The receivers that a letter is under way to, by their whole URLs.
    under_way: BTreeSet<String>,
    started: bool,
    /// Nobody waits any more: what is not delivered now is not told of.
    closed: bool,
}

impl Outbox {
    pub(super) fn new(tell: Tell) -> Self {
        let (posted, left) = (Notify::new(), Notify::new());
        Self { shared: Arc::new(Shared { state: Mutex::default(), posted, left, tell }) }
    }

    /// Has a letter delivered. Where too many wait, the oldest is not.
    pub(super) fn post(&self, receiver: &Arc<Receiver>, letter: Letter) {
        let (dropped, start) = {
            let mut state = self.shared.state();
            let full = state.waiting.len() >= MAX_WAITING;
            let dropped = if full { state.waiting.pop_front() } else { None };
            state.waiting.push_back((Arc::clone(receiver), letter));
            (dropped, !std::mem::replace(&mut state.started, true))
        };
        if let Some((receiver, letter)) = dropped {
            let why = format!("{MAX_WAITING} messages wait for {receiver} and others");
            (self.shared.tell)(undelivered(&letter, why));
        }
        if start && let Err(why) = self.start() {
            self.shared.state().started = false;
            for (_, letter) in std::mem::take(&mut self.shared.state().waiting) {
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

    /// Letters that are not delivered yet.
    pub(super) fn left(&self) -> usize {
        let state = self.shared.state();
        state.waiting.len() + state.under_way.len()
    }

    /// Waits until every letter is delivered or given up.
    pub(super) async fn emptied(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.left() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Gives up what is left, and tells how many letters that were.
    pub(super) fn close(&self) -> usize {
        let left = self.left();
        let mut state = self.shared.state();
        state.closed = true;
        state.waiting.clear();
        left
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest letter that may go: no other is under way to its receiver.
    fn next(&self) -> Option<(Arc<Receiver>, Letter)> {
        let mut state = self.state();
        if state.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let free = |(receiver, _): &(Arc<Receiver>, Letter)| !state.under_way.contains(&receiver.url.in_full());
        let at = state.waiting.iter().position(free)?;
        let (receiver, letter) = state.waiting.remove(at)?;
        state.under_way.insert(receiver.url.in_full());
        Some((receiver, letter))
    }

    fn done(&self, receiver: &Receiver, letter: &Letter, carried: Result<(), String>) {
        let closed = {
            let mut state = self.state();
            state.under_way.remove(&receiver.url.in_full());
            state.closed
        };
        if let Err(why) = carried
            && !closed
        {
            (self.tell)(undelivered(letter, why));
        }
        self.left.notify_waiters();
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
        while let Some((receiver, letter)) = shared.next() {
            under_way.push(async move {
                let carried = carry(client, &receiver, &letter).await;
                (receiver, letter, carried)
            });
        }
        tokio::select! {
            Some((receiver, letter, carried)) = under_way.next(), if !under_way.is_empty() => {
                shared.done(&receiver, &letter, carried);
            }
            () = shared.posted.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

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
        // It listens and takes no connection.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = receiver(&format!("http://{}/hook", listener.local_addr().expect("an address")));
        let (outbox, told) = outbox();
        outbox.post(&silent, letter(0));
        while outbox.shared.state().under_way.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        for job in 1..=MAX_WAITING + 2 {
            outbox.post(&silent, letter(job));
        }
        let dropped: Vec<_> = told.lock().expect("sound").iter().map(|what| what.job.clone()).collect();
        assert_eq!(dropped, ["1", "2"]);
        assert_eq!(outbox.left(), MAX_WAITING + 1);
        assert_eq!(outbox.close(), MAX_WAITING + 1);
        assert_eq!(outbox.left(), 1, "what is under way is left to itself");
        let said = told.lock().expect("sound")[0].to_string();
        assert!(said.starts_with("nobody was told that job 1 is `failed`: 256 messages wait for http://127"), "{said}");
    }

    #[tokio::test]
    async fn it_is_empty_once_everything_is_given_up() {
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
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
