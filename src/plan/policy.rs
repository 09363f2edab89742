//! The least permissions that the credentials of a plan need, as a RAM or an IAM policy.
//!
//! Actions: <https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview> and
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>.

use serde_json::{Value as Json, json};

use super::{Plan, StateUrl};
use crate::call::Call;
use crate::manifest::{CsvField, CsvPlace, InventoryObject, Source, Versions};
use crate::object::{Bucket, Key};
use crate::operation::{Aspect, Operation};
use crate::store::Provider;

/// The policy language of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Alibaba Cloud's Resource Access Management.
    Ram,
    /// AWS's Identity and Access Management.
    Iam,
}

impl Language {
    /// Returns the policy language of a provider.
    #[must_use]
    pub fn of(provider: Provider) -> Self {
        match provider {
            Provider::Oss => Self::Ram,
            Provider::Aws | Provider::S3 | Provider::Sandbox => Self::Iam,
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
#[error("the plan does not say which buckets its objects are in: its manifest does")]
pub struct BucketsUnknown;

/// An action by its name in both languages, for objects and for object versions. If versions have no action of their
/// own, both names are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Right {
    ram: &'static str,
    ram_version: &'static str,
    iam: &'static str,
    iam_version: &'static str,
}

const fn right(ram: &'static str, ram_version: &'static str, iam: &'static str, iam_version: &'static str) -> Right {
    Right { ram, ram_version, iam, iam_version }
}

const LIST: Right = right("oss:ListObjects", "oss:ListObjectVersions", "s3:ListBucket", "s3:ListBucketVersions");
const READ: Right = right("oss:GetObject", "oss:GetObjectVersion", "s3:GetObject", "s3:GetObjectVersion");
const GET_TAGS: Right =
    right("oss:GetObjectTagging", "oss:GetObjectVersionTagging", "s3:GetObjectTagging", "s3:GetObjectVersionTagging");
const PUT_TAGS: Right =
    right("oss:PutObjectTagging", "oss:PutObjectVersionTagging", "s3:PutObjectTagging", "s3:PutObjectVersionTagging");
const DELETE_TAGS: Right = right(
    "oss:DeleteObjectTagging",
    "oss:DeleteObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
);
const GET_ACL: Right =
    right("oss:GetObjectAcl", "oss:GetObjectVersionAcl", "s3:GetObjectAcl", "s3:GetObjectVersionAcl");
const PUT_ACL: Right =
    right("oss:PutObjectAcl", "oss:PutObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl");
const RESTORE: Right = right("oss:RestoreObject", "oss:RestoreObjectVersion", "s3:RestoreObject", "s3:RestoreObject");
const WRITE: Right = right("oss:PutObject", "oss:PutObject", "s3:PutObject", "s3:PutObject");
const DELETE: Right = right("oss:DeleteObject", "oss:DeleteObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion");
const ABORT: Right =
    right("oss:AbortMultipartUpload", "oss:AbortMultipartUpload", "s3:AbortMultipartUpload", "s3:AbortMultipartUpload");

/// A permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
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

impl Need {
    /// Returns the permission that a request about an object needs.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        match call {
            Call::GetTags => Self::GetTags,
            Call::PutTags(_) => Self::PutTags,
            Call::DeleteTags => Self::DeleteTags,
            Call::GetAcl => Self::GetAcl,
            Call::PutAcl(_) => Self::PutAcl,
            Call::Restore(_) => Self::Restore,
            Call::Head => Self::Read,
        }
    }

    /// Returns the action that a policy must allow. With `of_versions`, returns the action for object versions, if they
    /// have one of their own.
    #[must_use]
    pub fn action(self, language: Language, of_versions: bool) -> &'static str {
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
            (Language::Ram, false) => right.ram,
            (Language::Ram, true) => right.ram_version,
            (Language::Iam, false) => right.iam,
            (Language::Iam, true) => right.iam_version,
        }
    }
}

/// Which forms of an action are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
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
pub fn permissions(plan: &Plan, language: Language, buckets: &[Bucket]) -> Result<Json, BucketsUnknown> {
    let writer = Writer { language, partition: partition(plan.store.region.as_deref()) };
    let mut statements = writer.manifest(&plan.manifest.source);
    let objects = match &plan.manifest.source {
        Source::Prefix { bucket, prefix, .. } => vec![writer.below(bucket, prefix)],
        _ if buckets.is_empty() => return Err(BucketsUnknown),
        _ => buckets.iter().map(|bucket| writer.below(bucket, &Key::from(""))).collect(),
    };
    let named = named(&plan.manifest.source);
    statements.push(writer.statement("WorkOnObjects", &work(plan), named, &objects));
    if let Some(place) = &plan.report.place {
        let rights: &[Right] = if language == Language::Ram { &[WRITE, ABORT] } else { &[WRITE] };
        let to = writer.below(&place.bucket, &place.prefix);
        statements.push(writer.statement("WriteReport", rights, Named::Current, std::slice::from_ref(&to)));
        // A retry, and the next job of a recurring plan, read the failed objects from there.
        if !plan.report.keep_local {
            statements.push(writer.statement("ReadReport", &[READ], Named::Current, &[to]));
        }
    }
    statements.extend(
        plan.state.as_ref().filter(|state| state.is_of(language)).into_iter().flat_map(|state| writer.state(state)),
    );
    Ok(json!({ "Version": language.version(), "Statement": statements }))
}

/// Returns the trust policy of the role that a plan runs in. It trusts `principal`, or the managed service if there is
/// none.
#[must_use]
pub fn trust(language: Language, principal: Option<&str>) -> Json {
    let who = match (language, principal) {
        (Language::Ram, None) => json!({ "Service": ["oss.aliyuncs.com"] }),
        (Language::Iam, None) => json!({ "Service": ["batchoperations.s3.amazonaws.com"] }),
        (Language::Ram, Some(principal)) => json!({ "RAM": [principal] }),
        (Language::Iam, Some(principal)) => json!({ "AWS": [principal] }),
    };
    let statement = json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": who });
    json!({ "Version": language.version(), "Statement": [statement] })
}

/// Returns the actions for the reads, the server check and the writes of a plan's operations.
fn work(plan: &Plan) -> Vec<Right> {
    let operations = plan.operations();
    let mut rights = Vec::new();
    for step in operations.reads() {
        rights.extend(match step.call {
            Call::GetTags => Some(GET_TAGS),
            Call::GetAcl => Some(GET_ACL),
            Call::Head => Some(READ),
            Call::PutTags(_) | Call::DeleteTags | Call::PutAcl(_) | Call::Restore(_) => None,
        });
    }
    if plan.needs_server_check() {
        // The requests of the server check.
        for aspect in operations.iter().map(Operation::aspect) {
            rights.extend_from_slice(match aspect {
                Aspect::Tags => &[GET_TAGS, READ],
                Aspect::Acl => &[GET_ACL, READ],
                Aspect::Restoration => &[READ],
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
    named(&plan.manifest.source) == Named::Versions
}

fn named(source: &Source) -> Named {
    match source {
        Source::Prefix { versions: Versions::Current, .. } => Named::Current,
        Source::Prefix { versions: Versions::All, .. } => Named::Versions,
        Source::Csv { fields, .. } if !fields.contains(&CsvField::VersionId) => Named::Current,
        Source::Csv { .. } | Source::Inventory { .. } | Source::Report { .. } | Source::Retry { .. } => Named::Both,
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
struct Writer {
    language: Language,
    partition: &'static str,
}

impl Writer {
    /// Returns the statements for reading the manifest.
    fn manifest(&self, source: &Source) -> Vec<Json> {
        let read = |bucket: &Bucket, resource: String| {
            self.statement("ReadManifest", &[READ], Named::Current, &[self.bucket(bucket) + &resource])
        };
        match source {
            Source::Prefix { bucket, prefix, .. } => vec![self.list(bucket, prefix, named(source))],
            Source::Csv { place: CsvPlace::Object { bucket, key, .. }, .. } => {
                vec![read(bucket, format!("/{}", self.literal(key)))]
            }
            // The data files of an inventory or a report are in folders near its manifest.
            Source::Inventory { bucket, object: InventoryObject::Exact { key, .. }, .. } => {
                vec![read(bucket, format!("/{}*", self.literal(&above(key, 2))))]
            }
            Source::Inventory { bucket, object: InventoryObject::Latest { prefix }, .. } => {
                let list = self.list(bucket, prefix, Named::Current);
                vec![list, read(bucket, format!("/{}*", self.literal(prefix)))]
            }
            Source::Report { place: CsvPlace::Object { bucket, key, .. }, .. } => {
                vec![read(bucket, format!("/{}*", self.literal(&above(key, 1))))]
            }
            Source::Csv { place: CsvPlace::Local(_), .. }
            | Source::Report { place: CsvPlace::Local(_), .. }
            // The program makes these sources; no plan names them.
            | Source::Inventory { object: InventoryObject::Changed(_) | InventoryObject::Once { .. }, .. }
            | Source::Retry { .. } => Vec::new(),
        }
    }

    /// Returns the statements for keeping jobs in a bucket.
    fn state(&self, state: &StateUrl) -> Vec<Json> {
        let mut below = state.prefix.as_bytes().to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        let below = Key::new(below);
        let objects = self.below(&state.bucket, &below);
        vec![
            self.list_as("ListState", &state.bucket, &below, Named::Current),
            self.statement("KeepState", &[READ, WRITE, DELETE], Named::Current, &[objects]),
        ]
    }

    fn list(&self, bucket: &Bucket, prefix: &Key, named: Named) -> Json {
        self.list_as("ListObjects", bucket, prefix, named)
    }

    fn list_as(&self, sid: &str, bucket: &Bucket, prefix: &Key, named: Named) -> Json {
        let mut statement = self.statement(sid, &[LIST], named, &[self.bucket(bucket)]);
        if !prefix.as_bytes().is_empty() {
            let key = match self.language {
                Language::Ram => "oss:Prefix",
                Language::Iam => "s3:prefix",
            };
            statement["Condition"] = json!({ "StringLike": { key: [format!("{}*", self.literal(prefix))] } });
        }
        statement
    }

    fn statement(&self, sid: &str, rights: &[Right], named: Named, resources: &[String]) -> Json {
        let mut actions: Vec<&str> = Vec::new();
        for right in rights {
            let (current, version) = match self.language {
                Language::Ram => (right.ram, right.ram_version),
                Language::Iam => (right.iam, right.iam_version),
            };
            let wanted: &[&str] = match named {
                Named::Current => &[current],
                Named::Versions => &[version],
                Named::Both => &[current, version],
            };
            for action in wanted {
                if !actions.contains(action) {
                    actions.push(action);
                }
            }
        }
        match self.language {
            // RAM statements have no names.
            Language::Ram => json!({ "Effect": "Allow", "Action": actions, "Resource": resources }),
            Language::Iam => json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources }),
        }
    }

    fn bucket(&self, bucket: &Bucket) -> String {
        match self.language {
            Language::Ram => format!("acs:oss:*:*:{bucket}"),
            Language::Iam => format!("arn:{}:s3:::{bucket}", self.partition),
        }
    }

    fn below(&self, bucket: &Bucket, prefix: &Key) -> String {
        format!("{}/{}*", self.bucket(bucket), self.literal(prefix))
    }

    /// Returns a pattern that matches the key. RAM cannot escape a `*`, so its pattern may match more keys.
    fn literal(&self, key: &Key) -> String {
        let text = String::from_utf8_lossy(key.as_bytes());
        match self.language {
            Language::Ram => text.into_owned(),
            Language::Iam => text.replace('$', "${$}").replace('*', "${*}").replace('?', "${?}"),
        }
    }
}

/// Returns the folder `levels` levels above a key, with its slash; empty (the whole bucket) if there are not as many.
fn above(key: &Key, levels: usize) -> Key {
    let bytes = key.as_bytes();
    let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place);
    let end = slashes.into_iter().nth(levels - 1).map_or(0, |place| place + 1);
    Key::new(&bytes[..end])
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
