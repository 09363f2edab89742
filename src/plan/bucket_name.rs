//! What is wrong with the name of a bucket on any server, one reason at a time.

use std::borrow::Cow;

use crate::toml_reader::quote_for_message;

/// The problem with a name, as in `contains upper-case letters`.
pub(crate) type BucketNameProblem = Cow<'static, str>;

/// Returns why a text cannot be the name of a bucket on any server. Such a name could match several buckets in a policy,
/// or become part of a host name and send signed requests elsewhere.
pub(crate) fn lax_problem(name: &str) -> Option<BucketNameProblem> {
    if name.is_empty() {
        return Some("is missing".into());
    }
    if name.contains('/') || name.contains(':') {
        return Some("is a URL, an ARN or a path; use only the name".into());
    }
    character_problem(name, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// Returns what is wrong with the length of a name: every service requires at least three characters.
pub(super) fn length_problem(name: &str, max: usize) -> Option<BucketNameProblem> {
    match name.chars().count() {
        0 => Some("is empty (minimum: 3 characters)".into()),
        1 => Some("is too short: 1 character (minimum 3)".into()),
        2 => Some("is too short: 2 characters (minimum 3)".into()),
        count if count <= max => None,
        count => Some(format!("is too long: {count} characters (maximum {max})").into()),
    }
}

/// Returns the problem with the first character that is not allowed.
pub(super) fn character_problem(name: &str, allowed: impl Fn(&char) -> bool) -> Option<BucketNameProblem> {
    Some(match name.chars().find(|c| !allowed(c))? {
        '_' => "contains an underscore".into(),
        c if c.is_whitespace() => "contains white space".into(),
        c => format!("contains `{}`", quote_for_message(&c.to_string())).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_named() {
        for name in ["abc", "b", "My_Bucket", "a..b", &"a".repeat(300)] {
            assert_eq!(lax_problem(name), None, "{name}");
        }
        for (name, problem) in [
            ("", "is missing"),
            ("arn:aws:s3:::b", "is a URL, an ARN or a path; use only the name"),
            ("*", "contains `*`"),
            ("b c", "contains white space"),
            ("b\u{1b}c", "contains `\\u{1b}`"),
        ] {
            assert_eq!(lax_problem(name).as_deref(), Some(problem), "{name}");
        }
        assert_eq!(length_problem(&"é".repeat(64), 63).as_deref(), Some("is too long: 64 characters (maximum 63)"));
    }
}
