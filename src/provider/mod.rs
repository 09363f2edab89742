//! The rules of each provider: what the program knows about a store besides how to connect to it.
//!
//! One provider is one file with one [`ProviderRules`]. Checks, defaults, policies, estimates, exports, predictions and
//! texts ask the rules, and match on no provider.
//!
//! # Adding a provider
//!
//! A provider with the S3 or OSS API is two files and a line in two registries: its `ProviderProfile` and its variant
//! of `StoreProvider` in the store crate, and its [`ProviderRules`] and the line in [`ProviderRules::of`] here, with
//! the `[store]` section that `batchplan init` writes for it. Neither struct has defaults, so that what is forgotten
//! does not compile. The keys of `[store]` are described in `plan/tables.rs`.
//!
//! Whether objects have an aspect is a question to the provider too ([`ProviderRules::supports`]). A new aspect does
//! not compile before each provider that lacks one has answered it.

mod aws;
mod oss;
mod role_arn;
mod s3;
mod sandbox;

use batchplan_store::StoreProvider;

use crate::completion::ReportFormat;
use crate::manifest::InventoryDialect;
use crate::operation::ObjectAspect;

pub use role_arn::{RoleArnFormat, RoleArnProblem};

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
    /// Returns the rules of a provider.
    #[must_use]
    pub fn of(provider: StoreProvider) -> &'static Self {
        match provider {
            StoreProvider::Aws => &aws::RULES,
            StoreProvider::Oss => &oss::RULES,
            StoreProvider::S3 => &s3::RULES,
            StoreProvider::Sandbox => &sandbox::RULES,
        }
    }

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
const AWS_CREDENTIALS_HELP: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a plan never contains them";

/// The rules of S3 for tags.
const S3_TAGS: TagLimits = TagLimits { symbols: "_.:/=+-@", max_bytes: None, reserves_aws_keys: true };

/// The answer of a provider that has every aspect.
fn has_all_aspects(_: ObjectAspect) -> AspectSupport {
    AspectSupport::Full
}

#[cfg(test)]
mod tests {
    use batchplan_store::{EndpointSource, RegionSource};

    use super::*;

    #[test]
    fn plans_must_have_what_the_client_needs() {
        for provider in StoreProvider::ALL {
            let (profile, rules) = (provider.profile(), ProviderRules::of(provider));
            let is_required = |key| rules.required_keys.iter().any(|required| required.key == key);
            let name = profile.name;
            assert_eq!(is_required(StoreKey::Endpoint), profile.endpoint == EndpointSource::Plan, "{name}");
            assert_eq!(is_required(StoreKey::Region), profile.region == RegionSource::Plan, "{name}");
            assert_eq!(is_required(StoreKey::Data), profile.endpoint == EndpointSource::Program, "{name}");
            assert_eq!((rules.role_arn.problem)(rules.role_arn.example), None, "{name}");
            assert!(rules.template.starts_with(&format!("[store]\nprovider = \"{name}\"")), "{name}");
        }
    }
}
