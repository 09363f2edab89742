//! Parses the XML documents that stores send. They are small and flat, and they are not trusted.
//!
//! Document types are rejected, so that no entities exist except the five that XML predefines. Nesting depth and name
//! length are limited. The code that receives the document limits its size.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// The maximum nesting depth. The deepest document of a store has six levels.
const MAX_DEPTH: usize = 16;

/// The maximum length of an element name, in bytes. Stores use names of up to 40.
const MAX_NAME: usize = 64;

/// Why a text is not a document that a store would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlReadError {
    /// It is not well-formed XML, or it is truncated.
    #[error("it is not a complete XML document")]
    Malformed,
    /// It has a document type declaration, which can define entities.
    #[error("it has a document type declaration, which is not allowed")]
    DocumentType,
    /// It refers to an entity that XML does not predefine.
    #[error("it refers to an unknown entity")]
    UnknownEntity,
    /// It is nested too deeply.
    #[error("it is nested too deeply")]
    TooDeep,
    /// An element does not contain a required child element exactly once.
    #[error("a <{0}> does not have exactly one <{1}> with text")]
    NotExactlyOne(&'static str, &'static str),
    /// An element is in a place where it has no known meaning.
    #[error("a <{0}> is in an unexpected place")]
    Misplaced(&'static str),
    /// Two elements are the same, but must be unique.
    #[error("it has a duplicate <{0}>")]
    Duplicate(&'static str),
    /// The name of an element is too long.
    #[error("an element name is longer than {MAX_NAME} bytes")]
    NameTooLong,
}

/// Parses a document. Calls `closed` at the end of each element, with its path from the root, such as
/// `Tagging/TagSet/Tag`, and its own text.
pub(crate) fn read(document: &[u8], mut closed: impl FnMut(&str, &str)) -> Result<(), XmlReadError> {
    let text = std::str::from_utf8(document).map_err(|_| XmlReadError::Malformed)?;
    let mut reader = Reader::from_str(text);
    // Large enough for most documents, so that the buffers do not grow.
    let mut open = OpenXmlElements {
        path: String::with_capacity(64),
        text: String::with_capacity(256),
        ..OpenXmlElements::default()
    };
    loop {
        match reader.read_event().map_err(|_| XmlReadError::Malformed)? {
            Event::Start(element) => open.start_element(element.local_name().into_inner())?,
            Event::Empty(element) => {
                open.start_element(element.local_name().into_inner())?;
                open.end_element(&mut closed)?;
            }
            Event::End(_) => open.end_element(&mut closed)?,
            Event::Text(piece) => open.push_text(&piece.decode().map_err(|_| XmlReadError::Malformed)?)?,
            Event::CData(piece) => open.push_text(&piece.decode().map_err(|_| XmlReadError::Malformed)?)?,
            Event::GeneralRef(reference) => open.push_text(resolve_entity(&reference, &mut [0; 4])?)?,
            Event::DocType(_) => return Err(XmlReadError::DocumentType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if open.seen_root && open.depth == 0 { Ok(()) } else { Err(XmlReadError::Malformed) }
}

/// The open elements.
#[derive(Default)]
struct OpenXmlElements {
    path: String,
    /// The texts of all open elements, without those of their children: the text of an element is removed at its end.
    text: String,
    /// The start offsets of each element's path and text.
    starts: [(usize, usize); MAX_DEPTH],
    depth: usize,
    seen_root: bool,
}

impl OpenXmlElements {
    fn start_element(&mut self, name: &[u8]) -> Result<(), XmlReadError> {
        if name.len() > MAX_NAME {
            return Err(XmlReadError::NameTooLong);
        }
        let name = std::str::from_utf8(name).map_err(|_| XmlReadError::Malformed)?;
        if self.depth == 0 && std::mem::replace(&mut self.seen_root, true) {
            return Err(XmlReadError::Malformed);
        }
        *self.starts.get_mut(self.depth).ok_or(XmlReadError::TooDeep)? = (self.path.len(), self.text.len());
        if self.depth > 0 {
            self.path.push('/');
        }
        self.path.push_str(name);
        self.depth += 1;
        Ok(())
    }

    fn end_element(&mut self, closed: &mut impl FnMut(&str, &str)) -> Result<(), XmlReadError> {
        self.depth = self.depth.checked_sub(1).ok_or(XmlReadError::Malformed)?;
        let (path, text) = self.starts[self.depth];
        closed(&self.path, &self.text[text..]);
        self.path.truncate(path);
        self.text.truncate(text);
        Ok(())
    }

    fn push_text(&mut self, piece: &str) -> Result<(), XmlReadError> {
        if self.depth > 0 {
            self.text.push_str(piece);
        } else if !piece.trim().is_empty() {
            return Err(XmlReadError::Malformed);
        }
        Ok(())
    }
}

fn resolve_entity<'b>(reference: &BytesRef<'_>, buffer: &'b mut [u8; 4]) -> Result<&'b str, XmlReadError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlReadError::UnknownEntity)? {
        return Ok(character.encode_utf8(buffer));
    }
    let name = reference.decode().map_err(|_| XmlReadError::Malformed)?;
    resolve_predefined_entity(&name).ok_or(XmlReadError::UnknownEntity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(document: &str) -> Result<Vec<String>, XmlReadError> {
        let mut leaves = Vec::new();
        read(document.as_bytes(), |path, text| leaves.push(format!("{path}={text}")))?;
        Ok(leaves)
    }

    #[test]
    fn reports_every_element_with_path_and_text() {
        let document =
            "<?xml version=\"1.0\"?>\n<T xmlns='x'><S>y<K>a &amp;&#x41;&#10;</K><V/>z</S><!-- c --><S>x</S></T>\n";
        let told = ["T/S/K=a &A\n", "T/S/V=", "T/S=yz", "T/S=x", "T="];
        assert_eq!(leaves(document), Ok(told.map(str::to_owned).to_vec()));
    }

    #[test]
    fn rejects_documents_that_no_store_sends() {
        let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
        let named = format!("<{}/>", "a".repeat(65));
        let bomb = "<!DOCTYPE l [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
        for (document, fault) in [
            ("", XmlReadError::Malformed),
            ("no XML", XmlReadError::Malformed),
            ("<a><b></a>", XmlReadError::Malformed),
            ("<a><b>", XmlReadError::Malformed),
            ("<a/><b/>", XmlReadError::Malformed),
            ("</a>", XmlReadError::Malformed),
            ("<a>&lol;</a>", XmlReadError::UnknownEntity),
            ("<a>&#0;</a>", XmlReadError::UnknownEntity),
            (bomb, XmlReadError::DocumentType),
            (deep.as_str(), XmlReadError::TooDeep),
            (named.as_str(), XmlReadError::NameTooLong),
        ] {
            assert_eq!(leaves(document), Err(fault), "{document}");
        }
        assert_eq!(read(b"<a>\xff</a>", |_, _| {}), Err(XmlReadError::Malformed));
    }

    proptest! {
        #[test]
        fn never_panics(document in "[<>/a&;#!\\[\\]x ?\"=-]{0,60}") {
            let _ = leaves(&document);
        }
    }
}
