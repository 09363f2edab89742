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
        let mut problem = FileProblem::new("[recurring] works with the newest inventory only")
            .label(at.key.clone(), "nothing new ever appears")
            .help("use [manifest.inventory] with `latest = \"prefix/\"`, or remove [recurring]");
        if let Some(object) = inventory.and_then(|inventory| inventory.object.present()) {
            problem = problem.label(object.key.clone(), "this is always the same one");
        }
        walk.push(problem);
    }
    if let Some(token) = file.job.value().and_then(|job| job.client_request_token.present()) {
        walk.push(
            FileProblem::new("a client request token stands for one job, and a plan that recurs makes many")
                .label(token.key.clone(), "makes one job")
                .label(at.key.clone(), "makes many")
                .help("remove `client_request_token`: a plan that recurs makes one job for each inventory as it is"),
        );
    }
    Some(RecurringSettings { only_changed: at.value.only_changed.value().copied().unwrap_or_default() })
}
