//! What to change in a plan, according to the objects that its preview read.

use std::collections::BTreeMap;

use batchplan_store::BucketVersioning;
use batchplan_store::object::{ObjectAcl, StorageClass};
use batchplan_store::object_request::RequestKind;

use super::warnings::PlanBuckets;
use crate::diff::{PredictionTotals, RequestCount};
use crate::manifest::{ListedVersions, ManifestSource};
use crate::operation::{ObjectAspect, Operation};
use crate::plan::Plan;

/// The number of objects from which on reading them first is recommended: for fewer, it saves nothing that matters.
const MIN_OBJECTS: u64 = 100;

/// Returns what to change in the plan, and why.
pub(super) fn recommend(plan: &Plan, buckets: &PlanBuckets, tally: &PredictionTotals, rows: u64) -> Vec<String> {
    let found = [skip_unchanged(plan, tally, rows), storage_classes(plan, tally), all_versions(plan, buckets)];
    found.into_iter().flatten().collect()
}

/// Recommends to read objects before writing them, if most are as the plan wants them already.
fn skip_unchanged(plan: &Plan, tally: &PredictionTotals, rows: u64) -> Option<String> {
    // A restore is always requested, and what is read anyway is not written without need.
    let writes_blindly = plan.operations().decisive_reads().is_empty();
    let restores = plan.operations.iter().any(|operation| operation.aspect() == ObjectAspect::Restoration);
    let are_most = tally.unchanged > tally.total() / 2;
    if rows < MIN_OBJECTS || !writes_blindly || restores || !are_most {
        return None;
    }
    let unchanged = tally.share(tally.unchanged, rows).estimate().likely;
    let share = u128::from(unchanged) * 100 / u128::from(rows);
    Some(format!(
        "`skip_unchanged = true` in [job]: about {share} % of the objects are already as the plan wants them; the job then \
         reads each object and writes only the others"
    ))
}

/// Recommends the storage classes whose objects can be restored, if those of others cannot.
fn storage_classes(plan: &Plan, tally: &PredictionTotals) -> Option<String> {
    let has_classes = matches!(plan.manifest.source, ManifestSource::Prefix { .. } | ManifestSource::Inventory { .. });
    if !has_classes || plan.manifest.filter.storage_class.is_some() {
        return None;
    }
    let restored = |counts: &BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>| -> Vec<StorageClass> {
        let kinds = counts.keys().filter(|(kind, _)| *kind == RequestKind::Restore);
        kinds.filter_map(|(_, class)| class.clone()).collect()
    };
    let accepted = restored(&tally.accepted);
    let refused: Vec<_> = restored(&tally.refused).into_iter().filter(|class| !accepted.contains(class)).collect();
    if accepted.is_empty() || refused.is_empty() {
        return None;
    }
    let names = |classes: &[StorageClass], quote: &str| {
        let names = classes.iter().map(|class| format!("{quote}{}{quote}", class.as_str()));
        names.collect::<Vec<_>>().join(", ")
    };
    Some(format!(
        "`storage_class = [{}]` in [manifest.filter]: the restore fails for objects of {}",
        names(&accepted, "\""),
        names(&refused, "")
    ))
}

/// Recommends to lock down the older versions as well, where the bucket keeps them.
fn all_versions(plan: &Plan, buckets: &PlanBuckets) -> Option<String> {
    let ManifestSource::Prefix { bucket, versions: ListedVersions::Current, .. } = &plan.manifest.source else {
        return None;
    };
    let locks_down = plan
        .operations
        .iter()
        .any(|operation| matches!(operation, Operation::PutAcl(ObjectAcl::Private | ObjectAcl::Default)));
    let keeps_versions =
        matches!(buckets.versioning(bucket), Some(BucketVersioning::Enabled | BucketVersioning::Suspended));
    (locks_down && keeps_versions).then(|| {
        format!(
            "`versions = \"all\"` in [manifest.prefix]: {bucket} keeps old versions, which keep their ACL, so everyone who may \
             read them now still may"
        )
    })
}
