//! Writes a plan file, in TOML with comments, and records where each of its values came from.

use std::fmt::Write as _;

use batchplan_store::printable::affects_terminal;

use crate::diagnostics::FileProblem;
use crate::toml_reader::TextSpan;

/// The origin of a piece of the plan.
#[derive(Clone, Debug)]
pub(super) enum ValueOrigin {
    /// The imported document, at this span.
    Document(TextSpan),
    /// The command line, with the name of the option.
    CliOption(&'static str),
}

/// A text for the plan, and its span in the imported document.
pub(super) struct SpannedText<'a> {
    pub(super) text: &'a str,
    pub(super) span: &'a TextSpan,
}

/// A plan file that is being written.
#[derive(Debug, Default)]
pub(super) struct TomlWriter {
    text: String,
    origins: Vec<(TextSpan, ValueOrigin)>,
}

impl TomlWriter {
    /// Returns the plan file as written so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes comments of one line each, and an empty line.
    pub(super) fn introduction(&mut self, lines: &[&str]) {
        for line in lines {
            self.comment(line);
        }
        self.line_break();
    }

    /// Writes a comment of one line.
    fn comment(&mut self, remark: &str) {
        self.text.push_str(if remark.is_empty() { "#" } else { "# " });
        self.text.push_str(remark);
        self.line_break();
    }

    /// Writes a line break. After a whole line, this makes an empty line.
    fn line_break(&mut self) {
        self.text.push('\n');
    }

    /// Writes a table's header after an empty line. A key that is missing in the table is reported at `span`.
    pub(super) fn table(&mut self, name: &str, span: Option<&TextSpan>, remark: &str) {
        self.line_break();
        if !remark.is_empty() {
            self.comment(remark);
        }
        let start = self.text.len();
        self.text.push('[');
        self.text.push_str(name);
        self.text.push(']');
        if let Some(span) = span {
            self.origins.push((start..self.text.len(), ValueOrigin::Document(span.clone())));
        }
        self.line_break();
    }

    /// Writes a key with a text.
    pub(super) fn text_entry(&mut self, key: &str, text: &str, origin: ValueOrigin) {
        self.entry(key, &quoted(text), Some(origin), "");
    }

    /// Writes a key with a value that is TOML already, and a comment behind it.
    pub(super) fn entry(&mut self, key: &str, value: &str, origin: Option<ValueOrigin>, remark: &str) {
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(" = ");
        self.text.push_str(value);
        if let Some(origin) = origin {
            self.origins.push((start..self.text.len(), origin));
        }
        if !remark.is_empty() {
            self.text.push_str("  # ");
            self.text.push_str(remark);
        }
        self.line_break();
    }

    /// Writes a key with a list of texts.
    pub(super) fn list_entry(&mut self, key: &str, items: &[SpannedText<'_>], span: &TextSpan) {
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(" = [");
        for (index, item) in items.iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { ", " });
            self.push_text(item);
        }
        self.text.push(']');
        self.origins.push((start..self.text.len(), ValueOrigin::Document(span.clone())));
        self.line_break();
    }

    /// Writes a key with a table of arbitrary keys and texts, in one line.
    pub(super) fn table_entry(&mut self, key: &str, pairs: &[(SpannedText<'_>, SpannedText<'_>)], span: &TextSpan) {
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(if pairs.is_empty() { " = {" } else { " = { " });
        for (index, (key, value)) in pairs.iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { ", " });
            let bare =
                !key.text.is_empty() && key.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if bare {
                let start = self.text.len();
                self.text.push_str(key.text);
                self.origins.push((start..self.text.len(), ValueOrigin::Document(key.span.clone())));
            } else {
                self.push_text(key);
            }
            self.text.push_str(" = ");
            self.push_text(value);
        }
        self.text.push_str(if pairs.is_empty() { "}" } else { " }" });
        self.origins.push((start..self.text.len(), ValueOrigin::Document(span.clone())));
        self.line_break();
    }

    fn push_text(&mut self, word: &SpannedText<'_>) {
        let start = self.text.len();
        self.text.push_str(&quoted(word.text));
        self.origins.push((start..self.text.len(), ValueOrigin::Document(word.span.clone())));
    }

    /// Converts a problem of the plan file into a problem of its origin: the document, or a command line option.
    pub(super) fn translate_problem(&self, problem: &FileProblem) -> FileProblem {
        let mut title = problem.title().to_owned();
        let mut labels = Vec::new();
        for (span, label) in problem.label_spans() {
            match self.origin_at(span) {
                Some(ValueOrigin::Document(span)) => labels.push((span.clone(), label.clone())),
                Some(ValueOrigin::CliOption(flag)) => title = format!("`{flag}`: {title} ({label})"),
                None => {}
            }
        }
        let mut traced = FileProblem::new(title);
        for (span, label) in labels {
            traced = traced.label(span, label);
        }
        if let Some(help) = problem.hint() {
            traced = traced.help(help);
        }
        if problem.is_warning() { traced.warning() } else { traced }
    }

    /// Returns the origin of the smallest piece of the plan file that contains the span.
    fn origin_at(&self, at: &TextSpan) -> Option<&ValueOrigin> {
        let around = self.origins.iter().filter(|(span, _)| span.contains(&at.start));
        around.min_by_key(|(span, _)| span.len()).map(|(_, origin)| origin)
    }
}

/// Returns a text as a TOML basic string, with escapes for all characters that could drive a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Writing to memory cannot fail.
            c if affects_terminal(c) => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
