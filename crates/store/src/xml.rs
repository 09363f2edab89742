//! Reads XML that is not trusted: the answers of servers, and the files that users import.
//!
//! [`XmlReader`] returns the events of a document, each with its span. It knows no entities except the five that XML
//! predefines and numeric references, rejects document types, and limits nesting depth and name length. The code that
//! receives a document limits its size. `read` collects the texts of the small, flat documents that stores send, and
//! `read_lenient` those of listings, whose object keys may have bytes that XML does not allow.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::encoding::EncodingError;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesCData, BytesRef, BytesStart, BytesText, Event};

/// The maximum nesting depth. The deepest documents, answers of stores and job requests, have six levels.
const MAX_DEPTH: usize = 16;

/// The maximum length of an element name, in bytes. Stores use names of up to 40.
const MAX_NAME: usize = 64;

/// Where a document comes from, which decides how faithfully its text is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmlOrigin {
    /// A server. Line ends are kept as sent, because they may be part of an object key, and the declared encoding does
    /// not matter.
    Server,
    /// A file. Line ends become `\n`, as XML 1.0 requires, and a declared encoding other than UTF-8 is rejected,
    /// because an editor may have saved the file in it.
    File,
}

/// An event in a document. An empty element is a start and an end.
#[derive(Debug)]
pub enum XmlEvent<'d> {
    /// The start of an element.
    Start(XmlElement<'d>),
    /// The end of the innermost open element.
    End,
    /// A part of the innermost open element's text: plain text, a CDATA section or a reference.
    Text(Cow<'d, str>),
}

/// An event whose text is not decoded yet.
enum XmlToken<'d> {
    Start(XmlElement<'d>),
    End,
    Text(BytesText<'d>),
    CData(BytesCData<'d>),
    Reference(BytesRef<'d>),
}

/// The start tag of an element.
#[derive(Debug)]
pub struct XmlElement<'d>(BytesStart<'d>);

impl XmlElement<'_> {
    /// Returns the name as written, with its namespace prefix.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0.name().into_inner())
    }

    /// Returns the name without its namespace prefix.
    #[must_use]
    pub fn local_name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0.local_name().into_inner())
    }

    /// Returns the name and the value, as written, of each attribute; an error says what is wrong with the syntax of
    /// one. Attributes that are not read are not checked.
    pub fn attributes(&self) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), String>> {
        self.0.attributes().map(|attribute| {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = match attribute.value {
                Cow::Borrowed(value) => String::from_utf8_lossy(value),
                Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(&value).into_owned()),
            };
            Ok((String::from_utf8_lossy(attribute.key.into_inner()), value))
        })
    }
}

/// Why a document was rejected, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XmlProblem {
    /// What is wrong.
    pub kind: XmlProblemKind,
    /// The bytes of the document that are wrong.
    pub span: Range<usize>,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XmlProblemKind {
    /// It is not well-formed XML. The text is the parser's message.
    Syntax(String),
    /// It has a document type declaration, which can define entities.
    DocumentType,
    /// It declares an encoding other than UTF-8.
    Encoding,
    /// It refers to an entity that XML does not predefine.
    UnknownEntity,
    /// It refers by number to a character that does not exist.
    InvalidCharacter,
    /// An element is nested too deeply.
    TooDeep,
    /// The name of an element is too long.
    NameTooLong {
        /// The length in bytes.
        length: usize,
    },
    /// It has a second root element.
    SecondRoot,
    /// It has text outside the root element.
    TextOutsideRoot,
    /// An element is never closed.
    Unclosed,
    /// It has no element.
    NoElement,
}

/// Reads a document from start to end, one event at a time.
#[derive(Debug)]
pub struct XmlReader<'d> {
    reader: Reader<&'d [u8]>,
    origin: XmlOrigin,
    span: Range<usize>,
    /// The spans of the start tags of the open elements.
    open: [(usize, usize); MAX_DEPTH],
    depth: usize,
    has_root: bool,
    /// Whether the last event was the start of an empty element, whose end comes next.
    in_empty: bool,
}

impl<'d> XmlReader<'d> {
    /// Starts to read a document.
    #[must_use]
    pub fn new(document: &'d str, origin: XmlOrigin) -> Self {
        Self {
            reader: Reader::from_str(document),
            origin,
            span: 0..0,
            open: [(0, 0); MAX_DEPTH],
            depth: 0,
            has_root: false,
            in_empty: false,
        }
    }

    /// Returns the span of the last event. The end of an empty element has none of its own: its span is empty.
    #[must_use]
    pub fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Starts to read the document of a server, which need not be UTF-8, and may have an `&` that starts no reference.
    fn lenient(document: &'d [u8]) -> Self {
        let mut reader = Reader::from_reader(document);
        reader.config_mut().allow_dangling_amp = true;
        Self {
            reader,
            origin: XmlOrigin::Server,
            span: 0..0,
            open: [(0, 0); MAX_DEPTH],
            depth: 0,
            has_root: false,
            in_empty: false,
        }
    }

    /// Returns the next event; `None` at the end of a whole document.
    ///
    /// # Errors
    /// Returns an error if the document is not well-formed, exceeds a limit, or uses what is not supported.
    pub fn next_event(&mut self) -> Result<Option<XmlEvent<'d>>, XmlProblem> {
        loop {
            let text = match self.next_token()? {
                None => return Ok(None),
                Some(XmlToken::Start(element)) => return Ok(Some(XmlEvent::Start(element))),
                Some(XmlToken::End) => return Ok(Some(XmlEvent::End)),
                Some(XmlToken::Text(piece)) => match self.origin {
                    XmlOrigin::Server => self.decoded(piece.decode()),
                    XmlOrigin::File => self.decoded(piece.xml10_content()),
                }?,
                Some(XmlToken::CData(piece)) => match self.origin {
                    XmlOrigin::Server => self.decoded(piece.decode()),
                    XmlOrigin::File => self.decoded(piece.xml10_content()),
                }?,
                Some(XmlToken::Reference(reference)) => self.resolve_reference(&reference)?,
            };
            if self.depth > 0 {
                return Ok(Some(XmlEvent::Text(text)));
            }
            if !text.trim().is_empty() {
                return Err(self.problem(XmlProblemKind::TextOutsideRoot));
            }
        }
    }

    /// Returns the next event, without decoding its text; `None` at the end of a whole document.
    fn next_token(&mut self) -> Result<Option<XmlToken<'d>>, XmlProblem> {
        if std::mem::take(&mut self.in_empty) {
            self.span = self.span.end..self.span.end;
            self.depth -= 1;
            return Ok(Some(XmlToken::End));
        }
        loop {
            let start = position(self.reader.buffer_position());
            let event = self.reader.read_event();
            self.span = start..position(self.reader.buffer_position());
            let event = event.map_err(|error| {
                let at = position(self.reader.error_position());
                XmlProblem { kind: XmlProblemKind::Syntax(error.to_string()), span: at..at }
            })?;
            return Ok(Some(match event {
                Event::Start(element) => XmlToken::Start(self.start(element)?),
                Event::Empty(element) => {
                    let element = self.start(element)?;
                    self.in_empty = true;
                    XmlToken::Start(element)
                }
                Event::End(_) => {
                    // The parser itself rejects an end without a start.
                    self.depth = self.depth.saturating_sub(1);
                    XmlToken::End
                }
                Event::Text(piece) => XmlToken::Text(piece),
                Event::CData(piece) => XmlToken::CData(piece),
                Event::GeneralRef(reference) => XmlToken::Reference(reference),
                Event::DocType(_) => return Err(self.problem(XmlProblemKind::DocumentType)),
                Event::Decl(declaration) => {
                    self.check_encoding(declaration.encoding().and_then(Result::ok).as_deref())?;
                    continue;
                }
                Event::PI(_) | Event::Comment(_) => continue,
                Event::Eof => return self.finish().map(|()| None),
            }));
        }
    }

    fn problem(&self, kind: XmlProblemKind) -> XmlProblem {
        XmlProblem { kind, span: self.span.clone() }
    }

    fn decoded<T>(&self, text: Result<T, EncodingError>) -> Result<T, XmlProblem> {
        text.map_err(|_| self.problem(XmlProblemKind::Syntax("not UTF-8".to_owned())))
    }

    fn start(&mut self, element: BytesStart<'d>) -> Result<XmlElement<'d>, XmlProblem> {
        if self.depth == 0 && std::mem::replace(&mut self.has_root, true) {
            return Err(self.problem(XmlProblemKind::SecondRoot));
        }
        let Some(open) = self.open.get_mut(self.depth) else {
            return Err(self.problem(XmlProblemKind::TooDeep));
        };
        *open = (self.span.start, self.span.end);
        let length = element.name().into_inner().len();
        if length > MAX_NAME {
            return Err(self.problem(XmlProblemKind::NameTooLong { length }));
        }
        self.depth += 1;
        Ok(XmlElement(element))
    }

    /// Returns what a reference such as `&amp;` or `&#233;` stands for.
    fn resolve_reference(&self, reference: &BytesRef<'_>) -> Result<Cow<'d, str>, XmlProblem> {
        let name = self.decoded(reference.decode())?;
        match reference.resolve_char_ref() {
            Ok(Some(character)) => Ok(Cow::Owned(character.to_string())),
            Ok(None) => match resolve_predefined_entity(&name) {
                Some(text) => Ok(Cow::Borrowed(text)),
                None => Err(self.problem(XmlProblemKind::UnknownEntity)),
            },
            Err(_) => Err(self.problem(XmlProblemKind::InvalidCharacter)),
        }
    }

    /// Rejects a file that declares another encoding, because its characters would be misread.
    fn check_encoding(&self, declared: Option<&[u8]>) -> Result<(), XmlProblem> {
        let known = [&b"utf-8"[..], b"us-ascii"];
        match declared {
            Some(name) if self.origin == XmlOrigin::File && !known.iter().any(|it| it.eq_ignore_ascii_case(name)) => {
                Err(self.problem(XmlProblemKind::Encoding))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the document is complete.
    fn finish(&self) -> Result<(), XmlProblem> {
        if let Some(&(start, end)) = self.open[..self.depth].last() {
            return Err(XmlProblem { kind: XmlProblemKind::Unclosed, span: start..end });
        }
        if self.has_root { Ok(()) } else { Err(XmlProblem { kind: XmlProblemKind::NoElement, span: 0..0 }) }
    }
}

/// Converts a position. Documents are far smaller than what a `usize` can count.
fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

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

impl From<XmlProblem> for XmlReadError {
    fn from(problem: XmlProblem) -> Self {
        match problem.kind {
            XmlProblemKind::DocumentType => Self::DocumentType,
            XmlProblemKind::UnknownEntity | XmlProblemKind::InvalidCharacter => Self::UnknownEntity,
            XmlProblemKind::TooDeep => Self::TooDeep,
            XmlProblemKind::NameTooLong { .. } => Self::NameTooLong,
            XmlProblemKind::Syntax(_)
            | XmlProblemKind::Encoding
            | XmlProblemKind::SecondRoot
            | XmlProblemKind::TextOutsideRoot
            | XmlProblemKind::Unclosed
            | XmlProblemKind::NoElement => Self::Malformed,
        }
    }
}

/// Reads the answer of a store. Calls `closed` at the end of each element, with its path from the root, such as
/// `Tagging/TagSet/Tag`, and its own text. Namespace prefixes are ignored.
pub(crate) fn read(document: &[u8], mut closed: impl FnMut(&str, &str)) -> Result<(), XmlReadError> {
    let document = std::str::from_utf8(document).map_err(|_| XmlReadError::Malformed)?;
    let mut reader = XmlReader::new(document, XmlOrigin::Server);
    // Large enough for most documents, so that the buffers do not grow.
    let mut path = String::with_capacity(64);
    // The texts of all open elements, without those of their children: the text of an element is removed at its end.
    let mut texts = String::with_capacity(256);
    // The start offsets of each open element's path and text.
    let mut starts = Vec::with_capacity(MAX_DEPTH);
    while let Some(event) = reader.next_event()? {
        match event {
            XmlEvent::Start(element) => {
                starts.push((path.len(), texts.len()));
                if starts.len() > 1 {
                    path.push('/');
                }
                path.push_str(&element.local_name());
            }
            XmlEvent::Text(piece) => texts.push_str(&piece),
            XmlEvent::End => {
                let (path_start, text_start) = starts.pop().ok_or(XmlReadError::Malformed)?;
                closed(&path, &texts[text_start..]);
                path.truncate(path_start);
                texts.truncate(text_start);
            }
        }
    }
    Ok(())
}

/// The text of an element that was read leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LenientText<'t> {
    /// The bytes, with references resolved. A reference that stands for nothing is kept as it is written.
    pub(crate) bytes: &'t [u8],
    /// Whether these are certainly the bytes that the server meant: every reference stands for a character, and no
    /// `&` is left that starts none.
    pub(crate) is_exact: bool,
}

impl<'t> LenientText<'t> {
    /// Returns the text of an element that is not expected to have any other bytes than UTF-8.
    pub(crate) fn to_text(self) -> Cow<'t, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

/// Reads the answer of a store like [`read`], but accepts texts that XML does not allow: bytes that are not UTF-8,
/// which are kept as they are, and references and `&` that stand for nothing.
pub(crate) fn read_lenient(document: &[u8], mut closed: impl FnMut(&str, LenientText<'_>)) -> Result<(), XmlReadError> {
    let mut reader = XmlReader::lenient(document);
    let mut path = String::with_capacity(64);
    let mut texts = Vec::with_capacity(256);
    // Of each open element: the start offsets of its path and text, and whether the text is exact so far.
    let mut open = Vec::with_capacity(MAX_DEPTH);
    while let Some(token) = reader.next_token()? {
        let start = texts.len();
        let is_exact = match token {
            XmlToken::Start(element) => {
                open.push((path.len(), texts.len(), true));
                if open.len() > 1 {
                    path.push('/');
                }
                path.push_str(&element.local_name());
                continue;
            }
            XmlToken::End => {
                let (path_start, text_start, is_exact) = open.pop().ok_or(XmlReadError::Malformed)?;
                closed(&path, LenientText { bytes: &texts[text_start..], is_exact });
                path.truncate(path_start);
                texts.truncate(text_start);
                continue;
            }
            XmlToken::Text(piece) => {
                texts.extend_from_slice(&piece);
                // The parser returns an `&` only as the start of a piece, and only if it starts no reference.
                !piece.starts_with(b"&")
            }
            XmlToken::CData(piece) => {
                texts.extend_from_slice(&piece);
                true
            }
            XmlToken::Reference(name) => push_reference(&name, &mut texts),
        };
        if let Some((_, _, all_exact)) = open.last_mut() {
            *all_exact &= is_exact;
        } else if !texts[start..].trim_ascii().is_empty() {
            return Err(XmlReadError::Malformed);
        } else {
            texts.truncate(start);
        }
    }
    Ok(())
}

/// Appends what a reference such as `&amp;` or `&#0;` stands for, or the reference itself if it stands for nothing.
/// Returns whether it stands for something. XML allows no zero byte, but a key may have one.
fn push_reference(name: &[u8], text: &mut Vec<u8>) -> bool {
    let name_text = std::str::from_utf8(name).unwrap_or_default();
    let character = name_text.strip_prefix('#').and_then(|number| {
        let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
        // The conversion would accept a sign.
        let code = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix));
        char::from_u32(code?.ok()?)
    });
    if let Some(character) = character {
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return true;
    }
    if let Some(meaning) = resolve_predefined_entity(name_text) {
        text.extend_from_slice(meaning.as_bytes());
        return true;
    }
    text.push(b'&');
    text.extend_from_slice(name);
    text.push(b';');
    false
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
    fn events_have_spans_and_an_empty_element_is_a_start_and_an_end() {
        let document = "<?xml version=\"1.0\"?>\n<n:T a='1'>x&amp;\r\n<![CDATA[<]]><E/></n:T>";
        let events = |origin| {
            let mut reader = XmlReader::new(document, origin);
            let mut events = Vec::new();
            while let Some(event) = reader.next_event().expect("a document") {
                let text = match event {
                    XmlEvent::Start(element) => format!("+{}", element.name()),
                    XmlEvent::End => "-".to_owned(),
                    XmlEvent::Text(text) => text.into_owned(),
                };
                events.push((text, document[reader.span().clone()].to_owned()));
            }
            events
        };
        let expected = |line_end: &str| {
            let pairs = [
                ("+n:T", "<n:T a='1'>"),
                ("x", "x"),
                ("&", "&amp;"),
                (line_end, "\r\n"),
                ("<", "<![CDATA[<]]>"),
                ("+E", "<E/>"),
                ("-", ""),
                ("-", "</n:T>"),
            ];
            pairs.map(|(text, span)| (text.to_owned(), span.to_owned())).to_vec()
        };
        assert_eq!(events(XmlOrigin::Server), expected("\r\n"));
        assert_eq!(events(XmlOrigin::File), expected("\n"));
    }

    #[test]
    fn only_files_must_declare_utf8() {
        let document = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>";
        assert!(XmlReader::new(document, XmlOrigin::Server).next_event().is_ok());
        let problem = XmlReader::new(document, XmlOrigin::File).next_event().expect_err("another encoding");
        assert_eq!(problem, XmlProblem { kind: XmlProblemKind::Encoding, span: 0..document.len() - "<a/>".len() });
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

    fn lenient(document: &[u8]) -> Result<Vec<(String, Vec<u8>, bool)>, XmlReadError> {
        let mut leaves = Vec::new();
        read_lenient(document, |path, text| leaves.push((path.to_owned(), text.bytes.to_vec(), text.is_exact)))?;
        Ok(leaves)
    }

    #[test]
    fn texts_that_xml_does_not_allow_are_read_leniently() {
        for (text, bytes, is_exact) in [
            (&b"caf\xe9"[..], &b"caf\xe9"[..], true),
            (b"a\x00\x01b", b"a\x00\x01b", true),
            (b"a&#0;b&#x1f;", b"a\0b\x1f", true),
            (b"&#x48;&#72;&amp;&lt;", b"HH&<", true),
            (b"a<![CDATA[&\xff<]]>b", b"a&\xff<b", true),
            (b"a&#xD800;b", b"a&#xD800;b", false),
            (b"a&#x110000;", b"a&#x110000;", false),
            (b"a&#+1;", b"a&#+1;", false),
            (b"a&#;", b"a&#;", false),
            (b"a&eacute;b", b"a&eacute;b", false),
            (b"a&\xff;b", b"a&\xff;b", false),
            (b"R&D", b"R&D", false),
            (b"R & D &amp; &", b"R & D & &", false),
        ] {
            let mut document = b"<T><K>".to_vec();
            document.extend_from_slice(text);
            document.extend_from_slice(b"</K><K>b</K></T>\n");
            let leaf = |text: &[u8], is_exact| ("T/K".to_owned(), text.to_vec(), is_exact);
            let expected = vec![leaf(bytes, is_exact), leaf(b"b", true), ("T".to_owned(), Vec::new(), true)];
            assert_eq!(lenient(&document), Ok(expected), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn leniency_ends_at_the_structure() {
        let bomb = b"<!DOCTYPE l [<!ENTITY a \"aaaa\">]><l>&a;</l>";
        for (document, fault) in [
            (&b""[..], XmlReadError::Malformed),
            (b"<a>", XmlReadError::Malformed),
            (b"<a></b>", XmlReadError::Malformed),
            (b"<a/>\xff", XmlReadError::Malformed),
            (b"&amp;<a/>", XmlReadError::Malformed),
            (b"<a/><a/>", XmlReadError::Malformed),
            (b"<a>x<y</a>", XmlReadError::Malformed),
            (bomb, XmlReadError::DocumentType),
        ] {
            assert_eq!(lenient(document), Err(fault), "{}", document.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn never_panics(document in "[<>/a&;#!\\[\\]x ?\"=-]{0,60}") {
            let _ = leaves(&document);
        }

        /// What is read strictly is read leniently as the same; what is read leniently is never more than the document.
        #[test]
        fn lenient_and_strict_agree(document in "(<a>|<b/>|</a>|&amp;|&x;|&#x?[0-9]{1,3};|[a-c&; é]){0,20}") {
            let strict = leaves(&document);
            let lenient = lenient(document.as_bytes());
            if let Ok(strict) = strict {
                let read = lenient.expect("what is strictly a document is one").into_iter();
                let read: Vec<_> =
                    read.map(|(path, text, _)| format!("{path}={}", String::from_utf8_lossy(&text))).collect();
                prop_assert_eq!(read, strict);
            }
        }

        #[test]
        fn every_byte_of_a_text_is_kept(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let text: Vec<u8> = text.into_iter().filter(|byte| !matches!(byte, b'<' | b'&')).collect();
            let document = [b"<a>".as_slice(), &text, b"</a>"].concat();
            prop_assert_eq!(lenient(&document), Ok(vec![("a".to_owned(), text, true)]));
        }
    }
}
