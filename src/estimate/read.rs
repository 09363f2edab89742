//! Reads a price book: returns its entries, or all problems in the file.

use std::collections::BTreeMap;

use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::book::{Entry, Item, Mark, Origin, Price, PriceBook, RateLimit, Refused, Within};
use super::cells::{At, Cells, Found, Span, amount, date, rate, unit};
use super::choose::MAX_BOOK_BYTES;
use crate::diagnostics::{Problem, Problems};
use crate::money::Currency;
use crate::object::{StorageClass, Tier};
use crate::plan::{for_excerpts, shown};
use crate::store::Provider;

/// The built-in price book.
const SHIPPED: &str = include_str!("prices.toml");

/// The maximum number of prices, and of limits, in an entry.
const MOST: usize = 500;

const ROOT: &[&str] = &["dated", "book"];
const ENTRY: &[&str] =
    &["provider", "regions", "except", "currency", "default_tier", "own_class", "managed", "refused", "price", "limit"];
const REFUSED: &[&str] = &["billed", "source"];
const PRICE: &[&str] = &["of", "classes", "tiers", "amount", "per", "source", "mark"];
const LIMIT: &[&str] = &["of", "classes", "per_second", "within", "when", "source", "mark"];

const PROVIDERS: &[(&str, Provider)] =
    &[("aws", Provider::Aws), ("oss", Provider::Oss), ("s3", Provider::S3), ("sandbox", Provider::Sandbox)];
const TIERS: &[(&str, Tier)] = &[("Standard", Tier::Standard), ("Bulk", Tier::Bulk), ("Expedited", Tier::Expedited)];

impl PriceBook {
    /// Returns the price book that is built into the program.
    #[must_use]
    pub fn shipped() -> Self {
        read(SHIPPED, &Origin::Shipped).0
    }

    /// Reads a price book from bytes. Like [`PriceBook::from_toml`], but also reports a file that is not UTF-8.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Problems> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::from_toml(name, text),
            Err(error) => {
                let good = error.valid_up_to();
                let text = String::from_utf8_lossy(bytes);
                let mut problems = Problems::new(&shown(name), &for_excerpts(&text, &[]));
                let label = format!("byte 0x{:02x}", bytes[good]);
                let problem = Problem::new("the file is not UTF-8").label(good..good + '\u{fffd}'.len_utf8(), label);
                problems.push(problem.help("save it as UTF-8"));
                Err(problems)
            }
        }
    }

    /// Reads a price book. `name` is the name of the file in messages.
    ///
    /// # Errors
    /// Returns an error if the book is not valid: all problems, each with its position.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Problems> {
        let (book, found) = read(text, &Origin::File(shown(name)));
        if found.is_empty() {
            return Ok(book);
        }
        let mut problems = Problems::new(&shown(name), &for_excerpts(text, &[]));
        for problem in found {
            problems.push(problem);
        }
        Err(problems)
    }
}

/// Returns the entries that can be read, and the problems of the others.
pub(super) fn read(text: &str, origin: &Origin) -> (PriceBook, Vec<Problem>) {
    let nothing = |problem| (PriceBook::default(), vec![problem]);
    if text.len() > MAX_BOOK_BYTES {
        let problem = Problem::new("the file is too large for a price book").label(0..0, "more than 1 MiB");
        return nothing(problem.help("a price book holds a few entries of some dozen prices"));
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(text.len())..span.end.min(text.len());
        let problem = Problem::new("this is not TOML").label(span, error.message());
        return nothing(problem.help("https://toml.io/en/v1.0.0 shows how values are written"));
    }
    let mut found = Found::default();
    let root = Cells::root(table.get_ref(), ROOT, &mut found);
    let dated = root.need("dated", "2026-01-31", &mut found).and_then(|value| date(value, &mut found));
    let mut book = PriceBook::default();
    if let Some(entries) = root
        .need("book", "{ ... }", &mut found)
        .and_then(|value| Cells::open(value, "`book`".to_owned(), &[], &mut found))
    {
        for (name, key, value) in entries.each() {
            if is_name(name) {
                let read = entry(name, value, dated, origin, &mut found);
                book.entries.extend(read.map(|entry| (name.to_owned(), entry)));
            } else {
                let help = "1 to 64 letters, digits, hyphens and underscores";
                found.refuse(key, "this is no name for an entry", "not usable", help);
            }
        }
    }
    (book, found.finish())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Reads a whole entry before it checks whether anything is missing, so that all problems are reported.
fn entry(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    dated: Option<Date>,
    origin: &Origin,
    found: &mut Found,
) -> Option<Entry> {
    let cells = Cells::open(value, format!("[book.{name}]"), ENTRY, found)?;
    cells.need("provider", "\"aws\"", found);
    cells.need("regions", "[\"us-east-1\"]", found);
    cells.need("currency", "\"USD\"", found);
    let provider = cells.choice("provider", PROVIDERS, found);
    let regions = cells.globs("regions", found);
    let except = cells.globs("except", found);
    let currency = cells.text("currency", found).and_then(|text| currency(&text, found));
    let default_tier = cells.choice("default_tier", TIERS, found);
    let own_class = cells.text("own_class", found).map(|class| StorageClass::new(&class.value));
    let managed = cells.text("managed", found).map(|name| name.value);
    let refused = cells.get("refused").and_then(|value| refused(value, found));
    let tables = cells.tables("limit", MOST, found);
    let limits = tables.into_iter().filter_map(|value| limit(value, found)).collect();
    let (mut prices, mut index) = (Vec::new(), BTreeMap::new());
    for value in cells.tables("price", MOST, found) {
        price(value, &mut prices, &mut index, found);
    }
    let place = |(key, (place, _))| (key, place);
    Some(Entry {
        name: name.to_owned(),
        origin: origin.clone(),
        dated: dated?,
        provider: provider?,
        currency: currency?,
        default_tier,
        own_class,
        refused,
        managed,
        limits,
        regions,
        except,
        prices,
        index: index.into_iter().map(place).collect(),
    })
}

fn currency(text: &At<String>, found: &mut Found) -> Option<Currency> {
    let currency = Currency::parse(&text.value);
    if currency.is_none() {
        let help = "three capital letters, such as \"USD\" or \"CNY\"";
        found.refuse(text.span.clone(), "`currency` is no currency", "not a code", help);
    }
    currency
}

fn refused(value: &Spanned<DeValue<'_>>, found: &mut Found) -> Option<Refused> {
    let cells = Cells::open(value, "`refused`".to_owned(), REFUSED, found)?;
    let source = source(&cells, found);
    let value = cells.need("billed", "true", found)?;
    let DeValue::Boolean(billed) = value.get_ref() else {
        found.refuse(value.span(), "`billed` must be true or false", "is neither", "write it without quotes");
        return None;
    };
    Some(Refused { billed: *billed, source })
}

fn source(cells: &Cells<'_>, found: &mut Found) -> Option<String> {
    cells.text("source", found).map(|text| text.value)
}

fn classes(cells: &Cells<'_>, found: &mut Found) -> Vec<StorageClass> {
    cells.texts("classes", found).iter().map(|class| StorageClass::new(&class.value)).collect()
}

/// The index of each price, and the span of its table.
type Index = BTreeMap<(Item, Option<StorageClass>, Option<Tier>), (usize, Span)>;

fn price(value: &Spanned<DeValue<'_>>, prices: &mut Vec<Price>, index: &mut Index, found: &mut Found) {
    let Some(cells) = Cells::open(value, "a price".to_owned(), PRICE, found) else { return };
    cells.need("of", "[\"put_tags\"]", found);
    let items = cells.choices("of", Item::NAMES, found);
    let classes = classes(&cells, found);
    let tiers: Vec<_> = cells.choices("tiers", TIERS, found).into_iter().map(|tier| tier.value).collect();
    let parts = cells.need("amount", "\"0.005\"", found).and_then(|value| amount(value, found));
    let unit = cells.need("per", "1000", found).and_then(|value| unit(value, found));
    let (source, mark) = (source(&cells, found), cells.choice("mark", Mark::NAMES, found));
    let (Some(parts), Some(unit)) = (parts, unit) else { return };
    // An invalid list is already reported. The price must not apply to everything instead.
    if (classes.is_empty() && cells.get("classes").is_some()) || (tiers.is_empty() && cells.get("tiers").is_some()) {
        return;
    }
    for item in &items {
        if !item.value.is_by(unit) {
            let help = "requests, jobs and objects are priced per 1, 10, 100 and so on, `retrieval` per \"GB\", \
                        `temporary_copy` and `storage` per \"GB-month\"";
            found.refuse(item.span.clone(), format!("this is not priced per {unit}"), "another unit", help);
        }
        for class in any_of(&classes) {
            for tier in any_of(&tiers) {
                let key = (item.value, class.clone(), tier);
                if let Some((_, first)) = index.get(&key) {
                    let problem = Problem::new("this is priced twice").label(cells.span.clone(), "here");
                    found.push(
                        problem.label(first.clone(), "and here").help("keep one price of each item, class and tier"),
                    );
                    return;
                }
                index.insert(key, (prices.len(), cells.span.clone()));
            }
        }
    }
    prices.push(Price { parts, unit, source, mark });
}

/// Returns each item, or a single `None`, which stands for any.
fn any_of<T: Clone>(some: &[T]) -> Vec<Option<T>> {
    if some.is_empty() { vec![None] } else { some.iter().cloned().map(Some).collect() }
}

fn limit(value: &Spanned<DeValue<'_>>, found: &mut Found) -> Option<RateLimit> {
    let cells = Cells::open(value, "a limit".to_owned(), LIMIT, found)?;
    let of = cells.choices("of", Item::NAMES, found);
    for item in of.iter().filter(|item| !item.value.is_request()) {
        found.refuse(item.span.clone(), "this is no request", "not sent", "limits count requests only");
    }
    let classes = classes(&cells, found);
    let per_second = cells.need("per_second", "1000", found).and_then(|value| rate("per_second", value, found));
    cells.need("within", "\"account\"", found);
    let within = cells.choice("within", Within::NAMES, found);
    let when = cells.text("when", found).map(|text| text.value);
    let source = source(&cells, found);
    let mark = cells.choice("mark", Mark::NAMES, found);
    let of = of.into_iter().map(|item| item.value).collect();
    Some(RateLimit { of, classes, per_second: per_second?, within: within?, when, source, mark })
}
