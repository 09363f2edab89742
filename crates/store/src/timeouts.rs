//! Time limits for everything that waits on another machine, and progress reports during long waits.
//!
//! Every wait is bounded: a server that is silent for [`StallLimits::max_silence`], or slower than the minimum rate, is
//! given up. Every long wait is reported: after [`REPORT_INTERVAL`], and again after each further tick, the listener
//! gets the name of the server, the time waited so far and the limit.

use std::collections::HashMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::mutex::Mutex;

/// The time after which a wait is reported, and the interval between further reports.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The maximum time without any data from a server, and the window over which its rate is measured.
pub const MAX_SILENCE: Duration = Duration::from_mins(1);

/// The time limit of one request about an object, with the wait for credentials.
pub const OBJECT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The minimum rate of a transfer, in bytes per second.
pub const MIN_BYTES_PER_SECOND: u64 = 1 << 10;

/// The maximum number of hosts for which the time of the last report is kept.
const MAX_HOSTS: usize = 64;

/// The length of a minute in all limits, in milliseconds. Only tests change it.
static MINUTE_MILLIS: AtomicU64 = AtomicU64::new(60_000);

static LISTENER: OnceLock<WaitListener> = OnceLock::new();

/// The time of the last report for each host.
static LAST_REPORTS: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);

/// Receives a message about a long wait, as one complete sentence. The message may contain text from a server.
pub type WaitListener = Box<dyn Fn(&str) + Send + Sync>;

/// Sets the listener for reports of long waits. The first listener stays: later calls have no effect.
pub fn set_wait_listener(listener: WaitListener) {
    // The error only says that a listener is already set.
    let _ = LISTENER.set(listener);
}

/// Shortens a minute in all limits to `to`, for tests of the whole program.
pub fn shorten_minute(to: Duration) {
    let milliseconds = u64::try_from(to.as_millis()).unwrap_or(60_000);
    MINUTE_MILLIS.store(milliseconds.clamp(1, 60_000), Ordering::Relaxed);
}

/// Returns a limit as it applies in this process: unchanged, unless a test has shortened all limits.
#[must_use]
pub fn scaled(limit: Duration) -> Duration {
    match MINUTE_MILLIS.load(Ordering::Relaxed) {
        60_000 => limit,
        minute => limit.mul_f64(f64::from(u32::try_from(minute).unwrap_or(60_000)) / 60_000.0),
    }
}

/// A time limit was exceeded. Contains the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no response within {}", DisplaySeconds(*.0))]
pub struct TimeLimitError(pub Duration);

/// Waits for `work`, at most for `limit`. With each tick the listener is notified which host is waited for, and for
/// what. `waiting_for` describes the latter, for example `no response to GET https://host/bucket`.
///
/// # Errors
/// Returns an error if the limit is exceeded. `work` is dropped in that case.
pub async fn with_time_limit<T>(
    limit: Duration,
    host: &str,
    waiting_for: impl Fn() -> String,
    work: impl Future<Output = T>,
) -> Result<T, TimeLimitError> {
    let report = |so_far| report_wait(host, so_far, limit, &waiting_for);
    tokio::time::timeout(limit, with_reports(limit, report, work)).await.map_err(|_| TimeLimitError(limit))
}

/// Waits for `work`. Calls `report` with each tick before `limit`, with the time so far. The caller bounds the time.
pub async fn with_reports<T>(limit: Duration, report: impl Fn(Duration), work: impl Future<Output = T>) -> T {
    let tick = scaled(REPORT_INTERVAL);
    let mut work = pin!(work);
    let began = Instant::now();
    let mut so_far = tick;
    while so_far < limit {
        if let Ok(done) = timeout_at(began + so_far, work.as_mut()).await {
            return done;
        }
        report(so_far);
        so_far += tick;
    }
    work.await
}

/// Reports a wait to the listener, unless a wait for this host was reported within the last half tick.
pub fn report_wait(host: &str, so_far: Duration, limit: Duration, waiting_for: impl FnOnce() -> String) {
    let Some(listener) = LISTENER.get() else { return };
    let now = Instant::now();
    {
        let mut hosts = LAST_REPORTS.lock();
        let hosts = hosts.get_or_insert_default();
        if hosts.get(host).is_some_and(|last| now.duration_since(*last) < scaled(REPORT_INTERVAL) / 2) {
            return;
        }
        if hosts.len() >= MAX_HOSTS {
            hosts.clear();
        }
        hosts.insert(host.to_owned(), now);
    }
    let (waited, left) = (DisplaySeconds(so_far), DisplaySeconds(limit.saturating_sub(so_far)));
    listener(&format!("waiting for {host} for {waited}: {}; gives up in {left}", waiting_for()));
}

/// Sends the listener a message about the progress of a long wait. `sentence` is shown unchanged.
pub fn report(sentence: &str) {
    if let Some(listener) = LISTENER.get() {
        listener(sentence);
    }
}

/// Displays a duration for people: `60 s`, with tenths below ten seconds.
#[derive(Clone, Copy, Debug)]
pub struct DisplaySeconds(pub Duration);

impl fmt::Display for DisplaySeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.as_millis() + 50) / 100;
        if tenths >= 100 || tenths.is_multiple_of(10) {
            return write!(f, "{} s", (tenths + 5) / 10);
        }
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}

/// The minimum progress of a byte stream. Only the time spent waiting counts: if this side is busy elsewhere, the
/// server is not slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallLimits {
    /// The maximum time without a single byte.
    pub max_silence: Duration,
    /// The window over which the rate is measured.
    pub window: Duration,
    /// The minimum number of bytes in each window.
    pub min_bytes: u64,
    /// The interval between reports of the wait.
    pub report_interval: Duration,
}

impl Default for StallLimits {
    /// One minute of silence, and 1 KiB/s over one minute.
    fn default() -> Self {
        let window = scaled(MAX_SILENCE);
        let least = MIN_BYTES_PER_SECOND * u64::try_from(window.as_millis()).unwrap_or(60_000) / 1000;
        Self { max_silence: window, window, min_bytes: least.max(1), report_interval: scaled(REPORT_INTERVAL) }
    }
}

/// Why a byte stream was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallReason {
    /// No byte was transferred for this time.
    Silent(Duration),
    /// Only this many bytes were transferred in this time.
    Slow(u64, Duration),
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(time) => write!(f, "nothing for {}", DisplaySeconds(*time)),
            Self::Slow(1, time) => write!(f, "only 1 byte in {}", DisplaySeconds(*time)),
            Self::Slow(bytes, time) => write!(f, "only {bytes} bytes in {}", DisplaySeconds(*time)),
        }
    }
}

/// Detects a stalled byte stream. Creates no timer as long as the stream never waits.
#[derive(Debug)]
pub struct StallDetector {
    limits: StallLimits,
    /// The start of the current wait for bytes, or `None` if there is no wait.
    waiting_since: Option<Instant>,
    /// The time waited in this window before the current wait, and the time waited since the last byte.
    waited_in_window: Duration,
    silent_for: Duration,
    bytes_in_window: u64,
    ticks: u32,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Default for StallDetector {
    fn default() -> Self {
        Self::new(StallLimits::default())
    }
}

impl StallDetector {
    /// Creates a detector with these limits.
    #[must_use]
    pub fn new(limits: StallLimits) -> Self {
        Self {
            limits,
            waiting_since: None,
            waited_in_window: Duration::ZERO,
            silent_for: Duration::ZERO,
            bytes_in_window: 0,
            ticks: 0,
            timer: None,
        }
    }

    /// Allows a longer silence from now on, for example while a server processes what it received. Starts a new
    /// window.
    pub fn allow_silence(&mut self, silence: Duration) {
        self.limits.max_silence = silence;
        // A window must not be shorter than the allowed silence.
        self.limits.window = self.limits.window.max(silence);
        (self.waited_in_window, self.bytes_in_window, self.ticks, self.timer) = (Duration::ZERO, 0, 0, None);
    }

    /// Records that bytes were transferred, and ends the current wait.
    pub fn record_bytes(&mut self, bytes: u64) {
        if let Some(since) = self.waiting_since.take() {
            self.waited_in_window += since.elapsed();
            self.timer = None;
        }
        if bytes > 0 {
            self.bytes_in_window = self.bytes_in_window.saturating_add(bytes);
            self.silent_for = Duration::ZERO;
        }
    }

    /// Polls whether the stream has stalled. Call it whenever the stream has no data: it is ready when the stream
    /// must be given up. The callback gets the time waited in the current window and the bytes transferred in it.
    pub fn poll_stalled(&mut self, cx: &mut Context<'_>, announce: impl Fn(Duration, u64)) -> Poll<StallReason> {
        loop {
            let now = Instant::now();
            let since = *self.waiting_since.get_or_insert(now);
            let timer = self.timer.get_or_insert_with(|| {
                let limits = &self.limits;
                let tick = (limits.report_interval * (self.ticks + 1))
                    .min(limits.window)
                    .saturating_sub(self.waited_in_window);
                Box::pin(sleep_until(since + tick.min(limits.max_silence.saturating_sub(self.silent_for))))
            });
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let passed = since.elapsed();
            self.waited_in_window += passed;
            self.silent_for += passed;
            (self.waiting_since, self.timer, self.ticks) = (None, None, self.ticks + 1);
            if self.silent_for >= self.limits.max_silence {
                return Poll::Ready(StallReason::Silent(self.silent_for));
            }
            if self.waited_in_window >= self.limits.window {
                if self.bytes_in_window < self.limits.min_bytes {
                    return Poll::Ready(StallReason::Slow(self.bytes_in_window, self.waited_in_window));
                }
                (self.waited_in_window, self.bytes_in_window, self.ticks) = (Duration::ZERO, 0, 0);
            } else if self.is_behind() {
                announce(self.waited_in_window, self.bytes_in_window);
            }
        }
    }

    /// Returns the maximum allowed silence.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limits.max_silence
    }

    /// Returns whether less than half of the minimum rate was reached so far, or nothing came for a whole tick.
    fn is_behind(&self) -> bool {
        let share = self.waited_in_window.as_secs_f64() / self.limits.window.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a few kilobytes")]
        let due = self.limits.min_bytes as f64 * share / 2.0;
        #[expect(clippy::cast_precision_loss, reason = "compared with a few kilobytes")]
        let behind = (self.bytes_in_window as f64) < due;
        behind || self.silent_for >= self.limits.report_interval
    }
}

/// Returns a duration in whole microseconds, for the log.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Runs a stream that moves the given number of bytes after each pause. Returns the stall, if any, and the
    /// reports.
    async fn stream(pauses: &[(u64, u64)]) -> (Option<StallReason>, Vec<(u64, u64)>) {
        let mut watch = StallDetector::default();
        let announced = RefCell::new(Vec::new());
        for (seconds, bytes) in pauses {
            let end = Instant::now() + Duration::from_secs(*seconds);
            let stalled = std::future::poll_fn(|cx| {
                watch.poll_stalled(cx, |time, moved| announced.borrow_mut().push((time.as_secs(), moved)))
            });
            if let Ok(stalled) = timeout_at(end, stalled).await {
                return (Some(stalled), announced.into_inner());
            }
            watch.record_bytes(*bytes);
        }
        (None, announced.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_a_minute_and_is_announced_before() {
        let (stalled, announced) = stream(&[(1, 1 << 20), (3600, 1)]).await;
        assert_eq!(stalled, Some(StallReason::Silent(Duration::from_mins(1))));
        assert_eq!(stalled.map(|stalled| stalled.to_string()).as_deref(), Some("nothing for 60 s"));
        assert!(announced.len() >= 4, "{announced:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_after_a_minute() {
        let (stalled, announced) = stream(&vec![(7, 3); 1000]).await;
        assert!(matches!(stalled, Some(StallReason::Slow(24, time)) if time == Duration::from_mins(1)), "{stalled:?}");
        assert_eq!(announced.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [10, 20, 30, 40, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn never_stalls_at_the_minimum_rate() {
        let (stalled, announced) = stream(&vec![(5, 6 << 10); 1000]).await;
        assert_eq!((stalled, announced), (None, Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_busy_reader_is_not_the_servers() {
        let mut watch = StallDetector::default();
        for _ in 0..10 {
            let stalled = std::future::poll_fn(|cx| watch.poll_stalled(cx, |_, _| {}));
            assert!(tokio::time::timeout(Duration::from_secs(5), stalled).await.is_err());
            watch.record_bytes(8 << 10);
            tokio::time::sleep(Duration::from_mins(10)).await;
        }
    }

    #[test]
    fn spans_are_short() {
        for (milliseconds, text) in [(60_000, "60 s"), (333, "0.3 s"), (2001, "2 s"), (12_700, "13 s"), (0, "0 s")] {
            assert_eq!(DisplaySeconds(Duration::from_millis(milliseconds)).to_string(), text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_runs_out() {
        let never = std::future::pending::<()>();
        let late = with_time_limit(Duration::from_secs(25), "h", || "x".to_owned(), never).await;
        assert_eq!(late.map_err(|late| late.to_string()), Err("no response within 25 s".to_owned()));
        assert_eq!(with_time_limit(MAX_SILENCE, "h", String::new, async { 7 }).await, Ok(7));
    }
}
