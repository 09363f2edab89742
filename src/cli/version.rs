//! `batchplan version`: prints the version of the program.

use serde_json::json;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;

/// Print the version of the program.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan version
  batchplan version --json | jq -r .program.version

With --json, `version` is that of the JSON format, and `program` has the name,
the version, and the optional features it was built with.")]
pub(super) struct VersionArgs {}

impl CliCommand for VersionArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        if terminal.is_json() {
            let features: Vec<_> = [("login", cfg!(feature = "login")), ("sso", cfg!(feature = "sso"))]
                .into_iter()
                .filter_map(|(name, built)| built.then_some(name))
                .collect();
            terminal.print_json(json!({ "program": {
                "name": name,
                "version": version,
                "features": features,
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
            } }))?;
        } else {
            terminal.print(format_args!("{name} {version}"))?;
        }
        Ok(ExitStatus::Success)
    }
}
