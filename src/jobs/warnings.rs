//! Warnings to show before a plan is applied: about its operations, its size, and its buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use batchplan_store::object::BucketName;
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::timeouts::scaled;
use batchplan_store::web::{ConnectionSettings, IgnoredBypass};
use batchplan_store::{
    BucketSetting, BucketSettingValue, BucketVersioning, ConfiguredEndpoint, OwnershipSetting, Store, TagLifecycleRule,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lifecycle;
use crate::diff::{AclAcceptance, PredictionTotals};
use crate::manifest::{ListedVersions, ManifestSource, StorageClassStats};
use crate::operation::ObjectAspect;
use crate::plan::Plan;
use crate::provider::{AspectSupport, BucketNaming, ProviderRules};
use crate::toml_reader::quote_for_message;

/// The maximum number of objects that OSS recommends for one job.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/batch-operations>
const RECOMMENDED_MAX_OBJECTS: u64 = 100_000_000;

/// The number of buckets to query. Manifests with more buckets are rare, and each query is a request.
const MAX_BUCKETS: usize = 10;

/// How long to wait for all responses together. A plan works without them.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of objects below which load on a single folder is no problem.
const MIN_BUSY_OBJECTS: u64 = 100_000;

/// What is known about the buckets of a plan.
#[derive(Clone, Debug, Default)]
pub struct PlanBuckets {
    settings: BTreeMap<BucketName, KnownBucketSettings>,
    /// Whether the service goes by the ownership that it returns.
    enforces_ownership: bool,
}

/// What is known about one bucket. `None` means that the query failed or was not needed.
#[derive(Clone, Debug, Default)]
struct KnownBucketSettings {
    rules: Option<Vec<TagLifecycleRule>>,
    versioning: Option<BucketVersioning>,
    ownership: Option<OwnershipSetting>,
    /// The queries that failed, and why.
    failed_queries: Vec<(BucketSetting, StoreError)>,
}

impl PlanBuckets {
    /// Queries what matters to the plan from the first ten of these buckets. If a query fails, its answer is unknown:
    /// credentials that may change tags need not be allowed to read the settings of a bucket.
    pub async fn query<'a>(
        plan: &Plan,
        store: &dyn Store,
        buckets: impl IntoIterator<Item = &'a BucketName>,
        stop: &CancellationToken,
    ) -> Self {
        let end = Instant::now() + scaled(QUERY_TIMEOUT);
        let rules = ProviderRules::of(plan.store.provider);
        let enforces_ownership = matches!(rules.supports(ObjectAspect::Acl), AspectSupport::Full);
        let about = |aspect| plan.operations.iter().any(|operation| operation.aspect() == aspect);
        let mut facts: BTreeMap<BucketName, KnownBucketSettings> = BTreeMap::new();
        for bucket in buckets {
            if facts.contains_key(bucket) || facts.len() >= MAX_BUCKETS {
                continue;
            }
            if is_access_point(plan, bucket) {
                facts.insert(bucket.clone(), KnownBucketSettings::default());
                continue;
            }
            let mut known = KnownBucketSettings::default();
            let questions = [
                (BucketSetting::TagRules, about(ObjectAspect::Tags)),
                (BucketSetting::Versioning, true),
                (BucketSetting::Ownership, about(ObjectAspect::Acl)),
            ];
            for (question, _) in questions.into_iter().filter(|(_, matters)| *matters) {
                let answer = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Self { settings: facts, enforces_ownership },
                    answer = tokio::time::timeout_at(end, store.bucket_setting(bucket, question)) => answer,
                };
                let answer = answer.unwrap_or_else(|_| {
                    let message = "no response in time";
                    Err(StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", message, String::new()))
                });
                match answer {
                    Ok(BucketSettingValue::TagRules(rules)) => known.rules = Some(rules),
                    Ok(BucketSettingValue::Versioning(versioning)) => known.versioning = Some(versioning),
                    Ok(BucketSettingValue::Ownership(ownership)) => known.ownership = Some(ownership),
                    Err(fault) => known.failed_queries.push((question, fault)),
                }
            }
            facts.insert(bucket.clone(), known);
        }
        Self { settings: facts, enforces_ownership }
    }

    /// Returns whether a bucket accepts ACLs.
    #[must_use]
    pub fn acl_acceptance(&self, bucket: &BucketName) -> AclAcceptance {
        let ownership = self.settings.get(bucket).and_then(|known| known.ownership);
        match (ownership == Some(OwnershipSetting::BucketOwnerEnforced), self.enforces_ownership) {
            (false, _) => AclAcceptance::Accepted,
            (true, true) => AclAcceptance::Refused,
            (true, false) => AclAcceptance::Unclear,
        }
    }

    /// Returns whether a bucket keeps old versions, if that is known.
    pub(super) fn versioning(&self, bucket: &BucketName) -> Option<BucketVersioning> {
        self.settings.get(bucket)?.versioning
    }

    /// Returns whether a bucket is known to have versions.
    pub(super) fn has_versions(&self, bucket: &BucketName) -> bool {
        matches!(self.versioning(bucket), Some(BucketVersioning::Enabled | BucketVersioning::Suspended))
    }

    /// Returns whether a bucket is known not to exist.
    #[must_use]
    pub fn is_missing(&self, bucket: &BucketName) -> bool {
        let unknown = self.settings.get(bucket).into_iter().flat_map(|known| &known.failed_queries);
        unknown.into_iter().any(|(_, fault)| fault.code == "NoSuchBucket")
    }

    fn warnings(&self, plan: &Plan, class_stats: &StorageClassStats, rows: u64) -> Vec<String> {
        let mut found = Vec::new();
        for (bucket, known) in &self.settings {
            if self.is_missing(bucket) {
                found.push(format!("bucket {bucket} does not exist"));
                continue;
            }
            if is_access_point(plan, bucket) {
                found.push(format!(
                    "{bucket} is an access point: batchplan cannot check its bucket's lifecycle rules, versioning and \
                     ownership, or detect jobs that change the same objects through the bucket"
                ));
            }
            found.extend(known.rules.iter().flatten().filter_map(|rule| lifecycle::warning(plan, bucket, rule)));
            let by_key = match &plan.manifest.source {
                ManifestSource::Prefix { versions, .. } => *versions == ListedVersions::Current,
                _ => class_stats.versioned_objects < rows,
            };
            if known.versioning == Some(BucketVersioning::Enabled) && by_key {
                found.push(format!(
                    "{bucket} has versioning enabled, and the manifest names objects without a version: the job \
                     changes only the version that is current when it processes the object"
                ));
            }
            if known.ownership == Some(OwnershipSetting::BucketOwnerEnforced) {
                found.push(format!("{bucket} has ACLs disabled (BucketOwnerEnforced)"));
            }
            for (question, fault) in &known.failed_queries {
                found.push(format!("the {} of {bucket} could not be read: {}", question.subresource(), fault.code));
            }
        }
        found
    }
}

/// Returns whether a name stands for an access point of AWS.
fn is_access_point(plan: &Plan, bucket: &BucketName) -> bool {
    ProviderRules::of(plan.store.provider).bucket_naming == BucketNaming::Aws && bucket.is_access_point_alias()
}

/// Returns the warning about a plan that turns the server check off.
#[must_use]
pub fn server_check_off_warning(plan: &Plan) -> Option<&'static str> {
    (plan.skip_server_check && !plan.store.is_first_party()).then_some(
        "the server check is off (`skip_server_check`): a server that does not support tags, ACLs or restores may \
         replace, empty or delete objects",
    )
}

/// Returns the warnings about the store: settings of the environment that the plan's endpoint overrides, and who pays.
fn store_warnings(plan: &Plan) -> Vec<String> {
    let (store, settings) = (&plan.store, &plan.store.aws_endpoints);
    let mut found = Vec::new();
    if let Some(endpoint) = store.endpoint.as_ref().filter(|_| store.reads_aws_endpoints()) {
        if let Some(other) = settings.s3.as_ref().filter(|other| !other.url.eq_ignore_ascii_case(endpoint)) {
            let ConfiguredEndpoint { url, setting } = other;
            found.push(format!("{setting} ({url}) is ignored, because the plan sets `endpoint` to {endpoint}"));
        }
        for setting in settings.fips.iter().chain(&settings.dual_stack) {
            found.push(format!("{setting} is ignored, because the plan sets `endpoint` to {endpoint}"));
        }
    }
    if store.requester_pays {
        found.push(
            "requester pays: this job's requests and data transfer are billed to you, not to the bucket owners"
                .to_owned(),
        );
    }
    found
}

/// Returns the warning about a plan that keeps nothing to undo its job with.
fn undo_warning(plan: &Plan) -> Option<&'static str> {
    let could_capture = plan.operations.iter().any(|operation| operation.aspect().read_request().is_some());
    (could_capture && !plan.undo.capture)
        .then_some("the job cannot be undone: it does not keep what the objects were like (`[undo] capture = false`)")
}

/// Returns the warnings that follow from the plan alone, and from the environment.
#[must_use]
pub fn plan_warnings(plan: &Plan) -> Vec<String> {
    // An undo brings back what the warnings of operations say is lost.
    let applied = plan.operations.iter().filter(|_| plan.undo_mode.is_none());
    let mut found: Vec<_> = applied.filter_map(|operation| operation.details().warning).collect();
    found.extend(undo_warning(plan).map(str::to_owned));
    found.extend(store_warnings(plan));
    let connections = ConnectionSettings::of_process();
    found.extend(connections.ignored_bypasses().iter().map(|IgnoredBypass { position, text }| match text {
        Some(text) => {
            format!("NO_PROXY has the entry `{}`, which names no host and has no effect", quote_for_message(text))
        }
        None => format!("entry {position} of NO_PROXY names no host and has no effect"),
    }));
    found.extend(server_check_off_warning(plan).map(str::to_owned));
    let rules = ProviderRules::of(plan.store.provider);
    for aspect in ObjectAspect::ALL {
        let is_changed = plan.operations.iter().any(|operation| operation.aspect() == aspect);
        if let (true, AspectSupport::Partial(warning)) = (is_changed, rules.supports(aspect)) {
            found.push(warning.to_owned());
        }
    }
    found
}

/// Returns how many of the rows would fail: the share of the objects that were read, and every object that no request
/// can name.
fn likely_failures(tally: &PredictionTotals, rows: u64) -> u64 {
    tally.share(tally.fails, rows).estimate().likely.saturating_add(tally.unlistable.count)
}

/// Returns whether the job would fail because of its objects.
pub(super) fn exceeds_threshold(plan: &Plan, tally: &PredictionTotals, rows: u64) -> bool {
    plan.limits.failure_threshold.is_exceeded_by(likely_failures(tally, rows), rows.max(1))
}

/// Returns all warnings: about the plan, its size, and its buckets.
pub(super) fn all_warnings(
    plan: &Plan,
    buckets: &PlanBuckets,
    class_stats: &StorageClassStats,
    rows: u64,
    tally: &PredictionTotals,
    busiest: Option<&(BucketName, Vec<u8>, u64, u64)>,
) -> Vec<String> {
    let mut found = plan_warnings(plan);
    found.extend(buckets.warnings(plan, class_stats, rows));
    if exceeds_threshold(plan, tally, rows) {
        found.push(format!(
            "more objects would fail than failure_threshold allows ({}): the job would stop early as Failed",
            plan.limits.failure_threshold
        ));
    }
    let all_denied = tally.fails == tally.total() && tally.failure_reasons.keys().all(|(_, http, _)| *http == 403);
    if tally.fails > 0 && all_denied && !plan.store.requester_pays {
        found.push(
            "access was denied to every object that was read: for Requester Pays buckets, set `requester_pays = true` \
             in [store]"
                .to_owned(),
        );
    }
    if rows > RECOMMENDED_MAX_OBJECTS {
        found.push(
            "OSS recommends at most 100 million objects per job: split the objects over several plans by prefix or \
             filter"
                .to_owned(),
        );
    }
    if let Some((bucket, folder, count, of)) = busiest
        && rows >= MIN_BUSY_OBJECTS
        && count * 10 >= of * 8
    {
        let folder = batchplan_store::object::ObjectKey::new(folder.clone());
        found.push(format!(
            "{} % of the objects are directly in {bucket}/{folder}: services limit the requests per second to one \
             prefix, so the job may be throttled",
            count * 100 / of
        ));
    }
    found
}
