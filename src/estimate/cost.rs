//! Calculates the cost of a job, from counts and prices to lines and from lines to totals, and checks it against the
//! limit of the plan.

use std::fmt;

use batchplan_store::object::{RestoreTier, StorageClass};
use batchplan_store::object_request::RequestKind;

use super::price_book::{BillableItem, PriceBookEntry, PriceBookOrigin, PriceLookup, PriceUnit, UnitPrice};
use super::price_selection::{NoPricesError, StorePrices};
use super::workload::{JobWorkload, RequestGroup, RestoreGroup, RestoreVolume};
use crate::money::{Currency, Money};

/// A gigabyte as both services bill it, in bytes.
const GIGABYTE: u128 = 1 << 30;

/// A month as OSS bills it (<https://www.alibabacloud.com/help/en/oss/temporary-storage-fees>), in days. AWS counts the
/// hours of the current month.
const DAYS_A_MONTH: u128 = 30;

/// The quantity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BilledQuantity {
    /// The number of requests.
    Requests(u64),
    /// The number of objects.
    Objects(u64),
    /// The number of jobs.
    Jobs(u64),
    /// The number of bytes.
    Bytes(u128),
    /// Bytes that are stored for some days.
    Stored {
        /// The number of bytes.
        bytes: u128,
        /// The number of days.
        days: u32,
    },
}

/// The purpose of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostCategory {
    /// The objects: this cost is the same if the managed service does the job.
    Objects,
    /// The program's own requests, for its listings, manifests and report.
    Overhead,
    /// The fee of the provider's managed service.
    Fee,
}

/// Why a line has no amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnpricedReason {
    /// No prices are known for the store.
    NoPrices,
    /// The price book has no price for it.
    NotInBook,
    /// The price depends on the storage class, which is unknown.
    ClassUnknown {
        /// The cost with the cheapest class.
        min: Money,
        /// The cost with the most expensive class in the price book.
        max: Money,
    },
    /// The price is known, but the size is not.
    SizeUnknown,
    /// It is unknown whether rejected requests are billed.
    RejectionBillingUnknown,
    /// The requests cannot be predicted.
    Unpredictable,
}

impl fmt::Display for UnpricedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrices => f.write_str("no prices are known for this store"),
            Self::NotInBook => f.write_str("no price in the price book"),
            Self::ClassUnknown { min, max } => {
                write!(f, "the storage class is unknown ({min} to {max})")
            }
            Self::SizeUnknown => f.write_str("the sizes are unknown"),
            Self::Unpredictable => f.write_str("their requests cannot be predicted"),
            Self::RejectionBillingUnknown => f.write_str("it is unknown whether refused requests are billed"),
        }
    }
}

/// One item of an estimate, and its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostLine {
    /// A description for people.
    pub description: String,
    /// The purpose of the line.
    pub category: CostCategory,
    /// How much of the item there is.
    pub quantity: BilledQuantity,
    /// The unit price, if the book has a single one.
    pub price: Option<UnitPrice>,
    /// The cost, or why it is unknown.
    pub amount: Result<Money, UnpricedReason>,
}

/// The sum of some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostTotal {
    /// The sum of all known amounts; `None` if no prices are known.
    pub known: Option<Money>,
    /// The number of lines without an amount.
    pub unknown_lines: usize,
}

impl CostTotal {
    fn of<'a>(currency: Option<Currency>, lines: impl Iterator<Item = &'a CostLine>) -> Self {
        let mut total = Self { known: currency.map(Money::zero), unknown_lines: 0 };
        for line in lines {
            match (&line.amount, total.known) {
                // All amounts are in the currency of the entry.
                (Ok(amount), Some(known)) => total.known = known.plus(*amount),
                _ => total.unknown_lines += 1,
            }
        }
        total
    }

    /// Returns whether every line has an amount.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.known.is_some() && self.unknown_lines == 0
    }
}

/// Formats the total for people, in cents.
impl fmt::Display for CostTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = if self.unknown_lines == 1 { "1 line".to_owned() } else { format!("{} lines", self.unknown_lines) };
        match (self.known, self.unknown_lines) {
            (None, _) => f.write_str("unknown"),
            (Some(known), 0) => f.write_str(&known.format_rounded()),
            (Some(known), _) => match known.format_rounded() {
                little if little.starts_with("less") => write!(f, "unknown for {lines}, {little} for the others"),
                known => write!(f, "at least {known}, plus {lines} of unknown price"),
            },
        }
    }
}

/// The cost of the same job at the provider's managed service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedServiceCost {
    /// The name of the service.
    pub service: String,
    /// The fees of the service. The requests to the objects are billed in addition, as in the estimate.
    pub fees: Vec<CostLine>,
    /// The sum of the fees and of all lines of [`CostCategory::Objects`].
    pub total: CostTotal,
}

/// The estimated cost of a job.
#[derive(Clone, Debug)]
pub struct CostEstimate {
    /// The prices that the estimate is based on.
    pub prices: StorePrices,
    /// All lines whose quantity is not zero.
    pub lines: Vec<CostLine>,
    /// The sum of the lines.
    pub total: CostTotal,
    /// The cost at the managed service, if the provider has one.
    pub managed_service: Option<ManagedServiceCost>,
    /// The cost of storing the report for one month, which is not in the total.
    pub report_per_month: Option<CostLine>,
}

impl CostEstimate {
    /// Returns the lines without an amount, each with the reason.
    pub fn unknown_lines(&self) -> impl Iterator<Item = (&CostLine, &UnpricedReason)> {
        self.lines.iter().filter_map(|line| line.amount.as_ref().err().map(|why| (line, why)))
    }
}

/// Estimates the cost of a job with these prices.
#[must_use]
pub fn estimate(work: &JobWorkload, prices: &StorePrices) -> CostEstimate {
    let builder = CostLineBuilder { entry: prices.entry() };
    let currency = builder.entry.map(|entry| entry.currency);
    let mut lines: Vec<_> =
        work.requests.iter().map(|(request, count)| builder.request_line(request, *count)).collect();
    lines.extend(work.rejected.iter().map(|(request, count)| builder.rejected_line(request, *count)));
    lines.extend(work.restored.iter().flat_map(|(group, volume)| builder.restore_lines(group, *volume)));
    lines.push(CostLine {
        description: "objects that cannot be predicted".to_owned(),
        category: CostCategory::Objects,
        quantity: BilledQuantity::Objects(work.unpredictable_objects),
        price: None,
        amount: Err(if builder.entry.is_some() { UnpricedReason::Unpredictable } else { UnpricedReason::NoPrices }),
    });
    lines.extend(builder.overhead_lines(work));
    lines.retain(|line| !line.quantity.is_zero());
    let total = CostTotal::of(currency, lines.iter());
    let managed_service = builder.entry.and_then(|entry| entry.managed_service.clone()).map(|service| {
        let fees = builder.managed_service_fees(work);
        let objects = lines.iter().filter(|line| line.category == CostCategory::Objects);
        ManagedServiceCost { service, total: CostTotal::of(currency, fees.iter().chain(objects)), fees }
    });
    let stored = BilledQuantity::Stored { bytes: work.overhead.report_bytes, days: 30 };
    let report = builder.overhead_line("report storage, per month".to_owned(), BillableItem::Storage, stored);
    let report_per_month = (work.overhead.report_bytes > 0).then_some(report);
    CostEstimate { prices: prices.clone(), lines, total, managed_service, report_per_month }
}

/// Builds lines with the prices of an entry, if there is one.
struct CostLineBuilder<'a> {
    entry: Option<&'a PriceBookEntry>,
}

impl CostLineBuilder<'_> {
    fn request_line(&self, (kind, class): &RequestGroup, count: u64) -> CostLine {
        let (item, tier) = kind.item();
        let quantity = BilledQuantity::Requests(count);
        self.line(
            format!("{kind}{}", class_suffix(class.as_ref())),
            CostCategory::Objects,
            quantity,
            item,
            class.as_ref(),
            tier,
        )
    }

    fn rejected_line(&self, request: &RequestGroup, count: u64) -> CostLine {
        let mut line = self.request_line(request, count);
        line.description.push_str(", refused");
        let Some(entry) = self.entry else { return line };
        match entry.rejected_requests.as_ref().map(|refused| refused.billed) {
            Some(true) => {}
            Some(false) => line.amount = Ok(Money::zero(entry.currency)),
            None => line.amount = Err(UnpricedReason::RejectionBillingUnknown),
        }
        line
    }

    fn restore_lines(&self, group: &RestoreGroup, volume: RestoreVolume) -> Vec<CostLine> {
        let RestoreGroup { class, tier, days } = group;
        let class_text = class_suffix(class.as_ref());
        let bytes = volume.bytes;
        let retrieval = ("retrieval", BillableItem::Retrieval, BilledQuantity::Bytes(bytes));
        let copy =
            days.map(|days| ("temporary copy", BillableItem::TemporaryCopy, BilledQuantity::Stored { bytes, days }));
        let mut lines = Vec::new();
        for (what, item, quantity) in std::iter::once(retrieval).chain(copy) {
            let tier_of = tier.filter(|_| item == BillableItem::Retrieval);
            let tier_text = tier_of.map(|tier| format!(", tier {}", tier.as_str())).unwrap_or_default();
            let line = |quantity, size| {
                let description = format!("{what}{class_text}{tier_text}{size}");
                self.line(description, CostCategory::Objects, quantity, item, class.as_ref(), tier_of)
            };
            lines.push(line(quantity, ""));
            let mut unsized_line = line(BilledQuantity::Objects(volume.unsized_objects), ", sizes unknown");
            // If it is free, the size does not matter. If there is no price, that is the reason to report.
            if unsized_line.price.as_ref().is_some_and(|price| price.parts > 0) || is_class_unknown(&unsized_line) {
                unsized_line.amount = Err(UnpricedReason::SizeUnknown);
            }
            lines.push(unsized_line);
        }
        lines
    }

    fn overhead_lines(&self, work: &JobWorkload) -> Vec<CostLine> {
        let overhead = &work.overhead;
        let requests = |kind: RequestKind, what: &str, count| {
            let description = format!("{}, {what}", kind.api_name());
            self.overhead_line(description, BillableItem::Request(kind), BilledQuantity::Requests(count))
        };
        // The class of these files is unknown. It is assumed to be the one that the book names, and the line says so.
        let class = class_suffix(self.entry.and_then(|entry| entry.own_class.as_ref()));
        vec![
            requests(RequestKind::List, "listings", overhead.lists),
            requests(RequestKind::GetObject, &format!("manifests{class}"), overhead.reads),
            requests(RequestKind::PutObject, &format!("the report{class}"), overhead.uploads),
        ]
    }

    /// Builds a line for the program's own files, with the class that they are assumed to have.
    fn overhead_line(&self, description: String, item: BillableItem, quantity: BilledQuantity) -> CostLine {
        let class = self.entry.and_then(|entry| entry.own_class.as_ref());
        self.line(description, CostCategory::Overhead, quantity, item, class, None)
    }

    /// Builds the lines for the managed service, which runs one operation per job.
    fn managed_service_fees(&self, work: &JobWorkload) -> Vec<CostLine> {
        let jobs = u64::from(work.operations.max(1));
        let objects = work.objects.saturating_mul(jobs);
        vec![
            self.line(
                "jobs".to_owned(),
                CostCategory::Fee,
                BilledQuantity::Jobs(jobs),
                BillableItem::ManagedJob,
                None,
                None,
            ),
            self.line(
                "objects".to_owned(),
                CostCategory::Fee,
                BilledQuantity::Objects(objects),
                BillableItem::ManagedObject,
                None,
                None,
            ),
        ]
    }

    fn line(
        &self,
        description: String,
        category: CostCategory,
        quantity: BilledQuantity,
        item: BillableItem,
        class: Option<&StorageClass>,
        tier: Option<RestoreTier>,
    ) -> CostLine {
        let Some(entry) = self.entry else {
            return CostLine { description, category, quantity, price: None, amount: Err(UnpricedReason::NoPrices) };
        };
        let money = |price: &UnitPrice| Money::new(price.cost_of(quantity), entry.currency);
        let (price, amount) = match entry.price_of(item, class, tier) {
            PriceLookup::Price(price) => (Some(price.clone()), Ok(money(price))),
            PriceLookup::Range(cheapest, dearest) => {
                (None, Err(UnpricedReason::ClassUnknown { min: money(cheapest), max: money(dearest) }))
            }
            PriceLookup::Missing => (None, Err(UnpricedReason::NotInBook)),
        };
        CostLine { description, category, quantity, price, amount }
    }
}

fn class_suffix(class: Option<&StorageClass>) -> String {
    class.map(|class| format!(", class {}", crate::toml_reader::quote_for_message(class.as_str()))).unwrap_or_default()
}

fn is_class_unknown(line: &CostLine) -> bool {
    matches!(line.amount, Err(UnpricedReason::ClassUnknown { .. }))
}

impl BilledQuantity {
    fn is_zero(self) -> bool {
        match self {
            Self::Requests(count) | Self::Objects(count) | Self::Jobs(count) => count == 0,
            Self::Bytes(bytes) | Self::Stored { bytes, .. } => bytes == 0,
        }
    }
}

impl UnitPrice {
    /// Returns the unit price as money.
    #[must_use]
    pub fn amount(&self, currency: Currency) -> Money {
        Money::new(self.parts, currency)
    }

    /// Returns the price of a quantity, in trillionths. Counts are exact, because the price of each is a whole number
    /// of trillionths. Bytes are rounded once, to the nearest.
    fn cost_of(&self, quantity: BilledQuantity) -> u128 {
        match (quantity, self.unit()) {
            (
                BilledQuantity::Requests(count) | BilledQuantity::Objects(count) | BilledQuantity::Jobs(count),
                PriceUnit::Each(each),
            ) => (self.parts / u128::from(each.max(1))).saturating_mul(u128::from(count)),
            (BilledQuantity::Bytes(bytes), PriceUnit::Gigabyte) => prorate(bytes, GIGABYTE, self.parts),
            (BilledQuantity::Stored { bytes, days }, PriceUnit::GigabyteMonth) => {
                prorate(bytes.saturating_mul(u128::from(days)), GIGABYTE * DAYS_A_MONTH, self.parts)
            }
            // A price book has no other pairs of item and unit; the caller handles objects of unknown size.
            _ => 0,
        }
    }
}

/// Returns the cost of an amount at this price per unit, rounded to the nearest. Saturates if a product is too large.
fn prorate(amount: u128, unit: u128, price: u128) -> u128 {
    let (whole, rest) = (amount / unit, amount % unit);
    // The rest is below 2^35 and a price below 2^60, so their product cannot overflow.
    whole.saturating_mul(price).saturating_add((rest * price + unit / 2) / unit)
}

/// The result of comparing an estimate with `max_cost`.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CostLimitCheck {
    /// The cost does not exceed the limit.
    Within,
    /// The cost exceeds the limit, whatever the unknown lines cost.
    Above(CostLimitError),
    /// The cost cannot be compared with the limit, so the job is refused as well.
    Undetermined(CostLimitError),
}

impl CostLimitCheck {
    /// Returns why the job is refused, if it is.
    #[must_use]
    pub fn error(&self) -> Option<&CostLimitError> {
        match self {
            Self::Within => None,
            Self::Above(error) | Self::Undetermined(error) => Some(error),
        }
    }
}

/// Why a job is refused because of its cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostLimitError {
    /// The job costs too much.
    #[error(
        "the job would cost {}{}, more than max_cost ({max})",
        if *whole { "" } else { "at least " },
        cost.format_rounded_up()
    )]
    Above {
        /// The maximum cost.
        max: Money,
        /// The known cost.
        cost: Money,
        /// Whether the known cost is the whole cost.
        whole: bool,
    },
    /// A part of the cost is unknown.
    #[error("cannot check max_cost ({max}): part of the cost is unknown: {}", summarize(unknown))]
    Unknown {
        /// The maximum cost.
        max: Money,
        /// The lines without an amount, each with the reason.
        unknown: Vec<String>,
    },
    /// The prices are in another currency.
    #[error("cannot check max_cost ({max}): the prices of `{entry}` are in {currency}")]
    CurrencyMismatch {
        /// The maximum cost.
        max: Money,
        /// The name of the price book entry.
        entry: String,
        /// The currency of its prices.
        currency: Currency,
        /// Whether the entry is in the user's own price book.
        own: bool,
    },
    /// There are no prices.
    #[error("cannot check max_cost ({max}): {why}")]
    NoPrices {
        /// The maximum cost.
        max: Money,
        /// Why there are no prices.
        why: NoPricesError,
    },
}

impl CostLimitError {
    /// Returns how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Above { .. } => {
                "nothing was changed; raise `max_cost` in the plan's [limits], or select fewer objects".to_owned()
            }
            Self::Unknown { .. } => "nothing was changed; add the price to your own price book (`file` in the plan's \
                                     [prices], or --prices FILE), use a manifest with storage classes and sizes, or \
                                     remove `max_cost`"
                .to_owned(),
            Self::CurrencyMismatch { currency, own, .. } => {
                let other = if *own { "" } else { ", or use your own price book" };
                format!("nothing was changed; set `max_cost` in {currency}{other}")
            }
            Self::NoPrices { why, .. } => format!("nothing was changed; {}; or remove `max_cost`", why.help()),
        }
    }
}

/// Returns the first texts, and the number of the others.
fn summarize(unknown: &[String]) -> String {
    const MAX_SHOWN: usize = 3;
    let shown = unknown[..unknown.len().min(MAX_SHOWN)].join("; ");
    match unknown.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Compares the cost of a job with its maximum. Only a total that is completely known can be within it.
pub fn check_cost_limit(estimate: &CostEstimate, max: &Money) -> CostLimitCheck {
    let entry = match &estimate.prices {
        StorePrices::Known(entry) => entry,
        StorePrices::Unknown(why) => {
            return CostLimitCheck::Undetermined(CostLimitError::NoPrices { max: *max, why: why.clone() });
        }
    };
    let Some(cost) = estimate.total.known.filter(|cost| cost.currency() == max.currency()) else {
        return CostLimitCheck::Undetermined(CostLimitError::CurrencyMismatch {
            max: *max,
            entry: entry.name.clone(),
            currency: entry.currency,
            own: entry.origin != PriceBookOrigin::BuiltIn,
        });
    };
    if cost.parts() > max.parts() {
        return CostLimitCheck::Above(CostLimitError::Above { max: *max, cost, whole: estimate.total.is_complete() });
    }
    if estimate.total.is_complete() {
        return CostLimitCheck::Within;
    }
    let unknown = estimate.unknown_lines().map(|(line, why)| format!("{}: {why}", line.description)).collect();
    CostLimitCheck::Undetermined(CostLimitError::Unknown { max: *max, unknown })
}
