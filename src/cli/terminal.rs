//! The terminal: data on standard output, messages to people on standard error, progress bars, and the prompt that asks
//! a question ([`ask`]).
//!
//! Text of servers, files and names goes through here. Data is escaped by [`Terminal::print`], so that nothing in it
//! drives the terminal or the runner of a workflow, and stays valid JSON, TOML or XML. Messages are escaped by
//! [`Terminal::eprint`] with the functions of `diagnostics.rs`. `batchplan_store::printable` says which characters are
//! escaped.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead as _, IsTerminal, Read as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batchplan_store::printable::affects_terminal;
use batchplan_store::timeouts;
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::event_stream;
use super::job_ids;
pub(crate) use crate::diagnostics::{escape_for_terminal, escape_line};

/// The number of columns where none is known, and those that COLUMNS may set.
const DEFAULT_WIDTH: usize = 80;
const MIN_WIDTH: usize = 20;
const MAX_WIDTH: usize = 1000;

/// The version of all JSON output. New keys may be added at any time; a key is removed or changed only with a new
/// version.
const JSON_VERSION: u32 = 2;

/// Whether the reader of standard output has closed it, as `head` does once it has its lines.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// The progress bars on the screen, once there is one. Every line that is printed goes above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The number of bars that are shown at the moment.
static SHOWN_BARS: AtomicUsize = AtomicUsize::new(0);

/// When colours are used: on terminals unless an environment variable says otherwise, also in files and pipes, or never.
// The values have no documentation of their own: clap would show it, and the help of every command in its long form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// How results are printed as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonFormat {
    Object,
    Lines,
}

impl ColorChoice {
    /// Returns the choice that environment variables make: <https://no-color.org> and
    /// <https://bixense.com/clicolors>, in the order of clap, which colours help and usage errors.
    fn from_variables(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            Self::Never
        } else if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            Self::Always
        } else if variable("CLICOLOR").is_some_and(|value| value == "0")
            || variable("TERM").is_some_and(|value| value == "dumb")
        {
            Self::Never
        } else {
            Self::Auto
        }
    }

    fn allows(self, is_terminal: bool) -> bool {
        match self {
            Self::Auto => is_terminal,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The output streams, and what kind of reader each has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a stream")]
pub(crate) struct Terminal {
    interactive: bool,
    shows_progress: bool,
    /// Whether lines of messages can be drawn again in place.
    redraws: bool,
    /// Whether progress, summaries and notes are left out.
    quiet: bool,
    /// How results are printed as JSON, if they are.
    json: Option<JsonFormat>,
    /// Whether messages show the IDs of jobs in full.
    full_ids: bool,
    colours: ColorChoice,
    /// Whether a workflow's runner reads the messages, and takes some lines for commands.
    runner_obeys_messages: bool,
    /// The same for data. False if standard output is a file.
    runner_obeys_data: bool,
}

impl Terminal {
    /// Inspects the streams and the environment of this process.
    pub(crate) fn from_process() -> Self {
        let interactive = io::stderr().is_terminal() && io::stdin().is_terminal();
        let shows_progress = io::stderr().is_terminal();
        let runner_obeys_messages = is_github_actions();
        let to_file = std::fs::metadata("/dev/stdout").is_ok_and(|stream| stream.is_file());
        Self {
            interactive,
            shows_progress,
            redraws: shows_progress && !is_dumb(std::env::var_os("TERM").as_deref()),
            quiet: false,
            json: None,
            full_ids: false,
            colours: ColorChoice::from_variables(|name| std::env::var_os(name)),
            runner_obeys_messages,
            runner_obeys_data: runner_obeys_messages && !to_file,
        }
    }

    /// Returns this terminal with the options of a command. `color` comes before the environment, unless it is `Auto`.
    pub(crate) fn with_options(self, quiet: bool, full_ids: bool, color: ColorChoice) -> Self {
        let colours = if color == ColorChoice::Auto { self.colours } else { color };
        Self { quiet, full_ids, colours, ..self }
    }

    /// Returns a text for people, in which the IDs of jobs are abbreviated, unless `--full-ids` was given. Messages need
    /// not go through here, but questions and data for people do.
    pub(crate) fn abbreviate_ids(self, text: &str) -> Cow<'_, str> {
        if self.full_ids { Cow::Borrowed(text) } else { job_ids::abbreviate(text) }
    }

    /// Returns this terminal with results in JSON or not.
    pub(crate) fn with_json(self, json: Option<JsonFormat>) -> Self {
        Self { json, ..self }
    }

    /// Returns whether results are printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json.is_some()
    }

    /// Returns whether events are printed, of which the last has the result.
    pub(crate) fn prints_events(self) -> bool {
        self.json == Some(JsonFormat::Lines)
    }

    /// Returns when clap uses colours. It reads the environment as well, and differs if `CLICOLOR_FORCE` is `0`.
    pub(crate) fn clap_colors(self) -> clap::ColorChoice {
        match self.colours {
            ColorChoice::Auto if self.shows_progress => clap::ColorChoice::Auto,
            ColorChoice::Auto | ColorChoice::Never => clap::ColorChoice::Never,
            ColorChoice::Always => clap::ColorChoice::Always,
        }
    }

    /// Returns whether the user can be asked a question.
    pub(crate) fn is_interactive(self) -> bool {
        self.interactive
    }

    /// Returns whether messages may contain more than ASCII, such as progress bars.
    pub(crate) fn stderr_is_terminal(self) -> bool {
        self.shows_progress
    }

    /// Returns whether lines of messages can be drawn again in place: they go to a terminal that is not dumb.
    pub(crate) fn redraws_messages(self) -> bool {
        self.redraws
    }

    /// Returns the number of columns of a line that is redrawn: those of the terminal, or else what COLUMNS says, or else
    /// 80.
    #[expect(clippy::unused_self, reason = "what the streams are is the terminal's to know")]
    pub(crate) fn redrawn_width(self) -> usize {
        known_width(terminal_size::terminal_size_of(io::stderr())).or_else(columns_variable).unwrap_or(DEFAULT_WIDTH)
    }

    /// Returns the number of columns for messages: those of the terminal, or else what COLUMNS says. Files and pipes
    /// have no limit, so that a message is one line for other programs.
    pub(crate) fn message_width(self) -> usize {
        let columns = self.shows_progress.then(|| terminal_size::terminal_size_of(io::stderr())).flatten();
        layout_width(columns)
    }

    /// Returns the number of columns for data, in the same way.
    pub(crate) fn data_width(self) -> usize {
        let columns = self.stdout_is_terminal().then(|| terminal_size::terminal_size_of(io::stdout())).flatten();
        layout_width(columns)
    }

    /// Returns whether data goes to a screen that can be redrawn.
    #[expect(clippy::unused_self, reason = "what the streams are is the terminal's to know")]
    pub(crate) fn stdout_is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Returns whether messages may be coloured.
    pub(crate) fn colours_messages(self) -> bool {
        self.colours.allows(self.shows_progress)
    }

    /// Returns whether data may be coloured.
    pub(crate) fn colours_data(self) -> bool {
        self.colours.allows(self.stdout_is_terminal())
    }

    /// Prints a line of data. A closed pipe is not an error: the command ends as it would have otherwise, and commands
    /// that run for long check [`is_stdout_closed`](Self::is_stdout_closed).
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written for another reason.
    pub(crate) fn print(self, line: impl fmt::Display) -> io::Result<()> {
        self.print_text(&format!("{line}\n"))
    }

    /// Like [`print`](Self::print), for text that has its own line breaks.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written for a reason other than a closed pipe.
    pub(crate) fn print_text(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(self.escape_data(text).as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                STDOUT_CLOSED.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot write standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Prints the result of a command as a JSON object on one line. Adds the version of the format.
    ///
    /// # Errors
    /// As for [`print`](Self::print).
    pub(crate) fn print_json(self, mut result: Json) -> io::Result<()> {
        if self.prints_events() {
            event_stream::set_result(result);
            return Ok(());
        }
        result["version"] = JSON_VERSION.into();
        self.print(result)
    }

    /// Like [`print_json`](Self::print_json), on indented lines.
    ///
    /// # Errors
    /// As for [`print`](Self::print).
    pub(crate) fn print_pretty_json(self, mut result: Json) -> io::Result<()> {
        if self.prints_events() {
            return self.print_json(result);
        }
        result["version"] = JSON_VERSION.into();
        self.print(format_args!("{result:#}"))
    }

    /// Returns this terminal with one JSON object as the result in place of events.
    pub(crate) fn without_events(self) -> Self {
        self.with_json(self.json.map(|_| JsonFormat::Object))
    }

    /// Starts to print events. A thread of its own writes them, so that they never hold up the work.
    pub(crate) fn start_events(self) {
        event_stream::start(Box::new(move |event| {
            let mut event = event.clone();
            event["version"] = JSON_VERSION.into();
            self.print(event)?;
            if self.is_stdout_closed() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }));
    }

    /// Returns whether the reader of the data has closed it.
    #[expect(clippy::unused_self, reason = "what became of the streams is the terminal's to know")]
    pub(crate) fn is_stdout_closed(self) -> bool {
        STDOUT_CLOSED.load(Ordering::Relaxed)
    }

    /// Escapes data, so that nothing in it drives a terminal or the runner of a workflow.
    fn escape_data(self, text: &str) -> Cow<'_, str> {
        let text = escape_terminal_controls(text, self.colours_data());
        if !self.runner_obeys_data {
            return text;
        }
        match escape_runner_commands(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(changed) => Cow::Owned(changed),
        }
    }

    /// Prints a message to people. Failures are ignored: an unread message is no reason to stop work.
    ///
    /// The message may contain text of servers, files and names, so everything that drives a terminal is escaped. The
    /// IDs of jobs are abbreviated.
    pub(crate) fn eprint(self, line: impl fmt::Display) {
        self.eprint_unescaped(escape_for_terminal(&self.abbreviate_ids(&line.to_string())));
    }

    /// Like [`eprint`](Self::eprint), for what `--quiet` leaves out: progress, summaries, notes and the next command.
    pub(crate) fn inform(self, line: impl fmt::Display) {
        if !self.quiet {
            self.eprint(line);
        }
    }

    /// Like [`eprint`](Self::eprint), for text with colours. It must not contain untrusted text.
    pub(crate) fn eprint_unescaped(self, line: impl fmt::Display) {
        let line = line.to_string();
        write_stderr(if self.runner_obeys_messages {
            escape_runner_commands(&line)
        } else {
            Cow::Borrowed(line.as_str())
        });
    }

    /// Prints a command to a workflow's runner. Untrusted text in it must be escaped as GitHub requires.
    #[expect(clippy::unused_self, reason = "speaking is the terminal's, whichever stream it takes")]
    pub(crate) fn runner_command(self, line: impl fmt::Display) {
        write_stderr(line);
    }
}

/// Returns the width of a terminal. Some terminals say that they have none.
fn known_width(size: Option<(terminal_size::Width, terminal_size::Height)>) -> Option<usize> {
    size.map(|(terminal_size::Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0)
}

fn layout_width(size: Option<(terminal_size::Width, terminal_size::Height)>) -> usize {
    known_width(size).or_else(columns_variable).unwrap_or(usize::MAX)
}

/// Returns whether a terminal with this value of TERM cannot draw a line again. On Unix, a terminal sets TERM.
fn is_dumb(term: Option<&std::ffi::OsStr>) -> bool {
    term.map_or(cfg!(unix), |term| term == "dumb" || term.is_empty())
}

/// Returns whether this process runs in a GitHub workflow.
pub(crate) fn is_github_actions() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Writes a line to standard error at once, so that neither another process nor the end of this one splits it. It goes
/// above the progress bars.
fn write_stderr(line: impl fmt::Display) {
    let line = line.to_string();
    // `MultiProgress::suspend` would panic if the terminal is gone. Without a bar, `println` would end the line with
    // spaces.
    let has_bars = SHOWN_BARS.load(Ordering::Relaxed) > 0;
    if has_bars && BARS.get().is_some_and(|bars| !bars.is_hidden() && bars.println(&line).is_ok()) {
        return;
    }
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Escapes what the runner of a workflow takes for a command: a line that starts with `::`, ignoring spaces, or `##[`
/// anywhere. (Both are in its `ActionCommand.cs`, <https://github.com/actions/runner>.) The escapes mean the same in
/// JSON, TOML and XML.
fn escape_runner_commands(text: &str) -> Cow<'_, str> {
    let begins = |line: &str| line.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').starts_with("::");
    let has_any = text.contains("##[") || text.split(['\n', '\r']).any(begins);
    if !has_any {
        return Cow::Borrowed(text);
    }
    let (hash, colon) = if text.starts_with("<?xml") { ("&#35;", "&#58;") } else { ("\\u0023", "\\u003a") };
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive(['\n', '\r']) {
        let line = line.replace("##[", &format!("#{hash}["));
        let line = if begins(&line) { line.replacen(':', colon, 1) } else { line };
        out.push_str(&line);
    }
    Cow::Owned(out)
}

/// Escapes characters in data that would move the cursor or change the reading direction, in a form that means the same
/// in JSON and TOML, or in XML. Colours are kept if `coloured` is set.
fn escape_terminal_controls(text: &str, coloured: bool) -> Cow<'_, str> {
    let drives = |c: char| affects_terminal(c) && !matches!(c, '\n' | '\t');
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    let is_xml = text.starts_with("<?xml");
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(drives) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let colour = if coloured { leading_colour(from) } else { "" };
        if let Some(c) = from.chars().next().filter(|_| colour.is_empty()) {
            let (before, code, behind) = if is_xml {
                ("&#x", format!("{:x}", u32::from(c)), ";")
            } else {
                ("\\u", format!("{:04x}", u32::from(c)), "")
            };
            out.extend([before, &code, behind]);
            rest = &from[c.len_utf8()..];
        } else {
            out.push_str(colour);
            rest = &from[colour.len()..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Returns the colour sequence that a text starts with, such as `ESC[1;32m`, or an empty string.
fn leading_colour(text: &str) -> &str {
    let codes =
        text.strip_prefix("\u{1b}[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    let rest = codes.and_then(|rest| rest.strip_prefix('m'));
    rest.map_or("", |rest| &text[..text.len() - rest.len()])
}

/// Puts a bar before each line after the first, so that a server's text cannot pass for one of our lines.
pub(crate) fn bar_lines(text: &str) -> String {
    text.trim_end_matches('\n').replace('\n', "\n  | ")
}

/// Prints a line for every long wait. In debug builds, tests can set how many milliseconds a minute of each limit
/// lasts.
pub(crate) fn announce_long_waits(terminal: Terminal) {
    timeouts::set_wait_listener(Box::new(move |sentence| terminal.inform(sentence)));
    if cfg!(debug_assertions)
        && let Some(minute) = std::env::var("BATCHPLAN_MINUTE_MS").ok().and_then(|text| text.parse().ok())
    {
        timeouts::shorten_minute(Duration::from_millis(minute));
    }
}

/// The user's answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptAnswer {
    /// The word `yes`, and nothing else.
    Yes,
    /// Anything else, including the end of the input.
    No,
    /// No answer, because `stop` was cancelled.
    Stopped,
}

/// Asks for a line of text. Returns it without spaces around it, or `None` if the input has ended. A signal ends the
/// process.
///
/// # Errors
/// Returns an error if the terminal cannot be read or written.
pub(crate) fn ask_line(question: &str) -> io::Result<Option<String>> {
    const MAX_ANSWER_BYTES: u64 = 64 * 1024;
    let mut err = io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let mut line = String::new();
    io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut line)?;
    if line.ends_with('\n') {
        return Ok(Some(line.trim().to_owned()));
    }
    writeln!(err)?;
    Ok(None)
}

/// Asks a question, and waits for a line of input or for `stop`.
///
/// # Errors
/// Returns an error if the terminal cannot be read or written.
pub(crate) async fn ask(question: &str, stop: &CancellationToken) -> io::Result<PromptAnswer> {
    let mut err = io::stderr();
    write!(err, "\n{question} Only \"yes\" is accepted: ")?;
    err.flush()?;
    let (sender, receiver) = oneshot::channel();
    // Unlike the runtime's own threads, this thread is not waited for: it may never receive a line.
    thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = String::new();
        // The receiver may already be dropped.
        let _ = sender.send(io::stdin().read_line(&mut line).map(|_| line));
    })?;
    let line = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(PromptAnswer::Stopped),
        line = receiver => line.map_err(io::Error::other)??,
    };
    if !line.ends_with('\n') {
        writeln!(err)?;
    }
    Ok(if line.trim() == "yes" { PromptAnswer::Yes } else { PromptAnswer::No })
}

/// A line at the bottom of the screen that is redrawn. It shows nothing where that is not possible or not wanted.
pub(crate) struct StatusLine {
    bar: Option<ProgressBar>,
    is_shown: AtomicBool,
}

impl StatusLine {
    /// Adds an empty line.
    pub(crate) fn new(terminal: Terminal) -> Self {
        let is_shown = terminal.redraws && !terminal.quiet;
        let bar = is_shown.then(|| {
            SHOWN_BARS.fetch_add(1, Ordering::Relaxed);
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())).add(bar)
        });
        Self { bar, is_shown: AtomicBool::new(is_shown) }
    }

    /// Changes the text.
    pub(crate) fn set(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Removes the line.
    pub(crate) fn clear(&self) {
        if !self.is_shown.swap(false, Ordering::Relaxed) {
            return;
        }
        SHOWN_BARS.fetch_sub(1, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if let Some(bars) = BARS.get() {
                // Otherwise its line would stay as an empty one.
                bars.remove(bar);
            }
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns the width from the environment variable COLUMNS, if it is set to a sensible one.
fn columns_variable() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok()?.parse().ok()?;
    (MIN_WIDTH..=MAX_WIDTH).contains(&columns).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_terminal_controls_in_messages() {
        assert_eq!(escape_for_terminal("a\u{1b}[2Jb\r\u{9b}0m\u{202e}c\né"), "a\\u{1b}[2Jb\\r\\u{9b}0m\\u{202e}c\né");
        assert_eq!(escape_line("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }

    #[test]
    fn escapes_terminal_controls_in_data() {
        let hostile = "a\u{7f}b\u{85}\u{9b}2J\u{202e}c\u{2066}\u{2028}d\u{1b}[31m\té";
        let json = serde_json::json!({ "name": hostile }).to_string();
        let printed = escape_terminal_controls(&json, false);
        assert!(!printed.contains(affects_terminal), "{printed}");
        let back: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(back["name"], hostile);
        assert_eq!(escape_terminal_controls("<?xml?><a>\u{9b}\n\u{202e}</a>", false), "<?xml?><a>&#x9b;\n&#x202e;</a>");
        assert!(matches!(escape_terminal_controls("plain\n\té", false), Cow::Borrowed(_)));
        // Colours are kept where they are allowed. Nothing else is.
        assert_eq!(
            escape_terminal_controls("\u{1b}[1;32mok\u{1b}[0m\u{1b}[2J\u{1b}", true),
            "\u{1b}[1;32mok\u{1b}[0m\\u001b[2J\\u001b"
        );
        assert_eq!(escape_terminal_controls("\u{1b}[32m", false), "\\u001b[32m");
    }

    #[test]
    fn escapes_workflow_commands() {
        let said = "a\n::error::b\n \u{a0}::add-mask::c\r::d\nx ##[set-output name=y]z\n###[group]\n\u{feff}::e";
        assert_eq!(
            escape_runner_commands(said),
            "a\n\\u003a:error::b\n \u{a0}\\u003a:add-mask::c\r\\u003a:d\nx #\\u0023[set-output name=y]z\n##\\u0023[group]\n\
             \u{feff}\\u003a:e"
        );
        let plain = "a::b\nhttp://c #[d] ## [e]";
        assert!(matches!(escape_runner_commands(plain), Cow::Borrowed(text) if text == plain));
        let json = serde_json::json!({ "key": "##[x]\n::y" }).to_string();
        let back: serde_json::Value = serde_json::from_str(&escape_runner_commands(&json)).expect("JSON");
        assert_eq!(back["key"], "##[x]\n::y");
        assert_eq!(escape_runner_commands("<?xml?><a>##[x]</a>"), "<?xml?><a>#&#35;[x]</a>");
    }

    #[test]
    fn the_option_comes_before_the_environment() {
        let from = |set: &[(&str, &str)]| {
            ColorChoice::from_variables(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        for (set, choice) in [
            (&[][..], ColorChoice::Auto),
            (&[("NO_COLOR", "")], ColorChoice::Auto),
            (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], ColorChoice::Never),
            (&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], ColorChoice::Always),
            (&[("CLICOLOR_FORCE", "0")], ColorChoice::Auto),
            (&[("CLICOLOR", "0")], ColorChoice::Never),
            (&[("CLICOLOR", "1"), ("TERM", "xterm")], ColorChoice::Auto),
            (&[("TERM", "dumb")], ColorChoice::Never),
        ] {
            assert_eq!(from(set), choice, "{set:?}");
            let terminal = Terminal { colours: from(set), ..Terminal::from_process() };
            assert_eq!(terminal.with_options(false, false, ColorChoice::Auto).colours, choice);
            for option in [ColorChoice::Always, ColorChoice::Never] {
                assert_eq!(terminal.with_options(false, false, option).colours, option, "{set:?}");
            }
        }
        let allowed = |choice: ColorChoice| [choice.allows(false), choice.allows(true)];
        assert_eq!(allowed(ColorChoice::Auto), [false, true]);
        assert_eq!(allowed(ColorChoice::Always), [true, true]);
        assert_eq!(allowed(ColorChoice::Never), [false, false]);
    }

    #[test]
    fn dumb_terminals_are_not_redrawn() {
        for (term, dumb) in [("dumb", true), ("", true), ("xterm-256color", false), ("vt100", false)] {
            assert_eq!(is_dumb(Some(term.as_ref())), dumb, "{term}");
        }
        assert_eq!(is_dumb(None), cfg!(unix));
    }

    #[test]
    fn bars_mark_lines_of_servers() {
        assert_eq!(bar_lines("403 no\n  help: run this\n"), "403 no\n  |   help: run this");
    }
}
