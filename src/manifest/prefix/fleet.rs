//! How many workers list at once.

/// As many as were allowed, and fewer after a server said that it is too much.
pub(super) struct Fleet {
    most: usize,
    allowed: usize,
    /// Refusals that were heard of.
    throttled: u64,
    /// Answers until there may be one worker more, and until fewer again would not be for the same refusals.
    patience: usize,
}

impl Fleet {
    /// At most so many.
    pub(super) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Self { most, allowed: most, throttled: 0, patience: 0 }
    }

    /// How many may be at work now.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Takes in that an answer came, and how many requests the server has refused so far because they were too many.
    ///
    /// A refusal halves the workers: those that were refused at the same time count once. As many answers without one as
    /// there are workers let one more go on.
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
