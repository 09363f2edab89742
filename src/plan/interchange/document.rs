//! A request as a tree with the span of each node, parsed from XML or JSON. The input is untrusted: depth, names and
//! attributes are bounded.

use batchplan_store::xml::{XmlElement, XmlEvent, XmlOrigin, XmlProblem, XmlProblemKind, XmlReader};

use crate::diagnostics::FileProblem;
use crate::toml_reader::{TextSpan, quote_for_message};

/// The maximum depth of a JSON document. The deepest request, AWS's generator with its filter, has seven levels.
const MAX_DEPTH: usize = 16;

/// A named node of a document.
#[derive(Debug)]
pub(super) struct DocumentNode {
    /// The name of the element or key; for an item in a list, the name of the list.
    pub(super) name: String,
    /// The span of the name: a start tag, or a key.
    pub(super) name_span: TextSpan,
    /// The span of the content.
    content_span: TextSpan,
    pub(super) content: NodeContent,
}

/// The content of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NodeContent {
    /// The text of an element, which may also be a number or a truth value.
    XmlText(String),
    /// A JSON string.
    Text(String),
    /// A JSON truth value.
    Bool(bool),
    /// A JSON number, as written.
    Number(String),
    /// JSON's null.
    Null,
    /// Nodes with names.
    Members(Vec<DocumentNode>),
    /// Nodes without names: the items of a list.
    Items(Vec<DocumentNode>),
}

impl DocumentNode {
    /// Returns the span to point at for the content.
    pub(super) fn value_span(&self) -> &TextSpan {
        if self.content_span.is_empty() { &self.name_span } else { &self.content_span }
    }
}

/// Two nodes are equal if their contents are equal, whatever their spans.
impl PartialEq for DocumentNode {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.content == other.content
    }
}

impl Eq for DocumentNode {}

/// Parses a JSON document into a node with the name `root`.
///
/// The usual parsers do not keep the spans. A repeated key is kept twice, so that the caller can reject it.
pub(super) fn read_json(text: &str, root: &str) -> Result<DocumentNode, FileProblem> {
    let mut reader = JsonParser { text, position: 0 };
    reader.skip_whitespace();
    let start = reader.position;
    let content = reader.parse_value(root, 0)?;
    let at = start..reader.position;
    reader.skip_whitespace();
    if reader.position < text.len() {
        return Err(reader.error_here("more than one document"));
    }
    let span = start..(start + 1).min(text.len());
    Ok(DocumentNode { name: root.to_owned(), name_span: span, content_span: at, content })
}

struct JsonParser<'t> {
    text: &'t str,
    position: usize,
}

impl JsonParser<'_> {
    fn error_here(&self, label: &str) -> FileProblem {
        malformed_json(self.next_char_span(), label)
    }

    /// Returns the span of the next character.
    fn next_char_span(&self) -> TextSpan {
        let next = self.text.get(self.position..).and_then(|rest| rest.chars().next());
        self.position..self.position + next.map_or(0, char::len_utf8)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    /// Consumes a byte, if it is the next one.
    fn consume(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.position += usize::from(there);
        there
    }

    fn parse_value(&mut self, name: &str, depth: usize) -> Result<NodeContent, FileProblem> {
        if depth >= MAX_DEPTH {
            let problem = FileProblem::new("the document is nested too deeply")
                .label(self.next_char_span(), "one level too many");
            return Err(problem.help("the input of `aws s3control create-job` has seven levels"));
        }
        match self.peek() {
            Some(b'{') => self.parse_members(depth),
            Some(b'[') => self.parse_items(name, depth),
            Some(b'"') => Ok(NodeContent::Text(self.parse_string()?)),
            Some(b't') => self.parse_literal("true", NodeContent::Bool(true)),
            Some(b'f') => self.parse_literal("false", NodeContent::Bool(false)),
            Some(b'n') => self.parse_literal("null", NodeContent::Null),
            Some(b'-' | b'0'..=b'9') => self.parse_number(),
            Some(_) => Err(self.error_here("not a JSON value")),
            None => Err(self.error_here("unexpected end of file")),
        }
    }

    fn parse_members(&mut self, depth: usize) -> Result<NodeContent, FileProblem> {
        self.position += 1;
        let mut members = Vec::new();
        self.skip_whitespace();
        if self.consume(b'}') {
            return Ok(NodeContent::Members(members));
        }
        loop {
            self.skip_whitespace();
            let start = self.position;
            if self.peek() != Some(b'"') {
                return Err(self.error_here("expected a key in quotes"));
            }
            let name = self.parse_string()?;
            let span = start..self.position;
            self.skip_whitespace();
            if !self.consume(b':') {
                return Err(self.error_here("expected a colon"));
            }
            self.skip_whitespace();
            let start = self.position;
            let content = self.parse_value(&name, depth + 1)?;
            members.push(DocumentNode { name, name_span: span, content_span: start..self.position, content });
            self.skip_whitespace();
            if self.consume(b'}') {
                return Ok(NodeContent::Members(members));
            }
            if !self.consume(b',') {
                return Err(self.error_here("expected a comma or the end of the object"));
            }
        }
    }

    fn parse_items(&mut self, name: &str, depth: usize) -> Result<NodeContent, FileProblem> {
        self.position += 1;
        let mut items = Vec::new();
        self.skip_whitespace();
        if self.consume(b']') {
            return Ok(NodeContent::Items(items));
        }
        loop {
            self.skip_whitespace();
            let start = self.position;
            let content = self.parse_value(name, depth + 1)?;
            let at = start..self.position;
            items.push(DocumentNode { name: name.to_owned(), name_span: at.clone(), content_span: at, content });
            self.skip_whitespace();
            if self.consume(b']') {
                return Ok(NodeContent::Items(items));
            }
            if !self.consume(b',') {
                return Err(self.error_here("expected a comma or the end of the list"));
            }
        }
    }

    /// Reads a string. `serde_json` decodes it and checks its escapes.
    fn parse_string(&mut self) -> Result<String, FileProblem> {
        let start = self.position;
        self.position += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.position += 2,
                Some(_) => self.position += 1,
                None => return Err(malformed_json(start..start + 1, "never closed")),
            }
        }
        self.position += 1;
        let quoted = start..self.position;
        let read = self.text.get(quoted.clone()).and_then(|text| serde_json::from_str(text).ok());
        read.ok_or_else(|| malformed_json(quoted, "contains a control character or an invalid escape"))
    }

    fn parse_number(&mut self) -> Result<NodeContent, FileProblem> {
        let start = self.position;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.position += 1;
        }
        let digits = &self.text[start..self.position];
        if serde_json::from_str::<serde_json::Number>(digits).is_err() {
            return Err(malformed_json(start..self.position, "not a number"));
        }
        Ok(NodeContent::Number(digits.to_owned()))
    }

    fn parse_literal(&mut self, word: &str, content: NodeContent) -> Result<NodeContent, FileProblem> {
        if !self.text[self.position..].starts_with(word) {
            return Err(self.error_here("not a JSON value"));
        }
        self.position += word.len();
        Ok(content)
    }
}

fn malformed_json(span: TextSpan, label: &str) -> FileProblem {
    FileProblem::new("invalid JSON").label(span, label).help("export the request again, or fix it here")
}

/// Parses an XML document and returns its root.
pub(super) fn read_xml(text: &str) -> Result<DocumentNode, FileProblem> {
    let mut reader = XmlReader::new(text, XmlOrigin::File);
    let mut open: Vec<OpenElement> = Vec::new();
    let mut root = None;
    while let Some(event) = reader.next_event().map_err(|problem| xml_problem(problem, text))? {
        let span = reader.span();
        match event {
            XmlEvent::Start(element) => {
                check_attributes(&element, span, open.is_empty())?;
                open.push(OpenElement::new(element.name().into_owned(), span.clone()));
            }
            XmlEvent::Text(piece) => {
                if let Some(element) = open.last_mut() {
                    element.push_text(&piece, trimmed_span(text, span));
                }
            }
            XmlEvent::End => {
                let Some(element) = open.pop() else { continue };
                let node = element.close(span.start)?;
                match open.last_mut() {
                    Some(parent) => parent.members.push(node),
                    None => root = Some(node),
                }
            }
        }
    }
    root.ok_or_else(|| malformed_xml(0..0, "no element"))
}

/// An element that is not closed yet.
struct OpenElement {
    name: String,
    span: TextSpan,
    text: String,
    /// The span of text that is not only whitespace, if there is any.
    text_span: Option<TextSpan>,
    members: Vec<DocumentNode>,
}

impl OpenElement {
    fn new(name: String, span: TextSpan) -> Self {
        Self { name, span, text: String::new(), text_span: None, members: Vec::new() }
    }

    fn push_text(&mut self, piece: &str, span: TextSpan) {
        self.text.push_str(piece);
        if self.text_span.is_none() && !piece.trim().is_empty() {
            self.text_span = Some(span);
        }
    }

    /// Returns the node of the element, whose content ends at `content_end`.
    fn close(self, content_end: usize) -> Result<DocumentNode, FileProblem> {
        let content_span = self.span.end..content_end;
        let content = if self.members.is_empty() {
            NodeContent::XmlText(self.text)
        } else if let Some(text_span) = self.text_span {
            let name = quote_for_message(&self.name);
            let problem = FileProblem::new(format!("`{name}` contains both text and elements"));
            return Err(problem
                .label(text_span, "this text")
                .help("an element can contain text or elements, not both"));
        } else {
            NodeContent::Members(self.members)
        };
        Ok(DocumentNode { name: self.name, name_span: self.span, content_span, content })
    }
}

/// Rejects all attributes, except for the namespace of the root.
fn check_attributes(element: &XmlElement<'_>, span: &TextSpan, is_root: bool) -> Result<(), FileProblem> {
    for attribute in element.attributes() {
        let (name, value) = attribute.map_err(|error| malformed_xml(span.clone(), &quote_for_message(&error)))?;
        if is_root && name == "xmlns" {
            if value.contains("amazonaws") {
                let problem = FileProblem::new("this is the XML of the AWS API").label(span.clone(), "its namespace");
                return Err(problem.help("import the JSON that `aws s3control create-job --cli-input-json` takes"));
            }
            continue;
        }
        return Err(FileProblem::new(format!("unknown attribute `{}`", quote_for_message(&name)))
            .label(span.clone(), "in this element")
            .help("remove it: elements have no attributes"));
    }
    Ok(())
}

/// Returns the span without the whitespace around it.
fn trimmed_span(text: &str, span: &TextSpan) -> TextSpan {
    let Some(piece) = text.get(span.clone()) else { return span.clone() };
    let start = span.start + piece.len() - piece.trim_start().len();
    start..(start + piece.trim().len())
}

/// Returns the message about a document that the XML reader rejected.
fn xml_problem(problem: XmlProblem, text: &str) -> FileProblem {
    let XmlProblem { kind, span } = problem;
    match kind {
        XmlProblemKind::Syntax(message) => malformed_xml(span, &quote_for_message(&message)),
        XmlProblemKind::InvalidCharacter => malformed_xml(span, "not a character"),
        XmlProblemKind::SecondRoot => malformed_xml(span, "a second root element"),
        XmlProblemKind::TextOutsideRoot => malformed_xml(trimmed_span(text, &span), "text outside the root element"),
        XmlProblemKind::Unclosed => malformed_xml(span, "never closed"),
        XmlProblemKind::NoElement => malformed_xml(span, "no element"),
        XmlProblemKind::TooDeep => FileProblem::new("the document is nested too deeply")
            .label(span, "one level too many")
            .help("a CreateJobRequest has six levels"),
        XmlProblemKind::NameTooLong { length } => FileProblem::new("an element name is too long")
            .label(span.start..span.start, format!("{length} bytes"))
            .help("no element of a CreateJobRequest has such a name"),
        XmlProblemKind::Encoding => FileProblem::new("the document declares an encoding other than UTF-8")
            .label(span, "not UTF-8")
            .help("save it as UTF-8, and declare UTF-8 in its first line"),
        XmlProblemKind::DocumentType => FileProblem::new("document types are not allowed")
            .label(span.start..span.start + "<!DOCTYPE".len(), "may define entities")
            .help("remove it: requests have none, and entities can make a small document very large"),
        XmlProblemKind::UnknownEntity => FileProblem::new("unknown entity")
            .label(span, "not defined")
            .help("use &amp; &lt; &gt; &quot; &apos; or numbers such as &#233;"),
    }
}

fn malformed_xml(span: TextSpan, label: &str) -> FileProblem {
    FileProblem::new("invalid XML").label(span, label).help("export the request again, or fix it here")
}

#[cfg(test)]
mod tests;
