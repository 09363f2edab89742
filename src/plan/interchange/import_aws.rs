//! Imports the input of `aws s3control create-job` as a plan.

use super::import::{
    ImportOptions, node_origin, write_head, write_job, write_operation, write_report_switches, write_store,
    write_text_key,
};
use super::toml_writer::{SpannedText, TomlWriter};
use super::tree::{DocumentNode, ImportPass, NodeMembers};
use super::{AWS_CSV, AWS_REPORT};
use crate::plan::safe_text::quote_for_message;
use crate::plan::xml::AWS_INVENTORY;
use crate::provider::BatchService;

/// The keys of a request.
const ROOT: [&str; 10] = [
    "AccountId",
    "ConfirmationRequired",
    "Operation",
    "Report",
    "ClientRequestToken",
    "Manifest",
    "ManifestGenerator",
    "Description",
    "Priority",
    "RoleArn",
];

const NO_OPERATION: &str = "batchplan only sets tags and canned ACLs and restores objects; run this job on AWS";
const NO_OWNER: &str = "remove it: plans do not check who owns a bucket";
const NO_FILTER: &str = "remove it here, and set it in [manifest.filter] of the plan";

/// The operations of the service that plans do not support.
const UNSUPPORTED_OPERATIONS: [(&str, &str); 7] = [
    ("LambdaInvoke", NO_OPERATION),
    ("S3PutObjectCopy", NO_OPERATION),
    ("S3PutObjectLegalHold", NO_OPERATION),
    ("S3PutObjectRetention", NO_OPERATION),
    ("S3ReplicateObject", NO_OPERATION),
    ("S3ComputeObjectChecksum", NO_OPERATION),
    ("S3UpdateObjectEncryption", NO_OPERATION),
];

/// The filters of a manifest generator, except for prefixes.
const UNSUPPORTED_FILTERS: [(&str, &str); 8] = [
    ("EligibleForReplication", "remove it: plans cannot filter by replication"),
    ("ObjectReplicationStatuses", "remove it: plans cannot filter by replication"),
    ("MatchAnyObjectEncryption", "remove it: plans cannot filter by encryption"),
    ("CreatedAfter", NO_FILTER),
    ("CreatedBefore", NO_FILTER),
    ("ObjectSizeGreaterThanBytes", NO_FILTER),
    ("ObjectSizeLessThanBytes", NO_FILTER),
    ("MatchAnyStorageClass", NO_FILTER),
];

/// Writes the contents of a document into the plan file.
pub(super) fn write(root: &DocumentNode, given: &ImportOptions, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let unsaid = [("Tags", "remove them: jobs of a plan have no tags")];
    let Some(members) = pass.members(root, &ROOT, &unsaid) else { return };
    for name in ["AccountId", "Operation", "Report", "ClientRequestToken", "Priority", "RoleArn"] {
        members.required(name, pass);
    }
    let partition = role_partition(members, pass).unwrap_or("aws");
    write_head("an S3 Batch Operations request", members, given, sheet, pass);
    write_store("aws", members, given, sheet, pass);
    write_manifest(members, partition, sheet, pass);
    if let Some(node) = members.get("Operation") {
        write_operation(BatchService::Aws, node, &UNSUPPORTED_OPERATIONS, sheet, pass);
    }
    if let Some(node) = members.get("Report") {
        write_report(node, partition, sheet, pass);
    }
    let unsaid = (false, "not set in the request: AWS asks for no confirmation");
    write_job(unsaid, members, sheet, pass);
}

/// Returns the partition of the role, and checks the account. A plan names no account, so it must be the role's.
fn role_partition<'n>(members: NodeMembers<'n>, pass: &mut ImportPass) -> Option<&'n str> {
    let role = pass.text(members.get("RoleArn")?)?;
    let node = members.get("AccountId")?;
    let account = pass.text(node)?;
    let mut parts = role.split(':').skip(1);
    let (partition, of_role) = (parts.next()?, parts.nth(2)?);
    if account != of_role {
        let title = format!("the account differs from the role's account, `{}`", quote_for_message(of_role));
        pass.report(node.value_span(), title, "another account", "fix one of them: a plan runs in its role's account");
    }
    Some(partition)
}

fn write_manifest(members: NodeMembers<'_>, partition: &str, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    match (members.get("Manifest"), members.get("ManifestGenerator")) {
        (Some(manifest), None) => write_listed_manifest(manifest, partition, sheet, pass),
        (None, Some(generator)) => {
            let members = pass.members(generator, &["S3JobManifestGenerator"], &[]);
            if let Some(node) = members.and_then(|members| members.required("S3JobManifestGenerator", pass)) {
                write_generated_manifest(node, partition, sheet, pass);
            }
        }
        (Some(_), Some(generator)) => {
            let help = "keep either `Manifest` or `ManifestGenerator`";
            pass.report(&generator.name_span, "the request has two manifests", "in addition to `Manifest`", help);
        }
        (None, None) => {
            members.required("Manifest", pass);
        }
    }
}

fn write_generated_manifest(node: &DocumentNode, partition: &str, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let unsaid = [
        ("ExpectedBucketOwner", NO_OWNER),
        ("ManifestOutputLocation", "remove it: the manifest snapshot stays with the job"),
    ];
    let known = ["SourceBucket", "Filter", "EnableManifestOutput"];
    let Some(members) = pass.members(node, &known, &unsaid) else { return };
    if let Some(node) = members.required("EnableManifestOutput", pass)
        && pass.boolean(node) == Some(true)
    {
        let help = "set it to false: the manifest snapshot stays with the job";
        pass.report(node.value_span(), "plans do not support `EnableManifestOutput`", "not supported", help);
    }
    sheet.table(
        "manifest.prefix",
        Some(&node.name_span),
        "Which objects: all whose keys have this prefix when the job is created.",
    );
    if let Some(node) = members.required("SourceBucket", pass) {
        write_bucket(node, partition, sheet, pass);
    }
    let Some(filter) =
        members.get("Filter").and_then(|node| pass.members(node, &["KeyNameConstraint"], &UNSUPPORTED_FILTERS))
    else {
        return;
    };
    let others = [("MatchAnySuffix", NO_FILTER), ("MatchAnySubstring", NO_FILTER)];
    let names = filter.get("KeyNameConstraint").and_then(|node| pass.members(node, &["MatchAnyPrefix"], &others));
    let Some(prefixes) = names.and_then(|names| names.get("MatchAnyPrefix")) else { return };
    match pass.items(prefixes) {
        Some([only]) => {
            if let Some(text) = pass.text(only) {
                sheet.text_entry("prefix", text, node_origin(only));
            }
        }
        Some([]) => pass.report(prefixes.value_span(), "`MatchAnyPrefix` is empty", "empty", "add the prefix"),
        Some([_, second, ..]) => {
            let help = "import one request per prefix: a plan has one prefix";
            pass.report(second.value_span(), "plans do not support several prefixes", "the second one", help);
        }
        None => {}
    }
}

fn write_listed_manifest(node: &DocumentNode, partition: &str, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.required("Location", pass).and_then(|node| {
        let unsaid = [("ObjectVersionId", "remove the version: the ETag identifies the content of the manifest")];
        pass.members(node, &["ObjectArn", "ETag"], &unsaid)
    });
    let spec = manifest.required("Spec", pass).and_then(|node| pass.members(node, &["Format", "Fields"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(AWS_CSV, true), (AWS_INVENTORY, false)];
    let format = spec.required("Format", pass).and_then(|node| pass.choice(node, &formats));
    let (Some(is_csv), Some(arn)) = (format, location.required("ObjectArn", pass)) else { return };
    if is_csv {
        sheet.table("manifest.csv", Some(&node.name_span), "Which objects: those listed in a CSV file in a bucket.");
    } else {
        sheet.table("manifest.inventory", Some(&node.name_span), "Which objects: those listed in a bucket inventory.");
    }
    if let Some(named) = bucket_resource(arn, partition, pass) {
        let (bucket, object) = named.split_once('/').unwrap_or((named, ""));
        if object.is_empty() {
            let help = format!("for example arn:{}:s3:::my-bucket/manifest.csv", quote_for_message(partition));
            pass.report(arn.value_span(), "the ARN names no object", "no key", help);
        }
        sheet.text_entry("bucket", bucket, node_origin(arn));
        sheet.text_entry("object", object, node_origin(arn));
    }
    location.required("ETag", pass);
    write_text_key("ETag", "etag", location, sheet, pass);
    if is_csv {
        if let Some(node) = spec.required("Fields", pass)
            && let Some(items) = pass.items(node)
        {
            let names =
                items.iter().filter_map(|item| Some(SpannedText { text: pass.text(item)?, span: item.value_span() }));
            let names: Vec<_> = names.collect();
            sheet.list_entry("fields", &names, node.value_span());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.report(&node.name_span, "an inventory defines its own columns", "not allowed here", "remove `Fields`");
    }
}

fn write_report(node: &DocumentNode, partition: &str, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let known = ["Bucket", "Format", "Enabled", "Prefix", "ReportScope"];
    let Some(members) = pass.members(node, &known, &[("ExpectedBucketOwner", NO_OWNER)]) else { return };
    members.required("Enabled", pass);
    sheet.table("report", Some(&node.name_span), "The completion report.");
    if let Some(node) = members.get("Bucket") {
        write_bucket(node, partition, sheet, pass);
    }
    write_text_key("Prefix", "prefix", members, sheet, pass);
    write_report_switches(members, sheet, pass);
    // This is the default format in plans for aws.
    members.get("Format").and_then(|node| pass.choice(node, &[(AWS_REPORT, ())]));
}

fn write_bucket(node: &DocumentNode, partition: &str, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    if let Some(name) = bucket_resource(node, partition, pass) {
        sheet.text_entry("bucket", name, node_origin(node));
    }
}

/// Returns what follows `arn:aws:s3:::`. Access points and buckets on Outposts have other ARNs, and plans cannot name
/// them.
fn bucket_resource<'n>(node: &'n DocumentNode, partition: &str, pass: &mut ImportPass) -> Option<&'n str> {
    let text = pass.text(node)?;
    let named = text.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let help = format!("for example arn:{}:s3:::my-bucket", quote_for_message(partition));
    match named {
        Some((own, named)) if own == partition => Some(named),
        Some((own, _)) => {
            let title = format!("the role is not in the partition `{}`", quote_for_message(own));
            pass.report(node.value_span(), title, "another partition", help);
            None
        }
        None => {
            pass.report(
                node.value_span(),
                format!("`{}` is not the ARN of a bucket", quote_for_message(text)),
                "not a bucket ARN",
                help,
            );
            None
        }
    }
}
