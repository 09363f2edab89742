//! `role_arn`: the ARN of a role, in the format of the provider.

use batchplan_store::StoreProvider;

use super::report_not_allowed;
use crate::diagnostics::FileProblem;
use crate::plan::parser::{ParsedField, PlanParser};
use crate::plan::value_types::TextValue;
use crate::provider::ProviderRules;

/// Checks `role_arn`. A role that is not valid for the provider is reported and left out.
pub(super) fn check(
    field: &ParsedField<TextValue<1, 2048>>,
    provider: StoreProvider,
    walk: &mut PlanParser,
) -> Option<String> {
    if provider.is_built_in() {
        let help = "remove it: the sandbox's keys are public and have all permissions";
        report_not_allowed(field, "the sandbox has no roles", help, walk);
        return None;
    }
    let at = field.present()?;
    let TextValue(arn) = &at.value;
    let format = &ProviderRules::of(provider).role_arn;
    let Some(label) = (format.problem)(arn) else { return Some(arn.clone()) };
    walk.push(
        FileProblem::new(format!("invalid role ARN for {}", provider.as_str()))
            .label(at.span.clone(), label)
            .help(format!("for example: `role_arn = \"{}\"`", format.example)),
    );
    None
}
