//! How many requests are under way at once.

/// How many a new job begins with.
const FIRST: f64 = 8.0;

/// What is never gone below.
const LEAST: f64 = 4.0;

/// What is left after a refusal or a failure of the server, and after a rise of latency.
const AFTER_FAILURE: f64 = 0.5;
const AFTER_RISE: f64 = 0.8;

/// What a good round adds, as a part of the root of the plan's concurrency: 4 of 64, 16 of 1024.
const STEP: f64 = 0.5;

/// A window that opens as TCP's do: with every answer at first, and from the first trouble on by a step a round.
#[derive(Debug)]
pub(super) struct Window {
    size: f64,
    opening: bool,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { size: FIRST, opening: true }
    }

    /// Whether one more fits beside these.
    pub(super) fn has_room(&self, in_flight: u32) -> bool {
        f64::from(in_flight) < self.size
    }

    /// An answer came.
    pub(super) fn answered(&mut self, cap: f64) {
        if self.opening {
            self.size = (self.size + 1.0).min(cap.max(LEAST));
        }
    }

    /// A round went well, and requests waited for room.
    pub(super) fn step(&mut self, cap: f64) {
        self.size = (self.size + (cap.sqrt() * STEP).max(1.0)).min(cap.max(LEAST)).max(self.size);
    }

    /// The server refused or failed.
    pub(super) fn failed(&mut self) {
        self.shrink(AFTER_FAILURE);
    }

    /// Answers take longer.
    pub(super) fn slowed(&mut self) {
        self.shrink(AFTER_RISE);
    }

    /// Something else bounds what is sent, and needs so many.
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
