//! Times on the command line.

use jiff::Timestamp;

use crate::plan::{parse_age, parse_timestamp};

/// Parses a time: a day, which starts at midnight UTC, an RFC 3339 instant, or an age, counted back from now.
///
/// # Errors
/// Returns a message for the user if the text is none of these.
pub(super) fn parse_instant(text: &str) -> Result<Timestamp, String> {
    parse_relative_to(Timestamp::now(), text)
}

fn parse_relative_to(now: Timestamp, text: &str) -> Result<Timestamp, String> {
    if let Some(age) = parse_age(text) {
        return now.checked_sub(age).map_err(|_| "that is too long ago".to_owned());
    }
    parse_timestamp(text).ok_or_else(|| {
        "must be a date such as 2024-01-31, a time such as 2024-01-31T08:00:00Z, or an age such as 7d, 12h or 4w"
            .to_owned()
    })
}

/// Formats an instant in UTC, to the second.
pub(super) fn format_instant(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_instants_and_ages() {
        let now: Timestamp = "2024-03-10T12:00:00Z".parse().expect("an instant");
        for (text, expected) in [
            ("2024-01-31", "2024-01-31T00:00:00Z"),
            ("2024-01-31T08:00:00.5+02:00", "2024-01-31T06:00:00Z"),
            ("7d", "2024-03-03T12:00:00Z"),
            ("12 h", "2024-03-10T00:00:00Z"),
            ("1w", "2024-03-03T12:00:00Z"),
        ] {
            assert_eq!(parse_relative_to(now, text).map(format_instant).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "2024-02-30", "7", "-7d", "2024-01-31T08:00:00", "4000000000d"] {
            assert!(parse_relative_to(now, text).is_err(), "{text}");
        }
    }
}
