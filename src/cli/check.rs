//! `batchplan check`: checks whether the credentials in use have the permissions that a plan needs.

use std::fmt;
use std::path::PathBuf;

use serde_json::json;

use super::connected::connected;
use super::policy::bucket;
use super::terminal::cell;
use super::{Error, Exit, Terminal, notices, plan_file, shell};
use crate::jobs::{Finding, Probes, Verdict, check};
use crate::manifest::{Source, Versions};
use crate::object::{Bucket, Key, ObjectId, VersionId};
use crate::plan::{Hook, Plan};

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
pub(super) struct Check {
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

pub(super) fn run(args: &Check, terminal: Terminal) -> Result<Exit, Error> {
    let plan = plan_file::require(&args.plan, terminal)?.plan;
    let write = args.write_probe.as_deref().map(|key| probed(args, &plan, key)).transpose()?;
    if args.report_probe && plan.report.place.is_none() {
        return Err(Error::new(Exit::Invalid, "the plan sends its report nowhere, so there is nothing to write")
            .help("leave --report-probe out, or give [report] a bucket"));
    }
    let probes = Probes { write, report: args.report_probe };
    let mut findings = Vec::new();
    let mut printed = Ok(());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let connection = connected(&plan.store).await?;
        let store = connection.store();
        if let Some(why) = probes.write.as_ref().and_then(|object| store.refuses_key(&object.key)) {
            return Err(Error::new(Exit::Invalid, format!("--write-probe: {why}")));
        }
        let mut tell = |finding: &Finding| {
            if !args.json && printed.is_ok() {
                printed = terminal.print(Line(finding));
            }
            findings.push(finding.clone());
        };
        let found = check(&plan, store, &probes, &mut tell).await;
        plan.notify.iter().map(webhook).for_each(|finding| tell(&finding));
        Ok::<_, Error>(found)
    })?;
    printed?;
    if args.json {
        terminal.print(format_args!("{:#}", as_json(&findings)))?;
    }
    Ok(conclude(args, &plan, &findings, found.as_ref(), terminal))
}

/// Checks whether a webhook has what it needs to be notified. Sends nothing.
fn webhook(hook: &Hook) -> Finding {
    let (what, verdict, why) = match notices::ready(hook) {
        Ok(receiver) => (
            format!("tell {receiver}"),
            Verdict::NotChecked,
            Some("it has what it needs; nothing is sent by a check".to_owned()),
        ),
        Err(error) => ("tell a webhook".to_owned(), Verdict::Refused, Some(error.to_string())),
    };
    Finding { what, action: None, verdict, why }
}

/// Returns the object that the write probe writes.
fn probed(args: &Check, plan: &Plan, key: &str) -> Result<ObjectId, Error> {
    let invalid = |what: String, help: &str| Error::new(Exit::Invalid, what).help(help);
    let named = args.bucket.as_deref().map(bucket).transpose()?;
    let (bucket, versions) = match (&plan.manifest.source, named) {
        (Source::Prefix { bucket, .. }, Some(other)) if *bucket != other => {
            return Err(invalid(format!("the plan works on {bucket}, and not on {other}"), "leave --bucket out"));
        }
        (Source::Prefix { prefix, .. }, _) if !key.as_bytes().starts_with(prefix.as_bytes()) => {
            let help = "name an object that the plan would work on: what is allowed elsewhere says nothing of it";
            return Err(invalid(format!("{} does not begin with the plan's prefix {prefix}", Key::from(key)), help));
        }
        (Source::Prefix { bucket, versions, .. }, _) => (bucket.clone(), *versions),
        (_, Some(bucket)) => (bucket, Versions::Current),
        (_, None) => {
            let help = "name the object's bucket with --bucket NAME";
            return Err(invalid(
                "the plan does not say which bucket its objects are in: its manifest does".into(),
                help,
            ));
        }
    };
    if versions == Versions::All && args.version_id.is_none() {
        let help = "name a version of the object with --version-id ID: versions have permissions of their own";
        return Err(invalid("the plan works on versions".to_owned(), help));
    }
    let version = args.version_id.as_deref().map(VersionId::new);
    Ok(ObjectId { bucket, key: Key::from(key), version })
}

/// Formats a finding for the terminal.
struct Line<'a>(&'a Finding);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { what, action, verdict, why } = self.0;
        write!(f, "{:<11}  {}", verdict.as_str(), cell(what))?;
        match action {
            Some(action) if *verdict == Verdict::Denied => write!(f, ": {action} is missing")?,
            Some(action) => write!(f, " ({action})")?,
            None => {}
        }
        why.as_ref().map_or(Ok(()), |why| write!(f, "\n{:13}{}", "", cell(why)))
    }
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let checks = findings.iter().map(|finding| {
        json!({
            "what": finding.what,
            "action": finding.action,
            "verdict": finding.verdict.as_str(),
            "why": finding.why,
        })
    });
    let missing = missing(findings);
    json!({ "checks": checks.collect::<Vec<_>>(), "missing": missing })
}

/// Returns the denied actions, without duplicates.
fn missing(findings: &[Finding]) -> Vec<&'static str> {
    let mut missing: Vec<&str> = Vec::new();
    for action in findings.iter().filter(|it| it.verdict == Verdict::Denied).filter_map(|it| it.action) {
        if !missing.contains(&action) {
            missing.push(action);
        }
    }
    missing
}

/// Prints the overall result and what to do about it, and returns the exit code.
fn conclude(args: &Check, plan: &Plan, findings: &[Finding], found: Option<&Bucket>, terminal: Terminal) -> Exit {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let file = shell::path(&args.plan);
    let missing = missing(findings);
    if !missing.is_empty() {
        let actions = if missing.len() == 1 { "an action is" } else { "actions are" };
        terminal.say(format_args!("{actions} missing: {}", missing.join(", ")));
        let named = match (&plan.manifest.source, found, args.bucket.as_deref()) {
            (Source::Prefix { .. }, ..) => String::new(),
            (_, _, Some(bucket)) => format!(" --bucket {}", shell::word(bucket)),
            (_, Some(bucket), _) => format!(" --bucket {}", shell::word(bucket.as_str())),
            (_, None, None) => " --bucket NAME".to_owned(),
        };
        terminal.say(format_args!(
            "  help: `batchplan policy {file}{named}` prints the least that a plan's credentials need"
        ));
        return Exit::Refused;
    }
    let (ended, exit) = match (count(Verdict::Refused), count(Verdict::Failed)) {
        (0, 0) => ("", Exit::Done),
        (0, _) => ("something could not be found out: see `failed` above", Exit::ToolFailed),
        (..) => ("refused, and not for want of a permission: see `refused` above", Exit::Refused),
    };
    if exit != Exit::Done {
        terminal.say(ended);
        terminal.say(format_args!("  help: mend what is said there, and check again: batchplan check {file}"));
        return exit;
    }
    match count(Verdict::NotChecked) {
        0 => terminal.say("everything that the plan needs is allowed"),
        left => terminal.say(format_args!("nothing that was checked is denied; not checked: {left}")),
    }
    terminal.say(format_args!("next: batchplan apply {file}"));
    Exit::Done
}
