//! The log of a command: which events are logged, in which format, and to where.
//!
//! | file | contents |
//! |---|---|
//! | `levels` | which events are logged: the options and `RUST_LOG` |
//! | `line` | an event as one line of text or JSON |
//! | `layer` | collects the events and spans of the whole program |
//! | `destination` | standard error, or a file |
//!
//! Standard output never has a line of the log. A line that cannot be written is lost, and stops nothing.

mod destination;
mod layer;
mod levels;
mod line;

use std::path::PathBuf;

use clap::{ArgAction, Args};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::exit::{CommandError, ExitStatus};
use super::terminal::{ColorChoice, JsonFormat, Terminal};
use destination::{LogDestination, LogFile};
use layer::LogLayer;
use levels::LogLevels;
use line::LogFormat;

/// The heading of these options in the help of every command.
const HEADING: &str = "Global options";

/// The options that every command has: what is shown, and what is logged.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Log to standard error: -v the main events, -vv also failed requests, checkpoints and pages, -vvv every request
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = HEADING)]
    verbose: u8,
    /// Show only results, warnings and errors
    #[arg(short, long, global = true, help_heading = HEADING)]
    quiet: bool,
    /// Print the result as one JSON object on standard output, also if the command fails; `--json=lines`, for commands
    /// that run jobs, prints an event on each line
    #[arg(long, global = true, help_heading = HEADING, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "object")]
    json: Option<JsonFormat>,
    /// Show the IDs of jobs in full instead of their shortest unique beginnings
    #[arg(long, global = true, help_heading = HEADING)]
    full_ids: bool,
    /// When to use colors
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = HEADING)]
    color: ColorChoice,
    /// Format of the log
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = HEADING)]
    log_format: Option<LogFormat>,
    /// Append the log to this file instead of standard error
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    log_file: Option<PathBuf>,
}

impl OutputArgs {
    /// Returns the terminal as these options want it.
    pub(super) fn configure(&self, terminal: Terminal) -> Terminal {
        terminal.with_options(self.quiet, self.full_ids, self.color).with_json(self.json)
    }

    /// Starts the log, if these options or `RUST_LOG` ask for one. It lasts until the process ends.
    ///
    /// # Errors
    /// Returns an error if the log file cannot be opened.
    pub(super) fn start_log(&self, terminal: Terminal) -> Result<(), CommandError> {
        let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
        let (levels, ignored) = LogLevels::new(self.verbosity(), rust_log.as_deref().unwrap_or_default());
        for directive in ignored {
            terminal.eprint(format_args!(
                "warning: `{directive}` in RUST_LOG is ignored: it is neither a level nor TARGET=LEVEL"
            ));
        }
        let destination = match &self.log_file {
            None if levels.max_level() == LevelFilter::OFF => return Ok(()),
            None => LogDestination::Terminal(terminal),
            Some(path) => LogDestination::File(LogFile::open(path, terminal).map_err(|error| {
                CommandError::new(ExitStatus::ToolFailed, format!("cannot open the log file: {error}"))
                    .help("name another file with --log-file, or leave it out to log to standard error")
            })?),
        };
        let layer = LogLayer::new(levels, self.log_format.unwrap_or_default(), destination);
        // Only a second log in the same process could fail here.
        let _ = tracing::subscriber::set_global_default(Registry::default().with(layer));
        Ok(())
    }

    /// Returns the level of events without a directive in `RUST_LOG`. Options that are useless without a log imply
    /// `-v`.
    fn verbosity(&self) -> LevelFilter {
        let implied = u8::from(self.log_file.is_some() || self.log_format.is_some());
        match self.verbose.max(implied) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct AnyCommand {
        #[command(flatten)]
        output: OutputArgs,
    }

    #[test]
    fn each_v_raises_the_level_and_a_destination_or_a_format_implies_the_first() {
        for (args, level) in [
            (&[][..], LevelFilter::OFF),
            (&["-q"], LevelFilter::OFF),
            (&["-v"], LevelFilter::INFO),
            (&["-vv"], LevelFilter::DEBUG),
            (&["-v", "--verbose"], LevelFilter::DEBUG),
            (&["-vvv"], LevelFilter::TRACE),
            (&["-vvvvv"], LevelFilter::TRACE),
            (&["--log-file", "x"], LevelFilter::INFO),
            (&["--log-format", "json"], LevelFilter::INFO),
            (&["--log-file", "x", "-vv"], LevelFilter::DEBUG),
        ] {
            let command = AnyCommand::try_parse_from([&["batchplan"], args].concat()).expect("options");
            assert_eq!(command.output.verbosity(), level, "{args:?}");
        }
    }
}
