//! The stored values, independent of the dialect.

use std::fmt;

use jiff::Timestamp;

use super::tags::SharedTags;

/// A time in milliseconds since 1970. This is the precision of S3 listings, and half the size of a full timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixMillis(pub(super) i64);

impl UnixMillis {
    /// The length of a day.
    pub(super) const DAY: i64 = 86_400_000;

    /// Returns the time, clamped to the range that every format can represent: from 1970 to the end of 9999.
    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0.max(0)).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Rounds up to midnight in UTC. A time at midnight stays unchanged.
    pub(super) fn ceil_to_midnight(self) -> Self {
        let into_day = self.0.rem_euclid(Self::DAY);
        if into_day == 0 { self } else { self.plus(Self::DAY - into_day) }
    }
}

impl From<Timestamp> for UnixMillis {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millisecond())
    }
}

/// Defines an enum with stable codes for the log and with the names that S3 uses.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$each:meta])* $variant:ident = $code:literal, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub(super) enum $type {
            $($(#[$each])* $variant = $code,)*
        }

        impl $type {
            /// Returns the name in S3 requests and in seed files.
            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Parses a name.
            pub(super) fn parse(name: &str) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|it| it.as_str() == name)
            }

            /// Returns the variant with this code in the log.
            pub(super) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

named! {
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
    pub(super) fn is_archived(self) -> bool {
        matches!(self, Self::Glacier | Self::ColdArchive | Self::DeepArchive)
    }

    /// Returns OSS's name. A class that OSS does not have gets the name of the nearest one that is read in the same
    /// way.
    pub(super) fn oss_name(self) -> &'static str {
        match self {
            Self::Standard | Self::IntelligentTiering | Self::ReducedRedundancy => "Standard",
            Self::StandardIa | Self::OneZoneIa | Self::GlacierIr => "IA",
            Self::Glacier => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepArchive => "DeepColdArchive",
        }
    }

    /// Parses OSS's name.
    pub(super) fn parse_oss_name(name: &str) -> Option<Self> {
        let classes = [Self::Standard, Self::StandardIa, Self::Glacier, Self::ColdArchive, Self::DeepArchive];
        classes.into_iter().find(|class| class.oss_name() == name)
    }
}

named! {
    /// A canned ACL.
    StoredAcl {
        /// Only the owner has access.
        Private = 0, "private";
        /// Everyone can read.
        PublicRead = 1, "public-read";
        /// Everyone can read and write.
        PublicReadWrite = 2, "public-read-write";
        /// Every signed request can read.
        AuthenticatedRead = 3, "authenticated-read";
        /// The ACL of the bucket applies. Only OSS has this.
        Default = 4, "default";
    }
}

impl StoredAcl {
    /// Returns whether a request without a signature can read.
    pub(super) fn allows_anonymous_read(self) -> bool {
        matches!(self, Self::PublicRead | Self::PublicReadWrite)
    }
}

named! {
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

named! {
    VersioningStatus {
        /// Versioning was never enabled.
        Never = 0, "";
        /// Every write creates a version.
        Enabled = 1, "Enabled";
        /// Versioning was enabled before. Old versions stay, and a write replaces the `null` version.
        Suspended = 2, "Suspended";
    }
}

named! {
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

/// An entity tag: an MD5, and the number of parts of a multipart upload. The number is 0 if the object was not uploaded
/// in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ETag {
    pub(super) md5: [u8; 16],
    pub(super) parts: u16,
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.md5 {
            write!(f, "{byte:02x}")?;
        }
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// Where the bytes of an object are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObjectBlob {
    /// The object has a size but no content, as in a seed file. Zero bytes are served.
    Zeros,
    /// In memory, because there are only a few.
    Inline(Box<[u8]>),
    /// In the blob file with this number.
    File(u64),
}

impl ObjectBlob {
    /// Returns the number of the blob file, if there is one.
    pub(super) fn file_number(&self) -> Option<u64> {
        match self {
            Self::File(number) => Some(*number),
            Self::Zeros | Self::Inline(_) => None,
        }
    }
}

/// A requested restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredRestore {
    /// When the copy becomes readable.
    pub(super) ready: UnixMillis,
    /// When the copy expires.
    pub(super) expiry: UnixMillis,
    /// The number of days that was requested.
    pub(super) days: u32,
    pub(super) tier: RetrievalTier,
}

/// Other headers that a client sent with an object and gets back: names in lower case, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredHeaders(pub(super) Vec<(Box<str>, Box<str>)>);

/// The content and the metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredObject {
    pub(super) size: u64,
    pub(super) etag: ETag,
    pub(super) class: ObjectStorageClass,
    pub(super) acl: StoredAcl,
    pub(super) tags: SharedTags,
    pub(super) body: ObjectBlob,
    pub(super) restore: Option<Box<StoredRestore>>,
    /// Boxed twice on purpose: most objects have no such headers, and pay only eight bytes for them.
    pub(super) headers: Option<Box<StoredHeaders>>,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredVersion {
    /// `None` is the `null` version.
    pub(super) id: Option<Box<str>>,
    /// When the version was written.
    pub(super) modified: UnixMillis,
    /// `None` is a delete marker.
    pub(super) object: Option<StoredObject>,
}

impl StoredVersion {
    /// Returns the ID as responses show it.
    pub(super) fn id_str(&self) -> &str {
        self.id.as_deref().unwrap_or("null")
    }
}

/// A multipart upload that is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingUpload {
    pub(super) bucket: Box<str>,
    pub(super) key: Box<str>,
    pub(super) initiated: UnixMillis,
    pub(super) class: ObjectStorageClass,
    pub(super) acl: StoredAcl,
    pub(super) tags: SharedTags,
    pub(super) headers: Option<Box<StoredHeaders>>,
    /// The parts by their numbers.
    pub(super) parts: std::collections::BTreeMap<u16, UploadedPart>,
}

/// One part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UploadedPart {
    pub(super) size: u64,
    pub(super) md5: [u8; 16],
    pub(super) modified: UnixMillis,
    pub(super) body: ObjectBlob,
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
                assert_eq!(class as u8, code);
            }
        }
        assert_eq!(ObjectStorageClass::parse("standard"), None);
    }

    #[test]
    fn oss_classes_round_trip_and_agree_on_archiving() {
        for class in (0..=255).filter_map(ObjectStorageClass::from_code) {
            let told = ObjectStorageClass::parse_oss_name(class.oss_name()).unwrap();
            assert_eq!(told.oss_name(), class.oss_name());
            assert_eq!(told.is_archived(), class.is_archived());
        }
        assert_eq!(ObjectStorageClass::parse_oss_name("STANDARD"), None);
    }
}
