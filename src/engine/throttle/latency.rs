//! Detects whether answers take longer than they used to.

use std::time::Duration;

use batchplan_store::object_request::RequestKind;

/// Each kind of request has its own latency: a mix of kinds is compared with the same mix.
const KINDS: usize = RequestKind::ALL.len();

/// The number of answers a round needs to be evaluated.
const MIN_ANSWERS: u32 = 16;

/// The number of answers of one kind needed to lower its usual latency.
const MIN_ANSWERS_OF_KIND: u32 = 8;

/// A latency up to `RISE_FACTOR` the usual one plus `RISE_MARGIN` seconds is no reason to send less: the client's own
/// work, one slow answer in a hundred, or a new connection can cause it.
const RISE_FACTOR: f64 = 2.0;
const RISE_MARGIN: f64 = 0.05;

/// The number of seconds after which a higher latency becomes the usual one.
const ADAPTATION_SECONDS: f64 = 30.0;

/// The latencies of one round, by kind of request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundLatencies {
    kinds: [(u32, Duration); KINDS],
}

impl RoundLatencies {
    pub(super) fn add(&mut self, kind: RequestKind, took: Duration) {
        let (count, sum) = &mut self.kinds[kind as usize];
        *count += 1;
        *sum += took;
    }
}

/// The usual latency of each kind of request, in seconds.
#[derive(Debug, Default)]
pub(super) struct LatencyBaseline {
    usual_by_kind: [Option<f64>; KINDS],
    /// The usual latency of the last round's mix of kinds.
    usual_of_mix: f64,
    /// The number of consecutive slow rounds.
    slow_rounds: u32,
}

impl LatencyBaseline {
    /// The usual latency of the last round's mix, in seconds; 0 if nothing is known.
    pub(super) fn usual_of_mix(&self) -> f64 {
        self.usual_of_mix
    }

    /// Adds a round of `seconds`. Returns whether answers were slower than usual at least twice in a row.
    pub(super) fn add_round(&mut self, took: &RoundLatencies, seconds: f64) -> bool {
        let (mut answers, mut expected, mut observed) = (0, 0.0, 0.0);
        for ((count, sum), usual) in took.kinds.iter().zip(&mut self.usual_by_kind).filter(|((count, _), _)| *count > 0)
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
        if answers < MIN_ANSWERS {
            return false;
        }
        let longer = observed / f64::from(answers) > self.usual_of_mix * RISE_FACTOR + RISE_MARGIN;
        self.slow_rounds = if longer { self.slow_rounds + 1 } else { 0 };
        self.slow_rounds >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::RequestKind::{self, GetTags, Head, PutTags};
    use super::*;

    fn round(answers: &[(RequestKind, u32, u64)]) -> RoundLatencies {
        let mut took = RoundLatencies::default();
        for (kind, count, millis) in answers {
            (0..*count).for_each(|_| took.add(*kind, Duration::from_millis(*millis)));
        }
        took
    }

    #[test]
    fn a_latency_that_rises_and_stays_is_noticed_and_then_usual() {
        let mut latency = LatencyBaseline::default();
        assert!((0..50).all(|_| !latency.add_round(&round(&[(PutTags, 20, 20)]), 0.1)));
        assert!((0..50).all(|_| !latency.add_round(&round(&[(PutTags, 20, 60)]), 0.01)), "that may be anything");
        assert!(!latency.add_round(&round(&[(PutTags, 20, 500)]), 0.1), "once is no rise");
        assert!((0..50).all(|_| latency.add_round(&round(&[(PutTags, 20, 500)]), 0.1)));
        let rounds = (0..1000).take_while(|_| latency.add_round(&round(&[(PutTags, 20, 500)]), 0.1)).count();
        assert!((50..300).contains(&rounds), "{rounds}");
    }

    #[test]
    fn a_different_request_mix_is_not_a_latency_rise() {
        let mut latency = LatencyBaseline::default();
        assert!((0..9).all(|_| !latency.add_round(&round(&[(GetTags, 60, 5)]), 0.1)));
        assert!((0..9).all(|_| !latency.add_round(&round(&[(GetTags, 5, 5), (PutTags, 60, 300)]), 0.1)));
        assert!((0..9).all(|_| !latency.add_round(&round(&[(GetTags, 60, 5), (PutTags, 5, 300)]), 0.1)));
        assert!((0..9).all(|_| !latency.add_round(&round(&[(PutTags, 60, 300)]), 0.1)));
    }

    #[test]
    fn every_kind_of_request_is_measured() {
        for kind in RequestKind::ALL {
            let mut latency = LatencyBaseline::default();
            assert!((0..9).all(|_| !latency.add_round(&round(&[(kind, 20, 20)]), 0.1)), "{kind:?}");
            let mut rises = (0..9).map(|_| latency.add_round(&round(&[(kind, 20, 900)]), 0.1));
            assert!(rises.any(|rise| rise), "{kind:?}");
        }
    }

    #[test]
    fn a_few_slow_responses_are_no_latency_rise() {
        let mut latency = LatencyBaseline::default();
        assert!((0..9).all(|_| !latency.add_round(&round(&[(Head, 20, 5)]), 0.1)));
        assert!((0..9).all(|_| !latency.add_round(&round(&[(Head, 3, 9000)]), 0.1)));
    }
}
