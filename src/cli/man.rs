//! `batchplan man`: writes the manual pages.

use std::path::PathBuf;

use serde_json::json;

use super::exit::{CommandError, ExitStatus};
use super::terminal::Terminal;
use crate::paths::path_to_text;

/// Write the manual pages to a folder.
///
/// Writes one page in section 1 for batchplan and one for each command. Existing pages are overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan man ~/.local/share/man/man1     # then man batchplan-apply
  batchplan man pages && man pages/batchplan.1")]
pub(super) struct ManArgs {
    /// The folder; it is created if it does not exist.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages of the whole program.
pub(super) fn run(args: &ManArgs, program: clap::Command, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let folder = &args.folder;
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(program, folder));
    if let Err(error) = written {
        let what = format!("the manual pages cannot be written to {}: {error}", folder.display());
        return Err(CommandError::new(ExitStatus::ToolFailed, what).help("name a folder that you may write to"));
    }
    terminal.eprint(format_args!("wrote the manual pages to {}", folder.display()));
    if terminal.is_json() {
        terminal.print_json(json!({ "folder": path_to_text(folder) }))?;
    }
    Ok(ExitStatus::Success)
}
