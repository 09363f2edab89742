//! `--json=lines`: events on standard output, one JSON object on each line. `job_events` says what happens to a job.
//!
//! A thread of its own writes them, so that the reader never holds up the work: if it reads too slowly, older progress is
//! left out, and if it closes the pipe, nothing more is written.

use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use batchplan_store::Mutex;
use batchplan_store::timeouts::scaled;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

/// The longest time without an event.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of events that wait for a slow reader. Those that are never left out may exceed it.
const MAX_WAITING: usize = 1000;

/// How long the end of the command waits for a slow reader.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval at which the end of the command looks whether everything is written.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// The stream of this process, if its output has one.
static STREAM: OnceLock<EventStream> = OnceLock::new();

/// Writes a line of the output.
pub(super) type LineWriter = Box<dyn Fn(&Json) -> io::Result<()> + Send>;

/// Whether an event may be left out if the reader is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventWeight {
    /// It is always written.
    Required,
    /// A later event says more.
    Replaceable,
}

/// The events that wait to be written.
#[derive(Default)]
struct EventQueue {
    waiting: VecDeque<(Json, EventWeight)>,
    /// The number of events that were left out since the last event that says so.
    left_out: u64,
    is_writing: bool,
    /// Whether nothing more can be written.
    is_closed: bool,
    /// The result of the command, for the last event.
    result: Option<Json>,
}

impl EventQueue {
    /// Adds an event. If too many wait, leaves out the oldest that may be left out.
    fn push(&mut self, event: Json, weight: EventWeight) {
        if self.is_closed {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            let oldest = self.waiting.iter().position(|(_, weight)| *weight == EventWeight::Replaceable);
            if let Some(oldest) = oldest {
                self.waiting.remove(oldest);
                self.left_out += 1;
            } else if weight == EventWeight::Replaceable {
                self.left_out += 1;
                return;
            }
        }
        self.waiting.push_back((event, weight));
    }

    /// Takes the next event. It says how many were left out before it.
    fn pop(&mut self) -> Option<Json> {
        let (mut event, _) = self.waiting.pop_front()?;
        if self.left_out > 0 {
            event["left_out"] = self.left_out.into();
            self.left_out = 0;
        }
        self.is_writing = true;
        Some(event)
    }
}

struct EventStream {
    queue: Mutex<EventQueue>,
    wake: SyncSender<()>,
}

/// Starts the stream. `write` writes a line, and returns an error once nothing more can be written.
pub(super) fn start(write: LineWriter) {
    let (wake, woken) = sync_channel(1);
    if STREAM.set(EventStream { queue: Mutex::new(EventQueue::default()), wake }).is_ok() {
        thread::spawn(move || write_events(&woken, &write));
    }
}

fn write_events(woken: &Receiver<()>, write: &LineWriter) {
    let Some(stream) = STREAM.get() else { return };
    loop {
        while let Some(event) = { stream.queue.lock().pop() } {
            let written = write(&event);
            let mut queue = stream.queue.lock();
            queue.is_writing = false;
            if written.is_err() {
                queue.is_closed = true;
                queue.waiting.clear();
                return;
            }
        }
        match woken.recv_timeout(HEARTBEAT_INTERVAL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => emit("heartbeat", None, json!({}), EventWeight::Replaceable),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Writes an event if the output has events. `fields` is an object with what is particular to the event. Never blocks.
pub(super) fn emit(event: &str, job: Option<&str>, mut fields: Json, weight: EventWeight) {
    let Some(stream) = STREAM.get() else { return };
    fields["event"] = event.into();
    fields["time"] = Timestamp::now().to_string().into();
    fields["job_id"] = job.into();
    stream.queue.lock().push(fields, weight);
    // If the channel is full, the thread wakes up anyway.
    let _ = stream.wake.try_send(());
}

/// Sets the result of the command, which the last event has.
pub(super) fn set_result(result: Json) {
    if let Some(stream) = STREAM.get() {
        stream.queue.lock().result = Some(result);
    }
}

/// Writes the last event, and waits until everything is written, but not for ever. `error` is why the command failed.
pub(super) fn finish(exit_code: u8, error: Option<&Json>) {
    let Some(stream) = STREAM.get() else { return };
    let result = stream.queue.lock().result.take();
    let job = result.as_ref().and_then(|result| result["job_id"].as_str()).map(str::to_owned);
    let fields = json!({ "exit_code": exit_code, "result": result, "error": error });
    emit("ended", job.as_deref(), fields, EventWeight::Required);
    let begun = Instant::now();
    while begun.elapsed() < scaled(FLUSH_TIMEOUT) {
        let queue = stream.queue.lock();
        if queue.is_closed || (queue.waiting.is_empty() && !queue.is_writing) {
            return;
        }
        drop(queue);
        thread::sleep(FLUSH_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Json {
        json!({ "number": number })
    }

    #[test]
    fn a_slow_reader_misses_progress_and_nothing_else() {
        let mut queue = EventQueue::default();
        queue.push(event(0), EventWeight::Required);
        for number in 1..=MAX_WAITING + 5 {
            queue.push(event(number), EventWeight::Replaceable);
        }
        queue.push(event(9999), EventWeight::Required);
        assert_eq!(queue.waiting.len(), MAX_WAITING);
        let first = queue.pop().expect("an event");
        // 1 to 7 were left out: six for progress that is newer, one for the last event.
        assert_eq!((&first["number"], &first["left_out"]), (&0.into(), &7.into()));
        assert_eq!(queue.pop().expect("an event"), event(8));
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest.last(), Some(&event(9999)));
    }

    #[test]
    fn required_events_are_never_left_out() {
        let mut queue = EventQueue::default();
        for number in 0..MAX_WAITING + 10 {
            queue.push(event(number), EventWeight::Required);
        }
        queue.push(event(9999), EventWeight::Replaceable);
        assert_eq!((queue.waiting.len(), queue.left_out), (MAX_WAITING + 10, 1));
    }

    #[test]
    fn nothing_is_kept_for_a_closed_pipe() {
        let mut queue = EventQueue { is_closed: true, ..EventQueue::default() };
        queue.push(event(1), EventWeight::Required);
        assert!(queue.pop().is_none());
    }
}
