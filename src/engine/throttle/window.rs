//! The number of requests in flight at once.

/// The initial window.
const FIRST: f64 = 8.0;

/// The smallest window.
const LEAST: f64 = 4.0;

/// The factor by which the window shrinks after throttling or a failure, and after a rise of latency.
const AFTER_FAILURE: f64 = 0.5;
const AFTER_RISE: f64 = 0.8;

/// The increase after a good round, in units of the square root of the plan's concurrency: 4 for 64, 16 for 1024.
const STEP: f64 = 0.5;

/// A congestion window that opens like TCP's: by one per answer at first, and by one step per round after the first
/// failure.
#[derive(Debug)]
pub(super) struct Window {
    size: f64,
    opening: bool,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { size: FIRST, opening: true }
    }

    /// Returns whether one more request fits.
    pub(super) fn has_room(&self, in_flight: u32) -> bool {
        f64::from(in_flight) < self.size
    }

    /// Opens the window by one during slow start.
    pub(super) fn answered(&mut self, cap: f64) {
        if self.opening {
            self.size = (self.size + 1.0).min(cap.max(LEAST));
        }
    }

    /// Opens the window by one step after a good round in which requests waited.
    pub(super) fn step(&mut self, cap: f64) {
        self.size = (self.size + (cap.sqrt() * STEP).max(1.0)).min(cap.max(LEAST)).max(self.size);
    }

    /// Shrinks the window after throttling or a failure of the server.
    pub(super) fn failed(&mut self) {
        self.shrink(AFTER_FAILURE);
    }

    /// Shrinks the window after a rise of latency.
    pub(super) fn slowed(&mut self) {
        self.shrink(AFTER_RISE);
    }

    /// Widens the window to `needed`, if another limit bounds what is sent and needs that many in flight.
    pub(super) fn at_least(&mut self, needed: f64, cap: f64) {
        self.size = self.size.max(needed.min(cap));
    }

    fn shrink(&mut self, left: f64) {
        self.opening = false;
        self.size = (self.size * left).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_until_there_is_trouble_and_steps_from_then_on() {
        let mut window = Window::new();
        for (there, then) in [(8, 16), (16, 32), (32, 64), (64, 64)] {
            (0..there).for_each(|_| window.answered(64.0));
            assert!(window.has_room(then - 1) && !window.has_room(then), "{window:?}");
        }
        window.failed();
        window.answered(64.0);
        assert!(window.has_room(31) && !window.has_room(32), "{window:?}");
        (0..3).for_each(|_| window.step(64.0));
        assert!(window.has_room(43) && !window.has_room(44), "{window:?}");
        (0..100).for_each(|_| window.slowed());
        assert!(window.has_room(3) && !window.has_room(4), "{window:?}");
    }
}
