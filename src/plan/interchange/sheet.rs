//! A plan file in the making: TOML with comments, that knows where each of its values came from.

use std::fmt::Write as _;

use crate::diagnostics::{Problem, drives_terminal};
use crate::plan::walk::Span;

/// Where a piece of the plan came from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// From the document, where this stands.
    Document(Span),
    /// From the command line.
    Flag(&'static str),
}

/// A text that a plan takes, and where it came from.
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) span: &'a Span,
}

/// A plan file that grows.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    text: String,
    origins: Vec<(Span, Origin)>,
}

impl Sheet {
    /// The plan file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A comment of one line.
    pub(super) fn remark(&mut self, remark: &str) {
        self.text.push_str(if remark.is_empty() { "#" } else { "# " });
        self.text.push_str(remark);
        self.gap();
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A table's header, behind an empty line. What the plan misses in it is missing at `span`.
    pub(super) fn table(&mut self, name: &str, span: Option<&Span>, remark: &str) {
        self.gap();
        if !remark.is_empty() {
            self.remark(remark);
        }
        let start = self.text.len();
        self.text.push('[');
        self.text.push_str(name);
        self.text.push(']');
        if let Some(span) = span {
            self.origins.push((start..self.text.len(), Origin::Document(span.clone())));
        }
        self.gap();
    }

    /// A key with a text.
    pub(super) fn text_entry(&mut self, key: &str, text: &str, origin: Origin) {
        self.entry(key, &quoted(text), Some(origin), "");
    }

    /// A key with a value that is TOML already, and a remark behind it.
    pub(super) fn entry(&mut self, key: &str, value: &str, origin: Option<Origin>, remark: &str) {
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
        self.gap();
    }

    /// A key with a list of texts.
    pub(super) fn list_entry(&mut self, key: &str, items: &[Word<'_>], span: &Span) {
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(" = [");
        for (index, item) in items.iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { ", " });
            self.word(item);
        }
        self.text.push(']');
        self.origins.push((start..self.text.len(), Origin::Document(span.clone())));
        self.gap();
    }

    /// A key with a table of free keys and texts, in one line.
    pub(super) fn free_entry(&mut self, key: &str, pairs: &[(Word<'_>, Word<'_>)], span: &Span) {
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
                self.origins.push((start..self.text.len(), Origin::Document(key.span.clone())));
            } else {
                self.word(key);
            }
            self.text.push_str(" = ");
            self.word(value);
        }
        self.text.push_str(if pairs.is_empty() { "}" } else { " }" });
        self.origins.push((start..self.text.len(), Origin::Document(span.clone())));
        self.gap();
    }

    fn word(&mut self, word: &Word<'_>) {
        let start = self.text.len();
        self.text.push_str(&quoted(word.text));
        self.origins.push((start..self.text.len(), Origin::Document(word.span.clone())));
    }

    /// A problem of the plan file as one of what it was made of.
    pub(super) fn traced(&self, problem: &Problem) -> Problem {
        let mut title = problem.title().to_owned();
        let mut labels = Vec::new();
        for (span, label) in problem.marks() {
            match self.origin(span) {
                Some(Origin::Document(span)) => labels.push((span.clone(), label.clone())),
                Some(Origin::Flag(flag)) => title = format!("`{flag}`: {title} ({label})"),
                None => {}
            }
        }
        let mut traced = Problem::new(title);
        for (span, label) in labels {
            traced = traced.label(span, label);
        }
        if let Some(help) = problem.remedy() {
            traced = traced.help(help);
        }
        if problem.is_warning() { traced.warning() } else { traced }
    }

    /// Where the smallest piece came from that a place of the plan file lies in.
    fn origin(&self, at: &Span) -> Option<&Origin> {
        let around = self.origins.iter().filter(|(span, _)| span.contains(&at.start));
        around.min_by_key(|(span, _)| span.len()).map(|(_, origin)| origin)
    }
}

/// A text as TOML's basic string, with escapes for whatever could drive a terminal.
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
            c if drives_terminal(c) => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
