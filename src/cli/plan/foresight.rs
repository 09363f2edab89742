//! What is to be expected of a job whose objects are frozen: what `apply` shows before it asks.

use super::{View, text};
use crate::estimate::{CostRefusal, Rates, estimate, exceeds, hours};
use crate::jobs::Preview;
use crate::plan::Plan;

/// What is to be expected.
pub(in crate::cli) struct Foresight {
    /// In words.
    pub(in crate::cli) text: String,
    /// Why it is refused for what it costs, where it is.
    pub(in crate::cli) refusal: Option<CostRefusal>,
}

impl Foresight {
    /// Of a plan whose objects were looked at, by these prices.
    pub(in crate::cli) fn of(plan: &Plan, preview: &Preview, rates: &Rates) -> Self {
        let estimate = estimate(&preview.work, rates);
        let hours = hours(&preview.work, &plan.limits, rates);
        let view = View {
            plan,
            file: String::new(),
            preview,
            estimate: &estimate,
            hours: &hours,
            earlier: None,
            colour: false,
            next: String::new(),
            saved: None,
        };
        let refusal = plan.limits.max_cost.and_then(|max| exceeds(&estimate, &max).refusal().cloned());
        Self { text: text::brief(&view), refusal }
    }
}
