//! Checks a plan and its job against the rules for plans, if there are any.

use std::sync::Arc;

use super::error::JobError;
use crate::estimate::{CostEstimate, CostLimitError, StorePrices, check_cost_limit};
use crate::journal::JobRecord;
use crate::manifest::{FrozenManifest, ManifestError};
use crate::paths::show_path;
use crate::plan::Plan;
use crate::plan_rules::{PlanRules, PlanSource};

/// The rules for plans, and the plan file that positions refer to. Without rules, every check succeeds.
#[derive(Clone, Debug)]
pub struct RuleCheck(Option<(Arc<PlanRules>, PlanSource)>);

impl RuleCheck {
    /// Checks a plan file. `name` is its name in messages.
    #[must_use]
    pub fn new(rules: Option<&Arc<PlanRules>>, name: &str, text: &[u8]) -> Self {
        Self(rules.map(|rules| (Arc::clone(rules), PlanSource::new(name, text))))
    }

    /// Checks the stored plan of a job.
    #[must_use]
    pub fn of(rules: Option<&Arc<PlanRules>>, job: &JobRecord) -> Self {
        Self::new(rules, &show_path(&job.plan_file).to_string(), &job.plan_text)
    }

    /// Returns the maximum number of objects by the rules.
    #[must_use]
    pub fn max_objects(&self) -> Option<u64> {
        self.0.as_ref().and_then(|(rules, _)| rules.max_objects())
    }

    /// Returns whether there is a rule about the cost.
    #[must_use]
    pub fn limits_cost(&self) -> bool {
        self.0.as_ref().is_some_and(|(rules, _)| rules.max_cost(None).is_some())
    }

    /// Checks what the plan alone shows. Sends nothing.
    ///
    /// # Errors
    /// Returns the rules that the plan breaks.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), JobError> {
        let Some((rules, source)) = &self.0 else { return Ok(()) };
        rules.check_plan(plan, source).map_err(JobError::RulesBroken)
    }

    /// Checks the objects of a frozen manifest.
    ///
    /// # Errors
    /// Returns the rules that the job breaks, or an error if the frozen manifest cannot be read.
    pub async fn check_manifest(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        if self.0.is_none() {
            return Ok(());
        }
        let (check, frozen) = (self.clone(), frozen.clone());
        tokio::task::spawn_blocking(move || check.check_frozen(&frozen)).await.map_err(std::io::Error::other)?
    }

    /// Like [`check_manifest`](Self::check_manifest), for a thread that may block.
    ///
    /// # Errors
    /// Returns the same errors.
    pub fn check_frozen(&self, frozen: &FrozenManifest) -> Result<(), JobError> {
        let Some((rules, source)) = &self.0 else { return Ok(()) };
        rules.check_manifest(frozen, source)?.map_err(JobError::RulesBroken)
    }

    /// Checks the estimated cost of a job. The sandbox bills nothing, unless the plan names prices for it.
    ///
    /// # Errors
    /// Returns the rule that the job breaks because it costs too much or because its cost is unknown.
    pub fn check_cost(&self, plan: &Plan, estimate: &CostEstimate) -> Result<(), JobError> {
        let Some((rules, source)) = &self.0 else { return Ok(()) };
        if plan.store.provider.is_built_in() && matches!(estimate.prices, StorePrices::Unknown(_)) {
            return Ok(());
        }
        let currency = estimate.prices.entry().map(|entry| entry.currency);
        let Some(max) = rules.max_cost(currency) else { return Ok(()) };
        let limit = check_cost_limit(estimate, &max);
        let Some(why) = limit.error() else { return Ok(()) };
        let help = match why {
            CostLimitError::Above { .. } => "select fewer objects, such as by a prefix or a filter",
            CostLimitError::CurrencyMismatch { .. } => "the rule needs an amount in this currency",
            CostLimitError::Unknown { .. } | CostLimitError::NoPrices { .. } => {
                "make the cost known: add the prices to a price book (`file` in the plan's [prices])"
            }
        };
        rules.too_expensive(&why.to_string(), help, source).map_or(Ok(()), |found| Err(JobError::RulesBroken(found)))
    }

    /// Returns the broken rule in place of the error that a manifest has too many objects, if the rule is the reason.
    #[must_use]
    pub fn explain(&self, error: JobError, plan: &Plan) -> JobError {
        match &error {
            JobError::Manifest(cause) => self.broken_count(cause, plan).unwrap_or(error),
            _ => error,
        }
    }

    /// Returns the broken rule if the manifest has more objects than the rules allow, and the plan itself allows them.
    #[must_use]
    pub fn broken_count(&self, error: &ManifestError, plan: &Plan) -> Option<JobError> {
        let (rules, source) = self.0.as_ref()?;
        let ManifestError::TooManyObjects { limit, found } = error else { return None };
        if rules.max_objects() != Some(*limit) || plan.limits.max_objects.is_some_and(|own| own <= *limit) {
            return None;
        }
        rules.too_many_objects(*found, source).map(JobError::RulesBroken)
    }
}

/// Returns the lower of two limits.
pub(super) fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
