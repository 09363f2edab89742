//! The price book: the prices and rate limits of services, as dated figures with their sources, and the TOML file that
//! holds them. Each table of the file is one [`table!`] definition: the struct, its parser and its known keys at once.

use std::collections::BTreeMap;
use std::fmt;

use batchplan_store::StoreProvider;
use batchplan_store::object::{RestoreTier, StorageClass};
use batchplan_store::object_request::RequestKind;
use globset::{GlobBuilder, GlobMatcher};
use jiff::civil::Date;
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use crate::diagnostics::{FileProblem, FileProblems};
use crate::money::{Currency, PARTS_PER_UNIT, parse_parts};
use crate::toml_reader::{
    BoundedArray, DocumentReader, DocumentType, DocumentValue, EnumValue, IntValue, NamedTables, NamedVariants,
    ParsedField, RawField, SpannedValue, TableArray, TextSpan, TextValue, name_of, quote_for_message, table,
};

/// A billable item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BillableItem {
    /// A request.
    Request(RequestKind),
    /// Data retrieved from an archive.
    Retrieval,
    /// The storage of a restored copy.
    TemporaryCopy,
    /// The storage of data.
    Storage,
    /// A job of the provider's managed service.
    ManagedJob,
    /// An object in a job of the managed service.
    ManagedObject,
}

impl BillableItem {
    /// Returns whether the item is a request, which rate limits count.
    fn is_request(self) -> bool {
        matches!(self, Self::Request(_))
    }

    /// Returns whether the item is priced by this unit.
    fn is_priced_per(self, unit: PriceUnit) -> bool {
        match self {
            Self::Retrieval => unit == PriceUnit::Gigabyte,
            Self::TemporaryCopy | Self::Storage => unit == PriceUnit::GigabyteMonth,
            Self::Request(_) | Self::ManagedJob | Self::ManagedObject => matches!(unit, PriceUnit::Each(_)),
        }
    }
}

/// The items by their names in price books.
impl NamedVariants for BillableItem {
    const NAMES: &'static [(&'static str, Self)] = &{
        let others = [
            ("retrieval", Self::Retrieval),
            ("temporary_copy", Self::TemporaryCopy),
            ("storage", Self::Storage),
            ("managed_job", Self::ManagedJob),
            ("managed_object", Self::ManagedObject),
        ];
        let requests = RequestKind::ALL;
        let mut names = [others[0]; RequestKind::ALL.len() + 5];
        let mut at = 0;
        while at < names.len() {
            names[at] = if at < requests.len() {
                (requests[at].as_str(), Self::Request(requests[at]))
            } else {
                others[at - requests.len()]
            };
            at += 1;
        }
        names
    };
}

/// The unit of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceUnit {
    /// This number of requests, objects or jobs: a power of ten.
    Each(u32),
    /// 2^30 bytes.
    Gigabyte,
    /// 2^30 bytes, stored for thirty days.
    GigabyteMonth,
}

/// Formats the unit as in `per 1000` or `per GB`.
impl fmt::Display for PriceUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(count) => write!(f, "{count}"),
            Self::Gigabyte => f.write_str("GB"),
            Self::GigabyteMonth => f.write_str("GB-month"),
        }
    }
}

/// How reliable a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceReliability {
    /// The figure was read in its source, which is the provider's own or is derived from the provider's price list.
    Verified,
    /// The figure is from a third party.
    Secondary,
}

impl NamedVariants for SourceReliability {
    const NAMES: &'static [(&'static str, Self)] = &[("verified", Self::Verified), ("secondary", Self::Secondary)];
}

impl SourceReliability {
    /// Returns the name in price books.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(self)
    }
}

/// A price with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPrice {
    /// The amount in trillionths of the currency's unit, with at most six decimals.
    pub(super) parts: u128,
    unit: PriceUnit,
    /// The source of the figure; `None` if the book does not say.
    pub source: Option<String>,
    /// How reliable the figure is, if the book says so.
    pub reliability: Option<SourceReliability>,
}

impl UnitPrice {
    /// Returns the unit of the price.
    #[must_use]
    pub fn unit(&self) -> PriceUnit {
        self.unit
    }
}

/// Whether requests that are rejected with a status of 400 to 499 are billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRequestBilling {
    /// True if they are billed.
    pub billed: bool,
    /// The source of this statement; `None` if the book does not say.
    pub source: Option<String>,
}

/// The scope of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitScope {
    /// One prefix of keys, as the service partitions them.
    Prefix,
    /// One account in one region.
    Account,
}

impl NamedVariants for RateLimitScope {
    const NAMES: &'static [(&'static str, Self)] = &[("prefix", Self::Prefix), ("account", Self::Account)];
}

impl RateLimitScope {
    /// Returns the name in price books.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(self)
    }
}

/// A limit on the number of requests per second that a service accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRateLimit {
    /// The requests that count; empty means all.
    pub requests: Vec<BillableItem>,
    /// The storage classes of the objects that count; empty means all.
    pub classes: Vec<StorageClass>,
    /// The maximum number of requests per second, from 1.
    pub per_second: u32,
    /// The scope of the limit.
    pub scope: RateLimitScope,
    /// The condition under which the limit applies; `None` if it always does.
    pub condition: Option<String>,
    /// The source of the figure; `None` if the book does not say.
    pub source: Option<String>,
    /// How reliable the figure is, if the book says so.
    pub reliability: Option<SourceReliability>,
}

impl ProviderRateLimit {
    /// Returns whether the limit counts a request.
    pub(super) fn counts(&self, item: BillableItem, class: Option<&StorageClass>) -> bool {
        let named = self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(class));
        named && (self.requests.is_empty() || self.requests.contains(&item))
    }
}

/// The origin of a price book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceBookOrigin {
    /// Built into the program.
    BuiltIn,
    /// A file of the user, with its name.
    File(String),
}

/// The key of a price: item, class and tier. `None` stands for any.
type PriceKey = (BillableItem, Option<StorageClass>, Option<RestoreTier>);

/// The prices and limits of one provider in some of its regions.
#[derive(Clone, Debug)]
pub struct PriceBookEntry {
    /// The name of the entry in the book.
    pub name: String,
    /// The origin of the book that holds the entry.
    pub origin: PriceBookOrigin,
    /// The day on which the figures were looked up.
    pub dated: Date,
    /// The provider that charges these prices.
    pub provider: StoreProvider,
    /// The currency of the prices.
    pub currency: Currency,
    /// The tier of a restore that names none.
    default_tier: Option<RestoreTier>,
    /// The storage class that manifests and reports are assumed to have.
    pub own_class: Option<StorageClass>,
    /// Whether rejected requests are billed; `None` if unknown.
    pub rejected_requests: Option<RejectedRequestBilling>,
    /// The name of the provider's managed service, if it has one.
    pub managed_service: Option<String>,
    /// The limits on requests per second.
    pub limits: Vec<ProviderRateLimit>,
    regions: Vec<GlobMatcher>,
    except: Vec<GlobMatcher>,
    prices: Vec<UnitPrice>,
    /// The index into `prices` for each key.
    index: BTreeMap<PriceKey, usize>,
}

/// The result of looking up a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PriceLookup<'a> {
    /// The price.
    Price(&'a UnitPrice),
    /// The cheapest and the most expensive of several prices, because the class is unknown.
    Range(&'a UnitPrice, &'a UnitPrice),
    /// The book has no price.
    Missing,
}

impl PriceBookEntry {
    /// Returns whether the entry covers a region. An unknown region is covered by `*` only.
    pub(super) fn covers(&self, provider: StoreProvider, region: Option<&str>) -> bool {
        let region = region.unwrap_or_default();
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(region));
        self.provider == provider && any(&self.regions) && !any(&self.except)
    }

    /// Returns the price of an item. A price for the class takes precedence over one for any class, and likewise for
    /// the tier.
    pub(super) fn price_of(
        &self,
        item: BillableItem,
        class: Option<&StorageClass>,
        tier: Option<RestoreTier>,
    ) -> PriceLookup<'_> {
        let tier = tier.or(self.default_tier);
        if let Some(class) = class {
            let priced =
                self.price_for_class(item, Some(class), tier).or_else(|| self.price_for_class(item, None, tier));
            return priced.map_or(PriceLookup::Missing, PriceLookup::Price);
        }
        let mut classes: Vec<_> =
            self.index.keys().filter(|(of, ..)| *of == item).map(|(_, class, _)| class.as_ref()).collect();
        classes.dedup();
        let mut priced: Vec<_> = classes.iter().filter_map(|class| self.price_for_class(item, *class, tier)).collect();
        priced.sort_by_key(|price| price.sort_key());
        match (&classes[..], &priced[..]) {
            ([None], [price]) => PriceLookup::Price(price),
            (_, [cheapest, .., dearest]) => PriceLookup::Range(cheapest, dearest),
            (_, [price]) => PriceLookup::Range(price, price),
            (_, []) => PriceLookup::Missing,
        }
    }

    fn price_for_class(
        &self,
        item: BillableItem,
        class: Option<&StorageClass>,
        tier: Option<RestoreTier>,
    ) -> Option<&UnitPrice> {
        let key = |tier| (item, class.cloned(), tier);
        let named = tier.and_then(|tier| self.index.get(&key(Some(tier))));
        named.or_else(|| self.index.get(&key(None))).and_then(|position| self.prices.get(*position))
    }
}

impl UnitPrice {
    /// Returns a number that orders the prices of one item, whatever their units.
    fn sort_key(&self) -> u128 {
        match self.unit {
            PriceUnit::Each(count) => self.parts / u128::from(count.max(1)),
            PriceUnit::Gigabyte | PriceUnit::GigabyteMonth => self.parts,
        }
    }
}

/// A price book: entries by name.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    entries: BTreeMap<String, PriceBookEntry>,
}

impl PriceBook {
    /// Returns the entries, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = &PriceBookEntry> {
        self.entries.values()
    }

    /// Returns the entry with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PriceBookEntry> {
        self.entries.get(name)
    }

    /// Adds the entries of `other` whose names this book does not have. Entries of the same name are not merged.
    #[must_use]
    pub fn with_fallback(mut self, other: Self) -> Self {
        for (name, entry) in other.entries {
            self.entries.entry(name).or_insert(entry);
        }
        self
    }
}

/// The built-in price book.
const BUILT_IN: &str = include_str!("prices.toml");

const PRICE_BOOK_FILE: DocumentType = DocumentType {
    name: "price book",
    too_large: "the price book is too large",
    too_large_help: "a price book has a few entries with some dozen prices each",
};

impl PriceBook {
    /// Returns the price book that is built into the program.
    #[must_use]
    pub fn built_in() -> Self {
        parse_price_book("prices.toml", BUILT_IN, &PriceBookOrigin::BuiltIn).0.unwrap_or_default()
    }

    /// Reads a price book from bytes. Like [`PriceBook::from_toml`], but also reports a file that is not UTF-8.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, FileProblems> {
        Self::from_toml(name, PRICE_BOOK_FILE.decode(name, bytes)?)
    }

    /// Reads a price book. `name` is the name of the file in messages.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, FileProblems> {
        let (book, problems) = parse_price_book(name, text, &PriceBookOrigin::File(quote_for_message(name)));
        book.ok_or(problems)
    }
}

fn parse_price_book(name: &str, text: &str, origin: &PriceBookOrigin) -> (Option<PriceBook>, FileProblems) {
    PRICE_BOOK_FILE.read(name, text, |file: &PriceBookTable, reader| {
        let mut book = PriceBook::default();
        for (name, entry) in file.book.value()? {
            let converted = convert_entry(&name.value, &entry.value, file.dated.value().copied(), origin, reader);
            book.entries.extend(converted.map(|entry| (name.value.clone(), entry)));
        }
        Some(book)
    })
}

/// Converts a whole entry before it checks whether anything is missing, so that all problems are reported.
fn convert_entry(
    name: &str,
    table: &PriceBookEntryTable,
    dated: Option<Date>,
    origin: &PriceBookOrigin,
    reader: &mut DocumentReader,
) -> Option<PriceBookEntry> {
    report_too_many(&table.price, "price", reader);
    report_too_many(&table.limit, "limit", reader);
    let (mut prices, mut index) = (Vec::new(), BTreeMap::new());
    for price in table.price.value().into_iter().flatten().take(MAX_TABLES) {
        add_price(price, &mut prices, &mut index, reader);
    }
    let limits = table.limit.value().into_iter().flatten();
    let limits = limits.filter_map(|limit| convert_rate_limit(&limit.value, reader)).collect();
    let without_span = |(key, (position, _))| (key, position);
    Some(PriceBookEntry {
        name: name.to_owned(),
        origin: origin.clone(),
        dated: dated?,
        provider: *table.provider.value()?,
        currency: *table.currency.value()?,
        default_tier: table.default_tier.value().copied(),
        own_class: table.own_class.value().map(|class| StorageClass::new(class)),
        rejected_requests: table.refused.value().and_then(|refused| {
            let source = refused.source.value().cloned();
            refused.billed.value().map(|billed| RejectedRequestBilling { billed: *billed, source })
        }),
        managed_service: table.managed.value().cloned(),
        limits,
        regions: values(&table.regions),
        except: values(&table.except),
        prices,
        index: index.into_iter().map(without_span).collect(),
    })
}

fn report_too_many<T>(tables: &ParsedField<Vec<SpannedValue<T>>>, name: &str, reader: &mut DocumentReader) {
    if let Some(more) = tables.value().and_then(|tables| tables.get(MAX_TABLES)) {
        reader.push(
            FileProblem::new(format!("too many `{name}` tables"))
                .label(more.span.clone(), "too many")
                .help(format!("at most {MAX_TABLES} in one entry")),
        );
    }
}

/// Returns the items of an array; none if the key is absent or invalid.
fn values<T: Clone>(array: &ParsedField<Vec<SpannedValue<T>>>) -> Vec<T> {
    array.value().into_iter().flatten().map(|item| item.value.clone()).collect()
}

fn storage_classes(array: &ParsedField<Vec<SpannedValue<String>>>) -> Vec<StorageClass> {
    array.value().into_iter().flatten().map(|class| StorageClass::new(&class.value)).collect()
}

/// The index of each price, and the span of its table.
type PriceIndex = BTreeMap<PriceKey, (usize, TextSpan)>;

fn add_price(
    price: &SpannedValue<UnitPriceTable>,
    prices: &mut Vec<UnitPrice>,
    index: &mut PriceIndex,
    reader: &mut DocumentReader,
) {
    let table = &price.value;
    let (Some(items), Some(parts), Some(unit)) = (table.of.value(), table.amount.value(), table.per.value()) else {
        return;
    };
    // An invalid list is already reported. The price must not apply to everything instead.
    if table.classes.is_invalid() || table.tiers.is_invalid() {
        return;
    }
    let (classes, tiers) = (storage_classes(&table.classes), values(&table.tiers));
    for item in items {
        if !item.value.is_priced_per(*unit) {
            reader.push(
                FileProblem::new(format!("this cannot be priced per {unit}"))
                    .label(item.span.clone(), "wrong unit")
                    .help(
                        "requests, jobs and objects are priced per 1, 10, 100 and so on, `retrieval` per \"GB\", \
                         `temporary_copy` and `storage` per \"GB-month\"",
                    ),
            );
        }
        for class in each_or_any(&classes) {
            for tier in each_or_any(&tiers) {
                let key = (item.value, class.clone(), tier);
                if let Some((_, first)) = index.get(&key) {
                    let problem = FileProblem::new("this is priced twice").label(price.span.clone(), "here");
                    reader.push(
                        problem.label(first.clone(), "and here").help("keep one price for each item, class and tier"),
                    );
                    return;
                }
                index.insert(key, (prices.len(), price.span.clone()));
            }
        }
    }
    let (source, reliability) = (table.source.value().cloned(), table.mark.value().copied());
    prices.push(UnitPrice { parts: *parts, unit: *unit, source, reliability });
}

/// Returns each item, or a single `None`, which stands for any.
fn each_or_any<T: Clone>(items: &[T]) -> Vec<Option<T>> {
    if items.is_empty() { vec![None] } else { items.iter().cloned().map(Some).collect() }
}

fn convert_rate_limit(table: &ProviderRateLimitTable, reader: &mut DocumentReader) -> Option<ProviderRateLimit> {
    for item in table.of.value().into_iter().flatten().filter(|item| !item.value.is_request()) {
        reader.push(
            FileProblem::new("this is not a request")
                .label(item.span.clone(), "not a request")
                .help("limits apply only to requests"),
        );
    }
    Some(ProviderRateLimit {
        requests: values(&table.of),
        classes: storage_classes(&table.classes),
        per_second: *table.per_second.value()?,
        scope: *table.within.value()?,
        condition: table.when.value().cloned(),
        source: table.source.value().cloned(),
        reliability: table.mark.value().copied(),
    })
}

/// The maximum number of prices, and of limits, in an entry.
const MAX_TABLES: usize = 500;

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
            let help = "use three capital letters, such as \"USD\" or \"CNY\"";
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
                "use a plain number, not negative, with at most {PRICE_DECIMALS} decimals, such as \"0.005\"; for \
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
            let help = "use 1, 10, 100 and so on up to 1000000, or \"GB\", or \"GB-month\"";
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

#[cfg(test)]
#[path = "price_book_tests.rs"]
mod tests;
