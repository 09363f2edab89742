//! Whether a job may cost what it costs.

use super::book::Origin;
use super::choose::{NoPrices, Rates};
use super::cost::Estimate;
use crate::money::{Currency, Money};

/// How an estimate compares with `max_cost`.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not above it.
    Within,
    /// It is above it, whatever is not known.
    Above(CostRefusal),
    /// Nobody can tell, and so the job is refused as well.
    NotKnown(CostRefusal),
}

impl Verdict {
    /// Why the job is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<&CostRefusal> {
        match self {
            Self::Within => None,
            Self::Above(refusal) | Self::NotKnown(refusal) => Some(refusal),
        }
    }
}

/// Why a job is refused for what it costs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostRefusal {
    /// It costs too much.
    #[error("max_cost is {max}, and the job would cost {}{cost}", if *whole { "" } else { "at least " })]
    Above {
        /// The most that it may cost.
        max: Money,
        /// What it costs, as far as that is known.
        cost: Money,
        /// Whether that is all.
        whole: bool,
    },
    /// A part of what it costs is not known.
    #[error("max_cost is {max}, and it is not known what the job costs: {}", name_some(unknown))]
    Unknown {
        /// The most that it may cost.
        max: Money,
        /// What has no price, each with the reason.
        unknown: Vec<String>,
    },
    /// The prices are in another currency.
    #[error("max_cost is {max}, and the prices of `{entry}` are in {currency}")]
    OtherCurrency {
        /// The most that it may cost.
        max: Money,
        /// By which prices.
        entry: String,
        /// In which currency they are.
        currency: Currency,
        /// Whether they stand in the user's own book.
        own: bool,
    },
    /// There are no prices.
    #[error("max_cost is {max}, and {why}")]
    NoPrices {
        /// The most that it may cost.
        max: Money,
        /// Why not.
        why: NoPrices,
    },
}

impl CostRefusal {
    /// What to do about it.
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

/// The first of them, and how many more there are.
fn name_some(unknown: &[String]) -> String {
    const NAMED: usize = 3;
    let named = unknown[..unknown.len().min(NAMED)].join("; ");
    match unknown.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// Whether a job costs more than it may. Only a sum that is known as a whole is within it.
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
