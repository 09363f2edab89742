//! Reads a price book file: returns its entries, or all problems in the file with their positions.
//!
//! The TOML values are read one by one with their spans, so that no problem hides another.

use std::collections::BTreeMap;
use std::ops::Range;

use batchplan_store::StoreProvider;
use batchplan_store::object::{RestoreTier, StorageClass};
use batchplan_store::printable::affects_terminal;
use globset::{GlobBuilder, GlobMatcher};
use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    BillableItem, MAX_BOOK_BYTES, PriceBook, PriceBookEntry, PriceBookOrigin, PriceUnit, ProviderRateLimit,
    RateLimitScope, RejectedRequestBilling, SourceReliability, UnitPrice,
};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::money::{Currency, PARTS_PER_UNIT, parse_parts};
use crate::toml_reader::{mask_for_excerpts, nearest, quote_for_message};

/// The built-in price book.
const BUILT_IN: &str = include_str!("../prices.toml");

/// The maximum number of prices, and of limits, in an entry.
const MAX_TABLES: usize = 500;

const ROOT: &[&str] = &["dated", "book"];
const ENTRY: &[&str] =
    &["provider", "regions", "except", "currency", "default_tier", "own_class", "managed", "refused", "price", "limit"];
const REFUSED: &[&str] = &["billed", "source"];
const PRICE: &[&str] = &["of", "classes", "tiers", "amount", "per", "source", "mark"];
const LIMIT: &[&str] = &["of", "classes", "per_second", "within", "when", "source", "mark"];

const TIERS: &[(&str, RestoreTier)] =
    &[("Standard", RestoreTier::Standard), ("Bulk", RestoreTier::Bulk), ("Expedited", RestoreTier::Expedited)];

impl PriceBook {
    /// Returns the price book that is built into the program.
    #[must_use]
    pub fn built_in() -> Self {
        parse_price_book(BUILT_IN, &PriceBookOrigin::BuiltIn).0
    }

    /// Reads a price book from bytes. Like [`PriceBook::from_toml`], but also reports a file that is not UTF-8.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, FileProblems> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::from_toml(name, text),
            Err(error) => {
                let good = error.valid_up_to();
                let text = String::from_utf8_lossy(bytes);
                let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(&text, &[]));
                let label = format!("byte 0x{:02x}", bytes[good]);
                let problem =
                    FileProblem::new("the file is not UTF-8").label(good..good + '\u{fffd}'.len_utf8(), label);
                problems.push(problem.help("save it as UTF-8"));
                Err(problems)
            }
        }
    }

    /// Reads a price book. `name` is the name of the file in messages.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, FileProblems> {
        let (book, errors) = parse_price_book(text, &PriceBookOrigin::File(quote_for_message(name)));
        if errors.is_empty() {
            return Ok(book);
        }
        let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &[]));
        for problem in errors {
            problems.push(problem);
        }
        Err(problems)
    }
}

/// Returns the entries that can be read, and the problems of the others.
fn parse_price_book(text: &str, origin: &PriceBookOrigin) -> (PriceBook, Vec<FileProblem>) {
    let nothing = |problem| (PriceBook::default(), vec![problem]);
    if text.len() > MAX_BOOK_BYTES {
        let problem = FileProblem::new("the price book is too large").label(0..0, "more than 1 MiB");
        return nothing(problem.help("a price book has a few entries with some dozen prices each"));
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(text.len())..span.end.min(text.len());
        let problem = FileProblem::new("invalid TOML").label(span, error.message());
        return nothing(problem.help("see https://toml.io/en/v1.0.0 for the syntax"));
    }
    let mut problems = PriceBookProblems::default();
    let root = PriceBookTable::root(table.get_ref(), ROOT, &mut problems);
    let dated = root.required("dated", "2026-01-31", &mut problems).and_then(|value| parse_date(value, &mut problems));
    let mut book = PriceBook::default();
    if let Some(entries) = root
        .required("book", "{ ... }", &mut problems)
        .and_then(|value| PriceBookTable::open(value, "`book`".to_owned(), &[], &mut problems))
    {
        for (name, key, value) in entries.iter() {
            if is_name(name) {
                let read = parse_entry(name, value, dated, origin, &mut problems);
                book.entries.extend(read.map(|entry| (name.to_owned(), entry)));
            } else {
                let help = "1 to 64 letters, digits, hyphens and underscores";
                problems.report(key, "this is not a valid entry name", "invalid name", help);
            }
        }
    }
    (book, problems.finish())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Reads a whole entry before it checks whether anything is missing, so that all problems are reported.
fn parse_entry(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    dated: Option<Date>,
    origin: &PriceBookOrigin,
    problems: &mut PriceBookProblems,
) -> Option<PriceBookEntry> {
    let table = PriceBookTable::open(value, format!("[book.{name}]"), ENTRY, problems)?;
    table.required("provider", "\"aws\"", problems);
    table.required("regions", "[\"us-east-1\"]", problems);
    table.required("currency", "\"USD\"", problems);
    let provider = table.choice("provider", StoreProvider::NAMES, problems);
    let regions = table.globs("regions", problems);
    let except = table.globs("except", problems);
    let currency = table.text("currency", problems).and_then(|text| parse_currency(&text, problems));
    let default_tier = table.choice("default_tier", TIERS, problems);
    let own_class = table.text("own_class", problems).map(|class| StorageClass::new(&class.value));
    let managed = table.text("managed", problems).map(|name| name.value);
    let refused = table.get("refused").and_then(|value| parse_rejected_request_billing(value, problems));
    let tables = table.tables("limit", MAX_TABLES, problems);
    let limits = tables.into_iter().filter_map(|value| parse_rate_limit(value, problems)).collect();
    let (mut prices, mut index) = (Vec::new(), BTreeMap::new());
    for value in table.tables("price", MAX_TABLES, problems) {
        parse_price(value, &mut prices, &mut index, problems);
    }
    let place = |(key, (place, _))| (key, place);
    Some(PriceBookEntry {
        name: name.to_owned(),
        origin: origin.clone(),
        dated: dated?,
        provider: provider?,
        currency: currency?,
        default_tier,
        own_class,
        rejected_requests: refused,
        managed_service: managed,
        limits,
        regions,
        except,
        prices,
        index: index.into_iter().map(place).collect(),
    })
}

fn parse_currency(text: &PriceBookValue<String>, problems: &mut PriceBookProblems) -> Option<Currency> {
    let currency = Currency::parse(&text.value);
    if currency.is_none() {
        let help = "three capital letters, such as \"USD\" or \"CNY\"";
        problems.report(text.span.clone(), "`currency` is not a currency code", "invalid code", help);
    }
    currency
}

fn parse_rejected_request_billing(
    value: &Spanned<DeValue<'_>>,
    problems: &mut PriceBookProblems,
) -> Option<RejectedRequestBilling> {
    let table = PriceBookTable::open(value, "`refused`".to_owned(), REFUSED, problems)?;
    let source = parse_source(&table, problems);
    let value = table.required("billed", "true", problems)?;
    let DeValue::Boolean(billed) = value.get_ref() else {
        problems.report(value.span(), "`billed` must be true or false", "not a boolean", "write it without quotes");
        return None;
    };
    Some(RejectedRequestBilling { billed: *billed, source })
}

fn parse_source(table: &PriceBookTable<'_>, problems: &mut PriceBookProblems) -> Option<String> {
    table.text("source", problems).map(|text| text.value)
}

fn parse_classes(table: &PriceBookTable<'_>, problems: &mut PriceBookProblems) -> Vec<StorageClass> {
    table.texts("classes", problems).iter().map(|class| StorageClass::new(&class.value)).collect()
}

/// The index of each price, and the span of its table.
type PriceIndex = BTreeMap<(BillableItem, Option<StorageClass>, Option<RestoreTier>), (usize, Range<usize>)>;

fn parse_price(
    value: &Spanned<DeValue<'_>>,
    prices: &mut Vec<UnitPrice>,
    index: &mut PriceIndex,
    problems: &mut PriceBookProblems,
) {
    let Some(table) = PriceBookTable::open(value, "a price".to_owned(), PRICE, problems) else { return };
    table.required("of", "[\"put_tags\"]", problems);
    let items = table.choices("of", &BillableItem::names(), problems);
    let classes = parse_classes(&table, problems);
    let tiers: Vec<_> = table.choices("tiers", TIERS, problems).into_iter().map(|tier| tier.value).collect();
    let parts = table.required("amount", "\"0.005\"", problems).and_then(|value| parse_amount(value, problems));
    let unit = table.required("per", "1000", problems).and_then(|value| parse_unit(value, problems));
    let (source, mark) = (parse_source(&table, problems), table.choice("mark", SourceReliability::NAMES, problems));
    let (Some(parts), Some(unit)) = (parts, unit) else { return };
    // An invalid list is already reported. The price must not apply to everything instead.
    if (classes.is_empty() && table.get("classes").is_some()) || (tiers.is_empty() && table.get("tiers").is_some()) {
        return;
    }
    for item in &items {
        if !item.value.is_priced_per(unit) {
            let help = "requests, jobs and objects are priced per 1, 10, 100 and so on, `retrieval` per \"GB\", \
                        `temporary_copy` and `storage` per \"GB-month\"";
            problems.report(item.span.clone(), format!("this cannot be priced per {unit}"), "wrong unit", help);
        }
        for class in some_or_any(&classes) {
            for tier in some_or_any(&tiers) {
                let key = (item.value, class.clone(), tier);
                if let Some((_, first)) = index.get(&key) {
                    let problem = FileProblem::new("this is priced twice").label(table.span.clone(), "here");
                    problems.push(
                        problem.label(first.clone(), "and here").help("keep one price for each item, class and tier"),
                    );
                    return;
                }
                index.insert(key, (prices.len(), table.span.clone()));
            }
        }
    }
    prices.push(UnitPrice { parts, unit, source, reliability: mark });
}

/// Returns each item, or a single `None`, which stands for any.
fn some_or_any<T: Clone>(some: &[T]) -> Vec<Option<T>> {
    if some.is_empty() { vec![None] } else { some.iter().cloned().map(Some).collect() }
}

fn parse_rate_limit(value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<ProviderRateLimit> {
    let table = PriceBookTable::open(value, "a limit".to_owned(), LIMIT, problems)?;
    let of = table.choices("of", &BillableItem::names(), problems);
    for item in of.iter().filter(|item| !item.value.is_request()) {
        problems.report(item.span.clone(), "this is not a request", "not a request", "limits apply only to requests");
    }
    let classes = parse_classes(&table, problems);
    let per_second =
        table.required("per_second", "1000", problems).and_then(|value| parse_rate("per_second", value, problems));
    table.required("within", "\"account\"", problems);
    let within = table.choice("within", RateLimitScope::NAMES, problems);
    let when = table.text("when", problems).map(|text| text.value);
    let source = parse_source(&table, problems);
    let mark = table.choice("mark", SourceReliability::NAMES, problems);
    let of = of.into_iter().map(|item| item.value).collect();
    Some(ProviderRateLimit {
        requests: of,
        classes,
        per_second: per_second?,
        scope: within?,
        condition: when,
        source,
        reliability: mark,
    })
}

/// More problems than this are counted, not kept.
const MAX_PROBLEMS: usize = 100;

/// The maximum length of a text, in characters. Sources are URLs.
const MAX_TEXT: usize = 2048;

/// The maximum number of texts in an array.
const MAX_WORDS: usize = 64;

/// The maximum number of decimals of a price. As prices are for a power of ten up to a million, the price of one
/// request is a whole number of trillionths.
const PRICE_DECIMALS: u32 = 6;

/// The largest power of ten that a price can be for.
const MAX_UNIT_COUNT: u64 = 1_000_000;

/// The maximum price, in trillionths: nothing that is sold by the thousand or the gigabyte costs more than a million.
const MAX_PRICE: u128 = 1_000_000 * PARTS_PER_UNIT;

/// The problems found so far.
#[derive(Debug, Default)]
struct PriceBookProblems {
    problems: Vec<FileProblem>,
    suppressed: usize,
}

impl PriceBookProblems {
    /// Adds a problem; once there are too many, only counts it.
    fn push(&mut self, problem: FileProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.suppressed += 1;
        }
    }

    /// Adds a problem at a span.
    fn report(&mut self, span: Range<usize>, title: impl Into<String>, label: &str, help: impl Into<String>) {
        self.push(FileProblem::new(title).label(span, label).help(help));
    }

    /// Returns all problems, in file order.
    fn finish(mut self) -> Vec<FileProblem> {
        self.problems.sort_by_key(|problem| problem.label_spans().first().map_or(0, |(span, _)| span.start));
        if self.suppressed > 0 {
            self.problems.push(FileProblem::new(match self.suppressed {
                1 => "1 more problem is not shown".to_owned(),
                count => format!("{count} more problems are not shown"),
            }));
        }
        self.problems
    }
}

/// A value and its span.
#[derive(Clone, Debug)]
struct PriceBookValue<T> {
    value: T,
    span: Range<usize>,
}

/// A table of the book whose keys are read.
struct PriceBookTable<'a> {
    entries: &'a DeTable<'a>,
    /// The span of the table's header; for a table in an array, of the table itself.
    span: Range<usize>,
    /// What messages call the table.
    title: String,
}

impl<'a> PriceBookTable<'a> {
    /// Opens the top level of the file.
    fn root(entries: &'a DeTable<'a>, keys: &[&str], problems: &mut PriceBookProblems) -> Self {
        let table = Self { entries, span: 0..0, title: "the price book".to_owned() };
        table.report_unknown_keys(keys, problems);
        table
    }

    /// Opens a table that has these keys and no others; without `keys`, it may have any.
    fn open(
        value: &'a Spanned<DeValue<'a>>,
        title: String,
        keys: &[&str],
        problems: &mut PriceBookProblems,
    ) -> Option<Self> {
        let DeValue::Table(entries) = value.get_ref() else {
            problems.report(
                value.span(),
                format!("{title} must be a table"),
                "not a table",
                "write its keys under a header",
            );
            return None;
        };
        let table = Self { entries, span: value.span(), title };
        table.report_unknown_keys(keys, problems);
        Some(table)
    }

    fn report_unknown_keys(&self, keys: &[&str], problems: &mut PriceBookProblems) {
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if !keys.is_empty() && !keys.contains(&name) {
                let help = nearest(name, keys.iter().copied()).map_or_else(
                    || format!("valid keys: {}", keys.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let title = format!("unknown key `{}` in {}", quote_for_message(name), self.title);
                problems.report(key.span(), title, "not known here", help);
            }
        }
    }

    /// Returns each key with its span and its value.
    fn iter(&self) -> impl Iterator<Item = (&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
        self.entries.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(name)
    }

    /// Returns the value of a required key, and reports it if it is missing.
    fn required(
        &self,
        name: &str,
        example: &str,
        problems: &mut PriceBookProblems,
    ) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = self.get(name);
        if value.is_none() {
            let title = format!("`{name}` is missing in {}", self.title);
            problems.report(self.span.clone(), title, "needed here", format!("add `{name} = {example}`"));
        }
        value
    }

    /// Returns the tables of an array of tables; reports more than `most` of them, and returns none then.
    fn tables(&self, name: &str, most: usize, problems: &mut PriceBookProblems) -> Vec<&'a Spanned<DeValue<'a>>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let title = format!("`{name}` must be an array of tables");
            problems.report(
                value.span(),
                title,
                "not an array of tables",
                format!("write each under its own [[...{name}]] header"),
            );
            return Vec::new();
        };
        if items.len() > most {
            let help = format!("at most {most} in one entry");
            problems.report(value.span(), format!("too many `{name}` tables"), "too many", help);
            return Vec::new();
        }
        items.iter().collect()
    }

    /// Reads a text.
    fn text(&self, name: &str, problems: &mut PriceBookProblems) -> Option<PriceBookValue<String>> {
        self.get(name).and_then(|value| text(name, value, problems))
    }

    /// Reads an array of texts; empty if the key is absent.
    fn texts(&self, name: &str, problems: &mut PriceBookProblems) -> Vec<PriceBookValue<String>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) if (1..=MAX_WORDS).contains(&items.len()) => {
                items.iter().filter_map(|item| text(name, item, problems)).collect()
            }
            _ => {
                let help = format!("write 1 to {MAX_WORDS} of them, as in `{name} = [\"...\"]`");
                problems.report(value.span(), format!("`{name}` must be an array of strings"), "not usable", help);
                Vec::new()
            }
        }
    }

    /// Reads one of a fixed set of names, and returns the value for it.
    fn choice<T: Copy>(&self, name: &str, names: &[(&str, T)], problems: &mut PriceBookProblems) -> Option<T> {
        self.text(name, problems).and_then(|text| parse_choice(name, &text, names, problems))
    }

    /// Reads an array of such names; empty if the key is absent.
    fn choices<T: Copy>(
        &self,
        name: &str,
        names: &[(&str, T)],
        problems: &mut PriceBookProblems,
    ) -> Vec<PriceBookValue<T>> {
        let words = self.texts(name, problems);
        let chosen = |text: PriceBookValue<String>| {
            parse_choice(name, &text, names, problems).map(|value| PriceBookValue { value, span: text.span })
        };
        words.into_iter().filter_map(chosen).collect()
    }

    /// Reads patterns, in which `*` matches any text.
    fn globs(&self, name: &str, problems: &mut PriceBookProblems) -> Vec<GlobMatcher> {
        let mut globs = Vec::new();
        for text in self.texts(name, problems) {
            match GlobBuilder::new(&text.value).literal_separator(false).build() {
                Ok(glob) => globs.push(glob.compile_matcher()),
                Err(_) => problems.report(
                    text.span,
                    format!("`{name}` contains an invalid pattern"),
                    "invalid pattern",
                    "write a region such as \"us-east-1\", or \"cn-*\" for all that start with cn-",
                ),
            }
        }
        globs
    }
}

fn text(name: &str, value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<PriceBookValue<String>> {
    let DeValue::String(text) = value.get_ref() else {
        problems.report(value.span(), format!("`{name}` must be a string"), "not a string", "write it in quotes");
        return None;
    };
    if text.trim().is_empty() || text.chars().count() > MAX_TEXT || text.chars().any(affects_terminal) {
        let help = format!("1 to {MAX_TEXT} characters, without line breaks and control characters");
        problems.report(value.span(), format!("`{name}` is not a valid string"), "not allowed", help);
        return None;
    }
    Some(PriceBookValue { value: text.to_string(), span: value.span() })
}

fn parse_choice<T: Copy>(
    name: &str,
    text: &PriceBookValue<String>,
    names: &[(&str, T)],
    problems: &mut PriceBookProblems,
) -> Option<T> {
    let chosen = names.iter().find(|(known, _)| *known == text.value);
    if chosen.is_none() {
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        let choice = format!("one of {}", known.join(", "));
        let help = nearest(&text.value, known)
            .map_or_else(|| choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
        let title = format!("`{name}` cannot be `{}`", quote_for_message(&text.value));
        problems.report(text.span.clone(), title, "not a valid value", help);
    }
    chosen.map(|(_, value)| *value)
}

/// Reads a price: a plain decimal number, with or without quotes, exact in either case.
fn parse_amount(value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<u128> {
    let parts = match value.get_ref() {
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
        problems.report(value.span(), "`amount` is not a price", "invalid amount", help);
        return None;
    };
    if parts > MAX_PRICE {
        let help = "the maximum is 1000000; check the currency";
        problems.report(value.span(), "`amount` is too large", "more than 1000000", help);
        return None;
    }
    Some(parts)
}

/// Reads the unit of a price.
fn parse_unit(value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<PriceUnit> {
    let unit = match value.get_ref() {
        DeValue::String(text) if text == "GB" => Some(PriceUnit::Gigabyte),
        DeValue::String(text) if text == "GB-month" => Some(PriceUnit::GigabyteMonth),
        _ => parse_integer(value)
            .filter(|count| *count <= MAX_UNIT_COUNT && 10_u64.pow(count.checked_ilog10().unwrap_or(0)) == *count)
            .and_then(|count| u32::try_from(count).ok())
            .map(PriceUnit::Each),
    };
    if unit.is_none() {
        let help = "1, 10, 100 and so on up to 1000000, or \"GB\", or \"GB-month\"";
        problems.report(value.span(), "`per` is not a unit", "invalid unit", help);
    }
    unit
}

/// Reads a rate, from 1 to 10,000,000.
fn parse_rate(name: &str, value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<u32> {
    let rate =
        parse_integer(value).and_then(|rate| u32::try_from(rate).ok()).filter(|rate| (1..=10_000_000).contains(rate));
    if rate.is_none() {
        problems.report(value.span(), format!("`{name}` is out of range"), "not allowed", "from 1 to 10000000");
    }
    rate
}

fn parse_integer(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let DeValue::Integer(digits) = value.get_ref() else { return None };
    u64::from_str_radix(digits.as_str(), digits.radix()).ok()
}

/// Reads a date.
fn parse_date(value: &Spanned<DeValue<'_>>, problems: &mut PriceBookProblems) -> Option<Date> {
    let text = match value.get_ref() {
        DeValue::Datetime(date) => date.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => String::new(),
    };
    let date = Some(text).filter(|text| text.len() == "2026-01-31".len()).and_then(|text| text.parse().ok());
    if date.is_none() {
        problems.report(value.span(), "`dated` is not a date", "invalid date", "for example: `dated = 2026-01-31`");
    }
    date
}

#[cfg(test)]
mod tests;
