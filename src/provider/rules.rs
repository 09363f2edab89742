//! The struct of a provider's rules, [`ProviderRules`], and the types of its fields.

use super::role_arn::RoleArnFormat;
use crate::completion::ReportFormat;
use crate::manifest::InventoryDialect;
use crate::operation::ObjectAspect;

/// What the program knows about a provider.
#[derive(Clone, Debug)]
pub struct ProviderRules {
    /// The description in the help of commands.
    pub description: &'static str,
    /// The name of the service in messages.
    pub service: &'static str,
    /// The keys of `[store]` that a plan must have.
    pub required_keys: &'static [RequiredKey],
    /// How to supply credentials.
    pub credentials_help: &'static str,
    /// The ARNs of roles.
    pub role_arn: RoleArnFormat,
    /// The beginning that the names of endpoints have and those of regions do not.
    pub endpoint_name_prefix: Option<&'static str>,
    /// Whether the service has path addressing only at IP addresses, where the server is not one of the service.
    pub path_only_at_ip: bool,
    /// Whether the servers are of many makers, some of which allow more names than the service. Such names are only
    /// worth a warning.
    pub is_lenient: bool,
    /// The problem with a bucket name that contains a dot, if that is not allowed.
    pub bucket_dot_problem: Option<&'static str>,
    /// The rules for tags.
    pub tags: TagLimits,
    /// Whether an object can have the ACL `default`: that of its bucket.
    pub has_default_acl: bool,
    /// The limit on how long a restored copy stays readable, if there is one that a plan can be checked against.
    pub restore_days: Option<RestoreDaysLimit>,
    /// The known storage classes; empty if any name may be one.
    pub storage_classes: &'static [&'static str],
    /// Whether objects of this provider have an aspect. Call [`ProviderRules::supports`].
    pub aspect_support: fn(ObjectAspect) -> AspectSupport,
    /// The service whose rules apply to restores.
    pub restore_service: RestoreService,
    /// The convention that inventories follow.
    pub inventory: InventoryDialect,
    /// The default format of completion reports.
    pub report_format: ReportFormat,
    /// The language of permission policies.
    pub policy_language: PolicyLanguage,
    /// The managed batch service for the objects, if there is one.
    pub batch_service: Option<BatchService>,
    /// How storage classes affect the price of requests.
    pub class_pricing: ClassPricing,
    /// The words for the store in a message that no prices are known for it. `None` if the prices depend on the region,
    /// which the message then names.
    pub unpriced: Option<&'static str>,
    /// The credentials that a GitHub workflow needs.
    pub workflow: WorkflowCredentials,
    /// The `[store]` section that `batchplan init` writes.
    pub template: &'static str,
}

/// A key of `[store]` that a plan must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredKey {
    /// The key.
    pub key: StoreKey,
    /// What to add to the plan.
    pub help: &'static str,
}

/// A key of `[store]` that some providers require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKey {
    /// `endpoint`.
    Endpoint,
    /// `region`.
    Region,
    /// `data`.
    Data,
}

/// The rules for tags that differ between providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagLimits {
    /// The characters that are allowed besides letters, digits and spaces.
    pub symbols: &'static str,
    /// The maximum size of all keys and values of an object, in bytes of UTF-8.
    pub max_bytes: Option<usize>,
    /// Whether keys that start with `aws:` are reserved.
    pub reserves_aws_keys: bool,
}

impl TagLimits {
    /// The rules of S3, which other servers with its API follow.
    pub const S3: Self = Self { symbols: "_.:/=+-@", max_bytes: None, reserves_aws_keys: true };
}

/// A limit on the days of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreDaysLimit {
    /// The maximum.
    pub max: u32,
    /// The allowed range.
    pub help: &'static str,
}

/// Whether the objects of a provider have an aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AspectSupport {
    /// They do.
    Full,
    /// Some servers do not have it, or not all of it. The text is a warning that says so.
    Partial(&'static str),
    /// They do not: a plan that changes it is invalid. The text is the help.
    Missing(&'static str),
}

/// The service whose restore rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreService {
    /// Amazon S3. The sandbox follows the same rules.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
    Aws,
    /// OSS. <https://www.alibabacloud.com/help/en/oss/user-guide/restore-objects-for-access>
    Oss,
    /// A server with unknown rules. Only what is certain for every service is predicted.
    Other,
}

/// The language of permission policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyLanguage {
    /// Alibaba Cloud's Resource Access Management.
    Ram,
    /// AWS's Identity and Access Management.
    Iam,
}

/// A managed batch service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchService {
    /// OSS Batch Operations: the XML of a `CreateJobRequest`.
    Oss,
    /// S3 Batch Operations: the JSON input of `aws s3control create-job`.
    Aws,
}

/// How storage classes affect the price of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassPricing {
    /// The price of every request depends on the class.
    AllRequests,
    /// The price of every request but writes of tags depends on the class.
    AllButTagWrites,
    /// The requests have no known price. If the plan names prices, that of writes of tags does not depend on the class.
    OnlyPlanPrices,
}

/// The credentials that a GitHub workflow needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowCredentials {
    /// An AWS role that trusts the workflow.
    AwsRole,
    /// The secrets of these names, which are also the names of the environment variables.
    Secrets(&'static [&'static str; 2]),
    /// None.
    NotNeeded,
}

impl ProviderRules {
    /// Returns whether the objects have an aspect.
    #[must_use]
    pub fn supports(&self, aspect: ObjectAspect) -> AspectSupport {
        (self.aspect_support)(aspect)
    }
}

impl StoreKey {
    /// Returns the name in plan files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Region => "region",
            Self::Data => "data",
        }
    }
}

/// How to supply credentials in the variables of AWS, which S3 clients share.
pub(super) const AWS_CREDENTIALS_HELP: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a plan never contains them";
