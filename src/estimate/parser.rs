//! The parser of price books: it reads TOML values with their spans one by one, so that every problem is reported.

use std::ops::Range;

use batchplan_store::printable::affects_terminal;
use globset::{GlobBuilder, GlobMatcher};
use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::price_book::PriceUnit;
use crate::diagnostics::FileProblem;
use crate::money::{PARTS_PER_UNIT, parse_parts};
use crate::plan::{nearest, quote_for_message};

/// A range of bytes in the book's text.
pub(super) type PriceBookSpan = Range<usize>;

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
pub(super) struct PriceBookProblems {
    problems: Vec<FileProblem>,
    suppressed: usize,
}

impl PriceBookProblems {
    /// Adds a problem; once there are too many, only counts it.
    pub(super) fn push(&mut self, problem: FileProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.suppressed += 1;
        }
    }

    /// Adds a problem at a span.
    pub(super) fn report(
        &mut self,
        span: PriceBookSpan,
        title: impl Into<String>,
        label: &str,
        help: impl Into<String>,
    ) {
        self.push(FileProblem::new(title).label(span, label).help(help));
    }

    /// Returns all problems, in file order.
    pub(super) fn finish(mut self) -> Vec<FileProblem> {
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
pub(super) struct PriceBookValue<T> {
    pub(super) value: T,
    pub(super) span: PriceBookSpan,
}

/// A table of the book whose keys are read.
pub(super) struct PriceBookTable<'a> {
    entries: &'a DeTable<'a>,
    /// The span of the table's header; for a table in an array, of the table itself.
    pub(super) span: PriceBookSpan,
    /// What messages call the table.
    pub(super) title: String,
}

impl<'a> PriceBookTable<'a> {
    /// Opens the top level of the file.
    pub(super) fn root(entries: &'a DeTable<'a>, keys: &[&str], found: &mut PriceBookProblems) -> Self {
        let cells = Self { entries, span: 0..0, title: "the price book".to_owned() };
        cells.report_unknown_keys(keys, found);
        cells
    }

    /// Opens a table that has these keys and no others; without `keys`, it may have any.
    pub(super) fn open(
        value: &'a Spanned<DeValue<'a>>,
        title: String,
        keys: &[&str],
        found: &mut PriceBookProblems,
    ) -> Option<Self> {
        let DeValue::Table(entries) = value.get_ref() else {
            found.report(
                value.span(),
                format!("{title} must be a table"),
                "not a table",
                "write its keys under a header",
            );
            return None;
        };
        let cells = Self { entries, span: value.span(), title };
        cells.report_unknown_keys(keys, found);
        Some(cells)
    }

    fn report_unknown_keys(&self, keys: &[&str], found: &mut PriceBookProblems) {
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if !keys.is_empty() && !keys.contains(&name) {
                let help = nearest(name, keys.iter().copied()).map_or_else(
                    || format!("valid keys: {}", keys.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let title = format!("unknown key `{}` in {}", quote_for_message(name), self.title);
                found.report(key.span(), title, "not known here", help);
            }
        }
    }

    /// Returns each key with its span and its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, PriceBookSpan, &'a Spanned<DeValue<'a>>)> {
        self.entries.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(name)
    }

    /// Returns the value of a required key, and reports it if it is missing.
    pub(super) fn required(
        &self,
        name: &str,
        example: &str,
        found: &mut PriceBookProblems,
    ) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = self.get(name);
        if value.is_none() {
            let title = format!("`{name}` is missing in {}", self.title);
            found.report(self.span.clone(), title, "needed here", format!("add `{name} = {example}`"));
        }
        value
    }

    /// Returns the tables of an array of tables; reports more than `most` of them, and returns none then.
    pub(super) fn tables(
        &self,
        name: &str,
        most: usize,
        found: &mut PriceBookProblems,
    ) -> Vec<&'a Spanned<DeValue<'a>>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let title = format!("`{name}` must be an array of tables");
            found.report(
                value.span(),
                title,
                "not an array of tables",
                format!("write each under its own [[...{name}]] header"),
            );
            return Vec::new();
        };
        if items.len() > most {
            let help = format!("at most {most} in one entry");
            found.report(value.span(), format!("too many `{name}` tables"), "too many", help);
            return Vec::new();
        }
        items.iter().collect()
    }

    /// Reads a text.
    pub(super) fn text(&self, name: &str, found: &mut PriceBookProblems) -> Option<PriceBookValue<String>> {
        self.get(name).and_then(|value| text(name, value, found))
    }

    /// Reads an array of texts; empty if the key is absent.
    pub(super) fn texts(&self, name: &str, found: &mut PriceBookProblems) -> Vec<PriceBookValue<String>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) if (1..=MAX_WORDS).contains(&items.len()) => {
                items.iter().filter_map(|item| text(name, item, found)).collect()
            }
            _ => {
                let help = format!("write 1 to {MAX_WORDS} of them, as in `{name} = [\"...\"]`");
                found.report(value.span(), format!("`{name}` must be an array of strings"), "not usable", help);
                Vec::new()
            }
        }
    }

    /// Reads one of a fixed set of names, and returns the value for it.
    pub(super) fn choice<T: Copy>(&self, name: &str, names: &[(&str, T)], found: &mut PriceBookProblems) -> Option<T> {
        self.text(name, found).and_then(|text| parse_choice(name, &text, names, found))
    }

    /// Reads an array of such names; empty if the key is absent.
    pub(super) fn choices<T: Copy>(
        &self,
        name: &str,
        names: &[(&str, T)],
        found: &mut PriceBookProblems,
    ) -> Vec<PriceBookValue<T>> {
        let words = self.texts(name, found);
        let chosen = |text: PriceBookValue<String>| {
            parse_choice(name, &text, names, found).map(|value| PriceBookValue { value, span: text.span })
        };
        words.into_iter().filter_map(chosen).collect()
    }

    /// Reads patterns, in which `*` matches any text.
    pub(super) fn globs(&self, name: &str, found: &mut PriceBookProblems) -> Vec<GlobMatcher> {
        let mut globs = Vec::new();
        for text in self.texts(name, found) {
            match GlobBuilder::new(&text.value).literal_separator(false).build() {
                Ok(glob) => globs.push(glob.compile_matcher()),
                Err(_) => found.report(
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

fn text(name: &str, value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<PriceBookValue<String>> {
    let DeValue::String(text) = value.get_ref() else {
        found.report(value.span(), format!("`{name}` must be a string"), "not a string", "write it in quotes");
        return None;
    };
    if text.trim().is_empty() || text.chars().count() > MAX_TEXT || text.chars().any(affects_terminal) {
        let help = format!("1 to {MAX_TEXT} characters, without line breaks and control characters");
        found.report(value.span(), format!("`{name}` is not a valid string"), "not allowed", help);
        return None;
    }
    Some(PriceBookValue { value: text.to_string(), span: value.span() })
}

fn parse_choice<T: Copy>(
    name: &str,
    text: &PriceBookValue<String>,
    names: &[(&str, T)],
    found: &mut PriceBookProblems,
) -> Option<T> {
    let chosen = names.iter().find(|(known, _)| *known == text.value);
    if chosen.is_none() {
        let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        let choice = format!("one of {}", known.join(", "));
        let help = nearest(&text.value, known)
            .map_or_else(|| choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
        let title = format!("`{name}` cannot be `{}`", quote_for_message(&text.value));
        found.report(text.span.clone(), title, "not a valid value", help);
    }
    chosen.map(|(_, value)| *value)
}

/// Reads a price: a plain decimal number, with or without quotes, exact in either case.
pub(super) fn parse_amount(value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<u128> {
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
        found.report(value.span(), "`amount` is not a price", "invalid amount", help);
        return None;
    };
    if parts > MAX_PRICE {
        let help = "the maximum is 1000000; check the currency";
        found.report(value.span(), "`amount` is too large", "more than 1000000", help);
        return None;
    }
    Some(parts)
}

/// Reads the unit of a price.
pub(super) fn parse_unit(value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<PriceUnit> {
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
        found.report(value.span(), "`per` is not a unit", "invalid unit", help);
    }
    unit
}

/// Reads a rate, from 1 to 10,000,000.
pub(super) fn parse_rate(name: &str, value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<u32> {
    let rate =
        parse_integer(value).and_then(|rate| u32::try_from(rate).ok()).filter(|rate| (1..=10_000_000).contains(rate));
    if rate.is_none() {
        found.report(value.span(), format!("`{name}` is out of range"), "not allowed", "from 1 to 10000000");
    }
    rate
}

fn parse_integer(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let DeValue::Integer(digits) = value.get_ref() else { return None };
    u64::from_str_radix(digits.as_str(), digits.radix()).ok()
}

/// Reads a date.
pub(super) fn parse_date(value: &Spanned<DeValue<'_>>, found: &mut PriceBookProblems) -> Option<Date> {
    let text = match value.get_ref() {
        DeValue::Datetime(date) => date.to_string(),
        DeValue::String(text) => text.to_string(),
        _ => String::new(),
    };
    let date = Some(text).filter(|text| text.len() == "2026-01-31".len()).and_then(|text| text.parse().ok());
    if date.is_none() {
        found.report(value.span(), "`dated` is not a date", "invalid date", "for example: `dated = 2026-01-31`");
    }
    date
}
