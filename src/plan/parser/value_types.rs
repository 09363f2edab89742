//! The types of single values in a plan. Each type defines its parser and its JSON Schema.

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

use batchplan_store::object::{MAX_KEY_BYTES, MAX_TAGS};
use batchplan_store::printable::affects_terminal;
use globset::{Glob, GlobBuilder};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{PlanParser, PlanValue, RawField, SpannedValue};
use crate::money::Money;
use crate::plan::safe_text::{nearest, quote_for_message};
use crate::plan::threshold::ExactShare;

/// Reports a value of the wrong type, with an example of the right type.
fn mismatch<T: PlanValue>(field: &RawField<'_>, wanted: &str, parser: &mut PlanParser) {
    field.report_type_mismatch(wanted, &T::example(), parser);
}

/// Text of `MIN` to `MAX` characters without control characters that drive a terminal. With `LINES`, line breaks and
/// tabs are allowed.
pub(in crate::plan) enum TextValue<const MIN: usize, const MAX: usize, const LINES: bool = false> {}

impl<const MIN: usize, const MAX: usize, const LINES: bool> PlanValue for TextValue<MIN, MAX, LINES> {
    type Value = String;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": MIN, "maxLength": MAX })
    }

    fn example() -> String {
        "\"...\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            mismatch::<Self>(field, "a string", parser);
            return None;
        };
        let chars = text.chars().count();
        if MIN > 0 && text.trim().is_empty() {
            field.report_invalid("is empty", "empty", format!("{MIN} to {MAX} characters"), parser);
            return None;
        }
        if !(MIN..=MAX).contains(&chars) {
            let label = format!("{chars} characters");
            let length = if chars < MIN { "is too short" } else { "is too long" };
            field.report_invalid(length, &label, format!("{MIN} to {MAX} characters"), parser);
            return None;
        }
        if text.chars().any(|c| affects_terminal(c) && !(LINES && matches!(c, '\n' | '\t'))) {
            field.report_invalid(
                "contains a control character",
                "in this text",
                "remove it: escapes such as \\u001b are not allowed either",
                parser,
            );
            return None;
        }
        Some(text.to_string())
    }
}

/// An object key or key prefix: any text of `MIN` to 1024 bytes.
pub(in crate::plan) enum ObjectKeyText<const MIN: usize> {}

impl<const MIN: usize> PlanValue for ObjectKeyText<MIN> {
    type Value = String;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": MIN, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"...\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            mismatch::<Self>(field, "a string", parser);
            return None;
        };
        if !(MIN..=MAX_KEY_BYTES).contains(&text.len()) {
            let help = format!("keys have {MIN} to {MAX_KEY_BYTES} bytes of UTF-8");
            let length = if text.len() < MIN { "is empty" } else { "is too long" };
            field.report_invalid(length, &format!("{} bytes", text.len()), help, parser);
            return None;
        }
        Some(text.to_string())
    }
}

impl PlanValue for bool {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }

    fn example() -> String {
        "true".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::Boolean(value) = field.value else {
            mismatch::<Self>(field, "true or false, without quotes", parser);
            return None;
        };
        Some(*value)
    }
}

/// An integer from `MIN` to `MAX`.
pub(in crate::plan) enum IntValue<const MIN: u32, const MAX: u32> {}

impl<const MIN: u32, const MAX: u32> PlanValue for IntValue<MIN, MAX> {
    type Value = u32;

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }

    fn example() -> String {
        MIN.max(1).to_string()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let range = u64::from(MIN)..=u64::from(MAX);
        let value = read_integer::<Self>(field, &range, &format!("from {MIN} to {MAX}"), parser)?;
        u32::try_from(value).ok()
    }
}

/// A number of objects, at least one.
pub(in crate::plan) enum ObjectCount {}

/// The largest integer in TOML.
const MAX_COUNT: u64 = i64::MAX.unsigned_abs();

impl PlanValue for ObjectCount {
    type Value = u64;

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_COUNT })
    }

    fn example() -> String {
        "1000000".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        read_integer::<Self>(field, &(1..=MAX_COUNT), "use an integer from 1", parser)
    }
}

fn read_integer<V: PlanValue>(
    field: &RawField<'_>,
    range: &RangeInclusive<u64>,
    help: &str,
    parser: &mut PlanParser,
) -> Option<u64> {
    let DeValue::Integer(digits) = field.value else {
        mismatch::<V>(field, "an integer, without quotes", parser);
        return None;
    };
    let value = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number));
    if value.is_none() {
        field.report_invalid("is out of range", "not allowed", help, parser);
    }
    value
}

/// An enum whose values have names in plan files.
pub(in crate::plan) trait NamedVariants: Copy + 'static {
    /// All values that have a name, each with its name.
    const NAMES: &'static [(&'static str, Self)];
}

/// Returns the name of a value in plan files; empty if it has none.
pub(in crate::plan) fn name_of<T: NamedVariants + PartialEq>(wanted: T) -> &'static str {
    T::NAMES.iter().find(|(_, value)| *value == wanted).map_or("", |(name, _)| name)
}

/// One of a fixed set of names.
pub(in crate::plan) struct EnumValue<T>(PhantomData<T>);

impl<T: NamedVariants> PlanValue for EnumValue<T> {
    type Value = T;

    fn schema() -> Json {
        json!({ "enum": T::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
    }

    fn example() -> String {
        T::NAMES.first().map_or_else(String::new, |(name, _)| format!("\"{name}\""))
    }

    fn missing(_: &str, name: &str) -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("add `{name} = ...`, one of {}", names.join(", "))
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            mismatch::<Self>(field, "a string", parser);
            return None;
        };
        if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| name == text) {
            return Some(*value);
        }
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        let choice = format!("valid values: {}", names.join(", "));
        let help = nearest(text, names).map_or(choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
        field.report_invalid(&format!("cannot be `{}`", quote_for_message(text)), "not a valid value", help, parser);
        None
    }
}

/// An array of values of one type.
impl<T: PlanValue> PlanValue for Vec<T> {
    type Value = Vec<SpannedValue<T::Value>>;

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }

    fn example() -> String {
        format!("[{}]", T::example())
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::Array(items) = field.value else {
            mismatch::<Self>(field, "an array", parser);
            return None;
        };
        let read: Vec<_> = items
            .iter()
            .map(|item| {
                let field = RawField {
                    name: field.name,
                    path: field.path,
                    key: item.span(),
                    span: item.span(),
                    value: item.get_ref(),
                    is_item: true,
                };
                T::read(&field, parser).map(|value| field.with_spans(value))
            })
            .collect();
        // Read all items before failing, so that the problems of every item are reported.
        read.into_iter().collect()
    }
}

/// Tags: a table of arbitrary keys with text values, in file order.
pub(in crate::plan) enum TagsValue {}

impl PlanValue for TagsValue {
    type Value = Vec<(SpannedValue<String>, SpannedValue<String>)>;

    fn schema() -> Json {
        json!({ "type": "object", "minProperties": 1, "maxProperties": MAX_TAGS, "additionalProperties": { "type": "string", "maxLength": 256 } })
    }

    fn example() -> String {
        "{ Team = \"DataOps\" }".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::Table(entries) = field.value else {
            mismatch::<Self>(field, "a table", parser);
            return None;
        };
        let mut tags = Vec::new();
        let mut whole = true;
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let field = RawField {
                name,
                path: field.path,
                key: key.span(),
                span: value.span(),
                value: value.get_ref(),
                is_item: false,
            };
            if let DeValue::String(text) = value.get_ref() {
                let key = SpannedValue { key: key.span(), span: key.span(), value: name.to_owned() };
                tags.push((key, field.with_spans(text.to_string())));
            } else {
                field.report_type_mismatch("a string: tag values are text", "\"...\"", parser);
                whole = false;
            }
        }
        tags.sort_by_key(|(key, _)| key.span.start);
        whole.then_some(tags)
    }
}

/// A glob over whole object keys. `*` and `?` also match `/`, because keys have no folders: `*.pdf` matches every key
/// with this ending.
impl PlanValue for Glob {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES })
    }

    fn example() -> String {
        "\"*.pdf\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let pattern = ObjectKeyText::<1>::read(field, parser)?;
        match GlobBuilder::new(&pattern).literal_separator(false).backslash_escape(true).build() {
            Ok(glob) => Some(glob),
            Err(error) => {
                let label = quote_for_message(&error.kind().to_string());
                let help = "`*` matches any text, `?` any character, [abc] one of these, {a,b} either; escape special \
                            characters with `\\`";
                field.report_invalid("contains an invalid glob", &label, help, parser);
                None
            }
        }
    }
}

/// A size in bytes: `1048576`, `"1 MiB"`, `"5GB"`.
pub(in crate::plan) enum ByteSize {}

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

impl PlanValue for ByteSize {
    type Value = u64;

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([bB]|[kKmMgGtTpP][iI]?[bB])$" },
        ] })
    }

    fn example() -> String {
        "\"1 MiB\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let size = match field.value {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => parse_size(text),
            _ => {
                mismatch::<Self>(field, "a size", parser);
                return None;
            }
        };
        if size.is_none() {
            let help = "use an integer (bytes), or a number with a unit: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
            field.report_invalid("is not a valid size", "cannot be parsed", help, parser);
        }
        size
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim_start().to_ascii_lowercase();
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
impl PlanValue for Timestamp {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$" })
    }

    fn example() -> String {
        "\"2024-01-31\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let text = match field.value {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            _ => {
                mismatch::<Self>(field, "a date", parser);
                return None;
            }
        };
        let moment = parse_timestamp(&text);
        if moment.is_none() {
            let help = "use a date such as \"2024-01-31\" (midnight UTC), or a time with its offset, such as \
                        \"2024-01-31T08:00:00Z\"";
            field.report_invalid("is not a valid date", "cannot be parsed", help, parser);
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
pub(in crate::plan) enum AgeValue {}

impl PlanValue for AgeValue {
    type Value = SignedDuration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[hdw]$" })
    }

    fn example() -> String {
        "\"90d\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            mismatch::<Self>(field, "an age", parser);
            return None;
        };
        let age = parse_age(text);
        if age.is_none() {
            let help = "use an integer and h, d or w (hours, days, weeks), such as \"90d\"";
            field.report_invalid("is not a valid age", "cannot be parsed", help, parser);
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
    let hours = number.trim_end().parse::<u32>().ok()?.checked_mul(hours)?;
    Some(SignedDuration::from_hours(i64::from(hours)))
}

/// A duration: `"90m"`, `"2h"`, `"1d"`.
pub(in crate::plan) enum DurationValue {}

impl PlanValue for DurationValue {
    type Value = Duration;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ ?[smhd]$" })
    }

    fn example() -> String {
        "\"2h\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            field.report_type_mismatch("a duration", &Self::example(), parser);
            return None;
        };
        let duration = parse_duration(text);
        if duration.is_none() {
            let help = "use an integer and s, m, h or d (seconds, minutes, hours, days), such as \"2h\"";
            field.report_invalid("is not a valid duration", "cannot be parsed", help, parser);
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
    let number = number.strip_suffix(' ').unwrap_or(number);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    u32::try_from(number.checked_mul(seconds)?).ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// A share: a number from 0 to 1 with at most six decimals.
impl PlanValue for ExactShare {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn example() -> String {
        "0.20".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let share = match field.value {
            DeValue::Float(number) => parse_share(number.as_str()),
            DeValue::Integer(digits) => match u32::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(0) => Ok(Self::percent(0)),
                Ok(1) => Ok(Self::ALL),
                _ => Err(ShareError::OutOfRange),
            },
            _ => {
                field.report_type_mismatch("a number from 0 to 1", &Self::example(), parser);
                return None;
            }
        };
        match share {
            Ok(share) => return Some(share),
            Err(ShareError::OutOfRange) => {
                field.report_invalid("is out of range", "not from 0 to 1", "from 0 to 1: 0.20 means 20 %", parser);
            }
            Err(ShareError::TooFine) => {
                field.report_invalid("has too many decimals", "more than six", "use at most six decimals", parser);
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

impl PlanValue for Money {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,15}(\\.[0-9]{1,12})? [A-Z]{3}$" })
    }

    fn example() -> String {
        "\"50 CNY\"".to_owned()
    }

    fn read(field: &RawField<'_>, parser: &mut PlanParser) -> Option<Self::Value> {
        let DeValue::String(text) = field.value else {
            field.report_type_mismatch("an amount with a currency, in quotes", &Self::example(), parser);
            return None;
        };
        let money = Self::parse(text);
        if money.is_none() {
            let help = "use a number, a space and an upper-case currency code, such as \"50 CNY\" or \"12.50 USD\"";
            field.report_invalid("is not a valid amount of money", "cannot be parsed", help, parser);
        }
        money
    }
}

#[cfg(test)]
mod tests {
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
        for text in ["", "MB", "5", "5 M", "-1 B", "1..2 KB", ".5 KB", "1. KB", "16384 PiB", "1e3 B", "٣ KB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn ages_are_hours_days_and_weeks() {
        assert_eq!(parse_age("90d"), Some(SignedDuration::from_hours(90 * 24)));
        assert_eq!(parse_age("12 h"), Some(SignedDuration::from_hours(12)));
        assert_eq!(parse_age("4w"), Some(SignedDuration::from_hours(4 * 7 * 24)));
        for text in ["", "d", "90", "90m", "-1d", "1.5d", "99999999999d", "9é"] {
            assert_eq!(parse_age(text), None, "{text}");
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
