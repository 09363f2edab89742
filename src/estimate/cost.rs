//! From counts and prices to lines, and from lines to sums.

use std::fmt;

use super::book::{Entry, Found, Item, Price, Unit};
use super::choose::Rates;
use super::workload::{Asked, RequestKind, Restored, Volume, Workload};
use crate::money::{Currency, Money};
use crate::object::{StorageClass, Tier};

/// A gigabyte as both services bill it.
const GIGABYTE: u128 = 1 << 30;

/// A month as OSS bills it (<https://www.alibabacloud.com/help/en/oss/temporary-storage-fees>); AWS counts the hours of
/// the month that it is.
const DAYS_A_MONTH: u128 = 30;

/// How much of something there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Requests.
    Requests(u64),
    /// Objects.
    Objects(u64),
    /// Jobs.
    Jobs(u64),
    /// Bytes.
    Bytes(u128),
    /// Bytes, kept for so many days.
    Kept {
        /// How many.
        bytes: u128,
        /// For how long.
        days: u32,
    },
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The objects: whoever does the job pays for it.
    Objects,
    /// What the program needs for itself: its listings, manifests and report.
    Own,
    /// The fee of the provider's managed service.
    Fee,
}

/// Why a line has no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// No prices are known for the store.
    NoBook,
    /// The book does not have it.
    NotInBook,
    /// It depends on the storage class, which is not known.
    ByClass {
        /// What it costs at least.
        least: Money,
        /// What it costs at most, of the classes that the book has.
        most: Money,
    },
    /// The book has the price, and the size is not known.
    SizeUnknown,
    /// Whether refused requests are billed is not known.
    RefusedUnknown,
    /// Nobody can tell which requests there will be.
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

/// One thing that is done or held, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is, for people.
    pub what: String,
    /// What it is for.
    pub part: Part,
    /// How much of it there is.
    pub quantity: Quantity,
    /// Its unit price, where the book has one.
    pub price: Option<Price>,
    /// What it costs, or why that is not known.
    pub amount: Result<Money, Unpriced>,
}

/// A sum of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The sum of all that is known; `None` where no prices are known.
    pub known: Option<Money>,
    /// How many lines have no amount.
    pub unknown: usize,
}

impl Total {
    fn of<'a>(currency: Option<Currency>, lines: impl Iterator<Item = &'a Line>) -> Self {
        let mut total = Self { known: currency.map(Money::none), unknown: 0 };
        for line in lines {
            match (&line.amount, total.known) {
                // All amounts are of the entry's currency.
                (Ok(amount), Some(known)) => total.known = known.plus(*amount),
                _ => total.unknown += 1,
            }
        }
        total
    }

    /// Whether it is the whole sum.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.known.is_some() && self.unknown == 0
    }
}

/// For people, in cents.
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

/// What the provider's managed service asks for the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// What it is called.
    pub service: String,
    /// Its own fees. What is done to the objects is billed beside them as in the estimate.
    pub fees: Vec<Line>,
    /// The fees and all lines of [`Part::Objects`].
    pub total: Total,
}

/// What a job costs.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// By which prices.
    pub rates: Rates,
    /// Everything that is done and held.
    pub lines: Vec<Line>,
    /// Their sum.
    pub total: Total,
    /// The managed service's price, where the provider has such a service.
    pub managed: Option<Managed>,
    /// What the report costs each month that it is kept: not in the sum.
    pub report_a_month: Option<Line>,
}

impl Estimate {
    /// The lines without an amount.
    pub fn unknown(&self) -> impl Iterator<Item = (&Line, &Unpriced)> {
        self.lines.iter().filter_map(|line| line.amount.as_ref().err().map(|why| (line, why)))
    }
}

/// What a job costs by these prices.
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

/// Writes lines by the prices of an entry, if there is one.
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
            // Where it is free, the size does not matter; where there is no price, that is what is to be said.
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
        // Whose class nobody knows is taken to be of that which the book says, and that is told.
        let class = of_class(self.entry.and_then(|entry| entry.own_class.as_ref()));
        vec![
            requests(RequestKind::List, "listings", own.lists),
            requests(RequestKind::GetObject, &format!("manifests{class}"), own.reads),
            requests(RequestKind::PutObject, &format!("the report{class}"), own.uploads),
        ]
    }

    /// A line about the program's own files, of the class that they are taken to have.
    fn own_line(&self, what: String, item: Item, quantity: Quantity) -> Line {
        let class = self.entry.and_then(|entry| entry.own_class.as_ref());
        self.line(what, Part::Own, quantity, item, class, None)
    }

    /// A managed service takes one operation a job.
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
    /// The price itself, as money of its book's currency.
    #[must_use]
    pub fn amount(&self, currency: Currency) -> Money {
        Money::new(self.parts, currency)
    }

    /// What so much costs, in trillionths. Exact for what is counted, as a price is a whole number of trillionths for
    /// each; bytes are rounded once, to the nearest.
    fn times(&self, quantity: Quantity) -> u128 {
        match (quantity, self.unit) {
            (Quantity::Requests(count) | Quantity::Objects(count) | Quantity::Jobs(count), Unit::Each(each)) => {
                (self.parts / u128::from(each.max(1))).saturating_mul(u128::from(count))
            }
            (Quantity::Bytes(bytes), Unit::Gigabyte) => share(bytes, GIGABYTE, self.parts),
            (Quantity::Kept { bytes, days }, Unit::GigabyteMonth) => {
                share(bytes.saturating_mul(u128::from(days)), GIGABYTE * DAYS_A_MONTH, self.parts)
            }
            // A price book pairs no other item and unit; objects of unknown sizes are told apart before.
            _ => 0,
        }
    }
}

/// `of` times `amount / unit`, rounded to the nearest. What is more than any number can hold stays at the most.
fn share(amount: u128, unit: u128, of: u128) -> u128 {
    let (whole, rest) = (amount / unit, amount % unit);
    // The rest is below 2^35 and a price below 2^60, so that their product is far from the end.
    whole.saturating_mul(of).saturating_add((rest * of + unit / 2) / unit)
}
