//! The stored values, independent of the dialect: objects and their versions, multipart uploads, and lifecycle rules.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use jiff::Timestamp;

use super::access::{OwnerId, SharedAccess};
use super::checksum::{ContentDetails, Digest, UploadChecksum};
use super::coded_enum::coded_enum;
use super::tags::SharedTags;

/// A time in milliseconds since 1970. This is the precision of S3 listings, and half the size of a full timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(pub(crate) i64);

impl UnixMillis {
    const SECOND: i64 = 1000;
    pub(crate) const MINUTE: i64 = 60 * Self::SECOND;
    pub(crate) const HOUR: i64 = 60 * Self::MINUTE;
    pub(crate) const DAY: i64 = 24 * Self::HOUR;

    /// Returns the time, clamped to the range that every format can represent: from 1970 to the end of 9999.
    pub(crate) fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0.max(0)).unwrap_or(Timestamp::MAX)
    }

    /// Formats the time as in `Wed, 04 Mar 2026 00:00:00 GMT`.
    pub(crate) fn http_date(self) -> String {
        self.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    pub(crate) fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Removes the fraction of a second.
    pub(crate) fn floor_to_second(self) -> Self {
        Self(self.0.div_euclid(Self::SECOND) * Self::SECOND)
    }

    /// Rounds up to midnight in UTC. A time at midnight stays unchanged.
    pub(crate) fn ceil_to_midnight(self) -> Self {
        let into_day = self.0.rem_euclid(Self::DAY);
        if into_day == 0 { self } else { self.plus(Self::DAY - into_day) }
    }
}

impl From<Timestamp> for UnixMillis {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millisecond())
    }
}

coded_enum! {
    ObjectStorageClass {
        /// The default.
        Standard = 0, "STANDARD";
        /// Infrequent access.
        StandardIa = 1, "STANDARD_IA";
        /// Infrequent access, in one availability zone.
        OneZoneIa = 2, "ONEZONE_IA";
        /// Moves objects between tiers automatically.
        IntelligentTiering = 3, "INTELLIGENT_TIERING";
        /// Archived, but readable immediately.
        GlacierIr = 4, "GLACIER_IR";
        /// Archived. A restore takes minutes to hours.
        Glacier = 5, "GLACIER";
        /// Archived. A restore takes half a day to two days.
        DeepArchive = 6, "DEEP_ARCHIVE";
        /// An old storage class that is still accepted.
        ReducedRedundancy = 7, "REDUCED_REDUNDANCY";
        /// OSS's `ColdArchive`. S3 has no such class and shows the nearest one.
        ColdArchive = 8, "GLACIER";
    }
}

impl ObjectStorageClass {
    /// Returns whether the content must be restored before it can be read.
    pub(crate) fn is_archived(self) -> bool {
        matches!(self, Self::Glacier | Self::ColdArchive | Self::DeepArchive)
    }

    /// Returns OSS's name. A class that OSS does not have gets the name of the nearest one that is read in the same
    /// way.
    pub(crate) fn oss_name(self) -> &'static str {
        match self {
            Self::Standard | Self::IntelligentTiering | Self::ReducedRedundancy => "Standard",
            Self::StandardIa | Self::OneZoneIa | Self::GlacierIr => "IA",
            Self::Glacier => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepArchive => "DeepColdArchive",
        }
    }

    /// Parses OSS's name.
    pub(crate) fn parse_oss_name(name: &str) -> Option<Self> {
        let classes = [Self::Standard, Self::StandardIa, Self::Glacier, Self::ColdArchive, Self::DeepArchive];
        classes.into_iter().find(|class| class.oss_name() == name)
    }
}

coded_enum! {
    /// The retrieval tier, which is the speed of a restore. The slowest one comes first.
    RetrievalTier {
        /// The slowest.
        Bulk = 0, "Bulk";
        /// The default.
        Standard = 1, "Standard";
        /// The fastest.
        Expedited = 2, "Expedited";
    }
}

coded_enum! {
    VersioningStatus {
        /// Versioning was never enabled.
        Never = 0, "";
        /// Every write creates a version.
        Enabled = 1, "Enabled";
        /// Versioning was enabled before. Old versions stay, and a write replaces the `null` version.
        Suspended = 2, "Suspended";
    }
}

coded_enum! {
    /// Who owns the objects of a bucket. Only S3 has this.
    ObjectOwnership {
        /// The bucket has no such setting.
        NotSet = 0, "";
        /// The writer of an object owns it.
        Writer = 1, "ObjectWriter";
        /// The bucket's owner owns an object if its writer requests this.
        Preferred = 2, "BucketOwnerPreferred";
        /// The bucket's owner owns all objects. ACLs have no effect and cannot be set.
        Enforced = 3, "BucketOwnerEnforced";
    }
}

pub(crate) type Md5Digest = [u8; 16];

/// An entity tag: an MD5, and the number of parts of a multipart upload. The number is 0 if the object was not uploaded
/// in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ETag {
    pub(crate) md5: Md5Digest,
    pub(crate) parts: u16,
}

impl ETag {
    /// Creates the entity tag of content that is not uploaded in parts, or of one part.
    pub(crate) fn of_content(md5: Md5Digest) -> Self {
        Self { md5, parts: 0 }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.md5))?;
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// Where the bytes of an object are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectBlob {
    /// The object has a size but no content, as in a seed file. Zero bytes are served.
    Zeros,
    /// In memory, because there are only a few.
    Inline(Box<[u8]>),
    /// In the blob file with this number.
    File(u64),
}

impl ObjectBlob {
    /// Returns the number of the blob file, if there is one.
    pub(crate) fn file_number(&self) -> Option<u64> {
        match self {
            Self::File(number) => Some(*number),
            Self::Zeros | Self::Inline(_) => None,
        }
    }
}

/// A requested restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRestore {
    /// When the copy becomes readable.
    pub(crate) ready: UnixMillis,
    /// When the copy expires.
    pub(crate) expiry: UnixMillis,
    /// The number of days that was requested.
    pub(crate) days: u32,
    pub(crate) tier: RetrievalTier,
}

/// Other headers that a client sent with an object and gets back: names in lower case, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredHeaders(pub(crate) Vec<(Box<str>, Box<str>)>);

/// The content and the metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredObject {
    pub(crate) size: u64,
    pub(crate) etag: ETag,
    pub(crate) class: ObjectStorageClass,
    pub(crate) access: SharedAccess,
    pub(crate) tags: SharedTags,
    pub(crate) body: ObjectBlob,
    pub(crate) restore: Option<Box<StoredRestore>>,
    /// Boxed twice on purpose: most objects have no such headers, and pay only eight bytes for them.
    pub(crate) headers: Option<Box<StoredHeaders>>,
    /// `None` if nothing is known: for seeded objects, and for those that an OSS client wrote.
    pub(crate) details: Option<Box<ContentDetails>>,
}

impl StoredObject {
    /// Returns the number of parts that the object was uploaded in, or `None` if it was uploaded as a whole.
    pub(crate) fn part_count(&self) -> Option<usize> {
        (self.etag.parts > 0).then_some(usize::from(self.etag.parts))
    }
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredVersion {
    /// `None` is the `null` version.
    pub(crate) id: Option<Box<str>>,
    /// When the version was written.
    pub(crate) modified: UnixMillis,
    /// `None` is a delete marker.
    pub(crate) object: Option<StoredObject>,
}

impl StoredVersion {
    /// Returns the ID as responses show it.
    pub(crate) fn id_str(&self) -> &str {
        self.id.as_deref().unwrap_or("null")
    }
}

/// A multipart upload that is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingUpload {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<str>,
    pub(crate) initiated: UnixMillis,
    /// Who started the upload, which need not be the owner of the object.
    pub(crate) initiator: OwnerId,
    pub(crate) class: ObjectStorageClass,
    pub(crate) access: SharedAccess,
    pub(crate) tags: SharedTags,
    pub(crate) headers: Option<Box<StoredHeaders>>,
    /// `None` if the client chose no checksum.
    pub(crate) checksum: Option<UploadChecksum>,
    /// The parts by their numbers.
    pub(crate) parts: BTreeMap<u16, UploadedPart>,
}

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadedPart {
    pub(crate) size: u64,
    pub(crate) md5: Md5Digest,
    pub(crate) modified: UnixMillis,
    pub(crate) body: ObjectBlob,
    /// The checksum by the algorithm that the upload has chosen.
    pub(crate) digest: Option<Digest>,
}

/// Returns random letters, digits, dots, and underscores, as AWS does. The ID has no meaning.
pub(crate) fn random_id() -> Box<str> {
    const LENGTH: usize = 32;
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
    (0..LENGTH).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect::<String>().into()
}

/// Encodes bytes as hexadecimal, two digits per byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0x0f)]];
    bytes.iter().flat_map(digits).map(char::from).collect()
}

/// The maximum number of rules in a lifecycle, at both AWS and OSS.
const MAX_RULES: usize = 1000;
/// The maximum length of a rule's ID, in bytes.
const MAX_RULE_ID_BYTES: usize = 255;

/// A rule of a bucket's lifecycle. Rules are stored and returned, but have no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifecycleRule {
    /// Generated if the request has none.
    pub(crate) id: Box<str>,
    pub(crate) enabled: bool,
    pub(crate) prefix: Box<str>,
    /// The rule applies to objects that have all of these tags.
    pub(crate) tags: SharedTags,
    /// The age in days after which objects are deleted.
    pub(crate) expiration_days: Option<u32>,
    /// The ages in days after which objects change to another storage class.
    pub(crate) transitions: Vec<(u32, ObjectStorageClass)>,
}

/// What is wrong with a lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifecycleError {
    /// The lifecycle has no rules, or too many.
    RuleCount,
    /// An ID is too long, or two rules have the same ID.
    InvalidId,
    /// A rule has no action.
    NoAction,
    /// An object would expire after zero days.
    InvalidDays,
}

impl LifecycleError {
    /// Returns a message for people.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::RuleCount => "A lifecycle must have 1 to 1000 rules",
            Self::InvalidId => "A rule's ID must be unique and have at most 255 characters",
            Self::NoAction => "A rule must have at least one action",
            Self::InvalidDays => "Days must be a positive number",
        }
    }
}

/// Checks rules, and generates the IDs of those that have none.
pub(crate) fn validate_rules(mut rules: Vec<LifecycleRule>) -> Result<Vec<LifecycleRule>, LifecycleError> {
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(LifecycleError::RuleCount);
    }
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        rule.id = random_id();
    }
    let mut ids = HashSet::new();
    for rule in &rules {
        if rule.id.len() > MAX_RULE_ID_BYTES || !ids.insert(&rule.id) {
            return Err(LifecycleError::InvalidId);
        }
        if rule.expiration_days.is_none() && rule.transitions.is_empty() {
            return Err(LifecycleError::NoAction);
        }
        if rule.expiration_days == Some(0) {
            return Err(LifecycleError::InvalidDays);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_rounds_up_to_midnight_and_midnight_stays() {
        let noon: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
        let midnight: Timestamp = "2026-03-05T00:00:00Z".parse().unwrap();
        assert_eq!(UnixMillis::from(noon).ceil_to_midnight().timestamp(), midnight);
        assert_eq!(UnixMillis::from(midnight).ceil_to_midnight().timestamp(), midnight);
        assert_eq!(UnixMillis(i64::MAX).ceil_to_midnight().timestamp(), Timestamp::MAX);
    }

    #[test]
    fn names_and_codes_round_trip() {
        for code in 0..=255 {
            if let Some(class) = ObjectStorageClass::from_code(code) {
                assert!(
                    ObjectStorageClass::parse(class.as_str())
                        .is_some_and(|it| it == class || class == ObjectStorageClass::ColdArchive)
                );
                assert_eq!(class.code(), code);
            }
        }
        assert_eq!(ObjectStorageClass::parse("standard"), None);
    }

    #[test]
    fn oss_classes_round_trip_and_agree_on_archiving() {
        for class in (0..=255).filter_map(ObjectStorageClass::from_code) {
            let parsed = ObjectStorageClass::parse_oss_name(class.oss_name()).unwrap();
            assert_eq!(parsed.oss_name(), class.oss_name());
            assert_eq!(parsed.is_archived(), class.is_archived());
        }
        assert_eq!(ObjectStorageClass::parse_oss_name("STANDARD"), None);
    }

    fn rule(id: &str) -> LifecycleRule {
        LifecycleRule { id: id.into(), expiration_days: Some(1), ..LifecycleRule::default() }
    }

    #[test]
    fn rules_are_named_and_checked() {
        let named = validate_rules(vec![rule(""), rule("b"), rule("")]).unwrap();
        assert!(!named[0].id.is_empty() && named[0].id != named[2].id && &*named[1].id == "b");
        let idle = LifecycleRule { expiration_days: None, ..rule("a") };
        let at_once = LifecycleRule { expiration_days: Some(0), ..rule("a") };
        let many = (0..=MAX_RULES).map(|n| rule(&n.to_string())).collect();
        for (rules, fault) in [
            (vec![], LifecycleError::RuleCount),
            (many, LifecycleError::RuleCount),
            (vec![rule("a"), rule("a")], LifecycleError::InvalidId),
            (vec![rule(&"i".repeat(256))], LifecycleError::InvalidId),
            (vec![idle], LifecycleError::NoAction),
            (vec![at_once], LifecycleError::InvalidDays),
        ] {
            assert_eq!(validate_rules(rules), Err(fault));
        }
    }
}
