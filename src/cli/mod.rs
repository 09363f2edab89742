//! The command line interface, with one file per command. Nothing here is useful to a library user.

mod apply;
mod cancel;
mod check;
mod completions;
mod confirm;
mod create;
mod delete;
mod exit;
mod export;
mod github;
mod import;
mod init;
mod job_command;
mod job_session;
mod job_warnings;
mod journal_handle;
mod list;
mod long_waits;
mod markdown;
mod next_command;
mod notifications;
mod pause;
mod plan;
mod plan_file;
mod plan_input;
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
mod state_command;
mod state_location;
mod summary;
mod terminal;
mod timestamps;
mod validate;

use std::process::ExitCode;

use batchplan_store::printable::affects_terminal;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::descriptors;
use exit::CommandError;
pub use exit::ExitStatus;
use state_location::StateLocationArgs;
use terminal::{Terminal, bar_lines, escape_controls, is_github_actions};

/// Declarative batch plans for object storage.
#[derive(Debug, Parser)]
#[command(name = "batchplan", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Check(check::CheckArgs),
    Apply(apply::ApplyArgs),
    Create(create::CreateArgs),
    Confirm(confirm::ConfirmArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Run(run::RunArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Retry(retry::RetryArgs),
    Cancel(cancel::CancelArgs),
    Priority(priority::PriorityArgs),
    Delete(delete::DeleteArgs),
    Publish(publish::PublishArgs),
    State(state_command::StateArgs),
    Policy(policy::PolicyArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Schedule(schedule::ScheduleArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Sandbox(sandbox::SandboxArgs),
}

/// Parses the process's arguments, runs the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    descriptors::raise_limit();
    let terminal = Terminal::from_process();
    long_waits::announce(terminal);
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
        Ok((matches, cli))
    });
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        // The message quotes the arguments, which may come from an untrusted source. `eprint` escapes what would
        // drive a terminal or a workflow runner.
        Err(error) if error.use_stderr() && (is_github_actions() || !is_plain(&error)) => {
            terminal.eprint(escape_controls(error.render().to_string().trim_end()));
            return ExitStatus::Invalid.into();
        }
        Err(error) => error.exit(),
    };
    let ready = check_descriptors().and_then(|()| signals::survive_file_size_signal().map_err(CommandError::from));
    let exit = match ready.and_then(|()| dispatch(cli.command, terminal)) {
        Ok(exit) => exit,
        Err(error) => {
            terminal.eprint(format_args!("error: {}", bar_lines(&error.message)));
            if let Some(help) = &error.help {
                terminal.eprint(format_args!(
                    "  help: {}",
                    StateLocationArgs::add_flag_to_commands(help, &StateLocationArgs::flag_from_matches(&matches))
                ));
            }
            error.exit
        }
    };
    // Best effort: undelivered notifications never change the exit code.
    notifications::deliver_pending(terminal);
    exit.into()
}

/// Returns whether an error's text, rendered without colours, contains nothing that drives a terminal.
fn is_plain(error: &clap::Error) -> bool {
    !error.render().to_string().contains(|c| affects_terminal(c) && !matches!(c, '\n' | '\t'))
}

/// Returns an error if too few file descriptors are left to open even a clock and a journal.
fn check_descriptors() -> Result<(), CommandError> {
    const MIN_DESCRIPTORS: u64 = 12;
    match descriptors::available().zip(descriptors::limit()) {
        Some((left, limit)) if left < MIN_DESCRIPTORS => {
            let what = format!(
                "too few file descriptors: {left} of {limit} are free, and batchplan needs at least {MIN_DESCRIPTORS}"
            );
            Err(CommandError::new(ExitStatus::ToolFailed, what).help(descriptors::HELP))
        }
        _ => Ok(()),
    }
}

fn dispatch(command: Command, terminal: Terminal) -> Result<ExitStatus, CommandError> {
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
        Command::State(args) => state_command::run(&args, terminal),
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
