//! The differences between S3 and OSS: header names and documents.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::date::parse_date;
use crate::object::{
    AclGrant, AclGrantee, AclPolicy, ArchiveStatus, MAX_KEY_BYTES, ObjectAcl, ObjectKey, RestoreRequest, RestoreState,
    StorageClass, TagSet, VersionId,
};
use crate::xml::{self, XmlReadError};

/// The API that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreDialect {
    /// AWS S3 and S3-compatible servers.
    S3,
    /// Alibaba Cloud OSS's native API.
    Oss,
}

/// The header names of a dialect.
struct DialectHeaders {
    /// The request header that sets a canned object ACL.
    acl: HeaderName,
    /// The request header that says who pays.
    request_payer: HeaderName,
    /// The response header with the server's ID of the request.
    request_id: &'static str,
    /// The storage class in a HEAD response.
    storage_class: &'static str,
    /// The restore state in a HEAD response.
    restore: &'static str,
    /// The archive tier in a HEAD response, if the service has archive tiers.
    archive_status: Option<&'static str>,
    /// The version that a response is about.
    version: &'static str,
}

/// What a HEAD response says of an archived object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArchiveHeaders {
    pub(super) class: StorageClass,
    pub(super) restoration: RestoreState,
    pub(super) archive_status: ArchiveStatus,
}

static S3_HEADERS: DialectHeaders = DialectHeaders {
    acl: HeaderName::from_static("x-amz-acl"),
    request_payer: HeaderName::from_static("x-amz-request-payer"),
    request_id: "x-amz-request-id",
    storage_class: "x-amz-storage-class",
    restore: "x-amz-restore",
    archive_status: Some("x-amz-archive-status"),
    version: "x-amz-version-id",
};

static OSS_HEADERS: DialectHeaders = DialectHeaders {
    acl: HeaderName::from_static("x-oss-object-acl"),
    request_payer: HeaderName::from_static("x-oss-request-payer"),
    request_id: "x-oss-request-id",
    storage_class: "x-oss-storage-class",
    restore: "x-oss-restore",
    archive_status: None,
    version: "x-oss-version-id",
};

/// The maximum length of a key in OSS, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions>
const MAX_OSS_KEY_BYTES: usize = 1023;

/// The maximum length of a version ID, in bytes. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html>
const MAX_VERSION_BYTES: usize = 1024;

/// The group that contains everyone, in S3's grants.
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// The namespace of the attribute that says which kind of grantee an element has.
const XML_SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

impl StoreDialect {
    /// Returns the request header that sets a canned object ACL.
    pub(super) fn acl_header(self) -> HeaderName {
        self.headers().acl.clone()
    }

    /// Returns the request header by which the caller accepts to pay (value `requester`).
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RequesterPaysBuckets.html>,
    /// <https://www.alibabacloud.com/help/en/oss/user-guide/enable-pay-by-requester-1>
    pub(super) fn request_payer_header(self) -> HeaderName {
        self.headers().request_payer.clone()
    }

    /// Returns the response header with the server's ID of the request.
    pub(super) fn request_id_header(self) -> &'static str {
        self.headers().request_id
    }

    fn headers(self) -> &'static DialectHeaders {
        match self {
            Self::S3 => &S3_HEADERS,
            Self::Oss => &OSS_HEADERS,
        }
    }

    /// Returns why no request can name a key, or `None` if one can. A request path carries any bytes; with
    /// `requires_utf8`, the service is known to reject those that are not UTF-8.
    pub(crate) fn unsupported_key_reason(self, key: &ObjectKey, requires_utf8: bool) -> Option<&'static str> {
        let (max_bytes, too_long, not_utf8) = match self {
            Self::S3 => (MAX_KEY_BYTES, "the key is longer than 1024 bytes", "the key is not UTF-8, which S3 requires"),
            Self::Oss => {
                (MAX_OSS_KEY_BYTES, "the key is longer than 1023 bytes", "the key is not UTF-8, which OSS requires")
            }
        };
        match key.as_bytes().len() {
            0 => Some("the key is empty"),
            length if length > max_bytes => Some(too_long),
            _ => (requires_utf8 && key.as_str().is_err()).then_some(not_utf8),
        }
    }

    /// Returns the storage class that has only one restore speed and no tier. In OSS, a restore of the class Archive
    /// takes about a minute, and `JobParameters` are only for colder classes.
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
    pub(crate) fn untiered_class(self) -> Option<&'static str> {
        match self {
            Self::S3 => None,
            Self::Oss => Some("Archive"),
        }
    }

    /// Returns whether an answer about the ACL of an object names its version.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html>,
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/getobjectacl> (`x-oss-version-id`)
    pub(crate) fn names_version_of_acl(self) -> bool {
        self == Self::Oss
    }

    /// Builds the document that sets tags.
    pub(super) fn tagging_document(self, tags: &TagSet) -> String {
        let mut document = format!("<Tagging{}><TagSet>", self.namespace());
        for (key, value) in tags.iter() {
            document.push_str("<Tag><Key>");
            push_escaped(key, &mut document);
            document.push_str("</Key><Value>");
            push_escaped(value, &mut document);
            document.push_str("</Value></Tag>");
        }
        document.push_str("</TagSet></Tagging>");
        document
    }

    /// Builds the document that sets the grants of an ACL. Only S3 has such documents.
    pub(super) fn acl_document(self, policy: &AclPolicy) -> String {
        let mut document = format!("<AccessControlPolicy{}><Owner><ID>", self.namespace());
        push_escaped(&policy.owner, &mut document);
        document.push_str("</ID></Owner><AccessControlList>");
        for AclGrant { grantee, permission } in &policy.grants {
            let (kind, start, text, end) = match grantee {
                AclGrantee::User(id) => ("CanonicalUser", "<ID>", id, "</ID>"),
                AclGrantee::Group(uri) => ("Group", "<URI>", uri, "</URI>"),
                AclGrantee::Email(email) => ("AmazonCustomerByEmail", "<EmailAddress>", email, "</EmailAddress>"),
            };
            let schema = ["<Grant><Grantee xmlns:xsi=\"", XML_SCHEMA_INSTANCE, "\" xsi:type=\"", kind, "\">", start];
            document.extend(schema);
            push_escaped(text, &mut document);
            document.extend([end, "</Grantee><Permission>"]);
            push_escaped(permission, &mut document);
            document.push_str("</Permission></Grant>");
        }
        document.push_str("</AccessControlList></AccessControlPolicy>");
        document
    }

    /// Builds the document that requests a restore.
    pub(super) fn restore_document(self, request: RestoreRequest) -> String {
        let parameters = match self {
            Self::S3 => "GlacierJobParameters",
            Self::Oss => "JobParameters",
        };
        let tier = request
            .tier
            .map_or_else(String::new, |tier| format!("<{parameters}><Tier>{}</Tier></{parameters}>", tier.as_str()));
        let days = request.days.map_or_else(String::new, |days| format!("<Days>{days}</Days>"));
        format!("<RestoreRequest{}>{days}{tier}</RestoreRequest>", self.namespace())
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::S3 => " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
            Self::Oss => "",
        }
    }

    /// Parses the ACL in a response. Returns `None` if it is a different document.
    pub(super) fn parse_acl(self, document: &[u8]) -> Result<Option<ObjectAcl>, XmlReadError> {
        match self {
            Self::S3 => parse_grants(document),
            Self::Oss => parse_oss_acl(document),
        }
    }

    /// Returns the storage class of an object whose response names none. S3 omits the standard class.
    pub(super) fn standard_class(self) -> &'static str {
        match self {
            Self::S3 => "STANDARD",
            Self::Oss => "Standard",
        }
    }

    /// Returns the version that a response is about, if it names one that a request can name.
    pub(super) fn parse_version(self, headers: &HeaderMap) -> Option<VersionId> {
        let id = headers.get(self.headers().version)?.to_str().ok()?;
        (1..=MAX_VERSION_BYTES).contains(&id.len()).then(|| VersionId::new(id))
    }

    /// Returns what a HEAD response says of the storage class and of restores.
    pub(super) fn parse_head(self, headers: &HeaderMap) -> ArchiveHeaders {
        let names = self.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let class = StorageClass::new(text(names.storage_class).unwrap_or(self.standard_class()));
        let restoration = text(names.restore).map_or(RestoreState::NotRestored, parse_restore_header);
        let archive_status = match names.archive_status.and_then(text) {
            Some("ARCHIVE_ACCESS") => ArchiveStatus::ArchiveAccess,
            Some("DEEP_ARCHIVE_ACCESS") => ArchiveStatus::DeepArchiveAccess,
            _ => ArchiveStatus::NotArchived,
        };
        ArchiveHeaders { class, restoration, archive_status }
    }
}

/// Parses the tags in a response. Returns `None` if it is a different document.
pub(super) fn parse_tags(document: &[u8]) -> Result<Option<TagSet>, XmlReadError> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let (mut tags, mut is_complete) = (TagSet::default(), false);
    let mut error = None;
    xml::read(document, |path, text| match path {
        "Tagging/TagSet/Tag/Key" => keys.push(text.to_owned()),
        "Tagging/TagSet/Tag/Value" => values.push(text.to_owned()),
        "Tagging/TagSet/Tag" => {
            let (keys, values) = (std::mem::take(&mut keys), std::mem::take(&mut values));
            match build_tag(keys, values) {
                Ok((key, _)) if tags.iter().any(|(known, _)| known == key) => {
                    error = Some(XmlReadError::Duplicate("Tag"));
                }
                Ok((key, value)) => tags.insert(key, value),
                Err(reason) => error = Some(reason),
            }
        }
        "Tagging" => is_complete = true,
        path if path.ends_with("/Tag") => error = Some(XmlReadError::Misplaced("Tag")),
        _ => {}
    })?;
    // A tag that is skipped here would be removed from the object when its tags are written back.
    match error {
        Some(error) if is_complete => Err(error),
        _ => Ok(is_complete.then_some(tags)),
    }
}

/// Builds a tag from the contents of its element: exactly one key, and at most one value, which may be empty.
fn build_tag(keys: Vec<String>, values: Vec<String>) -> Result<(String, String), XmlReadError> {
    let [key] = <[String; 1]>::try_from(keys).map_err(|_| XmlReadError::NotExactlyOne("Tag", "Key"))?;
    if key.is_empty() {
        return Err(XmlReadError::NotExactlyOne("Tag", "Key"));
    }
    match <[String; 1]>::try_from(values) {
        Ok([value]) => Ok((key, value)),
        Err(none) if none.is_empty() => Ok((key, String::new())),
        Err(_) => Err(XmlReadError::NotExactlyOne("Tag", "Value")),
    }
}

/// The elements of one grant.
#[derive(Default)]
struct GrantElements {
    id: String,
    uri: String,
    email: String,
    permission: String,
}

/// Parses S3's grants. Returns the canned ACL that they are equivalent to, if there is one.
fn parse_grants(document: &[u8]) -> Result<Option<ObjectAcl>, XmlReadError> {
    let (mut owner, mut grant, mut grants) = (String::new(), GrantElements::default(), Vec::new());
    let mut is_complete = false;
    xml::read(document, |path, text| match path {
        "AccessControlPolicy/Owner/ID" => text.clone_into(&mut owner),
        "AccessControlPolicy/AccessControlList/Grant/Grantee/ID" => text.clone_into(&mut grant.id),
        "AccessControlPolicy/AccessControlList/Grant/Grantee/URI" => text.clone_into(&mut grant.uri),
        "AccessControlPolicy/AccessControlList/Grant/Grantee/EmailAddress" => text.clone_into(&mut grant.email),
        "AccessControlPolicy/AccessControlList/Grant/Permission" => text.clone_into(&mut grant.permission),
        "AccessControlPolicy/AccessControlList/Grant" => grants.push(std::mem::take(&mut grant)),
        "AccessControlPolicy" => is_complete = true,
        _ => {}
    })?;
    let (mut full, mut read, mut write, mut other) = (false, false, false, false);
    for GrantElements { id, uri, email, permission } in &grants {
        match permission.as_str() {
            // MinIO sends neither the ID of the owner nor that of the grantee.
            "FULL_CONTROL" if uri.is_empty() && email.is_empty() && *id == owner => full = true,
            "READ" if uri == ALL_USERS => read = true,
            "WRITE" if uri == ALL_USERS => write = true,
            _ => other = true,
        }
    }
    // Without the owner's full control it is not a canned ACL either.
    let acl = match (read, write, other || !full) {
        (false, false, false) => ObjectAcl::Private,
        (true, false, false) => ObjectAcl::PublicRead,
        (true, true, false) => ObjectAcl::PublicReadWrite,
        _ => ObjectAcl::Custom(acl_policy(owner, grants).map(Arc::new)),
    };
    Ok(is_complete.then_some(acl))
}

/// Returns the grants, or `None` if one of them does not say who may do what: they could not be sent again.
fn acl_policy(owner: String, grants: Vec<GrantElements>) -> Option<AclPolicy> {
    let grant = |GrantElements { id, uri, email, permission }: GrantElements| {
        let grantee = match (id.is_empty(), uri.is_empty(), email.is_empty()) {
            (false, true, true) => AclGrantee::User(id),
            (true, false, true) => AclGrantee::Group(uri),
            (true, true, false) => AclGrantee::Email(email),
            _ => return None,
        };
        (!permission.is_empty()).then_some(AclGrant { grantee, permission })
    };
    let mut grants: Vec<_> = grants.into_iter().map(grant).collect::<Option<_>>()?;
    grants.sort();
    grants.dedup();
    Some(AclPolicy { owner, grants })
}

fn parse_oss_acl(document: &[u8]) -> Result<Option<ObjectAcl>, XmlReadError> {
    let mut acl = None;
    xml::read(document, |path, text| {
        if path == "AccessControlPolicy/AccessControlList/Grant" {
            let known = [ObjectAcl::Private, ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Default];
            acl = Some(known.into_iter().find(|acl| acl.as_str() == text.trim()).unwrap_or(ObjectAcl::Custom(None)));
        }
    })?;
    Ok(acl)
}

/// Parses the restore state: `ongoing-request="true"`, or `ongoing-request="false", expiry-date="<RFC 1123 date>"`.
fn parse_restore_header(header: &str) -> RestoreState {
    if header.contains(r#"ongoing-request="true""#) {
        return RestoreState::InProgress;
    }
    let date = header.split_once(EXPIRY_DATE).and_then(|(_, rest)| rest.split_once('"')).map(|(date, _)| date);
    // `RustFS` also keeps it in RFC 3339: <https://github.com/rustfs/rustfs/pull/7115>.
    date.and_then(parse_date).map_or(RestoreState::NotRestored, RestoreState::RestoredUntil)
}

/// Returns whether the header says that there is a restore. Versity S3 Gateway sends an empty one, and
/// `ongoing-request="false"` alone, for objects without a restore: <https://github.com/versity/versitygw/issues/1137>,
/// <https://github.com/versity/versitygw/issues/2030>.
pub(super) fn shows_restore(header: &str) -> bool {
    header.contains(r#"ongoing-request="true""#) || header.contains(EXPIRY_DATE)
}

/// What the date is preceded by.
const EXPIRY_DATE: &str = r#"expiry-date=""#;

/// Appends the text with markup and control characters escaped. A parser would replace unescaped control characters
/// with other white space.
fn push_escaped(text: &str, to: &mut String) {
    for character in text.chars() {
        match character {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '\r' => to.push_str("&#13;"),
            '\n' => to.push_str("&#10;"),
            '\t' => to.push_str("&#9;"),
            other => to.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::RestoreTier;

    #[test]
    fn a_request_can_name_every_key_that_is_not_empty_or_too_long() {
        let reason = |dialect: StoreDialect, key: &[u8], requires_utf8| {
            dialect.unsupported_key_reason(&ObjectKey::new(key), requires_utf8)
        };
        for (dialect, longest) in [(StoreDialect::S3, MAX_KEY_BYTES), (StoreDialect::Oss, MAX_OSS_KEY_BYTES)] {
            let long = vec![b'k'; longest + 1];
            assert_eq!(reason(dialect, &long[1..], true), None);
            assert!(reason(dialect, &long, false).is_some_and(|why| why.contains(&longest.to_string())));
            assert_eq!(reason(dialect, b"", false), Some("the key is empty"));
            assert_eq!(reason(dialect, b"\0/../.\n\x7f", true), None);
            assert_eq!(reason(dialect, b"caf\xe9", false), None);
            assert!(reason(dialect, b"caf\xe9", true).is_some_and(|why| why.contains("not UTF-8")));
        }
    }

    #[test]
    fn documents_are_those_of_each_dialect() {
        let tags: TagSet = [("a", "1 & 2"), ("b", "")].into_iter().collect();
        let inner =
            "<TagSet><Tag><Key>a</Key><Value>1 &amp; 2</Value></Tag><Tag><Key>b</Key><Value></Value></Tag></TagSet>";
        assert_eq!(StoreDialect::Oss.tagging_document(&tags), format!("<Tagging>{inner}</Tagging>"));
        assert_eq!(parse_tags(StoreDialect::S3.tagging_document(&tags).as_bytes()), Ok(Some(tags)));
        let request = RestoreRequest { days: Some(7), tier: Some(RestoreTier::Bulk) };
        let oss = "<RestoreRequest><Days>7</Days><JobParameters><Tier>Bulk</Tier></JobParameters></RestoreRequest>";
        assert_eq!(StoreDialect::Oss.restore_document(request), oss);
        assert!(
            StoreDialect::S3
                .restore_document(request)
                .contains("<GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>")
        );
        let plain = StoreDialect::Oss.restore_document(RestoreRequest { days: Some(1), tier: None });
        assert_eq!(plain, "<RestoreRequest><Days>1</Days></RestoreRequest>");
        let forever = StoreDialect::S3.restore_document(RestoreRequest { days: None, tier: None });
        assert_eq!(forever, "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></RestoreRequest>");
    }

    #[test]
    fn tags_that_could_not_be_written_back_as_they_are_are_refused() {
        let read = |tags: &str| parse_tags(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>").as_bytes());
        let (a, b) = ("<Tag><Key>a</Key><Value>1</Value></Tag>", "<Tag><Key>b</Key><Value/></Tag>");
        assert_eq!(read(&format!("{a}{b}")), Ok(Some([("a", "1"), ("b", "")].into_iter().collect())));
        assert_eq!(read("<Tag><Value>1</Value><Key>a</Key></Tag>"), Ok(Some([("a", "1")].into_iter().collect())));
        assert_eq!(read("<Tag><Key>a</Key></Tag>"), Ok(Some([("a", "")].into_iter().collect())));
        let no_key = XmlReadError::NotExactlyOne("Tag", "Key");
        for (tags, fault) in [
            ("<Tag><Value>1</Value></Tag>", no_key),
            ("<Tag><Key/><Value>1</Value></Tag>", no_key),
            ("<Tag/>", no_key),
            ("<Tag><Key>a</Key><Key>b</Key><Value>1</Value></Tag>", no_key),
            ("<Tag><Key>a</Key><Value>1</Value><Value>2</Value></Tag>", XmlReadError::NotExactlyOne("Tag", "Value")),
            ("<Tag><Key>a</Key><Value>2</Value></Tag>", XmlReadError::Duplicate("Tag")),
            ("<Tags><Tag><Key>b</Key><Value>1</Value></Tag></Tags>", XmlReadError::Misplaced("Tag")),
        ] {
            assert_eq!(read(&format!("{a}{tags}")), Err(fault), "{tags}");
        }
        assert_eq!(
            parse_tags(b"<Tagging><Tag><Key>a</Key><Value>1</Value></Tag></Tagging>"),
            Err(XmlReadError::Misplaced("Tag"))
        );
        // A tag without a key must not get the key of the previous tag.
        assert_eq!(read("<Tag><Key>a</Key></Tag><Tag><Value>1</Value></Tag>"), Err(no_key));
    }

    #[test]
    fn grants_are_read_as_the_predefined_acl_that_they_spell_out() {
        let grant = |grantee: &str, permission: &str| {
            format!("<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>")
        };
        let read = |grants: &[String]| {
            let document = format!(
                "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList>{}</AccessControlList>\
                 </AccessControlPolicy>",
                grants.concat()
            );
            StoreDialect::S3.parse_acl(document.as_bytes()).expect("a document").expect("an ACL")
        };
        let everyone = format!("<URI>{ALL_USERS}</URI>");
        let (mine, yours) = (grant("<ID>me</ID>", "FULL_CONTROL"), grant("<ID>you</ID>", "FULL_CONTROL"));
        let (reads, writes) = (grant(&everyone, "READ"), grant(&everyone, "WRITE"));
        assert_eq!(read(std::slice::from_ref(&mine)), ObjectAcl::Private);
        assert_eq!(read(&[mine.clone(), reads.clone()]), ObjectAcl::PublicRead);
        assert_eq!(read(&[mine.clone(), reads.clone(), writes.clone()]), ObjectAcl::PublicReadWrite);
        let custom = |grants: &[(AclGrantee, &str)]| {
            let grant = |(grantee, permission): &(AclGrantee, &str)| AclGrant {
                grantee: grantee.clone(),
                permission: (*permission).to_owned(),
            };
            let policy = AclPolicy { owner: "me".to_owned(), grants: grants.iter().map(grant).collect() };
            ObjectAcl::Custom(Some(Arc::new(policy)))
        };
        let (me, you) = (AclGrantee::User("me".to_owned()), AclGrantee::User("you".to_owned()));
        let all = AclGrantee::Group(ALL_USERS.to_owned());
        let kept = custom(&[(me.clone(), "FULL_CONTROL"), (all.clone(), "WRITE")]);
        assert_eq!(read(&[writes.clone(), mine.clone()]), kept, "in any order");
        let kept = custom(&[(me, "FULL_CONTROL"), (you, "FULL_CONTROL"), (all.clone(), "READ")]);
        assert_eq!(read(&[mine, reads.clone(), yours]), kept);
        assert_eq!(read(&[]), custom(&[]), "the owner may do nothing");
        assert_eq!(read(&[reads]), custom(&[(all, "READ")]));
        assert_eq!(read(&[grant("<Type>Group</Type>", "READ")]), ObjectAcl::Custom(None), "no grantee is named");
        let ObjectAcl::Custom(Some(policy)) = &kept else { panic!("grants") };
        let document = StoreDialect::S3.acl_document(policy);
        assert_eq!(StoreDialect::S3.parse_acl(document.as_bytes()), Ok(Some(kept.clone())), "{document}");
        let minio = b"<AccessControlPolicy><Owner><ID></ID><DisplayName></DisplayName></Owner><AccessControlList><Grant>\
            <Grantee><Type>CanonicalUser</Type></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>\
            </AccessControlPolicy>";
        assert_eq!(StoreDialect::S3.parse_acl(minio), Ok(Some(ObjectAcl::Private)), "no grantee is named");
        assert_eq!(StoreDialect::S3.parse_acl(b"<Other/>"), Ok(None));
    }

    #[test]
    fn oss_names_its_acls() {
        let read = |acl: &str| {
            let list = format!("<AccessControlList><Grant>{acl}</Grant></AccessControlList>");
            StoreDialect::Oss.parse_acl(format!("<AccessControlPolicy>{list}</AccessControlPolicy>").as_bytes())
        };
        assert_eq!(read("default"), Ok(Some(ObjectAcl::Default)));
        assert_eq!(read("public-read-write"), Ok(Some(ObjectAcl::PublicReadWrite)));
        assert_eq!(read("else"), Ok(Some(ObjectAcl::Custom(None))));
        assert_eq!(StoreDialect::Oss.parse_acl(b"<AccessControlPolicy/>"), Ok(None));
    }

    #[test]
    fn the_archive_tier_is_read_from_its_header() {
        let head = |status: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-storage-class", "INTELLIGENT_TIERING".parse().expect("a value"));
            if let Some(status) = status {
                headers.insert("x-amz-archive-status", status.parse().expect("a value"));
            }
            StoreDialect::S3.parse_head(&headers).archive_status
        };
        assert_eq!(head(None), ArchiveStatus::NotArchived);
        assert_eq!(head(Some("ARCHIVE_ACCESS")), ArchiveStatus::ArchiveAccess);
        assert_eq!(head(Some("DEEP_ARCHIVE_ACCESS")), ArchiveStatus::DeepArchiveAccess);
    }

    #[test]
    fn the_restore_header_is_read() {
        assert_eq!(parse_restore_header(r#"ongoing-request="true""#), RestoreState::InProgress);
        let done = r#"ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT""#;
        assert_eq!(
            parse_restore_header(done),
            RestoreState::RestoredUntil("2012-12-21T00:00:00Z".parse().expect("a timestamp"))
        );
        let iso = r#"ongoing-request="false", expiry-date="2012-12-21T00:00:00Z""#;
        assert_eq!(parse_restore_header(iso), parse_restore_header(done));
        for header in [r#"ongoing-request="false""#, "", "nonsense"] {
            assert!(!shows_restore(header), "{header}");
        }
        for header in [done, iso, r#"ongoing-request="true""#] {
            assert!(shows_restore(header), "{header}");
        }
        assert_eq!(parse_restore_header(r#"ongoing-request="false""#), RestoreState::NotRestored);
        assert_eq!(parse_restore_header("nonsense"), RestoreState::NotRestored);
    }
}
