//! The least permissions that the credentials of a plan need, as a RAM or an IAM policy.
//!
//! Actions: <https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview> and
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>.

use batchplan_store::StoreProvider;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::object_request::ObjectRequest;
use serde_json::{Value as Json, json};

use super::{Plan, StateUrl};
use crate::manifest::{CsvField, FileLocation, InventorySelector, ListedVersions, ManifestSource};
use crate::operation::{ObjectAspect, Operation};

/// The policy language of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyLanguage {
    /// Alibaba Cloud's Resource Access Management.
    Ram,
    /// AWS's Identity and Access Management.
    Iam,
}

impl PolicyLanguage {
    /// Returns the policy language of a provider.
    #[must_use]
    pub fn of(provider: StoreProvider) -> Self {
        match provider {
            StoreProvider::Oss => Self::Ram,
            StoreProvider::Aws | StoreProvider::S3 | StoreProvider::Sandbox => Self::Iam,
        }
    }

    /// Returns the language version that policy documents name.
    fn version(self) -> &'static str {
        match self {
            Self::Ram => "1",
            Self::Iam => "2012-10-17",
        }
    }
}

/// The plan does not name the buckets of its objects, because its manifest names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan does not name the buckets of its objects; its manifest does")]
pub struct BucketsUnknownError;

/// An action by its name in both languages, for objects and for object versions. If versions have no action of their
/// own, both names are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PolicyAction {
    ram: &'static str,
    ram_version: &'static str,
    iam: &'static str,
    iam_version: &'static str,
}

const fn policy_action(
    ram: &'static str,
    ram_version: &'static str,
    iam: &'static str,
    iam_version: &'static str,
) -> PolicyAction {
    PolicyAction { ram, ram_version, iam, iam_version }
}

const LIST: PolicyAction =
    policy_action("oss:ListObjects", "oss:ListObjectVersions", "s3:ListBucket", "s3:ListBucketVersions");
const READ: PolicyAction =
    policy_action("oss:GetObject", "oss:GetObjectVersion", "s3:GetObject", "s3:GetObjectVersion");
const GET_TAGS: PolicyAction = policy_action(
    "oss:GetObjectTagging",
    "oss:GetObjectVersionTagging",
    "s3:GetObjectTagging",
    "s3:GetObjectVersionTagging",
);
const PUT_TAGS: PolicyAction = policy_action(
    "oss:PutObjectTagging",
    "oss:PutObjectVersionTagging",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionTagging",
);
const DELETE_TAGS: PolicyAction = policy_action(
    "oss:DeleteObjectTagging",
    "oss:DeleteObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
);
const GET_ACL: PolicyAction =
    policy_action("oss:GetObjectAcl", "oss:GetObjectVersionAcl", "s3:GetObjectAcl", "s3:GetObjectVersionAcl");
const PUT_ACL: PolicyAction =
    policy_action("oss:PutObjectAcl", "oss:PutObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl");
const RESTORE: PolicyAction =
    policy_action("oss:RestoreObject", "oss:RestoreObjectVersion", "s3:RestoreObject", "s3:RestoreObject");
const WRITE: PolicyAction = policy_action("oss:PutObject", "oss:PutObject", "s3:PutObject", "s3:PutObject");
const DELETE: PolicyAction =
    policy_action("oss:DeleteObject", "oss:DeleteObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion");
const ABORT: PolicyAction = policy_action(
    "oss:AbortMultipartUpload",
    "oss:AbortMultipartUpload",
    "s3:AbortMultipartUpload",
    "s3:AbortMultipartUpload",
);

/// A permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPermission {
    /// List a bucket's objects, or all their versions.
    List,
    /// Read an object, or its HEAD response.
    Read,
    /// Write an object.
    Write,
    /// Read tags.
    GetTags,
    /// Replace tags.
    PutTags,
    /// Remove all tags.
    DeleteTags,
    /// Read an ACL.
    GetAcl,
    /// Set an ACL.
    PutAcl,
    /// Restore an archived object.
    Restore,
}

impl RequestPermission {
    /// Returns the permission that a request about an object needs.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Self {
        match call {
            ObjectRequest::GetTags => Self::GetTags,
            ObjectRequest::PutTags(_) => Self::PutTags,
            ObjectRequest::DeleteTags => Self::DeleteTags,
            ObjectRequest::GetAcl => Self::GetAcl,
            ObjectRequest::PutAcl(_) => Self::PutAcl,
            ObjectRequest::Restore(_) => Self::Restore,
            ObjectRequest::Head => Self::Read,
        }
    }

    /// Returns the action that a policy must allow. With `of_versions`, returns the action for object versions, if they
    /// have one of their own.
    #[must_use]
    pub fn action(self, language: PolicyLanguage, of_versions: bool) -> &'static str {
        let right = match self {
            Self::List => LIST,
            Self::Read => READ,
            Self::Write => WRITE,
            Self::GetTags => GET_TAGS,
            Self::PutTags => PUT_TAGS,
            Self::DeleteTags => DELETE_TAGS,
            Self::GetAcl => GET_ACL,
            Self::PutAcl => PUT_ACL,
            Self::Restore => RESTORE,
        };
        match (language, of_versions) {
            (PolicyLanguage::Ram, false) => right.ram,
            (PolicyLanguage::Ram, true) => right.ram_version,
            (PolicyLanguage::Iam, false) => right.iam,
            (PolicyLanguage::Iam, true) => right.iam_version,
        }
    }
}

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
/// Returns an error if the plan does not name the buckets of its objects and `buckets` is empty.
pub fn permission_policy(
    plan: &Plan,
    language: PolicyLanguage,
    buckets: &[BucketName],
) -> Result<Json, BucketsUnknownError> {
    let writer = PolicyWriter { language, partition: partition(plan.store.region.as_deref()) };
    let mut statements = writer.manifest_statements(&plan.manifest.source);
    let objects = match &plan.manifest.source {
        ManifestSource::Prefix { bucket, prefix, .. } => vec![writer.objects_below(bucket, prefix)],
        _ if buckets.is_empty() => return Err(BucketsUnknownError),
        _ => buckets.iter().map(|bucket| writer.objects_below(bucket, &ObjectKey::from(""))).collect(),
    };
    let named = version_scope(&plan.manifest.source);
    statements.push(writer.statement("WorkOnObjects", &object_actions(plan), named, &objects));
    if let Some(place) = &plan.report.location {
        let rights: &[PolicyAction] = if language == PolicyLanguage::Ram { &[WRITE, ABORT] } else { &[WRITE] };
        let to = writer.objects_below(&place.bucket, &place.prefix);
        statements.push(writer.statement("WriteReport", rights, VersionScope::Current, std::slice::from_ref(&to)));
        // A retry, and the next job of a recurring plan, read the failed objects from there.
        if !plan.report.keep_local {
            statements.push(writer.statement("ReadReport", &[READ], VersionScope::Current, &[to]));
        }
    }
    statements.extend(
        plan.state
            .as_ref()
            .filter(|state| state.is_covered_by(language))
            .into_iter()
            .flat_map(|state| writer.state_statements(state)),
    );
    Ok(json!({ "Version": language.version(), "Statement": statements }))
}

/// Returns the trust policy of the role that a plan runs in. It trusts `principal`, or the managed service if there is
/// none.
#[must_use]
pub fn trust_policy(language: PolicyLanguage, principal: Option<&str>) -> Json {
    let who = match (language, principal) {
        (PolicyLanguage::Ram, None) => json!({ "Service": ["oss.aliyuncs.com"] }),
        (PolicyLanguage::Iam, None) => json!({ "Service": ["batchoperations.s3.amazonaws.com"] }),
        (PolicyLanguage::Ram, Some(principal)) => json!({ "RAM": [principal] }),
        (PolicyLanguage::Iam, Some(principal)) => json!({ "AWS": [principal] }),
    };
    let statement = json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": who });
    json!({ "Version": language.version(), "Statement": [statement] })
}

/// Returns the actions for the reads, the server check and the writes of a plan's operations.
fn object_actions(plan: &Plan) -> Vec<PolicyAction> {
    let operations = plan.operations();
    let mut rights = Vec::new();
    for step in operations.read_steps() {
        rights.extend(match step.call {
            ObjectRequest::GetTags => Some(GET_TAGS),
            ObjectRequest::GetAcl => Some(GET_ACL),
            ObjectRequest::Head => Some(READ),
            ObjectRequest::PutTags(_)
            | ObjectRequest::DeleteTags
            | ObjectRequest::PutAcl(_)
            | ObjectRequest::Restore(_) => None,
        });
    }
    if plan.needs_server_check() {
        // The requests of the server check.
        for aspect in operations.iter().map(Operation::aspect) {
            rights.extend_from_slice(match aspect {
                ObjectAspect::Tags => &[GET_TAGS, READ],
                ObjectAspect::Acl => &[GET_ACL, READ],
                ObjectAspect::Restoration => &[READ],
            });
        }
    }
    for operation in operations.iter() {
        // An empty tag set is deleted, not put.
        rights.extend_from_slice(match operation {
            Operation::PutTagging(tags) if tags.is_empty() => &[DELETE_TAGS],
            Operation::PutTagging(_) | Operation::AddTagging(_) => &[PUT_TAGS],
            Operation::DeleteTagging(None) => &[DELETE_TAGS],
            Operation::DeleteTagging(Some(_)) => &[PUT_TAGS, DELETE_TAGS],
            Operation::PutAcl(_) => &[PUT_ACL],
            // The object is read if the answer to the restore is ambiguous.
            Operation::Restore(_) => &[READ, RESTORE],
        });
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
        | ManifestSource::Retry { .. } => VersionScope::Both,
    }
}

/// Returns the AWS partition of a region.
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
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
            | ManifestSource::Retry { .. } => Vec::new(),
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

    fn list(&self, bucket: &BucketName, prefix: &ObjectKey, named: VersionScope) -> Json {
        self.list_with_sid("ListObjects", bucket, prefix, named)
    }

    fn list_with_sid(&self, sid: &str, bucket: &BucketName, prefix: &ObjectKey, named: VersionScope) -> Json {
        let mut statement = self.statement(sid, &[LIST], named, &[self.bucket_resource(bucket)]);
        if !prefix.as_bytes().is_empty() {
            let key = match self.language {
                PolicyLanguage::Ram => "oss:Prefix",
                PolicyLanguage::Iam => "s3:prefix",
            };
            statement["Condition"] = json!({ "StringLike": { key: [format!("{}*", self.literal_pattern(prefix))] } });
        }
        statement
    }

    fn statement(&self, sid: &str, rights: &[PolicyAction], named: VersionScope, resources: &[String]) -> Json {
        let mut actions: Vec<&str> = Vec::new();
        for right in rights {
            let (current, version) = match self.language {
                PolicyLanguage::Ram => (right.ram, right.ram_version),
                PolicyLanguage::Iam => (right.iam, right.iam_version),
            };
            let wanted: &[&str] = match named {
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
    let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place);
    let end = slashes.into_iter().nth(levels - 1).map_or(0, |place| place + 1);
    ObjectKey::new(&bytes[..end])
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
