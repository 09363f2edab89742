//! Parses the ACL column of an inventory: a name in OSS inventories, an encoded list of grants in AWS inventories.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::object::Acl;

/// The names of the column: OSS's, then AWS's.
pub(super) const COLUMNS: [&str; 2] = ["ObjectAcl", "ObjectAccessControlList"];

/// The longest field, in bytes, that is parsed. An object has at most 100 grants.
const MAX_BYTES: usize = 64 << 10;

/// AWS's URI for all users, including anonymous ones.
const EVERYONE: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// The JSON document that AWS encodes in Base64.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/objectacl.html>
#[derive(Deserialize)]
struct Encoded {
    status: String,
    #[serde(default)]
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    #[serde(default)]
    canonical_id: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    permission: String,
}

/// Returns the ACL in a field, or `None` if the field is empty or cannot be interpreted. `owner` is the object's
/// owner, if another column contains it.
pub(super) fn read(field: &str, owner: Option<&str>) -> Option<Acl> {
    match field.to_ascii_lowercase().as_str() {
        "" => None,
        "private" => Some(Acl::Private),
        "public-read" => Some(Acl::PublicRead),
        "public-read-write" => Some(Acl::PublicReadWrite),
        "default" => Some(Acl::Default),
        _ => encoded(field, owner?),
    }
}

/// Parses AWS's list of grants. The owner is required: without it, the grantee of a full-control grant cannot be
/// identified.
fn encoded(field: &str, owner: &str) -> Option<Acl> {
    let text = STANDARD.decode(Some(field).filter(|it| it.len() <= MAX_BYTES)?).ok()?;
    let list: Encoded = serde_json::from_slice(&text).ok()?;
    if list.status != "AVAILABLE" {
        return None;
    }
    let (mut mine, mut read, mut write, mut other) = (false, false, false, false);
    for grant in &list.grants {
        let everyone = grant.uri.as_deref() == Some(EVERYONE);
        match grant.permission.as_str() {
            "FULL_CONTROL" if grant.canonical_id.as_deref() == Some(owner) => mine = true,
            "READ" if everyone => read = true,
            "WRITE" if everyone => write = true,
            _ => other = true,
        }
    }
    Some(match (mine, read, write, other) {
        (true, false, false, false) => Acl::Private,
        (true, true, false, false) => Acl::PublicRead,
        (true, true, true, false) => Acl::PublicReadWrite,
        _ => Acl::Custom,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(grants: &str) -> Option<Acl> {
        let text = format!(r#"{{"version":"2022-11-10","status":"AVAILABLE","grants":[{grants}]}}"#);
        read(&STANDARD.encode(text), Some("me"))
    }

    #[test]
    fn what_oss_names_is_taken_by_its_name() {
        assert_eq!(read("default", None), Some(Acl::Default));
        assert_eq!(read("Public-Read", None), Some(Acl::PublicRead));
        assert_eq!(read("", None), None);
        assert_eq!(read("secret", None), None);
    }

    #[test]
    fn what_aws_lists_is_named_where_it_has_a_name() {
        let mine = r#"{"canonicalId":"me","type":"CanonicalUser","permission":"FULL_CONTROL"}"#;
        let all = |what: &str| format!(r#"{{"uri":"{EVERYONE}","type":"Group","permission":"{what}"}}"#);
        assert_eq!(aws(mine), Some(Acl::Private));
        assert_eq!(aws(&format!("{mine},{}", all("READ"))), Some(Acl::PublicRead));
        assert_eq!(aws(&format!("{mine},{},{}", all("READ"), all("WRITE"))), Some(Acl::PublicReadWrite));
        assert_eq!(aws(&mine.replace("me", "you")), Some(Acl::Custom));
        assert_eq!(aws(&format!("{mine},{}", all("READ_ACP"))), Some(Acl::Custom));
        assert_eq!(aws(""), Some(Acl::Custom), "nobody has anything");
        let hidden = STANDARD.encode(r#"{"version":"2022-11-10","status":"UNAVAILABLE","grants":[]}"#);
        assert_eq!(read(&hidden, Some("me")), None);
        assert_eq!(read(&STANDARD.encode("{}"), Some("me")), None);
        assert_eq!(read(&STANDARD.encode(mine), None), None, "nobody knows the owner");
    }
}
