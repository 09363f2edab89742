//! `batchplan check`: checks whether the credentials in use have the permissions that a plan needs.

use std::fmt;
use std::path::PathBuf;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use serde_json::json;

use super::policy::parse_bucket;
use super::store_connection::connect_store;
use super::terminal::escape_line;
use super::{CommandError, ExitStatus, Terminal, notifications, plan_file, shell};
use crate::jobs::{PermissionFinding, PermissionVerdict, WriteProbes, check};
use crate::manifest::{ListedVersions, ManifestSource};
use crate::plan::{Plan, WebhookConfig};

/// Check that the credentials in use may do what a plan needs.
///
/// Reads the manifest up to its first object that is there, and of that object what the operations read. A server that is not
/// AWS's or Alibaba Cloud's own is checked as far as reading shows whether it knows tags and ACLs. Nothing is written unless one
/// of the probes is asked for, and what was not tried is said to be so. For what is denied, the action that a policy must
/// allow is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan check plan.toml                            look, and write nothing
  batchplan check plan.toml --write-probe docs/a.pdf   also write that object's tags or ACL, just as they are
  batchplan check plan.toml --report-probe             also write a small object where the report goes
  batchplan check plan.toml --json | jq '.checks[] | select(.verdict == \"denied\") | .action'

The write probe reads what the object has, writes the same, reads it again and compares. What somebody else changes in
between is overwritten, so name an object that nobody works on. An ACL that is none of the predefined ones is left alone, tags
are deleted only where there are none, and a restore is never tried, since it is billed.

Exit codes: 0 all that was checked is allowed, 1 something could not be found out, 2 invalid plan or arguments,
6 something is denied, or the server does not know tags or ACLs.")]
pub(super) struct CheckArgs {
    /// The plan file
    plan: PathBuf,
    /// Write back the tags or the ACL of this object, as the plan would write them
    #[arg(long, value_name = "KEY")]
    write_probe: Option<String>,
    /// The bucket of that object, where the plan does not say it: a CSV, inventory or report does
    #[arg(long, value_name = "NAME", requires = "write_probe")]
    bucket: Option<String>,
    /// The version of that object, where the plan works on versions: they have permissions of their own
    #[arg(long, value_name = "ID", requires = "write_probe")]
    version_id: Option<String>,
    /// Write a small object where the report goes. It stays there, since a plan needs no right to delete
    #[arg(long)]
    report_probe: bool,
    /// Print the findings as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let plan = plan_file::require(&args.plan, terminal)?.plan;
    let write = args.write_probe.as_deref().map(|key| probe_target(args, &plan, key)).transpose()?;
    if args.report_probe && plan.report.location.is_none() {
        return Err(CommandError::new(
            ExitStatus::Invalid,
            "the plan sends its report nowhere, so there is nothing to write",
        )
        .help("leave --report-probe out, or give [report] a bucket"));
    }
    let probes = WriteProbes { write, report: args.report_probe };
    let mut findings = Vec::new();
    let mut printed = Ok(());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let connection = connect_store(&plan.store).await?;
        let store = connection.store();
        if let Some(why) = probes.write.as_ref().and_then(|object| store.unsupported_key_reason(&object.key)) {
            return Err(CommandError::new(ExitStatus::Invalid, format!("--write-probe: {why}")));
        }
        let mut tell = |finding: &PermissionFinding| {
            if !args.json && printed.is_ok() {
                printed = terminal.print(FindingLine(finding));
            }
            findings.push(finding.clone());
        };
        let found = check(&plan, store, &probes, &mut tell).await;
        plan.notify.iter().map(check_webhook).for_each(|finding| tell(&finding));
        Ok::<_, CommandError>(found)
    })?;
    printed?;
    if args.json {
        terminal.print(format_args!("{:#}", as_json(&findings)))?;
    }
    Ok(print_conclusion(args, &plan, &findings, found.as_ref(), terminal))
}

/// Checks whether a webhook has what it needs to be notified. Sends nothing.
fn check_webhook(hook: &WebhookConfig) -> PermissionFinding {
    let (what, verdict, why) = match notifications::webhook_receiver(hook) {
        Ok(receiver) => (
            format!("tell {receiver}"),
            PermissionVerdict::NotChecked,
            Some("it has what it needs; nothing is sent by a check".to_owned()),
        ),
        Err(error) => ("tell a webhook".to_owned(), PermissionVerdict::Refused, Some(error.to_string())),
    };
    PermissionFinding { description: what, action: None, verdict, explanation: why }
}

/// Returns the object that the write probe writes.
fn probe_target(args: &CheckArgs, plan: &Plan, key: &str) -> Result<ObjectId, CommandError> {
    let invalid = |what: String, help: &str| CommandError::new(ExitStatus::Invalid, what).help(help);
    let named = args.bucket.as_deref().map(parse_bucket).transpose()?;
    let (bucket, versions) = match (&plan.manifest.source, named) {
        (ManifestSource::Prefix { bucket, .. }, Some(other)) if *bucket != other => {
            return Err(invalid(format!("the plan works on {bucket}, and not on {other}"), "leave --bucket out"));
        }
        (ManifestSource::Prefix { prefix, .. }, _) if !key.as_bytes().starts_with(prefix.as_bytes()) => {
            let help = "name an object that the plan would work on: what is allowed elsewhere says nothing of it";
            return Err(invalid(
                format!("{} does not begin with the plan's prefix {prefix}", ObjectKey::from(key)),
                help,
            ));
        }
        (ManifestSource::Prefix { bucket, versions, .. }, _) => (bucket.clone(), *versions),
        (_, Some(bucket)) => (bucket, ListedVersions::Current),
        (_, None) => {
            let help = "name the object's bucket with --bucket NAME";
            return Err(invalid(
                "the plan does not say which bucket its objects are in: its manifest does".into(),
                help,
            ));
        }
    };
    if versions == ListedVersions::All && args.version_id.is_none() {
        let help = "name a version of the object with --version-id ID: versions have permissions of their own";
        return Err(invalid("the plan works on versions".to_owned(), help));
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
    let file = shell::quote_path(&args.plan);
    let missing = denied_actions(findings);
    if !missing.is_empty() {
        let actions = if missing.len() == 1 { "an action is" } else { "actions are" };
        terminal.eprint(format_args!("{actions} missing: {}", missing.join(", ")));
        let named = match (&plan.manifest.source, found, args.bucket.as_deref()) {
            (ManifestSource::Prefix { .. }, ..) => String::new(),
            (_, _, Some(bucket)) => format!(" --bucket {}", shell::quote(bucket)),
            (_, Some(bucket), _) => format!(" --bucket {}", shell::quote(bucket.as_str())),
            (_, None, None) => " --bucket NAME".to_owned(),
        };
        terminal.eprint(format_args!(
            "  help: `batchplan policy {file}{named}` prints the least that a plan's credentials need"
        ));
        return ExitStatus::Refused;
    }
    let (ended, exit) = match (count(PermissionVerdict::Refused), count(PermissionVerdict::Failed)) {
        (0, 0) => ("", ExitStatus::Success),
        (0, _) => ("something could not be found out: see `failed` above", ExitStatus::ToolFailed),
        (..) => ("refused, and not for want of a permission: see `refused` above", ExitStatus::Refused),
    };
    if exit != ExitStatus::Success {
        terminal.eprint(ended);
        terminal.eprint(format_args!("  help: mend what is said there, and check again: batchplan check {file}"));
        return exit;
    }
    match count(PermissionVerdict::NotChecked) {
        0 => terminal.eprint("everything that the plan needs is allowed"),
        left => terminal.eprint(format_args!("nothing that was checked is denied; not checked: {left}")),
    }
    terminal.eprint(format_args!("next: batchplan apply {file}"));
    ExitStatus::Success
}
