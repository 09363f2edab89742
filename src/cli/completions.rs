//! `batchplan completions`: prints a completion script for a shell.

use clap_complete::Shell;
use serde_json::json;

use super::exit::{CommandError, ExitStatus};
use super::terminal::Terminal;

/// What the script of bash, fish and zsh has beside clap's own: plan files and job IDs, which `batchplan complete` knows.
const BASH: &str = include_str!("completions/dynamic.bash");
const FISH: &str = include_str!("completions/dynamic.fish");
const ZSH: &str = include_str!("completions/dynamic.zsh");

/// Print a completion script for a shell.
///
/// With bash, fish and zsh, plan files and the IDs of jobs are completed as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan completions bash > ~/.local/share/bash-completion/completions/batchplan
  batchplan completions zsh  > \"${fpath[1]}/_batchplan\"
  batchplan completions fish > ~/.config/fish/completions/batchplan.fish")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script for the whole program.
pub(super) fn run(
    args: &CompletionsArgs,
    program: &mut clap::Command,
    terminal: Terminal,
) -> Result<ExitStatus, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, program, "batchplan", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let script = match args.shell {
        Shell::Bash => format!("{script}\n{BASH}"),
        Shell::Fish => format!("{script}\n{FISH}"),
        Shell::Zsh => script.replace(":_default'", ":_batchplan_words'").replacen("\n\n", &format!("\n\n{ZSH}\n"), 1),
        _ => script,
    };
    if terminal.is_json() {
        terminal.print_json(json!({ "shell": args.shell.to_string(), "script": script }))?;
    } else {
        terminal.print(script.trim_end())?;
    }
    Ok(ExitStatus::Success)
}
