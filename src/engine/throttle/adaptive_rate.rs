//! The request rate that a server can take, learned from what it throttles.

use std::time::Duration;

use tokio::time::Instant;

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
pub(super) struct AdaptiveRate {
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
    pub(super) fn unlimited() -> Self {
        Self { estimate: None, observed: 0.0, down: false, next: None }
    }

    /// The rate in requests per second; `None` if no limit was met.
    pub(super) fn limit(&self) -> Option<f64> {
        self.estimate.map(|learned| learned.limit)
    }

    /// Reserves the next send time if it is due. Otherwise returns when it will be due and reserves nothing.
    pub(super) fn acquire(&mut self, now: Instant) -> Result<(), Instant> {
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
    pub(super) fn observe_second(&mut self, accepted: f64, seconds: f64, overrun: bool) {
        let believed = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS) * if overrun { OVERRUN_DISCOUNT } else { 1.0 };
        self.observed = (self.observed * believed).max(accepted);
        self.down = accepted <= 0.0;
    }

    /// Lowers the rate after a request was throttled that was sent at the current rate, while the server accepted
    /// `accepted` requests per second.
    pub(super) fn on_throttled(&mut self, accepted: f64) {
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
    pub(super) fn on_overrun(&mut self, accepted: f64) {
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
    pub(super) fn grow(&mut self, seconds: f64) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(at: f64) -> AdaptiveRate {
        AdaptiveRate { estimate: Some(RateEstimate::near_limit(at, at * REFUSAL_FACTOR)), ..AdaptiveRate::unlimited() }
    }

    #[test]
    fn turns_are_as_many_as_the_rate_says_however_late_they_are_taken() {
        let mut rate = AdaptiveRate {
            estimate: Some(RateEstimate { limit: 3000.0, phase: RatePhase::Seeking }),
            ..AdaptiveRate::unlimited()
        };
        let (start, mut taken) = (Instant::now(), 0);
        for millisecond in 0..1000 {
            while rate.acquire(start + Duration::from_millis(millisecond)).is_ok() {
                taken += 1;
            }
        }
        assert!((2990..=3001).contains(&taken), "{taken}");
        let later = start + Duration::from_mins(1);
        let burst = std::iter::from_fn(|| rate.acquire(later).ok()).count();
        assert!(burst <= 31, "{burst}");
    }

    #[test]
    fn recovers_quickly_then_slowly_then_quickly() {
        let mut rate = settled(1000.0);
        let mut after = |seconds: u32| {
            (0..seconds * 10).for_each(|_| rate.grow(0.1));
            rate.limit().unwrap()
        };
        let (three, seven, ten, thirteen, forty) = (after(3), after(4), after(3), after(3), after(27));
        assert!((970.0..985.0).contains(&three), "{three}");
        assert!((995.0..1000.0).contains(&seven) && (999.9..1000.1).contains(&ten), "{seven} {ten}");
        assert!((1000.0..1005.0).contains(&thirteen), "{thirteen}");
        assert!(forty > 2000.0, "{forty}");
    }

    #[test]
    fn rate_never_reaches_zero() {
        let mut rate = settled(1000.0);
        for _ in 0..1000 {
            rate.on_throttled(0.0);
            rate.on_overrun(0.0);
        }
        assert!(rate.limit().is_some_and(|limit| limit >= MIN_RATE), "{rate:?}");
        let start = Instant::now();
        assert!(rate.acquire(start).is_ok());
        assert!(rate.acquire(start).is_err_and(|turn| turn <= start + Duration::from_secs(1)));
    }
}
