//! Parses the ACL column of an inventory: a name in OSS inventories, an encoded list of grants in AWS inventories.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use batchplan_store::object::ObjectAcl;

/// The names of the column: OSS's, then AWS's.
pub(super) const ACL_COLUMNS: [&str; 2] = ["ObjectAcl", "ObjectAccessControlList"];

/// The longest field, in bytes, that is parsed. An object has at most 100 grants.
const MAX_FIELD_BYTES: usize = 64 << 10;

/// AWS's URI for all users, including anonymous ones.
const ALL_USERS_URI: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// The JSON document that AWS encodes in Base64.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/objectacl.html>
#[derive(Deserialize)]
struct AwsAclDocument {
    status: String,
    #[serde(default)]
    grants: Vec<AwsAclGrant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AwsAclGrant {
    #[serde(default)]
    canonical_id: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    permission: String,
}

/// Returns the ACL in a field, or `None` if the field is empty or cannot be interpreted. `owner` is the object's
/// owner, if another column contains it.
pub(super) fn parse_acl(field: &str, owner: Option<&str>) -> Option<ObjectAcl> {
    match field.to_ascii_lowercase().as_str() {
        "" => None,
        "private" => Some(ObjectAcl::Private),
        "public-read" => Some(ObjectAcl::PublicRead),
        "public-read-write" => Some(ObjectAcl::PublicReadWrite),
        "default" => Some(ObjectAcl::Default),
        _ => parse_grants(field, owner?),
    }
}

/// Parses AWS's list of grants. The owner is required: without it, the grantee of a full-control grant cannot be
/// identified.
fn parse_grants(field: &str, owner: &str) -> Option<ObjectAcl> {
    let text = STANDARD.decode(Some(field).filter(|it| it.len() <= MAX_FIELD_BYTES)?).ok()?;
    let list: AwsAclDocument = serde_json::from_slice(&text).ok()?;
    if list.status != "AVAILABLE" {
        return None;
    }
    let (mut mine, mut read, mut write, mut other) = (false, false, false, false);
    for grant in &list.grants {
        let everyone = grant.uri.as_deref() == Some(ALL_USERS_URI);
        match grant.permission.as_str() {
            "FULL_CONTROL" if grant.canonical_id.as_deref() == Some(owner) => mine = true,
            "READ" if everyone => read = true,
            "WRITE" if everyone => write = true,
            _ => other = true,
        }
    }
    Some(match (mine, read, write, other) {
        (true, false, false, false) => ObjectAcl::Private,
        (true, true, false, false) => ObjectAcl::PublicRead,
        (true, true, true, false) => ObjectAcl::PublicReadWrite,
        _ => ObjectAcl::Custom,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(grants: &str) -> Option<ObjectAcl> {
        let text = format!(r#"{{"version":"2022-11-10","status":"AVAILABLE","grants":[{grants}]}}"#);
        parse_acl(&STANDARD.encode(text), Some("me"))
    }

    #[test]
    fn what_oss_names_is_taken_by_its_name() {
        assert_eq!(parse_acl("default", None), Some(ObjectAcl::Default));
        assert_eq!(parse_acl("Public-Read", None), Some(ObjectAcl::PublicRead));
        assert_eq!(parse_acl("", None), None);
        assert_eq!(parse_acl("secret", None), None);
    }

    #[test]
    fn what_aws_lists_is_named_where_it_has_a_name() {
        let mine = r#"{"canonicalId":"me","type":"CanonicalUser","permission":"FULL_CONTROL"}"#;
        let all = |what: &str| format!(r#"{{"uri":"{ALL_USERS_URI}","type":"Group","permission":"{what}"}}"#);
        assert_eq!(aws(mine), Some(ObjectAcl::Private));
        assert_eq!(aws(&format!("{mine},{}", all("READ"))), Some(ObjectAcl::PublicRead));
        assert_eq!(aws(&format!("{mine},{},{}", all("READ"), all("WRITE"))), Some(ObjectAcl::PublicReadWrite));
        assert_eq!(aws(&mine.replace("me", "you")), Some(ObjectAcl::Custom));
        assert_eq!(aws(&format!("{mine},{}", all("READ_ACP"))), Some(ObjectAcl::Custom));
        assert_eq!(aws(""), Some(ObjectAcl::Custom), "no grants");
        let hidden = STANDARD.encode(r#"{"version":"2022-11-10","status":"UNAVAILABLE","grants":[]}"#);
        assert_eq!(parse_acl(&hidden, Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode("{}"), Some("me")), None);
        assert_eq!(parse_acl(&STANDARD.encode(mine), None), None, "the owner is unknown");
    }
}
