//! `batchplan check`: checks whether the credentials in use have the permissions that a plan needs.

use std::fmt;
use std::path::PathBuf;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use serde_json::json;

use super::descriptions::{describe_store, quote, quote_path};
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::policy::parse_bucket;
use super::terminal::{Terminal, escape_line};
use super::{notifications, plan_input};
use crate::connect::connect;
use crate::jobs::{PermissionFinding, PermissionVerdict, WriteProbes, check};
use crate::manifest::{ListedVersions, ManifestSource};
use crate::plan::{Plan, WebhookConfig};

/// Check that the credentials have the permissions that a plan needs.
///
/// Reads the manifest up to its first existing object, and reads what the operations need of that object. A server that
/// is not AWS's or Alibaba Cloud's own is also checked, as far as reads can show, for support of tags and ACLs. Nothing
/// is written unless you request a probe. Whatever was not tried is listed as not checked, and for each denied request
/// the action that a policy must allow is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan check plan.toml                            # read only
  batchplan check plan.toml --write-probe docs/a.pdf   # also rewrite its tags or ACL
  batchplan check plan.toml --report-probe             # also write a small report object
  batchplan check plan.toml --json | jq '.checks[] | select(.verdict == \"denied\") | .action'

The write probe reads the object's tags or ACL, writes them back unchanged,
reads them again and compares. It overwrites changes that others make in
between, so name an object that is not in use. It never writes a custom ACL,
deletes tags only of an object that has none, and never tries a restore, which
is billed.

Exit codes: 0 everything that was checked is allowed, 1 some checks failed, 2
invalid plan or arguments, 6 something is denied, or the server does not support
tags or ACLs.")]
pub(super) struct CheckArgs {
    /// The plan file
    plan: PathBuf,
    /// Write back this object's tags or ACL with the requests that the plan would send
    #[arg(long, value_name = "KEY")]
    write_probe: Option<String>,
    /// The bucket of that object, if a CSV, inventory or report names the buckets
    #[arg(long, value_name = "NAME", requires = "write_probe")]
    bucket: Option<String>,
    /// The version of that object, if the plan covers versions, which need separate permissions
    #[arg(long, value_name = "ID", requires = "write_probe")]
    version_id: Option<String>,
    /// Write a small object to the report's location; it stays there, because a plan needs no permission to delete
    #[arg(long)]
    report_probe: bool,
}

impl CliCommand for CheckArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let plan = plan_input::require(&self.plan, terminal)?.plan;
        let write = self.write_probe.as_deref().map(|key| probe_target(self, &plan, key)).transpose()?;
        if self.report_probe && plan.report.location.is_none() {
            return Err(CommandError::new(
                ExitStatus::Invalid,
                "the plan does not publish a report, so there is nothing to probe",
            )
            .help("remove --report-probe, or add a bucket to [report]"));
        }
        let probes = WriteProbes { write, report: self.report_probe };
        if plan.store.environment_endpoint().is_some() {
            terminal.inform(format_args!("store: {}", escape_line(&describe_store(&plan.store))));
        }
        let mut findings = Vec::new();
        let mut printed = Ok(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(async {
            let connection = connect(&plan.store).await?;
            let store = connection.store();
            if let Some(why) = probes.write.as_ref().and_then(|object| store.unsupported_key_reason(&object.key)) {
                return Err(CommandError::new(ExitStatus::Invalid, format!("--write-probe: {why}")));
            }
            let mut record = |finding: &PermissionFinding| {
                if !terminal.is_json() && printed.is_ok() {
                    printed = terminal.print(FindingLine(finding));
                }
                findings.push(finding.clone());
            };
            let found = check(&plan, store, &probes, &mut record).await;
            plan.notify.iter().map(check_webhook).for_each(|finding| record(&finding));
            Ok::<_, CommandError>(found)
        })?;
        printed?;
        if terminal.is_json() {
            terminal.print_pretty_json(as_json(&findings))?;
        }
        Ok(print_conclusion(self, &plan, &findings, found.as_ref(), terminal))
    }
}

/// Checks whether a webhook has what it needs to be notified. Sends nothing.
fn check_webhook(webhook: &WebhookConfig) -> PermissionFinding {
    let (what, verdict, why) = match notifications::webhook_endpoint(webhook) {
        Ok(endpoint) => (
            format!("notify {endpoint}"),
            PermissionVerdict::NotChecked,
            Some("its settings are complete; a check sends no messages".to_owned()),
        ),
        Err(error) => ("notify a webhook".to_owned(), PermissionVerdict::Refused, Some(error.to_string())),
    };
    PermissionFinding { description: what, action: None, verdict, explanation: why }
}

/// Returns the object that the write probe writes.
fn probe_target(args: &CheckArgs, plan: &Plan, key: &str) -> Result<ObjectId, CommandError> {
    let invalid = |what: String, help: &str| CommandError::new(ExitStatus::Invalid, what).help(help);
    let named = args.bucket.as_deref().map(parse_bucket).transpose()?;
    let (bucket, versions) = match (&plan.manifest.source, named) {
        (ManifestSource::Prefix { bucket, .. }, Some(other)) if *bucket != other => {
            return Err(invalid(format!("the plan's bucket is {bucket}, not {other}"), "remove --bucket"));
        }
        (ManifestSource::Prefix { prefix, .. }, _) if !key.as_bytes().starts_with(prefix.as_bytes()) => {
            let help = "name an object that the plan covers: permissions for other objects may differ";
            return Err(invalid(
                format!("{} does not start with the plan's prefix {prefix}", ObjectKey::from(key)),
                help,
            ));
        }
        (ManifestSource::Prefix { bucket, versions, .. }, _) => (bucket.clone(), *versions),
        (_, Some(bucket)) => (bucket, ListedVersions::Current),
        (_, None) => {
            let help = "add --bucket NAME with the bucket of the object";
            return Err(invalid("only the manifest names the buckets of the objects, not the plan".into(), help));
        }
    };
    if versions == ListedVersions::All && args.version_id.is_none() {
        let help = "add --version-id ID with a version of the object: versions need separate permissions";
        return Err(invalid("the plan covers versions, so --write-probe needs one".to_owned(), help));
    }
    let version = args.version_id.as_deref().map(VersionId::new);
    Ok(ObjectId { bucket, key: ObjectKey::from(key), version })
}

/// Formats a finding for the terminal.
struct FindingLine<'a>(&'a PermissionFinding);

impl fmt::Display for FindingLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PermissionFinding { description: what, action, verdict, explanation: why } = self.0;
        write!(f, "{:<11}  {}", verdict.as_str(), escape_line(what))?;
        match action {
            Some(action) if *verdict == PermissionVerdict::Denied => write!(f, ": {action} is missing")?,
            Some(action) => write!(f, " ({action})")?,
            None => {}
        }
        why.as_ref().map_or(Ok(()), |why| write!(f, "\n{:13}{}", "", escape_line(why)))
    }
}

fn as_json(findings: &[PermissionFinding]) -> serde_json::Value {
    let checks = findings.iter().map(|finding| {
        json!({
            "what": finding.description,
            "action": finding.action,
            "verdict": finding.verdict.as_str(),
            "why": finding.explanation,
        })
    });
    let missing = denied_actions(findings);
    json!({ "checks": checks.collect::<Vec<_>>(), "missing": missing })
}

/// Returns the denied actions, without duplicates.
fn denied_actions(findings: &[PermissionFinding]) -> Vec<&'static str> {
    let mut missing: Vec<&str> = Vec::new();
    for action in findings.iter().filter(|it| it.verdict == PermissionVerdict::Denied).filter_map(|it| it.action) {
        if !missing.contains(&action) {
            missing.push(action);
        }
    }
    missing
}

/// Prints the overall result and what to do about it, and returns the exit code.
fn print_conclusion(
    args: &CheckArgs,
    plan: &Plan,
    findings: &[PermissionFinding],
    found: Option<&BucketName>,
    terminal: Terminal,
) -> ExitStatus {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let file = quote_path(&args.plan);
    let missing = denied_actions(findings);
    if !missing.is_empty() {
        let permissions = if missing.len() == 1 { "permission" } else { "permissions" };
        terminal.eprint(format_args!("missing {permissions}: {}", missing.join(", ")));
        let named = match (&plan.manifest.source, found, args.bucket.as_deref()) {
            (ManifestSource::Prefix { .. }, ..) => String::new(),
            (_, _, Some(bucket)) => format!(" --bucket {}", quote(bucket)),
            (_, Some(bucket), _) => format!(" --bucket {}", quote(bucket.as_str())),
            (_, None, None) => " --bucket NAME".to_owned(),
        };
        terminal.eprint(format_args!(
            "  help: `batchplan policy {file}{named}` prints the permissions that the plan needs"
        ));
        return ExitStatus::Refused;
    }
    let (ended, exit) = match (count(PermissionVerdict::Refused), count(PermissionVerdict::Failed)) {
        (0, 0) => ("", ExitStatus::Success),
        (0, _) => ("some checks failed: see `failed` above", ExitStatus::ToolFailed),
        (..) => ("refused for a reason other than permissions: see `refused` above", ExitStatus::Refused),
    };
    if exit != ExitStatus::Success {
        terminal.eprint(ended);
        terminal.eprint(format_args!("  help: fix what is shown there, then check again: batchplan check {file}"));
        return exit;
    }
    match count(PermissionVerdict::NotChecked) {
        0 => terminal.eprint("everything that the plan needs is allowed"),
        left => terminal.eprint(format_args!("everything that was checked is allowed; not checked: {left}")),
    }
    // Without an object, `plan` says why there may be none.
    let next = if found.is_some() { "apply" } else { "plan" };
    terminal.inform(format_args!("next: batchplan {next} {file}"));
    ExitStatus::Success
}
