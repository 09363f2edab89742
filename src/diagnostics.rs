//! Mistakes in a file the user wrote: collected, never stopped at, each with its place and its remedy.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};

/// Whether a character may do something to a terminal other than appear on it: control characters, line ends and tabs
/// among them, and those that turn the direction of text or break lines.
#[must_use]
pub fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with whatever [drives a terminal](drives_terminal) made visible; line breaks stay.
#[must_use]
pub fn made_visible(text: &str) -> String {
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

/// One mistake, with every place that takes part in it.
#[derive(Clone, Debug)]
pub struct Problem {
    title: String,
    labels: Vec<(Range<usize>, String)>,
    help: Option<String>,
    warning: bool,
    source: Option<Arc<NamedSource<String>>>,
}

impl Problem {
    /// A mistake. The title is short and lower-case and says what is wrong.
    pub fn new(title: impl Into<String>) -> Self {
        let title = made_visible(&title.into());
        Self { title, labels: Vec::new(), help: None, warning: false, source: None }
    }

    /// Points at bytes of the file; the first label is the problem's position.
    #[must_use]
    pub fn label(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, made_visible(&text.into())));
        self
    }

    /// One line that says how to mend it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(made_visible(&text.into()));
        self
    }

    /// Worth saying, but no reason to refuse the file.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.warning = true;
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How to mend it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether it is no reason to refuse the file.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.warning
    }

    /// The labels: bytes of the file and what to say of them.
    #[must_use]
    pub fn marks(&self) -> &[(Range<usize>, String)] {
        &self.labels
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
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

/// All the mistakes of one file, in the order they were found.
#[derive(Clone, Debug)]
pub struct Problems {
    source: Arc<NamedSource<String>>,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet, of a file with this name and text. The text is shown as it is.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { source: Arc::new(NamedSource::new(made_visible(name), text.to_owned())), found: Vec::new() }
    }

    /// Adds one.
    pub fn push(&mut self, mut problem: Problem) {
        problem.source = Some(Arc::clone(&self.source));
        self.found.push(problem);
    }

    /// Whether any of them is a reason to refuse the file.
    #[must_use]
    pub fn any_error(&self) -> bool {
        self.found.iter().any(|problem| !problem.warning)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    /// Line and column, both from 1, of a byte of the file. A column counts characters.
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

    /// How many bytes an excerpt has that shows a span whole, with a line above and a line below.
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

    /// The file's name as it was given.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.source.name()
    }
}
