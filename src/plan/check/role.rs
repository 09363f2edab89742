//! `role_arn`: the ARN of a role, in the format of each provider.

use super::refuse_beside;
use crate::diagnostics::Problem;
use crate::plan::leaf::Text;
use crate::plan::walk::{Field, Walk};
use crate::store::Provider;

/// The maximum length of a role's name, at AWS and at Alibaba Cloud.
const MAX_NAME: usize = 64;

/// Why a text is not the ARN of a role, as a label for messages.
pub(in crate::plan) type Wrong = &'static str;

/// Checks `role_arn`. A role that is not valid for the provider is reported and left out.
pub(super) fn check(field: &Field<Text<1, 2048>>, provider: Provider, walk: &mut Walk) -> Option<String> {
    if provider == Provider::Sandbox {
        let help = "remove it: the sandbox's keys are public, and may do everything";
        refuse_beside(field, "the sandbox has no roles", help, walk);
        return None;
    }
    let at = field.given()?;
    let Text(arn) = &at.value;
    let Some(label) = complaint(arn, provider) else { return Some(arn.clone()) };
    walk.push(
        Problem::new(format!("this names no role of {}", provider.as_str()))
            .label(at.span.clone(), label)
            .help(format!("write its ARN, as in `role_arn = \"{}\"`", example(provider))),
    );
    None
}

/// Returns why a text is not the ARN of a role of this provider; `None` if it is one.
pub(in crate::plan) fn complaint(arn: &str, provider: Provider) -> Option<Wrong> {
    match provider {
        Provider::Aws => aws(arn),
        Provider::Oss => oss(arn),
        Provider::S3 => s3(arn),
        Provider::Sandbox => None,
    }
}

/// Returns an example of a role's ARN for a provider.
pub(in crate::plan) fn example(provider: Provider) -> &'static str {
    match provider {
        Provider::Oss => "acs:ram::1234567890123456:role/BatchRole",
        _ => "arn:aws:iam::123456789012:role/BatchRole",
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, with an account of twelve digits.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
fn aws(arn: &str) -> Option<Wrong> {
    if arn.starts_with("acs:") {
        return Some("a role of Alibaba Cloud");
    }
    let Some(Arn { partition, account, role }) = Arn::of(arn) else { return Some("not the ARN of a role") };
    let of_aws = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| is_made_of(rest, "-"));
    if !of_aws {
        return Some("no partition of AWS");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account is not twelve digits");
    }
    let (path, name) = role.rsplit_once('/').unwrap_or(("", role));
    // IAM allows `!` to `~` in a path.
    let fits = is_name(name, "+=,.@-_") && path.bytes().all(|b| b.is_ascii_graphic());
    (!fits).then_some("no name that a role can have")
}

/// `acs:ram::UID:role/NAME`.
/// <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>
fn oss(arn: &str) -> Option<Wrong> {
    if arn.starts_with("arn:") {
        return Some("a role of AWS");
    }
    let Some((account, name)) = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/")) else {
        return Some("not the ARN of a role");
    };
    if account.is_empty() || account.len() > 20 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account is not a number");
    }
    (!is_name(name, ".-_")).then_some("no name that a role can have")
}

/// Like AWS, but with any account or tenant that the server has, or none.
fn s3(arn: &str) -> Option<Wrong> {
    if arn.starts_with("acs:") {
        return Some("a role of Alibaba Cloud");
    }
    let fits = Arn::of(arn).is_some_and(|Arn { partition, account, role }| {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        !partition.is_empty() && plain(partition) && plain(account) && !role.is_empty() && plain(role)
    });
    (!fits).then_some("not the ARN of a role")
}

/// The parts of a role's ARN that vary.
struct Arn<'a> {
    partition: &'a str,
    account: &'a str,
    /// Path and name.
    role: &'a str,
}

impl<'a> Arn<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (partition, rest) = text.strip_prefix("arn:")?.split_once(":iam::")?;
        let (account, role) = rest.split_once(":role/")?;
        Some(Self { partition, account, role })
    }
}

fn is_name(name: &str, besides: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && is_made_of(name, besides)
}

/// Returns whether a text is not empty and has only ASCII letters, digits and the characters in `besides`.
fn is_made_of(text: &str, besides: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || besides.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_each_provider() {
        for arn in [
            "arn:aws:iam::123456789012:role/Name",
            "arn:aws-cn:iam::123456789012:role/Name",
            "arn:aws-us-gov:iam::123456789012:role/team/ops/Na+m=e,.@-_",
            "arn:aws-iso-b:iam::123456789012:role/Name",
            "arn:aws-eusc:iam::123456789012:role/Name",
        ] {
            assert_eq!((aws(arn), s3(arn)), (None, None), "{arn}");
            assert!(oss(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam:::role/Name", "arn:aws:iam::tenant:role/a/Name", "arn:minio:iam::x:role/y"] {
            assert_eq!(s3(arn), None, "{arn}");
            assert!(aws(arn).is_some(), "{arn}");
        }
        for arn in ["acs:ram::123456789:role/BatchRole", "acs:ram::1234567890123456:role/a.b-c_d"] {
            assert_eq!(oss(arn), None, "{arn}");
            assert!(aws(arn).is_some() && s3(arn).is_some(), "{arn}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        let long = format!("arn:aws:iam::123456789012:role/{}", "n".repeat(65));
        for arn in [
            "Name",
            "arn:aws:iam::123456789012:user/Name",
            "arn:aws:sts::123456789012:assumed-role/Name/me",
            "arn:aws:iam::12345678901:role/Name",
            "arn:aws:iam::12345678901x:role/Name",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::123456789012:role/a b/Name",
            "arn:aws-:iam::123456789012:role/Name",
            "arn:azure:iam::123456789012:role/Name",
            long.as_str(),
        ] {
            assert!(aws(arn).is_some(), "{arn}");
        }
        for arn in [
            "acs:ram::<your-account-uid>:role/BatchRole",
            "acs:ram:::role/BatchRole",
            "acs:ram::123:user/BatchRole",
            "acs:ram::123:role/",
            "acs:ram::123:role/a/b",
            "acs:ram::123456789012345678901:role/a",
        ] {
            assert!(oss(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam::x:role/a b", "arn:aws:iam::x:role/", "arn::iam::x:role/a", "role/a"] {
            assert!(s3(arn).is_some(), "{arn}");
        }
    }
}
