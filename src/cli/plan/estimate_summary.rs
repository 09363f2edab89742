//! The estimate that `apply` shows before it asks for confirmation.

use super::{PreviewView, text};
use crate::estimate::{CostLimitError, StorePrices, check_cost_limit, estimate, estimate_run_time};
use crate::jobs::Preview;
use crate::plan::Plan;

/// The expected results and cost of a job whose objects are known.
pub(in crate::cli) struct EstimateSummary {
    pub(in crate::cli) text: String,
    /// Why the job is refused because of its cost, if it is.
    pub(in crate::cli) refusal: Option<CostLimitError>,
}

impl EstimateSummary {
    /// Estimates a plan from the preview of its objects and the prices.
    pub(in crate::cli) fn of(plan: &Plan, preview: &Preview, rates: &StorePrices) -> Self {
        let estimate = estimate(&preview.workload, rates);
        let hours = estimate_run_time(&preview.workload, &plan.limits, rates);
        let view = PreviewView {
            plan,
            file: String::new(),
            preview,
            estimate: &estimate,
            duration: &hours,
            previous: None,
            colour: false,
            next_command: String::new(),
            saved_to: None,
        };
        let refusal = plan.limits.max_cost.and_then(|max| check_cost_limit(&estimate, &max).error().cloned());
        Self { text: text::render_brief(&view), refusal }
    }
}
