//! When the work on each object in flight began, to find the oldest.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Begin times of work that ends in any order. Beginning and ending take constant time on average. The memory is
/// proportional to the number of objects that began after the oldest one, which the dispatcher bounds.
#[derive(Debug, Default)]
pub(super) struct InFlightTimes {
    /// In the order of their beginning; `None` has ended. The first has not.
    times: VecDeque<Option<Instant>>,
    /// The number of the first one.
    first: u64,
}

impl InFlightTimes {
    /// Notes the beginning of work. Returns its number, to be passed to [`end`](Self::end).
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.times.push_back(Some(now));
        self.first + self.times.len() as u64 - 1
    }

    /// Notes the end of work.
    pub(super) fn end(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(time) = index.and_then(|index| self.times.get_mut(index)) {
            *time = None;
        }
        while self.times.front().is_some_and(Option::is_none) {
            self.times.pop_front();
            self.first += 1;
        }
    }

    /// Returns when the oldest work began that has not ended.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.times.front().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_is_found_whatever_ends_first() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut times = InFlightTimes::default();
        let numbers: Vec<_> = (0..4).map(|second| times.begin(at(second))).collect();
        assert_eq!(times.oldest(), Some(at(0)));
        times.end(numbers[1]);
        assert_eq!(times.oldest(), Some(at(0)));
        times.end(numbers[0]);
        assert_eq!(times.oldest(), Some(at(2)));
        let later = times.begin(at(9));
        times.end(numbers[3]);
        times.end(numbers[2]);
        assert_eq!(times.oldest(), Some(at(9)));
        times.end(later);
        times.end(later);
        assert_eq!((times.oldest(), times.times.len()), (None, 0));
    }
}
