//! Imports a `CreateJobRequest` of OSS Batch Operations as a plan.

use super::import::{Given, head, job, origin, report_switches, store, tags, text_of};
use super::sheet::{Sheet, Word};
use super::tree::{Members, Node, Pass};
use crate::plan::text::shown;
use crate::plan::xml::{OSS_CSV, OSS_INVENTORY};

/// The elements of a request, in the order of the service's samples.
const ROOT: [&str; 9] = [
    "ConfirmationRequired",
    "Operation",
    "Report",
    "ClientRequestToken",
    "Manifest",
    "KeyPrefixManifestGenerator",
    "Description",
    "Priority",
    "RoleArn",
];

/// The operations, with their names in plans.
const OPERATIONS: [(&str, &str); 5] = [
    ("PutObjectTagging", "put_object_tagging"),
    ("AddObjectTagging", "add_object_tagging"),
    ("DeleteObjectTagging", "delete_object_tagging"),
    ("PutObjectAcl", "put_object_acl"),
    ("RestoreObject", "restore_object"),
];

/// Writes the contents of a document into the plan file.
pub(super) fn write(root: &Node, given: &Given, sheet: &mut Sheet, pass: &mut Pass) {
    if root.name != "CreateJobRequest" {
        let title = format!("this is no CreateJobRequest but `{}`", shown(&root.name));
        pass.refuse(&root.span, title, "another document", "import what CreateJob is sent, not what it answers");
        return;
    }
    let Some(members) = pass.members(root, &ROOT, &[]) else { return };
    head("a CreateJobRequest of OSS Batch Operations", members, given, sheet, pass);
    if given.endpoint.is_none() {
        pass.want("--endpoint", "where its buckets are", "https://oss-cn-hangzhou.aliyuncs.com");
    }
    if given.region.is_none() {
        pass.want("--region", "which region to sign for", "cn-hangzhou");
    }
    store("oss", members, given, sheet, pass);
    manifest(members, sheet, pass);
    if let Some(node) = members.need("Operation", pass) {
        operation(node, sheet, pass);
    }
    if let Some(node) = members.get("Report") {
        report(node, sheet, pass);
    }
    job((true, "the request does not say; this is what is safe"), members, sheet, pass);
}

fn manifest(members: Members<'_>, sheet: &mut Sheet, pass: &mut Pass) {
    match (members.get("Manifest"), members.get("KeyPrefixManifestGenerator")) {
        (Some(manifest), None) => listed(manifest, sheet, pass),
        (None, Some(generator)) => generated(generator, sheet, pass),
        (Some(_), Some(generator)) => {
            let help = "a request has one of Manifest and KeyPrefixManifestGenerator";
            pass.refuse(&generator.span, "the objects are named twice", "beside a Manifest", help);
        }
        (None, None) => {
            members.need("Manifest", pass);
        }
    }
}

fn generated(node: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let Some(members) = pass.members(node, &["SourceBucket", "Prefix"], &[]) else { return };
    members.need("SourceBucket", pass);
    sheet.table(
        "manifest.prefix",
        Some(&node.span),
        "Which objects: all whose keys begin so, as they are when the job is made.",
    );
    text_of("SourceBucket", "bucket", members, sheet, pass);
    text_of("Prefix", "prefix", members, sheet, pass);
}

fn listed(node: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.need("Location", pass).and_then(|node| {
        let unsaid = [("VersionId", "the ETag says which content the manifest has: remove the version")];
        pass.members(node, &["ETag", "Bucket", "Object"], &unsaid)
    });
    let spec = manifest.need("Spec", pass).and_then(|node| pass.members(node, &["Fields", "Format"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(OSS_CSV, true), (OSS_INVENTORY, false)];
    let format = spec.need("Format", pass).and_then(|node| pass.choice(node, &formats));
    let Some(is_csv) = format else { return };
    if is_csv {
        sheet.table("manifest.csv", Some(&node.span), "Which objects: those that a CSV file in a bucket names.");
    } else {
        sheet.table("manifest.inventory", Some(&node.span), "Which objects: those of a bucket inventory.");
    }
    text_of("Bucket", "bucket", location, sheet, pass);
    text_of("Object", "object", location, sheet, pass);
    text_of("ETag", "etag", location, sheet, pass);
    if is_csv {
        if let Some(node) = spec.need("Fields", pass)
            && let Some(text) = pass.text(node)
        {
            let fields: Vec<_> = text.split(',').map(|text| Word { text: text.trim(), span: node.place() }).collect();
            sheet.list_entry("fields", &fields, node.place());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.refuse(&node.span, "an inventory says itself which columns it has", "not wanted", "remove `Fields`");
    }
}

fn operation(node: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let known = OPERATIONS.map(|(name, _)| name);
    let Some(members) = pass.members(node, &known, &[]) else { return };
    let Some(node) = members.only(pass) else { return };
    let Some((name, table)) = OPERATIONS.iter().find(|(name, _)| *name == node.name) else { return };
    sheet.table(&format!("operation.{table}"), Some(&node.span), "What is done to each of them.");
    match *name {
        "PutObjectTagging" | "AddObjectTagging" => {
            let tagging = pass.members(node, &["TagSet"], &[]);
            if let Some(set) = tagging.and_then(|tagging| tagging.need("TagSet", pass))
                && let Some(pieces) = pass.pieces(set)
            {
                let strangers = pieces.iter().filter(|piece| piece.name != "Tag");
                strangers.for_each(|piece| pass.unknown(piece, set, &["Tag"]));
                tags(pieces, set, sheet, pass);
            }
        }
        "PutObjectAcl" => {
            if let Some(acl) = pass.members(node, &["ObjectAcl"], &[]) {
                acl.need("ObjectAcl", pass);
                text_of("ObjectAcl", "acl", acl, sheet, pass);
            }
        }
        "RestoreObject" => {
            let Some(restore) = pass.members(node, &["Days", "Tier"], &[]) else { return };
            if let Some(node) = restore.need("Days", pass)
                && let Some(days) = pass.number(node)
            {
                sheet.entry("days", &days.to_string(), Some(origin(node)), "");
            }
            let tiers = [("Standard", "\"Standard\""), ("Bulk", "\"Bulk\"")];
            if let Some(node) = restore.get("Tier")
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

fn report(node: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let Some(members) = pass.members(node, &["Bucket", "Enabled", "Prefix", "ReportScope"], &[]) else { return };
    sheet.table("report", Some(&node.span), "The completion report.");
    text_of("Bucket", "bucket", members, sheet, pass);
    text_of("Prefix", "prefix", members, sheet, pass);
    report_switches(members, sheet, pass);
}
