//! XML documents: parsing those of requests, and writing those of responses.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use super::body::OssResponseBody;
use super::error::OssError;

/// The maximum depth of a document. Documents that OSS accepts are half as deep.
const MAX_DEPTH: usize = 8;
/// The maximum number of elements in a document. An upload with ten thousand parts has three for each part.
const MAX_ELEMENTS: usize = 40_000;

/// One element of a parsed document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RequestElement {
    pub(super) name: String,
    /// The text of the element, without the text of its children.
    pub(super) text: String,
    pub(super) children: Vec<RequestElement>,
}

impl RequestElement {
    /// Parses a document whose root element has this name.
    pub(super) fn parse(document: &[u8], root: &str) -> Result<Self, OssError> {
        parse_document(document).filter(|element| element.name == root).ok_or_else(OssError::malformed_xml)
    }

    /// Returns the only child with this name. More than one is an error.
    pub(super) fn child(&self, name: &str) -> Result<Option<&Self>, OssError> {
        let mut named = self.children.iter().filter(|child| child.name == name);
        let child = named.next();
        if named.next().is_some() { Err(OssError::malformed_xml()) } else { Ok(child) }
    }

    /// Returns the text of the only child with this name.
    pub(super) fn child_text(&self, name: &str) -> Result<Option<&str>, OssError> {
        Ok(self.child(name)?.map(|child| child.text.as_str()))
    }

    /// Rejects children with other names.
    pub(super) fn check_children(&self, names: &[&str]) -> Result<(), OssError> {
        let known = self.children.iter().all(|child| names.contains(&child.name.as_str()));
        if known { Ok(()) } else { Err(OssError::malformed_xml()) }
    }
}

/// Parses a document. Returns `None` if it is not well-formed, is too large, or has a document type declaration: OSS
/// accepts none, and its entities could expand without limit.
fn parse_document(document: &[u8]) -> Option<RequestElement> {
    let text = std::str::from_utf8(document).ok()?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<RequestElement> = vec![RequestElement::default()];
    let mut elements = 0;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                elements += 1;
                if open.len() > MAX_DEPTH || elements > MAX_ELEMENTS {
                    return None;
                }
                open.push(named_element(start.local_name().as_ref())?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return None;
                }
                open.last_mut()?.children.push(named_element(start.local_name().as_ref())?);
            }
            Event::End(_) => {
                let closed = open.pop()?;
                open.last_mut()?.children.push(closed);
            }
            Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content().ok()?),
            Event::CData(text) => open.last_mut()?.text.push_str(&text.xml10_content().ok()?),
            Event::GeneralRef(reference) => resolve_reference(&reference, &mut open.last_mut()?.text)?,
            Event::DocType(_) => return None,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let mut outside = open.pop().filter(|_| open.is_empty())?;
    let root = outside.children.pop()?;
    let alone =
        outside.children.is_empty() && outside.text.trim_matches(['\u{feff}', ' ', '\n', '\r', '\t']).is_empty();
    alone.then_some(root)
}

fn named_element(name: &[u8]) -> Option<RequestElement> {
    Some(RequestElement { name: std::str::from_utf8(name).ok()?.to_owned(), ..RequestElement::default() })
}

fn resolve_reference(reference: &BytesRef<'_>, into: &mut String) -> Option<()> {
    match reference.resolve_char_ref().ok()? {
        Some(character) => into.push(character),
        None => into.push_str(resolve_predefined_entity(&reference.decode().ok()?)?),
    }
    Some(())
}

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A document that is being written.
#[derive(Debug)]
pub(super) struct ResponseDocument(String);

impl ResponseDocument {
    /// Creates a document whose root element has this name and content.
    pub(super) fn new(root: &str, content: impl FnOnce(&mut Self)) -> Self {
        let mut document = Self(DECLARATION.to_owned());
        document.write_element(root, content);
        document
    }

    /// Creates a document that consists of one element with a text.
    pub(super) fn with_text(root: &str, text: &str) -> Self {
        let mut document = Self(DECLARATION.to_owned());
        document.write_text(root, text);
        document
    }

    /// Writes an element that contains other elements.
    pub(super) fn write_element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.0.extend(["<", name, ">"]);
        content(self);
        self.0.extend(["</", name, ">"]);
    }

    /// Writes an element with a text. Control characters are escaped, because a raw carriage return would be read as a
    /// line feed.
    pub(super) fn write_text(&mut self, name: &str, text: &str) {
        self.0.extend(["<", name, ">"]);
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                control if u32::from(control) < 0x20 => self.write_reference(control),
                other => self.0.push(other),
            }
        }
        self.0.extend(["</", name, ">"]);
    }

    fn write_reference(&mut self, control: char) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "&#x{:X};", u32::from(control));
    }

    /// Writes an element with a text, if there is one.
    pub(super) fn write_optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.write_text(name, text);
        }
    }

    /// Writes the owner. There is only one.
    pub(super) fn write_owner(&mut self) {
        self.write_element("Owner", |to| {
            to.write_text("ID", "1000000000000000");
            to.write_text("DisplayName", "1000000000000000");
        });
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Returns a response with this document as its body.
    pub(super) fn into_response(self) -> http::Response<OssResponseBody> {
        let mut response = http::Response::new(OssResponseBody::InMemory(Bytes::from(self.0)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_their_references() {
        let tag = parse_document(
            b"<?xml version='1.0'?>\n<Tag a='b'><Key>a&amp;&#x62;&lt;<![CDATA[<c>]]></Key><Value/></Tag>\n",
        );
        let tag = tag.unwrap();
        assert_eq!(tag.child_text("Key").unwrap(), Some("a&b<<c>"));
        assert_eq!(tag.child_text("Value").unwrap(), Some(""));
        assert_eq!(tag.child_text("Other").unwrap(), None);
        assert!(tag.check_children(&["Key", "Value"]).is_ok() && tag.check_children(&["Key"]).is_err());
        assert!(parse_document(b"<a><b/><b/></a>").unwrap().child("b").is_err());
    }

    #[test]
    fn rejects_malformed_documents_and_entity_bombs() {
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        for document in ["", "text", "<a>", "<a></b>", "<a/><b/>", "<a/>text", "<a>&unknown;</a>", &deep, &wide, bomb] {
            assert_eq!(parse_document(document.as_bytes()), None, "{document:.60}");
        }
        assert_eq!(parse_document(b"<a>\xff</a>"), None);
    }

    #[test]
    fn reads_back_what_was_written() {
        let text = "a<b>&\"c'\r\n\t\u{1}é";
        let document = ResponseDocument::new("A", |to| to.write_text("B", text)).into_text();
        assert_eq!(parse_document(document.as_bytes()).unwrap().child_text("B").unwrap(), Some(text));
    }
}
