//! Reads a price book: returns its entries, or all problems in the file.

use std::collections::BTreeMap;

use batchplan_store::StoreProvider;
use batchplan_store::object::{RestoreTier, StorageClass};
use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lookup::MAX_BOOK_BYTES;
use super::parser::{
    PriceBookProblems, PriceBookSpan, PriceBookTable, PriceBookValue, parse_amount, parse_date, parse_rate, parse_unit,
};
use super::price_book::{
    BillableItem, PriceBook, PriceBookEntry, PriceBookOrigin, ProviderRateLimit, RateLimitScope,
    RejectedRequestBilling, SourceReliability, UnitPrice,
};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::money::Currency;
use crate::plan::{mask_for_excerpts, quote_for_message};

/// The built-in price book.
const BUILT_IN: &str = include_str!("prices.toml");

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
        let (book, found) = parse_price_book(text, &PriceBookOrigin::File(quote_for_message(name)));
        if found.is_empty() {
            return Ok(book);
        }
        let mut problems = FileProblems::new(&quote_for_message(name), &mask_for_excerpts(text, &[]));
        for problem in found {
            problems.push(problem);
        }
        Err(problems)
    }
}

/// Returns the entries that can be read, and the problems of the others.
pub(super) fn parse_price_book(text: &str, origin: &PriceBookOrigin) -> (PriceBook, Vec<FileProblem>) {
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
    let mut found = PriceBookProblems::default();
    let root = PriceBookTable::root(table.get_ref(), ROOT, &mut found);
    let dated = root.required("dated", "2026-01-31", &mut found).and_then(|value| parse_date(value, &mut found));
    let mut book = PriceBook::default();
    if let Some(entries) = root
        .required("book", "{ ... }", &mut found)
        .and_then(|value| PriceBookTable::open(value, "`book`".to_owned(), &[], &mut found))
    {
        for (name, key, value) in entries.iter() {
            if is_name(name) {
                let read = parse_entry(name, value, dated, origin, &mut found);
                book.entries.extend(read.map(|entry| (name.to_owned(), entry)));
            } else {
                let help = "1 to 64 letters, digits, hyphens and underscores";
                found.report(key, "this is not a valid entry name", "invalid name", help);
            }
        }
    }
    (book, found.finish())
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
    found: &mut PriceBookProblems,
) -> Option<PriceBookEntry> {
    let cells = PriceBookTable::open(value, format!("[book.{name}]"), ENTRY, found)?;
    cells.required("provider", "\"aws\"", found);
    cells.required("regions", "[\"us-east-1\"]", found);
    cells.required("currency", "\"USD\"", found);
    let provider = cells.choice("provider", StoreProvider::NAMES, found);
    let regions = cells.globs("regions", found);
    let except = cells.globs("except", found);
    let currency = cells.text("currency", found).and_then(|text| parse_currency(&text, found));
    let default_tier = cells.choice("default_tier", TIERS, found);
    let own_class = cells.text("own_class", found).map(|class| StorageClass::new(&class.value));
    let managed = cells.text("managed", found).map(|name| name.value);
    let refused = cells.get("refused").and_then(|value| parse_rejected_request_billing(value, found));
    let tables = cells.tables("limit", MAX_TABLES, found);
    let limits = tables.into_iter().filter_map(|value| parse_rate_limit(value, found)).collect();
    let (mut prices, mut index) = (Vec::new(), BTreeMap::new());
    for value in cells.tables("price", MAX_TABLES, found) {
        parse_price(value, &mut prices, &mut index, found);
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

fn parse_currency(text: &PriceBookValue<String>, found: &mut PriceBookProblems) -> Option<Currency> {
    let currency = Currency::parse(&text.value);
    if currency.is_none() {
        let help = "three capital letters, such as \"USD\" or \"CNY\"";
        found.report(text.span.clone(), "`currency` is not a currency code", "invalid code", help);
    }
    currency
}

fn parse_rejected_request_billing(
    value: &Spanned<DeValue<'_>>,
    found: &mut PriceBookProblems,
) -> Option<RejectedRequestBilling> {
    let cells = PriceBookTable::open(value, "`refused`".to_owned(), REFUSED, found)?;
    let source = parse_source(&cells, found);
    let value = cells.required("billed", "true", found)?;
    let DeValue::Boolean(billed) = value.get_ref() else {
        found.report(value.span(), "`billed` must be true or false", "not a boolean", "write it without quotes");
        return None;
    };
    Some(RejectedRequestBilling { billed: *billed, source })
}

fn parse_source(cells: &PriceBookTable<'_>, found: &mut PriceBookProblems) -> Option<String> {
    cells.text("source", found).map(|text| text.value)
}

fn parse_classes(cells: &PriceBookTable<'_>, found: &mut PriceBookProblems) -> Vec<StorageClass> {
    cells.texts("classes", found).iter().map(|class| StorageClass::new(&class.value)).collect()
}

/// The index of each price, and the span of its table.
type PriceIndex = BTreeMap<(BillableItem, Option<StorageClass>, Option<RestoreTier>), (usize, PriceBookSpan)>;

fn parse_price(
    value: &Spanned<DeValue<'_>>,
    prices: &mut Vec<UnitPrice>,
    index: &mut PriceIndex,
    found: &mut PriceBookProblems,
) {
    let Some(cells) = PriceBookTable::open(value, "a price".to_owned(), PRICE, found) else { return };
    cells.required("of", "[\"put_tags\"]", found);
    let items = cells.choices("of", &BillableItem::names(), found);
    let classes = parse_classes(&cells, found);
    let tiers: Vec<_> = cells.choices("tiers", TIERS, found).into_iter().map(|tier| tier.value).collect();
    let parts = cells.required("amount", "\"0.005\"", found).and_then(|value| parse_amount(value, found));
    let unit = cells.required("per", "1000", found).and_then(|value| parse_unit(value, found));
    let (source, mark) = (parse_source(&cells, found), cells.choice("mark", SourceReliability::NAMES, found));
    let (Some(parts), Some(unit)) = (parts, unit) else { return };
    // An invalid list is already reported. The price must not apply to everything instead.
    if (classes.is_empty() && cells.get("classes").is_some()) || (tiers.is_empty() && cells.get("tiers").is_some()) {
        return;
    }
    for item in &items {
        if !item.value.is_priced_per(unit) {
            let help = "requests, jobs and objects are priced per 1, 10, 100 and so on, `retrieval` per \"GB\", \
                        `temporary_copy` and `storage` per \"GB-month\"";
            found.report(item.span.clone(), format!("this cannot be priced per {unit}"), "wrong unit", help);
        }
        for class in some_or_any(&classes) {
            for tier in some_or_any(&tiers) {
                let key = (item.value, class.clone(), tier);
                if let Some((_, first)) = index.get(&key) {
                    let problem = FileProblem::new("this is priced twice").label(cells.span.clone(), "here");
                    found.push(
                        problem.label(first.clone(), "and here").help("keep one price for each item, class and tier"),
                    );
                    return;
                }
                index.insert(key, (prices.len(), cells.span.clone()));
            }
        }
    }
    prices.push(UnitPrice { parts, unit, source, reliability: mark });
}

/// Returns each item, or a single `None`, which stands for any.
fn some_or_any<T: Clone>(some: &[T]) -> Vec<Option<T>> {
    if some.is_empty() { vec![None] } else { some.iter().cloned().map(Some).collect() }
}

fn parse_rate_limit(value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<ProviderRateLimit> {
    let cells = PriceBookTable::open(value, "a limit".to_owned(), LIMIT, found)?;
    let of = cells.choices("of", &BillableItem::names(), found);
    for item in of.iter().filter(|item| !item.value.is_request()) {
        found.report(item.span.clone(), "this is not a request", "not a request", "limits apply only to requests");
    }
    let classes = parse_classes(&cells, found);
    let per_second =
        cells.required("per_second", "1000", found).and_then(|value| parse_rate("per_second", value, found));
    cells.required("within", "\"account\"", found);
    let within = cells.choice("within", RateLimitScope::NAMES, found);
    let when = cells.text("when", found).map(|text| text.value);
    let source = parse_source(&cells, found);
    let mark = cells.choice("mark", SourceReliability::NAMES, found);
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
