//! Where the program speaks: data to standard output, everything said to a person to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::diagnostics::drives_terminal;

/// The two streams, and what kind of reader each has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    interactive: bool,
    drawn: bool,
    /// Whether nobody has asked for none.
    coloured: bool,
}

impl Terminal {
    /// Looks at the process's own streams. Colour is for terminals, and `NO_COLOR` turns it off.
    pub(super) fn of_process() -> Self {
        let interactive = io::stderr().is_terminal() && io::stdin().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let drawn = io::stderr().is_terminal();
        Self { interactive, drawn, coloured: !no_colour }
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
    #[expect(clippy::unused_self, reason = "speaking is the terminal's, whichever stream it takes")]
    pub(super) fn print(self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }

    /// A line for a person. That nobody listens is no reason to stop work, so failures are ignored.
    ///
    /// Servers, files and names may have had their say in it, so nothing in it commands the terminal.
    pub(super) fn say(self, line: impl fmt::Display) {
        self.draw(harmless(&line.to_string()));
    }

    /// As [`say`](Self::say), for what was drawn with colours: it must hold nothing that a stranger wrote.
    #[expect(clippy::unused_self, reason = "speaking is the terminal's, whichever stream it takes")]
    pub(super) fn draw(self, line: impl fmt::Display) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
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
    fn no_line_of_a_server_passes_for_one_of_ours() {
        assert_eq!(barred("403 no\n  help: run this\n"), "403 no\n  |   help: run this");
    }
}
