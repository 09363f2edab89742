//! `[report]`: where the completion report is published.

use batchplan_store::object::ObjectKey;

use super::{PlanCheckContext, bucket};
use crate::completion::{ReportLocation, ReportSpec};
use crate::diagnostics::FileProblem;
use crate::plan::defaults;
use crate::plan::parser::{ParsedField, PlanParser};
use crate::plan::tables::ReportTable;

/// Checks the report. Without a `[report]` table nothing is published, and the job's own copy lists the failures.
pub(super) fn check(
    field: &ParsedField<ReportTable>,
    context: &PlanCheckContext<'_>,
    walk: &mut PlanParser,
) -> ReportSpec {
    let Some(at) = field.present() else {
        return ReportSpec {
            location: None,
            scope: defaults::scope(false),
            format: defaults::format(context.rules),
            keep_local: true,
        };
    };
    let table = &at.value;
    let enabled = table.enabled.value().copied().unwrap_or(true);
    if enabled && table.bucket.is_absent() {
        walk.push(
            FileProblem::new("`bucket` is missing in [report]")
                .label(at.span.clone(), "needed to publish a report")
                .help("add `bucket = \"...\"`, or `enabled = false`"),
        );
    }
    check_kept(table, enabled, walk);
    let bucket = table.bucket.present().and_then(|at| bucket::check(at, context, walk));
    let prefix = ObjectKey::from(table.prefix.value().map_or("", |prefix| prefix.0.as_str()));
    ReportSpec {
        location: bucket.filter(|_| enabled).map(|bucket| ReportLocation { bucket, prefix }),
        scope: table.scope.value().map_or(defaults::scope(enabled), |scope| scope.0),
        format: table.format.value().map_or(defaults::format(context.rules), |format| format.0),
        keep_local: table.keep_local.value().copied().unwrap_or(true),
    }
}

/// Reports a report that is neither published nor kept with the job. A missing bucket is already reported.
fn check_kept(table: &ReportTable, enabled: bool, walk: &mut PlanParser) {
    let Some(kept) = table.keep_local.present().filter(|at| !at.value) else { return };
    if let (false, Some(switch)) = (enabled, table.enabled.present()) {
        walk.push(
            FileProblem::new("the report would not be saved anywhere")
                .label(kept.key.clone(), "not kept")
                .label(switch.key.clone(), "not published")
                .help("remove `keep_local`, or publish the report with `enabled = true` and a `bucket`"),
        );
    }
}
