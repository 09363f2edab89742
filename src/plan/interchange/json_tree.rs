//! Parses a JSON document into a tree with the span of each node, which the usual parsers do not keep. The input is
//! untrusted: the depth is bounded, and a repeated key is kept twice, so that the caller can reject it.

use super::tree::{Content, MAX_DEPTH, Node};
use crate::diagnostics::Problem;
use crate::plan::walk::Span;

/// Parses a document into a node with the name `root`.
pub(super) fn read(text: &str, root: &str) -> Result<Node, Problem> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let start = reader.at;
    let content = reader.value(root, 0)?;
    let at = start..reader.at;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.wrong("more than one document"));
    }
    let span = start..(start + 1).min(text.len());
    Ok(Node { name: root.to_owned(), span, at, content })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, label: &str) -> Problem {
        malformed(self.here(), label)
    }

    /// Returns the span of the next character.
    fn here(&self) -> Span {
        let next = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        self.at..self.at + next.map_or(0, char::len_utf8)
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Consumes a byte, if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, name: &str, depth: usize) -> Result<Content, Problem> {
        if depth >= MAX_DEPTH {
            let problem = Problem::new("the document is nested too deeply").label(self.here(), "one level too many");
            return Err(problem.help("the input of `aws s3control create-job` has seven levels"));
        }
        match self.next() {
            Some(b'{') => self.members(depth),
            Some(b'[') => self.items(name, depth),
            Some(b'"') => Ok(Content::Text(self.string()?)),
            Some(b't') => self.word("true", Content::Bool(true)),
            Some(b'f') => self.word("false", Content::Bool(false)),
            Some(b'n') => self.word("null", Content::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("no value begins so")),
            None => Err(self.wrong("ends too soon")),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Content, Problem> {
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.take(b'}') {
            return Ok(Content::Members(members));
        }
        loop {
            self.space();
            let start = self.at;
            if self.next() != Some(b'"') {
                return Err(self.wrong("a key in quotes is wanted"));
            }
            let name = self.string()?;
            let span = start..self.at;
            self.space();
            if !self.take(b':') {
                return Err(self.wrong("a colon is wanted"));
            }
            self.space();
            let start = self.at;
            let content = self.value(&name, depth + 1)?;
            members.push(Node { name, span, at: start..self.at, content });
            self.space();
            if self.take(b'}') {
                return Ok(Content::Members(members));
            }
            if !self.take(b',') {
                return Err(self.wrong("a comma or the end of the object is wanted"));
            }
        }
    }

    fn items(&mut self, name: &str, depth: usize) -> Result<Content, Problem> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(Content::Items(items));
        }
        loop {
            self.space();
            let start = self.at;
            let content = self.value(name, depth + 1)?;
            let at = start..self.at;
            items.push(Node { name: name.to_owned(), span: at.clone(), at, content });
            self.space();
            if self.take(b']') {
                return Ok(Content::Items(items));
            }
            if !self.take(b',') {
                return Err(self.wrong("a comma or the end of the list is wanted"));
            }
        }
    }

    /// Reads a string. `serde_json` decodes it and checks its escapes.
    fn string(&mut self) -> Result<String, Problem> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(malformed(start..start + 1, "never ends")),
            }
        }
        self.at += 1;
        let quoted = start..self.at;
        let read = self.text.get(quoted.clone()).and_then(|text| serde_json::from_str(text).ok());
        read.ok_or_else(|| malformed(quoted, "holds a control character or an escape that is none"))
    }

    fn number(&mut self) -> Result<Content, Problem> {
        let start = self.at;
        while matches!(self.next(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        if serde_json::from_str::<serde_json::Number>(digits).is_err() {
            return Err(malformed(start..self.at, "no number"));
        }
        Ok(Content::Number(digits.to_owned()))
    }

    fn word(&mut self, word: &str, content: Content) -> Result<Content, Problem> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("no value begins so"));
        }
        self.at += word.len();
        Ok(content)
    }
}

fn malformed(span: Span, label: &str) -> Problem {
    Problem::new("this is no whole JSON document").label(span, label).help("export the request again, or mend it here")
}
