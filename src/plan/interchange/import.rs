//! Imports a request as a plan file.
//!
//! The contents of the request's document are written into a [`TomlWriter`], by the functions of its service and those
//! that both services share. Then the plan file is read like any other. Problems point into the request.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use super::document::{DocumentNode, NodeContent, read_json, read_xml};
use super::export::{AWS_CSV, AWS_REPORT, ExportOptions, export};
use super::toml_writer::{SpannedText, TomlWriter, ValueOrigin};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::manifest::{FileLocation, InventoryDialect, InventorySelector, ManifestSource};
use crate::operation::{FieldKind, Operation, OperationField};
use crate::plan::xml::{OSS_CSV, inventory_format};
use crate::plan::{self, Plan};
use crate::provider::{BatchService, ProviderRules};
use crate::toml_reader::{TextSpan, mask_for_excerpts, nearest, quote_for_message};

/// More problems than this are not kept, so that a hostile document cannot produce megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// The maximum size of a request, in bytes. Real requests have a few thousand at most.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Settings that a plan requires and a request does not have.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The plan's name, from `--name`.
    pub name: Option<String>,
    /// The store's endpoint, from `--endpoint`.
    pub endpoint: Option<String>,
    /// The store's region, from `--region`.
    pub region: Option<String>,
}

/// Reads a request and writes the plan file that means the same.
///
/// `file` is the name of the request in messages, and the plan's ages are counted back from `now`. There is a plan
/// exactly if no problem is an error, and then it is valid. Problems point into the request. The result is checked by
/// [`export`]: a plan that cannot be exported as such a request again does not mean the same.
#[must_use]
pub fn import(file: &str, bytes: &[u8], options: &ImportOptions, now: Timestamp) -> (Option<String>, FileProblems) {
    let text = match decode_text(bytes) {
        Ok(text) => text,
        Err(problem) => return to_problems(file, "", vec![problem]),
    };
    let mut writer = TomlWriter::default();
    let mut pass = ImportPass { noun: "element", problems: Vec::new() };
    let first = text.trim_start().bytes().next();
    let service = if first == Some(b'<') { BatchService::Oss } else { BatchService::Aws };
    let read = match first {
        Some(b'<') => read_xml(text).map(|root| write_oss_plan(&root, options, &mut writer, &mut pass)),
        Some(b'{') => {
            pass.noun = "key";
            let root = read_json(text, "CreateJobRequest");
            root.map(|root| write_aws_plan(&root, options, &mut writer, &mut pass))
        }
        _ => {
            let problem = FileProblem::new("the file is not a request").label(0..0, "neither XML nor JSON");
            Err(problem
                .help("use a CreateJobRequest of OSS in XML, or the input of `aws s3control create-job` in JSON"))
        }
    };
    if let Err(problem) = read {
        return to_problems(file, text, vec![problem]);
    }
    if !pass.problems.is_empty() {
        return to_problems(file, text, pass.problems);
    }
    let (plan, problems) = plan::read("plan", writer.text(), Path::new(""), now);
    let mut translated: Vec<_> = problems.iter().map(|problem| writer.translate_problem(problem)).collect();
    let unexportable =
        plan.as_ref().and_then(|plan| export(plan, service, &placeholder_options(plan)).err()).unwrap_or_default();
    let plan = plan.filter(|_| unexportable.is_empty()).map(|_| writer.text().to_owned());
    translated.extend(unexportable);
    (plan, to_problems(file, text, translated).1)
}

/// Returns placeholders for settings that a request requires and a plan may leave to the command line.
pub(super) fn placeholder_options(plan: &Plan) -> ExportOptions {
    let unpinned = matches!(
        &plan.manifest.source,
        ManifestSource::Csv { location: FileLocation::Object { etag: None, .. }, .. }
            | ManifestSource::Inventory { selector: InventorySelector::Exact { etag: None, .. }, .. }
    );
    let role_arn = ProviderRules::of(plan.store.provider).role_arn.example.to_owned();
    ExportOptions {
        role_arn: plan.store.role_arn.is_none().then_some(role_arn),
        account_id: None,
        etag: unpinned.then(|| "etag".to_owned()),
        fresh_token: "token".to_owned(),
    }
}

fn decode_text(bytes: &[u8]) -> Result<&str, FileProblem> {
    if bytes.len() > MAX_REQUEST_BYTES {
        let problem = FileProblem::new("the file is too large for a request").label(0..0, "more than 1 MiB");
        return Err(problem.help("a request lists its objects in a manifest in a bucket"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| FileProblem::new("the file is not UTF-8").help("save it as UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn to_problems(file: &str, text: &str, found: Vec<FileProblem>) -> (Option<String>, FileProblems) {
    let mut problems = FileProblems::new(&quote_for_message(file), &mask_for_excerpts(text, &[]));
    for problem in found {
        problems.push(problem);
    }
    (None, problems)
}

/// Writes the first lines of the plan, and reports missing command line options.
fn write_head(
    of: &str,
    members: NodeMembers<'_>,
    options: &ImportOptions,
    writer: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    writer.introduction(&[
        &format!("A batchplan plan, imported from {of}."),
        "",
        "  batchplan validate PLAN     checks it and changes nothing",
        "  batchplan apply PLAN        runs it here, after asking",
    ]);
    match &options.name {
        Some(name) => writer.text_entry("name", name, ValueOrigin::CliOption("--name")),
        None => pass.report_missing_option("--name", "a name", "tag-documents"),
    }
    write_text_key("Description", "description", members, writer, pass);
}

/// Writes `[store]`.
fn write_store(
    provider: &str,
    members: NodeMembers<'_>,
    options: &ImportOptions,
    writer: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    writer.table("store", None, "Where the objects are. Credentials come from the environment, never from the plan.");
    writer.entry("provider", &format!("\"{provider}\""), None, "");
    for (key, flag, value) in [("endpoint", "--endpoint", &options.endpoint), ("region", "--region", &options.region)] {
        if let Some(value) = value {
            writer.text_entry(key, value, ValueOrigin::CliOption(flag));
        }
    }
    write_text_key("RoleArn", "role_arn", members, writer, pass);
}

/// Writes `[job]`. `default` is the confirmation setting for a request that has none, with a remark.
fn write_job(default: (bool, &str), members: NodeMembers<'_>, writer: &mut TomlWriter, pass: &mut ImportPass) {
    writer.table("job", None, "How the job runs.");
    let confirmation = members.get("ConfirmationRequired");
    match confirmation.map(|node| (pass.boolean(node), node)) {
        Some((Some(value), node)) => {
            writer.entry("confirmation_required", &value.to_string(), Some(node_origin(node)), "");
        }
        Some((None, _)) => {}
        None => writer.entry("confirmation_required", &default.0.to_string(), None, default.1),
    }
    if let Some(node) = members.get("Priority")
        && let Some(number) = pass.number(node)
    {
        writer.entry("priority", &number.to_string(), Some(node_origin(node)), "");
    }
    write_text_key("ClientRequestToken", "client_request_token", members, writer, pass);
}

/// Writes `enabled` and `scope` of `[report]`, which are the same for both services.
fn write_report_switches(members: NodeMembers<'_>, writer: &mut TomlWriter, pass: &mut ImportPass) {
    if let Some(node) = members.get("Enabled")
        && let Some(value) = pass.boolean(node)
    {
        writer.entry("enabled", &value.to_string(), Some(node_origin(node)), "");
    }
    let scopes = [("AllTasks", "\"all-tasks\""), ("FailedTasksOnly", "\"failed-tasks-only\"")];
    if let Some(node) = members.get("ReportScope")
        && let Some(scope) = pass.choice(node, &scopes)
    {
        writer.entry("scope", scope, Some(node_origin(node)), "");
    }
}

/// Writes the operation of a request. `unsupported` are the operations that the service has and plans do not, each with
/// what to do.
fn write_operation(
    service: BatchService,
    node: &DocumentNode,
    unsupported: &[(&str, &str)],
    writer: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    let supported: Vec<_> = Operation::DESCRIPTORS
        .iter()
        .filter_map(|descriptor| {
            let name = match service {
                BatchService::Oss => descriptor.is_in_oss.then_some(descriptor.oss_element),
                BatchService::Aws => descriptor.aws_member,
            };
            Some((name?, *descriptor))
        })
        .collect();
    let known: Vec<_> = supported.iter().map(|(name, _)| *name).collect();
    let unsupported: Vec<_> = unsupported.iter().copied().filter(|(name, _)| !known.contains(name)).collect();
    let Some(members) = pass.members(node, &known, &unsupported) else { return };
    let Some(node) = members.only_child(pass) else { return };
    let Some((_, descriptor)) = supported.iter().find(|(name, _)| *name == node.name) else { return };
    writer.table(&format!("operation.{}", descriptor.name), Some(&node.name_span), "What to do with each object.");
    let fields: Vec<_> = descriptor
        .fields
        .iter()
        .map(|field| (*field, request_path(service, field)))
        .filter(|(_, p)| !p.is_empty())
        .collect();
    let mut top: Vec<_> = fields.iter().map(|(_, path)| path[0]).collect();
    top.dedup();
    let Some(members) = pass.members(node, &top, &[]) else { return };
    for (field, path) in fields {
        if let Some(node) = find_setting(field, &path, members, pass) {
            write_setting(service, field, node, writer, pass);
        }
    }
}

/// Returns the names of the elements or members around a setting in a request, and its own; empty if requests have no
/// such setting.
fn request_path(service: BatchService, field: &OperationField) -> Vec<&'static str> {
    match service {
        BatchService::Oss if field.kind == FieldKind::TagKeys => Vec::new(),
        BatchService::Oss => vec![field.oss_element],
        BatchService::Aws => field.aws_path.to_vec(),
    }
}

fn find_setting<'n>(
    field: &OperationField,
    path: &[&str],
    members: NodeMembers<'n>,
    pass: &mut ImportPass,
) -> Option<&'n DocumentNode> {
    let (name, inner) = path.split_first()?;
    let node = if field.required { members.required(name, pass) } else { members.get(name) }?;
    let Some(next) = inner.first() else { return Some(node) };
    let unsupported = if inner.len() == 1 { field.aws_unsupported } else { &[] };
    let members = pass.members(node, &[*next], unsupported)?;
    find_setting(field, inner, members, pass)
}

fn write_setting(
    service: BatchService,
    field: &OperationField,
    node: &DocumentNode,
    writer: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    match field.kind {
        FieldKind::Tags => {
            let pieces = match service {
                BatchService::Oss => pass.children(node),
                BatchService::Aws => pass.items(node),
            };
            let Some(pieces) = pieces else { return };
            if service == BatchService::Oss {
                let strangers = pieces.iter().filter(|piece| piece.name != "Tag");
                strangers.for_each(|piece| pass.report_unknown(piece, node, &["Tag"]));
            }
            write_tags(pieces, node, writer, pass);
        }
        FieldKind::TagKeys => {}
        FieldKind::Text => {
            if let Some(text) = pass.text(node) {
                writer.text_entry(field.key, text, node_origin(node));
            }
        }
        FieldKind::Number => {
            if let Some(number) = pass.number(node) {
                writer.entry(field.key, &number.to_string(), Some(node_origin(node)), "");
            }
        }
        FieldKind::Choice(names) => {
            let spelled: Vec<_> = names.iter().map(|name| (name_in_requests(service, name), *name)).collect();
            let choices: Vec<_> = spelled.iter().map(|(spelled, name)| (spelled.as_str(), *name)).collect();
            if let Some(name) = pass.choice(node, &choices) {
                writer.entry(field.key, &format!("\"{name}\""), Some(node_origin(node)), "");
            }
        }
    }
}

/// Returns a name of a choice as requests of the service write it.
fn name_in_requests(service: BatchService, name: &str) -> String {
    match service {
        BatchService::Oss => name.to_owned(),
        BatchService::Aws => name.to_ascii_uppercase(),
    }
}

/// Writes one key with a text, if the document has it.
fn write_text_key(name: &str, key: &str, members: NodeMembers<'_>, writer: &mut TomlWriter, pass: &mut ImportPass) {
    if let Some(node) = members.get(name)
        && let Some(text) = pass.text(node)
    {
        writer.text_entry(key, text, node_origin(node));
    }
}

/// Writes the tags in `pieces`, each with `Key` and `Value`.
fn write_tags<'n>(pieces: &'n [DocumentNode], set: &DocumentNode, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let mut pairs: Vec<(SpannedText<'n>, SpannedText<'n>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for piece in pieces {
        let Some(tag) = pass.members(piece, &["Key", "Value"], &[]) else { continue };
        let key = tag.required("Key", pass).and_then(|node| spanned_text(node, pass));
        let value = tag.required("Value", pass).and_then(|node| spanned_text(node, pass));
        let (Some(key), Some(value)) = (key, value) else { continue };
        if !seen.insert(key.text) {
            let title = format!("duplicate tag `{}`", quote_for_message(key.text));
            pass.report(key.span, title, "the second one", "keep one of them");
        }
        pairs.push((key, value));
    }
    writer.table_entry("tags", &pairs, &set.name_span);
}

fn spanned_text<'n>(node: &'n DocumentNode, pass: &mut ImportPass) -> Option<SpannedText<'n>> {
    pass.text(node).map(|text| SpannedText { text, span: node.value_span() })
}

fn node_origin(node: &DocumentNode) -> ValueOrigin {
    ValueOrigin::Document(node.value_span().clone())
}

/// The elements of a request to OSS, in the order of its samples.
const OSS_ROOT: [&str; 9] = [
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

/// Writes the contents of a `CreateJobRequest` of OSS into the plan file.
fn write_oss_plan(root: &DocumentNode, options: &ImportOptions, writer: &mut TomlWriter, pass: &mut ImportPass) {
    if root.name != "CreateJobRequest" {
        let title = format!("expected a CreateJobRequest, found `{}`", quote_for_message(&root.name));
        pass.report(&root.name_span, title, "another document", "import the request of CreateJob, not its response");
        return;
    }
    let Some(members) = pass.members(root, &OSS_ROOT, &[]) else { return };
    write_head("an OSS Batch Operations request", members, options, writer, pass);
    if options.endpoint.is_none() {
        pass.report_missing_option("--endpoint", "an endpoint", "https://oss-cn-hangzhou.aliyuncs.com");
    }
    if options.region.is_none() {
        pass.report_missing_option("--region", "a region", "cn-hangzhou");
    }
    write_store("oss", members, options, writer, pass);
    write_oss_manifest(members, writer, pass);
    if let Some(node) = members.required("Operation", pass) {
        write_operation(BatchService::Oss, node, &[], writer, pass);
    }
    if let Some(node) = members.get("Report") {
        write_oss_report(node, writer, pass);
    }
    write_job((true, "not set in the request: true is safe"), members, writer, pass);
}

fn write_oss_manifest(members: NodeMembers<'_>, writer: &mut TomlWriter, pass: &mut ImportPass) {
    match (members.get("Manifest"), members.get("KeyPrefixManifestGenerator")) {
        (Some(manifest), None) => write_oss_listed_manifest(manifest, writer, pass),
        (None, Some(generator)) => write_oss_generated_manifest(generator, writer, pass),
        (Some(_), Some(generator)) => {
            let help = "keep either `Manifest` or `KeyPrefixManifestGenerator`";
            pass.report(&generator.name_span, "the request has two manifests", "in addition to `Manifest`", help);
        }
        (None, None) => {
            members.required("Manifest", pass);
        }
    }
}

fn write_oss_generated_manifest(node: &DocumentNode, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(members) = pass.members(node, &["SourceBucket", "Prefix"], &[]) else { return };
    members.required("SourceBucket", pass);
    writer.table(
        "manifest.prefix",
        Some(&node.name_span),
        "Which objects: all whose keys have this prefix when the job is created.",
    );
    write_text_key("SourceBucket", "bucket", members, writer, pass);
    write_text_key("Prefix", "prefix", members, writer, pass);
}

fn write_oss_listed_manifest(node: &DocumentNode, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.required("Location", pass).and_then(|node| {
        let unsupported = [("VersionId", "remove the version: the ETag identifies the content of the manifest")];
        pass.members(node, &["ETag", "Bucket", "Object"], &unsupported)
    });
    let spec = manifest.required("Spec", pass).and_then(|node| pass.members(node, &["Fields", "Format"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(OSS_CSV, true), (inventory_format(InventoryDialect::Oss), false)];
    let format = spec.required("Format", pass).and_then(|node| pass.choice(node, &formats));
    let Some(is_csv) = format else { return };
    if is_csv {
        writer.table("manifest.csv", Some(&node.name_span), "Which objects: those listed in a CSV file in a bucket.");
    } else {
        writer.table("manifest.inventory", Some(&node.name_span), "Which objects: those listed in a bucket inventory.");
    }
    write_text_key("Bucket", "bucket", location, writer, pass);
    write_text_key("Object", "object", location, writer, pass);
    write_text_key("ETag", "etag", location, writer, pass);
    if is_csv {
        if let Some(node) = spec.required("Fields", pass)
            && let Some(text) = pass.text(node)
        {
            let fields: Vec<_> =
                text.split(',').map(|text| SpannedText { text: text.trim(), span: node.value_span() }).collect();
            writer.list_entry("fields", &fields, node.value_span());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.report(&node.name_span, "an inventory defines its own columns", "not allowed here", "remove `Fields`");
    }
}

fn write_oss_report(node: &DocumentNode, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(members) = pass.members(node, &["Bucket", "Enabled", "Prefix", "ReportScope"], &[]) else { return };
    writer.table("report", Some(&node.name_span), "The completion report.");
    write_text_key("Bucket", "bucket", members, writer, pass);
    write_text_key("Prefix", "prefix", members, writer, pass);
    write_report_switches(members, writer, pass);
}

/// The keys of a request to AWS.
const AWS_ROOT: [&str; 10] = [
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

/// The operations of AWS that plans do not support.
const UNSUPPORTED_OPERATIONS: [(&str, &str); 7] = [
    ("LambdaInvoke", NO_OPERATION),
    ("S3PutObjectCopy", NO_OPERATION),
    ("S3PutObjectLegalHold", NO_OPERATION),
    ("S3PutObjectRetention", NO_OPERATION),
    ("S3ReplicateObject", NO_OPERATION),
    ("S3ComputeObjectChecksum", NO_OPERATION),
    ("S3UpdateObjectEncryption", NO_OPERATION),
];

/// The filters of AWS's manifest generator, except for prefixes.
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

/// Writes the contents of an input of `aws s3control create-job` into the plan file.
fn write_aws_plan(root: &DocumentNode, options: &ImportOptions, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let unsupported = [("Tags", "remove them: jobs of a plan have no tags")];
    let Some(members) = pass.members(root, &AWS_ROOT, &unsupported) else { return };
    for name in ["AccountId", "Operation", "Report", "ClientRequestToken", "Priority", "RoleArn"] {
        members.required(name, pass);
    }
    let partition = role_partition(members, pass).unwrap_or("aws");
    write_head("an S3 Batch Operations request", members, options, writer, pass);
    write_store("aws", members, options, writer, pass);
    write_aws_manifest(members, partition, writer, pass);
    if let Some(node) = members.get("Operation") {
        write_operation(BatchService::Aws, node, &UNSUPPORTED_OPERATIONS, writer, pass);
    }
    if let Some(node) = members.get("Report") {
        write_aws_report(node, partition, writer, pass);
    }
    let confirmation = (false, "not set in the request: AWS asks for no confirmation");
    write_job(confirmation, members, writer, pass);
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

fn write_aws_manifest(members: NodeMembers<'_>, partition: &str, writer: &mut TomlWriter, pass: &mut ImportPass) {
    match (members.get("Manifest"), members.get("ManifestGenerator")) {
        (Some(manifest), None) => write_aws_listed_manifest(manifest, partition, writer, pass),
        (None, Some(generator)) => {
            let members = pass.members(generator, &["S3JobManifestGenerator"], &[]);
            if let Some(node) = members.and_then(|members| members.required("S3JobManifestGenerator", pass)) {
                write_aws_generated_manifest(node, partition, writer, pass);
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

fn write_aws_generated_manifest(node: &DocumentNode, partition: &str, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let unsupported = [
        ("ExpectedBucketOwner", NO_OWNER),
        ("ManifestOutputLocation", "remove it: the frozen manifest stays with the job"),
    ];
    let known = ["SourceBucket", "Filter", "EnableManifestOutput"];
    let Some(members) = pass.members(node, &known, &unsupported) else { return };
    if let Some(node) = members.required("EnableManifestOutput", pass)
        && pass.boolean(node) == Some(true)
    {
        let help = "set it to false: the frozen manifest stays with the job";
        pass.report(node.value_span(), "plans do not support `EnableManifestOutput`", "not supported", help);
    }
    writer.table(
        "manifest.prefix",
        Some(&node.name_span),
        "Which objects: all whose keys have this prefix when the job is created.",
    );
    if let Some(node) = members.required("SourceBucket", pass) {
        write_bucket(node, partition, writer, pass);
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
                writer.text_entry("prefix", text, node_origin(only));
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

fn write_aws_listed_manifest(node: &DocumentNode, partition: &str, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let Some(manifest) = pass.members(node, &["Location", "Spec"], &[]) else { return };
    let location = manifest.required("Location", pass).and_then(|node| {
        let unsupported = [("ObjectVersionId", "remove the version: the ETag identifies the content of the manifest")];
        pass.members(node, &["ObjectArn", "ETag"], &unsupported)
    });
    let spec = manifest.required("Spec", pass).and_then(|node| pass.members(node, &["Format", "Fields"], &[]));
    let (Some(location), Some(spec)) = (location, spec) else { return };
    let formats = [(AWS_CSV, true), (inventory_format(InventoryDialect::Aws), false)];
    let format = spec.required("Format", pass).and_then(|node| pass.choice(node, &formats));
    let (Some(is_csv), Some(arn)) = (format, location.required("ObjectArn", pass)) else { return };
    if is_csv {
        writer.table("manifest.csv", Some(&node.name_span), "Which objects: those listed in a CSV file in a bucket.");
    } else {
        writer.table("manifest.inventory", Some(&node.name_span), "Which objects: those listed in a bucket inventory.");
    }
    if let Some(named) = bucket_resource(arn, partition, pass) {
        let (bucket, object) = named.split_once('/').unwrap_or((named, ""));
        if object.is_empty() {
            let help = format!("use an ARN such as arn:{}:s3:::my-bucket/manifest.csv", quote_for_message(partition));
            pass.report(arn.value_span(), "the ARN names no object", "no key", help);
        }
        writer.text_entry("bucket", bucket, node_origin(arn));
        writer.text_entry("object", object, node_origin(arn));
    }
    location.required("ETag", pass);
    write_text_key("ETag", "etag", location, writer, pass);
    if is_csv {
        if let Some(node) = spec.required("Fields", pass)
            && let Some(items) = pass.items(node)
        {
            let names =
                items.iter().filter_map(|item| Some(SpannedText { text: pass.text(item)?, span: item.value_span() }));
            let names: Vec<_> = names.collect();
            writer.list_entry("fields", &names, node.value_span());
        }
    } else if let Some(node) = spec.get("Fields") {
        pass.report(&node.name_span, "an inventory defines its own columns", "not allowed here", "remove `Fields`");
    }
}

fn write_aws_report(node: &DocumentNode, partition: &str, writer: &mut TomlWriter, pass: &mut ImportPass) {
    let known = ["Bucket", "Format", "Enabled", "Prefix", "ReportScope"];
    let Some(members) = pass.members(node, &known, &[("ExpectedBucketOwner", NO_OWNER)]) else { return };
    members.required("Enabled", pass);
    writer.table("report", Some(&node.name_span), "The completion report.");
    if let Some(node) = members.get("Bucket") {
        write_bucket(node, partition, writer, pass);
    }
    write_text_key("Prefix", "prefix", members, writer, pass);
    write_report_switches(members, writer, pass);
    // This is the default format in plans for aws.
    members.get("Format").and_then(|node| pass.choice(node, &[(AWS_REPORT, ())]));
}

fn write_bucket(node: &DocumentNode, partition: &str, writer: &mut TomlWriter, pass: &mut ImportPass) {
    if let Some(name) = bucket_resource(node, partition, pass) {
        writer.text_entry("bucket", name, node_origin(node));
    }
}

/// Returns what follows `arn:aws:s3:::`. Access points and buckets on Outposts have other ARNs, and plans cannot name
/// them.
fn bucket_resource<'n>(node: &'n DocumentNode, partition: &str, pass: &mut ImportPass) -> Option<&'n str> {
    let text = pass.text(node)?;
    let named = text.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::"));
    let help = format!("use an ARN such as arn:{}:s3:::my-bucket", quote_for_message(partition));
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

/// The problems of one document, and its word for a node.
#[derive(Debug)]
struct ImportPass {
    /// `element` or `key`.
    noun: &'static str,
    problems: Vec<FileProblem>,
}

impl ImportPass {
    /// Reports something that cannot be imported.
    fn report(&mut self, span: &TextSpan, title: impl Into<String>, label: &str, help: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(FileProblem::new(title).label(span.clone(), label).help(help));
        }
    }

    /// Reports a missing command line option.
    fn report_missing_option(&mut self, flag: &str, what: &str, example: &str) {
        let title = format!("`{flag}` is missing: the request does not contain {what}");
        self.problems.push(FileProblem::new(title).help(format!("for example: `{flag} {example}`")));
    }

    /// Reports a node with content of the wrong kind.
    fn mismatch(&mut self, node: &DocumentNode, wanted: &str) {
        let title = format!("`{}` must contain {wanted}", quote_for_message(&node.name));
        self.report(node.value_span(), title, "wrong type", format!("write {wanted}"));
    }

    /// Reads one of a fixed set of names, and returns the value for it.
    fn choice<T: Copy>(&mut self, node: &DocumentNode, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?.trim();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let all = format!("valid values: {}", names.join(", "));
        let help = nearest(text, names).map_or(all.clone(), |near| format!("did you mean `{near}`? {all}"));
        let title = format!("`{}` cannot be `{}` here", quote_for_message(&node.name), quote_for_message(text));
        self.report(node.value_span(), title, "not a valid value", help);
        None
    }

    /// Reads a text.
    fn text<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n str> {
        match &node.content {
            NodeContent::XmlText(text) | NodeContent::Text(text) => Some(text),
            _ => {
                self.mismatch(node, "a string");
                None
            }
        }
    }

    /// Reads a truth value.
    fn boolean(&mut self, node: &DocumentNode) -> Option<bool> {
        let value = match &node.content {
            NodeContent::Bool(value) => Some(*value),
            NodeContent::XmlText(text) => text.trim().parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.mismatch(node, "true or false");
        }
        value
    }

    /// Reads a whole number that is not negative. Its range is checked when the plan is read.
    fn number(&mut self, node: &DocumentNode) -> Option<u64> {
        let digits = match &node.content {
            NodeContent::Number(digits) => digits.as_str(),
            NodeContent::XmlText(text) => text.trim(),
            _ => "",
        };
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // The largest integer in TOML.
        let value = digits.parse().ok().filter(|number| whole && i64::try_from(*number).is_ok());
        if value.is_none() {
            self.mismatch(node, "an integer from 0");
        }
        value
    }

    /// Returns the items of a list.
    fn items<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n [DocumentNode]> {
        let NodeContent::Items(items) = &node.content else {
            self.mismatch(node, "a list");
            return None;
        };
        Some(items)
    }

    /// Returns the named children of a node. Each of them must be known and occur once.
    ///
    /// `unsupported` are the names that the service knows and plans do not support, each with what to do.
    fn members<'n>(
        &mut self,
        node: &'n DocumentNode,
        known: &[&str],
        unsupported: &[(&str, &str)],
    ) -> Option<NodeMembers<'n>> {
        let members = self.children(node)?;
        let mut seen = BTreeSet::new();
        for member in members {
            let name = member.name.as_str();
            if let Some((_, help)) = unsupported.iter().find(|(unsupported, _)| *unsupported == name) {
                self.report(&member.name_span, format!("plans do not support `{name}`"), "not supported", *help);
            } else if !known.contains(&name) {
                self.report_unknown(member, node, known);
            } else if !seen.insert(name) {
                let title = format!("duplicate {} `{name}`", self.noun);
                self.report(&member.name_span, title, "the second one", "keep one of them");
            }
        }
        Some(NodeMembers { node, members })
    }

    /// Returns the named children of a node, whatever their names.
    fn children<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n [DocumentNode]> {
        match &node.content {
            NodeContent::Members(members) => Some(members),
            NodeContent::XmlText(text) if text.trim().is_empty() => Some(&[]),
            _ => {
                let wanted = format!("{}s", self.noun);
                self.mismatch(node, &wanted);
                None
            }
        }
    }

    /// Reports a node that the service does not know, or that is in the wrong place.
    fn report_unknown(&mut self, member: &DocumentNode, within: &DocumentNode, known: &[&str]) {
        // Finding the nearest name takes time, and a hostile document has room for many names.
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let name = quote_for_message(&member.name);
        let title = format!("unknown {} `{name}` in `{}`", self.noun, quote_for_message(&within.name));
        let help = match nearest(&member.name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("remove it: `{}` must be empty", quote_for_message(&within.name)),
            None => format!("valid {}s: {}", self.noun, known.join(", ")),
        };
        self.report(&member.name_span, title, "unknown", help);
    }
}

/// The named children of one node.
#[derive(Clone, Copy, Debug)]
struct NodeMembers<'n> {
    node: &'n DocumentNode,
    members: &'n [DocumentNode],
}

impl<'n> NodeMembers<'n> {
    /// Returns the child of this name, if it is present.
    fn get(&self, name: &str) -> Option<&'n DocumentNode> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Returns the child of this name, and reports it if it is missing.
    fn required(&self, name: &str, pass: &mut ImportPass) -> Option<&'n DocumentNode> {
        let found = self.get(name);
        if found.is_none() {
            let title = format!("`{name}` is missing in `{}`", quote_for_message(&self.node.name));
            pass.report(&self.node.name_span, title, "needed here", format!("add the {} `{name}`", pass.noun));
        }
        found
    }

    /// Returns the only child, and reports if there is none or more than one.
    fn only_child(&self, pass: &mut ImportPass) -> Option<&'n DocumentNode> {
        match self.members {
            [only] => Some(only),
            [] => {
                let title = format!("`{}` is empty", quote_for_message(&self.node.name));
                pass.report(&self.node.name_span, title, "empty", "a request has exactly one operation");
                None
            }
            [_, second, ..] => {
                let title = format!("`{}` contains more than one {}", quote_for_message(&self.node.name), pass.noun);
                pass.report(&second.name_span, title, "the second one", "a request has exactly one operation");
                None
            }
        }
    }
}
