//! Other servers with an S3-compatible API.

use super::restore::RestoreService;
use super::rules::{
    AWS_CREDENTIALS_HELP, AspectSupport, BucketNaming, ClassPricing, PolicyLanguage, ProviderRules, RequiredKey,
    RoleArnFormat, StoreKey, TagLimits, WorkflowCredentials,
};
use crate::manifest::InventoryDialect;
use crate::operation::ObjectAspect;
use crate::report_format::ReportFormat;

pub(super) static RULES: ProviderRules = ProviderRules {
    description: "Any other server that speaks S3",
    service: "this server",
    required_keys: &[RequiredKey {
        key: StoreKey::Endpoint,
        help: "add `endpoint = \"https://...\"`, the URL of the server",
    }],
    credentials_help: AWS_CREDENTIALS_HELP,
    role_arn: RoleArnFormat::S3_COMPATIBLE,
    endpoint_name_prefix: None,
    path_only_at_ip: false,
    is_lenient: true,
    bucket_naming: BucketNaming::Common,
    bucket_dot_problem: None,
    tags: TagLimits::S3,
    has_default_acl: false,
    restore_days: None,
    storage_classes: &[],
    aspect_support,
    restore_service: RestoreService::Other,
    retrieval_times: None,
    inventory: InventoryDialect::Aws,
    report_format: ReportFormat::Oss,
    policy_language: PolicyLanguage::Iam,
    batch_service: None,
    class_pricing: ClassPricing::OnlyPlanPrices,
    unpriced: Some("this store: it is neither AWS S3 nor OSS"),
    workflow: WorkflowCredentials::Secrets(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
    template: include_str!("s3.toml"),
};

fn aspect_support(aspect: ObjectAspect) -> AspectSupport {
    // What a server does not support, the check of the server finds before the first write.
    if aspect == ObjectAspect::Acl {
        AspectSupport::Partial(
            "some S3-compatible servers do not support object ACLs: MinIO ignores `private` and rejects other values",
        )
    } else {
        AspectSupport::Full
    }
}
