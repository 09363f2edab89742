//! Decides when the next request of a bucket may be sent. A state machine that gets the time as an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::latency::{Latency, Took};
use super::rate::Rate;
use super::window::Window;
use crate::call::CallKind;

/// The longest pause that a server's `Retry-After` can cause. A longer one is cut to this.
pub(super) const LONGEST_CLOSED: Duration = Duration::from_mins(1);

/// The shortest round of answers.
const ROUND: Duration = Duration::from_millis(100);

/// The longest round. A round with fewer than `ENOUGH` answers ends after this time.
const LONGEST_ROUND: Duration = Duration::from_secs(1);

/// The number of answers after which a round may end.
const ENOUGH: u32 = 16;

/// The share of throttled requests that is tolerated, and how many can be tolerated in a row. A store occasionally
/// refuses a request for reasons of its own.
const OVERLOOKED: f64 = 0.003;
const OVERLOOKED_MOST: f64 = 3.0;

/// The share of throttled answers above which a round counts as overrun.
const GOOD_PART: f64 = 0.25;

/// The decision about the next request.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// Send it now.
    Go(Ticket),
    /// Do not send it before this instant.
    At(Instant),
    /// The window is full: another request must be answered first.
    Full,
}

/// The state in which a request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    era: u32,
    sent: Instant,
}

impl Ticket {
    /// Returns the ticket with a later send time, if another limit delayed the request until `now`.
    pub(super) fn sent_at(self, now: Instant) -> Self {
        Self { sent: now, ..self }
    }
}

/// What an answer says about the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server accepted the request, whatever its result.
    Taken,
    /// The server asks for a lower rate, and for a pause if it sent one.
    Refused(Option<Duration>),
    /// The request failed or was never answered.
    Failed,
}

/// Controls the requests of one bucket: how many are in flight, and how many are sent per second.
///
/// The window adapts by additive increase and multiplicative decrease, on throttling, failures and rising latency.
/// With a hard rate limit, a window alone oscillates. So from the first throttled request on, requests are also sent
/// at a rate, which is learned from what the server accepts and probed carefully.
#[derive(Debug)]
pub(super) struct Governor {
    window: Window,
    rate: Rate,
    latency: Latency,
    in_flight: u32,
    closed: Option<Instant>,
    /// Incremented each time the sending rate is lowered. A bad answer to a request of an earlier epoch does not lower
    /// it again.
    era: u32,
    /// How many throttled requests are still tolerated.
    pardons: f64,
    round: Option<Round>,
    /// Accepted requests of the last round, and its length in seconds.
    last: (f64, f64),
    /// Accepted and throttled requests of the rounds that make up about one second, and their total length in
    /// seconds.
    second: (f64, f64, f64),
}

/// Answers that are evaluated together.
#[derive(Debug)]
struct Round {
    began: Instant,
    accepted: u32,
    refused: u32,
    took: Took,
    /// Whether requests waited for the rate (`paced`) or for the window (`crowded`).
    paced: bool,
    crowded: bool,
}

impl Round {
    fn new(began: Instant) -> Self {
        Self { began, accepted: 0, refused: 0, took: Took::default(), paced: false, crowded: false }
    }
}

impl Governor {
    pub(super) fn new() -> Self {
        Self {
            window: Window::new(),
            rate: Rate::unlimited(),
            latency: Latency::default(),
            in_flight: 0,
            closed: None,
            era: 0,
            pardons: 0.0,
            round: None,
            last: (0.0, 0.0),
            second: (0.0, 0.0, 0.0),
        }
    }

    /// Decides whether one more request may be sent.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        if let Some(until) = self.closed {
            if now < until {
                return Admission::At(until);
            }
            self.closed = None;
        }
        let round = self.round.get_or_insert_with(|| Round::new(now));
        if !self.window.has_room(self.in_flight) {
            round.crowded = true;
            return Admission::Full;
        }
        if let Err(turn) = self.rate.turn(now) {
            round.paced = true;
            return Admission::At(turn);
        }
        self.in_flight += 1;
        Admission::Go(Ticket { era: self.era, sent: now })
    }

    /// Processes the answer to a request of this kind. `cap` is the plan's concurrency.
    pub(super) fn answered(&mut self, ticket: Ticket, now: Instant, kind: CallKind, verdict: Verdict, cap: f64) {
        self.gone();
        let round = self.round.get_or_insert_with(|| Round::new(now));
        match verdict {
            Verdict::Taken => {
                round.accepted += 1;
                round.took.add(kind, now.saturating_duration_since(ticket.sent));
                self.window.answered(cap);
                self.pardons = (self.pardons + OVERLOOKED).min(OVERLOOKED_MOST);
            }
            Verdict::Refused(pause) => {
                round.refused += 1;
                if let Some(pause) = pause {
                    let until = now + pause.min(LONGEST_CLOSED);
                    self.closed = self.closed.max(Some(until));
                }
                if ticket.era == self.era && !self.is_overlooked() {
                    let accepted = self.accepted(now);
                    self.rate.refused(accepted);
                    self.less(cap);
                }
            }
            Verdict::Failed if ticket.era == self.era => self.less(cap),
            Verdict::Failed => {}
        }
        self.end_round(now, cap);
    }

    /// Removes a request that is no longer in flight.
    pub(super) fn gone(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The learned rate in requests per second.
    #[cfg(test)]
    pub(super) fn limit(&self) -> Option<f64> {
        self.rate.limit()
    }

    fn is_overlooked(&mut self) -> bool {
        let pardoned = self.pardons >= 1.0;
        if pardoned {
            self.pardons -= 1.0;
        }
        pardoned
    }

    fn less(&mut self, cap: f64) {
        self.era = self.era.wrapping_add(1);
        self.window.failed();
        self.make_room_for_rate(cap);
    }

    /// Keeps the window large enough for the rate: a rate is only reached with as many requests in flight as are sent
    /// during one round trip, and some to spare.
    fn make_room_for_rate(&mut self, cap: f64) {
        if let Some(limit) = self.rate.limit() {
            self.window.at_least(limit * self.latency.usual() * 2.0, cap);
        }
    }

    /// Accepted requests per second, in this round and the previous one.
    fn accepted(&self, now: Instant) -> f64 {
        let (accepted, seconds) = self.round.as_ref().map_or((0.0, 0.0), |round| {
            (f64::from(round.accepted), now.saturating_duration_since(round.began).as_secs_f64())
        });
        (accepted + self.last.0) / (seconds + self.last.1).max(0.001)
    }

    fn remember(&mut self, accepted: f64, refused: f64, seconds: f64) {
        let (a, r, s) = self.second;
        let (accepted, refused, seconds) = (a + accepted, r + refused, s + seconds);
        self.second = (accepted, refused, seconds);
        if seconds >= 1.0 {
            self.second = (0.0, 0.0, 0.0);
            self.rate.saw(accepted / seconds, seconds, is_overrun(accepted, refused));
        }
    }

    fn end_round(&mut self, now: Instant, cap: f64) {
        let Some(round) = &self.round else { return };
        let (lasted, answers) = (now.saturating_duration_since(round.began), round.accepted + round.refused);
        let least = ROUND.max(Duration::from_secs_f64(self.latency.usual())).min(LONGEST_ROUND);
        if lasted < least || (answers < ENOUGH && lasted < LONGEST_ROUND) {
            return;
        }
        let Some(round) = self.round.replace(Round::new(now)) else { return };
        let seconds = lasted.as_secs_f64();
        let accepted = f64::from(round.accepted);
        self.last = (accepted, seconds);
        self.remember(accepted, f64::from(round.refused), seconds);
        let rises = self.latency.rises(&round.took, seconds);
        if is_overrun(accepted, f64::from(round.refused)) {
            self.rate.overrun(accepted / seconds);
            self.era = self.era.wrapping_add(1);
        } else if round.refused == 0 && round.paced {
            self.rate.grow(seconds);
        }
        if rises {
            self.window.slowed();
        } else if round.refused == 0 && round.crowded {
            self.window.step(cap);
        }
        self.make_room_for_rate(cap);
    }
}

/// Returns whether a large share of the requests was throttled.
fn is_overrun(accepted: f64, refused: f64) -> bool {
    refused > (accepted + refused) * GOOD_PART
}
