//! Bucket names: the rules of AWS, which OSS shares except for the dot.

use super::Context;
use crate::diagnostics::Problem;
use crate::object::Bucket;
use crate::plan::leaf::Text;
use crate::plan::walk::{At, Walk};
use crate::store::Provider;

pub(super) fn check(at: &At<Text<1, 255>>, context: &Context<'_>, walk: &mut Walk) -> Option<Bucket> {
    let name = at.value.0.as_str();
    match complaint(name, context.provider) {
        None => Some(Bucket::new(name)),
        Some(complaint) => {
            let problem = Problem::new("this is no bucket name").label(at.span.clone(), complaint).help(rule(context));
            // S3-compatible servers may have buckets from before the rules, or not have these rules.
            let lax =
                context.is(Provider::S3) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            walk.push(if lax { problem.warning() } else { problem });
            lax.then(|| Bucket::new(name))
        }
    }
}

fn rule(context: &Context<'_>) -> &'static str {
    if context.is(Provider::Oss) {
        "3 to 63 lower-case letters, digits and hyphens; a letter or digit at both ends"
    } else {
        "3 to 63 lower-case letters, digits, hyphens and dots; a letter or digit at both ends"
    }
}

fn complaint(name: &str, provider: Option<Provider>) -> Option<&'static str> {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let dots = provider != Some(Provider::Oss);
    if name.contains('/') || name.contains(':') {
        return Some("only the name: no URL, no ARN, no path");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("has upper-case letters");
    }
    if name.contains('.') && !dots {
        return Some("OSS allows no dots");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') {
        return Some("has a character that names do not have");
    }
    if !(3..=63).contains(&name.len()) {
        return Some("has the wrong length");
    }
    if !edge(name.bytes().next()) || !edge(name.bytes().next_back()) {
        return Some("begins or ends with a hyphen or a dot");
    }
    if name.contains("..") || name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some("has two dots in a row, or is an IP address");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_the_services_rules() {
        for name in ["abc", "my-bucket", "a1.b2", "0-0", &"a".repeat(63)] {
            assert_eq!(complaint(name, Some(Provider::Aws)), None, "{name}");
        }
        for name in ["ab", "My", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "s3://b", "büc", &"a".repeat(64)] {
            assert!(complaint(name, Some(Provider::Aws)).is_some(), "{name}");
        }
        assert!(complaint("a.b", Some(Provider::Oss)).is_some());
    }
}
