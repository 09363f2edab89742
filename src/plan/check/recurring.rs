//! `[recurring]`: a plan that runs once for each new inventory.

use crate::diagnostics::FileProblem;
use crate::plan::RecurringSettings;
use crate::plan::parser::PlanParser;
use crate::plan::tables::PlanTable;

/// Checks `[recurring]`. Returns `None` if the plan does not recur.
pub(super) fn check(file: &PlanTable, walk: &mut PlanParser) -> Option<RecurringSettings> {
    let at = file.recurring.present()?;
    let manifest = file.manifest.value();
    let inventory = manifest.and_then(|manifest| manifest.inventory.value());
    if manifest.is_some() && inventory.is_none_or(|inventory| inventory.latest.is_absent()) {
        let mut problem = FileProblem::new("[recurring] requires the newest inventory as its manifest")
            .label(at.key.clone(), "requires `latest`")
            .help("use [manifest.inventory] with `latest = \"prefix/\"`, or remove [recurring]");
        if let Some(object) = inventory.and_then(|inventory| inventory.object.present()) {
            problem = problem.label(object.key.clone(), "always the same inventory");
        }
        walk.push(problem);
    }
    if let Some(token) = file.job.value().and_then(|job| job.client_request_token.present()) {
        walk.push(
            FileProblem::new("`client_request_token` cannot be combined with [recurring]")
                .label(token.key.clone(), "identifies one job")
                .label(at.key.clone(), "creates many jobs")
                .help("remove `client_request_token`: a recurring plan already creates one job per inventory"),
        );
    }
    Some(RecurringSettings { only_changed: at.value.only_changed.value().copied().unwrap_or_default() })
}
