//! The object store built into the program. It follows the rules of AWS S3, but accepts any storage class.

use super::restore::RestoreService;
use super::rules::{
    AWS_CREDENTIALS_HELP, AspectSupport, BucketNaming, ClassPricing, PolicyLanguage, ProviderRules, RequiredKey,
    RoleArnFormat, StoreKey, TagLimits, WorkflowCredentials,
};
use crate::manifest::InventoryDialect;
use crate::report_format::ReportFormat;

pub(super) static RULES: ProviderRules = ProviderRules {
    description: "The object store built into batchplan",
    service: "the sandbox",
    required_keys: &[RequiredKey {
        key: StoreKey::Data,
        help: "add `data = \"...\"`, the folder that holds the sandbox's state",
    }],
    credentials_help: AWS_CREDENTIALS_HELP,
    role_arn: RoleArnFormat::NONE,
    endpoint_name_prefix: None,
    path_only_at_ip: false,
    is_lenient: false,
    bucket_naming: BucketNaming::Common,
    bucket_dot_problem: None,
    tags: TagLimits::S3,
    has_default_acl: false,
    restore_days: None,
    storage_classes: &[],
    aspect_support: |_| AspectSupport::Full,
    restore_service: RestoreService::Aws,
    retrieval_times: None,
    inventory: InventoryDialect::Aws,
    report_format: ReportFormat::Oss,
    policy_language: PolicyLanguage::Iam,
    batch_service: None,
    class_pricing: ClassPricing::OnlyPlanPrices,
    unpriced: Some("the sandbox"),
    workflow: WorkflowCredentials::NotNeeded,
    template: include_str!("sandbox.toml"),
};
