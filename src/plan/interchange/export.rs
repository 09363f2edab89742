//! Exports a plan as requests: what a service requires, what it cannot express, and the documents themselves.

use std::io;

use batchplan_store::StoreProvider;
use batchplan_store::hex::hex;
use batchplan_store::object::{ObjectKey, TagSet};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::diagnostics::FileProblem;
use crate::manifest::{CsvField, FileLocation, InventoryDialect, InventorySelector, ListedVersions, ManifestSource};
use crate::operation::{FieldKind, FieldValue, Operation, ServiceGap};
use crate::plan::xml::{
    inventory_format, is_xml_char, scope_name, write_document, write_manifest, write_operation, write_report,
    write_text,
};
use crate::plan::{JobLimits, Plan};
use crate::provider::{BatchService, ProviderRules};
use crate::report_format::{ReportFormat, ReportSpec};
use crate::toml_reader::{name_of, quote_for_message};

/// The format of an AWS CSV manifest.
pub(super) const AWS_CSV: &str = "S3BatchOperations_CSV_20180820";

/// The format of an AWS completion report.
pub(super) const AWS_REPORT: &str = "Report_CSV_20180820";

/// The maximum length of a client request token at both services, in characters.
const MAX_TOKEN_CHARS: usize = 64;

impl BatchService {
    /// Returns the file name extension of its requests.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Oss => "xml",
            Self::Aws => "json",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Oss => "OSS Batch Operations",
            Self::Aws => "S3 Batch Operations",
        }
    }

    /// Returns the provider whose objects it works on.
    fn provider(self) -> StoreProvider {
        match self {
            Self::Oss => StoreProvider::Oss,
            Self::Aws => StoreProvider::Aws,
        }
    }
}

/// Settings that a request requires and a plan need not have.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The role that the service assumes, if the plan names none.
    pub role_arn: Option<String>,
    /// The AWS account that the job belongs to; `None` means the role's account.
    pub account_id: Option<String>,
    /// The manifest's `ETag`, if the plan does not pin it.
    pub etag: Option<String>,
    /// The base of the tokens, if the plan has none: a new random text of at most 60 characters.
    pub fresh_token: String,
}

/// The requests of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedRequests {
    /// One complete document for each operation, without a trailing line break.
    pub documents: Vec<String>,
    /// The dotted names of settings that the requests leave out, because they concern this program and not the job.
    pub omitted: Vec<&'static str>,
}

/// The parts of one request.
struct JobRequestParts<'a> {
    plan: &'a Plan,
    /// The plan's source, with the manifest's `ETag`.
    source: &'a ManifestSource,
    role_arn: &'a str,
    account_id: &'a str,
    token: &'a str,
    operation: &'a Operation,
}

/// Exports a plan as requests, one for each operation.
///
/// # Errors
/// Returns an error if the service cannot do what the plan says: all reasons, each with what to do.
pub fn export(
    plan: &Plan,
    service: BatchService,
    options: &ExportOptions,
) -> Result<ExportedRequests, Vec<FileProblem>> {
    let mut check = ExportCheck { service, problems: Vec::new() };
    check.check_provider(plan);
    if !check.problems.is_empty() {
        // The rest of the plan is not meant for this service.
        return Err(check.problems);
    }
    check.check_manifest(plan);
    check.check_operations(plan);
    check.check_job_settings(plan);
    let source = check.pinned_source(plan, options);
    let role_arn = check.role_arn(plan, options);
    let account_id = check.account_id(role_arn.as_deref(), options);
    if service == BatchService::Oss {
        check.check_characters(plan);
    }
    if !check.problems.is_empty() {
        return Err(check.problems);
    }
    let tokens = client_request_tokens(plan, &options.fresh_token);
    let (role_arn, account_id) = (role_arn.unwrap_or_default(), account_id.unwrap_or_default());
    let documents = plan.operations.iter().zip(&tokens).map(|(operation, token)| {
        let parts =
            JobRequestParts { plan, source: &source, role_arn: &role_arn, account_id: &account_id, token, operation };
        match service {
            BatchService::Oss => oss_request(&parts),
            BatchService::Aws => Ok(aws_request(&parts)),
        }
    });
    let documents: Result<Vec<_>, _> = documents.collect();
    // Documents are written to memory, so no error is expected.
    let documents = documents.map_err(|error| vec![FileProblem::new(format!("cannot write the request: {error}"))])?;
    Ok(ExportedRequests { documents, omitted: omitted_settings(plan, service) })
}

/// Returns a token for each operation. Tokens make job creation idempotent, so two requests must not share one.
fn client_request_tokens(plan: &Plan, fresh: &str) -> Vec<String> {
    let base = plan.job.client_request_token.as_deref().unwrap_or(fresh);
    if plan.operations.len() == 1 {
        return vec![base.to_owned()];
    }
    (1..=plan.operations.len())
        .map(|number| {
            let token = format!("{base}-{number}");
            if token.chars().count() <= MAX_TOKEN_CHARS {
                return token;
            }
            // The digest distinguishes tokens that are equal up to where they are cut.
            let ending = format!("-{}-{number}", &hex(&Sha256::digest(base))[..8]);
            base.chars().take(MAX_TOKEN_CHARS - ending.len()).chain(ending.chars()).collect()
        })
        .collect()
}

/// Returns the settings that requests leave out and the job does not need.
fn omitted_settings(plan: &Plan, service: BatchService) -> Vec<&'static str> {
    let (limits, default) = (&plan.limits, JobLimits::default());
    let unpublished = service == BatchService::Aws && plan.report.location.is_none();
    [
        (limits.max_concurrency != default.max_concurrency, "limits.concurrency"),
        (limits.requests_per_second.is_some(), "limits.requests_per_second"),
        (limits.max_disk.is_some(), "limits.max_disk"),
        (plan.canonical().get("manifest.prefix.on_unlistable").is_some(), "manifest.prefix.on_unlistable"),
        (plan.job.skip_unchanged, "job.skip_unchanged"),
        (!plan.notify.is_empty(), "notify"),
        (!plan.report.keep_local, "report.keep_local"),
        (unpublished && plan.canonical().get("report.scope").is_some(), "report.scope"),
    ]
    .into_iter()
    .filter_map(|(said, name)| said.then_some(name))
    .collect()
}

/// The reasons why a plan cannot be exported to a service.
struct ExportCheck {
    service: BatchService,
    problems: Vec<FileProblem>,
}

impl ExportCheck {
    /// Reports a part of the plan that the service does not support.
    fn report_unsupported(&mut self, part: &str, help: impl Into<String>) {
        let title = format!("{} does not support {part}", self.service.title());
        self.problems.push(FileProblem::new(title).help(help));
    }

    /// Reports a setting that a request requires and that is missing.
    fn report_missing(&mut self, what: &str, help: impl Into<String>) {
        let title = format!("{} requires {what}", self.service.title());
        self.problems.push(FileProblem::new(title).help(help));
    }

    fn check_provider(&mut self, plan: &Plan) {
        let (wanted, given) = (self.service.provider(), plan.store.provider);
        if given != wanted {
            let title = format!("{} does not support the provider `{}`", self.service.title(), given.as_str());
            let help = format!("export a plan with `provider = \"{}\"`", wanted.as_str());
            self.problems.push(FileProblem::new(title).help(help));
        }
        if plan.store.requester_pays {
            let help = "the service sends no Requester Pays header: run the plan with batchplan, or remove this key";
            self.report_unsupported("`requester_pays` in [store]", help);
        }
    }

    fn check_manifest(&mut self, plan: &Plan) {
        let filters: Vec<_> =
            plan.canonical().iter().filter_map(|(path, _)| path.strip_prefix("manifest.filter.")).collect();
        for name in filters {
            let help = "a request processes all objects of its manifest: remove the filter, or list the filtered \
                        objects in a CSV manifest";
            self.report_unsupported(&format!("`{name}` in [manifest.filter]"), help);
        }
        match &plan.manifest.source {
            ManifestSource::Prefix { versions: ListedVersions::All, .. } => {
                let help = "a generated manifest has only current versions: use a CSV manifest or an inventory";
                self.report_unsupported("`versions = \"all\"` in [manifest.prefix]", help);
            }
            ManifestSource::Csv { location: FileLocation::Local(_), .. } => {
                let help = "upload the file to a bucket, and set `bucket`, `object` and `etag`";
                self.report_unsupported("`path` in [manifest.csv], a local file", help);
            }
            ManifestSource::Csv { plus_is_space: true, .. } => {
                let help = "write spaces as %20 in the manifest, and remove `plus_is_space`";
                self.report_unsupported("`plus_is_space` in [manifest.csv]", help);
            }
            ManifestSource::Inventory { selector: InventorySelector::Latest { .. }, .. } => {
                let help = "set `object` and `etag` to the manifest.json of one inventory";
                self.report_unsupported("`latest` in [manifest.inventory]", help);
            }
            ManifestSource::Report { .. }
            | ManifestSource::Retry { .. }
            | ManifestSource::Succeeded { .. }
            | ManifestSource::Undo(_) => {
                let help = "list the failed objects in a CSV manifest, or run the plan with batchplan";
                self.report_unsupported("[manifest.report]", help);
            }
            ManifestSource::Prefix { .. } | ManifestSource::Csv { .. } | ManifestSource::Inventory { .. } => {}
        }
        if self.service == BatchService::Oss
            && let Some((part, help)) = unsupported_oss_columns(&plan.manifest.source)
        {
            self.report_unsupported(part, help);
        }
    }

    fn check_operations(&mut self, plan: &Plan) {
        for operation in &plan.operations {
            let (descriptor, details) = (operation.descriptor(), operation.details());
            let (is_known, gap) = match self.service {
                BatchService::Oss => (descriptor.is_in_oss, details.oss_gap),
                BatchService::Aws => (descriptor.aws_member.is_some(), details.aws_gap),
            };
            match gap {
                Some(ServiceGap { part, help }) => self.report_unsupported(part, help),
                None if is_known => {}
                None => {
                    let part = format!("[operation.{}]", descriptor.name);
                    self.report_unsupported(&part, "it has no such operation: let batchplan do this one");
                }
            }
        }
    }

    /// Reports settings for how the job runs, if leaving them out would remove a safeguard.
    fn check_job_settings(&mut self, plan: &Plan) {
        let default = JobLimits::default();
        if plan.limits.max_objects.is_some() {
            let help = "the service has no such limit: count the objects, then remove it";
            self.report_unsupported("`max_objects` in [limits]", help);
        }
        if plan.limits.max_cost.is_some() {
            let help = "the service has no such limit: check the cost with `batchplan plan`, then remove it";
            self.report_unsupported("`max_cost` in [limits]", help);
        }
        if plan.limits.failure_threshold != default.failure_threshold {
            let help = "the service has its own threshold (20 % on OSS, 50 % on AWS): remove it to accept that";
            self.report_unsupported("`failure_threshold` in [limits]", help);
        }
        let format = match self.service {
            BatchService::Oss => ReportFormat::Oss,
            BatchService::Aws => ReportFormat::Aws,
        };
        if plan.report.location.is_some() && plan.report.format != format {
            self.report_unsupported("`format` in [report]", "the service has its own format: remove it");
        }
    }

    /// Returns the source with the `ETag` that a manifest in a request requires.
    fn pinned_source(&mut self, plan: &Plan, options: &ExportOptions) -> ManifestSource {
        let mut source = plan.manifest.source.clone();
        let pin = match &mut source {
            ManifestSource::Csv { location: FileLocation::Object { etag, .. }, .. } => Some(("csv", etag)),
            ManifestSource::Inventory { selector: InventorySelector::Exact { etag, .. }, .. } => {
                Some(("inventory", etag))
            }
            _ => None,
        };
        // Quotes are often copied with the `ETag`, and are not part of it.
        let given = options.etag.as_deref().map(|etag| etag.trim_matches('"'));
        match (pin, given) {
            (Some((_, pin @ None)), Some(etag)) if (1..=1024).contains(&etag.chars().count()) => {
                *pin = Some(etag.to_owned());
            }
            (Some((_, None)), Some(_)) => {
                self.report_missing("an ETag of 1 to 1024 characters", "`--etag` is empty or too long");
            }
            (Some((table, None)), None) => {
                let help =
                    format!("add `--etag ETAG`, or `etag` to [manifest.{table}]; a HEAD of the manifest returns it");
                self.report_missing("the manifest's ETag", help);
            }
            (Some((table, Some(pin))), Some(etag)) if !pin.eq_ignore_ascii_case(etag) => {
                let title = format!("`--etag` differs from `etag` in [manifest.{table}]");
                self.problems.push(FileProblem::new(title).help("omit `--etag`, or fix the plan"));
            }
            (None, Some(_)) => {
                let title = "`--etag` is for a manifest in a bucket, and this plan has none";
                self.problems.push(FileProblem::new(title).help("omit it"));
            }
            (_, None) | (Some((_, Some(_))), Some(_)) => {}
        }
        source
    }

    fn role_arn(&mut self, plan: &Plan, options: &ExportOptions) -> Option<String> {
        let provider = self.service.provider();
        let format = &ProviderRules::of(provider).role_arn;
        let example = format.example;
        match (&plan.store.role_arn, &options.role_arn) {
            (Some(own), Some(given)) if own != given => {
                let title = "`--role-arn` differs from `role_arn` in [store]";
                self.problems.push(FileProblem::new(title).help("omit `--role-arn`, or fix the plan"));
                None
            }
            (Some(arn), _) => Some(arn.clone()),
            (None, Some(arn)) => {
                let Some(wrong) = (format.problem)(arn) else { return Some(arn.clone()) };
                let title = format!("invalid `--role-arn` for {}: {wrong}", provider.as_str());
                self.problems.push(FileProblem::new(title).help(format!("for example: `--role-arn {example}`")));
                None
            }
            (None, None) => {
                self.report_missing("a role", format!("add `--role-arn {example}`, or `role_arn` to [store]"));
                None
            }
        }
    }

    /// Returns the account of the job. A role can only be passed to a service in its own account, so this is the
    /// role's.
    fn account_id(&mut self, role_arn: Option<&str>, options: &ExportOptions) -> Option<String> {
        let of_role = role_arn.and_then(|arn| arn.split(':').nth(4)).filter(|_| self.service == BatchService::Aws);
        match (&options.account_id, of_role) {
            (Some(_), None) if self.service == BatchService::Oss => {
                let title = "`--account-id` is only for AWS: OSS Batch Operations requests have no account";
                self.problems.push(FileProblem::new(title).help("omit it"));
                None
            }
            (Some(given), Some(of_role)) if given != of_role => {
                let title =
                    format!("`--account-id {}` differs from the role's account, {of_role}", quote_for_message(given));
                self.problems.push(FileProblem::new(title).help("omit it: a role only works in its own account"));
                None
            }
            (_, of_role) => of_role.map(str::to_owned),
        }
    }

    fn check_characters(&mut self, plan: &Plan) {
        let free = [("description", &plan.description), ("client_request_token", &plan.job.client_request_token)];
        let free = free.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        for (name, value) in plan.canonical().iter().chain(free) {
            if let Some(odd) = value.chars().find(|c| !is_xml_char(*c)) {
                let part = format!("U+{:04X} in `{}`", u32::from(odd), quote_for_message(name));
                self.report_unsupported(&part, "XML cannot represent this character");
            }
        }
    }
}

/// Writes a `CreateJobRequest` of OSS Batch Operations. The elements are in the order of the service's own samples.
fn oss_request(parts: &JobRequestParts<'_>) -> io::Result<String> {
    let JobRequestParts { plan, source, role_arn, token, operation, .. } = parts;
    write_document("CreateJobRequest", |to| {
        write_text("ConfirmationRequired", &plan.job.confirmation_required.to_string(), to)?;
        write_operation(std::slice::from_ref(*operation), to)?;
        write_report(&plan.report, to)?;
        write_text("ClientRequestToken", token, to)?;
        write_manifest(source, None, to)?;
        if let Some(text) = &plan.description {
            write_text("Description", text, to)?;
        }
        write_text("Priority", &plan.job.priority.to_string(), to)?;
        write_text("RoleArn", role_arn, to)
    })
}

/// Returns the columns of a CSV manifest, by name, if OSS does not support them, and what to do.
fn unsupported_oss_columns(source: &ManifestSource) -> Option<(&'static str, &'static str)> {
    let ManifestSource::Csv { fields, .. } = source else { return None };
    let known = fields[..] == [CsvField::Bucket, CsvField::Key]
        || fields[..] == [CsvField::Bucket, CsvField::Key, CsvField::VersionId];
    let help = "use the columns Bucket,Key or Bucket,Key,VersionId";
    (!known).then_some(("these `fields` in [manifest.csv]", help))
}

/// Writes the input of `aws s3control create-job`.
///
/// Shapes and limits are those of the service's own model, `CreateJobRequest` of s3control 2018-08-20:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html>
fn aws_request(parts: &JobRequestParts<'_>) -> String {
    let JobRequestParts { plan, source, role_arn, account_id, token, operation } = parts;
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
            let spec = json!({ "Format": inventory_format(InventoryDialect::Aws) });
            ("Manifest", json!({ "Spec": spec, "Location": names.location(bucket.as_str(), key, etag.as_deref()) }))
        }
        // Rejected earlier.
        ManifestSource::Csv { .. }
        | ManifestSource::Inventory { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => ("Manifest", Json::Null),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::interchange::tests::read;

    #[test]
    fn tokens_are_distinct_and_short_enough() {
        let operations = "[operation.put_object_acl]\nacl = \"private\"\n[operation.restore_object]\ndays = 1\n\
                          [operation.delete_object_tagging]\n";
        let plan = |token: &str| {
            read(&format!(
                "name = \"n\"\n[store]\nprovider = \"aws\"\n[manifest.prefix]\nbucket = \"abc\"\n{operations}[job]\n\
                 client_request_token = \"{token}\"\n"
            ))
        };
        assert_eq!(client_request_tokens(&plan("mine"), "fresh"), ["mine-1", "mine-2", "mine-3"]);
        let long = ["x".repeat(64), format!("{}y", "x".repeat(63)), "é".repeat(64)];
        let all: Vec<_> = long.iter().flat_map(|token| client_request_tokens(&plan(token), "fresh")).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 9);
        assert!(all.iter().all(|token| token.chars().count() == 64), "{all:?}");
    }

    #[test]
    fn options_must_match_the_plan() {
        let text = "name = \"n\"\n[store]\nprovider = \"aws\"\n[manifest.csv]\nbucket = \"abc\"\nobject = \"list\"\n\
                    etag = \"aa\"\n[operation.delete_object_tagging]\n";
        let arn = "arn:aws:iam::123456789012:role/Batch".to_owned();
        let fits = ExportOptions { role_arn: Some(arn), fresh_token: "fresh".to_owned(), ..ExportOptions::default() };
        let refusals = |text: &str, options: &ExportOptions| {
            let found = export(&read(text), BatchService::Aws, options).err().unwrap_or_default();
            found.iter().map(|problem| problem.title().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(refusals(text, &fits), [""; 0]);
        assert_eq!(refusals(text, &ExportOptions { etag: Some("\"AA\"".into()), ..fits.clone() }), [""; 0]);
        assert_eq!(
            refusals(text, &ExportOptions { etag: Some("bb".into()), ..fits.clone() }),
            ["`--etag` differs from `etag` in [manifest.csv]"]
        );
        let unpinned = text.replace("etag = \"aa\"\n", "");
        assert_eq!(refusals(&unpinned, &ExportOptions { etag: Some("bb".into()), ..fits.clone() }), [""; 0]);
        assert_eq!(
            refusals(&unpinned, &ExportOptions { etag: Some("\"\"".into()), ..fits.clone() }),
            ["S3 Batch Operations requires an ETag of 1 to 1024 characters"]
        );
        assert_eq!(
            refusals(text, &ExportOptions { account_id: Some("210987654321".into()), ..fits.clone() }),
            ["`--account-id 210987654321` differs from the role's account, 123456789012"]
        );
        assert_eq!(refusals(text, &ExportOptions { account_id: Some("123456789012".into()), ..fits.clone() }), [""; 0]);
        assert_eq!(
            refusals(text, &ExportOptions { role_arn: Some("role/Batch".into()), ..fits.clone() }),
            ["invalid `--role-arn` for aws: not a role ARN"]
        );
        let named = text.replace("[manifest", "role_arn = \"arn:aws:iam::123456789012:role/Own\"\n[manifest");
        assert_eq!(refusals(&named, &fits), ["`--role-arn` differs from `role_arn` in [store]"]);
    }

    #[test]
    fn reports_omitted_settings() {
        let text = "name = \"n\"\n[store]\nprovider = \"aws\"\nrole_arn = \"arn:aws:iam::123456789012:role/Own\"\n\
                    [manifest.prefix]\nbucket = \"abc\"\n[operation.delete_object_tagging]\n[job]\nskip_unchanged = true\n\
                    [report]\nenabled = false\nscope = \"all-tasks\"\n[limits]\nconcurrency = 8\nrequests_per_second = 10\n\
                    max_disk = \"1 GiB\"\n[[notify]]\nurl_env = \"HOOK\"\n";
        let exported = export(&read(text), BatchService::Aws, &ExportOptions::default()).expect("a request");
        let limits = ["limits.concurrency", "limits.requests_per_second", "limits.max_disk"];
        let expected = [&limits[..], &["job.skip_unchanged", "notify", "report.scope"]].concat();
        assert_eq!(exported.omitted, expected);
    }
}
