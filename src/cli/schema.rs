//! `batchplan schema`: prints the JSON Schema of plan files, of rules for plans, or of events.

use serde_json::json;

use super::event_schema;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;
use crate::{plan, plan_rules};

/// Print the JSON Schema of plan files, for editors.
///
/// With --rules, prints that of the file of rules for plans; with --events, that of a line of --json=lines.
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
    /// Print the JSON Schema of the events of --json=lines
    #[arg(long, conflicts_with = "rules")]
    events: bool,
}

impl CliCommand for SchemaArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let schema = match (self.rules, self.events) {
            (true, _) => plan_rules::schema(),
            (_, true) => event_schema::schema(),
            _ => plan::schema(),
        };
        if terminal.is_json() {
            terminal.print_pretty_json(json!({ "schema": schema }))?;
        } else {
            terminal.print(format_args!("{schema:#}"))?;
        }
        Ok(ExitStatus::Success)
    }
}
