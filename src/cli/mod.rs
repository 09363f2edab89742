//! The command line interface, with one file per command. Nothing here is useful to a library user.

mod after_job;
mod apply;
mod cancel;
mod carry;
mod check;
mod completions;
mod confirm;
mod connected;
mod create;
mod delete;
mod exit;
mod export;
mod github;
mod given;
mod import;
mod init;
mod kept;
mod list;
mod markdown;
mod next;
mod notices;
mod ordered;
mod pause;
mod plan;
mod plan_file;
mod policy;
mod priority;
mod problems;
mod progress;
mod prompt;
mod publish;
mod recurring;
mod resume;
mod retry;
mod run;
mod sandbox;
mod schedule;
mod schema;
mod shell;
mod show;
mod signals;
mod state;
mod state_of;
mod summary;
mod terminal;
mod validate;
mod waits;
mod when;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::descriptors;
use crate::diagnostics::drives_terminal;
use crate::journal::JournalError;
pub use exit::Exit;
use state::State;
use terminal::{Terminal, barred, harmless};

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
    Plan(plan::PlanArgs),
    Check(check::Check),
    Apply(apply::Apply),
    Create(create::Create),
    Confirm(confirm::Confirm),
    List(list::List),
    Show(show::Show),
    Run(run::Run),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Retry(retry::Retry),
    Cancel(cancel::Cancel),
    Priority(priority::Priority),
    Delete(delete::Delete),
    Publish(publish::Publish),
    State(state_of::StateArgs),
    Policy(policy::Policy),
    Export(export::Export),
    Import(import::Import),
    Schedule(schedule::Schedule),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Sandbox(sandbox::SandboxArgs),
}

/// Why a command failed, and what the user can do about it.
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

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self { exit: Exit::of_journal(&error), message: error.to_string(), help: error.help() }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let help = descriptors::are_used_up(&error).then(|| descriptors::HELP.to_owned());
        Self { help, ..Self::new(Exit::ToolFailed, error.to_string()) }
    }
}

/// Parses the process's arguments, runs the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    descriptors::raise_limit();
    let terminal = Terminal::of_process();
    waits::announce(terminal);
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
        Ok((matches, cli))
    });
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        // The message quotes the arguments, which may come from an untrusted source. `say` escapes what would drive a
        // terminal or a workflow runner.
        Err(error) if error.use_stderr() && (github::is_here() || !is_plain(&error)) => {
            terminal.say(harmless(error.render().to_string().trim_end()));
            return Exit::Invalid.into();
        }
        Err(error) => error.exit(),
    };
    let ready = enough_descriptors().and_then(|()| signals::outlive_full_files().map_err(Error::from));
    let exit = match ready.and_then(|()| dispatch(cli.command, terminal)) {
        Ok(exit) => exit,
        Err(error) => {
            terminal.say(format_args!("error: {}", barred(&error.message)));
            if let Some(help) = &error.help {
                terminal.say(format_args!("  help: {}", State::named_in(help, &State::flag_of(&matches))));
            }
            error.exit
        }
    };
    // Best effort: undelivered notifications never change the exit code.
    notices::settle(terminal);
    exit.into()
}

/// Returns whether an error's text, rendered without colours, contains nothing that drives a terminal.
fn is_plain(error: &clap::Error) -> bool {
    !error.render().to_string().contains(|c| drives_terminal(c) && !matches!(c, '\n' | '\t'))
}

/// Returns an error if too few file descriptors are left to open even a clock and a journal.
fn enough_descriptors() -> Result<(), Error> {
    const LEAST: u64 = 12;
    match descriptors::left().zip(descriptors::limit()) {
        Some((left, limit)) if left < LEAST => {
            let what = format!(
                "this process may have {limit} files and connections open, which leaves {left}: it needs at least {LEAST}"
            );
            Err(Error::new(Exit::ToolFailed, what).help(descriptors::HELP))
        }
        _ => Ok(()),
    }
}

fn dispatch(command: Command, terminal: Terminal) -> Result<Exit, Error> {
    match command {
        Command::Init(args) => init::run(&args, terminal),
        Command::Validate(args) => validate::run(&args, terminal),
        Command::Plan(args) => plan::run(&args, terminal),
        Command::Check(args) => check::run(&args, terminal),
        Command::Apply(args) => apply::run(&args, terminal),
        Command::Create(args) => create::run(&args, terminal),
        Command::Confirm(args) => confirm::run(&args, terminal),
        Command::List(args) => list::run(&args, terminal),
        Command::Show(args) => show::run(&args, terminal),
        Command::Pause(args) => pause::run(&args, terminal),
        Command::Cancel(args) => cancel::run(&args, terminal),
        Command::Priority(args) => priority::run(&args, terminal),
        Command::State(args) => state_of::run(&args, terminal),
        Command::Policy(args) => policy::run(&args, terminal),
        Command::Export(args) => export::run(&args, terminal),
        Command::Import(args) => import::run(&args, terminal),
        Command::Schedule(args) => schedule::run(&args, terminal),
        Command::Delete(args) => delete::run(&args, terminal),
        Command::Resume(args) => resume::run(&args, terminal),
        Command::Run(args) => run::run(&args, terminal),
        Command::Retry(args) => retry::run(&args, terminal),
        Command::Publish(args) => publish::run(&args, terminal),
        Command::Schema(args) => schema::run(&args, terminal),
        Command::Completions(args) => completions::run(&args, terminal),
        Command::Sandbox(args) => sandbox::run(args, terminal),
    }
}
