//! Tags: limits on their number, length and characters. Sources: the tables of limits in the tagging pages of AWS and
//! OSS.

use batchplan_store::object::{MAX_TAGS, TagSet};

use super::PlanCheckContext;
use crate::diagnostics::FileProblem;
use crate::plan::parser::{PlanParser, SpannedValue, TextSpan};
use crate::plan::safe_text::quote_for_message;
use crate::plan::value_types::TagsValue;

/// The maximum length of a tag key, in characters, on AWS and on OSS.
const MAX_KEY_CHARS: usize = 128;

/// The maximum length of a tag value, in characters.
const MAX_VALUE_CHARS: usize = 256;

/// Checks tags to set.
pub(super) fn check(at: &SpannedValue<TagsValue>, context: &PlanCheckContext<'_>, walk: &mut PlanParser) -> TagSet {
    let TagsValue(tags) = &at.value;
    for (key, value) in tags {
        check_key(&key.value, &key.span, context, walk);
        check_value(value, context, walk);
    }
    if tags.is_empty() {
        walk.push(
            FileProblem::new("there are no tags to set")
                .label(at.span.clone(), "empty")
                .help("to remove all tags, use [operation.delete_object_tagging]"),
        );
    }
    if let Some((eleventh, _)) = tags.get(MAX_TAGS) {
        walk.push(
            FileProblem::new(format!("too many tags: {}", tags.len()))
                .label(eleventh.span.clone(), "the eleventh")
                .help(format!("an object can have at most {MAX_TAGS} tags")),
        );
    }
    let bytes: usize = tags.iter().map(|(key, value)| key.value.len() + value.value.len()).sum();
    if let Some((rules, max)) = context.rules.and_then(|rules| Some((rules, rules.tags.max_bytes?)))
        && bytes > max
    {
        walk.push(
            FileProblem::new("the tags are too large in total")
                .label(at.span.clone(), format!("{bytes} bytes of keys and values"))
                .help(format!("{} allows at most {max} bytes", rules.service)),
        );
    }
    tags.iter().map(|(key, value)| (key.value.as_str(), value.value.as_str())).collect()
}

/// Checks the key of a tag to set or remove.
pub(super) fn check_key(key: &str, span: &TextSpan, context: &PlanCheckContext<'_>, walk: &mut PlanParser) {
    let chars = key.chars().count();
    if !(1..=MAX_KEY_CHARS).contains(&chars) {
        walk.push(
            FileProblem::new("a tag key is empty or too long")
                .label(span.clone(), format!("{chars} characters"))
                .help(format!("1 to {MAX_KEY_CHARS} characters")),
        );
    }
    let reserved = key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    if reserved && context.rules.is_none_or(|rules| rules.tags.reserves_aws_keys) {
        report_unless_lenient(
            FileProblem::new("a tag key is reserved")
                .label(span.clone(), "starts with `aws:`")
                .help("only AWS can set and remove `aws:` tags"),
            context,
            walk,
        );
    }
    check_characters(key, span, context, walk);
}

fn check_value(value: &SpannedValue<String>, context: &PlanCheckContext<'_>, walk: &mut PlanParser) {
    let chars = value.value.chars().count();
    if chars > MAX_VALUE_CHARS {
        walk.push(
            FileProblem::new("a tag value is too long")
                .label(value.span.clone(), format!("{chars} characters"))
                .help(format!("at most {MAX_VALUE_CHARS} characters")),
        );
    }
    check_characters(&value.value, &value.span, context, walk);
}

fn check_characters(text: &str, span: &TextSpan, context: &PlanCheckContext<'_>, walk: &mut PlanParser) {
    let Some(rules) = context.rules else { return };
    let allowed = rules.tags.symbols;
    let Some(odd) = text.chars().find(|c| !(c.is_alphabetic() || c.is_numeric() || *c == ' ' || allowed.contains(*c)))
    else {
        return;
    };
    let spaced: Vec<_> = allowed.chars().map(String::from).collect();
    report_unless_lenient(
        FileProblem::new("a tag contains an invalid character")
            .label(span.clone(), format!("`{}`", quote_for_message(&odd.to_string())))
            .help(format!("allowed are letters, digits, spaces and {}", spaced.join(" "))),
        context,
        walk,
    );
}

/// Reports a problem; only as a warning for S3-compatible servers, which may be less strict than S3.
fn report_unless_lenient(problem: FileProblem, context: &PlanCheckContext<'_>, walk: &mut PlanParser) {
    walk.push(if context.rules.is_some_and(|rules| rules.is_lenient) { problem.warning() } else { problem });
}
