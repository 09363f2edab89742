//! Names of buckets: the rules of AWS, which OSS shares except for the dot, and the names in the place of a bucket that
//! are not of a bucket: access points, directory buckets and others.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>

use std::net::Ipv4Addr;

use batchplan_store::UnsupportedBucket;
use batchplan_store::object::BucketName;

use super::context::PlanCheckContext;
use crate::diagnostics::FileProblem;
use crate::plan::bucket_name::{BucketNameProblem, character_problem, length_problem};
use crate::provider::BucketNaming;
use crate::toml_reader::{DocumentReader, SpannedValue};

/// The only region of AWS with buckets from before 2018 that follow older rules.
const LEGACY_REGION: &str = "us-east-1";

/// The maximum length of a name by the older rules.
const MAX_LEGACY_CHARS: usize = 255;

/// Checks the name of a bucket. `rest_key` is the key beside it for what follows the bucket in a URL.
pub(super) fn check(
    at: &SpannedValue<String>,
    rest_key: &str,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<BucketName> {
    let (name, naming) = (at.value.as_str(), context.rules.map(|rules| rules.bucket_naming));
    let unsupported = if naming == Some(BucketNaming::Aws) { UnsupportedBucket::of_aws(name) } else { None };
    if let Some(UnsupportedBucket { title, label, help }) = unsupported {
        // `arn:aws:s3:::bucket`
        let bucket = name.split_once(":s3:::").map(|(_, bucket)| bucket).filter(|bucket| is_name(bucket));
        let help = bucket.map_or_else(|| help.to_owned(), |bucket| format!("write `bucket = \"{bucket}\"`"));
        reader.push(FileProblem::new(title).label(at.span.clone(), label).help(help));
        return None;
    }
    let dot_problem = context.rules.and_then(|rules| rules.bucket_dot_problem);
    let is_lenient = context.rules.is_some_and(|rules| rules.is_lenient);
    let full_name = name;
    let name = if is_lenient { BucketName::without_tenant(name) } else { name };
    let Some(complaint) = bucket_name_problem(name, dot_problem) else { return Some(BucketName::new(full_name)) };
    let problem = |title| FileProblem::new(title).label(at.span.clone(), complaint.clone());
    let has_old_form = is_name(name);
    let may_be_old = context.region.is_none_or(|region| region == LEGACY_REGION)
        && (3..=MAX_LEGACY_CHARS).contains(&name.len())
        && name.parse::<Ipv4Addr>().is_err();
    let warning = match naming {
        _ if has_old_form && is_lenient => problem("invalid bucket name").help(naming_rule(true)),
        Some(BucketNaming::Aws) if has_old_form && may_be_old => {
            problem("this bucket name breaks the current naming rules").help(
                "check the name; only buckets created in us-east-1 before March 2018 can have it, and requests for \
                 them use path-style URLs",
            )
        }
        _ => {
            let rule = || naming_rule(dot_problem.is_none()).to_owned();
            reader.push(problem("invalid bucket name").help(split_help(name, rest_key).unwrap_or_else(rule)));
            return None;
        }
    };
    reader.push(warning.warning());
    Some(BucketName::new(full_name))
}

/// Checks the name of the bucket of an inventory. The inventory names its own bucket, and is read from no other.
pub(super) fn check_of_inventory(
    at: &SpannedValue<String>,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<BucketName> {
    let bucket = check(at, "latest", context, reader)?;
    if context.rules.is_some_and(|rules| rules.bucket_naming == BucketNaming::Aws) && bucket.is_access_point_alias() {
        reader.push(
            FileProblem::new("an inventory cannot be read through an access point")
                .label(at.span.clone(), "the alias of an access point")
                .help("use the name of the bucket: it must match the bucket that the inventory names"),
        );
    }
    Some(bucket)
}

/// Returns whether a text has only characters of names, by the rules of any year.
fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// Returns what to write in place of a bucket's URL or path. `None` if it does not begin with a bucket.
fn split_help(name: &str, rest_key: &str) -> Option<String> {
    let path = name.strip_prefix("s3://").or_else(|| name.strip_prefix("oss://")).unwrap_or(name);
    let (bucket, rest) = path.split_once('/').unwrap_or((path, ""));
    if bucket_name_problem(bucket, None).is_some() || bucket.len() == name.len() {
        return None;
    }
    let bucket = format!("write `bucket = \"{bucket}\"`");
    let is_plain = !rest.contains(['"', '\\', '*', '?']);
    let slash = if rest_key == "object" || rest.ends_with('/') { "" } else { "/" };
    Some(match rest {
        "" => bucket,
        rest if is_plain => format!("{bucket} and `{rest_key} = \"{rest}{slash}\"`"),
        _ => format!("{bucket}, and the rest in `{rest_key}`"),
    })
}

fn naming_rule(allows_dots: bool) -> &'static str {
    if allows_dots {
        "use 3 to 63 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends"
    } else {
        "use 3 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"
    }
}

/// Returns what is wrong with a bucket name. `dot_problem` is what is wrong with a dot, if it is not allowed.
fn bucket_name_problem(name: &str, dot_problem: Option<&'static str>) -> Option<BucketNameProblem> {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if name.contains('/') || name.contains(':') {
        return Some("is a URL, an ARN or a path".into());
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("contains upper-case letters".into());
    }
    if name.contains('.') && dot_problem.is_some() {
        return dot_problem.map(Into::into);
    }
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if let Some(problem) = character_problem(name, allowed).or_else(|| length_problem(name, 63)) {
        return Some(problem);
    }
    if !edge(name.bytes().next()) || !edge(name.bytes().next_back()) {
        return Some("begins or ends with a hyphen or a dot".into());
    }
    if name.contains("..") {
        return Some("contains two dots in a row".into());
    }
    name.parse::<Ipv4Addr>().is_ok().then(|| "is an IP address".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_the_naming_rules_of_each_service() {
        for name in ["abc", "my-bucket", "a1.b2", "0-0", "reports-1a2b3c-s3alias", &"a".repeat(63)] {
            assert_eq!(bucket_name_problem(name, None), None, "{name}");
        }
        for name in ["ab", "My", "a_b", "-ab", "ab-", "a..b", "10.0.0.1", "s3://b", "büc", &"a".repeat(64)] {
            assert!(bucket_name_problem(name, None).is_some(), "{name}");
        }
        assert!(bucket_name_problem("a.b", Some("no dots")).is_some());
    }

    #[test]
    fn a_url_is_answered_with_its_bucket_and_the_rest() {
        for (name, key, help) in [
            ("s3://my-bucket", "prefix", Some("write `bucket = \"my-bucket\"`")),
            ("oss://my-bucket/", "prefix", Some("write `bucket = \"my-bucket\"`")),
            ("my-bucket/documents", "prefix", Some("write `bucket = \"my-bucket\"` and `prefix = \"documents/\"`")),
            ("s3://my-bucket/a/b.csv", "object", Some("write `bucket = \"my-bucket\"` and `object = \"a/b.csv\"`")),
            ("my-bucket/a*", "prefix", Some("write `bucket = \"my-bucket\"`, and the rest in `prefix`")),
            ("https://example.com/b", "prefix", None),
            ("/documents", "prefix", None),
            ("My_Bucket", "prefix", None),
        ] {
            assert_eq!(split_help(name, key).as_deref(), help, "{name}");
        }
    }

    #[test]
    fn each_problem_is_named() {
        let long = "a".repeat(64);
        for (name, strict) in [
            ("", "is empty (minimum: 3 characters)"),
            ("a", "is too short: 1 character (minimum 3)"),
            ("ab", "is too short: 2 characters (minimum 3)"),
            (long.as_str(), "is too long: 64 characters (maximum 63)"),
            ("My", "contains upper-case letters"),
            ("a_b", "contains an underscore"),
            ("a bc", "contains white space"),
            ("a%c", "contains `%`"),
            ("büc", "contains `ü`"),
            ("-ab", "begins or ends with a hyphen or a dot"),
            ("ab-", "begins or ends with a hyphen or a dot"),
            ("a..b", "contains two dots in a row"),
            ("10.0.0.1", "is an IP address"),
            ("s3://b", "is a URL, an ARN or a path"),
        ] {
            assert_eq!(bucket_name_problem(name, None).as_deref(), Some(strict), "{name}");
        }
    }
}
