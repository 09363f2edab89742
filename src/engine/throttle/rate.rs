//! The rate that a server bears, learned from what it refuses.

use std::time::Duration;

use tokio::time::Instant;

/// The lowest rate, in requests a second: a server that refuses everything is still asked now and then.
const LEAST: f64 = 1.0;

/// What is left of the rate after a refusal. Small, since a refusal while the limit is nearly known says that it was passed
/// by little.
const LEFT: f64 = 0.93;

/// How far below what the server was seen to accept the first guess lies.
const BELOW: f64 = 0.95;

/// How much the rate grows in a tenth of a second while the limit is not known, and in a long round at most.
const SEEK: f64 = 1.25;
const SEEK_MOST: f64 = 2.5;

/// Seconds after which half of what a server was once seen to accept is believed.
const FORGOTTEN: f64 = 5.0;

/// What is believed of it after such a second of which a good part was refused.
const DOUBTED: f64 = 0.7;

/// How long it takes from a refusal back to the rate that was refused: fast at first, then slower and slower.
const BACK: f64 = 10.0;

/// How far back unused turns reach: timers are a millisecond late, and a busy machine later.
const BURST: Duration = Duration::from_millis(10);

/// Spaces requests at the learned rate. Without a refusal there is none, and nobody waits.
#[derive(Debug)]
pub(super) struct Rate {
    learned: Option<Learned>,
    /// The most that the server was lately seen to accept in a second. Never much over its limit, so that one refusal at a
    /// low rate, as a server gives many when it was asked for too much before, is no reason to stay there.
    seen: f64,
    /// Whether it accepted nothing in the last second.
    down: bool,
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    /// Requests a second.
    limit: f64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The limit is far from known.
    Seeking,
    /// The limit lies near `top`, and so many seconds ago the rate was cut to `from`.
    Settled { top: f64, from: f64, age: f64 },
}

impl Learned {
    fn near(top: f64, from: f64) -> Self {
        let from = from.max(LEAST);
        Self { limit: from, phase: Phase::Settled { top: top.max(from), from, age: 0.0 } }
    }
}

impl Rate {
    /// None.
    pub(super) fn unlimited() -> Self {
        Self { learned: None, seen: 0.0, down: false, next: None }
    }

    /// Requests a second; `None` where no limit was met.
    pub(super) fn limit(&self) -> Option<f64> {
        self.learned.map(|learned| learned.limit)
    }

    /// Takes a turn; where it is not due yet, says when it will be, and takes none.
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

    /// So many requests a second were accepted for so many seconds, about one of them, and of all a good part was refused
    /// or not.
    pub(super) fn saw(&mut self, accepted: f64, seconds: f64, overrun: bool) {
        let believed = 0.5_f64.powf(seconds / FORGOTTEN) * if overrun { DOUBTED } else { 1.0 };
        self.seen = (self.seen * believed).max(accepted);
        self.down = accepted <= 0.0;
    }

    /// A request was refused that was sent at the present rate, while the server accepted `accepted` requests a second.
    pub(super) fn refused(&mut self, accepted: f64) {
        let seen = self.seen * BELOW;
        // Where hardly anything is accepted, or much more was, the limit is not near: the server is down, or makes up for
        // what it took too much of.
        let far = |limit: f64| limit < seen / 2.0 || accepted < limit / 2.0;
        self.learned = Some(match self.learned {
            None => Learned { limit: (accepted * BELOW).max(LEAST), phase: Phase::Seeking },
            Some(Learned { limit, phase: Phase::Seeking }) if far(limit) => {
                Learned { limit: (limit / SEEK).max(LEAST), phase: Phase::Seeking }
            }
            // The round before was accepted at a rate that much lower.
            Some(Learned { limit, phase: Phase::Seeking }) => {
                Learned::near(seen.max(limit * BELOW), limit * BELOW / SEEK)
            }
            Some(Learned { limit, phase: Phase::Settled { .. } }) => Learned::near(seen.max(limit), limit * LEFT),
        });
    }

    /// A good part of a round was refused: what the server accepted meanwhile is what it bears.
    pub(super) fn overrun(&mut self, accepted: f64) {
        let Some(Learned { limit, phase }) = self.learned else { return };
        // A quota that is used up for the rest of its second is still one.
        let found = (accepted * BELOW).max(self.seen / 2.0).clamp(LEAST, limit.max(LEAST));
        let astray = matches!(phase, Phase::Seeking) || self.down || accepted.max(self.seen) < limit / 2.0;
        self.learned = Some(if astray {
            Learned { limit: found, phase: Phase::Seeking }
        } else {
            Learned::near(accepted.max(self.seen * BELOW), found)
        });
    }

    /// A round of so many seconds went by without a refusal, and requests waited for their turn.
    ///
    /// Near the limit the rate follows a cubic, as TCP's windows do: most of the way back at once, level where the last
    /// refusal was, and away from there faster and faster, since a server may bear more than it did.
    pub(super) fn grow(&mut self, seconds: f64) {
        let Some(learned) = &mut self.learned else { return };
        match &mut learned.phase {
            Phase::Seeking => {
                let grown = learned.limit * SEEK.powf(seconds * 10.0).min(SEEK_MOST);
                // No more than twice what was seen to be accepted for a second, where there was a second.
                let most = if self.seen > 0.0 { (self.seen * 2.0).max(LEAST) } else { grown };
                learned.limit = grown.min(most).max(learned.limit);
            }
            Phase::Settled { top, from, age } => {
                *age += seconds;
                let bent = ((*age - BACK) / BACK).powi(3);
                // The way beyond is no steeper than a cut of the usual depth would make it.
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
