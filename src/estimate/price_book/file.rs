//! Parses the text of a price book: turns its tables into entries, or reports all problems with their positions.
//! `lookup` reads the file.

use std::collections::BTreeMap;

use batchplan_store::object::{RestoreTier, StorageClass};
use jiff::civil::Date;

use super::tables::{MAX_TABLES, PriceBookEntryTable, PriceBookTable, ProviderRateLimitTable, UnitPriceTable};
use super::{
    BillableItem, PriceBook, PriceBookEntry, PriceBookOrigin, ProviderRateLimit, RejectedRequestBilling, UnitPrice,
};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::toml_reader::{DocumentReader, DocumentType, ParsedField, SpannedValue, TextSpan, quote_for_message};

/// The built-in price book.
const BUILT_IN: &str = include_str!("../prices.toml");

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
    let place = |(key, (place, _))| (key, place);
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
        index: index.into_iter().map(place).collect(),
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
type PriceIndex = BTreeMap<(BillableItem, Option<StorageClass>, Option<RestoreTier>), (usize, TextSpan)>;

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
        for class in some_or_any(&classes) {
            for tier in some_or_any(&tiers) {
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
fn some_or_any<T: Clone>(some: &[T]) -> Vec<Option<T>> {
    if some.is_empty() { vec![None] } else { some.iter().cloned().map(Some).collect() }
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

#[cfg(test)]
mod tests;
