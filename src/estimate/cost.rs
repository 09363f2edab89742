//! Calculates the cost of a job: from counts and prices to lines, and from lines to totals.

use std::fmt;

use super::book::{Entry, Found, Item, Price, Unit};
use super::choose::Rates;
use super::workload::{Asked, RequestKind, Restored, Volume, Workload};
use crate::money::{Currency, Money};
use crate::object::{StorageClass, Tier};

/// A gigabyte as both services bill it, in bytes.
const GIGABYTE: u128 = 1 << 30;

/// A month as OSS bills it (<https://www.alibabacloud.com/help/en/oss/temporary-storage-fees>), in days. AWS counts the
/// hours of the current month.
const DAYS_A_MONTH: u128 = 30;

/// The quantity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The number of requests.
    Requests(u64),
    /// The number of objects.
    Objects(u64),
    /// The number of jobs.
    Jobs(u64),
    /// The number of bytes.
    Bytes(u128),
    /// Bytes that are stored for some days.
    Kept {
        /// The number of bytes.
        bytes: u128,
        /// The number of days.
        days: u32,
    },
}

/// The purpose of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The objects: this cost is the same if the managed service does the job.
    Objects,
    /// The program's own requests, for its listings, manifests and report.
    Own,
    /// The fee of the provider's managed service.
    Fee,
}

/// Why a line has no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// No prices are known for the store.
    NoBook,
    /// The price book has no price for it.
    NotInBook,
    /// The price depends on the storage class, which is unknown.
    ByClass {
        /// The cost with the cheapest class.
        least: Money,
        /// The cost with the most expensive class in the price book.
        most: Money,
    },
    /// The price is known, but the size is not.
    SizeUnknown,
    /// It is unknown whether rejected requests are billed.
    RefusedUnknown,
    /// The requests cannot be predicted.
    Unforeseen,
}

impl fmt::Display for Unpriced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBook => f.write_str("no prices are known for this store"),
            Self::NotInBook => f.write_str("the price book does not have its price"),
            Self::ByClass { least, most } => {
                write!(f, "the storage class is not known: by those in the price book, {least} to {most}")
            }
            Self::SizeUnknown => f.write_str("the sizes are not known"),
            Self::Unforeseen => f.write_str("which requests they need cannot be told"),
            Self::RefusedUnknown => f.write_str("whether refused requests are billed is not known"),
        }
    }
}

/// One item of an estimate, and its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// A description for people.
    pub what: String,
    /// The purpose of the line.
    pub part: Part,
    /// How much of the item there is.
    pub quantity: Quantity,
    /// The unit price, if the book has a single one.
    pub price: Option<Price>,
    /// The cost, or why it is unknown.
    pub amount: Result<Money, Unpriced>,
}

/// The sum of some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The sum of all known amounts; `None` if no prices are known.
    pub known: Option<Money>,
    /// The number of lines without an amount.
    pub unknown: usize,
}

impl Total {
    fn of<'a>(currency: Option<Currency>, lines: impl Iterator<Item = &'a Line>) -> Self {
        let mut total = Self { known: currency.map(Money::none), unknown: 0 };
        for line in lines {
            match (&line.amount, total.known) {
                // All amounts are in the currency of the entry.
                (Ok(amount), Some(known)) => total.known = known.plus(*amount),
                _ => total.unknown += 1,
            }
        }
        total
    }

    /// Returns whether every line has an amount.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.known.is_some() && self.unknown == 0
    }
}

/// Formats the total for people, in cents.
impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = if self.unknown == 1 { "1 line".to_owned() } else { format!("{} lines", self.unknown) };
        match (self.known, self.unknown) {
            (None, _) => f.write_str("not known"),
            (Some(known), 0) => f.write_str(&known.in_cents()),
            (Some(known), _) => match known.in_cents() {
                little if little.starts_with("less") => write!(f, "not known for {lines}, {little} for the others"),
                known => write!(f, "at least {known}, and {lines} whose price is not known"),
            },
        }
    }
}

/// The cost of the same job at the provider's managed service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The name of the service.
    pub service: String,
    /// The fees of the service. The requests to the objects are billed in addition, as in the estimate.
    pub fees: Vec<Line>,
    /// The sum of the fees and of all lines of [`Part::Objects`].
    pub total: Total,
}

/// The estimated cost of a job.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The prices that the estimate is based on.
    pub rates: Rates,
    /// All lines whose quantity is not zero.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub total: Total,
    /// The cost at the managed service, if the provider has one.
    pub managed: Option<Managed>,
    /// The cost of storing the report for one month, which is not in the total.
    pub report_a_month: Option<Line>,
}

impl Estimate {
    /// Returns the lines without an amount, each with the reason.
    pub fn unknown(&self) -> impl Iterator<Item = (&Line, &Unpriced)> {
        self.lines.iter().filter_map(|line| line.amount.as_ref().err().map(|why| (line, why)))
    }
}

/// Estimates the cost of a job with these prices.
#[must_use]
pub fn estimate(work: &Workload, rates: &Rates) -> Estimate {
    let pen = Pen { entry: rates.entry() };
    let currency = pen.entry.map(|entry| entry.currency);
    let mut lines: Vec<_> = work.requests.iter().map(|(asked, count)| pen.requests(asked, *count)).collect();
    lines.extend(work.refused.iter().map(|(asked, count)| pen.refused(asked, *count)));
    lines.extend(work.restored.iter().flat_map(|(place, volume)| pen.restored(place, *volume)));
    lines.push(Line {
        what: "objects of which nobody can tell".to_owned(),
        part: Part::Objects,
        quantity: Quantity::Objects(work.unforeseen),
        price: None,
        amount: Err(if pen.entry.is_some() { Unpriced::Unforeseen } else { Unpriced::NoBook }),
    });
    lines.extend(pen.own(work));
    lines.retain(|line| !line.quantity.is_nothing());
    let total = Total::of(currency, lines.iter());
    let managed = pen.entry.and_then(|entry| entry.managed.clone()).map(|service| {
        let fees = pen.fees(work);
        let objects = lines.iter().filter(|line| line.part == Part::Objects);
        Managed { service, total: Total::of(currency, fees.iter().chain(objects)), fees }
    });
    let kept = Quantity::Kept { bytes: work.own.report_bytes, days: 30 };
    let report = pen.own_line("the report, a month".to_owned(), Item::Storage, kept);
    let report_a_month = (work.own.report_bytes > 0).then_some(report);
    Estimate { rates: rates.clone(), lines, total, managed, report_a_month }
}

/// Builds lines with the prices of an entry, if there is one.
struct Pen<'a> {
    entry: Option<&'a Entry>,
}

impl Pen<'_> {
    fn requests(&self, (kind, class): &Asked, count: u64) -> Line {
        let (item, tier) = kind.item();
        let quantity = Quantity::Requests(count);
        self.line(format!("{kind}{}", of_class(class.as_ref())), Part::Objects, quantity, item, class.as_ref(), tier)
    }

    fn refused(&self, asked: &Asked, count: u64) -> Line {
        let mut line = self.requests(asked, count);
        line.what.push_str(", refused");
        let Some(entry) = self.entry else { return line };
        match entry.refused.as_ref().map(|refused| refused.billed) {
            Some(true) => {}
            Some(false) => line.amount = Ok(Money::none(entry.currency)),
            None => line.amount = Err(Unpriced::RefusedUnknown),
        }
        line
    }

    fn restored(&self, place: &Restored, volume: Volume) -> Vec<Line> {
        let Restored { class, tier, days } = place;
        let of = of_class(class.as_ref());
        let (bytes, days) = (volume.bytes, *days);
        let mut lines = Vec::new();
        for (what, item) in [("retrieval", Item::Retrieval), ("temporary copy", Item::TemporaryCopy)] {
            let tier_of = tier.filter(|_| item == Item::Retrieval);
            let named = tier_of.map(|tier| format!(", tier {}", tier.as_str())).unwrap_or_default();
            let quantity =
                if item == Item::Retrieval { Quantity::Bytes(bytes) } else { Quantity::Kept { bytes, days } };
            let line = |quantity, size| {
                let what = format!("{what}{of}{named}{size}");
                self.line(what, Part::Objects, quantity, item, class.as_ref(), tier_of)
            };
            lines.push(line(quantity, ""));
            let mut others = line(Quantity::Objects(volume.unsized_objects), ", sizes not known");
            // If it is free, the size does not matter. If there is no price, that is the reason to report.
            if others.price.as_ref().is_some_and(|price| price.parts > 0) || is_by_class(&others) {
                others.amount = Err(Unpriced::SizeUnknown);
            }
            lines.push(others);
        }
        lines
    }

    fn own(&self, work: &Workload) -> Vec<Line> {
        let own = &work.own;
        let requests = |kind: RequestKind, what: &str, count| {
            self.own_line(format!("{kind}, {what}"), kind.item().0, Quantity::Requests(count))
        };
        // The class of these files is unknown. It is assumed to be the one that the book names, and the line says so.
        let class = of_class(self.entry.and_then(|entry| entry.own_class.as_ref()));
        vec![
            requests(RequestKind::List, "listings", own.lists),
            requests(RequestKind::GetObject, &format!("manifests{class}"), own.reads),
            requests(RequestKind::PutObject, &format!("the report{class}"), own.uploads),
        ]
    }

    /// Builds a line for the program's own files, with the class that they are assumed to have.
    fn own_line(&self, what: String, item: Item, quantity: Quantity) -> Line {
        let class = self.entry.and_then(|entry| entry.own_class.as_ref());
        self.line(what, Part::Own, quantity, item, class, None)
    }

    /// Builds the lines for the managed service, which runs one operation per job.
    fn fees(&self, work: &Workload) -> Vec<Line> {
        let jobs = u64::from(work.operations.max(1));
        let objects = work.objects.saturating_mul(jobs);
        vec![
            self.line("jobs".to_owned(), Part::Fee, Quantity::Jobs(jobs), Item::ManagedJob, None, None),
            self.line("objects".to_owned(), Part::Fee, Quantity::Objects(objects), Item::ManagedObject, None, None),
        ]
    }

    fn line(
        &self,
        what: String,
        part: Part,
        quantity: Quantity,
        item: Item,
        class: Option<&StorageClass>,
        tier: Option<Tier>,
    ) -> Line {
        let Some(entry) = self.entry else {
            return Line { what, part, quantity, price: None, amount: Err(Unpriced::NoBook) };
        };
        let money = |price: &Price| Money::new(price.times(quantity), entry.currency);
        let (price, amount) = match entry.find(item, class, tier) {
            Found::Price(price) => (Some(price.clone()), Ok(money(price))),
            Found::Between(least, most) => (None, Err(Unpriced::ByClass { least: money(least), most: money(most) })),
            Found::Nothing => (None, Err(Unpriced::NotInBook)),
        };
        Line { what, part, quantity, price, amount }
    }
}

fn of_class(class: Option<&StorageClass>) -> String {
    class.map(|class| format!(", class {}", crate::plan::shown(class.as_str()))).unwrap_or_default()
}

fn is_by_class(line: &Line) -> bool {
    matches!(line.amount, Err(Unpriced::ByClass { .. }))
}

impl Quantity {
    fn is_nothing(self) -> bool {
        match self {
            Self::Requests(count) | Self::Objects(count) | Self::Jobs(count) => count == 0,
            Self::Bytes(bytes) | Self::Kept { bytes, .. } => bytes == 0,
        }
    }
}

impl Price {
    /// Returns the unit price as money.
    #[must_use]
    pub fn amount(&self, currency: Currency) -> Money {
        Money::new(self.parts, currency)
    }

    /// Returns the price of a quantity, in trillionths. Counts are exact, because the price of each is a whole number
    /// of trillionths. Bytes are rounded once, to the nearest.
    fn times(&self, quantity: Quantity) -> u128 {
        match (quantity, self.unit) {
            (Quantity::Requests(count) | Quantity::Objects(count) | Quantity::Jobs(count), Unit::Each(each)) => {
                (self.parts / u128::from(each.max(1))).saturating_mul(u128::from(count))
            }
            (Quantity::Bytes(bytes), Unit::Gigabyte) => share(bytes, GIGABYTE, self.parts),
            (Quantity::Kept { bytes, days }, Unit::GigabyteMonth) => {
                share(bytes.saturating_mul(u128::from(days)), GIGABYTE * DAYS_A_MONTH, self.parts)
            }
            // A price book has no other pairs of item and unit; the caller handles objects of unknown size.
            _ => 0,
        }
    }
}

/// Returns `of` times `amount / unit`, rounded to the nearest. Saturates if a product is too large.
fn share(amount: u128, unit: u128, of: u128) -> u128 {
    let (whole, rest) = (amount / unit, amount % unit);
    // The rest is below 2^35 and a price below 2^60, so their product cannot overflow.
    whole.saturating_mul(of).saturating_add((rest * of + unit / 2) / unit)
}
