//! `batchplan init`: writes a commented plan to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use batchplan_store::StoreProvider;
use clap::builder::PossibleValue;
use serde_json::json;

use super::descriptions::quote_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;
use crate::files::access_help;
use crate::paths::{path_to_text, show_path};
use crate::provider::ProviderRules;

/// The text before and after the part that depends on the provider.
const HEAD: &str = include_str!("init/head.toml");
const TAIL: &str = include_str!("init/tail.toml");

/// The objects of a new sandbox, among them those that the plan selects, and the name of their file beside the plan.
const SANDBOX_FILL: &str = include_str!("init/sandbox.csv");
const SANDBOX_FILL_NAME: &str = "sandbox.csv";

/// Write a commented plan to start from.
///
/// The plan is valid. Edit it to fit your needs. For the sandbox, `sandbox.csv` beside it lists a few objects to try it
/// on; an existing file of that name is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan init                          # plan.toml for the sandbox: needs no account
  batchplan init tag.toml --provider aws
  batchplan init - --provider oss         # to standard output")]
pub(super) struct InitArgs {
    /// The file to write, or - for standard output.
    #[arg(default_value = "plan.toml", value_name = "PATH")]
    path: PathBuf,

    /// The store that the plan is for.
    #[arg(long, value_enum, default_value = "sandbox")]
    provider: ProviderArg,

    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

/// A provider as an argument.
#[derive(Clone, Copy, Debug)]
struct ProviderArg(StoreProvider);

impl clap::ValueEnum for ProviderArg {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<[ProviderArg; StoreProvider::ALL.len()]> =
            LazyLock::new(|| StoreProvider::ALL.map(ProviderArg));
        &*ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.as_str()).help(ProviderRules::of(self.0).description))
    }
}

impl CliCommand for InitArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let text = [HEAD, ProviderRules::of(self.provider.0).template, TAIL].concat();
        if self.path == Path::new("-") {
            if terminal.is_json() {
                terminal.print_json(json!({ "plan": text, "file": null, "fill": null }))?;
            } else {
                terminal.print(text.trim_end())?;
            }
            return Ok(ExitStatus::Success);
        }
        let (path, word) = (show_path(&self.path), quote_path(&self.path));
        if !self.provider.0.is_built_in() {
            write(&self.path, &text, self.force).map_err(|error| write_error(&self.path, &error))?;
            terminal.inform(format_args!("wrote {path}\nnext: edit it, then run `batchplan validate {word}`"));
            self.print_files(None, terminal)?;
            return Ok(ExitStatus::Success);
        }
        let text = text.replacen("# fill  ", "fill    ", 1);
        write(&self.path, &text, self.force).map_err(|error| write_error(&self.path, &error))?;
        let fill = self.path.with_file_name(SANDBOX_FILL_NAME);
        let kept = match write(&fill, SANDBOX_FILL, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => "kept",
            written => written.map(|()| "wrote").map_err(|error| write_error(&fill, &error))?,
        };
        let fill = show_path(&fill);
        terminal.inform(format_args!(
            "wrote {path}\n{kept} {fill}, the objects of its sandbox\nnext: run `batchplan plan {word}`, or edit it first"
        ));
        self.print_files(Some(&self.path.with_file_name(SANDBOX_FILL_NAME)), terminal)?;
        Ok(ExitStatus::Success)
    }
}

impl InitArgs {
    /// Prints the names of the files as JSON, if requested.
    fn print_files(&self, fill: Option<&Path>, terminal: Terminal) -> Result<(), CommandError> {
        if terminal.is_json() {
            let plan_file = path_to_text(&self.path);
            terminal.print_json(json!({ "plan": null, "file": plan_file, "fill": fill.map(path_to_text) }))?;
        }
        Ok(())
    }
}

/// Writes the file. Without `force` it must be new, which the file system enforces.
fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

fn write_error(path: &Path, error: &io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return CommandError::new(ExitStatus::Invalid, format!("{} already exists", show_path(path)))
            .code(ErrorCode::FileExists)
            .help("name another file, or overwrite it with --force");
    }
    CommandError::new(ExitStatus::ToolFailed, format!("cannot write {}: {error}", show_path(path)))
        .maybe_help(access_help(error))
}
