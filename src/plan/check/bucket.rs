//! Bucket names: the rules of AWS, which OSS shares except for the dot.

use batchplan_store::object::BucketName;

use super::context::PlanCheckContext;
use crate::diagnostics::FileProblem;
use crate::toml_reader::{DocumentReader, SpannedValue};

pub(super) fn check(
    at: &SpannedValue<String>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<BucketName> {
    let name = at.value.as_str();
    let dot_problem = context.rules.and_then(|rules| rules.bucket_dot_problem);
    match bucket_name_problem(name, dot_problem) {
        None => Some(BucketName::new(name)),
        Some(complaint) => {
            let problem = FileProblem::new("invalid bucket name")
                .label(at.span.clone(), complaint)
                .help(naming_rule(dot_problem.is_none()));
            // S3-compatible servers may have buckets from before the rules, or not have these rules.
            let lax = context.rules.is_some_and(|rules| rules.is_lenient)
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            reader.push(if lax { problem.warning() } else { problem });
            lax.then(|| BucketName::new(name))
        }
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
