//! Imports a request as a plan file: what the requests of both services have in common.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use super::export::{ExportOptions, export};
use super::toml_writer::{SpannedText, TomlWriter, ValueOrigin};
use super::tree::{DocumentNode, ImportPass, NodeMembers};
use super::{import_aws, import_oss, json_tree, xml_tree};
use crate::diagnostics::{FileProblem, FileProblems};
use crate::manifest::{FileLocation, InventorySelector, ManifestSource};
use crate::operation::{FieldKind, Operation, OperationField};
use crate::plan::safe_text::{mask_for_excerpts, quote_for_message};
use crate::plan::{self, Plan};
use crate::provider::{BatchService, ProviderRules};

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
pub fn import(file: &str, bytes: &[u8], given: &ImportOptions, now: Timestamp) -> (Option<String>, FileProblems) {
    let text = match decode_text(bytes) {
        Ok(text) => text,
        Err(problem) => return to_problems(file, "", vec![problem]),
    };
    let mut sheet = TomlWriter::default();
    let mut pass = ImportPass { noun: "element", problems: Vec::new() };
    let first = text.trim_start().bytes().next();
    let service = if first == Some(b'<') { BatchService::Oss } else { BatchService::Aws };
    let read = match first {
        Some(b'<') => xml_tree::read(text).map(|root| import_oss::write(&root, given, &mut sheet, &mut pass)),
        Some(b'{') => {
            pass.noun = "key";
            let root = json_tree::read(text, "CreateJobRequest");
            root.map(|root| import_aws::write(&root, given, &mut sheet, &mut pass))
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
    let (plan, problems) = plan::read("plan", sheet.text(), Path::new(""), now);
    let mut told: Vec<_> = problems.iter().map(|problem| sheet.translate_problem(problem)).collect();
    let unsaid =
        plan.as_ref().and_then(|plan| export(plan, service, &placeholder_options(plan)).err()).unwrap_or_default();
    let plan = plan.filter(|_| unsaid.is_empty()).map(|_| sheet.text().to_owned());
    told.extend(unsaid);
    (plan, to_problems(file, text, told).1)
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
pub(super) fn write_head(
    of: &str,
    members: NodeMembers<'_>,
    given: &ImportOptions,
    sheet: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    sheet.comment(&format!("A batchplan plan, imported from {of}."));
    sheet.comment("");
    sheet.comment("  batchplan validate PLAN     checks it and changes nothing");
    sheet.comment("  batchplan apply PLAN        runs it here, after asking");
    sheet.line_break();
    match &given.name {
        Some(name) => sheet.text_entry("name", name, ValueOrigin::CliOption("--name")),
        None => pass.report_missing_option("--name", "a name", "tag-documents"),
    }
    write_text_key("Description", "description", members, sheet, pass);
}

/// Writes `[store]`.
pub(super) fn write_store(
    provider: &str,
    members: NodeMembers<'_>,
    given: &ImportOptions,
    sheet: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    sheet.table("store", None, "Where the objects are. Credentials come from the environment, never from the plan.");
    sheet.entry("provider", &format!("\"{provider}\""), None, "");
    for (key, flag, value) in [("endpoint", "--endpoint", &given.endpoint), ("region", "--region", &given.region)] {
        if let Some(value) = value {
            sheet.text_entry(key, value, ValueOrigin::CliOption(flag));
        }
    }
    write_text_key("RoleArn", "role_arn", members, sheet, pass);
}

/// Writes `[job]`. `unsaid` is the confirmation setting for a request that has none, with a remark.
pub(super) fn write_job(unsaid: (bool, &str), members: NodeMembers<'_>, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    sheet.table("job", None, "How the job runs.");
    let confirmation = members.get("ConfirmationRequired");
    match confirmation.map(|node| (pass.boolean(node), node)) {
        Some((Some(value), node)) => {
            sheet.entry("confirmation_required", &value.to_string(), Some(node_origin(node)), "");
        }
        Some((None, _)) => {}
        None => sheet.entry("confirmation_required", &unsaid.0.to_string(), None, unsaid.1),
    }
    if let Some(node) = members.get("Priority")
        && let Some(number) = pass.number(node)
    {
        sheet.entry("priority", &number.to_string(), Some(node_origin(node)), "");
    }
    write_text_key("ClientRequestToken", "client_request_token", members, sheet, pass);
}

/// Writes `enabled` and `scope` of `[report]`, which are the same for both services.
pub(super) fn write_report_switches(members: NodeMembers<'_>, sheet: &mut TomlWriter, pass: &mut ImportPass) {
    if let Some(node) = members.get("Enabled")
        && let Some(value) = pass.boolean(node)
    {
        sheet.entry("enabled", &value.to_string(), Some(node_origin(node)), "");
    }
    let scopes = [("AllTasks", "\"all-tasks\""), ("FailedTasksOnly", "\"failed-tasks-only\"")];
    if let Some(node) = members.get("ReportScope")
        && let Some(scope) = pass.choice(node, &scopes)
    {
        sheet.entry("scope", scope, Some(node_origin(node)), "");
    }
}

/// Writes the operation of a request. `unsupported` are the operations that the service has and plans do not, each with
/// what to do.
pub(super) fn write_operation(
    service: BatchService,
    node: &DocumentNode,
    unsupported: &[(&str, &str)],
    sheet: &mut TomlWriter,
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
    sheet.table(&format!("operation.{}", descriptor.name), Some(&node.name_span), "What to do with each object.");
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
            write_setting(service, field, node, sheet, pass);
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
    sheet: &mut TomlWriter,
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
            write_tags(pieces, node, sheet, pass);
        }
        FieldKind::TagKeys => {}
        FieldKind::Text => {
            if let Some(text) = pass.text(node) {
                sheet.text_entry(field.key, text, node_origin(node));
            }
        }
        FieldKind::Number => {
            if let Some(number) = pass.number(node) {
                sheet.entry(field.key, &number.to_string(), Some(node_origin(node)), "");
            }
        }
        FieldKind::Choice(names) => {
            let spelled: Vec<_> = names.iter().map(|name| (name_in_requests(service, name), *name)).collect();
            let choices: Vec<_> = spelled.iter().map(|(spelled, name)| (spelled.as_str(), *name)).collect();
            if let Some(name) = pass.choice(node, &choices) {
                sheet.entry(field.key, &format!("\"{name}\""), Some(node_origin(node)), "");
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
pub(super) fn write_text_key(
    name: &str,
    key: &str,
    members: NodeMembers<'_>,
    sheet: &mut TomlWriter,
    pass: &mut ImportPass,
) {
    if let Some(node) = members.get(name)
        && let Some(text) = pass.text(node)
    {
        sheet.text_entry(key, text, node_origin(node));
    }
}

/// Writes the tags in `pieces`, each with `Key` and `Value`.
fn write_tags<'n>(pieces: &'n [DocumentNode], set: &DocumentNode, sheet: &mut TomlWriter, pass: &mut ImportPass) {
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
    sheet.table_entry("tags", &pairs, &set.name_span);
}

fn spanned_text<'n>(node: &'n DocumentNode, pass: &mut ImportPass) -> Option<SpannedText<'n>> {
    pass.text(node).map(|text| SpannedText { text, span: node.value_span() })
}

pub(super) fn node_origin(node: &DocumentNode) -> ValueOrigin {
    ValueOrigin::Document(node.value_span().clone())
}

impl ImportPass {
    /// Reports a missing command line option.
    pub(super) fn report_missing_option(&mut self, flag: &str, what: &str, example: &str) {
        let title = format!("`{flag}` is missing: the request does not contain {what}");
        self.problems.push(FileProblem::new(title).help(format!("for example: `{flag} {example}`")));
    }
}
