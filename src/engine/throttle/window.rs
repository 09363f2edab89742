//! The number of requests in flight at once.

/// The initial window.
const INITIAL_WINDOW: f64 = 8.0;

/// The smallest window.
const MIN_WINDOW: f64 = 4.0;

/// The factor by which the window shrinks after throttling or a failure, and after a rise of latency.
const FAILURE_FACTOR: f64 = 0.5;
const LATENCY_RISE_FACTOR: f64 = 0.8;

/// The increase after a good round, in units of the square root of the plan's concurrency: 4 for 64, 16 for 1024.
const STEP_FACTOR: f64 = 0.5;

/// A congestion window that opens like TCP's: by one per answer at first, and by one step per round after the first
/// failure.
#[derive(Debug)]
pub(super) struct CongestionWindow {
    size: f64,
    slow_start: bool,
}

impl CongestionWindow {
    pub(super) fn new() -> Self {
        Self { size: INITIAL_WINDOW, slow_start: true }
    }

    /// Returns whether one more request fits.
    pub(super) fn has_room(&self, in_flight: u32) -> bool {
        f64::from(in_flight) < self.size
    }

    /// Opens the window by one during slow start.
    pub(super) fn on_answer(&mut self, cap: f64) {
        if self.slow_start {
            self.size = (self.size + 1.0).min(cap.max(MIN_WINDOW));
        }
    }

    /// Opens the window by one step after a good round in which requests waited.
    pub(super) fn widen(&mut self, cap: f64) {
        self.size = (self.size + (cap.sqrt() * STEP_FACTOR).max(1.0)).min(cap.max(MIN_WINDOW)).max(self.size);
    }

    /// Shrinks the window after throttling or a failure of the server.
    pub(super) fn on_failure(&mut self) {
        self.shrink(FAILURE_FACTOR);
    }

    /// Shrinks the window after a rise of latency.
    pub(super) fn on_latency_rise(&mut self) {
        self.shrink(LATENCY_RISE_FACTOR);
    }

    /// Widens the window to `needed`, if another limit bounds what is sent and needs that many in flight.
    pub(super) fn widen_to(&mut self, needed: f64, cap: f64) {
        self.size = self.size.max(needed.min(cap));
    }

    fn shrink(&mut self, left: f64) {
        self.slow_start = false;
        self.size = (self.size * left).max(MIN_WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_until_congestion_then_grows_linearly() {
        let mut window = CongestionWindow::new();
        for (there, then) in [(8, 16), (16, 32), (32, 64), (64, 64)] {
            (0..there).for_each(|_| window.on_answer(64.0));
            assert!(window.has_room(then - 1) && !window.has_room(then), "{window:?}");
        }
        window.on_failure();
        window.on_answer(64.0);
        assert!(window.has_room(31) && !window.has_room(32), "{window:?}");
        (0..3).for_each(|_| window.widen(64.0));
        assert!(window.has_room(43) && !window.has_room(44), "{window:?}");
        (0..100).for_each(|_| window.on_latency_rise());
        assert!(window.has_room(3) && !window.has_room(4), "{window:?}");
    }
}
