//! How many workers list a prefix: the configured maximum, and the current limit, which adapts to throttling.

/// How a listing is distributed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::manifest) struct ListingConcurrency {
    /// The maximum number of concurrent listing requests, at least 1.
    pub(in crate::manifest) workers: u32,
    /// The number of listed pages per attempt to split a range.
    pub(in crate::manifest) pages_per_split: u64,
    /// The minimum number of pages that a range must probably have left to be split.
    pub(in crate::manifest) min_pages_left: u32,
}

impl Default for ListingConcurrency {
    /// Sixteen workers: a server that responds in 20 ms returns 800 pages per second to them, and no store that was
    /// measured lists a prefix faster. The memory for sixteen ranges is bounded.
    fn default() -> Self {
        Self { workers: 16, pages_per_split: 8, min_pages_left: 4 }
    }
}

impl ListingConcurrency {
    /// Limits the number of workers.
    pub(in crate::manifest) fn limited_to(self, concurrency: Option<u32>) -> Self {
        Self { workers: self.workers.min(concurrency.unwrap_or(u32::MAX)).max(1), ..self }
    }
}

/// Starts with the maximum number of workers, and reduces it when the server throttles.
pub(super) struct ListingWorkerLimit {
    max: usize,
    current: usize,
    /// The number of throttled requests so far.
    throttled: u64,
    /// The number of responses until the limit may change again.
    cooldown: usize,
}

impl ListingWorkerLimit {
    pub(super) fn new(most: u32) -> Self {
        let max = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Self { max, current: max, throttled: 0, cooldown: 0 }
    }

    /// Returns the current limit.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Records a response. `throttled` is the number of requests that the server has throttled so far.
    ///
    /// Throttling halves the limit; requests that were throttled at the same time count once. After as many responses
    /// without throttling as there are workers, the limit increases by one.
    pub(super) fn record_response(&mut self, throttled: u64) {
        let refused = throttled > self.throttled;
        self.throttled = throttled;
        self.cooldown = self.cooldown.saturating_sub(1);
        if self.cooldown > 0 {
            return;
        }
        if refused {
            self.cooldown = self.current;
            self.current = (self.current / 2).max(1);
        } else if self.current < self.max {
            self.current += 1;
            self.cooldown = self.current;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_refusals_halves_once_and_answers_bring_workers_back() {
        let mut fleet = ListingWorkerLimit::new(16);
        fleet.record_response(0);
        assert_eq!(fleet.current(), 16);
        for refused in 1..=16 {
            fleet.record_response(refused);
        }
        assert_eq!(fleet.current(), 8);
        fleet.record_response(17);
        assert_eq!(fleet.current(), 4);
        for _ in 0..200 {
            fleet.record_response(17);
        }
        assert_eq!(fleet.current(), 16);
        for refused in 18..2000 {
            fleet.record_response(refused);
        }
        assert_eq!(fleet.current(), 1);
        assert_eq!(ListingWorkerLimit::new(0).current(), 1);
    }
}
