//! Reads the settings of a bucket.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html>,
//! `API_GetBucketVersioning.html`, `API_GetBucketOwnershipControls.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/getbucketlifecycle>, `getbucketversioning`.

use super::client::{RequestPayload, StoreHttpClient, StoreRequest};
use super::dialect::StoreDialect;
use super::response::ResponseLimit;
use crate::error::StoreError;
use crate::object::{BucketName, ObjectKey};
use crate::store::{BucketSetting, BucketSettingValue, BucketVersioning, OwnershipSetting, TagLifecycleRule};
use crate::xml::{self, XmlReadError};

/// The maximum number of rules of a lifecycle, on AWS and OSS.
const MAX_RULES: usize = 1000;

/// The maximum number of tags of a rule that are accepted. No object has more than ten tags.
const MAX_TAGS: usize = 100;

/// Why a response is rejected.
type InvalidSettingReason = String;

impl StoreHttpClient {
    /// Reads a setting of a bucket.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a valid setting.
    pub(crate) async fn bucket_setting(
        &self,
        bucket: &BucketName,
        setting: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        if (self.dialect(), setting) == (StoreDialect::Oss, BucketSetting::Ownership) {
            return Ok(BucketSettingValue::Ownership(OwnershipSetting::NotApplicable));
        }
        let query = setting.subresource();
        let payload = RequestPayload::empty();
        let store_request = StoreRequest { method: "GET", bucket, key: None, query, headers: Vec::new(), payload };
        // Up to 1,000 rules of a few kilobytes, or a listing from a server that does not know the subresource.
        // Versioning is one line.
        let limit = if setting == BucketSetting::Versioning { ResponseLimit::Small } else { ResponseLimit::Page };
        let response = match self.execute_with_timeout(store_request, limit).await {
            Ok(response) => response,
            Err(error) => return unset_value(setting, &error).ok_or(error),
        };
        parse_setting(setting, &response.body).map_err(|why| {
            response.unreadable_error(&why, self.endpoint().request_line("GET", bucket, &ObjectKey::from(""), query))
        })
    }
}

/// Returns the value that an error response stands for, if it only means that the setting is not set.
fn unset_value(setting: BucketSetting, error: &StoreError) -> Option<BucketSettingValue> {
    match (setting, error.status, error.code.as_str()) {
        (BucketSetting::TagRules, Some(404), "NoSuchLifecycleConfiguration" | "NoSuchLifecycle") => {
            Some(BucketSettingValue::TagRules(Vec::new()))
        }
        (BucketSetting::Ownership, Some(404), "OwnershipControlsNotFoundError") => {
            Some(BucketSettingValue::Ownership(OwnershipSetting::NotSet))
        }
        _ => None,
    }
}

fn parse_setting(setting: BucketSetting, document: &[u8]) -> Result<BucketSettingValue, InvalidSettingReason> {
    match setting {
        BucketSetting::TagRules => parse_tag_rules(document).map(BucketSettingValue::TagRules),
        BucketSetting::Versioning => parse_versioning(document).map(BucketSettingValue::Versioning),
        BucketSetting::Ownership => parse_ownership(document).map(BucketSettingValue::Ownership),
    }
}

/// Parses the enabled rules that filter by tags.
///
/// The tags of an S3 rule are inside its filter. The tags of an OSS rule are directly in the rule; its filter can
/// exclude objects with other tags (`Not`). Those are returned as well, because changing them changes what the rule
/// applies to.
fn parse_tag_rules(document: &[u8]) -> Result<Vec<TagLifecycleRule>, InvalidSettingReason> {
    let mut parser = TagRuleParser::default();
    describe_xml_error(xml::read(document, |path, text| {
        if let Some(path) = path.strip_prefix("LifecycleConfiguration") {
            parser.end_element(path, text);
        }
    }))?;
    parser.finish()
}

/// The part of a lifecycle that has been read so far.
#[derive(Default)]
struct TagRuleParser {
    rules: Vec<TagLifecycleRule>,
    rule_count: usize,
    has_too_many_tags: bool,
    /// Whether the end of the document was read.
    is_complete: bool,
    /// The rule whose elements are being read.
    rule: TagLifecycleRule,
    is_rule_enabled: bool,
    /// The key and the value of the tag whose elements are being read.
    tag: (String, String),
}

impl TagRuleParser {
    /// Reads an element at its end, so after the elements in it. The path begins below the root.
    fn end_element(&mut self, path: &str, text: &str) {
        match path {
            "" => self.is_complete = true,
            "/Rule/ID" => text.clone_into(&mut self.rule.id),
            "/Rule/Status" => self.is_rule_enabled = text.trim() == "Enabled",
            "/Rule/Prefix" | "/Rule/Filter/Prefix" | "/Rule/Filter/And/Prefix" => {
                text.clone_into(&mut self.rule.prefix);
            }
            "/Rule/Tag" | "/Rule/Filter/Tag" | "/Rule/Filter/And/Tag" | "/Rule/Filter/Not/Tag" => {
                self.end_tag(path.contains("/Not/"));
            }
            "/Rule/Expiration" | "/Rule/NoncurrentVersionExpiration" => self.rule.deletes = true,
            "/Rule/Transition" | "/Rule/NoncurrentVersionTransition" => self.rule.moves = true,
            "/Rule" => self.end_rule(),
            _ if path.ends_with("/Tag/Key") => text.clone_into(&mut self.tag.0),
            _ if path.ends_with("/Tag/Value") => text.clone_into(&mut self.tag.1),
            _ => {}
        }
    }

    fn end_tag(&mut self, is_excluded: bool) {
        let tag = std::mem::take(&mut self.tag);
        let tags = if is_excluded { &mut self.rule.excluded_tags } else { &mut self.rule.tags };
        // One tag more than the maximum is added, so that the end of the rule shows that there are too many.
        if tags.len() <= MAX_TAGS {
            tags.push(tag);
        }
    }

    fn end_rule(&mut self) {
        let rule = std::mem::take(&mut self.rule);
        let is_enabled = std::mem::take(&mut self.is_rule_enabled);
        self.rule_count += 1;
        let tags = rule.tags.len() + rule.excluded_tags.len();
        self.has_too_many_tags |= tags > MAX_TAGS;
        if is_enabled && tags > 0 && self.rule_count <= MAX_RULES {
            self.rules.push(rule);
        }
    }

    fn finish(self) -> Result<Vec<TagLifecycleRule>, InvalidSettingReason> {
        if self.rule_count > MAX_RULES {
            return Err(format!("it has {} rules; the maximum is {MAX_RULES}", self.rule_count));
        }
        if self.has_too_many_tags {
            return Err(format!("a rule filters on more than {MAX_TAGS} tags"));
        }
        if self.is_complete { Ok(self.rules) } else { Err(unexpected_document()) }
    }
}

/// Parses the versioning state. Two servers have a root element of their own: moto 5 writes
/// `GetBucketVersioningResponse`, and `SeaweedFS` 3.60 only the status
/// (<https://github.com/seaweedfs/seaweedfs/issues/5155>).
fn parse_versioning(document: &[u8]) -> Result<BucketVersioning, InvalidSettingReason> {
    let (mut status, mut is_complete) = (None, false);
    describe_xml_error(xml::read(document, |path, text| match path {
        "VersioningConfiguration/Status" | "GetBucketVersioningResponse/Status" => {
            status = Some(text.trim().to_owned());
        }
        "VersioningConfiguration" | "GetBucketVersioningResponse" => is_complete = true,
        "Status" => (status, is_complete) = (Some(text.trim().to_owned()), true),
        _ => {}
    }))?;
    match status.as_deref() {
        _ if !is_complete => Err(unexpected_document()),
        None | Some("") => Ok(BucketVersioning::Never),
        Some("Enabled") => Ok(BucketVersioning::Enabled),
        Some("Suspended") => Ok(BucketVersioning::Suspended),
        Some(_) => Err("its status is neither Enabled nor Suspended".to_owned()),
    }
}

/// Parses the object ownership. A server without this setting, such as Ceph release 16, responds with a listing.
fn parse_ownership(document: &[u8]) -> Result<OwnershipSetting, InvalidSettingReason> {
    let (mut ownership, mut is_complete, mut listing) = (None, false, false);
    describe_xml_error(xml::read(document, |path, text| match path {
        "OwnershipControls/Rule/ObjectOwnership" => ownership = Some(text.trim().to_owned()),
        "OwnershipControls" => is_complete = true,
        "ListBucketResult" => listing = true,
        _ => {}
    }))?;
    match ownership.as_deref() {
        _ if listing => Ok(OwnershipSetting::NotApplicable),
        _ if !is_complete => Err(unexpected_document()),
        // SeaweedFS: <https://github.com/seaweedfs/seaweedfs/issues/10586>.
        None | Some("") => Ok(OwnershipSetting::NotSet),
        Some("BucketOwnerEnforced") => Ok(OwnershipSetting::BucketOwnerEnforced),
        Some("BucketOwnerPreferred") => Ok(OwnershipSetting::BucketOwnerPreferred),
        Some("ObjectWriter") => Ok(OwnershipSetting::ObjectWriter),
        Some(_) => Err("its object ownership is unknown".to_owned()),
    }
}

fn describe_xml_error(read: Result<(), XmlReadError>) -> Result<(), InvalidSettingReason> {
    read.map_err(|error| error.to_string())
}

fn unexpected_document() -> InvalidSettingReason {
    "it is not the requested document".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::FaultClass;

    fn rules(inner: &str) -> Vec<(String, Vec<String>)> {
        let document = format!("<LifecycleConfiguration xmlns=\"x\">{inner}</LifecycleConfiguration>");
        let read = parse_tag_rules(document.as_bytes()).expect("a lifecycle");
        let keys = |rule: &TagLifecycleRule| rule.keys().into_iter().map(str::to_owned).collect();
        read.into_iter().map(|rule| (rule.id.clone(), keys(&rule))).collect()
    }

    fn named(id: &str, keys: &[&str]) -> (String, Vec<String>) {
        (id.to_owned(), keys.iter().map(|&key| key.to_owned()).collect())
    }

    #[test]
    fn rules_that_filter_by_tags_are_found_in_the_forms_of_s3() {
        let of = |id: &str, filter: &str, status: &str| {
            format!("<Rule><ID>{id}</ID><Filter>{filter}</Filter><Status>{status}</Status></Rule>")
        };
        let tag = |key: &str| format!("<Tag><Key>{key}</Key><Value>v</Value></Tag>");
        let both = format!("<And><Prefix>p</Prefix>{}{}</And>", tag("b"), tag("c&amp;d"));
        let document = [
            of("one", &tag("a"), "Enabled"),
            of("off", &tag("a"), "Disabled"),
            of("prefix", "<Prefix>logs/</Prefix>", "Enabled"),
            of("and", &both, "Enabled"),
            "<Rule><Filter/><Status>Enabled</Status></Rule>".to_owned(),
            format!("<Rule><Status>Enabled</Status><Filter>{}</Filter></Rule>", tag("nameless")),
        ];
        let expected = [named("one", &["a"]), named("and", &["b", "c&d"]), named("", &["nameless"])];
        assert_eq!(rules(&document.concat()), expected);
        assert_eq!(rules(""), []);
    }

    #[test]
    fn rules_that_filter_by_tags_are_found_in_the_form_of_oss() {
        let tags = "<Tag><Key>k</Key><Value>1</Value></Tag><Tag><Key>k</Key><Value>2</Value></Tag>\
                    <Tag><Key>l</Key><Value>1</Value></Tag>";
        let document = format!(
            "<Rule><ID>r</ID><Prefix>p</Prefix><Status>Enabled</Status>{tags}<Expiration><Days>1</Days></Expiration></Rule>\
             <Rule><ID>not</ID><Prefix/><Status>Enabled</Status><Filter><Not><Prefix>x</Prefix>\
             <Tag><Key>keep</Key><Value>1</Value></Tag></Not></Filter></Rule>\
             <Rule><ID>off</ID><Status>Disabled</Status>{tags}</Rule>"
        );
        assert_eq!(rules(&document), [named("r", &["k", "l"]), named("not", &["keep"])]);
    }

    #[test]
    fn what_a_rule_applies_to_and_does_is_read() {
        let document = "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix>\
             <Tag><Key>k</Key><Value>1</Value></Tag><Tag><Value>2</Value><Key>l</Key></Tag></And></Filter>\
             <Expiration><Days>1</Days></Expiration></Rule>\
             <Rule><ID>b</ID><Prefix>x/</Prefix><Status>Enabled</Status><Filter><Not><Prefix>x/y</Prefix>\
             <Tag><Key>keep</Key><Value/></Tag></Not></Filter>\
             <Transition><Days>1</Days><StorageClass>IA</StorageClass></Transition></Rule></LifecycleConfiguration>";
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let first = TagLifecycleRule {
            id: "a".to_owned(),
            prefix: "logs/".to_owned(),
            tags: vec![tag("k", "1"), tag("l", "2")],
            deletes: true,
            ..TagLifecycleRule::default()
        };
        let second = TagLifecycleRule {
            id: "b".to_owned(),
            prefix: "x/".to_owned(),
            excluded_tags: vec![tag("keep", "")],
            moves: true,
            ..TagLifecycleRule::default()
        };
        assert_eq!(parse_tag_rules(document.as_bytes()), Ok(vec![first, second]));
    }

    #[test]
    fn rejects_settings_that_no_server_has() {
        let many = |count: usize| {
            let rule = "<Rule><Status>Enabled</Status><Tag><Key>k</Key></Tag></Rule>";
            format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rule.repeat(count))
        };
        assert_eq!(parse_tag_rules(many(1000).as_bytes()).map(|rules| rules.len()), Ok(1000));
        assert_eq!(parse_tag_rules(many(1001).as_bytes()), Err("it has 1001 rules; the maximum is 1000".to_owned()));
        let keys = |count: usize| {
            let tags: String = (0..count).map(|n| format!("<Tag><Key>{n}</Key></Tag>")).collect::<Vec<_>>().concat();
            let rule = format!("<Rule><Status>Disabled</Status>{tags}</Rule>");
            parse_tag_rules(format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>").as_bytes())
        };
        assert_eq!(keys(100), Ok(Vec::new()));
        assert_eq!(keys(101), Err("a rule filters on more than 100 tags".to_owned()));
        for setting in [BucketSetting::TagRules, BucketSetting::Versioning, BucketSetting::Ownership] {
            let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><VersioningConfiguration>&b;</VersioningConfiguration>";
            for document in ["", "no XML", "<ListAllMyBucketsResult/>", "<LifecycleConf", bomb] {
                assert!(parse_setting(setting, document.as_bytes()).is_err(), "{setting:?}: {document}");
            }
        }
    }

    #[test]
    fn versioning_and_ownership_are_read() {
        let status = |status: &str| {
            parse_versioning(format!("<VersioningConfiguration>{status}</VersioningConfiguration>").as_bytes())
        };
        assert_eq!(status(""), Ok(BucketVersioning::Never));
        assert_eq!(status("<Status>Enabled</Status>"), Ok(BucketVersioning::Enabled));
        assert_eq!(
            status("<Status> Suspended\n</Status><MfaDelete>Disabled</MfaDelete>"),
            Ok(BucketVersioning::Suspended)
        );
        assert!(status("<Status>On</Status>").is_err());
        for (document, state) in [
            ("<GetBucketVersioningResponse xmlns=\"x\"/>", BucketVersioning::Never),
            (
                "<GetBucketVersioningResponse><Status>Enabled</Status></GetBucketVersioningResponse>",
                BucketVersioning::Enabled,
            ),
            ("<Status>Suspended</Status>", BucketVersioning::Suspended),
        ] {
            assert_eq!(parse_versioning(document.as_bytes()), Ok(state), "{document}");
        }
        assert!(parse_versioning(b"<Status>200</Status>").is_err());
        let owner = |rule: &str| parse_ownership(format!("<OwnershipControls>{rule}</OwnershipControls>").as_bytes());
        let rule = |name: &str| format!("<Rule><ObjectOwnership>{name}</ObjectOwnership></Rule>");
        assert_eq!(owner(&rule("BucketOwnerEnforced")), Ok(OwnershipSetting::BucketOwnerEnforced));
        assert_eq!(owner(&rule("BucketOwnerPreferred")), Ok(OwnershipSetting::BucketOwnerPreferred));
        assert_eq!(owner(&rule("ObjectWriter")), Ok(OwnershipSetting::ObjectWriter));
        assert_eq!(owner(""), Ok(OwnershipSetting::NotSet));
        assert_eq!(owner(&rule("")), Ok(OwnershipSetting::NotSet));
        let listing = b"<ListBucketResult><Name>b</Name><Contents><Key>k</Key></Contents></ListBucketResult>";
        assert_eq!(parse_ownership(listing), Ok(OwnershipSetting::NotApplicable));
        assert!(owner(&rule("Mine")).is_err());
    }

    #[test]
    fn only_the_error_that_a_setting_is_not_set_is_a_value() {
        let value = |status, code: &str, setting| {
            let error = StoreError::without_response(FaultClass::Rejected, code, "", String::new());
            unset_value(setting, &StoreError { status: Some(status), ..error })
        };
        let none = Some(BucketSettingValue::TagRules(Vec::new()));
        assert_eq!(value(404, "NoSuchLifecycleConfiguration", BucketSetting::TagRules), none);
        assert_eq!(value(404, "NoSuchLifecycle", BucketSetting::TagRules), none);
        let not_set = Some(BucketSettingValue::Ownership(OwnershipSetting::NotSet));
        assert_eq!(value(404, "OwnershipControlsNotFoundError", BucketSetting::Ownership), not_set);
        for setting in [BucketSetting::TagRules, BucketSetting::Versioning, BucketSetting::Ownership] {
            assert_eq!(value(404, "NoSuchBucket", setting), None);
            assert_eq!(value(403, "AccessDenied", setting), None);
        }
        assert_eq!(value(404, "NoSuchLifecycle", BucketSetting::Versioning), None);
    }

    proptest! {
        #[test]
        fn never_panics(inner in "[<>/&;RuleTagKyStsIDEnabl ]{0,80}") {
            for root in ["LifecycleConfiguration", "VersioningConfiguration", "OwnershipControls"] {
                let document = format!("<{root}>{inner}</{root}>");
                for setting in [BucketSetting::TagRules, BucketSetting::Versioning, BucketSetting::Ownership] {
                    let _ = parse_setting(setting, document.as_bytes());
                }
            }
        }

        #[test]
        fn returns_every_enabled_rule_with_tags(rules in proptest::collection::vec(
            (any::<bool>(), "[a-z]{1,8}", proptest::collection::btree_set("[a-zA-Z:]{1,12}", 0..4)), 0..12
        )) {
            let document: Vec<_> = rules.iter().map(|(on, id, keys)| {
                let tags: Vec<_> = keys.iter().map(|key| format!("<Tag><Key>{key}</Key><Value/></Tag>")).collect();
                let status = if *on { "Enabled" } else { "Disabled" };
                let filter = format!("<Filter><And>{}</And></Filter>", tags.concat());
                format!("<Rule><ID>{id}</ID><Status>{status}</Status>{filter}</Rule>")
            }).collect();
            let document = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", document.concat());
            let wanted = rules.into_iter().filter(|(on, _, keys)| *on && !keys.is_empty());
            let expected: Vec<_> = wanted
                .map(|(_, id, keys)| {
                    let tags = keys.into_iter().map(|key| (key, String::new())).collect();
                    TagLifecycleRule { id, tags, ..TagLifecycleRule::default() }
                })
                .collect();
            prop_assert_eq!(parse_tag_rules(document.as_bytes()), Ok(expected));
        }
    }
}
