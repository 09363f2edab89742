//! The program's output: data on standard output, and messages to people on standard error.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use batchplan_store::printable::affects_terminal;

use crate::diagnostics::escape_for_terminal;

/// Whether the reader of standard output has closed it, as `head` does once it has its lines.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// The output streams, and what kind of reader each has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a stream")]
pub(super) struct Terminal {
    interactive: bool,
    shows_progress: bool,
    /// Whether colours are allowed: `NO_COLOR` is not set.
    colours_allowed: bool,
    /// Whether a workflow's runner reads the messages, and takes some lines for commands.
    runner_obeys_messages: bool,
    /// The same for data. False if standard output is a file.
    runner_obeys_data: bool,
}

impl Terminal {
    /// Inspects the streams of this process. Colours are for terminals only, and `NO_COLOR` disables them.
    pub(super) fn from_process() -> Self {
        let interactive = io::stderr().is_terminal() && io::stdin().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let shows_progress = io::stderr().is_terminal();
        let runner_obeys_messages = is_github_actions();
        let to_file = std::fs::metadata("/dev/stdout").is_ok_and(|stream| stream.is_file());
        Self {
            interactive,
            shows_progress,
            colours_allowed: !no_colour,
            runner_obeys_messages,
            runner_obeys_data: runner_obeys_messages && !to_file,
        }
    }

    /// Returns whether the user can be asked a question.
    pub(super) fn is_interactive(self) -> bool {
        self.interactive
    }

    /// Returns whether messages may contain more than ASCII, such as progress bars.
    pub(super) fn stderr_is_terminal(self) -> bool {
        self.shows_progress
    }

    /// Returns whether data goes to a screen that can be redrawn.
    #[expect(clippy::unused_self, reason = "what the streams are is the terminal's to know")]
    pub(super) fn stdout_is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Returns whether messages may be coloured.
    pub(super) fn colours_messages(self) -> bool {
        self.shows_progress && self.colours_allowed
    }

    /// Returns whether data may be coloured.
    pub(super) fn colours_data(self) -> bool {
        self.colours_allowed && self.stdout_is_terminal()
    }

    /// Prints a line of data. A closed pipe is not an error: the command ends as it would have otherwise, and commands
    /// that run for long check [`is_stdout_closed`](Self::is_stdout_closed).
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written for another reason.
    pub(super) fn print(self, line: impl fmt::Display) -> io::Result<()> {
        self.print_text(&format!("{line}\n"))
    }

    /// Like [`print`](Self::print), for text that has its own line breaks.
    ///
    /// # Errors
    /// Returns an error if standard output cannot be written for a reason other than a closed pipe.
    pub(super) fn print_text(self, text: &str) -> io::Result<()> {
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

    /// Returns whether the reader of the data has closed it.
    #[expect(clippy::unused_self, reason = "what became of the streams is the terminal's to know")]
    pub(super) fn is_stdout_closed(self) -> bool {
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
    /// The message may contain text of servers, files and names, so everything that drives a terminal is escaped.
    pub(super) fn eprint(self, line: impl fmt::Display) {
        self.eprint_unescaped(escape_controls(&line.to_string()));
    }

    /// Like [`eprint`](Self::eprint), but replaces a progress bar on the current line. The bar redraws itself.
    pub(super) fn eprint_over_bar(self, line: impl fmt::Display) {
        let cleared = if self.shows_progress { "\r\u{1b}[2K" } else { "" };
        self.eprint_unescaped(format_args!("{cleared}{}", escape_controls(&line.to_string())));
    }

    /// Like [`eprint`](Self::eprint), for text with colours. It must not contain untrusted text.
    pub(super) fn eprint_unescaped(self, line: impl fmt::Display) {
        let line = line.to_string();
        write_stderr(if self.runner_obeys_messages {
            escape_runner_commands(&line)
        } else {
            Cow::Borrowed(line.as_str())
        });
    }

    /// Prints a command to a workflow's runner. Untrusted text in it must be escaped as GitHub requires.
    #[expect(clippy::unused_self, reason = "speaking is the terminal's, whichever stream it takes")]
    pub(super) fn runner_command(self, line: impl fmt::Display) {
        write_stderr(line);
    }
}

/// Returns whether this process runs in a GitHub workflow.
pub(super) fn is_github_actions() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Writes a line to standard error at once, so that neither another process nor the end of this one splits it.
fn write_stderr(line: impl fmt::Display) {
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

/// Makes characters visible that would move the cursor, colour the screen or change the reading direction.
pub(super) fn escape_controls(text: &str) -> String {
    escape_for_terminal(text)
}

/// Puts a bar before each line after the first, so that a server's text cannot pass for one of our lines.
pub(super) fn bar_lines(text: &str) -> String {
    text.trim_end_matches('\n').replace('\n', "\n  | ")
}

/// Escapes a text so that it fits on one line of output.
pub(super) fn escape_line(text: &str) -> String {
    escape_controls(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_terminal_controls_in_messages() {
        assert_eq!(escape_controls("a\u{1b}[2Jb\r\u{9b}0m\u{202e}c\né"), "a\\u{1b}[2Jb\\r\\u{9b}0m\\u{202e}c\né");
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
    fn bars_mark_lines_of_servers() {
        assert_eq!(bar_lines("403 no\n  help: run this\n"), "403 no\n  |   help: run this");
    }
}
