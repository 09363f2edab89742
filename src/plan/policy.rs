//! The least that the credentials of a plan must be allowed, in the policies of RAM and of IAM.
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

/// Whose policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Alibaba Cloud's Resource Access Management.
    Ram,
    /// AWS's Identity and Access Management.
    Iam,
}

impl Language {
    /// That of a provider.
    #[must_use]
    pub fn of(provider: Provider) -> Self {
        match provider {
            Provider::Oss => Self::Ram,
            Provider::Aws | Provider::S3 | Provider::Sandbox => Self::Iam,
        }
    }

    /// The version of the language that documents name.
    fn version(self) -> &'static str {
        match self {
            Self::Ram => "1",
            Self::Iam => "2012-10-17",
        }
    }
}

/// The plan does not say which buckets its objects are in: its manifest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan does not say which buckets its objects are in: its manifest does")]
pub struct BucketsUnknown;

/// Something that may be done, by its name in both languages; of a version, where that has a name of its own.
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

/// Something that a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To list a bucket's objects, or all their versions.
    List,
    /// To read an object, or what HEAD says of it.
    Read,
    /// To write an object.
    Write,
    /// To read tags.
    GetTags,
    /// To replace tags.
    PutTags,
    /// To remove all tags.
    DeleteTags,
    /// To read an ACL.
    GetAcl,
    /// To set an ACL.
    PutAcl,
    /// To bring an archived object back.
    Restore,
}

impl Need {
    /// That of a request about an object.
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

    /// The action that a policy must allow; of versions, where those have one of their own.
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

/// Which forms of a right are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// Objects without a version.
    Current,
    /// Versions.
    Versions,
    /// Some with, and some without.
    Both,
}

/// The policy that lets a plan read its manifest, work on its objects and write its report, and nothing else. `buckets` are
/// those that its manifest names, where the plan does not say.
///
/// # Errors
/// When the plan does not say it, and there are none.
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
        // A retry, and the next job of a recurring plan, look there for what failed.
        if !plan.report.keep_local {
            statements.push(writer.statement("ReadReport", &[READ], Named::Current, &[to]));
        }
    }
    statements.extend(
        plan.state.as_ref().filter(|state| state.is_of(language)).into_iter().flat_map(|state| writer.state(state)),
    );
    Ok(json!({ "Version": language.version(), "Statement": statements }))
}

/// The policy that says who may take on the role that a plan is worked on in: the managed service, or this principal.
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

/// What the operations read, and what they write.
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
        // What the server is checked by.
        for aspect in operations.iter().map(Operation::aspect) {
            rights.extend_from_slice(match aspect {
                Aspect::Tags => &[GET_TAGS, READ],
                Aspect::Acl => &[GET_ACL, READ],
                Aspect::Restoration => &[READ],
            });
        }
    }
    for operation in operations.iter() {
        // Tags of which none are left are deleted, not put.
        rights.extend_from_slice(match operation {
            Operation::PutTagging(tags) if tags.is_empty() => &[DELETE_TAGS],
            Operation::PutTagging(_) | Operation::AddTagging(_) => &[PUT_TAGS],
            Operation::DeleteTagging(None) => &[DELETE_TAGS],
            Operation::DeleteTagging(Some(_)) => &[PUT_TAGS, DELETE_TAGS],
            Operation::PutAcl(_) => &[PUT_ACL],
            // It is looked at where its answer leaves doubt.
            Operation::Restore(_) => &[READ, RESTORE],
        });
    }
    rights
}

/// Whether a plan's objects are versions, all of them: other rights are needed for these. Elsewhere some may be.
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

/// AWS's partition of a region. <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Writes statements in one language.
struct Writer {
    language: Language,
    partition: &'static str,
}

impl Writer {
    /// What reading the manifest takes.
    fn manifest(&self, source: &Source) -> Vec<Json> {
        let read = |bucket: &Bucket, resource: String| {
            self.statement("ReadManifest", &[READ], Named::Current, &[self.bucket(bucket) + &resource])
        };
        match source {
            Source::Prefix { bucket, prefix, .. } => vec![self.list(bucket, prefix, named(source))],
            Source::Csv { place: CsvPlace::Object { bucket, key, .. }, .. } => {
                vec![read(bucket, format!("/{}", self.literal(key)))]
            }
            // The files of an inventory or a report lie around its manifest.
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
            // Made by the program, of a plan that says it otherwise.
            | Source::Inventory { object: InventoryObject::Changed(_) | InventoryObject::Once { .. }, .. }
            | Source::Retry { .. } => Vec::new(),
        }
    }

    /// What keeping jobs in a bucket takes.
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
            // RAM's statements have no names.
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

    /// A key as a pattern that matches it. RAM has no way to write a `*` that stands for itself: there it matches more.
    fn literal(&self, key: &Key) -> String {
        let text = String::from_utf8_lossy(key.as_bytes());
        match self.language {
            Language::Ram => text.into_owned(),
            Language::Iam => text.replace('$', "${$}").replace('*', "${*}").replace('?', "${?}"),
        }
    }
}

/// The folder so many levels above a key, with its slash; the whole bucket where there are not as many.
fn above(key: &Key, levels: usize) -> Key {
    let bytes = key.as_bytes();
    let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place);
    let end = slashes.into_iter().nth(levels - 1).map_or(0, |place| place + 1);
    Key::new(&bytes[..end])
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
