//! `batchplan schema`: prints the JSON Schema of plan files.

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;
use crate::plan;

/// Print the JSON Schema of plan files, for editors.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan schema > batchplan.schema.json

  Editors with a TOML plug-in (Even Better TOML, Tombi) find it by a plan's first line:
    #:schema ./batchplan.schema.json

The schema lists exactly the keys that this version supports. Only `batchplan
validate` checks the rules between keys and the rules of a provider.")]
pub(super) struct SchemaArgs {}

impl CliCommand for SchemaArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        terminal.print(format_args!("{:#}", plan::schema()))?;
        Ok(ExitStatus::Success)
    }
}
