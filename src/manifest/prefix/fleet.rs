//! Limits the number of concurrent listing workers.

/// Starts with the maximum number of workers, and reduces it when the server throttles.
pub(super) struct Fleet {
    most: usize,
    allowed: usize,
    /// The number of throttled requests so far.
    throttled: u64,
    /// The number of responses until the limit may change again.
    patience: usize,
}

impl Fleet {
    pub(super) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Self { most, allowed: most, throttled: 0, patience: 0 }
    }

    /// Returns the current limit.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Records a response. `throttled` is the number of requests that the server has throttled so far.
    ///
    /// Throttling halves the limit; requests that were throttled at the same time count once. After as many responses
    /// without throttling as there are workers, the limit increases by one.
    pub(super) fn answered(&mut self, throttled: u64) {
        let refused = throttled > self.throttled;
        self.throttled = throttled;
        self.patience = self.patience.saturating_sub(1);
        if self.patience > 0 {
            return;
        }
        if refused {
            self.patience = self.allowed;
            self.allowed = (self.allowed / 2).max(1);
        } else if self.allowed < self.most {
            self.allowed += 1;
            self.patience = self.allowed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_refusals_halves_once_and_answers_bring_workers_back() {
        let mut fleet = Fleet::new(16);
        fleet.answered(0);
        assert_eq!(fleet.allowed(), 16);
        for refused in 1..=16 {
            fleet.answered(refused);
        }
        assert_eq!(fleet.allowed(), 8);
        fleet.answered(17);
        assert_eq!(fleet.allowed(), 4);
        for _ in 0..200 {
            fleet.answered(17);
        }
        assert_eq!(fleet.allowed(), 16);
        for refused in 18..2000 {
            fleet.answered(refused);
        }
        assert_eq!(fleet.allowed(), 1);
        assert_eq!(Fleet::new(0).allowed(), 1);
    }
}
