//! The command line: one file per command, and nothing here that a library user would want.

mod apply;
mod completions;
mod connected;
mod exit;
mod init;
mod plan_file;
mod problems;
mod progress;
mod prompt;
mod publish;
mod sandbox;
mod schema;
mod shell;
mod signals;
mod state;
mod summary;
mod terminal;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;
use terminal::Terminal;

/// Declarative batch plans for object storage.
#[derive(Debug, Parser)]
#[command(name = "batchplan", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Validate(validate::Validate),
    Apply(apply::Apply),
    Publish(publish::Publish),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Sandbox(sandbox::SandboxArgs),
}

/// Why a command could not do its work: what happened, and what to do.
#[derive(Debug)]
struct Error {
    exit: Exit,
    message: String,
    help: Option<String>,
}

impl Error {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::ToolFailed, error.to_string())
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::of_process();
    match run(cli.command, terminal) {
        Ok(exit) => exit.into(),
        Err(error) => {
            terminal.say(format_args!("error: {}", error.message));
            if let Some(help) = &error.help {
                terminal.say(format_args!("  help: {help}"));
            }
            error.exit.into()
        }
    }
}

fn run(command: Command, terminal: Terminal) -> Result<Exit, Error> {
    match command {
        Command::Init(args) => init::run(&args, terminal),
        Command::Validate(args) => validate::run(&args, terminal),
        Command::Apply(args) => apply::run(&args, terminal),
        Command::Publish(args) => publish::run(&args, terminal),
        Command::Schema(args) => schema::run(&args, terminal),
        Command::Completions(args) => completions::run(&args, terminal),
        Command::Sandbox(args) => sandbox::run(args, terminal),
    }
}
