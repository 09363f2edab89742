//! The least permissions that the credentials of a plan need, as a RAM or an IAM policy.

use batchplan_store::Partition;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::object_request::{PolicyAction, RequestKind};
use serde_json::{Value as Json, json};

use super::{Plan, StateUrl};
use crate::manifest::{CsvField, FileLocation, InventorySelector, ListedVersions, ManifestSource};
use crate::operation::Operation;
use crate::provider::{BucketNaming, PolicyLanguage, ProviderRules};

impl PolicyLanguage {
    /// Returns the language version that policy documents name.
    fn version(self) -> &'static str {
        match self {
            Self::Ram => "1",
            Self::Iam => "2012-10-17",
        }
    }

    /// Returns the action that a policy must allow for a request. With `of_versions`, returns the action for object
    /// versions, if they have one of their own.
    #[must_use]
    pub fn action_for(self, kind: RequestKind, of_versions: bool) -> &'static str {
        let action = kind.action();
        match (self, of_versions) {
            (Self::Ram, false) => action.ram,
            (Self::Ram, true) => action.ram_version,
            (Self::Iam, false) => action.iam,
            (Self::Iam, true) => action.iam_version,
        }
    }
}

/// Why there is no policy for a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The plan does not name the buckets of its objects, because its manifest names them.
    #[error("only the manifest names the buckets of the objects, not the plan")]
    BucketsUnknown,
    /// A bucket is an access point. Policies name it by its ARN and its bucket, and its alias shows neither.
    #[error("{0} is an access point alias, and policies cannot name aliases")]
    AccessPoint(BucketName),
}

impl PolicyError {
    /// Returns what the user can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::BucketsUnknown => "add --bucket NAME for each bucket",
            Self::AccessPoint(_) => {
                "use the bucket's name in the plan to print its policy, and allow the same actions on \
                 arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME and on its /object/*"
            }
        }
    }
}

const READ: PolicyAction = *RequestKind::GetObject.action();
const WRITE: PolicyAction = *RequestKind::PutObject.action();
const LIST: PolicyAction = *RequestKind::List.action();

/// Deletes an object. No request about the objects of a job does.
const DELETE: PolicyAction = PolicyAction {
    ram: "oss:DeleteObject",
    ram_version: "oss:DeleteObjectVersion",
    iam: "s3:DeleteObject",
    iam_version: "s3:DeleteObjectVersion",
};

/// Gives up an upload in parts. IAM asks for it only where a policy denies it.
const ABORT: PolicyAction = PolicyAction {
    ram: "oss:AbortMultipartUpload",
    ram_version: "oss:AbortMultipartUpload",
    iam: "s3:AbortMultipartUpload",
    iam_version: "s3:AbortMultipartUpload",
};

/// Which forms of an action are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VersionScope {
    /// Objects without a version.
    Current,
    /// Objects with a version.
    Versions,
    /// Some objects with a version, and some without.
    Both,
}

/// Returns the policy that lets a plan read its manifest, work on its objects, write its report and keep its state, and
/// nothing else.
///
/// `buckets` are the buckets that the manifest names, for a plan that does not name them itself.
///
/// # Errors
/// Returns an error if the plan does not name the buckets of its objects and `buckets` is empty, or if one of them is an
/// access point.
pub fn permission_policy(plan: &Plan, language: PolicyLanguage, buckets: &[BucketName]) -> Result<Json, PolicyError> {
    if ProviderRules::of(plan.store.provider).bucket_naming == BucketNaming::Aws {
        let state = plan.state.as_ref().map(|state| &state.bucket);
        let report = plan.report.location.as_ref().map(|location| &location.bucket);
        let named = manifest_bucket(&plan.manifest.source).into_iter().chain(buckets).chain(report).chain(state);
        if let Some(bucket) = named.into_iter().find(|bucket| bucket.is_access_point_alias()) {
            return Err(PolicyError::AccessPoint(bucket.clone()));
        }
    }
    let writer = PolicyWriter { language, partition: partition(plan.store.region.as_deref()) };
    let mut statements = writer.manifest_statements(&plan.manifest.source);
    let objects = match &plan.manifest.source {
        ManifestSource::Prefix { bucket, prefix, .. } => vec![writer.objects_below(bucket, prefix)],
        _ if buckets.is_empty() => return Err(PolicyError::BucketsUnknown),
        _ => buckets.iter().map(|bucket| writer.objects_below(bucket, &ObjectKey::from(""))).collect(),
    };
    let scope = version_scope(&plan.manifest.source);
    statements.push(writer.statement("WorkOnObjects", &object_actions(plan), scope, &objects));
    if let Some(location) = &plan.report.location {
        let rights: &[PolicyAction] = if language == PolicyLanguage::Ram { &[WRITE, ABORT] } else { &[WRITE] };
        let to = writer.objects_below(&location.bucket, &location.prefix);
        statements.push(writer.statement("WriteReport", rights, VersionScope::Current, std::slice::from_ref(&to)));
        // A retry, and the next job of a recurring plan, read the failed objects from there.
        if !plan.report.keep_local {
            statements.push(writer.statement("ReadReport", &[READ], VersionScope::Current, &[to]));
        }
    }
    statements.extend(plan.state.as_ref().filter(|state| state.is_covered_by(language)).into_iter().flat_map(
        |state| {
            // The bucket may be in another partition than the plan's store.
            let region = state.signing_region(&plan.store);
            let writer = PolicyWriter { language, partition: partition(region.as_deref()) };
            writer.state_statements(state)
        },
    ));
    Ok(json!({ "Version": language.version(), "Statement": statements }))
}

/// Returns the trust policy of the role that a plan runs in. It trusts `principal`, or the managed service if there is
/// none.
#[must_use]
pub fn trust_policy(language: PolicyLanguage, principal: Option<&str>) -> Json {
    let trusted = match (language, principal) {
        (PolicyLanguage::Ram, None) => json!({ "Service": ["oss.aliyuncs.com"] }),
        (PolicyLanguage::Iam, None) => json!({ "Service": ["batchoperations.s3.amazonaws.com"] }),
        (PolicyLanguage::Ram, Some(principal)) => json!({ "RAM": [principal] }),
        (PolicyLanguage::Iam, Some(principal)) => json!({ "AWS": [principal] }),
    };
    let statement = json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": trusted });
    json!({ "Version": language.version(), "Statement": [statement] })
}

/// Returns the actions for the reads, the server check and the writes of a plan's operations.
fn object_actions(plan: &Plan) -> Vec<PolicyAction> {
    let operations = plan.operations();
    let mut rights = Vec::new();
    rights.extend(operations.read_steps().iter().map(|step| *step.call.kind().action()));
    if plan.needs_server_check() {
        // The requests of the server check.
        for aspect in operations.iter().map(Operation::aspect) {
            rights.extend(aspect.read_request().map(|read| *read.kind().action()));
            rights.push(READ);
        }
    }
    // On S3, HEAD tells the version of an object whose ACL is captured.
    let is_s3 = ProviderRules::of(plan.store.provider).policy_language == PolicyLanguage::Iam;
    if is_s3 && operations.captures_acl_alone() {
        rights.push(READ);
    }
    for operation in operations.iter() {
        rights.extend(operation.descriptor().reads_after_ambiguous_write.iter().map(|read| *read.kind().action()));
        rights.extend(operation.details().writes.iter().map(|write| *write.action()));
    }
    rights
}

/// Returns whether all objects of a plan are versions, which need permissions of their own. With other plans, some
/// objects may be versions.
#[must_use]
pub fn works_on_versions(plan: &Plan) -> bool {
    version_scope(&plan.manifest.source) == VersionScope::Versions
}

fn version_scope(source: &ManifestSource) -> VersionScope {
    match source {
        ManifestSource::Prefix { versions: ListedVersions::Current, .. } => VersionScope::Current,
        ManifestSource::Prefix { versions: ListedVersions::All, .. } => VersionScope::Versions,
        ManifestSource::Csv { fields, .. } if !fields.contains(&CsvField::VersionId) => VersionScope::Current,
        ManifestSource::Csv { .. }
        | ManifestSource::Inventory { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => VersionScope::Both,
    }
}

/// Returns the bucket that a manifest is in, or that it lists.
fn manifest_bucket(source: &ManifestSource) -> Option<&BucketName> {
    match source {
        ManifestSource::Prefix { bucket, .. }
        | ManifestSource::Inventory { bucket, .. }
        | ManifestSource::Csv { location: FileLocation::Object { bucket, .. }, .. }
        | ManifestSource::Report { location: FileLocation::Object { bucket, .. }, .. } => Some(bucket),
        ManifestSource::Csv { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => None,
    }
}

/// Returns the AWS partition of a region, or `aws` if it is not known.
fn partition(region: Option<&str>) -> &'static str {
    Partition::of_region(region.unwrap_or_default()).id
}

/// Writes policy statements in one language.
struct PolicyWriter {
    language: PolicyLanguage,
    partition: &'static str,
}

impl PolicyWriter {
    /// Returns the statements for reading the manifest.
    fn manifest_statements(&self, source: &ManifestSource) -> Vec<Json> {
        let read = |bucket: &BucketName, resource: String| {
            self.statement("ReadManifest", &[READ], VersionScope::Current, &[self.bucket_resource(bucket) + &resource])
        };
        match source {
            ManifestSource::Prefix { bucket, prefix, .. } => vec![self.list(bucket, prefix, version_scope(source))],
            ManifestSource::Csv { location: FileLocation::Object { bucket, key, .. }, .. } => {
                vec![read(bucket, format!("/{}", self.literal_pattern(key)))]
            }
            // The data files of an inventory or a report are in folders near its manifest.
            ManifestSource::Inventory { bucket, selector: InventorySelector::Exact { key, .. }, .. } => {
                vec![read(bucket, format!("/{}*", self.literal_pattern(&ancestor_folder(key, 2))))]
            }
            ManifestSource::Inventory { bucket, selector: InventorySelector::Latest { prefix }, .. } => {
                let list = self.list(bucket, prefix, VersionScope::Current);
                vec![list, read(bucket, format!("/{}*", self.literal_pattern(prefix)))]
            }
            ManifestSource::Report { location: FileLocation::Object { bucket, key, .. }, .. } => {
                vec![read(bucket, format!("/{}*", self.literal_pattern(&ancestor_folder(key, 1))))]
            }
            ManifestSource::Csv { location: FileLocation::Local(_), .. }
            | ManifestSource::Report { location: FileLocation::Local(_), .. }
            // The program makes these sources; no plan names them.
            | ManifestSource::Inventory { selector: InventorySelector::Changed(_) | InventorySelector::Distinct { .. }, .. }
            | ManifestSource::Retry { .. }
            | ManifestSource::Succeeded { .. } | ManifestSource::Undo(_) => Vec::new(),
        }
    }

    /// Returns the statements for keeping jobs in a bucket.
    fn state_statements(&self, state: &StateUrl) -> Vec<Json> {
        let mut below = state.prefix.as_bytes().to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        let below = ObjectKey::new(below);
        let objects = self.objects_below(&state.bucket, &below);
        vec![
            self.list_with_sid("ListState", &state.bucket, &below, VersionScope::Current),
            self.statement("KeepState", &[READ, WRITE, DELETE], VersionScope::Current, &[objects]),
        ]
    }

    fn list(&self, bucket: &BucketName, prefix: &ObjectKey, scope: VersionScope) -> Json {
        self.list_with_sid("ListObjects", bucket, prefix, scope)
    }

    fn list_with_sid(&self, sid: &str, bucket: &BucketName, prefix: &ObjectKey, scope: VersionScope) -> Json {
        let mut statement = self.statement(sid, &[LIST], scope, &[self.bucket_resource(bucket)]);
        if !prefix.as_bytes().is_empty() {
            let key = match self.language {
                PolicyLanguage::Ram => "oss:Prefix",
                PolicyLanguage::Iam => "s3:prefix",
            };
            statement["Condition"] = json!({ "StringLike": { key: [format!("{}*", self.literal_pattern(prefix))] } });
        }
        statement
    }

    fn statement(&self, sid: &str, rights: &[PolicyAction], scope: VersionScope, resources: &[String]) -> Json {
        let mut actions: Vec<&str> = Vec::new();
        for right in rights {
            let (current, version) = match self.language {
                PolicyLanguage::Ram => (right.ram, right.ram_version),
                PolicyLanguage::Iam => (right.iam, right.iam_version),
            };
            let wanted: &[&str] = match scope {
                VersionScope::Current => &[current],
                VersionScope::Versions => &[version],
                VersionScope::Both => &[current, version],
            };
            for action in wanted {
                if !actions.contains(action) {
                    actions.push(action);
                }
            }
        }
        match self.language {
            // RAM statements have no names.
            PolicyLanguage::Ram => json!({ "Effect": "Allow", "Action": actions, "Resource": resources }),
            PolicyLanguage::Iam => json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources }),
        }
    }

    fn bucket_resource(&self, bucket: &BucketName) -> String {
        match self.language {
            PolicyLanguage::Ram => format!("acs:oss:*:*:{bucket}"),
            PolicyLanguage::Iam => format!("arn:{}:s3:::{bucket}", self.partition),
        }
    }

    fn objects_below(&self, bucket: &BucketName, prefix: &ObjectKey) -> String {
        format!("{}/{}*", self.bucket_resource(bucket), self.literal_pattern(prefix))
    }

    /// Returns a pattern that matches the key. RAM cannot escape a `*`, so its pattern may match more keys.
    fn literal_pattern(&self, key: &ObjectKey) -> String {
        let text = String::from_utf8_lossy(key.as_bytes());
        match self.language {
            PolicyLanguage::Ram => text.into_owned(),
            PolicyLanguage::Iam => text.replace('$', "${$}").replace('*', "${*}").replace('?', "${?}"),
        }
    }
}

/// Returns the folder `levels` levels above a key, with its slash; empty (the whole bucket) if there are not as many.
fn ancestor_folder(key: &ObjectKey, levels: usize) -> ObjectKey {
    let bytes = key.as_bytes();
    let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    let end = slashes.into_iter().nth(levels - 1).map_or(0, |index| index + 1);
    ObjectKey::new(&bytes[..end])
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
