//! The estimate that `apply` shows before it asks for confirmation.

use super::{View, text};
use crate::estimate::{CostRefusal, Rates, estimate, exceeds, hours};
use crate::jobs::Preview;
use crate::plan::Plan;

/// The expected results and cost of a job whose objects are known.
pub(in crate::cli) struct Foresight {
    pub(in crate::cli) text: String,
    /// Why the job is refused because of its cost, if it is.
    pub(in crate::cli) refusal: Option<CostRefusal>,
}

impl Foresight {
    /// Estimates a plan from the preview of its objects and the prices.
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
