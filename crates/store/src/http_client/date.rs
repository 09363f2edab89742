//! Dates in documents and headers of servers, in the forms in which servers were seen to write them.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

/// Parses a date. Services write RFC 3339. Some servers leave out the time zone, which is UTC, and some write RFC 1123
/// (<https://github.com/jamhall/s3rver/issues/181>), a few of them with `UTC` instead of `GMT`.
pub(super) fn parse_date(text: &str) -> Option<Timestamp> {
    let without_zone = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    let rfc1123 = || {
        let text = text.strip_suffix("UTC").map_or(Cow::Borrowed(text), |rest| Cow::Owned(format!("{rest}GMT")));
        rfc2822::parse(&text).ok()
    };
    let other = || without_zone().or_else(rfc1123).map(|date| date.timestamp());
    text.parse().ok().or_else(other)
}
