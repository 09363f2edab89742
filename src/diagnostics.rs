//! Problems in the files that the user wrote. Reading does not stop at the first problem: all of them are collected,
//! each with its position and a hint.
//!
//! The positions in TOML files come from `toml_reader/reader`, which reads values with their spans. `cli/plan_input`
//! prints a problem with the line of the file and a caret below the position.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use batchplan_store::printable::affects_terminal;
use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};

/// Escapes every character that [affects a terminal](affects_terminal), except `\n`.
#[must_use]
pub fn escape_for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if affects_terminal(c) && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Like [`escape_for_terminal`], but also escapes `\n`, so that the text stays in one line.
#[must_use]
pub fn escape_line(text: &str) -> String {
    escape_for_terminal(text).replace('\n', "\\n")
}

/// One problem in a file, with all positions that it involves.
#[derive(Clone, Debug)]
pub struct FileProblem {
    title: String,
    labels: Vec<(Range<usize>, String)>,
    help: Option<String>,
    warning: bool,
    reported_on_use: bool,
    source: Option<Arc<NamedSource<String>>>,
}

impl FileProblem {
    /// Creates an error. The title is short, starts in lower case, and states what is wrong.
    pub fn new(title: impl Into<String>) -> Self {
        let title = escape_for_terminal(&title.into());
        Self { title, labels: Vec::new(), help: None, warning: false, reported_on_use: false, source: None }
    }

    /// Adds a label to a byte range of the file. The first label is the position of the problem.
    #[must_use]
    pub fn label(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, escape_for_terminal(&text.into())));
        self
    }

    /// Sets the hint: one line that says how to fix the problem.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(escape_for_terminal(&text.into()));
        self
    }

    /// Turns the problem into a warning, which does not cause the file to be rejected.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.warning = true;
        self
    }

    /// Turns the problem into a warning of a check, which a command that goes on would only repeat: it fails where it
    /// uses what is missing.
    #[must_use]
    pub fn warning_until_use(mut self) -> Self {
        self.reported_on_use = true;
        self.warning()
    }

    /// Returns whether a command that goes on reports the problem where it matters.
    #[must_use]
    pub fn is_reported_on_use(&self) -> bool {
        self.reported_on_use
    }

    /// Returns the title, which states what is wrong.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns the hint, which says how to fix the problem.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Returns whether this is a warning, which does not cause the file to be rejected.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.warning
    }

    /// Returns the labels: byte ranges of the file, each with its text.
    #[must_use]
    pub fn label_spans(&self) -> &[(Range<usize>, String)] {
        &self.labels
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for FileProblem {}

impl Diagnostic for FileProblem {
    fn severity(&self) -> Option<Severity> {
        Some(if self.warning { Severity::Warning } else { Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() {
            return None;
        }
        Some(Box::new(
            self.labels.iter().map(|(span, text)| LabeledSpan::new_with_span(Some(text.clone()), span.clone())),
        ))
    }
}

/// All problems of one file, in the order in which they were found.
#[derive(Clone, Debug)]
pub struct FileProblems {
    source: Arc<NamedSource<String>>,
    problems: Vec<FileProblem>,
}

impl FileProblems {
    /// Creates an empty list for a file with this name and text. The name is escaped for terminals, the text is not.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { source: Arc::new(NamedSource::new(escape_for_terminal(name), text.to_owned())), problems: Vec::new() }
    }

    /// Adds a problem to the end of the list.
    pub fn push(&mut self, mut problem: FileProblem) {
        problem.source = Some(Arc::clone(&self.source));
        self.problems.push(problem);
    }

    /// Returns whether any of the problems is an error, which causes the file to be rejected.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| !problem.warning)
    }

    /// Returns whether there are neither errors nor warnings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns the problems in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &FileProblem> {
        self.problems.iter()
    }

    /// Returns the line and column of a byte offset in the file, both starting at 1. Columns count characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let text = self.source.inner();
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Returns the size in bytes of an excerpt that shows a whole span, the line above it, and the line below it.
    #[must_use]
    pub fn excerpt_bytes(&self, span: &Range<usize>) -> usize {
        let text = self.source.inner().as_bytes();
        let (before, after) = (&text[..span.start.min(text.len())], &text[span.end.min(text.len())..]);
        let two_lines = |bytes: &mut dyn Iterator<Item = &u8>| {
            let mut breaks = 0;
            bytes
                .take_while(|byte| {
                    breaks += usize::from(**byte == b'\n');
                    breaks < 2
                })
                .count()
        };
        two_lines(&mut before.iter().rev()) + span.len() + two_lines(&mut after.iter())
    }

    /// Returns the file's name, escaped for terminals.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.source.name()
    }
}
