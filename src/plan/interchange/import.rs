//! Imports a request as a plan file: what the requests of both services have in common.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use super::export::{Beside, Service, export};
use super::sheet::{Origin, Sheet, Word};
use super::tree::{Members, Node, Pass};
use super::{import_aws, import_oss, json_tree, xml_tree};
use crate::diagnostics::{Problem, Problems};
use crate::manifest::{CsvPlace, InventoryObject, Source};
use crate::plan::check::role;
use crate::plan::text::{for_excerpts, shown};
use crate::plan::{self, Plan};

/// The maximum size of a request, in bytes. Real requests have a few thousand at most.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Settings that a plan requires and a request does not have.
#[derive(Clone, Debug, Default)]
pub struct Given {
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
pub fn import(file: &str, bytes: &[u8], given: &Given, now: Timestamp) -> (Option<String>, Problems) {
    let text = match readable(bytes) {
        Ok(text) => text,
        Err(problem) => return refused(file, "", vec![problem]),
    };
    let mut sheet = Sheet::default();
    let mut pass = Pass { noun: "element", found: Vec::new() };
    let first = text.trim_start().bytes().next();
    let service = if first == Some(b'<') { Service::Oss } else { Service::Aws };
    let read = match first {
        Some(b'<') => xml_tree::read(text).map(|root| import_oss::write(&root, given, &mut sheet, &mut pass)),
        Some(b'{') => {
            pass.noun = "key";
            let root = json_tree::read(text, "CreateJobRequest");
            root.map(|root| import_aws::write(&root, given, &mut sheet, &mut pass))
        }
        _ => {
            let problem = Problem::new("this is no request").label(0..0, "neither XML nor JSON");
            Err(problem.help("a CreateJobRequest of OSS in XML, or the input of `aws s3control create-job` in JSON"))
        }
    };
    if let Err(problem) = read {
        return refused(file, text, vec![problem]);
    }
    if !pass.found.is_empty() {
        return refused(file, text, pass.found);
    }
    let (plan, problems) = plan::read("plan", sheet.text(), Path::new(""), now);
    let mut told: Vec<_> = problems.iter().map(|problem| sheet.traced(problem)).collect();
    let unsaid = plan.as_ref().and_then(|plan| export(plan, service, &beside(plan)).err()).unwrap_or_default();
    let plan = plan.filter(|_| unsaid.is_empty()).map(|_| sheet.text().to_owned());
    told.extend(unsaid);
    (plan, refused(file, text, told).1)
}

/// Returns placeholders for settings that a request requires and a plan may leave to the command line.
pub(super) fn beside(plan: &Plan) -> Beside {
    let unpinned = matches!(
        &plan.manifest.source,
        Source::Csv { place: CsvPlace::Object { etag: None, .. }, .. }
            | Source::Inventory { object: InventoryObject::Exact { etag: None, .. }, .. }
    );
    let role_arn = role::example(plan.store.provider).to_owned();
    Beside {
        role_arn: plan.store.role_arn.is_none().then_some(role_arn),
        account_id: None,
        etag: unpinned.then(|| "etag".to_owned()),
        fresh_token: "token".to_owned(),
    }
}

fn readable(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_REQUEST_BYTES {
        let problem = Problem::new("the file is too large for a request").label(0..0, "more than 1 MiB");
        return Err(problem.help("a request names its objects by a manifest in a bucket"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::new("the file is not UTF-8").help("save it as UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn refused(file: &str, text: &str, found: Vec<Problem>) -> (Option<String>, Problems) {
    let mut problems = Problems::new(&shown(file), &for_excerpts(text, &[]));
    for problem in found {
        problems.push(problem);
    }
    (None, problems)
}

/// Writes the first lines of the plan, and reports missing command line options.
pub(super) fn head(of: &str, members: Members<'_>, given: &Given, sheet: &mut Sheet, pass: &mut Pass) {
    sheet.remark(&format!("A batchplan plan, imported from {of}."));
    sheet.remark("");
    sheet.remark("  batchplan validate PLAN     checks it and touches nothing");
    sheet.remark("  batchplan apply PLAN        does here what the service would do, and asks before");
    sheet.gap();
    match &given.name {
        Some(name) => sheet.text_entry("name", name, Origin::Flag("--name")),
        None => pass.want("--name", "what the plan is called", "tag-documents"),
    }
    text_of("Description", "description", members, sheet, pass);
}

/// Writes `[store]`.
pub(super) fn store(provider: &str, members: Members<'_>, given: &Given, sheet: &mut Sheet, pass: &mut Pass) {
    sheet.table("store", None, "Where. Credentials never stand in a plan: they come from the environment.");
    sheet.entry("provider", &format!("\"{provider}\""), None, "");
    for (key, flag, value) in [("endpoint", "--endpoint", &given.endpoint), ("region", "--region", &given.region)] {
        if let Some(value) = value {
            sheet.text_entry(key, value, Origin::Flag(flag));
        }
    }
    text_of("RoleArn", "role_arn", members, sheet, pass);
}

/// Writes `[job]`. `unsaid` is the confirmation setting for a request that has none, with a remark.
pub(super) fn job(unsaid: (bool, &str), members: Members<'_>, sheet: &mut Sheet, pass: &mut Pass) {
    sheet.table("job", None, "How the job is run.");
    let confirmation = members.get("ConfirmationRequired");
    match confirmation.map(|node| (pass.truth(node), node)) {
        Some((Some(value), node)) => {
            sheet.entry("confirmation_required", &value.to_string(), Some(origin(node)), "");
        }
        Some((None, _)) => {}
        None => sheet.entry("confirmation_required", &unsaid.0.to_string(), None, unsaid.1),
    }
    if let Some(node) = members.get("Priority")
        && let Some(number) = pass.number(node)
    {
        sheet.entry("priority", &number.to_string(), Some(origin(node)), "");
    }
    text_of("ClientRequestToken", "client_request_token", members, sheet, pass);
}

/// Writes `enabled` and `scope` of `[report]`, which are the same for both services.
pub(super) fn report_switches(members: Members<'_>, sheet: &mut Sheet, pass: &mut Pass) {
    if let Some(node) = members.get("Enabled")
        && let Some(value) = pass.truth(node)
    {
        sheet.entry("enabled", &value.to_string(), Some(origin(node)), "");
    }
    let scopes = [("AllTasks", "\"all-tasks\""), ("FailedTasksOnly", "\"failed-tasks-only\"")];
    if let Some(node) = members.get("ReportScope")
        && let Some(scope) = pass.choice(node, &scopes)
    {
        sheet.entry("scope", scope, Some(origin(node)), "");
    }
}

/// Writes one key with a text, if the document has it.
pub(super) fn text_of(name: &str, key: &str, members: Members<'_>, sheet: &mut Sheet, pass: &mut Pass) {
    if let Some(node) = members.get(name)
        && let Some(text) = pass.text(node)
    {
        sheet.text_entry(key, text, origin(node));
    }
}

/// Writes the tags in `pieces`, each with `Key` and `Value`.
pub(super) fn tags<'n>(pieces: &'n [Node], set: &Node, sheet: &mut Sheet, pass: &mut Pass) {
    let mut pairs: Vec<(Word<'n>, Word<'n>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for piece in pieces {
        let Some(tag) = pass.members(piece, &["Key", "Value"], &[]) else { continue };
        let key = tag.need("Key", pass).and_then(|node| word(node, pass));
        let value = tag.need("Value", pass).and_then(|node| word(node, pass));
        let (Some(key), Some(value)) = (key, value) else { continue };
        if !seen.insert(key.text) {
            let title = format!("the tag `{}` is there twice", shown(key.text));
            pass.refuse(key.span, title, "the second one", "keep one of them");
        }
        pairs.push((key, value));
    }
    sheet.free_entry("tags", &pairs, &set.span);
}

fn word<'n>(node: &'n Node, pass: &mut Pass) -> Option<Word<'n>> {
    pass.text(node).map(|text| Word { text, span: node.place() })
}

pub(super) fn origin(node: &Node) -> Origin {
    Origin::Document(node.place().clone())
}

impl Pass {
    /// Reports a missing command line option.
    pub(super) fn want(&mut self, flag: &str, what: &str, example: &str) {
        let title = format!("`{flag}` is missing: a request does not say {what}");
        self.found.push(Problem::new(title).help(format!("add it, as in `{flag} {example}`")));
    }
}
