//! The tables of a price book file, as they are written, and the types of values that only price books have.
//!
//! A table is one [`table!`] definition. It is the struct, its parser and its known keys at once.

use batchplan_store::StoreProvider;
use batchplan_store::object::RestoreTier;
use globset::{GlobBuilder, GlobMatcher};
use jiff::civil::Date;
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{BillableItem, PriceUnit, RateLimitScope, SourceReliability};
use crate::money::{Currency, PARTS_PER_UNIT, parse_parts};
use crate::toml_reader::{
    BoundedArray, DocumentReader, DocumentValue, EnumValue, IntValue, NamedTables, RawField, TableArray, TextValue,
    table,
};

/// The maximum number of prices, and of limits, in an entry.
pub(super) const MAX_TABLES: usize = 500;

/// The maximum number of decimals of a price. As prices are for a power of ten up to a million, the price of one
/// request is a whole number of trillionths.
const PRICE_DECIMALS: u32 = 6;

/// The largest power of ten that a price can be for.
const MAX_UNIT_COUNT: u64 = 1_000_000;

/// The maximum price, in trillionths: nothing that is sold by the thousand or the gigabyte costs more than a million.
const MAX_PRICE: u128 = 1_000_000 * PARTS_PER_UNIT;

/// A text. Sources are URLs.
type BookText = TextValue<1, 2048>;

/// An array in a price book.
type BookArray<T> = BoundedArray<T, 1, 64>;

table! {
    /// A price book.
    struct PriceBookTable {
        /// The day on which the figures were looked up.
        required dated: Date,
        /// The entries, by name.
        required book: NamedTables<PriceBookEntryTable>,
    }
}

table! {
    /// The prices and limits of one provider in some of its regions.
    struct PriceBookEntryTable {
        /// The provider that charges these prices.
        required provider: EnumValue<StoreProvider>,
        /// Patterns of the regions in which they apply. `*` matches any text.
        required regions: BookArray<RegionPattern>,
        /// Patterns of regions in which they do not apply, although `regions` matches.
        optional except: BookArray<RegionPattern>,
        /// The currency of the prices.
        required currency: Currency,
        /// The tier of a restore that names none.
        optional default_tier: EnumValue<RestoreTier>,
        /// The storage class that manifests and reports are assumed to have.
        optional own_class: BookText,
        /// The name of the provider's managed service.
        optional managed: BookText,
        /// Whether rejected requests are billed. Unknown by default.
        optional refused: RejectedRequestTable,
        /// The prices, at most 500.
        optional price: TableArray<UnitPriceTable, MAX_TABLES>,
        /// The limits on requests per second, at most 500.
        optional limit: TableArray<ProviderRateLimitTable, MAX_TABLES>,
    }
}

table! {
    /// Whether requests that are rejected with a status of 400 to 499 are billed.
    struct RejectedRequestTable {
        /// Whether they are billed.
        required billed: bool,
        /// The source of this statement.
        optional source: BookText,
    }
}

table! {
    /// The price of some items.
    struct UnitPriceTable {
        /// The items.
        required of: BookArray<EnumValue<BillableItem>>,
        /// The storage classes to which the price applies. All by default.
        optional classes: BookArray<BookText>,
        /// The restore tiers to which the price applies. All by default.
        optional tiers: BookArray<EnumValue<RestoreTier>>,
        /// The amount, in the currency of the entry.
        required amount: PriceAmount,
        /// How many items the amount is for, or "GB", or "GB-month".
        required per: PriceUnit,
        /// The source of the figure.
        optional source: BookText,
        /// How reliable the figure is.
        optional mark: EnumValue<SourceReliability>,
    }
}

table! {
    /// A limit on the number of requests per second that a service accepts.
    struct ProviderRateLimitTable {
        /// The requests that count. All by default.
        optional of: BookArray<EnumValue<BillableItem>>,
        /// The storage classes of the objects that count. All by default.
        optional classes: BookArray<BookText>,
        /// The maximum number of requests per second.
        required per_second: IntValue<1, 10_000_000>,
        /// The scope of the limit.
        required within: EnumValue<RateLimitScope>,
        /// The condition under which the limit applies. Always by default.
        optional when: BookText,
        /// The source of the figure.
        optional source: BookText,
        /// How reliable the figure is.
        optional mark: EnumValue<SourceReliability>,
    }
}

/// A pattern of regions, in which `*` matches any text.
pub(super) enum RegionPattern {}

impl DocumentValue for RegionPattern {
    type Value = GlobMatcher;

    fn schema() -> Json {
        BookText::schema()
    }

    fn example() -> String {
        "\"us-east-1\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let pattern = BookText::read(field, reader)?;
        // Names of regions need no other special characters, and nested ones could exceed the limits of the compiler.
        let is_plain =
            pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*' | b'?'));
        let glob = GlobBuilder::new(&pattern).literal_separator(false).build().ok().filter(|_| is_plain);
        if glob.is_none() {
            let help = "write a region such as \"us-east-1\", or \"cn-*\" for all that start with cn-";
            field.report_invalid("contains an invalid pattern", "invalid pattern", help, reader);
        }
        glob.map(|glob| glob.compile_matcher())
    }
}

impl DocumentValue for Currency {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }

    fn example() -> String {
        "\"USD\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let currency = Self::parse(&BookText::read(field, reader)?);
        if currency.is_none() {
            let help = "three capital letters, such as \"USD\" or \"CNY\"";
            field.report_invalid("is not a currency code", "invalid code", help, reader);
        }
        currency
    }
}

/// A price in trillionths: a plain decimal number, with or without quotes, exact in either case.
pub(super) enum PriceAmount {}

impl DocumentValue for PriceAmount {
    type Value = u128;

    fn schema() -> Json {
        json!({ "type": ["string", "number"] })
    }

    fn example() -> String {
        "\"0.005\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let parts = match field.value() {
            DeValue::String(text) => parse_parts(text, PRICE_DECIMALS),
            DeValue::Float(number) => parse_parts(number.as_str(), PRICE_DECIMALS),
            DeValue::Integer(digits) if digits.radix() == 10 => parse_parts(digits.as_str(), PRICE_DECIMALS),
            _ => None,
        };
        let Some(parts) = parts else {
            let help = format!(
                "a plain number, not negative, with at most {PRICE_DECIMALS} decimals, such as \"0.005\"; for \
                 smaller prices, use a larger `per`"
            );
            field.report_invalid("is not a price", "invalid amount", help, reader);
            return None;
        };
        if parts > MAX_PRICE {
            let help = "the maximum is 1000000; check the currency";
            field.report_invalid("is too large", "more than 1000000", help, reader);
            return None;
        }
        Some(parts)
    }
}

impl DocumentValue for PriceUnit {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": ["string", "integer"] })
    }

    fn example() -> String {
        "1000".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let unit = match field.value() {
            DeValue::String(text) if text == "GB" => Some(Self::Gigabyte),
            DeValue::String(text) if text == "GB-month" => Some(Self::GigabyteMonth),
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix())
                .ok()
                .filter(|count| *count <= MAX_UNIT_COUNT && 10_u64.pow(count.checked_ilog10().unwrap_or(0)) == *count)
                .and_then(|count| u32::try_from(count).ok())
                .map(Self::Each),
            _ => None,
        };
        if unit.is_none() {
            let help = "1, 10, 100 and so on up to 1000000, or \"GB\", or \"GB-month\"";
            field.report_invalid("is not a unit", "invalid unit", help, reader);
        }
        unit
    }
}

impl DocumentValue for Date {
    type Value = Self;

    fn schema() -> Json {
        json!({ "type": "string", "format": "date" })
    }

    fn example() -> String {
        "2026-01-31".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let text = match field.value() {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let date = Some(text).filter(|text| text.len() == "2026-01-31".len()).and_then(|text| text.parse().ok());
        if date.is_none() {
            field.report_invalid("is not a date", "invalid date", "for example: `dated = 2026-01-31`", reader);
        }
        date
    }
}
