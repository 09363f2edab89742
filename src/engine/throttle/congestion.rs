//! Decides when the next request of a bucket may be sent. A state machine that gets the time as an argument.

use std::time::Duration;

use batchplan_store::object_request::RequestKind;
use tokio::time::Instant;

use super::adaptive_rate::AdaptiveRate;
use super::latency::{LatencyBaseline, RoundLatencies};
use super::window::CongestionWindow;

/// The longest pause that a server's `Retry-After` can cause. A longer one is cut to this.
pub(super) const MAX_PAUSE: Duration = Duration::from_mins(1);

/// The shortest round of answers.
const MIN_ROUND: Duration = Duration::from_millis(100);

/// The longest round. A round with fewer than `MIN_ANSWERS` answers ends after this time.
const MAX_ROUND: Duration = Duration::from_secs(1);

/// The number of answers after which a round may end.
const MIN_ANSWERS: u32 = 16;

/// The share of throttled requests that is tolerated, and how many can be tolerated in a row. A store occasionally
/// refuses a request for reasons of its own.
const TOLERATED_SHARE: f64 = 0.003;
const MAX_TOLERATED: f64 = 3.0;

/// The share of throttled answers above which a round counts as overrun.
const OVERRUN_SHARE: f64 = 0.25;

/// The decision about the next request.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(super) enum AdmissionDecision {
    /// Send it now.
    Admitted(RequestTicket),
    /// Do not send it before this instant.
    NotBefore(Instant),
    /// The window is full: another request must be answered first.
    WindowFull,
}

/// The state in which a request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestTicket {
    epoch: u32,
    sent: Instant,
}

impl RequestTicket {
    /// Returns the ticket with a later send time, if another limit delayed the request until `now`.
    pub(super) fn delayed_until(self, now: Instant) -> Self {
        Self { sent: now, ..self }
    }
}

/// What an answer says about the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CongestionSignal {
    /// The server accepted the request, whatever its result.
    Accepted,
    /// The server asks for a lower rate, and for a pause if it sent one.
    Throttled(Option<Duration>),
    /// The request failed or was never answered.
    Failed,
}

/// Controls the requests of one bucket: how many are in flight, and how many are sent per second.
///
/// The window adapts by additive increase and multiplicative decrease, on throttling, failures and rising latency.
/// With a hard rate limit, a window alone oscillates. So from the first throttled request on, requests are also sent
/// at a rate, which is learned from what the server accepts and probed carefully.
#[derive(Debug)]
pub(super) struct CongestionController {
    window: CongestionWindow,
    rate: AdaptiveRate,
    latency: LatencyBaseline,
    in_flight: u32,
    paused_until: Option<Instant>,
    /// Incremented each time the sending rate is lowered. A bad answer to a request of an earlier epoch does not lower
    /// it again.
    epoch: u32,
    /// How many throttled requests are still tolerated.
    tolerated: f64,
    round: Option<AnswerRound>,
    /// Accepted requests of the last round, and its length in seconds.
    last_round: (f64, f64),
    /// Accepted and throttled requests of the rounds that make up about one second, and their total length in
    /// seconds.
    current_second: (f64, f64, f64),
}

/// Answers that are evaluated together.
#[derive(Debug)]
struct AnswerRound {
    started_at: Instant,
    accepted: u32,
    throttled: u32,
    latencies: RoundLatencies,
    /// Whether requests waited for the rate (`rate_limited`) or for the window (`window_limited`).
    rate_limited: bool,
    window_limited: bool,
}

impl AnswerRound {
    fn new(started_at: Instant) -> Self {
        Self {
            started_at,
            accepted: 0,
            throttled: 0,
            latencies: RoundLatencies::default(),
            rate_limited: false,
            window_limited: false,
        }
    }
}

impl CongestionController {
    pub(super) fn new() -> Self {
        Self {
            window: CongestionWindow::new(),
            rate: AdaptiveRate::unlimited(),
            latency: LatencyBaseline::default(),
            in_flight: 0,
            paused_until: None,
            epoch: 0,
            tolerated: 0.0,
            round: None,
            last_round: (0.0, 0.0),
            current_second: (0.0, 0.0, 0.0),
        }
    }

    /// Decides whether one more request may be sent.
    pub(super) fn admit(&mut self, now: Instant) -> AdmissionDecision {
        if let Some(until) = self.paused_until {
            if now < until {
                return AdmissionDecision::NotBefore(until);
            }
            self.paused_until = None;
        }
        let round = self.round.get_or_insert_with(|| AnswerRound::new(now));
        if !self.window.has_room(self.in_flight) {
            round.window_limited = true;
            return AdmissionDecision::WindowFull;
        }
        if let Err(turn) = self.rate.acquire(now) {
            round.rate_limited = true;
            return AdmissionDecision::NotBefore(turn);
        }
        self.in_flight += 1;
        AdmissionDecision::Admitted(RequestTicket { epoch: self.epoch, sent: now })
    }

    /// Processes the answer to a request of this kind. `cap` is the plan's concurrency.
    pub(super) fn on_answer(
        &mut self,
        ticket: RequestTicket,
        now: Instant,
        kind: RequestKind,
        verdict: CongestionSignal,
        cap: f64,
    ) {
        self.remove_in_flight();
        let round = self.round.get_or_insert_with(|| AnswerRound::new(now));
        match verdict {
            CongestionSignal::Accepted => {
                round.accepted += 1;
                round.latencies.add(kind, now.saturating_duration_since(ticket.sent));
                self.window.on_answer(cap);
                self.tolerated = (self.tolerated + TOLERATED_SHARE).min(MAX_TOLERATED);
            }
            CongestionSignal::Throttled(pause) => {
                round.throttled += 1;
                if let Some(pause) = pause {
                    let until = now + pause.min(MAX_PAUSE);
                    self.paused_until = self.paused_until.max(Some(until));
                }
                if ticket.epoch == self.epoch && !self.consume_tolerance() {
                    let accepted = self.accepted_rate(now);
                    self.rate.on_throttled(accepted);
                    self.reduce(cap);
                }
            }
            CongestionSignal::Failed if ticket.epoch == self.epoch => self.reduce(cap),
            CongestionSignal::Failed => {}
        }
        self.end_round(now, cap);
    }

    /// Removes a request that is no longer in flight.
    pub(super) fn remove_in_flight(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The learned rate in requests per second.
    #[cfg(test)]
    pub(super) fn rate_limit(&self) -> Option<f64> {
        self.rate.limit()
    }

    fn consume_tolerance(&mut self) -> bool {
        let pardoned = self.tolerated >= 1.0;
        if pardoned {
            self.tolerated -= 1.0;
        }
        pardoned
    }

    fn reduce(&mut self, cap: f64) {
        self.epoch = self.epoch.wrapping_add(1);
        self.window.on_failure();
        self.widen_for_rate(cap);
    }

    /// Keeps the window large enough for the rate: a rate is only reached with as many requests in flight as are sent
    /// during one round trip, and some to spare.
    fn widen_for_rate(&mut self, cap: f64) {
        if let Some(limit) = self.rate.limit() {
            self.window.widen_to(limit * self.latency.usual_of_mix() * 2.0, cap);
        }
    }

    /// Accepted requests per second, in this round and the previous one.
    fn accepted_rate(&self, now: Instant) -> f64 {
        let (accepted, seconds) = self.round.as_ref().map_or((0.0, 0.0), |round| {
            (f64::from(round.accepted), now.saturating_duration_since(round.started_at).as_secs_f64())
        });
        (accepted + self.last_round.0) / (seconds + self.last_round.1).max(0.001)
    }

    fn add_to_second(&mut self, accepted: f64, refused: f64, seconds: f64) {
        let (a, r, s) = self.current_second;
        let (accepted, refused, seconds) = (a + accepted, r + refused, s + seconds);
        self.current_second = (accepted, refused, seconds);
        if seconds >= 1.0 {
            self.current_second = (0.0, 0.0, 0.0);
            self.rate.observe_second(accepted / seconds, seconds, is_overrun(accepted, refused));
        }
    }

    fn end_round(&mut self, now: Instant, cap: f64) {
        let Some(round) = &self.round else { return };
        let (lasted, answers) = (now.saturating_duration_since(round.started_at), round.accepted + round.throttled);
        let least = MIN_ROUND.max(Duration::from_secs_f64(self.latency.usual_of_mix())).min(MAX_ROUND);
        if lasted < least || (answers < MIN_ANSWERS && lasted < MAX_ROUND) {
            return;
        }
        let Some(round) = self.round.replace(AnswerRound::new(now)) else { return };
        let seconds = lasted.as_secs_f64();
        let accepted = f64::from(round.accepted);
        self.last_round = (accepted, seconds);
        self.add_to_second(accepted, f64::from(round.throttled), seconds);
        let rises = self.latency.add_round(&round.latencies, seconds);
        if is_overrun(accepted, f64::from(round.throttled)) {
            self.rate.on_overrun(accepted / seconds);
            self.epoch = self.epoch.wrapping_add(1);
        } else if round.throttled == 0 && round.rate_limited {
            self.rate.grow(seconds);
        }
        if rises {
            self.window.on_latency_rise();
        } else if round.throttled == 0 && round.window_limited {
            self.window.widen(cap);
        }
        self.widen_for_rate(cap);
    }
}

/// Returns whether a large share of the requests was throttled.
fn is_overrun(accepted: f64, refused: f64) -> bool {
    refused > (accepted + refused) * OVERRUN_SHARE
}
