//! Bucket names: the rules of AWS, which OSS shares except for the dot.

use batchplan_store::StoreProvider;
use batchplan_store::object::BucketName;

use super::PlanCheckContext;
use crate::diagnostics::FileProblem;
use crate::plan::parser::{PlanParser, SpannedValue};
use crate::plan::value_types::TextValue;

pub(super) fn check(
    at: &SpannedValue<TextValue<1, 255>>,
    context: &PlanCheckContext<'_>,
    walk: &mut PlanParser,
) -> Option<BucketName> {
    let name = at.value.0.as_str();
    match bucket_name_problem(name, context.provider) {
        None => Some(BucketName::new(name)),
        Some(complaint) => {
            let problem =
                FileProblem::new("invalid bucket name").label(at.span.clone(), complaint).help(naming_rule(context));
            // S3-compatible servers may have buckets from before the rules, or not have these rules.
            let lax = context.is_provider(StoreProvider::S3)
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            walk.push(if lax { problem.warning() } else { problem });
            lax.then(|| BucketName::new(name))
        }
    }
}

fn naming_rule(context: &PlanCheckContext<'_>) -> &'static str {
    if context.is_provider(StoreProvider::Oss) {
        "3 to 63 lower-case letters, digits and hyphens; a letter or digit at both ends"
    } else {
        "3 to 63 lower-case letters, digits, hyphens and dots; a letter or digit at both ends"
    }
}

fn bucket_name_problem(name: &str, provider: Option<StoreProvider>) -> Option<&'static str> {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let dots = provider != Some(StoreProvider::Oss);
    if name.contains('/') || name.contains(':') {
        return Some("only the name: no URL, no ARN, no path");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("contains upper-case letters");
    }
    if name.contains('.') && !dots {
        return Some("OSS does not allow dots");
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
            assert_eq!(bucket_name_problem(name, Some(StoreProvider::Aws)), None, "{name}");
        }
        for name in ["ab", "My", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "s3://b", "büc", &"a".repeat(64)] {
            assert!(bucket_name_problem(name, Some(StoreProvider::Aws)).is_some(), "{name}");
        }
        assert!(bucket_name_problem("a.b", Some(StoreProvider::Oss)).is_some());
    }
}
