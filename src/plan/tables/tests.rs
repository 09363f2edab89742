use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_read_exactly() {
    for (text, bytes) in [
        ("0B", 0),
        ("5GB", 5_000_000_000),
        ("1 MiB", 1_048_576),
        ("1.5 kib", 1_536),
        ("0.1 KB", 100),
        ("16383 PiB", 16_383 << 50),
    ] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in [
        "",
        "MB",
        "5",
        "5 M",
        "-1 B",
        "1..2 KB",
        ".5 KB",
        "1. KB",
        "16384 PiB",
        "1e3 B",
        "٣ KB",
        " 1 KB",
        "1 KB ",
        "1  KB",
        "1\tKB",
    ] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}

#[test]
fn ages_are_hours_days_and_weeks() {
    assert_eq!(parse_age("90d"), Some(SignedDuration::from_hours(90 * 24)));
    assert_eq!(parse_age("12 h"), Some(SignedDuration::from_hours(12)));
    assert_eq!(parse_age("4w"), Some(SignedDuration::from_hours(4 * 7 * 24)));
    for text in ["", "d", "90", "90m", "-1d", "1.5d", "99999999999d", "9é", "+1d", " 1d", "1  d", "1\td"] {
        assert_eq!(parse_age(text), None, "{text}");
    }
}

/// Generates the texts that the pattern in a schema allows, with whole numbers of at most four digits.
fn allowed_by(schema: &Json) -> impl Strategy<Value = String> + use<> {
    let pattern = schema.as_str().expect("a pattern").trim_start_matches('^').trim_end_matches('$');
    proptest::string::string_regex(&pattern.replacen("[0-9]+", "[0-9]{1,4}", 1)).expect("a pattern")
}

proptest! {
    #[test]
    fn reads_what_the_schema_allows(
        size in allowed_by(&ByteSize::schema()["anyOf"][1]["pattern"]),
        age in allowed_by(&AgeValue::schema()["pattern"]),
        duration in allowed_by(&DurationValue::schema()["pattern"]),
    ) {
        prop_assert!(parse_size(&size).is_some(), "{:?}", size);
        prop_assert!(parse_age(&age).is_some(), "{:?}", age);
        prop_assert!(parse_duration(&duration).is_some(), "{:?}", duration);
    }
}

#[test]
fn parses_durations() {
    for (text, seconds) in [("0s", 0), ("45s", 45), ("90 m", 5400), ("2h", 7200), ("1d", 86_400)] {
        assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "s", "2", "2w", "-1h", "+1h", "1.5h", " 1h", "1  h", "99999999999d", "9é", "٣s"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn a_share_is_read_exactly_or_refused() {
    for (text, millionths) in [
        ("0.20", 200_000),
        ("2e-1", 200_000),
        ("0.000001", 1),
        ("1.0", 1_000_000),
        ("0.0", 0),
        ("-0.0", 0),
        ("0.07", 70_000),
    ] {
        assert_eq!(parse_share(text), Ok(ExactShare::millionths(millionths)), "{text}");
    }
    for text in ["1.000001", "-0.1", "inf", "nan", "-nan", "20", "", "x"] {
        assert_eq!(parse_share(text), Err(ShareError::OutOfRange), "{text}");
    }
    for text in ["0.0000001", "0.20000001", "1e-300"] {
        assert_eq!(parse_share(text), Err(ShareError::TooFine), "{text}");
    }
}
