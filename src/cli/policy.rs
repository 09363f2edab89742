//! `batchplan policy`: prints the permissions that the credentials of a plan need.

use std::path::PathBuf;

use batchplan_store::object::BucketName;
use clap::ValueEnum;
use serde_json::json;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::plan_input;
use super::terminal::Terminal;
use crate::plan::{bucket_problem, policy};
use crate::provider::{PolicyLanguage, ProviderRules};

/// Print the permissions that a plan needs, as a minimal policy document.
///
/// Permissions for customer-managed encryption keys are not included. Nothing is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan policy plan.toml > policy.json
  batchplan policy plan.toml --for iam --bucket documents  # name the manifest's buckets
  batchplan policy plan.toml --trust                       # who may assume the role
  batchplan policy plan.toml --trust --principal acs:ram::123456789012:root")]
pub(super) struct PolicyArgs {
    /// The plan file
    plan: PathBuf,
    /// The policy language [default: ram for `oss`, iam for any other provider]
    #[arg(long = "for", value_enum, value_name = "LANGUAGE")]
    language: Option<PolicyLanguageArg>,
    /// A bucket that a CSV, inventory or report names; repeat the flag for several
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,
    /// Print the trust policy of the role instead
    #[arg(long)]
    trust: bool,
    /// Who may assume the role [default: the managed service]
    #[arg(long, value_name = "ARN", requires = "trust")]
    principal: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PolicyLanguageArg {
    /// Alibaba Cloud
    Ram,
    /// AWS
    Iam,
}

impl CliCommand for PolicyArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let plan = plan_input::require(&self.plan, terminal)?.plan;
        let language = match self.language {
            Some(PolicyLanguageArg::Ram) => PolicyLanguage::Ram,
            Some(PolicyLanguageArg::Iam) => PolicyLanguage::Iam,
            None => ProviderRules::of(plan.store.provider).policy_language,
        };
        let document = if self.trust {
            policy::trust_policy(language, self.principal.as_deref())
        } else {
            let buckets = self.buckets.iter().map(|name| parse_bucket(name)).collect::<Result<Vec<_>, _>>()?;
            policy::permission_policy(&plan, language, &buckets)
                .map_err(|error| CommandError::new(ExitStatus::Invalid, error.to_string()).help(error.help()))?
        };
        if terminal.is_json() {
            terminal.print_pretty_json(json!({ "policy": document }))?;
        } else {
            terminal.print(format_args!("{document:#}"))?;
        }
        Ok(ExitStatus::Success)
    }
}

/// Parses a bucket's name. Anything else might match more than one bucket, or lead elsewhere.
pub(super) fn parse_bucket(name: &str) -> Result<BucketName, CommandError> {
    let Some(problem) = bucket_problem(name) else { return Ok(BucketName::new(name)) };
    Err(CommandError::new(ExitStatus::Invalid, format!("`{name}` is not a bucket name: it {problem}"))
        .help("use letters, digits, dots, hyphens and underscores, without a scheme or a path"))
}
