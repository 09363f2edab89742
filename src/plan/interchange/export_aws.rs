//! Exports an operation of a plan as the input of `aws s3control create-job`.
//!
//! Shapes and limits are those of the service's own model, `CreateJobRequest` of s3control 2018-08-20:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html>

use batchplan_store::object::{ObjectKey, TagSet};
use serde_json::{Value as Json, json};

use super::export::JobRequestParts;
use super::{AWS_CSV, AWS_REPORT};
use crate::completion::ReportSpec;
use crate::manifest::{FileLocation, InventorySelector, ManifestSource};
use crate::operation::{FieldKind, FieldValue, Operation};
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

fn operation_json(operation: &Operation) -> Json {
    let (descriptor, details) = (operation.descriptor(), operation.details());
    // Rejected earlier. No operation is better than one that does more than the plan says.
    let (Some(name), None) = (descriptor.aws_member, details.aws_gap) else { return Json::Null };
    let mut settings = json!({});
    for (field, value) in details.settings {
        let value = match value {
            FieldValue::Tags(tags) => tag_set_json(&tags),
            FieldValue::TagKeys(_) => continue,
            FieldValue::Text(text) if matches!(field.kind, FieldKind::Choice(_)) => json!(text.to_ascii_uppercase()),
            FieldValue::Text(text) => json!(text),
            FieldValue::Number(number) => json!(number),
        };
        let member = field.aws_path.iter().fold(&mut settings, |outer, name| &mut outer[*name]);
        *member = value;
    }
    json!({ name: settings })
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
