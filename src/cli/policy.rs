//! `batchplan policy`: prints the permissions that the credentials of a plan need.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{Error, Exit, Terminal, plan_file};
use crate::object::Bucket;
use crate::plan::policy::{self, Language};

/// Print the least permissions that a plan needs, as a policy document.
///
/// Nothing is sent anywhere. Keys of a customer's own, which encrypt some buckets, have permissions of their own and are not in
/// it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan policy plan.toml > policy.json                 in the plan's own cloud's language
  batchplan policy plan.toml --for iam --bucket documents  a CSV, inventory or report names the buckets: say which
  batchplan policy plan.toml --trust                       who may take on the role: the managed service
  batchplan policy plan.toml --trust --principal acs:ram::123456789012:root")]
pub(super) struct Policy {
    /// The plan file
    plan: PathBuf,
    /// Whose policies: RAM's for `oss`, IAM's for any other provider, unless given
    #[arg(long = "for", value_enum, value_name = "LANGUAGE")]
    language: Option<For>,
    /// A bucket that the manifest names; may be given several times
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,
    /// Print the trust policy of the role instead
    #[arg(long)]
    trust: bool,
    /// Who takes the role on, where it is not the managed service
    #[arg(long, value_name = "ARN", requires = "trust")]
    principal: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    /// Alibaba Cloud
    Ram,
    /// AWS
    Iam,
}

pub(super) fn run(args: &Policy, terminal: Terminal) -> Result<Exit, Error> {
    let plan = plan_file::require(&args.plan, terminal)?.plan;
    let language = match args.language {
        Some(For::Ram) => Language::Ram,
        Some(For::Iam) => Language::Iam,
        None => Language::of(plan.store.provider),
    };
    let document = if args.trust {
        policy::trust(language, args.principal.as_deref())
    } else {
        let buckets = args.buckets.iter().map(|name| bucket(name)).collect::<Result<Vec<_>, _>>()?;
        policy::permissions(&plan, language, &buckets).map_err(|unknown| {
            Error::new(Exit::Invalid, unknown.to_string()).help("name each of them with --bucket NAME")
        })?
    };
    terminal.print(format_args!("{document:#}"))?;
    Ok(Exit::Done)
}

/// Parses a bucket's name. Anything else might match more than one bucket, or lead elsewhere.
pub(super) fn bucket(name: &str) -> Result<Bucket, Error> {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_name {
        return Ok(Bucket::new(name));
    }
    Err(Error::new(Exit::Invalid, format!("`{name}` is no bucket's name")).help("letters, digits, dots and dashes"))
}
