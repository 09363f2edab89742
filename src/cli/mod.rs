//! The command line interface. Each command is one file, named after it. Nothing here is useful to a library user.
//!
//! This file holds the table of commands. What several commands share:
//!
//! | file | contents |
//! |---|---|
//! | `exit` | what a command is, the exit codes, and the code and help of each error |
//! | `error_code`, `error_json` | errors in JSON output, and their codes |
//! | `event_stream`, `job_events`, `event_schema` | the events of `--json=lines`, those of a job, and their schema |
//! | `terminal` | output, colours, progress bars and questions |
//! | `logging` | the log, and the options that every command has |
//! | `signals` | stopping, and how long that may take |
//! | `descriptions` | plans, jobs and amounts in words, and the commands that are shown to the user |
//! | `state_location`, `project_config` | `--state` and `--state-of`, and the names of states |
//! | `state` | the journal that is kept there, and the command `state` |
//! | `state_csv` | tags and ACLs of objects as CSV |
//! | `saved_plan_file`, `file_digest`, `detail_page` | a saved plan as a file, and the pages that `show` prints |
//! | `plan_input` | the plan that a command is given, its prices, and the problems of its file |
//! | `plan_rules` | `--rules`: the rules that plans must keep |
//! | `recurring` | whether there is anything new for a recurring plan |
//! | `job_ids` | the IDs of jobs, abbreviated |
//! | `help_groups` | the commands in groups, and the page of the documentation about each |
//! | `preview` | what a plan would change, cost and take, as text, JSON and Markdown |
//! | `verification` | which objects are not as they should be, as text, JSON, Markdown and a report |
//! | `job_session` | running one job, its result, and the arguments of commands about a job |
//! | `notifications` | webhooks |
//! | `github`, `pull_request_comment` | annotations, outputs, summaries and comments in a workflow |
//! | `markdown` | untrusted text in Markdown |
//! | `cron` | the expressions of `schedule` |

mod apply;
mod cancel;
mod captured;
mod check;
mod complete;
mod completions;
mod confirm;
mod cost_table;
mod create;
mod cron;
mod delete;
mod descriptions;
mod detail_page;
mod error_code;
mod error_json;
mod event_schema;
mod event_stream;
mod exit;
mod export;
mod file_digest;
mod github;
mod help_groups;
mod import;
mod init;
mod job_events;
mod job_ids;
mod job_session;
mod list;
mod logging;
mod man;
mod markdown;
mod notifications;
mod numbers;
mod pause;
mod plan;
mod plan_input;
mod plan_rules;
mod policy;
mod preview;
mod priority;
mod progress_line;
mod progress_view;
mod project_config;
mod publish;
mod pull_request_comment;
mod recurring;
mod resume;
mod retry;
mod run;
mod run_summary;
mod run_time;
mod sandbox;
mod saved_plan_file;
mod schedule;
mod schema;
mod show;
mod signals;
mod state;
mod state_csv;
mod state_location;
mod terminal;
mod undo;
mod usage_tips;
mod validate;
mod verification;
mod verify;
mod version;
mod wrap;

use std::process::ExitCode;

use batchplan_store::printable::affects_terminal;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};
use tracing::info;

use crate::open_files;
use descriptions::render_hint;
use error_json::{error_json, failure_json, usage_error_json};
pub use exit::ExitStatus;
use exit::{CliCommand, CommandError};
use logging::OutputArgs;
use state_location::StateLocationArgs;
use terminal::{ColorChoice, Terminal, announce_long_waits, bar_lines, escape_for_terminal, is_github_actions};

/// Declarative batch plans for object storage.
#[derive(Debug, Parser)]
#[command(name = "batchplan", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Log levels by module: RUST_LOG, a list of TARGET=LEVEL separated by commas, such
as batchplan::engine=debug,batchplan_store=trace. It comes before -v. Libraries
are logged only if it names them, and at most at info: the details of the AWS
SDK may have credentials.")]
struct Cli {
    #[command(flatten)]
    output: OutputArgs,
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
    Verify(verify::VerifyArgs),
    Undo(undo::UndoArgs),
    Captured(captured::CapturedArgs),
    Cancel(cancel::CancelArgs),
    Priority(priority::PriorityArgs),
    Delete(delete::DeleteArgs),
    Publish(publish::PublishArgs),
    State(state::StateArgs),
    Policy(policy::PolicyArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Schedule(schedule::ScheduleArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Complete(complete::CompleteArgs),
    Man(man::ManArgs),
    Version(version::VersionArgs),
    Sandbox(sandbox::SandboxArgs),
}

impl Command {
    /// Returns an error if the command cannot print what was requested.
    fn check_output(&self, terminal: Terminal) -> Result<(), CommandError> {
        let runs_jobs =
            matches!(self, Self::Apply(_) | Self::Create(_) | Self::Resume(_) | Self::Retry(_) | Self::Run(_));
        if runs_jobs || !terminal.prints_events() {
            return Ok(());
        }
        Err(CommandError::new(ExitStatus::Invalid, "this command has no events to print with --json=lines")
            .code(error_code::ErrorCode::InvalidUsage)
            .help("use --json; events are printed by apply, create, resume, retry and run"))
    }

    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let chosen: &dyn CliCommand = match self {
            Self::Init(args) => args,
            Self::Validate(args) => args,
            Self::Plan(args) => args,
            Self::Check(args) => args,
            Self::Apply(args) => args,
            Self::Create(args) => args,
            Self::Confirm(args) => args,
            Self::List(args) => args,
            Self::Show(args) => args,
            Self::Run(args) => args,
            Self::Pause(args) => args,
            Self::Resume(args) => args,
            Self::Retry(args) => args,
            Self::Verify(args) => args,
            Self::Undo(args) => args,
            Self::Captured(args) => args,
            Self::Cancel(args) => args,
            Self::Priority(args) => args,
            Self::Delete(args) => args,
            Self::Publish(args) => args,
            Self::State(args) => args,
            Self::Policy(args) => args,
            Self::Export(args) => args,
            Self::Import(args) => args,
            Self::Schedule(args) => args,
            Self::Schema(args) => args,
            Self::Version(args) => args,
            Self::Sandbox(args) => args,
            Self::Man(args) => return man::run(args, command(), terminal),
            Self::Complete(args) => return complete::run(args, &command(), terminal),
            Self::Completions(args) => return completions::run(args, &mut command(), terminal),
        };
        chosen.run(terminal)
    }
}

/// Returns the program's commands and arguments, from which completions, manual pages and the reference are made.
#[must_use]
pub fn command() -> clap::Command {
    help_groups::arrange(Cli::command())
}

/// Returns the codes of errors in JSON output, each with its meaning, from which the reference is made.
#[must_use]
pub fn error_codes() -> &'static [(&'static str, &'static str)] {
    error_code::ErrorCode::DOCUMENTED
}

/// Parses the process's arguments, runs the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    open_files::raise_limit();
    let terminal = Terminal::from_process();
    let parsed = command()
        .color(terminal.with_options(false, false, requested_color()).clap_colors())
        .try_get_matches()
        .and_then(|matches| {
            let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))?;
            Ok((matches, cli))
        });
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(mut error) => {
            let args: Vec<_> = std::env::args_os().skip(1).collect();
            usage_tips::improve(&mut error, &command(), &args);
            return report_usage(&error, terminal);
        }
    };
    let terminal = cli.output.configure(terminal);
    announce_long_waits(terminal);
    let ready = check_descriptors()
        .and_then(|()| signals::survive_file_size_signal().map_err(CommandError::from))
        .and_then(|()| cli.output.start_log(terminal));
    info!(command = matches.subcommand_name(), version = env!("CARGO_PKG_VERSION"), "command started");
    let ready = ready.and_then(|()| cli.command.check_output(terminal));
    let terminal = if ready.is_ok() { terminal } else { terminal.without_events() };
    if terminal.prints_events() {
        terminal.start_events();
    }
    let flag = StateLocationArgs::flag_from_matches(&matches);
    let ended = ready.and_then(|()| cli.command.run(terminal));
    let exit = ended.as_ref().map_or_else(|error| report_error(error, &flag, terminal), |exit| *exit);
    let failure = ended.err().map(|error| error_with_result(&error, &flag));
    event_stream::finish(exit as u8, failure.as_ref());
    // Best effort: undelivered notifications never change the exit code.
    notifications::deliver_pending(terminal);
    info!(exit_code = exit as u8, "command ended");
    exit.into()
}

/// Prints why a command failed, and returns its exit code. `flag` is the ` --state` flag that it was given, or empty.
fn report_error(error: &CommandError, flag: &str, terminal: Terminal) -> ExitStatus {
    terminal.eprint(format_args!("error: {}", bar_lines(&error.message)));
    if let Some(help) = &error.help {
        let flag = error.state_flag.as_deref().unwrap_or(flag);
        terminal.eprint(format_args!("  help: {}", render_hint(help, flag)));
    }
    if std::env::current_dir().is_err() {
        terminal.eprint(
            "  help: the current folder was deleted or cannot be read, so relative paths do not work: change to another \
             folder",
        );
    }
    // The last event has the error.
    if terminal.is_json()
        && !terminal.prints_events()
        && let Err(error) = terminal.print_json(failure_json(error, flag))
    {
        terminal.eprint(format_args!("error: {error}"));
    }
    error.exit
}

/// Returns the error for the last event, to which it adds the result that the error has.
fn error_with_result(error: &CommandError, flag: &str) -> serde_json::Value {
    if let Some(result) = error.details().and_then(|details| details.result.clone()) {
        event_stream::set_result(result);
    }
    error_json(error, flag)
}

/// Prints the help or the error of the arguments, and returns the exit code.
fn report_usage(error: &clap::Error, terminal: Terminal) -> ExitCode {
    if error.use_stderr() && is_json_requested() {
        let printed = terminal.without_events().print_json(usage_error_json(error));
        if let Err(error) = printed {
            terminal.eprint(format_args!("error: {error}"));
        }
    }
    // The message quotes the arguments, which may come from an untrusted source. `eprint` escapes what would drive a
    // terminal or a workflow runner.
    if error.use_stderr() && (is_github_actions() || !is_plain(error)) {
        terminal.eprint(escape_for_terminal(error.render().to_string().trim_end()));
        return ExitStatus::Invalid.into();
    }
    error.exit()
}

/// Returns the value of `--color`. Help and usage errors need it before the arguments are parsed.
fn requested_color() -> ColorChoice {
    let args: Vec<_> =
        std::env::args_os().map_while(|arg| arg.into_string().ok()).take_while(|arg| arg != "--").collect();
    let with_next = args.iter().zip(args.iter().skip(1));
    let values = with_next.filter_map(|(arg, next)| if arg == "--color" { Some(next.as_str()) } else { None });
    let joined = args.iter().filter_map(|arg| arg.strip_prefix("--color="));
    let value = values.chain(joined).find_map(|value| ColorChoice::from_str(value, false).ok());
    value.unwrap_or_default()
}

/// Returns whether the arguments ask for JSON. Usage errors need it before the arguments are parsed.
fn is_json_requested() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|arg| arg != "--")
        .any(|arg| arg == "--json" || arg.as_encoded_bytes().starts_with(b"--json="))
}

/// Returns whether an error's text, rendered without colours, contains nothing that drives a terminal.
fn is_plain(error: &clap::Error) -> bool {
    !error.render().to_string().contains(|c| affects_terminal(c) && !matches!(c, '\n' | '\t'))
}

/// Returns an error if too few file descriptors are left to open even a clock and a journal.
fn check_descriptors() -> Result<(), CommandError> {
    const MIN_DESCRIPTORS: u64 = 12;
    match open_files::available().zip(open_files::limit()) {
        Some((left, limit)) if left < MIN_DESCRIPTORS => {
            let what = format!(
                "too few file descriptors: {left} of {limit} are free, and batchplan needs at least {MIN_DESCRIPTORS}"
            );
            Err(CommandError::new(ExitStatus::ToolFailed, what).help(open_files::HELP))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::{COMMANDS_WITH_STATE, COMMANDS_WITHOUT_STATE};

    /// Returns the names of all commands below one, and whether they accept `--state`.
    fn commands(command: &clap::Command, name: &str) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        for command in command.get_subcommands() {
            let name = format!("{name} {}", command.get_name()).trim_start().to_owned();
            if command.has_subcommands() {
                found.extend(commands(command, &name));
            } else {
                found.push((name, command.get_arguments().any(|arg| arg.get_id() == "state")));
            }
        }
        found
    }

    /// Returns the lines of all help texts that are commands to copy.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own = help.lines().filter(|line| line.starts_with("  batchplan ")).map(str::to_owned);
        own.chain(command.get_subcommands().flat_map(examples)).collect()
    }

    #[test]
    fn examples_can_be_copied_with_their_explanations() {
        let lines = examples(&Cli::command());
        assert!(lines.len() > 40, "{lines:?}");
        for line in lines {
            let explanation = line.trim_start().split_once("   ").map(|(_, rest)| rest.trim_start());
            assert!(explanation.is_none_or(|text| text.starts_with('#')), "{line}");
            assert!(line.len() <= 100 || line.contains("jq"), "{line}");
        }
    }

    #[test]
    fn commands_with_a_state_flag_are_listed() {
        let (with, without): (Vec<_>, Vec<_>) =
            commands(&Cli::command(), "").into_iter().partition(|(_, accepts_state)| *accepts_state);
        let names = |commands: Vec<(String, bool)>| commands.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(with), COMMANDS_WITH_STATE);
        assert_eq!(names(without), COMMANDS_WITHOUT_STATE);
    }
}
