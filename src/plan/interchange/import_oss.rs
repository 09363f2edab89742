//! Imports a `CreateJobRequest` of OSS Batch Operations as a plan.

use super::import::{
    ImportOptions, write_head, write_job, write_operation, write_report_switches, write_store, write_text_key,
};
use super::toml_writer::{SpannedText, TomlWriter};
use super::tree::{DocumentNode, ImportPass, NodeMembers};
use crate::plan::safe_text::quote_for_message;
use crate::plan::xml::{OSS_CSV, OSS_INVENTORY};
use crate::provider::BatchService;

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

/// Writes the contents of a document into the plan file.
pub(super) fn write(root: &DocumentNode, given: &ImportOptions, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    if root.name != "CreateJobRequest" {
        let title = format!("expected a CreateJobRequest, found `{}`", quote_for_message(&root.name));
        pass.report(&root.name_span, title, "another document", "import the request of CreateJob, not its response");
        return;
    }
    let Some(members) = pass.members(root, &ROOT, &[]) else { return };
    write_head("an OSS Batch Operations request", members, given, sheet, pass);
    if given.endpoint.is_none() {
        pass.report_missing_option("--endpoint", "an endpoint", "https://oss-cn-hangzhou.aliyuncs.com");
    }
    if given.region.is_none() {
        pass.report_missing_option("--region", "a region", "cn-hangzhou");
    }
    write_store("oss", members, given, sheet, pass);
    write_manifest(members, sheet, pass);
    if let Some(node) = members.required("Operation", pass) {
        write_operation(BatchService::Oss, node, &[], sheet, pass);
    }
    if let Some(node) = members.get("Report") {
        write_report(node, sheet, pass);
    }
    write_job((true, "not set in the request: true is safe"), members, sheet, pass);
}

fn write_manifest(members: NodeMembers<'_>, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    match (members.get("Manifest"), members.get("KeyPrefixManifestGenerator")) {
        (Some(manifest), None) => write_listed_manifest(manifest, sheet, pass),
        (None, Some(generator)) => write_generated_manifest(generator, sheet, pass),
        (Some(_), Some(generator)) => {
            let help = "keep either `Manifest` or `KeyPrefixManifestGenerator`";
            pass.report(&generator.name_span, "the request has two manifests", "in addition to `Manifest`", help);
        }
        (None, None) => {
            members.required("Manifest", pass);
        }
    }
}

fn write_generated_manifest(node: &DocumentNode, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(members) = pass.members(node, &["SourceBucket", "Prefix"], &[]) else { return };
    members.required("SourceBucket", pass);
    sheet.table(
        "manifest.prefix",
        Some(&node.name_span),
        "Which objects: all whose keys have this prefix when the job is created.",
    );
    write_text_key("SourceBucket", "bucket", members, sheet, pass);
    write_text_key("Prefix", "prefix", members, sheet, pass);
}

fn write_listed_manifest(node: &DocumentNode, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.required("Location", pass).and_then(|node| {
        let unsaid = [("VersionId", "remove the version: the ETag identifies the content of the manifest")];
        pass.members(node, &["ETag", "Bucket", "Object"], &unsaid)
    });
    let spec = manifest.required("Spec", pass).and_then(|node| pass.members(node, &["Fields", "Format"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(OSS_CSV, true), (OSS_INVENTORY, false)];
    let format = spec.required("Format", pass).and_then(|node| pass.choice(node, &formats));
    let Some(is_csv) = format else { return };
    if is_csv {
        sheet.table("manifest.csv", Some(&node.name_span), "Which objects: those listed in a CSV file in a bucket.");
    } else {
        sheet.table("manifest.inventory", Some(&node.name_span), "Which objects: those listed in a bucket inventory.");
    }
    write_text_key("Bucket", "bucket", location, sheet, pass);
    write_text_key("Object", "object", location, sheet, pass);
    write_text_key("ETag", "etag", location, sheet, pass);
    if is_csv {
        if let Some(node) = spec.required("Fields", pass)
            && let Some(text) = pass.text(node)
        {
            let fields: Vec<_> =
                text.split(',').map(|text| SpannedText { text: text.trim(), span: node.value_span() }).collect();
            sheet.list_entry("fields", &fields, node.value_span());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.report(&node.name_span, "an inventory defines its own columns", "not allowed here", "remove `Fields`");
    }
}

fn write_report(node: &DocumentNode, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(members) = pass.members(node, &["Bucket", "Enabled", "Prefix", "ReportScope"], &[]) else { return };
    sheet.table("report", Some(&node.name_span), "The completion report.");
    write_text_key("Bucket", "bucket", members, sheet, pass);
    write_text_key("Prefix", "prefix", members, sheet, pass);
    write_report_switches(members, sheet, pass);
}
