//! Announces long waits on standard error.

use std::time::Duration;

use batchplan_store::timeouts;

use super::terminal::Terminal;

/// Prints a line for every long wait. In debug builds, tests can set how many milliseconds a minute of each limit
/// lasts.
pub(super) fn announce(terminal: Terminal) {
    timeouts::set_wait_listener(Box::new(move |sentence| terminal.eprint_over_bar(sentence)));
    if cfg!(debug_assertions)
        && let Some(minute) = std::env::var("BATCHPLAN_MINUTE_MS").ok().and_then(|text| text.parse().ok())
    {
        timeouts::shorten_minute(Duration::from_millis(minute));
    }
}
