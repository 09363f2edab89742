//! Where the program speaks: data to standard output, everything said to a person to standard error.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use super::github;
use crate::diagnostics::drives_terminal;

/// The two streams, and what kind of reader each has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a stream")]
pub(super) struct Terminal {
    interactive: bool,
    drawn: bool,
    /// Whether nobody has asked for none.
    coloured: bool,
    /// Whether a workflow's runner reads the messages, and takes some lines for commands.
    obeyed: bool,
    /// The same of data: not where it goes to a file.
    data_obeyed: bool,
}

impl Terminal {
    /// Looks at the process's own streams. Colour is for terminals, and `NO_COLOR` turns it off.
    pub(super) fn of_process() -> Self {
        let interactive = io::stderr().is_terminal() && io::stdin().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let drawn = io::stderr().is_terminal();
        let obeyed = github::is_here();
        let to_file = std::fs::metadata("/dev/stdout").is_ok_and(|stream| stream.is_file());
        Self { interactive, drawn, coloured: !no_colour, obeyed, data_obeyed: obeyed && !to_file }
    }

    /// Whether a person can be asked.
    pub(super) fn interactive(self) -> bool {
        self.interactive
    }

    /// Whether messages may be drawn with more than ASCII.
    pub(super) fn drawn(self) -> bool {
        self.drawn
    }

    /// Whether data goes to a screen that can be drawn on again.
    #[expect(clippy::unused_self, reason = "what the streams are is the terminal's to know")]
    pub(super) fn has_screen(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether messages may be coloured.
    pub(super) fn colour(self) -> bool {
        self.drawn && self.coloured
    }

    /// Whether data may be coloured.
    pub(super) fn colours_data(self) -> bool {
        self.coloured && self.has_screen()
    }

    /// Data, a line of it.
    ///
    /// # Errors
    /// When standard output cannot be written, a closed pipe included: the command should end.
    pub(super) fn print(self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", self.as_data(&line.to_string()))
    }

    /// Data as it may be printed: nothing in it is a command to a workflow's runner.
    pub(super) fn as_data(self, text: &str) -> Cow<'_, str> {
        if self.data_obeyed { commandless(text) } else { Cow::Borrowed(text) }
    }

    /// A line for a person. That nobody listens is no reason to stop work, so failures are ignored.
    ///
    /// Servers, files and names may have had their say in it, so nothing in it commands the terminal.
    pub(super) fn say(self, line: impl fmt::Display) {
        self.draw(harmless(&line.to_string()));
    }

    /// As [`say`](Self::say), in place of a progress bar that stands in this line: it draws itself again.
    pub(super) fn say_over_bar(self, line: impl fmt::Display) {
        let cleared = if self.drawn { "\r\u{1b}[2K" } else { "" };
        self.draw(format_args!("{cleared}{}", harmless(&line.to_string())));
    }

    /// As [`say`](Self::say), for what was drawn with colours: it must hold nothing that a stranger wrote.
    pub(super) fn draw(self, line: impl fmt::Display) {
        let line = line.to_string();
        let line = if self.obeyed { commandless(&line) } else { Cow::Borrowed(line.as_str()) };
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// A command to a workflow's runner, in its own words: whatever a stranger wrote in it must be escaped as GitHub wants.
    #[expect(clippy::unused_self, reason = "speaking is the terminal's, whichever stream it takes")]
    pub(super) fn command(self, line: impl fmt::Display) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// The text with nothing in it that the runner of a workflow takes for a command: a line that begins with `::`, spaces aside,
/// or `##[` anywhere. (Both are in its `ActionCommand.cs`, <https://github.com/actions/runner>.) What stands in their place
/// means the same in JSON, TOML and XML.
fn commandless(text: &str) -> Cow<'_, str> {
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

/// The text with whatever would move the cursor, colour the screen or turn the reading direction made visible.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if drives_terminal(c) && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A text whose lines after the first stand behind a bar: a server's words among them pass for none of ours.
pub(super) fn barred(text: &str) -> String {
    text.trim_end_matches('\n').replace('\n', "\n  | ")
}

/// A text for one line of output, whatever it holds.
pub(super) fn cell(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_commands_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\u{9b}0m\u{202e}c\né"), "a\\u{1b}[2Jb\\r\\u{9b}0m\\u{202e}c\né");
        assert_eq!(cell("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }

    #[test]
    fn nothing_that_is_said_commands_the_runner_of_a_workflow() {
        let said = "a\n::error::b\n \u{a0}::add-mask::c\r::d\nx ##[set-output name=y]z\n###[group]\n\u{feff}::e";
        assert_eq!(
            commandless(said),
            "a\n\\u003a:error::b\n \u{a0}\\u003a:add-mask::c\r\\u003a:d\nx #\\u0023[set-output name=y]z\n##\\u0023[group]\n\
             \u{feff}\\u003a:e"
        );
        let plain = "a::b\nhttp://c #[d] ## [e]";
        assert!(matches!(commandless(plain), Cow::Borrowed(text) if text == plain));
        let json = serde_json::json!({ "key": "##[x]\n::y" }).to_string();
        let back: serde_json::Value = serde_json::from_str(&commandless(&json)).expect("JSON");
        assert_eq!(back["key"], "##[x]\n::y");
        assert_eq!(commandless("<?xml?><a>##[x]</a>"), "<?xml?><a>#&#35;[x]</a>");
    }

    #[test]
    fn no_line_of_a_server_passes_for_one_of_ours() {
        assert_eq!(barred("403 no\n  help: run this\n"), "403 no\n  |   help: run this");
    }
}
