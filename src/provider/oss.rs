//! Alibaba Cloud OSS.

use super::restore::RestoreService;
use super::rules::{
    AspectSupport, BatchService, BucketNaming, ClassPricing, PolicyLanguage, ProviderRules, RequiredKey,
    RestoreDaysLimit, RoleArnFormat, StoreKey, TagLimits, WorkflowCredentials,
};
use crate::manifest::InventoryDialect;
use crate::report_format::ReportFormat;

pub(super) static RULES: ProviderRules = ProviderRules {
    description: "Alibaba Cloud OSS",
    service: "OSS",
    required_keys: &[
        RequiredKey {
            key: StoreKey::Endpoint,
            help: "add `endpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"`, with your region",
        },
        RequiredKey { key: StoreKey::Region, help: "add your region, such as `region = \"cn-hangzhou\"`" },
    ],
    credentials_help: "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; a plan never contains them",
    role_arn: RoleArnFormat::OSS,
    endpoint_name_prefix: Some("oss-"),
    path_only_at_ip: true,
    is_lenient: false,
    bucket_naming: BucketNaming::Common,
    bucket_dot_problem: Some("OSS does not allow dots"),
    tags: TagLimits { symbols: "_.:/=+-", max_bytes: Some(1024), reserves_aws_keys: false },
    has_default_acl: true,
    restore_days: Some(RestoreDaysLimit { max: 365, help: "use 1 to 365 on OSS, or 1 to 7 for the Archive class" }),
    storage_classes: &["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"],
    aspect_support: |_| AspectSupport::Full,
    restore_service: RestoreService::Oss,
    retrieval_times: Some(RestoreService::Oss),
    inventory: InventoryDialect::Oss,
    report_format: ReportFormat::Oss,
    policy_language: PolicyLanguage::Ram,
    batch_service: Some(BatchService::Oss),
    class_pricing: ClassPricing::AllRequests,
    unpriced: None,
    workflow: WorkflowCredentials::Secrets(&["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"]),
    template: include_str!("oss.toml"),
};
