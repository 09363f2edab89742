//! `batchplan schema`: prints the JSON Schema of plan files, or of rules for plans.

use serde_json::json;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;
use crate::{plan, plan_rules};

/// Print the JSON Schema of plan files, for editors.
///
/// With --rules, prints that of the file of rules for plans.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan schema > batchplan.schema.json
  batchplan schema --rules > batchplan-rules.schema.json

  Editors with a TOML plug-in (Even Better TOML, Tombi) find it by a plan's first line:
    #:schema ./batchplan.schema.json

The schema lists exactly the keys that this version supports. Only `batchplan
validate` checks the rules between keys and the rules of a provider.")]
pub(super) struct SchemaArgs {
    /// Print the JSON Schema of rules files
    #[arg(long)]
    rules: bool,
}

impl CliCommand for SchemaArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let schema = if self.rules { plan_rules::schema() } else { plan::schema() };
        if terminal.is_json() {
            terminal.print_pretty_json(json!({ "schema": schema }))?;
        } else {
            terminal.print(format_args!("{schema:#}"))?;
        }
        Ok(ExitStatus::Success)
    }
}
