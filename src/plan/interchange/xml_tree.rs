//! Parses an XML document into a tree. The input is untrusted: a document type is rejected, so that there are no
//! entities but the five of XML, and depth, names and attributes are bounded.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::tree::{DocumentNode, MAX_DEPTH, NodeContent};
use crate::diagnostics::FileProblem;
use crate::plan::parser::TextSpan;
use crate::plan::safe_text::quote_for_message;

/// The maximum length of an element's name, in bytes. The names of the service have at most thirty.
const MAX_NAME: usize = 64;

/// Parses a document and returns its root.
pub(super) fn read(text: &str) -> Result<DocumentNode, FileProblem> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<OpenElement> = Vec::new();
    let mut root = None;
    loop {
        let start = position(reader.buffer_position());
        let event = reader.read_event();
        let span = start..position(reader.buffer_position());
        let event = event.map_err(|error| {
            let at = position(reader.error_position());
            malformed(at..at, &quote_for_message(&error.to_string()))
        })?;
        match event {
            Event::Start(element) => open.push(OpenElement::new(&element, span, open.len(), root.is_some())?),
            Event::Empty(element) => {
                let opened = OpenElement::new(&element, span.clone(), open.len(), root.is_some())?;
                close_element(opened, span.end..span.end, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let opened = open.pop().ok_or_else(|| malformed(span.clone(), "no matching start tag"))?;
                let inside = opened.span.end..span.start;
                close_element(opened, inside, &mut open, &mut root)?;
            }
            Event::Text(piece) => {
                push_text(
                    &piece.xml10_content().map_err(|_| malformed(span.clone(), "not UTF-8"))?,
                    &trimmed_span(text, &span),
                    &mut open,
                )?;
            }
            Event::CData(piece) => {
                push_text(&piece.xml10_content().map_err(|_| malformed(span.clone(), "not UTF-8"))?, &span, &mut open)?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| malformed(span.clone(), "not UTF-8"))?;
                match reference.resolve_char_ref() {
                    Ok(Some(character)) => push_text(character.encode_utf8(&mut [0; 4]), &span, &mut open)?,
                    Ok(None) => push_text(
                        resolve_predefined_entity(&name).ok_or_else(|| unknown_entity_problem(&span))?,
                        &span,
                        &mut open,
                    )?,
                    Err(_) => return Err(malformed(span, "not a character")),
                }
            }
            Event::DocType(_) => return Err(document_type_problem(&span)),
            Event::Decl(declaration) => check_encoding(&declaration, &span)?,
            Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match (root, open.pop()) {
        (Some(root), None) => Ok(root),
        (_, Some(unclosed)) => Err(malformed(unclosed.span, "never closed")),
        (None, None) => Err(malformed(0..0, "no element")),
    }
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
    fn new(element: &BytesStart<'_>, span: TextSpan, depth: usize, rooted: bool) -> Result<Self, FileProblem> {
        if rooted && depth == 0 {
            return Err(malformed(span, "a second root element"));
        }
        if depth >= MAX_DEPTH {
            let problem = FileProblem::new("the document is nested too deeply").label(span, "one level too many");
            return Err(problem.help("a CreateJobRequest has six levels"));
        }
        let name = String::from_utf8_lossy(element.name().into_inner()).into_owned();
        if name.len() > MAX_NAME {
            let problem = FileProblem::new("an element name is too long");
            return Err(problem
                .label(span.start..span.start, format!("{} bytes", name.len()))
                .help("no element of a CreateJobRequest has such a name"));
        }
        check_attributes(element, &span, depth)?;
        Ok(Self { name, span, text: String::new(), text_span: None, members: Vec::new() })
    }
}

/// Rejects all attributes, except for the namespace of the root.
fn check_attributes(element: &BytesStart<'_>, span: &TextSpan, depth: usize) -> Result<(), FileProblem> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| malformed(span.clone(), &quote_for_message(&error.to_string())))?;
        let name = attribute.key.into_inner();
        if depth == 0 && name == b"xmlns" {
            if attribute.value.windows(9).any(|part| part == b"amazonaws") {
                let problem = FileProblem::new("this is the XML of the AWS API").label(span.clone(), "its namespace");
                return Err(problem.help("import the JSON that `aws s3control create-job --cli-input-json` takes"));
            }
            continue;
        }
        let title = format!("unknown attribute `{}`", quote_for_message(&String::from_utf8_lossy(name)));
        return Err(FileProblem::new(title)
            .label(span.clone(), "in this element")
            .help("remove it: elements have no attributes"));
    }
    Ok(())
}

fn close_element(
    opened: OpenElement,
    inside: TextSpan,
    open: &mut [OpenElement],
    root: &mut Option<DocumentNode>,
) -> Result<(), FileProblem> {
    let OpenElement { name, span, text, text_span: said, members } = opened;
    let content = if members.is_empty() {
        NodeContent::XmlText(text)
    } else if let Some(said) = said {
        let problem = FileProblem::new(format!("`{}` contains both text and elements", quote_for_message(&name)));
        return Err(problem.label(said, "this text").help("an element can contain text or elements, not both"));
    } else {
        NodeContent::Members(members)
    };
    let node = DocumentNode { name, name_span: span, content_span: inside, content };
    match open.last_mut() {
        Some(parent) => parent.members.push(node),
        None => *root = Some(node),
    }
    Ok(())
}

/// Returns the span without the whitespace around it.
fn trimmed_span(text: &str, span: &TextSpan) -> TextSpan {
    let Some(piece) = text.get(span.clone()) else { return span.clone() };
    let start = span.start + piece.len() - piece.trim_start().len();
    start..(start + piece.trim().len())
}

fn push_text(piece: &str, span: &TextSpan, open: &mut [OpenElement]) -> Result<(), FileProblem> {
    match open.last_mut() {
        Some(element) => {
            element.text.push_str(piece);
            if element.text_span.is_none() && !piece.trim().is_empty() {
                element.text_span = Some(span.clone());
            }
            Ok(())
        }
        None if piece.trim().is_empty() => Ok(()),
        None => Err(malformed(span.clone(), "text outside the root element")),
    }
}

/// Rejects a document that declares another encoding, because its characters would be misread.
fn check_encoding(declaration: &BytesDecl<'_>, span: &TextSpan) -> Result<(), FileProblem> {
    let Some(Ok(encoding)) = declaration.encoding() else { return Ok(()) };
    let known = [&b"utf-8"[..], b"us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(&encoding));
    if known {
        return Ok(());
    }
    let problem =
        FileProblem::new("the document declares an encoding other than UTF-8").label(span.clone(), "not UTF-8");
    Err(problem.help("save it as UTF-8, and declare UTF-8 in its first line"))
}

fn document_type_problem(span: &TextSpan) -> FileProblem {
    let start = span.start..span.start + "<!DOCTYPE".len();
    FileProblem::new("document types are not allowed")
        .label(start, "may define entities")
        .help("remove it: requests have none, and entities can make a small document very large")
}

fn unknown_entity_problem(span: &TextSpan) -> FileProblem {
    FileProblem::new("unknown entity")
        .label(span.clone(), "not defined")
        .help("use &amp; &lt; &gt; &quot; &apos; or numbers such as &#233;")
}

fn malformed(span: TextSpan, label: &str) -> FileProblem {
    FileProblem::new("invalid XML").label(span, label).help("export the request again, or fix it here")
}

/// Converts a position. Documents are far smaller than what a `usize` can count.
fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
