//! The types of single values that only plans have. Each type defines its parser and its JSON Schema.

use std::time::Duration;

use batchplan_store::object::{MAX_KEY_BYTES, MAX_TAGS};
use globset::{Glob, GlobBuilder};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::threshold::ExactShare;
use crate::money::Money;
use crate::toml_reader::{DocumentReader, DocumentValue, RawField, SpannedValue, quote_for_message, read_integer};

/// An object key or key prefix: any text of `MIN` to 1024 bytes.
pub(super) enum ObjectKeyText<const MIN: usize> {}

impl<const MIN: usize> DocumentValue for ObjectKeyText<MIN> {
    type Value = String;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": MIN, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"...\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let DeValue::String(text) = field.value() else {
            field.report_wrong_type::<Self>("a string", reader);
            return None;
        };
        if !(MIN..=MAX_KEY_BYTES).contains(&text.len()) {
            let help = format!("keys have {MIN} to {MAX_KEY_BYTES} bytes of UTF-8");
            let length = if text.len() < MIN { "is empty" } else { "is too long" };
            field.report_invalid(length, &format!("{} bytes", text.len()), help, reader);
            return None;
        }
        Some(text.to_string())
    }
}

/// A number of objects, at least one.
pub(super) enum ObjectCount {}

/// The largest integer in TOML.
const MAX_COUNT: u64 = i64::MAX.unsigned_abs();

impl DocumentValue for ObjectCount {
    type Value = u64;

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_COUNT })
    }

    fn example() -> String {
        "1000000".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        read_integer::<Self>(field, &(1..=MAX_COUNT), "use an integer from 1", reader)
    }
}

/// Tags: a table of arbitrary keys with text values, in file order.
pub(super) enum TagsValue {}

impl DocumentValue for TagsValue {
    type Value = Vec<(SpannedValue<String>, SpannedValue<String>)>;

    fn schema() -> Json {
        json!({ "type": "object", "minProperties": 1, "maxProperties": MAX_TAGS, "additionalProperties": { "type": "string", "maxLength": 256 } })
    }

    fn example() -> String {
        "{ Team = \"DataOps\" }".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let path = field.inner_path();
        let Some(entries) = field.entries(&path) else {
            field.report_wrong_type::<Self>("a table", reader);
            return None;
        };
        let mut tags = Vec::new();
        let mut whole = true;
        for tag in entries {
            if let DeValue::String(text) = tag.value() {
                tags.push((tag.spanned_name(), tag.with_spans(text.to_string())));
            } else {
                tag.report_type_mismatch("a string: tag values are text", "\"...\"", reader);
                whole = false;
            }
        }
        tags.sort_by_key(|(key, _)| key.span.start);
        whole.then_some(tags)
    }
}

/// A glob over whole object keys. `*` and `?` also match `/`, because keys have no folders: `*.pdf` matches every key
/// with this ending.
impl DocumentValue for Glob {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"*.pdf\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let pattern = ObjectKeyText::<1>::read(field, reader)?;
        match GlobBuilder::new(&pattern).literal_separator(false).backslash_escape(true).build() {
            Ok(glob) => Some(glob),
            Err(error) => {
                let label = quote_for_message(&error.kind().to_string());
                let help = "`*` matches any text, `?` any character, [abc] one of these, {a,b} either; escape special \
                            characters with `\\`";
                field.report_invalid("contains an invalid glob", &label, help, reader);
                None
            }
        }
    }
}

/// A size in bytes: `1048576`, `"1 MiB"`, `"5GB"`.
pub(super) enum ByteSize {}

/// The units of sizes: powers of 1000 and powers of 1024.
const SIZE_UNITS: [(&str, u64); 11] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
];

impl DocumentValue for ByteSize {
    type Value = u64;

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,9})? ?([bB]|[kKmMgGtTpP][iI]?[bB])$" },
        ] })
    }

    fn example() -> String {
        "\"1 MiB\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let size = match field.value() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => parse_size(text),
            _ => {
                field.report_wrong_type::<Self>("a size", reader);
                return None;
            }
        };
        if size.is_none() {
            let help = "use an integer (bytes), or a number with a unit: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
            field.report_invalid("is not a valid size", "cannot be parsed", help, reader);
        }
        size
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (_, unit) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // More than nine decimals make no useful difference in any unit.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    u64::try_from(parts.checked_mul(u128::from(*unit))? / scale).ok()
}

/// A point in time: RFC 3339, or a date, which means midnight UTC.
impl DocumentValue for Timestamp {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$" })
    }

    fn example() -> String {
        "\"2024-01-31\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = match field.value() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            _ => {
                field.report_wrong_type::<Self>("a date", reader);
                return None;
            }
        };
        let moment = parse_timestamp(&text);
        if moment.is_none() {
            let help = "use a date such as \"2024-01-31\" (midnight UTC), or a time with its offset, such as \
                        \"2024-01-31T08:00:00Z\"";
            field.report_invalid("is not a valid date", "cannot be parsed", help, reader);
        }
        moment
    }
}

/// Parses a point in time: RFC 3339 with its offset, or a date, which means midnight UTC. Returns `None` for any other
/// text.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    let only_a_day = text.len() == "2024-01-31".len();
    if only_a_day { day() } else { text.parse::<Timestamp>().ok() }
}

/// A length of time in hours, days or weeks: `"90d"`, `"12h"`, `"4w"`.
pub(super) enum AgeValue {}

impl DocumentValue for AgeValue {
    type Value = SignedDuration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[hdw]$" })
    }

    fn example() -> String {
        "\"90d\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let DeValue::String(text) = field.value() else {
            field.report_wrong_type::<Self>("an age", reader);
            return None;
        };
        let age = parse_age(text);
        if age.is_none() {
            let help = "use an integer and h, d or w (hours, days, weeks), such as \"90d\"";
            field.report_invalid("is not a valid age", "cannot be parsed", help, reader);
        }
        age
    }
}

/// Parses a length of time: a whole number and `h`, `d` or `w`, for hours, days or weeks. Returns `None` for any other
/// text.
#[must_use]
pub fn parse_age(text: &str) -> Option<SignedDuration> {
    let (number, hours) = match text.char_indices().next_back()? {
        (at, 'h') => (&text[..at], 1),
        (at, 'd') => (&text[..at], 24),
        (at, 'w') => (&text[..at], 24 * 7),
        _ => return None,
    };
    let hours = u32::try_from(parse_count(number)?).ok()?.checked_mul(hours)?;
    Some(SignedDuration::from_hours(i64::from(hours)))
}

/// Parses the number before a unit: only digits, which a space may follow.
fn parse_count(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(' ').unwrap_or(text);
    // The standard parser would accept a sign.
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits)
}

/// A duration: `"90m"`, `"2h"`, `"1d"`.
pub(super) enum DurationValue {}

impl DocumentValue for DurationValue {
    type Value = Duration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[smhd]$" })
    }

    fn example() -> String {
        "\"2h\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let DeValue::String(text) = field.value() else {
            field.report_wrong_type::<Self>("a duration", reader);
            return None;
        };
        let duration = parse_duration(text);
        if duration.is_none() {
            let help = "use an integer and s, m, h or d (seconds, minutes, hours, days), such as \"2h\"";
            field.report_invalid("is not a valid duration", "cannot be parsed", help, reader);
        }
        duration
    }
}

/// Parses a duration: a whole number and `s`, `m`, `h` or `d`, for seconds, minutes, hours or days. Returns `None` for
/// any other text, or for more than `u32::MAX` seconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 24 * 3600),
        _ => return None,
    };
    u32::try_from(parse_count(number)?.checked_mul(seconds)?).ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// A share: a number from 0 to 1 with at most six decimals.
impl DocumentValue for ExactShare {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn example() -> String {
        "0.20".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let share = match field.value() {
            DeValue::Float(number) => parse_share(number.as_str()),
            DeValue::Integer(digits) => match u32::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(0) => Ok(Self::percent(0)),
                Ok(1) => Ok(Self::ALL),
                _ => Err(ShareError::OutOfRange),
            },
            _ => {
                field.report_wrong_type::<Self>("a number from 0 to 1", reader);
                return None;
            }
        };
        match share {
            Ok(share) => return Some(share),
            Err(ShareError::OutOfRange) => {
                field.report_invalid("is out of range", "not from 0 to 1", "from 0 to 1: 0.20 means 20 %", reader);
            }
            Err(ShareError::TooFine) => {
                field.report_invalid("has too many decimals", "more than six", "use at most six decimals", reader);
            }
        }
        None
    }
}

/// Parses a number from 0 to 1 in decimal notation, as in TOML.
fn parse_share(text: &str) -> Result<ExactShare, ShareError> {
    let number: f64 = text.parse().map_err(|_| ShareError::OutOfRange)?;
    if !(0.0..=1.0).contains(&number) {
        return Err(ShareError::OutOfRange);
    }
    let rounded = format!("{:.6}", number.abs());
    if rounded.parse::<f64>().map(f64::to_bits) != Ok(number.abs().to_bits()) {
        return Err(ShareError::TooFine);
    }
    rounded.replace('.', "").parse().map(ExactShare::millionths).map_err(|_| ShareError::OutOfRange)
}

/// Why a number is not a valid share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShareError {
    OutOfRange,
    TooFine,
}

impl DocumentValue for Money {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,15}(\\.[0-9]{1,12})? [A-Z]{3}$" })
    }

    fn example() -> String {
        "\"50 CNY\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let DeValue::String(text) = field.value() else {
            field.report_wrong_type::<Self>("an amount with a currency, in quotes", reader);
            return None;
        };
        let money = Self::parse(text);
        if money.is_none() {
            let help = "use a number, a space and an upper-case currency code, such as \"50 CNY\" or \"12.50 USD\"";
            field.report_invalid("is not a valid amount of money", "cannot be parsed", help, reader);
        }
        money
    }
}

#[cfg(test)]
mod tests {
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
}
