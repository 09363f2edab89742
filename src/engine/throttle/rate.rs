//! The request rate that a server can take, learned from what it throttles.

use std::time::Duration;

use tokio::time::Instant;

/// The lowest rate in requests per second: a server that refuses everything is still tried from time to time.
const LEAST: f64 = 1.0;

/// The factor by which the rate drops after a throttled request. The drop is small, because near the known limit a
/// refusal means that the limit was only slightly exceeded.
const LEFT: f64 = 0.93;

/// The first estimate, as a factor of the rate that the server was seen to accept.
const BELOW: f64 = 0.95;

/// The growth of the rate per tenth of a second while the limit is unknown, and the most in one long round.
const SEEK: f64 = 1.25;
const SEEK_MOST: f64 = 2.5;

/// The number of seconds after which an observed rate counts only half.
const FORGOTTEN: f64 = 5.0;

/// The factor applied to an observed rate after a second in which a large share was throttled.
const DOUBTED: f64 = 0.7;

/// The number of seconds from a refusal back to the rate that was refused: fast at first, then slower and slower.
const BACK: f64 = 10.0;

/// How much unused time counts towards a burst: timers are about a millisecond late, and more on a busy machine.
const BURST: Duration = Duration::from_millis(10);

/// Spaces requests at the learned rate. Before the first refusal there is no rate and no wait.
#[derive(Debug)]
pub(super) struct Rate {
    learned: Option<Learned>,
    /// The highest rate that the server was recently seen to accept, in requests per second. It is never far above
    /// the server's limit. So one refusal at a low rate, which a server often sends after an overload, does not keep
    /// the rate low.
    seen: f64,
    /// Whether the server accepted nothing in the last second.
    down: bool,
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    /// Requests per second.
    limit: f64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The limit is far from known.
    Seeking,
    /// The limit is near `top`. The rate was cut to `from`, `age` seconds ago.
    Settled { top: f64, from: f64, age: f64 },
}

impl Learned {
    fn near(top: f64, from: f64) -> Self {
        let from = from.max(LEAST);
        Self { limit: from, phase: Phase::Settled { top: top.max(from), from, age: 0.0 } }
    }
}

impl Rate {
    /// Creates a rate without a limit.
    pub(super) fn unlimited() -> Self {
        Self { learned: None, seen: 0.0, down: false, next: None }
    }

    /// The rate in requests per second; `None` if no limit was met.
    pub(super) fn limit(&self) -> Option<f64> {
        self.learned.map(|learned| learned.limit)
    }

    /// Reserves the next send time if it is due. Otherwise returns when it will be due and reserves nothing.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(Learned { limit, .. }) = self.learned else { return Ok(()) };
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
    pub(super) fn saw(&mut self, accepted: f64, seconds: f64, overrun: bool) {
        let believed = 0.5_f64.powf(seconds / FORGOTTEN) * if overrun { DOUBTED } else { 1.0 };
        self.seen = (self.seen * believed).max(accepted);
        self.down = accepted <= 0.0;
    }

    /// Lowers the rate after a request was throttled that was sent at the current rate, while the server accepted
    /// `accepted` requests per second.
    pub(super) fn refused(&mut self, accepted: f64) {
        let seen = self.seen * BELOW;
        // If hardly anything is accepted, or much more was accepted before, the limit is not near: the server is
        // down, or is recovering from an overload.
        let far = |limit: f64| limit < seen / 2.0 || accepted < limit / 2.0;
        self.learned = Some(match self.learned {
            None => Learned { limit: (accepted * BELOW).max(LEAST), phase: Phase::Seeking },
            Some(Learned { limit, phase: Phase::Seeking }) if far(limit) => {
                Learned { limit: (limit / SEEK).max(LEAST), phase: Phase::Seeking }
            }
            // The round before was accepted at a rate lower by this factor.
            Some(Learned { limit, phase: Phase::Seeking }) => {
                Learned::near(seen.max(limit * BELOW), limit * BELOW / SEEK)
            }
            Some(Learned { limit, phase: Phase::Settled { .. } }) => Learned::near(seen.max(limit), limit * LEFT),
        });
    }

    /// Lowers the rate after a round in which a large share was throttled. The rate that the server accepted
    /// meanwhile is the estimate.
    pub(super) fn overrun(&mut self, accepted: f64) {
        let Some(Learned { limit, phase }) = self.learned else { return };
        // A quota that is used up for the rest of its second still shows the limit.
        let found = (accepted * BELOW).max(self.seen / 2.0).clamp(LEAST, limit.max(LEAST));
        let astray = matches!(phase, Phase::Seeking) || self.down || accepted.max(self.seen) < limit / 2.0;
        self.learned = Some(if astray {
            Learned { limit: found, phase: Phase::Seeking }
        } else {
            Learned::near(accepted.max(self.seen * BELOW), found)
        });
    }

    /// Raises the rate after a round of `seconds` without throttling in which requests waited for the rate.
    ///
    /// Near the limit the rate follows a cubic, like TCP's window: most of the way back at once, flat where the last
    /// refusal was, and faster and faster beyond it, since the server may now take more than before.
    pub(super) fn grow(&mut self, seconds: f64) {
        let Some(learned) = &mut self.learned else { return };
        match &mut learned.phase {
            Phase::Seeking => {
                let grown = learned.limit * SEEK.powf(seconds * 10.0).min(SEEK_MOST);
                // At most twice the rate that was accepted for one second, once a full second was seen.
                let most = if self.seen > 0.0 { (self.seen * 2.0).max(LEAST) } else { grown };
                learned.limit = grown.min(most).max(learned.limit);
            }
            Phase::Settled { top, from, age } => {
                *age += seconds;
                let bent = ((*age - BACK) / BACK).powi(3);
                // Beyond the limit, the curve is no steeper than after a cut of the usual depth.
                let depth = if bent < 0.0 { *top - *from } else { *top * (1.0 - LEFT) };
                learned.limit = *top + depth * bent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(at: f64) -> Rate {
        Rate { learned: Some(Learned::near(at, at * LEFT)), ..Rate::unlimited() }
    }

    #[test]
    fn turns_are_as_many_as_the_rate_says_however_late_they_are_taken() {
        let mut rate = Rate { learned: Some(Learned { limit: 3000.0, phase: Phase::Seeking }), ..Rate::unlimited() };
        let (start, mut taken) = (Instant::now(), 0);
        for millisecond in 0..1000 {
            while rate.turn(start + Duration::from_millis(millisecond)).is_ok() {
                taken += 1;
            }
        }
        assert!((2990..=3001).contains(&taken), "{taken}");
        let later = start + Duration::from_mins(1);
        let burst = std::iter::from_fn(|| rate.turn(later).ok()).count();
        assert!(burst <= 31, "{burst}");
    }

    #[test]
    fn after_a_refusal_it_is_soon_back_and_then_careful_and_then_bold() {
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
    fn it_never_comes_to_nothing() {
        let mut rate = settled(1000.0);
        for _ in 0..1000 {
            rate.refused(0.0);
            rate.overrun(0.0);
        }
        assert!(rate.limit().is_some_and(|limit| limit >= LEAST), "{rate:?}");
        let start = Instant::now();
        assert!(rate.turn(start).is_ok());
        assert!(rate.turn(start).is_err_and(|turn| turn <= start + Duration::from_secs(1)));
    }
}
