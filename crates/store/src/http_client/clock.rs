//! The clock for signatures: this machine's time, corrected by the server's time if the difference is too large.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A clock difference that every server accepts. AWS and OSS reject 15 minutes or more.
pub(super) const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A clock that can be adjusted to a server's time.
#[derive(Debug)]
pub struct SigningClock {
    /// The number of seconds by which the server's clock is ahead of this machine's.
    offset_seconds: AtomicI64,
    last_stamp: Mutex<(i64, SigningTimestamp)>,
}

/// A time in the format of signatures: `20130524T000000Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningTimestamp(HeaderValue);

impl Default for SigningClock {
    fn default() -> Self {
        let last = (i64::MIN, SigningTimestamp(HeaderValue::from_static("19700101T000000Z")));
        Self { offset_seconds: AtomicI64::new(0), last_stamp: Mutex::new(last) }
    }
}

impl SigningClock {
    /// Returns the current time of the server, with the resolution of this machine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.offset_seconds.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Returns a time in the format of signatures. The result for the last second is cached.
    #[must_use]
    pub fn stamp(&self, now: Timestamp) -> SigningTimestamp {
        // The cached value is complete at every moment, so a poisoned lock is safe to use.
        let mut last = self.last_stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != now.as_second() {
            *last = (now.as_second(), SigningTimestamp::of(now));
        }
        last.1.clone()
    }

    /// Adjusts the clock to the server's time. Returns whether the correction changed by more than a tolerated
    /// difference.
    pub fn sync_to(&self, server: Timestamp) -> bool {
        let ahead = server.as_second().saturating_sub(Timestamp::now().as_second());
        let before = self.offset_seconds.swap(ahead, Ordering::Relaxed);
        before.abs_diff(ahead) > TOLERATED_SKEW.as_secs().unsigned_abs()
    }
}

impl SigningTimestamp {
    /// Formats a time in UTC, to the second.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let time = at.to_zoned(TimeZone::UTC).datetime();
        let mut text = *b"00000000T000000Z";
        let fields = [
            (0, 4, u32::from(time.year().unsigned_abs().min(9999))),
            (4, 2, u32::from(time.month().unsigned_abs())),
            (6, 2, u32::from(time.day().unsigned_abs())),
            (9, 2, u32::from(time.hour().unsigned_abs())),
            (11, 2, u32::from(time.minute().unsigned_abs())),
            (13, 2, u32::from(time.second().unsigned_abs())),
        ];
        for (start, digits, mut value) in fields {
            for place in (start..start + digits).rev() {
                text[place] = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        }
        // The text contains only digits and two letters.
        Self(HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("")))
    }

    /// Returns the time, such as `20130524T000000Z`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the date, such as `20130524`.
    #[must_use]
    pub fn date(&self) -> &str {
        self.as_str().split_at(8).0
    }

    /// Returns the time as a header value.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_written_as_signatures_want_it() {
        let stamp = SigningTimestamp::of("2013-05-24T01:02:03.9Z".parse().expect("a time"));
        assert_eq!((stamp.as_str(), stamp.date()), ("20130524T010203Z", "20130524"));
    }

    #[test]
    fn time_goes_on_between_two_seconds() {
        let clock = SigningClock::default();
        clock.sync_to(Timestamp::now() + SignedDuration::from_hours(5));
        let began = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(clock.now() > began);
        assert!((0..3).any(|_| clock.now().subsec_nanosecond() != 0), "whole seconds only");
    }

    #[test]
    fn a_clock_that_is_wrong_is_put_right_once() {
        let clock = SigningClock::default();
        let server = Timestamp::now() + jiff::SignedDuration::from_hours(5);
        assert!(clock.sync_to(server));
        assert!((clock.now().as_second() - server.as_second()).abs() <= 2);
        assert!(!clock.sync_to(server), "the same difference again is no news");
    }
}
