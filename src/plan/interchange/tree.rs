//! A request as a tree with spans: what XML and JSON have in common.

use std::collections::BTreeSet;

use crate::diagnostics::FileProblem;
use crate::plan::parser::TextSpan;
use crate::plan::safe_text::{nearest, quote_for_message};

/// The maximum depth of a document. The deepest request, AWS's generator with its filter, has seven levels.
pub(super) const MAX_DEPTH: usize = 16;

/// More problems than this are not kept, so that a hostile document cannot produce megabytes of messages.
const MAX_PROBLEMS: usize = 100;

/// A named node of a document.
#[derive(Debug)]
pub(super) struct DocumentNode {
    /// The name of the element or key; for an item in a list, the name of the list.
    pub(super) name: String,
    /// The span of the name: a start tag, or a key.
    pub(super) name_span: TextSpan,
    /// The span of the content.
    pub(super) content_span: TextSpan,
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

/// The problems of one document, and its word for a node.
#[derive(Debug)]
pub(super) struct ImportPass {
    /// `element` or `key`.
    pub(super) noun: &'static str,
    pub(super) problems: Vec<FileProblem>,
}

impl ImportPass {
    /// Reports something that cannot be imported.
    pub(super) fn report(&mut self, span: &TextSpan, title: impl Into<String>, label: &str, help: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(FileProblem::new(title).label(span.clone(), label).help(help));
        }
    }

    /// Reports a node with content of the wrong kind.
    fn mismatch(&mut self, node: &DocumentNode, wanted: &str) {
        let title = format!("`{}` must contain {wanted}", quote_for_message(&node.name));
        self.report(node.value_span(), title, "wrong type", format!("write {wanted}"));
    }

    /// Reads one of a fixed set of names, and returns the value for it.
    pub(super) fn choice<T: Copy>(&mut self, node: &DocumentNode, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?.trim();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let all = format!("valid values: {}", names.join(", "));
        let help = nearest(text, names).map_or(all.clone(), |near| format!("did you mean `{near}`? {all}"));
        let title = format!("`{}` cannot be `{}` here", quote_for_message(&node.name), quote_for_message(text));
        self.report(node.value_span(), title, "not a valid value", help);
        None
    }

    /// Reads a text.
    pub(super) fn text<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n str> {
        match &node.content {
            NodeContent::XmlText(text) | NodeContent::Text(text) => Some(text),
            _ => {
                self.mismatch(node, "a string");
                None
            }
        }
    }

    /// Reads a truth value.
    pub(super) fn boolean(&mut self, node: &DocumentNode) -> Option<bool> {
        let value = match &node.content {
            NodeContent::Bool(value) => Some(*value),
            NodeContent::XmlText(text) => text.trim().parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.mismatch(node, "true or false");
        }
        value
    }

    /// Reads a whole number that is not negative. Its range is checked when the plan is read.
    pub(super) fn number(&mut self, node: &DocumentNode) -> Option<u64> {
        let digits = match &node.content {
            NodeContent::Number(digits) => digits.as_str(),
            NodeContent::XmlText(text) => text.trim(),
            _ => "",
        };
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // The largest integer in TOML.
        let value = digits.parse().ok().filter(|number| whole && i64::try_from(*number).is_ok());
        if value.is_none() {
            self.mismatch(node, "an integer from 0");
        }
        value
    }

    /// Returns the items of a list.
    pub(super) fn items<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n [DocumentNode]> {
        let NodeContent::Items(items) = &node.content else {
            self.mismatch(node, "a list");
            return None;
        };
        Some(items)
    }

    /// Returns the named children of a node. Each of them must be known and occur once.
    ///
    /// `unsaid` are the names that the service knows and plans do not support, each with what to do.
    pub(super) fn members<'n>(
        &mut self,
        node: &'n DocumentNode,
        known: &[&str],
        unsaid: &[(&str, &str)],
    ) -> Option<NodeMembers<'n>> {
        let members = self.children(node)?;
        let mut seen = BTreeSet::new();
        for member in members {
            let name = member.name.as_str();
            if let Some((_, help)) = unsaid.iter().find(|(unsaid, _)| *unsaid == name) {
                self.report(&member.name_span, format!("plans do not support `{name}`"), "not supported", *help);
            } else if !known.contains(&name) {
                self.report_unknown(member, node, known);
            } else if !seen.insert(name) {
                let title = format!("duplicate {} `{name}`", self.noun);
                self.report(&member.name_span, title, "the second one", "keep one of them");
            }
        }
        Some(NodeMembers { node, members })
    }

    /// Returns the named children of a node, whatever their names.
    pub(super) fn children<'n>(&mut self, node: &'n DocumentNode) -> Option<&'n [DocumentNode]> {
        match &node.content {
            NodeContent::Members(members) => Some(members),
            NodeContent::XmlText(text) if text.trim().is_empty() => Some(&[]),
            _ => {
                let wanted = format!("{}s", self.noun);
                self.mismatch(node, &wanted);
                None
            }
        }
    }

    /// Reports a node that the service does not know, or that is in the wrong place.
    pub(super) fn report_unknown(&mut self, member: &DocumentNode, within: &DocumentNode, known: &[&str]) {
        // Finding the nearest name takes time, and a hostile document has room for many names.
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let name = quote_for_message(&member.name);
        let title = format!("unknown {} `{name}` in `{}`", self.noun, quote_for_message(&within.name));
        let help = match nearest(&member.name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("remove it: `{}` must be empty", quote_for_message(&within.name)),
            None => format!("valid {}s: {}", self.noun, known.join(", ")),
        };
        self.report(&member.name_span, title, "unknown", help);
    }
}

/// The named children of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeMembers<'n> {
    node: &'n DocumentNode,
    members: &'n [DocumentNode],
}

impl<'n> NodeMembers<'n> {
    /// Returns the child of this name, if it is present.
    pub(super) fn get(&self, name: &str) -> Option<&'n DocumentNode> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Returns the child of this name, and reports it if it is missing.
    pub(super) fn required(&self, name: &str, pass: &mut ImportPass) -> Option<&'n DocumentNode> {
        let found = self.get(name);
        if found.is_none() {
            let title = format!("`{name}` is missing in `{}`", quote_for_message(&self.node.name));
            pass.report(&self.node.name_span, title, "needed here", format!("add the {} `{name}`", pass.noun));
        }
        found
    }

    /// Returns the only child, and reports if there is none or more than one.
    pub(super) fn only_child(&self, pass: &mut ImportPass) -> Option<&'n DocumentNode> {
        match self.members {
            [only] => Some(only),
            [] => {
                let title = format!("`{}` is empty", quote_for_message(&self.node.name));
                pass.report(&self.node.name_span, title, "empty", "a request has exactly one operation");
                None
            }
            [_, second, ..] => {
                let title = format!("`{}` contains more than one {}", quote_for_message(&self.node.name), pass.noun);
                pass.report(&second.name_span, title, "the second one", "a request has exactly one operation");
                None
            }
        }
    }
}
