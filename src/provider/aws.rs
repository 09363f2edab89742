//! AWS S3.

use super::restore::RestoreService;
use super::rules::{
    AWS_CREDENTIALS_HELP, AspectSupport, BatchService, BucketNaming, ClassPricing, PolicyLanguage, ProviderRules,
    RoleArnFormat, TagLimits, WorkflowCredentials,
};
use crate::manifest::InventoryDialect;
use crate::report_format::ReportFormat;

pub(super) static RULES: ProviderRules = ProviderRules {
    description: "AWS S3",
    service: "AWS S3",
    required_keys: &[],
    credentials_help: AWS_CREDENTIALS_HELP,
    role_arn: RoleArnFormat::AWS,
    endpoint_name_prefix: None,
    path_only_at_ip: false,
    is_lenient: false,
    bucket_naming: BucketNaming::Aws,
    bucket_dot_problem: None,
    tags: TagLimits::S3,
    has_default_acl: false,
    restore_days: None,
    storage_classes: &[
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "GLACIER_IR",
        "DEEP_ARCHIVE",
        "OUTPOSTS",
        "SNOW",
        "EXPRESS_ONEZONE",
    ],
    aspect_support: |_| AspectSupport::Full,
    restore_service: RestoreService::Aws,
    retrieval_times: Some(RestoreService::Aws),
    inventory: InventoryDialect::Aws,
    report_format: ReportFormat::Aws,
    policy_language: PolicyLanguage::Iam,
    batch_service: Some(BatchService::Aws),
    class_pricing: ClassPricing::AllButTagWrites,
    unpriced: None,
    workflow: WorkflowCredentials::AwsRole,
    template: include_str!("aws.toml"),
};
