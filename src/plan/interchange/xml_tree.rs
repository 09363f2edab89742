//! Parses an XML document into a tree. The input is untrusted: a document type is rejected, so that there are no
//! entities but the five of XML, and depth, names and attributes are bounded.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::tree::{Content, MAX_DEPTH, Node};
use crate::diagnostics::Problem;
use crate::plan::text::shown;
use crate::plan::walk::Span;

/// The maximum length of an element's name, in bytes. The names of the service have at most thirty.
const MAX_NAME: usize = 64;

/// Parses a document and returns its root.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        let start = position(reader.buffer_position());
        let event = reader.read_event();
        let span = start..position(reader.buffer_position());
        let event = event.map_err(|error| {
            let at = position(reader.error_position());
            malformed(at..at, &shown(&error.to_string()))
        })?;
        match event {
            Event::Start(element) => open.push(Open::new(&element, span, open.len(), root.is_some())?),
            Event::Empty(element) => {
                let opened = Open::new(&element, span.clone(), open.len(), root.is_some())?;
                close(opened, span.end..span.end, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let opened = open.pop().ok_or_else(|| malformed(span.clone(), "closes nothing"))?;
                let inside = opened.span.end..span.start;
                close(opened, inside, &mut open, &mut root)?;
            }
            Event::Text(piece) => {
                push(
                    &piece.xml10_content().map_err(|_| malformed(span.clone(), "not UTF-8"))?,
                    &said(text, &span),
                    &mut open,
                )?;
            }
            Event::CData(piece) => {
                push(&piece.xml10_content().map_err(|_| malformed(span.clone(), "not UTF-8"))?, &span, &mut open)?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| malformed(span.clone(), "not UTF-8"))?;
                match reference.resolve_char_ref() {
                    Ok(Some(character)) => push(character.encode_utf8(&mut [0; 4]), &span, &mut open)?,
                    Ok(None) => push(resolve_predefined_entity(&name).ok_or_else(|| entity(&span))?, &span, &mut open)?,
                    Err(_) => return Err(malformed(span, "no character")),
                }
            }
            Event::DocType(_) => return Err(document_type(&span)),
            Event::Decl(declaration) => encoding(&declaration, &span)?,
            Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match (root, open.pop()) {
        (Some(root), None) => Ok(root),
        (_, Some(unclosed)) => Err(malformed(unclosed.span, "is never closed")),
        (None, None) => Err(malformed(0..0, "no element in it")),
    }
}

/// An element that is not closed yet.
struct Open {
    name: String,
    span: Span,
    text: String,
    /// The span of text that is not only whitespace, if there is any.
    said: Option<Span>,
    members: Vec<Node>,
}

impl Open {
    fn new(element: &BytesStart<'_>, span: Span, depth: usize, rooted: bool) -> Result<Self, Problem> {
        if rooted && depth == 0 {
            return Err(malformed(span, "a second root"));
        }
        if depth >= MAX_DEPTH {
            let problem = Problem::new("the document is nested too deeply").label(span, "one level too many");
            return Err(problem.help("a CreateJobRequest has six levels"));
        }
        let name = String::from_utf8_lossy(element.name().into_inner()).into_owned();
        if name.len() > MAX_NAME {
            let problem = Problem::new("an element has too long a name");
            return Err(problem
                .label(span.start..span.start, format!("{} bytes", name.len()))
                .help("no element of a CreateJobRequest is called so"));
        }
        attributes(element, &span, depth)?;
        Ok(Self { name, span, text: String::new(), said: None, members: Vec::new() })
    }
}

/// Rejects all attributes, except for the namespace of the root.
fn attributes(element: &BytesStart<'_>, span: &Span, depth: usize) -> Result<(), Problem> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| malformed(span.clone(), &shown(&error.to_string())))?;
        let name = attribute.key.into_inner();
        if depth == 0 && name == b"xmlns" {
            if attribute.value.windows(9).any(|part| part == b"amazonaws") {
                let problem =
                    Problem::new("this is the XML of AWS's own protocol").label(span.clone(), "its namespace");
                return Err(problem.help("import the JSON that `aws s3control create-job --cli-input-json` takes"));
            }
            continue;
        }
        let title = format!("the attribute `{}` is not known", shown(&String::from_utf8_lossy(name)));
        return Err(Problem::new(title).label(span.clone(), "in here").help("elements have no attributes: remove it"));
    }
    Ok(())
}

fn close(opened: Open, inside: Span, open: &mut [Open], root: &mut Option<Node>) -> Result<(), Problem> {
    let Open { name, span, text, said, members } = opened;
    let content = if members.is_empty() {
        Content::Bare(text)
    } else if let Some(said) = said {
        let problem = Problem::new(format!("there is text among the elements of `{}`", shown(&name)));
        return Err(problem.label(said, "this text").help("an element holds a text or elements, not both"));
    } else {
        Content::Members(members)
    };
    let node = Node { name, span, at: inside, content };
    match open.last_mut() {
        Some(parent) => parent.members.push(node),
        None => *root = Some(node),
    }
    Ok(())
}

/// Returns the span without the whitespace around it.
fn said(text: &str, span: &Span) -> Span {
    let Some(piece) = text.get(span.clone()) else { return span.clone() };
    let start = span.start + piece.len() - piece.trim_start().len();
    start..(start + piece.trim().len())
}

fn push(piece: &str, span: &Span, open: &mut [Open]) -> Result<(), Problem> {
    match open.last_mut() {
        Some(element) => {
            element.text.push_str(piece);
            if element.said.is_none() && !piece.trim().is_empty() {
                element.said = Some(span.clone());
            }
            Ok(())
        }
        None if piece.trim().is_empty() => Ok(()),
        None => Err(malformed(span.clone(), "text outside of the root")),
    }
}

/// Rejects a document that declares another encoding, because its characters would be misread.
fn encoding(declaration: &BytesDecl<'_>, span: &Span) -> Result<(), Problem> {
    let Some(Ok(encoding)) = declaration.encoding() else { return Ok(()) };
    let known = [&b"utf-8"[..], b"us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(&encoding));
    if known {
        return Ok(());
    }
    let problem = Problem::new("the document says that it is not UTF-8").label(span.clone(), "another encoding");
    Err(problem.help("save it as UTF-8, and say so in its first line"))
}

fn document_type(span: &Span) -> Problem {
    let start = span.start..span.start + "<!DOCTYPE".len();
    Problem::new("a document type is not read")
        .label(start, "may define entities")
        .help("remove it: no request has one, and entities can make a small document very large")
}

fn entity(span: &Span) -> Problem {
    Problem::new("an entity is not known")
        .label(span.clone(), "defined nowhere")
        .help("XML knows &amp; &lt; &gt; &quot; &apos; and numbers such as &#233;")
}

fn malformed(span: Span, label: &str) -> Problem {
    Problem::new("this is no whole XML document").label(span, label).help("export the request again, or mend it here")
}

/// Converts a position. Documents are far smaller than what a `usize` can count.
fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
