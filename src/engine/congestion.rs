//! Congestion control of one bucket: when the next request may be sent. State machines that get the time as an
//! argument.
//!
//! A window limits the requests in flight, a learned rate the requests per second. Throttling, failures and rising
//! latency lower them.

use std::time::Duration;

use batchplan_store::object_request::RequestKind;
use tokio::time::Instant;

/// The longest pause that a server's `Retry-After` can cause. A longer one is cut to this.
const MAX_PAUSE: Duration = Duration::from_mins(1);

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

/// What a controller allows at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CongestionLimits {
    /// Requests in flight.
    pub(super) window: u64,
    /// Requests per second; `None` if the store has shown no limit.
    pub(super) rate: Option<u64>,
}

/// How far the window may open.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowBounds {
    /// Up to here it opens by one with each answer.
    pub(super) start: f64,
    /// Up to here it opens by a step per round, as long as answers do not become slower.
    pub(super) max: f64,
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

    /// Processes the answer to a request of this kind. `bounds` follow from the plan's concurrency.
    pub(super) fn on_answer(
        &mut self,
        ticket: RequestTicket,
        now: Instant,
        kind: RequestKind,
        signal: CongestionSignal,
        bounds: WindowBounds,
    ) {
        self.remove_in_flight();
        let round = self.round.get_or_insert_with(|| AnswerRound::new(now));
        match signal {
            CongestionSignal::Accepted => {
                round.accepted += 1;
                round.latencies.add(kind, now.saturating_duration_since(ticket.sent));
                self.window.on_answer(bounds);
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
                    self.reduce(bounds.max);
                }
            }
            CongestionSignal::Failed if ticket.epoch == self.epoch => self.reduce(bounds.max),
            CongestionSignal::Failed => {}
        }
        self.end_round(now, bounds);
    }

    /// Removes a request that is no longer in flight.
    pub(super) fn remove_in_flight(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The learned rate in requests per second.
    #[cfg(test)]
    fn rate_limit(&self) -> Option<f64> {
        self.rate.limit()
    }

    /// Returns the current limits.
    pub(super) fn limits(&self) -> CongestionLimits {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, and rounded for people")]
        let rounded = |limit: f64| limit.round() as u64;
        CongestionLimits { window: rounded(self.window.size), rate: self.rate.limit().map(rounded) }
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

    fn end_round(&mut self, now: Instant, bounds: WindowBounds) {
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
        let trend = self.latency.add_round(&round.latencies, seconds);
        if is_overrun(accepted, f64::from(round.throttled)) {
            self.rate.on_overrun(accepted / seconds);
            self.epoch = self.epoch.wrapping_add(1);
        } else if round.throttled == 0 && round.rate_limited {
            self.rate.grow(seconds);
        }
        if trend == LatencyTrend::Rising {
            self.window.on_latency_rise();
        } else if round.throttled == 0 && round.window_limited {
            self.window.widen(bounds.start);
            if trend == LatencyTrend::Fast {
                self.window.widen(bounds.max);
            }
        }
        self.widen_for_rate(bounds.max);
    }
}

/// Returns whether a large share of the requests was throttled.
fn is_overrun(accepted: f64, refused: f64) -> bool {
    refused > (accepted + refused) * OVERRUN_SHARE
}

/// The initial window.
const INITIAL_WINDOW: f64 = 8.0;

/// The smallest window.
const MIN_WINDOW: f64 = 4.0;

/// The factor by which the window shrinks after throttling or a failure, and after a rise of latency.
const FAILURE_FACTOR: f64 = 0.5;
const LATENCY_RISE_FACTOR: f64 = 0.8;

/// The increase after a good round, in units of the square root of the plan's concurrency: 4 for 64, 16 for 1024.
const STEP_FACTOR: f64 = 0.5;

/// A congestion window that opens like TCP's: by one per answer at first, and by one step per round after the first
/// failure.
#[derive(Debug)]
struct CongestionWindow {
    size: f64,
    slow_start: bool,
}

impl CongestionWindow {
    fn new() -> Self {
        Self { size: INITIAL_WINDOW, slow_start: true }
    }

    /// Returns whether one more request fits.
    fn has_room(&self, in_flight: u32) -> bool {
        f64::from(in_flight) < self.size
    }

    /// Opens the window by one during slow start.
    fn on_answer(&mut self, bounds: WindowBounds) {
        if self.slow_start {
            let opened = (self.size + 1.0).min(bounds.start.max(MIN_WINDOW));
            self.size = opened.max(self.size).min(bounds.max.max(MIN_WINDOW));
        }
    }

    /// Opens the window by one step after a good round in which requests waited.
    fn widen(&mut self, cap: f64) {
        self.size = (self.size + (cap.sqrt() * STEP_FACTOR).max(1.0)).min(cap.max(MIN_WINDOW)).max(self.size);
    }

    /// Shrinks the window after throttling or a failure of the server.
    fn on_failure(&mut self) {
        self.shrink(FAILURE_FACTOR);
    }

    /// Shrinks the window after a rise of latency.
    fn on_latency_rise(&mut self) {
        self.shrink(LATENCY_RISE_FACTOR);
    }

    /// Widens the window to `needed`, if another limit bounds what is sent and needs that many in flight.
    fn widen_to(&mut self, needed: f64, cap: f64) {
        self.size = self.size.max(needed.min(cap));
    }

    fn shrink(&mut self, left: f64) {
        self.slow_start = false;
        self.size = (self.size * left).max(MIN_WINDOW);
    }
}

/// The lowest rate in requests per second: a server that refuses everything is still tried from time to time.
const MIN_RATE: f64 = 1.0;

/// The factor by which the rate drops after a throttled request. The drop is small, because near the known limit a
/// refusal means that the limit was only slightly exceeded.
const REFUSAL_FACTOR: f64 = 0.93;

/// The first estimate, as a factor of the rate that the server was seen to accept.
const ESTIMATE_FACTOR: f64 = 0.95;

/// The growth of the rate per tenth of a second while the limit is unknown, and the most in one long round.
const SEEK_GROWTH: f64 = 1.25;
const MAX_SEEK_GROWTH: f64 = 2.5;

/// The number of seconds after which an observed rate counts only half.
const HALF_LIFE_SECONDS: f64 = 5.0;

/// The factor applied to an observed rate after a second in which a large share was throttled.
const OVERRUN_DISCOUNT: f64 = 0.7;

/// The number of seconds from a refusal back to the rate that was refused: fast at first, then slower and slower.
const RECOVERY_SECONDS: f64 = 10.0;

/// How much unused time counts towards a burst: timers are about a millisecond late, and more on a busy machine.
const BURST: Duration = Duration::from_millis(10);

/// Spaces requests at the learned rate. Before the first refusal there is no rate and no wait.
#[derive(Debug)]
struct AdaptiveRate {
    estimate: Option<RateEstimate>,
    /// The highest rate that the server was recently seen to accept, in requests per second. It is never far above
    /// the server's limit. So one refusal at a low rate, which a server often sends after an overload, does not keep
    /// the rate low.
    observed: f64,
    /// Whether the server accepted nothing in the last second.
    down: bool,
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct RateEstimate {
    /// Requests per second.
    limit: f64,
    phase: RatePhase,
}

#[derive(Clone, Copy, Debug)]
enum RatePhase {
    /// The limit is far from known.
    Seeking,
    /// The limit is near `top`. The rate was cut to `from`, `age` seconds ago.
    NearLimit { top: f64, from: f64, age: f64 },
}

impl RateEstimate {
    fn near_limit(top: f64, from: f64) -> Self {
        let from = from.max(MIN_RATE);
        Self { limit: from, phase: RatePhase::NearLimit { top: top.max(from), from, age: 0.0 } }
    }
}

impl AdaptiveRate {
    /// Creates a rate without a limit.
    fn unlimited() -> Self {
        Self { estimate: None, observed: 0.0, down: false, next: None }
    }

    /// The rate in requests per second; `None` if no limit was met.
    fn limit(&self) -> Option<f64> {
        self.estimate.map(|learned| learned.limit)
    }

    /// Reserves the next send time if it is due. Otherwise returns when it will be due and reserves nothing.
    fn acquire(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(RateEstimate { limit, .. }) = self.estimate else { return Ok(()) };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = self.next.map_or(now, |next| next.max(earliest));
        if turn > now {
            return Err(turn);
        }
        self.next = Some(turn + Duration::from_secs_f64(1.0 / limit));
        Ok(())
    }

    /// Records that `accepted` requests per second were accepted for `seconds`, about one second. `overrun` is true
    /// if a large share of all requests was throttled.
    fn observe_second(&mut self, accepted: f64, seconds: f64, overrun: bool) {
        let believed = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS) * if overrun { OVERRUN_DISCOUNT } else { 1.0 };
        self.observed = (self.observed * believed).max(accepted);
        self.down = accepted <= 0.0;
    }

    /// Lowers the rate after a request was throttled that was sent at the current rate, while the server accepted
    /// `accepted` requests per second.
    fn on_throttled(&mut self, accepted: f64) {
        let seen = self.observed * ESTIMATE_FACTOR;
        // If hardly anything is accepted, or much more was accepted before, the limit is not near: the server is
        // down, or is recovering from an overload.
        let far = |limit: f64| limit < seen / 2.0 || accepted < limit / 2.0;
        self.estimate = Some(match self.estimate {
            None => RateEstimate { limit: (accepted * ESTIMATE_FACTOR).max(MIN_RATE), phase: RatePhase::Seeking },
            Some(RateEstimate { limit, phase: RatePhase::Seeking }) if far(limit) => {
                RateEstimate { limit: (limit / SEEK_GROWTH).max(MIN_RATE), phase: RatePhase::Seeking }
            }
            // The round before was accepted at a rate lower by this factor.
            Some(RateEstimate { limit, phase: RatePhase::Seeking }) => {
                RateEstimate::near_limit(seen.max(limit * ESTIMATE_FACTOR), limit * ESTIMATE_FACTOR / SEEK_GROWTH)
            }
            Some(RateEstimate { limit, phase: RatePhase::NearLimit { .. } }) => {
                RateEstimate::near_limit(seen.max(limit), limit * REFUSAL_FACTOR)
            }
        });
    }

    /// Lowers the rate after a round in which a large share was throttled. The rate that the server accepted
    /// meanwhile is the estimate.
    fn on_overrun(&mut self, accepted: f64) {
        let Some(RateEstimate { limit, phase }) = self.estimate else { return };
        // A quota that is used up for the rest of its second still shows the limit.
        let found = (accepted * ESTIMATE_FACTOR).max(self.observed / 2.0).clamp(MIN_RATE, limit.max(MIN_RATE));
        let astray = matches!(phase, RatePhase::Seeking) || self.down || accepted.max(self.observed) < limit / 2.0;
        self.estimate = Some(if astray {
            RateEstimate { limit: found, phase: RatePhase::Seeking }
        } else {
            RateEstimate::near_limit(accepted.max(self.observed * ESTIMATE_FACTOR), found)
        });
    }

    /// Raises the rate after a round of `seconds` without throttling in which requests waited for the rate.
    ///
    /// Near the limit the rate follows a cubic, like TCP's window: most of the way back at once, flat where the last
    /// refusal was, and faster and faster beyond it, since the server may now take more than before.
    fn grow(&mut self, seconds: f64) {
        let Some(learned) = &mut self.estimate else { return };
        match &mut learned.phase {
            RatePhase::Seeking => {
                let grown = learned.limit * SEEK_GROWTH.powf(seconds * 10.0).min(MAX_SEEK_GROWTH);
                // At most twice the rate that was accepted for one second, once a full second was seen.
                let most = if self.observed > 0.0 { (self.observed * 2.0).max(MIN_RATE) } else { grown };
                learned.limit = grown.min(most).max(learned.limit);
            }
            RatePhase::NearLimit { top, from, age } => {
                *age += seconds;
                let bent = ((*age - RECOVERY_SECONDS) / RECOVERY_SECONDS).powi(3);
                // Beyond the limit, the curve is no steeper than after a cut of the usual depth.
                let depth = if bent < 0.0 { *top - *from } else { *top * (1.0 - REFUSAL_FACTOR) };
                learned.limit = *top + depth * bent;
            }
        }
    }
}

/// Each kind of request has its own latency: a mix of kinds is compared with the same mix.
const KINDS: usize = RequestKind::ALL.len();

/// The number of answers a round needs to be evaluated.
const MIN_COMPARED_ANSWERS: u32 = 16;

/// The number of answers of one kind needed to lower its usual latency.
const MIN_ANSWERS_OF_KIND: u32 = 8;

/// A latency up to `RISE_FACTOR` the usual one plus `RISE_MARGIN` seconds is no reason to send less: the client's own
/// work, one slow answer in a hundred, or a new connection can cause it.
const RISE_FACTOR: f64 = 2.0;
const RISE_MARGIN: f64 = 0.05;

/// The number of seconds after which a higher latency becomes the usual one.
const ADAPTATION_SECONDS: f64 = 30.0;

/// Up to this factor of the lowest latency, plus this number of seconds, answers count as fast: the store has room for more
/// requests. With more than it works on at once, requests wait, and their latency grows in proportion.
const FAST_FACTOR: f64 = 1.3;
const FAST_MARGIN: f64 = 0.002;

/// The number of seconds after which the lowest latency is forgotten. If it followed soon, a window that is too large
/// would make its own latency the usual one.
const LOWEST_SECONDS: f64 = 300.0;

/// How the latency of a round compares with earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LatencyTrend {
    /// As low as it was ever seen.
    Fast,
    /// Neither of the others, or there were too few answers.
    Steady,
    /// Higher than usual at least twice in a row.
    Rising,
}

/// The latencies of one round, by kind of request.
#[derive(Clone, Copy, Debug, Default)]
struct RoundLatencies {
    kinds: [(u32, Duration); KINDS],
}

impl RoundLatencies {
    fn add(&mut self, kind: RequestKind, elapsed: Duration) {
        let (count, sum) = &mut self.kinds[kind as usize];
        *count += 1;
        *sum += elapsed;
    }
}

/// The usual latency of each kind of request, in seconds.
#[derive(Debug, Default)]
struct LatencyBaseline {
    usual_by_kind: [Option<f64>; KINDS],
    /// The lowest one of each kind.
    lowest_by_kind: [Option<f64>; KINDS],
    /// The usual latency of the last round's mix of kinds.
    usual_of_mix: f64,
    /// The number of consecutive slow rounds.
    slow_rounds: u32,
}

impl LatencyBaseline {
    /// The usual latency of the last round's mix, in seconds; 0 if nothing is known.
    fn usual_of_mix(&self) -> f64 {
        self.usual_of_mix
    }

    /// Adds a round of `seconds`, and compares it with earlier ones.
    fn add_round(&mut self, latencies: &RoundLatencies, seconds: f64) -> LatencyTrend {
        let lowest = self.lowest_sum(latencies, seconds);
        let (mut answers, mut expected, mut observed) = (0, 0.0, 0.0);
        for ((count, sum), usual) in
            latencies.kinds.iter().zip(&mut self.usual_by_kind).filter(|((count, _), _)| *count > 0)
        {
            let (weight, sum) = (f64::from(*count), sum.as_secs_f64());
            let mean = sum / weight;
            let known = usual.get_or_insert(mean);
            answers += count;
            expected += weight * *known;
            observed += sum;
            if mean > *known {
                *known += (mean - *known) * (seconds / ADAPTATION_SECONDS).min(1.0);
            } else if *count >= MIN_ANSWERS_OF_KIND {
                *known += (mean - *known) / 2.0;
            }
        }
        if answers > 0 {
            self.usual_of_mix = expected / f64::from(answers);
        }
        if answers < MIN_COMPARED_ANSWERS {
            return LatencyTrend::Steady;
        }
        let longer = observed / f64::from(answers) > self.usual_of_mix * RISE_FACTOR + RISE_MARGIN;
        self.slow_rounds = if longer { self.slow_rounds + 1 } else { 0 };
        if self.slow_rounds >= 2 {
            LatencyTrend::Rising
        } else if observed <= lowest * FAST_FACTOR + FAST_MARGIN * f64::from(answers) {
            LatencyTrend::Fast
        } else {
            LatencyTrend::Steady
        }
    }

    /// Updates the lowest latencies, and returns the time that the answers of this round would take in all with them.
    fn lowest_sum(&mut self, latencies: &RoundLatencies, seconds: f64) -> f64 {
        let mut sum = 0.0;
        for ((count, total), lowest) in
            latencies.kinds.iter().zip(&mut self.lowest_by_kind).filter(|((count, _), _)| *count > 0)
        {
            let weight = f64::from(*count);
            let mean = total.as_secs_f64() / weight;
            let known = lowest.get_or_insert(mean);
            if mean > *known {
                *known += (mean - *known) * (seconds / LOWEST_SECONDS).min(1.0);
            } else if *count >= MIN_ANSWERS_OF_KIND {
                *known = mean;
            }
            sum += weight * *known;
        }
        sum
    }
}

#[cfg(test)]
#[path = "congestion_tests.rs"]
mod tests;
