//! The ARNs of roles, in the format of each provider.

/// Why a text is not the ARN of a role, as a label for messages.
pub type RoleArnProblem = &'static str;

/// The format of a provider's roles.
#[derive(Clone, Copy, Debug)]
pub struct RoleArnFormat {
    /// An example.
    pub example: &'static str,
    /// Returns why a text is not the ARN of a role; `None` if it is one.
    pub problem: fn(&str) -> Option<RoleArnProblem>,
}

const AWS_EXAMPLE: &str = "arn:aws:iam::123456789012:role/BatchRole";

impl RoleArnFormat {
    /// The roles of AWS.
    pub const AWS: Self = Self { example: AWS_EXAMPLE, problem: check_aws_arn };

    /// The roles of Alibaba Cloud.
    pub const OSS: Self = Self { example: "acs:ram::1234567890123456:role/BatchRole", problem: check_oss_arn };

    /// The roles of servers with an S3-compatible API.
    pub const S3_COMPATIBLE: Self = Self { example: AWS_EXAMPLE, problem: check_s3_arn };

    /// For a provider that rejects `role_arn` altogether.
    pub const NONE: Self = Self { example: AWS_EXAMPLE, problem: |_| None };
}

/// The maximum length of a role's name, at AWS and at Alibaba Cloud.
const MAX_NAME: usize = 64;

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, with an account of twelve digits.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
fn check_aws_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("acs:") {
        return Some("an Alibaba Cloud role");
    }
    let Some(RoleArn { partition, account, role }) = RoleArn::parse(arn) else { return Some("not a role ARN") };
    let of_aws = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| has_only(rest, "-"));
    if !of_aws {
        return Some("not an AWS partition");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account must have 12 digits");
    }
    let (path, name) = role.rsplit_once('/').unwrap_or(("", role));
    // IAM allows `!` to `~` in a path.
    let fits = is_name(name, "+=,.@-_") && path.bytes().all(|b| b.is_ascii_graphic());
    (!fits).then_some("not a valid role name")
}

/// `acs:ram::UID:role/NAME`.
/// <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>
fn check_oss_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("arn:") {
        return Some("an AWS role");
    }
    let Some((account, name)) = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/")) else {
        return Some("not a role ARN");
    };
    if account.is_empty() || account.len() > 20 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Some("the account must be a number of at most 20 digits");
    }
    (!is_name(name, ".-_")).then_some("not a valid role name")
}

/// Like AWS, but with any account or tenant that the server has, or none.
fn check_s3_arn(arn: &str) -> Option<RoleArnProblem> {
    if arn.starts_with("acs:") {
        return Some("an Alibaba Cloud role");
    }
    let fits = RoleArn::parse(arn).is_some_and(|RoleArn { partition, account, role }| {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        !partition.is_empty() && plain(partition) && plain(account) && !role.is_empty() && plain(role)
    });
    (!fits).then_some("not a role ARN")
}

/// The parts of a role's ARN that vary.
struct RoleArn<'a> {
    partition: &'a str,
    account: &'a str,
    /// Path and name.
    role: &'a str,
}

impl<'a> RoleArn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (partition, rest) = text.strip_prefix("arn:")?.split_once(":iam::")?;
        let (account, role) = rest.split_once(":role/")?;
        Some(Self { partition, account, role })
    }
}

fn is_name(name: &str, besides: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && has_only(name, besides)
}

/// Returns whether a text is not empty and has only ASCII letters, digits and the characters in `besides`.
fn has_only(text: &str, besides: &str) -> bool {
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
            assert_eq!((check_aws_arn(arn), check_s3_arn(arn)), (None, None), "{arn}");
            assert!(check_oss_arn(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam:::role/Name", "arn:aws:iam::tenant:role/a/Name", "arn:minio:iam::x:role/y"] {
            assert_eq!(check_s3_arn(arn), None, "{arn}");
            assert!(check_aws_arn(arn).is_some(), "{arn}");
        }
        for arn in ["acs:ram::123456789:role/BatchRole", "acs:ram::1234567890123456:role/a.b-c_d"] {
            assert_eq!(check_oss_arn(arn), None, "{arn}");
            assert!(check_aws_arn(arn).is_some() && check_s3_arn(arn).is_some(), "{arn}");
        }
    }

    #[test]
    fn rejects_other_role_arns() {
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
            assert!(check_aws_arn(arn).is_some(), "{arn}");
        }
        for arn in [
            "acs:ram::<your-account-uid>:role/BatchRole",
            "acs:ram:::role/BatchRole",
            "acs:ram::123:user/BatchRole",
            "acs:ram::123:role/",
            "acs:ram::123:role/a/b",
            "acs:ram::123456789012345678901:role/a",
        ] {
            assert!(check_oss_arn(arn).is_some(), "{arn}");
        }
        for arn in ["arn:aws:iam::x:role/a b", "arn:aws:iam::x:role/", "arn::iam::x:role/a", "role/a"] {
            assert!(check_s3_arn(arn).is_some(), "{arn}");
        }
    }
}
