//! `[report]`: where the completion report is published.

use super::{Context, bucket};
use crate::completion::{ReportPlace, ReportSpec};
use crate::diagnostics::Problem;
use crate::object::Key;
use crate::plan::defaults;
use crate::plan::shape::ReportTable;
use crate::plan::walk::{Field, Walk};

/// Checks the report. Without a `[report]` table nothing is published, and the job's own copy lists the failures.
pub(super) fn check(field: &Field<ReportTable>, context: &Context<'_>, walk: &mut Walk) -> ReportSpec {
    let Some(at) = field.given() else {
        return ReportSpec {
            place: None,
            scope: defaults::scope(false),
            format: defaults::format(context.provider),
            keep_local: true,
        };
    };
    let table = &at.value;
    let enabled = table.enabled.value().copied().unwrap_or(true);
    if enabled && table.bucket.is_absent() {
        walk.push(
            Problem::new("`bucket` is missing in [report]")
                .label(at.span.clone(), "needed to publish a report")
                .help("add `bucket = \"...\"`, or `enabled = false`"),
        );
    }
    kept_somewhere(table, enabled, walk);
    let bucket = table.bucket.given().and_then(|at| bucket::check(at, context, walk));
    let prefix = Key::from(table.prefix.value().map_or("", |prefix| prefix.0.as_str()));
    ReportSpec {
        place: bucket.filter(|_| enabled).map(|bucket| ReportPlace { bucket, prefix }),
        scope: table.scope.value().map_or(defaults::scope(enabled), |scope| scope.0),
        format: table.format.value().map_or(defaults::format(context.provider), |format| format.0),
        keep_local: table.keep_local.value().copied().unwrap_or(true),
    }
}

/// Reports a report that is neither published nor kept with the job. A missing bucket is already reported.
fn kept_somewhere(table: &ReportTable, enabled: bool, walk: &mut Walk) {
    let Some(kept) = table.keep_local.given().filter(|at| !at.value) else { return };
    if let (false, Some(switch)) = (enabled, table.enabled.given()) {
        walk.push(
            Problem::new("the report would be kept nowhere")
                .label(kept.key.clone(), "not kept")
                .label(switch.key.clone(), "not published")
                .help("remove `keep_local`, or publish the report with `enabled = true` and a `bucket`"),
        );
    }
}
