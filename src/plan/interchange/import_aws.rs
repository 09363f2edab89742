//! Imports the input of `aws s3control create-job` as a plan.

use super::import::{Given, head, job, origin, report_switches, store, tags, text_of};
use super::sheet::{Sheet, Word};
use super::tree::{Members, Node, Pass};
use super::{AWS_CSV, AWS_REPORT};
use crate::plan::text::shown;
use crate::plan::xml::AWS_INVENTORY;

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

/// The operations that plans support, with their names in plans.
const OPERATIONS: [(&str, &str); 4] = [
    ("S3PutObjectTagging", "put_object_tagging"),
    ("S3DeleteObjectTagging", "delete_object_tagging"),
    ("S3PutObjectAcl", "put_object_acl"),
    ("S3InitiateRestoreObject", "restore_object"),
];

const NO_OPERATION: &str = "batchplan tags, sets canned ACLs and restores; leave this job to AWS";
const NO_OWNER: &str = "a plan asks nobody who owns a bucket: remove it";
const NO_FILTER: &str = "remove it here, and say it in [manifest.filter] of the plan";

/// The operations of the service that plans do not support.
const OTHERS: [(&str, &str); 7] = [
    ("LambdaInvoke", NO_OPERATION),
    ("S3PutObjectCopy", NO_OPERATION),
    ("S3PutObjectLegalHold", NO_OPERATION),
    ("S3PutObjectRetention", NO_OPERATION),
    ("S3ReplicateObject", NO_OPERATION),
    ("S3ComputeObjectChecksum", NO_OPERATION),
    ("S3UpdateObjectEncryption", NO_OPERATION),
];

/// The filters of a manifest generator, except for prefixes.
const FILTERS: [(&str, &str); 8] = [
    ("EligibleForReplication", "a plan does not know what is replicated: remove it"),
    ("ObjectReplicationStatuses", "a plan does not know what is replicated: remove it"),
    ("MatchAnyObjectEncryption", "a plan does not know how objects are encrypted: remove it"),
    ("CreatedAfter", NO_FILTER),
    ("CreatedBefore", NO_FILTER),
    ("ObjectSizeGreaterThanBytes", NO_FILTER),
    ("ObjectSizeLessThanBytes", NO_FILTER),
    ("MatchAnyStorageClass", NO_FILTER),
];

/// Writes the contents of a document into the plan file.
pub(super) fn write(root: &Node, given: &Given, sheet: &mut Sheet, pass: &mut Pass) {
    let unsaid = [("Tags", "a plan's jobs have no tags: remove them")];
    let Some(members) = pass.members(root, &ROOT, &unsaid) else { return };
    for name in ["AccountId", "Operation", "Report", "ClientRequestToken", "Priority", "RoleArn"] {
        members.need(name, pass);
    }
    let partition = owner(members, pass).unwrap_or("aws");
    head("a request of S3 Batch Operations", members, given, sheet, pass);
    store("aws", members, given, sheet, pass);
    manifest(members, partition, sheet, pass);
    if let Some(node) = members.get("Operation") {
        operation(node, sheet, pass);
    }
    if let Some(node) = members.get("Report") {
        report(node, partition, sheet, pass);
    }
    let unsaid = (false, "the request does not say, and AWS asks for none then");
    job(unsaid, members, sheet, pass);
}

/// Returns the partition of the role, and checks the account. A plan names no account, so it must be the role's.
fn owner<'n>(members: Members<'n>, pass: &mut Pass) -> Option<&'n str> {
    let role = pass.text(members.get("RoleArn")?)?;
    let node = members.get("AccountId")?;
    let account = pass.text(node)?;
    let mut parts = role.split(':').skip(1);
    let (partition, of_role) = (parts.next()?, parts.nth(2)?);
    if account != of_role {
        let title = format!("the account is not that of the role, `{}`", shown(of_role));
        pass.refuse(node.place(), title, "another account", "a plan works in its role's account: mend one of them");
    }
    Some(partition)
}

fn manifest(members: Members<'_>, partition: &str, sheet: &mut Sheet, pass: &mut Pass) {
    match (members.get("Manifest"), members.get("ManifestGenerator")) {
        (Some(manifest), None) => listed(manifest, partition, sheet, pass),
        (None, Some(generator)) => {
            let members = pass.members(generator, &["S3JobManifestGenerator"], &[]);
            if let Some(node) = members.and_then(|members| members.need("S3JobManifestGenerator", pass)) {
                generated(node, partition, sheet, pass);
            }
        }
        (Some(_), Some(generator)) => {
            let help = "a request has one of Manifest and ManifestGenerator";
            pass.refuse(&generator.span, "the objects are named twice", "beside a Manifest", help);
        }
        (None, None) => {
            members.need("Manifest", pass);
        }
    }
}

fn generated(node: &Node, partition: &str, sheet: &mut Sheet, pass: &mut Pass) {
    let unsaid = [
        ("ExpectedBucketOwner", NO_OWNER),
        ("ManifestOutputLocation", "a plan's frozen manifest stays with its job: remove it"),
    ];
    let known = ["SourceBucket", "Filter", "EnableManifestOutput"];
    let Some(members) = pass.members(node, &known, &unsaid) else { return };
    if let Some(node) = members.need("EnableManifestOutput", pass)
        && pass.truth(node) == Some(true)
    {
        let help = "a plan's frozen manifest stays with its job: write false";
        pass.refuse(node.place(), "a plan cannot say `EnableManifestOutput`", "not taken over", help);
    }
    sheet.table(
        "manifest.prefix",
        Some(&node.span),
        "Which objects: all whose keys begin so, as they are when the job is made.",
    );
    if let Some(node) = members.need("SourceBucket", pass) {
        bucket(node, partition, sheet, pass);
    }
    let Some(filter) = members.get("Filter").and_then(|node| pass.members(node, &["KeyNameConstraint"], &FILTERS))
    else {
        return;
    };
    let others = [("MatchAnySuffix", NO_FILTER), ("MatchAnySubstring", NO_FILTER)];
    let names = filter.get("KeyNameConstraint").and_then(|node| pass.members(node, &["MatchAnyPrefix"], &others));
    let Some(prefixes) = names.and_then(|names| names.get("MatchAnyPrefix")) else { return };
    match pass.items(prefixes) {
        Some([only]) => {
            if let Some(text) = pass.text(only) {
                sheet.text_entry("prefix", text, origin(only));
            }
        }
        Some([]) => pass.refuse(prefixes.place(), "`MatchAnyPrefix` holds nothing", "empty", "name the prefix"),
        Some([_, second, ..]) => {
            let help = "make a plan of each: a plan has one prefix";
            pass.refuse(second.place(), "a plan cannot say several prefixes", "the second one", help);
        }
        None => {}
    }
}

fn listed(node: &Node, partition: &str, sheet: &mut Sheet, pass: &mut Pass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.need("Location", pass).and_then(|node| {
        let unsaid = [("ObjectVersionId", "the ETag says which content the manifest has: remove the version")];
        pass.members(node, &["ObjectArn", "ETag"], &unsaid)
    });
    let spec = manifest.need("Spec", pass).and_then(|node| pass.members(node, &["Format", "Fields"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(AWS_CSV, true), (AWS_INVENTORY, false)];
    let format = spec.need("Format", pass).and_then(|node| pass.choice(node, &formats));
    let (Some(is_csv), Some(arn)) = (format, location.need("ObjectArn", pass)) else { return };
    if is_csv {
        sheet.table("manifest.csv", Some(&node.span), "Which objects: those that a CSV file in a bucket names.");
    } else {
        sheet.table("manifest.inventory", Some(&node.span), "Which objects: those of a bucket inventory.");
    }
    if let Some(named) = resource(arn, partition, pass) {
        let (bucket, object) = named.split_once('/').unwrap_or((named, ""));
        if object.is_empty() {
            let help = format!("as in arn:{}:s3:::my-bucket/manifest.csv", shown(partition));
            pass.refuse(arn.place(), "this names no object", "no key in it", help);
        }
        sheet.text_entry("bucket", bucket, origin(arn));
        sheet.text_entry("object", object, origin(arn));
    }
    location.need("ETag", pass);
    text_of("ETag", "etag", location, sheet, pass);
    if is_csv {
        if let Some(node) = spec.need("Fields", pass)
            && let Some(items) = pass.items(node)
        {
            let names = items.iter().filter_map(|item| Some(Word { text: pass.text(item)?, span: item.place() }));
            let names: Vec<_> = names.collect();
            sheet.list_entry("fields", &names, node.place());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.refuse(&node.span, "an inventory says itself which columns it has", "not wanted", "remove `Fields`");
    }
}

fn operation(node: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let known = OPERATIONS.map(|(name, _)| name);
    let Some(members) = pass.members(node, &known, &OTHERS) else { return };
    let Some(node) = members.only(pass) else { return };
    let Some((name, table)) = OPERATIONS.iter().find(|(name, _)| *name == node.name) else { return };
    sheet.table(&format!("operation.{table}"), Some(&node.span), "What is done to each of them.");
    match *name {
        "S3PutObjectTagging" => {
            let tagging = pass.members(node, &["TagSet"], &[]);
            if let Some(set) = tagging.and_then(|tagging| tagging.need("TagSet", pass))
                && let Some(pieces) = pass.items(set)
            {
                tags(pieces, set, sheet, pass);
            }
        }
        "S3PutObjectAcl" => {
            let policy = pass.members(node, &["AccessControlPolicy"], &[]);
            let policy = policy.and_then(|members| members.need("AccessControlPolicy", pass));
            let grants = [("AccessControlList", "a plan has canned ACLs alone: name a CannedAccessControlList")];
            if let Some(policy) = policy.and_then(|node| pass.members(node, &["CannedAccessControlList"], &grants)) {
                policy.need("CannedAccessControlList", pass);
                text_of("CannedAccessControlList", "acl", policy, sheet, pass);
            }
        }
        "S3InitiateRestoreObject" => {
            let Some(restore) = pass.members(node, &["ExpirationInDays", "GlacierJobTier"], &[]) else { return };
            if let Some(node) = restore.need("ExpirationInDays", pass)
                && let Some(days) = pass.number(node)
            {
                sheet.entry("days", &days.to_string(), Some(origin(node)), "");
            }
            let tiers = [("STANDARD", "\"Standard\""), ("BULK", "\"Bulk\"")];
            if let Some(node) = restore.get("GlacierJobTier")
                && let Some(tier) = pass.choice(node, &tiers)
            {
                sheet.entry("tier", tier, Some(origin(node)), "");
            }
        }
        // All tags are deleted: there is nothing to write.
        _ => {
            pass.members(node, &[], &[]);
        }
    }
}

fn report(node: &Node, partition: &str, sheet: &mut Sheet, pass: &mut Pass) {
    let known = ["Bucket", "Format", "Enabled", "Prefix", "ReportScope"];
    let Some(members) = pass.members(node, &known, &[("ExpectedBucketOwner", NO_OWNER)]) else { return };
    members.need("Enabled", pass);
    sheet.table("report", Some(&node.span), "The completion report.");
    if let Some(node) = members.get("Bucket") {
        bucket(node, partition, sheet, pass);
    }
    text_of("Prefix", "prefix", members, sheet, pass);
    report_switches(members, sheet, pass);
    // This is the default format in plans for aws.
    members.get("Format").and_then(|node| pass.choice(node, &[(AWS_REPORT, ())]));
}

fn bucket(node: &Node, partition: &str, sheet: &mut Sheet, pass: &mut Pass) {
    if let Some(name) = resource(node, partition, pass) {
        sheet.text_entry("bucket", name, origin(node));
    }
}

/// Returns what follows `arn:aws:s3:::`. Access points and buckets on Outposts have other ARNs, and plans cannot name
/// them.
fn resource<'n>(node: &'n Node, partition: &str, pass: &mut Pass) -> Option<&'n str> {
    let text = pass.text(node)?;
    let named = text.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let help = format!("as in arn:{}:s3:::my-bucket", shown(partition));
    match named {
        Some((own, named)) if own == partition => Some(named),
        Some((own, _)) => {
            let title = format!("the role is not of the partition `{}`", shown(own));
            pass.refuse(node.place(), title, "another partition", help);
            None
        }
        None => {
            pass.refuse(node.place(), format!("`{}` is the ARN of no bucket", shown(text)), "not named so", help);
            None
        }
    }
}
