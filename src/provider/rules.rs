//! The struct of a provider's rules, [`ProviderRules`], and the types of its fields, with the check of role ARNs.

use super::restore::RestoreService;
use crate::manifest::InventoryDialect;
use crate::operation::ObjectAspect;
use crate::report_format::ReportFormat;

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
    /// Which rules the names of buckets follow.
    pub bucket_naming: BucketNaming,
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
    /// The service whose times apply to restores, if they are known. In the sandbox, hours are seconds.
    pub retrieval_times: Option<RestoreService>,
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

/// Which rules the names of buckets follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketNaming {
    /// Those of AWS, which other services share.
    Common,
    /// The same, at AWS itself: some buckets have names by older rules, and access points and other kinds of buckets have
    /// names of their own.
    Aws,
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

/// Why a text is not the ARN of a role, as a label for messages.
pub type RoleArnProblem = &'static str;

/// The format of a provider's roles.
#[derive(Clone, Copy, Debug)]
pub struct RoleArnFormat {
    /// An example.
    pub example: &'static str,
    /// Returns why a text is not the ARN of a role; `None` if it is one.
    pub problem: fn(&str) -> Option<RoleArnProblem>,
    /// Whether a role must be in the AWS partition of the region.
    pub has_partitions: bool,
}

const AWS_EXAMPLE: &str = "arn:aws:iam::123456789012:role/BatchRole";

impl RoleArnFormat {
    /// The roles of AWS.
    pub const AWS: Self = Self { example: AWS_EXAMPLE, problem: check_aws_arn, has_partitions: true };

    /// The roles of Alibaba Cloud.
    pub const OSS: Self =
        Self { example: "acs:ram::1234567890123456:role/BatchRole", problem: check_oss_arn, has_partitions: false };

    /// The roles of servers with an S3-compatible API.
    pub const S3_COMPATIBLE: Self = Self { example: AWS_EXAMPLE, problem: check_s3_arn, has_partitions: false };

    /// For a provider that rejects `role_arn` altogether.
    pub const NONE: Self = Self { example: AWS_EXAMPLE, problem: |_| None, has_partitions: false };
}

/// The maximum length of a role's name, at AWS and at Alibaba Cloud.
const MAX_NAME: usize = 64;

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, with an account of twelve digits.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
fn check_aws_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("acs:") {
        return Some("an Alibaba Cloud role");
    }
    let Some(RoleArn { partition, account, role }) = RoleArn::parse(arn) else { return Some("not a role ARN") };
    let of_aws = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| has_only(rest, "-"));
    if !of_aws {
        return Some("not an AWS partition");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account must have 12 digits");
    }
    let (path, name) = role.rsplit_once('/').unwrap_or(("", role));
    // IAM allows `!` to `~` in a path.
    let fits = is_name(name, "+=,.@-_") && path.bytes().all(|b| b.is_ascii_graphic());
    (!fits).then_some("not a valid role name")
}

/// `acs:ram::UID:role/NAME`.
/// <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>
fn check_oss_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("arn:") {
        return Some("an AWS role");
    }
    let Some((account, name)) = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/")) else {
        return Some("not a role ARN");
    };
    if account.is_empty() || account.len() > 20 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account must be a number of at most 20 digits");
    }
    (!is_name(name, ".-_")).then_some("not a valid role name")
}

/// Like AWS, but with any account or tenant that the server has, or none.
fn check_s3_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("acs:") {
        return Some("an Alibaba Cloud role");
    }
    let fits = RoleArn::parse(arn).is_some_and(|RoleArn { partition, account, role }| {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        !partition.is_empty() && plain(partition) && plain(account) && !role.is_empty() && plain(role)
    });
    (!fits).then_some("not a role ARN")
}

/// The parts of a role's ARN that vary.
struct RoleArn<'a> {
    partition: &'a str,
    account: &'a str,
    /// Path and name.
    role: &'a str,
}

impl<'a> RoleArn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (partition, rest) = text.strip_prefix("arn:")?.split_once(":iam::")?;
        let (account, role) = rest.split_once(":role/")?;
        Some(Self { partition, account, role })
    }
}

fn is_name(name: &str, besides: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && has_only(name, besides)
}

/// Returns whether a text is not empty and has only ASCII letters, digits and the characters in `besides`.
fn has_only(text: &str, besides: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || besides.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_each_provider() {
        for arn in [
            "arn:aws:iam::123456789012:role/Name",
            "arn:aws-cn:iam::123456789012:role/Name",
            "arn:aws-us-gov:iam::123456789012:role/team/ops/Na+m=e,.@-_",
            "arn:aws-iso-b:iam::123456789012:role/Name",
            "arn:aws-eusc:iam::123456789012:role/Name",
        ] {
            assert_eq!((check_aws_arn(arn), check_s3_arn(arn)), (None, None), "{arn}");
            assert!(check_oss_arn(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam:::role/Name", "arn:aws:iam::tenant:role/a/Name", "arn:minio:iam::x:role/y"] {
            assert_eq!(check_s3_arn(arn), None, "{arn}");
            assert!(check_aws_arn(arn).is_some(), "{arn}");
        }
        for arn in ["acs:ram::123456789:role/BatchRole", "acs:ram::1234567890123456:role/a.b-c_d"] {
            assert_eq!(check_oss_arn(arn), None, "{arn}");
            assert!(check_aws_arn(arn).is_some() && check_s3_arn(arn).is_some(), "{arn}");
        }
    }

    #[test]
    fn rejects_other_role_arns() {
        let long = format!("arn:aws:iam::123456789012:role/{}", "n".repeat(65));
        for arn in [
            "Name",
            "arn:aws:iam::123456789012:user/Name",
            "arn:aws:sts::123456789012:assumed-role/Name/me",
            "arn:aws:iam::12345678901:role/Name",
            "arn:aws:iam::12345678901x:role/Name",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::123456789012:role/a b/Name",
            "arn:aws-:iam::123456789012:role/Name",
            "arn:azure:iam::123456789012:role/Name",
            long.as_str(),
        ] {
            assert!(check_aws_arn(arn).is_some(), "{arn}");
        }
        for arn in [
            "acs:ram::<your-account-uid>:role/BatchRole",
            "acs:ram:::role/BatchRole",
            "acs:ram::123:user/BatchRole",
            "acs:ram::123:role/",
            "acs:ram::123:role/a/b",
            "acs:ram::123456789012345678901:role/a",
        ] {
            assert!(check_oss_arn(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam::x:role/a b", "arn:aws:iam::x:role/", "arn::iam::x:role/a", "role/a"] {
            assert!(check_s3_arn(arn).is_some(), "{arn}");
        }
    }
}
