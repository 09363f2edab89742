//! Exports an operation of a plan as the input of `aws s3control create-job`.
//!
//! Shapes and limits are those of the service's own model, `CreateJobRequest` of s3control 2018-08-20:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html>

use batchplan_store::object::{ObjectAcl, ObjectKey, TagSet};
use serde_json::{Value as Json, json};

use super::export::JobRequestParts;
use super::{AWS_CSV, AWS_REPORT};
use crate::completion::ReportSpec;
use crate::manifest::{FileLocation, InventorySelector, ManifestSource};
use crate::operation::Operation;
use crate::plan::value_types::name_of;
use crate::plan::xml::{AWS_INVENTORY, scope_name};

pub(super) fn request(order: &JobRequestParts<'_>) -> String {
    let JobRequestParts { plan, source, role_arn, account_id, token, operation } = order;
    // Buckets are in the same partition as the role.
    let names = ArnFormatter { partition: role_arn.split(':').nth(1).unwrap_or("aws") };
    let mut request = json!({
        "AccountId": account_id,
        "ConfirmationRequired": plan.job.confirmation_required,
        "Operation": operation_json(operation),
        "Report": report_json(&plan.report, &names),
        "ClientRequestToken": token,
        "Priority": plan.job.priority,
        "RoleArn": role_arn,
    });
    let (name, manifest) = manifest_json(source, &names);
    request[name] = manifest;
    // The service accepts no empty texts.
    if let Some(text) = plan.description.as_deref().filter(|text| !text.is_empty()) {
        request["Description"] = json!(text);
    }
    format!("{request:#}")
}

/// Returns an operation that AWS does not support, by name, and what to do.
pub(super) fn unsupported_operation(operation: &Operation) -> Option<(&'static str, &'static str)> {
    match operation {
        Operation::AddTagging(_) => Some((
            "[operation.add_object_tagging]",
            "S3PutObjectTagging replaces all tags: use [operation.put_object_tagging] if these are all, or run this \
             operation with batchplan",
        )),
        Operation::PutAcl(ObjectAcl::Default) => {
            Some(("`acl = \"default\"` in [operation.put_object_acl]", "use private, public-read or public-read-write"))
        }
        _ => None,
    }
}

fn operation_json(operation: &Operation) -> Json {
    match operation {
        Operation::PutTagging(tags) => json!({ "S3PutObjectTagging": { "TagSet": tag_set_json(tags) } }),
        Operation::DeleteTagging(None) => json!({ "S3DeleteObjectTagging": {} }),
        // Rejected earlier. No operation is better than one that does more than the plan says.
        Operation::AddTagging(_) | Operation::DeleteTagging(Some(_)) => Json::Null,
        Operation::PutAcl(acl) => {
            json!({ "S3PutObjectAcl": { "AccessControlPolicy": { "CannedAccessControlList": acl.as_str() } } })
        }
        Operation::Restore(request) => {
            let mut restore = json!({ "ExpirationInDays": request.days });
            if let Some(tier) = request.tier {
                restore["GlacierJobTier"] = json!(tier.as_str().to_ascii_uppercase());
            }
            json!({ "S3InitiateRestoreObject": restore })
        }
    }
}

fn tag_set_json(tags: &TagSet) -> Json {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

fn report_json(report: &ReportSpec, names: &ArnFormatter<'_>) -> Json {
    let Some(place) = &report.location else { return json!({ "Enabled": false }) };
    let mut report = json!({
        "Bucket": names.bucket(place.bucket.as_str()),
        "Enabled": true,
        "Format": AWS_REPORT,
        "ReportScope": scope_name(report.scope),
    });
    if !place.prefix.as_bytes().is_empty() {
        report["Prefix"] = json!(key_text(&place.prefix));
    }
    report
}

/// Returns the manifest, preceded by the key that holds it.
fn manifest_json(source: &ManifestSource, names: &ArnFormatter<'_>) -> (&'static str, Json) {
    match source {
        ManifestSource::Prefix { bucket, prefix, .. } => {
            let mut generator = json!({ "SourceBucket": names.bucket(bucket.as_str()), "EnableManifestOutput": false });
            if !prefix.as_bytes().is_empty() {
                generator["Filter"] = json!({ "KeyNameConstraint": { "MatchAnyPrefix": [key_text(prefix)] } });
            }
            ("ManifestGenerator", json!({ "S3JobManifestGenerator": generator }))
        }
        ManifestSource::Csv { location: FileLocation::Object { bucket, key, etag }, fields, .. } => {
            let fields: Vec<_> = fields.iter().map(|field| name_of(*field)).collect();
            let spec = json!({ "Format": AWS_CSV, "Fields": fields });
            ("Manifest", json!({ "Spec": spec, "Location": names.location(bucket.as_str(), key, etag.as_deref()) }))
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Exact { key, etag }, .. } => {
            let spec = json!({ "Format": AWS_INVENTORY });
            ("Manifest", json!({ "Spec": spec, "Location": names.location(bucket.as_str(), key, etag.as_deref()) }))
        }
        // Rejected earlier.
        ManifestSource::Csv { .. }
        | ManifestSource::Inventory { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. } => ("Manifest", Json::Null),
    }
}

/// Formats the names of resources in one partition.
struct ArnFormatter<'a> {
    partition: &'a str,
}

impl ArnFormatter<'_> {
    fn bucket(&self, name: &str) -> String {
        format!("arn:{}:s3:::{name}", self.partition)
    }

    fn location(&self, bucket: &str, key: &ObjectKey, etag: Option<&str>) -> Json {
        json!({ "ObjectArn": format!("{}/{}", self.bucket(bucket), key_text(key)), "ETag": etag })
    }
}

/// Returns a key as text. Keys in plans are UTF-8.
fn key_text(key: &ObjectKey) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
