//! A page of details: lines of a label and a value, as `show` prints them of a job or of a saved plan.

use std::fmt::{Display, Write as _};

/// The width of the label column.
const LABEL_WIDTH: usize = 15;

/// A title, and lines that consist of a label and a value. The whole must be escaped before it is printed.
pub(super) struct DetailPage(String);

impl DetailPage {
    /// Starts a page.
    pub(super) fn new(title: String) -> Self {
        Self(title)
    }

    /// Adds a value on one line, so that no part of it can pass for another row.
    pub(super) fn row(&mut self, label: &str, value: impl Display) {
        let value = value.to_string().replace('\n', "\\n");
        let _ = write!(self.0, "\n  {label:LABEL_WIDTH$}{value}");
    }

    /// Adds a text. The lines of a longer text start with a bar, so that none of them can pass for another row.
    pub(super) fn text_if(&mut self, label: &str, text: Option<&str>) {
        let mut lines = text.iter().flat_map(|text| text.trim_end().lines()).peekable();
        let Some(first) = lines.next() else { return };
        let bar = if lines.peek().is_some() { "| " } else { "" };
        self.row(label, format_args!("{bar}{first}"));
        for line in lines {
            self.row("", format_args!("{bar}{line}"));
        }
    }

    pub(super) fn row_if(&mut self, label: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.row(label, value);
        }
    }

    /// Returns the page without a line break at its end. `next` is the command to suggest.
    pub(super) fn finish(mut self, next: Option<&str>) -> String {
        if let Some(next) = next {
            let _ = write!(self.0, "\nnext: {next}");
        }
        self.0
    }
}
