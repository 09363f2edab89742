//! Checks the estimated cost of a job against its limit.

use super::cost::CostEstimate;
use super::lookup::{NoPricesError, StorePrices};
use super::price_book::PriceBookOrigin;
use crate::money::{Currency, Money};

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
            Self::Above(refusal) | Self::Undetermined(refusal) => Some(refusal),
        }
    }
}

/// Why a job is refused because of its cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostLimitError {
    /// The job costs too much.
    #[error("the job would cost {}{cost}, more than max_cost ({max})", if *whole { "" } else { "at least " })]
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
    const NAMED: usize = 3;
    let named = unknown[..unknown.len().min(NAMED)].join("; ");
    match unknown.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
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
