//! `batchplan init`: writes a commented plan to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use batchplan_store::StoreProvider;
use batchplan_store::object::ObjectKey;
use clap::builder::PossibleValue;
use jiff::Timestamp;
use serde_json::json;

use super::descriptions::quote_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::plan_input::show_problems;
use super::terminal::{Terminal, ask_line};
use crate::files::access_help;
use crate::operation::Operation;
use crate::paths::{path_to_text, show_path};
use crate::plan;
use crate::provider::ProviderRules;

/// The text before and after the part that depends on the provider.
const HEAD: &str = include_str!("init/head.toml");
const TAIL: &str = include_str!("init/tail.toml");

/// The objects of a new sandbox, among them those that the plan selects, and the name of their file beside the plan.
const SANDBOX_FILL: &str = include_str!("init/sandbox.csv");
const SANDBOX_FILL_NAME: &str = "sandbox.csv";

/// What the templates say, in the place of which the arguments are put.
const TEMPLATE_BUCKET: &str = "my-bucket";
const TEMPLATE_PREFIX: &str = "documents/2024/";
const TEMPLATE_OPERATION: &str = "add_object_tagging";

/// Write a commented plan to start from.
///
/// The plan is valid. Edit it to fit your needs. For the sandbox, `sandbox.csv` beside it lists a few objects to try it
/// on; an existing file of that name is kept. On a terminal, init asks for what no option gives.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  batchplan init                          # on a terminal, asks; else for the sandbox
  batchplan init --provider sandbox       # needs no account
  batchplan init tag.toml --provider aws --bucket my-bucket --prefix docs/
  batchplan init - --provider oss         # to standard output")]
pub(super) struct InitArgs {
    /// The file to write, or - for standard output.
    #[arg(default_value = "plan.toml", value_name = "PATH")]
    path: PathBuf,

    /// The store that the plan is for [default: sandbox].
    #[arg(long, value_enum)]
    provider: Option<ProviderArg>,

    /// The bucket with the objects.
    #[arg(long)]
    bucket: Option<String>,

    /// The start of the objects' keys; empty for all of them.
    #[arg(long)]
    prefix: Option<String>,

    /// What to do with each object.
    #[arg(long, value_enum)]
    operation: Option<OperationArg>,

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

/// An operation as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OperationArg(&'static str);

impl clap::ValueEnum for OperationArg {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<OperationArg>> =
            LazyLock::new(|| Operation::DESCRIPTORS.iter().map(|descriptor| OperationArg(descriptor.name)).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0))
    }
}

/// What the plan is to be about.
struct PlanChoices {
    provider: StoreProvider,
    bucket: String,
    prefix: String,
    operation: &'static str,
}

impl CliCommand for InitArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let is_printed = self.path == Path::new("-");
        if !is_printed && !self.force && self.path.symlink_metadata().is_ok() {
            return Err(write_error(&self.path, &io::ErrorKind::AlreadyExists.into()));
        }
        let Some(choices) = self.choices(!is_printed && terminal.is_interactive() && !terminal.is_json())? else {
            terminal.eprint("nothing was written");
            return Ok(ExitStatus::Cancelled);
        };
        let mut text = choices.plan_text();
        if choices.provider.is_built_in() && !is_printed {
            text = text.replacen("# fill  ", "fill    ", 1);
        }
        if !check(&self.path, &text, terminal) {
            return Err(CommandError::new(ExitStatus::Invalid, "a plan with these settings would not be valid")
                .code(ErrorCode::InvalidArgument)
                .help("correct the option or the answer that the message above shows; nothing was written"));
        }
        if is_printed {
            if terminal.is_json() {
                terminal.print_json(json!({ "plan": text, "file": null, "fill": null }))?;
            } else {
                terminal.print(text.trim_end())?;
            }
            return Ok(ExitStatus::Success);
        }
        self.write_files(&choices, &text, terminal)?;
        Ok(ExitStatus::Success)
    }
}

impl InitArgs {
    /// Returns the choices: what the options give, then the answers, then the defaults. Returns `None` if the input ended
    /// instead of an answer.
    fn choices(&self, asks: bool) -> Result<Option<PlanChoices>, CommandError> {
        // A user who gives an option knows the others.
        let is_plain = self.provider.is_none() && self.bucket.is_none() && self.prefix.is_none();
        let asks = asks && is_plain && self.operation.is_none();
        let mut answers = Answers { asks };
        let providers: Vec<_> = StoreProvider::ALL.map(StoreProvider::as_str).to_vec();
        let operations: Vec<_> = Operation::DESCRIPTORS.iter().map(|descriptor| descriptor.name).collect();
        let chosen = self.provider.map_or_else(default_provider, |ProviderArg(provider)| provider).as_str();
        let Some(provider) = answers.choose("Provider", &providers, chosen)? else { return Ok(None) };
        let bucket = self.bucket.as_deref().unwrap_or(TEMPLATE_BUCKET);
        let Some(bucket) = answers.text("Bucket", bucket)? else { return Ok(None) };
        let prefix = self.prefix.as_deref().unwrap_or(TEMPLATE_PREFIX);
        let Some(prefix) = answers.text("Prefix (\"\" for all objects)", prefix)? else { return Ok(None) };
        let operation = self.operation.map_or(TEMPLATE_OPERATION, |OperationArg(name)| name);
        let Some(operation) = answers.choose("Operation", &operations, operation)? else { return Ok(None) };
        Ok(Some(PlanChoices {
            provider: StoreProvider::ALL
                .into_iter()
                .find(|known| known.as_str() == provider)
                .unwrap_or_else(default_provider),
            bucket,
            prefix: if prefix == "\"\"" { String::new() } else { prefix },
            operation,
        }))
    }

    fn write_files(&self, choices: &PlanChoices, text: &str, terminal: Terminal) -> Result<(), CommandError> {
        let (path, word) = (show_path(&self.path), quote_path(&self.path));
        write(&self.path, text, self.force).map_err(|error| write_error(&self.path, &error))?;
        if !choices.provider.is_built_in() {
            terminal.inform(format_args!("wrote {path}\nnext: edit it, then run `batchplan validate {word}`"));
            return self.print_files(None, terminal);
        }
        let fill = self.path.with_file_name(SANDBOX_FILL_NAME);
        let kept = match write(&fill, &choices.sandbox_fill(), false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => "kept",
            written => written.map(|()| "wrote").map_err(|error| write_error(&fill, &error))?,
        };
        let fill = show_path(&fill);
        terminal.inform(format_args!(
            "wrote {path}\n{kept} {fill}, the objects of its sandbox\nnext: run `batchplan plan {word}`, or edit it first"
        ));
        self.print_files(Some(&self.path.with_file_name(SANDBOX_FILL_NAME)), terminal)
    }

    /// Prints the names of the files as JSON, if requested.
    fn print_files(&self, fill: Option<&Path>, terminal: Terminal) -> Result<(), CommandError> {
        if terminal.is_json() {
            let plan_file = path_to_text(&self.path);
            terminal.print_json(json!({ "plan": null, "file": plan_file, "fill": fill.map(path_to_text) }))?;
        }
        Ok(())
    }
}

/// Returns the provider that needs no account.
fn default_provider() -> StoreProvider {
    let [first, ..] = StoreProvider::ALL;
    StoreProvider::ALL.into_iter().find(|provider| provider.is_built_in()).unwrap_or(first)
}

/// Asks for what is not known, or takes what is proposed.
struct Answers {
    asks: bool,
}

impl Answers {
    /// Returns a text, which is `proposed` if the user presses Enter. Returns `None` if the input has ended.
    fn text(&mut self, what: &str, proposed: &str) -> io::Result<Option<String>> {
        if !self.asks {
            return Ok(Some(proposed.to_owned()));
        }
        let answer = ask_line(&format!("{what} [{proposed}]: "))?;
        Ok(answer.map(|answer| if answer.is_empty() { proposed.to_owned() } else { answer }))
    }

    /// Like [`text`](Self::text), for one of several words, of which a unique beginning is enough. Asks again until it is
    /// one.
    fn choose<'n>(&mut self, what: &str, words: &[&'n str], proposed: &'n str) -> io::Result<Option<&'n str>> {
        loop {
            let Some(answer) = self.text(&format!("{what} ({})", words.join(", ")), proposed)? else {
                return Ok(None);
            };
            let begins: Vec<_> = words.iter().filter(|word| word.starts_with(answer.as_str())).collect();
            if let Some(word) = words.iter().find(|word| **word == answer) {
                return Ok(Some(word));
            }
            if let [word] = begins[..] {
                return Ok(Some(word));
            }
        }
    }
}

impl PlanChoices {
    /// Returns the text of the plan file.
    fn plan_text(&self) -> String {
        let text = [HEAD, ProviderRules::of(self.provider).template, TAIL].concat();
        let mut lines: Vec<_> = text.lines().map(|line| self.fill_in(line)).collect();
        if self.operation != TEMPLATE_OPERATION {
            select_operation(&mut lines, self.operation);
        }
        lines.join("\n") + "\n"
    }

    /// Puts the bucket and the prefix into a line of the template.
    fn fill_in(&self, line: &str) -> String {
        let quoted = |value: &str| serde_json::Value::from(value).to_string();
        let is_comment = line.starts_with('#');
        let line = line.replace(&quoted(TEMPLATE_PREFIX), &quoted(&self.prefix));
        if is_comment { line } else { line.replace(&quoted(TEMPLATE_BUCKET), &quoted(&self.bucket)) }
    }

    /// Returns the objects of the sandbox, of which the plan selects some. Restoring needs archived ones.
    fn sandbox_fill(&self) -> String {
        let prefix = ObjectKey::from(self.prefix.as_str()).encoded_keeping_slashes();
        let rows = SANDBOX_FILL.replace(TEMPLATE_PREFIX, &prefix).replace(TEMPLATE_BUCKET, &self.bucket);
        if self.operation != "restore_object" {
            return rows;
        }
        let mut lines = rows.lines();
        let head = lines.next().unwrap_or_default();
        lines.fold(format!("{head},storage_class\n"), |text, line| format!("{text}{line},GLACIER\n"))
    }
}

/// Comments out the operation of the template, and takes another one from its comments. The plan gets its name.
fn select_operation(lines: &mut [String], operation: &str) {
    let mut block = None;
    for line in lines {
        if line.starts_with("name ") {
            *line = format!("name        = \"{}\"", operation.replace('_', "-"));
        } else if line.starts_with("description ") {
            "# description = \"What it is for\"".clone_into(line);
        }
        let header = line.trim_start_matches("# ").strip_prefix("[operation.").and_then(|rest| rest.split_once(']'));
        if let Some((name, _)) = header {
            block = Some(name.to_owned());
        } else if line.is_empty() {
            block = None;
        }
        let Some(name) = &block else { continue };
        if name == operation {
            *line = line.trim_start_matches("# ").to_owned();
        } else if !line.starts_with('#') {
            line.insert_str(0, "# ");
        }
    }
}

/// Returns whether a plan is valid, and shows its problems if not.
fn check(path: &Path, text: &str, terminal: Terminal) -> bool {
    let (name, folder) = (show_path(path).to_string(), path.parent().unwrap_or(Path::new("")));
    let (plan, problems) = plan::read_bytes(&name, text.as_bytes(), folder, Timestamp::now());
    if plan.is_none() {
        show_problems(&problems, terminal);
    }
    plan.is_some()
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
