//! Checks the estimated cost of a job against its limit.

use super::book::Origin;
use super::choose::{NoPrices, Rates};
use super::cost::Estimate;
use crate::money::{Currency, Money};

/// The result of comparing an estimate with `max_cost`.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The cost does not exceed the limit.
    Within,
    /// The cost exceeds the limit, whatever the unknown lines cost.
    Above(CostRefusal),
    /// The cost cannot be compared with the limit, so the job is refused as well.
    NotKnown(CostRefusal),
}

impl Verdict {
    /// Returns why the job is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<&CostRefusal> {
        match self {
            Self::Within => None,
            Self::Above(refusal) | Self::NotKnown(refusal) => Some(refusal),
        }
    }
}

/// Why a job is refused because of its cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostRefusal {
    /// The job costs too much.
    #[error("max_cost is {max}, and the job would cost {}{cost}", if *whole { "" } else { "at least " })]
    Above {
        /// The maximum cost.
        max: Money,
        /// The known cost.
        cost: Money,
        /// Whether the known cost is the whole cost.
        whole: bool,
    },
    /// A part of the cost is unknown.
    #[error("max_cost is {max}, and it is not known what the job costs: {}", name_some(unknown))]
    Unknown {
        /// The maximum cost.
        max: Money,
        /// The lines without an amount, each with the reason.
        unknown: Vec<String>,
    },
    /// The prices are in another currency.
    #[error("max_cost is {max}, and the prices of `{entry}` are in {currency}")]
    OtherCurrency {
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
    #[error("max_cost is {max}, and {why}")]
    NoPrices {
        /// The maximum cost.
        max: Money,
        /// Why there are no prices.
        why: NoPrices,
    },
}

impl CostRefusal {
    /// Returns how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Above { .. } => {
                "nothing was changed; raise `max_cost` in the plan's [limits] if it is right, or name fewer objects"
                    .to_owned()
            }
            Self::Unknown { .. } => "nothing was changed; add the price to a price book of your own (`file` in the \
                                     plan's [prices], or --prices FILE), take a manifest that knows classes and sizes, \
                                     or remove `max_cost`"
                .to_owned(),
            Self::OtherCurrency { currency, own, .. } => {
                let other = if *own { "" } else { ", or take a price book of your own in its currency" };
                format!("nothing was changed; write `max_cost` in {currency}{other}")
            }
            Self::NoPrices { why, .. } => format!("nothing was changed; {}; or remove `max_cost`", why.help()),
        }
    }
}

/// Returns the first texts, and the number of the others.
fn name_some(unknown: &[String]) -> String {
    const NAMED: usize = 3;
    let named = unknown[..unknown.len().min(NAMED)].join("; ");
    match unknown.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// Compares the cost of a job with its maximum. Only a total that is completely known can be within it.
pub fn exceeds(estimate: &Estimate, max: &Money) -> Verdict {
    let entry = match &estimate.rates {
        Rates::Known(entry) => entry,
        Rates::Unknown(why) => return Verdict::NotKnown(CostRefusal::NoPrices { max: *max, why: why.clone() }),
    };
    let Some(cost) = estimate.total.known.filter(|cost| cost.currency() == max.currency()) else {
        return Verdict::NotKnown(CostRefusal::OtherCurrency {
            max: *max,
            entry: entry.name.clone(),
            currency: entry.currency,
            own: entry.origin != Origin::Shipped,
        });
    };
    if cost.parts() > max.parts() {
        return Verdict::Above(CostRefusal::Above { max: *max, cost, whole: estimate.total.is_whole() });
    }
    if estimate.total.is_whole() {
        return Verdict::Within;
    }
    let unknown = estimate.unknown().map(|(line, why)| format!("{}: {why}", line.what)).collect();
    Verdict::NotKnown(CostRefusal::Unknown { max: *max, unknown })
}
