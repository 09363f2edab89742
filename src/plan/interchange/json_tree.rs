//! Parses a JSON document into a tree with the span of each node, which the usual parsers do not keep. The input is
//! untrusted: the depth is bounded, and a repeated key is kept twice, so that the caller can reject it.

use super::tree::{DocumentNode, MAX_DEPTH, NodeContent};
use crate::diagnostics::FileProblem;
use crate::plan::parser::TextSpan;

/// Parses a document into a node with the name `root`.
pub(super) fn read(text: &str, root: &str) -> Result<DocumentNode, FileProblem> {
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
        malformed(self.next_char_span(), label)
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
                None => return Err(malformed(start..start + 1, "never closed")),
            }
        }
        self.position += 1;
        let quoted = start..self.position;
        let read = self.text.get(quoted.clone()).and_then(|text| serde_json::from_str(text).ok());
        read.ok_or_else(|| malformed(quoted, "contains a control character or an invalid escape"))
    }

    fn parse_number(&mut self) -> Result<NodeContent, FileProblem> {
        let start = self.position;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.position += 1;
        }
        let digits = &self.text[start..self.position];
        if serde_json::from_str::<serde_json::Number>(digits).is_err() {
            return Err(malformed(start..self.position, "not a number"));
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

fn malformed(span: TextSpan, label: &str) -> FileProblem {
    FileProblem::new("invalid JSON").label(span, label).help("export the request again, or fix it here")
}
