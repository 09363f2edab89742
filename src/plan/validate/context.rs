//! What the checks of all tables share: the inputs of the rules, names of buckets and files, and problems with two keys
//! of a table.

use std::path::{Path, PathBuf};

use batchplan_store::object::BucketName;
use jiff::Timestamp;

use crate::diagnostics::FileProblem;
use crate::provider::ProviderRules;
use crate::toml_reader::{DocumentReader, ParsedField, SpannedValue, TextSpan};

/// The inputs that the rules depend on.
pub(super) struct PlanCheckContext<'a> {
    /// The rules of the plan's provider. `None` if it does not name a valid one; these rules are then skipped.
    pub(super) rules: Option<&'static ProviderRules>,
    /// The folder that relative paths are resolved against.
    pub(super) folder: &'a Path,
    /// The time that ages are counted back from.
    pub(super) now: Timestamp,
}

impl PlanCheckContext<'_> {
    /// Resolves a path of the plan against its folder. Warns if there is no such file.
    pub(super) fn resolve_file(&self, at: &SpannedValue<String>, reader: &mut DocumentReader) -> PathBuf {
        let path = self.folder.join(&at.value);
        if !path.is_file() {
            reader.push(
                FileProblem::new("the file does not exist yet")
                    .label(at.span.clone(), "not found, relative to the plan's folder")
                    .help("it must exist when you apply the plan")
                    .warning(),
            );
        }
        path
    }

    /// Checks the name of a bucket: by the rules of AWS, which OSS shares except for the dot.
    pub(super) fn bucket(&self, at: &SpannedValue<String>, reader: &mut DocumentReader) -> Option<BucketName> {
        let name = at.value.as_str();
        let dot_problem = self.rules.and_then(|rules| rules.bucket_dot_problem);
        match bucket_name_problem(name, dot_problem) {
            None => Some(BucketName::new(name)),
            Some(complaint) => {
                let problem = FileProblem::new("invalid bucket name")
                    .label(at.span.clone(), complaint)
                    .help(naming_rule(dot_problem.is_none()));
                // S3-compatible servers may have buckets from before the rules, or not have these rules.
                let lax = self.rules.is_some_and(|rules| rules.is_lenient)
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
                reader.push(if lax { problem.warning() } else { problem });
                lax.then(|| BucketName::new(name))
            }
        }
    }
}

/// Reports two keys that exclude each other.
pub(super) fn report_conflict<A, B>(
    first: &SpannedValue<A>,
    second: &SpannedValue<B>,
    title: &str,
    help: &str,
    reader: &mut DocumentReader,
) {
    let (upper, lower) =
        if first.key.start <= second.key.start { (&first.key, &second.key) } else { (&second.key, &first.key) };
    reader.push(FileProblem::new(title).label(upper.clone(), "this").label(lower.clone(), "and this").help(help));
}

pub(super) fn key_span<T>(field: &ParsedField<T>) -> Option<TextSpan> {
    field.present().map(|at| at.key.clone())
}

/// Reports a key that is not allowed beside another.
pub(super) fn report_not_allowed<A>(field: &ParsedField<A>, title: &str, help: &str, reader: &mut DocumentReader) {
    if let Some(at) = field.present() {
        reader.push(FileProblem::new(title).label(at.key.clone(), "not allowed here").help(help));
    }
}

fn naming_rule(allows_dots: bool) -> &'static str {
    if allows_dots {
        "3 to 63 lower-case letters, digits, hyphens and dots; a letter or digit at both ends"
    } else {
        "3 to 63 lower-case letters, digits and hyphens; a letter or digit at both ends"
    }
}

/// Returns what is wrong with a bucket name. `dot_problem` is what is wrong with a dot, if it is not allowed.
fn bucket_name_problem(name: &str, dot_problem: Option<&'static str>) -> Option<&'static str> {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if name.contains('/') || name.contains(':') {
        return Some("only the name: no URL, no ARN, no path");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("contains upper-case letters");
    }
    if name.contains('.') && dot_problem.is_some() {
        return dot_problem;
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') {
        return Some("contains an invalid character");
    }
    if !(3..=63).contains(&name.len()) {
        return Some("must have 3 to 63 characters");
    }
    if !edge(name.bytes().next()) || !edge(name.bytes().next_back()) {
        return Some("begins or ends with a hyphen or a dot");
    }
    if name.contains("..") || name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some("contains two dots in a row, or is an IP address");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_the_naming_rules_of_each_service() {
        for name in ["abc", "my-bucket", "a1.b2", "0-0", &"a".repeat(63)] {
            assert_eq!(bucket_name_problem(name, None), None, "{name}");
        }
        for name in ["ab", "My", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "s3://b", "büc", &"a".repeat(64)] {
            assert!(bucket_name_problem(name, None).is_some(), "{name}");
        }
        assert!(bucket_name_problem("a.b", Some("no dots")).is_some());
    }
}
