//! Warnings to show before a plan is applied: about its operations, its size, and its buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::server::ServerLook;
use crate::diff::Tally;
use crate::manifest::{Census, Source, Versions};
use crate::object::{Acl, Bucket};
use crate::operation::{Aspect, Operation};
use crate::plan::Plan;
use crate::store::{BucketFact, BucketQuestion, Ownership, Provider, Store, TagRule, Versioning};
use crate::task::{Fault, FaultClass};
use crate::timeouts::scaled;

/// The maximum number of objects that OSS recommends for one job.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/batch-operations>
const ADVISED_OBJECTS: u64 = 100_000_000;

/// The number of buckets to query. Manifests with more buckets are rare, and each query is a request.
const MOST_BUCKETS: usize = 10;

/// How long to wait for all responses together. A plan works without them.
const PATIENCE: Duration = Duration::from_secs(20);

/// The number of objects below which load on a single folder is no problem.
const BUSY_FROM: u64 = 100_000;

/// What is known about the buckets of a plan.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    facts: BTreeMap<Bucket, Known>,
}

/// What is known about one bucket. `None` means that the query failed or was not needed.
#[derive(Clone, Debug, Default)]
struct Known {
    rules: Option<Vec<TagRule>>,
    versioning: Option<Versioning>,
    ownership: Option<Ownership>,
    /// The queries that failed, and why.
    unknown: Vec<(BucketQuestion, Fault)>,
}

impl Buckets {
    /// Queries what matters to the plan from the first ten of these buckets. If a query fails, its answer is unknown:
    /// credentials that may change tags need not be allowed to read the settings of a bucket.
    pub async fn ask<'a>(
        plan: &Plan,
        store: &dyn Store,
        buckets: impl IntoIterator<Item = &'a Bucket>,
        stop: &CancellationToken,
    ) -> Self {
        let end = Instant::now() + scaled(PATIENCE);
        let about = |aspect| plan.operations.iter().any(|operation| operation.aspect() == aspect);
        let mut facts: BTreeMap<Bucket, Known> = BTreeMap::new();
        for bucket in buckets {
            if facts.contains_key(bucket) || facts.len() >= MOST_BUCKETS {
                continue;
            }
            let mut known = Known::default();
            let questions = [
                (BucketQuestion::TagRules, about(Aspect::Tags)),
                (BucketQuestion::Versioning, true),
                (BucketQuestion::Ownership, about(Aspect::Acl) && plan.store.provider != Provider::Oss),
            ];
            for (question, _) in questions.into_iter().filter(|(_, matters)| *matters) {
                let answer = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Self { facts },
                    answer = tokio::time::timeout_at(end, store.bucket(bucket, question)) => answer,
                };
                let answer = answer.unwrap_or_else(|_| {
                    let message = "no answer came in time";
                    Err(Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", message, String::new()))
                });
                match answer {
                    Ok(BucketFact::TagRules(rules)) => known.rules = Some(rules),
                    Ok(BucketFact::Versioning(versioning)) => known.versioning = Some(versioning),
                    Ok(BucketFact::Ownership(ownership)) => known.ownership = Some(ownership),
                    Err(fault) => known.unknown.push((question, fault)),
                }
            }
            facts.insert(bucket.clone(), known);
        }
        Self { facts }
    }

    /// Returns whether a bucket accepts ACLs, as far as is known.
    #[must_use]
    pub fn takes_acl(&self, bucket: &Bucket) -> bool {
        self.facts.get(bucket).is_none_or(|known| known.ownership != Some(Ownership::BucketOwnerEnforced))
    }

    /// Returns whether a bucket is known not to exist.
    #[must_use]
    pub fn lacks(&self, bucket: &Bucket) -> bool {
        let unknown = self.facts.get(bucket).into_iter().flat_map(|known| &known.unknown);
        unknown.into_iter().any(|(_, fault)| fault.code == "NoSuchBucket")
    }

    /// Returns the warnings about the buckets.
    fn cautions(&self, plan: &Plan, census: &Census, rows: u64) -> Vec<String> {
        let mut found = Vec::new();
        for (bucket, known) in &self.facts {
            if self.lacks(bucket) {
                found.push(format!("there is no bucket {bucket}"));
                continue;
            }
            for rule in known.rules.iter().flatten() {
                let keys = rule.keys.join(", ");
                found.push(format!(
                    "a lifecycle rule of {bucket} goes by tags ({}: {keys}): changed tags may have objects moved or \
                     deleted, and while the job runs some have the new tags and others the old",
                    if rule.id.is_empty() { "without a name" } else { &rule.id }
                ));
            }
            let by_key = match &plan.manifest.source {
                Source::Prefix { versions, .. } => *versions == Versions::Current,
                _ => census.versions < rows,
            };
            if known.versioning == Some(Versioning::Enabled) && by_key {
                found.push(format!(
                    "{bucket} keeps versions, and the manifest names objects without: the job changes whichever version \
                     is current when its turn comes, and no older one"
                ));
            }
            if known.ownership == Some(Ownership::BucketOwnerEnforced) {
                found.push(format!("{bucket} takes no ACLs: its owner owns every object in it (BucketOwnerEnforced)"));
            }
            for (question, fault) in &known.unknown {
                found.push(format!("the {} of {bucket} could not be read: {}", question.resource(), fault.code));
            }
        }
        found
    }
}

/// Returns the warning about a plan that turns the server check off.
#[must_use]
pub fn server_check_off(plan: &Plan) -> Option<&'static str> {
    (plan.skip_server_check && !plan.store.is_first_party()).then_some(
        "the server check is off (`skip_server_check`): a server that does not know tags, ACLs or restores may replace, empty \
         or delete objects",
    )
}

/// Returns the warning about a server that reads could have checked, but did not.
pub(super) fn unchecked(plan: &Plan, look: ServerLook) -> Option<&'static str> {
    let could = plan.operations.iter().any(|operation| operation.aspect().read().is_some());
    (could && look == ServerLook::NotChecked).then_some(
        "the server could not be checked with the objects that were looked at; the job checks it before its first write",
    )
}

/// Returns the warnings that follow from the plan alone.
#[must_use]
pub fn of_plan(plan: &Plan) -> Vec<String> {
    let caution = |operation: &Operation| match operation {
        Operation::DeleteTagging(None) => Some("deleting all tags cannot be undone".to_owned()),
        Operation::DeleteTagging(Some(_)) => Some("deleted tags cannot be brought back".to_owned()),
        Operation::PutTagging(_) => Some("replacing tags removes every other tag that an object has".to_owned()),
        Operation::PutAcl(acl @ (Acl::PublicRead | Acl::PublicReadWrite)) => {
            Some(format!("{} opens every object to everyone, at once", acl.as_str()))
        }
        Operation::Restore(_) => Some("restores are billed by request, size and days".to_owned()),
        Operation::AddTagging(_) | Operation::PutAcl(_) => None,
    };
    let mut found: Vec<_> = plan.operations.iter().filter_map(caution).collect();
    found.extend(server_check_off(plan).map(str::to_owned));
    let acls = plan.operations.iter().any(|operation| operation.aspect() == Aspect::Acl);
    if acls && plan.store.provider == Provider::S3 {
        found.push(
            "some S3-compatible servers have no ACLs of objects: MinIO takes `private` without doing anything, and refuses \
             others"
                .to_owned(),
        );
    }
    found
}

/// Returns all warnings: about the plan, its size, and its buckets.
pub(super) fn all(
    plan: &Plan,
    buckets: &Buckets,
    census: &Census,
    rows: u64,
    tally: &Tally,
    busiest: Option<&(Bucket, Vec<u8>, u64, u64)>,
) -> Vec<String> {
    let mut found = of_plan(plan);
    found.extend(buckets.cautions(plan, census, rows));
    let looked = tally.looked().max(1);
    if plan.limits.failure_threshold.is_exceeded_by(tally.fails, looked) {
        found.push(format!(
            "more objects would fail than failure_threshold allows ({}): the job would stop before its end, and Fail",
            plan.limits.failure_threshold
        ));
    }
    if rows > ADVISED_OBJECTS {
        found.push(
            "OSS advises at most 100 million objects for one job: several plans, each of a part of the keys, are easier to \
             watch and to repeat"
                .to_owned(),
        );
    }
    if let Some((bucket, folder, count, of)) = busiest
        && rows >= BUSY_FROM
        && count * 10 >= of * 8
    {
        let folder = crate::object::Key::new(folder.clone());
        found.push(format!(
            "{} % of the objects lie directly in {bucket}/{folder}: services limit how many requests one prefix takes a \
             second, so that the job may be slowed down",
            count * 100 / of
        ));
    }
    found
}
